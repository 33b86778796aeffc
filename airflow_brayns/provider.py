"""What Airflow is told about this package. Imported at every `airflow` command, so it imports nothing heavy."""

from __future__ import annotations

from typing import Any

_TEXT = ["string", "null"]
_INTEGER = ["integer", "null"]
_NUMBER = ["number", "null"]


def _field(label: str, description: str, kind: list[str] | None = None, **schema: Any) -> dict[str, Any]:
    return {"label": label, "description": description, "schema": {"type": kind or _TEXT, **schema}}


_CONNECTION_FIELDS: dict[str, dict[str, Any]] = {
    "scheduler": _field("Scheduler", "Where nodes come from: a Slurm cluster, or this machine.", enum=["slurm", "local"], default="slurm"),
    "ssh_conn_id": _field("SSH connection", "Connection of type ssh to a login node; empty to run the Slurm commands here."),
    "account": _field("Account", "Slurm account to charge (sbatch --account)."),
    "partition": _field("Partition", "Slurm partition (--partition); empty for the cluster's default."),
    "qos": _field("QOS", "Slurm quality of service (--qos)."),
    "constraint": _field("Constraint", "Features the nodes must have (--constraint), such as cpu."),
    "reservation": _field("Reservation", "Slurm reservation (--reservation)."),
    "gres": _field("Generic resources", "Such as gpu:1 (--gres)."),
    "cpus_per_task": _field("CPUs", "CPUs on each node (-c).", _INTEGER, minimum=1),
    "memory": _field("Memory", "Memory of each node (--mem): 4G, or 0 for all of it."),
    "exclusive": _field("Exclusive", "No other jobs on the nodes (--exclusive).", ["boolean", "null"]),
    "time_limit": _field("Time limit", "How long at most, in Slurm's spelling: 2:00:00 or 1-12:00:00 (--time)."),
    "sbatch_options": _field("sbatch options", "Further options, each word as typed, such as --licenses=brayns.", ["array", "null"], items={"type": "string"}),
    "executable": _field("Executable", "Name or path of braynsService on the nodes.", default="braynsService"),
    "setup": _field("Setup", "Shell lines run on the node before it, such as module load brayns. Trusted code.", format="multiline"),
    "environment": _field("Environment", "Variables for the service, as JSON.", ["object", "null"]),
    "container": _field("Container", "Words before the executable, such as apptainer exec image.sif. Trusted code."),
    "generation": _field("Generation", "Command line of braynsService: 1, 2 or 3; empty to ask its --version.", _INTEGER, enum=[None, 1, 2, 3]),
    "log_level": _field("Log level", "Of braynsService (generation 3); below info its port is not told.", enum=["trace", "debug", "info"], default="info"),
    "max_clients": _field("Clients", "How many clients a service serves at once (generations 2 and 3).", _INTEGER, minimum=1, default=4),
    "port": _field("Port", "0: the kernel picks; a number; or from-to.", default="0"),
    "node_suffix": _field("Node suffix", "Put behind a node's name to reach it, such as .bbp.example.org."),
    "route": _field("Route", "direct from Airflow to the node, ssh through the login node, or node: a second SSH hop into the node, the service on its loopback only.", enum=["direct", "ssh", "node"], default="direct"),
    "node_known_hosts": _field("Nodes' host keys", "For route node: file on the Airflow side; empty for the SSH connection's own."),
    "tls": _field("TLS", "off; allocation: a certificate for each allocation, pinned; given: files on the nodes. It keeps nobody out.", enum=["off", "allocation", "given"], default="off"),
    "tls_certificate_file": _field("TLS certificate", "With given: PEM file on the nodes."),
    "tls_private_key_file": _field("TLS key", "With given: PEM file on the nodes, without a passphrase."),
    "tls_ca": _field("TLS authority", "With given: who signed it; PEM file on the Airflow side, or its text.", format="multiline"),
    "state_dir": _field("State folder", "On the cluster's file system.", default="~/.airflow-brayns"),
    "state_dir_parents": _field("Folders above it", "private: one that others may write is refused; shared: the site's project folders are so on purpose.", enum=["private", "shared"], default="private"),
    "poll_interval": _field("Poll interval", "Seconds between two looks while something is awaited.", _NUMBER, default=5),
    "idle_limit": _field("Idle limit", "Seconds without use after which an allocation ends by itself.", _NUMBER, default=1800),
    "start_timeout": _field("Start time-out", "Seconds from the job's start to a usable service.", _NUMBER, default=600),
    "queue_timeout": _field("Queue time-out", "Seconds a job may wait in the queue; empty for no limit.", _NUMBER),
    "packing": _field("Packing", "All nodes in one job, or a job for each node.", enum=["one_job", "job_per_node"], default="one_job"),
    "min_ready": _field("Ready at least", "How many services must be usable before the hand-over; empty for all.", _INTEGER, minimum=1),
}  # fmt: skip


def get_provider_info() -> dict[str, Any]:
    """Airflow's provider metadata."""
    return {
        "package-name": "airflow-brayns",
        "name": "Brayns",
        "description": "Brayns on Slurm: allocate nodes, start braynsService, wait until it is usable, render, give back.",
        "versions": ["0.2.0"],
        "connection-types": [
            {
                "connection-type": "brayns_cluster",
                "hook-class-name": "airflow_brayns.hooks.cluster.BraynsClusterHook",
                "hook-name": "Brayns cluster",
                "ui-field-behaviour": {
                    "hidden-fields": ["host", "schema", "login", "password", "port"],
                    "relabeling": {},
                    "placeholders": {},
                },
                "conn-fields": _CONNECTION_FIELDS,
            }
        ],
        "task-decorators": [{"name": "brayns", "class-name": "airflow_brayns.decorators.brayns.brayns_task"}],
        "extra-links": [
            f"airflow_brayns.links.cluster.{name}"
            for name in ("EndpointLink", "SlurmJobLink", "ServiceLogLink", "TunnelLink")
        ],
        "triggers": [
            {
                "integration-name": "Brayns",
                "python-modules": ["airflow_brayns.triggers.service", "airflow_brayns.triggers.movie"],
            }
        ],
        "config": {
            "brayns": {
                "description": "Settings of airflow-brayns.",
                "options": {
                    "installation_id": {
                        "description": "Marks this Airflow's jobs on the clusters. Empty: made once and kept in the "
                        "Variable brayns_installation_id.",
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "production",
                        "default": "",
                    },
                    "movie_pool": {
                        "description": "Pool of the DAG brayns_movie_batch's movies; its slots limit how many are rendered at once.",
                        "version_added": "0.2.0",
                        "type": "string",
                        "example": "brayns",
                        "default": "default_pool",
                    },
                },
            }
        },
        "cli": ["airflow_brayns.cli.definition.get_commands"],
    }
