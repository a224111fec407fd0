"""Make the error for a bundle that does not exist: it says what the user may have meant, and where images come from."""

from __future__ import annotations

import errno
import os

from oci.absent import explain_absent, near_name
from rootless.errors import RootlessError, printable
from rootless.kernel.closed import closed_above


def no_such_bundle(argument: str, *, is_new: bool = True) -> RootlessError:
    """Return the error for an operand that names neither a bundle nor an archive.

    A path is taken for a bundle that is not made yet, and everything else for the name of an image. is_new: whether the
    command could use either; False for one that works on bundles that exist.
    """
    if closed := closed_above(argument):
        return closed
    if is_new and os.path.isfile(argument):
        hint = f"rootless run -d {printable(argument)}, or rootless convert {printable(argument)}"
        return RootlessError("a bundle is a directory", printable(argument), errno.ENOTDIR, hint)
    near = near_name(argument, _is_runnable)
    if near or not is_new:
        return RootlessError(
            f"no such bundle: {printable(argument)}", hint=f"did you mean {printable(near)}?" if near else ""
        )
    if argument.startswith(("./", "../", "/", "~")):
        from rootless.errors import advice

        hint = advice("no-such-bundle", bundle=printable(argument))
        return RootlessError(f"no such bundle: {printable(argument)}", hint=hint)
    known = explain_absent(argument)
    return RootlessError(f"no bundle {printable(repr(argument))} here", hint=known)


def no_config(error: OSError, path: str) -> RootlessError:
    """Return the error for a config.json that is not there, or whose directory is not."""
    directory = os.path.dirname(path)
    if os.path.isfile(directory):
        return RootlessError("not a bundle but a file", directory, hint=f"rootless run {printable(directory)}")
    if directory and not os.path.isdir(directory):
        return RootlessError.from_os(error, "no such bundle", directory)
    return RootlessError.from_os(error, "no config.json", path, "rootless spec writes one")


def _is_runnable(path: str) -> bool:
    """Return whether `run` takes a path: a bundle, a layout, or a file with an archive's name."""
    if os.path.isdir(path):
        return any(os.path.exists(f"{path}/{name}") for name in ("config.json", "oci-layout", "manifest.json"))
    return ".tar" in path or path.endswith(".tgz")
