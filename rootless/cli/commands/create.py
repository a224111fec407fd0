"""`create`: set up a container from a bundle, so that only `start` is missing."""

from __future__ import annotations

from rootless import log
from rootless.cli.requests import read_request
from rootless.kernel.files import close_at_last, write_out
from rootless.kernel.host import Host
from rootless.runtime.create import compile_plan, create

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.cli.options import Options
    from rootless.runtime.bundle import CreateRequest


def main(options: Options) -> int:
    """Run `rootless create [-b DIR] ID`, or `rootless create BUNDLE`."""
    request = read_request(options)
    if options.dry_run:
        return print_plan(request)
    if options.rm or request.needs_monitor():
        from rootless.runtime.monitor import run_monitored

        return run_monitored(request, Host(), keep=not options.rm)
    created = create(request, Host())
    close_at_last(created.pidfd)
    created.container.close()
    return 0


def print_plan(request: CreateRequest) -> int:
    """Print the plan for --dry-run, one numbered line for each step, and change nothing."""
    from rootless.plan.describe import describe

    plan = compile_plan(request, Host())
    for line in [*plan.warnings, *filter(None, [plan.cgroup.refusal])]:
        log.warn(line)
    write_out(("\n".join(describe(plan)) + "\n").encode("utf-8", "surrogateescape"))
    return 0
