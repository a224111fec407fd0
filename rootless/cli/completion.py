"""Find the words that can complete a command line of bash, zsh or fish.

All comes from the option table, so a new flag completes without further work. The script of a shell
(commands/completion.py prints it) calls `rootless completion answer -- SHELL WORD...`; the last word is the one to
complete. The first line of the answer is a kind. Each further line is a word that fits, followed by a tab and its help.

The kind `words` means that the lines are all the words to offer, and `paths` that they are directories. For `files`,
`directories` and `programs` there are no further lines, and the shell looks for itself.
"""

from __future__ import annotations

import os

from oci.names import bundle_name
from rootless.cli.containers import state_root
from rootless.cli.options import COMMANDS, GLOBAL, VERBATIM, Option, Options
from rootless.kernel.caps import CAPABILITIES
from rootless.kernel.signals import SIGNALS
from rootless.runtime.state import ids

_HELP: Option = ("help", "h", "flag", "", "print this help and exit")
_KINDS = {"FILE": "files", "DIR": "directories", "PATH": "files", "BUNDLE": "directories", "IMAGE.tar": "files",
          "IMAGE": "files", "SRC:DST[:ro]": "files", "PATH[:PATH[:rwm]]": "files"}  # fmt: skip
_SECURITY = ("no-new-privileges", "seccomp=default", "seccomp=unconfined")
Answer = tuple[str, list[tuple[str, str]]]
_NOTHING: Answer = ("words", [])


class Line:
    """Hold what the words before the one to complete mean.

    command: "" if no word has named it yet; words: the command's words that are not flags; values: the flags' values;
    waiting: the flag whose value comes next; over: whether a `--` has ended the flags; program: whether all further
    words belong to the program in the container.
    """

    def __init__(self) -> None:
        self.command = ""
        self.words: list[str] = []
        self.values: dict[str, str] = {}
        self.waiting: Option | None = None
        self.over = False
        self.program = False

    def table(self) -> list[Option]:
        """Return the flags that may stand here."""
        return [*(COMMANDS[self.command][2] if self.command else GLOBAL), _HELP]

    def read(self, word: str) -> None:
        """Interpret one word, by the rules of options.parse."""
        if self.program:
            self.words.append(word)
        elif self.waiting:
            self.values[self.waiting[0]] = word
            self.waiting = None
        elif word == "--" and not self.over:
            self.over = True
            self.program = bool(self.words and self._has_program()) or self._positionals() == ("args*",)
        elif word[:1] == "-" and word != "-" and not self.over:
            self._read_flag(word)
        elif not self.command:
            self.command, self.over = word, False
        else:
            self.words.append(word)
            ends = 1 if self.command in VERBATIM or self.over or self.values.get("host") == "true" else 2
            self.program = self._has_program() and len(self.words) >= ends

    def _positionals(self) -> tuple[str, ...]:
        return COMMANDS[self.command][1] if self.command in COMMANDS else ()

    def _has_program(self) -> bool:
        return self._positionals()[-1:] == ("args*",)

    def _read_flag(self, word: str) -> None:
        name, equals, value = word.partition("=")
        for option in self.table() if not self.command or self.command in COMMANDS else []:
            if name.lstrip("-") in option[:2] and name.lstrip("-"):
                if equals:
                    self.values[option[0]] = value
                elif option[0] == "host":
                    self.values["host"] = "true"
                elif option[2] not in ("flag", "maybe"):
                    self.waiting = option


def answer(shell: str, words: list[str]) -> str:
    """Return the answer to a shell's script. bash splits `--flag=value` into three words and replaces only the last."""
    joined = ""
    if shell == "bash":
        words, joined = _join(words)
    kind, candidates = complete(words)
    lines = [kind]
    for word, text in candidates:
        if word.isprintable():
            lines.append(word.removeprefix(joined) if shell == "bash" else f"{word}\t{text}")
    return "\n".join(lines) + "\n"


def _join(words: list[str]) -> tuple[list[str], str]:
    """Return the words with `--flag`, `=` and `value` joined, and the part before the last value (`--flag=`)."""
    whole: list[str] = []
    joined = ""
    for word in words:
        if word == "=" and whole and whole[-1].startswith("-") and "=" not in whole[-1]:
            whole[-1] += word
            joined = whole[-1]
        elif joined and whole[-1] == joined:
            whole[-1] += word
        else:
            whole.append(word)
            joined = ""
    return whole, joined


