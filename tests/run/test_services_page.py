"""Replay docs/guide/services.md: every block, with stand-ins for the programs that need a running systemd.

As far as systemd works without a session, it checks what the stand-ins are given: `systemd-analyze --user verify` reads
each unit, with the properties and the command of the page. Then the unit's command runs as it is.
tests/vm/test_service.py has a session.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.checkout import CHECKOUT, TIMEOUT
from tests.support.containers import Rootless
from tests.support.processes import until

PAGE = (CHECKOUT / "docs/guide/services.md").read_text()
UNIT = CHECKOUT / "contrib/systemd/rootless@.service"


def commands() -> list[str]:
    blocks = re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)
    return [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]


class Systemd:
    """Run what the page types in one directory; units are processes that the test ends."""

    def __init__(self, place: Path, rootless: Rootless) -> None:
        self.work, self.rootless = place, rootless
        self.log = place / "log"
        stand_in = (
            '#!/bin/sh\nfor word in "$0" "$@"; do printf "%s\\0" "$word"; done >>"$ASKED"; printf "\\n" >>"$ASKED"\n'
        )
        (place / "bin").mkdir()
        for name in ("systemd-run", "systemctl", "journalctl"):
            (place / "bin" / name).write_text(stand_in)
            (place / "bin" / name).chmod(0o755)
        path = f"{place}/bin:{CHECKOUT}/bin:{os.environ['PATH']}"
        more = {"PATH": path, "HOME": str(place), "ASKED": str(place / "asked"), "ROOTLESS_ROOT": str(rootless.state)}
        self.environment = {**os.environ, **more, "XDG_CACHE_HOME": str(place / "cache")}

    def type(self, command: str, cwd: Path) -> list[str]:
        """Let a shell run a command; return the words that a stand-in got, [] if the command asked for none."""
        (self.work / "asked").write_text("")
        done = subprocess.run(
            ["/bin/sh", "-c", command], cwd=cwd, env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, (command, done.stderr)
        words = (self.work / "asked").read_text().rstrip("\n").split("\0")[:-1]
        return [os.path.basename(words[0]), *words[1:]] if words else []

    def start(self, words: list[str], cwd: Path) -> subprocess.Popen[bytes]:
        with open(self.log, "wb") as log:
            return subprocess.Popen(
                words, cwd=cwd, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def await_container(self, process: subprocess.Popen[bytes], name: str) -> None:
        """Wait until the program serves: from then on it has a handler for TERM."""
        assert until(lambda: "it serves" in self.log.read_text() or process.poll() is not None)
        assert process.poll() is None, self.log.read_text()
        assert json.loads(self.rootless("state", name).stdout)["status"] == "running"


def verify(place: Path, name: str, unit: str) -> None:
    """Let systemd read a unit of a user."""
    if not shutil.which("systemd-analyze"):
        return
    place.mkdir(exist_ok=True)
    (place / name).write_text(unit)
    done = subprocess.run(
        ["systemd-analyze", "--user", "--man=no", "verify", str(place / name)],
        capture_output=True, text=True, check=False, env={**os.environ, "XDG_RUNTIME_DIR": str(place)},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ""), unit


def read(words: list[str]) -> tuple[dict[str, str], list[str], list[str]]:
    """Split the words of systemd-run: (properties, flags, the command)."""
    properties, flags, rest = {}, [], words[1:]
    while rest[0].startswith("-"):
        word = rest.pop(0)
        if word == "-p":
            key, _, value = rest.pop(0).partition("=")
            properties[key] = value
        else:
            flags.append(word)
    return properties, flags, rest


@pytest.fixture
def systemd(tmp_path: Path, rootless: Rootless, busybox: Path) -> Iterator[Systemd]:
    """Return the page's directory: web, a bundle whose program runs until it gets TERM, and web.tar, its image."""
    if not os.access("/usr/bin/env", os.X_OK):
        pytest.skip("the unit needs /usr/bin/env")
    found = Systemd(tmp_path, rootless)
    archive = [sys.executable, str(CHECKOUT / "scripts/legacy_archive.py"), str(busybox), str(tmp_path / "web.tar")]
    subprocess.run(archive, check=True)
    yield found
    for name in rootless.ids():
        rootless("delete", "--force", name)
    for bundle in (tmp_path / "web", tmp_path / "containers/web"):
        if bundle.exists():
            rootless("remove", bundle)


