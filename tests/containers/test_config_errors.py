"""Bad input gives one line with place and hint, exit code 1 and no traceback, and nothing is left."""

import json
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from rootless import cgroup
from rootless.kernel.host import Host


def refused(result: subprocess.CompletedProcess[str], *words: str) -> None:
    assert result.returncode == 1, (result.returncode, result.stderr)
    lines = [line for line in result.stderr.splitlines() if not line.startswith("rootless: warning: ")]
    assert len(lines) == 1 and lines[0].startswith("rootless: "), result.stderr
    for word in words:
        assert word in lines[0], lines[0]


CONFIGS: list[tuple[str, dict[str, Any], tuple[str, ...]]] = [
    ("version", {"ociVersion": "2.0.0"}, ("2.0.0", "/ociVersion")),
    ("no version", {"ociVersion": None}, ("/ociVersion", "required")),
    ("cwd", {"process": {"cwd": "relative"}}, ("/process/cwd", "absolute")),
    ("args", {"process": {"args": []}}, ("/process/args", "empty")),
    ("type of args", {"process": {"args": "sh"}}, ("/process/args", "array")),
    ("type of an arg", {"process": {"args": ["sh", 1]}}, ("/process/args/1", "string")),
    ("namespace", {"linux": {"namespaces": [{"type": "mount"}, {"type": "nett"}]}}, ("/linux/namespaces/1/type",)),
    ("twice", {"linux": {"namespaces": [{"type": "mount"}, {"type": "mount"}]}}, ("/linux/namespaces/1", "twice")),
    ("no rootfs", {"root": {"path": "nowhere"}}, ("nowhere", "rootfs")),
    ("no root", {"root": None}, ("/root", "required")),
    ("rlimit", {"process": {"rlimits": [{"type": "RLIMIT_FOO", "hard": 1, "soft": 1}]}}, ("/process/rlimits/0/type",)),
    ("hostname", {"hostname": "x" * 65}, ("/hostname",)),
    ("sysctl", {"linux": {"sysctl": {"vm.swappiness": "1"}}}, ("/linux/sysctl/vm.swappiness", "namespace")),
    ("platform", {"windows": {}}, ("/windows",)),
    ("masked", {"linux": {"maskedPaths": ["relative"]}}, ("/linux/maskedPaths/0",)),
    ("propagation", {"linux": {"rootfsPropagation": "sharde"}}, ("/linux/rootfsPropagation", "shared")),
    ("program", {"process": {"args": ["nosuch"]}}, ("executable file not found in $PATH",)),
    ("program's path", {"process": {"args": ["/bin/nosuch"]}}, ("no such file or directory",)),
    ("not executable", {"process": {"args": ["/etc/passwd"]}}, ("permission denied",)),
    ("bind source", {"mounts": [{"destination": "/mnt", "source": "/nowhere", "type": "bind"}]}, ("/nowhere",)),
    ("file system", {"mounts": [{"destination": "/mnt", "type": "nosuchfs"}]}, ("/mounts/0", "ENODEV")),
    ("over proc", {"mounts": [{"destination": "/proc/self", "type": "tmpfs"}]}, ("/mounts/0/destination",)),
]  # fmt: skip


@pytest.mark.parametrize(("patch", "words"), [c[1:] for c in CONFIGS], ids=[c[0] for c in CONFIGS])
def test_config_is_refused(container, rootless, patch, words) -> None:
    c = container(patch)
    refused(c.create(), *words)
    assert rootless.ids() == []


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"a": NaN}', '{"a": 1} x', "\ufeff{}"])
def test_what_is_no_config_is_refused(container, rootless, text) -> None:
    c = container()
    (c.bundle.path / "config.json").write_text(text)
    refused(c.create())
    assert rootless.ids() == []


def test_a_bundle_without_config_is_refused(container) -> None:
    c = container()
    (c.bundle.path / "config.json").unlink()
    refused(c.create(), "config.json", "ENOENT", "hint:")


