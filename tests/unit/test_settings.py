"""Flags and keyword arguments become config.json, and an error names the flag."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from oci.config import default_config
from rootless.errors import RootlessError
from rootless.kernel.host import Host
from rootless.plan.seccomp_profile import default_profile, read_profile
from rootless.plan.settings import Settings, UserIds, apply_settings


class Machine(Host):
    """Describe an ordinary user's machine on which everything below /there exists."""

    def exists(self, path: str) -> bool:
        if path == "/proc/swaps":
            return True
        return path.startswith(("/there", "/etc"))

    def is_directory(self, path: str) -> bool:
        return self.exists(path)

    def device_of(self, path: str) -> tuple[str, int, int] | None:
        return ("c", 10, 229) if path == "/dev/fuse" else None


def machine(**facts: Any) -> Machine:
    user = {"uid": 1000, "gid": 1000, "is_root_here": False, "is_root_on_host": False, "subuid": [], "subgid": []}
    return Machine(**{**user, **facts})


def applied(**settings: Any) -> dict[str, Any]:
    return applied_on(machine(), **settings)


def applied_on(host: Host, **settings: Any) -> dict[str, Any]:
    spec = default_config(True, 1000, 1000)
    before = copy.deepcopy(spec)
    changed = apply_settings(spec, Settings(base="/there", bundle="/b", home="/there/home", **settings), host)
    assert spec == before, "the config that was given must stay as it is"
    return changed


def mount(spec: dict[str, Any], destination: str) -> dict[str, Any]:
    (found,) = [m for m in spec["mounts"] if m["destination"] == destination]
    return dict(found)


def test_nothing_asked_changes_nothing() -> None:
    assert applied() == default_config(True, 1000, 1000)
    assert not Settings(base="/x") and Settings(no_new_privileges=False) and Settings(volumes=["a"])


def test_an_unknown_setting_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="nosuch"):
        Settings(nosuch=1)


def test_a_setting_that_nobody_has_set_is_of_its_own_type() -> None:
    """The caches of byte code have no annotations, so the defaults do not come from them."""
    kinds = {"list": [], "dict": {}, "bool": False, "bool | None": None, "UserIds | None": None}
    for name, kind in Settings.__annotations__.items():
        begin = kind if kind in kinds else kind.partition("[")[0]
        assert getattr(Settings(), name) == kinds.get(begin, ""), name


def test_the_program() -> None:
    process = applied(args=["ls", "-l"], env=["A=1", "PATH=/x", "A=2"], cwd="/src", entrypoint="")["process"]
    assert process["args"] == ["ls", "-l"] and process["cwd"] == "/src"
    assert [entry for entry in process["env"] if entry[:2] in ("A=", "PA")] == ["PATH=/x", "A=2"]
    assert applied(entrypoint="/bin/env", args=["-0"])["process"]["args"] == ["/bin/env", "-0"]


@pytest.mark.parametrize(
    ("text", "source", "options"),
    [
        ("/there/a:/a", "/there/a", ["rbind", "nosuid", "nodev"]),
        ("./a:/a:ro", "/there/a", ["rbind", "ro", "rro", "nosuid", "nodev"]),
        (".:/a:rw,Z", "/there", ["rbind", "nosuid", "nodev"]),
        ("a/b:/a:suid,noexec,rslave", "/there/a/b", ["rbind", "suid", "noexec", "rslave", "nodev"]),
    ],
)
def test_a_volume(text: str, source: str, options: list[str]) -> None:
    assert mount(applied(volumes=[text]), "/a") == {
        "destination": "/a", "type": "bind", "source": source, "options": options,
    }  # fmt: skip


def test_a_mount_in_the_long_form() -> None:
    spec = applied(mounts=["type=bind,source=./a,target=/a,readonly", "type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=700"])
    assert mount(spec, "/a")["options"] == ["rbind", "ro", "rro", "nosuid", "nodev"]
    assert mount(spec, "/t")["options"] == ["nosuid", "nodev", "noexec", "size=1048576", "mode=700"]


