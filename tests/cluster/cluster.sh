#!/bin/bash
# The test cluster, from a clone alone: cluster.sh up|is-up|down|packages. Needs root. Everything it writes goes to $CLUSTER_DIR,
# outside the clone, because the cluster's users must be able to read it.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
repo=$(cd "$here/../.." && pwd)
export CLUSTER_DIR=${CLUSTER_DIR:-/var/tmp/airflow-brayns-cluster}
packages="acl slurmctld slurmd slurmdbd slurm-client slurm-wlm-mysql-plugin munge openssh-server openssh-client mariadb-server iproute2 nftables procps util-linux curl busybox tcsh openssl"

install_packages() {
  local missing=() p
  for p in $packages; do dpkg -s "$p" >/dev/null 2>&1 || missing+=("$p"); done
  [ ${#missing[@]} = 0 ] && return
  [ "$(id -u)" = 0 ] || { echo "the test cluster needs root, to install ${missing[*]} and to make network namespaces" >&2; exit 1; }
  # The packages must not start their daemons on this machine: the cluster runs its own in namespaces.
  local policy=/usr/sbin/policy-rc.d ours=
  [ -e $policy ] || { ours=1; printf '#!/bin/sh\nexit 101\n' >$policy; chmod 755 $policy; }
  DEBIAN_FRONTEND=noninteractive apt-get update -q >/dev/null || true
  DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" >"${TMPDIR:-/tmp}/cluster-packages.log" 2>&1 ||
    { tail -n 20 "${TMPDIR:-/tmp}/cluster-packages.log" >&2; [ -z "$ours" ] || rm -f $policy; exit 1; }
  [ -z "$ours" ] || rm -f $policy
}

install_service() { # braynsService for the nodes: the emulator, with its few libraries, under the nodes' own python
  local site=$CLUSTER_DIR/site libraries
  mkdir -p "$CLUSTER_DIR/software" "$site"
  libraries=$(grep -E '^(embreex|h5py|numpy|pillow|websockets)==' "$repo/requirements.txt")
  if [ "$(cat "$site/.done" 2>/dev/null)" != "$libraries" ]; then
    rm -rf "$site"
    # shellcheck disable=SC2086  # one word each
    "$repo/.venv/bin/python" -m pip install -q --disable-pip-version-check --target "$site" --python-version 3.11 --only-binary=:all: $libraries
    printf '%s\n' "$libraries" >"$site/.done"
  fi
  rm -rf "$site/airflow_brayns"
  cp -r "$repo/airflow_brayns" "$site/airflow_brayns"
  printf '#!/bin/sh\nPYTHONPATH=%s exec /usr/bin/python3 -m airflow_brayns.emulator "$@"\n' "$site" >"$CLUSTER_DIR/software/braynsService"
  chmod -R a+rX "$CLUSTER_DIR/site" "$CLUSTER_DIR/software"; chmod 755 "$CLUSTER_DIR/software/braynsService"
}

is_up() { # the files of a cluster outlive it, where all processes were ended at once or the machine was started anew
  [ -e "$CLUSTER_DIR/run/hub.up" ] && "$CLUSTER_DIR/bin/in" slurmctl timeout 10 scontrol ping 2>/dev/null | grep -q 'UP$' &&
    timeout 10 "$CLUSTER_DIR/bin/s" true >/dev/null 2>&1
}

case ${1-} in
packages) install_packages ;;
up)
  install_packages
  mkdir -p "$CLUSTER_DIR"; chmod 755 "$CLUSTER_DIR"
  cp -r "$here/up.sh" "$here/down.sh" "$here/bin" "$CLUSTER_DIR/"
  install_service
  ! is_up || { echo "already up in $CLUSTER_DIR"; exit 0; }
  "$CLUSTER_DIR/down.sh" # what a run left that was killed, wherever it stood
  "$CLUSTER_DIR/up.sh" ;;
is-up) is_up ;;
down)
  [ -d "$CLUSTER_DIR" ] || exit 0
  mkdir -p "$CLUSTER_DIR/bin"; cp "$here/down.sh" "$CLUSTER_DIR/"; cp "$here/bin/ours" "$CLUSTER_DIR/bin/" # a killed run's may be half a copy, or another version's
  "$CLUSTER_DIR/down.sh" "${2-}" ;;
*) echo "usage: $0 up|is-up|down|packages" >&2; exit 2 ;;
esac
