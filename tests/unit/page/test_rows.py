"""What is stored, as rows of the page."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from airflow_brayns.page.rows import Reading
from airflow_brayns.page.stored import Run, Task
from tests.support.page import NOW, booking, progress, service

RUN = Run("dag", "run", "running", "anna", NOW, None)


def task(task_id: str = "brayns", state: str = "success", run: Run = RUN, at: Any = NOW, **facts: Any) -> Task:
    return Task(run, task_id, -1, state, facts, dict.fromkeys(facts, at))


def row(*tasks: Task) -> dict[str, Any]:
    [found] = Reading(tasks).services()
    return found


@pytest.mark.parametrize(
    ("state", "facts", "run_state", "shown"),
    [
        ("deferred", {}, "running", "waiting"),
        ("running", {}, "running", "waiting"),
        ("success", {"services": [service()]}, "running", "ready"),
        ("success", {}, "running", "nodes"),
        ("failed", {}, "running", "failed"),
        ("success", {"services": [service()]}, "success", "ended"),
        ("success", {"services": [service()]}, "failed", "failed"),
        ("", {"services": [service()]}, "running", "asked"),
        ("scheduled", {"services": [service()]}, "running", "asked"),
        ("queued", {"services": [service()]}, "running", "asked"),
        ("up_for_retry", {"services": [service()]}, "running", "asked"),
    ],
)
def test_a_booking_has_one_state(state: str, facts: Any, run_state: str, shown: str) -> None:
    run = Run("dag", "run", run_state, "anna", NOW, None)
    assert row(task(state=state, run=run, allocation=booking(), **facts))["state"] == shown


WAITS = [
    ({"77": {"state": "pending", "reason": "Priority"}}, "queued", {"reasons": ["Priority"]}),
    ({"77": {"state": "pending", "reason": "Resources", "start": "2026-11-26T12:00:00"}}, "queued",
     {"reasons": ["Resources"], "start": "2026-11-26T12:00:00"}),
    ({"77": {"state": "running", "nodes": ["n1"], "services": 1, "listening": 0}}, "starting",
     {"nodes": ["n1"], "listening": 0}),
    ({"77": {"state": "running", "nodes": ["n1"], "listening": 1}, "78": {"state": "pending", "reason": "None"}},
     "starting", {"nodes": ["n1"], "listening": 1, "reasons": ["None"]}),
]  # fmt: skip


@pytest.mark.parametrize(("wait", "shown", "told"), WAITS)
def test_a_wait_tells_what_is_waited_for(wait: Any, shown: str, told: Any) -> None:
    found = row(task(state="deferred", allocation=booking(), brayns_wait=wait))
    assert found["state"] == shown
    assert found["wait"] == {"listening": 0, **told}


def test_a_job_without_a_reason_has_none() -> None:
    wait = {"77": {"state": "pending", "reason": ""}, "78": {"state": "pending"}}
    assert "reasons" not in row(task(state="deferred", allocation=booking(), brayns_wait=wait))["wait"]


@pytest.mark.parametrize("endpoint", ["n1", "n1:0", "n1:70000", "$(x):5000", "n1:5000 -o ProxyCommand=x", None, 7])
def test_what_is_no_endpoint_is_no_service(endpoint: Any) -> None:
    found = row(task(allocation=booking(), services=[service(endpoint=endpoint)]))
    assert found["state"] == "nodes" and "services" not in found


def test_of_a_wait_that_is_over_nothing_is_told() -> None:
    wait = WAITS[0][0]
    assert "wait" not in row(task(allocation=booking(), services=[service()], brayns_wait=wait))


def test_a_service_is_told_with_all_that_connects_to_it() -> None:
    found = row(task(allocation=booking(), services=[service()], brayns_tunnel="ssh -N -L 5000:n1:5000 login"))
    [one] = found["services"]
    assert (one["endpoint"], one["version"], one["plugins"]) == ("n1:5000", "3.10.1", ["braynsCircuitExplorer"])
    assert (found["jobs"], found["who"], found["tunnel"]) == (["1001"], "anna", "ssh -N -L 5000:n1:5000 login")


def test_each_service_of_a_booking_has_a_way_of_its_own() -> None:
    """The second one's lines led to the first."""
    booked = booking()
    booked["allocations"].append({**booked["allocations"][0], "name": "ab-000000000001001", "job_id": "1002"})
    services = [service(), service(1, service="brayns2", endpoint="n1:5001"), service(2, service="it's")]
    found = row(task(allocation=booked, services=services, brayns_tunnel="ssh -N -L 5000:n1:5000 login"))["services"]
    assert [one["tunnel"] for one in found] == [f"ssh -N -L 5000:{one['endpoint']} login" for one in services]
    assert [one["connect"] for one in found] == [
        "airflow brayns connect ab-000000000001000 --service brayns1",
        "airflow brayns connect ab-000000000001000 --service brayns2",
        "airflow brayns connect ab-000000000001001 --service 'it'\"'\"'s'",
    ]