def lives(bundle: Path) -> None:
    """Let the bundle's program run until TERM."""
    config = json.loads((bundle / "config.json").read_text())
    config["process"]["args"] = ["sh", "-c", "trap 'exit 3' TERM; echo it serves; while :; do sleep 1; done"]
    config["process"]["terminal"] = False
    (bundle / "config.json").write_text(json.dumps(config))


def has_limits(rootless: Rootless) -> bool:
    lines = {line["name"]: line for line in json.loads(rootless("doctor", "--json").stdout)["lines"]}
    return "memory" in lines.get("cgroup-controllers", {"detail": ""})["detail"].split()


def test_one_command(systemd: Systemd, rootless: Rootless, tmp_path: Path) -> None:
    scope, service, journal, stop = commands()[:4]
    assert rootless("convert", "web.tar", "-o", "web", cwd=tmp_path).returncode == 0
    lives(tmp_path / "web")

    properties, flags, words = read(systemd.type(scope, tmp_path))
    assert (properties, flags) == ({"Delegate": "yes"}, ["--user", "--scope"])
    if has_limits(rootless):
        process = systemd.start(words, tmp_path)
        systemd.await_container(process, "web")
        process.send_signal(signal.SIGTERM)
        assert process.wait(TIMEOUT) == 3
    else:  # the limit is what this line is for: it is refused where there is no controller
        refused = subprocess.run(words, cwd=tmp_path, env=systemd.environment, capture_output=True, check=False)
        assert b"controller" in refused.stderr or b"cgroup" in refused.stderr

    properties, flags, words = read(systemd.type(service, tmp_path))
    assert flags == ["--user", "--unit=web"] and os.path.isabs(words[0])
    lines = "".join(f"{key}={value}\n" for key, value in properties.items())
    verify(tmp_path / "units", "web.service", f"[Service]\n{lines}ExecStart={' '.join(words)}\nRestart=on-failure\n")
    assert properties == {"Delegate": "yes", "Type": "exec"} and "`-p Restart=on-failure`" in PAGE
    process = systemd.start(words, Path("/"))  # the user's systemd starts it there
    systemd.await_container(process, "web")
    assert systemd.type(journal, tmp_path) == ["journalctl", "--user", "-u", "web"]
    assert "it serves" in systemd.log.read_text()
    assert systemd.type(stop, tmp_path) == ["systemctl", "--user", "stop", "web"]
    process.send_signal(signal.SIGTERM)
    assert process.wait(TIMEOUT) == 3
    assert rootless.ids() == []


def test_the_unit(systemd: Systemd, rootless: Rootless, tmp_path: Path) -> None:
    *steps, reload, enable = commands()[4:]
    for command in steps:
        in_page = command.replace("contrib/", f"{CHECKOUT}/contrib/")  # "from a clone"
        assert systemd.type(in_page, tmp_path) == []
    assert systemd.type(reload, tmp_path) == ["systemctl", "--user", "daemon-reload"]
    assert systemd.type(enable, tmp_path) == ["systemctl", "--user", "enable", "--now", "rootless@web"]
    unit = (tmp_path / ".config/systemd/user/rootless@.service").read_text()
    (added,) = re.findall(r"```ini\n(.*?)```", PAGE, re.DOTALL)
    verify(tmp_path / "units", "rootless@.service", unit)
    verify(tmp_path / "units", "rootless@web.service", f"{unit}\n{added}")
    lives(tmp_path / "containers/web")
    start, after = (
        re.search(rf"^{key}=-?(.*)$", unit, re.MULTILINE)[1].replace("%h", str(tmp_path)).replace("%i", "web").split()  # type: ignore[index]
        for key in ("ExecStart", "ExecStopPost")
    )
    process = systemd.start(start, Path("/"))
    systemd.await_container(process, "web")
    process.kill()  # "When the runtime is killed, ..."
    process.wait()
    subprocess.run(after, env=systemd.environment, check=True)
    assert rootless.ids() == []
