"""The lifecycle of runtime.md#lifecycle, as far as the table of test_config_errors.py does not have it."""

import json
import os
import re
import select
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.checkout import TIMEOUT, driver
from tests.support.processes import until

STATES = ("created", "running", "stopped")


class Fifo:
    """Hold a fifo that a process of the container or a hook writes to when it runs."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path, 0o666)
        self.fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def wait(self) -> None:
        """Wait until something was written."""
        assert select.select([self.fd], [], [], TIMEOUT)[0], "nobody wrote"
        os.read(self.fd, 4096)


def brought_to(container, status: str):
    """Return a container in that status. A running one ends by TERM, because its program handles it."""
    script = "trap 'exit 3' TERM; echo > /ready; while :; do sleep 1000 & wait $!; done"
    c = container({"process": {"args": ["sh", "-c", script] if status == "running" else ["true"]}})
    ready = Fifo(c.bundle.rootfs / "ready")
    assert c.create().returncode == 0
    if status != "created":
        assert c.start().returncode == 0
    if status == "running":
        ready.wait()
    if status == "stopped":
        c.wait()
    assert c.status() == status
    return c


@pytest.mark.parametrize("status", STATES)
@pytest.mark.parametrize("command", ["create", "run"])
def test_an_id_in_use_is_refused_in_every_state_and_stays_as_it_was(container, status, command) -> None:
    c = brought_to(container, status)
    before = c.state()
    result = c.create() if command == "create" else c.run("true")
    assert result.returncode == 1
    assert "already exists" in result.stderr
    assert c.state() == before


def test_a_created_container_shows_its_init_by_name(container) -> None:
    """ps(1) shows an init that waits for `start` under another name than the runtime, and the program under its own."""
    c = container({"process": {"args": ["sleep", "1000"]}})
    assert c.create().returncode == 0
    comm = Path(f"/proc/{c.state()['pid']}/comm")
    assert comm.read_text() == "rootless:init\n"
    assert c.start().returncode == 0
    assert until(lambda: comm.read_text() == "sleep\n")  # execve(2) closes what `start` waits for before it renames


@pytest.mark.parametrize("status", STATES)
def test_delete_force_is_right_in_every_state(container, rootless, status) -> None:
    c = brought_to(container, status)
    result = c.delete("--force")
    assert (result.returncode, result.stderr) == (0, "")
    assert rootless.ids() == []


def test_delete_force_of_nothing_is_fine(rootless) -> None:
    assert rootless("delete", "--force", "nobody").returncode == 0


def test_a_running_container_is_not_deleted_and_says_how(container) -> None:
    c = brought_to(container, "running")
    result = c.delete()
    assert result.returncode == 1
    assert "that is not stopped: running" in result.stderr and "hint:" in result.stderr
    assert c.status() == "running"


@pytest.mark.parametrize("spelling", ["TERM", "SIGTERM", "term", "sigterm", "15"])
def test_signal_spellings(container, spelling) -> None:
    c = brought_to(container, "running")
    assert c.kill(spelling).returncode == 0
    c.wait()
    assert c.status() == "stopped"


def test_the_default_signal_is_term(container) -> None:
    c = brought_to(container, "running")
    assert c.kill().returncode == 0
    c.wait()


@pytest.mark.parametrize("spelling", ["SIGFOO", "65", "-65", "", "1e1", "SIG", "9x"])
def test_no_such_signal(container, spelling) -> None:
    c = brought_to(container, "created")
    result = c.rootless("kill", c.id, spelling) if spelling else c.rootless("kill", c.id, "SIG ")
    assert result.returncode == 1
    assert result.stderr.startswith("rootless: ") and result.stderr.count("\n") == 1
    assert c.status() == "created"


def test_kill_all_reaches_the_whole_container(container) -> None:
    c = brought_to(container, "running")
    assert c.kill("--all", "KILL").returncode == 0
    c.wait()
    assert c.status() == "stopped"


def test_run_of_a_background_container(container) -> None:
    c = container({"process": {"args": ["sleep", "1000"]}})
    assert c.run_detached("--pid-file", str(c.bundle.path / "pid")).returncode == 0
    assert (c.bundle.path / "pid").read_text() == str(c.state()["pid"])
    assert c.status() == "running"


def test_keep_leaves_it_stopped(container) -> None:
    c = container({"process": {"args": ["true"]}})
    assert c.run(flags=("--keep",)).returncode == 0
    assert c.status() == "stopped"
    assert c.state()["pid"] == 0
    assert c.delete().returncode == 0


def test_signals_are_forwarded_to_the_program(container, rootless) -> None:
    c = container()
    script = "trap 'exit 42' USR1; echo ready; while :; do sleep 1000 & wait $!; done"
    process = rootless.popen("run", "-b", c.bundle.path, c.id, "--", "sh", "-c", script)
    assert process.stdout.readline() == "ready\n"
    rootless.note_cgroups()
    process.send_signal(signal.SIGUSR1)
    assert process.wait(60) == 42
    assert process.communicate() == ("", "")


@pytest.mark.parametrize("signum", [signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["createRuntime", "createContainer"])
def test_a_signal_during_the_set_up_takes_all_back(container, rootless, tmp_path, moment, signum) -> None:
    """A hook stops the set-up, once of the runtime and once of init, and the signal undoes everything."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    hook = {"path": "/bin/sh", "args": ["sh", "-c", f"echo here >{fifo}; exec sleep 1000"], "env": ["PATH=/bin"]}
    c = container({"hooks": {moment: [hook]}})
    # A shell's job in the background begins with some of them ignored, and then so do we.
    process = rootless.popen(
        "run", "-b", c.bundle.path, c.id, preexec_fn=lambda: signal.signal(signum, signal.SIG_DFL)
    )  # fmt: skip
    assert fifo.read_text() == "here\n"
    rootless.note_cgroups()
    process.send_signal(signum)
    assert process.wait(60) == 128 + signum
    assert process.communicate() == ("", "")
    assert rootless.ids() == []


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_a_hook_of_the_start_takes_all_back(container, rootless, signum) -> None:
    """The runtime has told init to go on, but there is no program yet that could get the signal."""
    hook = {"path": "/bin/sh", "args": ["sh", "-c", "echo here >/fifo; exec sleep 1000"], "env": ["PATH=/bin"]}
    c = container({"hooks": {"startContainer": [hook]}})
    fifo = c.bundle.rootfs / "fifo"
    os.mkfifo(fifo)
    process = rootless.popen(
        "run", "-b", c.bundle.path, c.id, preexec_fn=lambda: signal.signal(signum, signal.SIG_DFL)
    )  # fmt: skip
    assert fifo.read_text() == "here\n"
    rootless.note_cgroups()
    process.send_signal(signum)
    assert process.wait(60) == 128 + signum
    assert process.communicate() == ("", "")
    assert rootless.ids() == []


