"""Find a bundle, take an ID from its name, and read its config.json (runtime-spec, bundle.md)."""

from __future__ import annotations

from rootless.errors import RootlessError, printable
from rootless.runtime.state import check_id
from rootless.startup import jsonlite
from rootless.startup import lean_os as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_CONFIG_LIMIT = 16 << 20  # bytes


def find_bundle(bundle: str, argument: str, config: str = "", name: str = "") -> tuple[str, str]:
    """Return (absolute bundle directory, id) of `-b DIR ID`, `ID`, `./BUNDLE`, `.`, `..` or `BUNDLE`.

    name: the ID from --name, "" without it; with it the argument may be missing. config: the file from --config; with
    it `.` and `..` are IDs, which are invalid, like with crun. Raises RootlessError.
    """
    if bundle:
        if name and argument:
            raise RootlessError("two IDs are given", f"{printable(argument)} and --name {printable(name)}")
        argument = name or argument
        if not argument:
            raise RootlessError("a container ID is missing", hint="rootless run --bundle DIR ID")
        return os.path.abspath(bundle), check_id(argument)
    if argument and "/" in argument and not os.path.isdir(argument):
        raise no_bundle(argument)
    argument = argument or ("." if name and os.path.exists("config.json") else "")
    is_path = "/" in argument or (argument in (".", "..") and not config)  # an ID may be neither
    named = is_path or not os.path.exists("config.json")
    if argument and named and os.path.isfile(f"{argument}/config.json"):
        directory = os.path.abspath(argument)
        container_id = name or os.path.basename(directory)
        try:
            return directory, check_id(container_id)
        except RootlessError as error:
            raise RootlessError(
                f"the bundle's name is not a container ID ({error})", argument, hint="rootless run --bundle DIR ID"
            ) from None
    if is_path:
        raise RootlessError(
            "no config.json in the bundle", printable(argument), hint="rootless spec --bundle DIR writes one"
        )
    if not argument:
        here = os.path.exists("config.json")
        hint = "rootless run . runs the bundle in this directory" if here else "rootless run ./BUNDLE"
        raise RootlessError("a container ID or a bundle is missing", hint=hint)
    if name:
        raise RootlessError("two IDs are given", f"{printable(argument)} and --name {printable(name)}")
    return os.getcwd(), check_id(argument)


def no_bundle(argument: str) -> RootlessError:
    """Return the error for a word that names neither a bundle nor an archive."""
    from rootless.runtime.nothing_there import no_such_bundle

    return no_such_bundle(argument)


def read_config(path: str) -> bytes:
    """Return the bytes of config.json. Raises RootlessError, also for more than 16 MiB."""
    try:
        with open(path, "rb", buffering=0) as file:
            data = file.read(_CONFIG_LIMIT + 1) or b""
    except FileNotFoundError as error:
        raise RootlessError.from_os(error, "no config.json", path, "rootless spec writes one") from None
    except OSError as error:
        raise RootlessError.from_os(error, "cannot read the config", path) from None
    if len(data) > _CONFIG_LIMIT:
        raise RootlessError("the config is larger than 16 MiB", path)
    return data


def parse_config(text: bytes, path: str) -> dict[str, Any]:
    """Return config.json as an object. Raises RootlessError."""
    try:
        spec = jsonlite.loads(text)
    except ValueError as error:
        raise RootlessError(f"config.json is not JSON: {error}", path) from None
    if type(spec) is not dict:
        raise RootlessError("config.json does not hold an object", path)
    return spec


def with_term(env: Any) -> Any:
    """Return the environment of a program that gets a terminal. Without a TERM it gets TERM=xterm, like with docker.

    A value that is not an array is returned unchanged, because the compiler of the plan refuses it later.
    """
    if env is not None and type(env) is not list:
        return env
    if any(type(entry) is str and entry.startswith("TERM=") for entry in env or ()):
        return env
    return [*(env or ()), "TERM=xterm"]
