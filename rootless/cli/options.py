"""Define all commands and flags in one table, which the parser below, the help, completion and man pages read."""

from __future__ import annotations

from rootless.cli.setting_flags import SETTINGS
from rootless.errors import RootlessError, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# (long name, short name, kind, metavar, help). kind: flag, str, int, list, or maybe: a value only as --NAME=VALUE.
Option = tuple[str, str, str, str, str]
Command = tuple[str, tuple[str, ...], list[Option]]

GLOBAL: list[Option] = [
    ("root", "", "str", "DIR", "keep the state of the containers in DIR"),
    ("log", "", "str", "FILE", "append the log to FILE; errors go to standard error, too"),
    ("log-format", "", "str", "text|json", "format of the log's lines"),
    ("log-level", "", "str", "trace|debug|info|warning|error", "debug and trace are the same as --debug"),
    ("debug", "", "flag", "", "log each step"),
    ("systemd-cgroup", "", "flag", "", "the same as --cgroup-manager systemd"),
    (
        "cgroup-manager",
        "",
        "str",
        "cgroupfs|systemd|disabled",
        "who creates the cgroup (default: what works)",
    ),
    ("rootless", "", "str", "true|false|auto", "ignored; rootless mode is detected"),
    ("criu", "", "str", "PATH", "path of criu (default: search PATH)"),
    ("version", "v", "flag", "", "print the version and exit"),
]
# Flags of several commands.
_CONSOLE_SOCKET: Option = ("console-socket", "", "str", "PATH", "send the terminal's master to the Unix socket PATH")
_DETACH: Option = ("detach", "d", "flag", "", "return when the program runs; it keeps the standard streams")
_PID_FILE: Option = ("pid-file", "", "str", "FILE", "write the container's process ID to FILE")
_PRESERVE_FDS: Option = ("preserve-fds", "", "int", "N", "pass N more file descriptors to the program, from 3 on")
_NO_SUBREAPER: Option = ("no-subreaper", "", "flag", "", "ignored; orphans of the container are never adopted")
_INTERACTIVE: Option = (
    "interactive",
    "i",
    "flag",
    "",
    "pass standard input on to an image's program; others always get it",
)
_TIMEOUT: Option = (
    "timeout",
    "",
    "str",
    "DURATION",
    "end the program after 90s, 1.5m or 1h, with exit code 124",
)
_REGEX: Option = ("regex", "", "flag", "", "treat the ID as a regular expression")
_CHANGE: Option = (
    "change",
    "c",
    "list",
    "INSTRUCTION",
    "change the config: CMD, ENTRYPOINT, ENV, USER, WORKDIR, LABEL, ...",
)
_PICK: list[Option] = [
    ("tag", "t", "str", "NAME:TAG", "choose an image of the archive"),
    ("platform", "", "str", "OS/ARCH", "choose a platform of the image"),
]
_CREATE: list[Option] = [
    ("bundle", "b", "str", "DIR", "the bundle, a directory with config.json (default: the current one)"),
    ("config", "f", "str", "FILE", "read FILE instead of the bundle's config.json"),
    _CONSOLE_SOCKET,
    ("pidfd-socket", "", "str", "PATH", "send a pidfd of the container to the Unix socket PATH"),
    _PID_FILE,
    ("no-pivot", "", "flag", "", "use MS_MOVE instead of pivot_root (for a rootfs on the initramfs)"),
    ("no-new-keyring", "", "flag", "", "keep the caller's session keyring"),
    _PRESERVE_FDS,
    ("dry-run", "", "flag", "", "print the plan and change nothing"),
    ("init", "", "flag", "", "run the program below a small init, which reaps and passes signals on"),
    *SETTINGS,
]
_CRIU: list[Option] = [
    ("image-path", "", "str", "DIR", "directory of the image files (default: checkpoint)"),
    ("work-path", "", "str", "DIR", "directory of criu's log and other files (default: --image-path)"),
    ("tcp-established", "", "flag", "", "allow open TCP connections"),
    ("ext-unix-sk", "", "flag", "", "allow Unix sockets that are connected to processes outside"),
    ("shell-job", "", "flag", "", "allow a terminal that was opened outside"),
    ("file-locks", "", "flag", "", "allow file locks"),
    ("manage-cgroups-mode", "", "str", "soft|full|strict|ignore", "how criu treats cgroups"),
    ("empty-ns", "", "list", "network", "do not checkpoint this namespace"),
    ("auto-dedup", "", "flag", "", "remove pages from older images that newer ones replace"),
    ("lazy-pages", "", "flag", "", "load memory pages on demand"),
]
_JSON: Option = ("json", "", "flag", "", "the same as --format json")
_FORMAT: Option = ("format", "f", "str", "table|json", "output format")
_TREE: list[Option] = [
    ("shared", "", "flag", "", "make a bundle that other users can run: readable, and without your ids"),
    ("output", "o", "str", "BUNDLE", "directory of the new bundle"),
    ("owners", "", "str", "map|xattr|squash|strict", "how to store file owners"),
    ("force", "", "flag", "", "replace an existing bundle"),
    ("tty", "", "flag", "", "set process.terminal in config.json"),
    ("quiet", "q", "flag", "", "print no progress and no notes"),
    ("max-size", "", "str", "SIZE", "refuse an image that unpacks to more than SIZE (default: 64g)"),
    ("max-files", "", "int", "N", "refuse an image with more than N files (default: 4,000,000)"),
    ("volumes", "", "str", "tmpfs|bind", "mount the image's volumes"),
    ("cache", "", "flag", "", "store unpacked layers and reuse them"),
]

