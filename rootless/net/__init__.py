"""The container's network: none, the host's, the loopback device, user-mode engines, devices moved in."""
