"""Run a command where the root is the initramfs, as before switch_root(8): `initramfs.py COMMAND...`. Needs root.

The initramfs is still there, below the root of every mount namespace in the guest. This program unmounts what lies over
it, in a new mount namespace, and binds the guest's directories where they were.
"""

import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
from rootless.kernel import syscalls as sc

sc.unshare(sc.CLONE_NEWNS)
sc.mount(None, "/", None, sc.MS_SLAVE | sc.MS_REC)  # what is unmounted outside goes here, too
own = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
names = [f"/{name}" for name in os.listdir("/") if os.path.isdir(f"/{name}")]
trees = {name: sc.open_tree(sc.AT_FDCWD, name, sc.OPEN_TREE_CLONE | sc.AT_RECURSIVE) for name in names}
sc.umount2("/", sc.MNT_DETACH)
sc.setns(own, sc.CLONE_NEWNS)  # the root is now what this namespace has at its bottom
made = [name for name in names if not os.path.exists(name)]
for name, tree in trees.items():
    if name in made:
        os.mkdir(name)
    place = os.open(name, os.O_PATH)
    sc.move_mount(tree, place)
    os.close(place)
    os.close(tree)
status = subprocess.run(sys.argv[1:], check=False).returncode
for name in names:
    sc.umount2(name, sc.MNT_DETACH)
for name in made:
    os.rmdir(name)
sys.exit(status)
