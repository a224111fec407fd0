"""List the hot modules, and the modules that a hot command imports inside functions and its cache holds, too.

README.md says how code in hot modules is written to start fast. All other modules are ordinary Python. This list is not
imported while a command's cache is valid. tests/unit/test_hot_modules.py compares it with the real imports.
"""

from __future__ import annotations

# Imported by create, start, state, kill, delete, run or exec for the bundle that `spec` writes: by the runtime, the
# joiner or init.
ALWAYS = frozenset((
    "rootless", "rootless.__main__", "rootless.cgroup",
    "rootless.cgroup.driver",
    "rootless.cgroup.freezer", "rootless.cgroup.place", "rootless.cgroup.tree",
    "rootless.cli",
    "rootless.cli.commands", "rootless.cli.commands.create", "rootless.cli.commands.delete",
    "rootless.cli.commands.exec", "rootless.cli.commands.kill", "rootless.cli.commands.run",
    "rootless.cli.commands.start", "rootless.cli.commands.state", "rootless.cli.containers", "rootless.cli.options",
    "rootless.cli.requests", "rootless.cli.setting_flags",
    "rootless.errors", "rootless.init", "rootless.kernel",
    "rootless.kernel.caps", "rootless.kernel.cgroup_view", "rootless.kernel.channel", "rootless.kernel.child",
    "rootless.kernel.devices", "rootless.kernel.files", "rootless.kernel.find_program", "rootless.kernel.host",
    "rootless.kernel.loopback", "rootless.kernel.mountinfo", "rootless.kernel.namespaces", "rootless.kernel.paths",
    "rootless.kernel.proc", "rootless.kernel.signals", "rootless.kernel.sockets", "rootless.kernel.syscalls",
    "rootless.kernel.waiting",

    "rootless.log", "rootless.config_node", "rootless.plan",
    "rootless.plan.call", "rootless.plan.compiler", "rootless.plan.devices", "rootless.plan.hooks",
    "rootless.plan.mounts", "rootless.plan.namespaces", "rootless.plan.paths", "rootless.plan.process",
    "rootless.plan.root", "rootless.plan.seccomp", "rootless.plan.sysctl",
    "rootless.process",
    "rootless.process.attributes", "rootless.process.console", "rootless.process.hooks", "rootless.process.program",
    "rootless.process.rlimits",
    "rootless.runtime",
    "rootless.runtime.bundle", "rootless.runtime.container", "rootless.runtime.create", "rootless.runtime.delete",
    "rootless.runtime.escalation", "rootless.runtime.exec", "rootless.runtime.foreground",
    "rootless.runtime.interpreter", "rootless.runtime.joiner", "rootless.runtime.kill", "rootless.runtime.lock",
    "rootless.runtime.run", "rootless.runtime.start", "rootless.runtime.state", "rootless.runtime.verdict",
    "rootless.startup",
    "rootless.startup.codecache", "rootless.startup.jsonlite", "rootless.startup.lean_os",
    "rootless.startup.lean_path",
    "rootless.steps",
    "rootless.steps.binds", "rootless.steps.builder", "rootless.steps.cgroup", "rootless.steps.context",
    "rootless.steps.copyup", "rootless.steps.devices", "rootless.steps.file_systems", "rootless.steps.hooks",
    "rootless.steps.masks", "rootless.steps.mount_flags", "rootless.steps.mounts", "rootless.steps.names",
    "rootless.steps.namespaces", "rootless.steps.places", "rootless.steps.process", "rootless.steps.program",
    "rootless.steps.root",
    "rootless.userns",
    "rootless.userns.idmap",
))  # fmt: skip

# Imported by these commands if config.json or a flag asks for it, which the configs of clients often do.
ON_REQUEST = frozenset((
    "rootless.cgroup.bpf", "rootless.cgroup.devices", "rootless.cgroup.files",
    "rootless.init.small_init", "rootless.kernel.recording", "rootless.kernel.vfork",
    "rootless.kernel.units", "rootless.runtime.hooks", "rootless.steps.terminal",
    "rootless.cgroup.ownership", "rootless.cgroup.properties",
    "rootless.kernel.network_facts",
    "rootless.outside.device_nodes", "rootless.outside.engine", "rootless.outside.ports",
    "rootless.plan.annotations", "rootless.plan.change", "rootless.plan.idmaps", "rootless.plan.network",
    "rootless.plan.seccomp_profile", "rootless.plan.settings", "rootless.plan.volumes",
    "rootless.process.libseccomp", "rootless.process.lsm", "rootless.process.scheduler", "rootless.process.seccomp",
    "rootless.process.seccomp_names",
    "rootless.runtime.enter", "rootless.runtime.helpers", "rootless.runtime.limit",
    "rootless.runtime.notify", "rootless.runtime.owner",
    "rootless.steps.network", "rootless.steps.outside", "rootless.steps.scheduling", "rootless.steps.upper",
    "rootless.userns.hints", "rootless.userns.mount_userns", "rootless.userns.newuidmap", "rootless.userns.refusals",
))  # fmt: skip

# Imported by the API's launcher, which starts containers for rootless.run. The rest of rootless/api runs in the user's
# process, or once.
LAUNCHER = frozenset((
    "oci", "oci.config",
    "rootless.init.launched", "rootless.init.reaper", "rootless.plan.host_system", "rootless.process.child_options",
))  # fmt: skip

MODULES = ALWAYS | ON_REQUEST | LAUNCHER

# What codecache.py calls to read the code that is kept apart, so it cannot be kept apart itself.
AT_HAND = {"rootless.kernel.syscalls": ("map_file",)}

# Modules of the standard library that these commands may import for that bundle. Modules that are built into the
# interpreter, or that it has imported when it starts with -IS, cost nothing.
STANDARD_LIBRARY = frozenset((
    "__future__", "_blake2", "_ctypes", "_json", "_signal", "_socket", "_stat", "_struct", "errno", "fcntl", "gc",
    "marshal", "posix", "pwd", "select", "struct", "sys", "time",
))  # fmt: skip

# Modules that almost every run of a command imports inside a function; the cache holds them, too.
LAZY = {
    "create": ("rootless.kernel.cgroup_view",),
    "run": ("rootless.kernel.cgroup_view",),
    "exec": ("rootless.cgroup", "rootless.cgroup.freezer", "rootless.runtime.interpreter"),
    "start": ("rootless.cgroup", "rootless.cgroup.freezer"),
    "state": ("rootless.cgroup", "rootless.cgroup.freezer"),
    "kill": ("rootless.cgroup", "rootless.cgroup.freezer"),
    "delete": ("rootless.cgroup", "rootless.cgroup.freezer"),
}
# Modules that root's containers need, and others if config.json asks for it, or that the launcher needs after its first
# call: the cache holds them, but they are loaded only when they are imported (codecache.find_spec).
_RESOURCES = ("rootless.cgroup.files", "rootless.cgroup.devices", "rootless.cgroup.bpf", "rootless.kernel.units")
ON_DEMAND = {
    "create": (*_RESOURCES, "rootless.runtime.hooks", "rootless.steps.terminal"),
    "run": (*_RESOURCES, "rootless.runtime.hooks", "rootless.steps.terminal"),
    "exec": ("rootless.kernel.units",),
    "launcher": (
        "rootless.api.seen",
        "rootless.api.spares",
        "rootless.api.worker",
        "rootless.api.workers",
        "rootless.kernel.recording",
    ),
}
# The same for modules that are needed only after the clone; a second part of the cache, for codecache.load_later.
LATER = {"run": ("rootless.cli.commands.start", "rootless.runtime.foreground", "rootless.cli.commands.delete")}
