#!/bin/bash
# Install the wheel in each way of docs/guide/install.md, in a clean home each, by the commands of that page; every
# installation converts an archive, runs a container and keeps its byte code.
#
#   scripts/test-install.sh          the first Python that is here in every way, the others in a virtual environment
#   scripts/test-install.sh --all    every Python from 3.11 on in every way
#
# As root an ordinary user installs and runs (scripts/ordinary_user.sh), and root installs for all users, too. Nothing
# outside a temporary directory is changed. uv and pipx come from PyPI. PYTHONS names the interpreters.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/ordinary_user.sh
. scripts/pythons.sh
case ${1:-} in '' | --all) all=${1:-} ;; *) sed -n 2,9p "$0" >&2; exit 2 ;; esac
page=docs/guide/install.md
work=$(mktemp -d /tmp/rootless-install.XXXXXX)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
umask 022
if [ "$(id -u)" = 0 ]; then
  make_user || { echo "test-install: there is no useradd, so no ordinary user to install as" >&2; exit 1; }
else
  user=$(id -un)
  as_user() { "$@"; }
fi

# block HEADING: print the commands that stand below a heading of the page.
block() { awk -v heading="## $1" '/^## / { here = $0 == heading } /^```$/ { code = 0 } here && code; /^```sh$/ { code = 1 }' "$page"; }

# clean HOME PYTHON CMD...: run CMD as the user in an empty home, where python3 is PYTHON. pip and uv use only what is in
# $work/wheels, so that no command waits for an index.
clean() {
  local home=$1 python=$2
  shift 2
  (cd "$home" && as_user env HOME="$home" XDG_CACHE_HOME="$home/.cache" PYTHONPATH="$(cat "$home/pythonpath")" \
    PATH="$home/.local/bin:$home/python:$work/tools/bin:/usr/bin:/bin" \
    PIP_NO_INDEX=1 PIP_FIND_LINKS="$work/wheels" PIP_BREAK_SYSTEM_PACKAGES=1 PIP_DISABLE_PIP_VERSION_CHECK=1 \
    UV_CONFIG_FILE="$work/uv.toml" UV_PYTHON="$python" PIPX_DEFAULT_PYTHON="$python" "$@")
}

# What every installation does, in its home. $1: the version of Python.
works='set -eu
said=$(rootless doctor --json) || { echo "$said"; exit 1; }
case $said in *"Python $1"*) ;; *) echo "it does not run under Python $1"; exit 1 ;; esac
rootless convert demo.tar >/dev/null
said=$(rootless run demo -- sh -c "echo it runs as \$(id -u)")
[ "$said" = "it runs as 0" ]
rootless state none 2>/dev/null || rootless state none 2>/dev/null || :
if [ "$2" = code ]; then
  code=$(find "$HOME" -name "state.*.code")
  [ -n "$code" ] || { echo "it keeps no byte code"; exit 1; }
  before=$(stat -c %i "$code"); rootless state none 2>/dev/null || :
  [ "$before" = "$(stat -c %i "$code")" ] || { echo "it does not use its byte code"; exit 1; }
fi
rootless remove demo'

# try NAME HEADING PYTHON VERSION [SUFFIX]: install by the page's block, check, and print one line.
try() {
  local name=$1 heading=$2 python=$3 version=$4 home=$work/$1-$4 commands code=code
  mkdir -p "$home/python" "$home/dist"
  printf '#!/bin/sh\nexec %s "$@"\n' "$python" >"$home/python/python3"
  chmod 755 "$home/python/python3"
  cp "$home/python/python3" "$home/python/python$version" # every directory with an interpreter has both names
  cp "$work"/dist/* "$home/dist"
  cp "$work/demo.tar" "$home"
  : >"$home/pythonpath"
  # The interpreter's own pip if it has one, as users have it (a copy below $work may be given it), else the tools'.
  case $name,$python in user,"$work"/*) "$python" -m ensurepip >/dev/null 2>&1 || : ;; esac
  [ "$name" != user ] || "$python" -m pip --version >/dev/null 2>&1 || echo "$work/pip" >"$home/pythonpath"
  chown -R "$user" "$home"
  commands=$(block "$heading")
  [ -n "$commands" ] || { echo "test-install: $page has no commands below '$heading'" >&2; exit 1; }
  [ "$name" != file ] || code= # it keeps none
  if clean "$home" "$python" sh -euc "$commands" >"$work/log" 2>&1 && clean "$home" "$python" sh -c "$works" sh "$version" "$code" >>"$work/log" 2>&1 &&
    clean "$home" "$python" sh -euc "$(block Afterwards; [ "$name" != venv ] || block "Manual pages and completions")" >>"$work/log" 2>&1 && shares "$name" "$home" >>"$work/log" 2>&1; then
    echo "test-install: Python $version, $heading: it installs and runs ($SECONDS s)"
  else
    echo "test-install: Python $version, $heading: FAILED" >&2
    cat "$work/log" >&2
    failed+=("$heading/$version")
  fi
  rm -rf "$home"
}

# shares NAME HOME: look for the manual page and the completions where that way puts them.
shares() {
  local share=
  case $1 in
    file) return ;;
    pipx) [ -e "$2/.local/share/man/man1/rootless-run.1" ] || { echo "pipx has put no manual page into ~/.local/share/man"; return 1; } ;;
    user) share=$2/.local/share ;;
  esac
  share=${share:-$(dirname "$(find "$2" -path '*/share/man' | head -1)")}
  for file in man/man1/rootless.1 bash-completion/completions/rootless zsh/site-functions/_rootless fish/vendor_completions.d/rootless.fish; do
    [ -e "$share/$file" ] || { echo "$share/$file is missing"; return 1; }
  done
}

