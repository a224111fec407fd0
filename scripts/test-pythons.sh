#!/bin/bash
# Run the unit tests, one file of container tests and the guides of the Python API under every installed Python from
# 3.11 on, and name these versions.
# PYTHONS names the interpreters (default: those in PATH and pyenv's). As root the tests run as an ordinary user.
# EXCEPT=3.11 leaves out a version with which all tests have just run.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/ordinary_user.sh
. scripts/pythons.sh
tests="tests/unit tests/kernel tests/containers/test_lifecycle.py tests/api/test_guides.py tests/api/test_workers.py"
# Debian's package is built with the system's Python each time, and random configs find the same under each version.
tests="$tests --ignore tests/unit/test_debian_package.py --ignore tests/unit/test_fuzz_config.py"
work=$(mktemp -d /tmp/rootless-pythons.XXXXXX)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
[ "$(id -u)" = 0 ] || { as_user() { "$@"; }; user=$(id -un); }
[ "$(id -u)" != 0 ] || make_user || { echo "test-pythons: there is no useradd, so no ordinary user to test as" >&2; exit 1; }

[ -x .venv/bin/python ] || ./scripts/setup.sh
tested=() failed=() seen=" "
checkout=$PWD
while read -r python <&3; do
  version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2] if sys.version_info >= (3, 11) else "")' 2>/dev/null) || continue
  case $version in '') continue ;; esac
  case $seen in *" $version "*) continue ;; esac
  seen+="$version "
  [ "$version" != "${EXCEPT:-}" ] || { echo "test-pythons: Python $version is left out, because EXCEPT names it"; continue; }
  python=$(readable "$python") || { echo "test-pythons: $version cannot be made readable for $user" >&2; failed+=("$version"); continue; }
  full=$("$python" -c 'import platform; print(platform.python_version())')
  echo "=== Python $full: $tests"
  copy=$work/checkout-$version
  mkdir "$copy"
  copy_checkout "$copy"
  "$python" -m venv "$copy/.venv"
  "$copy/.venv/bin/pip" install -q --disable-pip-version-check 'click>=8.1' 'attrs>=22.2' jeepney pytest pytest-xdist hypothesis jsonschema
  chown -R "$user" "$copy/.venv"
  # shellcheck disable=SC2086 # words
  if (cd "$copy" && as_user ./scripts/run-tests.sh .venv/bin/python -q -n "${JOBS:-2}" -m "not root and not vm and not client" $tests); then
    tested+=("$full")
  else
    failed+=("$full")
  fi
  cd "$checkout"
done 3< <(candidates)
echo "test-pythons: passed under Python ${tested[*]:-none}${failed:+; FAILED under ${failed[*]}}"
[ ${#failed[@]} = 0 ] && { [ ${#tested[@]} -gt 0 ] || [ -n "${EXCEPT:-}" ]; }
