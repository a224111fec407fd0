"""THE table of commands and flags: the parser here, click's help, completion and the man pages all read it."""

from __future__ import annotations

from rootless.errors import RootlessError, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# (long name, short name, kind, metavar, help). kind: flag, str, int, list, hidden flag/str (accepted, no effect).
Option = tuple[str, str, str, str, str]

GLOBAL: list[Option] = [
    ("root", "", "str", "DIR", "where the containers' states are kept"),
    ("log", "", "str", "FILE", "append the log to FILE; only errors go to standard error as well"),
    ("log-format", "", "str", "text|json", "how log lines look"),
    ("log-level", "", "str", "trace|debug|info|warning|error", "debug is the same as --debug"),
    ("debug", "", "flag", "", "say what is done"),
    ("systemd-cgroup", "", "flag", "", "let systemd make the cgroup (a scope)"),
    ("cgroup-manager", "", "str", "cgroupfs|systemd|disabled", "who makes the cgroup"),
    ("rootless", "", "str", "true|false|auto", "accepted for compatibility: what is needed is found out"),
    ("criu", "", "str", "PATH", "the criu to use (default: the one in PATH)"),
    ("version", "v", "flag", "", "print the version"),
]
# What several commands have.
_CONSOLE_SOCKET: Option = ("console-socket", "", "str", "PATH", "send the terminal's master to this Unix socket")
_DETACH: Option = ("detach", "d", "flag", "", "leave it running, with these standard streams, and return")
_PID_FILE: Option = ("pid-file", "", "str", "FILE", "write the container's process id to FILE")
_PRESERVE_FDS: Option = ("preserve-fds", "", "int", "N", "pass N more file descriptors, from 3 on")
_NO_SUBREAPER: Option = ("no-subreaper", "", "flag", "", "do not adopt orphans of the container")
_REGEX: Option = ("regex", "", "flag", "", "the id is a regular expression")
_CHANGE: Option = ("change", "c", "list", "INSTRUCTION", "CMD, ENTRYPOINT, ENV, USER, WORKDIR, LABEL, ...")
_PICK: list[Option] = [
    ("tag", "t", "str", "NAME:TAG", "which image of the archive"),
    ("platform", "", "str", "OS/ARCH", "which platform of the image"),
]
_CREATE: list[Option] = [
    ("bundle", "b", "str", "DIR", "the bundle: a directory with config.json (default: here)"),
    ("config", "f", "str", "FILE", "read this instead of the bundle's config.json"),
    _CONSOLE_SOCKET,
    ("pidfd-socket", "", "str", "PATH", "send a pidfd of the container to this Unix socket"),
    _PID_FILE,
    ("no-pivot", "", "flag", "", "MS_MOVE instead of pivot_root (for a rootfs on the initramfs)"),
    ("no-new-keyring", "", "flag", "", "keep the caller's session keyring"),
    _PRESERVE_FDS,
    ("dry-run", "", "flag", "", "print the plan, change nothing"),
]
_CRIU: list[Option] = [
    ("image-path", "", "str", "DIR", "where the images are (default: checkpoint)"),
    ("work-path", "", "str", "DIR", "where criu works and logs (default: --image-path)"),
    ("tcp-established", "", "flag", "", "with open TCP connections"),
    ("ext-unix-sk", "", "flag", "", "with Unix sockets that lead outside"),
    ("shell-job", "", "flag", "", "with a terminal from outside"),
    ("file-locks", "", "flag", "", "with file locks"),
    ("manage-cgroups-mode", "", "str", "soft|full|strict|ignore", "what criu does about cgroups"),
    ("empty-ns", "", "list", "network", "leave what is in that namespace out"),
    ("auto-dedup", "", "flag", "", "drop memory from older images"),
    ("lazy-pages", "", "flag", "", "move memory when it is needed"),
]
_FORMAT: Option = ("format", "f", "str", "table|json", "how to print")
_TREE: list[Option] = [
    ("output", "o", "str", "BUNDLE", "the bundle to make"),
    ("owners", "", "str", "map|xattr|squash|strict", "how file owners are kept"),
    ("force", "", "flag", "", "replace an existing bundle"),
    ("tty", "", "flag", "", "write terminal: true"),
    ("quiet", "q", "flag", "", "no progress, no notes"),
    ("max-size", "", "str", "SIZE", "refuse more unpacked data than this (default: 64g)"),
    ("max-files", "", "int", "N", "refuse more members than this (default: 4,000,000)"),
    ("volumes", "", "str", "tmpfs|bind", "mount the image's Volumes"),
    ("cache", "", "flag", "", "keep and reuse unpacked layers"),
]

