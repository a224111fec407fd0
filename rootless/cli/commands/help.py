"""`help`: print what a command does, and its flags."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rootless.cli.help import show_help

if TYPE_CHECKING:
    from rootless.cli.options import Options


def main(options: Options) -> int:
    """Run `rootless help [COMMAND]`."""
    show_help(options.topic)
    return 0
