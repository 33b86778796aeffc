from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
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


def test_without_the_client_a_reader_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.sdk import DAG
    from airflow.sdk.exceptions import AirflowFailException

    from airflow_brayns.decorators.brayns import brayns_task

    @brayns_task(endpoint="127.0.0.1:1")
    def nothing(client: Any) -> None:
        raise AssertionError

    monkeypatch.setitem(sys.modules, "brayns", None)
    with DAG("without", schedule=None):
        result = nothing()
    with pytest.raises(AirflowFailException, match=r"pip install 'airflow-brayns\[client\]'") as told:
        result.operator.execute({})
    assert "No module named" not in str(told.value)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The endpoints that were worked with, in order; nothing is connected to."""
    import brayns

    from airflow_brayns.decorators import brayns as decorator

    found: list[str] = []

    @contextmanager
    def open_endpoint(endpoint: str, *_: Any, **__: Any) -> Iterator[str]:
        found.append(endpoint)
        yield endpoint

    class Connector:
        def __init__(self, *_: Any, **__: Any) -> None:
            pass

        def connect(self) -> Any:
            return SimpleNamespace(disconnect=lambda: None)

    monkeypatch.setattr(decorator, "open_endpoint", open_endpoint)
    monkeypatch.setattr(brayns, "Connector", Connector)
    return found


def instance(mapped: Any, index: int) -> Any:
    """One instance of a mapped task, as the worker makes it."""
    ti = SimpleNamespace(
        map_index=index, dag_id="d", run_id="r", task_id="t", get_relevant_upstream_map_indexes=lambda *a, **k: None
    )
    kwargs, _ = mapped._expand_mapped_kwargs({"ti": ti})
    return mapped.unmap(kwargs), {"ti": ti}


def test_a_mapped_task_spreads_over_the_services(opened: list[str]) -> None:
    """All of them worked with the first service, and the other nodes stood idle."""
    from airflow.sdk import DAG

    from airflow_brayns.decorators.brayns import brayns_task

    @brayns_task(endpoint=["a:1", "b:2", "c:3"])
    def shoot(client: Any, frame: int) -> int:
        return frame

    with DAG("spread", schedule=None):
        mapped = shoot.expand(frame=list(range(5))).operator
    for index in range(5):
        operator, context = instance(mapped, index)
        assert operator.execute(context) == index
    assert opened == ["a:1", "b:2", "c:3", "a:1", "b:2"]


def test_a_function_is_expanded_over_the_services(opened: list[str]) -> None:
    """It was refused: the function has no such argument. XCom's form is the list that it was."""
    from airflow.sdk import DAG

    from airflow_brayns.decorators.brayns import brayns_task

    @brayns_task
    def look(client: Any, scale: int = 1, **context: Any) -> int:
        return scale

    @brayns_task()
    def own(client: Any, endpoint: str) -> str:
        return endpoint

    with DAG("expanded", schedule=None):
        mapped = look.partial(scale=3).expand(endpoint=["a:1", "b:2"]).operator
        knows = own.expand(endpoint=["a:1", "b:2"]).operator
    for index in range(2):
        operator, context = instance(mapped, index)
        assert operator.execute(context) == 3
    assert opened == ["a:1", "b:2"]
    operator, _ = instance(knows, 1)
    assert operator.op_kwargs["endpoint"] == "b:2"


def test_the_services_of_a_task_are_expanded_over_in_one_line() -> None:
    from airflow.sdk import DAG

    from airflow_brayns import brayns_service
    from airflow_brayns.decorators.brayns import brayns_task

    @brayns_task
    def look(client: Any) -> None: ...

    with DAG("natural", schedule=None) as dag, brayns_service(nodes=2) as service:
        look.expand(endpoint=service.output)
    assert dag.get_task("look").upstream_task_ids == {"brayns"}
    assert dag.get_task("look").downstream_task_ids == {"brayns_release", "brayns_done"}


@pytest.mark.parametrize("text", ["['a:1', 'b:2']", '["a:1", "b:2"]', "a:1, b:2"])
def test_a_list_that_was_rendered_to_text_is_one(opened: list[str], text: str) -> None:
    from airflow.sdk import DAG

    from airflow_brayns.decorators.brayns import brayns_task

    @brayns_task(endpoint=text)
    def look(client: Any) -> None: ...

    with DAG("rendered", schedule=None):
        operator = look().operator
    operator.execute({})
    assert opened == ["a:1"]


def test_no_endpoint_names_both_ways(opened: list[str]) -> None:
    from airflow.sdk import DAG
    from airflow.sdk.exceptions import AirflowFailException

    from airflow_brayns.decorators.brayns import brayns_task

    @brayns_task
    def look(client: Any) -> None: ...

    with DAG("none", schedule=None):
        operator = look().operator
    with pytest.raises(AirflowFailException, match=r"^endpoint: write @task\.brayns\(endpoint=service\.output\), or "):
        operator.execute({})
