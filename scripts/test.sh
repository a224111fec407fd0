#!/bin/sh
# Run all tests. As root: as root, then the container tests once more as an ordinary user, then the clients' scripts.
# Arguments go to pytest in each of these: ./scripts/test.sh --collect-only -q
set -eu
cd "$(dirname "$0")/.."
[ -x .venv/bin/rootless ] || ./scripts/setup.sh
export PATH="$PWD/.venv/bin:$PATH"
if [ "$(id -u)" != 0 ]; then
  exec .venv/bin/python -m pytest -p no:cacheprovider -n "${JOBS:-2}" -m "not root and not vm and not client" "$@" tests
fi
. scripts/ordinary_user.sh
# What is the same for everybody is left to the user's run, where there will be one.
same="--ignore tests/unit --ignore tests/oci/test_fuzz.py --ignore tests/oci/test_convert_run.py"
command -v useradd >/dev/null || same=
# shellcheck disable=SC2086 # words
.venv/bin/python -m pytest -p no:cacheprovider -n "${JOBS:-2}" -m "not vm and not client" $same "$@" tests
make_user || { echo "test: there is no useradd, so the tests as an ordinary user are left out"; exit 0; }
copy=$(mktemp -d /tmp/rootless-test.XXXXXX)
trap 'rm -rf "$copy"' EXIT
# Archives beside the checkout that this user may not read are not there.
shared=${ROOTLESS_SHARED:-$PWD/../shared}
as_user test -r "$shared/." || shared=/nonexistent
copy_checkout "$copy"
/usr/bin/python3 -m venv "$copy/.venv"
"$copy/.venv/bin/pip" install -q --disable-pip-version-check 'setuptools>=77' wheel
(cd "$copy" && .venv/bin/pip install -q --disable-pip-version-check --no-build-isolation '.[zstd,lz4]' pytest pytest-xdist hypothesis)
rm -rf "$copy/build"
chown -R "$user" "$copy"
(cd "$copy" && as_user .venv/bin/python -m pytest -p no:cacheprovider -n "${JOBS:-2}" -m "not root and not vm and not client" "$@" tests)
# The clients: podman and buildah as the ordinary user, containerd and docker as root; each in a pure cgroup v2 view.
# RUNTIMES="[rootless] or [crun] or [runc]" runs the same scripts with the peers, so that a step that fails is the runtime's.
# They run in a copy that the user can read: podman and buildah start the runtime themselves.
cd "$copy"
env TEST_USER="$user" .venv/bin/python -m pytest -p no:cacheprovider -n "${JOBS:-2}" -m client \
  -k "${RUNTIMES:-[rootless]}" "$@" tests/clients