def complete(words: list[str]) -> Answer:
    """Return what can complete the last of `words`, the words after `rootless`."""
    *before, current = words or [""]
    line = Line()
    for word in before:
        line.read(word)
    if line.command and line.command not in COMMANDS:
        return _NOTHING
    if line.waiting:
        return _filter(_value(line.waiting, line, current), current)
    if not line.program and not line.over and current[:1] == "-":
        return _flags(line, current)
    if not line.command:
        return _filter(("words", [(name, entry[0]) for name, entry in COMMANDS.items()]), current)
    return _filter(_positional(line, current), current)


def _filter(answer: Answer, current: str) -> Answer:
    kind, candidates = answer
    return kind, [entry for entry in candidates if entry[0].startswith(current)]


def _flags(line: Line, current: str) -> Answer:
    name, equals, value = current.partition("=")
    if equals:  # --flag=VALUE is one word
        option = next((option for option in line.table() if f"--{option[0]}" == name), None)
        if option is None or option[2] == "flag":
            return _NOTHING
        kind, candidates = _filter(_value(option, line, value), value)
        return kind, [(f"{name}={word}", text) for word, text in candidates]
    flags = [(f"--{option[0]}", option[4]) for option in line.table()]
    if not current.startswith("--"):
        flags += [(f"-{option[1]}", option[4]) for option in line.table() if option[1]]
    return _filter(("words", flags), current)


def _value(option: Option, line: Line, current: str) -> Answer:
    """Return the values of a flag: those that its metavar lists, or those of the metavar's kind."""
    name, metavar = option[0], option[3]
    if "|" in metavar:
        return "words", [(word, "") for word in metavar.split("|")]
    if metavar == "CAP":
        return "words", [(word, "") for word in CAPABILITIES]
    if name == "security-opt":
        return "words", [(word, "") for word in _SECURITY]
    if name == "bundle":
        return _bundles(current)
    return _KINDS.get(metavar, "words"), []


def _positional(line: Line, current: str) -> Answer:
    """Return what can stand at this place and is not a flag."""
    names = [name.rstrip("?*") for name in COMMANDS[line.command][1]]
    name = names[len(line.words)] if len(line.words) < len(names) else "args" if line.program else ""
    if line.values.get("host") == "true":
        return ("files" if line.words else "programs"), []
    if names[-1:] == ["others"]:
        return "words", [entry for entry in _ids(line) if entry[0] not in line.words]
    if name == "container_id":
        if line.command in ("create", "run"):  # the ID is new, so only a bundle can be completed
            return _runnable(current) if line.command == "run" else _bundles(current)
        return _NOTHING if line.command == "restore" else ("words", _ids(line))
    if name == "args":
        return ("files" if line.words else "programs", []) if line.command == "unshare" else _NOTHING
    if name == "signal":
        return "words", [(word, "") for word in SIGNALS]
    if name == "topic":
        return "words", [(command, entry[0]) for command, entry in COMMANDS.items()]
    choices = {"shell": ("bash", "zsh", "fish"), "action": ("add", "ls", "prune")}.get(name)
    if choices:
        return "words", [(word, "") for word in choices]
    if name in ("bundle", "bundle_dir"):
        return _runnable(current) if line.command == "explain" else _bundles(current)
    return "files" if name in ("image", "subject", "source", "target") else "words", []


def _ids(line: Line) -> list[tuple[str, str]]:
    """Return the containers of the state root that --root names, or of the default one."""
    options = Options("")
    options.root = os.path.expanduser(line.values.get("root", ""))
    root = state_root(options)
    return [(container_id, "") for container_id in ids(root) if os.path.isdir(f"{root}/{container_id}")]


def _bundles(current: str) -> Answer:
    """Return the bundles (directories with config.json) that `current` can become; all directories if there is none."""
    head, slash, start = current.rpartition("/")
    place = os.path.expanduser(head + slash) or "."
    try:
        with os.scandir(place) as entries:
            names = [entry.name for entry in entries if os.path.isfile(f"{entry.path}/config.json")]
    except OSError:  # it is missing or cannot be read: leave it to the shell
        return "directories", []
    bundles = [(head + slash + name, "") for name in sorted(names) if name.startswith(start)]
    bundles = [entry for entry in bundles if start or not entry[0].rpartition("/")[2].startswith(".")]
    return ("paths", bundles) if bundles else ("directories", [])


def _runnable(current: str) -> Answer:
    """Return the bundles that `current` can become, all files if it can become an archive, too."""
    kind, bundles = _bundles(current)
    head, slash, start = current.rpartition("/")
    try:
        names = os.listdir(os.path.expanduser(head + slash) or ".")
    except OSError:
        return kind, bundles
    archives = any(name.startswith(start) and bundle_name(name) != name for name in names)
    return ("files", []) if archives and (start or not bundles) else (kind, bundles)
