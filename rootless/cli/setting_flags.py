"""List the flags that change config.json in memory, for the option table. plan/settings.py has the same names."""

from __future__ import annotations

# As options.Option: (long name, short name, kind, metavar, help).
SETTINGS: list[tuple[str, str, str, str, str]] = [
    ("env", "e", "list", "NAME=VALUE", "set an environment variable; NAME alone passes on the caller's value"),
    ("env-file", "", "list", "FILE", "read environment variables from FILE, one NAME=VALUE per line"),
    ("workdir", "w", "str", "DIR", "working directory in the container"),
    ("user", "u", "str", "USER[:GROUP]", "run as this user, by name or number"),
    ("group-add", "", "list", "GROUP|keep-groups", "add a supplementary group, or keep all groups of the caller"),
    ("entrypoint", "", "str", "PROGRAM", "run PROGRAM; the words that follow are its arguments"),
    ("volume", "v", "list", "SRC:DST[:ro]", "mount a file or directory of the host"),
    ("mount", "", "list", "type=bind|tmpfs,...", "the same in words: type=bind,src=./data,dst=/data,ro"),
    ("tmpfs", "", "list", "DST[:size=64m]", "mount an empty directory in memory"),
    ("mount-home", "", "flag", "", "mount the caller's home directory at the same path"),
    ("mount-cwd", "", "flag", "", "mount the caller's working directory at the same path and start there"),
    ("read-only", "", "flag", "", "make the root file system read-only"),
    ("ephemeral", "", "maybe", "tmpfs[:size=SIZE]", "discard all changes of the root file system at the end"),
    ("shm-size", "", "str", "SIZE", "size of /dev/shm, 0 for the default"),
    ("device", "", "list", "PATH[:PATH[:rwm]]", "give access to a device of the host"),
    ("memory", "m", "str", "SIZE", "memory limit (512m), 0 for none"),
    ("memory-swap", "", "str", "SIZE", "limit of memory plus swap, -1 for none"),
    ("cpus", "", "str", "N", "number of CPUs (1.5), 0 for all"),
    ("cpuset-cpus", "", "str", "LIST", "CPUs to run on (0-3,7)"),
    ("pids-limit", "", "str", "N", "limit of processes and threads, 0 or -1 for none"),
    ("ulimit", "", "list", "NAME=SOFT[:HARD]", "set a resource limit (nofile=1024:4096)"),
    ("hostname", "", "str", "NAME", "host name of the container"),
    ("network", "", "str", "none|host|auto|pasta|slirp4netns|ns:PATH", "network of the container"),
    ("publish", "p", "list", "[IP:]HOST:CONTAINER[/udp]", "make a port of the container one of the host"),
    ("no-host-loopback", "", "flag", "", "keep the host's loopback out of the container's reach"),
    ("cap-add", "", "list", "CAP", "add a capability, or ALL"),
    ("cap-drop", "", "list", "CAP", "drop a capability, or ALL"),
    ("security-opt", "", "list", "OPTION", "no-new-privileges, seccomp=FILE|default|unconfined, apparmor=PROFILE"),
    ("root-emulation", "", "maybe", "errno|notify", "let root change owners and users although it has one id"),
    ("no-root-emulation", "", "flag", "", "do not, which is what else happens for a user without subordinate ids"),
    ("annotation", "", "list", "NAME=VALUE", "add an annotation"),
]
SETTING_KEYS = frozenset(option[0].replace("-", "_") for option in SETTINGS)
IMAGE_ANNOTATION = "org.rootless.run.image"  # the image of a container of `run IMAGE`, which `list` shows
