#!/bin/sh
# Run all tests. As root: as root, then the container tests once more as an ordinary user.
set -eu
cd "$(dirname "$0")/.."
[ -x .venv/bin/rootless ] || ./contrib/setup.sh
export PATH="$PWD/.venv/bin:$PATH"
here=$PWD
# A copy that an ordinary user can read, since a checkout below root's home is closed to others.
if [ "$(id -u)" != 0 ]; then
  exec .venv/bin/python -m pytest -p no:cacheprovider -n "${JOBS:-2}" -m "not root and not vm and not client" tests
fi
user=${TEST_USER:-tester}
# What is the same for everybody is left to the user's run, where there will be one.
same="--ignore tests/unit --ignore tests/oci/test_fuzz.py --ignore tests/oci/test_convert_run.py"
command -v useradd >/dev/null || same=
# shellcheck disable=SC2086 # words
.venv/bin/python -m pytest -p no:cacheprovider -n "${JOBS:-2}" -m "not vm and not client" $same tests
if ! id -u "$user" >/dev/null 2>&1; then
  command -v useradd >/dev/null || { echo "no useradd: the tests as an ordinary user are left out"; exit 0; }
  useradd -m -s /bin/sh "$user"
fi
copy=$(mktemp -d /tmp/rootless-test.XXXXXX)
trap 'rm -rf "$copy"' EXIT
chmod 755 "$copy"
tar -C "$here" --exclude=./.git --exclude=./.venv -cf - . | tar -C "$copy" -xf -
/usr/bin/python3 -m venv "$copy/.venv"
"$copy/.venv/bin/pip" install -q --disable-pip-version-check 'setuptools>=77' wheel
(cd "$copy" && .venv/bin/pip install -q --disable-pip-version-check --no-build-isolation '.[zstd,lz4,systemd]' pytest pytest-xdist hypothesis)
rm -rf "$copy/build"
chown -R "$user" "$copy"
run=/run/user/$(id -u "$user")
[ -d "$run" ] || install -d -m 700 -o "$user" -g "$(id -g "$user")" "$run"
shared=${ROOTLESS_SHARED:-$here/../shared}
cd "$copy"
env -i PATH=/usr/local/bin:/usr/bin:/bin LANG=C.UTF-8 TERM=xterm USER="$user" XDG_RUNTIME_DIR="$run" \
  HOME="$(getent passwd "$user" | cut -d: -f6)" ROOTLESS_SHARED="$shared" \
  setpriv --reuid "$(id -u "$user")" --regid "$(id -g "$user")" --init-groups \
  .venv/bin/python -m pytest -p no:cacheprovider -n "${JOBS:-2}" -m "not root and not vm and not client" tests
# The clients: podman and buildah as the ordinary user, containerd and docker as root; each in a pure cgroup v2 view.
# RUNTIMES="[rootless] or [crun] or [runc]" runs the same scripts with the peers, so that a step that fails is the runtime's.
env TEST_USER="$user" .venv/bin/python -m pytest -p no:cacheprovider -n "${JOBS:-2}" -m client \
  -k "${RUNTIMES:-[rootless]}" tests/clients