def test_the_second_signal_during_a_poststart_hook_takes_all_back(container, rootless, tmp_path) -> None:
    """The first signal waits for the end of the hook, to be passed on to the program; the second undoes everything."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    hook = {"path": "/bin/sh", "args": ["sh", "-c", f"echo here >{fifo}; exec sleep 1000"], "env": ["PATH=/bin"]}
    c = container({"hooks": {"poststart": [hook]}})
    process = rootless.popen("run", "-b", c.bundle.path, c.id, "--", "sleep", "1000")
    assert fifo.read_text() == "here\n"
    rootless.note_cgroups()
    process.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.3)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 128 + 15
    assert process.communicate() == ("", "")
    assert rootless.ids() == []


def test_a_signal_after_the_hooks_of_the_start_reaches_the_program(container, rootless) -> None:
    c = container({"hooks": {moment: [{"path": "/bin/true"}] for moment in ("startContainer", "poststart")}})
    script = "trap 'exit 42' TERM; echo ready; while :; do sleep 1000 & wait $!; done"
    process = rootless.popen("run", "-b", c.bundle.path, c.id, "--", "sh", "-c", script)
    assert process.stdout.readline() == "ready\n"
    rootless.note_cgroups()
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 42
    assert process.communicate() == ("", "")


def test_a_signal_for_the_program_waits_for_it(container, rootless, tmp_path) -> None:
    """During the set-up no process can get the signal, and it ends nothing."""
    fifo, go = tmp_path / "fifo", tmp_path / "go"
    os.mkfifo(fifo)
    os.mkfifo(go)
    hook = {"path": "/bin/sh", "args": ["sh", "-c", f"echo here >{fifo}; cat {go}"], "env": ["PATH=/bin"]}
    c = container({"hooks": {"createContainer": [hook]}})
    process = rootless.popen("run", "-b", c.bundle.path, c.id, "--", "sleep", "0.2")
    assert fifo.read_text() == "here\n"
    process.send_signal(signal.SIGUSR1)
    process.send_signal(signal.SIGWINCH)
    go.write_text("")
    assert process.wait(60) == 0
    assert process.communicate() == ("", "")
    assert rootless.ids() == []


SIGNALLED = """
import os
from rootless import __main__
from rootless.runtime import state
from rootless.runtime import run
place, name = {"made": (state.StateDir, "make"), "created": (run, "create"), "away": (state.StateDir, "remove")}[
    sys.argv.pop(1)
]
real = getattr(place, name)
def signalled(*args):
    if name == "remove":
        [os.kill(os.getpid(), signum) for signum in (1, 2, 3, 15)]
    found = real(*args)
    os.kill(os.getpid(), 15)
    return found
