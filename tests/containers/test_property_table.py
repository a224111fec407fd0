"""One row for each property of config.json: the property, the probe inside the container, the expected answer.

Each row runs as the ordinary user (in the default map, with the subordinate ids if there are any), and as root, for
whom more is possible. A property that takes more than one probe has a test of its own, which ELSEWHERE names.
tests/unit/test_properties_are_tested.py compares the rows with the shape of the specification.
"""

import os
from typing import Any, NamedTuple

import pytest

from tests.support.containers import RANGE, has_range

USER = os.geteuid() != 0
ALL = ("bounding", "effective", "permitted", "inheritable", "ambient")
KILL = {kind: ["CAP_KILL"] for kind in ALL}
MASK = f"{1 << 5:016x}\n"  # CAP_KILL
STATUS = "/proc/self/status"
TERMINAL = {"process": {"terminal": True}}


class Row(NamedTuple):
    """Describe one row.

    patch: of config.json; probe: a shell script; expected: what it prints; runs: which of "user" and "root" run it;
    ids: whether it needs more ids than 0.
    """

    pointer: str
    patch: dict[str, Any]
    probe: str
    expected: str
    runs: tuple[str, ...] = ("user", "root")
    ids: bool = False


def process(**patch: Any) -> dict[str, Any]:
    return {"process": patch}


def linux(**patch: Any) -> dict[str, Any]:
    return {"linux": patch}


def mount(**entry: Any) -> dict[str, Any]:
    """Return a patch that adds a mount to the default ones."""
    return {"more mounts": [{"destination": "/mnt", "type": "tmpfs", "source": "tmpfs", **entry}]}


def at_mnt(field: int) -> str:
    return f"awk '$5==\"/mnt\" {{print ${field}}}' /proc/self/mountinfo"


def capability(kind: str, short: str) -> Row:
    return Row(f"/process/capabilities/{kind}", process(capabilities=KILL), f"grep Cap{short} {STATUS} | cut -f2", MASK)


