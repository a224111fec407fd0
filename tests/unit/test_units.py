"""Sizes, durations and lists of numbers have one right answer, wherever they are read."""

from __future__ import annotations

import pytest

from rootless.cgroup import files, stats, systemd
from rootless.cli import requests
from rootless.cli.commands import events, update
from rootless.cli.images import read_size
from rootless.config_node import Node
from rootless.errors import RootlessError, SpecError
from rootless.kernel.units import parse_duration, parse_numbers, parse_size
from rootless.plan import settings
from rootless.process import scheduler

SIZES = [
    ("0", 0), ("4096", 4096), ("1b", 1), ("512m", 512 << 20), ("512MB", 512 << 20), ("1GiB", 1 << 30), ("1k", 1024),
    ("1.5g", 3 << 29), ("1p", 1 << 50), ("2T", 2 << 40), (" 1m ", 1 << 20), (".5k", 512), ("1.k", 1024),
]  # fmt: skip
BAD_SIZES = ["", "m", "-1m", "1x", "1mm", "1i", "1ib", "1e3", "1_000", "²", "1.2.3g", "9e", "16384p", "1" * 5000, "."]
BAD_LISTS = ["3-1", "0-3,,7", ",", "1,", "1-", "-1", "a", "1-2-3", "0x1", "²", "9" * 5000]


@pytest.mark.parametrize(("text", "size"), SIZES)
def test_a_size_is_read_alike_everywhere(text: str, size: int) -> None:
    assert parse_size(text) == size
    assert read_size(text) == size  # convert, cache
    assert update._value("memory", text, "size") == size
    if size:
        assert settings.read_size("memory", text) == size


@pytest.mark.parametrize("text", BAD_SIZES)
def test_what_is_not_a_size_is_refused_everywhere(text: str) -> None:
    with pytest.raises(ValueError):
        parse_size(text)
    with pytest.raises(RootlessError):
        update._value("memory", text, "size")
    with pytest.raises(RootlessError):
        settings.read_size("memory", text)
    if text:  # none given is the default there
        with pytest.raises(RootlessError):
            read_size(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5s", 5), ("500ms", 0.5), ("1m30s", 90), ("1.5h", 5400), ("90", 90), ("2us", 2e-6), ("2µs", 2e-6), ("7ns", 7e-9)],
)
def test_a_duration_is_read_alike_everywhere(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)
    assert events.read_interval(text) == requests.read_timeout(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "0", "0s", "s", "-1s", "1x", "1m30", "5 s", "1..5s", ".", "1e3s", "1sm"])
def test_what_is_not_a_duration_is_refused_everywhere(text: str) -> None:
    for read in (parse_duration, events.read_interval, requests.read_timeout):
        with pytest.raises((ValueError, RootlessError)):
            read(text)


@pytest.mark.parametrize(("text", "numbers"), [("", []), ("0", [0]), ("0-3,7", [0, 1, 2, 3, 7]), ("3,1-2", [1, 2, 3])])
def test_a_list_is_read_alike_everywhere(text: str, numbers: list[int]) -> None:
    assert parse_numbers(text, 8) == numbers
    assert scheduler.read_numbers(Node(text), 8) == numbers
    assert stats.parse_cpuset(text + "\n") == numbers
    assert systemd.bit_mask(text) == bytes([sum(1 << number for number in numbers)] if numbers else [])
    compiled = files.compile_files(Node({"cpu": {"cpus": text, "mems": text}}))
    assert compiled == ([[f"cpuset.{key}", text, f"/cpu/{key}"] for key in ("cpus", "mems")] if text else [])


@pytest.mark.parametrize("text", BAD_LISTS)
def test_what_is_not_a_list_is_refused_everywhere(text: str) -> None:
    with pytest.raises(ValueError):
        parse_numbers(text, 8)
    with pytest.raises(SpecError):
        scheduler.read_numbers(Node(text), 8)
    with pytest.raises(RootlessError):
        systemd.bit_mask(text)
    with pytest.raises(ValueError):
        stats.parse_cpuset(text)
    for key in ("cpus", "mems"):
        with pytest.raises(SpecError) as error:
            files.compile_files(Node({"cpu": {key: text}}))
        assert error.value.where == f"/cpu/{key}"
