"""`checkpoint`: a running container as files, by criu."""

from __future__ import annotations

import errno
import os
from _stat import S_ISDIR
from fcntl import F_SETPIPE_SZ, fcntl

from rootless import plan
from rootless.cli.commands.delete import remove
from rootless.errors import RootlessError, printable
from rootless.kernel import syscalls as sc
from rootless.kernel.files import write_all
from rootless.kernel.host import Host
from rootless.node import Node
from rootless.plan.namespaces import NAMESPACES
from rootless.runtime import criu
from rootless.runtime.container import Container, load
from rootless.startup.jsonlite import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from rootless.cli.options import Options
    from rootless.plan import Plan

DESCRIPTORS = "descriptors.json"  # what the standard streams were, runc's name for it
EXTERNAL = {sc.CLONE_NEWNET: "extRootNETNS", sc.CLONE_NEWPID: "extRootPIDNS"}  # runc's keys
_LAZY_PIPE = 4 << 20  # bytes: what criu's page server asks of fcntl(2), rounded up as the kernel does
_FLAGS = ("tcp_established", "ext_unix_sk", "shell_job", "file_locks", "auto_dedup", "lazy_pages")


def main(options: Options) -> int:
    """`rootless checkpoint [--image-path DIR] ID`, with runc's flags and files."""
    path = criu.find(options.criu)
    with load(options, lock=True) as container:
        _checkpoint(options, path, container)
    return 0


def _checkpoint(options: Options, path: str, container: Container) -> None:
    status = container.status()
    if status not in ("running", "paused"):
        raise RootlessError(f"Container cannot be checkpointed in {status} state", f'"{container.container_id}"')
    asked = read_options(options, "dump.log") | _read_dump_options(options)
    status_fd = _status_fd(options)
    if not options.pre_dump:
        asked |= _describe(container)
        _write_descriptors(container, asked["images_dir_fd"])
    asked["pid"] = container.pid
    if container.cgroup_path:
        asked["freeze_cgroup"] = container.cgroup_path

    def notified(stage: str, _pid: int, _fds: list[int]) -> None:
        if stage == "status-ready" and status_fd >= 0:
            write_all(status_fd, b"\0")
            os.close(status_fd)

    session = criu.Session(path)
    session.log_path = log_path(options, "dump.log")
    try:
        session.request(criu.SINGLE_PRE_DUMP if options.pre_dump else criu.DUMP, asked, notified)
    finally:
        session.close()
    if not options.leave_running and not options.pre_dump:
        remove(container)


def read_options(options: Options, log_file: str) -> dict[str, Any]:
    """criu's options for the flags that checkpoint and restore share. Raises RootlessError."""
    if options.manage_cgroups_mode not in criu.CGROUP_MODES:
        raise RootlessError("invalid manage-cgroups-mode value", hint="soft, full, strict or ignore")
    for name in options.empty_ns or ():
        if name != "network":
            raise RootlessError(f"namespace {name!r} is not supported", hint="--empty-ns network")
    asked: dict[str, Any] = {
        "images_dir_fd": _open_directory(image_path(options)),
        "log_level": 4,
        "log_file": log_file,
        "notify_scripts": True,
        "manage_cgroups": True,
        "manage_cgroups_mode": criu.CGROUP_MODES[options.manage_cgroups_mode],
        "empty_ns": sc.CLONE_NEWNET,  # as runc: the network is somebody else's to set up again
        "orphan_pts_master": True,
        **{name: getattr(options, name) for name in _FLAGS},
    }
    if options.work_path:
        asked["work_dir_fd"] = _open_directory(options.work_path)
    return asked


def image_path(options: Options) -> str:
    """Where the images are."""
    return str(options.image_path or "checkpoint")


def log_path(options: Options, name: str) -> str:
    """Where criu logs."""
    return f"{os.path.abspath(options.work_path or image_path(options))}/{name}"


def config_file(made: Plan) -> dict[str, Any]:
    """runc's: the annotation org.criu.config names a file of criu's options, "" none."""
    named = made.annotations.get("org.criu.config", "/etc/criu/runc.conf")
    return {"config_file": named} if named else {}


