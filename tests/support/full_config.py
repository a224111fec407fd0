"""Make a config with every property of the specification, and its plan on a host of fixed facts."""

from typing import Any

from rootless import plan
from rootless.config_node import Node
from rootless.kernel import caps
from rootless.kernel.host import Host
from rootless.plan import Call
from rootless.plan.compiler import Plan
from tests.support import schema

# What else a plan depends on: a machine that has all that a config can ask for.
PLAIN = {"apparmor": True, "selinux": True, "resctrl": "/sys/fs/resctrl", "tries_cgroups": False,
         "hard_limit": lambda number: 2**64 - 1, "device_mode": lambda path, kind, rdev: -1,
         "is_directory": lambda path: True}  # fmt: skip
ROOT = {**PLAIN, "uid": 0, "gid": 0, "in_userns": False, "is_root_here": True, "subuid": [], "subgid": [],
        "all_capabilities": -1, "grantable": -1, "cgroup_mount": "/sys/fs/cgroup", "own_cgroup": "/"}  # fmt: skip
MAPPING = {"containerID": 0, "hostID": 1000, "size": 65536}
THROTTLE = [{"major": 8, "minor": 0, "rate": 1}]
HOOK = [{"path": "/bin/true", "args": ["true"], "env": ["A=1"], "timeout": 1}]
# Every property of the spec for Linux, none without effect where it can have one.
FULL: dict[str, Any] = {
    "ociVersion": "1.3.0",
    "hooks": {moment: HOOK for moment in schema.CONFIG["hooks"]},
    "annotations": {"org.example.key": "value"},
    "hostname": "host",
    "domainname": "example.org",
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid"]},
        {"destination": "/mnt", "type": "bind", "source": "/srv", "options": ["rbind", "rro"]},
    ],
    "root": {"path": "rootfs", "readonly": True},
    "process": {
        "terminal": True,
        "consoleSize": {"height": 25, "width": 80},
        "user": {"uid": 1, "gid": 2, "umask": 63, "additionalGids": [5], "username": "somebody"},
        "args": ["sh"],
        "commandLine": "sh",
        "env": ["PATH=/bin", "A=1"],
        "cwd": "/tmp",
        "capabilities": {kind: ["CAP_KILL"] for kind in caps.SETS},
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 512, "hard": 1024}],
        "noNewPrivileges": True,
        "apparmorProfile": "profile",
        "selinuxLabel": "label",
        "oomScoreAdj": 100,
        "scheduler": {"policy": "SCHED_DEADLINE", "nice": 0, "priority": 0, "flags": ["SCHED_FLAG_RESET_ON_FORK"],
                      "runtime": 2000, "deadline": 3000, "period": 4000},
        "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 4},
        "execCPUAffinity": {"initial": "0-1", "final": "0"},
    },
    "linux": {
        "devices": [{"type": "c", "path": "/dev/fuse", "major": 10, "minor": 229, "fileMode": 438, "uid": 1, "gid": 2}],
        "netDevices": {"eth0": {"name": "lan0"}},
        "intelRdt": {"closID": "class", "schemata": ["L3:0=f"], "l3CacheSchema": "L3:0=f", "memBwSchema": "MB:0=50",
                     "enableMonitoring": True},
        "uidMappings": [MAPPING],
        "gidMappings": [MAPPING],
        "namespaces": [{"type": kind} for kind in ("mount", "pid", "network", "uts", "user", "cgroup", "time")]
        + [{"type": "ipc", "path": "/proc/1/ns/ipc"}],
        "resources": {
            "unified": {"memory.high": "1000000"},
            "devices": [{"allow": False, "type": "c", "major": 10, "minor": 229, "access": "rwm"}],
            "pids": {"limit": 100},
            "blockIO": {
                "weight": 10, "leafWeight": 0,
                "weightDevice": [{"major": 8, "minor": 0, "weight": 20, "leafWeight": 0}],
                **dict.fromkeys(("throttleReadBpsDevice", "throttleWriteBpsDevice"), THROTTLE),
                **dict.fromkeys(("throttleReadIOPSDevice", "throttleWriteIOPSDevice"), THROTTLE),
            },
            "cpu": {"cpus": "0", "mems": "0", "period": 100000, "quota": 50000, "burst": 1000, "realtimePeriod": 0,
                    "realtimeRuntime": 0, "shares": 512, "idle": 0},
            "hugepageLimits": [{"pageSize": "2MB", "limit": 4194304}],
            "memory": {"limit": 10000000, "reservation": 1000000, "swap": 20000000, "kernel": 0, "kernelTCP": 0,
                       "swappiness": 0, "disableOOMKiller": False, "useHierarchy": False, "checkBeforeUpdate": False},
            "network": {"classID": 0, "priorities": [{"name": "eth0", "priority": 0}]},
            "rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 10000}},
        },
        "cgroupsPath": "/here",
        "rootfsPropagation": "slave",
        "seccomp": {
            "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "flags": ["SECCOMP_FILTER_FLAG_LOG"],
            "architectures": ["SCMP_ARCH_X86_64"], "listenerPath": "/run/agent", "listenerMetadata": "text",
            "syscalls": [
                {"names": ["sendmsg", "execve"], "action": "SCMP_ACT_ALLOW"},
                {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1,
                 "args": [{"index": 1, "value": 511, "valueTwo": 1, "op": "SCMP_CMP_MASKED_EQ"}]},
            ],
        },
        "sysctl": {"net.ipv4.ip_forward": "1"},
        "maskedPaths": ["/proc/kcore"],
        "readonlyPaths": ["/proc/sys"],
        "mountLabel": "label",
        "memoryPolicy": {"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]},
        "personality": {"domain": "LINUX32", "flags": []},
        "timeOffsets": {"boottime": {"secs": 1, "nanosecs": 2}, "monotonic": {"secs": -1, "nanosecs": 2}},
    },
}  # fmt: skip


def compiled(node: Node) -> Plan:
    """Return the plan for a host whose facts are fixed."""
    return plan.compile(node, Host(**ROOT), Call("/bundle", "id"))
