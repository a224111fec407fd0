"""Declare, for type checkers, the shape of the state that hooks, seccomp agents and the command `state` get."""

from __future__ import annotations

from typing import NotRequired, TypedDict


class Report(TypedDict):
    """The state of a container (runtime.md#state), with the members that runc adds."""

    ociVersion: str
    id: str
    pid: int
    status: str
    bundle: str
    rootfs: str
    created: str
    annotations: NotRequired[dict[str, str]]
    owner: NotRequired[str]  # in `list` alone
