#!/usr/bin/env bash
# Builds dist-package/server/package.zip and dist-package/client/package.zip. See README.md, or ./build.sh --help.
# PYTHON names the interpreter; python3 of the PATH is the default and needs nothing installed.
set -eu
here=$(cd -- "$(dirname -- "$0")" && pwd)
python=${PYTHON:-python3}
if ! command -v "$python" >/dev/null; then
    echo "build.sh: $python was not found: install Python 3.11 or newer, or set PYTHON to its path" >&2
    exit 2
fi
exec "$python" "$here/build.py" "$@"
