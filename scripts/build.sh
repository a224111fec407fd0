#!/bin/sh
# Build the sdist and, from it, the wheel into $1 (default dist). Build both twice and fail if the digests differ.
# The tree that is built is the last commit's; without a repository (in an unpacked sdist) it is the files here.
# $PYTHON (default .venv/bin/python, which `make setup` makes) needs setuptools 77 or newer; nothing is downloaded.
set -eu
cd "$(dirname "$0")/.."
source=$PWD
mkdir -p "${1:-dist}"
target=$(cd "${1:-dist}" && pwd)
python=${PYTHON:-$source/.venv/bin/python}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 1' HUP INT TERM
# Every time in the archives is this one: the last commit's, or in an sdist the one that its files carry.
if [ -e .git ] && commit=$(git log -1 --format=%ct 2>/dev/null); then
  export SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-$commit}"
else
  commit=
  export SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-$(stat -c %Y pyproject.toml)}"
fi
export PYTHONDONTWRITEBYTECODE=1
umask 022 # setuptools gives the files that it makes the modes that the umask leaves

# unpack DIRECTORY: put the sources there, with modes that do not depend on the umask of whoever cloned.
unpack() {
  mkdir -p "$1"
  if [ -n "$commit" ]; then
    git archive --format=tar HEAD
  else
    tar -cf - --exclude=./.git --exclude=./.venv --exclude=./build --exclude=./dist --exclude=./site .
  fi | tar -C "$1" -xf - --no-same-owner
  chmod -R u=rwX,go=rX "$1"
}

# backend HOOK: call a hook of the build backend (PEP 517) in the working directory, its archive goes to $out.
backend() {
  "$python" -c 'import sys, setuptools.build_meta as b; getattr(b, sys.argv[1])(sys.argv[2])' "$1" "$out" >"$scratch/log" 2>&1 ||
    { cat "$scratch/log" >&2; exit 1; }
}

# build NAME: build both archives in directories of that name, into $scratch/NAME/out.
build() {
  out=$scratch/$1/out
  mkdir -p "$out"
  unpack "$scratch/$1/tree"
  (cd "$scratch/$1/tree" && backend build_sdist)
  sdist=$(basename "$out"/*.tar.gz)
  # setuptools writes the times and the owners of this machine into the sdist, so it is packed again without them.
  mkdir "$scratch/$1/sdist"
  tar -C "$scratch/$1/sdist" -xf "$out/$sdist" --no-same-owner
  chmod -R u=rwX,go=rX "$scratch/$1/sdist"
  tar -C "$scratch/$1/sdist" --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner --format=ustar \
    -cf - "${sdist%.tar.gz}" | gzip -9n >"$out/$sdist"
  (cd "$scratch/$1/sdist/${sdist%.tar.gz}" && backend build_wheel)
}

(export TZ=UTC && build one)
(export TZ=Asia/Tokyo && build another)
for archive in "$scratch"/one/out/*; do
  if ! cmp -s "$archive" "$scratch/another/out/${archive##*/}"; then
    echo "build: ${archive##*/} differs from one build to the next: $(sha256sum <"$archive") $(
      sha256sum <"$scratch/another/out/${archive##*/}")" >&2
    exit 1
  fi
done
for archive in "$scratch"/one/out/*; do
  install -m 644 "$archive" "$target/"
  (cd "$target" && sha256sum "${archive##*/}")
done