setattr(place, name, signalled)
__main__.launcher()
"""


@pytest.mark.parametrize(("moment", "code"), [("made", 143), ("created", 143), ("away", 7)])
def test_a_signal_between_what_is_made_and_who_takes_it_back(container, rootless, moment, code) -> None:
    """A signal between two steps of `run` ends the command only when its undo function is registered; during `delete`
    it has no effect.
    """
    c = container({"process": {"args": ["sh", "-c", "exit 7"]}})
    command = driver(SIGNALLED, moment, "--root", rootless.state, "run", "-b", c.bundle.path, c.id)
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=TIMEOUT, check=False,
        preexec_fn=lambda: [signal.signal(n, signal.SIG_DFL) for n in (1, 2, 3, 15)],
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (code, "")
    assert rootless.ids() == []


CLONED = """
import os
from rootless import __main__
from rootless.kernel import child
from rootless.process import hooks
real = child.clone
fifo = sys.argv.pop(1)
def clone(flags, life, **options):
    found = real(flags, life, **options)
    if flags == 0:  # a hook: init has namespaces
        open(fifo).read()
        os.kill(os.getpid(), 15)
    return found
child.clone = clone
code = __main__.main()
try:
    os.waitpid(-1, os.WNOHANG)
    code = 99  # a child that nobody has ended and reaped
except ChildProcessError:
    pass
