"""Text of a container, an image or a hook never reaches a terminal raw, because it could move the cursor or type for
the user.
"""

import hashlib
import io
import json
import os
import re
import tarfile
from pathlib import Path
from typing import Any

import pytest

import oci.errors
from rootless import log
from rootless.errors import RootlessError, printable

# Clear the screen, retitle the window, a backspace, a C1 control, a line that seems to be ours, right-to-left.
EVIL = "\x1b[2J\x1b]0;title\x07\b\x9b31m\rrootless: all is well\u202eX"


def safe(text: str) -> bool:
    """Return whether every character of each line is one that a terminal shows."""
    return all(line.isprintable() for line in text.split("\n"))


def tar_of(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def image(path: Path, layer: bytes, config: dict[str, Any], tag: str) -> Path:
    """Return a docker archive of one layer."""
    digest = "sha256:" + hashlib.sha256(layer).hexdigest()
    document = {"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": [digest]}, **config}
    manifest = [{"Config": "config.json", "RepoTags": [tag], "Layers": ["layer.tar"]}]
    members = {"config.json": document, "manifest.json": manifest}
    path.write_bytes(tar_of({"layer.tar": layer, **{name: json.dumps(doc).encode() for name, doc in members.items()}}))
    return path


@pytest.mark.parametrize("function", [printable, oci.errors.printable])
def test_one_function_makes_text_printable(function) -> None:
    assert safe(function(EVIL)) and "\n" not in function("a\nb\v\f\x1c\x85\u2028c")
    assert function("plain Ünïcödé 漢字") == "plain Ünïcödé 漢字"
    assert function(b"caf\xc3\xa9\xff") == "café\\udcff"
    assert function(function(EVIL)) == function(EVIL)
    assert function(17) == "17"


@pytest.mark.parametrize("kind", [RootlessError, oci.errors.OciError])
@pytest.mark.parametrize("field", ["what", "where", "hint"])
def test_no_part_of_an_error_is_raw(kind, field) -> None:
    error = kind(**{"what": "failed", field: EVIL})
    assert error.message().isprintable() and str(error).isprintable() and "rootless: all is well" in error.message()


@pytest.mark.parametrize("level", ["debug", "warn", "error"])
@pytest.mark.parametrize("as_json", [False, True])
def test_no_line_of_the_log_is_raw(tmp_path, capfd, level, as_json) -> None:
    path = tmp_path / "log"
    before = log._fd, log._json, log._debug
    try:
        log.configure(path=str(path), json_format=as_json, debug=True)
        getattr(log, level)(f"a\n{EVIL}")
        os.close(log._fd)
    finally:
        log._fd, log._json, log._debug = before
    line, rest = path.read_text().split("\n")
    assert rest == "" and line.isprintable() and line.isascii()
    if as_json:
        assert json.loads(line)["msg"].startswith("a \\x1b[2J")
    assert safe(capfd.readouterr().err)


@pytest.mark.parametrize("text", ['" level=info msg="all is well', "ends with \\", '\\" level=info msg="', "plain"])
def test_no_text_ends_the_message_of_a_line(tmp_path, text) -> None:
    """In a line of the log (logfmt) a quoted value ends at the first quote without a backslash before it, so text is
    escaped.
    """
    path = tmp_path / "log"
    before = log._fd, log._json, log._debug
    try:
        log.configure(path=str(path))
        log.warn(text)
        os.close(log._fd)
    finally:
        log._fd, log._json, log._debug = before
    match = re.fullmatch(r'time="[^"\\]*" level=warning msg="((?:[^"\\]|\\.)*)"\n', path.read_text())
    assert match and re.sub(r"\\(.)", r"\1", match[1]) == text


def test_no_line_of_a_traceback_is_raw(capfd) -> None:
    before = log._fd, log._json, log._debug
    try:
        log.configure(debug=True)
        raise ValueError(EVIL)
    except ValueError as error:
        log.trace(error)
    finally:
        log._fd, log._json, log._debug = before
    said = capfd.readouterr().err
    assert safe(said) and said.startswith("Traceback") and "ValueError: \\x1b[2J" in said


def test_the_interpreter_of_a_script(container) -> None:
    c = container({"process": {"args": ["/script"]}})
    script = c.bundle.rootfs / "script"
    script.write_text(f"#!/no{EVIL.replace(chr(10), '')}\n")
    script.chmod(0o755)
    result = c.run()
    assert result.returncode != 0 and "interpreter" in result.stderr
    assert result.stderr.count("\n") == 1 and safe(result.stderr)


def test_the_interpreter_of_a_script_for_exec(container) -> None:
    c = container({"process": {"args": ["sleep", "1000"]}})
    script = c.bundle.rootfs / "script"
    script.write_bytes(b"#!/no\x1b[31m\xff\n")
    script.chmod(0o755)
    assert c.run_detached().returncode == 0
    result = c.rootless("exec", c.id, "/script")
    assert result.returncode != 0 and "interpreter" in result.stderr
    assert result.stderr.count("\n") == 1 and safe(result.stderr)


@pytest.mark.parametrize("moment", ["createRuntime", "createContainer", "startContainer"])
def test_what_a_hook_complains_of(container, rootless, tmp_path, moment) -> None:
    hook = {"path": "/bin/sh", "args": ["sh", "-c", f"printf '%s\\nline two' '{EVIL}' >&2; exit 1"]}
    c = container({"hooks": {moment: [hook]}, "process": {"args": ["true"]}})
    path = tmp_path / "log"
    result = c.rootless("--log", path, "run", "-b", c.bundle.path, c.id)
    assert result.returncode == 1 and "line two" in result.stderr
    assert result.stderr.count("\n") == 1 and safe(result.stderr)
    assert path.read_text().count("\n") == 1 and safe(path.read_text())
    assert rootless.ids() == []


