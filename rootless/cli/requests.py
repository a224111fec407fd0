"""Turn a command line into the request for `create`, `run` or `restore`. It is made once, and nobody writes to it."""

from __future__ import annotations

from rootless.cli.containers import state_root
from rootless.cli.setting_flags import IMAGE_ANNOTATION, SETTING_KEYS
from rootless.errors import RootlessError, printable
from rootless.runtime.bundle import CreateRequest, open_bundle, with_term
from rootless.startup import lean_os as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.cli.options import Options
    from rootless.plan.settings import Settings
    from rootless.runtime.bundle import Bundle


_DIGITS = 10  # more than any number of descriptors has
_SHELLS = ("sh", "bash", "ash", "dash", "zsh", "fish", "ksh", "busybox")


def read_request(options: Options) -> CreateRequest:
    """Return the request for `create`. Raises RootlessError."""
    timeout = read_timeout(options.timeout) if "timeout" in options.given else 0.0
    if options.config:
        from rootless.cli.streams import protect_stream

        protect_stream(options.config)
    bundle = open_bundle(options.bundle, options.container_id, options.config)
    return make_request(options, bundle, timeout=timeout, starts=False)


def read_restore_request(options: Options) -> CreateRequest:
    """Return the request for `restore`, which has none of the flags that change config.json. Raises RootlessError."""
    return CreateRequest(
        open_bundle(options.bundle, options.container_id),
        root=state_root(options),
        cgroup_manager=_cgroup_manager(options),
        console_socket=options.console_socket,
        pid_file=options.pid_file,
    )


def make_request(
    options: Options,
    bundle: Bundle,
    *,
    tty: bool = False,
    args: list[str] | None = None,
    image: str = "",
    source: str = "",
    timeout: float = 0.0,
    takes_name: bool = False,
    starts: bool = True,
    emulates_root: bool = False,
    detached: bool = True,
) -> CreateRequest:
    """Change the config as the flags ask, and return the request for `create` or `run`. Raises RootlessError.

    tty: give the program a terminal; args: the program and its arguments, in place of those in config.json; the others
    are as in CreateRequest.
    """
    if options.preserve_fds:
        from rootless.process.program import check_passed

        check_passed(options.preserve_fds)
    bundle, upper = _change_config(options, bundle, args, image, tty=tty)
    root = state_root(options)
    notify = bool(os.environ.get("NOTIFY_SOCKET"))
    if notify:
        from rootless.runtime.notify import extend_config

        extend_config(bundle, root)
    sockets = os.environ.get("LISTEN_FDS", "")
    return CreateRequest(
        bundle,
        root=root,
        cgroup_manager=_cgroup_manager(options),
        console_socket=options.console_socket,
        pidfd_socket=options.pidfd_socket,
        pid_file=options.pid_file,
        no_pivot=options.no_pivot,
        no_new_keyring=options.no_new_keyring,
        notify=notify,
        init=options.init,
        upper=upper,
        image=image,
        source=source,
        timeout=timeout,
        starts=starts,
        takes_name=takes_name,
        preserve_fds=options.preserve_fds,
        listen_fds=int(sockets) if sockets.isdecimal() and len(sockets) < _DIGITS else 0,
        emulates_root=emulates_root,
        detached=detached,
    )


def _change_config(
    options: Options, bundle: Bundle, args: list[str] | None, image: str, *, tty: bool
) -> tuple[Bundle, str]:
    """Return (the bundle with the config that the flags ask for, upper as in CreateRequest). Raises RootlessError."""
    upper = ""
    if image or not options.given.isdisjoint(SETTING_KEYS):
        from rootless.kernel.host import Host
        from rootless.plan.settings import apply_settings

        if options.ephemeral or image:
            from rootless.runtime.upper import choose_upper

            upper = choose_upper(options.ephemeral or "true", bundle)
        settings = _read_settings(options, bundle, args, image)
        settings.upper, args = upper, None
        bundle = bundle.with_spec(apply_settings(bundle.spec, settings, Host()))
        tty = tty or (bool(image) and _wants_terminal(options, bundle.spec))
    if tty or args or "tty" in options.given:
        process = bundle.spec.get("process")
        if isinstance(process, dict):
            if tty:
                process["terminal"] = True
                process["env"] = with_term(process.get("env"))
            elif "tty" in options.given:
                process["terminal"] = False
            if args:
                process["args"] = args
        bundle = bundle.with_spec(bundle.spec)
    return bundle, upper


def _cgroup_manager(options: Options) -> str:
    return options.cgroup_manager or ("systemd" if options.systemd_cgroup else "")


def read_timeout(text: str) -> float:
    """Return the seconds of --timeout. Raises RootlessError."""
    from rootless.kernel.units import parse_duration

    try:
        return parse_duration(text)
    except ValueError:
        hint = "such as 1.5s, 2m or 1m30s"
        raise RootlessError("not a duration", f"--timeout {printable(text)}", hint=hint) from None


def _read_settings(options: Options, bundle: Bundle, args: list[str] | None, image: str) -> Settings:
    """Return the settings that the flags, and an image, ask for. Raises RootlessError."""
    from rootless.cli.settings import read_settings

    settings = read_settings(options, bundle, args)
    settings.gives_names = True
    if image:
        settings.annotations = [f"{IMAGE_ANNOTATION}={image}", *(settings.annotations or [])]
    return settings


def _wants_terminal(options: Options, spec: dict[str, Any]) -> bool:
    """Return whether a user at a terminal runs an image whose program is a shell, without --tty=false."""
    process = spec.get("process")
    args = (process.get("args") if isinstance(process, dict) else None) or [""]
    is_shell = len(args) == 1 and os.path.basename(str(args[0])) in _SHELLS
    return is_shell and "tty" not in options.given and not options.detach and os.isatty(0) and os.isatty(1)
