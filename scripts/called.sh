#!/bin/sh
# Write rootless/startup/called.py from what the hot commands call: as this user and, if root runs this, as an ordinary one,
# without a cgroup and with one of the user's own, as a systemd session has it.
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
unshare --mount sh -euc '
. ./scripts/ordinary_user.sh
work=$1 own=/sys/fs/cgroup/called-$$
umount -R /sys/fs/cgroup
mount -t cgroup2 none /sys/fs/cgroup
mkdir -p "$own/session"
chown -R "$user" "$own"
echo $$ >"$own/session/cgroup.procs"
as_user /usr/bin/python3 "$work/scripts/called.py" --print >"$work/report-with-cgroup"
echo $$ >/sys/fs/cgroup/cgroup.procs
find "$own" -depth -type d -exec rmdir {} +
' sh "$work"
"$python" scripts/called.py "$work/report" "$work/report-with-cgroup"