def test_a_tmpfs_takes_the_place_of_the_configs_mount() -> None:
    options = mount(applied(tmpfs=["/dev/shm:size=1k,exec,mode=700"]), "/dev/shm")["options"]
    assert options == ["nosuid", "nodev", "size=1024", "exec", "mode=700"]


def test_limits() -> None:
    spec = applied(
        memory="64m",
        memory_swap="128m",
        cpus="1.5",
        cpuset_cpus="0-1,3",
        pids=7,
        ulimits=["nofile=10:20"],
        shm_size="1m",
    )
    assert spec["linux"]["resources"] == {
        "memory": {"limit": 64 << 20, "swap": 128 << 20},
        "cpu": {"period": 100000, "quota": 150000, "cpus": "0-1,3"},
        "pids": {"limit": 7},
    }
    assert spec["process"]["rlimits"] == [{"type": "RLIMIT_NOFILE", "soft": 10, "hard": 20}]
    assert "size=1048576" in mount(spec, "/dev/shm")["options"]
    assert applied(ulimits={"core": 0, "nofile": (1, 2)})["process"]["rlimits"][-1]["hard"] == 2


def test_without_a_limit_of_swap_it_is_the_memorys_like_dockers() -> None:
    assert applied(memory="64m")["linux"]["resources"]["memory"] == {"limit": 64 << 20, "swap": 128 << 20}
    unlimited = applied(memory="64m", memory_swap="-1")["linux"]["resources"]["memory"]
    assert unlimited == {"limit": 64 << 20, "swap": -1}


@pytest.mark.parametrize("zero", ["0", 0, "0b", "0g"])
def test_a_limit_of_0_is_none_like_dockers(zero: str | int) -> None:
    """Also where config.json has one (moby, daemon_unix.go: a resource of 0 is one that nobody has set)."""
    limits = {"memory": {"limit": 1 << 20, "swap": 2 << 20}, "cpu": {"quota": 5, "period": 9}, "pids": {"limit": 9}}
    spec = default_config(True, 1000, 1000)
    spec["linux"]["resources"] = limits
    number = zero if type(zero) is int else "0"
    wanted = Settings(memory=zero, memory_swap=zero, cpus=number, pids=number, shm_size=zero)
    changed = apply_settings(spec, wanted, machine())
    assert changed["linux"]["resources"] == {"memory": {}, "cpu": {}, "pids": {"limit": -1}}
    assert changed["mounts"] == spec["mounts"]


def test_a_limit_of_swap_of_0_is_as_if_it_was_not_given() -> None:
    assert applied(memory="64m", memory_swap="0") == applied(memory="64m")
    with pytest.raises(RootlessError, match="needs one of memory"):
        applied(memory="0", memory_swap="64m")


def test_no_limit_of_swap_needs_no_limit_of_memory() -> None:
    assert applied(memory_swap="-1")["linux"]["resources"] == {"memory": {}}


def test_capabilities_are_dropped_before_they_are_added() -> None:
    caps = applied(cap_drop=["all"], cap_add=["net_raw", "CAP_CHOWN"])["process"]["capabilities"]
    assert set(map(tuple, caps.values())) == {("CAP_NET_RAW", "CAP_CHOWN")}


def test_the_user_with_one_id_is_that_id() -> None:
    spec = applied(user="1000", user_ids=UserIds(1000, 100, [100, 7], "/home/u"))
    assert spec["process"]["user"] == {"uid": 1000, "gid": 100}
    assert spec["linux"]["uidMappings"] == [{"containerID": 1000, "hostID": 1000, "size": 1}]
    assert spec["linux"]["gidMappings"] == [{"containerID": 100, "hostID": 1000, "size": 1}]
    assert "HOME=/home/u" in spec["process"]["env"]


def test_the_user_with_a_range_gets_all_of_it() -> None:
    spec = applied_on(machine(subuid=[(100000, 65536)], subgid=[(100000, 65536)]), user="7:8")
    assert spec["process"]["user"] == {"uid": 7, "gid": 8}
    assert spec["linux"]["uidMappings"][1] == {"containerID": 1, "hostID": 100000, "size": 65536}


