"""Hold what the help says beside the table of options: groups of commands, examples, and where the pages are."""

from __future__ import annotations

# title: the commands. People's come first, then runc's lifecycle, then plumbing.
COMMAND_GROUPS: dict[str, tuple[str, ...]] = {
    "Run programs": ("run", "exec", "list", "stop", "wait", "ps", "cp"),
    "Images and bundles": ("convert", "import", "inspect", "pack", "spec", "remove", "cache"),
    "Understand": ("doctor", "explain", "help"),
    "Lifecycle, as runc has it": (
        "create", "start", "state", "kill", "delete", "pause", "resume", "update", "events", "checkpoint", "restore",
    ),
    "Plumbing": ("features", "unshare", "completion", "speedup"),
}  # fmt: skip

# command, "" for the program itself: command lines with what they do.
EXAMPLES: dict[str, tuple[tuple[str, str], ...]] = {
    "": (
        ("rootless run image.tar", "an image's program"),
        ("rootless run -v ./src:/src -w /src image.tar make", "another program, on your files"),
        ("rootless run --host -- ls /", "the host's own system, read-only"),
        ("rootless run -d --log-file log --name web image.tar", "in the background, output in log"),
        ("rootless convert image.tar -o box && rootless run ./box", "make a bundle to keep, and run it"),
        ("rootless doctor", "what does not work here, and the cure"),
    ),
    "run": (
        ("rootless run image.tar", "the image's own program"),
        ("rootless run ./box sh -c 'id; ls'", "a bundle, with another program"),
        ("rootless run -v ./data:/data:ro -m 512m --cpus 2 image.tar", "with a volume and limits"),
        ("rootless run -d --name web image.tar", "in the background"),
        ("rootless run --host -- ls /", "no image: the host's, read-only"),
    ),
    "exec": (
        ("rootless exec -t web sh", "a shell in a running container"),
        ("rootless exec -u 1000 -e LANG=C web env", "as another user, with a variable"),
    ),
    "list": (("rootless list", "all containers"), ("rootless list --format json", "for programs")),
    "stop": (("rootless stop web", "TERM, and after 10 s KILL"), ("rootless stop --time 1m web", "with more patience")),
    "wait": (("rootless wait web", "print its exit code when it has ended"),),
    "cp": (
        ("rootless cp web:/etc/hosts .", "out of the container"),
        ("rootless cp ./conf web:/etc", "into it"),
    ),
    "ps": (("rootless ps web", "its processes"), ("rootless ps web aux", "with options of ps(1)")),
    "convert": (
        ("rootless convert image.tar -o box", "make the bundle box"),
        ("rootless convert --list image.tar", "what the archive holds"),
        ("skopeo copy docker://alpine docker-archive:alpine.tar:alpine", "where archives come from: nothing is pulled"),
    ),
    "import": (("rootless import rootfs.tar -o box --arg /bin/sh", "a bundle of a plain root file system"),),
    "inspect": (("rootless inspect image.tar", "config, history and layers"),),
    "pack": (("rootless pack box -o new.tar --tag app:2", "the changes of a bundle as one more layer"),),
    "spec": (
        ("rootless spec --bundle box", "an example config.json"),
        ("rootless spec --validate box", "all errors of an existing one"),
    ),
    "remove": (("rootless remove box", "a bundle with files of subordinate ids"),),
    "cache": (
        ("rootless cache ls", "what is kept"),
        ("rootless cache prune --max-size 5g", "the last used 5 GiB stay"),
    ),
    "doctor": (
        ("rootless doctor", "this machine"),
        ("rootless doctor ./box", "and this bundle"),
        ("rootless doctor --clean", "list and remove what is left"),
    ),
    "explain": (("rootless explain ./box", "the plan as a story"), ("rootless explain --trace ./box", "and run it")),
    "create": (("rootless create -b box web && rootless start web", "the two halves of run -d"),),
    "start": (("rootless start web", "run the program of a created container"),),
    "state": (("rootless state web", "its state as JSON"),),
    "kill": (("rootless kill web", "TERM"), ("rootless kill web -9", "KILL")),
    "delete": (("rootless delete --force web", "end it and remove all of it"),),
    "pause": (("rootless pause web", "until rootless resume web"),),
    "resume": (("rootless resume web", "after rootless pause web"),),
    "update": (("rootless update --memory 1g --pids-limit 200 web", "other limits while it runs"),),
    "events": (("rootless events --stats web", "the statistics once"),),
    "checkpoint": (("rootless checkpoint --image-path /var/tmp/web web", "as root, with criu"),),
    "restore": (("rootless restore --image-path /var/tmp/web -b box web", "as root, with criu"),),
    "features": (("rootless features", "what this runtime can do, as JSON"),),
    "unshare": (("rootless unshare ls -ln box/rootfs", "see files as the container's root"),),
    "completion": (("rootless completion bash >~/.local/share/bash-completion/completions/rootless", "for bash"),),
    "speedup": (
        ("rootless speedup", "a millisecond less for each command"),
        ("rootless speedup --undo", "as pip has installed it"),
    ),
    "help": (("rootless help run", "the same as rootless run --help"),),
}

# What follows the command's name in its usage line, where the names in the table of options say too little.
OPERANDS = {
    "run": "[OPTIONS] [ID|BUNDLE|IMAGE.tar|-] [CMD [ARG]...]",
    "explain": "[OPTIONS] [BUNDLE|ARCHIVE] [CMD [ARG]...]",
    "exec": "[OPTIONS] ID CMD [ARG]...",
    "create": "[OPTIONS] ID|BUNDLE",
    "cp": "[OPTIONS] SOURCE|ID:PATH TARGET|ID:PATH",
    "kill": "[OPTIONS] ID [SIGNAL]",
    "stop": "[OPTIONS] ID...",
    "wait": "ID...",
    "ps": "[OPTIONS] ID [PS-OPTION]...",
    "unshare": "[OPTIONS] [CMD [ARG]...]",
    "cache": "[OPTIONS] add|ls|prune [IMAGE.tar]",
    "convert": "[OPTIONS] IMAGE.tar|DIRECTORY|-",
    "import": "[OPTIONS] ROOTFS.tar|-",
    "inspect": "[OPTIONS] IMAGE.tar|BUNDLE",
    "pack": "[OPTIONS] BUNDLE",
}
PAGES = "The pages are man rootless and man rootless-COMMAND, and docs/ in the source (start with docs/guide/run.md)."