# name: (what it does, positionals, options). A positional ends in "?" if it may be missing, in "*" for all the rest.
COMMANDS: dict[str, tuple[str, tuple[str, ...], list[Option]]] = {
    "create": ("create a container from a bundle", ("container_id?",), _CREATE),
    "start": ("run the program of a created container", ("container_id",), []),
    "run": (
        "create, start and wait for a container, then delete it",
        ("container_id?", "args*"),
        [
            *_CREATE,
            _DETACH,
            ("keep", "", "flag", "", "do not delete it when it ends"),
            _NO_SUBREAPER,
            ("tty", "t", "flag", "", "give it a terminal, whatever config.json says"),
        ],
    ),
    "checkpoint": (
        "write a running container to files, and end it (with criu, as root)",
        ("container_id",),
        [
            *_CRIU,
            ("parent-path", "", "str", "DIR", "the images of an earlier --pre-dump, relative to --image-path"),
            ("leave-running", "", "flag", "", "do not end it"),
            ("tcp-skip-in-flight", "", "flag", "", "leave out connections that are being made"),
            ("link-remap", "", "flag", "", "link files that were unlinked"),
            ("status-fd", "", "str", "FD", "write a 0 byte there when the lazy pages can be served"),
            ("page-server", "", "str", "ADDRESS:PORT", "send the memory there"),
            ("pre-dump", "", "flag", "", "only the memory, it goes on"),
        ],
    ),
    "restore": (
        "make a container of the files that checkpoint wrote (with criu, as root)",
        ("container_id",),
        [
            *_CRIU,
            ("bundle", "b", "str", "DIR", "the bundle (default: here)"),
            _CONSOLE_SOCKET,
            _PID_FILE,
            _DETACH,
            _NO_SUBREAPER,
            ("no-pivot", "", "flag", "", "accepted: criu makes the mounts"),
            ("lsm-profile", "", "str", "TYPE:NAME", "another profile of AppArmor or SELinux"),
            ("lsm-mount-context", "", "str", "CONTEXT", "another SELinux context for the mounts"),
        ],
    ),
    "state": ("print a container's state as JSON", ("container_id",), []),
    "kill": (
        "send a signal to a container",
        ("container_id", "signal?"),
        [
            ("all", "a", "flag", "", "to every process in it"),
            _REGEX,
        ],
    ),
    "delete": (
        "delete a stopped container and all that it used",
        ("container_id",),
        [
            ("force", "f", "flag", "", "kill it first if it runs; a missing one is fine"),
            _REGEX,
        ],
    ),
    "exec": (
        "run one more program in a container",
        ("container_id", "args*"),
        [
            ("process", "p", "str", "FILE", "process.json: the whole process, instead of a command line"),
            _DETACH,
            ("pid-file", "", "str", "FILE", "write the process id to FILE"),
            ("tty", "t", "flag", "", "give it a terminal"),
            _CONSOLE_SOCKET,
            ("pidfd-socket", "", "str", "PATH", "send a pidfd of the process to this Unix socket"),
            ("cwd", "", "str", "DIR", "its working directory"),
            ("env", "e", "list", "NAME=VALUE", "add to its environment"),
            ("user", "u", "str", "UID[:GID]", "whose process it is, by numbers"),
            ("additional-gids", "g", "list", "GID", "a supplementary group"),
            ("cap", "c", "list", "CAP", "a capability more"),
            ("no-new-privs", "", "flag", "", "no privileges by set-user-ID programs"),
            ("apparmor", "", "str", "PROFILE", "its AppArmor profile"),
            ("process-label", "", "str", "LABEL", "its SELinux label"),
            _PRESERVE_FDS,
            ("cgroup", "", "str", "PATH", "a cgroup below the container's"),
            ("ignore-paused", "", "flag", "", "also in a paused container, to run when it is resumed"),
        ],
    ),
    "list": ("list the containers", (), [_FORMAT, ("quiet", "q", "flag", "", "ids only")]),
    "features": ("print what this runtime can do, as JSON", (), []),
    "spec": (
        "write a config.json to start from",
        ("bundle_dir?",),
        [
            ("bundle", "b", "str", "DIR", "where to write it (default: here)"),
            ("rootless", "", "flag", "", "for an ordinary user (implied for one)"),
            ("validate", "", "flag", "", "check an existing config.json, say all that is wrong"),
        ],
    ),
    "pause": ("stop all processes of a container where they are", ("container_id",), []),
    "resume": ("let the processes of a paused container go on", ("container_id",), []),
    "ps": (
        "show a container's processes, with ps's own options",
        ("container_id", "args*"),
        [_FORMAT],
    ),
    "update": (
        "change a container's limits",
        ("container_id",),
        [
            ("resources", "r", "str", "FILE", "linux.resources as JSON, - for standard input"),
            ("memory", "", "str", "SIZE", "memory limit (512m), -1 for none"),
            ("memory-reservation", "", "str", "SIZE", "memory that is spared from reclaim"),
            ("memory-swap", "", "str", "SIZE", "limit of memory plus swap, -1 for none"),
            ("kernel-memory", "", "str", "SIZE", "accepted for compatibility: cgroup v2 has none"),
            ("kernel-memory-tcp", "", "str", "SIZE", "accepted for compatibility: cgroup v2 has none"),
            ("cpu-share", "", "str", "N", "weight among others, 2 to 262144 (1024 is usual)"),
            ("cpu-quota", "", "str", "USEC", "CPU time in each period, -1 for no limit"),
            ("cpu-period", "", "str", "USEC", "length of a period"),
            ("cpu-burst", "", "str", "USEC", "CPU time that may be saved up"),
            ("cpu-idle", "", "str", "0|1", "1: run only when nobody else wants to"),
            ("cpu-rt-period", "", "str", "USEC", "refused: cgroup v2 has none"),
            ("cpu-rt-runtime", "", "str", "USEC", "refused: cgroup v2 has none"),
            ("cpuset-cpus", "", "str", "LIST", "the CPUs to use, such as 0-3,7"),
            ("cpuset-mems", "", "str", "LIST", "the memory nodes to use"),
            ("blkio-weight", "", "str", "N", "weight of block IO, 10 to 1000"),
            ("pids-limit", "", "str", "N", "limit of processes and threads, -1 for none"),
            ("l3-cache-schema", "", "str", "SCHEMA", "Intel RDT: refused while the container lives"),
            ("mem-bw-schema", "", "str", "SCHEMA", "Intel RDT: refused while the container lives"),
        ],
    ),
    "events": (
        "print a container's figures and OOM kills as JSON",
        ("container_id",),
        [
            ("stats", "", "flag", "", "once, then end"),
            ("interval", "", "str", "DURATION", "how often (default: 5s)"),
        ],
    ),
    "convert": (
        "make a bundle of an image archive",
        ("image",),
        [
            *_TREE,
            *_PICK,
            ("list", "l", "flag", "", "say what the archive holds"),
            ("json", "", "flag", "", "with --list: as JSON"),
        ],
    ),
    "import": (
        "make a bundle of a root file system tar",
        ("image",),
        [
            *_TREE,
            ("arg", "", "list", "ARG", "the program and its arguments, one each time"),
            _CHANGE,
        ],
    ),
    "cache": (
        "list or empty the store of unpacked layers",
        ("action",),
        [
            ("json", "", "flag", "", "with ls: as JSON"),
            ("max-size", "", "str", "SIZE", "with prune: keep this much (default: nothing)"),
        ],
    ),
    "inspect": (
        "show an image's config, history and layers",
        ("image",),
        [
            *_PICK,
            ("json", "", "flag", "", "as JSON"),
        ],
    ),
    "pack": (
        "make an image archive of a bundle, its changes as one new layer",
        ("bundle_dir",),
        [
            ("output", "o", "str", "IMAGE.tar", "the archive to write (default: BUNDLE-packed.tar)"),
            ("format", "", "str", "oci|docker|docker-legacy", "what kind of archive"),
            ("tag", "t", "str", "NAME:TAG", "the image's name"),
            ("base", "", "str", "IMAGE", "the archive that the bundle was made of"),
            ("flatten", "", "flag", "", "one layer with everything"),
            ("force", "", "flag", "", "replace an existing archive"),
            _CHANGE,
            ("message", "m", "str", "TEXT", "the comment of the new layer"),
            ("quiet", "q", "flag", "", "no notes"),
        ],
    ),
    "remove": (
        "take a bundle away, files of subordinate ids included",
        ("bundle",),
        [("force", "f", "flag", "", "end the containers that run in it first")],
    ),
    "unshare": ("run a command as root of the user's id map", ("args*",), []),
    "completion": ("print the script with which bash, zsh or fish completes commands", ("shell?", "words*"), []),
    "help": ("show the help of a command", ("topic?",), []),
}  # fmt: skip
MODULES = {"import": "import_", "list": "list_"}
# From the first word on no flag is ours: the program of `unshare`, and what follows the id of `exec` and `ps`. Behind
# the id of another command, its flags may stand.
VERBATIM = ("exec", "unshare", "ps")
_HELP: Option = ("help", "h", "flag", "", "show this and end")


