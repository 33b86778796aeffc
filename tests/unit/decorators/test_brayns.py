from __future__ import annotations

import json
import sys
from typing import Any

import pytest

if sys.version_info >= (3, 13):
    pytest.skip("the official client does not import on Python 3.13 (facts/brayns.md)", allow_module_level=True)
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def test_a_function_gets_a_connected_client(emulator: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.sdk import DAG

    from airflow_brayns.decorators.brayns import brayns_task

    extra = {"scheduler": "local"}
    monkeypatch.setenv("AIRFLOW_CONN_HERE", json.dumps({"conn_type": "brayns_cluster", "extra": extra}))
    service = emulator("--plugin", "braynsDTI")

    @brayns_task(endpoint=[service.endpoint], cluster_conn_id="here")
    def plugins(client: Any, scale: int) -> list[str]:
        import brayns

        return brayns.get_application(client).plugins * scale

    with DAG("decorated", schedule=None):
        result = plugins(scale=2)
    assert result.operator.execute({}) == ["braynsDTI", "braynsDTI"]
