#!/bin/sh
# Lints the shell that runs on clusters, with the settings that are put before it.
set -eu
cd "$(dirname "$0")/.."
trap 'rm -rf build/shell' EXIT
mkdir -p build/shell
for name in keeper login frames; do
    {
        echo '#!/bin/sh'
        echo "scheduler=\$1 nodes=\$1 idle_limit=\$1 start_timeout=\$1 time_limit=\$1 heartbeat_limit=\$1 cpus_per_task=\$1 proofs=\$1 shared=\$1"
        echo "dir=\$1 token=\$1 ffmpeg=\$1"
        echo "state_dir=\$1 keeper=\$1 keeper_length=\$1 about=\$1 asked=\$1"
        cat "airflow_brayns/cluster/$name.sh"
    } >"build/shell/$name.sh"
    # SC2034, SC2329: what a file does not use, the call behind it does; SC3067: dash, busybox and bash know `test -O`
    shellcheck -e SC2034,SC2329,SC2317,SC3067 "build/shell/$name.sh"
done
shellcheck tests/setup.sh tests/demo.sh tests/lint-shell.sh .ci/run
