#!/bin/sh
# All that tests/faults/test_faults.py tries a share of: each system call of each command, with each error, and as the
# place where it is killed or stopped. Says one line a command with its counts, and one for each fault. Takes hours.
# COMMANDS="create run" and SAMPLE=300 make it less.
set -u
cd "$(dirname "$0")/.."
wrong=0
inject() {
  # shellcheck disable=SC2086 # words
  .venv/bin/python -m tests.faults.inject ${COMMANDS:-} --sample "${SAMPLE:-0}" "$@" || wrong=1
}
inject
inject --ranges
inject --mode every
inject --mode kill
inject --mode stop
exit $wrong
