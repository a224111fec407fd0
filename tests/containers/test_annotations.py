"""Annotations are kept for programs that ask for them, and those of crun that change a container have their effect."""

import os
import socket

import pytest


def test_they_are_kept_in_the_state(container) -> None:
    given = {"org.example.a": "b", "é/~": "", "run.oci.keep_original_groups": "0"}
    c = container({"annotations": given, "process": {"args": ["true"]}})
    assert c.create().returncode == 0
    assert c.state()["annotations"] == given


def test_a_pidfd_goes_to_its_receiver(container, tmp_path) -> None:
    with socket.socket(socket.AF_UNIX) as receiver:
        receiver.bind(str(tmp_path / "receiver"))
        receiver.listen()
        annotations = {"run.oci.pidfd_receiver": str(tmp_path / "receiver")}
        c = container({"annotations": annotations, "process": {"args": ["true"]}})
        assert c.create().returncode == 0
        connection, _ = receiver.accept()
        with connection:
            _, fds, _, _ = socket.recv_fds(connection, 100, 1)
    with open(f"/proc/self/fdinfo/{fds[0]}") as file:
        pids = [line.split()[1] for line in file if line.startswith("Pid:")]
    os.close(fds[0])
    assert pids == [str(c.state()["pid"])]


@pytest.mark.parametrize("name", ["run.oci.handler", "run.oci.seccomp.plugins"])
def test_what_must_not_be_passed_over_is_refused(container, rootless, name) -> None:
    result = container({"annotations": {name: "krun"}}).create()
    assert result.returncode == 1 and f"/annotations/{name}" in result.stderr and "hint:" in result.stderr
    assert rootless.ids() == []


def test_what_has_no_effect_is_warned_of(container) -> None:
    result = container({"annotations": {"run.oci.delegate-cgroup": "x"}}).run("true")
    assert result.returncode == 0 and result.stderr.startswith("rootless: warning: ")
    assert "/annotations/run.oci.delegate-cgroup" in result.stderr
