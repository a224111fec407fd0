#!/bin/sh
# The main job on an archive made here: a legacy image of one layer around the host's static busybox.
set -eu
cd "$(dirname "$0")/.."
rootless=${ROOTLESS:-$PWD/.venv/bin/rootless}
[ -x "$rootless" ] || ./scripts/setup.sh
busybox=$(command -v busybox || :)
[ -n "$busybox" ] || { echo "demo: no busybox (Debian package: busybox-static)" >&2; exit 1; }
work=$(mktemp -d)
trap '"$rootless" remove "$work/demo" 2>/dev/null || :; rm -rf "$work"' EXIT
"${PYTHON_DEMO:-.venv/bin/python}" scripts/legacy_archive.py "$busybox" "$work/demo.tar"
cd "$work"
echo "\$ rootless convert demo.tar"
"$rootless" convert demo.tar
echo "\$ rootless run ./demo -- sh -c 'hostname; id; ps'"
"$rootless" run ./demo -- sh -c 'hostname; id; ps'
