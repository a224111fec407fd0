"""Keep the byte code of all modules that a hot command imports in one file. This halves the time before the clone.

The file is like a .pyc for several modules. It lies in __pycache__ of the package, and where this user may not write
there, because root has installed the program, in $XDG_CACHE_HOME/rootless/code. It is valid as long as every source has
the same size and time. Otherwise, and with --debug, Python imports the modules as usual: the cached code has no line
numbers (leancode.py). Only bin/rootless, __main__.py and cli/commands/run.py use this module.

Code is run only if nobody but root, the package's owner or this user can have written it.
"""

import _signal  # type: ignore[import-not-found]
import marshal
import posix
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from importlib.machinery import ModuleSpec
    from types import CodeType, FunctionType, ModuleType
    from typing import Any

    # What a module imports at its top: modules (the name here, the module's name, the next name here, ...), and names
    # of other modules (the module's name, then the names). Flat, because each start makes these tuples.
    Links = tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]
    # (name, file relative to PACKAGE or absolute, whether it is a package, code or None for what is not Python, links,
    # the functions and classes that are made when they are looked for, and their places in `_rest`). The file is "" for
    # a module that is built into the interpreter.
    Entry = tuple[str, str, bool, CodeType | None, Links, dict[str, int]]

LIMIT = 1 << 24  # bytes of a file
_S_IFMT, _S_IFDIR = 0o170000, 0o040000  # inode(7); to import the module `stat` takes longer than what they are for
# Those of hot.py, which is read only when a cache is made.
COMMANDS = ("create", "run", "exec", "start", "state", "kill", "delete")
# The byte code's format, and the interpreter's build: another of the same version may have other built-in modules.
MAGIC: bytes = sys.modules["_frozen_importlib_external"].MAGIC_NUMBER + sys.version.encode()
if __file__[0] != "/":  # make it absolute: the caches must not hold paths relative to a working directory
    __file__ = f"{posix.getcwd()}/{__file__}"
PACKAGE = __file__.rpartition("/startup/")[0] + "/"

HEAD = 8  # bytes at the beginning, which give the length of what each start reads
END = b"end"  # of a file that is complete

_interpreters_own = frozenset(sys.modules)
_missing = ""  # the command whose cache is missing or out of date, else ""
_imported: "list[str]" = []
_imported_later: "list[str]" = []
_stored: "tuple[int, int] | None" = None  # set in bin/rootless' copy of this code: the `signature` of the file
# Of what is loaded when it is needed, the code is read by `_rest` (where it begins, length). A place is both numbers:
# the first times LIMIT, plus the second.
_rest: "Callable[[int, int], bytes]"
_later = 0  # the place of the modules for `load_later`, 0 for none
_functions: "dict[int, FunctionType]" = {}  # those that are loaded
# Modules that are loaded when they are imported: file, signature, place.
_on_demand: "dict[str, tuple[str, tuple[int, int], int]]" = {}


def start() -> None:
    """Load the command's code for bin/rootless. Raises any error."""
    if _renew():
        globals()["start"]()
        return
    if _stored:
        _follow_link()
    import gc

    gc.disable()
    if _signal.getsignal(2) == _signal.default_int_handler:  # so that an interrupt during the imports has no traceback
        _signal.signal(2, _signal.SIG_DFL)
    place = PACKAGE[: -len("/rootless/")]
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    # Append these paths, so that the import system looks for the standard library first in its own directory. pip
    # leaves a dependency where it is, if the interpreter's own packages or the distribution's have it.
    sys.path += [place, f"{place}/.venv/lib/{version}/site-packages", f"{sys.base_prefix}/lib/{version}/site-packages"]
    sys.path += [f"/usr/local/lib/{version}/dist-packages", "/usr/lib/python3/dist-packages"]
    load(sys.argv)


def start_launcher() -> None:
    """Load the code of the Python interface's launcher (api/spawn.py). Raises any error."""
    _renew()
    globals()["load_for"]("launcher")


def _renew() -> bool:
    """Execute this file again if the stored code of it is out of date. Return whether it was."""
    if not _stored or _stored == signature(__file__):
        return False
    loader = sys.modules["_frozen_importlib_external"].SourceFileLoader(__name__, __file__)
    exec(loader.get_code(__name__), globals())
    return True


