"""click on top of the option table: help, and words for mistakes. Never on the hot path."""

from __future__ import annotations

from rootless import __version__
from rootless.cli.options import COMMANDS, GLOBAL, Option, UsageError
from rootless.errors import RootlessError, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    import click

_METAVARS = {"container_id": "ID", "bundle_dir": "BUNDLE"}


def group() -> click.Group:
    """All commands as click sees them: for their help, nothing here runs one."""
    import click

    root = click.Group(
        "rootless",
        params=[_option(option) for option in GLOBAL],
        help="A daemonless OCI container runtime that needs no root.",
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    for name, (summary, positionals, options) in COMMANDS.items():
        params: list[click.Parameter] = [_option(option) for option in options]
        params += [_argument(positional) for positional in positionals]
        root.add_command(click.Command(name, params=params, help=summary, short_help=summary))
    return root


def _option(option: Option) -> click.Option:
    import click

    name, short, kind, metavar, text = option
    names = [f"--{name}"] + ([f"-{short}"] if short else [])
    if kind == "flag":
        return click.Option(names, is_flag=True, help=text)
    return click.Option(names, metavar=metavar, help=text, multiple=kind == "list")


def _argument(positional: str) -> click.Argument:
    import click

    key = positional.rstrip("?*")
    name = _METAVARS.get(key, key.upper())
    many = positional.endswith("*")
    return click.Argument([key], required=positional == key, nargs=-1 if many else 1, metavar=name)


def _find_click() -> None:
    """click may lie in the interpreter's own site-packages, which the launcher starts without. Raises RootlessError."""
    from importlib.util import find_spec

    if find_spec("click") is None:
        import site

        site.main()
        if find_spec("click") is None:
            raise RootlessError(
                "the help needs the Python package click",
                hint="pip install click, or apt install python3-click",
            )


def show_help(name: str) -> None:
    """Print the help of a command, or of all. Raises UsageError where there is no such command."""
    if name and name not in COMMANDS:
        raise UsageError(f"no such command: {printable(repr(name))}", wrong=name)
    _find_click()
    import click

    root = group()
    context = click.Context(root, info_name="rootless", max_content_width=100)
    if name in ("checkpoint", "restore"):  # who asks for its help wants to know whether it works here (podman)
        from rootless.runtime.criu import find

        find()
    if name:
        command = root.commands[name]
        click.echo(command.get_help(click.Context(command, info_name=name, parent=context)))
    else:
        click.echo(root.get_help(context))


def show_version() -> None:
    """runc's lines: clients look for "version", "commit:" and "spec:"."""
    print(f"rootless version {__version__}\ncommit: v{__version__}\nspec: 1.3.0")


def suggest(error: UsageError) -> None:
    """Give the error a hint: what was perhaps meant, or where the help is."""
    from rootless.node import closest

    name = error.command
    if error.wrong and not error.hint:
        known = [f"--{option[0]}" for option in (COMMANDS[name][2] if name else GLOBAL)] + ([] if name else [*COMMANDS])
        error.hint = closest(error.wrong, known)
    error.hint = error.hint or f"rootless {name + ' ' if name else ''}--help"
