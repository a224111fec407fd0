"""Containers as tasks of dask.distributed: `run` starts a command, `contained` decorates a function.

Inside a task they know what Dask knows: which limits the task has, and whether somebody still wants its result. Workers
have to be able to import this module: install it beside rootless, or call `client.upload_file("rootless_dask.py")`.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from distributed import Worker, get_worker

from rootless.api import tasks
from rootless.api.popen import CompletedProcess

P = ParamSpec("P")
R = TypeVar("R")
Settings = dict[str, Any]
_GIVEN = ("memory", "cpus", "limits")


def run(*popenargs: Any, image: str | os.PathLike[str] | None = None, **keywords: Any) -> CompletedProcess[Any]:
    """Run a command in a container on the worker, as `rootless.run` does: `client.submit(run, ["ls"], rootfs="root")`.

    image: an archive on the worker's machine, which is unpacked into that machine's cache once.
    """
    return tasks.run_task(*popenargs, image=image, **_in_task(keywords))


def contained(function: Callable[P, R] | None = None, /, **settings: Any) -> Any:
    """Decorate a function so that each call of it runs in a container on the worker: `@contained(image="python.tar")`.

    The settings are those of `rootless.contained`. Outside of a task it is the same as that.
    """
    if function is None:
        return functools.partial(contained, **settings)

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        return tasks.call_function(function, args, kwargs, **_in_task(settings))

    return call


def limits(resources: dict[str, float], memory: float, threads: int) -> Settings:
    """Return a task's limits as keywords of `rootless.run`.

    resources: what the task was submitted with, of which `memory` (bytes) and `cpus` are limits. They are refused where
    they cannot be set. Else the task has its share of the worker's memory, as far as that can be set, because the nanny
    sees only the memory of the worker itself. memory: the worker's, 0 for no limit; threads: how many tasks share it.
    """
    found: Settings = {}
    if "memory" in resources:
        found["memory"] = str(int(resources["memory"]))
    if "cpus" in resources:
        found["cpus"] = float(resources["cpus"])
    if not found and memory:
        found = {"memory": str(int(memory) // max(1, threads)), "limits": "best-effort"}
    return found


def _in_task(settings: Settings) -> Settings:
    """Return the settings with what is known of the task that calls this."""
    try:
        worker = get_worker()
        key = worker.get_current_task()
    except (ValueError, AttributeError):  # there is no worker, or this thread is not a task's
        return settings
    known: Settings = {"cancelled": functools.partial(_is_cancelled, worker, key)}
    if all(settings.get(name) is None for name in _GIVEN):
        task = worker.state.tasks.get(key)
        resources = dict(task.resource_restrictions or {}) if task else {}
        known |= limits(resources, worker.memory_manager.memory_limit or 0, worker.state.nthreads)
    return {**settings, **known}


def _is_cancelled(worker: Worker, key: Any) -> bool:
    """Return whether nobody wants the task's result: Dask itself cannot end a task that runs."""
    task = worker.state.tasks.get(key)
    return task is None or task.state in ("cancelled", "released", "forgotten")
