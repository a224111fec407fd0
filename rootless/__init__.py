"""rootless: a daemonless OCI runtime that needs no root."""

__version__ = "0.1.0"
