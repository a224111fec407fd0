"""`run`: create and start a container, wait for it, delete it."""

from __future__ import annotations

import errno

from rootless.cli.commands.create import print_plan
from rootless.cli.containers import state_root
from rootless.cli.requests import make_request, read_timeout
from rootless.errors import IdInUse, RootlessError, printable
from rootless.kernel.host import Host
from rootless.runtime.bundle import Bundle, find_bundle, load_bundle, no_bundle
from rootless.runtime.run import run
from rootless.runtime.state import check_id
from rootless.startup import codecache
from rootless.startup import lean_os as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rootless.cli.options import Options
    from rootless.runtime.bundle import CreateRequest

_OF_IMAGES = {  # flags that say nothing about the host's own system, and what they are about
    "ephemeral": "the host's own system is read-only, so there is nothing to discard",
    "tag": "the host's own system is no image, so there is none to choose",
    "platform": "the host's own system is no image, so there is none to choose",
}
_ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.zst", ".tar.xz", ".tar.bz2", ".tar.lz4")


def main(options: Options) -> int:
    """Run `rootless run [--detach] ID`, `run BUNDLE [-- CMD ARG...]`, or `run -- CMD ARG...` in a bundle."""
    if options.host:
        options.args = [*filter(None, [options.container_id]), *options.args]
        options.container_id = ""
    elif options.dashes:
        read_dashes(options)
    for flag, value in (("log-file", options.log_file), ("save-changes", options.save_changes)):
        if value == "" and flag.replace("-", "_") in options.given:
            raise RootlessError("a value is missing", f"--{flag} ''", hint=f"leave --{flag} out if it names no file")
    if options.log_file and not options.detach:
        raise RootlessError(
            "only a detached container has a log file", f"--log-file {options.log_file}", hint="--detach"
        )
    if options.keep and options.rm:
        raise RootlessError("one flag keeps the container, the other deletes it", "--keep --rm", hint="leave one out")
    keep = options.keep or ("rm" in options.given and not options.rm)
    timeout = read_timeout(options.timeout) if "timeout" in options.given else 0.0
    if options.config:
        from rootless.cli.streams import protect_stream

        protect_stream(options.config)
    while True:
        request = read_run_request(options, timeout)
        if options.dry_run:
            return print_plan(request)
        if request.image and not options.interactive and not (request.wants_terminal() and os.isatty(0)):
            _close_input()
        at_end = _saving(request, options.save_changes) if options.save_changes else None
        try:
            if options.detach and (_asks_for_monitor(options) or timeout or request.image or request.needs_helpers()):
                from rootless.runtime.monitor import run_monitored

                # It is kept unless --rm is given.
                code = run_monitored(request, Host(), options.log_file, keep=keep or "rm" not in options.given)
            else:
                code = run(request, Host(), codecache.load_later, keep=keep, at_end=at_end)
        except IdInUse:
            if not request.takes_name:
                raise
            continue  # another command has taken the id meanwhile
        except RootlessError as error:
            if options.host and error.errno in (0, errno.ENOENT) and error.where.startswith("/process/args"):
                error.hint = _bring_in(options.args[0]) or error.hint
            raise
        if request.takes_name and options.detach:
            from rootless.cli.output import tell

            tell(request.container_id)
        return code


def _bring_in(program: str) -> str:
    """Return the hint how to bring in a program that the container lacks and the host has, as below the home."""
    from rootless.api.program_errors import volumes_of

    volumes, path = volumes_of(program)
    flags = " ".join(f"-v {volume}" for volume in volumes)
    return flags if path == program or not flags else f"{flags}, and its path {path}"


def read_run_request(options: Options, timeout: float = 0.0) -> CreateRequest:
    """Return the request for `run`: of the host's own system, an image or a bundle. Raises RootlessError."""
    if options.host:
        return _of_host(options, timeout)
    return _of_image(options, timeout) or _of_bundle(options, timeout)


def _of_host(options: Options, timeout: float) -> CreateRequest:
    if options.bundle or options.config:
        raise RootlessError("--host has no bundle", options.bundle or options.config, hint="rootless run --host -- CMD")
    for flag, what in _OF_IMAGES.items():
        if getattr(options, flag):
            raise RootlessError(what, f"--{flag}", hint=f"leave --{flag} or --host out")
    from rootless.plan.host_system import host_system_config
    from rootless.userns.mount_userns import can_hide_owners

    as_root = options.user in ("root", "0")
    if as_root:
        options.given.discard("user")
    host = Host()
    spec = host_system_config(host, as_root=as_root, hide_owners=host.is_root_here and can_hide_owners("/etc"))
    container_id = check_id(options.name) if options.name else free_name(state_root(options), "host")
    return make_request(
        options, Bundle(container_id, "/", spec), tty=options.tty, args=options.args, timeout=timeout,
        takes_name=not options.name, emulates_root=True, detached=options.detach,
    )  # fmt: skip


