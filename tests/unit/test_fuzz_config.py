"""For each of 100,000 damaged configs the reader and the plan compiler give a plan or one line.

The seeds are the configs that clients write (tests/plans) and the one with every property. No plan leads out of its
place: a target is a clean absolute path, to be looked up inside the root; a sysctl, a cgroup and its files, and a
resctrl class stay below their directories.
"""

import json
import os.path
import random
from typing import Any

import pytest

from rootless import plan
from rootless.config_node import Node
from rootless.errors import RootlessError
from rootless.kernel.host import Host
from rootless.plan import Call
from rootless.plan.compiler import Plan
from rootless.plan.describe import describe
from rootless.plan.validate import validate
from rootless.startup import jsonlite
from rootless.steps.devices import Device, Link
from rootless.steps.masks import MakePathReadonly, MaskPath
from rootless.steps.mounts import Mount
from rootless.steps.names import WriteSysctl
from rootless.steps.root import MakeWorkingDirectory
from tests.support.full_config import FULL
from tests.support.golden import CONFIGS, HOSTS

SHARDS = 25
CONFIGS_EACH = 2000
SEEDS = [(path.parent.name, json.loads(path.read_text())) for path in CONFIGS]
SEEDS += [(kind, FULL) for kind in HOSTS for _ in range(5)]
STRINGS = [
    "", "/", ".", "..", "../..", "/..", "/proc/../..", "/dev/../../etc/passwd", "//host", "/proc/self/root",
    "/proc/1/root", "/sys/../../x", "net.../../etc/passwd", "net/../../x", "net.ipv4.a/b", "user/..", "kernel.hostname",
    "a\0b", "\ud800", "\n", "\x1b[31m", "é", "x" * 300, "1.0.0", "bind", "rbind", "rro", "idmap",
    "idmap=uids=0-1-1;gids=0-1-1", "tmpcopyup", "copy-symlink", "memory.max", "cgroup.procs", "../memory.max", "0-3,7",
    "-1", "user.slice:a:b", "::", "a:b:c", "MB:0=1", "CAP_KILL", "RLIMIT_CPU", "SCMP_ACT_NOTIFY", "SCMP_ACT_ALLOW",
    "mount", "user", "network", "tmpfs", "overlay", "proc", "org.systemd.property.X", "uint64 99999999999999999999",
    "['a'", "@", "lowerdir=/etc:/",
]  # fmt: skip
NUMBERS = [
    0, -1, 1, 2, 7, 9, 10, 511, 1000, 1024, 65535, 65536, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**64, -(2**63) - 1,
    10**30, 0.5, 1e3, 1e300, float("inf"),
]  # fmt: skip


class Mutator:
    """Damage configs, in the same way for the same number."""

    def __init__(self, number: int) -> None:
        self.random = random.Random(number)

    def mutated(self, config: Any) -> Any:
        """Return a copy with one to four changes."""
        for _ in range(self.random.choice((1, 1, 2, 3, 4))):
            config = self._changed(config)
        return config

    def _changed(self, value: Any) -> Any:
        """Return a copy with one change at a random place below; values that are not on the way to it are shared."""
        pick = self.random
        if isinstance(value, dict) and value and pick.random() < 0.93:
            key = pick.choice(list(value))
            if pick.random() < 0.03:
                return {(self._text(k) if k == key else k): v for k, v in value.items()}
            return {**value, key: self._changed(value[key])}
        if isinstance(value, list) and value and pick.random() < 0.9:
            index = pick.randrange(len(value))
            below = [self._changed(value[index])] if pick.random() < 0.8 else pick.choice(([], [value[index]] * 2))
            return [*value[:index], *below, *value[index + 1 :]]
        return self._other(value)

    def _other(self, value: Any) -> Any:
        pick = self.random
        kind = pick.randrange(10)
        if kind < 3 and isinstance(value, str):
            at = pick.randrange(len(value) + 1)
            return value[:at] + pick.choice(STRINGS) + value[at + pick.randrange(3) :]
        if kind < 3 and isinstance(value, int):
            return value + pick.choice((-1, 1, 2**16, 2**32, -(2**33)))
        if kind < 5:
            return pick.choice(STRINGS)
        if kind < 7:
            return pick.choice(NUMBERS)
        if kind == 7:
            return pick.choice((None, True, False, [], {}, [None], [[]], {"": None}, [1, "a", {}]))
        config: Any = pick.choice(SEEDS)[1]
        while isinstance(config, (dict, list)) and config and pick.random() < 0.8:  # a piece of another config
            config = pick.choice(list(config.values()) if isinstance(config, dict) else config)
        return config

    def _text(self, text: str) -> str:
        at = self.random.randrange(len(text) + 1)
        return text[:at] + self.random.choice(STRINGS) + text[at:]

    def spoilt(self, text: bytes) -> bytes:
        """Return the bytes of a config with a few of them changed."""
        data = bytearray(text)
        for _ in range(self.random.randrange(1, 4)):
            at = self.random.randrange(len(data))
            data[at : at + self.random.randrange(4)] = self.random.choice(
                (b"", b"}", b"[", b'"', b",", b"\0", b"\xff", b"\\u0000", b"\\ud800", b"1e999", b"-", b"null", b"\\")
            )
        return bytes(data)


