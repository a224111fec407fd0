"""`list`: list the containers of the state directory."""

from __future__ import annotations

import calendar
import errno
import os
import stat
import time
from typing import TYPE_CHECKING

from rootless import log
from rootless.cli.commands.state import owner_name
from rootless.cli.containers import state_root
from rootless.cli.setting_flags import IMAGE_ANNOTATION
from rootless.cli.table import age, laid_out
from rootless.errors import NoSuchContainer, RootlessError, printable
from rootless.kernel.files import write_out
from rootless.plan.network import ports_of
from rootless.runtime.container import Container
from rootless.runtime.state import StateDir, ids
from rootless.startup.jsonlite import dumps, loads

if TYPE_CHECKING:
    from rootless.cli.options import Options
    from rootless.process.report import Report
    from rootless.runtime.container import State


_META, _RECORD = ".oci", 4 << 20  # where a converted bundle says what it comes from (oci/bundle.py), and the most bytes
_CREATED, _OWNER, _IMAGE, _PORTS = 4, 5, 6, 8  # columns that a narrow terminal can do without; AGE tells the time, too


def main(options: Options) -> int:
    """Run `rootless list [--quiet] [--format table|json]`; columns and keys are those of runc."""
    form = "json" if getattr(options, "json", False) else options.format
    if form not in ("", "table", "json"):
        raise RootlessError(f"invalid format option {form!r}", hint="table or json")
    if options.root and not os.path.isdir(options.root):  # like runc, which reports a mistyped --root
        raise RootlessError("no such state directory", options.root, errno.ENOENT)
    reports = read_all(state_root(options))
    if options.quiet:
        text = "".join(f"{printable(entry['id'])}\n" for entry in reports)
    elif form == "json":
        text = dumps(reports or None) + "\n"
    else:
        text = _table(reports)
    write_out(text.encode("utf-8", "surrogateescape"))
    return 0


def read_all(root: str) -> list[Report]:
    """Return the report of each container. One that cannot be read is left out, with a warning."""
    reports = []
    for container_id in ids(root):
        try:
            directory = StateDir.open(root, container_id)
        except NoSuchContainer:
            continue  # another command has deleted it
        except RootlessError as error:
            if error.errno != errno.ENOTDIR:  # ENOTDIR: a file, which is not a container
                log.warn(str(error))
            continue
        try:
            creating: State = {"creating": True}
            container = Container(directory, directory.read("state.json") or creating)
            report = container.report()
            report["owner"] = owner_name(os.fstat(directory.fd).st_uid)
            reports.append(report)
        except RootlessError as error:
            log.warn(str(error))
        finally:
            directory.close()
    return reports


def _age(created: str) -> str:
    """Return how long ago a time of RFC 3339 was, "-" if it is not one."""
    try:
        return age(calendar.timegm(time.strptime(created[:19], "%Y-%m-%dT%H:%M:%S")))
    except ValueError:
        return "-"


def _image_of(bundle: str) -> str:
    """Return the name of the image that a bundle was converted from, "-" if it does not say that."""
    try:
        fd = os.open(f"{bundle}/{_META}/image.json", os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        with open(fd, "rb") as file:
            record = loads(file.read(_RECORD)) if stat.S_ISREG(os.fstat(fd).st_mode) else {}
    except (OSError, ValueError):
        return "-"
    names = record.get("names") if isinstance(record, dict) else None
    return printable(str(names[0])) if isinstance(names, list) and names else "-"


def _table(reports: list[Report]) -> str:
    """Return the table: runc's columns, and behind them what people look for."""
    rows: list[tuple[str, ...]] = [("ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER", "IMAGE", "AGE", "PORTS")]
    for e in reports:
        annotations = e.get("annotations") or {}
        image = annotations.get(IMAGE_ANNOTATION) or _image_of(e["bundle"])
        rows.append((
            e["id"], str(e["pid"]), e["status"], e["bundle"], e["created"], e["owner"], image, _age(e["created"]),
            ports_of(annotations),
        ))  # fmt: skip
    empty = [column for column in (_IMAGE, _PORTS) if all(row[column] == "-" for row in rows[1:])]
    return laid_out(rows, dispensable=(_CREATED, *empty, _OWNER))
