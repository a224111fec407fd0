"""rootless.kernel.syscalls.unshare, os.unshare and the package `unshare` make the same new namespaces."""

import importlib
import os
from collections.abc import Callable

import pytest

from rootless.kernel import syscalls as sc

KINDS = {"user": sc.CLONE_NEWUSER, "uts": sc.CLONE_NEWUTS, "ipc": sc.CLONE_NEWIPC, "net": sc.CLONE_NEWNET,
         "mnt": sc.CLONE_NEWNS}  # fmt: skip


def changed(unshare: Callable[[int], object], flags: int) -> set[str]:
    """Return the namespaces in which a child is and this process is not."""
    before = {kind: os.readlink(f"/proc/self/ns/{kind}") for kind in KINDS}
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            unshare(flags)
            new = [kind for kind in KINDS if os.readlink(f"/proc/self/ns/{kind}") != before[kind]]
            os.write(writer, " ".join(new).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader) as file:
        found = set(file.read().split())
    os.waitpid(pid, 0)
    return found


def peers() -> dict[str, Callable[[int], object] | None]:
    try:
        package = importlib.import_module("unshare").unshare
    except ImportError:
        package = None
    return {"os.unshare": getattr(os, "unshare", None), "the package unshare": package}


@pytest.mark.parametrize("kinds", [["user"], ["user", "uts"], ["user", "net", "ipc"], list(KINDS)])
@pytest.mark.parametrize("peer", sorted(peers()))
def test_same_namespaces_as(peer: str, kinds: list[str]) -> None:
    call = peers()[peer]
    if call is None:
        pytest.skip(f"this machine lacks {peer}")
    flags = 0
    for kind in kinds:
        flags |= KINDS[kind]
    assert changed(sc.unshare, flags) == changed(call, flags) == set(kinds)
