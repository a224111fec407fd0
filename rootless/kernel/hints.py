"""Keep the hints that error messages and `rootless doctor` share in one table, so that both say the same.

The rule: a hint about the machine, the user's account, a missing program or the container's surroundings is here. A
hint about the words that the user has typed or written (the form of a flag, the values of a property) stands with the
code that reads them. tests/unit/test_hints.py finds a hint that is in the wrong place.

A container that works never imports this module: an error looks its hint up when the line is printed.
"""

from __future__ import annotations

import re

import oci.hints
from oci.hints import ROOT, USER, Hint
from rootless import errors

__all__ = ["HINTS", "ROOT", "USER", "Hint", "hint", "text_of"]


def _boot_with(parameter: str) -> str:
    """Return the command that adds a kernel parameter where grub boots, as on Debian, Ubuntu, Fedora and openSUSE."""
    return f"sed -i 's/^GRUB_CMDLINE_LINUX=\"/&{parameter} /' /etc/default/grub; update-grub; reboot"


HINTS = {
    "userns-limit": Hint(
        "the limit of user namespaces is reached: sysctl user.max_user_namespaces",
        "sysctl -w user.max_user_namespaces=15000",
        ROOT,
    ),
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
    "userns-restricted": Hint("user namespaces are restricted here: sysctl {names}", "sysctl -w {values}", ROOT),
    "userns-unknown": Hint("user namespaces may be restricted here: sysctl {names}, or a sandbox around this process"),
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
    "ids-not-here": Hint(
        "the {kind}s {ids} do not exist in this user namespace, which has {own}: convert the bundle again here, or "
        "remove its mappings"
    ),
    "no-map-right": Hint("CAP_SET{kind} is needed in this user namespace, or a security module refuses it"),
    "no-such-bundle": Hint("rootless convert IMAGE.tar -o {bundle}"),
    "block-device": Hint("root mounts it on the host, and the container binds that directory"),
    "not-in-userns": Hint("root mounts it on the host, and the container binds that directory"),
    "noexec": Hint("{path} lies on a file system mounted noexec: put the bundle elsewhere"),
    "closed-directory": Hint("the directory {path} cannot be entered with the program's ids: chmod a+x {path}"),
    "closed-to-you": Hint("its owner may open it: chmod a+x {path}"),
    "id-in-use": Hint("rootless {command} -b {bundle} {id}2, rootless exec {id} CMD, or rootless delete -f {id}"),
    "name-in-use": Hint("--name {id}-2, rootless exec {id} CMD, or rootless delete -f {id}"),
    "id-taken": Hint("choose another ID, or rootless delete -f {id}"),
    "finite-locks": Hint("--root-emulation=errno needs none; root lifts it in limits.conf(5): - locks unlimited"),
    "few-descriptors": Hint("ask for at least 16; a shell needs about as many"),
    "closed-rootfs": Hint("the program's ids may not enter the bundle's rootfs: chmod a+rx it"),
    "not-executable": Hint("the file is not executable: chmod a+x it"),
    "none-executable": Hint("no file of that name in PATH is executable"),
    "cgroups-disabled": Hint("leave --cgroup-manager disabled out, or the limit"),
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
    "range-elsewhere": Hint("run it outside of this user namespace, or map the range into it"),
    "no-session": Hint("log in through systemd-logind, or `loginctl enable-linger`", "loginctl enable-linger", USER),
    "cgroup-v1": Hint(
        "this host's limits belong to cgroup v1, which rootless does not use; boot it with cgroup v2 alone",
        _boot_with("systemd.unified_cgroup_hierarchy=1"),
        ROOT,
    ),
    "no-cgroup": Hint("no cgroup v2 is mounted at /sys/fs/cgroup", "mount -t cgroup2 none /sys/fs/cgroup", ROOT),
    "no-own-cgroup": Hint(
        "run it in a delegated cgroup, such as `systemd-run --user --scope -p Delegate=yes`, "
        "or use --cgroup-manager systemd with a user session",
        "systemd-run --user --scope -p Delegate=yes COMMAND",
        USER,
    ),
    "cgroup-of-session": Hint(
        "only root may move a process from this session's cgroup into that one: run it in the session that has created "
        "the container"
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
        _boot_with("systemd.unified_cgroup_hierarchy=1"),
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
    "no-cgroup-bpf": Hint("the kernel needs CONFIG_CGROUP_BPF"),
    "device-filter": Hint("filtering devices needs root (BPF); leave the device out of linux.devices and the mounts"),
    "cgroup-elsewhere": Hint("name a cgroup that you may write, or ask for no limits"),
    "frozen-above": Hint("echo 0 >cgroup.freeze"),
    "no-net-cls": Hint("cgroup v2 has neither net_cls nor net_prio: mark packets by cgroup path in nftables instead"),
    "made-without-cgroup": Hint("it was created without one; rootless doctor says whether and where one can be made"),
    "systemd-silent": Hint("journalctl may tell why"),
    "busy-cgroup": Hint("use a cgroup without any"),
    "no-ps": Hint("Debian's package procps has it; --format json works without it", "apt install procps", ROOT),
    "no-click": Hint("pip install click, or apt install python3-click", "pip install click", USER),
    "no-attrs": Hint("pip install attrs, or apt install python3-attr", "pip install attrs", USER),
    "not-shared": Hint("its owner makes one that others can run with convert --shared"),
    "other-architecture": Hint(
        "--platform OS/ARCH runs it all the same, if binfmt_misc has an emulator",
        "apt install qemu-user-static",
        ROOT,
    ),
    "no-proc": Hint("mount -t proc proc /proc"),
    "net-device-of-host": Hint(
        "a device of the host's network is root's to move: run as root, or inside a network namespace "
        "that belongs to you (rootlesskit, unshare -Urn)"
    ),
    "resctrl-of-root": Hint("resctrl belongs to root: an ordinary user cannot have linux.intelRdt"),
    "resctrl-full": Hint("the processor has no class or monitoring group left"),
    "no-resctrl": Hint(
        "root mounts it where the processor has Intel RDT or AMD QoS: mount -t resctrl resctrl /sys/fs/resctrl"
    ),
    "oom-score": Hint("an ordinary user can only raise it"),
    "no-devpts": Hint("a terminal needs a devpts mount on /dev/pts"),
    "no-libseccomp": Hint(
        "install it (Debian and Ubuntu: libseccomp2; Fedora and Alpine: libseccomp), 2.5 or newer",
        "apt install libseccomp2",
        ROOT,
    ),
    "no-vsyscall": Hint("the kernel parameter vsyscall=xonly", _boot_with("vsyscall=xonly"), ROOT),
    "no-fuse": Hint(
        "root loads the module fuse and opens the node to all: modprobe fuse; chmod 666 /dev/fuse",
        "modprobe fuse; chmod 666 /dev/fuse",
        ROOT,
    ),
    "slow-launcher": Hint("bin/rootless is the fast way to start", "rootless COMMAND", USER),
    "trial-hangs": Hint("doctor --clean removes what is left of it", "rootless doctor --clean", USER),
    "lost-container": Hint(
        "echo 1 >{path}/cgroup.kill ends it, and doctor --clean removes what is left then",
        "echo 1 >{path}/cgroup.kill",
        USER,
    ),
    "no-sys-nice": Hint(
        "real-time policies and a lower nice value take CAP_SYS_NICE on the host, or its RLIMIT_RTPRIO or _NICE"
    ),
    "sched-iso": Hint("Linux has never implemented SCHED_ISO"),
    "ioprio-rt": Hint("IOPRIO_CLASS_RT takes CAP_SYS_NICE on the host"),
    "no-such-cpu": Hint("none of these CPUs is there, or in the cgroup's cpuset"),
    "numa-mode": Hint("this kernel does not know the mode or a flag, or none of the nodes is there (see numactl -H)"),
    "no-numa": Hint("this kernel is built without CONFIG_NUMA"),
    "small-pipes": Hint("sysctl fs.pipe-max-size={lazy_pipe}, or CAP_SYS_RESOURCE"),
    "criu-as-root": Hint("run it as root, outside of a user namespace"),
    "no-criu": Hint("Debian's package criu has it; --criu names another", "apt install criu", ROOT),
    "criu-check": Hint("criu check says what it lacks"),
    "exit-code-unknown": Hint(
        "only its parent gets it, unless `wait` begins before the end on Linux 6.15,"
        " or `run --detach --log-file` starts it"
    ),
    "root-without-setuid": Hint("root may not change its ids here: run it as the owner"),
    "setgroups-denied": Hint("its setgroups is denied: run it as the owner"),
    "owner-not-mapped": Hint("run it outside of the namespace, or choose another with --root"),
    "own-state-root": Hint("choose one of your own with --root"),
    "state-writable": Hint("chmod go-w {path}"),
    "left-to-unshare": Hint("`rootless unshare rm -rf` removes it"),
    "left-on-one-fs": Hint("`rootless unshare rm -rf --one-file-system` removes it"),
    "locked-mounts": Hint("it holds mounts that are locked together: use rbind"),
    "no-selinux-policy": Hint("no SELinux policy is loaded, or it does not know the label"),
    "no-mqueue": Hint("it needs an ipc namespace of the container's own, or the host's queues on /dev/mqueue"),
    "idmap-of-root": Hint(
        "only the host's root may map ids of the host's file systems; a tmpfs of the container can be mapped"
    ),
    "no-idmap": Hint("its file system does not support id-mapped mounts: mount_setattr(2)"),
    "initramfs": Hint("the root here is the initramfs, which cannot be exchanged for another: --no-pivot"),
    "tmpfs-without-xattrs": Hint(
        "Linux 6.6 brought them; --ephemeral without a value keeps the changes on disk meanwhile"
    ),
    "no-memory-root-from-python": Hint("Linux 6.6 brought them; ephemeral=False changes the root itself"),
    "no-tasks": Hint("pip install 'rootless[tasks]'"),
    "task-memory": Hint("it reached its memory limit: give it more with memory="),
    "memory-limit-reached": Hint("the memory limit was reached"),
    "python-cgroup": Hint("a container with a limit or a name has one, if cgroups can be made here"),
    "rlimit-of-root": Hint("ask for at most {own}; only root raises it: limits.conf(5), or Limit{limit}= of systemd"),
    "stuck-command": Hint("end that process, then delete it again"),
    "memfd-noexec": Hint(
        "a security module, or the sysctl vm.memfd_noexec, keeps files in memory from being executed",
        "sysctl -w vm.memfd_noexec=1",
        ROOT,
    ),
    "own-interpreter": Hint("use one that root owns, /usr/bin/python3"),
    "state-elsewhere": Hint("choose another with --root", "export ROOTLESS_ROOT=DIRECTORY", USER),
    **{name: Hint(text) for name, text in errors.SHORTAGES.items()},
    **oci.hints.HINTS,
}

_NAMED = re.compile(r"\{(\w+)\}")


def hint(name: str, **words: object) -> Hint:
    """Return a hint of the table with its {words} filled in."""
    hint = HINTS[name]
    return Hint(hint.text.format(**words), hint.command.format(**words), hint.who) if words else hint


def text_of(reference: str) -> str:
    """Return the text of a reference that errors.advice has made."""
    name, *words = reference[1:].split("\0")
    return hint(name, **dict(word.partition("=")[::2] for word in words)).text


def hint_of(text: str) -> Hint:
    """Return the table's hint for the words of an error, with its command; one without a command for other words.

    A command that needs words which the text does not have is left out, too.
    """
    for known in HINTS.values():
        words = _words(known.text, text) if known.command else None
        if words is not None and set(_NAMED.findall(known.command)) <= words.keys():
            return Hint(text, known.command.format(**words), known.who)
    return Hint(text)


def _words(form: str, text: str) -> dict[str, str] | None:
    """Return the {words} that were filled into a form to give this text, None if it is not of this form."""
    pieces = _NAMED.split(form)  # text, word, text, word, text
    seen: set[str] = set()
    pattern = re.escape(pieces[0])
    for word, rest in zip(pieces[1::2], pieces[2::2], strict=True):
        pattern += (f"(?P={word})" if word in seen else f"(?P<{word}>.+)") + re.escape(rest)
        seen.add(word)
    found = re.fullmatch(pattern, text)
    return found.groupdict() if found else None
