"""Two processes and the lock of a state directory: flock(2)."""

import os
from pathlib import Path

from rootless.errors import NoSuchContainer
from rootless.runtime.state import StateDir


def test_who_waited_for_a_deleted_one_is_told(tmp_path: Path) -> None:
    """A command that waited for the lock of a directory that is deleted fails like one that comes later: it does not
    exist.
    """
    root = str(tmp_path / "s")
    holder = StateDir.make(root, "c")
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        holder.close_copy()  # LOCK_UN would give up the parent's lock too: flock(2)
        os.write(writer, b"x")
        try:
            StateDir.open(root, "c", lock=True)
        except NoSuchContainer:
            os._exit(7)
        os._exit(1)
    os.read(reader, 1)
    holder.remove()
    holder.close()
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 7
    os.close(reader)
    os.close(writer)
