"""Write rootless/startup/called.py: what each hot command, and the API's launcher, calls and looks for.

    python scripts/called.py            # `make called`

It runs each hot command with the bundle that `spec` writes, as root and as an ordinary user, under a profile function
(sys.setprofile), which init and the joiner inherit, because they are copies of the runtime. Then it runs the commands
once more from caches that hold just what they have called. What these make late (linking.py), such as the handler of a
signal or a class without methods, is added.

The launcher serves some calls of the Python interface in the same way. Its containers close all descriptors, so it
notes the names in memory that they share with this script: a file.
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
    is_function = code.co_flags & 1  # CO_OPTIMIZED, which the body of a class has not
    if event == "call" and is_function and code not in seen and "/rootless/" in code.co_filename:
        seen.add(code)
        posix.write(2, ("@ " + code.co_filename + " " + code.co_qualname + "\\n").encode())
with open(launcher) as file:
    code = compile(file.read(), launcher, "exec")
sys.argv = sys.argv[1:]
sys.setprofile(note)
exec(code, {"__name__": "__main__"})
"""
# Runs bin/rootless with its cache and notes what is made late, in the same words.
NOTING = """
plain_maker = _maker
def _maker(names, late):
    make = plain_maker(names, late)
    def note(name):
        if name in late:
            posix.write(2, ("@ " + names["__file__"] + " " + name + "\\n").encode())
        return make(name)
    return note
"""
PROGRAM_WITH_CACHE = f"""
import sys
launcher = sys.argv[1]
with open(launcher) as file:
    text = file.read().replace("codecache.start()", "exec(noting, codecache.__dict__); codecache.start()")
sys.argv = sys.argv[1:]
exec(compile(text, launcher, "exec"), {{"__name__": "__main__", "noting": {NOTING!r}}})
"""
# Begins the launcher's own program (api/spawn.py). A name has the slot of its hash, or one of the next.
SLOT, SLOTS = 256, 1 << 14
SHARED = f"""
import mmap, posix, sys, zlib
with open(REPORT, "r+b") as file:
    memory = mmap.mmap(file.fileno(), 0)
def keep(text):
    if posix.getpid() > 2 and not OFTEN:  # in its pid namespace a container's process is 1 or 2
        return
    data = text.encode()[:{SLOT}].ljust({SLOT}, bytes(1))
    slot = zlib.crc32(data)
    while True:
        place = slot % {SLOTS} * {SLOT}
        if memory[place] == 0:
            memory[place : place + {SLOT}] = data
        if memory[place : place + {SLOT}] == data:
            return
        slot += 1
"""
SHARED_PROFILE = """
seen = set()
def note(frame, event, argument):
    code = frame.f_code
    if event == "call" and code.co_flags & 1 and code not in seen and "/rootless/" in code.co_filename:
        seen.add(code)
        keep("@ " + code.co_filename + " " + code.co_qualname)
sys.setprofile(note)
"""
# Stands where the launcher's program loads its code.
LOAD = "\nstart()\n"
LOAD_NOTING = """
plain_maker = codecache._maker
def noting_maker(names, late):
    make = plain_maker(names, late)
    def note(name):
        if name in late:
            keep("@ " + names["__file__"] + " " + name)
        return make(name)
    return note
codecache._maker = noting_maker
start()
"""
# The launcher's calls: first those that are most likely the first of a process, then others that programs make often.
# Of these only what the containers' own processes call is listed, because they load it anew each time. The calls of
# each kind are so many that there is a spare for the last ones.
CALLS = """
import asyncio, sys
sys.path.insert(0, sys.argv[1])
import rootless
from rootless.api import spawn
with open(sys.argv[3]) as file:
    spawn._PROGRAM = file.read() + spawn._PROGRAM.replace(*sys.argv[4:6])
rootfs = sys.argv[2]
few = {"linux": {"maskedPaths": None, "readonlyPaths": None}}
kinds = (
    {"rootfs": rootfs, "network": "none"}, {"rootfs": rootfs},
) if OFTEN else (
    {"rootfs": rootfs, "config": few}, {},
    {"rootfs": rootfs, "ephemeral": True}, {"rootfs": rootfs, "volumes": ["/usr:/usr:ro"], "tmpfs": ["/tmp"]},
    {"rootfs": rootfs, "seccomp": "default"}, {"rootfs": rootfs, "init": False},
)
for kind in kinds:
    for _ in range(5):
        rootless.run(["true"], **kind, check=True, capture_output=True, env={"PATH": "/bin"}, cwd="/")
async def together():
    await asyncio.gather(*(rootless.async_run(["true"], rootfs=rootfs) for _ in range(8)))
if OFTEN:
    asyncio.run(together())
else:
    with rootless.Popen(["sleep", "100"], rootfs=rootfs) as box:
        box.terminate()
    with rootless.Sandbox(rootfs=rootfs, warm=1) as sandbox:
        for _ in range(3):
            sandbox.run(["true"], input=b"")
"""
# Of root's calls alone, because an ordinary user's container has no limits unless config.json asks for some.
FOR_ROOT = ("rootless.cgroup.files", "rootless.cgroup.devices", "rootless.cgroup.bpf")
Called = dict[str, set[tuple[str, str]]]  # by command: (module, name)
MACHINERY = [f"rootless.startup.{name}" for name in ("codecache", "leancode", "linking", "making", "hot", "called")]
WIDTH = 120  # columns
HEAD = '''"""List what each hot command and the launcher call, and what else they look for, by module.

A key names the commands that all call what it lists, and no others do (making.py). The code caches hold these. Any
other function is loaded at its first call (leancode.py), any other class or table when it is looked for (linking.py),
which takes some 20 microseconds more. `make called` writes this file (scripts/called.py). It is not read while a
command's cache is valid.
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


def record(work: Path) -> Called:
    """Return what the commands call, and what else they look for."""
    make_bundle(work / "ends", "true")
    make_bundle(work / "sleeps", "sleep", "1000")
    called = run_commands(work, CHECKOUT, "-ISB", PROGRAM)
    copy = work / "copy"
    for name in ("bin", "rootless", "oci"):
        shutil.copytree(CHECKOUT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    write(called, copy)
    run_commands(work, copy, "-IS", PROGRAM_WITH_CACHE)  # this round makes the caches
    looked_for = run_commands(work, copy, "-IS", PROGRAM_WITH_CACHE)
    found = {command: called[command] | looked_for[command] for command in COMMANDS}
    found["launcher"] = run_launcher(work, CHECKOUT, SHARED_PROFILE, "\n")
    write(found, copy)
    run_launcher(work, copy, "", LOAD_NOTING)  # this round makes the cache
    found["launcher"] |= run_launcher(work, copy, "", LOAD_NOTING)
    return found


def run_launcher(work: Path, checkout: Path, notes: str, load: str) -> set[tuple[str, str]]:
    """Let a launcher of a checkout serve calls; return what it and the processes that it clones have noted.

    notes: what the launcher's program begins with; load: what stands in place of LOAD.
    """
    report, program = work / "report", work / "program"
    with report.open("wb") as file:
        file.truncate(SLOT * SLOTS)
    for often in (True, False):
        program.write_text(f"REPORT, OFTEN = {str(report)!r}, {often}\n{SHARED}{notes}")
        calls = CALLS.replace("OFTEN", str(often))
        words = [sys.executable, "-c", calls, checkout, work / "ends/rootfs", program, LOAD, load]
        subprocess.run(list(map(str, words)), check=True, stdin=subprocess.DEVNULL)
    data = report.read_bytes()
    lines = (data[place : place + SLOT].rstrip(b"\0").decode() for place in range(0, len(data), SLOT))
    return {found for line in lines if (found := noted(line, checkout))}


def noted(line: str, checkout: Path) -> tuple[str, str] | None:
    """Return the module and the name that a line has noted, None for another line or another file."""
    if not line.startswith("@ "):
        return None
    path, name = line[2:].split(" ", 1)
    file = Path(path).resolve()
    if not file.is_relative_to(checkout):
        return None
    return ".".join(file.relative_to(checkout).with_suffix("").parts).removesuffix(".__init__"), name


def run_commands(work: Path, checkout: Path, flags: str, program: str) -> Called:
    """Run each hot command of a checkout under a program; return what that has noted."""
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
    called: Called = {command: set() for command in COMMANDS}
    reports = [work / f"report-{number}" for number in range(len(calls))]
    for call, report in zip(calls, reports, strict=True):
        command = [sys.executable, flags, "-c", program, checkout / "bin/rootless", "--root", work / "state"]
        with report.open("w") as said:  # a created container would hold a pipe open
            nothing = subprocess.DEVNULL
            words = [str(word) for word in (*command, *call)]
            done = subprocess.run(words, stdin=nothing, stdout=nothing, stderr=said, check=False)
        if done.returncode:
            raise SystemExit(report.read_text())
    for call, report in zip(calls, reports, strict=True):  # now, because the init of `create` goes on after it
        for line in report.read_text().splitlines():
            if found := noted(line, checkout):
                called[str(call[0])].add(found)
    return called


def write(called: Called, checkout: Path) -> None:
    """Write called.py of a checkout."""
    lines = [HEAD, "CALLED: dict[str, dict[str, str]] = {\n"]
    for commands, modules in group(called).items():
        lines.append(f'    "{commands}": {{\n')
        for module, functions in modules.items():
            line = f'        "{module}": "{" ".join(functions)}",\n'
            if len(line) <= WIDTH:
                lines.append(line)
                continue
            lines.append(f'        "{module}":\n')
            lines += [f"            {json.dumps(text)}\n" for text in wrap(functions)]
            lines[-1] = lines[-1].rstrip("\n") + ",\n"
        lines.append("    },\n")
    (checkout / "rootless/startup/called.py").write_text("".join([*lines, "}\n"]))


def group(called: Called) -> dict[str, dict[str, list[str]]]:
    """Return the functions by the commands that call them, as words, and by module."""
    groups: dict[str, dict[str, list[str]]] = {}
    for module, name in sorted(set().union(*called.values())):
        if module.startswith(("rootless", "oci")) and name != "<module>" and module not in MACHINERY:
            commands = " ".join(command for command, names in called.items() if (module, name) in names)
            groups.setdefault(commands, {}).setdefault(module, []).append(name)
    return dict(sorted(groups.items()))


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
    write(called, CHECKOUT)


def wrap(words: list[str]) -> list[str]:
    """Return the words as texts that fit a line of the file, quoted and indented."""
    lines = [""]
    for word in words:
        if len(lines[-1]) + len(word) > WIDTH - 17:
            lines.append("")
        lines[-1] += f"{word} "
    lines[-1] = lines[-1].rstrip()
    return lines


if __name__ == "__main__":
    main()
