"""The provider information that Airflow reads at every `airflow` command; so this imports little, 20 ms of the
processor.
"""

from __future__ import annotations

from typing import Any

_MODULES = {
    "operators": ("cluster", "service", "frames", "encode", "estimate", "preview", "movie", "session"),
    "sensors": ("service", "session"),
    "hooks": ("cluster", "endpoint"),
    "triggers": ("service", "movie", "session"),
}


def get_provider_info() -> dict[str, Any]:
    """The metadata of this provider, in Airflow's form."""
    from airflow_brayns.services.form import form_of
    from airflow_brayns.services.settings import FIELDS, SECTIONS

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
                "conn-fields": form_of(FIELDS, SECTIONS),
            }
        ],
        "task-decorators": [
            {"name": "brayns", "class-name": "airflow_brayns.decorators.brayns.brayns_task"},
            {"name": "brayns_frames", "class-name": "airflow_brayns.operators.frames_task.brayns_frames_task"},
        ],
        "extra-links": [
            f"airflow_brayns.links.cluster.{name}"
            for name in ("EndpointLink", "SlurmJobLink", "ServiceLogLink", "TunnelLink", "MovieLink")
        ],
        "integrations": [
            {
                "integration-name": "Brayns",
                "external-doc-url": "https://github.com/BlueBrain/Brayns",
                "tags": ["software"],
            }
        ],
        **{
            kind: [
                {"integration-name": "Brayns", "python-modules": [f"airflow_brayns.{kind}.{name}" for name in names]}
            ]
            for kind, names in _MODULES.items()
        },
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
                    "deployment": {
                        "description": "Tells this Airflow from another one with the same mark, such as the clone of its database. "
                        "Empty: where its API server is, which tells nothing where that is a name inside a network of containers.",
                        "version_added": "0.3.0",
                        "type": "string",
                        "example": "staging",
                        "default": "",
                    },
                    "script_folders": {
                        "description": "Folders on the workers, with commas between them, from which a run's parameters may bring a "
                        "movie's Python, which runs as the worker. The DAG bundle's own folder is always one.",
                        "version_added": "0.3.0",
                        "type": "string",
                        "example": "/data/movies,/gpfs/proj3/scripts",
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
