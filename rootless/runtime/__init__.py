"""Create, start, signal and delete containers: the work of the runtime process, one file for each command."""
