#!/usr/bin/env bash
# Makes a base image for packages on a machine that can pull none: Debian with Python and what the reference library needs.
#
# Usage: make.sh [TAG]        (default roundtable-base:local; the engine is the one that DOCKER_HOST names)
#        make.sh --archive    (makes the root file system alone, and prints the name of its tar)
# Needs root and debootstrap. The root file system is cached as a tar by the digest of this script and the requirements,
# so that a second call only imports it. With a public registry at hand, set ROUNDTABLE_BASE_IMAGE instead.
set -euo pipefail

tag="${1:-roundtable-base:local}"
here=$(cd "$(dirname "$0")" && pwd)
requirements="$here/../../build-mlops-package/mlops-core/fedml-server/package/requirements.txt"
cache="${ROUNDTABLE_VAR:-$here/../../var}/base-image"
suite=bookworm
export PATH="$PATH:/usr/sbin:/sbin"

[ "$(id -u)" -eq 0 ] || { echo "make.sh: debootstrap needs root. Type: sudo $0 $tag" >&2; exit 1; }
command -v debootstrap >/dev/null || { echo "make.sh: type: apt-get install debootstrap" >&2; exit 1; }

key=$(cat "$0" "$requirements" | sha256sum | cut -c1-16)
archive="$cache/$key.tar"
mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9

if [ ! -f "$archive" ]; then
    root=$(mktemp -d "$cache/root.XXXXXX")
    log="$cache/make.log"
    trap 'rm -rf --one-file-system "$root" "$archive.part"' EXIT
    chmod 755 "$root"
    echo "Making the base image (about a minute) ..." >&2
    debootstrap --variant=minbase --include=ca-certificates,python3,python3-venv "$suite" "$root" >"$log" 2>&1 ||
        { tail -20 "$log" >&2; echo "make.sh: debootstrap failed; the whole log is $log" >&2; exit 1; }
    # The machine's own certificate authorities, so that a site with a proxy of its own can install packages.
    cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
    cp "$requirements" "$root/tmp/requirements.txt"
    # /opt/venv is first on the PATH of the image: `python` and `pip` are its own, as in the public Python images.
    chroot "$root" /bin/sh -ec '
        export PIP_CERT=/etc/ssl/certs/ca-certificates.crt PIP_DISABLE_PIP_VERSION_CHECK=1 HOME=/root
        python3 -m venv /opt/venv
        /opt/venv/bin/pip install --no-cache-dir -q -r /tmp/requirements.txt
    ' >>"$log" 2>&1 || { tail -20 "$log" >&2; echo "make.sh: pip failed; the whole log is $log" >&2; exit 1; }
    rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/* "$root"/usr/share/{doc,man,locale}/* \
        "$root"/tmp/* "$root"/var/log/*
    tar --one-file-system --numeric-owner -C "$root" -cf "$archive.part" .
    mv "$archive.part" "$archive"
    rm -rf --one-file-system "$root"
    trap - EXIT
fi

exec 9>&-
if [ "$tag" = --archive ]; then
    echo "$archive"
    exit
fi

docker import \
    -c 'ENV PATH=/opt/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
    -c 'ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt' \
    -c 'ENV PIP_DISABLE_PIP_VERSION_CHECK=1 LANG=C.UTF-8' \
    -c 'CMD ["python"]' \
    "$archive" "$tag" >/dev/null
echo "$tag"
