"""Package managers work in containers whose user has one id: apk with a package made here, and apt in a Debian tree.

ROOTLESS_DEBIAN names a tar of a Debian root, such as `mmdebstrap --variant=apt --include=adduser bookworm debian.tar`
makes. The test of apt takes a minute and needs Debian's mirror, so it runs only if that is set.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import tarfile
from pathlib import Path

import pytest

from rootless.kernel.host import Host
from tests.support.checkout import SHARED
from tests.support.containers import USER, Rootless, needs_libseccomp

pytestmark = [
    needs_libseccomp,
    pytest.mark.skipif(not USER, reason="root may change owners"),
    pytest.mark.skipif(Host().kernel < (6, 6), reason="tmpfs has no user attributes before Linux 6.6"),
]
ALPINE = SHARED / "fixtures/images/manifest-alpine-3.10.tar.gz"
DEBIAN = os.environ.get("ROOTLESS_DEBIAN", "")
ROOT = (0, 0, "root", "root")
MAIL = (8, 12, "mail", "mail")


def members(files: list[tuple[str, int, tuple[int, int, str, str], bytes | None]], *, whole: bool) -> bytes:
    """Return a gzipped tar; with `whole` unset without its end, because an .apk is several of them in a row."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, mode, owner, data in files:
            info = tarfile.TarInfo(name)
            info.mode = mode
            info.uid, info.gid, info.uname, info.gname = owner
            if data is None:
                info.type = tarfile.DIRTYPE
            elif not name.startswith("."):
                info.pax_headers["APK-TOOLS.checksum.SHA1"] = hashlib.sha1(data).hexdigest()
            info.size = len(data or b"")
            archive.addfile(info, io.BytesIO(data or b""))
        end = archive.offset
    return gzip.compress(out.getvalue() if whole else out.getvalue()[:end], mtime=0)


def make_apk(path: Path) -> None:
    """Make a package with a file of another user, and with a script that adds a user and gives it a file."""
    directories: list[tuple[str, int, tuple[int, int, str, str], bytes | None]] = [("var", 0o755, ROOT, None)]
    data = members([*directories, ("var/letter", 0o640, MAIL, b"dear\n")], whole=True)
    info = "pkgname = letter\npkgver = 1.0-r0\npkgdesc = a letter\nurl = https://example.org\nsize = 5\narch = x86_64\n"
    info += f"license = MIT\ndatahash = {hashlib.sha256(data).hexdigest()}\n"
    script = b"#!/bin/sh\nadduser -S -D -H writer && touch /var/made && chown writer:mail /var/made\n"
    control = members([(".PKGINFO", 0o644, ROOT, info.encode()), (".post-install", 0o755, ROOT, script)], whole=False)
    path.write_bytes(control + data)


@pytest.mark.skipif(not ALPINE.exists(), reason="../shared/fixtures is not here")
@pytest.mark.parametrize("mode", ["notify", "errno"])
def test_apk_adds_a_package(rootless: Rootless, tmp_path: Path, mode: str) -> None:
    result = rootless("convert", "-q", "--owners", "xattr", ALPINE, "-o", tmp_path / "alpine")
    assert result.returncode == 0, result.stderr
    make_apk(tmp_path / "letter.apk")
    script = (
        "apk add --quiet --allow-untrusted --no-network --repositories-file /dev/null /letter.apk && "
        "stat -c %U:%G:%a /var/letter /var/made"
    )
    flags = (f"--root-emulation={mode}", "-v", f"{tmp_path}/letter.apk:/letter.apk:ro", "--name", f"apk-{os.getpid()}")
    result = rootless("run", *flags, tmp_path / "alpine", "--", "sh", "-c", script)
    assert result.returncode == 0, result.stderr
    if mode == "notify":
        assert result.stdout.split() == ["mail:mail:640", "writer:mail:644"]


def test_pack_writes_the_owners_and_devices(rootless: Rootless, tmp_path: Path, busybox: Path) -> None:
    with tarfile.open(tmp_path / "root.tar", "w") as archive:
        archive.add(busybox, "bin/busybox")
        for name in ("sh", "touch", "chown", "mknod", "mkdir"):
            info = tarfile.TarInfo(f"bin/{name}")
            info.type, info.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(info)
    result = rootless("import", "-q", "--owners", "xattr", tmp_path / "root.tar", "-o", tmp_path / "bundle")
    assert result.returncode == 0, result.stderr
    script = "touch /f; chown 33:44 /f; mkdir /d; chown 1 /d; mknod /disk b 8 300; chown 5 /disk"
    name = f"pack-{os.getpid()}"
    result = rootless(
        "run", "--root-emulation=notify", "--name", name, tmp_path / "bundle", "--", "/bin/sh", "-c", script
    )
    assert result.returncode == 0, result.stderr
    result = rootless("pack", tmp_path / "bundle", "-o", tmp_path / "new.tar", "--format", "docker")
    assert result.returncode == 0, result.stderr
    owners: dict[str, tuple[int, int, bytes]] = {}
    devices: dict[str, tuple[int, int]] = {}
    with tarfile.open(tmp_path / "new.tar") as archive:
        for layer in [each for each in archive if each.name.endswith(".tar")]:
            with tarfile.open(fileobj=archive.extractfile(layer)) as inner:
                for member in inner:
                    owners[member.name] = member.uid, member.gid, member.type
                    devices[member.name] = member.devmajor, member.devminor
    assert owners["f"] == (33, 44, tarfile.REGTYPE)
    assert owners["d"] == (1, 0, tarfile.DIRTYPE)
    assert owners["disk"] == (5, 0, tarfile.BLKTYPE) and devices["disk"] == (8, 300)


@pytest.mark.skipif(not Path(DEBIAN).is_file(), reason="ROOTLESS_DEBIAN does not name a tar of a Debian root")
@pytest.mark.parametrize("mode", ["notify", "errno"])
def test_apt_installs_servers(rootless: Rootless, tmp_path: Path, mode: str) -> None:
    result = rootless("import", "-q", "--owners", "xattr", DEBIAN, "-o", tmp_path / "debian")
    assert result.returncode == 0, result.stderr
    script = """set -e
    export DEBIAN_FRONTEND=noninteractive
    apt-get update
    apt-get install -y --no-install-recommends nginx-light openssh-server postfix
    dpkg --purge nginx-light
    adduser --disabled-password --gecos '' ann
    su ann -c 'id -u' >/who
    mkdir -p /tree/a; touch /tree/f; chown 33:44 /tree/f; tar -cf /tree.tar /tree; rm -r /tree; tar -C / -xf /tree.tar
    stat -c %u:%g /tree/f >>/who; stat -c %U:%G /var/spool/postfix/public /home/ann >>/who
    """
    flags = (f"--root-emulation={mode}", "--network", "host", "--name", f"apt-{os.getpid()}")
    result = rootless("run", *flags, tmp_path / "debian", "--", "bash", "-c", script, timeout=600)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    if mode == "notify":
        who = (tmp_path / "debian/rootfs/who").read_text().split()
        assert who == ["1000", "33:44", "postfix:postdrop", "ann:ann"]