def test_the_network() -> None:
    def kinds(**settings: Any) -> list[str]:
        return [n["type"] + n.get("path", "") for n in applied(**settings)["linux"]["namespaces"]]

    assert "network" in kinds(network="none") and "network" not in kinds(network="host")
    assert "network/there/ns" in kinds(network="ns:/there/ns")
    spec = applied(network="host", tmpfs=["/etc/hosts"])
    assert mount(spec, "/etc/resolv.conf")["source"] == "/etc/resolv.conf"
    assert mount(spec, "/etc/hosts")["type"] == "tmpfs"


def test_the_network_of_another_container_comes_with_its_user_namespace() -> None:
    """The kernel lets only the owner of a network namespace enter it. Its maps are those of the other container."""
    host = machine()
    host.userns_of = lambda path: "/there/ns/user" if path == "/there/ns/net" else ""
    linux = applied_on(host, network="ns:/there/ns/net")["linux"]
    kinds = {n["type"]: n.get("path") for n in linux["namespaces"]}
    assert (kinds["user"], kinds["network"]) == ("/there/ns/user", "/there/ns/net")
    assert "uidMappings" not in linux and "gidMappings" not in linux
    assert {"type": "user"} in applied_on(host, network="ns:/there/other")["linux"]["namespaces"]


def test_the_throw_away_root_lies_over_the_rootfs() -> None:
    first = applied(upper="/there/a,b:c")["mounts"][0]
    assert first["destination"] == "/" and first["type"] == "overlay"
    assert first["options"] == [
        "lowerdir=/b/rootfs", "upperdir=/there/a\\,b\\:c/upper", "workdir=/there/a\\,b\\:c/work",
    ]  # fmt: skip


def test_security() -> None:
    spec = applied(security_opt=["no-new-privileges:false", "systempaths=unconfined"], seccomp={"defaultAction": "x"})
    assert spec["process"]["noNewPrivileges"] is False and spec["linux"]["maskedPaths"] == []
    assert spec["linux"]["seccomp"] == {"defaultAction": "x"}
    assert "seccomp" not in applied(seccomp="unconfined")["linux"]
    assert applied(no_new_privileges=False)["process"]["noNewPrivileges"] is False


def test_the_rest() -> None:
    spec = applied(
        hostname="h", read_only=True, devices=["/dev/fuse"], annotations=["a=b=c"], group_add=["keep-groups"],
        mount_home=True, mount_cwd=True, config={"domainname": "d", "hostname": None},
    )  # fmt: skip
    assert "hostname" not in spec and spec["domainname"] == "d" and spec["root"]["readonly"] is True
    assert spec["linux"]["devices"] == [{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}]
    assert spec["annotations"] == {"a": "b=c", "run.oci.keep_original_groups": "1"}
    assert mount(spec, "/there")["source"] == "/there" and spec["process"]["cwd"] == "/there"
    assert "HOME=/there/home" in spec["process"]["env"]


