"""The command line: the table of commands and flags, help, and one module a command."""
