"""A number is an id wherever it is given, and no line of the image's passwd turns it into another (CVE-2016-3697)."""

from __future__ import annotations

from pathlib import Path

import pytest

from rootless.api import users
from rootless.errors import RootlessError
from rootless.plan.settings import UserIds
from rootless.runtime import names

PASSWD = "root:x:0:0::/root:/bin/sh\n1000:x:0:0::/root:/bin/sh\nuser:x:1000:50::/home/user:/bin/sh\n"
GROUP = "root:x:0:\n1000:x:0:\nstaff:x:50:\n"
TOO_BIG = [str(2**32 - 1), str(2**32), "9" * 30, "-1", "+0", "-0"]


@pytest.fixture
def rootfs(tmp_path: Path) -> str:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(PASSWD)
    (tmp_path / "etc/group").write_text(GROUP)
    return str(tmp_path)


def by_flag(rootfs: str, user: str, group: str | None = None) -> UserIds:
    return names.look_up(rootfs, user if group is None else f"{user}:{group}")


def by_keyword(rootfs: str, user: str | int, group: str | int | None = None) -> UserIds:
    return users.find_user({}, {"user": user, "group": group}, rootfs)


@pytest.mark.parametrize("find", [by_flag, by_keyword])
def test_a_number_is_not_a_name(rootfs: str, find) -> None:
    found = find(rootfs, "1000")
    assert (found.uid, found.gid, found.home) == (1000, 50, "/home/user")
    found = find(rootfs, "1000", "1000")
    assert (found.uid, found.gid) == (1000, 1000)
    assert find(rootfs, "01000").uid == 1000
    assert find(rootfs, "user", "staff").gid == 50


def test_nor_is_an_int(rootfs: str) -> None:
    assert by_keyword(rootfs, 1000, 1000).uid == by_keyword(rootfs, 1000, 1000).gid == 1000


@pytest.mark.parametrize("find", [by_flag, by_keyword])
@pytest.mark.parametrize("number", [*TOO_BIG, "１０００"])
def test_what_is_no_id_is_refused(rootfs: str, find, number: str) -> None:
    with pytest.raises(RootlessError):
        find(rootfs, number)
    with pytest.raises(RootlessError):
        find(rootfs, "0", number)


@pytest.mark.parametrize("find", [by_flag, by_keyword])
@pytest.mark.parametrize("place", ["/etc/passwd", "/proc/self/root/etc/passwd", "../../../../../../../../etc/passwd"])
def test_the_hosts_file_is_not_read(rootfs: str, find, place: str) -> None:
    for name in ("passwd", "group"):
        file = Path(rootfs) / "etc" / name
        file.unlink()
        file.symlink_to(place.replace("passwd", name))
    with pytest.raises(RootlessError):
        find(rootfs, "daemon")
