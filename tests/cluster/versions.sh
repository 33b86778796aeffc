#!/bin/bash
# The cluster's core tests against the Slurm of Debian's other releases: bullseye 20.11, trixie 24.11, sid 26.05 (the host, bookworm: 22.05).
# and the host's own without slurmdbd. versions.sh [SUITE...]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
repo=$(cd "$here/../.." && pwd)
export CLUSTER_DIR=${CLUSTER_DIR:-/var/tmp/airflow-brayns-cluster}
"$here/cluster.sh" down
trap '"$here/cluster.sh" down' EXIT
mkdir -p "$CLUSTER_DIR"; cp -r "$here/up.sh" "$here/down.sh" "$here/bin" "$CLUSTER_DIR/"
failed=
for suite in "${@:-bullseye trixie sid}"; do for s in $suite; do
  [ -d "$CLUSTER_DIR/roots/$s" ] || "$CLUSTER_DIR/bin/mkroot" "$s" || { echo "$s: its Debian packages cannot be installed here; see $CLUSTER_DIR/roots/$s.log"; failed="$failed $s"; continue; }
  echo "== $s: $(chroot "$CLUSTER_DIR/roots/$s" slurmctld -V)"
  ROOTFS=$s "$here/cluster.sh" up >/dev/null
  "$repo/.venv/bin/python" -m pytest -q "$repo/tests/system/test_cluster_core.py" || failed="$failed $s"
  "$here/cluster.sh" down
done; done
echo "== $(slurmctld -V) without slurmdbd: no accounting, no sacct" # a bad account is not refused there
DBD=0 "$here/cluster.sh" up >/dev/null
"$repo/.venv/bin/python" -m pytest -q "$repo/tests/system/test_cluster_core.py" -k "not refusals" || failed="$failed without-slurmdbd"
[ -z "$failed" ] || { echo "failed:$failed"; exit 1; }
