from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from rootless.config_node import Node
from rootless.errors import RootlessError, SpecError
from rootless.kernel import mountinfo
from rootless.kernel.host import Host
from rootless.outside import resctrl as rdt
from rootless.plan.intel_rdt import compile_intel_rdt, read_intel_rdt
from rootless.steps.outside import EnterResctrlGroup
from tests.support import schema
from tests.support.full_config import FULL, compiled

POINTER = "/linux/intelRdt"
KERNEL_SCHEMATA = "    MB:0= 20;1= 70\n    L3:0=007f0;1=0001f\n"


def read(value: object) -> EnterResctrlGroup:
    return read_intel_rdt(Node(value, POINTER))


def fields(step: EnterResctrlGroup) -> dict[str, Any]:
    return {name: getattr(step, name) for name in step.__slots__}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a directory like resctrl's, with one class `gold` that existed before."""
    (tmp_path / "info").mkdir()
    (tmp_path / "mon_groups").mkdir()
    (tmp_path / "gold/mon_groups").mkdir(parents=True)
    (tmp_path / "gold/schemata").write_text(KERNEL_SCHEMATA)
    return tmp_path


def apply(value: object, root: Path) -> list[str]:
    return [os.path.relpath(path, root) for path in rdt.apply_intel_rdt(read(value), "c1", 4242, str(root))]


def content(root: Path, name: str) -> str:
    return (root / name).read_text()


def test_read() -> None:
    assert fields(read({})) == {"clos_id": "", "l3_and_mb": [], "schemata": [], "monitoring": False, "mount": ""}
    value = {"closID": "/", "memBwSchema": "MB:0=20", "l3CacheSchema": "L3:0=f", "schemata": ["L2:0=f"],
             "enableMonitoring": True}  # fmt: skip
    assert fields(read(value)) == {
        "clos_id": "/", "l3_and_mb": ["L3:0=f", "MB:0=20"], "schemata": ["L2:0=f"], "monitoring": True, "mount": "",
    }  # fmt: skip


def test_absent_and_empty_ask_for_nothing() -> None:
    for value in (None, {}):
        assert compiled(Node(schema.changed(FULL, ("linux", "intelRdt"), value))).resctrl is None


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ([], ""),
        ({"closID": "a/b"}, "/closID"),
        ({"closID": ".."}, "/closID"),
        ({"closID": "info"}, "/closID"),
        ({"closID": 1}, "/closID"),
        ({"memBwSchema": "L3:0=f"}, "/memBwSchema"),
        ({"memBwSchema": "MB:0=1\nMB:1=1"}, "/memBwSchema"),
        ({"schemata": ["L3:0=f\nMB:0=1"]}, "/schemata/0"),
        ({"schemata": "L3:0=f"}, "/schemata"),
        ({"enableMonitoring": 1}, "/enableMonitoring"),
    ],
)
def test_bad_input_names_its_place(value: object, place: str) -> None:
    with pytest.raises(SpecError) as error:
        read(value)
    assert error.value.where == POINTER + place


def test_own_class_is_made_written_in_order_and_removed(root: Path) -> None:
    value = {"schemata": ["L2:0=f"], "memBwSchema": "MB:0=20", "l3CacheSchema": "L3:0=f"}
    assert apply(value, root) == ["c1"]
    assert content(root, "c1/schemata") == "L3:0=f\nMB:0=20\nL2:0=f\n"
    assert content(root, "c1/tasks") == "4242"
    for name in ("schemata", "tasks"):  # the kernel's own files, which go with the directory
        (root / "c1" / name).unlink()
    rdt.remove_intel_rdt([str(root / "c1")])
    rdt.remove_intel_rdt([str(root / "c1")])
    assert not (root / "c1").exists()


def test_without_schemata_nothing_is_written_to_them(root: Path) -> None:
    assert apply({}, root) == ["c1"]
    assert not (root / "c1/schemata").exists()


def test_named_class_without_schemata_must_be_there(root: Path) -> None:
    assert apply({"closID": "gold"}, root) == []
    assert content(root, "gold/tasks") == "4242"
    assert content(root, "gold/schemata") == KERNEL_SCHEMATA
    with pytest.raises(RootlessError, match="does not exist") as error:
        apply({"closID": "silver"}, root)
    assert error.value.where == f"{POINTER}/closID"
    assert not (root / "silver").exists()


def test_named_class_is_made_and_stays(root: Path) -> None:
    assert apply({"closID": "silver", "schemata": ["L3:0=1"]}, root) == []
    assert content(root, "silver/schemata") == "L3:0=1\n"


def test_existing_class_must_match(root: Path) -> None:
    apply({"closID": "gold", "l3CacheSchema": "L3:1=1F;0=7f0", "memBwSchema": "MB:1=70"}, root)
    assert content(root, "gold/schemata") == KERNEL_SCHEMATA
    with pytest.raises(RootlessError, match="other schemata"):
        apply({"closID": "gold", "l3CacheSchema": "L3:0=7f1"}, root)
    with pytest.raises(RootlessError, match="other schemata"):
        apply({"closID": "gold", "memBwSchema": "MB:2=20"}, root)


def test_root_class(root: Path) -> None:
    assert apply({"closID": "/"}, root) == []
    assert content(root, "tasks") == "4242"


def test_monitoring_group_goes_with_the_container(root: Path) -> None:
    assert apply({"closID": "gold", "enableMonitoring": True}, root) == ["gold/mon_groups/c1"]
    assert content(root, "gold/mon_groups/c1/tasks") == "4242"


def test_failure_quotes_the_kernel(root: Path) -> None:
    (root / "info/last_cmd_status").write_text("Mask out of range\n")
    with pytest.raises(RootlessError, match="the kernel says: Mask out of range") as error:
        apply({"closID": "new", "schemata": ["L3:0=f"], "enableMonitoring": True}, root)
    assert error.value.errno == errno.ENOENT  # a new directory of this tree has no mon_groups, as resctrl's would


def test_failure_is_undone(root: Path) -> None:
    """The umask takes away the owner's write permission, so no file can be made in the new directory."""
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    before = os.umask(0o222)
    try:
        with pytest.raises(RootlessError, match="cannot write '4242'"):
            apply({}, root)
    finally:
        os.umask(before)
    assert not (root / "c1").exists()


def test_the_mount_is_found_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [b"21 1 0:20 / /sys rw - sysfs sysfs rw\n"]
    monkeypatch.setattr(mountinfo, "find", lambda fs: [m for m in mountinfo.parse(b"".join(lines)) if m.fstype == fs])
    assert Host().resctrl == ""
    with pytest.raises(SpecError, match="mount -t resctrl") as error:
        compile_intel_rdt(Node({}, POINTER), Host())
    assert error.value.where == POINTER
    lines.append(b"30 21 0:33 / /sys/fs/resctrl rw shared:1 - resctrl resctrl rw\n")
    assert Host().resctrl == "/sys/fs/resctrl"
    assert compile_intel_rdt(Node({}, POINTER), Host()).mount == "/sys/fs/resctrl"


def test_an_ordinary_user_is_told(root: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    (root / "gold").chmod(0o555)
    with pytest.raises(RootlessError, match="resctrl belongs to root"):
        apply({"closID": "gold"}, root)
