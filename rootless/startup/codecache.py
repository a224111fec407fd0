"""Keep the byte code of all modules that a hot command imports in one file. This halves the time before the clone.

The file is like a .pyc for several modules. It lies in __pycache__ of the package, and where this user may not write
there, because root has installed the program, in $XDG_CACHE_HOME/rootless/code. It is valid as long as every source has
the same size and time. Otherwise, and with --debug, Python imports the modules as usual: the cached code has no line
numbers (leancode.py). Only bin/rootless, __main__.py and cli/commands/run.py use this module.

Code is run only if nobody but root, the package's owner or this user can have written it.
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
    global _missing
    command = next((word for word in arguments if word in COMMANDS), "")
    if not command or "--debug" in arguments:
        return
    _missing = command
    user = posix.geteuid()
    if not _load(_path(command), (0, user, posix.stat(__file__).st_uid)) and (folder := users_folder()):
        _load(f"{folder}/{_users_name(command)}", (user,))


def _load(path: str, owners: "tuple[int, ...]") -> bool:
    """Import what the file at `path` holds. Return False if there is none that is valid and one of these users' own."""
    global _missing, _later
    try:
        fd = posix.open(path, posix.O_RDONLY | posix.O_NOFOLLOW | posix.O_CLOEXEC)
        status = posix.fstat(fd)
        if status.st_mode & 0o022 or status.st_uid not in owners:
            posix.close(fd)
            return False  # other users may have written it, so it is not executed
        magic, signatures, entries, later = marshal.loads(posix.read(fd, min(status.st_size, _LIMIT)))
        posix.close(fd)
        directory = posix.open(_PACKAGE, posix.O_PATH | posix.O_CLOEXEC)
        current = magic == _MAGIC and all(_signature(file, directory) == known for file, known in signatures)
        posix.close(directory)
        if not current:
            return False
    except (OSError, EOFError, ValueError, TypeError):
        return False
    _missing, _later = "", later
    _import(entries)
    return True


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
    """Write the command's cache if it was missing or out of date: beside the sources, else in the user's folder."""
    if not _imported or sys.dont_write_bytecode:
        return
    # sys.modules is in the right order: the import system moves a module to the end once its own imports are done.
    entries, later = ([e for name in names if (e := _entry(name))] for names in (_imported, _imported_later))
    signatures = [(file, _signature(file)) for _, file, _, _ in entries + later]
    data = marshal.dumps((_MAGIC, signatures, entries, marshal.dumps(later) if later else b""))
    try:
        _write(_path(_missing), data)
    except OSError:
        folder = users_folder(make=True)
        if folder:
            _write(f"{folder}/{_users_name(_missing)}", data)


def _write(path: str, data: bytes) -> None:
    """Write a file under a temporary name, and rename it when it is complete. Raises OSError."""
    temporary = f"{path}.{posix.urandom(8).hex()}"
    flags = posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_NOFOLLOW | posix.O_CLOEXEC
    fd = posix.open(temporary, flags, 0o644)
    try:
        if posix.write(fd, data) == len(data):  # a short write would leave broken marshal data
            posix.rename(temporary, path)
        else:
            posix.unlink(temporary)
    except OSError:
        posix.unlink(temporary)
    posix.close(fd)


def users_folder(*, make: bool = False) -> str:
    """Return $XDG_CACHE_HOME/rootless/code, else ~/.cache/rootless/code; "" if there is none that is the user's own.

    The directory above is checked, too, because root may have the HOME of another user, who could exchange the folder.
    """
    base, user = posix.environ.get(b"XDG_CACHE_HOME", b""), posix.geteuid()
    if base[:1] != b"/":
        base = posix.environ.get(b"HOME", b"") + b"/.cache"
    folder = (base + b"/rootless/code").decode("utf-8", "surrogateescape")
    try:
        try:
            above = posix.stat(base)
        except FileNotFoundError:  # it is made below
            above = posix.stat(base.rstrip(b"/").rpartition(b"/")[0] or b"/")
        if base[:1] != b"/" or above.st_uid != user:
            return ""
        if make:
            from oci.private import open_private

            posix.close(open_private(folder, make=True))
        status = posix.lstat(folder)
    except OSError:
        return ""
    is_private = status.st_mode & 0o170022 == 0o040000 and status.st_uid == user
    return folder if is_private else ""


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


def _users_name(command: str) -> str:
    """Return the name in the user's folder: a user may have several installations."""
    return f"{command}.{sys.implementation.cache_tag}{_PACKAGE[:-1].replace('/', '%')}.code"
