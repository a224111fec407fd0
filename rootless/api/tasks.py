"""Tasks: commands, and functions of Python, that an engine (dask.distributed, submitit) has sent to this machine.

Each runs in a container of its own, which ends with the process that called it, however that process ends. An image
comes from the machine's own cache. A function, its arguments and its result travel as pickles, so the package
cloudpickle has to be there (pip install 'rootless[tasks]'). A pickle is code: the caller has to trust the function.
"""

from __future__ import annotations

import concurrent.futures
import functools
import io
import os
import pickle
import pkgutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar, overload

from rootless.api.popen import CompletedProcess, Popen, run_with
from rootless.errors import RootlessError, advice

P = ParamSpec("P")
R = TypeVar("R")
_PERIOD = 0.2  # seconds between two checks whether the caller has cancelled the task
_LIMITS = ("memory", "cpus", "limits")


class TaskDied(RootlessError):
    """Report a container that has ended before the function in it returned.

    returncode: as in subprocess; oom_killed: whether the memory limit ended it.
    """

    def __init__(self, name: str, returncode: int, *, oom_killed: bool) -> None:
        self.returncode = returncode
        self.oom_killed = oom_killed
        end = f"signal {-returncode}" if returncode < 0 else f"exit code {returncode}"
        hint = advice("task-memory") if oom_killed else "its output says more"
        super().__init__(f"the container ended before the function returned ({end})", name, hint=hint)


def unpack(image: str | os.PathLike[str]) -> str:
    """Return the bundle of an image archive in this machine's cache, unpacked there if it is the first time.

    The cache is the one of `rootless run IMAGE`: the image's digests are its key, and parallel first calls unpack it
    once. A process of its own does it, because the caller may have threads. Raises RootlessError.
    """
    path = os.path.abspath(os.fspath(image))
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    program = "import sys; sys.path.insert(0, sys.argv.pop(1)); from rootless.__main__ import main; sys.exit(main())"
    command = [sys.executable, "-c", program, root, "cache", "add", path]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line.removeprefix("rootless: ") for line in done.stderr.splitlines()]
        if lines and path in lines[-1]:
            raise RootlessError(lines[-1])
        raise RootlessError(lines[-1] if lines else f"cannot unpack the image: exit code {done.returncode}", path)
    return done.stdout.splitlines()[-1]


