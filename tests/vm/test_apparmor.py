"""On a kernel with AppArmor, a container and `exec` get their profiles, and the kernel refuses what these forbid, for
root and a user.
"""

from __future__ import annotations

import json

import pytest

from tests.support.limits import run

pytestmark = pytest.mark.vm

# What tests/vm/apparmor.profile forbids in rootless-test alone.
SCRIPT = "cat /proc/self/attr/current; echo x >/tmp/fine && echo fine; echo x >/tmp/denied && echo done"
DENIED = "sh: can't create /tmp/denied: Permission denied\n"
NOT_LOADED = (
    "apparmor failed to apply profile no-such-profile: /process/apparmorProfile: ENOENT (no such file or directory); "
    "hint: the profile is not loaded: apparmor_parser -r FILE, and aa-status shows what is there\n"
)


@pytest.fixture
def confined(container, who):
    """Return `confined(profile, **process)`, which makes a container with a profile and a /tmp to write."""

    def make(profile, **process):
        return container({"process": {"apparmorProfile": profile, **process}, "root": {"readonly": False}})

    return make


@pytest.mark.parametrize("no_new_privileges", [False, True])
def test_the_process_runs_under_its_profile(confined, no_new_privileges):
    result = confined("rootless-test", noNewPrivileges=no_new_privileges).run("sh", "-c", SCRIPT)
    assert (result.stdout, result.stderr) == ("rootless-test (enforce)\nfine\n", DENIED)


def test_exec_has_the_containers_profile_or_one_of_its_own(confined, rootless):
    box = confined("rootless-test", args=["sleep", "1000"])
    assert box.run_detached().returncode == 0, (box.bundle.path / "stderr").read_text()
    result = rootless("exec", box.id, "sh", "-c", SCRIPT)
    assert (result.stdout, result.stderr) == ("rootless-test (enforce)\nfine\n", DENIED)
    result = rootless("exec", "--apparmor", "rootless-other", box.id, "sh", "-c", SCRIPT)
    assert (result.stdout, result.stderr) == ("rootless-other (enforce)\nfine\ndone\n", "")
    result = rootless("exec", "--apparmor", "no-such-profile", box.id, "true")
    assert (result.returncode, result.stderr) == (255, f"rootless: exec failed: {NOT_LOADED}")


def test_a_profile_that_is_not_loaded_is_refused_in_runcs_words(confined, rootless):
    result = confined("no-such-profile").run("true")
    assert (result.returncode, result.stderr) == (1, f"rootless: {NOT_LOADED}")
    assert rootless.ids() == []


def test_a_confined_caller_adds_the_profile_to_its_own(confined, rootless, who):
    """With no_new_privs the caller's profile cannot be left, so both apply, if its rules allow that."""
    if who == "root":
        pytest.skip("the kernel asks no different of root: an ordinary user shows it")
    box = confined("rootless-test", noNewPrivileges=True)
    command = ["aa-exec", "-p", "rootless-caller", "--", *rootless.command("run", "-b", box.bundle.path, box.id)]
    result = run(*command, "--", "sh", "-c", SCRIPT)
    assert (result.stdout, result.stderr) == ("rootless-caller//&rootless-test (enforce)\nfine\n", DENIED)
    box.bundle.patch({"process": {"apparmorProfile": "rootless-other"}})
    result = run(*command, "--", "true")
    assert result.returncode == 1
    assert "/process/apparmorProfile: EACCES" in result.stderr
    assert "change_profile -> &rootless-other\n" in result.stderr


def test_features_tells_that_it_runs(rootless, who):
    assert json.loads(rootless("features").stdout)["linux"]["apparmor"] == {"enabled": True}