# name: (what it does, positionals, options). A positional that ends in "?" may be missing. One that ends in "*" takes
# all words that remain.
HOT: dict[str, Command] = {
    "create": (
        "create a container from a bundle",
        ("container_id?",),
        [*_CREATE, ("rm", "", "flag", "", "delete the container when it ends"), _TIMEOUT],
    ),
    "start": ("run the program of a created container", ("container_id",), []),
    "run": (
        "create and start a container, wait for it, then delete it",
        ("container_id?", "args*"),
        [
            *_CREATE,
            _DETACH,
            ("keep", "", "flag", "", "do not delete the container when it ends"),
            _NO_SUBREAPER,
            ("tty", "t", "flag", "", "give the program a terminal, whatever config.json says"),
            _INTERACTIVE,
            ("tag", "", "str", "NAME:TAG", "choose an image of the archive"),
            _PICK[1],
            ("name", "", "str", "NAME", "ID of the container (default: the bundle's name)"),
            ("rm", "", "flag", "", "delete it when it ends (the default; --rm=false keeps it)"),
            ("host", "", "flag", "", "run the words as a program of the read-only system of the host"),
            ("save-changes", "", "str", "NEW.tar", "write the image with the changes as one more layer"),
            ("log-file", "", "str", "FILE", "with --detach: append the program's output to FILE"),
            _TIMEOUT,
        ],
    ),
    "state": ("print a container's state as JSON", ("container_id",), []),
    "kill": (
        "send a signal to a container",
        ("container_id", "signal?"),
        [
            ("all", "a", "flag", "", "signal all processes of the container"),
            _REGEX,
        ],
    ),
    "delete": (
        "delete a stopped container and everything that was created for it",
        ("container_id",),
        [
            ("force", "f", "flag", "", "kill a running container first; a missing one is not an error"),
            _REGEX,
        ],
    ),
    "exec": (
        "run another program in a container",
        ("container_id", "args*"),
        [
            ("process", "p", "str", "FILE", "read the process from FILE (process.json) instead of the command line"),
            _DETACH,
            ("pid-file", "", "str", "FILE", "write the process ID to FILE"),
            ("tty", "t", "flag", "", "give the program a terminal"),
            _CONSOLE_SOCKET,
            ("pidfd-socket", "", "str", "PATH", "send a pidfd of the process to the Unix socket PATH"),
            ("interactive", "i", "flag", "", "ignored; the program always gets standard input"),
            ("cwd", "", "str", "DIR", "working directory"),
            ("workdir", "w", "str", "DIR", "the same as --cwd"),
            ("env", "e", "list", "NAME=VALUE", "set an environment variable; NAME alone passes on the caller's value"),
            ("env-file", "", "list", "FILE", "read environment variables from FILE, one NAME=VALUE per line"),
            ("user", "u", "str", "USER[:GROUP]", "run as this user, by name or number"),
            ("additional-gids", "g", "list", "GID", "add a supplementary group"),
            ("cap", "c", "list", "CAP", "add a capability"),
            ("no-new-privs", "", "flag", "", "set no_new_privs: set-user-ID programs give no privileges"),
            ("apparmor", "", "str", "PROFILE", "AppArmor profile"),
            ("process-label", "", "str", "LABEL", "SELinux label"),
            _PRESERVE_FDS,
            ("cgroup", "", "str", "PATH", "start in this cgroup below the container's"),
            ("ignore-paused", "", "flag", "", "allow a paused container; the program runs when it is resumed"),
        ],
    ),
}  # fmt: skip
COMMANDS: dict[str, Command] = {
    "create": HOT["create"],
    "start": HOT["start"],
    "run": HOT["run"],
    "checkpoint": (
        "save a running container to files and end it (with criu, as root)",
        ("container_id",),
        [
            *_CRIU,
            ("parent-path", "", "str", "DIR", "image directory of an earlier --pre-dump, relative to --image-path"),
            ("leave-running", "", "flag", "", "do not end the container"),
            ("tcp-skip-in-flight", "", "flag", "", "leave out TCP connections that are not established yet"),
            ("link-remap", "", "flag", "", "save open files that were unlinked and have other links"),
            ("status-fd", "", "str", "FD", "write a 0 byte to FD when the lazy pages can be served"),
            ("page-server", "", "str", "ADDRESS:PORT", "send the memory pages to this page server"),
            ("pre-dump", "", "flag", "", "dump memory only and keep running"),
        ],
    ),
    "restore": (
        "restore a container from the files that checkpoint wrote (with criu, as root)",
        ("container_id",),
        [
            *_CRIU,
            ("bundle", "b", "str", "DIR", "the bundle (default: the current directory)"),
            _CONSOLE_SOCKET,
            _PID_FILE,
            _DETACH,
            _NO_SUBREAPER,
            ("no-pivot", "", "flag", "", "ignored; criu makes the mounts"),
            ("lsm-profile", "", "str", "TYPE:NAME", "use this AppArmor or SELinux profile instead"),
            ("lsm-mount-context", "", "str", "CONTEXT", "use this SELinux context for the mounts instead"),
        ],
    ),
    "state": HOT["state"],
    "kill": HOT["kill"],
    "stop": (
        "end containers: their stop signal, and KILL after a time",
        ("container_id", "others*"),
        [("time", "t", "str", "DURATION", "how long to wait before KILL (default: 10s)")],
    ),
    "cp": (
        "copy files between a container and the host; - is a tar stream",
        ("source", "target"),
        [("follow-link", "L", "flag", "", "copy what a link at the end of the source leads to, not the link")],
    ),
    "wait": ("wait for the end of containers and print their exit codes", ("container_id", "others*"), []),
    "delete": HOT["delete"],
    "exec": HOT["exec"],
    "explain": (
        "tell step by step what run would do, why, and which manual page has it",
        ("bundle_dir?", "args*"),
        [
            ("trace", "", "flag", "", "run the container, too, and tell what the kernel answered"),
            ("color", "", "str", "auto|always|never", "colours (default: on a terminal, without NO_COLOR)"),
            ("config", "f", "str", "FILE", "read FILE instead of the bundle's config.json"),
            *_PICK[1:],
            ("tag", "", "str", "NAME:TAG", "choose an image of the archive"),
            *SETTINGS,
        ],
    ),
    "list": ("list the containers", (), [_FORMAT, _JSON, ("quiet", "q", "flag", "", "print IDs only")]),
    "doctor": (
        "say what works here, what does not, and what to type",
        ("subject?",),
        [
            ("json", "", "flag", "", "print JSON"),
            ("clean", "", "flag", "", "list and remove what ended containers and killed commands have left"),
        ],
    ),
    "features": ("print the features of this runtime as JSON", (), []),
    "spec": (
        "write an example config.json, or check one",
        ("bundle_dir?",),
        [
            ("bundle", "b", "str", "DIR", "the directory to write to (default: the current one)"),
            ("rootless", "", "flag", "", "write one for an ordinary user (the default for such a user)"),
            ("validate", "", "flag", "", "check an existing config.json and print all errors"),
            *(option for option in SETTINGS if option[0] != "ephemeral"),
        ],
    ),
    "pause": ("freeze all processes of a container", ("container_id",), []),
    "resume": ("thaw the processes of a paused container", ("container_id",), []),
    "ps": (
        "show a container's processes, with the options of ps(1)",
        ("container_id", "args*"),
        [_FORMAT, _JSON],
    ),
    "update": (
        "change a container's limits",
        ("container_id",),
        [
            ("resources", "r", "str", "FILE", "read linux.resources as JSON from FILE, - for standard input"),
            ("memory", "m", "str", "SIZE", "memory limit, such as 512m; -1 for none"),
            ("memory-reservation", "", "str", "SIZE", "memory that the kernel protects from reclaim"),
            ("memory-swap", "", "str", "SIZE", "limit of memory plus swap; -1 for none"),
            ("kernel-memory", "", "str", "SIZE", "ignored; cgroup v2 does not have it"),
            ("kernel-memory-tcp", "", "str", "SIZE", "ignored; cgroup v2 does not have it"),
            ("cpu-share", "", "str", "N", "CPU weight relative to other cgroups, 2 to 262144 (usually 1024)"),
            ("cpu-quota", "", "str", "USEC", "CPU time in each period, in microseconds; -1 for no limit"),
            ("cpu-period", "", "str", "USEC", "length of the CPU period, in microseconds"),
            ("cpu-burst", "", "str", "USEC", "unused CPU time that may be used later, in microseconds"),
            ("cpu-idle", "", "str", "0|1", "1: run only when no other process wants the CPU"),
            ("cpu-rt-period", "", "str", "USEC", "refused; cgroup v2 does not have it"),
            ("cpu-rt-runtime", "", "str", "USEC", "refused; cgroup v2 does not have it"),
            ("cpuset-cpus", "", "str", "LIST", "allowed CPUs, such as 0-3,7"),
            ("cpuset-mems", "", "str", "LIST", "allowed memory nodes"),
            ("blkio-weight", "", "str", "N", "block I/O weight, 10 to 1000"),
            ("pids-limit", "", "str", "N", "limit of processes and threads; -1 for none"),
            ("l3-cache-schema", "", "str", "SCHEMA", "set the Intel RDT schema of the L3 cache"),
            ("mem-bw-schema", "", "str", "SCHEMA", "set the Intel RDT schema of the memory bandwidth"),
        ],
    ),
    "events": (
        "print a container's resource statistics and OOM kills as JSON",
        ("container_id",),
        [
            ("stats", "", "flag", "", "print the statistics once and exit"),
            ("interval", "", "str", "DURATION", "time between two prints (default: 5s)"),
        ],
    ),
    "convert": (
        "convert an image archive to a bundle",
        ("image",),
        [
            *_TREE,
            *_PICK,
            ("list", "l", "flag", "", "list the images of the archive"),
            ("json", "", "flag", "", "with --list, print JSON"),
        ],
    ),
    "import": (
        "convert a tar of a root file system to a bundle",
        ("image",),
        [
            *_TREE,
            ("arg", "", "list", "ARG", "a word of the command: first the program, then its arguments"),
            _CHANGE,
        ],
    ),
    "cache": (
        "fill, list or prune the store of unpacked images and layers",
        ("action", "image?"),
        [
            ("tag", "t", "str", "NAME:TAG", "with add, choose an image of the archive"),
            ("platform", "", "str", "OS/ARCH", "with add, choose a platform of the image"),
            ("json", "", "flag", "", "print JSON"),
            ("max-size", "", "str", "SIZE", "with prune, keep the last used layers up to SIZE (default: keep none)"),
        ],
    ),
    "inspect": (
        "show an image's config, history and layers",
        ("image",),
        [
            *_PICK,
            ("json", "", "flag", "", "print JSON"),
        ],
    ),
    "pack": (
        "pack a bundle into an image archive, with its changes as one new layer",
        ("bundle_dir",),
        [
            ("output", "o", "str", "IMAGE.tar", "the archive to write (default: BUNDLE-packed.tar)"),
            ("format", "", "str", "oci|docker|docker-legacy", "format of the archive"),
            ("tag", "t", "str", "NAME:TAG", "name of the image"),
            ("base", "", "str", "IMAGE", "the archive that the bundle was converted from"),
            ("flatten", "", "flag", "", "write a single layer with all files"),
            ("force", "", "flag", "", "replace an existing archive"),
            _CHANGE,
            ("message", "m", "str", "TEXT", "comment of the new layer"),
            ("quiet", "q", "flag", "", "print no notes"),
        ],
    ),
    "remove": (
        "delete a bundle, including files owned by subordinate IDs",
        ("bundle",),
        [("force", "f", "flag", "", "delete the containers that run in it first")],
    ),
    "unshare": (
        "run a command as root in a user namespace with the user's subordinate IDs",
        ("args*",),
        [option for option in SETTINGS if option[0].endswith("root-emulation")],
    ),
    "speedup": (
        "let this program start without a shell: change the first line of its installed script",
        (),
        [
            ("undo", "", "flag", "", "give the script the first line that it was installed with"),
            ("dry-run", "", "flag", "", "say what would change, and change nothing"),
        ],
    ),
    "completion": ("print the completion script for bash, zsh or fish", ("shell?", "words*"), []),
    "help": ("print the help of a command", ("topic?",), []),
}  # fmt: skip
MODULES = {"import": "import_", "list": "list_"}
# Commands that read no flag after their first word: all words of `unshare`, and all after the ID of `exec` and `ps`,
# belong to the program. The other commands accept their flags after the ID, too.
VERBATIM = ("exec", "unshare", "ps")
# Positionals that cannot be empty, and what they are for people.
_PATHS = {
    "subject": "bundle or image",
    "image": "image",
    "bundle": "bundle",
    "bundle_dir": "bundle",
    "source": "source",
    "target": "target",
}
_HELP: Option = ("help", "h", "flag", "", "print this help and exit")