class Options:
    """Parsed flags and positionals as attributes, named after the long name with underscores."""

    command: str
    root: str
    container_id: str
    args: list[str]
    bundle: str
    regex: bool
    help: bool  # asked for with --help: nothing after it was read
    dashes: bool  # a `--` stood before the command's first word

    def __init__(self, command: str) -> None:
        self.command = command

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)


class UsageError(RootlessError):
    """A command line that cannot be read; `rootless/cli/help.py` words what was meant.

    command: the one that it is about, "" for none; wrong: the word that is not known, "" where something else is wrong.
    """

    def __init__(self, what: str, command: str = "", wrong: str = "", hint: str = "") -> None:
        super().__init__(what, hint=hint)
        self.command = command
        self.wrong = wrong


def parse(argv: list[str]) -> Options:
    """Read a command line. Where `help` is set, nothing after that flag is read. Raises UsageError."""
    options, rest = parse_global(argv)
    if options.help or not rest:
        return options
    name = rest.pop(0)
    if name not in COMMANDS:
        raise UsageError(f"no such command: {printable(repr(name))}", wrong=name)
    options.command = name
    _, positionals, table = COMMANDS[name]
    program = positionals[-1:] == ("args*",)
    words = _read_flags(options, table, rest, verbatim=name in VERBATIM, program=program)
    if options.help:
        return options
    if program and name in VERBATIM and len(positionals) > 1 and words[1:2] == ["--"]:
        del words[1]  # directly behind the id
    elif name == "run" and options.dashes:
        words.insert(0, "")  # commands/run.py finds out whether the first word is an id
    for positional in positionals:
        key = positional.rstrip("?*")
        if positional.endswith("*"):
            setattr(options, key, words)
            words = []
        elif words:
            setattr(options, key, words.pop(0))
        elif positional.endswith("?"):
            setattr(options, key, "")
        else:
            raise UsageError(f"{name}: {key.replace('_', ' ')} is missing", name)
    if words:
        raise UsageError(f"{name}: unexpected argument {printable(repr(words[0]))}", name)
    return options


