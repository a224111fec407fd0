"""What type checkers know of `run`, `Popen` and the rest: mypy reads this file (make lint), and pytest runs it."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Iterator
from typing import IO, Any, assert_type

import rootless

PIPE = subprocess.PIPE


def test_text_decides_the_type_of_output() -> None:
    assert_type(rootless.run(["echo"]), rootless.CompletedProcess[bytes])
    assert_type(rootless.run(["echo"], stdout=PIPE, text=False).stdout, bytes)
    assert_type(rootless.run(["echo", "a"], capture_output=True, text=True).stdout, str)
    assert_type(rootless.run(["echo"], capture_output=True, encoding="utf-8").stderr, str)
    assert_type(rootless.run(["echo"], capture_output=True, errors="replace").stderr, str)
    assert_type(rootless.run("echo", shell=True, stdout=PIPE, universal_newlines=True).stdout, str)
    assert rootless.run(["cat"], input="é", text=True, stdout=PIPE).stdout.upper() == "É"
    assert rootless.run(["cat"], input=bytearray(b"x"), stdout=PIPE).stdout.hex() == "78"


def test_popen_is_of_str_or_bytes() -> None:
    with rootless.Popen(["echo", "a"], stdout=PIPE) as plain:
        assert_type(plain, rootless.Popen[bytes])
        assert_type(plain.stdout, IO[bytes] | None)
        assert_type(plain.communicate(), tuple[bytes, bytes])
    with rootless.Popen(["cat"], stdin=PIPE, stdout=PIPE, text=True, hostname="box") as box:
        assert_type(box, rootless.Popen[str])
        assert_type(box.exec(["hostname"], stdout=PIPE), rootless.CompletedProcess[bytes])
        assert box.exec(["hostname"], stdout=PIPE, text=True).stdout.strip() == "box"
        assert box.communicate("ä")[0].upper() == "Ä"


def test_the_asyncio_twins() -> None:
    async def main() -> None:
        assert_type(await rootless.async_run(["echo"]), rootless.CompletedProcess[bytes])
        assert_type((await rootless.async_run("echo", "a", stdout=PIPE, text=True)).stdout, str)
        process = await rootless.async_popen("echo", "a", stdout=PIPE)
        assert_type(process.stdout, asyncio.StreamReader | None)
        assert (await process.communicate())[0] == b"a\n"
        assert_type(process.oom_killed, bool)

    asyncio.run(main())


def test_a_sandbox_is_of_str_or_bytes() -> None:
    async def main(sandbox: rootless.Sandbox[str]) -> None:
        assert_type(await sandbox.async_run(["echo"]), rootless.SandboxResult[str])
        assert_type(await sandbox.async_run(["echo"], text=False), rootless.SandboxResult[bytes])
        assert_type(sandbox.async_map([["echo"]]), AsyncIterator[rootless.SandboxResult[str]])

    with rootless.Sandbox(text=True) as words, rootless.Sandbox() as plain:
        assert_type(words, rootless.Sandbox[str])
        assert_type(plain, rootless.Sandbox[bytes])
        assert words.run(["echo", "a"]).stdout.strip() == "a"
        assert plain.run(["echo", "a"]).stdout.hex() == "610a"
        assert_type(words.run(["echo", "a"], text=False).stdout, bytes)
        assert_type(words.map([["echo"]]), Iterator[rootless.SandboxResult[str]])
        asyncio.run(main(words))


def test_the_classes_take_a_parameter() -> None:
    classes: list[Any] = [rootless.Popen, rootless.CompletedProcess, rootless.Sandbox, rootless.SandboxResult]
    assert [each[str].__origin__ for each in classes] == classes


def mistakes() -> None:
    """Hold lines of which each is an error for the type checker, which reports a line that is not.

    Nothing calls this.
    """
    rootless.run(["true"], nosuch=1)  # type: ignore[call-overload]
    rootless.run(["true"], close_fds=False)  # type: ignore[call-overload]
    rootless.run(["true"], limits="none")  # type: ignore[call-overload]
    rootless.Popen(["true"], memory=1.5)  # type: ignore[call-overload]
    rootless.Popen(["true"]).exec(["true"], memory="1m")  # type: ignore[call-overload]
    rootless.Sandbox().run(["true"], nosuch=1)  # type: ignore[call-overload]
    rootless.Sandbox(name="box")  # type: ignore[call-overload]
    rootless.rnu(["true"])  # type: ignore[attr-defined]


def test_the_declared_keywords_are_those_that_are_taken() -> None:
    from rootless.api.keywords import ContainerKeywords
    from rootless.api.settings import NAMES

    assert set(ContainerKeywords.__annotations__) == set(NAMES)