class Options:
    """Hold the parsed flags and positionals as attributes, named after the long name with underscores."""

    command: str
    root: str
    container_id: str
    args: list[str]
    bundle: str
    regex: bool
    help: bool  # True for --help; then nothing after that flag was read
    dashes: bool  # True if a `--` stood before the command's first word
    given: set[str]  # the attributes that a flag has set
    ephemeral: str
    unpacked: Any = None  # the image of `run IMAGE`, once it is in the cache (cli/archive.py)

    def __init__(self, command: str) -> None:
        self.command = command

    if TYPE_CHECKING:  # the other attributes are the options and arguments of the command's table

        def __getattr__(self, name: str) -> Any: ...


class UsageError(RootlessError):
    """Report that a command line cannot be parsed; rootless/cli/help.py adds the hint.

    command: the command whose words are wrong, "" for the global flags; wrong: the unknown word, "" if all are known.
    """

    def __init__(self, what: str, command: str = "", wrong: str = "", hint: str = "") -> None:
        super().__init__(what, hint=hint)
        self.command = command
        self.wrong = wrong


def parse(argv: list[str]) -> Options:
    """Parse a command line. After --help nothing is read, and only `help` is set. Raises UsageError."""
    options, rest = parse_global(argv)
    if options.help or not rest:
        return options
    name = rest.pop(0)
    _, positionals, table = HOT[name] if name in HOT else _find_command(name)
    options.command = name
    program = positionals[-1:] == ("args*",)
    words = _read_flags(options, table, rest, verbatim=name in VERBATIM, program=program)
    if options.help:
        return options
    if program and name in VERBATIM and len(positionals) > 1 and words[1:2] == ["--"]:
        del words[1]  # directly after the ID
    elif name in ("run", "explain") and options.dashes:
        words.insert(0, "")  # cli/commands/run.py decides whether the first word is an ID
    for positional in positionals:
        key = positional.rstrip("?*")
        if positional.endswith("*"):
            setattr(options, key, words)
            words = []
        elif words:
            if not words[0] and key in _PATHS and not options.dashes:  # such as an unset variable of a script
                raise UsageError(f"{name}: the {_PATHS[key]} is an empty word", name)
            setattr(options, key, words.pop(0))
        elif positional.endswith("?"):
            setattr(options, key, "")
        else:
            raise UsageError(f"{name}: {key.replace('_', ' ')} is missing", name)
    if words:
        has_output = any(option[0] == "output" for option in table)
        hint = f"rootless {name} {getattr(options, key)} --output {words[0]}" if has_output else ""
        raise UsageError(f"{name}: unexpected argument {printable(repr(words[0]))}", name, hint=hint)
    return options


