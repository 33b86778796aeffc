"""What has changed on the server since the page looked last: a run that has ended or was cleared, a DAG that is gone."""

from __future__ import annotations

import json
from typing import Any

from tests.support.page import NOW, Page, Stored, booking, service, token_of
from tests.ui.browser import details, seen_with


def change(the_page: Page, model: Any, **values: Any) -> None:
    """Give all rows of a table other values."""
    with the_page.engine.begin() as connection:
        connection.execute(model.__table__.update().values(**values))


def test_a_run_that_has_ended_stays_as_it_ended_and_one_that_is_cleared_can_be_ended_again(
    browser: Any, address: str, the_page: Page, stored: Stored
) -> None:
    """Airflow calls a run that succeeded failed, if it is told so; and 'Being given back' stayed until a reload."""
    from airflow.models.dagrun import DagRun

    run = stored.run("my_dag", run_id="mine")
    stored.task(run, "brayns", "success", allocation=booking(1), services=[service(1)])
    asked: list[str] = []
    state = "success"

    def answer(route: Any) -> None:
        asked.append(route.request.method)
        route.fulfill(content_type="application/json", body=json.dumps({"state": state}))

    with seen_with(token_of("user"), browser, address, **{"dagRuns/mine": answer}) as seen:
        seen.get_by_role("button", name="End the run…").click()
        seen.get_by_role("button", name="End the run", exact=True).click()
        seen.get_by_text("the run has ended meanwhile").wait_for()
        assert asked == ["GET"]
        state = "running"
        seen.get_by_role("button", name="End the run", exact=True).click()
        seen.get_by_role("button", name="Being given back").wait_for()
        assert asked == ["GET", "GET", "PATCH"]
        change(the_page, DagRun, state="success", end_date=NOW)
        seen.locator(".state", has_text="Ended").wait_for()
        change(the_page, DagRun, state="running", end_date=None)
        seen.get_by_role("button", name="End the run…").click()
        seen.get_by_role("dialog").wait_for()


def test_the_page_goes_on_where_the_dag_is_gone_after_a_run_of_it_was_asked_for(
    browser: Any, address: str, the_page: Page, stored: Stored
) -> None:
    from airflow.models.dag import DagModel

    def started(route: Any) -> None:
        route.fulfill(content_type="application/json", body='{"dag_run_id": "mine"}')

    with seen_with(token_of("user"), browser, address, details=details, dagRuns=started) as seen:
        seen.get_by_role("button", name="Allocate…").click()
        seen.get_by_label("Minutes").wait_for()
        seen.get_by_role("button", name="Allocate", exact=True).click()
        seen.get_by_text("Asked for: mine").wait_for()
        change(the_page, DagModel, is_stale=True)
        seen.get_by_text("There is no DAG brayns_session to allocate with").wait_for()


def test_a_link_and_what_is_remembered_fill_in_only_what_the_form_has(
    browser: Any, address: str, stored: Stored
) -> None:
    """A name that every JavaScript object has, and a value of a former version's field, left no form."""
    path = "plugin/brayns?constructor=1&minutes=45"
    with seen_with(token_of("user"), browser, address, path, details=details) as seen:
        for _ in range(2):
            seen.get_by_label("Minutes").wait_for()
            assert seen.get_by_label("Minutes").input_value() == "45"
            seen.evaluate("""() => localStorage.setItem('airflow-brayns.form', '{"plugins": 7, "account": ["a"]}')""")
            seen.reload()
        assert seen.get_by_label("Account").input_value() == ""
