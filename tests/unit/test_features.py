"""`features` prints what clients rely on."""

import json
import os
import subprocess
import sys
from pathlib import Path

LAUNCHER = Path(__file__).resolve().parents[2] / "bin/rootless"


def test_what_clients_look_for() -> None:
    done = subprocess.run([sys.executable, "-IS", LAUNCHER, "features"], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert done.stderr == ""
    assert found["ociVersionMin"] == "1.0.0" and found["ociVersionMax"] == "1.3.0"
    assert {"ro", "rro", "nosuid", "rbind", "tmpcopyup"} <= set(found["mountOptions"])
    assert found["linux"]["mountExtensions"]["idmap"]["enabled"] is True
    assert "CAP_SYS_ADMIN" in found["linux"]["capabilities"] and "user" in found["linux"]["namespaces"]


def test_only_what_works_here_is_enabled() -> None:
    done = subprocess.run([sys.executable, "-IS", LAUNCHER, "features"], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    linux = found["linux"]
    assert linux["seccomp"]["enabled"] is True  # the tests' own machine has libseccomp
    assert linux["apparmor"]["enabled"] is os.path.exists("/sys/kernel/security/apparmor")
    assert linux["selinux"]["enabled"] is os.path.exists("/sys/fs/selinux/enforce")
    assert linux["intelRdt"]["enabled"] is (" resctrl " in Path("/proc/self/mountinfo").read_text())
    root = os.geteuid() == 0
    assert not (linux["cgroup"]["systemd"] and not root)
    assert not (linux["cgroup"]["systemdUser"] and root)
    checkpoint = found["annotations"]["io.github.rootless.checkpoint.enabled"]
    assert checkpoint in (("true", "false") if root else ("false",))