def job_limits(environ: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """Return the limits of the Slurm job that this process runs in, as keywords of `run`; {} without a job.

    Slurm's own cgroup holds the container as well, so a limit that cannot be set is left to it ("best-effort"). Slurm
    gives memory in MiB, 0 for all of the node's (sbatch(1), OUTPUT ENVIRONMENT VARIABLES).
    """
    if "SLURM_JOB_ID" not in environ:
        return {}
    cpus = int(environ.get("SLURM_CPUS_PER_TASK") or 0)
    memory = int(environ.get("SLURM_MEM_PER_NODE") or 0)
    if not memory:
        memory = int(environ.get("SLURM_MEM_PER_CPU") or 0) * int(environ.get("SLURM_CPUS_ON_NODE") or cpus or 1)
    limits: dict[str, Any] = {"memory": f"{memory}m"} if memory else {}
    if cpus:
        limits["cpus"] = cpus
    return {**limits, "limits": "best-effort"} if limits else {}


def run_task(
    *popenargs: Any,
    image: str | os.PathLike[str] | None = None,
    cancelled: Callable[[], bool] | None = None,
    **keywords: Any,
) -> CompletedProcess[Any]:
    """Run a command in a container, as `rootless.run` does, with what an engine's task needs.

    image: an archive, which is unpacked into the machine's cache; the container gets a throw-away root on top of it.
    With ephemeral=False, and for an ordinary user before Linux 6.6, the root is read-only, by default with a tmpfs on
    /tmp.
    cancelled: is asked several times a second; when it returns True, the container is killed and
    concurrent.futures.CancelledError raised. Without memory=, cpus= and limits= the job's limits are taken.
    """
    keywords = _with_job(_with_image(image, keywords))
    if cancelled is None:
        return run_with(Popen, *popenargs, **keywords)
    return run_with(functools.partial(_Watched, cancelled), *popenargs, **keywords)


def call_function(
    function: Callable[..., R],
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    python: str | None = None,
    **settings: Any,
) -> R:
    """Call a function of Python in a container, and return what it returned, or raise what it raised.

    python: the interpreter in the container, of this one's version; by default the image's `python3`, and without an
    image or another root this very interpreter, with its packages. settings: as in `run_task`. What the function prints
    goes where the caller's output goes. Raises TaskDied where the function has neither returned nor raised.
    """
    if python is None:
        is_host = not any(settings.get(name) is not None for name in ("image", "bundle", "rootfs"))
        python = sys.executable if is_host else "python3"
        if is_host:
            settings["volumes"] = [*(settings.get("volumes") or ()), *_own_packages()]
    cloudpickle = _cloudpickle()
    call = io.BytesIO()
    pickle.dump(tuple(sys.version_info[:2]), call, 2)
    cloudpickle.dump((function, args, dict(kwargs or {})), call)
    with (
        _memory("program", _program()) as program,
        _memory("call", call.getbuffer()) as sent,
        _memory("result") as back,
    ):
        fds = program.fileno(), sent.fileno(), back.fileno()
        words = [python, f"/proc/self/fd/{fds[0]}", str(fds[1]), str(fds[2])]
        done = run_task(words, stdin=subprocess.DEVNULL, pass_fds=fds, **settings)
        back.seek(0)
        if done.returncode or not back.read(1):
            name = getattr(function, "__qualname__", repr(function))
            raise TaskDied(name, done.returncode, oom_killed=done.oom_killed)
        back.seek(0)
        returned, value = pickle.load(back)
    if returned:
        result: R = value
        return result
    raise value


@overload
def contained(function: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def contained(**settings: Any) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
def contained(function: Callable[P, R] | None = None, /, **settings: Any) -> Any:
    """Decorate a function so that each call of it runs in a container: `@contained(image="python.tar", memory="2g")`.

    The settings are those of `call_function`. Where the function is called, there its container runs: an engine that
    sends the decorated function to another machine has it run there.
    """
    if function is None:
        return functools.partial(contained, **settings)

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        return call_function(function, args, kwargs, **settings)

    return call


class _Watched(Popen[Any]):
    """A Popen whose `communicate` looks whether the task is cancelled."""

    def __init__(self, cancelled: Callable[[], bool], *popenargs: Any, **keywords: Any) -> None:
        self._cancelled = cancelled
        super().__init__(*popenargs, **keywords)

    def communicate(self, input: Any = None, timeout: float | None = None) -> tuple[Any, Any]:
        """Do what subprocess does, in periods. Raises CancelledError, and TimeoutExpired."""
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            left = _PERIOD if end is None else min(_PERIOD, end - time.monotonic())
            try:
                return super().communicate(input, max(left, 0))
            except subprocess.TimeoutExpired as error:
                input = None  # subprocess has taken it
                if self._cancelled():
                    raise concurrent.futures.CancelledError("the task was cancelled") from None
                if end is not None and time.monotonic() >= end:
                    raise subprocess.TimeoutExpired(self.args, timeout or 0, error.output, error.stderr) from None


def _with_image(image: str | os.PathLike[str] | None, keywords: dict[str, Any]) -> dict[str, Any]:
    if image is None:
        return keywords
    if keywords.get("bundle") is not None or keywords.get("rootfs") is not None:
        raise ValueError("image= cannot be used with bundle= or rootfs=")
    ephemeral = keywords.get("ephemeral")
    if ephemeral is None:
        ephemeral = _has_memory_root()
    bundle = unpack(image)
    if ephemeral:
        return {**keywords, "bundle": bundle, "ephemeral": True}
    if keywords.get("read_only") is False:
        raise ValueError("image= cannot be used with read_only=False and without ephemeral=True: the image is shared")
    keywords = {**keywords, "bundle": bundle, "ephemeral": False, "read_only": True}
    if keywords.get("tmpfs") is None:
        keywords["tmpfs"] = ["/tmp"]
    return keywords


@functools.cache
def _has_memory_root() -> bool:
    """Return whether a throw-away root in memory works here: for an ordinary user a tmpfs has to keep attributes."""
    if os.geteuid() == 0:
        return True
    fd = os.memfd_create("rootless")
    try:
        os.setxattr(fd, "user.rootless", b"")
    except OSError:
        return False  # before Linux 6.6
    finally:
        os.close(fd)
    return True


def _with_job(keywords: dict[str, Any]) -> dict[str, Any]:
    if any(keywords.get(name) is not None for name in _LIMITS):
        return keywords
    return {**keywords, **job_limits()}


def _cloudpickle() -> Any:
    try:
        import cloudpickle
    except ImportError:
        hint = advice("no-tasks")
        raise RootlessError("the package cloudpickle is missing, which sends functions", hint=hint) from None
    return cloudpickle


def _own_packages() -> list[str]:
    """Return the volumes that bring this interpreter and its packages into the host's own system."""
    places = dict.fromkeys((sys.prefix, sys.base_prefix))
    return [f"{place}:{place}:ro" for place in places if f"{place}/".split("/")[1] not in ("usr", "bin", "opt")]


def _memory(name: str, data: bytes | memoryview = b"") -> io.BufferedRandom:
    """Return a file in memory with this content (memfd_create(2))."""
    file = os.fdopen(os.memfd_create(f"rootless-{name}"), "w+b")
    file.write(data)
    file.flush()
    file.seek(0)
    return file


@functools.cache
def _program() -> bytes:
    """Return what the container's Python executes: a zip of rootless/api/called.py and cloudpickle (zipapp)."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("__main__.py", pkgutil.get_data("rootless.api", "called.py") or b"")
        for name in ("__init__.py", "cloudpickle.py", "cloudpickle_fast.py"):
            archive.writestr(f"cloudpickle/{name}", pkgutil.get_data("cloudpickle", name) or b"")
    return out.getvalue()
