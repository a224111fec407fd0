#!/bin/sh
# Try everything that tests/faults/test_faults.py tries a sample of: each system call of each command fails with each
# error, and the command is killed or stopped there. Print one line for each command with its counts, and one for each
# fault. This takes hours; COMMANDS="create run" and SAMPLE=300 shorten it.
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
