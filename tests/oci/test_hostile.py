"""Each hostile archive is refused with one line and leaves nothing, or does no harm; nothing outside ever changes."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from oci.errors import OciError
from tests.support import archives as a


class Place:
    """Hold an archive, the path of a bundle, and a directory outside that must not change."""

    def __init__(self, top: Path) -> None:
        self.outside = top / "outside"
        self.work = top / "work"
        for path in (self.outside, self.outside / "sub", self.work):
            path.mkdir()
        (self.outside / "secret").write_text("secret")
        (self.outside / "sub" / "file").write_text("kept")
        self.archive = top / "archive.tar"
        self.bundle = self.work / "b"
        self.before = a.snapshot(self.outside)

    def convert(self, data: bytes, **more: object) -> Path:
        self.archive.write_bytes(data)
        a.unpack(self.archive, self.bundle, **more)
        self.unharmed()
        return self.bundle / "rootfs"

    def layers(self, *layers: bytes, **more: object) -> Path:
        return self.convert(a.docker_archive([layer + a.END for layer in layers]), **more)

    def refuses(self, data: bytes, words: str, **more: object) -> None:
        self.archive.write_bytes(data)
        with pytest.raises(OciError) as caught:
            a.unpack(self.archive, self.bundle, **more)
        message = caught.value.message()
        assert words in message and "\n" not in message, message
        self.unharmed()
        assert os.listdir(self.work) == []

    def refuses_layers(self, words: str, *layers: bytes, **more: object) -> None:
        self.refuses(a.docker_archive([layer + a.END for layer in layers]), words, **more)

    def unharmed(self) -> None:
        assert a.snapshot(self.outside) == self.before


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def up(place: Place) -> str:
    """Return a relative path from the rootfs to what is outside."""
    return "../" * 20 + str(place.outside).lstrip("/")


# Names


def test_dotdot_in_a_name_is_refused(place: Place) -> None:
    place.refuses_layers("a member name with ..", a.file("../../../outside/new"))


def test_dotdot_in_the_middle_is_refused(place: Place) -> None:
    place.refuses_layers("a member name with ..", a.directory("a"), a.file("a/../../outside/new"))


def test_dotdot_in_a_pax_path_is_refused(place: Place) -> None:
    place.refuses_layers("a member name with ..", a.pax({"path": "../x"}) + a.file("ok"))


def test_dotdot_in_a_gnu_long_name_is_refused(place: Place) -> None:
    place.refuses_layers("a member name with ..", a.file("././@LongLink", b"../x\0", type_=b"L") + a.file("ok"))


def test_absolute_name_is_taken_below_the_root(place: Place) -> None:
    rootfs = place.layers(a.file(str(place.outside / "new"), b"inside"))
    assert (rootfs / str(place.outside).lstrip("/") / "new").read_bytes() == b"inside"


def test_nul_in_a_pax_path_is_refused(place: Place) -> None:
    place.refuses_layers("NUL", a.pax({"path": b"a\0b"}) + a.file("ok"))


def test_empty_name_is_refused(place: Place) -> None:
    place.refuses_layers("without a name", a.file(""))


def test_name_longer_than_path_max_is_refused(place: Place) -> None:
    place.refuses_layers("a name of", a.pax({"path": "a/" * 3000 + "b"}) + a.file("ok"))


def test_component_longer_than_name_max_is_refused(place: Place) -> None:
    place.refuses_layers("ENAMETOOLONG", a.pax({"path": "a" * 300}) + a.file("ok"))


def test_deeply_nested_directories_are_refused(place: Place) -> None:
    place.refuses_layers("ENAMETOOLONG", a.pax({"path": "d/" * 400 + "f"}) + a.file("ok"))


def test_control_characters_in_a_name_do_not_reach_the_terminal(place: Place) -> None:
    place.archive.write_bytes(a.docker_archive([a.file(b"\x1b[2J../evil/..") + a.END]))
    with pytest.raises(OciError) as caught:
        a.unpack(place.archive, place.bundle)
    assert caught.value.message().isprintable()


def test_the_root_cannot_become_a_link(place: Place) -> None:
    place.refuses_layers("the root is not a directory", a.symlink(".", str(place.outside)))
    place.refuses_layers("the root is not a directory", a.symlink("/.", str(place.outside)))
    place.refuses_layers("the root is not a directory", a.file("./"[:1], b"x"))


# Symbolic links on the way


@pytest.mark.parametrize("kind", ["absolute", "relative"])
def test_file_below_a_link_to_the_outside_stays_inside(place: Place, kind: str) -> None:
    target = str(place.outside) if kind == "absolute" else up(place)
    rootfs = place.layers(a.symlink("evil", target) + a.file("evil/new", b"inside"))
    assert (rootfs / str(place.outside).lstrip("/") / "new").read_bytes() == b"inside"


def test_link_of_a_lower_layer_is_followed_inside_only(place: Place) -> None:
    inside = str(place.outside).lstrip("/")
    lower = a.pax({"path": inside + "/"}) + a.directory("-") + a.symlink("evil", str(place.outside))
    rootfs = place.layers(lower, a.file("evil/new", b"inside"))
    assert (rootfs / inside / "new").read_bytes() == b"inside"


def test_dangling_link_of_a_lower_layer_becomes_a_directory(place: Place) -> None:
    rootfs = place.layers(a.symlink("evil", str(place.outside)), a.file("evil/new", b"inside"))
    assert not (rootfs / "evil").is_symlink() and (rootfs / "evil/new").read_bytes() == b"inside"


def test_chain_of_links_is_followed_inside_only(place: Place) -> None:
    links = a.symlink("a", "b/c") + a.symlink("b", "/d") + a.directory("d") + a.symlink("d/c", up(place))
    rootfs = place.layers(links + a.file("a/new", b"inside"))
    assert (rootfs / str(place.outside).lstrip("/") / "new").read_bytes() == b"inside"


def test_loop_of_links_is_refused(place: Place) -> None:
    place.refuses_layers("ELOOP", a.symlink("a", "b") + a.symlink("b", "a") + a.file("a/new"))


def test_links_that_go_up_and_down_without_end_are_refused(place: Place) -> None:
    target = "d/../" * 700
    data = a.directory("d") + a.pax({"linkpath": target}) + a.symlink("l", "x")
    data += b"".join(a.symlink(f"l{n}", "l/" * 45) for n in range(20))
    place.refuses_layers("ELOOP", data + a.file("l1/l2/l3/new"))


def test_file_replaces_a_link_and_does_not_write_through_it(place: Place) -> None:
    rootfs = place.layers(a.symlink("f", str(place.outside / "secret")) + a.file("f", b"mine"))
    assert (rootfs / "f").read_bytes() == b"mine" and not (rootfs / "f").is_symlink()


def test_directory_replaces_a_link_and_changes_nothing_behind_it(place: Place) -> None:
    rootfs = place.layers(a.symlink("d", str(place.outside)), a.directory("d", mode=0o777) + a.file("d/f"))
    assert (rootfs / "d").is_dir() and not (rootfs / "d").is_symlink()


def test_directory_mode_and_time_are_not_set_through_a_link(place: Place) -> None:
    rootfs = place.layers(a.directory("d", mode=0o777) + a.symlink("d", str(place.outside)))
    assert (rootfs / "d").is_symlink()


def test_cached_parent_is_forgotten_when_a_link_takes_its_place(place: Place) -> None:
    data = a.directory("d") + a.file("d/one") + a.symlink("d", str(place.outside)) + a.file("d/two", b"inside")
    rootfs = place.layers(data)
    assert (rootfs / str(place.outside).lstrip("/") / "two").read_bytes() == b"inside"


def test_file_in_the_place_of_a_parent_is_refused(place: Place) -> None:
    place.refuses_layers("ENOTDIR", a.file("a") + a.file("a/b"))


# Hard links


def test_hard_link_to_the_outside_is_refused(place: Place) -> None:
    place.refuses_layers("a member name with ..", a.hard_link("h", "../../../outside/secret"))
    place.refuses_layers("a hard link to a file that does not exist", a.hard_link("h", str(place.outside / "secret")))


def test_hard_link_through_a_link_to_the_outside_is_refused(place: Place) -> None:
    place.refuses_layers(
        "a hard link to a file that does not exist",
        a.symlink("evil", str(place.outside)) + a.hard_link("h", "evil/secret"),
    )


def test_hard_link_to_a_symbolic_link_links_the_link(place: Place) -> None:
    rootfs = place.layers(a.symlink("s", str(place.outside / "secret")) + a.hard_link("h", "s") + a.file("h", b"mine"))
    assert (rootfs / "h").read_bytes() == b"mine" and (rootfs / "s").is_symlink()


def test_hard_link_to_a_directory_is_refused(place: Place) -> None:
    place.refuses_layers("a hard link to a directory", a.directory("d") + a.hard_link("h", "d"))
    place.refuses_layers("a hard link to a directory", a.hard_link("h", "."))


def test_hard_link_to_itself_is_harmless(place: Place) -> None:
    assert (place.layers(a.file("f", b"x") + a.hard_link("f", "f")) / "f").read_bytes() == b"x"


def test_hard_link_to_nothing_is_refused(place: Place) -> None:
    place.refuses_layers("a hard link to a file that does not exist", a.hard_link("h", "missing"))


# Whiteouts


def test_whiteout_cannot_remove_above_the_root(place: Place) -> None:
    for name in (".wh...", ".wh..", ".wh."):
        place.refuses_layers("a whiteout that names no file", a.file("f"), a.file(name, b""))


def test_whiteout_with_dotdot_is_refused(place: Place) -> None:
    place.refuses_layers("a member name with ..", a.file("f"), a.file("../.wh.outside", b""))


def test_whiteout_below_a_link_removes_inside_only(place: Place) -> None:
    place.layers(a.symlink("evil", str(place.outside)), a.file("evil/.wh.secret", b""))


def test_opaque_marker_below_a_link_clears_inside_only(place: Place) -> None:
    place.layers(a.symlink("evil", str(place.outside)), a.file("evil/.wh..wh..opq", b""))


def test_whiteout_of_a_link_removes_the_link_only(place: Place) -> None:
    rootfs = place.layers(a.symlink("evil", str(place.outside)), a.file(".wh.evil", b""))
    assert not os.path.lexists(rootfs / "evil")


def test_member_below_a_whiteout_is_refused(place: Place) -> None:
    place.refuses_layers("below a whiteout", a.file(".wh.d/f"))
    place.refuses_layers("below a whiteout", a.file("d/f"), a.file(".wh.d", b"") + a.file(".wh.d/f"))


def test_directory_named_as_a_whiteout_is_one_and_keeps_what_is_below_it(place: Place) -> None:
    """Archives of 2015 have directories named `.wh.d`: each removes `d`, and keeps the entries below its own path, as
    with docker.
    """
    upper = a.directory(".wh.d") + a.file(".wh.d/f", b"below") + a.directory(".wh.d/e") + a.file(".wh.d/e/g", b"deep")
    rootfs = place.layers(a.file("d/lower") + a.file("kept"), upper, a.file(".wh.d/.wh.f", b""))
    assert sorted(os.listdir(rootfs)) == [".wh.d", "kept"]
    assert os.listdir(rootfs / ".wh.d") == ["e"] and (rootfs / ".wh.d/e/g").read_bytes() == b"deep"


@pytest.mark.parametrize("number", [62, 63, 64, 65, 130])
def test_hard_link_whose_directory_is_the_oldest_that_is_open(place: Place, number: int) -> None:
    """Of the directories that are kept open, the oldest is not closed while it is in use (EBADF)."""
    members = [a.directory("x"), a.file("x/f")]
    for n in range(number):
        members += [a.directory(f"d{n}"), a.file(f"d{n}/f")]
    rootfs = place.layers(b"".join([*members, a.hard_link("d0/link", "x/f")]))
    assert (rootfs / "d0/link").samefile(rootfs / "x/f")


@pytest.mark.parametrize("number", [62, 63, 64, 65, 130])
def test_opaque_directory_is_the_oldest_that_is_open(place: Place, number: int) -> None:
    members = b"".join(a.file(f"d{n}/new") for n in range(number))
    upper = members + a.pax({"SCHILY.xattr.trusted.overlay.opaque": "y"}) + a.directory("d0/o")
    rootfs = place.layers(a.file("d0/o/lower"), upper + a.file("d0/.wh..wh..opq", b""))
    assert sorted(os.listdir(rootfs / "d0")) == ["new", "o"] and os.listdir(rootfs / "d0/o") == []


IN_THE_WAY = {
    "file": a.file("w"), "fifo": a.header("w", type_=b"6"), "device": a.header("w", type_=b"3", device=(1, 3)),
    "dangling link": a.symlink("w", "nothing"), "dangling absolute link": a.symlink("w", "/no/thing"),
    "link to a file": a.file("t") + a.symlink("w", "t"), "link in a circle": a.symlink("w", "v") + a.symlink("v", "w"),
    "link below a file": a.file("t") + a.symlink("w", "t/u"),
    "link to a link": a.symlink("w", "v") + a.symlink("v", "-"),
    "hard link": a.file("t") + a.hard_link("w", "t"),
}  # fmt: skip


@pytest.mark.parametrize("lower", IN_THE_WAY.values(), ids=IN_THE_WAY)
@pytest.mark.parametrize(
    ("entry", "path"),
    [
        (a.file("w/f"), "w/f"),
        (a.directory("w/d"), "w/d"),
        (a.symlink("w/l", "x"), "w/l"),
        (a.file("w/deep/er/f"), "w/deep/er/f"),
        (a.file("o") + a.hard_link("w/h", "o"), "w/h"),
    ],
    ids=["file", "directory", "link", "deep", "hard link"],
)
def test_what_a_lower_layer_has_in_the_way_becomes_a_directory(
    place: Place, lower: bytes, entry: bytes, path: str
) -> None:
    """As with docker, which unpacks each layer into a directory of its own, where nothing is in the way."""
    rootfs = place.layers(lower, a.file("between"), entry)
    assert os.path.lexists(rootfs / path) and stat.S_ISDIR(os.lstat(rootfs / "w").st_mode)
    assert stat.S_IMODE(os.lstat(rootfs / "w").st_mode) == 0o755
    assert not {"nothing", "no", "-"} & set(os.listdir(rootfs)), "nothing is made where a link leads"


@pytest.mark.parametrize("lower", IN_THE_WAY.values(), ids=IN_THE_WAY)
def test_a_whiteout_below_what_is_no_directory_is_of_nothing(place: Place, lower: bytes) -> None:
    rootfs = place.layers(lower, a.file("w/.wh.x", b"") + a.file("w/.wh..wh..opq", b""))
    assert os.path.lexists(rootfs / "w")


def test_what_is_in_the_way_below_a_link_of_a_lower_layer_becomes_a_directory(place: Place) -> None:
    rootfs = place.layers(a.file("usr/lib/x") + a.symlink("lib", "usr/lib"), a.file("lib/x/y", b"new"))
    assert (rootfs / "lib").is_symlink() and (rootfs / "usr/lib/x/y").read_bytes() == b"new"


def test_what_the_same_layer_has_in_the_way_is_refused(place: Place) -> None:
    place.refuses_layers("ENOTDIR", a.file("a"), a.file("a") + a.file("a/b"))
    place.refuses_layers("ENOTDIR", a.directory("a"), a.file("a") + a.file("a/b"))
    place.refuses_layers("ENOTDIR", a.file("t"), a.symlink("a", "t") + a.file("a/b"))


def test_aufs_directories_do_not_appear(place: Place) -> None:
    data = a.directory(".wh..wh.orph") + a.file(".wh..wh.orph/x") + a.file(".wh..wh.aufs") + a.directory(".wh..wh.plnk")
    assert os.listdir(place.layers(data + a.symlink(".wh..wh.plnk/1.2", str(place.outside)))) == []


# Devices, fifos, modes


def test_device_is_an_empty_file(place: Place) -> None:
    rootfs = place.layers(a.header("sda", type_=b"4", device=(8, 0)) + a.header("null", type_=b"3", device=(1, 3)))
    for name in ("sda", "null"):
        assert stat.S_ISREG(os.lstat(rootfs / name).st_mode) and os.lstat(rootfs / name).st_size == 0


def test_fifo_is_never_opened(place: Place) -> None:
    rootfs = place.layers(a.header("p", type_=b"6"), a.header("p", type_=b"6") + a.header("q", type_=b"6"))
    assert stat.S_ISFIFO(os.lstat(rootfs / "p").st_mode)


def test_fifo_as_passwd_does_not_stop_the_user_lookup(place: Place) -> None:
    layer = a.directory("etc") + a.header("etc/passwd", type_=b"6") + a.END
    place.refuses(a.docker_archive([layer], {"User": "daemon"}), "no user of that name")


def test_passwd_that_links_to_the_host_is_not_read(place: Place) -> None:
    (place.outside / "passwd").write_text("victim:x:4242:4242::/:\n")
    place.before = a.snapshot(place.outside)
    layer = a.directory("etc") + a.symlink("etc/passwd", str(place.outside / "passwd")) + a.END
    place.refuses(a.docker_archive([layer], {"User": "victim"}), "no user of that name")


def test_unwritable_directory_gets_its_files_and_can_be_taken_back(place: Place) -> None:
    data = a.directory("d", mode=0) + a.file("d/f") + a.directory("d/e", mode=0) + a.file("d/e/f")
    place.refuses_layers("a member name with ..", data + a.file("../x"))


# Broken and lying archives


def test_checksum_that_is_wrong_is_refused(place: Place) -> None:
    broken = bytearray(a.file("f"))
    broken[0] ^= 1
    place.refuses_layers("wrong checksum", bytes(broken))


def test_broken_header_after_good_members_is_not_the_end(place: Place) -> None:
    place.refuses_layers("checksum", a.file("f") + b"\x01" * 512 + a.file("g"))


def test_truncated_layer_is_refused(place: Place) -> None:
    place.refuses(a.docker_archive([a.file("f", b"x" * 5000)[:2000]]), "truncated")


def test_size_beyond_the_archive_is_refused(place: Place) -> None:
    place.refuses(a.docker_archive([a.header("f", 7 << 30) + b"x" * 512]), "truncated")


def test_negative_size_is_refused(place: Place) -> None:
    place.refuses_layers("negative size", a.header("f", b"\xff" * 12))


def test_unknown_member_type_is_refused(place: Place) -> None:
    place.refuses_layers("unknown member type", a.header("f", type_=b"Z"))


def test_huge_extension_header_is_refused(place: Place) -> None:
    place.refuses_layers("an extension header of", a.header("pax", 1 << 30, type_=b"x"))


def test_pax_record_that_lies_about_its_length_is_refused(place: Place) -> None:
    for record in (b"999 path=x\n", b"0 path=x\n", b"3 p=x\n", b"x path=x\n", b"9 path=x"):
        place.refuses_layers("broken pax record", a.file("pax", record, type_=b"x") + a.file("f"))


def test_sparse_map_that_does_not_fit_is_refused(place: Place) -> None:
    for numbers in ("0,10,5,5", "0,100", "50,10,0,5", "0,9999999", "1,2,3"):
        records = {"GNU.sparse.size": "100", "GNU.sparse.map": numbers}
        place.refuses_layers("sparse map", a.pax(records) + a.file("f", b"x" * 15))


def test_wrong_diff_id_is_refused_with_both_digests(place: Place) -> None:
    wrong = "sha256:" + "0" * 64
    data = a.docker_archive([a.file("f") + a.END], rootfs={"type": "layers", "diff_ids": [wrong]})
    place.refuses(data, wrong)


def legacy(checksum: str, layer: bytes) -> bytes:
    return a.tar_of({"1/json": a.dumped({"id": "1", "checksum": checksum}), "1/layer.tar": layer})


def test_legacy_checksum_of_the_members_is_compared(place: Place) -> None:
    """docker's TarSum covers each header's fields and contents, and then the sorted sums."""
    words = "name{}mode{}uid3gid4size{}typeflag{}linknameunamegnamedevmajor0devminor0{}"
    sums = (
        words.format("d/", 0o755, 0, 5, ""), words.format("d/f", 0o644, 4, 0, "user.abuser.bc") + "data",
    )  # fmt: skip
    hexes = sorted(hashlib.sha256(text.encode()).hexdigest() for text in sums)
    right = hashlib.sha256("".join(hexes).encode()).hexdigest()
    layer = a.directory("d/", uid=3, gid=4)
    layer += a.pax({"SCHILY.xattr.user.b": "c", "SCHILY.xattr.user.a": "b"}) + a.file("d/f", b"data", uid=3, gid=4)
    for form in ("tarsum.v1+sha256", "tarsum.dev+sha256"):
        wrong = f"{form}:{'0' * 64}"
        place.refuses(legacy(wrong, layer + a.END), f"{form}:{right}, its json says {wrong}")
    assert os.listdir(place.convert(legacy(f"tarsum.dev+sha256:{right}", layer + a.END))) == ["d"]


def test_unknown_digest_algorithm_is_refused(place: Place) -> None:
    data = a.docker_archive([a.END], rootfs={"type": "layers", "diff_ids": ["md5:" + "0" * 32]})
    place.refuses(data, "not a digest of a known kind")


def test_digest_that_is_a_path_is_refused(place: Place) -> None:
    files = a.layout([a.file("f") + a.END])
    index = json.loads(files["index.json"])
    index["manifests"][0]["digest"] = "sha256:../../../../etc/passwd"
    place.refuses(a.tar_of({**files, "index.json": a.dumped(index)}), "not a digest of a known kind")


def test_blob_that_lies_about_its_size_is_refused(place: Place) -> None:
    files = a.layout([a.file("f") + a.END])
    index = json.loads(files["index.json"])
    index["manifests"][0]["size"] += 1
    place.refuses(a.tar_of({**files, "index.json": a.dumped(index)}), "its descriptor says")


def test_blob_with_other_contents_is_refused(place: Place) -> None:
    files = a.layout([a.file("f", b"good") + a.END])
    layer = next(name for name, data in files.items() if b"good" in data)
    files[layer] = files[layer].replace(b"good", b"evil")
    place.refuses(a.tar_of(files), "has the digest")


def test_manifest_that_is_an_index_too_is_refused(place: Place) -> None:
    """CVE-2021-41190: one blob could be read in two ways."""
    files = a.layout([a.file("f") + a.END])
    index = json.loads(files["index.json"])
    name = "blobs/sha256/" + index["manifests"][0]["digest"].removeprefix("sha256:")
    document = json.loads(files[name]) | {"manifests": []}
    data = a.dumped(document)
    digest = hashlib.sha256(data).hexdigest()
    descriptor = {**index["manifests"][0], "digest": f"sha256:{digest}", "size": len(data)}
    files |= {f"blobs/sha256/{digest}": data, "index.json": a.dumped({"manifests": [descriptor]})}
    place.refuses(a.tar_of(files), "a manifest and an index at once")


def test_index_that_contains_itself_is_bounded(place: Place) -> None:
    files = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}'}
    descriptor: dict[str, object] = {}
    for _ in range(12):
        data = a.dumped({"manifests": [descriptor] if descriptor else []})
        digest = hashlib.sha256(data).hexdigest()
        files[f"blobs/sha256/{digest}"] = data
        media = "application/vnd.oci.image.index.v1+json"
        descriptor = {"mediaType": media, "digest": f"sha256:{digest}", "size": len(data)}
    place.refuses(a.tar_of({**files, "index.json": a.dumped({"manifests": [descriptor]})}), "nested more than")


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (b"[" * 200_000, "nested too deeply"),
        (b'[{"Config": NaN}]', "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"{", "not JSON"),
        (b'"text"', "not a list"),
        (b"[1]", "malformed"),
        (b'[{"Config": 5}]', "malformed"),
        (b'[{"Config": "../../../etc/passwd"}]', "missing in the archive"),
        (b'[{"Config": "manifest.json", "Layers": 3}]', "malformed"),
    ],
)
def test_manifest_of_any_form_is_refused(place: Place, document: bytes, words: str) -> None:
    place.refuses(a.tar_of({"manifest.json": document}), words)


@pytest.mark.parametrize(
    "config",
    [{"Env": "X"}, {"Env": [1]}, {"Entrypoint": {"a": 1}}, {"Labels": ["x"]}, {"Cmd": ["a\0b"]}, {"ExposedPorts": 5}],
)
def test_config_of_any_form_is_refused(place: Place, config: dict[str, object]) -> None:
    place.refuses(a.docker_archive([a.END], config), "malformed")


def test_outer_member_outside_is_only_a_name(place: Place) -> None:
    data = a.file("../../outside/new", b"evil") + a.symlink("evil", str(place.outside)) + a.file("evil/new")
    place.convert(data + a.docker_archive([a.file("f") + a.END]))


def test_layer_that_links_to_the_host_is_missing(place: Place) -> None:
    (place.outside / "layer.tar").write_bytes(a.file("f") + a.END)
    place.before = a.snapshot(place.outside)
    config = a.dumped({"os": "linux", "rootfs": {"diff_ids": []}})
    manifest = a.dumped([{"Config": "c", "Layers": ["l"]}])
    link = a.symlink("l", str(place.outside / "layer.tar"))
    place.refuses(link + a.tar_of({"c": config, "manifest.json": manifest}), "a layer is missing")


def test_directory_archive_does_not_follow_links_out(place: Place) -> None:
    (place.outside / "layer.tar").write_bytes(a.file("f") + a.END)
    place.before = a.snapshot(place.outside)
    place.archive.mkdir()
    (place.archive / "l").symlink_to(place.outside / "layer.tar")
    (place.archive / "c").write_bytes(a.dumped({"os": "linux", "rootfs": {"diff_ids": []}}))
    (place.archive / "manifest.json").write_bytes(a.dumped([{"Config": "c", "Layers": ["l"]}]))
    with pytest.raises(OciError, match="a layer is missing"):
        a.unpack(place.archive, place.bundle)
    place.unharmed()


def test_links_among_outer_members_end(place: Place) -> None:
    data = a.symlink("l", "m") + a.symlink("m", "l")
    documents = {"c": a.dumped({"rootfs": {}}), "manifest.json": a.dumped([{"Config": "c", "Layers": ["l"]}])}
    place.refuses(data + a.tar_of(documents), "a layer is missing")


# Bombs


def bomb(pack: Callable[[bytes], bytes]) -> bytes:
    return pack(a.header("zeros", 64 << 20) + bytes(64 << 20) + a.END)


def test_gzip_bomb_is_bounded(place: Place) -> None:
    layer = bomb(gzip.compress)
    data = a.docker_archive([layer], rootfs={"type": "layers", "diff_ids": []})
    place.refuses(data, "--max-size", max_size=1 << 20)


def test_zstd_bomb_is_bounded(place: Place) -> None:
    zstd = pytest.importorskip("backports.zstd", reason="the Python package backports.zstd is not installed")
    layer = bomb(zstd.compress)
    place.refuses(a.docker_archive([layer], rootfs={"type": "layers", "diff_ids": []}), "--max-size", max_size=1 << 20)


def test_many_members_are_bounded(place: Place) -> None:
    place.refuses_layers("--max-files", b"".join(a.header(f"f{n}") for n in range(200)), max_files=100)


def test_sparse_file_of_exabytes_takes_no_space(place: Place) -> None:
    records = {"GNU.sparse.size": str(1 << 40), "GNU.sparse.map": "0,1"}
    rootfs = place.layers(a.pax(records) + a.file("f", b"x"))
    st = os.lstat(rootfs / "f")
    assert st.st_size == 1 << 40 and st.st_blocks < 1000


def test_truncated_compressed_layer_is_refused(place: Place) -> None:
    for cut in (10, -5, -1):
        layer = gzip.compress(a.file("f", os.urandom(3000)) + a.END)[:cut]
        place.refuses(a.docker_archive([layer], rootfs={"diff_ids": []}), "truncated gzip")


def test_garbage_behind_a_compressed_layer_is_refused(place: Place) -> None:
    layer = gzip.compress(a.file("f") + a.END) + b"garbage"
    place.refuses(a.docker_archive([layer], rootfs={"diff_ids": []}), "other data behind its end")
