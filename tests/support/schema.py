"""Writes the published JSON schema of a movie's specification anew: `python -m tests.support.schema`."""

from __future__ import annotations

import json

from airflow_brayns.movie.specification import MovieSpecification
from airflow_brayns.movie.versions import schema_file

HEAD = {"$schema": "https://json-schema.org/draft/2020-12/schema"}

if __name__ == "__main__":
    schema_file().write_text(json.dumps({**HEAD, **MovieSpecification.model_json_schema()}, indent=1) + "\n")
