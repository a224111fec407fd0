"""`completion`: print the completion script of a shell, and answer what the script asks while a user types."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from rootless.cli.completion import answer
from rootless.errors import RootlessError, printable
from rootless.kernel.files import write_out

if TYPE_CHECKING:
    from rootless.cli.options import Options

# compopt fails outside of a completion, for example in a test, so its error is discarded.
_BASH = r"""# bash completion for rootless: eval "$(rootless completion bash)" in ~/.bashrc
_rootless_completion() {
    local program=${COMP_WORDS[0]/#\~/$HOME} cur=${COMP_WORDS[COMP_CWORD]} lines
    [ "$cur" = "=" ] && cur=
    COMPREPLY=()
    mapfile -t lines < <("$program" completion answer -- bash "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
    case ${lines[0]} in
        files) mapfile -t COMPREPLY < <(compgen -f -- "$cur") ;;
        directories) mapfile -t COMPREPLY < <(compgen -d -- "$cur") ;;
        programs) mapfile -t COMPREPLY < <(compgen -c -- "$cur") ;;
        *) COMPREPLY=("${lines[@]:1}") ;;
    esac
    case ${lines[0]} in files | directories | paths) compopt -o filenames 2>/dev/null ;; esac
    return 0
}
complete -F _rootless_completion rootless
"""
_ZSH = r"""#compdef rootless
# zsh completion for rootless: eval "$(rootless completion zsh)" in ~/.zshrc, after compinit
_rootless() {
    local program=${(Q)words[1]/#\~/$HOME} line
    local -a lines values
    lines=("${(@f)$($program completion answer -- zsh "${(@Q)words[2,CURRENT]}" 2>/dev/null)}")
    case $lines[1] in (files | directories) [[ $words[CURRENT] == --*=* ]] && compset -P '*=' ;; esac
    case $lines[1] in
        (files) _files ;;
        (directories) _files -/ ;;
        (programs) _command_names -e ;;
        (paths) compadd -q -S / -- "${(@)${(@)lines[2,-1]}%%$'\t'*}" ;;
        (*)
            for line in "${(@)lines[2,-1]}"; do
                values+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}")
            done
            _describe rootless values ;;
    esac
}
if [ "$funcstack[1]" = _rootless ]; then _rootless "$@"; else compdef _rootless rootless; fi
"""
_FISH = r"""# fish completion for rootless: rootless completion fish >~/.config/fish/completions/rootless.fish
function __rootless_complete
    set -l before (commandline -opc)
    set -l current (commandline -ct)
    set -l program (string replace -r '^~' $HOME -- $before[1])
    set -l lines ($program completion answer -- fish $before[2..-1] "$current" 2>/dev/null)
    set -l head (string match -r -- '^--[^=]*=' "$current")
    set -l rest (string replace -r -- '^--[^=]*=' '' "$current")
    switch "$lines[1]"
        case files
            for path in (__fish_complete_path "$rest")
                echo "$head$path"
            end
        case directories
            for path in (__fish_complete_directories "$rest")
                echo "$head$path"
            end
        case programs
            complete -C "$rest"
        case '*'
            test (count $lines) -gt 1; and printf '%s\n' $lines[2..-1]
    end
end
complete -c rootless -f -a '(__rootless_complete)'
"""
SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def main(options: Options) -> int:
    """Run `rootless completion [bash|zsh|fish]` or `rootless completion answer -- SHELL WORD...`.

    Without a name the first form prints the script for the shell in $SHELL. The scripts call the second form.
    """
    if options.shell == "answer":
        text = answer(options.words[0], options.words[1:]) if options.words else ""
    else:
        shell = options.shell or os.path.basename(os.environ.get("SHELL", ""))
        if not options.shell and shell not in SCRIPTS:
            shell = "bash"
        if shell not in SCRIPTS:
            raise RootlessError(f"no completion for the shell {printable(repr(shell))}", hint="bash, zsh or fish")
        text = SCRIPTS[shell]
    write_out(text.encode("utf-8", "surrogateescape"))
    return 0
