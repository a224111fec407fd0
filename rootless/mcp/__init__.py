"""`python -m rootless.mcp`: a Model Context Protocol server whose tools run commands and Python code in a Sandbox.

It speaks over standard input and output, and needs the extra `mcp` (pip install 'rootless[mcp]').
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from rootless import __version__
from rootless.api.sandbox import Sandbox, SandboxResult
from rootless.errors import RootlessError


def read_settings(argv: list[str] | None = None) -> dict[str, Any]:
    """Return the sandbox's settings from a command line."""
    parser = argparse.ArgumentParser(prog="python -m rootless.mcp", description="An MCP server with a sandbox.")
    parser.add_argument("--rootfs", help="a root file system (default: the host's own system, read-only)")
    parser.add_argument("--workspace", help="a directory that all calls share at /workspace")
    parser.add_argument("--volume", action="append", dest="volumes", metavar="SRC:DST[:ro]")
    parser.add_argument("--network", choices=("none", "host"), default="none")
    parser.add_argument("--memory", help="such as 256m; it takes a cgroup")
    parser.add_argument("--pids", type=int, help="the most processes at once; it takes a cgroup")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds a call may take (default: 60)")
    parser.add_argument("--output-limit", type=int, default=100_000, help="bytes of output (default: 100000)")
    parser.add_argument("--warm", type=int, default=2, help="containers that wait for a call (default: 2)")
    options = vars(parser.parse_args(argv))
    return {name: value for name, value in options.items() if value is not None}


def describe(result: SandboxResult[str]) -> str:
    """Return a result as text for a model."""
    parts = [result.stdout] if result.stdout else []
    if result.stderr:
        parts.append(f"[stderr]\n{result.stderr}")
    if result.stopped_by:
        parts.append(f"[stopped by: {result.stopped_by}]")
    parts.append(f"[exit code: {result.returncode}]")
    return "\n".join(parts)


def make_server(sandbox: Sandbox[str], cwd: str | None) -> Any:
    """Return the server with its two tools."""
    from mcp.server import MCPServer

    server = MCPServer("rootless", version=__version__)

    async def call(words: list[str], stdin: str) -> str:
        try:
            return describe(await sandbox.async_run(words, input=stdin, cwd=cwd))
        except (RootlessError, ValueError) as error:  # such as a NUL in the command
            return f"[not run: {error}]"

    @server.tool()
    async def run_command(command: str, stdin: str = "") -> str:
        """Run a shell command in a fresh, isolated container and return its output and exit code."""
        return await call(["/bin/sh", "-c", command], stdin)

    @server.tool()
    async def run_python(code: str, stdin: str = "") -> str:
        """Run Python code in a fresh, isolated container and return its output and exit code."""
        return await call(["python3", "-c", code], stdin)

    return server


def main(argv: list[str] | None = None) -> int:
    """Serve until standard input ends."""
    settings = read_settings(argv)
    try:
        import mcp.server as protocol

        if not hasattr(protocol, "MCPServer"):
            raise ImportError("mcp is older than 2.0")
    except ImportError as error:
        print(f"rootless.mcp: {error}; hint: pip install 'rootless[mcp]'", file=sys.stderr)
        return 1
    try:
        sandbox = Sandbox(text=True, **settings)
    except (RootlessError, ValueError) as error:
        print(f"rootless.mcp: {error}", file=sys.stderr)
        return 1
    with sandbox:
        make_server(sandbox, "/workspace" if settings.get("workspace") else None).run("stdio")
    return 0