def test_a_certificate_is_not_sent_to_every_page() -> None:
    [one] = row(task(allocation=booking(), services=[service(certificate="-----BEGIN")]))["services"]
    assert one["tls"] is True and "BEGIN" not in json.dumps(one)


def test_services_that_another_task_of_the_run_waited_for_are_in_its_booking() -> None:
    found = row(task("nodes", allocation=booking()), task("wait", services=[service()]))
    assert found["state"] == "ready" and len(found["services"]) == 1


@pytest.mark.parametrize("unknown", ["job_id", "service"])
@pytest.mark.parametrize("told", [None, "", "\x1b[2J", []])
def test_an_endpoint_that_somebody_typed_in_is_of_no_booking_and_ends_no_page(unknown: str, told: Any) -> None:
    """`BraynsServiceSensor(endpoint=…)` hands on None for its job and name: beside a movie, nobody saw a page any more."""
    typed = task("wait", services=[service(**{unknown: told})])
    assert row(task(allocation=booking()), typed)["state"] == "nodes"
    [found] = Reading([typed, task("render", "running", brayns_progress=progress(1, 2))]).movies()
    assert found["done"] == 1


@pytest.mark.parametrize("progress_told", [None, 7, "half a te"])
def test_a_booking_is_shown_also_where_how_far_its_movie_is_cannot_be_read(progress_told: Any) -> None:
    """It had no row, and so no way to give its nodes back."""
    reading = Reading([task("movie", "running", allocation=booking(), brayns_progress=progress_told)])
    assert reading.movies() == []
    [found] = reading.services()
    assert (found["state"], found["name"]) == ("waiting", booking()["name"])


def test_what_was_given_back_in_the_middle_of_a_run_has_ended() -> None:
    released = task("brayns_release", brayns_released=[booking()["name"]], at=NOW + timedelta(minutes=1))
    assert row(task(allocation=booking(), services=[service()]), released)["state"] == "ended"


def test_a_release_of_an_earlier_try_is_none_of_the_next() -> None:
    """The name of a task's bookings is the same for every try."""
    released = task("brayns_release", brayns_released=[booking()["name"]], at=NOW - timedelta(minutes=1))
    assert row(task(allocation=booking(), services=[service()]), released)["state"] == "ready"


@pytest.mark.parametrize("state", ["", "scheduled", "queued", "up_for_retry"])
def test_a_session_that_is_cleared_after_its_end_is_asked_for_anew(state: str) -> None:
    """It stood there as ended, with the former's reason, and could not be ended while it was queued."""
    later = NOW + timedelta(minutes=1)
    held = {"allocation": booking()["name"], "until": later.isoformat(), "why": "Job 1001 was given back."}
    others = (
        task("keep", state, at=later, brayns_held=held),
        task("brayns_release", state, at=later, brayns_released=[booking()["name"]]),
    )
    found = row(task(state=state, allocation=booking(), services=[service()]), *others)
    assert (found["state"], {"why", "until", "keeper", "services"} & found.keys()) == ("asked", set())
    over = Run("dag", "run", "failed", "anna", NOW, NOW)
    found = row(
        task(state=state, run=over, allocation=booking()),
        task("r", "success", over, later, brayns_released=[booking()["name"]]),
    )
    assert found["state"] == "ended"


def test_of_a_run_that_failed_it_is_ended_only_what_was_given_back() -> None:
    """Its release may have failed, too: the nodes may go on, and cost."""
    run = Run("dag", "run", "failed", "anna", NOW, NOW)
    held = {"allocation": booking()["name"], "until": "", "why": "The time is over."}
    kept = task("keep", "failed", run, brayns_held=held)
    found = row(task(run=run, allocation=booking(), services=[service()]), kept)
    assert (found["state"], found["why"]) == (
        "failed",
        "The run failed; whether its nodes were given back is not known.",
    )
    later = NOW + timedelta(minutes=1)
    released = task("brayns_release", "success", run, later, brayns_released=[booking()["name"]])
    found = row(task(run=run, allocation=booking(), services=[service()]), kept, released)
    assert (found["state"], found["why"]) == ("ended", "The time is over.")


