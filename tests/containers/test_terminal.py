"""Terminals as people have them: a real pty, and once a whole tmux."""

import fcntl
import os
import pty
import select
import shutil
import signal
import struct
import subprocess
import sys
import termios

import pytest

from tests.support.checkout import TIMEOUT
from tests.support.processes import until

READ = ["sh", "-c", "stty size >/said; trap 'stty size >/said' WINCH; while :; do read x && echo got $x; done"]


class Terminal:
    """Hold a pty whose slave is the runtime's controlling terminal, as a terminal emulator gives it to a shell."""

    def __init__(self, rows: int, columns: int) -> None:
        self.master, self.slave = pty.openpty()
        self.resize(rows, columns)
        self.before = termios.tcgetattr(self.slave)

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def run(self, command) -> subprocess.Popen:
        streams = {"stdin": self.slave, "stdout": self.slave, "stderr": self.slave}
        return subprocess.Popen(["setsid", "--ctty", *command], **streams)

    def read_until(self, text: bytes) -> bytes:
        said = b""
        while text not in said:
            assert select.select([self.master], [], [], TIMEOUT)[0], said
            said += os.read(self.master, 4096)
        return said

    def write(self, text: bytes) -> None:
        os.write(self.master, text)

    def close(self) -> None:
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def terminal():
    found = Terminal(33, 101)
    yield found
    found.close()


@pytest.fixture
def said():
    """Return `said(c)`, which reads the next line that the program writes to /said."""
    fds = []

    def open_fifo(c):
        path = c.bundle.rootfs / "said"
        os.mkfifo(path)
        path.chmod(0o666)
        fds.append(fd := os.open(path, os.O_RDWR | os.O_CLOEXEC))

        def line() -> str:
            assert select.select([fd], [], [], TIMEOUT)[0], "nothing was written"
            return os.read(fd, 4096).decode().strip()

        return line

    yield open_fifo
    for fd in fds:
        os.close(fd)


def on_a_terminal(c, command, *words):
    """Return the argv of `run --tty` or `exec --tty` with these words as the program."""
    if command == "run":
        return c.rootless.command("run", "--tty", "-b", c.bundle.path, c.id, "--", *words)
    assert c.run_detached().returncode == 0
    return c.rootless.command("exec", "--tty", c.id, *words)


@pytest.mark.parametrize("command", ["run", "exec"])
def test_size_input_and_the_end(container, terminal, said, command) -> None:
    c = container({"process": {"args": ["sleep", "1000"]}, "root": {"readonly": False}})
    line = said(c)
    running = terminal.run(on_a_terminal(c, command, *READ))
    assert line() == "33 101"
    terminal.write(b"word\r")
    terminal.read_until(b"got word\r\n")
    assert termios.tcgetattr(terminal.slave) != terminal.before  # raw
    terminal.resize(20, 44)  # the kernel sends SIGWINCH
    terminal.write(b"more\r")
    terminal.read_until(b"got more\r\n")
    assert line() == "20 44"
    terminal.write(b"\x03")  # ^C: to the program, not to the runtime
    assert running.wait(TIMEOUT) == 130
    assert termios.tcgetattr(terminal.slave) == terminal.before


def test_job_control(container, terminal, said) -> None:
    """An interactive shell of the container stops and continues its jobs, because the
    terminal is its controlling one.
    """
    c = container({"root": {"readonly": False}})
    line = said(c)
    running = terminal.run(on_a_terminal(c, "run", "sh", "-i"))
    terminal.write(b"sh -c 'echo running >/said; exec sleep 1000'\r")
    assert line() == "running"
    terminal.write(b"\x1a")  # ^Z
    terminal.read_until(b"Stopped")
    terminal.write(b"jobs | grep -c sleep >/said\r")
    assert line() == "1"
    terminal.write(b"kill -9 %1; exit 7\rexit 7\r")
    assert running.wait(TIMEOUT) == 7
    assert termios.tcgetattr(terminal.slave) == terminal.before


@pytest.mark.parametrize("command", ["run", "exec"])
def test_all_output_comes_before_the_exit(container, terminal, command) -> None:
    c = container({"process": {"args": ["sleep", "1000"]}})
    running = terminal.run(on_a_terminal(c, command, "seq", "20000"))
    assert b"\r\n19999\r\n20000\r\n" in terminal.read_until(b"\n20000\r\n")
    assert running.wait(TIMEOUT) == 0


