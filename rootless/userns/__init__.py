"""Id maps, and functions that run under the user's id map."""
