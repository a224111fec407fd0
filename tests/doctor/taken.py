"""Take a thing away from `rootless`, and compare what an error and `doctor` say about it."""

from __future__ import annotations

import errno
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rootless.kernel.hints import HINTS
from rootless.kernel.syscalls import MACHINE
from tests.doctor.test_doctor import examine, hint_of
from tests.support.checkout import TIMEOUT, driver
from tests.support.containers import Container, Rootless

Make = Callable[..., Container]
Words = tuple[str, ...]


def is_of(text: str, name: str) -> bool:
    """Return whether a text is that hint of the table, with whatever words filled in."""
    pattern = re.sub(r"\\\{\w+\\\}", ".*", re.escape(HINTS[name].text))
    return re.fullmatch(pattern, text) is not None


def without(script: str) -> Words:
    """Return a prefix that takes something away in a mount namespace; the user stays an ordinary one."""
    script = f'{script} && exec setpriv --ambient-caps=-all --inh-caps=-all "$@"'
    return ("unshare", "--user", "--map-current-user", "--keep-caps", "--mount", "sh", "-c", script, "sh")


# A prefix for root: cgroup v2 alone is mounted, whatever this machine has.
V2_ALONE = (
    "unshare",
    "--mount",
    "sh",
    "-c",
    'umount -R /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup && exec "$@"',
    "sh",
)


def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False, **options)


def changed(program: str, rootless: Rootless, *args: str | Path) -> list[str]:
    """Return the argv of a program that first changes something about its process."""
    ending = "\nfrom rootless.__main__ import main\nsys.exit(main())\n"
    return driver(program + ending, "--root", rootless.state, *args)


def both_say(rootless: Rootless, c: Container, name: str, before: Words = ()) -> None:
    """Check that `run` fails with a hint, and that `doctor BUNDLE` has the same words; nothing is left."""
    error = run([*before, *rootless.command("run", "-b", c.bundle.path, "none")])
    found = examine(rootless, c.bundle.path, before=before)
    line = found["lines"]["config"]
    assert error.returncode, "it runs"
    assert is_of(hint_of(error.stderr), name), error.stderr
    assert found["code"] == 1 and line["status"] == "missing"
    assert is_of(line["hint"], name), line
    assert rootless.ids() == []


def same(error: subprocess.CompletedProcess[str], found: dict[str, Any], line: str, name: str) -> None:
    """Check that an error's hint and a line's are the same one of the table."""
    assert error.returncode, error
    assert is_of(hint_of(error.stderr), name), error.stderr
    assert found["lines"][line]["hint"] == hint_of(error.stderr), found["lines"][line]
    assert found["lines"][line]["status"] != "ok"


def error_says(error: subprocess.CompletedProcess[str], name: str) -> None:
    """Check that a command failed with that hint."""
    assert error.returncode, error
    assert is_of(hint_of(error.stderr), name), error.stderr


filters = pytest.mark.skipif(MACHINE not in ("x86_64", "aarch64"), reason="the filter has their numbers")


def filtered(**answers: int) -> str:
    """Return a program for `changed`: a seccomp filter answers these system calls with these errnos (seccomp(2))."""
    return f"""
import ctypes, os, struct
from rootless.kernel.syscalls import _NR
others = {{
    "x86_64": {{"setxattr": 188, "fsetxattr": 190, "symlink": 88, "symlinkat": 266}},
    "aarch64": {{"setxattr": 5, "fsetxattr": 7, "symlink": 36, "symlinkat": 36}},
}}
numbers = {{**others[os.uname().machine], **_NR}}
rules = [(0x20, 0, 0, 0)]  # load the number
for name, errno in {answers!r}.items():
    rules += [(0x15, 0, 1, numbers[name]), (0x06, 0, 0, 0x00050000 | errno)]
rules += [(0x06, 0, 0, 0x7FFF0000)]
program = b"".join(struct.pack("HBBI", *rule) for rule in rules)
code = ctypes.create_string_buffer(program, len(program))
header = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(rules), ctypes.addressof(code)))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, header) == 0
"""


# What docker's default filter does: clone3 is not implemented, and unshare is forbidden.
FILTERED = filtered(clone3=errno.ENOSYS, unshare=errno.EPERM)