def test_neither_side_waits_for_the_other(container) -> None:
    """A program that does not read yet writes more than a terminal holds, and gets more
    input than that; both arrive.
    """
    c = container()
    command = c.rootless.command("run", "--tty", "-b", c.bundle.path, c.id, "--", "sh", "-c", "seq 20000; cat | wc -c")
    done = subprocess.run(command, input=b"y\n" * 20000, capture_output=True, timeout=TIMEOUT, check=False)
    assert done.returncode == 0, done.stderr
    assert b"\n20000\n" in done.stdout and done.stdout.split()[-1] == b"40000"


def test_input_for_a_terminal_that_the_program_has_closed(container) -> None:
    c = container()
    program = "exec </dev/null >/dev/null 2>&1; sleep 0.2; exit 6"
    command = c.rootless.command("run", "--tty", "-b", c.bundle.path, c.id, "--", "sh", "-c", program)
    done = subprocess.run(command, input=b"y\n" * 100000, capture_output=True, timeout=TIMEOUT, check=False)
    assert (done.returncode, done.stderr) == (6, b"")


def test_signals_pass_while_nobody_reads_the_output(container, tmp_path) -> None:
    c = container({"process": {"args": ["sleep", "1000"]}})
    assert c.run_detached().returncode == 0
    command = c.rootless.command("exec", "--tty", "--pid-file", tmp_path / "pid", c.id, "yes", "0123456789")
    output, full = os.pipe()
    fcntl.fcntl(full, fcntl.F_SETPIPE_SZ, 4096)
    running = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=full)
    while select.select([], [full], [], 0)[1] and running.poll() is None:
        pass
    os.close(full)
    pidfd = os.pidfd_open(int((tmp_path / "pid").read_text()))
    running.send_signal(signal.SIGTERM)
    told = select.select([pidfd], [], [], TIMEOUT)[0]
    os.close(pidfd)
    with open(output, "rb") as file:
        if told:
            assert file.read().startswith(b"0123456789\n")
    assert told, "the program was not told"
    assert running.wait(TIMEOUT) == 143


def test_a_hangup_ends_the_program(container, said) -> None:
    """When the window is closed, the program gets SIGHUP, and no container is left."""
    terminal = Terminal(24, 80)
    c = container({"root": {"readonly": False}})
    line = said(c)
    program = "trap 'exit 9' HUP; echo here >/said; read x; sleep 1000"
    running = terminal.run(on_a_terminal(c, "run", "sh", "-c", program))
    assert line() == "here"
    terminal.close()
    assert running.wait(TIMEOUT) in (9, 129)
    assert c.rootless.ids() == []


@pytest.mark.parametrize("command", ["run", "exec"])
def test_a_hangup_reaches_who_has_no_handler(container, said, command) -> None:
    """Pid 1 gets no signal without a handler, so a plain shell ends because it sees the end of its terminal."""
    terminal = Terminal(24, 80)
    c = container({"process": {"args": ["sleep", "1000"]}, "root": {"readonly": False}})
    line = said(c)
    running = terminal.run(on_a_terminal(c, command, "sh"))
    terminal.write(b"echo here >/said\r")
    assert line() == "here"
    terminal.close()
    running.wait(TIMEOUT)
    assert c.rootless.ids() == ([] if command == "run" else [c.id])


def test_who_ignores_a_hangup_goes_on(container, said) -> None:
    terminal = Terminal(24, 80)
    c = container({"root": {"readonly": False}})
    line = said(c)
    program = "trap '' HUP; echo here >/said; read x; echo there >/said; exec sleep 1000"
    running = terminal.run(on_a_terminal(c, "run", "sh", "-c", program))
    assert line() == "here"
    terminal.close()
    assert line() == "there"
    assert c.status() == "running"
    assert c.kill("KILL").returncode == 0
    assert running.wait(TIMEOUT) == 137


def test_the_terminal_is_restored_when_the_runtime_is_ended(container, terminal, said) -> None:
    """TERM goes to the program, and the runtime restores the terminal when the program has ended."""
    c = container({"root": {"readonly": False}})
    line = said(c)
    running = terminal.run(
        on_a_terminal(c, "run", "sh", "-c", "trap 'exit 3' TERM; echo here >/said; while :; do sleep 1000 & wait; done")
    )
    assert line() == "here"
    running.send_signal(signal.SIGTERM)
    assert running.wait(TIMEOUT) == 3
    assert termios.tcgetattr(terminal.slave) == terminal.before


