"""pasta and slirp4netns connect a container without root: published ports and the host's loopback, on this machine
alone.
"""

from __future__ import annotations

import os
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import rootless as run_in_container
from rootless.kernel.find_program import find_program
from rootless.kernel.network_facts import read_gateways
from tests.support.checkout import TIMEOUT
from tests.support.echo import ASK, ENGINES, PYTHON, SERVE, V4, V6, ask, free_port, host_server, needs
from tests.support.processes import has_ended, until

both = pytest.mark.parametrize("engine", ENGINES)
INSIDE = ("--", PYTHON, "-c")


def is_modern() -> bool:
    """Return whether this pasta has --map-host-loopback, and so replies to remapped UDP ports."""
    said = subprocess.run(["pasta", "--help"], capture_output=True, text=True, check=False)
    return "--map-host-loopback" in said.stdout + said.stderr


@pytest.fixture
def serve(rootless: Any) -> Iterator[Any]:
    """Return `serve(port, flags)`, which starts a server in a container of the host's own system.

    It is ended at the end.
    """
    running: list[subprocess.Popen[str]] = []

    def start(port: int, *flags: str) -> subprocess.Popen[str]:
        program = rootless.popen("run", "--host", *flags, *INSIDE, SERVE, str(port))
        running.append(program)
        assert program.stdout.readline() == "up\n", program.communicate()[1]
        return program

    yield start
    for program in running:
        program.terminate()
        program.communicate(timeout=60)


def engines_of(rootless: Any) -> list[int]:
    """Return the pids of the engines that the containers have noted."""
    return [int(note.name.split(".")[2]) for note in rootless.state.glob("*/helper.*")]


def gone(pid: int) -> bool:
    """Return whether a process ends within a minute."""
    return until(lambda: has_ended(pid))


@both
def test_a_server_in_the_container_is_reached_from_the_host(engine: str, serve: Any) -> None:
    """TCP and UDP reach it by 127.0.0.1 and ::1. slirp4netns publishes on IPv4 only."""
    needs(engine)
    inner, number = free_port(), free_port()
    udp = number if engine == "slirp4netns" or is_modern() else inner
    serve(inner, "--network", engine, "-p", f"{number}:{inner}", "-p", f"127.0.0.1:{udp}:{inner}/udp")
    assert ask("tcp", "127.0.0.1", number) == "inside ask"
    assert ask("udp", "127.0.0.1", udp) == "inside ask"
    if engine == "pasta":
        assert ask("tcp", "::1", number) == "inside ask"


def test_udp_over_ipv6(serve: Any) -> None:
    needs("pasta")
    port = free_port()
    serve(port, "-p", f"[::1]:{port}:{port}/udp", "-p", f"[::1]:{port}:{port}/tcp")
    assert ask("udp", "::1", port) == ask("tcp", "::1", port) == "inside ask"
    assert ask("tcp", "127.0.0.1", port) == "ConnectionRefusedError", "published on ::1 alone"


@both
def test_a_server_on_the_hosts_loopback_is_reached_from_the_container(engine: str, rootless: Any) -> None:
    """host.rootless.internal reaches it over TCP and UDP, IPv4 and IPv6, while 127.0.0.1 is the container's own."""
    needs(engine)
    with host_server("127.0.0.1") as four, host_server("::1") as six:
        words = [
            f"{protocol},host.rootless.internal,{port},{family},{TIMEOUT}"
            for port, family in ((four, V4), (six, V6))
            for protocol in ("tcp", "udp")
        ]
        own = [f"tcp,127.0.0.1,{four},0,0", f"tcp,::1,{six},0,0"]
        result = rootless("run", "--host", "--network", engine, *INSIDE, ASK, *words, *own)
        assert result.stdout.split("\n") == [*["host ask"] * 4, *["ConnectionRefusedError"] * 2, ""], result.stderr