@pytest.mark.parametrize("state", ["", "scheduled", "queued", "up_for_retry"])
def test_what_a_former_try_stored_is_not_told_as_present(state: str) -> None:
    """Airflow deletes it when the next try begins, and not before."""
    old = task(state=state, allocation=booking(), services=[service()], brayns_wait=WAITS[3][0])
    found = row(old)
    assert found["state"] == "asked" and not {"services", "wait"} & found.keys()
    waited = task("wait", state, services=[service()])
    assert row(task(allocation=booking()), waited)["state"] == "nodes"
    render = task("render", state, brayns_progress=progress(1, 2))
    assert row(task(allocation=booking(), services=[service()]), render)["state"] == "ready"
    [movie] = Reading([render]).movies()
    assert movie["state"] == "asked" and "done" not in movie


def test_a_booking_that_failed_while_it_is_kept_has_its_keeper() -> None:
    """Whoever marks it as failed leaves a `keep` behind that renews its lease."""
    held = {"allocation": booking()["name"], "until": NOW.isoformat()}
    kept = task("keep", "deferred", brayns_held=held)
    found = row(task(state="failed", allocation=booking(), services=[service()]), kept)
    assert (found["state"], found["keeper"]) == ("failed", ["keep", -1])
    over = Run("dag", "run", "failed", "anna", NOW, NOW)
    kept = task("keep", "deferred", over, brayns_held=held)
    assert "keeper" not in row(task(state="failed", run=over, allocation=booking()), kept)


def test_a_session_tells_who_keeps_it_and_until_when() -> None:
    held = {"allocation": booking()["name"], "until": NOW.isoformat()}
    found = row(task(allocation=booking(), services=[service()]), task("keep", "deferred", brayns_held=held))
    assert (found["keeper"], found["until"]) == (["keep", -1], NOW.isoformat())
    over = task("keep", "success", brayns_held={**held, "why": "The time is over."})
    found = row(task(allocation=booking(), services=[service()]), over)
    assert "keeper" not in found and found["why"] == "The time is over."


def a_session(held: dict[str, Any], extension: Any = None, state: str = "success") -> dict[str, Any]:
    """The row of a session that is kept, and that a task gives more time."""
    until = {"allocation": booking()["name"], "until": NOW.isoformat(), **held}
    tasks = [task(allocation=booking(), services=[service()], brayns_tunnel="ssh -N -L 5000:n1:5000 cave"),
             task("keep", "deferred", brayns_held=until)]  # fmt: skip
    told = {"allocation": booking()["name"], "jobs": ["1001"], "minutes": 60}
    if extension is not None:
        tasks.append(task("extend", state, brayns_extension={**told, **extension}))
    return row(*tasks)


def test_a_session_tells_by_which_task_it_gets_more_time() -> None:
    found = a_session({}, {})
    assert found["extend"] == {"task": ["extend", -1], "minutes": 60}
    assert found["services"][0]["ends_at"], "nothing has changed yet"
    assert "extend" not in a_session({}), "of a DAG that has no such task"
    assert "extend" not in a_session({}, {"jobs": ["7"]}), "it was told of another booking"


@pytest.mark.parametrize(
    ("state", "shown"),
    [("", "asked"), ("queued", "asked"), ("running", "asked"), ("failed", "failed"), ("skipped", "")],
)
def test_what_came_of_asking_for_more_time_is_told(state: str, shown: str) -> None:
    found = a_session({}, {"how": "refused", "why": "no such account", "at": "x"}, state)["extend"]
    assert (found.get("state", ""), found["how"], found["why"]) == (shown, "refused", "no such account")


def test_with_more_time_the_end_that_was_handed_over_is_none_any_more() -> None:
    assert "ends_at" not in a_session({}, {"how": "raised"})["services"][0]
    waits = a_session({"until": None, "following": {"78": {"state": "pending"}}}, {"how": "follow_on"})
    assert "until" not in waits and waits["services"][0]["ends_at"], "the first job's, until the other one is ready"


