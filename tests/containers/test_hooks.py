"""Hooks run at the moments, in the namespaces and in the order of config.md#posix-platform-hooks, and fail as
runtime.md#lifecycle says.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest

MOMENTS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
OUTSIDE = ("prestart", "createRuntime", "poststart", "poststop")


def shell(script: str, **more: Any) -> dict[str, Any]:
    return {"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"], **more}


def test_the_moments_in_their_order(container, tmp_path) -> None:
    """Hooks on the runtime's side write to the test's directory, and startContainer to the container's."""
    log = tmp_path / "log"
    log.touch()
    hooks = {moment: [shell(f"echo {moment} >> {log}")] for moment in MOMENTS if moment != "startContainer"}
    hooks["startContainer"] = [shell("echo startContainer > /log")]
    c = container({"hooks": hooks, "process": {"args": ["true"]}, "root": {"readonly": False}})
    assert c.create().returncode == 0
    assert log.read_text().split() == ["prestart", "createRuntime", "createContainer"]
    assert not (c.bundle.rootfs / "log").exists()
    assert c.start().returncode == 0
    assert log.read_text().split()[3:] == ["poststart"]
    assert (c.bundle.rootfs / "log").read_text() == "startContainer\n"
    c.wait()
    assert c.delete().returncode == 0
    assert log.read_text().split()[4:] == ["poststop"]


STATUS = {"prestart": "created", "createRuntime": "creating", "createContainer": "creating", "poststart": "running",
          "poststop": "stopped"}  # fmt: skip


@pytest.mark.parametrize("moment", STATUS)
def test_the_state_on_stdin(container, tmp_path, moment) -> None:
    output = tmp_path / "seen"
    c = container({"hooks": {moment: [shell(f"cat > {output}")]}, "annotations": {"org.example.a": "b"},
                   "process": {"args": ["sleep", "1000"]}})  # fmt: skip
    assert c.create().returncode == 0
    pid = c.state()["pid"]
    assert c.start().returncode == 0
    assert c.delete("--force").returncode == 0
    state = json.loads(output.read_text())
    assert (state["id"], state["status"], state["bundle"]) == (c.id, STATUS[moment], str(c.bundle.path))
    assert state["annotations"] == {"org.example.a": "b"} and state["ociVersion"]
    if moment in ("prestart", "createRuntime", "poststart"):
        assert state["pid"] == pid


@pytest.mark.parametrize("moment", OUTSIDE)
def test_hooks_of_the_runtimes_side_are_in_its_namespaces(container, tmp_path, moment) -> None:
    output = tmp_path / "ns"
    names = "mnt pid uts net"
    c = container({"hooks": {moment: [shell(f"cd /proc/self/ns; for n in {names}; do readlink $n; done > {output}")]}})
    assert c.run("true").returncode == 0
    assert output.read_text().split() == [os.readlink(f"/proc/self/ns/{n}") for n in names.split()]


def test_create_runtime_sees_the_containers_namespaces_by_pid(container, tmp_path) -> None:
    """The hook finds /proc/PID/ns/net by the pid in the state, as a program that sets up the network does."""
    output = tmp_path / "net"
    script = f"pid=$(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/'); readlink /proc/$pid/ns/net > {output}"
    c = container({"hooks": {"createRuntime": [shell(script)]}})
    inside = c.sh("readlink /proc/self/ns/net")
    assert output.read_text() == inside != os.readlink("/proc/self/ns/net")


def test_create_container_is_in_the_containers_namespaces_before_the_pivot(container, tmp_path) -> None:
    output = tmp_path / "seen"
    c = container({"hostname": "inner", "hooks": {"createContainer": [shell(f"hostname > {output}")]}})
    assert c.run("true").returncode == 0
    assert output.read_text() == "inner\n"


def test_args_and_env_are_the_hooks_own(container, tmp_path) -> None:
    output = tmp_path / "out"
    hook = {"path": "/bin/sh", "args": ["named", "-c", f'echo "$0 $# $A $HOME" > {output}'], "env": ["A=b c"]}
    assert (
        container({"hooks": {"createRuntime": [hook]}}).run("true", env={"HOME": "/h", "PATH": "/bin"}).returncode == 0
    )
    assert output.read_text() == "named 0 b c \n"


@pytest.mark.parametrize("moment", ["prestart", "createRuntime", "createContainer"])
def test_a_failure_before_created_undoes_all(container, rootless, tmp_path, moment) -> None:
    hooks = {moment: [shell("echo because >&2; exit 7")], "poststop": [shell(f"cat > {tmp_path}/gone")]}
    c = container({"hooks": hooks})
    result = c.create()
    assert result.returncode == 1
    assert f"/hooks/{moment}/0" in result.stderr and "exit status 7" in result.stderr and "because" in result.stderr
    assert result.stderr.count("\n") == 1
    assert rootless.ids() == []
    assert json.loads((tmp_path / "gone").read_text())["id"] == c.id, "runtime.md#lifecycle: step 13 follows"


