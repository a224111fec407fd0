from __future__ import annotations

import os
import sys

import pytest

from rootless.config_node import Node
from rootless.errors import RootlessError, SpecError
from rootless.kernel import caps, syscalls

ALL = (1 << 41) - 1
ADMIN = 1 << 21
KILL = 1 << 5


def read(value: object, possible: int = ALL) -> tuple[dict[str, int], list[str]]:
    return caps.read_capabilities(Node(value, "/process/capabilities"), possible)


def test_table_has_the_kernels_41() -> None:
    assert len(caps.CAPABILITIES) == 41
    assert caps.CAPABILITIES["CAP_SYS_ADMIN"] == 21
    assert caps.CAPABILITIES["CAP_CHECKPOINT_RESTORE"] == 40
    assert caps.names(ADMIN | KILL | 1 << 50) == ["CAP_KILL", "CAP_SYS_ADMIN", "CAP_50"]


def test_missing_means_none_at_all() -> None:
    assert read(None) == (dict.fromkeys(caps.SETS, 0), [])


def test_sets_are_masks() -> None:
    sets, warnings = read({"bounding": ["CAP_KILL"], "permitted": ["CAP_KILL", "CAP_SYS_ADMIN"]})
    assert (sets["bounding"], sets["permitted"], sets["effective"]) == (KILL, KILL | ADMIN, 0)
    assert warnings == []


def test_unknown_and_ungrantable_are_warned_and_left_out() -> None:
    sets, warnings = read({"bounding": ["CAP_KILL", "CAP_FLY\n", "CAP_SYS_ADMIN"]}, possible=ALL & ~ADMIN)
    assert sets["bounding"] == KILL
    assert len(warnings) == 2
    assert "CAP_FLY\\n" in warnings[0]
    assert "CAP_SYS_ADMIN" in warnings[1]


def test_ambient_needs_inheritable_and_permitted() -> None:
    sets, warnings = read({"bounding": ["CAP_KILL"], "permitted": ["CAP_KILL"], "ambient": ["CAP_KILL"]})
    assert sets["ambient"] == 0
    assert warnings[0].startswith("can't raise ambient capability CAP_KILL: ")
    assert warnings[0].endswith("/process/capabilities/ambient")


@pytest.mark.parametrize(
    ("value", "pointer"),
    [
        ({"effective": ["CAP_KILL"]}, "/process/capabilities/effective"),
        ({"inheritable": ["CAP_KILL"], "permitted": ["CAP_KILL"]}, "/process/capabilities/inheritable"),
        ({"bounding": "CAP_KILL"}, "/process/capabilities/bounding"),
        ({"bounding": [1]}, "/process/capabilities/bounding/0"),
        ([], "/process/capabilities"),
    ],
)
def test_bad_input_names_its_place(value: object, pointer: str) -> None:
    with pytest.raises(SpecError) as error:
        read(value)
    assert error.value.where == pointer


def test_parse_cap() -> None:
    assert caps.parse_cap("cap_kill") == 5
    with pytest.raises(RootlessError, match="CAP_KILL"):
        caps.parse_cap("CAP_KIL")


def status(pid: int | str = "self") -> dict[str, int]:
    with open(f"/proc/{pid}/status") as file:
        return {k: int(v, 16) for k, v in (line.split(":\t") for line in file if line.startswith("Cap"))}


def test_apply_in_a_user_namespace() -> None:
    """The kernel shows the sets that the process took, before and after execve as root of the container."""
    wanted, _ = read(
        {
            "bounding": ["CAP_KILL", "CAP_CHOWN"],
            "effective": ["CAP_KILL"],
            "permitted": ["CAP_KILL", "CAP_CHOWN"],
            "inheritable": ["CAP_KILL"],
            "ambient": ["CAP_KILL"],
        }
    )
    last, (read_end, write_end), uid = caps.last_cap(), os.pipe(), os.getuid()
    pid = os.fork()
    if pid == 0:
        try:
            syscalls.unshare(syscalls.CLONE_NEWUSER)
            with open("/proc/self/uid_map", "w") as file:
                file.write(f"1000 {uid} 1")
            caps.apply_bounding(wanted["bounding"], last)
            caps.apply_capabilities(wanted, keep=ADMIN)
            os.write(write_end, repr(status()).encode() + b"\n")
            os.dup2(write_end, 1)
            os.execv("/bin/cat", ["cat", "/proc/self/status"])
        except BaseException as error:
            sys.stderr.write(f"{error!r}\n")
        os._exit(1)
    os.close(write_end)
    with open(read_end) as file:
        before, text = file.readline(), file.read()
    assert os.waitpid(pid, 0)[1] == 0
    after = {k: int(v, 16) for k, v in (line.split(":\t") for line in text.splitlines() if line.startswith("Cap"))}
    assert eval(before) == {
        "CapInh": KILL, "CapPrm": KILL | 1 | ADMIN, "CapEff": KILL | ADMIN, "CapBnd": KILL | 1, "CapAmb": KILL,
    }  # fmt: skip
    assert after == {"CapInh": KILL, "CapPrm": KILL, "CapEff": KILL, "CapBnd": KILL | 1, "CapAmb": KILL}


def test_grantable_is_within_the_kernels() -> None:
    assert caps.grantable() & ~caps.all_capabilities() == 0
