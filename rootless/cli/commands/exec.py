"""`exec`: run another process in a container."""

from __future__ import annotations

from rootless.cli.containers import load
from rootless.errors import RootlessError, unexpected
from rootless.process.program import check_passed
from rootless.runtime.exec import ExecRequest, exec_in

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.cli.options import Options


def main(options: Options) -> int:
    """Run `rootless exec ID CMD ARG...` or `rootless exec --process FILE ID`."""
    request = ExecRequest(options.args, options.process)
    request.tty = options.tty
    request.env = options.env or []
    request.cwd = options.workdir or options.cwd
    request.user = options.user
    request.additional_gids = options.additional_gids or []
    request.cap = options.cap or []
    request.no_new_privs = options.no_new_privs
    request.apparmor = options.apparmor
    request.process_label = options.process_label
    request.cgroup = options.cgroup
    request.ignore_paused = options.ignore_paused
    request.detach = options.detach
    request.console_socket = options.console_socket
    request.pid_file = options.pid_file
    request.pidfd_socket = options.pidfd_socket
    request.preserve_fds = options.preserve_fds
    if options.env_file or any("=" not in entry for entry in request.env):
        from rootless.cli.settings import read_env

        request.env = read_env(options.env_file, request.env)
    try:
        if options.preserve_fds:
            check_passed(options.preserve_fds)
        container = load(options, lock=True)
        if any(part[:1].isalpha() or part[:1] == "_" for part in request.user.split(":")):
            from rootless.runtime.names import look_up

            ids = look_up(f"/proc/{container.pid}/root", request.user)  # the container's current root
            request.user, request.groups = f"{ids.uid}:{ids.gid}", ids.groups
        return exec_in(container, request)
    except (RootlessError, OSError) as error:
        failure = unexpected(error)
        failure.what = f"exec failed: {failure.what}"
        raise failure from error  # __main__.py exits with 255
