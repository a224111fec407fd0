"""`spec`: write an example config.json, or check an existing one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from oci.config import default_config
from rootless import log
from rootless.cli.setting_flags import SETTING_KEYS
from rootless.errors import EXIT_ERROR, RootlessError, SpecError, printable
from rootless.kernel.host import Host
from rootless.plan.validate import validate
from rootless.runtime.bundle import Bundle, CreateRequest, load_bundle
from rootless.runtime.create import compile_plan
from rootless.runtime.nothing_there import no_such_bundle
from rootless.startup.jsonlite import dumps

if TYPE_CHECKING:
    from rootless.cli.options import Options


def main(options: Options) -> int:
    """Run `rootless spec [--rootless] [--bundle DIR]`, which overwrites nothing, or `spec --validate [BUNDLE]`.

    The flags of `run` that change config.json are written down. Raises RootlessError.
    """
    bundle = options.bundle or options.bundle_dir or "."
    path = f"{bundle}/config.json"
    if options.validate:
        return _validate(bundle, path)
    host = Host()
    config = default_config(options.rootless or not host.is_root_on_host, host.uid, host.gid)
    if not options.given.isdisjoint(SETTING_KEYS):
        from rootless.cli.settings import read_settings
        from rootless.plan.settings import apply_settings

        settings = read_settings(options, Bundle("", os.path.abspath(bundle), config))
        config = apply_settings(config, settings, host)
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except FileExistsError:
        raise RootlessError("config.json exists", path, hint="remove it first") from None
    except OSError as error:
        directory = os.path.dirname(path) or "."
        hint = "" if os.path.isdir(directory) else f"mkdir {printable(directory)} makes the bundle's directory"
        raise RootlessError.from_os(error, "cannot write config.json", path, hint) from None
    try:
        with open(fd, "w") as file:
            file.write(dumps(config, 4) + "\n")
    except OSError as error:
        os.unlink(path)  # half a config is of no use, and the next `spec` would refuse to replace it
        raise RootlessError.from_os(error, "cannot write config.json", path) from None
    return 0


def _validate(bundle: str, path: str) -> int:
    """Log every error of config.json in a line of its own; return 1 if there is one, else 0."""
    if not os.path.lexists(bundle):
        raise no_such_bundle(bundle, is_new=False)
    request = CreateRequest(load_bundle(os.path.abspath(bundle), "validated", path))
    host = Host()
    errors, warnings = validate(request.spec, lambda node: compile_plan(request, host, node).warnings)
    for line in warnings:
        log.warn(line)
    for error in errors:
        if isinstance(error, SpecError):
            error.file = "config.json"
        log.error(error.message())
    return EXIT_ERROR if errors else 0
