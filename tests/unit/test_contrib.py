"""AppArmor's parser and systemd accept the profile and the unit in contrib/ unchanged."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.checkout import CHECKOUT

PROFILE = CHECKOUT / "contrib/apparmor/rootless"
UNIT = CHECKOUT / "contrib/systemd/rootless@.service"


def test_apparmor_takes_the_profile(tmp_path: Path) -> None:
    parser = shutil.which("apparmor_parser", path="/usr/sbin:/sbin:/usr/bin")
    if not parser or not Path("/etc/apparmor.d/tunables/global").exists():
        pytest.skip("this machine lacks apparmor_parser (Debian: apparmor)")
    text = PROFILE.read_text()
    version = subprocess.run([parser, "--version"], capture_output=True, text=True, check=True).stdout
    if int(re.search(r"version (\d+)", version)[1]) < 4:  # type: ignore[index]
        text = text.replace("abi <abi/4.0>,", "abi <abi/3.0>,").replace("  userns,\n", "")
    copy = tmp_path / "rootless"
    copy.write_text(text)
    done = subprocess.run(
        [parser, "--skip-kernel-load", "--skip-cache", "--names", copy], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["rootless"]


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("this machine lacks systemd-analyze (Debian: systemd)")
    shutil.copy(UNIT, tmp_path)
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path)}
    command = ["systemd-analyze", "--user", "--man=no", "verify", str(tmp_path / UNIT.name)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and UNIT.name not in done.stderr, done.stderr
    wrong = (tmp_path / UNIT.name).read_text().replace("Type=notify", "Type=notified")
    (tmp_path / UNIT.name).write_text(wrong)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert "service type" in done.stderr  # so it does read this file
