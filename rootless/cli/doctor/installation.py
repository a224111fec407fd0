"""Check the program's own installation: interpreter, byte-code cache and the packages that some commands need."""

from __future__ import annotations

import os
import site
import sys
import sysconfig
from contextlib import suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING

import rootless
from rootless.cli import first_line
from rootless.cli.doctor.line import LIMITED, MISSING, OK, Line
from rootless.errors import RootlessError
from rootless.kernel.files import make_program
from rootless.kernel.hints import HINTS, USER, Hint, hint
from rootless.runtime.interpreter import writable
from rootless.startup.codecache import users_folder
from rootless.userns.run import default_maps

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rootless.kernel.host import Host

# module: what does not work without it, what pip calls it, and the hint of the error message, "" for none
_PACKAGES = {
    "click": ("the help is not printed", "click", "no-click"),
    "attrs": ("images are not read", "attrs", "no-attrs"),
    "jeepney": ("systemd cannot be asked for a scope", "jeepney", "no-jeepney"),
    "lz4": ("layers that lz4 has compressed are not read", "lz4", "no-lz4"),
    "zstd": ("layers that zstd has compressed are not read", "backports.zstd", "no-zstd"),
    "isal": ("images are unpacked slower", "isal", ""),
    "mcp": ("python -m rootless.mcp does not start", "mcp", ""),
    "cloudpickle": ("@rootless.contained sends no function", "cloudpickle", "no-tasks"),
}
_ZSTD = ("compression.zstd", "backports.zstd")  # the module of Python 3.14, and the package for older ones


def program(_host: Host) -> Iterator[Line]:
    """Name the launcher and the interpreter, and say whether the launcher starts it without its site-packages."""
    detail = f"rootless {rootless.__version__}, Python {'.'.join(map(str, sys.version_info[:3]))}, {sys.executable}"
    if sys.flags.no_site:
        with suppress(RootlessError):  # it is not an installed script, so nobody has to know what starts it
            direct = first_line.read_own().is_direct
            detail += "; no shell starts it" if direct else "; a shell starts it, which rootless speedup saves"
        yield Line("launcher", OK, detail)
    else:
        cost = "a command starts slower, because Python looks for its site-packages"
        mend = hint("slow-launcher")
        yield Line("launcher", LIMITED, detail, cost, mend)


def byte_code(_host: Host) -> Iterator[Line]:
    """Check that byte code can be kept beside the sources or in the user's cache: rootless/startup/codecache.py."""
    package = os.path.dirname(os.path.abspath(rootless.__file__))
    place = f"{package}/__pycache__"
    if os.access(place if os.path.isdir(place) else package, os.W_OK):
        yield Line("byte-code-cache", OK, place)
    elif os.path.isdir(place) and any(not name.endswith(".pyc") for name in os.listdir(place)):
        yield Line("byte-code-cache", OK, f"{place} is filled; this user cannot renew it")
    elif folder := users_folder(make=True):
        yield Line("byte-code-cache", OK, f"{folder}, because this user cannot write {place}")
    else:
        yield Line(
            "byte-code-cache", LIMITED, f"{place} cannot be written, nor a folder of this user's own",
            "each command starts slower", hint("cache-elsewhere"),
        )  # fmt: skip


def packages(_host: Host) -> Iterator[Line]:
    """Check the Python packages that some commands need."""
    lacking = [name for name in _PACKAGES if not _found(name)]
    if not lacking:
        yield Line("packages", OK, " ".join(_PACKAGES))
        return
    cost = "; ".join(_PACKAGES[name][0] for name in lacking)
    names = " ".join(_PACKAGES[name][1] for name in lacking)
    hints = [HINTS[_PACKAGES[name][2]].text for name in lacking if _PACKAGES[name][2]]
    mend = Hint("; ".join(hints) or "they are optional", f"{sys.executable} -m pip install {_pip_flags()}{names}", USER)
    yield Line("packages", LIMITED, f"not installed: {' '.join(lacking)}", cost, mend)


def _pip_flags() -> str:
    """Return the flags without which pip refuses: the distribution may keep its packages to itself (PEP 668)."""
    in_venv = os.path.exists(f"{os.path.dirname(sys.executable)}/../pyvenv.cfg")
    kept = os.path.exists(f"{sysconfig.get_path('stdlib')}/EXTERNALLY-MANAGED")
    return "--user --break-system-packages " if kept and not in_venv else ""


def _found(name: str) -> bool:
    if name == "zstd":
        return any(_found(module) for module in _ZSTD)
    try:
        if find_spec(name) is None:
            site.main()  # bin/rootless starts the interpreter without its site-packages
        return find_spec(name) is not None
    except (ValueError, ModuleNotFoundError):  # its import has failed, or the package that holds it is not there
        return False


def _makes_programs() -> bool:
    try:
        os.close(make_program("rootless-doctor"))
        return True
    except OSError:
        return False


def interpreter(host: Host) -> Iterator[Line]:
    """Check that root of a container cannot write the interpreter's file (CVE-2019-5736)."""
    path = os.path.realpath("/proc/self/exe")
    maps = default_maps(host)
    takes_copy = writable(os.stat("/proc/self/exe"), *maps)
    if takes_copy and not _makes_programs():
        what = f"root of a container could write {path}, and no copy in memory may be executed"
        yield Line("interpreter", MISSING, what, "no container can start", hint("memfd-noexec"))
    elif maps[0] and takes_copy:
        cost = "each command first copies the interpreter to memory, which takes some milliseconds"
        yield Line("interpreter", LIMITED, f"root of a container could write {path}", cost, hint("own-interpreter"))
    elif not maps[0]:
        yield Line("interpreter", OK, f"{path}; a sealed copy runs where a container has no user namespace")
    else:
        yield Line("interpreter", OK, f"root of a container cannot write {path}")
