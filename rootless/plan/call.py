"""Declare the caller's arguments that the compiler needs besides config.json."""

from __future__ import annotations


class Call:
    """Hold the caller's arguments besides config.json.

    bundle: the absolute directory that relative paths start from; cgroup_manager: "" to choose; listen_fds: how many
    sockets, from fd 3 on, the program gets (sd_listen_fds(3)); emulates_root: whether to emulate root for a user with
    one id; state: the container's state directory.
    """

    __slots__ = ("bundle", "cgroup_manager", "container_id", "emulates_root", "listen_fds", "state")

    def __init__(
        self,
        bundle: str,
        container_id: str = "container",
        *,
        cgroup_manager: str = "",
        listen_fds: int = 0,
        emulates_root: bool = False,
        state: str = "/run",
    ) -> None:
        self.bundle = bundle
        self.container_id = container_id
        self.cgroup_manager = cgroup_manager
        self.listen_fds = listen_fds
        self.emulates_root = emulates_root
        self.state = state