# for_all PYTHON VERSION: root installs by the page's block, in other directories, and an ordinary user runs it.
for_all() {
  local home=$work/all-$2 top=$work/system-$2 commands
  mkdir -p "$home/dist" "$top/bin"
  cp "$work"/dist/* "$home/dist"
  cp "$work/demo.tar" "$home"
  : >"$home/pythonpath"
  chown -R "$user" "$home"
  commands=$(block "For all users" | sed "s|^sudo ||; s|/opt/rootless|$top/rootless|g; s|/usr/local/bin|$top/bin|; s|^python3 |$1 |")
  if (cd "$home" && PIP_NO_INDEX=1 PIP_FIND_LINKS="$work/wheels" sh -euc "$commands") >"$work/log" 2>&1 &&
    clean "$home" "$1" env PATH="$top/bin:/usr/bin:/bin" sh -c "$works" sh "$2" code >>"$work/log" 2>&1 &&
    [ -z "$(find "$top/rootless" -name '*.code')" ]; then
    echo "test-install: Python $2, For all users: it installs and runs ($SECONDS s)"
  else
    echo "test-install: Python $2, For all users: FAILED" >&2
    cat "$work/log" >&2
    failed+=("for all/$2")
  fi
  rm -rf "$home" "$top"
}

[ -x .venv/bin/python ] || ./scripts/setup.sh
mkdir "$work/dist" "$work/wheels"
scripts/build.sh "$work/dist" >/dev/null
rm "$work"/dist/*.tar.gz
.venv/bin/python scripts/zipapp.py "$work/dist/rootless.pyz" >/dev/null
.venv/bin/python scripts/legacy_archive.py "$(command -v busybox)" "$work/demo.tar"
.venv/bin/pip download -q --disable-pip-version-check --only-binary :all: -d "$work/wheels" "$work"/dist/*.whl 2>/dev/null
cp "$work"/dist/*.whl "$work/wheels"
printf 'no-index = true\nfind-links = ["%s"]\n' "$work/wheels" >"$work/uv.toml"

# tools PYTHON: install uv and pipx, and beside them pip for an interpreter that has none.
tools() {
  "$1" -m venv "$work/tools"
  "$work/tools/bin/pip" install -q --disable-pip-version-check uv pipx 2>/dev/null
  mkdir "$work/pip"
  cp -R "$work"/tools/lib/python3.*/site-packages/pip "$work/pip/"
  chmod -R a+rX "$work/tools" "$work/pip"
}

failed=() tried=() seen=" "
while read -r python <&3; do
  version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2] if sys.version_info >= (3, 11) else "")' 2>/dev/null) || continue
  case $version in '') continue ;; esac
  case $seen in *" $version "*) continue ;; esac
  seen+="$version "
  python=$(readable "$python") || { failed+=("$version"); continue; }
  [ -d "$work/tools" ] || tools "$python"
  try venv "A virtual environment" "$python" "$version"
  if [ -n "$all" ] || [ ${#tried[@]} = 0 ]; then
    try user "pip for one user" "$python" "$version"
    try pipx pipx "$python" "$version"
    try uv uv "$python" "$version"
    try file "One file" "$python" "$version"
    [ "$(id -u)" != 0 ] || for_all "$python" "$version"
  fi
  tried+=("$version")
done 3< <(candidates)
echo "test-install: tried under Python ${tried[*]:-none}${failed:+; FAILED: ${failed[*]}}"
[ ${#failed[@]} = 0 ] && [ ${#tried[@]} -gt 0 ]