def parse_global(argv: list[str]) -> tuple[Options, list[str]]:
    """Read the flags before the command; what is left. Raises UsageError."""
    options = Options("")
    return options, _read_flags(options, GLOBAL, argv, verbatim=True, program=False)


def _read_flags(options: Options, table: list[Option], argv: list[str], *, verbatim: bool, program: bool) -> list[str]:
    """Set the flags as attributes; what is left, in order.

    `verbatim`: all from the first word on is left. `program`: flags may stand behind the first word too, but end at the
    next one: that and the rest are the program's, so that `run ID ls -d` does not detach. A `--` ends the flags and is
    dropped; `options.dashes` tells of one before any word.
    """
    by_name: dict[str, Option] = {"--help": _HELP, "-help": _HELP, "-h": _HELP}
    for option in table:
        by_name["--" + option[0]] = by_name["-" + option[0]] = option  # Go's flags take one dash too
        if option[1]:
            by_name["-" + option[1]] = option
        setattr(options, option[0].replace("-", "_"), _DEFAULTS[option[2]])
    options.help = options.dashes = False
    words: list[str] = []
    position = 0
    while position < len(argv):
        word = argv[position]
        position += 1
        if word == "--":
            options.dashes = not words
            return words + argv[position:]
        if word[:1] != "-" or word == "-":
            words.append(word)
            if verbatim or (program and len(words) > 1):
                return words + argv[position:]
            continue
        name, equals, value = word.partition("=")
        found = by_name.get(name)
        if found is None:
            raise UsageError(f"flag provided but not defined: {printable(name)}", options.command, name)
        if found is _HELP:
            options.help = True
            return []
        if found[2] != "flag" and not equals:
            if position >= len(argv):
                hint = " ".join(filter(None, ("rootless", options.command, f"--{found[0]}", found[3])))
                raise UsageError(f"flag needs an argument: {name}", options.command, hint=hint)
            value = argv[position]
            position += 1
        _set(options, found, value, bool(equals))
    return words


_DEFAULTS: dict[str, Any] = {"flag": False, "str": "", "int": 0, "list": None}


def _set(options: Options, option: Option, value: str, given: bool) -> None:
    key, kind = option[0].replace("-", "_"), option[2]
    if kind == "flag":
        if given and value.lower() not in ("true", "false", "1", "0", "t", "f"):
            what = f"invalid boolean value {printable(repr(value))} for --{option[0]}"
            raise UsageError(what, options.command, hint="true or false")
        setattr(options, key, not given or value.lower() in ("true", "1", "t"))
    elif kind == "int":
        if not value.isascii() or not value.isdigit():
            what = f"invalid value {printable(repr(value))} for --{option[0]}: a number is needed"
            raise UsageError(what, options.command)
        setattr(options, key, int(value))
    elif kind == "list":
        setattr(options, key, [*(getattr(options, key) or []), value])
    else:
        setattr(options, key, value)
