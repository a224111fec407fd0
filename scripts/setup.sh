#!/bin/sh
# Make a virtual environment ($VENV, default .venv) with rootless and its development tools.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
venv=${VENV:-.venv}
# An ordinary user cannot read an interpreter below root's home: where root runs this, prefer the system's own.
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
"$venv/bin/pip" install -q --disable-pip-version-check 'setuptools>=77' wheel
"$venv/bin/pip" install -q --disable-pip-version-check --no-build-isolation '.[zstd,lz4]' \
  pytest pytest-xdist hypothesis ruff mypy codespell
# Twice as fast at gzip as zlib, where there is a wheel of it for this machine.
"$venv/bin/pip" install -q --disable-pip-version-check --only-binary isal 'isal>=1.6' >/dev/null 2>&1 || :
# The peer of a differential test: it needs a C compiler, and its test skips by name without it.
"$venv/bin/pip" install -q --disable-pip-version-check --no-build-isolation unshare >/dev/null 2>&1 || :
rm -rf build rootless.egg-info
# Here the interpreter is known: no shell has to look for it at each start. (A first line that names it would save the
# shell, a millisecond; but Python itself says in five lines that it cannot start with a directory as standard input.)
interpreter=$(cd "$venv/bin" && pwd)/python3
case $interpreter in *[!A-Za-z0-9_./+-]*) ;; *)
  sed -i "1,9s|^# scripts/setup.sh writes here .*|[ -x $interpreter ] \&\& exec $interpreter -IS \"\$0\" \"\$@\"|" "$venv/bin/rootless" ;;
esac
# Leave the hot commands' byte code (rootless/startup/codecache.py) for users who may not write here; no container is named so.
for command in create start state kill delete run "exec .none"; do
  "$venv/bin/rootless" $command .none >/dev/null 2>&1 || :
done
