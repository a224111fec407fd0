#!/bin/sh
# Write requirements-dev.lock: the versions and digests of all that development and the extras need, for every Python
# from 3.11 on. Versions that are locked stay, as long as pyproject.toml allows them; with --upgrade the newest are taken.
# It needs uv and an index. Behind a proxy with a certificate of its own: SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
set -eu
cd "$(dirname "$0")/.."
uv=$(command -v uv || echo .venv/bin/uv)
[ -x "$uv" ] || .venv/bin/pip install -q --disable-pip-version-check uv
# What setup.sh needs to build this package comes first.
printf 'setuptools>=77\nwheel\n' | "$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --all-extras \
  --no-annotate --custom-compile-command 'make lock' --output-file requirements-dev.lock "$@" pyproject.toml -
