"""Print the help with click, from the option table, and give hints for mistakes. No hot command imports this."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rootless import __version__
from rootless.cli.help_text import COMMAND_GROUPS, EXAMPLES, OPERANDS, PAGES
from rootless.cli.options import COMMANDS, GLOBAL, Option, UsageError
from rootless.cli.output import say
from rootless.config_node import closest
from rootless.errors import RootlessError, advice, printable

if TYPE_CHECKING:
    import click

_METAVARS = {"container_id": "ID", "bundle_dir": "BUNDLE", "subject": "[BUNDLE|ARCHIVE]"}


def group() -> click.Group:
    """Return all commands as click groups them. click only formats their help; it does not run them."""

    root = _group_class()(
        "rootless",
        params=[_option(option) for option in GLOBAL],
        help="A daemonless OCI container runtime that needs no root.",
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    kind = _command_class()
    for name, (summary, positionals, options) in COMMANDS.items():
        params: list[click.Parameter] = [_option(option) for option in options]
        params += [_argument(positional) for positional in positionals]
        root.add_command(kind(name, params=params, help=f"{summary[0].upper()}{summary[1:]}.", short_help=summary))
    return root


# title: (an example, the flags). Flags that are in no group come first.
GROUPS: dict[str, tuple[str, tuple[str, ...]]] = {
    "Process": (
        "-e LANG=C -w /src -u user",
        (
            "env", "env-file", "workdir", "user", "group-add", "entrypoint", "init", "tty", "interactive", "timeout",
            "log-file",
        ),
    ),
    "File system": (
        "-v ./data:/data:ro --tmpfs /scratch:size=64m --ephemeral",
        (
            "volume", "mount", "tmpfs", "mount-home", "mount-cwd", "read-only", "ephemeral", "save-changes", "shm-size",
            "device",
        ),
    ),
    "Limits": (
        "-m 512m --cpus 1.5 --pids-limit 100",
        ("memory", "memory-swap", "cpus", "cpuset-cpus", "pids-limit", "ulimit"),
    ),
    "Network": ("--network auto -p 8080:80", ("network", "publish", "no-host-loopback", "hostname")),
    "Security": (
        "--cap-drop all --security-opt no-new-privileges",
        ("cap-add", "cap-drop", "security-opt", "root-emulation", "no-root-emulation"),
    ),
    "Advanced": (
        "--pid-file pid --console-socket tty.sock",
        (
            "config", "console-socket", "pidfd-socket", "pid-file", "no-pivot", "no-new-keyring", "preserve-fds",
            "no-subreaper", "annotation", "cgroup",
        ),
    ),
}  # fmt: skip


def _command_class() -> type[click.Command]:
    """Return a class of commands with the flags of GROUPS in sections, and with examples below."""
    import click

    class Described(click.Command):
        def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
            """Return what the usage line has behind the command's name."""
            pieces = super().collect_usage_pieces(ctx)
            return OPERANDS[str(self.name)].split(" ") if self.name in OPERANDS else pieces

        def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
            """Write the flags group by group."""
            records = {}
            for param in self.get_params(ctx):
                record = param.get_help_record(ctx)
                if record and isinstance(param, click.Option):
                    records[str(param.opts[0]).removeprefix("--")] = record
            is_long = self.name in ("run", "create", "spec", "explain")
            grouped = {flag for _, flags in GROUPS.values() for flag in flags} if is_long else set()
            first = [record for flag, record in records.items() if flag not in grouped]
            with formatter.section("Options"):
                formatter.write_dl(first)
            for title, (example, flags) in GROUPS.items() if is_long else ():
                rows = [records[flag] for flag in flags if flag in records]
                if rows:
                    with formatter.section(f"{title} (such as {example})"):
                        formatter.write_dl(rows)

        def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
            """Write the examples, and where the page is."""
            _write_examples(formatter, str(self.name))
            formatter.write_paragraph()
            formatter.write_text(f"The page: man rootless-{self.name}, or docs/reference/commands.md#{self.name}")

    return Described


def _group_class() -> type[click.Group]:
    """Return a class of groups whose help lists the commands in COMMAND_GROUPS, with examples first."""
    import click

    class Grouped(click.Group):
        def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
            """Write examples and commands before the global flags, because people look for those."""
            _write_examples(formatter, "")
            for title, names in COMMAND_GROUPS.items():
                with formatter.section(title):
                    formatter.write_dl([(name, COMMANDS[name][0]) for name in names])
            records = [record for param in self.get_params(ctx) if (record := param.get_help_record(ctx))]
            with formatter.section("Options, before the command"):
                formatter.write_dl(records)

        def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
            """Write how to go on."""
            formatter.write_paragraph()
            formatter.write_text("rootless COMMAND --help says more about each command. " + PAGES)

    return Grouped