def external_mounts(made: Plan) -> Iterator[tuple[str, str]]:
    """(place in the container, source on the host) of all that is bound into it from outside."""
    root = os.open(made.rootfs, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    here = os.readlink(f"/proc/self/fd/{root}")
    for step in made.prepare:
        if step[0] == "mount" and step[2]["bind"]:
            place = _resolve(root, here, step[2]["target"])
            if "]" in place:  # criu keeps "mnt[PLACE]:SOURCE", and reads it up to the first "]:" (CVE-2026-119101)
                raise RootlessError("criu cannot keep a mount's place with a ] in it", printable(place))
            yield place, os.path.realpath(step[2]["source"])
        elif step[0] in ("device", "outside_device"):
            yield step[2], step[2]
    os.close(root)


def _resolve(root: int, here: str, path: str) -> str:
    """A path of the container without its symbolic links: that is how criu knows a mount."""
    try:
        fd = sc.open_in_root(root, path, os.O_PATH)
    except OSError:
        return path  # on a file system of the container's own
    found = os.readlink(f"/proc/self/fd/{fd}").removeprefix(here)
    os.close(fd)
    return found or "/"


def _read_dump_options(options: Options) -> dict[str, Any]:
    asked: dict[str, Any] = {
        name: getattr(options, name) for name in ("leave_running", "tcp_skip_in_flight", "link_remap")
    }
    if options.parent_path:
        if options.parent_path.startswith("/"):
            raise RootlessError("--parent-path must be relative", options.parent_path, hint="to --image-path")
        parent = f"{image_path(options)}/{options.parent_path}"
        if not os.path.isdir(parent):
            raise RootlessError("invalid --parent-path", parent, errno.ENOENT)
        asked |= {"parent_img": options.parent_path, "track_mem": True}
    if options.page_server:
        address, _, port = options.page_server.rpartition(":")
        if not address or not port.isdecimal():
            raise RootlessError("Use --page-server ADDRESS:PORT to specify page server", options.page_server)
        asked["ps"] = [[(1, address.removeprefix("[").removesuffix("]")), (2, int(port))]]
    if options.lazy_pages:
        _check_lazy_pipe()
    return asked


def _check_lazy_pipe() -> None:
    """criu does not look whether it got this pipe: without it whoever asks for the memory would wait forever."""
    reader, writer = os.pipe()
    try:
        fcntl(reader, F_SETPIPE_SZ, _LAZY_PIPE)
    except PermissionError as error:
        raise RootlessError.from_os(
            error,
            "criu serves lazy pages through a pipe of 4 MiB, which is more than root may have here",
            "/proc/sys/fs/pipe-max-size",
            f"sysctl fs.pipe-max-size={_LAZY_PIPE}, or CAP_SYS_RESOURCE",
        ) from None
    finally:
        os.close(reader)
        os.close(writer)


def _status_fd(options: Options) -> int:
    if not options.status_fd:
        return -1
    try:
        os.fstat(int(options.status_fd))
    except (ValueError, OSError):
        raise RootlessError(f"invalid --status-fd argument {options.status_fd}", hint="an open descriptor") from None
    return int(options.status_fd)


def _describe(container: Container) -> dict[str, Any]:
    """What criu must know to leave it out: mounts from outside, masks, namespaces of others."""
    made = plan.compile(Node(container.config), Host(), bundle=container.state["bundle"])
    mounts = [(place, place) for place, _ in external_mounts(made)]
    root = os.open(f"/proc/{container.pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    mounts += [(step[2], "/dev/null") for step in made.enter if step[0] == "mask" and _is_file(root, step[2])]
    os.close(root)
    names = {flag: name for flag, name in NAMESPACES.values()}
    external = [
        f"{names[flag]}[{os.stat(path).st_ino}]:{EXTERNAL[flag]}"
        for flag, path, _ in made.namespaces.joins
        if flag in EXTERNAL
    ]
    return {
        "root": made.rootfs,
        "ext_mnt": [[(1, key), (2, value)] for key, value in mounts],
        "external": external,
        **config_file(made),
    }


def _is_file(root: int, path: str) -> bool:
    """Return whether a path of the container is there and is not a directory; its links stay inside the root."""
    try:
        fd = sc.open_in_root(root, path)
    except OSError:
        return False
    try:
        return not S_ISDIR(os.fstat(fd).st_mode)
    finally:
        os.close(fd)


def _write_descriptors(container: Container, images: int) -> None:
    found = [os.readlink(f"/proc/{container.pid}/fd/{number}") for number in range(3)]
    with open(os.open(DESCRIPTORS, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600, dir_fd=images), "w") as file:
        file.write(dumps(found))


def _open_directory(path: str) -> int:
    try:
        os.makedirs(path, 0o700, exist_ok=True)
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise RootlessError.from_os(error, "cannot open the directory", path) from None
