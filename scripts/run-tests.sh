#!/bin/sh
# run-tests.sh PYTHON ARGUMENT...: run pytest with these arguments. If one to three tests fail, run these once more, one at a
# time with nothing else at the same time, and name them. A test that fails only beside others has a bug, or the program has,
# but the other results of the run are still good. If more tests fail, or one fails again, the run fails.
# A test that takes longer than HANGS seconds (300) has failed: its process prints its stacks and ends (pytest 9).
set -eu
python=$1
shift
cache=$(mktemp -d "${TMPDIR:-/tmp}/rootless-tests.XXXXXX")
trap 'rm -rf "$cache"' EXIT
status=0
set -- -o faulthandler_timeout="${HANGS:-300}" -o faulthandler_exit_on_timeout=true "$@"
"$python" -m pytest -o cache_dir="$cache" "$@" || status=$?
failed=$cache/v/cache/lastfailed
[ $status = 1 ] && [ -s "$failed" ] || exit $status
names=$(sed -n 's/^ *"\(.*\)": true,*$/\1/p' "$failed")
[ "$(echo "$names" | wc -l)" -le 3 ] || exit $status
echo "=== FAILED ONCE, and run again now with nothing beside them:"
echo "$names"
"$python" -m pytest -o cache_dir="$cache" --last-failed --last-failed-no-failures none "$@" -n 0
echo "=== PASSED THE SECOND TIME, and need a look:"
echo "$names"
