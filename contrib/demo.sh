#!/bin/sh
# The main job on an archive made here: a legacy image of one layer around the host's static busybox.
set -eu
cd "$(dirname "$0")/.."
rootless=${ROOTLESS:-$PWD/.venv/bin/rootless}
busybox=$(command -v busybox || :)
if [ -z "$busybox" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  { apt-get update -qq && apt-get install -y -qq --no-install-recommends busybox-static; } >/dev/null
  busybox=$(command -v busybox)
fi
[ -n "$busybox" ] || { echo "demo: no busybox (Debian package: busybox-static)" >&2; exit 1; }
work=$(mktemp -d)
trap '"$rootless" remove "$work/demo" 2>/dev/null || :; rm -rf "$work"' EXIT
"${PYTHON_DEMO:-.venv/bin/python}" contrib/legacy_archive.py "$busybox" "$work/demo.tar"
cd "$work"
echo "\$ rootless convert demo.tar"
"$rootless" convert demo.tar
echo "\$ rootless run ./demo -- sh -c 'hostname; id; ps'"
"$rootless" run ./demo -- sh -c 'hostname; id; ps'