@pytest.mark.parametrize(
    ("name", "word"),
    [("a/b", "invalid character '/'"), ("..", "invalid"), (".foo", "invalid"), ("a b", "invalid"),
     ("x" * 300, "invalid"), ("", "container ID")]
)  # fmt: skip
def test_an_id_is_refused(rootless, bundle, name, word) -> None:
    refused(rootless("create", "--bundle", bundle.path, name), word)


def test_without_a_process_start_says_so_and_the_container_ends(container) -> None:
    """`start` needs the property `process` (config.md#process). The exit code is crun's."""
    c = container({"process": None})
    created = c.create()
    assert created.returncode == 0, created.stderr
    result = c.start()
    assert result.returncode == 0
    assert result.stderr.startswith("rootless: ") and "/process" in result.stderr and "required" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert c.status() == "stopped"
    refused(c.start(), "stopped")
    assert c.delete().returncode == 0


def test_without_a_process_there_is_nothing_to_run(container) -> None:
    c = container({"process": None})
    refused(c.run(), "/process", "required")


def test_an_mqueue_needs_an_ipc_namespace_or_the_hosts(container) -> None:
    c = container({"process": {"args": ["true"]}})
    kinds = [n for n in c.bundle.config["linux"]["namespaces"] if n["type"] != "ipc"]
    c.bundle.patch({"linux": {"namespaces": kinds}})
    if os.path.isdir("/dev/mqueue") or not os.geteuid():
        assert c.run().returncode == 0
    else:
        refused(c.run(), "cannot mount mqueue: /mounts/", "hint: it needs an ipc namespace")


def test_an_id_in_use_is_refused(container) -> None:
    c = container()
    assert c.create().returncode == 0
    refused(c.create(), "already exists")


def test_a_link_to_the_hosts_root_stays_inside(container, tmp_path) -> None:
    """A mount target behind a link of the rootfs is resolved inside the rootfs."""
    mounts = [{"destination": "/out/mnt", "type": "tmpfs", "source": "tmpfs"}]
    c = container()
    (c.bundle.rootfs / "out").symlink_to(tmp_path)
    c.bundle.patch({"mounts": [*c.bundle.config["mounts"], *mounts], "root": {"readonly": False}})
    c.sh("test -d /out/mnt")
    assert not (tmp_path / "mnt").exists()
    assert (c.bundle.rootfs / str(tmp_path).lstrip("/") / "mnt").is_dir()


def test_bundle_is_not_looked_at_again(container) -> None:
    c = container({"process": {"args": ["true"]}})
    assert c.create().returncode == 0
    (c.bundle.path / "config.json").write_text("{")
    assert c.status() == "created"
    (c.bundle.path / "config.json").unlink()
    assert c.start().returncode == 0
    c.wait()
    assert c.status() == "stopped"
    assert c.delete().returncode == 0


def test_damaged_state_is_named_and_removed_by_force(container, rootless) -> None:
    c = container({"process": {"args": ["true"]}})
    assert c.create().returncode == 0
    pid = c.state()["pid"]
    os.kill(pid, 9)
    (rootless.state / c.id / "state.json").write_text("{")
    refused(rootless("state", c.id), "damaged", "delete --force")
    assert rootless("delete", "--force", c.id).returncode == 0
    assert rootless.ids() == []


def test_another_process_with_the_pid_is_not_the_container(container, rootless) -> None:
    c = container({"process": {"args": ["true"]}})
    assert c.create().returncode == 0
    path = rootless.state / c.id / "state.json"
    state = json.loads(path.read_text())
    real = state["pid"]
    path.write_text(json.dumps({**state, "pid": os.getpid()}))
    assert c.status() == "stopped"
    refused(c.kill("KILL"), "not running")
    path.write_text(json.dumps({**state, "pid": real}))


