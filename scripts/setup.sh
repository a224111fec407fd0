#!/bin/sh
# Make a virtual environment ($VENV, default .venv) with rootless and its development tools: in any versions that
# pyproject.toml allows, so that it works with what an index or a directory of wheels has; with LOCKED=1 in those of
# requirements-dev.lock.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
venv=${VENV:-.venv}
# If root runs this, prefer the system's interpreter, because an ordinary user cannot read one below root's home.
[ "$(id -u)" = 0 ] && [ -x /usr/bin/python3 ] && [ -z "${PYTHON_CHOSEN:-}" ] && python=/usr/bin/python3
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
  echo "rootless: Python 3.11 or newer is needed (Debian package: python3)" >&2; exit 1
fi
# venv is needed; busybox is the root file system of the demo and of the tests; newuidmap gives a container many ids.
missing=
"$python" -c 'import ensurepip, venv' 2>/dev/null || missing=python3-venv
command -v busybox >/dev/null || missing="$missing busybox-static"
command -v newuidmap >/dev/null || missing="$missing uidmap"
if [ -n "$missing" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "setup: installing these Debian packages, because root runs this: $missing"
  # shellcheck disable=SC2086 # words
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing; } >/dev/null
elif [ -n "$missing" ]; then
  echo "rootless: missing here, as Debian packages:" $missing >&2
  case $missing in python3-venv*) exit 1 ;; esac
fi
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
if [ -n "${LOCKED:-}" ]; then
  # The versions of requirements-dev.lock and no others, each file with the digest that is written there. unshare needs a
  # C compiler, and is tried below.
  lock=$(mktemp)
  awk '/^[a-z]/ { left_out = /^unshare==/ } !left_out' requirements-dev.lock >"$lock"
  "$venv/bin/pip" install -q --disable-pip-version-check --require-hashes --only-binary :all: -r "$lock"
  rm "$lock"
fi
"$venv/bin/pip" install -q --disable-pip-version-check 'setuptools>=77' wheel
"$venv/bin/pip" install -q --disable-pip-version-check --no-build-isolation '.[zstd,lz4]' \
  pytest pytest-xdist hypothesis jsonschema cloudpickle ruff mypy codespell
# isal unpacks gzip twice as fast as zlib. Install it only if there is a wheel for this machine.
"$venv/bin/pip" install -q --disable-pip-version-check --only-binary isal 'isal>=1.6' >/dev/null 2>&1 || :
# A differential test compares with this package. It needs a C compiler; without it the test skips by name.
"$venv/bin/pip" install -q --disable-pip-version-check --no-build-isolation unshare >/dev/null 2>&1 || :
rm -rf build rootless.egg-info
# The interpreter is known here, so no shell has to look for it at each start. (A first line that names it would save the
# shell, a millisecond; but Python itself says in five lines that it cannot start with a directory as standard input.)
interpreter=$(cd "$venv/bin" && pwd)/python3
case $interpreter in *[!A-Za-z0-9_./+-]*) ;; *)
  sed -i "1,9s|^# scripts/setup.sh writes here .*|[ -x $interpreter ] \&\& exec $interpreter -IS \"\$0\" \"\$@\"|" "$venv/bin/rootless" ;;
esac
# Write the byte-code caches of the hot commands (rootless/startup/codecache.py), because other users may not write here.
# No container can have the name .none.
for command in create start state kill delete run "exec .none"; do
  "$venv/bin/rootless" $command .none >/dev/null 2>&1 || :
done
