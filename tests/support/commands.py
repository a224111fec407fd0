"""Run the commands of a checkout as processes: by its launcher, or by the function of a command's module."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.checkout import CHECKOUT, LAUNCHER, SHARED, TIMEOUT

IMAGES, EXPECTED = SHARED / "fixtures/images", SHARED / "fixtures/expected"
Result = subprocess.CompletedProcess[str]


def readable(directory: Path) -> bool:
    """Return whether a directory exists and can be listed. Path.is_dir raises EACCES below another user's home."""
    return os.access(directory, os.R_OK | os.X_OK)


def rootless(*args: object, cwd: Path, **more: Any) -> Result:
    """Run `bin/rootless ARGS`."""
    return subprocess.run(
        [str(LAUNCHER), *map(str, args)],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        errors="surrogateescape",
        **more,
    )


def launch(*args: object, **options: Any) -> Result:
    """Run the launcher's file by this interpreter, with -I and -S, as bin/rootless does."""
    command = [sys.executable, "-IS", str(LAUNCHER), *map(str, args)]
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=TIMEOUT, **options
    )


def call(module: str, cwd: Path, **options: Any) -> Result:
    """Call `rootless.cli.commands.MODULE.main` with these options, in a process of its own."""
    script = (
        "import json, sys, types, importlib\n"
        f"sys.path.insert(0, {str(CHECKOUT)!r})\n"
        "from rootless import log\n"
        "from rootless.errors import RootlessError\n"
        "module = importlib.import_module('rootless.cli.commands.' + sys.argv[1])\n"
        "try:\n"
        "    sys.exit(module.main(types.SimpleNamespace(**json.loads(sys.argv[2]))))\n"
        "except RootlessError as error:\n"
        "    log.error(error.message())\n"
        "    sys.exit(1)\n"
    )
    if module == "convert":
        options = {"shared": False, **options}
    command = [sys.executable, "-c", script, module, json.dumps(options)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def pack(bundle: Path, output: Path, **more: Any) -> Result:
    """Run `pack` with its defaults."""
    options = {
        "bundle_dir": str(bundle), "output": str(output), "format": "oci", "tag": "", "base": "", "flatten": False,
        "force": False, "change": None, "message": "", "quiet": False,
    }  # fmt: skip
    return call("pack", bundle.parent, **{**options, **more})


def tree(bundle: Path) -> list[str]:
    """Return the listing of a bundle's rootfs, with the owners that the container sees."""
    listing = rootless(
        "unshare", sys.executable, CHECKOUT / "tests/support/listing.py", bundle / "rootfs", cwd=bundle.parent
    )
    assert listing.returncode == 0, listing.stderr
    return listing.stdout.splitlines()
