"""Measure the floor of the throughput: the least Python that sets containers up, beside bubblewrap and rootless.

    python tests/bench/floor.py [ROUNDS]

The bare launcher below makes bubblewrap's mounts by ctypes, without a check or an error message. Each way runs in a
process of its own, in turn, 50 containers at once. Run it as an ordinary user in a cgroup v2 that the user owns: its
cpu.stat counts the processor time of all processes, so other work on the machine matters less than for containers a
second. docs/internals/startup.md has the figures.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import select
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.bench.python_api import BUBBLEWRAPS, peers, spawn
from tests.bench.runtime import make_bundle

MANY, AT_ONCE = 300, 50
libc = ctypes.CDLL(None, use_errno=True)
NAMESPACES = 0x20000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000
CLONE_PIDFD, CLONE3, PIVOT_ROOT = 0x1000, 435, 155  # x86-64
BIND, REC, SLAVE, NOSUID, NODEV, NOEXEC = 4096, 16384, 1 << 19, 2, 4, 8
UID_MAP, GID_MAP = b"0 %d 1\n" % os.getuid(), b"0 %d 1\n" % os.getgid()  # a new namespace has no ids before them
pidfd = ctypes.c_int(-1)
clone_args = (ctypes.c_uint64 * 11)(NAMESPACES | CLONE_PIDFD, ctypes.addressof(pidfd), 0, 0, 17)


def write(path: str, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY)
    os.write(fd, data)
    os.close(fd)


def mount(source: bytes | None, target: bytes, kind: bytes | None, flags: int, data: bytes | None = None) -> None:
    if libc.mount(source, target, kind, flags, data):
        raise OSError(ctypes.get_errno(), "mount", target)


def live(rootfs: bytes, end: int) -> None:
    """Be the small init of a container: bubblewrap's mounts, one program, its status."""
    write("/proc/self/setgroups", b"deny")
    write("/proc/self/uid_map", UID_MAP)
    write("/proc/self/gid_map", GID_MAP)
    os.setsid()
    mount(None, b"/", None, REC | SLAVE)
    mount(rootfs, rootfs, None, BIND | REC)
    os.chdir(rootfs)
    mount(b"proc", b"proc", b"proc", NOSUID | NODEV | NOEXEC)
    mount(b"tmpfs", b"dev", b"tmpfs", NOSUID, b"mode=755")
    for name in (b"null", b"zero", b"full", b"random", b"urandom", b"tty"):
        os.close(os.open(b"dev/" + name, os.O_CREAT | os.O_WRONLY, 0o644))
        mount(b"/dev/" + name, b"dev/" + name, None, BIND)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        os.symlink(f"/proc/self/fd/{number}", f"dev/{name}")
    os.symlink("/proc/self/fd", "dev/fd")
    os.symlink("pts/ptmx", "dev/ptmx")
    os.mkdir("dev/shm")
    os.mkdir("dev/pts")
    mount(b"devpts", b"dev/pts", b"devpts", NOSUID | NOEXEC, b"newinstance,ptmxmode=0666,mode=620")
    mount(b"tmpfs", b"tmp", b"tmpfs", NOSUID | NODEV, b"mode=1777")
    if libc.syscall(PIVOT_ROOT, b".", b".") or libc.umount2(b".", 2):
        raise OSError(ctypes.get_errno(), "pivot_root")
    os.chdir("/")
    os.closerange(3, end)
    os.closerange(end + 1, 200)
    pid = os.posix_spawn("/bin/true", ["true"], {})
    while os.waitpid(-1, 0)[0] != pid:
        pass
    os.write(end, b"S" + struct.pack("i", 0))


def clone(rootfs: bytes, end: int) -> tuple[int, int]:
    pid = libc.syscall(CLONE3, clone_args, 88)
    if pid == 0:
        try:
            live(rootfs, end)
        finally:
            os._exit(0)  # without the status, if it failed
    return pid, pidfd.value


