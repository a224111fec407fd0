"""Each of ten thousand mutated archives converts or is refused by an OciError; nothing outside changes, nothing leaks.

A failure names its seed: `mutate(random.Random(seed), ...)` makes the same archive again.
"""

from __future__ import annotations

import gzip
import os
import random
from pathlib import Path

import pytest

from oci.errors import OciError
from oci.remove import remove_tree
from tests.support import archives as a

ROUNDS = 20
EACH = int(os.environ.get("ROOTLESS_FUZZ", "2000")) // ROUNDS


def seeds(outside: Path) -> list[bytes]:
    """Return small archives of every layout that hold every kind of member."""
    lower = b"".join(
        (
            a.directory("d"), a.file("d/f", b"lower"), a.file("d/g", b"x" * 700), a.symlink("l", "d"),
            a.symlink("out", str(outside)), a.header("p", type_=b"6"), a.header("dev", type_=b"3", device=(1, 3)),
        )
    )  # fmt: skip
    upper = b"".join(
        (
            a.file("l/h", b"upper", uid=7, gid=8), a.hard_link("hard", "d/f"), a.file("d/.wh.g", b""),
            a.pax({"path": "d/long" + "g" * 120, "mtime": "1.5", "SCHILY.xattr.user.a": "b"}), a.file("short", b"y"),
            a.pax({"GNU.sparse.size": "5000", "GNU.sparse.map": "0,3,4000,3"}), a.file("sparse", b"abcdef"),
            a.file("././@LongLink", b"n" * 150 + b"\0", type_=b"L"), a.file("n", b"z"), a.file("out/new", b"inside"),
            a.file("d/.wh..wh..opq", b""), a.file("d/after", b"q"),
        )
    )  # fmt: skip
    layers = [lower + a.END, upper + a.END]
    legacy = {
        "1/json": b'{"id": "1"}', "1/layer.tar": layers[0], "1/VERSION": b"1.0",
        "2/json": b'{"id": "2", "parent": "1"}',
        "2/layer.tar": gzip.compress(layers[1]), "repositories": b'{"n": {"t": "2"}}',
    }  # fmt: skip
    loose = {"rootfs": {"type": "layers", "diff_ids": []}}
    return [
        a.docker_archive(layers, {"User": "0:0", "Env": ["A=b"]}),
        a.docker_archive(layers, **loose),
        a.docker_archive([gzip.compress(layer) for layer in layers], **loose),
        a.tar_of(legacy),
        a.tar_of(a.layout(layers)),
        gzip.compress(a.docker_archive(layers, **loose)),
    ]


def words(outside: Path) -> list[bytes]:
    """Return what a mutation may write into a name."""
    place = os.fsencode(outside)
    return [
        b"..", b"../x", b"/", b".", b"", b"./", b"//", b".wh.", b".wh...", b".wh..wh..opq", b".wh..wh.plnk/1",
        b"d", b"l", b"out", b"out/secret", b"l/../out/secret", place, place + b"/secret", b"../" * 12 + place[1:],
        b"d/f", b"\xff\xfe",
    ]  # fmt: skip


def mutate(rng: random.Random, data: bytes, names: list[bytes]) -> bytes:
    """Return an archive with one to four changes: of bytes, of blocks, or of header
    fields with the checksum corrected.
    """
    blocks = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        start = rng.randrange(max(1, len(blocks) // 512)) * 512
        match rng.randrange(8):
            case 0:
                blocks[rng.randrange(len(blocks))] = rng.randrange(256)
            case 1:
                del blocks[rng.randrange(1, len(blocks)) :]
            case 2:
                blocks[start:start] = blocks[start : start + 512 * rng.randint(1, 3)]
            case 3:
                del blocks[start : start + 512]
            case 4 | 5 | 6:
                offset, size = rng.choice([(0, 100), (157, 100), (156, 1), (124, 12), (100, 8), (108, 8), (345, 155)])
                value = (
                    rng.choice(names)
                    if size >= 100
                    else rng.choice([b"0", b"5", b"1", b"2", b"S", b"x", b"77777777777"])
                )
                header = bytearray(blocks[start : start + 512].ljust(512, b"\0"))
                header[offset : offset + size] = value[:size].ljust(size, b"\0")
                blocks[start : start + 512] = a.checked(bytes(header))
            case 7:
                other = rng.randrange(max(1, len(blocks) // 512)) * 512
                blocks[start : start + 512], blocks[other : other + 512] = (
                    blocks[other : other + 512], blocks[start : start + 512],
                )  # fmt: skip
        if len(blocks) < 2:
            break
    return bytes(blocks)


@pytest.mark.parametrize("number", range(ROUNDS))
def test_mutated_archives_do_no_harm(number: int, tmp_path: Path) -> None:
    outside, work = tmp_path / "outside", tmp_path / "work"
    (outside / "sub").mkdir(parents=True)
    work.mkdir()
    (outside / "secret").write_text("secret")
    before = a.snapshot(outside)
    archive, bundle = tmp_path / "archive", work / "b"
    originals, names = seeds(outside), words(outside)
    descriptors = len(os.listdir("/proc/self/fd"))
    converted = 0
    for step in range(EACH):
        seed = number * 1_000_003 + step
        rng = random.Random(seed)
        data = mutate(rng, rng.choice(originals), names)
        archive.write_bytes(data)
        try:
            if rng.randrange(4):
                a.unpack(archive, bundle, max_size=1 << 24)
            else:
                a.unpack_rootfs(archive, bundle, max_size=1 << 24)
            converted += 1
        except OciError as error:
            assert "\n" not in error.message() and error.message().isprintable(), seed
            assert not bundle.exists(), seed
        except Exception as error:
            raise AssertionError(f"seed {seed}: {error!r}") from error
        assert a.snapshot(outside) == before, seed
        remove_tree(str(bundle))
        assert os.listdir(work) == [], seed
    assert converted, "no mutated archive converted: the mutations are too rough to test anything"
    assert len(os.listdir("/proc/self/fd")) <= descriptors + 1, "file descriptors are left open"
