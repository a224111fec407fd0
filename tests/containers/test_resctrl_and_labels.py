"""resctrl and SELinux, which this machine may lack, played by files and a driver.

The driver runs `rootless` with one function replaced, in a process of its own; all the rest is real.
"""

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.checkout import TIMEOUT, driver

RESCTRL = """
import os
from rootless import __main__
from rootless.kernel import host
from rootless.outside import resctrl as rdt
tree = sys.argv.pop(1)
host.Host.resctrl = tree
# The kernel's rmdir(2) takes a group away with its files.
real = os.rmdir
def rmdir(path, **more):
    if path.startswith(tree + "/"):
        for directory, below, files in os.walk(path, topdown=False):
            [os.unlink(f"{directory}/{name}") for name in files]
            [real(f"{directory}/{name}") for name in below]
    real(path, **more)
rdt.os.rmdir = rmdir
__main__.launcher()
"""
# The same, killed when all is made outside of the container and the state not yet complete.
KILLED = RESCTRL.replace(
    "__main__.launcher()",
    """from rootless.runtime import create
create.Creation._follow_setup = lambda self: os.kill(os.getpid(), 9)
__main__.launcher()""",
)
SELINUX = """
from rootless import __main__
from rootless.kernel import host
host.Host.selinux = True
__main__.launcher()
"""
APPARMOR = SELINUX.replace("selinux", "apparmor")


def drive(program: str, *args: str, **options):
    return subprocess.run(
        driver(program, *args), stdin=subprocess.DEVNULL, text=True, timeout=TIMEOUT, check=False, **options
    )


class Resctrl:
    """Run `rootless` where a directory takes the place of the resctrl file system, with the class `gold`."""

    def __init__(self, tree: Path, container) -> None:
        self.tree = tree
        self.container = container
        (tree / "info").mkdir(parents=True)
        (tree / "gold/mon_groups").mkdir(parents=True)
        (tree / "gold/schemata").write_text("L3:0=ff\n")

    def __call__(self, *args: str, program: str = RESCTRL) -> subprocess.CompletedProcess[str]:
        out = self.tree.parent / "output"  # a container keeps a pipe open
        with out.open("w") as file:
            command = ["--root", str(self.container.rootless.state), *args]
            result = drive(program, str(self.tree), *command, stdout=file, stderr=file)
        self.container.rootless.note_cgroups()
        return subprocess.CompletedProcess(result.args, result.returncode, out.read_text())

    def create(self, program: str = RESCTRL) -> subprocess.CompletedProcess[str]:
        return self("create", "-b", str(self.container.bundle.path), self.container.id, program=program)

    def groups(self) -> list[str]:
        return sorted(str(p.relative_to(self.tree)) for p in self.tree.rglob("*") if p.is_dir() and p.name != "info")


@pytest.fixture
def resctrl(container, tmp_path):
    """Return `resctrl(intelRdt)`."""
    return lambda value: Resctrl(tmp_path / "resctrl", container({"linux": {"intelRdt": value}}))


def test_a_class_of_the_containers_own(resctrl) -> None:
    fake = resctrl({"l3CacheSchema": "L3:0=f", "memBwSchema": "MB:0=20", "schemata": ["L2:0=1"]})
    result = fake.create()
    assert result.returncode == 0, result.stdout
    name = fake.container.id
    assert (fake.tree / name / "schemata").read_text() == "L3:0=f\nMB:0=20\nL2:0=1\n"
    assert (fake.tree / name / "tasks").read_text() == str(fake.container.state()["pid"])
    assert fake("update", "--l3-cache-schema", "L3:0=3", "--mem-bw-schema", "MB:0=30", name).returncode == 0
    assert (fake.tree / name / "schemata").read_text() == "L3:0=3\nMB:0=30\n"
    assert fake("delete", "--force", name).returncode == 0
    assert fake.groups() == ["gold", "gold/mon_groups"]


def test_a_class_that_exists_with_monitoring(resctrl) -> None:
    fake = resctrl({"closID": "gold", "enableMonitoring": True})
    assert fake.create().returncode == 0
    name = fake.container.id
    pid = str(fake.container.state()["pid"])
    assert (fake.tree / "gold/tasks").read_text() == pid
    assert (fake.tree / f"gold/mon_groups/{name}/tasks").read_text() == pid
    assert fake("delete", name).returncode == 0
    assert fake.groups() == ["gold", "gold/mon_groups"]


