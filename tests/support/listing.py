"""Print trees in the ten fields of the expected listings: run inside the user's id map, so that owners are right."""

import hashlib
import io
import os
import stat
import sys

KINDS = {stat.S_IFREG: "f", stat.S_IFDIR: "d", stat.S_IFLNK: "l", stat.S_IFIFO: "p"}
KINDS |= {stat.S_IFCHR: "c", stat.S_IFBLK: "b"}


def escape(name: bytes) -> str:
    text = name.decode("utf-8", "surrogateescape")
    return "".join(
        f"\\x{ord(c) & 0xFF:02x}" if ord(c) < 32 or ord(c) == 127 or c == "\\" or "\udc80" <= c <= "\udcff" else c
        for c in text
    )


def entries(root: bytes) -> dict[bytes, os.stat_result]:
    found = {b".": os.lstat(root)}
    for directory, names, files in os.walk(root):
        for name in names + files:
            path = os.path.join(directory, name)
            found[os.path.relpath(path, root)] = os.lstat(path)
    return found


def print_tree(root: bytes) -> None:
    found = entries(root)
    first: dict[tuple[int, int], bytes] = {}
    for path in sorted(found):
        st = found[path]
        if st.st_nlink > 1 and not stat.S_ISDIR(st.st_mode):
            first.setdefault((st.st_dev, st.st_ino), path)
    for path in sorted(found):
        st = found[path]
        full = os.path.join(root, path)
        kind = KINDS[stat.S_IFMT(st.st_mode)]
        size, what = 0, "-"
        if kind == "f":
            with open(full, "rb") as file:
                size, what = st.st_size, hashlib.file_digest(file, "sha256").hexdigest()
        elif kind == "l":
            target = os.readlink(full)
            size, what = len(target), escape(target)
        elif kind in "cb":
            what = f"{os.major(st.st_rdev)}:{os.minor(st.st_rdev)}"
        mode = "0777" if kind == "l" else f"{stat.S_IMODE(st.st_mode):04o}"
        link = escape(first.get((st.st_dev, st.st_ino), b"-")) if kind != "d" else "-"
        xattrs = "-"
        if kind in "fd":
            names = sorted(n for n in os.listxattr(full) if n.startswith("user."))
            xattrs = ";".join(f"{n}={os.getxattr(full, n).hex()}" for n in names) or "-"
        fields = [escape(path), kind, mode, st.st_uid, st.st_gid, size, what, int(st.st_mtime // 1), link, xattrs]
        print("\t".join(map(str, fields)))


if __name__ == "__main__":
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")
    for argument in sys.argv[1:]:
        print_tree(os.fsencode(argument))
