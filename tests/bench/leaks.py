"""Run 10,000 containers through one launcher and compare what it holds before and after (make bench-leaks).

    python tests/bench/leaks.py [10000]

It prints the resident memory of the launcher and of its last worker, open descriptors, children (the worker is one),
their zombies, files of the bundle and of the runtime directory, and cgroups of this user, at five points of the
way. It fails if any of them has grown, the memory by more than 1 MB.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import rootless
from rootless.api.client import launcher_pid
from tests.bench.runtime import make_bundle

_MOST_GROWTH = 1 << 10  # KB of resident memory after the first tenth of the runs


def processes() -> list[tuple[int, int, str]]:
    """Return (pid, parent, state) of this user's processes."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if path.stat().st_uid == os.geteuid():
                state, parent = (path / "stat").read_text().rpartition(")")[2].split()[:2]
                found.append((int(path.name), int(parent), state))
        except OSError:
            pass  # it has ended meanwhile
    return found


def own_cgroups() -> int:
    """Count the cgroups that launchers have made for containers."""
    return sum(1 for path, names, _ in os.walk("/sys/fs/cgroup") for name in names if name.startswith("rootless-"))


def resident(pid: int) -> int:
    """Return the resident memory of a process in KB."""
    return int(Path(f"/proc/{pid}/status").read_text().partition("VmRSS:")[2].split()[0])


def workers(launcher: int) -> list[int]:
    """Return the pids of a launcher's workers."""
    children = [pid for pid, parent, state in processes() if parent == launcher and state != "Z"]
    return [pid for pid in children if "worker" in Path(f"/proc/{pid}/comm").read_text()]


def figures(launcher: int, folders: list[Path]) -> dict[str, int]:
    """Return what the launcher and this process hold now."""
    all_of_us = processes()
    return {
        "launcher, KB resident": resident(launcher),
        "worker, KB resident": sum(map(resident, workers(launcher))),
        "descriptors of the launcher": len(os.listdir(f"/proc/{launcher}/fd")),
        "descriptors here": len(os.listdir("/proc/self/fd")),
        "children of the launcher": sum(parent == launcher for _, parent, _ in all_of_us),
        "zombies": sum(state == "Z" and parent in (launcher, os.getpid()) for _, parent, state in all_of_us),
        "files": sum(1 for folder in folders for _ in folder.rglob("*")),
        "cgroups": own_cgroups(),
    }


def main() -> int:
    """Run, print, compare; return the exit code."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with tempfile.TemporaryDirectory() as directory:
        make_bundle(Path(directory) / "bundle", "1.0.2", "true")
        rootfs = Path(directory) / "bundle/rootfs"
        folders = [Path(directory), *filter(Path.is_dir, [Path(os.environ.get("XDG_RUNTIME_DIR", "/nonexistent"))])]

        def one(_: int) -> int:
            return rootless.run(["true"], rootfs=rootfs, network="none").returncode

        points = []
        with ThreadPoolExecutor(4) as pool:
            for part in range(6):
                todo = range(count // 10 if part == 0 else (count - count // 10) // 5)
                assert not any(pool.map(one, todo))
                time.sleep(2)  # the last containers are just being taken away, and all workers but one end
                points.append(figures(launcher_pid(), folders))
                print(f"part {part}: " + ", ".join(f"{name} {value}" for name, value in points[-1].items()), flush=True)
    first, last = points[0], points[-1]
    allowed = {name: _MOST_GROWTH if "KB" in name else 0 for name in first}
    grown = [name for name in first if last[name] - first[name] > allowed[name]]
    if grown:
        print(f"grown: {', '.join(grown)}")
    return 1 if grown else 0


if __name__ == "__main__":
    sys.exit(main())