ROWS = [
    Row("/ociVersion", {"ociVersion": "1.2.1-dev"}, "echo ran", "ran\n"),
    Row("/hostname", {"hostname": "inside"}, "hostname", "inside\n"),
    Row("/domainname", {"domainname": "example.org"}, "cat /proc/sys/kernel/domainname", "example.org\n"),
    Row("/root/path", {"root": {"path": "./rootfs/../rootfs"}}, "ls -d /bin/busybox", "/bin/busybox\n"),
    Row("/root/readonly", {"root": {"readonly": True}}, "touch /x 2>&1 | grep -o Read-only", "Read-only\n"),
    Row("/root/readonly", {"root": {"readonly": False}}, "touch /x && echo made", "made\n"),
    # process
    Row("/process/args", process(args=["sh", "-c", "printf '<%s>' \"$@\"", "-", "a b", "", "c"]), "", "<a b><><c>"),
    Row("/process/cwd", process(cwd="/made/for/it"), "pwd", "/made/for/it\n"),
    Row("/process/env", process(env=["PATH=/bin", "A=1", "B=x=y", "A=2"]), 'echo "$A $B"', "2 x=y\n"),
    Row("/process/terminal", TERMINAL, "tty", "/dev/pts/0\n"),
    Row("/process/consoleSize", process(terminal=True, consoleSize={"height": 25, "width": 90}), "stty size",
        "25 90\n"),
    Row("/process/user/uid", process(user={"uid": 5}), "id -u", "5\n", ids=True),
    Row("/process/user/gid", process(user={"uid": 0, "gid": 6}), "id -g", "6\n", ids=True),
    Row("/process/user/umask", process(user={"umask": 0o077}), "umask", "0077\n"),
    Row("/process/user/additionalGids", process(user={"additionalGids": [7, 8]}),
        f"grep Groups: {STATUS} | cut -f2", "7 8 \n", ids=True),
    capability("bounding", "Bnd"), capability("effective", "Eff"), capability("permitted", "Prm"),
    capability("inheritable", "Inh"), capability("ambient", "Amb"),
    Row("/process/rlimits", process(rlimits=[{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]),
        "ulimit -n; ulimit -Hn", "100\n200\n"),
    Row("/process/noNewPrivileges", process(noNewPrivileges=True), f"grep NoNewPrivs {STATUS} | cut -f2", "1\n"),
    Row("/process/noNewPrivileges", process(noNewPrivileges=False), f"grep NoNewPrivs {STATUS} | cut -f2", "0\n"),
    Row("/process/oomScoreAdj", process(oomScoreAdj=1000), "cat /proc/self/oom_score_adj", "1000\n"),
    Row("/process/scheduler", process(scheduler={"policy": "SCHED_BATCH", "nice": 19}),
        "awk '{print $19, $41}' /proc/self/stat", "19 3\n"),
    Row("/process/scheduler", process(scheduler={"policy": "SCHED_IDLE"}), "awk '{print $41}' /proc/self/stat", "5\n"),
    Row("/process/ioPriority", process(ioPriority={"class": "IOPRIO_CLASS_BE", "priority": 6}), "ionice -p $$",
        "best-effort: prio 6\n"),
    Row("/process/ioPriority", process(ioPriority={"class": "IOPRIO_CLASS_IDLE"}), "ionice -p $$", "idle\n"),
    # mounts
    Row("/mounts/destination", mount(destination="/mnt/../mnt/"), at_mnt(5), "/mnt\n"),
    Row("/mounts/type", mount(type="ramfs"), "stat -f -c %T /mnt", "ramfs\n"),
    Row("/mounts/source", mount(source="none"), f"{at_mnt(0)} | sed 's/.* - tmpfs //; s/ .*//'", "none\n"),
    Row("/mounts/options", mount(options=["nosuid", "nodev", "noexec", "ro"]), at_mnt(6),
        "ro,nosuid,nodev,noexec,relatime\n"),
    Row("/mounts/options", mount(options=["size=8k", "mode=711"]),
        "stat -c %a /mnt; df -k /mnt | awk 'END {print $2}'", "711\n8\n"),
    Row("/mounts/options", mount(options=["shared"]), f"{at_mnt(7)} | cut -d: -f1", "shared\n"),
    Row("/mounts/options", mount(destination="/proc", type="proc", source="proc", options=["subset=pid"]),
        "ls -d /proc/self /proc/meminfo 2>/dev/null; echo", "/proc/self\n\n"),
    # linux
    Row("/linux/namespaces", {"namespaces": ["mount", "pid"]}, "readlink /proc/self/ns/uts",
        f"{os.readlink('/proc/self/ns/uts')}\n"),
    Row("/linux/uidMappings", {"map": [(3, 1)]}, "cat /proc/self/uid_map | awk '{print $1, $3}'", "3 1\n", ("user",)),
    Row("/linux/gidMappings", {"map": [(3, 1)]}, "cat /proc/self/gid_map | awk '{print $1, $3}'", "3 1\n", ("user",)),
    Row("/linux/uidMappings", {"map": [(0, 2), (10, 5)]}, "awk '{print $1, $3}' /proc/self/uid_map", "0 2\n10 5\n",
        ("root",)),
    Row("/linux/gidMappings", {"map": [(0, 2), (10, 5)]}, "awk '{print $1, $3}' /proc/self/gid_map", "0 2\n10 5\n",
        ("root",)),
    Row("/linux/devices", linux(devices=[{"type": "p", "path": "/dev/fifo", "fileMode": 0o600}]),
        "stat -c '%F %a' /dev/fifo", "fifo 600\n"),
    Row("/linux/devices", linux(devices=[{"type": "c", "path": "/dev/nil", "major": 1, "minor": 3}]),
        "stat -c '%t:%T' /dev/nil; echo x > /dev/nil", "1:3\n"),
    Row("/linux/devices", linux(devices=[{"type": "b", "path": "/dev/x/y", "major": 7, "minor": 99, "fileMode": 0o640,
                                          "uid": 4, "gid": 5}]),
        "stat -c '%F %t:%T %a %u:%g' /dev/x/y", "block special file 7:63 640 4:5\n", ("root",)),
    Row("/linux/sysctl", linux(sysctl={"net.ipv4.ip_forward": "1"}), "cat /proc/sys/net/ipv4/ip_forward", "1\n"),
    Row("/linux/rootfsPropagation", linux(rootfsPropagation="shared"),
        "awk '$5==\"/\" {print $7}' /proc/self/mountinfo | cut -d: -f1", "shared\n"),
    Row("/linux/maskedPaths", linux(maskedPaths=["/etc/passwd", "/etc/none"]), "wc -c < /etc/passwd", "0\n"),
    Row("/linux/maskedPaths", linux(maskedPaths=["/etc"]), "ls -A /etc | wc -l", "0\n"),
    Row("/linux/readonlyPaths", {"root": {"readonly": False}, "linux": {"readonlyPaths": ["/etc"]}},
        "touch /etc/x 2>&1 | grep -o Read-only; touch /x && echo made", "Read-only\nmade\n"),
    Row("/linux/personality", linux(personality={"domain": "LINUX32"}),
        "uname -m | sed 's/i686/32/; s/armv8l/32/'", "32\n"),
    Row("/linux/memoryPolicy", linux(memoryPolicy={"mode": "MPOL_BIND", "nodes": "0"}),
        "awk '/heap/ {print $2}' /proc/self/numa_maps", "bind:0\n"),
]  # fmt: skip

# property: the test that is about it, where no row can be
ELSEWHERE = {
    "/annotations": "containers/test_annotations.py::test_they_are_kept_in_the_state",
    "/process/apparmorProfile": "containers/test_resctrl_and_labels.py::test_a_label_is_asked_of_the_kernel",
    "/process/selinuxLabel": "containers/test_resctrl_and_labels.py::test_a_label_is_asked_of_the_kernel",
    "/process/execCPUAffinity": "containers/test_exec.py::test_exec_cpu_affinity_is_execs_alone",
    "/mounts/uidMappings": "containers/test_idmap.py::test_a_tmpfs_with_mappings",
    "/mounts/gidMappings": "containers/test_idmap.py::test_a_tmpfs_with_mappings",
    "/linux/cgroupsPath": "containers/test_cgroup.py::test_cgroups_path",
    "/linux/resources": "containers/test_cgroup.py::test_resources_are_in_the_containers_cgroup",
    "/linux/timeOffsets": "containers/test_joins.py::test_clocks_are_shifted_in_a_time_namespace",
    "/linux/netDevices": "containers/test_net_devices.py::test_a_device_moves_with_its_address_and_comes_up",
    "/linux/intelRdt": "containers/test_resctrl_and_labels.py::test_a_class_of_the_containers_own",
    "/linux/mountLabel": "containers/test_resctrl_and_labels.py::test_a_mount_label_reaches_the_kernel",
    "/linux/seccomp": "containers/test_seccomp.py::test_a_forbidden_call_gets_its_errno",
    "/hooks": "containers/test_hooks.py::test_the_moments_in_their_order",
}


@pytest.mark.parametrize("row", ROWS, ids=[f"{row.pointer}-{number}" for number, row in enumerate(ROWS)])
def test_property(container, row) -> None:
    if ("user" if USER else "root") not in row.runs:
        pytest.skip(f"for {row.runs[0]} alone")
    if USER and row.ids and not has_range():
        pytest.skip(RANGE)
    c = container(with_user_ids(row.patch) if row.ids else row.patch)
    apply_own_keys(c.bundle, row.patch)
    result = c.run("sh", "-c", row.probe) if row.probe else c.run()
    assert (result.returncode, result.stdout) == (0, row.expected), result.stderr


def with_user_ids(patch: dict[str, Any]) -> dict[str, Any]:
    """Give the config the default map if it names none."""
    return {**patch, "linux": {**patch.get("linux", {}), "uidMappings": None, "gidMappings": None}}


def apply_own_keys(bundle, patch: dict[str, Any]) -> None:
    """Replace the keys of a row that are shorthand: "more mounts", "namespaces" and "map"."""
    config = bundle.config
    more = {key: config.pop(key) for key in ("more mounts", "namespaces", "map") if key in config}
    if "more mounts" in more:
        config["mounts"] += more["more mounts"]
    if "namespaces" in more:
        user = ["user"] if USER else []
        config["linux"]["namespaces"] = [{"type": kind} for kind in (*more["namespaces"], *user)]
        del config["hostname"]
        if not os.path.isdir("/dev/mqueue"):  # without an ipc namespace a user has the host's, where there is one
            config["mounts"] = [m for m in config["mounts"] if m["type"] != "mqueue"]
    if "map" in more:
        first = os.geteuid() or 100000
        ids = [{"containerID": a, "hostID": first + a if not USER else first, "size": n} for a, n in more["map"]]
        config["linux"] |= {"uidMappings": ids, "gidMappings": ids}
        config["linux"]["namespaces"] = [n for n in config["linux"]["namespaces"] if n["type"] != "user"]
        config["linux"]["namespaces"].append({"type": "user"})
        config["process"]["user"] = {"uid": more["map"][0][0], "gid": more["map"][0][0]}
    bundle.write()
