#!/bin/bash
# A run that is killed, at five moments: the next one comes up, and after `down` nothing stays. killed.sh; takes the cluster down. 3 min.
# What is killed is the group of the process that brings it up (its daemons live on) or all of the bed's processes at once.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
export CLUSTER_DIR=${CLUSTER_DIR:-/var/tmp/airflow-brayns-cluster}
out=$(mktemp); trap 'rm -f "$out"' EXIT
left() { # everything that may not stay
  "$CLUSTER_DIR/bin/ours"
  for f in /run/netns/sb-*; do [ ! -e "$f" ] || echo "$f"; done
  for d in /sys/fs/cgroup/*/slurm_r*; do [ ! -d "$d" ] || echo "$d"; done
  awk -v bed="$CLUSTER_DIR/" 'index($5, bed) == 1 { print $5 }' /proc/self/mountinfo
  ss -Hltn "sport = :${SSH_PORT:-2222}"
}
await() { for _ in $(seq 1200); do ! "$@" || return 0; sleep .05; done; echo "not within 60 s: $*" >&2; cat "$out" >&2; return 1; }
killed() { # killed MOMENT HOW: bring up until it has printed MOMENT, then kill: `group`, or `all`
  "$here/cluster.sh" down
  : >"$out"
  setsid "$here/cluster.sh" up >"$out" 2>&1 & group=$!
  await grep -q "$1" "$out"
  kill -KILL -- "-$group" 2>/dev/null || :
  wait "$group" 2>/dev/null || :
  [ "$2" != all ] || kill -KILL $("$CLUSTER_DIR/bin/ours") 2>/dev/null || :
  echo "killed ($2) at '$1': $("$CLUSTER_DIR/bin/ours" | wc -l) processes left"
}
check() { # the next run comes up, and its end takes all with it
  "$here/cluster.sh" up >"$out" 2>&1 || { cat "$out" >&2; echo "does not come up after it was killed at '$1'" >&2; exit 1; }
  "$here/cluster.sh" is-up || { echo "is not up after it was killed at '$1'" >&2; exit 1; }
  [ "$("$CLUSTER_DIR/bin/ours" | paste -sd, | xargs -r ps -o comm= -p | grep -c '^munged$')" = 1 ] || { echo "not one munged" >&2; exit 1; }
  "$here/cluster.sh" down
  l=$(left); [ -z "$l" ] || { echo "left after it was killed at '$1': $l" >&2; exit 1; }
}
for one in "config written:group" " munged:group" "slurmctl machine:group" "all machines booted:all" "ssh login works:all"; do
  killed "${one%:*}" "${one##*:}"
  check "${one%:*}"
done
# The files in run/ are gone, and all else is there: what `rm -rf run/*` of a second up.sh left.
"$here/cluster.sh" up >"$out" 2>&1
rm -rf "$CLUSTER_DIR"/run/* "$CLUSTER_DIR"/munge/pid
check "work, its pid files lost"
echo "6 killed runs mended, nothing left"
