"""Read a plain root file system tar as an image of one layer, as `docker import` and its --change do."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import attrs

from oci import compression
from oci.chunks import Chunks, NextBuffer, OnBytes
from oci.errors import OciError, printable
from oci.ids import is_id, is_number
from oci.image.blobs import Blob, is_at_start, open_input
from oci.image.model import Image, Layer
from oci.image.platforms import host_platform
from oci.stream import counted, read_all


@attrs.define
class PipeBlob:
    """Read standard input or another pipe once: one pass, no spool file."""

    fd: int
    where: str
    size: int = 0
    _head: bytes = b""

    def compression(self) -> str:
        """Return how the bytes are compressed: a word of compression.detect."""
        while len(self._head) < compression.MAGIC_SIZE:
            more = os.read(self.fd, compression.MAGIC_SIZE - len(self._head))
            if not more:
                break
            self._head += more
        return compression.detect(self._head)

    def chunks(self, on_bytes: OnBytes | None = None, next_buffer: NextBuffer | None = None) -> Chunks:
        """Yield all bytes, once. `next_buffer` is not used, because a pipe gives small pieces."""
        self.compression()
        return counted(self._chunks(), on_bytes)

    def _chunks(self) -> Chunks:
        if self._head:
            yield self._head
        yield from read_all(self.fd)


@contextlib.contextmanager
def open_rootfs(source: str, changes: Iterable[str] = ()) -> Iterator[Image]:
    """Yield the image for a tar, compressed or not, from a file or standard input ("-"). Raises OciError."""
    label = "standard input" if source == "-" else source
    if source != "-" and os.path.isdir(source):
        raise OciError("a directory, not a tar", source, hint="tar -C DIRECTORY -c . | `import -o BUNDLE -`")
    fd = open_input(source)
    try:
        blob = Blob(fd, 0, os.fstat(fd).st_size, label) if is_at_start(fd) else PipeBlob(fd, label)
        system, architecture, variant = host_platform()
        config: dict[str, Any] = {"os": system, "architecture": architecture, "config": {}}
        apply_changes(config["config"], changes)
        yield Image("rootfs", (), "", config, (Layer(blob, label),), (), system, architecture, variant)
    finally:
        os.close(fd)


def apply_changes(config: dict[str, Any], changes: Iterable[str]) -> None:
    """Apply Dockerfile instructions to an image's `config`: those of docker import --change. Raises OciError."""
    for change in changes:
        name, _, rest = change.strip().partition(" ")
        change_one = _INSTRUCTIONS.get(name.upper())
        if change_one is None:
            raise OciError(
                f"unknown instruction {printable(name)!r}", "--change", hint=f"known are {', '.join(_INSTRUCTIONS)}"
            )
        try:
            change_one(config, rest.strip())
        except ValueError as error:
            raise OciError(f"{name.upper()}: {error}", "--change") from None


def _command(key: str) -> Callable[[dict[str, Any], str], None]:
    def change(config: dict[str, Any], rest: str) -> None:
        if rest.startswith("["):
            words = json.loads(rest)
            if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
                raise ValueError("a list of strings is needed")
        elif rest:
            words = ["/bin/sh", "-c", rest]
        else:
            raise ValueError("a value is needed; [] takes the one of the image away")
        config[key] = words

    return change


def _text(key: str) -> Callable[[dict[str, Any], str], None]:
    def change(config: dict[str, Any], rest: str) -> None:
        if not rest:
            raise ValueError("a value is needed")
        config[key] = rest

    return change


def _user(config: dict[str, Any], rest: str) -> None:
    if not rest:
        raise ValueError("a value is needed")
    for part in rest.split(":", 1):
        if is_number(part) and not is_id(part):
            raise ValueError(f"{part[:40]!r} is not an id")
    config["User"] = rest


def _environment(config: dict[str, Any], rest: str) -> None:
    env = {entry.partition("=")[0]: entry for entry in config.get("Env") or []}
    env.update({name: f"{name}={value}" for name, value in _pairs(rest)})
    config["Env"] = list(env.values())


def _labels(config: dict[str, Any], rest: str) -> None:
    config.setdefault("Labels", {}).update(_pairs(rest))


def _pairs(rest: str) -> list[tuple[str, str]]:
    words = shlex.split(rest)
    if words and "=" not in words[0]:
        name, _, value = rest.partition(" ")  # ENV NAME VALUE, the old form
        if not value.strip():
            raise ValueError("NAME=VALUE is needed")
        return [(name, value.strip())]
    if not words or not all("=" in word and word[0] != "=" for word in words):
        raise ValueError("NAME=VALUE is needed")
    return [(word.partition("=")[0], word.partition("=")[2]) for word in words]


def _ports(config: dict[str, Any], rest: str) -> None:
    if not rest:
        raise ValueError("a port is needed")
    for port in rest.split():
        number, _, protocol = port.partition("/")
        if not (number.isascii() and number.replace("-", "").isdigit()) or protocol not in ("", "tcp", "udp", "sctp"):
            raise ValueError(f"{port!r} is not a port")
        config.setdefault("ExposedPorts", {})[f"{number}/{protocol or 'tcp'}"] = {}


def _volumes(config: dict[str, Any], rest: str) -> None:
    paths = json.loads(rest) if rest.startswith("[") else shlex.split(rest)
    if not paths or not all(isinstance(path, str) and path.startswith("/") for path in paths):
        raise ValueError("an absolute path is needed")
    for path in paths:
        config.setdefault("Volumes", {})[path] = {}


_INSTRUCTIONS: dict[str, Callable[[dict[str, Any], str], None]] = {
    "CMD": _command("Cmd"),
    "ENTRYPOINT": _command("Entrypoint"),
    "ENV": _environment,
    "USER": _user,
    "WORKDIR": _text("WorkingDir"),
    "LABEL": _labels,
    "EXPOSE": _ports,
    "VOLUME": _volumes,
    "STOPSIGNAL": _text("StopSignal"),
}
