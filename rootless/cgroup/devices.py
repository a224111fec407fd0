"""Read linux.resources.devices: as rules of a device program, or, for an ordinary user, to refuse some. Pure."""

from __future__ import annotations

from rootless.errors import advice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.config_node import Node

    Rule = list[object]  # [allow, type "a", "b" or "c", major or -1, minor or -1, access "rwm"]

# What every container may use: the default devices of config-linux.md, ptys, and mknod of anything, because that makes
# a node but does not open it.
DEFAULTS: tuple[tuple[str, int, int, str], ...] = (
    ("c", -1, -1, "m"),
    ("b", -1, -1, "m"),
    ("c", 1, 3, "rwm"),
    ("c", 1, 5, "rwm"),
    ("c", 1, 7, "rwm"),
    ("c", 1, 8, "rwm"),
    ("c", 1, 9, "rwm"),
    ("c", 5, 0, "rwm"),
    ("c", 5, 2, "rwm"),
    ("c", 136, -1, "rwm"),
)


def compile_rules(node: Node) -> list[Rule]:
    """Return the rules in their order; the last match wins. Raises SpecError.

    Those for default devices come last, as in runc. Without any rule everything else is denied.
    """
    rules = [_rule(item) for item in node.items()]
    rules += [[True, kind, major, minor, access] for kind, major, minor, access in DEFAULTS]
    return rules


def refuse_narrower(node: Node, devices: Node) -> None:
    """Refuse, for an ordinary user, rules that deny a device which the container has. Raises SpecError.

    Only root can load the rules. A user's container has the devices that are bound into it, and no filter.
    """
    rules = [(_rule(item), item) for item in node.items()]
    own = [_device(item) for item in devices.items()]
    for (kind, major, minor, access), named in [(d, False) for d in DEFAULTS[2:]] + [(d, True) for d in own]:
        for wanted in access.replace("m", ""):
            for rule, item in reversed(rules):
                if not covers(rule, kind, major, minor, wanted):
                    continue
                # Clients write lists whose first rule denies everything. It is not meant to deny the default devices.
                if not rule[0] and (named or rule[2] != -1):
                    raise item.error(
                        f"denies {wanted} on device {kind} {major}:{minor}, which the container has",
                        hint=advice("device-filter"),
                    )
                break


def covers(rule: Rule, kind: str, major: int, minor: int, access: str) -> bool:
    """Return whether a rule is about this access to this device. -1 in the rule is any number."""
    _, rule_kind, rule_major, rule_minor, rule_access = rule
    return (
        rule_kind in ("a", kind)
        and rule_major in (-1, major)
        and rule_minor in (-1, minor)
        and access in str(rule_access)
    )


def _rule(item: Node) -> Rule:
    allow = item["allow"].required().boolean()
    kind = item["type"].choice(("a", "b", "c"), "a") if item["type"].value != "" else "a"
    major = item["major"].integer(-1, -1, 2**32 - 1)
    minor = item["minor"].integer(-1, -1, 2**32 - 1)
    access = item["access"].string("rwm") or "rwm"
    if set(access) - set("rwm"):
        raise item["access"].wrong("some of r, w and m")
    if kind == "a":  # "all devices", whatever the numbers say (cgroup v1's devices.allow)
        major = minor = -1
    return [allow, kind, major, minor, access]


def _device(item: Node) -> tuple[str, int, int, str]:
    kind = item["type"].string()
    major, minor = (item[key].integer(-1, -1, 2**32 - 1) for key in ("major", "minor"))
    return ("b" if kind == "b" else "c", major, minor, "" if kind == "p" else "rw")
