"""`spec --validate` lists all errors, each at its place, but none that only follows from another.

`create` has the first.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rootless.config_node import Node
from rootless.plan.validate import validate
from tests.support import schema
from tests.support.full_config import FULL, compiled


def reviewed(config: Any) -> tuple[list[str], list[str]]:
    errors, warnings = validate(config, lambda node: compiled(node).warnings)
    return [error.message() for error in errors], warnings


def with_changes(*changes: tuple[str, Any]) -> dict[str, Any]:
    config = FULL
    for pointer, value in changes:
        place = tuple(int(key) if key.isdigit() else key for key in pointer.split("/")[1:])
        config = schema.changed(config, place, value)
    return config


CASES: list[tuple[str, list[tuple[str, Any]], list[str]]] = [
    ("one of each section", [("/ociVersion", "2.0.0"), ("/root/path", 1), ("/process/cwd", "tmp"), ("/hostname", [])],
     ["/ociVersion", "/root/path", "/process/cwd", "/hostname"]),
    ("in one array", [("/mounts/0/destination", 5), ("/mounts/1/options", ["ro", 7, False])],
     ["/mounts/0/destination", "/mounts/1/options/1", "/mounts/1/options/2"]),
    ("beside what is missing", [("/mounts/0/destination", None), ("/mounts/0/options", [1])],
     ["/mounts/0/destination", "/mounts/0/options/0"]),
    ("below what is refused",
     [("/linux/seccomp/defaultAction", "SCMP_ACT_NO"), ("/linux/seccomp/syscalls/0/names", [])],
     ["/linux/seccomp/syscalls/0/names", "/linux/seccomp/defaultAction"]),
    ("a namespace, not what needs it", [("/linux/namespaces/2", {"type": "netwrok"})], ["/linux/namespaces/2/type"]),
    ("the mount namespace", [("/linux/namespaces/0", {"type": "mout"})], ["/linux/namespaces/0/type"]),
    ("no namespaces at all", [("/linux/namespaces", [{"type": "mount"}])],
     ["/linux/uidMappings", "/linux/timeOffsets", "/linux/netDevices", "/hostname", "/domainname",
      "/linux/sysctl/net.ipv4.ip_forward"]),
    ("a map, not the ids in it", [("/linux/uidMappings/0/size", "all")], ["/linux/uidMappings/0/size"]),
    ("one map of two", [("/linux/gidMappings", None)], ["/linux/gidMappings"]),
    ("ids that are not mapped", [("/process/user/uid", 70000), ("/process/user/additionalGids", [1, 70000])],
     ["/process/user/additionalGids/1", "/process/user/uid"]),
    ("a set, not what it holds", [("/process/capabilities/permitted", "all")], ["/process/capabilities/permitted"]),
    ("a hard limit", [("/process/rlimits/0/hard", None)], ["/process/rlimits/0/hard"]),
    ("the memory limit, not swap", [("/linux/resources/memory/limit", "1g")], ["/linux/resources/memory/limit"]),
    ("another platform", [("/windows", {}), ("/vm", {})], ["/windows", "/vm"]),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "places"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_all_errors_and_no_consequence(changes: list[tuple[str, Any]], places: list[str]) -> None:
    config = with_changes(*changes)
    errors, _ = validate(config, lambda node: compiled(node).warnings)
    assert sorted(error.where for error in errors) == sorted(places)
    try:
        compiled(Node(config))
    except Exception as first:
        assert str(first) == str(errors[0]), "create says the first"


def test_an_error_names_what_was_found_and_what_is_allowed() -> None:
    (line,), _ = reviewed(with_changes(("/process/terminal", "yes")))
    assert line == "found 'yes', allowed is true or false: /process/terminal"
    (line,), _ = reviewed(with_changes(("/process/oomScoreAdj", True)))
    assert line == "found true, allowed is a whole number from -1000 to 1000: /process/oomScoreAdj"


@pytest.mark.parametrize(
    ("pointer", "value", "meant"),
    [("/linux/namespaces/1/type", "pids", "pid"), ("/process/rlimits/0/type", "RLIMIT_NOFILES", "RLIMIT_NOFILE"),
     ("/linux/rootfsPropagation", "sharde", "shared"),
     ("/linux/seccomp/defaultAction", "SCMP_ACT_ERNO", "SCMP_ACT_ERRNO"),
     ("/process/scheduler/policy", "SCHED_FIFFO", "SCHED_FIFO"), ("/linux/timeOffsets/boottim", {}, "boottime"),
     ("/mounts/1/options/1", "nosiud", "nosuid"),
     ("/linux/memoryPolicy/mode", "BIND", "MPOL_BIND"), ("/process/ioPriority/class", "be", "IOPRIO_CLASS_BE")],
)  # fmt: skip
def test_a_name_of_a_closed_set_is_corrected(pointer: str, value: Any, meant: str) -> None:
    (line,), _ = reviewed(with_changes((pointer, value)))
    assert pointer in line and meant in line
    if pointer not in ("/linux/memoryPolicy/mode", "/process/ioPriority/class"):  # too far for a guess: all are listed
        assert f"did you mean {meant!r}?" in line


def test_keys_that_look_misspelt_are_warned_of_and_others_are_extensions() -> None:
    config = with_changes(("/process/noNewPrivileges", None), ("/process/noNewPrivilege", True), ("/hostName", "x"),
                          ("/hostname", None), ("/org.example", {"a": 1}), ("/linux/resources/pids", {"limits": 1}),
                          ("/annotations/hostnam", "x"), ("/linux/sysctl/net.ipv4.ip_forwar", "1"))  # fmt: skip
    errors, warnings = reviewed(config)
    assert errors == []
    assert sorted(warnings) == [
        "unknown key: /hostName; hint: did you mean 'hostname'?",
        "unknown key: /linux/resources/pids/limits; hint: did you mean 'limit'?",
        "unknown key: /process/noNewPrivilege; hint: did you mean 'noNewPrivileges'?",
    ]


def test_unknown_capabilities_are_warned_of() -> None:
    errors, warnings = reviewed(with_changes(("/process/capabilities/bounding", ["CAP_KILL", "CAP_FLY"])))
    assert errors == []
    assert warnings == ["unknown capabilities left out: /process/capabilities: CAP_FLY"]


@pytest.mark.parametrize("config", [{}, {"ociVersion": None}, {"linux": 1, "process": 2, "root": 3, "mounts": 4}])
def test_it_ends_where_nothing_is_right(config: dict[str, Any]) -> None:
    errors, _ = reviewed(config)
    assert len(errors) >= 2 and len(errors) == len(set(errors))


@pytest.mark.parametrize("key", ["\n", "a/b", "~", "\x7f", "é", "\ud800"])
def test_a_strange_key_ends_too(key: str) -> None:
    errors, _ = reviewed({**FULL, "annotations": {key: 1, "b": 2}})
    assert errors and any("/annotations" in line for line in errors)


def test_only_so_many_are_told() -> None:
    mounts = [{"destination": f"/proc/{number}", "type": "tmpfs"} for number in range(150)]
    errors, warnings = reviewed({**FULL, "mounts": mounts})
    assert len(errors) == 100 and warnings == ["only the first 100 errors are listed"]


# --- the command


def spec(bundle: Path, *flags: str, named: bool = True) -> "subprocess.CompletedProcess[str]":
    program = Path(__file__).resolve().parents[2] / "bin/rootless"
    command = [sys.executable, "-IS", str(program), *flags, "spec", "--validate", *([str(bundle)] if named else [])]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=bundle)


def test_the_command_prints_a_line_an_error(bundle: Any) -> None:
    done = spec(bundle.path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    bundle.patch({"process": {"terminal": 1, "umaks": 1, "cwd": None}, "root": {"path": "nowhere"}})
    done = spec(bundle.path, named=False)
    lines = done.stderr.splitlines()
    assert done.returncode == 1 and done.stdout == ""
    assert all(line.startswith("rootless: ") for line in lines)
    places = ("/process/cwd", "/process/terminal", "/nowhere")
    assert all(place in line for place, line in zip(places, lines, strict=True)), lines


def test_the_log_gets_every_error(bundle: Any, tmp_path: Path) -> None:
    bundle.patch({"process": {"terminal": 1, "cwd": 2}})
    done = spec(bundle.path, "--log", str(tmp_path / "log"), "--log-format", "json")
    assert done.returncode == 1
    entries = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [entry["level"] for entry in entries] == ["error", "error"]


@pytest.mark.parametrize("text", ["", "[]", "{", '{"ociVersion": NaN}'])
def test_what_is_no_config(bundle: Any, text: str) -> None:
    (bundle.path / "config.json").write_text(text)
    done = spec(bundle.path)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