def _find_command(name: str) -> Command:
    """Return a command that is not hot. Only this function reads COMMANDS, so hot commands do not load it."""
    if name not in COMMANDS:
        raise UsageError(f"no such command: {printable(repr(name))}", wrong=name)
    return COMMANDS[name]


def parse_global(argv: list[str]) -> tuple[Options, list[str]]:
    """Parse the flags before the command; return the options and the words after them. Raises UsageError."""
    options = Options("")
    return options, _read_flags(options, GLOBAL, argv, verbatim=True, program=False)


def _read_flags(options: Options, table: list[Option], argv: list[str], *, verbatim: bool, program: bool) -> list[str]:
    """Set the flags as attributes of `options`; return the other words in their order. Raises UsageError.

    verbatim: stop at the first word that is not a flag. program: stop at the second such word, because it and all that
    follow belong to the program: `run ID ls -d` does not detach. After --host that is the first word. A `--` ends the
    flags and is dropped; options.dashes says whether it stood before the first word.
    """
    by_name = _set_defaults(options, table)
    options.help = options.dashes = False
    options.given = set()
    words: list[str] = []
    signals: list[str] = []
    position = 0
    while position < len(argv):
        word = argv[position]
        position += 1
        if word == "--":
            options.dashes = not words
            return words + argv[position:]
        if word[:1] != "-" or word == "-":
            words.append(word)
            if verbatim or (program and (len(words) > 1 or (options.command == "run" and options.host))):
                return words + argv[position:]
            continue
        name, equals, value = word.partition("=")
        matching = by_name.get(name)
        if matching is None:
            together = [by_name.get(f"-{letter}") for letter in name[1:]]
            if not equals and all(each is not None and each[2] == "flag" for each in together):  # -it, as with docker
                argv = [*argv[:position], *(f"-{letter}" for letter in name[1:]), *argv[position:]]
                continue
            # kill -9, as kill(1); a value follows docker's -s, and no signal is called S.
            if options.command == "kill" and not equals and len(name) > 1 and name[1:].isalnum() and name != "-s":
                signals.append(name[1:])
                continue
            raise UsageError(f"flag provided but not defined: {printable(name)}", options.command, name)
        if matching is _HELP:
            options.help = True
            return []
        if not equals and matching[2] not in ("flag", "maybe"):
            if position >= len(argv):
                hint = " ".join(filter(None, ("rootless", options.command, f"--{matching[0]}", matching[3])))
                raise UsageError(f"flag needs an argument: {name}", options.command, hint=hint)
            value = argv[position]
            position += 1
        _set(options, matching, value, bool(equals))
    return words + signals


