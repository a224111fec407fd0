"""An image archive, or a plain rootfs tar, becomes a bundle: complete or not at all.

The bundle is built as a temporary sibling and renamed. Nothing here makes namespaces: who wants mapped owners runs
`build` in a user namespace (rootless/commands/convert.py does).
"""

import json
import os
import secrets
from collections.abc import Callable
from typing import IO, Any

import attrs

from oci import archive as archives
from oci.config import default_config
from oci.errors import OciError, printable
from oci.unpack import Tree, remove_tree
from oci.users import find_user

IdMap = list[tuple[int, int, int]]
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SUFFIXES = (".gz", ".tgz", ".bz2", ".xz", ".zst", ".lz4", ".tar")


@attrs.define
class Build:
    """What to build.

    target: the bundle's path; layers: opened one after the other, base first, as (file, name); image: the image's
    config ({} for a plain rootfs); uid_map, gid_map: as used for writing; keep_owners: write owners through them;
    folded_hint: what to name when ids are beyond the range.
    """

    target: str
    layers: list[Callable[[], tuple[IO[bytes], str]]]
    image: dict[str, Any]
    uid_map: IdMap
    gid_map: IdMap
    keep_owners: bool
    strict: bool = False
    force: bool = False
    tty: bool = False
    args: list[str] = attrs.field(factory=list)
    notes: list[str] = attrs.field(factory=list)


def bundle_name(source: str) -> str:
    """The archive's name without its suffixes."""
    name = os.path.basename(source.rstrip("/"))
    while True:
        for suffix in _SUFFIXES:
            if name.endswith(suffix) and len(name) > len(suffix):
                name = name[: -len(suffix)]
                break
        else:
            return name


def image_layers(archive: archives.Archive, image: archives.Image) -> list[Callable[[], tuple[IO[bytes], str]]]:
    """Openers of an image's layers, each checked against its diff_id."""

    def opener(position: int, name: str) -> Callable[[], tuple[IO[bytes], str]]:
        def open_layer() -> tuple[IO[bytes], str]:
            file = archive.open(name, "a layer")
            where = f"{archive.source}: {printable(name)}"
            if image.diff_ids:
                archives.verify(file, image.diff_ids[position], where)
            return file, where

        return open_layer

    return [opener(position, name) for position, name in enumerate(image.layers)]


def build(plan: Build) -> None:
    """Build it. Raises OciError; whatever was written is gone then."""
    target = os.path.abspath(plan.target)
    if os.path.lexists(target) and not plan.force:
        raise OciError("the bundle exists", plan.target, hint="--force replaces it")
    parent, name = os.path.split(target)
    temporary = f"{parent}/.{name}.{secrets.token_hex(4)}"
    try:
        os.mkdir(temporary, 0o700)
    except OSError as error:
        raise OciError.from_os(error, "cannot make the bundle", parent) from None
    try:
        _fill(plan, temporary)
        _replace(temporary, target)
    except OSError as error:
        raise OciError.from_os(error, "cannot write the bundle") from None
    finally:
        if os.path.lexists(temporary):
            remove_tree(temporary)


def _replace(temporary: str, target: str) -> None:
    if os.path.lexists(target):
        old = f"{temporary}.old"
        os.rename(target, old)
        os.rename(temporary, target)
        remove_tree(old)
    else:
        os.rename(temporary, target)


