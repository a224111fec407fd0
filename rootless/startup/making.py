"""Write the file that codecache.py reads. Imported only when a command's cache is missing or out of date."""

from __future__ import annotations

import fcntl
import marshal
import os
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING

from rootless.startup import codecache
from rootless.startup.called import CALLED
from rootless.startup.hot import AT_HAND, MODULES, ON_DEMAND
from rootless.startup.leancode import Store, compile_lean
from rootless.startup.linking import Linker

if TYPE_CHECKING:
    from types import CodeType

    from rootless.startup.codecache import Entry


def save(command: str, names: list[str], later_names: list[str]) -> None:
    """Write a command's cache, beside the sources, else in the user's folder. Do nothing if another process does so.

    Raises OSError. names: modules in the order of sys.modules. It is the right one, because the import system moves a
    module to the end once its own imports are done. later_names: those for `load_later`.
    """
    lock = _lock()
    if lock is None:
        return
    try:
        _save(command, names, later_names)
    finally:
        if lock >= 0:
            os.close(lock)


def _lock() -> int | None:
    """Return an fd that keeps other processes from making a cache (flock(2)); None if one is making one already.

    Many that begin without a cache would only make the same one, and take the processors from what they are to start.
    -1: nothing can be locked.
    """
    own = f"{codecache.PACKAGE}__pycache__"
    folder = own if os.access(own, os.W_OK) else codecache.users_folder(make=True)
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return -1
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    except OSError:  # a file system without locks
        os.close(fd)
        return -1
    return fd


def _save(command: str, names: list[str], later_names: list[str]) -> None:
    store = Store()
    called = called_by(command)
    linker = Linker(("sys", "posix", codecache.__name__))  # the interpreter and bin/rootless have loaded these
    entries, later = (
        [e for name in each if (e := _entry(name, called, store, linker))] for each in (names, later_names)
    )
    signatures = [(entry[1], codecache.signature(entry[1])) for entry in entries + later if entry[1]]
    on_demand = {}
    for name in ON_DEMAND.get(command, ()):
        spec = find_spec(name)
        if name not in names and spec and spec.origin:
            file = spec.origin.removeprefix(codecache.PACKAGE)
            on_demand[name] = file, codecache.signature(file), store.add(_compile(spec.origin))
    first = marshal.dumps((codecache.MAGIC, signatures, entries, store.add(later) if later else 0, on_demand))
    data = len(first).to_bytes(codecache.HEAD, "little") + first + store.data + codecache.END
    try:
        _write(codecache.path_of(command), data)
        _write(codecache.path_of("launch"), _own_code())
    except OSError:
        folder = codecache.users_folder(make=True)
        if folder:
            _write(f"{folder}/{codecache.users_name(command)}", data)


def called_by(command: str) -> dict[str, str] | None:
    """Return the names that a command calls, by module, None for a command that is not listed."""
    called: dict[str, str] = {}
    for commands, modules in CALLED.items():
        if command in commands.split():
            for module, names in modules.items():
                called[module] = f"{called.get(module, '')} {names}"
    return called or None


def _own_code() -> bytes:
    """Return codecache's own code for bin/rootless, which does not ask the import system for it."""
    file = codecache.__file__
    time, size = codecache.signature(file)
    stored = f"\n_stored = {time}, {size}\n"
    with open(file, "rb") as source:
        return marshal.dumps(compile_lean(source.read() + stored.encode(), file))


def _compile(file: str) -> CodeType:
    with open(file, "rb") as source:
        return compile_lean(source.read(), file)


def _write(path: str, data: bytes) -> None:
    """Write a file under a temporary name, and rename it when it is complete. Raises OSError."""
    temporary = f"{path}.{os.urandom(8).hex()}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(temporary, flags, 0o644)
    try:
        if os.write(fd, data) == len(data):  # a short write would leave broken marshal data
            os.rename(temporary, path)
        else:
            os.unlink(temporary)
    except OSError:
        os.unlink(temporary)
    os.close(fd)


def _entry(name: str, called: dict[str, str] | None, store: Store, linker: Linker) -> Entry | None:
    """Return a module's entry; None if it is frozen or lean code does not import it."""
    module = sys.modules[name]
    spec = module.__spec__
    if name == "__future__" or not spec:
        return None
    kind = type(spec.loader).__name__
    file = "" if spec.origin == "built-in" else (module.__file__ or "").removeprefix(codecache.PACKAGE)
    if spec.origin == "built-in" or kind == "ExtensionFileLoader":
        linker.loaded.add(name)
        return name, file, False, None, ((), ()), {}
    if kind != "SourceFileLoader" or not module.__file__:
        return None
    is_thin = called is not None and name in MODULES
    words = [*called.get(name, "").split(), *AT_HAND.get(name, ())] if called else []
    with open(module.__file__, "rb") as source:
        code, links, late = linker.compile(name, source.read(), module.__file__, words if is_thin else None)
    if is_thin:
        code = store.thin(code, words)
    places = {each: store.add(store.thin(part, words)) for each, part in late.items()}
    return name, file, hasattr(module, "__path__"), code, links, places
