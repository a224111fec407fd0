"""click on top of the option table: help, completion, and words for mistakes. Never on the hot path."""

from __future__ import annotations

from rootless import __version__
from rootless.errors import RootlessError, printable
from rootless.options import COMMANDS, GLOBAL, Option, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    import click

_METAVARS = {"container_id": "ID", "bundle_dir": "BUNDLE"}


def group() -> click.Group:
    """All commands as click sees them: for help and completion, nothing here runs one."""
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
                "help and completion need the Python package click",
                hint="pip install click, or apt install python3-click",
            )


def show_help(arguments: list[str]) -> None:
    """Help for the command that is named, or for all. Shell completion scripts for `completion SHELL`."""
    _find_click()
    import click

    if arguments[:1] == ["completion"]:
        _show_completion(arguments[1] if len(arguments) > 1 else "bash")
        return
    root = group()
    context = click.Context(root, info_name="rootless", max_content_width=100)
    name = next((word for word in arguments if word in COMMANDS), "")
    if not name and len(arguments) > 1 and not arguments[0].startswith("-"):
        raise suggest(UsageError(f"no such command: {printable(repr(arguments[0]))}"), arguments)
    if name in ("checkpoint", "restore"):  # who asks for its help wants to know whether it works here (podman)
        from rootless.criu import find

        find()
    if name:
        command = root.commands[name]
        click.echo(command.get_help(click.Context(command, info_name=name, parent=context)))
    else:
        click.echo(root.get_help(context))


def _show_completion(shell: str) -> None:
    import click
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    if found is None:
        raise UsageError(f"no completion for the shell {shell!r}", hint="bash, zsh or fish")
    click.echo(found(group(), {}, "rootless", "_ROOTLESS_COMPLETE").source())


def complete() -> int:
    """Answer a shell's completion request (the environment variable _ROOTLESS_COMPLETE)."""
    import os

    from click.shell_completion import shell_complete

    return shell_complete(group(), {}, "rootless", "_ROOTLESS_COMPLETE", os.environ["_ROOTLESS_COMPLETE"])


def show_version() -> None:
    """runc's lines: clients look for "version", "commit:" and "spec:"."""
    print(f"rootless version {__version__}\ncommit: v{__version__}\nspec: 1.3.0")


def suggest(error: UsageError, arguments: list[str]) -> UsageError:
    """The same error with what was perhaps meant."""
    from rootless.node import closest

    words: Callable[[list[Option]], list[str]] = lambda table: [f"--{option[0]}" for option in table]  # noqa: E731
    name = next((word for word in arguments if word in COMMANDS), "")
    known = words(COMMANDS[name][2]) if name else [*words(GLOBAL), *COMMANDS]
    wrong = error.what.rpartition(": ")[2].strip("'")
    error.hint = closest(wrong, known) or f"rootless {name + ' ' if name else ''}--help"
    return error
