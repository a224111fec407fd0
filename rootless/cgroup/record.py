"""Declare the record of a container's cgroup: plain data that the state directory keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypedDict

if TYPE_CHECKING:
    Entry = list[str]  # [file, value, JSON pointer]
    Rule = list[Any]  # [allow, type, major, minor, access] of a device program; -1 for any number
    UnitProperty = list[Any]  # [name, D-Bus signature, value]

    class Record(TypedDict, total=False):
        """Hold what `compile` decides about a cgroup, and what the driver adds when it makes the cgroup.

        manager: "cgroupfs", "systemd" or "disabled"; path: the absolute directory, "" where systemd decides or where
        there is none; files: what is written, in this order; devices: the rules of a device program, [] for none;
        unit, slice, user, properties: for systemd. choices: the candidates in order of preference, until `open` has
        chosen one; each has "condition" (place.py, `usable`) and "base", the directory that it starts from. created:
        the directories that the driver made; inode: that of `path`, 0 if it is not known; unwanted: True if
        --cgroup-manager disabled asks for no cgroup.
        """

        manager: str
        path: str
        files: list[Entry]
        devices: list[Rule]
        unit: str
        slice: str
        user: bool
        properties: list[UnitProperty]
        choices: list[Record]
        base: str
        condition: str
        created: list[str]
        inode: int
        unwanted: bool

    class Host(Protocol):
        """Give the facts that `compile` asks for."""

        @property
        def uid(self) -> int: ...
        @property
        def cgroup_mount(self) -> str: ...
        @property
        def own_cgroup(self) -> str: ...
        @property
        def in_userns(self) -> bool: ...
