"""Movies held against the published JSON schema; writes it anew: `python -m tests.support.schema`."""

from __future__ import annotations

import json
from functools import cache

from jsonschema import Draft202012Validator

from airflow_brayns.movie.specification import MovieSpecification
from airflow_brayns.movie.versions import LATEST, schema_file

HEAD = {"$schema": "https://json-schema.org/draft/2020-12/schema"}


@cache
def published(version: int = LATEST) -> Draft202012Validator:
    """What a version's published schema takes; the schema itself is checked once, for that takes longer than any movie."""
    schema = json.loads(schema_file(version).read_text())
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


if __name__ == "__main__":
    schema_file().write_text(json.dumps({**HEAD, **MovieSpecification.model_json_schema()}, indent=1) + "\n")
