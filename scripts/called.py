"""Write rootless/startup/called.py: the functions that each hot command calls for an ordinary container.

    python scripts/called.py            # `make called`

It runs each hot command with the bundle that `spec` writes, as root and as an ordinary user, under a profile function
(sys.setprofile), which init and the joiner inherit, because they are copies of the runtime.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(CHECKOUT))

from oci.config import default_config  # noqa: E402
from rootless.startup.codecache import COMMANDS  # noqa: E402

# Runs bin/rootless and notes each function of ours at its first call, on standard error, which init does not close.
PROGRAM = """
import posix, sys
launcher = sys.argv[1]
seen = set()
def note(frame, event, argument):
    code = frame.f_code
    if event == "call" and code not in seen and "/rootless/" in code.co_filename:
        seen.add(code)
        posix.write(2, ("@ " + code.co_filename + " " + code.co_qualname + "\\n").encode())
with open(launcher) as file:
    code = compile(file.read(), launcher, "exec")
sys.argv = sys.argv[1:]
sys.setprofile(note)
exec(code, {"__name__": "__main__"})
"""
# Of root's calls alone, because an ordinary user's container has no limits unless config.json asks for some.
FOR_ROOT = ("rootless.cgroup.files", "rootless.cgroup.devices", "rootless.cgroup.bpf")
MACHINERY = [f"rootless.startup.{name}" for name in ("codecache", "leancode", "linking", "making", "hot", "called")]
HEAD = '''"""List the functions that each hot command calls for an ordinary container, by module.

The code caches hold these; any other function is loaded at its first call (leancode.py), which takes some 20
microseconds more. scripts/called.py writes this file: `make called`. It is not read while a command's cache is valid.
"""

# fmt: off
'''


def make_bundle(path: Path, *args: str) -> None:
    """Make the bundle that `spec` writes, around the host's busybox."""
    (path / "rootfs/bin").mkdir(parents=True)
    for name in ("proc", "sys", "dev"):
        (path / "rootfs" / name).mkdir()
    shutil.copy("/bin/busybox", path / "rootfs/bin/busybox")
    for name in ("true", "sleep"):
        (path / "rootfs/bin" / name).symlink_to("busybox")
    config = default_config(os.geteuid() != 0, os.geteuid(), os.getegid())
    config["process"]["terminal"] = False
    config["process"]["args"] = list(args)
    (path / "config.json").write_text(json.dumps(config))


def record(work: Path) -> dict[str, set[tuple[str, str]]]:
    """Return (module, function) of each call, by command."""
    make_bundle(work / "ends", "true")
    make_bundle(work / "sleeps", "sleep", "1000")
    calls: list[list[object]] = [
        ["create", "-b", work / "sleeps", "called"],
        ["state", "called"],
        ["start", "called"],
        ["exec", "called", "true"],
        ["kill", "called", "KILL"],
        ["delete", "--force", "called"],
        ["run", "-b", work / "ends", "called"],
        ["create", "-b", work / "sleeps", "called"],
        ["delete", "--force", "called"],
    ]
    called: dict[str, set[tuple[str, str]]] = {command: set() for command in COMMANDS}
    report = work / "report"
    for call in calls:
        command = [sys.executable, "-ISB", "-c", PROGRAM, CHECKOUT / "bin/rootless", "--root", work / "state"]
        with report.open("w") as said:  # a created container would hold a pipe open
            nothing = subprocess.DEVNULL
            words = [str(word) for word in (*command, *call)]
            done = subprocess.run(words, stdin=nothing, stdout=nothing, stderr=said, check=False)
        if done.returncode:
            raise SystemExit(report.read_text())
        for line in report.read_text().splitlines():
            if not line.startswith("@ "):
                continue
            path, name = line[2:].split(" ", 1)
            file = Path(path).resolve()
            if file.is_relative_to(CHECKOUT):
                module = ".".join(file.relative_to(CHECKOUT).with_suffix("").parts).removesuffix(".__init__")
                called[str(call[0])].add((module, name))
    return called


def main() -> None:
    """Print what this user's calls use as JSON (`--print`), or write the file, with an ordinary user's, too."""
    with tempfile.TemporaryDirectory() as directory:
        called = record(Path(directory))
    if os.geteuid() == 0:
        called = {command: {call for call in calls if call[0] not in FOR_ROOT} for command, calls in called.items()}
    if "--print" in sys.argv:
        print(json.dumps({command: sorted(names) for command, names in called.items()}))
        return
    for path in sys.argv[1:]:  # what --print said as another user
        for command, names in json.loads(Path(path).read_text()).items():
            called[command] |= {(module, name) for module, name in names}
    lines = [HEAD, "CALLED: dict[str, dict[str, str]] = {\n"]
    for command, names in called.items():
        lines.append(f'    "{command}": {{\n')
        modules: dict[str, list[str]] = {}
        for module, name in sorted(names):
            if module.startswith("rootless") and name != "<module>" and module not in MACHINERY:
                modules.setdefault(module, []).append(name)
        for module, functions in modules.items():
            lines.append(f'        "{module}":\n')
            lines += [f"            {json.dumps(text)}\n" for text in wrap(functions)]
            lines[-1] = lines[-1].rstrip("\n") + ",\n"
        lines.append("    },\n")
    (CHECKOUT / "rootless/startup/called.py").write_text("".join([*lines, "}\n"]))


def wrap(words: list[str]) -> list[str]:
    """Return the words as lines of at most 100 characters."""
    lines = [""]
    for word in words:
        if len(lines[-1]) + len(word) > 95:
            lines.append("")
        lines[-1] += f"{word} "
    lines[-1] = lines[-1].rstrip()
    return lines


if __name__ == "__main__":
    main()
