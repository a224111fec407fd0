"""Keep the byte code of all modules that a hot command imports in one file. This halves the time before the clone.

The file is like a .pyc for several modules. It lies in __pycache__, is written if that directory may be written, and is
valid as long as every source has the same size and time. Otherwise, and with --debug, Python imports the modules as
usual: the cached code has no line numbers (leancode.py). Only bin/rootless, __main__.py and cli/commands/run.py use
this module.
"""

import marshal
import posix
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType

    # (name, file relative to _PACKAGE or absolute, whether it is a package, code or None for a shared library)
    Entry = tuple[str, str, bool, CodeType | None]

_LIMIT = 1 << 24
# Those of hot.py, which is read only when a cache is made.
COMMANDS = ("create", "run", "exec", "start", "state", "kill", "delete")
_MAGIC: bytes = sys.modules[
    "_frozen_importlib_external"
].MAGIC_NUMBER  # of the byte code, which changes with Python's version
_PACKAGE = __file__.rpartition("/startup/")[0] + "/"

_interpreters_own = frozenset(sys.modules)
_missing = ""  # the command whose cache is missing or out of date, else ""
_imported: "list[str]" = []
_imported_later: "list[str]" = []
_later = b""  # the second blob: marshal data for `load_later`


def load(arguments: "list[str]") -> None:
    """Import the modules in the cache of the command, in an order in which each finds its own imports."""
    global _missing, _later
    command = next((word for word in arguments if word in COMMANDS), "")
    if not command or "--debug" in arguments:
        return
    _missing = command
    try:
        fd = posix.open(_path(_missing), posix.O_RDONLY | posix.O_NOFOLLOW | posix.O_CLOEXEC)
        status = posix.fstat(fd)
        if status.st_mode & 0o022 or status.st_uid not in (0, posix.geteuid(), posix.stat(__file__).st_uid):
            posix.close(fd)
            return  # other users may have written it, so it is not executed
        magic, signatures, entries, later = marshal.loads(posix.read(fd, min(status.st_size, _LIMIT)))
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
    """Import the modules of the second blob, while init sets up its mounts and the runtime would only wait."""
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
    """Load a shared library from the path that the cache holds, so that the import system lists no directory."""
    spec = sys.modules["_frozen_importlib_external"].spec_from_file_location(name, file)
    module = sys.modules[name] = spec.loader.create_module(spec)
    module.__spec__ = spec
    spec.loader.exec_module(module)


def note() -> None:
    """Record the modules for the command's cache. __main__.py calls this when the command's module is imported."""
    if not _missing:
        return
    from rootless.startup.hot import LATER, LAZY

    for names, imported in ((LAZY[_missing], _imported), (LATER.get(_missing, ()), _imported_later)):
        for name in names:
            __import__(name)
        imported.extend(name for name in sys.modules if name not in _interpreters_own and name not in _imported)


def save() -> None:
    """Write the command's cache if it was missing or out of date and the directory may be written."""
    if not _imported or sys.dont_write_bytecode:
        return
    path = _path(_missing)
    temporary = f"{path}.{posix.urandom(8).hex()}"
    flags = posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_NOFOLLOW | posix.O_CLOEXEC
    try:
        fd = posix.open(temporary, flags, 0o644)
    except OSError:
        return
    # sys.modules is in the right order: the import system moves a module to the end once its own imports are done.
    entries, later = ([e for name in names if (e := _entry(name))] for names in (_imported, _imported_later))
    signatures = [(file, _signature(file)) for _, file, _, _ in entries + later]
    data = marshal.dumps((_MAGIC, signatures, entries, marshal.dumps(later) if later else b""))
    try:
        if posix.write(fd, data) == len(data):  # a short write would leave broken marshal data
            posix.rename(temporary, path)
        else:
            posix.unlink(temporary)
    except OSError:
        posix.unlink(temporary)
    posix.close(fd)


def _entry(name: str) -> "Entry | None":
    """Return a module's entry; None if it has no file (built-in or frozen) or lean code does not import it."""
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
    """Return (modification time in ns, size) of a file. stat(2) relative to an open `directory` takes half the time."""
    status = posix.stat(_absolute(file) if directory is None else file, dir_fd=directory)
    return status.st_mtime_ns, status.st_size


def _path(command: str) -> str:
    return f"{_PACKAGE}__pycache__/{command}.{sys.implementation.cache_tag}.code"