def test_the_name_of_a_program_of_a_directory_and_of_a_key(container, rootless) -> None:
    patches: list[dict[str, Any]] = [
        {"process": {"args": [f"/bin/{EVIL}"]}}, {"process": {"cwd": EVIL}},
        {"linux": {"sysctl": {EVIL: "1"}}}, {"mounts": [{"destination": f"/{EVIL}", "type": EVIL}]},
        {"mounts": [{"destination": "/x", "type": "bind", "source": f"/nosuch{EVIL}"}]},
        {"annotations": {f"run.oci.{EVIL}": "x"}, "process": {"args": ["nosuch"]}}, {"root": {"path": EVIL}},
        {"hooks": {"prestart": [{"path": f"/nosuch{EVIL}"}]}}, {"ociVersion": EVIL},
        {"process": {"rlimits": [{"type": EVIL, "hard": 1, "soft": 1}]}},
    ]  # fmt: skip
    for patch in patches:
        result = container(patch).create()
        assert result.returncode == 1 and safe(result.stderr), patch
        assert "rootless: all is well" not in [line.strip() for line in result.stderr.splitlines()]
    assert rootless.ids() == []


def test_a_plan_and_its_story(container) -> None:
    """A name of config.json may be a key, so that it is part of a JSON pointer, too."""
    patches: list[dict[str, Any]] = [
        {"linux": {"netDevices": {"\x1b[31mX\x07": {"name": "\x1b[32mY\x07"}}}},
        {"annotations": {EVIL: EVIL}, "hostname": EVIL, "process": {"args": [EVIL], "env": [f"A={EVIL}"]}},
    ]
    for patch in patches:
        c = container(patch)
        for words in (["run", "--dry-run", "-b", c.bundle.path, c.id], ["explain", c.bundle.path]):
            result = c.rootless(*words)
            assert result.returncode == 0 and safe(result.stdout) and safe(result.stderr), (words, result)


def test_the_tables(container, tmp_path) -> None:
    """`list` escapes the bundle's path and `ps` the names of processes; as JSON they are unchanged."""
    c = container({"process": {"args": ["sh", "-c", "exec -a \"$(printf 'x\\033[31m')\" sleep 1000"]}})
    moved = tmp_path / "evil\x1b[31m\nc9  1  running"
    c.bundle.path.rename(moved)
    c.bundle.path = moved
    assert c.run_detached().returncode == 0
    for command in (["list"], ["list", "-q"], ["ps", c.id], ["state", c.id], ["list", "--format", "json"]):
        result = c.rootless(*command)
        assert result.returncode == 0 and safe(result.stdout), command
    assert c.rootless("list").stdout.count("\n") == 2
    assert c.state()["bundle"] == str(moved)
    assert json.loads(c.rootless("list", "--format", "json").stdout)[0]["bundle"] == str(moved)


def test_ps_of_a_system_that_prints_names_as_they_are(container, tmp_path) -> None:
    """`ps` escapes names also if the system's ps(1) does not, because only procps replaces control characters."""
    c = container({"process": {"args": ["sleep", "1000"]}})
    assert c.run_detached().returncode == 0
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "ps").write_text(f"#!/bin/sh\nprintf 'PID CMD\\n{c.state()['pid']} x\\033[31m\\013fake\\n'\n")
    (tools / "ps").chmod(0o755)
    result = c.rootless("ps", c.id, env={**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"})
    assert result.returncode == 0 and result.stdout.count("\n") == 2 and safe(result.stdout), result
    assert "x\\x1b[31m\\x0bfake" in result.stdout


def test_what_an_image_says_of_itself(rootless, tmp_path) -> None:
    """Tags, labels, history and platform of an image are escaped for people, and unchanged as JSON."""
    inner = {"Labels": {f"label{EVIL}": EVIL}, "Env": [f"A={EVIL}"], "Cmd": [EVIL]}
    config = {"config": inner, "history": [{"created": EVIL, "created_by": EVIL}], "variant": EVIL}
    archive = image(tmp_path / "image.tar", tar_of({"a": b"x"}), config, f"x{EVIL}:1")
    commands = (["inspect"], ["convert", "--list"], ["inspect", "--json"], ["convert", "--list", "--json"],
                ["convert", "--tag", EVIL], ["convert", "--platform", EVIL], ["inspect", "--tag", EVIL])  # fmt: skip
    for command in commands:
        result = rootless(*command, archive, cwd=tmp_path)
        assert safe(result.stdout) and safe(result.stderr), (command, result)
        assert (result.stdout and result.returncode == 0) or result.returncode == 1
    inspected = json.loads(rootless("inspect", "--json", archive).stdout)
    assert inspected["config"]["config"]["Labels"] == {f"label{EVIL}": EVIL}


@pytest.mark.parametrize("command", [["convert"], ["inspect"], ["pack"], ["remove"], ["state"], ["kill"], ["run"],
                                     ["delete"], ["exec"], ["update"], ["nosuch"], ["--nosuch"]])  # fmt: skip
def test_what_the_user_typed(rootless, command) -> None:
    """The user's own words are escaped too, because they may have been pasted."""
    result = rootless(*command, f"x{EVIL}")
    assert result.returncode != 0 and safe(result.stderr) and result.stderr.count("\n") == 1, result.stderr


def test_a_name_of_a_member(rootless, tmp_path) -> None:
    archive = image(tmp_path / "image.tar", tar_of({f"{EVIL}/../../{EVIL}": b"x"}), {}, "x:1")
    result = rootless("convert", archive, "-o", tmp_path / "out")
    assert result.returncode == 1 and safe(result.stderr) and result.stderr.count("\n") == 1
