#!/bin/sh
# Build the Debian package and its source package from contrib/debian into $1 (default dist). Debian packages debhelper,
# dh-python, pybuild-plugin-pyproject and the others of Build-Depends are needed. Nothing is written in the checkout. If
# lintian is there, it checks both, and whatever it says is a failure.
set -eu
cd "$(dirname "$0")/.."
mkdir -p "${1:-dist}"
target=$(cd "${1:-dist}" && pwd)
command -v dpkg-buildpackage >/dev/null || { echo "debian: no dpkg-buildpackage (Debian package: dpkg-dev)" >&2; exit 1; }
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 1' HUP INT TERM
umask 022
export PATH=/usr/sbin:/usr/bin:/sbin:/bin # the packages of Build-Depends are the system's interpreter's
mkdir "$scratch/rootless"
if ! git archive --format=tar HEAD >"$scratch/tree" 2>/dev/null; then
  tar -cf "$scratch/tree" --exclude=./.git --exclude=./.venv --exclude=./build --exclude=./dist --exclude=./site .
fi
tar -C "$scratch/rootless" -xf "$scratch/tree" --no-same-owner
chmod -R u=rwX,go=rX "$scratch/rootless"
version=$(sed -n '1s/.*(\(.*\)-[^-]*).*/\1/p' contrib/debian/changelog)
moment=$(dpkg-parsechangelog -l contrib/debian/changelog -S Timestamp)
tar -C "$scratch" --sort=name --mtime="@$moment" --owner=0 --group=0 -cf - rootless |
  gzip -9n >"$scratch/rootless_$version.orig.tar.gz"
cp -R "$scratch/rootless/contrib/debian" "$scratch/rootless/debian"
(cd "$scratch/rootless" && dpkg-buildpackage -us -uc) >"$scratch/log" 2>&1 || { cat "$scratch/log" >&2; exit 1; }
if command -v lintian >/dev/null; then
  lintian --allow-root --display-info "$scratch"/*.changes >"$scratch/said" 2>&1 || :
  [ ! -s "$scratch/said" ] || { cat "$scratch/said" >&2; exit 1; }
fi
for file in "$scratch"/*.deb "$scratch"/*.dsc "$scratch"/*.tar.*; do
  install -m 644 "$file" "$target/"
  (cd "$target" && sha256sum "${file##*/}")
done
