"""A unit of contrib/systemd in a user's session is ready when the program says so, stops by TERM, and leaves nothing if
killed.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.checkout import CHECKOUT, LAUNCHER, TIMEOUT

pytestmark = pytest.mark.vm

NAME = "ready"
UNIT = f"rootless@{NAME}.service"
HOST_PYTHON = [
    {"destination": f"/{name}", "type": "bind", "source": f"/{name}", "options": ["rbind", "ro"]}
    for name in ("usr", "lib", "lib64")
]
PROGRAM = """
import os, signal, socket, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
sock.connect(os.environ["NOTIFY_SOCKET"])
sock.send(b"READY=1")
while True:
    signal.pause()
"""


def systemctl(*words: str) -> str:
    done = subprocess.run(["systemctl", "--user", *words], capture_output=True, text=True, check=False, timeout=TIMEOUT)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def shown(name: str) -> str:
    return systemctl("show", "--property", name, "--value", UNIT)


@pytest.fixture
def unit(who: str, make_bundle: Callable[..., Any]) -> Iterator[None]:
    """Return the unit as the page installs it, with the checkout's launcher and a bundle in ~/containers."""
    if who != "delegated":
        pytest.skip("a user's session starts it")
    config = Path.home() / ".config/systemd/user"
    config.mkdir(parents=True, exist_ok=True)
    shutil.copy(CHECKOUT / "contrib/systemd/rootless@.service", config)
    dropin = config / f"{UNIT}.d/path.conf"
    dropin.parent.mkdir()
    dropin.write_text(f"[Service]\nEnvironment=PATH={LAUNCHER.parent}:/usr/bin:/bin\nTimeoutStartSec=300\nRestart=no\n")
    bundle = make_bundle()
    bundle.patch({"process": {"args": ["/usr/bin/python3", "-ISc", PROGRAM]}})
    bundle.config["mounts"] += HOST_PYTHON
    bundle.write()
    place = Path.home() / "containers" / NAME
    place.parent.mkdir(exist_ok=True)
    place.symlink_to(bundle.path)
    systemctl("daemon-reload")
    yield
    systemctl("stop", UNIT)
    place.unlink()
    shutil.rmtree(config)
    systemctl("daemon-reload")


def containers() -> str:
    return subprocess.run([LAUNCHER, "list", "--quiet"], capture_output=True, text=True, check=True).stdout


def test_the_unit_is_ready_stops_and_leaves_nothing_when_killed(unit: None) -> None:
    systemctl("start", UNIT)  # returns when the program has said READY
    assert (shown("ActiveState"), containers()) == ("active", f"{NAME}\n")
    assert NAME in shown("ControlGroup") and shown("Type") == "notify"
    systemctl("stop", UNIT)
    assert (shown("ActiveState"), shown("Result"), containers()) == ("inactive", "success", "")
    systemctl("start", UNIT)
    os.kill(int(shown("MainPID")), signal.SIGKILL)
    deadline = time.monotonic() + TIMEOUT
    while shown("ActiveState") != "failed":
        assert time.monotonic() < deadline, shown("ActiveState")
        time.sleep(0.5)
    assert (shown("Result"), containers()) == ("signal", "")
