"""Find a bundle, read its config.json (runtime-spec, bundle.md), and hold what `create` is asked for."""

from __future__ import annotations

from rootless.config_node import Node
from rootless.errors import RootlessError, printable
from rootless.kernel.files import read_at_most
from rootless.runtime.state import check_id
from rootless.startup import jsonlite
from rootless.startup import lean_os as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from rootless.process.child_options import ChildOptions

_CONFIG_LIMIT = 16 << 20  # bytes


class Bundle:
    """Hold what a container is made from: its ID, the bundle's absolute directory, and config.json.

    spec: config.json, parsed; text: the same as bytes, which the state directory keeps.
    """

    __slots__ = ("container_id", "directory", "spec", "text")

    def __init__(self, container_id: str, directory: str, spec: dict[str, Any], text: bytes = b"") -> None:
        self.container_id = container_id
        self.directory = directory
        self.spec = spec
        self.text = text or jsonlite.dumps(spec, 1).encode("utf-8", "surrogatepass")

    def with_spec(self, spec: dict[str, Any]) -> Bundle:
        """Return the same bundle with another config."""
        return Bundle(self.container_id, self.directory, spec)


class CreateRequest:
    """Hold the arguments of `create`. Nobody writes to it (Final, which mypy checks).

    bundle: the bundle's directory; root: the state root; image: the image that the bundle was unpacked from, "" for the
    user's own bundle; upper: the directory to make for a throw-away root, "" for none (config.json has its mount);
    takes_name: whether the id is the bundle's name, so that another id can replace it if it is in use; timeout: seconds
    that the program may run, 0 for no limit; starts: whether this command starts the program, too; source: the image's
    archive, "" if it came through a pipe; emulates_root: as in Call; detached: whether the container outlives this
    command; options: what a caller in Python asks of the program's process; the rest are the flags.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        root: str = "",
        cgroup_manager: str = "",
        console_socket: str = "",
        pidfd_socket: str = "",
        pid_file: str = "",
        no_pivot: bool = False,
        no_new_keyring: bool = False,
        notify: bool = False,
        init: bool = False,
        status_fd: int = -1,
        options: ChildOptions | None = None,
        upper: str = "",
        image: str = "",
        source: str = "",
        timeout: float = 0.0,
        starts: bool = True,
        takes_name: bool = False,
        preserve_fds: int = 0,
        listen_fds: int = 0,
        emulates_root: bool = False,
        detached: bool = True,
    ) -> None:
        self.container_id: Final = bundle.container_id
        self.bundle: Final = bundle.directory
        self.spec: Final = bundle.spec
        self.text: Final = bundle.text
        self.root: Final = root
        self.cgroup_manager: Final = cgroup_manager
        self.console_socket: Final = console_socket
        self.pidfd_socket: Final = pidfd_socket
        self.pid_file: Final = pid_file
        self.no_pivot: Final = no_pivot
        self.no_new_keyring: Final = no_new_keyring
        self.notify: Final = notify
        self.init: Final = init
        self.status_fd: Final = status_fd
        self.options: Final = options
        self.upper: Final = upper
        self.image: Final = image
        self.source: Final = source
        self.timeout: Final = timeout
        self.starts: Final = starts
        self.takes_name: Final = takes_name
        self.preserve_fds: Final = preserve_fds
        self.listen_fds: Final = listen_fds
        self.emulates_root: Final = emulates_root
        self.detached: Final = detached

    def wants_terminal(self) -> bool:
        """Return whether config.json gives the program a terminal. Raises SpecError."""
        return Node(self.spec)["process"]["terminal"].boolean()

    def needs_monitor(self) -> bool:
        """Return whether a process has to stay with the detached container, for its time limit or its helpers."""
        return self.timeout > 0 or self.needs_helpers()

    def needs_helpers(self) -> bool:
        """Return whether a process has to serve the container from outside, so that it needs a monitor to end it."""
        annotations = self.spec.get("annotations")
        return type(annotations) is dict and annotations.get("org.rootless.network", "none") != "none"


def open_bundle(bundle: str, argument: str, config: str = "", name: str = "") -> Bundle:
    """Find a bundle (find_bundle has the arguments) and read its config.json, or `config`. Raises RootlessError."""
    directory, container_id = find_bundle(bundle, argument, config, name)
    return load_bundle(directory, container_id, config)


def load_bundle(directory: str, container_id: str, config: str = "") -> Bundle:
    """Read the config.json of a bundle, or `config` in place of it. Raises RootlessError."""
    path = config or f"{directory}/config.json"
    text = read_config(path)
    return Bundle(container_id, directory, parse_config(text, path), text)


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
            raise RootlessError("a container ID is missing", hint="it stands behind the options: --bundle DIR ID")
        return os.path.abspath(bundle), check_id(argument)
    if argument and "/" in argument and not os.path.isdir(argument):
        if (config or os.path.exists("config.json")) and not argument.startswith(("./", "../", "/", "~")):
            check_id(argument)  # in a bundle's directory a word is an ID, and no ID has a slash
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
    if is_path or (named and not config and os.path.isdir(argument)):
        raise no_config_in(argument)
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


def no_config_in(directory: str) -> RootlessError:
    """Return the error for a directory without a config.json, or which this user may not enter."""
    from rootless.kernel.closed import closed_above

    hint = f"rootless spec --bundle {printable(directory)} writes one"
    missing = RootlessError("no config.json in the bundle", printable(directory), hint=hint)
    return closed_above(f"{directory}/config.json") or missing


def read_config(path: str) -> bytes:
    """Return the bytes of config.json. Raises RootlessError, also for more than 16 MiB."""
    try:
        data = read_at_most(_CONFIG_LIMIT, path)
    except (FileNotFoundError, NotADirectoryError) as error:
        from rootless.runtime.nothing_there import no_config

        raise no_config(error, path) from None
    except OSError as error:
        raise RootlessError.from_os(error, "cannot read the config", path) from None
    if len(data) > _CONFIG_LIMIT:
        raise RootlessError("the config is larger than 16 MiB", path)
    return data


def parse_config(text: bytes, path: str, what: str = "config.json") -> dict[str, Any]:
    """Return config.json, or another file of JSON, as an object. Raises RootlessError."""
    try:
        spec = jsonlite.loads(text)
    except ValueError as error:
        raise RootlessError(f"{what} is not JSON: {error}", path) from None
    if type(spec) is not dict:
        raise RootlessError(f"{what} does not hold an object", path)
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
