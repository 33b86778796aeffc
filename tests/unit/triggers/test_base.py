"""A task that one version of this package deferred resumes under another: the serialised forms of all released versions."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk._shared.module_loading import import_string
from airflow.sdk.exceptions import AirflowException, AirflowFailException

import airflow_brayns
from airflow_brayns.movie.specification import MovieSpecification
from airflow_brayns.rendering.render import Rendering
from airflow_brayns.services.booking import Booking
from airflow_brayns.triggers.base import BraynsTrigger
from airflow_brayns.triggers.service import BraynsServiceTrigger, EndpointTrigger
from tests.released import COMMITS, deferrals, recorded

DEFERRALS = deferrals()
OF_EACH_CLASS = ["0.2.0 services", "0.2.0 endpoint", "0.2.0 frames"]
every_deferral = pytest.mark.parametrize("deferral", DEFERRALS.values(), ids=list(DEFERRALS))
each_class = pytest.mark.parametrize("deferral", [DEFERRALS[name] for name in OF_EACH_CLASS], ids=OF_EACH_CLASS)


def made(deferral: dict[str, Any], **changes: Any) -> BraynsTrigger:
    """As the triggerer makes it."""
    path, arguments = deferral["trigger"]
    trigger: BraynsTrigger = import_string(path)(**arguments, **changes)
    return trigger


def only_event(trigger: BraynsTrigger) -> dict[str, Any]:
    async def main() -> Any:
        return [event.payload async for event in trigger.run()]

    [payload] = asyncio.run(main())
    return dict(payload)


# ---- what a version before has serialised ----------------------------------------------------------------------------
@every_deferral
def test_it_is_taken_as_it_is(deferral: dict[str, Any]) -> None:
    trigger = made(deferral)
    path, arguments = deferral["trigger"]
    assert {name: getattr(trigger, name) for name in arguments} == arguments
    trigger.check_known()
    assert trigger.serialize() == (path, arguments), "a trigger that moves to another triggerer stays what it is"


@every_deferral
def test_what_it_holds_can_be_read(deferral: dict[str, Any]) -> None:
    _, arguments = deferral["trigger"]
    if "booking" in arguments:
        assert Booking.from_json(arguments["booking"]).to_json() == arguments["booking"]
    if "rendering" in arguments:
        how = Rendering.from_json(arguments["rendering"])
        assert {name: getattr(how, name) for name in arguments["rendering"]} == {
            **arguments["rendering"],
            "plugins": tuple(arguments["rendering"]["plugins"]),
        }
        assert MovieSpecification.check(arguments["specification"]).plain() == arguments["specification"]


@every_deferral
def test_its_task_has_the_method_that_is_to_resume_it(deferral: dict[str, Any]) -> None:
    operator = getattr(airflow_brayns, deferral["operator"])(task_id="task", **deferral["arguments"])
    assert callable(getattr(operator, deferral["method"]))


@pytest.mark.parametrize("version", COMMITS)
def test_an_error_that_its_trigger_told_fails_the_task(
    version: str, context: dict[str, Any], cluster: SimpleNamespace
) -> None:
    deferral = DEFERRALS[f"{version} a service that ends"]
    operator = getattr(airflow_brayns, deferral["operator"])(task_id="task", **deferral["arguments"])
    with pytest.raises(AirflowFailException, match="did not tell which command line"):
        getattr(operator, deferral["method"])(context, event=deferral["event"])
    with pytest.raises(AirflowException, match="try again"):
        operator.resume(context, event={**deferral["event"], "message": "try again", "retry": True})


# ---- what this version serialises ------------------------------------------------------------------------------------
@pytest.mark.parametrize("version", COMMITS)
@each_class
def test_an_older_triggerer_takes_what_it_asks_for_in_common(deferral: dict[str, Any], version: str) -> None:
    path, arguments = made(deferral).serialize()
    if (takes := recorded(version)["takes"].get(path)) is None:
        pytest.skip(f"{version} had no such trigger")
    assert set(takes["demanded"]) <= set(arguments) <= {*takes["demanded"], *takes["optional"]}


@each_class
def test_what_is_not_at_its_default_is_sent(deferral: dict[str, Any]) -> None:
    _, arguments = made(deferral, deferred_at="2026-11-26T00:00:00+00:00").serialize()
    assert arguments["deferred_at"] == "2026-11-26T00:00:00+00:00"


def test_of_a_rendering_only_what_is_not_at_its_default_is_sent() -> None:
    assert Rendering(("one",)).to_json() == {"plugins": ["one"]}, "0.2.0 demands the plugins"
    asked = Rendering(("one",), "snapshot", renew_before=300.0)
    assert asked.to_json() == {"plugins": ["one"], "way": "snapshot", "renew_before": 300.0}
    assert Rendering.from_json(asked.to_json()) == asked


# ---- what a newer version serialises ---------------------------------------------------------------------------------
@each_class
def test_an_argument_of_a_newer_version_fails_the_task_in_words(deferral: dict[str, Any]) -> None:
    """An exception would be Airflow's own, without a word of what to do; to pass it over would be to do something else."""
    trigger = made(deferral, from_tomorrow=1)
    event = only_event(trigger)
    assert event["status"] == "error"
    assert "newer version" in event["message"]
    assert "does not know from_tomorrow." in event["message"]
    assert event["retry"], "the triggerer may be upgraded by then"
    assert trigger.serialize()[1]["from_tomorrow"] == 1
    told = set(DEFERRALS["0.2.0 a service that ends"]["event"])
    assert told - {"booking"} <= set(event), "a worker of the former version reads it, too"


