#!/bin/sh
# Convert and run an archive that this script makes: a legacy image with one layer, which holds the host's busybox.
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
