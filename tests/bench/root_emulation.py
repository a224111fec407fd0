"""Measure root emulation, as docs/internals/root-emulation.md says: programs in containers, as ratios.

    TMPDIR=/dev/shm python tests/bench/root_emulation.py DEBIAN.tar [CHECKOUT]

Run it as a user with a range of subordinate ids. The user's own range is what the others are compared with. CHECKOUT:
another one of this project, such as one of an earlier commit, for a column of its own. It needs cc. Each program runs
RUNS times in each container, in turns.
"""

from __future__ import annotations

import io
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tests.bench.runtime import call

HERE = Path(__file__).resolve().parent
RUNS = int(os.environ.get("RUNS", "5"))
PROGRAMS = {
    "true": "true",
    "tar -x": "mkdir /tmp/x; tar -C /tmp/x -xf /owners.tar",
    "ls -lR /usr": "ls -lR /usr >/dev/null",
    "du -a /usr": "du -a /usr >/dev/null",
    "tar -c /usr/share": "tar -cf - /usr/share | cat >/dev/null",
    "find /": "find / -printf '%s %u\\n' >/dev/null 2>&1; true",
    "find /, 5 times": "for i in 1 2 3 4 5; do find / -printf '%s %u\\n' >/dev/null 2>&1; done; true",
}


def make_archive(path: Path) -> None:
    """Make a tar of 40,000 files of up to 2 kB, with owners that have no name."""
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as archive:
        for number in range(40200):
            directory, file = divmod(number, 201)
            info = tarfile.TarInfo(f"d{directory}/f{file}" if file else f"d{directory}")
            info.uid, info.gid, info.mtime = 1000 + file % 7, 1000 + file % 5, 1_700_000_000
            info.mode = 0o644 if file else 0o755
            info.type = tarfile.REGTYPE if file else tarfile.DIRTYPE
            info.size = file * 37 % 2000 if file else 0
            archive.addfile(info, io.BytesIO(b"x" * info.size))


def main() -> None:
    """Print a line for each program: seconds with a range, then the ratio of each other column, median and least."""
    ours = HERE.parents[1] / "bin/rootless"
    place = Path(tempfile.mkdtemp())
    try:
        make_archive(place / "owners.tar")
        subprocess.run(["cc", "-O2", "-static", "-o", place / "empty", HERE / "empty_supervisor.c"], check=True)
        for name, flags in (("range", ()), ("one", ("--owners", "xattr"))):
            call(sys.executable, "-IS", ours, "import", "-q", *flags, Path(sys.argv[1]).resolve(), "-o", place / name)
        # name: (runtime, bundle, flags, command before the program)
        columns: dict[str, tuple[Path, str, str, list[str]]] = {
            "range": (ours, "range", "--no-root-emulation", []),
            "errno": (ours, "one", "--root-emulation=errno", []),
            "empty": (ours, "range", "--no-root-emulation", ["/empty"]),
            "notify": (ours, "one", "--root-emulation=notify", []),
        }
        if len(sys.argv) > 2:
            columns["other"] = Path(sys.argv[2]).resolve() / "bin/rootless", "one", "--root-emulation=notify", []
        volumes = ["-v", f"{place}/owners.tar:/owners.tar:ro", "-v", f"{place}/empty:/empty:ro", "--tmpfs", "/tmp"]
        print(f"{'':20}", *(f"{column:>12}" for column in columns))
        for name, program in PROGRAMS.items():
            times: dict[str, list[float]] = {column: [] for column in columns}
            for _ in range(RUNS):
                for column, (runtime, bundle, flag, before) in columns.items():
                    words = ["run", flag, *volumes, "--name", f"bench-{os.getpid()}", place / bundle, "--", *before]
                    times[column].append(call(sys.executable, "-IS", runtime, *words, "sh", "-c", program))
            middle, least = statistics.median(times["range"]), min(times["range"])
            shown = [f"{statistics.median(t) / middle:.2f} ({min(t) / least:.2f})" for t in times.values()]
            shown[0] = f"{middle / 1000:.3f} s"
            print(f"{name:20}", *(f"{text:>12}" for text in shown), flush=True)
    finally:  # files of other ids in the range are removed by its root
        subprocess.run([sys.executable, "-IS", ours, "unshare", "rm", "-rf", place], check=False)


if __name__ == "__main__":
    main()
