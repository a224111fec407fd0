"""What the runtime does to a container from outside of it."""
