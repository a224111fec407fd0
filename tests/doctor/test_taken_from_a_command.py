"""When only one command needs what is taken away, its error has the hint of the table. `doctor` has no line for it."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from rootless import TaskDied
from rootless.api import client
from rootless.cgroup import systemd
from rootless.errors import RootlessError
from rootless.kernel.hints import HINTS
from tests.doctor.taken import Make, changed, error_says, filtered, filters, is_of, run, same, without
from tests.doctor.test_doctor import USERS_OWN, examine, hint_of
from tests.support import archives as a
from tests.support.checkout import TIMEOUT, driver
from tests.support.containers import USER, Container, Rootless, mapped, needs_range

SLEEPS = {"process": {"args": ["sleep", "1000"]}}


@pytest.fixture
def sleeper(container: Make) -> Container:
    """Return a container that runs until it is ended."""
    c = container(SLEEPS)
    assert c.run_detached().returncode == 0
    return c


# ---------------------------------------------------------------------------------------------------- the container


def test_an_id_is_in_use(rootless: Rootless, container: Make, sleeper: Container) -> None:
    error_says(rootless("run", "-b", sleeper.bundle.path, sleeper.id), "id-in-use")
    error_says(rootless("run", "--name", sleeper.id, "-b", sleeper.bundle.path), "name-in-use")
    created = container(SLEEPS)
    assert created.create().returncode == 0
    error_says(rootless("run", "-b", created.bundle.path, created.id), "id-taken")


def test_a_bundle_is_not_there(rootless: Rootless, tmp_path: Path) -> None:
    error_says(run(rootless.command("run", "./nosuch"), cwd=tmp_path), "no-such-bundle")
    error_says(run(rootless.command("doctor", "./nosuch"), cwd=tmp_path), "no-such-bundle")


def test_the_exit_code_is_lost(rootless: Rootless, container: Make) -> None:
    c = container({"process": {"args": ["true"]}})
    assert c.run_detached().returncode == 0
    c.wait()
    error_says(rootless("wait", c.id), "exit-code-unknown")


@pytest.mark.root
@pytest.mark.parametrize("who", ["another user's", "hidden"])
def test_a_command_that_holds_the_lock_is_not_ours_to_end(rootless: Rootless, sleeper: Container, who: str) -> None:
    """This process may not end, or cannot see, the one that holds the lock."""
    if USER and who == "another user's":
        pytest.skip("root has to start it")
    state = rootless.state / sleeper.id
    program = "import fcntl, os, sys, time\nfd = os.open(sys.argv[1], os.O_RDONLY)\nfcntl.flock(fd, fcntl.LOCK_EX)\n"
    program += "print(flush=True)\ntime.sleep(1000)\n"
    with subprocess.Popen([sys.executable, "-c", program, state], stdout=subprocess.PIPE) as holder:
        try:
            assert holder.stdout is not None and holder.stdout.readline()
            before = ("unshare", "--user", "--map-current-user", "--pid", "--fork", "--mount-proc")
            error_says(run([*before, *rootless.command("delete", "--force", sleeper.id)]), "stuck-command")
        finally:
            holder.kill()


# -------------------------------------------------------------------------------------------------------- a cgroup


def test_cgroups_are_disabled(rootless: Rootless, container: Make) -> None:
    path = container().bundle.path
    error_says(rootless("--cgroup-manager", "disabled", "run", "-m", "64m", "-b", path, "none"), "cgroups-disabled")


def test_a_container_was_made_without_one(rootless: Rootless, container: Make) -> None:
    c = container(SLEEPS)
    out = (c.bundle.path / "out").open("w")
    words = ("--cgroup-manager", "disabled", "create", "-b", c.bundle.path, c.id)
    assert rootless(*words, capture_output=False, stdout=out, stderr=out).returncode == 0
    assert c.start().returncode == 0
    for command in (("pause", c.id), ("events", "--stats", c.id)):
        error_says(rootless(*command), "made-without-cgroup")


@USERS_OWN
def test_only_cgroup_v1_is_there(rootless: Rootless, container: Make) -> None:
    before = without("mount -t tmpfs none /sys/fs/cgroup && mkdir /sys/fs/cgroup/memory")
    error = run([*before, *rootless.command("run", "-m", "64m", "-b", container().bundle.path, "none")])
    same(error, examine(rootless, before=before), "cgroup", "cgroup-v1")


class FailingBus:
    """Play a bus whose systemd answers with a job, and then reports that the job failed."""

    def __init__(self, result: str) -> None:
        self.result = result

    def send_and_get_reply(self, message: Any, *, timeout: float) -> Any:
        jeepney = pytest.importorskip("jeepney")
        reply = jeepney.new_method_return(message, "o", ("/job/7",))
        reply.header.fields[jeepney.HeaderFields.reply_serial] = 1
        return reply

    def filter(self, *_: Any, **__: Any) -> Any:
        from contextlib import nullcontext

        return nullcontext()

    def recv_until_filtered(self, *_: Any, **__: Any) -> Any:
        from types import SimpleNamespace

        return SimpleNamespace(body=(7, "/job/7", "box.scope", self.result))

    def close(self) -> None:
        pass


def test_systemd_says_only_that_a_job_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test plays the bus, because systemd cannot be made to fail a scope's job."""
    pytest.importorskip("jeepney")
    monkeypatch.setattr(systemd, "_connect", lambda _user: FailingBus("failed"))
    with systemd._Manager(user=True) as manager, pytest.raises(RootlessError) as error:
        manager.run("StopUnit", "ss", ("box.scope", "replace"))
    assert is_of(error.value.hint, "systemd-silent")


