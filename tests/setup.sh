#!/bin/sh
# setup.sh VENV: the project's environment, pinned. Debian's python3 comes without venv: installs it where that is so.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
beat=
trap '[ -z "$beat" ] || kill "$beat" 2>/dev/null' EXIT

step() { # step WHAT COMMAND...: on a terminal, what is done, and for how long already; elsewhere nothing
    what=$1 code=0
    shift
    if [ -t 1 ]; then
        (
            n=0
            trap - EXIT
            while printf '\033[1G\033[K%s ... %s s' "$what" "$n" && sleep 2; do n=$((n + 2)); done
        ) &
        beat=$!
    fi
    "$@" || code=$?
    if [ -n "$beat" ]; then
        kill "$beat" 2>/dev/null || true
        beat=
        printf '\033[1G\033[K'
    fi
    return $code
}

debian_venv() {
    DEBIAN_FRONTEND=noninteractive apt-get update -q >/dev/null || true
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends python3-venv >/dev/null
}

has_uv() { # has_uv VENV: uv installs the pinned set in seconds where pip takes minutes
    "$1/bin/python" -m pip install -q --disable-pip-version-check "$(grep '^uv==' requirements.txt)" 2>/dev/null ||
        "$1/bin/python" -m pip install "$(grep '^uv==' requirements.txt)"
}

"$python" -c 'import ensurepip, venv' 2>/dev/null || step "Installing Debian's python3-venv" debian_venv
[ -x "$1/bin/python" ] || step "Making a Python environment in $1" "$python" -m venv "$1"
step "Installing uv" has_uv "$1"
step "Installing Airflow and what else requirements.txt pins" "$1/bin/uv" pip install -q --python "$1/bin/python" -r requirements.txt
step "Installing this project" "$1/bin/uv" pip install -q --python "$1/bin/python" --no-deps -e .
touch "$1/.ready"
