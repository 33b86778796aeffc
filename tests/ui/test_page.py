"""A person's way through the page: allocate, see ready, connect, release; and one who may only look.

Debian's Chromium, driven by Playwright. The pictures go to `build/ui`, for somebody to look at.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ui.browser import picture
from tests.ui.people import VERSION, Known, run_elsewhere, seen_by


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Known]:
    one = Known(tmp_path_factory.mktemp("airflow"))
    try:
        one.start()
        one.begin("brayns_session", "brayns_movie")
        yield one
    finally:
        one.stop()


def test_a_person_allocates_connects_and_releases(browser: Any, airflow: Known) -> None:
    with seen_by("user", browser, airflow) as page:
        page.get_by_text("Nothing that you may see runs").wait_for()
        picture(page, "way-empty")
        page.get_by_role("button", name="Allocate…").click()
        page.get_by_label("Minutes").fill("30")
        page.get_by_label("braynsCircuitInfo").check()
        page.get_by_text("What would run").click()
        assert '"minutes":30' in page.get_by_label("The same from a terminal", exact=True).inner_text()
        picture(page, "way-form")
        page.get_by_label("Minutes").fill("0")
        page.get_by_role("button", name="Allocate", exact=True).click()
        assert page.evaluate("() => document.querySelector('#brayns-minutes').validity.rangeUnderflow")
        page.get_by_label("Minutes").fill("30")
        page.get_by_role("button", name="Allocate", exact=True).click()
        page.get_by_text("Asked for").first.wait_for()
        picture(page, "way-asked")
        page.locator(".state", has_text="Ready").wait_for()
        endpoint = page.locator(".endpoint").inner_text()
        page.get_by_text("Connect", exact=True).click()
        lines = page.get_by_label("Python", exact=True).inner_text()
        assert endpoint in lines
        assert run_elsewhere(lines) == VERSION, "as a person would who pastes them"
        page.get_by_text("left").first.wait_for()
        page.get_by_role("button", name="Release…").wait_for()
        assert page.get_by_text("Asked for").count() == 0, "what is there is not asked for any more"
        picture(page, "way-ready")

        with seen_by("viewer", browser, airflow) as looker:
            looker.locator(".endpoint").wait_for()
            assert looker.get_by_role("button", name="Allocate…").is_disabled()
            assert looker.get_by_role("button", name="Release…").is_disabled()
            picture(looker, "way-viewer")
            posts = "([path, method, body]) => fetch(path, {method, headers: {'Content-Type': 'application/json'}, body}).then(a => a.status)"
            run = airflow.api("GET", "dags/brayns_session/dagRuns")["dag_runs"][0]["dag_run_id"]
            ways = [("/api/v2/dags/brayns_session/dagRuns", "POST", '{"logical_date": null}'),
                    (f"/api/v2/dags/brayns_session/dagRuns/{run}", "PATCH", '{"state": "failed"}')]  # fmt: skip
            assert [looker.evaluate(posts, list(way)) for way in ways] == [403, 403]

        page.get_by_role("button", name="Release…").click()
        page.get_by_role("dialog").wait_for()
        picture(page, "way-confirm")
        page.get_by_role("button", name="Release", exact=True).click()
        page.locator(".state", has_text="Ended").wait_for()
        picture(page, "way-ended")
        assert airflow.finished("brayns_session", run) == "success"


def test_a_movie_is_previewed_approved_rendered_and_played(browser: Any, airflow: Known, tmp_path: Path) -> None:
    conf = {"approve": True, "nodes": 1, "output": str(tmp_path / "turn.mp4")}
    asked = {"logical_date": None, "conf": conf}
    with seen_by("user", browser, airflow) as page:
        first, second = (airflow.api("POST", "dags/brayns_movie/dagRuns", asked)["dag_run_id"] for _ in range(2))
        movies = page.locator("li.card", has_text="brayns_movie")
        page.wait_for_function(
            "() => [...document.querySelectorAll('.state')].filter(one => one.innerText == 'Waits for approval').length == 2"
        )
        question = movies.filter(has_text=first)
        question.get_by_text(f"Render {tmp_path}/turn.mp4 on 1 node(s)?").wait_for()
        question.get_by_text("See it").click()
        page.wait_for_function("() => document.querySelector('.look img')?.naturalWidth > 0")
        picture(page, "way-approval")
        nothing = airflow.api("GET", f"dags/brayns_movie/dagRuns/{first}/taskInstances")["task_instances"]
        assert {one["state"] for one in nothing if one["task_id"] in ("brayns", "render", "encode")} == {None}

        with seen_by("viewer", browser, airflow) as looker:
            looker.get_by_text("Waits for approval").first.wait_for()
            assert looker.get_by_role("button", name="Approve…").first.is_disabled()
            send = "(path) => fetch(path, {method: 'PATCH', headers: {'Content-Type': 'application/json'}, body: '{\"chosen_options\": [\"Approve\"]}'}).then(a => a.status)"
            way = f"/api/v2/dags/brayns_movie/dagRuns/{first}/taskInstances/approve/-1/hitlDetails"
            assert looker.evaluate(send, way) == 403

        movies.filter(has_text=second).get_by_role("button", name="Reject…").click()
        page.get_by_role("button", name="Reject", exact=True).click()
        question.get_by_role("button", name="Approve…").click()
        page.get_by_role("button", name="Approve", exact=True).click()
        page.get_by_text("Waits for approval").first.wait_for(state="detached")
        assert airflow.finished("brayns_movie", second) == "success", "to be rejected is no fault"
        assert airflow.finished("brayns_movie", first) == "success"
        found = airflow.api("GET", f"dags/brayns_movie/dagRuns/{second}/taskInstances")["task_instances"]
        states = {one["task_id"]: one["state"] for one in found}
        assert {states[name] for name in ("brayns", "render", "encode")} == {"skipped"}

        made = movies.filter(has_text=first).filter(has_text="Made").filter(has_text="turn.mp4")
        made.get_by_text("See it").click()
        page.wait_for_function("() => document.querySelector('video')?.readyState >= 2")
        picture(page, "way-movie")
