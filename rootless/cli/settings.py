"""Turn flags into the settings that change config.json (plan/settings.py). Imported only if such a flag is given."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from rootless.cli.streams import protect_stream
from rootless.errors import RootlessError, printable
from rootless.plan.settings import TABLE, Settings
from rootless.runtime.bundle import parse_config

if TYPE_CHECKING:
    from rootless.cli.options import Options
    from rootless.runtime.bundle import Bundle

_LIMIT = 4 << 20  # bytes of a file of variables or a seccomp profile
_SHOWN = 60  # characters of a wrong line in an error
# The empty value of other flags asks for the default, as docker's. Here it is a variable of a script that nobody has
# set, and the program would run without the limit.
_NEVER_EMPTY = ("cpus", "cpuset-cpus", "memory", "memory-swap", "pids-limit", "shm-size")


def read_settings(options: Options, bundle: Bundle, args: list[str] | None = None) -> Settings:
    """Return the settings that the flags ask for.

    bundle: names of users are looked up in its rootfs; args: the program's words. Raises RootlessError.
    """
    home = os.environ.get("HOME", "")
    settings = Settings(base=_working_directory(), bundle=bundle.directory, home=home, args=args or [])
    for keyword, flag, _ in TABLE:
        key = flag.replace("-", "_")
        if key in options.given and key not in ("env", "ephemeral"):
            value = getattr(options, key)
            if value == "" and flag in _NEVER_EMPTY:
                raise RootlessError("a value is missing", f"--{flag} ''", hint=f"leave --{flag} out for the default")
            setattr(settings, keyword, value)
    settings.env = read_env(options.env_file, options.env)
    if options.no_root_emulation:
        settings.root_emulation = "none"
    settings.seccomp = _seccomp(options.security_opt or [], bundle.spec)
    if settings.user:
        from rootless.runtime.names import look_up, rootfs_of

        rootfs = rootfs_of(bundle)
        if os.path.isdir(rootfs) or not settings.user.replace(":", "").isdigit():  # spec may write for a rootfs to come
            settings.user_ids = look_up(rootfs, settings.user)
    if any(not group.isdigit() for group in settings.group_add):
        from rootless.runtime.names import look_up_groups, rootfs_of

        settings.group_add = look_up_groups(rootfs_of(bundle), settings.group_add)
    return settings


def _working_directory() -> str:
    """Return the working directory, "" if it was removed: then only a relative path or --mount-cwd is refused."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        return ""


def read_env(files: list[str] | None, entries: list[str] | None) -> list[str]:
    """Return the variables of --env-file and --env as NAME=VALUE, in their order. Raises RootlessError.

    A NAME alone gets the caller's value, and is left out if the caller has none, like with docker.
    """
    entries_read = []
    for path in files or []:
        for number, line in enumerate(_read(path, "variables").split("\n"), 1):
            text = line.lstrip().removesuffix("\r")
            if not text or text.startswith("#"):
                continue
            name = text.partition("=")[0]
            if not name or name.rstrip() != name or any(c.isspace() for c in name):
                shown = printable(repr(text[:_SHOWN])) + ("..." if len(text) > _SHOWN else "")  # it may be a program
                raise RootlessError(f"not an environment variable: {shown}", f"{path}:{number}", hint="NAME=VALUE")
            entries_read.append(text)
    entries_read += entries or []
    complete = []
    for entry in entries_read:
        if "=" in entry:
            complete.append(entry)
        elif not entry:
            raise RootlessError("not an environment variable", "--env ''", hint="NAME=VALUE, or NAME")
        elif entry in os.environ:
            complete.append(f"{entry}={os.environ[entry]}")
    return complete


def _seccomp(options: list[str], spec: dict[str, Any]) -> str | dict[str, Any]:
    value = ""
    for option in options:
        if option.startswith("seccomp=") and option != "seccomp=":
            value = option.removeprefix("seccomp=")
    if value in ("", "default", "unconfined"):
        return value
    from rootless.kernel.syscalls import MACHINE
    from rootless.plan.seccomp_profile import read_profile

    document = parse_config(
        _read(value, "seccomp profile").encode("utf-8", "surrogateescape"), value, "the seccomp profile"
    )
    process = spec.get("process")
    capabilities = process.get("capabilities") if isinstance(process, dict) else None
    return read_profile(document, capabilities or {}, MACHINE, value)


def _read(path: str, what: str) -> str:
    protect_stream(path)
    try:
        with open(0 if path == "-" else path, "rb", closefd=path != "-") as file:
            data = file.read(_LIMIT + 1)
    except OSError as error:
        raise RootlessError.from_os(error, f"cannot read the {what}", path) from None
    if len(data) > _LIMIT:
        raise RootlessError(f"there are more than {_LIMIT >> 20} MiB of {what}", path)
    return data.decode(sys.getfilesystemencoding(), "surrogateescape")
