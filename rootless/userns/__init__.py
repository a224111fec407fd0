"""Write id maps, and run functions in a user namespace that has the user's id map."""
