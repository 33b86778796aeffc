#!/bin/sh
# setup.sh VENV: Debian's Chromium, and what drives it; only `make test-ui` and `make pictures` need them.
set -eu
[ -x /usr/bin/chromium ] || {
    apt-get update -q >/dev/null || true
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends chromium fonts-dejavu-core >/dev/null
}
"$1/bin/python" -c 'import axe_playwright_python, playwright' 2>/dev/null ||
    "$1/bin/uv" pip install -q --python "$1/bin/python" -r "$(dirname "$0")/requirements.txt"
# FAB's auth manager wants an older dateutil than ours: an environment of its own, beside the other
fab=build/fab
"$fab/bin/python" -c 'import airflow.providers.fab, airflow_brayns' 2>/dev/null || {
    "$1/bin/uv" venv -q --clear --python "$1/bin/python" "$fab"
    "$1/bin/uv" pip install -q --python "$fab/bin/python" --override "$(dirname "$0")/fab-overrides.txt" \
        -r requirements.txt -r "$(dirname "$0")/fab-requirements.txt" -e .
}
