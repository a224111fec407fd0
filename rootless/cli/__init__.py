"""Read command lines: the table of commands and flags, the help, and one module for each command."""