def _write_examples(formatter: click.HelpFormatter, name: str) -> None:
    """Write a command's examples: each line as it is typed, with what it does below it where it does not fit beside."""
    with formatter.section("Examples"):
        shown = EXAMPLES[name]
        room = max(len(line) for line, _ in shown)
        for line, words in shown:
            if room + 4 + len(words) + formatter.current_indent <= formatter.width:
                formatter.write(f"{'':{formatter.current_indent}}{line:<{room}}  # {words}\n")
            else:
                formatter.write(f"{'':{formatter.current_indent}}# {words}\n{'':{formatter.current_indent}}{line}\n")


def _width() -> int:
    """Return the columns of the help: those of the terminal or of COLUMNS, at most 100; 80 elsewhere."""
    import shutil

    return max(40, min(100, shutil.get_terminal_size((80, 24)).columns))


def _option(option: Option) -> click.Option:
    import click

    name, short, kind, metavar, text = option
    names = [f"--{name}"] + ([f"-{short}"] if short else [])
    if kind == "flag":
        return click.Option(names, is_flag=True, help=text)
    if kind == "maybe":
        return click.Option(names, is_flag=False, flag_value="true", metavar=f"[={metavar}]", help=text)
    return click.Option(names, metavar=metavar, help=text, multiple=kind == "list")


def _argument(positional: str) -> click.Argument:
    import click

    key = positional.rstrip("?*")
    name = _METAVARS.get(key, key.upper())
    many = positional.endswith("*")
    if positional == "bundle_dir?":
        name = f"[{name}]"
    return click.Argument([key], required=positional == key, nargs=-1 if many else 1, metavar=name)


def _find_click() -> None:
    """Make click importable. Raises RootlessError if it is not installed.

    bin/rootless starts the interpreter without its site-packages (-S), and click may be installed there.
    """
    from importlib.util import find_spec

    if find_spec("click") is None:
        import site

        site.main()
        if find_spec("click") is None:
            raise RootlessError(
                "the help needs the Python package click",
                hint=advice("no-click"),
            )


def show_help(name: str) -> None:
    """Print the help of a command, or of the program for "". Raises UsageError for an unknown command."""
    if name and name not in COMMANDS:
        raise UsageError(f"no such command: {printable(repr(name))}", wrong=name)
    _find_click()
    import click

    root = group()
    width = _width()
    context = click.Context(root, info_name="rootless", max_content_width=width, terminal_width=width)
    if name:
        command = root.commands[name]
        say(command.get_help(click.Context(command, info_name=name, parent=context)))
    else:
        say(root.get_help(context))


def show_version() -> None:
    """Print the version in the form of runc's, because clients look for "version", "commit:" and "spec:"."""
    say(f"rootless version {__version__}\ncommit: v{__version__}\nspec: 1.3.0")


# docker's commands that this program does not have, and what to use instead.
INSTEAD = {
    "logs": "run --detach --log-file FILE writes the output to FILE; there is no daemon that keeps it",
    "attach": "rootless exec -t ID sh opens a second program in the container; run without --detach stays attached",
    "images": "rootless cache ls lists the unpacked images; an image is a file: ls *.tar",
    "pull": "skopeo copy docker://IMAGE docker-archive:image.tar fetches one, then rootless run image.tar",
    "push": "rootless pack makes image.tar, and skopeo copy docker-archive:image.tar docker://IMAGE sends it",
    "build": "buildah --runtime rootless builds images; rootless run --save-changes makes a layer of your changes",
    "login": "there is no registry client: skopeo login",
    "rm": "rootless delete ID",
    "rmi": "rootless cache prune",
    "top": "rootless ps ID",
    "stats": "rootless events --stats ID",
    "load": "rootless run image.tar runs an archive; rootless convert makes a bundle of it",
    "save": "rootless pack BUNDLE makes an archive",
    "unpause": "rootless resume ID",
    "commit": "rootless run --save-changes NEW.tar IMAGE.tar makes a layer of your changes, and rootless pack BUNDLE",
    "container": "the commands are those of rootless --help, without this word",
    "history": "rootless inspect IMAGE.tar",
    "tag": "rootless pack --tag NAME:TAG BUNDLE",
    "diff": "rootless run --save-changes NEW.tar IMAGE.tar, then rootless inspect NEW.tar",
    "export": "rootless cp ID:/ - writes a container's root as a tar stream",
    "image": "rootless cache ls lists the unpacked images; an image is a file: ls *.tar",
    "info": "rootless doctor says what works here, rootless features what there is",
    "network": "there are no networks to manage: rootless run --network auto",
    "port": "rootless list shows the published ports",
    "prune": "rootless cache prune",
    "rename": "a name is given when a container is made: rootless run --name NAME",
    "restart": "rootless delete --force ID, then run it again",
    "system": "rootless cache prune empties the cache, rootless doctor says what works here",
    "volume": "there are no volumes to manage: rootless run -v ./data:/data",
}


