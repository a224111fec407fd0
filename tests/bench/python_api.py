"""`make bench`: time containers from one Python process, beside bubblewrap, crun and runc spawned by subprocess.run.

The calls alternate in one process, so that a busy machine slows all of them alike. Compare the ratios only.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import rootless
from tests.bench.runtime import make_bundle

RUNS = int(os.environ.get("RUNS", "50"))
MANY = int(os.environ.get("MANY", "1000"))  # containers of the throughput, 50 at once
Figures = dict[str, float]
# The mounts that bubblewrap makes with the arguments of `peers`. The config that `spec` writes has more.
BUBBLEWRAPS = {
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance", "ptmxmode=0666"]},
        {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev", "mode=1777"]},
    ],
    "linux": {"maskedPaths": None, "readonlyPaths": None},
}


def alternate(calls: dict[str, Callable[[], object]]) -> dict[str, tuple[float, float]]:
    """Return (minimum, median) of each call in milliseconds."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(RUNS):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            times[name].append((time.perf_counter() - began) * 1000)
    return {name: (min(each), statistics.median(each)) for name, each in times.items()}


def peers(bundle: Path, rootfs: Path) -> dict[str, list[str]]:
    """Return the command of each peer that is installed, with the same namespaces and mounts."""
    found = {}
    if bwrap := shutil.which("bwrap"):
        mounts = ["--bind", str(rootfs), "/", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]
        found["bubblewrap"] = [bwrap, "--unshare-all", *mounts, "true"]
    for name in ("crun", "runc"):
        if program := shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin"):
            found[name] = [program, "--root", str(bundle / name), "run", "-b", str(bundle), f"bench-{os.getpid()}"]
    return found


async def throughput(start: Callable[[], object]) -> float:
    """Return the containers a second, 50 at once."""
    limit = asyncio.Semaphore(50)

    async def one() -> None:
        async with limit:
            await start()  # type: ignore[misc]

    began = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(MANY)))
    return MANY / (time.perf_counter() - began)


async def spawn(words: list[str]) -> None:
    process = await asyncio.create_subprocess_exec(*words)
    await process.wait()


def once(program: str) -> float:
    """Return what a fresh interpreter prints: milliseconds, or KB."""
    words = [sys.executable, "-c", program]
    done = subprocess.run(words, check=True, capture_output=True, text=True, cwd="/")
    return float(done.stdout)


def first_calls(rootfs: Path, crun: list[str] | None) -> dict[str, list[float]]:
    """Return the milliseconds of each process's first call, and of `crun run` in turn with them."""
    times: dict[str, list[float]] = {"first call": []}
    for _ in range(RUNS // 2):
        times["first call"].append(once(FIRST.format(rootfs=str(rootfs))))
        if crun:
            began = time.perf_counter()
            subprocess.run(crun, check=True)
            times.setdefault("crun beside it", []).append((time.perf_counter() - began) * 1000)
    return times


IMPORT = "import time; t = time.perf_counter(); import rootless; print((time.perf_counter() - t) * 1000)"
FIRST = """
import sys, time
t = time.perf_counter()
import rootless
rootless.run(["true"], rootfs={rootfs!r}, network="none", check=True)
print((time.perf_counter() - t) * 1000)
"""
MEMORY = """
import rootless
from rootless.api.client import launcher_pid
for _ in range(50):
    rootless.run(["true"], rootfs={rootfs!r}, network="none", check=True)
with open(f"/proc/{{launcher_pid()}}/status") as file:
    print(next(line.split()[1] for line in file if line.startswith("VmRSS")))
"""


def figures() -> dict[str, object]:
    """Measure and print; return it."""
    with tempfile.TemporaryDirectory() as directory:
        bundle = Path(directory) / "bundle"
        make_bundle(bundle, "1.0.2", "true")
        bundle.parent.chmod(0o755)
        rootfs = bundle / "rootfs"
        commands = peers(bundle, rootfs)
        sandbox = rootless.Sandbox(rootfs=rootfs, warm=1)

        def warm() -> None:
            while not sandbox._pool:
                time.sleep(0.001)
            sandbox.run(["true"])

        calls: dict[str, Callable[[], object]] = {
            name: lambda words=words: subprocess.run(words, check=True)  # type: ignore[misc]
            for name, words in commands.items()
        }
        calls["rootless.run"] = lambda: rootless.run(["true"], rootfs=rootfs, network="none", check=True)
        calls["Sandbox, warm"] = warm
        times = alternate(calls)
        sandbox.close()
        once(FIRST.format(rootfs=str(rootfs)))  # it makes the launcher's cache if that is missing, which takes a second
        time.sleep(2)
        starts = {"import": [once(IMPORT) for _ in range(RUNS // 2)], **first_calls(rootfs, commands.get("crun"))}
        memory = once(MEMORY.format(rootfs=str(rootfs))) / 1024
        rates = {"rootless": asyncio.run(throughput(lambda: rootless.async_run(["true"], rootfs=rootfs)))}
        few = asyncio.run(throughput(lambda: rootless.async_run(["true"], rootfs=rootfs, config=BUBBLEWRAPS)))
        rates["rootless, same mounts"] = few
        if "bubblewrap" in commands:
            rates["bubblewrap"] = asyncio.run(throughput(lambda: spawn(commands["bubblewrap"])))
    base = times.get("bubblewrap", times["rootless.run"])
    for name, (least, median) in times.items():
        print(
            f"{name:15} min {least:7.2f} ms ({least / base[0]:.2f})  median {median:7.2f} ms ({median / base[1]:.2f})"
        )
    for name, rate in rates.items():
        print(f"{name:22} {rate:7.1f} containers a second, 50 at once")
    for name, values in starts.items():
        beside = starts.get("crun beside it") if name == "first call" else None
        ratio = f"  rootless/crun: {statistics.median(values) / statistics.median(beside):.2f}" if beside else ""
        print(f"{name:15} min {min(values):7.2f} ms  median {statistics.median(values):7.2f} ms{ratio}")
    print(f"launcher        {memory:7.1f} MB resident")
    return {
        "calls": times,
        "containers a second, 50 at once": rates,
        "starts": {name: (min(values), statistics.median(values)) for name, values in starts.items()},
        "launcher, MB resident": round(memory, 1),
    }


if __name__ == "__main__":
    figures()