def test_in_tmux(container, tmp_path, said) -> None:
    """End to end: typed into a window of tmux, read off its screen."""
    tmux = shutil.which("tmux")
    if not tmux:
        pytest.skip("this machine lacks tmux")
    socket = tmp_path / "tmux"

    def call(*words) -> str:
        command = [tmux, "-S", socket, "-f", "/dev/null", *map(str, words)]
        env = {"PATH": os.environ["PATH"], "TERM": "xterm", "LANG": "C.UTF-8", "SHELL": "/bin/sh"}
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=TIMEOUT, env=env)
        return done.stdout

    c = container({"process": {"args": ["sh"], "env": ["PATH=/bin", "PS1=inside> "]}, "root": {"readonly": False}})
    line = said(c)
    after = tmp_path / "after"
    os.mkfifo(after)
    end = os.open(after, os.O_RDWR | os.O_CLOEXEC)
    words = " ".join(map(str, c.rootless.command("run", "--tty", "-b", c.bundle.path, c.id)))
    call("new-session", "-d", "-x", "100", "-y", "30", "sh")
    try:
        call("send-keys", f"clear; {words}; echo status $?; stty -a | grep -o ' echo ' >{after}", "Enter")
        call("send-keys", "stty size >/said", "Enter")
        assert line() == "30 100"
        call("resize-window", "-x", "90", "-y", "25")
        size = ""
        while size != "25 90":  # tmux resizes it when it likes, and says nothing then
            call("send-keys", "stty size >/said", "Enter")
            size = line()
            assert size in ("30 100", "25 90")
        call("send-keys", "sh -c 'echo begun >/said; exec sleep 1000'", "Enter")
        assert line() == "begun"
        call("send-keys", "C-c", "")
        call("send-keys", "echo interrupted $? >/said", "Enter")
        assert line() == "interrupted 130"
        call("send-keys", "exit 42", "Enter")
        assert select.select([end], [], [], TIMEOUT)[0]
        assert until(lambda: "status 42" in call("capture-pane", "-p"))  # tmux reads it when it likes
        screen = call("capture-pane", "-p")
        assert "inside> exit 42" in screen, screen
    finally:
        call("kill-server")
        os.close(end)


@pytest.mark.parametrize("command", ["run", "exec"])
@pytest.mark.parametrize("at", [0, 1, 2, None])
def test_the_size_is_that_of_the_first_stream_that_is_a_terminal(container, terminal, said, command, at) -> None:
    """With `run -t <file` or `exec -t 2>log` the other streams are asked; if all are
    pipes or files, /dev/tty is asked.
    """
    c = container({"process": {"args": ["sleep", "1000"]}, "root": {"readonly": False}})
    line = said(c)
    script = "trap 'stty size >/said; exit 7' WINCH; stty size >/said; while :; do sleep 1; done"
    words = on_a_terminal(c, command, "sh", "-c", script)
    streams: list[int] = [subprocess.DEVNULL] * 3
    if at is not None:
        streams[at] = terminal.slave
    take = f"import fcntl, os, sys, termios; fcntl.ioctl({terminal.slave}, termios.TIOCSCTTY, 0); "
    take += f"os.close({terminal.slave}); os.execvp(sys.argv[1], sys.argv[1:])"
    running = subprocess.Popen(
        [sys.executable, "-IS", "-c", take, *words],
        stdin=streams[0], stdout=streams[1], stderr=streams[2], pass_fds=[terminal.slave], start_new_session=True,
    )  # fmt: skip
    assert line() == "33 101"
    terminal.resize(20, 44)
    assert line() == "20 44"
    assert running.wait(TIMEOUT) == 7


def test_a_first_terminal_goes_before_a_later_one(container, terminal) -> None:
    c = container({"process": {"args": ["sleep", "1000"]}})
    second = Terminal(11, 22)
    try:
        words = c.rootless.command("run", "--tty", "-b", c.bundle.path, c.id, "--", "stty", "size")
        running = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=terminal.slave, stderr=second.slave, start_new_session=True
        )
        terminal.read_until(b"33 101\r\n")
        assert running.wait(TIMEOUT) == 0
    finally:
        second.close()