_NO_COMMON_NETWORK = "containers have no network in common: --publish makes a port of one a port of the host"
_NAMESPACES = "linux.namespaces in config.json says which namespaces there are: rootless spec"
_RESOURCES = "linux.resources in config.json has it: rootless spec"
# Flags of docker's and podman's run that this program does not have, and what to use instead.
INSTEAD_OF_FLAGS = {
    "--add-host": "a file of your own does it: -v ./hosts:/etc/hosts:ro",
    "--blkio-weight": _RESOURCES,
    "--cpu-shares": _RESOURCES,
    "--memory-reservation": _RESOURCES,
    "--sysctl": "linux.sysctl in config.json sets it: rootless spec",
    "--expose": "every port can be reached: --publish makes one of the container a port of the host",
    "--cidfile": "--name NAME says the ID beforehand",
    "--dns": "a file of your own does it: -v ./resolv.conf:/etc/resolv.conf:ro",
    "--gpus": "--device PATH gives access to a GPU's device files",
    "--ip": _NO_COMMON_NETWORK,
    "--ipc": _NAMESPACES,
    "--label": "--annotation NAME=VALUE",
    "--link": _NO_COMMON_NETWORK,
    "--log-driver": "--detach --log-file FILE appends the output to FILE",
    "--pid": _NAMESPACES,
    "--privileged": "--cap-add all gives all rights that a container can have without root",
    "--pull": INSTEAD["pull"],
    "--restart": "no daemon watches containers: a systemd unit starts one again (contrib/systemd)",
    "--userns": _NAMESPACES,
    "--uts": _NAMESPACES,
    "--volumes-from": "name the directories again: -v ./data:/data",
}
_SIGNAL_LAST = "the signal stands behind the ID: rootless kill ID KILL"
# The same for other commands.
INSTEAD_OF_OTHER_FLAGS = {
    ("kill", "-s"): _SIGNAL_LAST,
    ("kill", "--signal"): _SIGNAL_LAST,
    ("create", "--name"): "the ID is the name: rootless create --bundle DIR NAME",
    ("ps", "-a"): "rootless list shows all containers",
    ("ps", "--all"): "rootless list shows all containers",
    ("list", "-a"): "it shows those that have ended, too",
    ("list", "--all"): "it shows those that have ended, too",
    ("delete", "--all"): "rootless delete --force --regex '.*'",
}


def suggest(error: UsageError) -> None:
    """Set the error's hint: the known word that is closest to the wrong one, or the command that prints the help."""
    name = error.command
    if (name, error.wrong) in INSTEAD_OF_OTHER_FLAGS:
        error.hint = INSTEAD_OF_OTHER_FLAGS[name, error.wrong]
        return
    if name in ("run", "create") and error.wrong in INSTEAD_OF_FLAGS:
        error.hint = INSTEAD_OF_FLAGS[error.wrong]
        return
    if not name and error.wrong in INSTEAD:
        error.hint = INSTEAD[error.wrong]
        return
    if error.wrong and not error.hint:
        error.hint = _misplaced(error.wrong, name) or _near(error.wrong, name)
    error.hint = error.hint or f"rootless {name + ' ' if name else ''}--help"


def _near(wrong: str, command: str) -> str:
    """Return the hint with the flag or command that is closest to a wrong word, "" for none."""
    flags = [f"--{option[0]}" for option in (COMMANDS[command][2] if command else GLOBAL)]
    if wrong.startswith("-"):
        return closest(wrong, flags)
    return closest(wrong, COMMANDS) or closest(wrong, flags)


def _misplaced(wrong: str, command: str) -> str:
    """Return the hint for a flag on the wrong side of the command, "" if it is on neither."""
    if command:
        return f"it stands before the command: rootless {wrong} ... {command}" if _is_one(wrong, GLOBAL) else ""
    owners = [name for name, (_, _, table, *_) in COMMANDS.items() if _is_one(wrong, table)]
    owner = "run" if "run" in owners else owners[0] if owners else ""
    return f"it stands behind the command: rootless {owner} {wrong}" if owner else ""


def _is_one(word: str, table: list[Option]) -> bool:
    return any(word in (f"--{option[0]}", f"-{option[0]}", f"-{option[1]}") for option in table)