def _follow_link() -> None:
    """Start again by the real path if bin/rootless was called by a link, because it took the package near the link."""
    try:
        link = posix.readlink(sys.argv[0])
    except OSError:
        return
    place = link if link[0] == "/" else f"{sys.argv[0].rpartition('/')[0] or '.'}/{link}"
    posix.execv(sys.executable, [sys.executable, "-IS", place, *sys.argv[1:]])


def load(arguments: "list[str]") -> None:
    """Import the modules in the cache of the command, in an order in which each finds its own imports."""
    command = next((word for word in arguments if word in COMMANDS), "")
    if command and "--debug" not in arguments:
        load_for(command)


def load_for(command: str) -> None:
    """Import the modules in the cache of a command, or of the Python interface's launcher: "launcher"."""
    global _missing
    _missing = command
    user = posix.geteuid()
    if not _load(path_of(command), (0, user, posix.stat(__file__).st_uid)) and (folder := users_folder()):
        _load(f"{folder}/{users_name(command)}", (user,))


def _load(path: str, owners: "tuple[int, ...]") -> bool:
    """Import what the file at `path` holds. Return False if it is missing, invalid, or not one of these users'."""
    global _missing, _later, _rest, _on_demand
    try:
        fd = posix.open(path, posix.O_RDONLY | posix.O_NOFOLLOW | posix.O_CLOEXEC)
    except OSError:
        return False
    try:
        parts = _first_part(fd, owners)
    except (OSError, EOFError, ValueError, TypeError):
        parts = None
    if parts:
        start, end, entries, _later, _on_demand = parts
        _missing, _rest = "", lambda begin, size: posix.pread(fd, size, start + begin)
        sys.meta_path.insert(0, sys.modules[__name__])
        _import(entries)
        _rest = _held(fd, start, end)
    posix.close(fd)
    return bool(parts)


def _first_part(fd: int, owners: "tuple[int, ...]") -> "tuple[Any, ...] | None":
    """Read what each start needs of a file, which is half of it: the length of that part, marshal data, and END.

    Return where the rest of the file begins and ends, and what `making.save` has written; None if it is not valid.
    Raises OSError, EOFError, ValueError, TypeError.
    """
    status = posix.fstat(fd)
    if status.st_mode & 0o022 or status.st_uid not in owners:
        return None  # other users may have written it, so it is not executed
    length = int.from_bytes(posix.read(fd, HEAD), "little")
    magic, signatures, *parts = marshal.loads(posix.read(fd, min(length, LIMIT)))
    directory = posix.open(PACKAGE, posix.O_PATH | posix.O_CLOEXEC)
    current = magic == MAGIC and all(signature(file, directory) == known for file, known in signatures)
    posix.close(directory)
    if not current or posix.pread(fd, len(END), status.st_size - len(END)) != END:
        return None
    return HEAD + length, status.st_size, *parts


def _held(fd: int, start: int, end: int) -> "Callable[[int, int], bytes]":
    """Return what reads the rest of the file, also when the file cannot be read any more: in init, and in its children.

    It is mapped, so that no page of it is copied before it is needed. Commands without ctypes read it.
    """
    if syscalls := sys.modules.get("rootless.kernel.syscalls"):
        try:
            read = syscalls.map_file(fd, end)
            return lambda begin, size: read(start + begin, size)
        except OSError:  # no address space is left
            pass
    rest = posix.pread(fd, end - start, start)
    return lambda begin, size: rest[begin : begin + size]


def _code(place: int) -> "Any":
    """Return the code at a place of the rest."""
    return marshal.loads(_rest(*divmod(place, LIMIT)))


def find_spec(name: str, path: object = None, target: object = None) -> "ModuleSpec | None":
    """Return how to import a module whose code is in the cache, None for another one (importlib.abc.MetaPathFinder)."""
    known = _on_demand.get(name)
    if not known or known[1] != signature(known[0]):
        return None
    spec: ModuleSpec = sys.modules["_frozen_importlib"].ModuleSpec(name, sys.modules[__name__], origin=known[0])
    return spec


def create_module(spec: "ModuleSpec") -> None:
    """Let the import system make the module (importlib.abc.Loader)."""


def exec_module(module: "ModuleType") -> None:
    """Execute a module's code from the cache (importlib.abc.Loader)."""
    file, _, place = _on_demand[module.__name__]
    module.__file__ = absolute(file)
    exec(_code(place), module.__dict__)


