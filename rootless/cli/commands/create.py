"""`create`: a container from a bundle, up to the point where only `start` is missing."""

from __future__ import annotations

from rootless import cgroup, log
from rootless.errors import RootlessError, printable
from rootless.kernel.files import write_all
from rootless.kernel.host import Host
from rootless.runtime.container import state_root
from rootless.runtime.create import Request, compile_plan, create
from rootless.runtime.state import check_id
from rootless.startup import jsonlite
from rootless.startup import lean_os as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.cli.options import Options

_CONFIG_LIMIT = 16 << 20


def main(options: Options) -> int:
    """`rootless create [-b DIR] ID`, or `rootless create BUNDLE`."""
    request = read_request(options)
    if options.dry_run:
        return print_plan(request)
    created = create(request, Host())
    os.close(created.pidfd)
    created.container.close()
    return 0


def read_request(options: Options, *, tty: bool = False, args: list[str] | None = None) -> Request:
    """What the command line asks for, config.json read. Raises RootlessError."""
    request = read_bundle(options, options.config)
    if tty or args:
        process = request.spec.get("process")
        if isinstance(process, dict):
            if tty:
                process["terminal"] = True
                process["env"] = with_term(process.get("env"))
            if args:
                process["args"] = args
        request.text = jsonlite.dumps(request.spec, 1).encode("utf-8", "surrogatepass")
    request.no_pivot = options.no_pivot
    request.no_new_keyring = options.no_new_keyring
    request.preserve_fds = options.preserve_fds
    request.listen_fds = int(os.environ["LISTEN_FDS"]) if os.environ.get("LISTEN_FDS", "").isdecimal() else 0
    request.pidfd_socket = options.pidfd_socket
    if os.environ.get("NOTIFY_SOCKET"):
        from rootless.runtime import notify

        request.notify = True
        notify.extend_spec(request.spec, f"{request.root}/{request.container_id}/{notify.SOCKET}")
    return request


def with_term(env: Any) -> Any:
    """The environment of a program that --tty gives a terminal: TERM is xterm where nobody has set it, as with docker.
    What is not an array is returned as it is, and refused later."""
    if env is not None and type(env) is not list:
        return env
    if any(type(entry) is str and entry.startswith("TERM=") for entry in env or ()):
        return env
    return [*(env or ()), "TERM=xterm"]


def read_bundle(options: Options, config: str = "") -> Request:
    """A request with the flags that `restore` has too; `config` is read instead of the bundle's config.json."""
    bundle, container_id = find_bundle(options.bundle, options.container_id)
    path = config or f"{bundle}/config.json"
    text = read_config(path)
    request = Request(container_id, bundle, parse_config(text, path), text)
    request.root = state_root(options)
    request.cgroup_manager = options.cgroup_manager or ("systemd" if options.systemd_cgroup else "")
    request.console_socket = options.console_socket
    request.pid_file = options.pid_file
    return request


def find_bundle(bundle: str, argument: str) -> tuple[str, str]:
    """(absolute bundle directory, id) of `-b DIR ID`, `ID`, `./BUNDLE`, `.`, `..` or `BUNDLE`."""
    if bundle:
        if not argument:
            raise RootlessError("a container ID is missing", hint="rootless run --bundle DIR ID")
        return os.path.abspath(bundle), check_id(argument)
    if argument and "/" in argument and not os.path.isdir(argument):
        check_id(argument)
    is_path = "/" in argument or argument in (".", "..")  # which no id may be
    named = is_path or not os.path.exists("config.json")
    if argument and named and os.path.isfile(f"{argument}/config.json"):
        directory = os.path.abspath(argument)
        container_id = os.path.basename(directory)
        try:
            return directory, check_id(container_id)
        except RootlessError as error:
            raise RootlessError(
                f"the bundle's name is no container ID ({error})", argument, hint="rootless run --bundle DIR ID"
            ) from None
    if is_path:
        raise RootlessError(
            "no config.json in the bundle", printable(argument), hint="rootless spec --bundle DIR makes one"
        )
    if not argument:
        here = os.path.exists("config.json")
        hint = "rootless run . takes the bundle of this directory" if here else "rootless run ./BUNDLE"
        raise RootlessError("a container ID or a bundle is missing", hint=hint)
    return os.getcwd(), check_id(argument)


def read_config(path: str) -> bytes:
    """The bytes of config.json. Raises RootlessError."""
    try:
        with open(path, "rb", buffering=0) as file:
            data = file.read(_CONFIG_LIMIT + 1) or b""
    except FileNotFoundError as error:
        raise RootlessError.from_os(error, "no config.json", path, "rootless spec makes one") from None
    except OSError as error:
        raise RootlessError.from_os(error, "cannot read the config", path) from None
    if len(data) > _CONFIG_LIMIT:
        raise RootlessError("the config is larger than 16 MiB", path)
    return data


def parse_config(text: bytes, path: str) -> dict[str, Any]:
    """config.json as an object. Raises RootlessError."""
    try:
        spec = jsonlite.loads(text)
    except ValueError as error:
        raise RootlessError(f"config.json is no JSON: {error}", path) from None
    if type(spec) is not dict:
        raise RootlessError("config.json holds no object", path)
    return spec


def print_plan(request: Request) -> int:
    """--dry-run: one numbered line a step, nothing is changed."""
    from rootless.plan.describe import describe

    made = compile_plan(request, Host())
    unset = cgroup.settle(made.cgroup)
    for line in [*made.process["warnings"], *filter(None, [unset])]:
        log.warn(line)
    write_all(1, ("\n".join(describe(made)) + "\n").encode("utf-8", "surrogateescape"))
    return 0
