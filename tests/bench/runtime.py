"""`make bench`: run, create+start+delete, and exec, beside crun and runc where they are installed; minimum and median.

The commands alternate in one run, so that a busy machine disturbs all alike. Only the ratios mean anything.
"""

from __future__ import annotations

import json
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
from oci.config import default_config

RUNS = int(os.environ.get("RUNS", "20"))
Call = Callable[[str, Path, Path, str], None]


def call(*command: object) -> None:
    """Run it; what it says is only shown when it fails. A file takes it: a created container keeps a pipe open."""
    with tempfile.TemporaryFile() as said:
        done = subprocess.run(
            [str(c) for c in command], stdin=subprocess.DEVNULL, stdout=said, stderr=said, check=False
        )
        if done.returncode:
            said.seek(0)
            raise SystemExit(f"{' '.join(map(str, command))}: {said.read().decode()}")


def make_bundle(path: Path, version: str, *args: str) -> None:
    """The default rootless bundle around the host's busybox, with that program."""
    (path / "rootfs/bin").mkdir(parents=True)
    for name in ("proc", "sys", "dev"):
        (path / "rootfs" / name).mkdir()
    shutil.copy("/bin/busybox", path / "rootfs/bin/busybox")
    for name in ("true", "sleep"):
        (path / "rootfs/bin" / name).symlink_to("busybox")
    config = default_config(os.geteuid() != 0, os.geteuid(), os.getegid())
    config["process"]["terminal"] = False
    config["process"]["args"] = list(args)
    config["ociVersion"] = version
    for mount in config["mounts"]:  # peers pass an unmapped gid on, which is EINVAL
        mount["options"] = [o for o in mount.get("options", []) if o != "gid=5"]
    (path / "config.json").write_text(json.dumps(config))


def run(runtime: str, root: Path, bundle: Path, name: str) -> None:
    call(runtime, "--root", root, "run", "--bundle", bundle, name)


def cycle(runtime: str, root: Path, bundle: Path, name: str) -> None:
    call(runtime, "--root", root, "create", "--bundle", bundle, name)
    call(runtime, "--root", root, "start", name)
    call(runtime, "--root", root, "delete", "--force", name)


def execute(runtime: str, root: Path, bundle: Path, name: str) -> None:
    call(runtime, "--root", root, "exec", "running", "true")


def measure(action: Call, runtimes: dict[str, str], work: Path) -> dict[str, list[float]]:
    """Milliseconds of each run, the runtimes in turn."""
    times: dict[str, list[float]] = {name: [] for name in runtimes}
    for number in range(RUNS + 2):
        for name, program in runtimes.items():
            began = time.perf_counter()
            action(program, work / f"state-{name}", work / "bundle", f"b{number}")
            if number >= 2:
                times[name].append((time.perf_counter() - began) * 1000)
    return times


def main() -> None:
    """Print a table with the ratios to each peer."""
    checkout = Path(__file__).resolve().parents[2]
    own = checkout / ".venv/bin/rootless"
    runtimes = {"rootless": os.environ.get("ROOTLESS") or str(own if own.exists() else checkout / "bin/rootless")}
    runtimes |= {
        name: path for name in ("crun", "runc") if (path := shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin"))
    }
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        make_bundle(work / "bundle", "1.0.2", "true")
        make_bundle(work / "sleeping", "1.0.2", "sleep", "100000")
        actions: dict[str, Call] = {"run": run, "create+start+delete": cycle, "exec": execute}
        for label, action in actions.items():
            if action is execute:
                for name, program in runtimes.items():
                    call(program, "--root", work / f"state-{name}", "run", "-d", "-b", work / "sleeping", "running")
            try:
                times = measure(action, runtimes, work)
            finally:
                if action is execute:
                    for name, program in runtimes.items():
                        call(program, "--root", work / f"state-{name}", "delete", "--force", "running")
            for name, values in times.items():
                line = f"{label:20} {name:9} min {min(values):6.1f} ms  median {statistics.median(values):6.1f} ms"
                if name != "rootless":
                    ours = times["rootless"]
                    line += f"  rootless/{name}: min {min(ours) / min(values):.2f}"
                    line += f", median {statistics.median(ours) / statistics.median(values):.2f}"
                print(line)


if __name__ == "__main__":
    main()
