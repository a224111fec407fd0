"""Compare conversion with GNU tar, umoci and podman: 40,000 files and 600 MB, written to a tmpfs, in alternating runs.

python tests/oci/bench_convert.py [--files 40000] [--runs 3] [--svg docs/guide/convert.svg]

Print the least time of each, its ratio to `tar -x` of the same layers and ours to theirs, and the peak memory of ours.
Peers that are not installed are left out. umoci and podman get the gzip archive, which is what they are made for.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import os
import random
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
LAYERS = 4
Timed, After = Callable[[], int], Callable[[], object]
SIZES = [300, 900, 2000, 5000, 9000, 15000, 28000]  # and one file of 250 kB in forty


def make_layer(path: Path, number: int, files: int, rng: random.Random, text: bytes) -> None:
    """Write a layer of Python's own sources, cut up, because it compresses as programs do."""
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for index in range(files):
            if index % 40 == 0:
                info = tarfile.TarInfo(f"usr/l{number}/d{index // 40:04}")
                info.type, info.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(info)
            info = tarfile.TarInfo(f"usr/l{number}/d{index // 40:04}/file{index % 40:03}.py")
            info.size = 250_000 if index % 40 == 0 else rng.choice(SIZES)
            start = rng.randrange(len(text) - info.size)
            tar.addfile(info, io.BytesIO(text[start : start + info.size]))


def make_archive(path: Path, layers: list[Path], diff_ids: list[str]) -> None:
    rootfs = {"type": "layers", "diff_ids": diff_ids}
    config = json.dumps({"os": "linux", "architecture": "amd64", "config": {}, "rootfs": rootfs})
    names = [layer.name for layer in layers]
    manifest = json.dumps([{"Config": "config.json", "RepoTags": ["bench:1"], "Layers": names}])
    with tarfile.open(path, "w") as tar:
        for layer in layers:
            tar.add(layer, layer.name)
        for name, data in (("config.json", config), ("manifest.json", manifest)):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data.encode()))


