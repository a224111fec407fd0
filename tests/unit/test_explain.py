"""Every kind of step has a story, and the stories of some configs are the reviewed ones.

`ROOTLESS_WRITE_PLANS=1` writes tests/plans/HOST/NAME.story anew, for review by diff.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import re
from pathlib import Path

import pytest

from rootless import steps
from rootless.cli.commands.explain import wants_colour
from rootless.cli.kernel_answers import Kernel
from rootless.cli.trace import begun_steps, durations
from rootless.errors import RootlessError
from rootless.plan.describe import describe
from rootless.plan.explain import WIDTH, introduction, layout, painted, tell, wrapped
from rootless.plan.stories import STORIES, manual
from rootless.steps import Step
from tests.support.golden import CONFIGS, PLANS, compiled

REVIEWED = [PLANS / "user/rootless-spec.json", PLANS / "root/podman-limits.json", PLANS / "userns/podman-systemd.json"]


def kinds() -> set[type[Step]]:
    """Return the classes of steps that a plan can have: those of rootless.steps that have no subclass."""
    for module in pkgutil.iter_modules(steps.__path__, "rootless.steps."):
        importlib.import_module(module.name)

    def leaves(cls: type[Step]) -> set[type[Step]]:
        below = [cls for cls in cls.__subclasses__() if cls.__module__.startswith("rootless.steps.")]
        return set().union(*map(leaves, below)) if below else {cls}

    return leaves(Step)


def story(path: Path, width: int = WIDTH) -> str:
    plan = compiled(json.loads(path.read_text()), path.parent.name)
    return painted(
        [*wrapped("title", introduction("id", "/bundle", plan), "", width), *layout(tell(plan), width=width)],
        colour=False,
    )


def test_every_kind_of_step_has_a_story() -> None:
    assert kinds() == set(STORIES)
    assert len(STORIES) > 40


def test_a_story_names_pages_of_the_manual() -> None:
    pages = [page for each in STORIES.values() for page in each.manual.split(", ")]
    assert all(re.fullmatch(r"[a-z0-9_]+\([1-8]\)", page) for page in pages), pages


@pytest.mark.parametrize("path", REVIEWED, ids=[f"{path.parent.name}-{path.stem}" for path in REVIEWED])
def test_the_story_is_the_reviewed_one(path: Path) -> None:
    reviewed = path.with_suffix(".story")
    if os.environ.get("ROOTLESS_WRITE_PLANS"):
        reviewed.write_text(story(path))
    assert story(path) == reviewed.read_text()


@pytest.mark.parametrize("path", CONFIGS, ids=[f"{path.parent.name}-{path.stem}" for path in CONFIGS])
def test_it_has_the_lines_and_places_of_the_dry_run_and_fits(path: Path) -> None:
    plan = compiled(json.loads(path.read_text()), path.parent.name)
    told = tell(plan)
    assert [(f"{each.number:3}", f"[{each.pointer}]") for each in told] == [
        (line[:3], line[line.rindex(" [") + 1 :]) for line in describe(plan)
    ]
    assert all(each.sentence.endswith(".") and each.why.endswith(".") and each.manual for each in told)
    for width in (WIDTH, 60):
        assert max(len(line) for line in story(path, width).splitlines()) <= width


def test_a_mount_has_the_page_of_its_file_system() -> None:
    plan = compiled(json.loads(REVIEWED[0].read_text()), "user")
    pages = {step.words()[1]: manual(step) for step in plan.mounts()}
    assert pages["proc"].startswith("proc(5)") and pages["mqueue"].startswith("mq_overview(7)")


def test_what_config_json_says_cannot_reach_the_terminal() -> None:
    config = json.loads(REVIEWED[0].read_text())
    config["hostname"] = "a\x1b]0;title\x07b"
    config["process"]["args"] = ["sh", "-c", "\x1b[2J\n"]
    config["process"]["env"] = ["\x1b[31mX=1"]
    plan = compiled(config, "user")
    text = painted(layout(tell(plan)), colour=False)
    assert "\x1b" not in text and "\x07" not in text and "\\x1b[2J\\n" in text


def test_colours_are_all_that_painting_adds() -> None:
    lines = layout(tell(compiled(json.loads(REVIEWED[0].read_text()), "user")), {1: ["an answer"]})
    coloured, plain = painted(lines, colour=True), painted(lines, colour=False)
    assert "\x1b[" in coloured and "\x1b" not in plain
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == plain
    assert "      => an answer\n" in plain


@pytest.mark.parametrize(
    ("choice", "terminal", "environment", "wanted"),
    [
        ("", True, {}, True),
        ("auto", True, {"NO_COLOR": ""}, True),  # no-color.org: "when present and not an empty string"
        ("", True, {"NO_COLOR": "1"}, False),
        ("", True, {"TERM": "dumb"}, False),
        ("", False, {}, False),
        ("always", False, {"NO_COLOR": "1"}, True),
        ("never", True, {}, False),
    ],
)
def test_who_gets_colours(
    choice: str, terminal: bool, environment: dict[str, str], wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in {"TERM": "xterm", **environment}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(os, "isatty", lambda _fd: terminal)
    assert wants_colour(choice) is wanted


def test_another_choice_of_colours_is_refused() -> None:
    with pytest.raises(RootlessError, match="unknown choice"):
        wants_colour("sometimes")


def test_a_step_lasts_until_the_next_begins() -> None:
    """All lines of a step are logged before it is executed, so the time stands at its last line."""
    texts = ["+1.000 ms   1 cgroup", "words", "+3.500 ms   2 uid_map", "+3.510 ms   3 gid_map", "+10.000 ms  4 execve"]
    begun = begun_steps([{"level": "debug", "msg": text, "time": ""} for text in texts])
    assert begun == {1: 1.0, 2: 3.5, 3: 3.51, 4: 10.0}
    assert durations(begun, {1, 3, 4}) == {
        1: ["2.50 ms until the next step"],
        3: ["6.49 ms until the next step"],
    }


def test_what_cannot_be_read_is_no_answer() -> None:
    """For a process that has ended or belongs to another user nothing is said, because it could be wrong."""
    pid = 2**22 + 1  # beyond PID_MAX_LIMIT
    plan = compiled(json.loads(REVIEWED[0].read_text()), "user")
    answers = [answer for step in plan.steps() for answer in Kernel(pid).answers(step)]
    assert answers == [f"init is process {pid} outside"]


def test_the_answers_are_those_of_proc() -> None:
    """The test asks about its own process, which has executed none of the steps."""
    kernel = Kernel(os.getpid())
    plan = compiled(json.loads(REVIEWED[0].read_text()), "user")
    answers = {step.words()[0]: kernel.answers(step) for step in plan.steps()}
    inode = os.readlink("/proc/self/ns/uts")
    assert f"{inode}; outside {inode}" in answers["clone3"]
    status = Path("/proc/self/status").read_text()
    assert answers["umask"] and answers["umask"][0].replace(": ", ":\t") in status
    masked = {step.words()[1]: kernel.answers(step) for step in plan.steps() if step.words()[0] == "mask"}
    assert masked["/proc/timer_stats"] == ["no mount is at this path, because nothing is there"]
    (root,) = answers["rootfs"]
    mounts = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    line = [mount for mount in mounts if mount[4] == "/"][-1]
    assert root.startswith(f"mount {line[0]}, on mount {line[1]}: ") and line[2] in root
