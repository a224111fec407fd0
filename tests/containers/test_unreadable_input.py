"""Input that cannot be read, written or reached gives one line, and nothing is left."""

import json
import os
import time

import pytest

from tests.support.checkout import TIMEOUT

USER = os.geteuid() != 0


def one_line(result, *words: str) -> None:
    assert result.returncode == 1, result
    assert result.stderr.startswith("rootless: ") and result.stderr.count("\n") == 1, result.stderr
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in result.stderr, result.stderr


@pytest.fixture
def unreadable():
    """Set the mode of a path to 0, and restore it at the end, so that pytest can remove the test's directory."""
    changed = []

    def take(path) -> None:
        if not USER:
            pytest.skip("real root reads everything")
        changed.append((path, path.stat().st_mode))
        path.chmod(0)

    yield take
    for path, mode in changed:
        path.chmod(mode & 0o7777)


def test_a_config_that_may_not_be_read(container, rootless, unreadable) -> None:
    c = container()
    unreadable(c.bundle.path / "config.json")
    one_line(c.create(), "config.json", "EACCES")
    assert rootless.ids() == []


def test_a_bundle_that_may_not_be_entered(container, rootless, unreadable) -> None:
    c = container()
    unreadable(c.bundle.path)
    one_line(rootless("create", "-b", c.bundle.path, c.id), "EACCES")
    assert rootless.ids() == []


def test_a_rootfs_that_may_not_be_entered(container, rootless, unreadable) -> None:
    c = container()
    unreadable(c.bundle.rootfs)
    one_line(c.create())
    assert rootless.ids() == []


def test_config_json_is_a_directory(container, rootless) -> None:
    c = container()
    (c.bundle.path / "config.json").unlink()
    (c.bundle.path / "config.json").mkdir()
    one_line(c.create(), "EISDIR")
    assert rootless.ids() == []


def test_the_rootfs_is_a_file(container, rootless) -> None:
    c = container({"root": {"path": "config.json"}})
    one_line(c.create(), "config.json", "directory")
    assert rootless.ids() == []


def test_a_config_beyond_every_size(container, rootless) -> None:
    c = container()
    (c.bundle.path / "config.json").write_bytes(b" " * (17 << 20))
    one_line(c.create(), "16 MiB")


BYTES = {"utf16": b"\xff\xfe{}", "arrays": b"[" * 100000, "objects": b'{"a":' * 50000,
         "infinity": b'{"ociVersion": 1e999}', "nul": b"\0"}  # fmt: skip


# Named, because pytest puts the id into the environment, where 128 KiB are too much for execve(2).
@pytest.mark.parametrize("text", BYTES.values(), ids=BYTES)
def test_bytes_that_are_no_config(container, rootless, text) -> None:
    c = container()
    (c.bundle.path / "config.json").write_bytes(text)
    one_line(c.create())
    assert rootless.ids() == []


@pytest.mark.parametrize(
    "key", ["process", "root", "mounts", "linux", "hooks", "annotations", "hostname", "ociVersion"]
)
@pytest.mark.parametrize("value", [True, 7, "text", [1], {"a": {"b": 1}}, 1.5], ids=str)
def test_wrong_types_at_the_top(container, rootless, key, value) -> None:
    """The value is refused with its pointer, or accepted if it is an object with unknown keys; there is never a
    traceback.
    """
    c = container()
    c.bundle.config[key] = value
    c.bundle.write()
    result = c.rootless("create", "--dry-run", "-b", c.bundle.path, c.id)
    if result.returncode == 0:
        assert (key, type(value)) in {("linux", dict), ("hooks", dict), ("hostname", str)}, result.stdout
    else:
        one_line(result, "/")
    assert rootless.ids() == []


def test_the_state_root_cannot_be_made(container, tmp_path) -> None:
    c = container()
    (tmp_path / "file").write_text("")
    result = c.rootless("--root", str(tmp_path / "file/state"), "create", "-b", c.bundle.path, c.id)
    one_line(result, "--root")


def test_the_pid_file_cannot_be_written(container, rootless) -> None:
    one_line(container().create("--pid-file", "/no/such/directory/pid"), "/no/such/directory/pid", "ENOENT")
    assert rootless.ids() == []


def test_nobody_listens_on_the_console_socket(container, rootless, tmp_path) -> None:
    c = container({"process": {"terminal": True}})
    one_line(c.create("--console-socket", str(tmp_path / "nobody")), "console socket", "ENOENT")
    assert rootless.ids() == []


def test_nobody_would_come_to_the_console_socket(container, rootless, tmp_path) -> None:
    """--console-socket without a terminal is refused, because its listener would wait for ever."""
    c = container({"process": {"terminal": False}})
    one_line(c.create("--console-socket", str(tmp_path / "s")), "socket needs a terminal", "/process/terminal")
    assert rootless.ids() == []


def test_the_log_cannot_be_opened(rootless) -> None:
    one_line(rootless("--log", "/no/such/directory/log", "list"), "/no/such/directory/log")


def test_the_log_as_json_holds_the_error(rootless, tmp_path) -> None:
    log = tmp_path / "log"
    one_line(rootless("--log", str(log), "--log-format", "json", "state", "nobody"), "does not exist")
    (line,) = log.read_text().splitlines()
    entry = json.loads(line)
    assert entry["level"] == "error" and "does not exist" in entry["msg"] and entry["time"].endswith("Z")


