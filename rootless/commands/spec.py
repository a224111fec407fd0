"""`spec`: a config.json to start from, or a check of one that is there."""

from __future__ import annotations

import os

from rootless.errors import RootlessError
from rootless.host import Host
from rootless.jsonlite import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.options import Options


def main(options: Options) -> int:
    """`rootless spec [--rootless] [--bundle DIR]`; refuses to overwrite."""
    bundle = options.bundle or options.bundle_dir or "."
    path = f"{bundle}/config.json"
    if options.validate:
        return _validate(bundle, path)
    from oci.config import default_config

    host = Host()
    config = default_config(options.rootless or not host.real_root, host.uid, host.gid)
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except FileExistsError:
        raise RootlessError("config.json exists", path, hint="remove it first") from None
    except OSError as error:
        raise RootlessError.from_os(error, "cannot write config.json", path) from None
    with open(fd, "w") as file:
        file.write(dumps(config, 4) + "\n")
    return 0


def _validate(bundle: str, path: str) -> int:
    from rootless import plan
    from rootless.commands.create import parse_config, read_config
    from rootless.node import Node

    spec = parse_config(read_config(path), path)
    plan.compile(Node(spec), Host(), bundle=os.path.abspath(bundle))
    return 0
