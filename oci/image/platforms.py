"""Translate names of platforms into the spelling of image configs, which is Go's (GOOS and GOARCH).

The synonyms are those of containerd and docker, of `uname -m`, and Debian's names of architectures.
"""

from __future__ import annotations

import os

from oci.errors import OciError, printable

Platform = tuple[str, str, str]  # (os, architecture, variant), "" for what is not named

_SYSTEMS = {"macos": "darwin", "gnu/linux": "linux"}
_ARCHITECTURES = {
    "x86_64": ("amd64", ""), "x86-64": ("amd64", ""), "x64": ("amd64", ""),
    "i386": ("386", ""), "i486": ("386", ""), "i586": ("386", ""), "i686": ("386", ""), "x86": ("386", ""),
    "aarch64": ("arm64", "v8"), "armv8": ("arm64", "v8"), "arm64v8": ("arm64", "v8"), "armv8l": ("arm", "v8"),
    "armv7": ("arm", "v7"), "armv7l": ("arm", "v7"), "armhf": ("arm", "v7"), "armv6": ("arm", "v6"),
    "armv6l": ("arm", "v6"), "armel": ("arm", "v6"), "armv5": ("arm", "v5"), "armv5tel": ("arm", "v5"),
    "ppc64el": ("ppc64le", ""), "powerpc64le": ("ppc64le", ""), "loongarch64": ("loong64", ""),
    "mips64el": ("mips64le", ""), "mipsel": ("mipsle", ""),
}  # fmt: skip


def normal(system: str, architecture: str, variant: str) -> Platform:
    """Return a platform in Go's spelling: `Linux` becomes linux, `x86_64` and `AMD64` become amd64."""
    system, architecture, variant = system.lower(), architecture.lower(), variant.lower()
    architecture, implied = _ARCHITECTURES.get(architecture, (architecture, ""))
    if architecture in ("arm", "arm64") and variant.isdigit():
        variant = f"v{variant}"
    return _SYSTEMS.get(system, system), architecture, variant or implied


def host_platform() -> Platform:
    """Return the platform of this machine."""
    return normal("linux", os.uname().machine, "")


def parse(text: str) -> Platform:
    """Return the platform that `os/arch[/variant]` names. Raises OciError for another form."""
    parts = text.split("/")
    if len(parts) not in (2, 3) or not all(parts):
        raise OciError(f"not a platform: {printable(text)!r}", hint="linux/amd64 or linux/arm/v7, for example")
    return normal(parts[0], parts[1], parts[2] if len(parts) == 3 else "")
