"""bin/rootless finds its interpreter and its package, wherever it is and however it is called."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
HERE = "is not in this copy"  # said by the copy's own package alone


@pytest.fixture(params=["a shell looks for the interpreter", "a shell knows it", "the first line names it"])
def text(request: pytest.FixtureRequest) -> str:
    """Return the text that pip leaves, that scripts/setup.sh makes of it, and that an installer may make."""
    text = (CHECKOUT / "bin/rootless").read_text()
    interpreter = os.path.realpath(sys.executable)
    if "names" in request.param:
        return text.replace("#!/bin/sh\n", f"#!{interpreter} -IS\n", 1)
    if "knows" in request.param:
        line = f'[ -x {interpreter} ] && exec {interpreter} -IS "$0" "$@"'
        text, number = re.subn("^# scripts/setup.sh writes here .*$", line, text, flags=re.MULTILINE)
        assert number == 1
    return text


@pytest.fixture(params=["checkout", "venv", "debian"])
def launcher(request: pytest.FixtureRequest, tmp_path: Path, text: str) -> Path:
    """Return a copy of the launcher with the package where each layout has it."""
    top = tmp_path / request.param
    (top / "bin").mkdir(parents=True)
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    places = {
        "checkout": top,
        "venv": top / "lib" / version / "site-packages",
        "debian": top / "lib/python3/dist-packages",
        "user": top / "lib" / version / "site-packages",  # pip --user: no interpreter beside the launcher
        "local": top / "lib" / version / "dist-packages",  # Debian's pip for root
    }
    place = places[request.param]
    shutil.copytree(CHECKOUT / "rootless", place / "rootless", ignore=shutil.ignore_patterns("__pycache__"))
    errors = place / "rootless/errors.py"
    errors.write_text(errors.read_text().replace("does not exist", HERE))
    if request.param in ("venv", "debian"):
        (top / "bin/python3").symlink_to(os.path.realpath(sys.executable))
    copy = top / "bin/rootless"
    copy.write_text(text)
    copy.chmod(0o755)
    return copy


def said(path: str | Path, *, cwd: Path, **environment: str) -> str:
    """Return the one line about a container that does not exist. The second of two calls uses the cached byte code."""
    command = [str(path), "--root", "state", "state", "nope"]
    for _ in range(2):
        done = subprocess.run(
            command, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 1 and len(done.stderr.splitlines()) == 1, done.stderr
    return done.stderr


def test_by_any_path(launcher: Path, tmp_path: Path) -> None:
    assert HERE in said(launcher, cwd=tmp_path)
    assert HERE in said(launcher.relative_to(tmp_path), cwd=tmp_path)
    assert HERE in said("./rootless", cwd=launcher.parent)


@pytest.mark.parametrize("launcher", ["user", "local"], indirect=True)
@pytest.mark.parametrize("text", ["a shell looks for the interpreter"], indirect=True)
def test_as_pip_installs_it_beside_no_interpreter(launcher: Path, tmp_path: Path) -> None:
    interpreters = os.path.dirname(os.path.realpath(sys.executable))
    assert HERE in said(launcher, cwd=tmp_path, PATH=f"{interpreters}:{os.environ['PATH']}")


def test_through_path(launcher: Path, tmp_path: Path) -> None:
    command = ["sh", "-c", "exec rootless --root state state nope"]
    environment = {**os.environ, "PATH": f"{launcher.parent}:/usr/bin:/bin"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert HERE in done.stderr


def test_through_links_as_pipx_makes_them(launcher: Path, tmp_path: Path) -> None:
    links = tmp_path / "somewhere/else"
    links.mkdir(parents=True)
    (links / "absolute").symlink_to(launcher)
    (links / "relative").symlink_to(os.path.relpath(launcher, links))
    (links / "again").symlink_to("relative")
    for name in ("absolute", "relative", "again"):
        assert HERE in said(links / name, cwd=tmp_path), name
        assert HERE in said(f"./{name}", cwd=links), name


def test_the_packages_directory_names_the_version_of_python(tmp_path: Path) -> None:
    """pip --user was called with an interpreter that is not the system's, and python3 in PATH may be another one."""
    top, name = tmp_path / "home", "python3.97"
    (top / "bin").mkdir(parents=True)
    (top / "lib" / name / "site-packages/rootless").mkdir(parents=True)
    (top / "lib/python3/site-packages/rootless").mkdir(parents=True)
    shutil.copy(CHECKOUT / "bin/rootless", top / "bin/rootless")
    interpreters = tmp_path / "a place: other"
    interpreters.mkdir()
    (tmp_path / "path").symlink_to(interpreters)
    interpreter = interpreters / name
    interpreter.write_text('#!/bin/sh\necho "$@"\n')
    interpreter.chmod(0o755)
    environment = {"PATH": f"/nosuch:{tmp_path}/path:/usr/bin:/bin"}
    done = subprocess.run(
        [top / "bin/rootless", "a b", "*"], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"-IS {top}/bin/rootless a b *\n"


def test_a_link_beside_another_installation_leads_to_its_own(launcher: Path, tmp_path: Path, text: str) -> None:
    """`pip install --user` and pipx may be used at the same time: the link's package is used, without a process that
    looks where the link leads.
    """
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    other = tmp_path / "other"
    (other / "bin").mkdir(parents=True)
    place = other / "lib" / version / "site-packages"
    shutil.copytree(CHECKOUT / "rootless", place / "rootless", ignore=shutil.ignore_patterns("__pycache__"))
    (other / "bin/python3").symlink_to(os.path.realpath(sys.executable))
    program = other / "bin/rootless"
    program.write_text(text)
    program.chmod(0o755)
    assert HERE not in said(program, cwd=tmp_path)  # its byte code is stored now
    (other / "bin/link").symlink_to(launcher)
    assert HERE in said(other / "bin/link", cwd=tmp_path)
    readlink = other / "path/readlink"
    readlink.parent.mkdir()
    readlink.write_text("#!/bin/sh\nexit 1\n")
    readlink.chmod(0o755)
    assert HERE in said(other / "bin/link", cwd=tmp_path, PATH=f"{readlink.parent}:{os.environ['PATH']}")


@pytest.mark.parametrize("number", [12, 13, 14, 16, 20])
def test_with_few_descriptors_no_shell_speaks_for_us(launcher: Path, tmp_path: Path, number: int) -> None:
    """A shell keeps what it redirects at descriptor 10 or above, so the launcher's shell
    redirects nothing on the way.
    """
    script = f'ulimit -n {number}; exec "$@"'
    words = ["sh", "-c", script, "sh", str(launcher), "--root", "state", "state", "nope"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stderr.startswith("rootless: ") and done.stderr.count("\n") == 1, done.stderr


@pytest.mark.parametrize("text", ["a shell looks for the interpreter", "a shell knows it"], indirect=True)
@pytest.mark.parametrize(("stream", "name"), [("stdin", "standard input"), ("stdout", "standard output")])
def test_a_directory_as_a_standard_stream_is_one_line(launcher: Path, tmp_path: Path, stream: str, name: str) -> None:
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    directory = os.open(tmp_path, os.O_RDONLY)
    try:
        done = subprocess.run([launcher, "list"], **{**streams, stream: directory}, text=True, check=False)
    finally:
        os.close(directory)
    assert done.returncode == 1
    assert re.fullmatch(f"rootless: {name} is a directory.*\n", done.stderr)


def test_setup_writes_the_interpreter_where_the_launcher_has_a_place_for_it(tmp_path: Path) -> None:
    """The test runs the line of scripts/setup.sh itself."""
    setup = (CHECKOUT / "scripts/setup.sh").read_text()
    (command,) = re.findall(r"^  (sed -i .*) ;;$", setup, flags=re.MULTILINE)
    (tmp_path / "bin").mkdir()
    shutil.copy(CHECKOUT / "bin/rootless", tmp_path / "bin/rootless")
    script = f"venv={tmp_path}; interpreter=/where/it/is; {command}"
    subprocess.run(["sh", "-euc", script], check=True, timeout=60)
    line = '[ -x /where/it/is ] && exec /where/it/is -IS "$0" "$@"'
    assert line in (tmp_path / "bin/rootless").read_text().split("\n")[:9]


def test_without_an_interpreter_it_says_so(tmp_path: Path) -> None:
    """A name that is not a program is not taken for one, whatever else it is."""
    launcher = tmp_path / "bin/rootless"
    launcher.parent.mkdir()
    system = {"/usr/bin", "/usr/local/bin"}
    text = (CHECKOUT / "bin/rootless").read_text()
    launcher.write_text("".join(word if word not in system else "/nosuch" for word in _words(text)))
    launcher.chmod(0o755)
    (tmp_path / "bin/python3").mkdir()
    command = ["/bin/sh", str(launcher), "list"]
    done = subprocess.run(command, env={"PATH": "/nosuch::/no such"}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (127, "rootless: no python3 found\n")


def _words(text: str) -> list[str]:
    """Return the text in pieces, so that a word of the shell's can be replaced."""
    return re.split(r"(\s)", text)
