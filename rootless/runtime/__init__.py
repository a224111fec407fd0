"""What the runtime process does: a container's moves, one file each."""