@pytest.mark.parametrize("moment", ["startContainer", "poststart"])
def test_a_failure_at_start_destroys_it(container, rootless, tmp_path, moment) -> None:
    """The command fails, the container is stopped and destroyed, and the poststop hooks run (runtime.md#lifecycle)."""
    hooks = {moment: [shell("exit 7")], "poststop": [shell(f"touch {tmp_path}/poststop")]}
    c = container({"hooks": hooks, "process": {"args": ["sleep", "1000"]}})
    assert c.create().returncode == 0
    result = c.start()
    assert result.returncode == 1 and f"/hooks/{moment}/0" in result.stderr
    assert rootless.ids() == [] and (tmp_path / "poststop").exists()


def test_annotations_name_files_for_their_output(container, tmp_path) -> None:
    """crun's run.oci.hooks.stdout and .stderr name files to which the output of all hooks is appended."""
    out, err = tmp_path / "out", tmp_path / "err"
    hook = shell("echo said; echo complained >&2")
    annotations = {"run.oci.hooks.stdout": str(out), "run.oci.hooks.stderr": str(err)}
    moments = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
    c = container({"hooks": {moment: [hook] for moment in moments}, "annotations": annotations})
    c.output("true")
    assert out.read_text() == "said\n" * 6 and err.read_text() == "complained\n" * 6
    assert not (c.bundle.rootfs / str(tmp_path)[1:]).exists()


def test_the_program_does_not_get_the_file_of_its_hooks(container, tmp_path) -> None:
    annotations = {"run.oci.hooks.stdout": str(tmp_path / "out")}
    c = container({"hooks": {"startContainer": [shell("true")]}, "annotations": annotations})
    assert c.output("ls", "/proc/self/fd").split() == ["0", "1", "2", "3"]  # the last is of `ls` itself


def test_a_failing_poststop_only_warns_and_the_rest_goes_on(container, rootless, tmp_path) -> None:
    hooks = [shell("exit 7"), shell(f"touch {tmp_path}/second")]
    result = container({"hooks": {"poststop": hooks}}).run("true")
    assert result.returncode == 0 and "warning" in result.stderr and "/hooks/poststop/0" in result.stderr
    assert (tmp_path / "second").exists()
    assert rootless.ids() == []


def test_the_first_failure_ends_the_row(container, tmp_path) -> None:
    hooks = [shell("exit 1"), shell(f"touch {tmp_path}/second")]
    assert container({"hooks": {"createRuntime": hooks}}).create().returncode == 1
    assert not (tmp_path / "second").exists()


def test_a_timeout_ends_the_hook(container, rootless) -> None:
    c = container({"hooks": {"createRuntime": [shell("exec sleep 1000", timeout=1)]}})
    result = c.create()
    assert result.returncode == 1 and "longer than 1 s" in result.stderr
    assert rootless.ids() == []


@pytest.mark.parametrize(
    ("hook", "where"),
    [({"path": "relative"}, "/hooks/prestart/0/path"), ({}, "/hooks/prestart/0/path"),
     ({"path": "/bin/true", "timeout": 0}, "/hooks/prestart/0/timeout"), ({"path": 1}, "/hooks/prestart/0/path"),
     ({"path": "/bin/true", "args": "x"}, "/hooks/prestart/0/args")],
)  # fmt: skip
def test_wrong_hooks_are_refused_at_their_place(container, rootless, hook, where) -> None:
    result = container({"hooks": {"prestart": [hook]}}).create()
    assert result.returncode == 1 and where in result.stderr and result.stderr.count("\n") == 1
    assert rootless.ids() == []


def test_a_hook_that_is_not_there(container, rootless) -> None:
    result = container({"hooks": {"createRuntime": [{"path": "/no/such/hook"}]}}).create()
    assert result.returncode == 1 and "/no/such/hook" in result.stderr and "No such file" in result.stderr
    assert rootless.ids() == []


def test_a_hook_gets_no_descriptor_of_the_runtime(container, tmp_path) -> None:
    output = tmp_path / "fds"
    assert container({"hooks": {"createRuntime": [shell(f"ls /proc/self/fd > {output}")]}}).run("true").returncode == 0
    assert output.read_text().split() == ["0", "1", "2", "3"]  # 3 is the directory that ls reads


def test_a_hook_that_does_not_read_its_stdin(container) -> None:
    big = {f"org.example.{n}": "x" * 1000 for n in range(100)}
    c = container({"hooks": {"createRuntime": [{"path": "/bin/true"}]}, "annotations": big})
    assert c.run("true").returncode == 0


