#!/usr/bin/env bash
# Starts the agent that makes this machine a Roundtable device. See README.md beside this file.
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: run.sh CODE --server URL [options]   bind this machine with a one-time code, then be its agent
       run.sh [options]                     go on as the device that the folder holds
       run.sh --check [options]             is this device able to train? Prints a table, exits 0 or 1
       run.sh --rotate [options]            replace every secret of this device

  --server URL          the platform's address
  --name NAME           the device's name on the platform (default: this host's name)
  --data DIR            the only folder from which runs may be given private data (default: none)
  --home DIR            the agent's folder (default: ~/.roundtable/edge); one per device
  --keep-instances      leave clients running when the agent is stopped (default: stop them)
  --system-interval S   seconds between two messages of system figures (default: 5)
  --cache-mb N          budget for cached packages and environments in MiB (default: 10240)
  --runtime KIND        auto, docker or process: containers where an engine answers, nothing but containers, or
                        nothing but processes (default: auto)
  --network NAME        what containers are connected to: host, or a network of the engine (default: host where the
                        broker is on this machine, else a bridge of their own)
  --images-mb N         budget for pulled images in MiB (default: 20480)

Environment: PYTHON (the interpreter, 3.11 or newer), ROUNDTABLE_EDGE_VENV (reuse this virtual environment),
ROUNDTABLE_EDGE_CACHE (a cache that several agents of one user share), SSL_CERT_FILE (a certificate authority of your
own), DOCKER_HOST (where the container engine is). The code may also be given in ROUNDTABLE_EDGE_CODE.
TEXT
}

fail() {
    printf 'run.sh: %s\n' "$1" >&2
    exit "${2:-1}"
}

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
code=${ROUNDTABLE_EDGE_CODE:-}
unset ROUNDTABLE_EDGE_CODE
server='' name='' home="${HOME:-/root}/.roundtable/edge" action=run
data=()
behaviour=()
runtime=()
while [ $# -gt 0 ]; do
    case $1 in
        -h | --help)
            usage
            exit 0
            ;;
        --check | --rotate) action=${1#--} ;;
        --keep-instances) behaviour+=("$1") ;;
        --server | --name | --data | --home | --system-interval | --cache-mb | --runtime | --network | --images-mb)
            [ $# -ge 2 ] || fail "$1 needs a value; see run.sh --help" 2
            case $1 in
                --server) server=$2 ;;
                --name) name=$2 ;;
                --data) data=(--data "$2") ;;
                --home) home=$2 ;;
                --runtime) runtime=(--runtime "$2") ;;
                *) behaviour+=("$1" "$2") ;;
            esac
            shift
            ;;
        -*) fail "unknown option $1; see run.sh --help" 2 ;;
        *)
            [ -z "$code" ] || fail "more than one code was given; see run.sh --help" 2
            code=$1
            ;;
    esac
    shift
done
if [ -n "$code" ] && [ "$action" != run ]; then
    fail "--$action takes no code" 2
fi
if [ -n "$code" ] && [ -z "$server" ]; then
    fail 'a code needs --server URL, the address of the platform that made it' 2
fi

new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

find_python() {
    local candidate found=''
    for candidate in ${PYTHON:+"$PYTHON"} python3 python3.13 python3.12 python3.11; do
        command -v "$candidate" >/dev/null 2>&1 || continue
        found=$candidate
        if new_enough "$candidate"; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    if [ -z "$found" ]; then
        fail 'there is no python3: install Python 3.11 or newer (Debian: apt-get install python3 python3-venv)'
    fi
    fail "$found is $("$found" --version 2>&1), too old: install Python 3.11 or newer, or name one with PYTHON="
}

# Makes the virtual environment if needed; sets $python to its interpreter.
prepare_venv() {
    local base venv digest marker
    venv=${ROUNDTABLE_EDGE_VENV:-$home/.venv}
    python=$venv/bin/python
    if [ -n "${ROUNDTABLE_EDGE_VENV:-}" ] && [ -x "$python" ]; then
        new_enough "$python" || fail "$python is older than Python 3.11"
        if "$python" -c 'import paho.mqtt.client, psutil, yaml' 2>/dev/null; then
            return
        fi
    fi
    base=$(find_python)
    digest=$("$base" -c 'import hashlib, sys; print(hashlib.sha256(
        open(sys.argv[1], "rb").read() + sys.version.encode()).hexdigest())' "$here/requirements.txt")
    marker=$venv/roundtable-requirements.sha256
    if [ -x "$python" ] && [ "$(cat -- "$marker" 2>/dev/null)" = "$digest" ]; then
        return
    fi
    "$base" -c 'import ensurepip, venv' 2>/dev/null ||
        fail "$base has no venv module: install it (Debian: apt-get install python3-venv)"
    echo "run.sh: preparing the agent's environment in $venv (once)"
    rm -f -- "$marker"
    "$base" -m venv "$venv" || fail "cannot make a virtual environment in $venv"
    "$python" -m pip install --quiet --disable-pip-version-check --no-input -r "$here/requirements.txt" ||
        fail 'cannot install what the agent needs (requirements.txt): see the lines above'
    printf '%s\n' "$digest" >"$marker"
}

mkdir -p -m 700 -- "$home" 2>/dev/null || fail "cannot make the folder $home; choose another with --home"
if command -v flock >/dev/null 2>&1; then
    exec 9>"$home/venv.lock"
    flock 9
    prepare_venv
    exec 9>&-
else
    prepare_venv
fi

export PYTHONPATH=$here PYTHONUNBUFFERED=1
if [ -n "$code" ]; then
    # By standard input: the command line of a program can be read by everybody on the machine.
    printf '%s' "$code" | "$python" -m roundtable_agent enrol --home "$home" --server "$server" \
        ${name:+--name "$name"} ${data[@]+"${data[@]}"}
fi
case $action in
    run)
        exec "$python" -m roundtable_agent run --home "$home" ${server:+--server "$server"} ${data[@]+"${data[@]}"} \
            ${behaviour[@]+"${behaviour[@]}"} ${runtime[@]+"${runtime[@]}"}
        ;;
    check) exec "$python" -m roundtable_agent check --home "$home" ${runtime[@]+"${runtime[@]}"} ;;
    *) exec "$python" -m roundtable_agent "$action" --home "$home" ;;
esac