def make_input(work: Path, files: int) -> dict[str, list[Path]]:
    rng = random.Random(1)
    sources = sorted(Path(os.__file__).parent.glob("*.py"))
    text = b"".join(source.read_bytes() for source in sources)
    plain, packed, diff_ids = [], [], []
    for number in range(LAYERS):
        path = work / f"l{number}.tar"
        make_layer(path, number, files // LAYERS, rng, text)
        with open(path, "rb") as source:  # in pieces: a child begins with the memory that its parent had, getrusage(2)
            diff_ids.append("sha256:" + hashlib.file_digest(source, "sha256").hexdigest())
        packed.append(work / f"l{number}.tar.gz")
        with open(path, "rb") as source, gzip.open(packed[-1], "wb", compresslevel=6) as out:
            shutil.copyfileobj(source, out)
        plain.append(path)
    make_archive(work / "plain.tar", plain, diff_ids)
    make_archive(work / "gzip.tar", packed, diff_ids)
    return {"plain": plain, "gzip": packed}


def run(*command: object, cwd: Path) -> int:
    """Run it; the most memory in KiB that it or one of its children had."""
    null = subprocess.DEVNULL
    with subprocess.Popen(list(map(str, command)), cwd=cwd, stdout=null, stderr=null) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{process.returncode} is the exit status of: {' '.join(map(str, command))}")
    return usage.ru_maxrss


def candidates(work: Path, layers: dict[str, list[Path]]) -> dict[str, tuple[Timed, After]]:
    """Return {name: (what is timed and returns its memory, what is done afterwards)}."""
    launcher = CHECKOUT / "bin/rootless"

    def extract(kind: str) -> Timed:
        def timed() -> int:
            (work / "out").mkdir()
            return max(run("tar", "-C", work / "out", "-xf", layer, cwd=work) for layer in layers[kind])

        return timed

    def convert(kind: str) -> Timed:
        return lambda: run(launcher, "convert", "-q", work / f"{kind}.tar", "-o", "out", cwd=work)

    def delete() -> None:
        shutil.rmtree(work / "out")

    def remove() -> None:
        run(launcher, "remove", "out", cwd=work)

    found = {
        "tar -x, plain": (extract("plain"), delete),
        "rootless, plain": (convert("plain"), remove),
        "tar -x, gzip": (extract("gzip"), delete),
        "rootless, gzip": (convert("gzip"), remove),
    }
    if shutil.which("umoci") and shutil.which("skopeo"):
        run("skopeo", "--insecure-policy", "copy", f"docker-archive:{work}/gzip.tar", "oci:layout:v1", cwd=work)
        found["umoci, gzip"] = (
            lambda: run("umoci", "unpack", "--rootless", "--image", "layout:v1", "out", cwd=work), delete,
        )  # fmt: skip
    if shutil.which("podman"):
        podman = ["podman", "--root", work / "s", "--runroot", work / "r", "--tmpdir", work / "t"]
        podman += ["--storage-driver", "vfs"]
        found["podman load, gzip"] = (
            lambda: run(*podman, "load", "-q", "-i", work / "gzip.tar", cwd=work),
            lambda: run(*podman, "rmi", "-af", cwd=work),
        )
    return found


def plot(path: Path, least: dict[str, float], base: dict[str, float]) -> None:
    """Write bars of the ratios to tar as an SVG."""
    rows = [(name, seconds / base[name]) for name, seconds in least.items()]
    widest = max(ratio for _, ratio in rows)
    size = f'width="640" height="{30 * len(rows) + 30}"'
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif">']
    for number, (name, ratio) in enumerate(rows):
        y = 30 * number + 10
        colour = "#2a7" if name.startswith("rootless") else "#999"
        lines.append(f'<text x="4" y="{y + 15}" font-size="13">{name}</text>')
        lines.append(f'<rect x="150" y="{y}" width="{max(2, 400 * ratio / widest):.0f}" height="20" fill="{colour}"/>')
        lines.append(f'<text x="{160 + 400 * ratio / widest:.0f}" y="{y + 15}" font-size="13">{ratio:.2f}</text>')
    legend = "wall time, tar -x of the same layers = 1"
    lines.append(f'<text x="150" y="{30 * len(rows) + 24}" font-size="12">{legend}</text></svg>')
    path.write_text("\n".join(lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=40_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--directory", default="/dev/shm", help="a tmpfs: on a disk write-back drowns everything")
    parser.add_argument("--svg", type=Path)
    arguments = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="bench-", dir=arguments.directory))
    os.environ["XDG_RUNTIME_DIR"] = str(work)
    try:
        timed = candidates(work, make_input(work, arguments.files))
        seconds: dict[str, list[float]] = {name: [] for name in timed}
        memory = dict.fromkeys(timed, 0)
        for _ in range(arguments.runs):
            for name, (start, after) in timed.items():
                begin = time.perf_counter()
                memory[name] = max(memory[name], start())
                seconds[name].append(time.perf_counter() - begin)
                after()
        least = {name: min(values) for name, values in seconds.items()}
        base = {name: least[f"tar -x, {name.rpartition(' ')[2]}"] for name in least}
        for name, value in least.items():
            ours = least[f"rootless, {name.rpartition(' ')[2]}"]
            compared = f"{value / base[name]:6.2f} x tar   rootless {ours / value:5.2f} x this"
            print(f"{name:<20} {value:8.2f} s  {memory[name] / 1024:5.0f} MB  {compared}")
        if arguments.svg:
            plot(arguments.svg, least, base)
    finally:
        for pause in work.rglob("pause.pid"):
            os.kill(int(pause.read_text()), 9)
        run(CHECKOUT / "bin/rootless", "unshare", "rm", "-rf", work, cwd=Path("/"))


if __name__ == "__main__":
    sys.exit(main())
