# Sourced by the clients' check scripts: numbered steps with a count at the end, and a root file system of busybox.
# $RUNTIME is the runtime to drive: this checkout's rootless, or a peer's path.

# A daemon that dies leaves children. They become this script's, which takes note of their end: not every process 1 does,
# and a dead containerd looks alive until then. prctl(2): PR_SET_CHILD_SUBREAPER lasts across execve.
if [ -z "${STEPS_REAPER:-}" ]; then
  export STEPS_REAPER=1
  exec python3 -c 'import ctypes, os, sys; ctypes.CDLL(None).prctl(36, 1); os.execvp(sys.argv[1], sys.argv[1:])' bash "$0" "$@"
fi

checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
RUNTIME=${RUNTIME:-$checkout/bin/rootless}
RUNTIME=$(realpath -s "$(command -v "$RUNTIME")") || { echo "no such runtime" >&2; exit 1; }
NAME=$(basename "$RUNTIME")
work=$(mktemp -d "${TMPDIR:-/tmp}/check.XXXXXX")
chmod 755 "$work"
cgroup=check-$$ # below it a daemon puts its containers; the clients leave it behind
passed=0 failed=0 skipped=0
export TERM=${TERM:-xterm}

# _report WHAT STATUS: one line, and what was seen where the step failed.
_report() {
  if [ "$2" = 0 ]; then
    passed=$((passed + 1)); echo "ok $1"
  else
    failed=$((failed + 1)); echo "not ok $1"; shift 2; printf '  %s\n' "$@"; sed 's/^/  | /' "$work/out" "$work/err"
  fi
}

# attempt CMD...: CMD, ended when it hangs. A function bounds what it calls. SLOW=10: this machine is that much slower.
attempt() { if [ "$(type -t "$1")" = function ]; then "$@"; else bounded "$@"; fi; }
bounded() { timeout --foreground -k 5 $((${PATIENCE:-100} * ${SLOW:-1})) "$@"; }

# prints WANT WHAT CMD...: CMD ends with 0, and its output is WANT (a glob; carriage returns do not count).
prints() {
  local want=$1 what=$2 status=0 got
  shift 2
  attempt "$@" >"$work/out" 2>"$work/err" </dev/null || status=$?
  got=$(tr -d '\r' <"$work/out")
  # shellcheck disable=SC2053 # a glob is meant
  if [ "$status" = 0 ] && { [ "$got" = "$want" ] || [[ $got == $want ]]; }; then _report "$what" 0; else _report "$what" 1 "$*" "exit $status, wanted: $want"; fi
}

# exits CODE WHAT CMD...: CMD ends with CODE.
exits() {
  local want=$1 what=$2 status=0
  shift 2
  attempt "$@" >"$work/out" 2>"$work/err" </dev/null || status=$?
  if [ "$status" = "$want" ]; then _report "$what" 0; else _report "$what" 1 "$*" "exit $status, wanted $want"; fi
}

# fails WANT WHAT CMD...: CMD ends with another code than 0, and says WANT (a glob).
fails() {
  local want=$1 what=$2 status=0
  shift 2
  attempt "$@" >"$work/out" 2>"$work/err" </dev/null || status=$?
  # shellcheck disable=SC2053
  if [ "$status" != 0 ] && [[ $(cat "$work/out" "$work/err") == $want ]]; then _report "$what" 0; else _report "$what" 1 "$*" "exit $status, wanted: $want"; fi
}

# skip WHAT WHY: a step that this machine, or this runtime, has not got.
skip() { skipped=$((skipped + 1)); echo "skip $1: $2"; }

# peer_starts CMD...: a peer that cannot start the client's containers on this machine at all says so, once.
peer_starts() {
  [ "$NAME" = rootless ] && return
  "$@" >"$work/out" 2>&1 </dev/null && return
  skip "everything" "$(tail -n 1 "$work/out")"
  summary
  exit
}

# on_tty CMD...: CMD with a terminal of its own, on which nobody types; what it prints there.
on_tty() { bounded python3 -c 'import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))' "$@"; }

# a pipe on standard input: given TEXT CMD...
given() { local text=$1; shift; printf '%s' "$text" | bounded "$@"; }

# first CMD...: the first line of what CMD prints; then CMD is killed.
first() {
  local lines line
  exec {lines}< <(exec "$@" 2>&1)
  read -t $((60 * ${SLOW:-1})) -r line <&"$lines"
  kill -KILL $! 2>/dev/null
  exec {lines}<&-
  echo "$line"
}

# ended PID SIGNAL: send the signal, and wait until the process is gone, whoever its parent is.
ended() {
  python3 -c 'import os, select, signal, sys
pidfd = os.pidfd_open(int(sys.argv[1]))
signal.pidfd_send_signal(pidfd, getattr(signal, "SIG" + sys.argv[2]))
select.select([pidfd], [], [], 60 * int(os.environ.get("SLOW", "1")))' "$@"
}

# gone PID: wait until that process has ended; 1 if it lives on.
gone() {
  python3 -c 'import os, select, sys
try:
    pidfd = os.pidfd_open(int(sys.argv[1]))
except ProcessLookupError:
    sys.exit(0)
sys.exit(not select.select([pidfd], [], [], 60 * int(os.environ.get("SLOW", "1")))[0])' "$1"
}

# unmount_all: what a daemon has left mounted below our directory.
unmount_all() { awk -v "work=$work/" 'index($2 "/", work) == 1 {print $2}' /proc/self/mounts | sort -r | xargs -r umount -l; }

# remove_cgroup: what is left of $cgroup in the hierarchies that are mounted.
remove_cgroup() {
  local top
  for top in /sys/fs/cgroup{,/*}/"$cgroup"; do
    [ ! -d "$top" ] || find "$top" -depth -type d -exec rmdir {} + 2>/dev/null
  done
}

# has_controller NAME: of cgroup v2, in our own cgroup. has_cgroup: whether that is what is mounted.
has_controller() { grep -qw "$1" "/sys/fs/cgroup$(sed -n 's/^0:://p' /proc/self/cgroup)/cgroup.controllers" 2>/dev/null; }
has_cgroup() { [ -f /sys/fs/cgroup/cgroup.procs ]; }

# busybox_tree DIR: the host's static busybox as a root file system.
busybox_tree() {
  local applet
  mkdir -p "$1"/{bin,etc,root,home/user,tmp,proc,sys,dev,run,var}
  chmod 1777 "$1/tmp"
  cp /bin/busybox "$1/bin/busybox"
  for applet in $(/bin/busybox --list); do [ -e "$1/bin/$applet" ] || ln -s busybox "$1/bin/$applet"; done
  printf 'root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/home/user:/bin/sh\n' >"$1/etc/passwd"
  printf 'root:x:0:\nuser:x:1000:\nwheel:x:10:user\n' >"$1/etc/group"
  tar -C "$1" --owner=0 --group=0 -cf "$1.tar" .
}

# summary: the last line; 0 only if no step failed.
summary() {
  echo "$NAME: $passed passed, $failed failed, $skipped skipped"
  [ "$failed" = 0 ]
}
