#!/usr/bin/env bash
# Installs Debian packages that are missing, quietly; prints the one line to type where that is not allowed.
# Usage: install-debian.sh PROGRAM=PACKAGE ...   (PROGRAM is looked for first; its package is installed when missing)
set -euo pipefail
PATH="$PATH:/usr/sbin:/sbin"

missing=()
for pair in "$@"; do
    command -v "${pair%%=*}" >/dev/null || missing+=("${pair#*=}")
done
[ "${#missing[@]}" -eq 0 ] && exit 0

line="apt-get update && apt-get install -y --no-install-recommends ${missing[*]}"
if [ "$(id -u)" -eq 0 ]; then
    as_root=()
elif sudo -n true 2>/dev/null; then
    as_root=(sudo)
else
    echo "Missing: ${missing[*]}. Please type:  sudo sh -c '$line'" >&2
    exit 1
fi
if ! command -v apt-get >/dev/null; then
    echo "Missing: ${missing[*]}. This machine has no apt-get: install them with its own package manager." >&2
    exit 1
fi
echo "Installing ${missing[*]} ..."
log=$(mktemp)
export DEBIAN_FRONTEND=noninteractive
if ! { "${as_root[@]}" apt-get update -qq && "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}"; } \
    >"$log" 2>&1; then
    cat "$log" >&2
    echo "The installation failed. Please type:  $line" >&2
    exit 1
fi
rm -f "$log"
