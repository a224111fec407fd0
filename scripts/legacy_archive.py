"""Make a legacy docker-save archive of one layer from a static busybox: BUSYBOX ARCHIVE."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import tarfile


def add(
    tar: tarfile.TarFile, name: str, data: bytes = b"", *, mode: int = 0o644, kind: bytes = tarfile.REGTYPE
) -> None:
    """Add a member that is dated 2015 and owned by root."""
    member = tarfile.TarInfo(name)
    member.type, member.mode, member.size, member.mtime = kind, mode, len(data), 1420070400
    tar.addfile(member, io.BytesIO(data))


def layer(busybox: str) -> bytes:
    """Return the tar of a root file system: busybox, a symbolic link for each of its applets, passwd and group."""
    buffer = io.BytesIO()
    with open(busybox, "rb") as file:
        program = file.read()
    applets = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for directory, mode in (("bin", 0o755), ("etc", 0o755), ("proc", 0o755), ("dev", 0o755), ("tmp", 0o1777)):
            add(tar, directory, mode=mode, kind=tarfile.DIRTYPE)
        add(tar, "bin/busybox", program, mode=0o755)
        for applet in applets:
            if applet != "busybox":
                link = tarfile.TarInfo(f"bin/{applet}")
                link.type, link.linkname, link.mtime = tarfile.SYMTYPE, "busybox", 1420070400
                tar.addfile(link)
        add(tar, "etc/passwd", b"root:x:0:0:root:/:/bin/sh\n")
        add(tar, "etc/group", b"root:x:0:\n")
    return buffer.getvalue()


def main(busybox: str, archive: str) -> None:
    """Write the archive."""
    data = layer(busybox)
    layer_id = hashlib.sha256(data).hexdigest()
    config = {"id": layer_id, "created": "2015-01-01T00:00:00Z", "os": "linux",
              "config": {"Cmd": ["/bin/sh"], "Hostname": "demo"}}  # fmt: skip
    with tarfile.open(archive, "w") as tar:
        add(tar, f"{layer_id}", mode=0o755, kind=tarfile.DIRTYPE)
        add(tar, f"{layer_id}/VERSION", b"1.0")
        add(tar, f"{layer_id}/json", json.dumps(config).encode())
        add(tar, f"{layer_id}/layer.tar", data)
        add(tar, "repositories", json.dumps({"busybox": {"latest": layer_id}}).encode())


if __name__ == "__main__":
    main(*sys.argv[1:3])
