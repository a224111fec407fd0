# Sourced by check scripts, before tests/clients/steps.sh: a Slurm cluster of two nodes on this machine. All of it is in
# namespaces (network, mounts, processes, hostname), so nothing of it is seen outside and nothing is left of it.
# Users: alice and bob, in copies of /etc/passwd and its kin. `cluster_up` needs $work, $checkout and $RUNTIME.
# Where cgroup v2 has the controllers, Slurm tracks and limits the jobs with them: see `limits`.
if [ "$(id -u)" != 0 ]; then echo "a Slurm cluster needs root" >&2; exit 1; fi
if [ -z "${CLUSTER_INNER:-}" ]; then
  export CLUSTER_INNER=1
  exec unshare --net --uts --mount --propagation private --pid --fork --kill-child --mount-proc "$0" "$@"
fi

# cluster_up: the users, munge, the controller, two nodes. 0 when both nodes are idle.
cluster_up() {
  local node
  cgroup=slurm-${work##*.} # processes' numbers are not the machine's here
  export SLURM_CONF=$work/etc/slurm.conf
  mkdir -p "$work"/etc "$work"/home "$work"/control && chmod 755 "$work/etc" "$work/home"
  hostname control
  _network || return
  _users && _munge && _configuration || return
  slurmctld -D >"$work/control/slurmctld.log" 2>&1 &
  for node in n1 n2; do
    mkdir -p "$work/$node"/{spool,tmp}
    WORK=$work CHECKOUT=$checkout NODE=$node CGROUP=$(_node_cgroup $node) NODE_CODE="$(declare -f _node); _node" \
      unshare --uts --mount --propagation private --pid --fork --kill-child --mount-proc bash -c '
        [ -z "$CGROUP" ] || echo 0 >"$CGROUP/cgroup.procs" || exit
        exec ${CGROUP:+unshare --cgroup} bash -c "$NODE_CODE"' >"$work/$node/slurmd.out" 2>&1 &
  done
  within 30 sh -c '[ "$(sinfo -h -t idle -o %D)" = 2 ]' && return
  sinfo -N -l; tail -n 20 "$work"/*/slurm*.{log,out}
  return 1
}

# cluster_down: what else there is ends with the process namespace, and so do the mounts.
cluster_down() {
  local pids
  pids=$(jobs -p) # the daemons, and with its process 1 each node
  disown -a # otherwise bash would tell of their end
  kill -KILL $pids 2>/dev/null
  for pid in $pids; do gone "$pid"; done
  remove_cgroup
  rm -rf "$work"
}

# limits: whether the jobs have limits. Each node has a cgroup then, the root of its cgroup namespace, as in a container.
limits() { has_cgroup && has_controller memory && has_controller cpuset; }
# _node_cgroup NODE: make and print it.
_node_cgroup() {
  local place=/sys/fs/cgroup/$cgroup/$1 controllers="+cpu +cpuset +memory +pids"
  limits || return
  mkdir -p "$place"
  echo "$controllers" >/sys/fs/cgroup/cgroup.subtree_control && echo "$controllers" >"/sys/fs/cgroup/$cgroup/cgroup.subtree_control" &&
    echo "$place"
}

# _node: one node: its own hostname, its own /tmp, and where there are limits its own cgroups. Without systemd, Slurm needs
# the cgroup system.slice, and that nobody is in the root, because a cgroup with processes hands no controllers on.
_node() {
  local path tmp=$WORK/$NODE/tmp
  hostname "$NODE"
  if [ -n "$CGROUP" ]; then
    umount -R /sys/fs/cgroup
    mount -t cgroup2 cgroup2 /sys/fs/cgroup && mkdir /sys/fs/cgroup/{init,system.slice} &&
      echo 0 >/sys/fs/cgroup/init/cgroup.procs || exit
    for path in /sys/fs/cgroup/{,system.slice/}cgroup.subtree_control; do echo "+cpu +cpuset +memory +pids" >"$path"; done
  fi
  mount -t tmpfs -o mode=1777 tmpfs "$tmp"
  for path in "$WORK" "$CHECKOUT"; do
    case $path in /tmp/*) mkdir -p "$tmp/${path#/tmp/}" && mount --rbind "$path" "$tmp/${path#/tmp/}" ;; esac
  done
  mount --rbind "$tmp" /tmp
  while :; do # below this shell, which as process 1 takes note of the end of orphans
    slurmd -D &
    wait $!
    sleep 0.1
  done
}

# _network: of its own, with an address for each node on the loopback device. getaddrinfo(3) finds nothing with 127.0.0.1 alone.
_network() {
  local number
  busybox ip link set lo up
  for number in 1 2 3; do busybox ip address add 10.0.0.$number/32 dev lo || return; done
}

# _users: alice and bob, and the command `by USER CMD...`, which has a login's environment.
_users() {
  local name uid=60001
  for name in passwd group subuid subgid; do cp "/etc/$name" "$work/etc/$name" || return; done
  printf '127.0.0.1 localhost\n10.0.0.1 control\n10.0.0.2 n1\n10.0.0.3 n2\n' >"$work/etc/hosts"
  for name in alice bob; do
    echo "$name:x:$uid:$uid::$work/home/$name:/bin/bash" >>"$work/etc/passwd"
    echo "$name:x:$uid:" >>"$work/etc/group"
    echo "$name:$(((uid - 50000) * 65536)):65536" | tee -a "$work/etc/subuid" >>"$work/etc/subgid"
    install -d -m 755 -o $uid -g $uid "$work/home/$name"
    uid=$((uid + 1))
  done
  mkdir -p "$work/bin"
  cat >"$work/bin/by" <<END
#!/bin/sh
user=\$1
shift
exec env -i PATH="$PATH" SLURM_CONF="$SLURM_CONF" USER="\$user" LOGNAME="\$user" HOME="$work/home/\$user" LANG=C.UTF-8 TERM="$TERM" \\
  setpriv --reuid "\$user" --regid "\$user" --init-groups "\$@"
END
  chmod 755 "$work/bin" "$work/bin/by"
  PATH=$PATH:$work/bin
  for name in passwd group subuid subgid hosts; do chmod 644 "$work/etc/$name" && mount --bind "$work/etc/$name" "/etc/$name" || return; done
}

_munge() {
  install -d -m 755 "$work/munge"
  (umask 077 && head -c 1024 /dev/urandom >"$work/munge/key")
  munged --force --key-file "$work/munge/key" --socket "$work/munge/socket" --pid-file "$work/munge/pid" \
    --log-file "$work/munge/log" --seed-file "$work/munge/seed" 2>"$work/munge/err"
}

_configuration() {
  local track=proctrack/linuxproc task=task/none gather=jobacct_gather/none consumed=CR_CPU cpus=8 share= plugin=CgroupPlugin=cgroup/v1
  if limits; then # a job's processors have to be there
    track=proctrack/cgroup task=task/cgroup gather=jobacct_gather/cgroup consumed=CR_CPU_Memory
    cpus=$(nproc) share="OverSubscribe=FORCE:8 DefMemPerCPU=100"
    plugin="CgroupPlugin=cgroup/v2 IgnoreSystemd=yes CgroupAutomount=yes ConstrainRAMSpace=yes ConstrainSwapSpace=yes ConstrainCores=yes"
  fi
  cat >"$SLURM_CONF" <<END
ClusterName=check
SlurmctldHost=control(10.0.0.1)
SlurmUser=root
AuthInfo=socket=$work/munge/socket,cred_expire=5
StateSaveLocation=$work/control/state
SlurmctldPidFile=$work/control/pid
SlurmctldLogFile=$work/control/slurmctld.log
SlurmdSpoolDir=$work/%n/spool
SlurmdPidFile=$work/%n/pid
SlurmdLogFile=$work/%n/slurmd.log
SlurmdDebug=debug
SlurmdParameters=config_overrides
ProctrackType=$track
TaskPlugin=$task
JobAcctGatherType=$gather
SelectType=select/cons_tres
SelectTypeParameters=$consumed
MpiDefault=none
ReturnToService=2
KillWait=$((2 * ${SLOW:-1}))
MessageTimeout=$((10 * ${SLOW:-1}))
TCPTimeout=$((2 * ${SLOW:-1}))
BatchStartTimeout=$((10 * ${SLOW:-1}))
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0
NodeName=n1 NodeAddr=10.0.0.2 Port=6820 CPUs=$cpus RealMemory=4000
NodeName=n2 NodeAddr=10.0.0.3 Port=6821 CPUs=$cpus RealMemory=4000
PartitionName=all Nodes=ALL Default=YES State=UP $share
END
  mkdir -p "$work/control/state"
  if [ "$NAME" = rootless ]; then
    sed "s|exec rootless |exec $RUNTIME |" "$checkout/contrib/slurm/oci.conf" >"$work/etc/oci.conf"
  else # as in Slurm's manual
    local call="exec $RUNTIME --root=/tmp/rootless-%u" id=%n.%u.%j.%s.%t
    printf 'RunTime%s"\n' "Run=\"$call run --bundle=%b $id" "Query=\"$call state $id" "Kill=\"$call kill -a $id" \
      "Delete=\"$call delete --force $id" >"$work/etc/oci.conf"
  fi
  printf '%s\n' $plugin >"$work/etc/cgroup.conf"
  chmod 644 "$work"/etc/*.conf
}

# within SECONDS CMD...: until CMD ends with 0; 1 if it never does. SLOW: see steps.sh.
within() {
  local end=$((SECONDS + $1 * ${SLOW:-1}))
  shift
  until "$@" >/dev/null 2>&1; do [ $SECONDS -lt $end ] || return 1; sleep 0.1; done
}
