"""`features` is a contract that clients read."""

import json
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
