"""The kernel's interfaces: system calls, /proc, capabilities, signals, sockets."""
