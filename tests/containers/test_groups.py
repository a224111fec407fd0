"""With a range of ids the program has none of the caller's supplementary groups, and a warning says which one it
misses.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rootless.kernel.host import read_subids
from tests.support.containers import Bundle

GROUP = 54321  # of nobody on this machine
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a user one more group")


def user_with_range() -> int:
    """Return a user who may map a range, and whom newuidmap(1) knows."""
    names = [line.partition(":")[0] for line in Path("/etc/subuid").read_text().splitlines()]
    for name in names:
        import pwd

        try:
            uid = pwd.getpwnam(name).pw_uid
        except KeyError:
            continue
        if uid and read_subids("/etc/subuid", uid) and read_subids("/etc/subgid", uid):
            return uid
    pytest.skip("no user here has a range in /etc/subuid and /etc/subgid")


@pytest.fixture
def as_member(container, tmp_path):
    """Return `as_member(patch)`, which runs a container as a member of GROUP, with a directory of GROUP on /data."""
    uid = user_with_range()

    def run(patch, *words):
        c = container({"linux": {"namespaces": [{"type": t} for t in ("user", "mount", "pid", "ipc", "uts")]}, **patch})
        bundle: Bundle = c.bundle
        data = tmp_path / "data"
        (data / "sub").mkdir(parents=True)
        (data / "tool").write_text("#!/bin/sh\necho ran\n")
        (data / "tool").chmod(0o755)
        (bundle.rootfs / "data").mkdir()
        for path, _, names in os.walk(bundle.path):
            os.chmod(path, 0o755)
            for name in names:
                if not os.path.islink(f"{path}/{name}"):
                    os.chown(f"{path}/{name}", uid, uid)
            os.chown(path, uid, uid)
        os.chown(data, 0, GROUP)
        data.chmod(0o750)
        mount = {"destination": "/data", "type": "bind", "source": str(data), "options": ["rbind"]}
        mounts = [m for m in bundle.config["mounts"] if m["type"] != "cgroup"]
        bundle.patch({"mounts": [*mounts, mount], "linux": {"uidMappings": None, "gidMappings": None}})
        state = tmp_path / "of-the-user"
        state.mkdir()
        os.chown(state, uid, uid)
        command = [sys.executable, "-IS", c.rootless.command()[2], "--root", str(state), "run", "-b", bundle.path, c.id]
        return subprocess.run(
            ["setpriv", f"--reuid={uid}", f"--regid={uid}", f"--groups={GROUP}", *map(str, command), *words],
            capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, cwd="/",
        )  # fmt: skip

    return run


PROCESS = {"terminal": False, "env": ["PATH=/bin"], "capabilities": {}}


@pytest.mark.parametrize(
    "process",
    [{"args": ["true"], "cwd": "/data/sub"}, {"args": ["/data/tool"], "cwd": "/"}, {"args": ["true"], "cwd": "/data"},
     {"args": ["tool"], "cwd": "/", "env": ["PATH=/data"]}],
)  # fmt: skip
def test_a_directory_of_such_a_group_is_explained(as_member, process) -> None:
    result = as_member({"process": {**PROCESS, "user": {"uid": 5, "gid": 5}, **process}})
    assert result.returncode == 1 and result.stderr.count("\n") == 1, result.stderr
    # A directory of PATH that cannot be looked into is passed over: execvp(3).
    assert ("EACCES" in result.stderr) == (process["args"] != ["tool"])
    assert "/data is open to a group of the caller's" in result.stderr, result.stderr
    assert "--group-add keep-groups" in result.stderr and "run.oci.keep_original_groups" in result.stderr


def test_with_the_annotation_it_is_open(as_member) -> None:
    annotations = {"run.oci.keep_original_groups": "1"}
    user = {"uid": 5, "gid": 5}
    result = as_member({"annotations": annotations, "process": {**PROCESS, "args": ["/data/tool"], "user": user}})
    assert (result.returncode, result.stdout, result.stderr) == (0, "ran\n", "")


def test_another_directory_is_not_blamed_on_groups(as_member) -> None:
    result = as_member({"process": {**PROCESS, "args": ["/etc/passwd"], "user": {"uid": 5, "gid": 5}}})
    assert result.returncode == 1 and "EACCES" in result.stderr and "keep-groups" not in result.stderr