def test_a_talkative_hook_that_fails(container, rootless) -> None:
    """A hook that writes more to standard error than a pipe holds does not hang."""
    script = "head -c 300000 /dev/zero | tr '\\0' x >&2; exit 3"
    result = container({"hooks": {"createRuntime": [shell(script, timeout=30)]}}).create()
    assert result.returncode == 1 and "exit status 3" in result.stderr
    assert rootless.ids() == []


def test_hooks_do_not_see_the_bundle_changed(container, tmp_path) -> None:
    """The poststop hook is that of the config with which the container was created."""
    c = container({"hooks": {"poststop": [shell(f"touch {tmp_path}/ran")]}, "process": {"args": ["true"]}})
    assert c.create().returncode == 0
    c.bundle.patch({"hooks": None})
    assert c.delete().returncode == 0
    assert Path(f"{tmp_path}/ran").exists()


@pytest.mark.parametrize("moment", MOMENTS)
def test_what_a_hook_prints_is_not_the_programs_output(container, moment) -> None:
    """As with runc and crun, a hook's standard output goes nowhere, also if nobody reads the runtime's (signal(7))."""
    hook = shell("echo noise; echo noise; echo complaint >&2; exec 1>&-; true")
    if moment == "startContainer":
        hook = {**hook, "path": "/bin/sh"}
    c = container({"hooks": {moment: [hook]}, "process": {"args": ["echo", "program"]}})
    reader, writer = os.pipe()
    os.close(reader)  # no SIGPIPE for the hook
    try:
        created = c.rootless("create", "-b", c.bundle.path, c.id, capture_output=False, stdout=writer)
    finally:
        os.close(writer)
    assert created.returncode == 0
    assert c.delete("--force").returncode == 0
    result = c.run()
    assert (result.returncode, result.stdout, result.stderr) == (0, "program\n", "")


def test_a_hooks_complaint_is_in_the_log(container, tmp_path) -> None:
    """A failed hook's standard error is in the error line, which is in the log, too. Otherwise --debug logs it."""
    log = tmp_path / "log"
    c = container(
        {"hooks": {"prestart": [shell("echo note >&2")], "createRuntime": [shell("echo because >&2; exit 3")]}}
    )
    result = c.rootless("--debug", "--log", log, "create", "-b", c.bundle.path, c.id)
    assert result.returncode == 1 and result.stderr.splitlines()[-1].count("because") == 1
    lines = log.read_text().splitlines()
    assert any("level=debug" in line and "prestart hook: /bin/sh: note" in line for line in lines)
    assert any("level=error" in line and "because" in line for line in lines)


@pytest.mark.parametrize("moment", ["createRuntime", "createContainer", "startContainer", "poststart", "poststop"])
def test_what_a_hook_says_is_a_line_of_debug(container, tmp_path, moment) -> None:
    log = tmp_path / "log"
    c = container({"hooks": {moment: [shell("echo note >&2")]}})
    assert c.rootless("--debug", "--log", log, "run", "-b", c.bundle.path, c.id).returncode == 0
    assert f"{moment} hook: /bin/sh: note" in log.read_text()
    result = c.run()
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("kind", ["fifo", "link", "file"])
def test_a_container_without_a_null_device_does_not_hold_a_hook_up(container, kind) -> None:
    """startContainer runs in the container, where /dev/null may be anything, and the hook still runs."""
    c = container({"hooks": {"startContainer": [shell("echo noise")]}, "process": {"args": ["echo", "program"]}})
    kept = [m for m in c.bundle.config["mounts"] if not m["destination"].startswith("/dev")]
    source = c.bundle.path / "dev"
    source.mkdir()
    c.bundle.patch({"mounts": [*kept, {"destination": "/dev", "type": "bind", "source": str(source)}]})
    null = source / "null"
    if kind == "fifo":
        os.mkfifo(null)
    elif kind == "link":
        null.symlink_to("/tmp/kept")
    else:
        null.touch()
    assert c.output() == "program\n"
    assert kind != "file" or null.read_text() == ""


def test_a_stream_of_a_hook_that_cannot_be_opened_is_named(container, rootless) -> None:
    c = container({"hooks": {"prestart": [shell("true")]}, "annotations": {"run.oci.hooks.stdout": "/nosuch/out"}})
    result = c.create()
    assert result.returncode == 1 and "/nosuch/out: No such file" in result.stderr
    assert rootless.ids() == []


@pytest.mark.parametrize("moment", ["createRuntime", "createContainer", "startContainer", "poststop"])
@pytest.mark.parametrize(
    ("hook", "why"), [({"args": [""]}, "argv first element cannot be empty"), ({"env": ["=x"]}, "illegal environment")]
)
def test_a_hook_that_execve_does_not_take(container, moment, hook, why) -> None:
    """It used to end with 127 and no word."""
    result = container({"hooks": {moment: [{"path": "/bin/true", **hook}]}}).run("true")
    assert len(result.stderr.splitlines()) == 1 and why in result.stderr
