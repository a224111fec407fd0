"""Read and exchange the first line of the installed bin/rootless: a shell that looks for the interpreter, or its path.

Everything below that line serves both (bin/rootless), so the line is all that `speedup` changes.
"""

from __future__ import annotations

import os
import subprocess
import sys

import rootless
from rootless.errors import RootlessError

SHELL = "#!/bin/sh"
_OPTIONS = " -IS"
_SECOND = b"''':' # A shell reads"  # the second line of bin/rootless, which no other script has
_MOST = 255  # bytes: load_script in the kernel's fs/binfmt_script.c looks for the end of the line in the first 256
_NOT_INSTALLED = "this program was not started by a script that pip or pipx has installed"


class Script:
    """The script that runs: its real path, its first line without the newline, and all bytes behind that line."""

    def __init__(self, path: str, line: str, rest: bytes) -> None:
        self.path = path
        self.line = line
        self.rest = rest

    @property
    def is_direct(self) -> bool:
        """Return whether the kernel starts the interpreter, without a shell before it."""
        return self.line != SHELL


def read_own() -> Script:
    """Return the script that runs. Raises RootlessError if it is not an installed bin/rootless."""
    path = os.path.realpath(sys.argv[0])
    try:
        with open(path, "rb") as file:
            first, _, rest = file.read(1 << 20).partition(b"\n")
    except OSError as error:
        raise RootlessError.from_os(error, "cannot read the script", path) from None
    line = os.fsdecode(first)
    ours = line == SHELL or (line.startswith("#!/") and line.endswith(_OPTIONS))
    if not ours or not rest.startswith(_SECOND):
        raise RootlessError(_NOT_INSTALLED, path, hint="type the path of bin/rootless as it was installed")
    if os.path.dirname(os.path.dirname(path)) == os.path.dirname(os.path.realpath(rootless.__path__[0])):
        raise RootlessError("this script belongs to a checkout, where git would see the change", path)
    return Script(path, line, rest)


def direct_line() -> str:
    """Return the first line that names this interpreter. Raises RootlessError if the kernel would not take it."""
    line = f"#!{sys.executable}{_OPTIONS}"
    if not os.path.isabs(sys.executable) or any(character in sys.executable for character in " \t\n"):
        what = "a first line cannot name this interpreter, because the kernel ends the path at a space"
        raise RootlessError(what, sys.executable, hint="install into an environment whose path has none")
    if len(os.fsencode(line)) > _MOST:
        what = (
            f"a first line that names this interpreter has {len(os.fsencode(line))} bytes, and the kernel reads {_MOST}"
        )
        raise RootlessError(what, sys.executable, hint="install into an environment with a shorter path")
    return line


def write(script: Script, line: str) -> None:
    """Give the script another first line, with its mode and owner, once it has run so. Raises RootlessError.

    A new file replaces the old one, so that a command that starts meanwhile finds one or the other, and so that a hard
    link, such as uv makes to its cache, keeps the old one.
    """
    temporary = f"{script.path}.{os.urandom(8).hex()}"
    try:
        status = os.stat(script.path)
        if not os.access(script.path, os.W_OK):  # rename(2) would ask for the directory alone
            raise PermissionError(13, "", script.path)
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        hint = "who has installed it may do so"
        raise RootlessError.from_os(error, "cannot change the script", script.path, hint) from None
    try:
        with open(fd, "wb") as file:
            file.write(os.fsencode(line) + b"\n" + script.rest)
            if (status.st_uid, status.st_gid) != (os.geteuid(), os.getegid()):
                os.fchown(fd, status.st_uid, status.st_gid)
            os.fchmod(fd, status.st_mode & 0o7777)
            file.flush()
            os.fsync(fd)
        _try(temporary)
        os.rename(temporary, script.path)
    except OSError as error:
        os.unlink(temporary)
        raise RootlessError.from_os(error, "cannot change the script", script.path) from None
    except BaseException:
        os.unlink(temporary)
        raise


def _try(path: str) -> None:
    """Run the new script. Raises RootlessError if it does not say its version, and OSError if it does not start."""
    done = subprocess.run([path, "--version"], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode or rootless.__version__ not in done.stdout:
        last = (done.stderr.splitlines() or [f"exit status {done.returncode}"])[-1]
        raise RootlessError(f"nothing was changed, because the script would not start with that line: {last}")