os._exit(code)
"""


@pytest.mark.parametrize("moment", ["prestart", "createRuntime"])
def test_a_signal_right_after_the_clone_of_a_hook_ends_the_hook_too(container, rootless, tmp_path, moment) -> None:
    """The signal comes before the command waits for the hook: the hook is ended and
    reaped before the rest is undone.
    """
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    hook = {"path": "/bin/sh", "args": ["sh", "-c", f"echo here >{fifo}; exec sleep 1000"], "env": ["PATH=/bin"]}
    c = container({"hooks": {moment: [hook]}})
    command = driver(CLONED, fifo, "--root", rootless.state, "run", "-b", c.bundle.path, c.id)
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=TIMEOUT, check=False,
        preexec_fn=lambda: signal.signal(15, signal.SIG_DFL),
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (143, "")
    assert rootless.ids() == []


def test_a_poststop_hook_that_hangs_can_be_interrupted(container, rootless, tmp_path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    hook = {"path": "/bin/sh", "args": ["sh", "-c", f"echo here >{fifo}; exec sleep 1000"], "env": ["PATH=/bin"]}
    c = container({"hooks": {"poststop": [hook]}})
    process = rootless.popen("run", "-b", c.bundle.path, c.id, "--", "true")
    assert fifo.read_text() == "here\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 128 + 15
    assert process.communicate() == ("", "")
    assert rootless.ids() == []


def test_the_program_killed_from_outside_is_128_and_the_signal(container, rootless) -> None:
    c = container()
    process = rootless.popen("run", "-b", c.bundle.path, c.id, "--", "sh", "-c", "echo ready; sleep 1000")
    assert process.stdout.readline() == "ready\n"
    assert c.kill("KILL").returncode == 0
    assert process.wait(60) == 128 + 9
    process.communicate()


def test_deleted_by_force_while_run_waits(container, rootless) -> None:
    """`run` and `delete --force` remove the same container: one does it, and the other ends without an error."""
    c = container()
    process = rootless.popen("run", "-b", c.bundle.path, c.id, "--", "sh", "-c", "echo ready; sleep 1000")
    assert process.stdout.readline() == "ready\n"
    assert c.delete("--force").returncode == 0
    assert process.wait(60) == 128 + 9
    assert process.communicate()[1] == ""


def test_program_reads_the_callers_input(container) -> None:
    assert container().output("cat", input="through\n") == "through\n"


STATE_KEYS = {"ociVersion", "id", "pid", "status", "bundle", "rootfs", "created", "owner"}


def test_state_is_what_the_spec_says(container) -> None:
    c = brought_to(container, "created")
    state = c.state()
    assert set(state) == STATE_KEYS
    assert state["bundle"] == str(c.bundle.path) and state["rootfs"] == str(c.bundle.rootfs)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", state["created"])
    assert Path(f"/proc/{state['pid']}").exists()


def test_annotations_are_kept_in_the_state(container) -> None:
    c = container({"annotations": {"org.example.key": "value"}})
    assert c.create().returncode == 0
    assert c.state()["annotations"] == {"org.example.key": "value"}


def test_list_in_all_formats(container, rootless) -> None:
    assert "no such file" in rootless("list").stderr
    rootless.state.mkdir()
    assert rootless("list", "--quiet").stdout == ""
    assert json.loads(rootless("list", "--format", "json").stdout) is None
    one, two = brought_to(container, "created"), brought_to(container, "stopped")
    assert sorted(rootless("list", "-q").stdout.split()) == sorted([one.id, two.id])
    found = {entry["id"]: entry["status"] for entry in json.loads(rootless("list", "-f", "json").stdout)}
    assert found == {one.id: "created", two.id: "stopped"}
    head, *rows = rootless("list").stdout.splitlines()
    assert head.split() == ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER", "IMAGE", "AGE", "PORTS"]
    assert len(rows) == 2
    result = rootless("list", "--format", "xml")
    assert result.returncode == 1 and "table or json" in result.stderr


def as_argument(bundle: Path, name: str) -> list[tuple[str, Path]]:
    return [(str(bundle), Path("/")), (f"./{name}", bundle.parent), (f"{name}/", bundle.parent), (name, bundle.parent)]


@pytest.mark.parametrize("number", range(4))
def test_a_bundle_is_an_argument(make_bundle: Callable, rootless, number) -> None:
    """The argument is an absolute path, ./BUNDLE, BUNDLE/, or BUNDLE if the current directory has no config.json."""
    name = f"busybox-{os.getpid()}-{number}"
    bundle = make_bundle(name)
    argument, cwd = as_argument(bundle.path, name)[number]
    result = rootless("run", argument, "--", "echo", "hello", cwd=cwd)
    assert (result.returncode, result.stdout) == (0, "hello\n"), result.stderr
    assert rootless("create", argument, cwd=cwd, capture_output=False).returncode == 0
    assert rootless.ids() == [name]
    for command in ("state", "start", "delete --force"):
        words = command.split()
        assert rootless(*words, argument.rstrip("/") if argument == f"{name}/" else argument, cwd=cwd).returncode == 0


def test_an_id_here_wins_where_the_current_directory_is_a_bundle(bundle, rootless) -> None:
    name = f"here-{os.getpid()}"
    result = rootless("run", name, "--", "hostname", cwd=bundle.path)
    assert (result.returncode, result.stdout) == (0, "rootless\n"), result.stderr


def test_a_bundle_whose_name_is_no_id_asks_for_one(make_bundle: Callable, rootless) -> None:
    bundle = make_bundle("no id")
    result = rootless("run", str(bundle.path))
    assert result.returncode == 1 and "--bundle DIR ID" in result.stderr


def test_spec_writes_a_config_that_runs_and_refuses_to_overwrite(bundle, rootless) -> None:
    (bundle.path / "config.json").unlink()
    assert rootless("spec", "--bundle", str(bundle.path)).returncode == 0
    config = json.loads((bundle.path / "config.json").read_text())
    if os.geteuid():
        assert config["linux"]["uidMappings"] == [{"containerID": 0, "hostID": os.geteuid(), "size": 1}]
    result = rootless("spec", "--bundle", str(bundle.path))
    assert result.returncode == 1 and "exists" in result.stderr
    result = rootless("run", "-b", str(bundle.path), f"spec-{os.getpid()}", "--", "echo", "ran")
    assert (result.returncode, result.stdout) == (0, "ran\n"), result.stderr


def test_start_reports_what_only_execve_knows_and_leaves_it_stopped(container) -> None:
    c = container({"process": {"args": ["/bin/garbage"]}})
    (c.bundle.rootfs / "bin/garbage").write_bytes(b"\1\2\3garbage")
    (c.bundle.rootfs / "bin/garbage").chmod(0o755)
    assert c.create().returncode == 0
    result = c.start()
    assert result.returncode == 1
    assert "exec format error" in result.stderr and "hint:" in result.stderr
    c.wait()
    assert c.status() == "stopped"
    assert c.delete().returncode == 0


@pytest.mark.parametrize("moment", ["prestart", "createRuntime", "createContainer"])
def test_the_runtime_killed_on_its_way_leaves_what_delete_force_removes(container, rootless, moment, tmp_path) -> None:
    """`create` is killed in the middle, and `delete --force` removes all that is there then."""
    here = Fifo(tmp_path / "here")
    hook = {"path": "/bin/sh", "args": ["sh", "-c", f"echo > {tmp_path}/here; exec sleep 1000"], "env": ["PATH=/bin"]}
    c = container({"process": {"args": ["true"]}, "hooks": {moment: [hook]}})
    with open(os.devnull, "w") as nothing:
        options = {"stdout": nothing, "stderr": nothing, "start_new_session": True}
        process = rootless.popen("create", "-b", c.bundle.path, c.id, **options)
    here.wait()
    rootless.note_cgroups()
    hooks = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.kill()
    process.wait()
    if moment != "createContainer":
        os.kill(int(hooks[-1]), signal.SIGKILL)  # no command ends the hook of a killed runtime
    result = c.delete("--force")
    assert (result.returncode, result.stderr) == (0, "")
    assert rootless.ids() == []


@pytest.mark.parametrize("files", [{}, {"state.json": ""}, {"config.json": "{}", ".state.json.new": "{"}])
def test_the_runtime_killed_before_there_was_a_process(rootless, files) -> None:
    directory = rootless.state / "half"
    directory.mkdir(parents=True)
    for name, text in files.items():
        (directory / name).write_text(text)
    result = rootless("delete", "--force", "half")
    assert (result.returncode, result.stderr) == (0, "")
    assert rootless.ids() == []
