# Sourced by scripts that drive containerd's CRI plugin by gRPC like kubelet does: a daemon with a socket, directories and
# a network namespace of its own, so that the machine's network is not touched, and functions that make pods and containers.
[ "$(id -u)" = 0 ] || { echo "containerd needs root" >&2; exit 1; }
[ -n "${CRI_NETWORK:-}" ] || CRI_NETWORK=1 exec unshare --net "$0" "$@"
. "$(dirname "${BASH_SOURCE[0]}")/../../tests/clients/steps.sh"

# python_with MODULES PACKAGES: set $python to an interpreter that has the modules, or end.
python_with() {
  for python in "$checkout/.venv/bin/python3" python3 /usr/bin/python3; do
    "$python" -c "import $1" 2>/dev/null && return
  done
  echo "this machine lacks a Python with the modules $1 ($2)" >&2
  rmdir "$work"
  exit 77
}
python_with "${modules:-grpc}" "${packages:-python3-grpcio, or pip install grpcio}"
busybox ip link set lo up
export CONTAINERD_ADDRESS=$work/containerd.sock CONTAINERD_NAMESPACE=k8s.io CONTAINER_RUNTIME_ENDPOINT=$work/containerd.sock
image=docker.io/library/bb:latest
plugin='[plugins."io.containerd.grpc.v1.cri"'

# Without the cpu controller no runtime can set a pod's small CPU weight, so disable_cgroup tells the plugin not to ask for
# one. CGROUP_MANAGER=systemd if systemd runs.
bool() { "$@" && echo true || echo false; }
no_limits() { { has_cgroup || [ "$NAME" = rootless ]; } && ! grep -qsw cpu /sys/fs/cgroup/cgroup.controllers; } # this runtime has no cgroup v1
may_not_lower() { ! (echo -998 >"/proc/$BASHPID/oom_score_adj") 2>/dev/null; } # an OOM score: CAP_SYS_RESOURCE
parent=/$cgroup options="Root = \"$work/runtime\""
[ "${CGROUP_MANAGER:-}" != systemd ] || parent=check$$.slice options+='\n  SystemdCgroup = true'
networks=/nonexistent # CNI's plugins
for directory in /usr/lib/cni /opt/cni/bin; do [ ! -x $directory/ptp ] || networks=$directory; done
mkdir "$work/cni"
cat >"$work/cni/check.conflist" <<JSON
{"cniVersion": "0.4.0", "name": "check", "plugins": [
  {"type": "ptp", "ipam": {"type": "host-local", "subnet": "10.88.0.0/24", "dataDir": "$work/ipam"}}]}
JSON
# configure FILE: use a configuration of contrib with this runtime and with directories of this script.
configure() {
  local snapshotter="  snapshotter = \"${SNAPSHOTTER:-overlayfs}\""
  {
    printf 'root = "%s"\nstate = "%s"\ndisabled_plugins = ["io.containerd.internal.v1.opt"]\n' "$work/root" "$work/state"
    sed "s|BinaryName = .*|BinaryName = \"$RUNTIME\"\n  $options|; s|default_runtime_name = .*|&\n$snapshotter|" "$1"
    grep -q default_runtime_name "$1" || printf '%s.containerd]\n%s\n' "$plugin" "$snapshotter"
    # Where a shim is slower than this to answer a containerd that starts again, containerd ends its containers.
    printf '[timeouts]\n  "io.containerd.timeout.shim.load" = "%ss"\n' $((5 * ${SLOW:-1}))
    printf '[grpc]\n  address = "%s"\n' "$CONTAINERD_ADDRESS"
    printf '%s]\n  sandbox_image = "%s"\n  disable_cgroup = %s\n  disable_apparmor = true\n' "$plugin" $image "$(bool no_limits)"
    printf '  restrict_oom_score_adj = %s\n  netns_mounts_under_state_dir = true\n' "$(bool may_not_lower)"
    printf '%s.cni]\n  bin_dir = "%s"\n  conf_dir = "%s"\n' "$plugin" $networks "$work/cni"
  } >"$work/config.toml"
}

