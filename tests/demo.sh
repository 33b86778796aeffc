#!/bin/sh
# The main job on the embedded default: DAG brayns_movie by `airflow dags test`, which needs no running Airflow.
set -eu
cd "$(dirname "$0")/.."
AIRFLOW_HOME=${AIRFLOW_HOME:-$PWD/build/airflow}
mkdir -p "$AIRFLOW_HOME"
export AIRFLOW_HOME AIRFLOW__CORE__DAGS_FOLDER="$PWD/dags" AIRFLOW__CORE__LOAD_EXAMPLES=False
export AIRFLOW__LOGGING__LOGGING_LEVEL="${LOGGING_LEVEL:-INFO}"
PATH=$PWD/.venv/bin:$PATH
exec python -m tests.demo "${1:-{\}}"