def test_what_follows_on_is_shown_beside_the_first_and_then_alone() -> None:
    pending = {"following": {"78": {"state": "pending", "reason": "Priority"}}, "services": []}
    assert a_session(pending, {"how": "follow_on"})["following"] == [
        {"job": "78", "state": "queued", "wait": {"reasons": ["Priority"], "listening": 0}}
    ]
    running = {"state": "running", "nodes": ["n9"], "services": 1, "listening": 1}
    assert a_session({"following": {"78": running}})["following"][0]["state"] == "starting"
    ready = {"following": {"78": running}, "services": [service(9, job_id="78")]}
    found = a_session(ready, {"how": "follow_on"})
    assert found["following"] == [{"job": "78", "state": "ready"}]
    first, second = found["services"]
    assert first.get("ends_at"), "what is loaded in the first is lost before the session ends"
    assert (first["job_id"], second["job_id"], second["follows"]) == ("1001", "78", True)
    assert second["tunnel"] == "ssh -N -L 5000:n9:5000 cave"
    assert second["connect"] == "airflow brayns connect ab-000000000001 --service brayns1"
    [second] = a_session({**ready, "ended": ["1001"]}, {"how": "follow_on"})["services"]
    assert second["job_id"] == "78"


def test_a_service_renders_while_a_task_of_its_run_does() -> None:
    render = task("render", "running", brayns_progress=progress(1, 2))
    assert row(task(allocation=booking(), services=[service()]), render)["state"] == "rendering"


@pytest.mark.parametrize(("state", "shown"), [("queued", "asked"), ("failed", "failed"), ("success", "ended")])
def test_a_session_is_shown_before_it_has_booked_anything(state: str, shown: str) -> None:
    assert row(Task(Run("brayns_session", "run", state, "", NOW, None)))["state"] == shown


def test_a_movie_is_one_row_with_its_nodes_and_files() -> None:
    made = {"movie": "/m.mp4", "poster": "/m.poster.jpg"}
    reading = Reading([task("movie", "running", allocation=booking(), brayns_progress=progress(0, 8))])
    assert reading.services() == []
    [found] = reading.movies()
    assert (found["state"], found["done"], found["total"], found["jobs"]) == ("rendering", 0, 8, ["1001"])
    [found] = Reading([task("movie", brayns_progress=progress(8, 8), brayns_movie=made)]).movies()
    assert (found["state"], found["movie"]) == ("made", made)


def test_tiles_are_called_tiles_and_nothing_else_is() -> None:
    for noun, shown in (("tiles", "tiles"), ("<b>", None), (None, None)):
        told = {**progress(3, 16), **({"noun": noun} if noun else {})}
        [found] = Reading([task("movie", "running", brayns_progress=told)]).movies()
        assert found.get("noun") == shown


def test_the_booking_of_an_encoding_is_no_service() -> None:
    encoded = task("encode", allocation=booking(), brayns_movie={"movie": "/m.mp4"})
    assert Reading([encoded]).services() == []
    assert [one["state"] for one in Reading([encoded]).movies()] == ["made"]


HOSTILE = ["x", 7, None, [], [[]], {"name": 3}, {"name": "ab-000000000001", "allocations": 3, "plugins": {"a": 1}},
           {"name": "ab-000000000001", "allocations": [None, {"job_id": {"a": []}}], "cluster": "x"},
           {"name": "ab-" + "0" * 100_000}]  # fmt: skip


@pytest.mark.parametrize("value", HOSTILE)
def test_whatever_is_stored_under_our_keys_ends_no_page(value: Any) -> None:
    facts = dict.fromkeys(
        (
            "services",
            "brayns_wait",
            "brayns_tunnel",
            "brayns_log",
            "brayns_held",
            "brayns_released",
            "brayns_extension",
        ),
        value,
    )
    held = {"allocation": booking()["name"], "until": value, "following": value, "services": value, "ended": value}
    inside = {**held, "following": {"1": value}, "services": [value, {"endpoint": "n1:5000"}]}
    for one in (held, inside):
        found = Reading([task(allocation=booking(), services=[service()]), task("keep", "deferred", brayns_held=one),
                         task("extend", brayns_extension={"allocation": booking()["name"], "jobs": ["1001"], "how": value, "minutes": value})])  # fmt: skip
        json.dumps(found.services(), allow_nan=False)
    tasks = [task(allocation=value, **facts), task("b", allocation=booking(), **facts),
             task("d", "running", allocation=booking(), brayns_wait={"1": value, "2": {"state": "running", "nodes": value}}),
             task("c", brayns_progress=value, brayns_movie=value)]  # fmt: skip
    reading = Reading(tasks)
    json.dumps([reading.services(), reading.movies()], allow_nan=False).encode()


def test_what_moves_a_terminal_or_turns_text_around_is_left_out() -> None:
    hostile = service(endpoint="n1:5000\x1b[31m\u202e", node="<script>")
    [one] = row(task(allocation=booking(plugins=["a\x1b[2J"]), services=[hostile]))["services"]
    assert one["endpoint"] == "n1:5000"
    assert one["node"] == "<script>", "React escapes it; nothing else is done to a name"