def compiled(node: Node, kind: str) -> Plan:
    return plan.compile(node, Host(**HOSTS[kind]), Call("/bundle", "id"))


def check_one_line(error: RootlessError) -> None:
    message = error.message()
    assert message.isprintable() and message, message


def check_stays_inside(made: Plan) -> None:
    for step in made.prepare + made.enter:
        if isinstance(step, (Mount, Device, Link, MaskPath, MakePathReadonly, MakeWorkingDirectory)):
            target = step.target if isinstance(step, Mount) else step.path
            assert target == "/" + os.path.normpath(target).lstrip("/") and "\0" not in target, step.describe()
        elif isinstance(step, WriteSysctl):
            name = step.name
            assert name and not name.startswith("/") and ".." not in name.split("/"), name
            assert name.split("/")[0] in ("net", "user", "kernel", "fs"), name
    record = made.cgroup.record
    assert not record["path"] or os.path.normpath(record["path"]).startswith("/sys/fs/cgroup/"), record
    assert "/" not in record.get("unit", "") + record.get("slice", ""), record
    assert all("/" not in entry[0] for entry in record["files"]), record
    assert not made.resctrl or "/" not in made.resctrl.clos_id.removeprefix("/"), made.resctrl.clos_id
    assert all("/" not in device[1] for device in (made.net_devices.devices if made.net_devices else ()))


@pytest.mark.parametrize("shard", range(SHARDS))
def test_spoilt_configs(shard: int) -> None:
    mutator = Mutator(shard)
    plans = 0
    for number in range(CONFIGS_EACH):
        kind, seed = mutator.random.choice(SEEDS)
        config = mutator.mutated(seed)
        if not isinstance(config, dict):
            continue
        failure = None
        try:
            made = compiled(Node(config), kind)
        except RootlessError as error:
            failure = error
            check_one_line(error)
        else:
            plans += 1
            check_stays_inside(made)
            assert all(line.isprintable() for line in describe(made))
        if number % 20 == 0:
            errors, _ = validate(config, lambda node, kind=kind: compiled(node, kind).warnings)
            assert bool(errors) == bool(failure)
            assert not failure or errors[0].message() == failure.message()
    assert CONFIGS_EACH // 10 < plans < CONFIGS_EACH, "the mutations are neither harmless nor hopeless"


@pytest.mark.parametrize("shard", range(4))
def test_spoilt_bytes(shard: int) -> None:
    mutator = Mutator(shard)
    texts = [(kind, json.dumps(seed).encode()) for kind, seed in SEEDS]
    for _ in range(1000):
        kind, text = mutator.random.choice(texts)
        try:
            config = jsonlite.loads(mutator.spoilt(text))
        except ValueError:  # UnicodeDecodeError is one
            continue
        if isinstance(config, dict):
            try:
                check_stays_inside(compiled(Node(config), kind))
            except RootlessError as error:
                check_one_line(error)
