"""Turn a command line into the request for `create`, `run` or `restore`."""

from __future__ import annotations

from rootless.cli.containers import state_root
from rootless.cli.setting_flags import IMAGE_ANNOTATION, SETTING_KEYS
from rootless.errors import RootlessError
from rootless.runtime.bundle import find_bundle, no_bundle, parse_config, read_config, with_term
from rootless.runtime.create import CreateRequest
from rootless.runtime.state import check_id
from rootless.startup import jsonlite
from rootless.startup import lean_os as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.cli.options import Options


_ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.zst", ".tar.xz", ".tar.bz2", ".tar.lz4")
_SHELLS = ("sh", "bash", "ash", "dash", "zsh", "fish", "ksh", "busybox")


def read_request(options: Options, *, tty: bool = False, args: list[str] | None = None) -> CreateRequest:
    """Read config.json and return the request for `create` or `run`. Raises RootlessError.

    tty: give the program a terminal; args: the program and its arguments, in place of those in config.json.
    """
    request = _read_host(options) or _read_image(options) or read_bundle(options, options.config)
    if request.image or not options.given.isdisjoint(SETTING_KEYS):
        _apply_settings(options, request, args)
        args = None
        tty = tty or (bool(request.image) and _wants_terminal(options, request))
    if tty or args or (not tty and "tty" in options.given):
        process = request.spec.get("process")
        if isinstance(process, dict):
            if tty:
                process["terminal"] = True
                process["env"] = with_term(process.get("env"))
            elif "tty" in options.given:
                process["terminal"] = False
            if args:
                process["args"] = args
        request.text = jsonlite.dumps(request.spec, 1).encode("utf-8", "surrogatepass")
    request.init = options.init
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


def _apply_settings(options: Options, request: CreateRequest, args: list[str] | None) -> None:
    """Apply the flags to the request's config. Raises RootlessError."""
    from rootless.cli.settings import read_settings
    from rootless.kernel.host import Host
    from rootless.plan.settings import apply_settings

    if request.image and args and not options.entrypoint:
        from rootless.cli.archive import entry_point

        args = [*entry_point(request.bundle), *args]
    settings = read_settings(options, request.spec, request.bundle, args)
    settings.gives_names = True
    if options.ephemeral or request.image:
        from rootless.runtime.upper import choose_upper

        settings.upper = request.upper = choose_upper(options.ephemeral or "true", request.container_id)
    if request.image:
        settings.annotations = [f"{IMAGE_ANNOTATION}={request.image}", *(settings.annotations or [])]
    request.spec = apply_settings(request.spec, settings, Host())
    request.text = jsonlite.dumps(request.spec, 1).encode("utf-8", "surrogatepass")


def _read_host(options: Options) -> CreateRequest | None:
    """Return the request of `run --host`, None without that flag. Raises RootlessError."""
    if options.command != "run" or not options.host:
        return None
    if options.bundle or options.config:
        raise RootlessError("--host has no bundle", options.bundle or options.config, hint="rootless run --host -- CMD")
    from rootless.kernel.host import Host
    from rootless.plan.host_system import host_system_config
    from rootless.userns.mount_userns import can_hide_owners

    as_root = options.user in ("root", "0")
    if as_root:
        options.given.discard("user")
    host = Host()
    spec = host_system_config(host, as_root=as_root, hide_owners=host.is_root_here and can_hide_owners("/etc"))
    root = state_root(options)
    container_id = check_id(options.name) if options.name else free_name(root, "host")
    request = CreateRequest(container_id, "/", spec, jsonlite.dumps(spec, 1).encode("utf-8", "surrogatepass"))
    _set_places(request, options)
    request.takes_name = not options.name
    return request


def _read_image(options: Options) -> CreateRequest | None:
    """Return the request of `run IMAGE`, None if the operand is an id or a bundle. Raises RootlessError.

    In a bundle's directory, an operand without a slash is an id, like with runc.
    """
    operand = options.container_id
    if options.command != "run" or options.bundle or not operand or os.path.exists(f"{operand}/config.json"):
        return None
    if "/" not in operand and operand != "-" and os.path.exists("config.json"):
        return None
    if operand != "-" and not operand.endswith(_ARCHIVES) and not os.path.exists(operand):
        if not options.config and not os.path.exists("config.json"):
            raise no_bundle(operand)
        return None
    from rootless.cli import archive

    if not operand.endswith(_ARCHIVES) and not archive.is_image(operand):
        return None
    if options.unpacked is None:
        options.unpacked = archive.unpack(operand, options.tag, options.platform)
    root = state_root(options)
    container_id = check_id(options.name) if options.name else free_name(root, options.unpacked.name)
    request = _request_of(options, options.unpacked.bundle, container_id, options.config)
    request.image = archive.image_name(request.bundle, operand)
    request.source = operand if operand != "-" else ""
    request.takes_name = not options.name
    return request


def _wants_terminal(options: Options, request: CreateRequest) -> bool:
    """Return whether a user at a terminal runs an image whose program is a shell, without --tty=false."""
    process = request.spec.get("process")
    args = (process.get("args") if isinstance(process, dict) else None) or [""]
    is_shell = len(args) == 1 and os.path.basename(str(args[0])) in _SHELLS
    return is_shell and "tty" not in options.given and not options.detach and os.isatty(0) and os.isatty(1)


def _is_anothers(bundle: str) -> bool:
    """Return whether another user owns a bundle's rootfs, and with it what a container would change."""
    uid = os.geteuid()
    try:
        return uid != 0 and os.stat(f"{bundle}/rootfs").st_uid != uid
    except OSError:
        return False


def _names_bundle(operand: str, bundle: str) -> bool:
    """Return whether the operand is the bundle's directory, not an id that the user has chosen."""
    return os.path.abspath(operand or ".") == bundle


def free_name(root: str, name: str) -> str:
    """Return the name, or NAME-2 and so on if containers, in any state, have the names before it."""
    number, free = 1, name
    while os.path.exists(f"{root}/{free}"):
        number += 1
        free = f"{name}-{number}"
    return free


def read_bundle(options: Options, config: str = "") -> CreateRequest:
    """Return a request with the flags that `restore` shares. Raises RootlessError.

    config: the file to read instead of the bundle's config.json, "" for that one.
    """
    name = options.name if options.command == "run" else ""
    bundle, container_id = find_bundle(options.bundle, options.container_id, config, name)
    root = state_root(options)
    takes_name = (
        options.command == "run" and not (name or options.bundle) and _names_bundle(options.container_id, bundle)
    )
    if takes_name:
        container_id = free_name(root, container_id)
    if options.command == "run" and not options.read_only and _is_anothers(bundle):
        from rootless.cli.foreign import own_copy

        bundle = own_copy(bundle)
        options.ephemeral = options.ephemeral or "true"
        options.given.add("ephemeral")
    request = _request_of(options, bundle, container_id, config)
    request.takes_name = takes_name
    return request


def _request_of(options: Options, bundle: str, container_id: str, config: str) -> CreateRequest:
    path = config or f"{bundle}/config.json"
    text = read_config(path)
    request = CreateRequest(container_id, bundle, parse_config(text, path), text)
    _set_places(request, options)
    return request


def _set_places(request: CreateRequest, options: Options) -> None:
    request.root = state_root(options)
    request.cgroup_manager = options.cgroup_manager or ("systemd" if options.systemd_cgroup else "")
    request.console_socket = options.console_socket
    request.pid_file = options.pid_file