def test_a_class_is_taken_back_when_create_fails(resctrl, rootless) -> None:
    fake = resctrl({"schemata": ["L3:0=f"]})
    fake.container.bundle.patch({"process": {"args": ["nosuch"]}})
    assert fake.create().returncode == 1
    assert fake.groups() == ["gold", "gold/mon_groups"] and rootless.ids() == []


@pytest.mark.parametrize("force", [[], ["--force"]])
@pytest.mark.parametrize("value", [{"schemata": ["L3:0=f"]}, {"closID": "gold", "enableMonitoring": True}])
def test_a_killed_create_leaves_a_class_that_delete_removes(resctrl, rootless, value, force) -> None:
    fake = resctrl(value)
    assert fake.create(KILLED).returncode == -9
    name = fake.container.id
    assert any(name in group for group in fake.groups())
    assert fake("delete", *force, name).returncode == 0
    assert fake.groups() == ["gold", "gold/mon_groups"] and rootless.ids() == []


def test_without_resctrl_a_class_is_refused(container, rootless) -> None:
    if "resctrl" in Path("/proc/filesystems").read_text():
        pytest.skip("this machine has resctrl")
    result = container({"linux": {"intelRdt": {"closID": "gold"}}}).create()
    assert result.returncode == 1 and "/linux/intelRdt" in result.stderr and "resctrl" in result.stderr
    assert rootless.ids() == [] and result.stderr.count("\n") == 1


def test_an_empty_class_asks_for_nothing(container) -> None:
    assert container({"linux": {"intelRdt": {}}}).output("echo", "ran") == "ran\n"


def test_labels_are_left_out_with_a_warning_without_selinux(container) -> None:
    if os.path.exists("/sys/fs/selinux/enforce"):
        pytest.skip("this machine runs SELinux")
    labels = {"linux": {"mountLabel": "system_u:object_r:t:s0"}, "process": {"selinuxLabel": "system_u:system_r:t:s0"}}
    result = container(labels).run("echo", "ran")
    assert result.stdout == "ran\n"
    off = "SELinux does not run here, the label system_u:"
    assert result.stderr.splitlines() == [
        f"rootless: warning: /process/selinuxLabel: {off}system_r:t:s0 is left out",
        f"rootless: warning: /linux/mountLabel: {off}object_r:t:s0 is left out",
    ]


def test_a_mount_label_reaches_the_kernel(container, rootless) -> None:
    """A kernel without SELinux refuses the option `context`, which shows that it got the label."""
    if os.path.exists("/sys/fs/selinux/enforce"):
        pytest.skip("this machine runs SELinux")
    c = container(
        {
            "linux": {"mountLabel": "system_u:object_r:t:s0:c1,c2"},
            "annotations": {"run.oci.mount_context_type": "rootcontext"},
        }
    )
    command = ["--root", str(rootless.state), "create", "-b", str(c.bundle.path), c.id]
    result = drive(SELINUX, *command, capture_output=True)
    refused = "cannot set rootcontext=system_u:object_r:t:s0:c1,c2 of a mount: /linux/mountLabel: EINVAL"
    assert result.returncode == 1 and refused in result.stderr, result.stderr
    plan = drive(SELINUX, *command[:3], "--dry-run", *command[3:], capture_output=True).stdout.splitlines()
    labelled = {line.split()[2] for line in plan if "s0:c1,c2" in line}
    assert {"tmpfs", "devpts"} <= labelled and not {"proc", "sysfs", "bind"} & labelled


@pytest.mark.parametrize(
    ("program", "key", "said"),
    [
        (APPARMOR, "apparmorProfile", "apparmor failed to apply profile no_such: /process/apparmorProfile: "),
        (SELINUX, "selinuxLabel", "cannot set the SELinux label no_such: /process/selinuxLabel: "),
    ],
)
def test_a_label_is_asked_of_the_kernel(container, program, key, said) -> None:
    """The kernel refuses a label that no policy knows, and the program does not run without it."""
    c = container({"process": {key: "no_such"}})
    root = ("--root", c.rootless.state)
    result = drive(program, *root, "run", "-b", c.bundle.path, c.id, "--", "echo", "ran", capture_output=True)
    assert result.returncode == 1 and result.stdout == ""
    assert said in result.stderr, result.stderr