@pytest.mark.parametrize(
    ("keyword", "value", "words"),
    [
        ("volumes", ["data:/data"], "named volumes do not exist: --volume data:/data; hint: ./data"),
        ("volumes", ["./data"], "needs a source"), ("volumes", ["/nowhere:/a"], "the source does not exist: /nowhere"),
        ("volumes", ["/there:a"], "not absolute"), ("volumes", ["/there:/"], "over the whole root"),
        ("volumes", ["/there:/a:rq"], "unknown option"), ("volumes", ["/there:/a:ro:x"], "not a volume"),
        ("volumes", ["/there:/a:ro,rw"], "both ro and rw"),
        ("volumes", ["/there:/a", "/there:/a/"], "two mounts"), ("mounts", ["src=data,dst=/a"], "named volumes"),
        ("mounts", ["type=bind,dst=/a"], "needs a source"), ("mounts", ["type=bind,srcx=/there"], "did you mean"),
        ("mounts", ["type=nfs,dst=/a"], "unknown type"), ("tmpfs", ["/t:sizx=1"], "unknown option"),
        ("tmpfs", ["/t:size=x"], "not a size"), ("tmpfs", ["t"], "not absolute"), ("memory", "lots", "not a size"),
        ("memory", "-1", "not a size"), ("memory_swap", "1m", "needs one of memory"), ("cpus", "-1", "number of CPUs"),
        ("cpus", "nan", "number of CPUs"), ("cpuset_cpus", "3-1", "list of CPUs"), ("pids", "many", "processes"),
        ("ulimits", ["nofiles=1"], "did you mean 'nofile'"), ("ulimits", ["nofile=2:1"], "above the hard"),
        ("ulimits", ["nofile"], "not a limit"), ("shm_size", "-1", "not a size"),
        ("memory_swap", "-2", "not a size"), ("cpus", "0.001", "number of CPUs"),
        ("cpus", "٣", "number of CPUs"), ("cpus", "1_0", "number of CPUs"),
        ("cap_add", ["NET_RAV"], "CAP_NET_RAW"),
        ("cap_drop", ["x"], "unknown capability"), ("security_opt", ["secomp=x"], "unknown security option"),
        ("seccomp", "nosuch", "not a seccomp profile"), ("devices", ["/dev/nosuch"], "no such device"),
        ("devices", ["fuse"], "not a device"), ("group_add", ["wheel"], "not a group"),
        ("group_add", ["5", "keep-groups"], "no other group"), ("cwd", "src", "not absolute"),
        ("user", "nosuch", "looked up"), ("user", "1:x", "looked up"), ("hostname", "a b", "host name"),
        ("annotations", ["a"], "NAME=VALUE"), ("env", ["=x"], "NAME=VALUE"), ("network", "pasta0", "unknown network"),
        ("network", "ns:/nowhere", "no such namespace"), ("network", "ns:x", "not absolute"),
    ],
)  # fmt: skip
def test_bad_input_names_the_flag_and_a_way_out(keyword: str, value: Any, words: str) -> None:
    with pytest.raises(RootlessError) as refused:
        applied(**{keyword: value})
    line = refused.value.message()
    assert words in line and "--" in line and "; hint: " in line and "\n" not in line


def test_the_default_profile_follows_the_capabilities() -> None:
    few = default_profile({"bounding": ["CAP_SYS_CHROOT"]}, "x86_64")["syscalls"]
    assert "mount" in few[0]["names"] and "chroot" not in few[0]["names"] and "keyctl" in few[0]["names"]
    assert [rule["names"] for rule in few if "args" in rule] == [["socket"], *[["clone"]] * 7]
    more = default_profile({"bounding": ["CAP_SYS_ADMIN"]}, "x86_64")["syscalls"]
    assert "mount" not in more[0]["names"] and not any("clone3" in rule["names"] for rule in more)
    assert applied(seccomp="default")["linux"]["seccomp"]["defaultAction"] == "SCMP_ACT_ALLOW"


def test_a_profile_of_dockers_form() -> None:
    document = {
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1,
        "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
        "syscalls": [
            {"names": ["read"], "action": "SCMP_ACT_ALLOW", "comment": "x", "includes": {}, "args": None},
            {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
            {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_BPF"], "arches": ["s390"]}},
            {"names": ["arch_prctl"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["amd64", "x32"]}},
            {"names": ["s390_pci_mmio_read"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["s390"]}},
        ],
    }  # fmt: skip
    profile = read_profile(document, {"bounding": []}, "x86_64", "f")
    assert profile["architectures"] == ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"] and "archMap" not in profile
    assert [rule["names"][0] for rule in profile["syscalls"]] == ["read", "clone", "arch_prctl"]
    assert profile["syscalls"][0] == {"names": ["read"], "action": "SCMP_ACT_ALLOW"}
    for broken in ([], {}, {"defaultAction": "x", "syscalls": [1]}):
        with pytest.raises(RootlessError):
            read_profile(broken, {}, "x86_64", "f")
