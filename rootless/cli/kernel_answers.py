"""Read what the kernel made of the steps of a plan, in /proc/PID of a container's init (`explain --trace`)."""

from __future__ import annotations

import os
import resource
from typing import TYPE_CHECKING, Any

from rootless.errors import printable
from rootless.kernel.namespaces import KINDS, NAMESPACES
from rootless.steps.binds import BindMount
from rootless.steps.cgroup import CreateCgroup
from rootless.steps.devices import BindDevice
from rootless.steps.file_systems import MountFileSystem
from rootless.steps.masks import MakePathReadonly, MaskPath
from rootless.steps.namespaces import CloneNamespaces, JoinNamespace, WriteIdMaps
from rootless.steps.process import (
    ChangeUser,
    SetCapabilities,
    SetNoNewPrivs,
    SetOomScore,
    SetRlimit,
    SetUmask,
)
from rootless.steps.root import AttachEmptyRoot, AttachRootfs, MakeRootReadonly, PivotRoot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rootless.steps import Step


class Kernel:
    """What /proc says of a process. What this user may not read is missing."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.status = dict(line.split(":\t", 1) for line in self.read("status").splitlines() if ":\t" in line)
        self.mounts: dict[str, str] = {}  # {mount point: description of the uppermost mount there}
        for line in self.read("mountinfo").splitlines():
            number, parent, device, _, path, options, *rest = line.split(" ")
            fstype = rest[rest.index("-") + 1]
            self.mounts[path] = f"mount {number}, on mount {parent}: {fstype}, device {device}, {options}"

    def read(self, name: str) -> str:
        """Return the text of a file of /proc/PID, "" if it cannot be read."""
        try:
            with open(f"/proc/{self.pid}/{name}", errors="surrogateescape") as file:
                return file.read()
        except OSError:
            return ""

    def namespace(self, kind: str) -> Iterator[str]:
        """Yield a namespace with its inode, and the one of this command."""
        name = NAMESPACES[kind][1]
        try:
            yield f"{os.readlink(f'/proc/{self.pid}/ns/{name}')}; outside {os.readlink(f'/proc/self/ns/{name}')}"
        except OSError:
            pass  # the program's user is another one to the host

    def mount(self, path: str) -> Iterator[str]:
        """Yield the mount at a path of the container, as mountinfo has it (proc(5))."""
        escaped = "".join(f"\\{ord(char):03o}" if char in " \t\n\\" else char for char in path)
        if escaped in self.mounts:
            yield self.mounts[escaped]

    def fields(self, *names: str) -> Iterator[str]:
        """Yield fields of /proc/PID/status."""
        yield from (f"{name}: {' '.join(self.status[name].split())}" for name in names if name in self.status)

    def answers(self, step: Step) -> list[str]:
        """Return what the kernel made of a step, as lines that are safe on a terminal."""
        answer = _ANSWERS.get(type(step))
        return [printable(line) for line in answer(self, step)] if answer else []


def _cgroup(kernel: Kernel, _step: CreateCgroup) -> Iterator[str]:
    paths = [line[3:] for line in kernel.read("cgroup").splitlines() if line.startswith("0::")]
    yield from (f"the kernel calls it {path}" for path in paths)


def _clone(kernel: Kernel, step: CloneNamespaces) -> Iterator[str]:
    yield f"init is process {kernel.pid} outside"
    for flag, kind in KINDS.items():
        if step.flags & flag:
            yield from kernel.namespace(kind)


def _id_maps(kernel: Kernel, _step: WriteIdMaps) -> Iterator[str]:
    for name in ("uid_map", "gid_map", "setgroups"):
        if text := kernel.read(name):
            yield f"{name}: {'; '.join(' '.join(line.split()) for line in text.splitlines())}"


def _covered(kernel: Kernel, step: MaskPath | MakePathReadonly) -> Iterator[str]:
    lines = list(kernel.mount(step.path))
    if not lines and kernel.mounts:  # it could be read
        lines = ["no mount is at this path, because nothing is there"]
    yield from lines


def _rlimit(kernel: Kernel, step: SetRlimit) -> Iterator[str]:
    try:
        soft, hard = resource.prlimit(kernel.pid, step.limit[0])
        yield f"soft {soft}, hard {hard}"
    except (OSError, ValueError):
        pass  # another user's process


def _oom_score(kernel: Kernel, _step: SetOomScore) -> Iterator[str]:
    if text := kernel.read("oom_score_adj"):
        yield f"oom_score_adj: {text.strip()}"


def _root(kernel: Kernel, _step: Step) -> Iterator[str]:
    return kernel.mount("/")


_ANSWERS: dict[type[Step], Callable[[Kernel, Any], Iterator[str]]] = {
    CreateCgroup: _cgroup,
    CloneNamespaces: _clone,
    JoinNamespace: lambda kernel, step: kernel.namespace(KINDS[step.flag]),
    WriteIdMaps: _id_maps,
    AttachRootfs: _root,
    AttachEmptyRoot: _root,
    MountFileSystem: lambda kernel, step: kernel.mount(step.target),
    BindMount: lambda kernel, step: kernel.mount(step.target),
    BindDevice: lambda kernel, step: kernel.mount(step.path),
    MakePathReadonly: _covered,
    MaskPath: _covered,
    MakeRootReadonly: _root,
    PivotRoot: _root,
    SetOomScore: _oom_score,
    SetRlimit: _rlimit,
    ChangeUser: lambda kernel, _step: kernel.fields("Uid", "Gid", "Groups"),  # as the reader's user namespace sees them
    SetUmask: lambda kernel, _step: kernel.fields("Umask"),
    SetCapabilities: lambda kernel, _step: kernel.fields("CapBnd", "CapEff"),
    SetNoNewPrivs: lambda kernel, _step: kernel.fields("NoNewPrivs"),
}