def _fill(plan: Build, bundle: str) -> None:
    os.umask(0o022)
    rootfs = f"{bundle}/rootfs"
    os.mkdir(rootfs, 0o755)
    root_fd = os.open(rootfs, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        mapped = [(first, size) for first, _, size in plan.uid_map] or [(0, 2**32 - 1)]  # root: every id
        tree = Tree(root_fd, mapped if plan.keep_owners else None, strict=plan.strict)
        for open_layer in plan.layers:
            layer, where = open_layer()
            tree.apply(layer, where)
            layer.close()
        tree.finish()
        _note(plan, tree)
        config = image_config(plan, root_fd)
    finally:
        os.close(root_fd)
    fd = os.open(f"{bundle}/config.json", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    with open(fd, "w", encoding="utf-8", errors="surrogateescape") as file:
        json.dump(config, file, indent=4)
        file.write("\n")


def _note(plan: Build, tree: Tree) -> None:
    if tree.devices:
        plan.notes.append(f"{tree.devices} device nodes became empty files")
    if tree.folded:
        plan.notes.append(
            f"{tree.folded} owner ids are beyond your range and became 65534: a range up to {tree.highest} is needed "
            "in /etc/subuid and /etc/subgid"
        )


def image_config(plan: Build, root_fd: int) -> dict[str, Any]:
    """config.json by image-spec's conversion.md: args, env, cwd, user, annotations, the maps used for writing."""
    image = plan.image
    wanted = image.get("config") or {}
    config = default_config(True)
    process = config["process"]
    process["terminal"] = plan.tty
    args = [str(a) for a in [*(wanted.get("Entrypoint") or []), *(wanted.get("Cmd") or [])]]
    process["args"] = plan.args or args or ["/bin/sh"]
    env = [str(e) for e in wanted.get("Env") or []]
    process["env"] = env if any(e.startswith("PATH=") for e in env) else [_PATH, *env]
    process["cwd"] = wanted.get("WorkingDir") or "/"
    if not process["cwd"].startswith("/"):
        process["cwd"] = f"/{process['cwd']}"
    config["hostname"] = wanted.get("Hostname") or "rootless"
    config["root"]["readonly"] = False
    uid, gid, groups = find_user(root_fd, str(wanted.get("User") or ""))
    process["user"] = {"uid": uid, "gid": gid}
    config["annotations"] = image_annotations(image, wanted)
    linux = config["linux"]
    if _is_single(plan.uid_map):
        # One id alone: the image's user is the caller, so that the program can use the files.
        linux["uidMappings"] = [{"containerID": uid, "hostID": plan.uid_map[0][1], "size": 1}]
        linux["gidMappings"] = [{"containerID": gid, "hostID": plan.gid_map[0][1], "size": 1}]
        if uid or gid:
            plan.notes.append(f"the image's user {uid}:{gid} is mapped to you instead of 0: you have no range of ids")
    elif plan.uid_map:
        if groups:
            process["user"]["additionalGids"] = groups
        for key, id_map in (("uidMappings", plan.uid_map), ("gidMappings", plan.gid_map)):
            linux[key] = [{"containerID": a, "hostID": b, "size": c} for a, b, c in id_map]
    else:
        linux["namespaces"] = [n for n in linux["namespaces"] if n["type"] != "user"]
        del linux["uidMappings"], linux["gidMappings"]
        if groups:
            process["user"]["additionalGids"] = groups
    return config


def _is_single(id_map: IdMap) -> bool:
    return len(id_map) == 1 and id_map[0][2] == 1


def image_annotations(image: dict[str, Any], wanted: dict[str, Any]) -> dict[str, str]:
    """image-spec conversion.md, "Annotation Fields": labels win over what is generated."""
    found: dict[str, str] = {}
    for key, name in (("os", "os"), ("architecture", "architecture"), ("author", "author"), ("created", "created")):
        if isinstance(image.get(key), str) and image[key]:
            found[f"org.opencontainers.image.{name}"] = image[key]
    if isinstance(wanted.get("StopSignal"), str) and wanted["StopSignal"]:
        found["org.opencontainers.image.stopSignal"] = wanted["StopSignal"]
    ports = wanted.get("ExposedPorts") or {}
    if ports:
        found["org.opencontainers.image.exposedPorts"] = ",".join(sorted(map(str, ports)))
    for key, value in (wanted.get("Labels") or {}).items():
        found[str(key)] = str(value)
    return found