@pytest.mark.parametrize("argument", ["overrides", "rendering"])
def test_a_field_of_a_newer_version_inside_an_argument_does_too(argument: str) -> None:
    path, arguments = DEFERRALS["0.2.0 frames"]["trigger"]
    event = only_event(import_string(path)(**{**arguments, argument: {**arguments[argument], "from_tomorrow": 1}}))
    assert event["status"] == "error"
    assert f"does not know {argument}.from_tomorrow" in event["message"]
    assert event["retry"]


def trigger(kind: str, **changes: Any) -> Any:
    """As the triggerer makes it: of what was serialised."""
    one: BraynsServiceTrigger | EndpointTrigger
    if kind == "endpoint":
        one = EndpointTrigger(endpoint="127.0.0.1:1", plugins=[], cluster_conn_id="here",
                              overrides={"start_timeout": 0.1}, **changes)  # fmt: skip
    else:
        one = BraynsServiceTrigger(cluster_conn_id="nowhere", overrides={}, booking={"name": "ab-0", "allocations": []},
                                   until="nodes", plugins=[], services=None, owner=None, since="2026-01-01T00:00:00+00:00",
                                   **changes)  # fmt: skip
    path, arguments = one.serialize()
    return import_string(path)(**json.loads(json.dumps(arguments)))


async def seconds_to_event(one: Any) -> float:
    began = time.monotonic()
    async for event in one.run():
        assert event.payload["status"] == "error"
        break
    return time.monotonic() - began


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["endpoint", "booking"])
def test_an_event_that_comes_right_after_the_deferral_is_held(
    cluster: Any, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr("airflow_brayns.triggers.base.HOLD_SECONDS", 3.0)
    now = datetime.now(UTC)
    held = asyncio.run(seconds_to_event(trigger(kind, deferred_at=now.isoformat())))
    assert held > 2
    later = (datetime.now(UTC) + timedelta(seconds=2)).isoformat()
    assert asyncio.run(seconds_to_event(trigger(kind, deferred_at=later))) > 4, "Airflow is busy"
    long_ago = (now - timedelta(hours=1)).isoformat()
    assert asyncio.run(seconds_to_event(trigger(kind, deferred_at=long_ago))) < 2
    assert asyncio.run(seconds_to_event(trigger(kind))) < 2, "as an older version has serialised it"
    assert "deferred_at" not in trigger(kind).serialize()[1], "so that an older triggerer takes it"