# ------------------------------------------------------------------------------------------------------------ Python


@pytest.mark.parametrize(
    ("program", "name"),
    [
        ("sys.modules['cloudpickle'] = None\nfrom rootless.api.tasks import _cloudpickle\n_cloudpickle()", "no-tasks"),
        (
            "import rootless\nwith rootless.Popen(['sleep', '1000']) as p:\n"
            "    try:\n        p.pause()\n    finally:\n        p.kill()",
            "python-cgroup",
        ),
    ],
)
def test_python_lacks_a_package_or_a_cgroup(tmp_path: Path, program: str, name: str) -> None:
    lines = "".join(f"    {line}\n" for line in program.splitlines())
    text = f"import site; site.main()\nfrom rootless import RootlessError\ntry:\n{lines}"
    text += "except RootlessError as error:\n    sys.exit(f'rootless: {error}')\n"
    error_says(run([*without("mount -t tmpfs none /sys/fs/cgroup"), *driver(text)], cwd=tmp_path), name)


def test_a_limit_of_memory_is_reached() -> None:
    """The test plays the kernel's count of kills, because only the guest of tests/vm has controllers."""
    assert is_of(TaskDied("f", -9, oom_killed=True).hint, "task-memory")
    assert TaskDied("f", -9, oom_killed=False).hint == "its output says more"
    assert is_of(client._died(9, 1).hint, "memory-limit-reached")
    assert client._died(9, 0).hint == ""


@filters
@USERS_OWN
def test_python_asks_for_a_root_in_memory_on_a_tmpfs_without_attributes(container: Make) -> None:
    text = f"import rootless\nrootless.run(['true'], rootfs={str(container().bundle.rootfs)!r}, ephemeral=True)\n"
    text = "import site; site.main()\n" + filtered(setxattr=errno.EOPNOTSUPP) + text
    error_says(run(driver(text)), "no-memory-root-from-python")


# ------------------------------------------------------------------------------------------------------- root's own


