"""config.json while settings are applied to it (plan/settings.py). Pure."""

from __future__ import annotations

from rootless.errors import RootlessError, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.kernel.host import Host
    from rootless.plan.settings import Settings


class Change:
    """config.json while settings are applied to it."""

    def __init__(self, spec: dict[str, Any], settings: Settings, host: Host) -> None:
        self.spec = spec
        self.settings = settings
        self.host = host
        self.places: set[str] = set()  # where settings have mounted something

    def part(self, *names: str) -> dict[str, Any]:
        """Return an object of config.json, made where it is missing. Raises RootlessError where it is not an object."""
        place = self.spec
        for name in names:
            place = place.setdefault(name, {})
            if type(place) is not dict:
                raise RootlessError("is not an object, so no setting fits into it", "/" + "/".join(names))
        return place

    def array(self, part: dict[str, Any], name: str) -> list[Any]:
        """Return an array of an object of config.json, made where it is missing. Raises RootlessError."""
        array = part.get(name)
        if array is None:
            array = part[name] = []
        if type(array) is not list:
            raise RootlessError("is not an array, so no setting fits into it", name)
        return array

    def add_mount(self, flag: str, mount: dict[str, Any]) -> None:
        """Add a mount; one of config.json on the same place gives way to it. Raises RootlessError for a second one."""
        if mount["destination"] in self.places:
            raise wrong(
                flag, mount["destination"], "two mounts are asked for on the same place", "leave one of them out"
            )
        self.places.add(mount["destination"])
        mounts = self.array(self.spec, "mounts")
        same = [m for m in mounts if type(m) is dict and tidy(m.get("destination")) == tidy(mount["destination"])]
        for each in same:
            mounts.remove(each)
        mounts.append(mount)

    def set_env(self, entry: str) -> None:
        """Set one variable of the program's environment, NAME=VALUE."""
        process = self.part("process")
        name = entry.partition("=")[0] + "="
        kept = [e for e in self.array(process, "env") if not (type(e) is str and e.startswith(name))]
        process["env"] = [*kept, entry]


def wrong(flag: str, value: object, what: str, hint: str = "") -> RootlessError:
    """Return the error for the value of a setting: `what: --flag value; hint`."""
    return RootlessError(what, f"--{flag} {printable(value)}", hint=hint)


def merge_patch(target: Any, patch: Any) -> Any:
    """Return a JSON merge patch's result (RFC 7396): objects are merged, null removes, anything else replaces."""
    if type(patch) is not dict:
        return patch
    merged = dict(target) if type(target) is dict else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value)
    return merged


def copy(value: Any) -> Any:
    """Return a deep copy of JSON data."""
    if type(value) is dict:
        return {key: copy(each) for key, each in value.items()}
    return [copy(each) for each in value] if type(value) is list else value


def tidy(path: Any) -> str:
    return "/" + path.strip("/") if type(path) is str else ""
