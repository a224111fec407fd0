"""One file with the byte code of all that a hot command imports, in place of forty: half the time up to the clone.

It is what a .pyc is, for several modules at once: it lies beside them in __pycache__, is made where that directory
may be written, and is used as long as every source has the size and time that it had. In any other case the modules
are imported as ever, and with --debug too: the cached code is lean, see leancode.py. Only the launcher (bin/rootless),
__main__.py, and commands/run.py, which has a time for `load_later`, know of it.
"""

import marshal
import posix
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType

    # name; file, from the package's directory or absolute; whether a package; its code, None for a shared library
    Entry = tuple[str, str, bool, CodeType | None]

_LIMIT = 1 << 24
# What a command nearly always imports when it comes to it.
_GROUP = ("rootless.cgroup",)
_LAZY = {
    "create": ("rootless.kernel.cgroup_view",),
    "run": ("rootless.kernel.cgroup_view",),
    "exec": (*_GROUP, "rootless.runtime.interpreter"),
    "start": _GROUP,
    "state": _GROUP,
    "kill": _GROUP,
    "delete": _GROUP,
}
# The same, but when its container is there: kept apart, for `load_later`.
_LATER = {"run": ("rootless.cli.commands.start", "rootless.runtime.foreground", "rootless.cli.commands.delete")}
_MAGIC: bytes = sys.modules["_frozen_importlib_external"].MAGIC_NUMBER  # of the byte code: it changes with Python
_PACKAGE = __file__.rpartition("/startup/")[0] + "/"

_interpreters_own = frozenset(sys.modules)
_missing = ""  # the command whose cache was not there, or old
_imported: "list[str]" = []
_imported_later: "list[str]" = []
_later = b""  # what `load_later` loads


def load(arguments: "list[str]") -> None:
    """Import what the cache of this command line's command holds, each module once all that it imports is there."""
    global _missing, _later
    command = next((word for word in arguments if word in _LAZY), "")
    if not command or "--debug" in arguments:
        return
    _missing = command
    try:
        fd = posix.open(_path(_missing), posix.O_RDONLY | posix.O_NOFOLLOW | posix.O_CLOEXEC)
        found = posix.fstat(fd)
        if found.st_mode & 0o022 or found.st_uid not in (0, posix.geteuid(), posix.stat(__file__).st_uid):
            posix.close(fd)
            return  # what others have written is not run
        magic, signatures, entries, later = marshal.loads(posix.read(fd, min(found.st_size, _LIMIT)))
        posix.close(fd)
        directory = posix.open(_PACKAGE, posix.O_PATH | posix.O_CLOEXEC)
        current = magic == _MAGIC and all(_signature(file, directory) == known for file, known in signatures)
        posix.close(directory)
        if not current:
            return
    except (OSError, EOFError, ValueError, TypeError):
        return
    _missing, _later = "", later
    _import(entries)


def load_later() -> None:
    """Import what the command needs when its container is there: the time for it is while that one is being set up."""
    global _later
    data, _later = _later, b""
    if data:
        _import([entry for entry in marshal.loads(data) if entry[0] not in sys.modules])


def _import(entries: "list[Entry]") -> None:
    for name, file, is_package, code in entries:
        if code:
            _make(name, file, is_package)
    for name, file, _, code in entries:
        if not code:
            _load_library(name, file)
            continue
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, sys.modules[name])
        exec(code, sys.modules[name].__dict__)


def _make(name: str, file: str, is_package: bool) -> None:
    module = type(sys)(name)
    module.__file__ = _absolute(file)
    module.__package__ = name if is_package else name.rpartition(".")[0]
    if is_package:
        module.__path__ = [module.__file__.rpartition("/")[0]]
    sys.modules[name] = module


def _load_library(name: str, file: str) -> None:
    """As an import does, but from the place where it was found before: that saves the listing of a directory."""
    spec = sys.modules["_frozen_importlib_external"].spec_from_file_location(name, file)
    module = sys.modules[name] = spec.loader.create_module(spec)
    module.__spec__ = spec
    spec.loader.exec_module(module)


def note() -> None:
    """The command's module has been imported: what is there now is what its cache is to hold."""
    if not _missing:
        return
    for names, imported in ((_LAZY[_missing], _imported), (_LATER.get(_missing, ()), _imported_later)):
        for name in names:
            __import__(name)
        imported.extend(name for name in sys.modules if name not in _interpreters_own and name not in _imported)


def save() -> None:
    """Make the command's cache anew if it was missing or old, and where it may be written."""
    if not _imported or sys.dont_write_bytecode:
        return
    path = _path(_missing)
    temporary = f"{path}.{posix.urandom(8).hex()}"
    flags = posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_NOFOLLOW | posix.O_CLOEXEC
    try:
        fd = posix.open(temporary, flags, 0o644)
    except OSError:
        return
    # The import system moves a module to the end of sys.modules when it is done: what it needs stands before it.
    entries, later = ([e for name in names if (e := _entry(name))] for names in (_imported, _imported_later))
    signatures = [(file, _signature(file)) for _, file, _, _ in entries + later]
    data = marshal.dumps((_MAGIC, signatures, entries, marshal.dumps(later) if later else b""))
    try:
        if posix.write(fd, data) == len(data):  # one cut short is no marshal data
            posix.rename(temporary, path)
        else:
            posix.unlink(temporary)
    except OSError:
        posix.unlink(temporary)
    posix.close(fd)


def _entry(name: str) -> "Entry | None":
    """None for what has no file: built in or frozen; and for what lean code does not import."""
    module = sys.modules[name]
    kind = type(module.__spec__ and module.__spec__.loader).__name__
    if kind not in ("SourceFileLoader", "ExtensionFileLoader") or not module.__file__ or name == "__future__":
        return None
    file = module.__file__.removeprefix(_PACKAGE)
    if kind == "ExtensionFileLoader":
        return name, file, False, None
    from rootless.startup.leancode import compile_lean

    with open(module.__file__, "rb") as source:
        code = compile_lean(source.read(), module.__file__)
    return name, file, hasattr(module, "__path__"), code


def _absolute(file: str) -> str:
    return file if file.startswith("/") else _PACKAGE + file


def _signature(file: str, directory: "int | None" = None) -> "tuple[int, int]":
    """With the package's directory open, or by the whole path, which takes twice as long."""
    found = posix.stat(_absolute(file) if directory is None else file, dir_fd=directory)
    return found.st_mtime_ns, found.st_size


def _path(command: str) -> str:
    return f"{_PACKAGE}__pycache__/{command}.{sys.implementation.cache_tag}.code"
