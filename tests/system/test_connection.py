"""What `airflow connections test` says of a real Slurm cluster over SSH."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_brayns.hooks.cluster import BraynsClusterHook
from tests.support.cluster import TestCluster

pytestmark = pytest.mark.slurm

CANNOT = [
    ({"account": "nobody"}, ["account"]),
    ({"partition": "nope"}, ["partition"]),
    ({"constraint": "gpu"}, ["constraint"]),
    ({"sbatch_options": ["--nonsense"]}, ["sbatch_options"]),
    ({"setup": "module load nothing"}, ["setup"]),
    ({"executable": "no-such-brayns"}, ["executable"]),
    ({"state_dir": "/proc/nowhere"}, ["state_dir"]),
]


def tried(**changes: Any) -> tuple[bool, str]:
    return BraynsClusterHook("test_cluster", changes).test_connection()


def test_a_connection_that_works_is_told_so(slurm: TestCluster) -> None:
    good, text = tried()
    print(text)
    assert good, text
    assert "FAIL" not in text
    assert "ok   request: Slurm would take it: Job " in text


@pytest.mark.parametrize(("changes", "fields"), CANNOT, ids=[json.dumps(row[0]) for row in CANNOT])
def test_what_cannot_work_is_named(slurm: TestCluster, changes: dict[str, Any], fields: list[str]) -> None:
    good, text = tried(**changes)
    print(text)
    failed = [line[5:].partition(":")[0] for line in text.splitlines() if line.startswith("FAIL")]
    assert not good
    assert list(dict.fromkeys(failed)) == fields, text
