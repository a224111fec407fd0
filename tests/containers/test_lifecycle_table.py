"""Every command in every state is carried out, or refused in one line and without a change.

The table follows runtime.md#lifecycle, and runc where the specification says nothing. `died` is a container whose init
was killed from outside before its start.
"""

import os
import select
import signal

import pytest

from tests.support.checkout import TIMEOUT

STATES = ("missing", "created", "running", "paused", "stopped", "died")
GONE, SAME = "missing", ""
# command: {state: (exit code, state afterwards)}; what is not listed is refused with 1 and changes nothing.
ALWAYS = dict.fromkeys(STATES[1:], (0, SAME))
ALIVE = dict.fromkeys(("created", "running", "paused"), (0, SAME))
NO_EXEC = dict.fromkeys(("missing", "stopped", "died"), (255, SAME))
KILLED = {"created": (0, "died"), "running": (0, "stopped"), "paused": (0, "stopped")}
TABLE = {
    ("state", "ID"): ALWAYS,
    ("list",): ALWAYS,
    ("ps", "ID"): ALWAYS,
    ("ps", "--format", "json", "ID"): ALWAYS,
    ("events", "--stats", "ID"): ALIVE,
    ("create", "-b", "BUNDLE", "ID"): {"missing": (0, "created")},
    ("run", "-d", "-b", "BUNDLE", "ID"): {"missing": (0, "running")},
    ("start", "ID"): {"created": (0, "running")},
    ("exec", "ID", "true"): {**NO_EXEC, "created": (0, SAME), "running": (0, SAME), "paused": (255, SAME)},
    ("kill", "ID", "0"): ALIVE,
    ("kill", "ID", "KILL"): KILLED,
    ("kill", "--all", "ID", "0"): ALWAYS,
    ("kill", "--all", "ID", "KILL"): {**KILLED, "stopped": (0, SAME), "died": (0, SAME)},
    ("pause", "ID"): {"created": (0, "paused"), "running": (0, "paused")},
    ("resume", "ID"): {"paused": (0, "running")},
    ("update", "ID"): {},
    ("update", "--pids-limit", "many", "ID"): {},
    ("checkpoint", "--image-path", "IMAGES", "ID"): {},
    ("restore", "--image-path", "IMAGES", "-b", "BUNDLE", "ID"): {},
    ("delete", "ID"): {"created": (0, GONE), "stopped": (0, GONE), "died": (0, GONE)},
    ("delete", "--force", "ID"): {"missing": (0, SAME), **dict.fromkeys(STATES[1:], (0, GONE))},
}
# These are refused where no cgroup may be made.
CGROUP = {"pause", "resume", "events"}
SHOWN = {"died": "stopped"}


def brought_to(container, status):
    c = container({"process": {"args": ["sleep", "1000"]}})
    if status == "missing":
        return c
    assert c.create().returncode == 0
    if status in ("running", "paused", "stopped"):
        assert c.start().returncode == 0
    if status in ("stopped", "died"):
        pidfd = os.pidfd_open(c.state()["pid"])
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        assert select.select([pidfd], [], [], TIMEOUT)[0]
        os.close(pidfd)
    if status == "paused":
        result = c.rootless("pause", c.id)
        if "has no cgroup" in result.stderr:
            pytest.skip("no cgroup may be made here: run it in a delegated cgroup v2")
        assert result.returncode == 0, result.stderr
    return c


def shown(c) -> str:
    result = c.rootless("state", c.id)
    return c.status() if result.returncode == 0 else "missing"


@pytest.mark.parametrize("status", STATES)
def test_table(container, status) -> None:
    c = None
    for command, allowed in TABLE.items():
        code, after = allowed.get(status, (1, SAME))
        c = c or brought_to(container, status)
        places = {"ID": c.id, "BUNDLE": c.bundle.path, "IMAGES": c.bundle.path / "images"}
        words = [places.get(word, word) for word in command]
        with (c.bundle.path / "said").open("w+") as said:
            result = c.rootless(*words, capture_output=False, stdout=said, stderr=said)
            said.seek(0)
            text = said.read()
        if "has no cgroup" in text and command[0] in CGROUP:
            continue
        assert result.returncode == code, (command, text)
        assert not code or (text.startswith("rootless: ") and text.count("\n") == 1), (command, text)
        if after in ("stopped", "died"):
            c.wait()
        expected = after or status
        assert shown(c) == SHOWN.get(expected, expected), command
        c = c if after == SAME else None


def test_a_container_that_was_paused_before_its_start_is_started_when_it_is_resumed(container) -> None:
    c = brought_to(container, "created")
    if "has no cgroup" in c.rootless("pause", c.id).stderr:
        pytest.skip("no cgroup may be made here: run it in a delegated cgroup v2")
    refused = c.rootless("start", c.id)
    assert refused.returncode == 1 and "paused" in refused.stderr
    assert c.rootless("resume", c.id).returncode == 0
    assert c.status() == "created"
    assert c.start().returncode == 0
    assert c.status() == "running"
