#!/bin/sh
# Write rootless/startup/called.py from what the hot commands call: as this user and, if root runs this, as an ordinary one.
set -eu
cd "$(dirname "$0")/.."
python=$PWD/.venv/bin/python
if [ "$(id -u)" != 0 ]; then exec "$python" scripts/called.py; fi
. ./scripts/ordinary_user.sh
make_user
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
copy_checkout "$work"
as_user /usr/bin/python3 "$work/scripts/called.py" --print >"$work/report"
"$python" scripts/called.py "$work/report"