# Root of a user namespace that has one more user, and whose setgroups(2) is denied (user_namespaces(7)).
DENIED = """
import os
from rootless.kernel import syscalls
ready, done = os.pipe(), os.pipe()
pid = os.fork()
if not pid:
    syscalls.unshare(syscalls.CLONE_NEWUSER)
    os.write(ready[1], b"x")
    os.read(done[0], 1)
    os.execv(sys.argv[1], sys.argv[1:])
os.read(ready[0], 1)
for name, text in (("setgroups", "deny"), ("uid_map", "0 0 1\\n4242 4242 1"), ("gid_map", "0 0 1\\n4242 4242 1")):
    with open(f"/proc/{pid}/{name}", "w") as file:
        file.write(text)
os.write(done[1], b"x")
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


@pytest.mark.root
@pytest.mark.parametrize(
    ("before", "name"),
    [
        (("setpriv", "--bounding-set", "-setuid,-setgid", "--inh-caps", "-setuid,-setgid"), "root-without-setuid"),
        (("unshare", "--user", "--map-root-user"), "owner-not-mapped"),
        (driver(DENIED), "setgroups-denied"),
    ],
)
def test_root_cannot_become_the_owner(rootless: Rootless, before: tuple[str, ...], name: str) -> None:
    if USER:
        pytest.skip("only root becomes somebody else")
    rootless.state.mkdir()
    for path in (rootless.state, *list(rootless.state.parents)[:2]):
        path.chmod(0o755)
    os.chown(rootless.state, 4242, 4242)
    error_says(run([*before, *rootless.command("list")]), name)


@USERS_OWN
def test_the_state_root_is_another_users(container: Make, tmp_path: Path) -> None:
    """The user's own state root is closed to others, and so is root's."""
    if os.access("/root", os.X_OK):
        pytest.skip("this user may look into /root")
    rootless = Rootless(Path("/root"))
    error = run(rootless.command("run", "-b", container().bundle.path, "none"))
    same(error, examine(rootless), "state", "own-state-root")


@pytest.mark.root
def test_root_may_not_have_the_pipe_of_lazy_pages(rootless: Rootless, sleeper: Container, tmp_path: Path) -> None:
    if USER:
        pytest.skip("a user makes no checkpoints")
    before = ("setpriv", "--bounding-set", "-sys_resource", "--inh-caps", "-sys_resource")
    words = ("--criu", "/bin/false", "checkpoint", "--lazy-pages", "--image-path", tmp_path / "image", sleeper.id)
    error_says(run([*before, *rootless.command(*words)]), "small-pipes")


@pytest.mark.root
def test_a_bundle_of_another_user_is_closed(rootless: Rootless, tmp_path: Path) -> None:
    if USER:
        pytest.skip("root has to make another user's bundle")
    (tmp_path / "image.tar").write_bytes(a.docker_archive([a.file("x") + a.END]))
    assert rootless("convert", tmp_path / "image.tar", "-o", tmp_path / "box").returncode == 0
    for path in (tmp_path, *list(tmp_path.parents)[:2]):
        path.chmod(0o755)
    for name, mode in (("", 0o755), (".oci", 0o755), ("config.json", 0o644), (".oci/image.json", 0o600)):
        (tmp_path / "box" / name).chmod(mode)
    (tmp_path / "home").mkdir()
    os.chown(tmp_path / "home", 4242, 4242)
    before = ("setpriv", "--reuid", "4242", "--regid", "4242", "--clear-groups", "env", f"HOME={tmp_path}/home",
              f"XDG_CACHE_HOME={tmp_path}/home")  # fmt: skip
    state = Rootless(tmp_path / "home/state")
    error_says(run([*before, *state.command("run", tmp_path / "box")]), "not-shared")


# ------------------------------------------------------------------------------------------------ images and bundles


@filters
def test_no_open_file_is_left_on_the_machine(rootless: Rootless, container: Make) -> None:
    program = filtered(openat2=errno.ENFILE)
    error = run(changed(program, rootless, "run", "-b", container().bundle.path, "none"))
    error_says(error, "no-files-at-all")


@pytest.fixture
def bundle_of_an_image(rootless: Rootless, tmp_path: Path) -> Path:
    """Return a bundle that `convert` has made, so that `remove` and `pack` accept it."""
    (tmp_path / "image.tar").write_bytes(a.docker_archive([a.file("x") + a.END]))
    done = rootless("convert", "--owners", "squash", tmp_path / "image.tar", "-o", tmp_path / "box")
    assert done.returncode == 0, done.stderr
    return tmp_path / "box"


def test_something_is_mounted_in_a_bundle(rootless: Rootless, bundle_of_an_image: Path) -> None:
    mount = f"mount -t tmpfs none {bundle_of_an_image}/rootfs"
    error_says(run([*without(mount), *rootless.command("remove", bundle_of_an_image)]), "mounted")
    holder = subprocess.Popen([*without(mount), "sleep", "1000"])
    try:
        end = time.monotonic() + TIMEOUT
        while str(bundle_of_an_image) not in Path(f"/proc/{holder.pid}/mountinfo").read_text():
            assert time.monotonic() < end and holder.poll() is None
            time.sleep(0.02)
        error_says(rootless("remove", bundle_of_an_image), "mounted-elsewhere")
    finally:
        holder.kill()
        holder.wait()


@USERS_OWN
def test_a_file_to_pack_is_unreadable(rootless: Rootless, bundle_of_an_image: Path) -> None:
    closed = bundle_of_an_image / "rootfs/closed"
    closed.write_text("x")
    closed.chmod(0)
    error_says(rootless("pack", bundle_of_an_image, "-o", bundle_of_an_image.parent / "out.tar"), "unreadable-file")


def test_memory_is_short(rootless: Rootless, tmp_path: Path) -> None:
    (tmp_path / "image.tar").write_bytes(a.docker_archive([a.file("x", bytes(1 << 20)) + a.END]))
    found = []
    for size in range(20, 300, 2):  # MiB: from what the interpreter cannot start with to what is enough
        command = ["prlimit", f"--as={size << 20}", *rootless.command("convert", "image.tar", "-o", f"b{size}")]
        error = run(command, cwd=tmp_path)
        found.append(error.stderr)
        if error.returncode == 0:
            break
    assert error.returncode == 0, found
    assert any(hint_of(text).startswith(HINTS["no-memory"].text) for text in found if text), found


@USERS_OWN
@needs_range
def test_a_throw_away_root_has_files_of_others(rootless: Rootless, container: Make) -> None:
    """Only root of the range of ids can remove them, and `delete` has no range here."""
    c = container(mapped({**SLEEPS, "root": {"readonly": False}}))
    assert c.run_detached("--ephemeral").returncode == 0
    for user, script in (("0", "chmod 777 /tmp"), ("5", "mkdir /tmp/x && touch /tmp/x/y")):
        made = rootless("exec", "--user", user, c.id, "sh", "-c", script)
        assert made.returncode == 0, made.stderr
    assert c.kill("KILL").returncode == 0
    c.wait()
    before = without("mount --bind /dev/null /usr/bin/newuidmap && mount --bind /dev/null /usr/bin/newgidmap")
    error_says(run([*before, *rootless.command("delete", c.id)]), "left-to-unshare")


LEFT = """
import os, site
site.main()
from rootless.userns.job import run_interruptible
def work():
    os.mkdir("left")
    return 3
def refuse():
    raise PermissionError
sys.exit(run_interruptible(work, ((), ()), "left", refuse))
"""


def test_what_a_command_has_begun_cannot_be_removed(tmp_path: Path) -> None:
    done = run(driver(LEFT), cwd=tmp_path)
    assert done.returncode == 3 and is_of(hint_of(done.stderr), "left-on-one-fs"), done