def test_many_at_once(container, rootless) -> None:
    """50 containers are created and deleted in parallel; nothing is left."""
    c = container({"process": {"args": ["true"]}})

    def cycle(number: int) -> int:
        name = f"{c.id}-{number}"
        with open(os.devnull, "w") as nothing:
            run = subprocess.run(
                rootless.command("create", "-b", c.bundle.path, name), stdout=nothing, stderr=nothing, check=False
            )
        return run.returncode or rootless("delete", name).returncode

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(cycle, range(50))) == [0] * 50
    assert rootless.ids() == []


@pytest.mark.parametrize(("script", "code"), [("exit 7", 7), ("kill -TERM $$", 143), ("exec /bin/false", 1)])
def test_exit_codes(container, script, code) -> None:
    # A child of PID 1: the first process of a pid namespace is not killed by its own signals.
    assert container().run("sh", "-c", f"sh -c '{script}'; exit $?").returncode == code


def test_missing_interpreter_is_explained(container) -> None:
    c = container()
    (c.bundle.rootfs / "bin/script").write_text("#!/no/such/thing\n")
    (c.bundle.rootfs / "bin/script").chmod(0o755)
    refused(c.run("script"), "no such file or directory", "/no/such/thing")


def test_dry_run_changes_nothing(container, rootless) -> None:
    c = container()
    out = c.output("true", flags=("--dry-run",))
    assert "  1 " in out and "pivot_root" in out and "[/mounts/0]" in out
    assert not rootless.state.exists()


def test_dry_run_names_the_cgroup_that_will_be_used(container) -> None:
    """If there is none, neither the plan nor the container has one."""
    c = container({"process": {"args": ["sleep", "1000"]}})
    plan = c.output("true", flags=("--dry-run",))
    assert c.run_detached().returncode == 0
    record = json.loads((c.rootless.state / c.id / "state.json").read_text())["cgroup"]
    lines = [line for line in plan.splitlines() if "[/linux/cgroupsPath]" in line]
    if record["manager"] == "disabled":
        assert lines == []
    else:
        place = record["path"] if record["manager"] == "cgroupfs" else f"{record['slice']}/{record['unit']}"
        assert len(lines) == 1 and f" cgroup {record['manager']} {place} " in lines[0]


def test_dry_run_names_no_cgroup_where_none_can_be_made(container, tmp_path) -> None:
    """Root, who may write everywhere else, gets none below a read-only mount of cgroup2, as in a container."""
    mount = Host().cgroup_mount
    if os.geteuid() != 0 or not mount:
        record = {"manager": "cgroupfs", "path": "/proc/c", "files": [], "devices": []}
        record["choices"] = [{"manager": "cgroupfs", "path": "/proc/c", "base": "/proc", "condition": "writable"}]
        for each in (record, {**record, "choices": []}):
            cgroup.settle(each)
            assert (each["manager"], each["path"]) == ("disabled", "")
        return
    c = container()
    words = c.rootless.command("run", "--dry-run", "-b", c.bundle.path, c.id)
    script = f'mount -o remount,bind,ro {mount}; exec "$@"'
    out = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", *words], capture_output=True, text=True, check=True
    )
    assert "[/linux/cgroupsPath]" not in out.stdout
    assert out.stdout.splitlines()[-1].endswith("[/process/args]")


def test_delete_by_regular_expression(container, rootless) -> None:
    c = container({"process": {"args": ["true"]}})
    for name in ("re-1", "re-2", "other"):
        with open(os.devnull, "w") as nothing:
            command = rootless.command("create", "-b", c.bundle.path, name)
            assert subprocess.run(command, stdout=nothing, stderr=nothing, check=False).returncode == 0
    assert rootless("delete", "--force", "--regex", "^re-.*").returncode == 0
    assert rootless.ids() == ["other"]
    assert rootless("delete", "other").returncode == 0
    refused(rootless("delete", "--regex", "("), "regular expression")
