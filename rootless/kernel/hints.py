"""Keep the hints that error messages and `rootless doctor` share in one table, so that both say the same.

Nothing on the way of a container that works imports this module: an error asks for its hint when it happens.
"""

from __future__ import annotations

ROOT, USER = "root", "you"  # who has to type a command


class Hint:
    """Say what is wrong, and which command mends it.

    text: what follows `hint:` in an error message; command: what to type, "" if no command mends it; who: ROOT or
    USER, who has to type it.
    """

    __slots__ = ("command", "text", "who")

    def __init__(self, text: str, command: str = "", who: str = "") -> None:
        self.text = text
        self.command = command
        self.who = who


HINTS = {
    "namespace-limit": Hint(
        "the limit of {kind} namespaces is reached: sysctl user.max_{kind}_namespaces",
        "sysctl -w user.max_{kind}_namespaces=15000",
        ROOT,
    ),
    "apparmor-userns": Hint(
        "user namespaces are restricted here to programs with an AppArmor profile (sysctl "
        "kernel.apparmor_restrict_unprivileged_userns): load contrib/apparmor/rootless",
        "install -m 644 contrib/apparmor/rootless /etc/apparmor.d/ && apparmor_parser -r /etc/apparmor.d/rootless",
        ROOT,
    ),
    "old-kernel": Hint("Linux 5.12 or newer is needed"),
    "seccomp-blocks": Hint(
        "a seccomp filter blocks {call} (docker's default does): --security-opt seccomp=unconfined for the outer "
        "container"
    ),
    "covered-proc": Hint(
        "the container around this one covers files of its /proc, and the kernel then refuses a new one in a user "
        "namespace (mount_namespaces(7)); start it with --security-opt systempaths=unconfined (docker) or "
        "unmask=ALL (podman), or share the pid namespace"
    ),
    "others-bundle": Hint("convert it yourself, or remove uidMappings and gidMappings"),
    "others-ids": Hint("an administrator can add them to /etc/sub{kind}; your own id is {own}"),
    "no-such-bundle": Hint("rootless convert IMAGE.tar -o {bundle}"),
    "block-device": Hint("root mounts it on the host, and the container binds that directory"),
    "not-in-userns": Hint("root mounts it on the host, and the container binds that directory"),
    "noexec": Hint("{path} lies on a file system mounted noexec: put the bundle elsewhere"),
    "closed-directory": Hint("the directory {path} cannot be entered with the program's ids: chmod a+x {path}"),
    "id-in-use": Hint("rootless {command} -b {bundle} {id}2, rootless exec {id} CMD, or rootless delete -f {id}"),
    "id-taken": Hint("choose another ID, or rootless delete -f {id}"),
    "closed-rootfs": Hint("the program's ids may not enter the bundle's rootfs: chmod a+rx it"),
    "not-executable": Hint("the file is not executable: chmod a+x it in the bundle's rootfs"),
    "none-executable": Hint("no file of that name in PATH is executable"),
    "same-name-as-archive": Hint("--output BUNDLE names the new directory"),
    "cgroups-disabled": Hint("leave --cgroup-manager disabled out, or the limit"),
    "one-id": Hint("rootless doctor says how to get a range of ids"),
    "no-newuidmap": Hint("it comes with the package uidmap (shadow-utils)", "apt install uidmap", ROOT),
    "newuidmap-refuses": Hint(
        "it needs its set-user-ID bit or file capability (no no_new_privs, no nosuid) and a range in {file}",
        "chmod u+s {path}",
        ROOT,
    ),
    "no-subids": Hint(
        "an administrator adds one to /etc/subuid and /etc/subgid",
        "usermod --add-subuids {first}-{last} --add-subgids {first}-{last} {user}",
        ROOT,
    ),
    "no-session": Hint("log in through systemd-logind, or `loginctl enable-linger`", "loginctl enable-linger", USER),
    "cgroup-v1": Hint(
        "this host's limits belong to cgroup v1, which rootless does not use; boot it with cgroup v2 alone",
        "edit /etc/default/grub: GRUB_CMDLINE_LINUX=systemd.unified_cgroup_hierarchy=1; update-grub; reboot",
        ROOT,
    ),
    "no-cgroup": Hint("no cgroup v2 is mounted at /sys/fs/cgroup", "mount -t cgroup2 none /sys/fs/cgroup", ROOT),
    "no-own-cgroup": Hint(
        "run it in a delegated cgroup, such as `systemd-run --user --scope -p Delegate=yes`, "
        "or use --cgroup-manager systemd with a user session",
        "systemd-run --user --scope -p Delegate=yes COMMAND",
        USER,
    ),
    "no-controller": Hint(
        "root has to delegate it: Delegate=... {controller} in /etc/systemd/system/user@.service.d/delegate.conf, "
        "or run in a cgroup that has it",
        "mkdir -p /etc/systemd/system/user@.service.d; printf '[Service]\\nDelegate=cpu cpuset io memory pids\\n' "
        ">/etc/systemd/system/user@.service.d/delegate.conf; systemctl daemon-reload",
        ROOT,
    ),
    "no-controller-for-root": Hint(
        "see cgroup.controllers of the cgroups above; v1 may own the controller (boot with cgroup v2 alone)",
        "edit /etc/default/grub: GRUB_CMDLINE_LINUX=systemd.unified_cgroup_hierarchy=1; update-grub; reboot",
        ROOT,
    ),
    "no-jeepney": Hint("pip install jeepney, or apt install python3-jeepney", "pip install jeepney", USER),
    "no-engine": Hint(
        "install pasta, whose package is passt on Debian, Fedora, Alpine, Arch and openSUSE "
        "(apt install, dnf install, apk add, pacman -S, zypper install passt)",
        "apt install passt",
        ROOT,
    ),
    "no-slirp4netns": Hint(
        "install the package slirp4netns, which Debian, Fedora, Alpine, Arch and openSUSE have under this name",
        "apt install slirp4netns",
        ROOT,
    ),
    "no-tun": Hint(
        "root loads the module tun and opens the node to all: modprobe tun; chmod 666 /dev/net/tun",
        "modprobe tun; chmod 666 /dev/net/tun",
        ROOT,
    ),
    "low-port": Hint(
        "ports below {first} are root's: publish another one ({other}:{to}), or root runs "
        "sysctl net.ipv4.ip_unprivileged_port_start={port}",
        "sysctl net.ipv4.ip_unprivileged_port_start={port}",
        ROOT,
    ),
    "own-interpreter": Hint("use one that root owns, /usr/bin/python3"),
    "state-elsewhere": Hint("choose another with --root", "export ROOTLESS_ROOT=DIRECTORY", USER),
    "cache-elsewhere": Hint("choose another place with XDG_CACHE_HOME", "export XDG_CACHE_HOME=DIRECTORY", USER),
}


def hint(name: str, **words: object) -> Hint:
    """Return a hint of the table with its {words} filled in."""
    found = HINTS[name]
    return Hint(found.text.format(**words), found.command.format(**words), found.who) if words else found


def follow(reference: str) -> str:
    """Return the text of a reference that errors.advice has made."""
    name, *words = reference[1:].split("\0")
    return hint(name, **dict(word.partition("=")[::2] for word in words)).text