def _set_defaults(options: Options, table: list[Option]) -> dict[str, Option]:
    """Set the flags of a table to what they are if they are not given; return the flags by their names with dashes."""
    by_name: dict[str, Option] = {"--help": _HELP, "-help": _HELP, "-h": _HELP}
    for option in table:
        # One dash serves, too, because runc's flags (Go's package flag) accept it.
        by_name["--" + option[0]] = by_name["-" + option[0]] = option
        if option[1]:
            by_name["-" + option[1]] = option
        setattr(options, option[0].replace("-", "_"), _DEFAULTS[option[2]])
    return by_name


_DIGITS = 18  # of a number in 64 bits; int() refuses more than 4300
_DEFAULTS: dict[str, Any] = {"flag": False, "str": "", "int": 0, "list": None, "maybe": ""}


def _set(options: Options, option: Option, value: str, given: bool) -> None:
    """Set one flag. given: whether the value came with a "=". Raises UsageError for a value of the wrong kind."""
    key, kind = option[0].replace("-", "_"), option[2]
    options.given.add(key)
    if kind == "flag":
        if given and value.lower() not in ("true", "false", "1", "0", "t", "f"):
            what = f"invalid boolean value {printable(repr(value))} for --{option[0]}"
            raise UsageError(what, options.command, hint="true or false")
        setattr(options, key, not given or value.lower() in ("true", "1", "t"))
    elif kind == "int":
        if not value.isascii() or not value.isdigit() or len(value) > _DIGITS:
            shown = printable(repr(value[:40]))
            what = f"invalid value {shown} for --{option[0]}: a number of at most {_DIGITS} digits is needed"
            raise UsageError(what, options.command)
        setattr(options, key, int(value))
    elif kind == "maybe":
        setattr(options, key, value if given else "true")
    elif kind == "list":
        setattr(options, key, [*(getattr(options, key) or []), value])
    else:
        setattr(options, key, value)
