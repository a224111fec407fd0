"""Drive the MCP server by the official package's own client over stdio."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]


def test_a_client_lists_and_calls_the_tools(tmp_path: Path) -> None:
    mcp = pytest.importorskip("mcp", reason="the extra `mcp` is not installed")
    from mcp.client.stdio import stdio_client

    async def main() -> tuple[list[str], list[str]]:
        words = ["-m", "rootless.mcp", "--workspace", str(tmp_path), "--timeout", "30", "--warm", "1"]
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(CHECKOUT)}
        parameters = mcp.StdioServerParameters(command=sys.executable, args=words, env=environment)
        async with stdio_client(parameters) as (read, write), mcp.ClientSession(read, write) as session:
            await session.initialize()
            tools = sorted(tool.name for tool in (await session.list_tools()).tools)
            answers = []
            for tool, arguments in (
                ("run_command", {"command": "pwd; cat >file; exit 3", "stdin": "made\n"}),
                ("run_python", {"code": "print(open('file').read().strip() + str(6 * 7))"}),
                ("run_python", {"code": "import os; os.abort()"}),
                ("run_command", {"command": "a\0b"}),
            ):
                result = await session.call_tool(tool, arguments)
                answers.append(result.content[0].text)
            return tools, answers

    tools, answers = asyncio.run(main())
    assert tools == ["run_command", "run_python"]
    assert answers == [
        "/workspace\n\n[exit code: 3]",
        "made42\n\n[exit code: 0]",
        "[stopped by: signal]\n[exit code: -6]",
        "[not run: embedded null byte]",
    ]
    assert (tmp_path / "file").read_text() == "made\n"


def test_a_wrong_setting_is_one_line() -> None:
    pytest.importorskip("mcp", reason="the extra `mcp` is not installed")
    words = [sys.executable, "-m", "rootless.mcp", "--warm", "-1"]
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    done = subprocess.run(words, capture_output=True, text=True, env=environment, stdin=subprocess.DEVNULL, check=False)
    assert (done.returncode, done.stderr) == (1, "rootless.mcp: warm and output_limit are not negative\n")


def test_without_the_package_it_says_what_to_install() -> None:
    program = "import sys; sys.modules['mcp'] = None; import rootless.mcp; sys.exit(rootless.mcp.main([]))"
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, "rootless[mcp]" in done.stderr) == (1, True)