def launch(rootfs: bytes, requests: socket.socket) -> None:
    """Clone a container for each request, and reap it."""
    poller, running = select.epoll(), {}
    poller.register(requests, select.EPOLLIN)
    while True:
        for fd, _ in poller.poll():
            if fd in running:
                os.waitpid(running.pop(fd), 0)
                poller.unregister(fd)
                os.close(fd)
                continue
            message, (*fds,), _, _ = socket.recv_fds(requests, 100, 1)
            if not message:
                return
            pid, new = clone(rootfs, fds[0])
            os.close(fds[0])
            running[new] = pid
            poller.register(new, select.EPOLLIN)


async def bare(rootfs: bytes) -> None:
    """Ask a bare launcher from an event loop, as async_run does."""
    requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork() == 0:
        requests.close()
        gc.freeze()
        launch(rootfs, theirs)
        os._exit(0)
    theirs.close()
    loop = asyncio.get_running_loop()

    async def one() -> None:
        end, its_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        socket.send_fds(requests, [b"go"], [its_end.fileno()])
        its_end.close()
        ready = loop.create_future()
        loop.add_reader(end, ready.set_result, None)
        await ready
        loop.remove_reader(end)
        if end.recv(64) != b"S" + struct.pack("i", 0):
            raise SystemExit("a bare container has failed")
        end.close()

    await many(one)
    requests.close()
    os.wait()


async def many(one: object, number: int = MANY) -> None:
    limit = asyncio.Semaphore(AT_ONCE)

    async def limited() -> None:
        async with limit:
            await one()  # type: ignore[operator]

    await asyncio.gather(*(limited() for _ in range(number)))


def processor_time() -> int:
    """Return the microseconds of this cgroup's processes so far."""
    own = next(line for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::"))
    text = Path(f"/sys/fs/cgroup{own[3:]}/cpu.stat").read_text()
    return int(text.split()[1])


def measure(way: str, bundle: Path) -> None:
    """Print ms of processor time for a container, and containers a second."""
    import rootless

    rootfs, words = bundle / "rootfs", peers(bundle, bundle / "rootfs").get("bubblewrap", ["true"])
    config = BUBBLEWRAPS if way == "rootless, same mounts" else None
    ways = {"bubblewrap": lambda: many(lambda: spawn(words)), "bare": lambda: bare(os.fsencode(rootfs))}
    start = ways.get(way) or (lambda: many(lambda: rootless.async_run(["true"], rootfs=rootfs, config=config)))
    if "rootless" in way:
        asyncio.run(many(lambda: rootless.async_run(["true"], rootfs=rootfs, config=config), AT_ONCE))
    used, began = processor_time(), time.perf_counter()
    asyncio.run(start())  # type: ignore[arg-type]
    took = time.perf_counter() - began
    time.sleep(0.1)  # the last processes end
    print((processor_time() - used) / MANY / 1000, MANY / took)


def main() -> None:
    """Run each way in turn, and print medians."""
    if len(sys.argv) == 3:
        return measure(sys.argv[1], Path(sys.argv[2]))
    found: dict[str, list[list[float]]] = {
        name: [] for name in ("bubblewrap", "bare", "rootless, same mounts", "rootless")
    }
    with tempfile.TemporaryDirectory() as directory:
        bundle = Path(directory) / "bundle"
        make_bundle(bundle, "1.0.2", "true")
        (bundle / "rootfs/tmp").mkdir()
        for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else 5):
            for name, figures in found.items():
                command = [sys.executable, __file__, name, str(bundle)]
                said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
                figures.append([float(word) for word in said.split()])
    base = [statistics.median(each) for each in zip(*found["bubblewrap"], strict=True)]
    for name, figures in found.items():
        used, rate = (statistics.median(each) for each in zip(*figures, strict=True))
        least = min(each for each, _ in figures)
        print(f"{name:22} {used:5.2f} ms of processor time, least {least:5.2f} (1/{used / base[0]:.2f})", end="")
        print(f"  {rate:5.0f} a second ({rate / base[1]:.2f})")


if __name__ == "__main__":
    main()
