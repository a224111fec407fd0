"""Call the kernel: system calls, /proc, capabilities, signals, sockets. Nothing here knows config.json."""