cri() { bounded "$python" "$checkout/contrib/containerd/cri.py" "$@"; }
up() {
  python3 "$checkout/tests/clients/start_daemon" "$work/log" containerd --config "$work/config.toml" && return
  tail -n 20 "$work/log"
  return 1
}
# shims: return whether a shim still runs after a while. traces: print the remaining cgroups and states of old containers.
shims() { timeout $((20 * ${SLOW:-1})) sh -c 'while pgrep -f "[c]ontainerd-shim.* $0" >/dev/null; do sleep 0.1; done; exit 1' "-address $CONTAINERD_ADDRESS"; }
traces() {
  find /sys/fs/cgroup "$work/runtime" -type d -regextype egrep -regex '.*/[0-9a-f]{64}' |
    grep -F "$(grep -oE '\b[0-9a-f]{64}\b' "$work/log" | sort -u)"
}
daemon() { pgrep -f "containerd --config $work/config.toml"; }
shim() { pgrep -f "containerd-shim-runc-v2 -namespace k8s.io -id $1 "; }
finish() {
  local id
  [ ! -e "$work/root" ] || [ -n "$(daemon)" ] || up # a step has killed the daemon, but only a daemon can end the pods
  for id in $(cri ListPodSandbox 2>/dev/null | grep -oE "\b[0-9a-f]{64}\b"); do
    cri StopPodSandbox pod_sandbox_id="$id"; cri RemovePodSandbox pod_sandbox_id="$id"
  done >/dev/null 2>&1
  [ -z "$(daemon)" ] || ended "$(daemon)" TERM
  unmount_all
  [ "${CGROUP_MANAGER:-}" != systemd ] || systemctl stop "$parent"
  remove_cgroup
  rmdir /var/lib/cni/{results,} 2>/dev/null # CNI keeps its results there
  rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT TERM

# pod_config NAME [MEMBERS]: print a pod's configuration; MEMBERS are members of its "linux" object.
pod_config() {
  mkdir -p "$work/logs/$1"
  echo '{"metadata": {"name": "'"$1"'", "uid": "'"$1"'-uid", "namespace": "default"}, "hostname": "'$hostname'",
    "log_directory": "'"$work/logs/$1"'", "labels": {"app": "check"}, "linux": {"cgroup_parent": "'"$parent"'", '"${2:-}"'
    "security_context": {"privileged": '$privileged', "namespace_options": {"network": "'$network'", "pid": "'"${pid%%\"*}"'"}}}}'
}
network=NODE pid=CONTAINER hostname='' privileged=false # of a pod and its containers
pod_up() { config=$(pod_config "$@") && pod=$(cri RunPodSandbox config="$config" .pod_sandbox_id); } # sets $pod, $config
pod_down() { cri StopPodSandbox pod_sandbox_id="$1" >/dev/null && cri RemovePodSandbox pod_sandbox_id="$1" >/dev/null; }
# container [MEMBERS [SECURITY [RESOURCES]]]: print a container's configuration; the last two belong to its "linux" object.
container() {
  echo '{"image": {"image": "'$image'"}, '"${1:+$1, }"'"linux": {"resources": {'"${3:-}"'}, "security_context": {'"${2:+$2, }"'
    "privileged": '$privileged', "namespace_options": {"network": "'$network'", "pid": "'"$pid"'"}}}}'
}
# run MEMBERS CMD..., secure SECURITY CMD..., limited RESOURCES CMD...: run CMD in a container of $pod, then remove it.
run() { cri run "$pod" "$config" "$(container "$1")" "${@:2}"; }
secure() { cri run "$pod" "$config" "$(container "" "$1")" "${@:2}"; }
limited() { cri run "$pod" "$config" "$(container "" "" "$1")" "${@:2}"; }
# begin MEMBERS CMD...: start a container and print its id. update RESOURCES: update $id. remove ID. status ID FIELD...
# until_exited ID: wait, and print its state. until_not_ready: wait for $pod.
begin() {
  local id
  id=$(cri create "$pod" "$config" "$(container "$1" "" "${RESOURCES:-}")" "${@:2}") && cri StartContainer container_id="$id" >/dev/null && echo "$id"
}
update() { cri UpdateContainerResources container_id="$id" linux="$1"; }
remove() { cri RemoveContainer container_id="$1" >/dev/null; }
until_not_ready() {
  local _
  for _ in {1..100}; do
    [ "$(cri PodSandboxStatus pod_sandbox_id="$pod" .status.state)" = SANDBOX_NOTREADY ] && return
    sleep 0.1
  done
  return 1
}
until_exited() { cri wait "$1" >/dev/null; status "$1" state; }
status() { local id=$1; shift; cri ContainerStatus container_id="$id" "${@/#/.status.}"; }

# begin_daemon FILE: start containerd with that configuration of contrib and the image.
begin_daemon() {
  configure "$1"
  # Mount sysfs like a host does, because the first mount in a network namespace decides whether it is writable.
  mkdir "$work/sys" && mount -t sysfs sysfs "$work/sys"
  busybox_tree "$work/rootfs"
  "$checkout/bin/rootless" import -q -o "$work/bundle" -c 'ENV PATH=/bin' -c 'ENTRYPOINT ["/bin/sleep"]' -c 'CMD ["infinity"]' \
    "$work/rootfs.tar" >/dev/null &&
    "$checkout/bin/rootless" pack -q --flatten --format docker -t bb:latest -o "$work/image.tar" "$work/bundle" >/dev/null &&
    up && bounded ctr images import "$work/image.tar" >/dev/null
}