@both
def test_the_hosts_loopback_is_out_of_reach(engine: str, rootless: Any) -> None:
    """With --no-host-loopback the name does not exist, and its address does not lead to the host."""
    needs(engine)
    gateway = "10.0.2.2" if engine == "slirp4netns" else read_gateways()[0]
    with host_server("127.0.0.1") as port:
        words = [f"tcp,host.rootless.internal,{port},0,0", f"tcp,{gateway},{port},0,0"]
        result = rootless("run", "--host", "--network", engine, "--no-host-loopback", *INSIDE, ASK, *words)
        name, address = result.stdout.splitlines()
        assert name == "gaierror" and address != "host ask"


@both
def test_nothing_else_is_published(engine: str, serve: Any) -> None:
    needs(engine)
    number, inner = free_port(), free_port()
    serve(inner, "--network", engine, "-p", f"127.0.0.1:{number}:7009")
    assert ask("tcp", "127.0.0.1", inner) == ask("udp", "127.0.0.1", inner) == "ConnectionRefusedError"
    assert ask("tcp", "127.0.0.2", number) == "ConnectionRefusedError"


@both
def test_names_inside(engine: str, rootless: Any, make_bundle: Any) -> None:
    """Name servers that the container reaches, the host's names, and those of the bundle where it mounts its own."""
    needs(engine)
    bundle = make_bundle()
    result = rootless("run", "--network", engine, str(bundle.path), "cat", "/etc/resolv.conf", "/etc/hosts")
    assert "nameserver " in result.stdout and "nameserver 127." not in result.stdout
    assert Path("/etc/hosts").read_text() in result.stdout and "host.rootless.internal" in result.stdout
    own = bundle.path / "own"
    own.write_text("own\n")
    flags = ("-v", f"{own}:/etc/hosts", "-v", f"{own}:/etc/resolv.conf")
    result = rootless("run", "--network", engine, *flags, str(bundle.path), "cat", "/etc/resolv.conf", "/etc/hosts")
    assert result.stdout == "own\nown\n"


