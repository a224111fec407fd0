"""`make bench`: time run, create+start+delete, exec and state, beside crun and runc if they are installed.

The commands alternate in one run, so that a busy machine slows all of them alike. Compare the ratios only.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from oci.config import default_config

RUNS = int(os.environ.get("RUNS", "20"))
Call = Callable[[str, Path, Path, str], float]  # ms


def call(*command: object) -> float:
    """Run a command; return the milliseconds from its spawn to its end, without the preparations here.

    Its output is shown only if it fails. It goes to a file, because a created container keeps a pipe open.
    """
    with tempfile.TemporaryFile() as said, open(os.devnull, "rb") as nothing:
        words = [str(c) for c in command]
        streams = [(os.POSIX_SPAWN_DUP2, file.fileno(), fd) for fd, file in enumerate((nothing, said, said))]
        began = time.perf_counter()
        pid = os.posix_spawn(words[0], words, os.environ, file_actions=streams)
        _, status = os.waitpid(pid, 0)
        took = (time.perf_counter() - began) * 1000
        if status:
            said.seek(0)
            raise SystemExit(f"{' '.join(words)}: {said.read().decode()}")
        return took


def make_bundle(path: Path, version: str, *args: str) -> None:
    """Make the default rootless bundle around the host's busybox, with that program."""
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


def run(runtime: str, root: Path, bundle: Path, name: str) -> float:
    return call(runtime, "--root", root, "run", "--bundle", bundle, name)


def cycle(runtime: str, root: Path, bundle: Path, name: str) -> float:
    took = call(runtime, "--root", root, "create", "--bundle", bundle, name)
    took += call(runtime, "--root", root, "start", name)
    return took + call(runtime, "--root", root, "delete", "--force", name)


def execute(runtime: str, root: Path, bundle: Path, name: str) -> float:
    return call(runtime, "--root", root, "exec", "running", "true")


def state(runtime: str, root: Path, bundle: Path, name: str) -> float:
    return call(runtime, "--root", root, "state", "running")


def measure(action: Call, runtimes: dict[str, str], work: Path) -> dict[str, list[float]]:
    """Return the milliseconds of each run; the runtimes take turns."""
    times: dict[str, list[float]] = {name: [] for name in runtimes}
    for number in range(RUNS + 2):
        for name, program in runtimes.items():
            took = action(program, work / f"state-{name}", work / "bundle", f"b{number}")
            if number >= 2:
                times[name].append(took)
    return times


def figures() -> dict[str, dict[str, tuple[float, float]]]:
    """Return {command: {program: (minimum, median)}} in milliseconds, and those of a bare interpreter."""
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
        link = work / "link"  # as pipx makes it
        link.symlink_to(runtimes["rootless"])
        actions: dict[str, Call] = {"run": run, "create+start+delete": cycle, "exec": execute, "state": state}
        found: dict[str, dict[str, tuple[float, float]]] = {}
        for label, action in actions.items():
            if action in (execute, state):
                for name, program in runtimes.items():
                    call(program, "--root", work / f"state-{name}", "run", "-d", "-b", work / "sleeping", "running")
            try:
                times = measure(action, runtimes, work)
                if action is state:
                    both = {"bare": "/usr/bin/python3", "rootless": runtimes["rootless"], "by a link": str(link)}
                    bare = measure(lambda program, root, bundle, name: bare_or_state(program, work), both, work)
                    found["interpreter"] = {name: (min(v), statistics.median(v)) for name, v in bare.items()}
            finally:
                if action in (execute, state):
                    for name, program in runtimes.items():
                        call(program, "--root", work / f"state-{name}", "delete", "--force", "running")
            for name, values in times.items():
                line = f"{label:20} {name:9} min {min(values):6.1f} ms  median {statistics.median(values):6.1f} ms"
                if name != "rootless":
                    ours = times["rootless"]
                    line += f"  rootless/{name}: min {min(ours) / min(values):.2f}"
                    line += f", median {statistics.median(ours) / statistics.median(values):.2f}"
                print(line, flush=True)
            found[label] = {name: (min(values), statistics.median(values)) for name, values in times.items()}
        base = found["interpreter"]["bare"]
        for name, values in found["interpreter"].items():
            print(f"state {name:14} min {values[0]:6.1f} ms ({values[0] / base[0]:.2f} x a bare interpreter)", end="")
            print(f"  median {values[1]:6.1f} ms ({values[1] / base[1]:.2f})")
        return found


def bare_or_state(program: str, work: Path) -> float:
    """Time `python3 -I -S -c 0`, or the state of the container that runs."""
    if program.endswith("python3"):
        return call(program, "-I", "-S", "-c", "0")
    return call(program, "--root", work / "state-rootless", "state", "running")


if __name__ == "__main__":
    figures()
