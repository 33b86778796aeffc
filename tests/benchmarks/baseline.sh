#!/bin/bash
# What people do by hand: ssh, sbatch, poll, curl. Prints the endpoint; gives the node back.
# baseline.sh CLUSTER_DIR EXECUTABLE
set -eu
run() { ssh -q -o BatchMode=yes -o UserKnownHostsFile="$1/keys/known_hosts" -i "$1/keys/user" -p 2222 brayns-user@127.0.0.1 "$2"; }
began=$(date +%s.%N)
id=$(run "$1" "sbatch --parsable -A proj3 -p prod -o /dev/null --wrap '$2 --uri 0.0.0.0:5000 --max-clients 4 --plugin braynsCircuitExplorer'")
until [ "$(run "$1" "squeue -h -j $id -o %T")" = RUNNING ]; do sleep 1; done
node=$(run "$1" "squeue -h -j $id -o %N")
until [ "$(run "$1" "curl -s -m 5 http://$node:5000/healthz")" = Ok ]; do sleep 1; done
echo "$node:5000" >&2
echo "$(date +%s.%N) - $began" | awk '{ print $1 - $3 }'
run "$1" "scancel $id"
