"""What a next try knows a service by, whichever version asked for it."""

from __future__ import annotations

import hashlib
from dataclasses import fields, replace
from typing import Any

import pytest

from airflow_brayns.brayns.command import ServiceSpec
from airflow_brayns.brayns.identity import identity

FILES = {"certificate_file": "$AB_FOLDER/tls/cert.pem", "private_key_file": "$AB_FOLDER/tls/key.pem"}


@pytest.mark.parametrize(
    ("values", "digest"),
    [
        ({}, "79bfbe37b24989dc"),
        ({"plugins": ["braynsCircuitExplorer", "braynsAtlasExplorer"], "max_clients": 9, "log_level": "debug", "host": "10.0.0.1"}, "8ca016d6a798415c"),
        ({"generation": 1, "plugins": ["a.b+c"]}, "62694ddf2314d5bd"),
        ({"generation": 2, "executable": "/opt/a b/braynsService"}, "2e81178016e7208c"),
        ({"generation": 3, "setup": "  module load brayns\nexport X=1 \n", "environment": {"A": "it's", "B": ""}}, "96079f3586a0833e"),
        ({"container": "apptainer exec image.sif", "setup": "true"}, "2b21d25a11f630dc"),
        (FILES, "971a10259a9c6c40"),
        ({"generation": 3, "certificate_file": "/x/a b.pem", "private_key_file": "/x/y.pem"}, "077ed1d5715eb951"),
    ],
)  # fmt: skip
def test_it_is_what_0_2_0_took(values: dict[str, Any], digest: str) -> None:
    """Each digest is of `ServiceSpec(**values).script()` under the code of 0.2.0."""
    assert hashlib.sha256(identity(ServiceSpec(**values)).encode()).hexdigest()[:16] == digest


@pytest.mark.parametrize("field", [field.name for field in fields(ServiceSpec) if field.name != "port"])
def test_whatever_is_wanted_is_part_of_it(field: str) -> None:
    """The port stands in a file of its own."""
    other: dict[str, Any] = {
        "plugins": ("more",), "executable": "another", "generation": 2, "host": "::1", "max_clients": 5, "log_level": "trace",
        "setup": "module load more", "environment": {"A": "1"}, "container": "docker run", "certificate_file": "/c.pem",
        "private_key_file": "/k.pem",
    }  # fmt: skip
    one = ServiceSpec(**FILES)
    assert identity(replace(one, **{field: other[field]})) != identity(one)
