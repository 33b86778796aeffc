#!/bin/sh
# setup.sh VENV: the project's environment, pinned. Debian's python3 comes without venv: installs it where that is so.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    DEBIAN_FRONTEND=noninteractive apt-get update -q >/dev/null || true
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends python3-venv >/dev/null
fi
[ -x "$1/bin/python" ] || "$python" -m venv "$1"
# uv installs the pinned set in seconds where pip takes minutes
"$1/bin/python" -m pip install -q --disable-pip-version-check "$(grep '^uv==' requirements.txt)" 2>/dev/null ||
    "$1/bin/python" -m pip install "$(grep '^uv==' requirements.txt)"
"$1/bin/uv" pip install -q --python "$1/bin/python" -r requirements.txt
"$1/bin/uv" pip install -q --python "$1/bin/python" --no-deps -e .
touch "$1/.ready"
