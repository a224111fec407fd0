"""Check the manifests in contrib/kubernetes against the published schemas, and parse the configurations as TOML.

The page about clusters shows these files, and Nomad's job, unchanged.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.support.checkout import CHECKOUT

PLACE = CHECKOUT / "contrib/kubernetes"
PROGRAM = "/usr/local/bin/rootless"


@pytest.mark.parametrize("manifest", sorted(PLACE.glob("*.yaml")), ids=lambda path: path.name)
@pytest.mark.parametrize("version", ["1.27", "1.33"])
def test_a_manifest_is_as_kubernetes_publishes_it(manifest: Path, version: str) -> None:
    """kubernetes-validate has the JSON schemas made from Kubernetes' OpenAPI description."""
    validate = pytest.importorskip("kubernetes_validate", reason="the package kubernetes-validate is missing")
    import yaml

    documents = list(yaml.safe_load_all(manifest.read_text()))
    assert documents
    for document in documents:
        validate.validate(document, version, strict=True)


def test_the_schemas_refuse_what_is_wrong() -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="the package kubernetes-validate is missing")
    import yaml

    document = yaml.safe_load((PLACE / "runtimeclass.yaml").read_text())
    with pytest.raises(validate.ValidationError):
        validate.validate({**document, "handler": 1}, "1.33", strict=True)
    with pytest.raises(validate.ValidationError):
        validate.validate({**document, "handlers": "rootless"}, "1.33", strict=True)


@pytest.mark.parametrize(
    ("file", "version", "plugin"),
    [("containerd.toml", 2, "io.containerd.grpc.v1.cri"), ("containerd-2.toml", 3, "io.containerd.cri.v1.runtime")],
)
def test_containerds_handler_is_the_one_of_the_runtime_class(file: str, version: int, plugin: str) -> None:
    config: dict[str, Any] = tomllib.loads((PLACE / file).read_text())
    runtimes = config["plugins"][plugin]["containerd"]["runtimes"]
    assert config["version"] == version and set(runtimes) == {"runc", "rootless"}
    assert runtimes["rootless"] == {"runtime_type": "io.containerd.runc.v2", "options": {"BinaryName": PROGRAM}}
    assert "\nhandler: rootless\n" in (PLACE / "runtimeclass.yaml").read_text()


def test_crios_handler_is_the_one_of_the_runtime_class() -> None:
    config = tomllib.loads((PLACE / "crio.conf").read_text())
    (name, handler), *more = config["crio"]["runtime"]["runtimes"].items()
    assert (name, handler["runtime_path"], handler["runtime_type"], more) == ("rootless", PROGRAM, "oci", [])


@pytest.mark.parametrize(
    ("file", "language"),
    [
        ("kubernetes/containerd.toml", "toml"),
        ("kubernetes/runtimeclass.yaml", "yaml"),
        ("kubernetes/pod.yaml", "yaml"),
        ("nomad/hello.nomad.hcl", "hcl"),
    ],
)
def test_the_page_shows_the_file_that_the_check_takes(file: str, language: str) -> None:
    page = (CHECKOUT / "docs/guide/clusters.md").read_text()
    assert f"```{language}\n{(CHECKOUT / 'contrib' / file).read_text()}```\n" in page
