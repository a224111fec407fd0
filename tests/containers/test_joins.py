"""Namespaces by path and time namespaces: which a container can share with another, and which are refused."""

from __future__ import annotations

import os

import pytest

SLEEPER = {"process": {"args": ["sleep", "1000"]}}
FILES = {"user": "user", "ipc": "ipc", "uts": "uts", "network": "net", "pid": "pid", "cgroup": "cgroup", "mount": "mnt"}


def listed(*kinds, paths=None, more=()):
    """Return a patch with these namespaces, those in `paths` by path."""
    found = [{"type": kind} for kind in kinds]
    found += [{"type": kind, "path": path} for kind, path in (paths or {}).items()]
    return {"linux": {"namespaces": [*found, *more]}}


def running(container, patch=None):
    """Return a container whose program sleeps, and the directory of its namespaces."""
    c = container({**SLEEPER, **(patch or {})})
    result = c.run_detached()
    assert result.returncode == 0, result.stderr
    return c, f"/proc/{c.state()['pid']}/ns"


def readlinks(text):
    return dict(line.split() for line in text.splitlines())


SHOW = "for n in user ipc uts net pid cgroup mnt; do echo $n $(readlink /proc/self/ns/$n); done"


@pytest.mark.parametrize("shared", [["network"], ["ipc", "uts"], ["pid"], ["cgroup"], ["network", "ipc", "uts", "pid"]])
def test_a_joined_namespace_is_the_others_and_the_rest_is_not(container, shared):
    _, ns = running(container)
    shared = (["user"] if os.geteuid() else []) + shared
    paths = {kind: f"{ns}/{FILES[kind]}" for kind in shared}
    c = container()
    own = [n["type"] for n in c.bundle.config["linux"]["namespaces"] if n["type"] not in shared]
    c.bundle.patch({**listed(*own, paths=paths), "hostname": None})
    maps = {"linux": {"uidMappings": None, "gidMappings": None}}
    c.bundle.patch(maps)
    inside = readlinks(c.sh(SHOW))
    for kind, name in FILES.items():
        same = inside[name] == os.readlink(f"{ns}/{name}")
        assert same == (kind in shared or (kind == "user" and not os.geteuid())), kind


def test_root_of_a_joined_user_namespace(container):
    if not os.geteuid():
        pytest.skip("root's default config has no user namespace to join")
    _, ns = running(container)
    c = container({"root": {"readonly": False}, "process": {"oomScoreAdj": 1000}})
    own = [n["type"] for n in c.bundle.config["linux"]["namespaces"] if n["type"] != "user"]
    c.bundle.patch(
        {"linux": {**listed(*own, paths={"user": f"{ns}/user"})["linux"], "uidMappings": None, "gidMappings": None}}
    )
    assert c.sh("id -u; id -g; touch /made; stat -c %u /made; cat /proc/self/oom_score_adj").split() == [
        "0",
        "0",
        "0",
        "1000",
    ]
    assert (c.bundle.rootfs / "made").stat().st_uid == os.geteuid()


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/nope", "ENOENT"),
        ("/etc/passwd", "it is not a namespace"),
        ("/proc/self/ns/uts", "it is a uts namespace"),
    ],
)
def test_what_is_no_such_namespace_is_refused(container, path, said):
    c = container()
    own = [n["type"] for n in c.bundle.config["linux"]["namespaces"] if n["type"] != "network"]
    c.bundle.patch(listed(*own, paths={"network": path}))
    result = c.run("true")
    assert result.returncode == 1
    assert said in result.stderr
    assert f"/linux/namespaces/{len(own)}/path" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may join any")
def test_the_hosts_namespace_is_not_an_ordinary_users_to_join(container):
    c = container()
    own = [n["type"] for n in c.bundle.config["linux"]["namespaces"] if n["type"] != "network"]
    c.bundle.patch(listed(*own, paths={"network": "/proc/self/ns/net"}))
    result = c.run("true")
    assert result.returncode == 1
    assert "join the namespace" in result.stderr and "EPERM" in result.stderr
    assert "hint: it belongs to another user namespace" in result.stderr and result.stderr.count("\n") == 1


def test_clocks_are_shifted_in_a_time_namespace(container):
    c = container()
    kinds = [n["type"] for n in c.bundle.config["linux"]["namespaces"]]
    offsets = {"boottime": {"secs": 1_000_000_000}, "monotonic": {"secs": 7}}
    c.bundle.patch(listed(*kinds, "time"))
    c.bundle.patch({"linux": {"timeOffsets": offsets}})
    uptime, *offsets = c.sh("cut -d. -f1 /proc/uptime; cat /proc/self/timens_offsets").splitlines()
    assert int(uptime) > 1_000_000_000
    assert [line.split() for line in offsets] == [["monotonic", "7", "0"], ["boottime", "1000000000", "0"]]


def test_a_time_namespace_beside_a_joined_user_namespace(container):
    _, ns = running(container)
    c = container()
    joined = {"user": f"{ns}/user"} if os.geteuid() else {"ipc": f"{ns}/ipc"}
    own = [n["type"] for n in c.bundle.config["linux"]["namespaces"] if n["type"] not in joined]
    patch = listed(*own, "time", paths=joined)["linux"]
    patch.update(uidMappings=None, gidMappings=None, timeOffsets={"boottime": {"secs": 1_000_000_000}})
    c.bundle.patch({"linux": patch})
    assert int(c.sh("cut -d. -f1 /proc/uptime")) > 1_000_000_000


def test_exec_joins_a_time_namespace(container):
    c = container(SLEEPER)
    kinds = [n["type"] for n in c.bundle.config["linux"]["namespaces"]]
    c.bundle.patch(listed(*kinds, "time"))
    c.bundle.patch({"linux": {"timeOffsets": {"boottime": {"secs": 1_000_000_000}}}})
    assert c.run_detached().returncode == 0
    result = c.rootless("exec", c.id, "cut", "-d.", "-f1", "/proc/uptime")
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) > 1_000_000_000
