"""Write the bill of materials of a wheel as JSON in the form of CycloneDX 1.6 (https://cyclonedx.org/docs/1.6/json/).

python scripts/sbom.py WHEEL [FILE]     # default: dist/rootless-VERSION.cdx.json

It names the wheel with its digest, and what pip installs with it, in the versions of requirements-dev.lock with the
digests of their files. Extras are optional components. The same wheel and lock give the same bytes: no time is in it.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import uuid
import zipfile
from email.parser import HeaderParser
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[1]
LOCK = CHECKOUT / "requirements-dev.lock"


def locked(text: str) -> dict[str, tuple[str, list[str]]]:
    """Return the version and the SHA-256 digests of each package of a lock file."""
    packages: dict[str, tuple[str, list[str]]] = {}
    for block in re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE):
        if match := re.match(r"([a-z0-9._-]+)==([^\s;]+)", block):
            packages[match[1]] = match[2], re.findall(r"--hash=sha256:([0-9a-f]{64})", block)
    return packages


def requirements(metadata: Any) -> dict[str, str]:
    """Return "required" or "optional" for each package that the metadata names, without those of development."""
    components: dict[str, str] = {}
    for line in metadata.get_all("Requires-Dist") or []:
        name = re.sub(r"[-_.]+", "-", re.match(r"[A-Za-z0-9._-]+", line)[0].lower())  # type: ignore[index]
        extra = re.search(r"""extra == ['"]([a-z0-9]+)['"]""", line)
        if not extra:
            components[name] = "required"
        elif extra[1] not in ("dev", "docs"):
            components.setdefault(name, "optional")
    return components


def component(name: str, version: str, digests: list[str], scope: str) -> dict[str, Any]:
    """Return one package of PyPI. Several digests are those of its files for several machines."""
    address = f"pkg:pypi/{name}@{version}"
    files = f"https://pypi.org/project/{name}/{version}/#files"
    hashes = [{"alg": "SHA-256", "content": digest} for digest in sorted(digests)]
    return {
        "type": "library", "bom-ref": address, "name": name, "version": version, "purl": address, "scope": scope,
        "externalReferences": [{"type": "distribution", "url": files, "hashes": hashes}],
    }  # fmt: skip


def bill(wheel: Path, lock: str) -> dict[str, Any]:
    """Return the document. Raises SystemExit if the lock lacks a package."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (each for each in archive.namelist() if each.endswith(".dist-info/METADATA"))
        metadata = HeaderParser().parsestr(archive.read(name).decode())
    digest, versions = hashlib.sha256(wheel.read_bytes()).hexdigest(), locked(lock)
    needed = requirements(metadata)
    if missing := sorted(needed.keys() - versions.keys()):
        raise SystemExit(f"sbom: requirements-dev.lock lacks {' '.join(missing)}: make lock")
    components = [component(each, *versions[each], needed[each]) for each in sorted(needed)]
    own = f"pkg:pypi/{metadata['Name']}@{metadata['Version']}"
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, own + digest + lock)}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application", "bom-ref": own, "name": metadata["Name"], "version": metadata["Version"],
                "description": metadata["Summary"], "purl": own,
                "licenses": [{"license": {"id": metadata["License-Expression"] or metadata["License"]}}],
                "hashes": [{"alg": "SHA-256", "content": digest}],
            },
        },
        "components": components,
        "dependencies": [{"ref": own, "dependsOn": [each["bom-ref"] for each in components]}],
    }  # fmt: skip


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    source = Path(sys.argv[1])
    target = (
        Path(sys.argv[2]) if len(sys.argv) > 2 else CHECKOUT / f"dist/{'-'.join(source.name.split('-')[:2])}.cdx.json"
    )
    target.write_text(json.dumps(bill(source, LOCK.read_text()), indent=2) + "\n")
    print(target)
