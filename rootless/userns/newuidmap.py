"""Map ranges of ids with newuidmap(1) and newgidmap(1), because an ordinary user may map only the own id."""

from __future__ import annotations

from rootless.errors import RootlessError, errno_text
from rootless.kernel import syscalls as sc
from rootless.kernel.find_program import find_program
from rootless.startup import lean_os as os
from rootless.userns.refusals import explain_missing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.kernel.host import IdMap

_IGNORED = (13, 25)  # SIGPIPE and SIGXFSZ, which CPython ignores and a child would inherit


def run_helper(program: str, pid: int, id_map: IdMap, file: str) -> None:
    """Run newuidmap or newgidmap for the process `pid`. Raises RootlessError.

    file: /etc/subuid or /etc/subgid, which the hint names.
    """
    path = find_program(program)
    if not path:
        from rootless.kernel.hints import hint

        raise RootlessError(f"{program} is not installed", hint=hint("no-newuidmap").text)
    arguments = [program, str(pid), *(str(number) for entry in id_map for number in entry)]
    reader, writer = os.pipe2(os.O_CLOEXEC)
    try:
        # The descriptors that the caller passes on are for the container's program. Init, which was cloned before, has
        # them already, and the helper must not get them.
        sc.close_range(3, flags=sc.CLOSE_RANGE_CLOEXEC)
        actions = [(os.POSIX_SPAWN_DUP2, writer, 2), (os.POSIX_SPAWN_OPEN, 0, "/dev/null", 0, 0)]
        helper = os.posix_spawn(path, arguments, {}, file_actions=actions, setsigmask=(), setsigdef=_IGNORED)
    except OSError as error:
        raise RootlessError(f"cannot run {program}", path, error.errno or 0) from None
    finally:
        os.close(writer)
    with open(reader, "rb", buffering=0) as output:
        said = (output.read() or b"").decode("utf-8", "replace").strip()
    _, status = os.waitpid(helper, 0)
    if status:
        code = os.waitstatus_to_exitcode(status)
        from rootless.kernel.hints import hint

        raise RootlessError(
            f"{program} refused the map: {said or errno_text(code if code > 0 else 0)}",
            path,
            hint=explain_missing(f"{program[3:6]}_map", id_map) or hint("newuidmap-refuses", file=file, path=path).text,
        )
