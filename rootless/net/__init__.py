"""The network of a container: its own loopback, and devices that are moved into it."""