def function(place: int) -> "FunctionType":
    """Return a function whose code was left out (leancode.py), for its stand-in, which calls it with its arguments."""
    function = _functions.get(place)
    if not function:
        code, module = _code(place), sys._getframe(1).f_globals
        function = _functions[place] = type(absolute)(code, module)  # type: ignore[misc]
    return function


def load_later() -> None:
    """Import the second list of modules, while init sets up its mounts and the runtime would only wait."""
    global _later
    place, _later = _later, 0
    if place:
        _import([entry for entry in _code(place) if entry[0] not in sys.modules])


def _import(entries: "list[Entry]") -> None:
    modules, new_module = sys.modules, type(sys)
    for name, file, is_package, code, _, _ in entries:
        if code:
            module = modules[name] = new_module(name)
            names = module.__dict__
            names["__file__"] = path = file if file[0] == "/" else PACKAGE + file
            if is_package:
                names["__package__"], names["__path__"] = name, [path.rpartition("/")[0]]
            else:
                names["__package__"] = name.rpartition(".")[0]
    modules["rootless.startup"].codecache = modules[__name__]  # type: ignore[attr-defined]
    for name, file, _, code, links, late in entries:
        if not code:
            if name not in modules:
                _load_library(name, file)
            continue
        module = modules[name]
        names = module.__dict__
        parent, _, child = name.rpartition(".")
        if parent:
            modules[parent].__dict__[child] = module
        if late:
            names["__getattr__"] = _maker(names, late)
        imported, taken = links
        words = iter(imported)
        for ours, source in zip(words, words, strict=True):
            names[ours] = modules[source]
        for source, *theirs in taken:
            there = modules[source].__dict__
            for each in theirs:
                names[each] = there[each]
        exec(code, names)


def _maker(names: "dict[str, Any]", late: "dict[str, int]") -> "Callable[[str], Any]":
    """Return the __getattr__ of a module: it makes what was left out (linking.py) when it is looked for."""

    def make(name: str) -> "Any":
        if name not in late:
            raise AttributeError(f"module {names['__name__']!r} has no attribute {name!r}")
        exec(_code(late[name]), names)
        return names[name]

    return make


def _load_library(name: str, file: str) -> None:
    """Load a shared library from the path that the cache holds, so that the import system lists no directory.

    Without a path, load a module that is built into the interpreter. It takes half the time without the import system.
    """
    if not file:
        bootstrap = sys.modules["_frozen_importlib"]
        spec = bootstrap.ModuleSpec(name, bootstrap.BuiltinImporter, origin="built-in")
    else:
        spec = sys.modules["_frozen_importlib_external"].spec_from_file_location(name, file)
    module = sys.modules[name] = spec.loader.create_module(spec)
    module.__spec__ = spec
    spec.loader.exec_module(module)


def note() -> None:
    """Record the modules for the command's cache. __main__.py calls this when the command's module is imported."""
    if not _missing:
        return
    from rootless.startup import hot

    ours = {*_interpreters_own, hot.__name__}
    for names, imported in ((hot.LAZY.get(_missing, ()), _imported), (hot.LATER.get(_missing, ()), _imported_later)):
        for name in names:
            __import__(name)
        imported.extend(name for name in sys.modules if name not in ours and name not in _imported)


def is_missing() -> bool:
    """Return whether the cache that was to be loaded is missing or out of date."""
    return bool(_missing)


def noted() -> "tuple[str, list[str], list[str]] | None":
    """Return the command whose cache is to be made, and its modules as `note` has recorded them; None for none."""
    return (_missing, _imported, _imported_later) if _imported and not sys.dont_write_bytecode else None


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
    is_private = status.st_mode & (_S_IFMT | 0o022) == _S_IFDIR and status.st_uid == user
    return folder if is_private else ""


def absolute(file: str) -> str:
    return file if file.startswith("/") else PACKAGE + file


def signature(file: str, directory: "int | None" = None) -> "tuple[int, int]":
    """Return (modification time in ns, size) of a file. stat(2) relative to an open `directory` takes half the time."""
    status = posix.stat(absolute(file) if directory is None else file, dir_fd=directory)
    return status.st_mtime_ns, status.st_size


def path_of(command: str) -> str:
    return f"{PACKAGE}__pycache__/{command}.{sys.implementation.cache_tag}.code"


def users_name(command: str) -> str:
    """Return the name in the user's folder: a user may have several installations."""
    return f"{command}.{sys.implementation.cache_tag}{PACKAGE[:-1].replace('/', '%')}.code"