def fetch(port: int) -> str:
    """Return the page of a web server, "" if it does not listen yet."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as page:
            return str(page.read())
    except OSError:
        return ""


@both
def test_a_created_container(engine: str, container: Any, rootless: Any) -> None:
    """An annotation asks for the engine.

    It runs from `create` on and ends with the container, and `wait` knows the exit code.
    """
    needs(engine)
    number = free_port()
    annotations = {"org.rootless.network": engine, "org.rootless.publish": f"127.0.0.1:{number}:80"}
    script = "cd /tmp; echo hello >index.html; httpd -p 80 -h /tmp; until test -e /tmp/go; do sleep 0.1; done; exit 5"
    c = container({"annotations": annotations, "process": {"args": ["sh", "-c", script]}, "root": {"readonly": False}})
    created = c.create()
    assert created.returncode == 0, created.stderr
    (pid,) = engines_of(rootless)
    assert f"127.0.0.1:{number}:80/tcp" in rootless("list").stdout
    assert c.start().returncode == 0
    assert until(lambda: "hello" in fetch(number))
    waiting = rootless.popen("wait", c.id)
    (c.bundle.rootfs / "tmp/go").touch()
    assert waiting.communicate(timeout=60) == ("5\n", "")
    assert gone(pid)


@both
def test_a_detached_container(engine: str, rootless: Any, make_bundle: Any) -> None:
    """The engine ends with the container, also if its note is lost.

    After SIGKILL of the monitor, `delete --force` ends it.
    """
    needs(engine)
    bundle = make_bundle(f"net-{os.getpid()}")
    with open(os.devnull, "r+") as null:
        streams = {"capture_output": False, "stdin": null, "stdout": null, "stderr": null}
        for ending in ("stop", "kill", "lose"):
            name = f"{engine}-{ending}-{os.getpid()}"
            words = ("run", "-d", "--network", engine, "--name", name, str(bundle.path), "sleep", "100")
            assert rootless(*words, **streams).returncode == 0
            (pid,) = engines_of(rootless)
            if ending == "stop":
                assert rootless("stop", "--time", "0.1s", name).returncode == 0
                assert rootless("wait", name).stdout == "137\n" and gone(pid)
            elif ending == "lose":
                (note,) = (rootless.state / name).glob("helper.*")
                note.unlink()
                assert rootless("kill", name, "KILL").returncode == 0 and gone(pid)
            else:
                os.kill(int(os.readlink(rootless.state / name / "monitor").split()[0]), signal.SIGKILL)
            assert rootless("delete", "--force", name).returncode == 0
            assert gone(pid) and rootless.ids() == []


@both
def test_an_engine_that_is_killed(engine: str, rootless: Any, make_bundle: Any) -> None:
    """A foreground `run` warns and continues."""
    needs(engine)
    bundle = make_bundle(patch={"root": {"readonly": False}})
    running = rootless.popen(
        "run",
        "--network",
        engine,
        str(bundle.path),
        "sh",
        "-c",
        "echo up; until test -e /go; do sleep 0.1; done; exit 3",
    )
    assert running.stdout.readline() == "up\n", running.communicate()
    (pid,) = engines_of(rootless)
    os.kill(pid, signal.SIGKILL)
    warning = running.stderr.readline()
    assert f"{engine} has ended, so the container has no network any more: signal 9" in warning
    (bundle.rootfs / "go").touch()
    assert running.communicate(timeout=60) == ("", "") and running.returncode == 3
    assert rootless.ids() == []


@both
def test_a_run_that_is_killed(engine: str, rootless: Any, make_bundle: Any) -> None:
    needs(engine)
    bundle = make_bundle()
    running = rootless.popen(
        "run",
        "--network",
        engine,
        "--name",
        f"killed-{os.getpid()}",
        str(bundle.path),
        "sh",
        "-c",
        "echo up; sleep 100",
    )
    assert running.stdout.readline() == "up\n", running.communicate()
    (pid,) = engines_of(rootless)
    running.kill()
    running.communicate()
    assert gone(pid), "it ends with the command"
    assert rootless("delete", "--force", rootless.ids()[0]).returncode == 0
    assert gone(pid)


def test_twenty_at_once(rootless: Any, make_bundle: Any) -> None:
    """Ten containers with each engine run at the same time."""
    for engine in ENGINES:
        needs(engine)
    bundle = make_bundle()
    script = "ip route | grep -c default; grep -c host.rootless /etc/hosts"
    running = []
    for number in range(20):
        flags = ("--network", ENGINES[number % 2], "--name", f"n{number}-{os.getpid()}")
        running.append(rootless.popen("run", *flags, str(bundle.path), "sh", "-c", script))
    for program in running:
        out, err = program.communicate(timeout=300)
        assert (out[:2], err, program.returncode) == ("1\n", "", 0)


@both
def test_an_engine_that_cannot_start(engine: str, rootless: Any, make_bundle: Any, tmp_path: Path) -> None:
    """The error quotes the last line that the engine wrote, and nothing is left.

    The test puts a program of its own in the engine's place. It also checks that the engine gets default signals,
    because pasta dies where SIGPIPE is ignored, and no descriptor of the runtime.
    """
    needs(engine)
    bundle = make_bundle()
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / engine
    signals = "grep -h -e SigIgn -e SigBlk /proc/self/status | tr -d '\\n'"
    # The shell closes its ends of the pipe while ls looks at them, and ls complains of each that is gone.
    descriptors = "ls -l /proc/$$/fd 2>/dev/null | grep -c -e state -e socket"
    program.write_text(f"#!/bin/sh\nexec >&2\n{signals}\n{descriptors}\nexit 3\n")
    program.chmod(0o755)
    env = {**os.environ, "PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
    result = rootless("run", "--network", engine, str(bundle.path), "true", env=env)
    assert result.returncode == 1 and result.stderr.count("\n") == 1
    said = "SigBlk:\\t0000000000000000SigIgn:\\t00000000000000000"
    assert f"{engine} could not connect the container: exit status 3: {said}" in result.stderr
    assert rootless.ids() == []


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_port_in_use(protocol: str, rootless: Any, make_bundle: Any) -> None:
    """The error comes before the tun device is opened, and before anything is made."""
    engine = next(filter(find_program, ENGINES), "")
    if not engine:
        pytest.skip("this machine lacks both pasta and slirp4netns")
    with host_server("127.0.0.1") as port:
        asked = f"127.0.0.1:{port}:{port}/{protocol}"
        result = rootless("run", "--network", engine, "-p", asked, str(make_bundle().path), "true")
    assert result.returncode == 1 and result.stderr.count("\n") == 1
    assert f"cannot publish port {port}/{protocol}: --publish {asked}: EADDRINUSE" in result.stderr
    assert "hint: another program has it" in result.stderr and rootless.ids() == []


def test_a_port_that_is_roots(rootless: Any, make_bundle: Any) -> None:
    first = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    if os.geteuid() == 0 or first < 82 or not any(map(find_program, ENGINES)):
        pytest.skip("port 81 is everybody's here, or there is no engine")
    result = rootless("run", "-p", "81:80", str(make_bundle().path), "true")
    assert result.returncode == 1 and result.stderr.count("\n") == 1
    assert "cannot publish port 81/tcp: --publish 81:80/tcp: EACCES" in result.stderr
    assert f"hint: ports below {first} are root's: publish another one (8081:80)" in result.stderr


def test_a_tun_device_that_cannot_be_opened(rootless: Any, make_bundle: Any, tmp_path: Path) -> None:
    """In a mount namespace with an empty /dev/net, the message names the node and what root types."""
    if not any(map(find_program, ENGINES)) or not Path("/dev/net").is_dir():
        pytest.skip("this machine lacks both pasta and slirp4netns, or /dev/net")
    unshare = ["unshare", "-m", *(["-Ur"] if os.geteuid() else []), "--propagation", "private"]
    words = rootless.command("run", "-p", f"{free_port()}:80", make_bundle().path, "true")
    script = 'mount -t tmpfs none /dev/net && exec "$@"'
    result = subprocess.run(
        [*unshare, "sh", "-c", script, "sh", *words], capture_output=True, text=True, check=False, timeout=60
    )
    assert result.returncode == 1 and result.stderr.count("\n") == 1
    assert "cannot connect the container: /dev/net/tun: ENOENT" in result.stderr
    assert "modprobe tun; chmod 666 /dev/net/tun" in result.stderr and rootless.ids() == []


def test_from_python() -> None:
    """The keywords publish a port while `Popen` runs, and let `run` reach the host's loopback."""
    needs("pasta")
    inner = free_port()
    command = [PYTHON, "-c", SERVE, str(inner)]
    publish = [f"127.0.0.1:{inner}:{inner}", f"127.0.0.1:{inner}:{inner}/udp"]
    with run_in_container.Popen(command, publish=publish, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout.readline() == "up\n"
        assert ask("tcp", "127.0.0.1", inner) == ask("udp", "127.0.0.1", inner) == "inside ask"
        program.kill()
    assert until(lambda: ask("tcp", "127.0.0.1", inner) == "ConnectionRefusedError"), "the engine has ended, too"
    with host_server("127.0.0.1") as port:
        words = [PYTHON, "-c", ASK, f"tcp,host.rootless.internal,{port},{V4},{TIMEOUT}"]
        result = run_in_container.run(words, network="auto", capture_output=True, text=True)
        assert (result.stdout, result.stderr) == ("host ask\n", "")
        words = [PYTHON, "-c", ASK, f"tcp,host.rootless.internal,{port},{V4},0"]
        result = run_in_container.run(words, network="auto", no_host_loopback=True, capture_output=True, text=True)
        assert result.stdout == "gaierror\n"
    with pytest.raises(run_in_container.RootlessError, match="no engine connects it"):
        run_in_container.run(["true"], network="none", publish=["8080:80"])
