#!/bin/sh
# Run all tests. As root: as root, then the container tests once more as an ordinary user, then the clients' scripts.
# Arguments go to pytest in each of these: ./scripts/test.sh --collect-only -q
set -eu
cd "$(dirname "$0")/.."
[ -x .venv/bin/rootless ] || ./scripts/setup.sh
export PATH="$PWD/.venv/bin:$PATH"
if [ "$(id -u)" != 0 ]; then
  exec ./scripts/run-tests.sh .venv/bin/python -n "${JOBS:-2}" -m "not root and not vm and not client" "$@" tests
fi
. scripts/ordinary_user.sh
# Tests of Dask, of submitit and of the Kubernetes manifests skip by name without these packages, which nothing else uses.
add_cluster_packages() {
  "$1/bin/pip" install -q --disable-pip-version-check distributed submitit kubernetes-validate >/dev/null 2>&1 || :
}
add_cluster_packages .venv
# Leave tests that do not depend on the user to the ordinary user's run, if there will be one.
same="--ignore tests/unit --ignore tests/oci/test_fuzz.py --ignore tests/oci/test_convert_run.py"
same="$same --ignore tests/run/test_pages.py --ignore tests/api/test_guides.py --ignore tests/api/test_dask.py"
same="$same --ignore tests/oci/test_internal_errors.py --ignore tests/oci/test_failing_calls.py"
same="$same --ignore tests/faults" # `make fuzz` injects faults into root's commands, too
command -v useradd >/dev/null || same=
# shellcheck disable=SC2086 # words
./scripts/run-tests.sh .venv/bin/python -n "${JOBS:-2}" -m "not vm and not client" $same "$@" tests
make_user || { echo "test: there is no useradd, so the tests as an ordinary user are left out"; exit 0; }
copy=$(mktemp -d /tmp/rootless-test.XXXXXX)
tun='' # the mode that /dev/net/tun gets back
trap 'rm -rf "$copy"; [ -z "$tun" ] || chmod "$tun" /dev/net/tun' EXIT
if [ -c /dev/net/tun ] && ! as_user test -w /dev/net/tun; then
  echo "test: opening /dev/net/tun to everybody until the tests end, because $user's network engines use it"
  tun=$(stat -c %a /dev/net/tun)
  chmod 666 /dev/net/tun || tun=
fi
# The tests skip archives beside the checkout that this user may not read.
shared=${ROOTLESS_SHARED:-$PWD/../shared}
as_user test -r "$shared/." || shared=/nonexistent
copy_checkout "$copy"
/usr/bin/python3 -m venv "$copy/.venv"
"$copy/.venv/bin/pip" install -q --disable-pip-version-check 'setuptools>=77' wheel
(cd "$copy" && .venv/bin/pip install -q --disable-pip-version-check --no-build-isolation '.[zstd,lz4]' pytest pytest-xdist hypothesis jsonschema cloudpickle)
add_cluster_packages "$copy/.venv"
rm -rf "$copy/build"
chown -R "$user" "$copy"
(cd "$copy" && as_user ./scripts/run-tests.sh .venv/bin/python -n "${JOBS:-2}" -m "not root and not vm and not client" "$@" tests)
# The clients' scripts: podman and buildah run as the ordinary user, containerd and docker as root, each with a view of
# cgroup v2 only.
# RUNTIMES="[rootless] or [crun] or [runc]" runs the same scripts with the other runtimes, to tell whether a failing step
# is this runtime's fault.
# They run in a copy that the user can read, because podman and buildah start the runtime as that user.
# Where tools/debian13 is beside the checkout, they run with the clients of Debian 13 as well.
tools=${ROOTLESS_SHARED:-$PWD/../shared}
cd "$copy"
env TEST_USER="$user" ROOTLESS_SHARED="$tools" HANGS=1200 ./scripts/run-tests.sh .venv/bin/python -n "${JOBS:-2}" -m client \
  -k "${RUNTIMES:-[rootless]}" "$@" tests/clients