def _of_image(options: Options, timeout: float) -> CreateRequest | None:
    """Return the request of `run IMAGE`, None if the operand is an id or a bundle. Raises RootlessError.

    In a bundle's directory, an operand without a slash is an id, like with runc.
    """
    operand = options.container_id
    if options.bundle or not operand or os.path.exists(f"{operand}/config.json"):
        return None
    if "/" not in operand and operand != "-" and os.path.exists("config.json"):
        return None
    if operand != "-" and not operand.endswith(_ARCHIVES) and not os.path.exists(operand):
        if not options.config and not os.path.exists("config.json"):
            raise no_bundle(operand)
        return None
    from oci.names import is_stream
    from rootless.cli import archive

    if not operand.endswith(_ARCHIVES) and not archive.is_image(operand):
        if not os.path.isdir(operand):
            raise RootlessError("neither a bundle nor an archive of images", printable(operand))
        if "/" not in operand and operand not in (".", "..") and not options.config:
            from rootless.kernel.closed import closed_above

            what = "the directory holds neither a bundle (config.json) nor an image (oci-layout)"
            hint = f"rootless spec --bundle {printable(operand)} writes a config.json"
            raise closed_above(f"{operand}/config.json") or RootlessError(what, printable(operand), hint=hint)
        return None
    if options.unpacked is None:
        options.unpacked = archive.unpack(operand, options.tag, options.platform)
    bundle = options.unpacked.bundle
    container_id = check_id(options.name) if options.name else free_name(state_root(options), options.unpacked.name)
    args = options.args
    if "entrypoint" in options.given:
        if not options.entrypoint and not args:  # docker: an empty one takes the image's words away, too
            hint = "--entrypoint PROGRAM, or words behind the image"
            raise RootlessError("no program is named", "--entrypoint ''", hint=hint)
    elif args:
        args = [*archive.entry_point(bundle), *args]
    return make_request(
        options,
        load_bundle(bundle, container_id, options.config),
        tty=options.tty,
        args=args,
        image=archive.image_name(bundle, operand),
        source="" if is_stream(operand) else operand,
        timeout=timeout,
        takes_name=not options.name,
        emulates_root=True,
        detached=options.detach,
    )


def _of_bundle(options: Options, timeout: float) -> CreateRequest:
    directory, container_id = find_bundle(options.bundle, options.container_id, options.config, options.name)
    # The operand may be the bundle's directory, or an id that the user has chosen. With --bundle it is an id, and the
    # working directory need not exist.
    unnamed = not (options.name or options.bundle)
    takes_name = unnamed and os.path.abspath(options.container_id or ".") == directory
    if takes_name:
        container_id = free_name(state_root(options), container_id)
    if not options.read_only and _is_anothers(directory):
        from rootless.cli.foreign import own_copy

        directory = own_copy(directory)
        options.ephemeral = options.ephemeral or "true"
        options.given.add("ephemeral")
    return make_request(
        options, load_bundle(directory, container_id, options.config), tty=options.tty, args=options.args,
        timeout=timeout, takes_name=takes_name, emulates_root=True, detached=options.detach,
    )  # fmt: skip


def _is_anothers(bundle: str) -> bool:
    """Return whether another user owns a bundle's rootfs, and with it what a container would change.

    The caller's subordinate ids own the root of an image that gives it to another user than root.
    """
    uid = os.geteuid()
    try:
        owner = os.stat(f"{bundle}/rootfs").st_uid
    except OSError:
        return False
    return uid not in (0, owner) and not any(first <= owner < first + size for first, size in Host().subuid)


def free_name(root: str, name: str) -> str:
    """Return the name, or NAME-2 and so on if containers, in any state, have the names before it."""
    number, free = 1, name
    while os.path.exists(f"{root}/{free}"):
        number += 1
        free = f"{name}-{number}"
    return free


def _close_input() -> None:
    """Give an image's program no standard input, like docker without -i. A bundle's program gets it, like with runc.

    With -t what is typed still reaches the program, because somebody who sees a terminal types into it.
    """
    null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    os.dup2(null, 0)
    os.close(null)


def _saving(request: CreateRequest, output: str) -> Callable[[], int]:
    """Return what saves the changes when the container has ended. Raises RootlessError if that cannot be."""
    from rootless.cli.save import check_saving, save_changes

    if request.detached:
        raise RootlessError(
            "the changes cannot be saved: with --detach no command waits for the end of the program",
            f"--save-changes {output}",
            hint="leave --detach out",
        )
    check_saving(request, output)
    return lambda: save_changes(request, output)


def _asks_for_monitor(options: Options) -> bool:
    return bool(options.log_file) or "rm" in options.given


def read_dashes(options: Options) -> None:
    """Interpret `run -- WORD...`, where the parser cannot tell whether the first word is an ID.

    In a bundle's directory, and without --bundle, all words are the program's, and that directory is the bundle.
    Elsewhere the first word is the ID or the bundle, like with runc, and a `--` after it is dropped.
    """
    if options.args and not options.bundle and os.path.exists("config.json"):
        options.container_id = "."
    elif options.args:
        options.container_id, *words = options.args
        options.args = words[1:] if words[:1] == ["--"] else words
