"""`make bench`: measure the command line and the Python interface; write docs/bench.json and two plots.

RUNS and MANY in the environment set how often (runtime.py, python_api.py). Run it as an ordinary user with a delegated
cgroup v2, on a machine that does nothing else.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(CHECKOUT))

from tests.bench import python_api, runtime  # noqa: E402

COLOURS = {"rootless": "#2a7", "rootless.run": "#2a7", "Sandbox, warm": "#2a7", "rootless, same mounts": "#2a7"}
Bars = list[tuple[str, str, float]]  # group, name, ratio


def plot(path: Path, title: str, bars: Bars) -> None:
    """Write horizontal bars in groups, with their numbers."""
    widest = max(ratio for _, _, ratio in bars)
    lines: list[str] = []
    y, group = 34, ""
    for name, label, ratio in bars:
        if name != group:
            y += 10
            lines.append(f'<text x="8" y="{y + 14}" font-weight="bold">{name}</text>')
            group = name
        width = max(2, 300 * ratio / widest)
        lines.append(f'<text x="190" y="{y + 14}">{label}</text>')
        lines.append(f'<rect x="300" y="{y}" width="{width:.0f}" height="18" fill="{COLOURS.get(label, "#999")}"/>')
        lines.append(f'<text x="{306 + width:.0f}" y="{y + 14}">{ratio:.2f}</text>')
        y += 22
    size = f'width="680" height="{y + 12}" font-family="sans-serif" font-size="13"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size}>'
    background = f'<rect width="680" height="{y + 12}" fill="#fff"/><text x="8" y="22" font-size="14">{title}</text>'
    path.write_text("\n".join([head, background, *lines, "</svg>"]) + "\n")


def command_line_bars(found: dict[str, dict[str, tuple[float, float]]]) -> Bars:
    """Return the medians of each command as ratios to the slowest peer's, runc's where it is installed."""
    bars: Bars = []
    for command, programs in found.items():
        base = programs.get("runc") or programs.get("bare") or programs["rootless"]
        bars += [(command, name, median / base[1]) for name, (_, median) in programs.items()]
    return bars


def python_bars(found: dict[str, object]) -> Bars:
    """Return the medians of one call, and the throughput, as ratios to bubblewrap's where it is installed."""
    calls, rates = found["calls"], found["containers a second, 50 at once"]
    assert isinstance(calls, dict)
    assert isinstance(rates, dict)
    base = calls.get("bubblewrap", calls["rootless.run"])
    bars: Bars = [("time of one call", name, median / base[1]) for name, (_, median) in calls.items()]
    rate = rates.get("bubblewrap", rates["rootless"])
    return bars + [("containers a second", name, value / rate) for name, value in rates.items()]


def version(program: str) -> str:
    """Return the first line of --version, "" if the program is not installed."""
    path = shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin")
    if not path:
        return ""
    return subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout.partition("\n")[0]


def main() -> None:
    """Measure, and write the three files."""
    command_line = runtime.figures()
    python = python_api.figures()
    report = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": {
            "kernel": platform.release(),
            "cpus": os.cpu_count(),
            "load before": round(os.getloadavg()[2], 1),
            "uid": os.geteuid(),
            "python": platform.python_version(),
            "peers": {name: version(name) for name in ("crun", "runc", "bwrap")},
        },
        "runs": {"command line": runtime.RUNS, "python": python_api.RUNS, "throughput": python_api.MANY},
        "command line, ms (minimum, median)": command_line,
        "python, ms (minimum, median)": python,
    }
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else CHECKOUT / "docs"
    text = json.dumps(report, indent=1, default=list)
    (folder / "bench.json").write_text(json.dumps(rounded(json.loads(text)), indent=1) + "\n")
    title = "time of a command, runc = 1; state and its start by a link: a bare python3 -IS = 1"
    plot(folder / "bench-command-line.svg", title, command_line_bars(command_line))
    title = "from one Python process: bubblewrap, spawned by subprocess.run, = 1"
    plot(folder / "bench-python.svg", title, python_bars(python))


def rounded(value: object) -> object:
    """Return plain data with two decimals at most."""
    if isinstance(value, float):
        return round(value, 2)
    if isinstance(value, list):
        return [rounded(item) for item in value]
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return value


if __name__ == "__main__":
    main()
