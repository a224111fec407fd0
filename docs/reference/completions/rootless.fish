# fish completion for rootless: rootless completion fish >~/.config/fish/completions/rootless.fish
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
