"""Test messages whose circumstances not every machine has: the tests replace the facts."""

import errno
import os

import pytest

from oci.image.choice import choose
from oci.image.model import Image
from oci.owners import Owners
from rootless.config_node import Node
from rootless.errors import RootlessError, advice
from rootless.kernel.hints import HINTS
from rootless.plan.namespaces import compile_namespaces
from rootless.userns import hints, limits
from tests.doctor.test_lines import ordinary


def test_clone3_that_a_seccomp_filter_answers_with_enosys(monkeypatch: pytest.MonkeyPatch) -> None:
    new = os.uname_result(("Linux", "host", "6.18.2", "", "x86_64"))
    monkeypatch.setattr(limits.os, "uname", lambda: new)
    text = hints.explain_refusal(errno.ENOSYS)
    assert "seccomp filter blocks clone3" in text and "--security-opt seccomp=unconfined" in text
    monkeypatch.setattr(
        limits.os, "uname", lambda: os.uname_result(("Linux", "host", "5.4.0-150-generic", "", "x86_64"))
    )
    assert hints.explain_refusal(errno.ENOSYS) == HINTS["old-kernel"].text


@pytest.mark.parametrize("kind", ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup", "time"])
def test_a_limit_of_zero_is_the_one_that_is_reached(tmp_path, kind: str) -> None:
    (tmp_path / "user").mkdir()
    for each in ("user", "mnt", "pid", "net", "ipc", "uts", "cgroup", "time"):
        (tmp_path / f"user/max_{each}_namespaces").write_text("0\n" if each == kind else "100\n")
    assert hints.explain_refusal(errno.ENOSPC, str(tmp_path)).endswith(f"sysctl user.max_{kind}_namespaces")


def test_another_users_bundle_names_who_converted_it() -> None:
    one = [{"containerID": 0, "hostID": 1004, "size": 1}]
    linux = {"namespaces": [{"type": "user"}, {"type": "mount"}], "uidMappings": one, "gidMappings": one}
    with pytest.raises(RootlessError) as error:
        compile_namespaces(Node({"linux": linux})["linux"], ordinary(uid=1001, gid=1001))
    assert "this bundle maps ids of uid 1004, who converted it" in str(error.value)
    assert "convert it yourself, or remove uidMappings and gidMappings" in str(error.value)


def test_an_image_with_owners_for_a_user_with_one_id() -> None:
    alone = Owners("xattr", alone=True)
    for owner in ((0, 0), (33, 33), (0, 42), (33, 33)):
        assert alone.owner_on_disk(*owner, "") == owner
    assert alone.others == {33, 42}


def test_a_mistyped_tag() -> None:
    image = Image("oci", ("docker.io/library/busybox:latest",), "sha256:00", {}, ())
    with pytest.raises(Exception, match=r"did you mean 'docker\.io/library/busybox:latest'"):
        choose([image], "busybx")


def test_a_reference_is_read_when_the_hint_is() -> None:
    error = RootlessError("what", hint=advice("no-such-bundle", bundle="./a=b"))
    assert error.hint == "rootless convert IMAGE.tar -o ./a=b" and str(error).endswith(error.hint)
