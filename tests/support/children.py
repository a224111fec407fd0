"""Run something in a forked child, whose attributes and namespaces nobody else inherits."""

import os
import sys
import traceback
from collections.abc import Callable


def answer_of(body: Callable[[], object]) -> tuple[str, int]:
    """Return (repr of what body returns, the child's exit code or minus its signal). It prints tracebacks."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(write_end, repr(body()).encode())
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
        os._exit(0)
    os.close(write_end)
    with open(read_end) as file:
        answer = file.read()
    return answer, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def succeeds(body: Callable[[], object]) -> None:
    """Assert that body ends in the child without an exception."""
    assert answer_of(body)[1] == 0
