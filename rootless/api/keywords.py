"""Declare the arguments of `run`, `Popen` and the functions like them. Type checkers read this module; nothing imports
it at run time.

`text`, `encoding`, `errors`, `universal_newlines` and `input` decide whether output is str or bytes, so the functions'
overloads declare them (rootless/api/popen.py), as typeshed does for subprocess.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import IO, Any, Literal, TypeAlias, TypedDict

FilePath: TypeAlias = str | bytes | os.PathLike[str] | os.PathLike[bytes]
Command: TypeAlias = FilePath | Sequence[FilePath]
Stream: TypeAlias = int | IO[Any] | None
Environment: TypeAlias = Mapping[str, FilePath] | Mapping[bytes, FilePath]
Data: TypeAlias = bytes | bytearray | memoryview


class SandboxKeywords(TypedDict, total=False):
    """Declare what each container of a `Sandbox` gets. Most of them are in plan/settings.py, too."""

    bundle: str | os.PathLike[str] | None
    rootfs: str | os.PathLike[str] | None
    limits: Literal["strict", "best-effort"]
    hostname: str | None
    volumes: Sequence[str | os.PathLike[str]] | None
    tmpfs: Sequence[str | os.PathLike[str]] | None
    read_only: bool | None
    root_emulation: Literal["errno", "notify"] | bool
    ephemeral: bool
    network: str | None
    publish: Sequence[str] | None
    no_host_loopback: bool
    memory: str | int | None
    cpus: str | float | None
    pids: int | None
    ulimits: Mapping[str, Any] | Sequence[str] | None
    cap_add: Sequence[str] | None
    cap_drop: Sequence[str] | None
    no_new_privileges: bool | None
    seccomp: str | os.PathLike[str] | Mapping[str, Any] | None
    config: Mapping[str, Any] | None


class ContainerKeywords(SandboxKeywords, total=False):
    """Declare what a container gets, beside what subprocess.Popen knows."""

    name: str | None
    init: bool


class ChildKeywords(TypedDict, total=False):
    """Declare the arguments of subprocess.Popen after its first three."""

    stdin: Stream
    stdout: Stream
    stderr: Stream
    preexec_fn: None
    close_fds: Literal[True]
    shell: bool
    cwd: FilePath | None
    env: Environment | None
    startupinfo: None
    creationflags: int
    restore_signals: bool
    start_new_session: bool
    pass_fds: Collection[int]
    user: str | int | None
    group: str | int | None
    extra_groups: Iterable[str | int] | None
    umask: int
    pipesize: int
    process_group: int | None


class WaitKeywords(TypedDict, total=False):
    """Declare what subprocess.run adds to them."""

    capture_output: bool
    timeout: float | None
    check: bool


class PopenKeywords(ContainerKeywords, ChildKeywords, total=False):
    """The arguments of `Popen`."""


class RunKeywords(PopenKeywords, WaitKeywords, total=False):
    """The arguments of `run`."""


class ExecKeywords(ChildKeywords, WaitKeywords, total=False):
    """The arguments of `Popen.exec`: the container is there already."""


class AsyncRunKeywords(RunKeywords, total=False):
    """The arguments of `async_run`, whose first argument may be several words."""

    executable: FilePath | None
    limit: int


class AsyncPopenKeywords(PopenKeywords, total=False):
    """The arguments of `async_popen`: asyncio's streams are of bytes."""

    executable: FilePath | None
    bufsize: Literal[0]
    text: Literal[False] | None
    universal_newlines: Literal[False] | None
    encoding: None
    errors: None


class CallKeywords(TypedDict, total=False):
    """Declare what one call of a `Sandbox` may set."""

    input: Data | str | None
    timeout: float | None
    env: Environment | None
    cwd: FilePath | None
    shell: bool
    executable: FilePath | None
    umask: int
