"""Find what killed commands have left, and remove it: states of ended containers, and half-written cache entries."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from oci.cache import Cache
from oci.private import open_private
from rootless import log
from rootless.cli import image_store, old_code
from rootless.cli.doctor import lost
from rootless.cli.images import translated
from rootless.errors import NoSuchContainer, RootlessError
from rootless.kernel import cgroup_view
from rootless.kernel.host import Host
from rootless.runtime import upper
from rootless.runtime.caches import cache_directory
from rootless.runtime.container import Container, load
from rootless.runtime.delete import delete, load_by_force, noted_mounts
from rootless.runtime.state import StateDir, ids
from rootless.steps.places import is_attached
from rootless.userns import job
from rootless.userns.run import default_maps

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rootless.runtime.container import State

_KEEP_ALL = 1 << 62  # a limit of bytes that no cache reaches, so only what is half-written goes


class Residue:
    """One thing that is left. kind: mount, container, root, image, layer, code or cgroup; place: an ID or a path."""

    __slots__ = ("kind", "place")

    def __init__(self, kind: str, place: str) -> None:
        self.kind = kind
        self.place = place


def find(root: str) -> list[Residue]:
    """Return what is left; nothing is changed. Raises RootlessError."""
    ended = [container_id for container_id in ids(root) if _has_ended(root, container_id)]
    residues = [Residue("mount", path) for container_id in ended for path in _mounts(root, container_id)]
    residues += [Residue("container", container_id) for container_id in ended]
    running = {state for _, state in lost.running()}  # its throw-away root is in use, although no state says so
    residues += [Residue("root", path) for path in upper.abandoned() if upper.owner(path) not in running]
    store = cache_directory("images")
    residues += [Residue("image", f"{store}/{name}") for name in _half_written(store) if not name.endswith(".lock")]
    layers = Cache().directory
    residues += [Residue("layer", f"{layers}/{name}") for name in _half_written(layers) if name != ".lock"]
    residues += [Residue("code", code.package) for code in old_code.kept()]
    residues += [Residue("cgroup", path) for path in _cgroups(root)]
    residues += [Residue("cgroup", path) for path in _nameless()]
    return residues


def _has_ended(root: str, container_id: str) -> bool:
    """Return whether no process of a container and no command on it runs."""
    try:
        directory = StateDir.open(root, container_id)
    except RootlessError:
        return False  # it is gone by now, or it is not a container
    try:
        if directory.lock.is_held_by_another():
            return False
        creating: State = {"creating": True}
        try:
            state = directory.read("state.json") or creating
        except RootlessError as error:
            log.debug(str(error))
            pid, start_time = directory.noted_init()
            state = {**creating, "pid": pid, "start_time": start_time}
        return Container(directory, state).status() == "stopped"
    finally:
        directory.close()


def _mounts(root: str, container_id: str) -> list[str]:
    """Return the rootfs of a container if something of it is mounted there, in this mount namespace.

    Only root's container without a mount namespace mounts in the caller's. All other mounts of a container, of a
    command and of its helpers are in mount namespaces that end with their last process, or are attached nowhere.
    """
    try:
        directory = StateDir.open(root, container_id)
    except RootlessError:
        return []
    try:
        rootfs, before = noted_mounts(directory)
        return [rootfs] if rootfs and is_attached(rootfs, before) else []
    except OSError:
        return []  # the bundle is gone, and what is mounted there cannot be reached by its path
    finally:
        directory.close()


def _half_written(store: str) -> list[str]:
    try:
        fd = open_private(store)
    except OSError:
        return []  # another user's, or a link to elsewhere: commands do not use it, and nothing in it is removed
    try:
        return sorted(name for name in os.listdir(fd) if name.startswith("."))
    finally:
        os.close(fd)


def _cgroups(root: str) -> Iterator[str]:
    """Yield the cgroups that a container's notes name, that are empty, and whose container has ended."""
    if not cgroup_view.read().mount:
        return
    for container_id in ids(root):
        try:
            directory = StateDir.open(root, container_id)
        except RootlessError:
            continue
        try:
            path, _, inode = directory.noted_cgroup()
        finally:
            directory.close()
        if path and inode and os.path.isdir(path) and os.stat(path).st_ino == inode and _has_ended(root, container_id):
            yield path


def _nameless() -> list[str]:
    """Return the empty cgroups that a runtime of this user has made, and whose state directory is gone; deepest first.

    Only cgroups where this user's containers come to lie are looked at, and only those that the user owns.
    """
    nameless: dict[str, None] = {}
    for path in lost.candidates():
        # A cgroup below it that is not ours keeps it.
        if _is_nameless(path) and nameless.keys() >= set(lost.children(path)):
            nameless[path] = None
    return list(nameless)


def _is_nameless(path: str) -> bool:
    """Return whether a cgroup is empty, ours, and of a container whose state directory is gone.

    `create` makes the state directory before the cgroup, and `delete` removes it after the cgroup. So the state is
    looked for first: a cgroup that is still there afterwards is left over. A new one may have its path by then.
    """
    try:
        before = os.stat(path)
        if not lost.gone_state(path):
            return False
        with open(f"{path}/cgroup.procs") as procs:
            return not procs.read() and os.stat(path).st_ino == before.st_ino
    except OSError:
        return False


def remove(root: str, residues: list[Residue]) -> int:
    """Remove the residues; return how many could not be removed. Each failure is a line on standard error."""
    failed = 0
    for residue in residues:
        try:
            if residue.kind == "container":
                _delete(root, residue.place)
            elif residue.kind == "root":
                upper.remove_upper(residue.place)
            elif residue.kind == "cgroup":
                with contextlib.suppress(FileNotFoundError):  # it went with its container
                    os.rmdir(residue.place)
        except OSError as error:
            log.error(RootlessError.from_os(error, "cannot remove the cgroup", residue.place).message())
            failed += 1
        except NoSuchContainer:
            continue  # another command was faster
        except RootlessError as error:
            log.error(error.message())
            failed += 1
    old_code.prune()
    if any(residue.kind in ("image", "layer") for residue in residues):
        failed += _prune(root)
    return failed


def _delete(root: str, container_id: str) -> None:
    """Delete a container as `delete --force` does, if it still has ended. Its cgroup goes with it."""
    try:
        loaded = load(root, container_id, lock=True)
    except NoSuchContainer:
        raise
    except RootlessError:  # a damaged state
        loaded = load_by_force(root, container_id)
    with loaded as container:
        if container.status() == "stopped":
            delete(container, force=True)


def _prune(root: str) -> int:
    """Remove half-written entries of the caches, as `cache prune` does, and keep all that is whole."""
    used = image_store.busy(root)

    def prune() -> int:
        with translated():
            Cache().prune(_KEEP_ALL)
            image_store.prune(_KEEP_ALL, used)
        return 0

    host = Host()
    return 1 if job.run_interruptible(prune, ([], []) if host.is_root_here else default_maps(host)) else 0
