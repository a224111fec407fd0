"""Keep the hints of this package about the machine: space, rights, libraries and mounts.

rootless/kernel/hints.py adds its own to this table, from which `rootless doctor` and docs/guide/troubleshooting.md take
them. A hint about the words that the user has typed stands with the code that reads them.
"""

from __future__ import annotations

ROOT, USER = "root", "you"  # who has to type a command


class Hint:
    """Say what to do about an error, and which command mends it.

    text: what follows `hint:` in an error message; command: what to type, "" if no command mends it; who: ROOT or
    USER, who has to type it.
    """

    __slots__ = ("command", "text", "who")

    def __init__(self, text: str, command: str = "", who: str = "") -> None:
        self.text = text
        self.command = command
        self.who = who


HINTS = {
    "no-space": Hint("free space on that file system, or choose another one with --output"),
    "no-quota": Hint("your disk quota is used up"),
    "read-only": Hint("choose a writable place with --output"),
    "long-name": Hint("the file system allows no longer names"),
    "no-memory": Hint("memory is short here (ulimit -v, a cgroup's limit)"),
    "cache-full": Hint("`rootless cache prune` makes room", "rootless cache prune", USER),
    "cache-elsewhere": Hint("choose another place with XDG_CACHE_HOME", "export XDG_CACHE_HOME=DIRECTORY", USER),
    "no-attributes": Hint("a file system with extended attributes: tmpfs from Linux 6.6 on, ext4, xfs, btrfs"),
    "no-zstd": Hint("pip install backports.zstd, or Python 3.14 which has it", "pip install backports.zstd", USER),
    "no-lz4": Hint("pip install lz4", "pip install lz4", USER),
    "mounted": Hint("{command} {place}"),
    "mounted-elsewhere": Hint("end that process first: kill {pid}"),
    "unreadable-file": Hint("give its owner the right to read it first"),
}


def hint(name: str, **words: object) -> Hint:
    """Return a hint of the table with its {words} filled in."""
    kept = HINTS[name]
    return Hint(kept.text.format(**words), kept.command.format(**words), kept.who) if words else kept
