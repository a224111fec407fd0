"""The plans of configs that real clients write are as they were reviewed.

tests/plans/HOST/NAME.json is a config, NAME.txt its plan on a host of that kind; `ROOTLESS_WRITE_PLANS=1` writes the
plans anew, for review by diff. The configs are those that runc, crun, podman, buildah, docker, containerd and its CRI
gave to their runtime, without what belongs to the machine; those of CRI-O are written like its own.
"""

import json
import os
from pathlib import Path

import pytest

from rootless.plan.describe import Numbering, describe
from tests.support.golden import CONFIGS, compiled
from tests.support.snapshots import snapshot


@pytest.mark.parametrize("path", CONFIGS, ids=[f"{path.parent.name}-{path.stem}" for path in CONFIGS])
def test_the_plan_is_the_reviewed_one(path: Path) -> None:
    made = compiled(json.loads(path.read_text()), path.parent.name)
    text = "".join(f"{line}\n" for line in [*describe(made), *(f"warning: {w}" for w in made.warnings)])
    reviewed = path.with_suffix(".txt")
    if os.environ.get("ROOTLESS_WRITE_PLANS"):
        reviewed.write_text(text)
    assert text == reviewed.read_text()


@pytest.mark.parametrize("path", CONFIGS, ids=[f"{path.parent.name}-{path.stem}" for path in CONFIGS])
def test_looking_at_the_plan_does_not_write_to_it(path: Path) -> None:
    """Neither --dry-run nor --debug changes the plan. tests/containers/test_plan_kept.py executes it."""
    made = compiled(json.loads(path.read_text()), path.parent.name)
    before = snapshot(made)
    lines = describe(made)
    numbering = Numbering(made)
    assert [line for step in made.steps() for line in numbering.lines(step)] == lines
    made.hands_over_cgroup()
    assert snapshot(made) == before and describe(made) == lines


def test_there_are_thirty_of_every_client() -> None:
    assert len(CONFIGS) >= 30
    clients = {path.stem.partition("-")[0] for path in CONFIGS}
    assert clients >= {"runc", "crun", "podman", "docker", "containerd", "cri", "buildah", "crio", "rootless"}
