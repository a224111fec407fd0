# Scripts that root runs source this file. It copies the checkout for an ordinary user and runs commands as that user.
# The copy is needed because no other user can read a checkout below root's home.

user=${TEST_USER:-tester}

# make_user: add the ordinary user if there is none, and say so first. Return 1 if no user can be added.
make_user() {
  id -u "$user" >/dev/null 2>&1 && return
  command -v useradd >/dev/null || return 1
  echo "$(basename "$0" .sh): adding the user $user (useradd), because an ordinary user runs a part of the tests"
  useradd -m -s /bin/sh "$user"
}

# copy_checkout DIR: copy the files of this checkout, without its history and its virtual environment.
copy_checkout() {
  chmod 755 "$1"
  tar --exclude=./.git --exclude=./.venv --exclude=./site -cf - . | tar -C "$1" -xf -
  chown -R "$user" "$1"
}

# as_user CMD...: run CMD as that user, with the environment of a fresh login and a runtime directory.
as_user() {
  run=/run/user/$(id -u "$user")
  [ -d "$run" ] || install -d -m 700 -o "$user" -g "$(id -g "$user")" "$run"
  env -i PATH=/usr/local/bin:/usr/bin:/bin LANG=C.UTF-8 TERM="${TERM:-xterm}" USER="$user" XDG_RUNTIME_DIR="$run" \
    HOME="$(getent passwd "$user" | cut -d: -f6)" ROOTLESS_SHARED="${shared:-/nonexistent}" \
    setpriv --reuid "$(id -u "$user")" --regid "$(id -g "$user")" --init-groups "$@"
}