@pytest.mark.parametrize(
    ("words", "text"),
    [(["nosuch"], "no such command"), (["state"], "missing"), (["run", "--nosuch", "x"], "--nosuch"),
     (["--log-format", "xml", "list"], "text or json"), (["delete", "--force=maybe", "x"], "boolean"),
     (["statee", "x"], "state"), (["run", "--bundel", "x"], "--bundle")],
)  # fmt: skip
def test_wrong_command_lines(rootless, words, text) -> None:
    one_line(rootless(*words), text)


@pytest.mark.parametrize("command", ["start", "state", "kill", "delete"])
@pytest.mark.parametrize("name", ["../x", "a/b", "/etc", "..", "", "x\ny", "x" * 4000])
def test_ids_that_are_none(rootless, command, name) -> None:
    one_line(rootless(command, name))


def test_an_id_is_shown_on_one_line_without_escapes(rootless) -> None:
    result = rootless("state", "a\n\x1b[31mb")
    one_line(result)
    assert "\x1b" not in result.stderr


def test_a_bundle_given_to_create_is_hinted_at(rootless, tmp_path) -> None:
    (tmp_path / "empty").mkdir()
    one_line(rootless("create", str(tmp_path / "empty")), "config.json", "hint:")
    one_line(rootless("create", "-b", str(tmp_path / "nowhere"), "x"), "nowhere", "ENOENT")


@pytest.mark.parametrize("content", ["", "{", "[]", "7", '"x"', "null"])
@pytest.mark.parametrize("command", ["state", "start", "kill", "delete", "list"])
def test_a_damaged_state_file(rootless, content, command) -> None:
    directory = rootless.state / "damaged"
    directory.mkdir(parents=True)
    (directory / "state.json").write_text(content)
    result = rootless(command, *([] if command == "list" else ["damaged"]))
    assert "Traceback" not in result.stderr
    if command == "list":
        assert result.returncode == 0 and result.stderr.startswith("rootless: warning: ")
    else:
        one_line(result, "damaged", "rootless delete --force damaged")
    assert rootless("delete", "--force", "damaged").returncode == 0
    assert rootless.ids() == []


def test_a_foreign_file_in_the_state_root_disturbs_nobody(rootless) -> None:
    rootless.state.mkdir()
    (rootless.state / "file").write_text("x")
    assert rootless("list", "-q").returncode == 0
    one_line(rootless("state", "file"))
    (rootless.state / "file").unlink()


def test_a_config_that_comes_through_a_pipe_in_pieces(container, rootless) -> None:
    """A pipe holds 64 KiB at first, and a read of it returns what has been written so far (pipe(7))."""
    c = container({"annotations": {f"a{number}": "x" * 100 for number in range(2000)}})
    path = c.bundle.path / "config.json"
    text = path.read_text()
    os.rename(path, c.bundle.path / "moved.json")
    reader, writer = os.pipe()
    flags = ["-f", f"/dev/fd/{reader}"]
    with rootless.popen("run", *flags, "-b", c.bundle.path, c.id, "--", "echo", "ran", pass_fds=[reader]) as command:
        os.close(reader)
        with open(writer, "w") as pipe:
            pipe.write(text[:1000])
            pipe.flush()
            time.sleep(0.3)  # a piece is nearly always read alone, though nothing promises that
            pipe.write(text[1000:])
        assert (*command.communicate(timeout=TIMEOUT), command.returncode) == ("ran\n", "", 0)


def test_variables_and_a_profile_come_through_pipes(container, rootless) -> None:
    """As from a shell's <(...). Root's command is executed again (CVE-2019-5736), and would find the pipe empty."""
    c = container({"process": {"args": ["sleep", "1000"]}})
    assert c.run_detached().returncode == 0
    for words in (
        ("run", "--env-file", "PIPE", "-b", c.bundle.path, "other", "--", "sh", "-c", "echo $A"),
        ("exec", "--env-file", "PIPE", c.id, "sh", "-c", "echo $A"),
        ("exec", "--env-file", "-", c.id, "sh", "-c", "echo $A"),
    ):
        reader, writer = os.pipe()
        os.write(writer, b"A=through a pipe\n")
        os.close(writer)
        path = f"/dev/fd/{reader}"
        words = tuple(path if word == "PIPE" else word for word in words)
        done = rootless(*words, pass_fds=[reader], stdin=reader)
        os.close(reader)
        assert (done.stdout, done.stderr) == ("through a pipe\n", ""), words


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ("run -f /dev/zero -b BUNDLE new", "the config is larger than 16 MiB: /dev/zero"),
        ("exec --process /dev/zero ID", "the process is larger than 16 MiB: /dev/zero"),
        ("exec --env-file /dev/zero ID true", "there are more than 4 MiB of variables: /dev/zero"),
        ("update --resources /dev/zero ID", "the resources are larger than 16 MiB: /dev/zero"),
        (
            "run --security-opt seccomp=/dev/zero -b BUNDLE new",
            "there are more than 4 MiB of seccomp profile: /dev/zero",
        ),
    ],
)
def test_a_file_without_end(container, rootless, words: str, what: str) -> None:
    """It used to be read into memory until there was none."""
    c = container({"process": {"args": ["sleep", "1000"]}})
    assert c.run_detached().returncode == 0
    places = {"ID": c.id, "BUNDLE": c.bundle.path}
    result = rootless(*(places.get(word, word) for word in words.split()))
    assert result.returncode and result.stderr.count("\n") == 1 and what in result.stderr, result.stderr
