"""The page of an Airflow that is not at the root of its host, `[api] base_url` with `/air`: an API server, and no other part."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import create_engine

from tests.support.airflow import Airflow
from tests.support.cluster import REPO
from tests.support.page import Stored
from tests.ui.browser import details, picture, seen_with


class Below(Airflow):
    """An Airflow under `/air`, of which only the API server runs."""

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/air/"

    def serve(self) -> None:
        self.environment["AIRFLOW__API__BASE_URL"] = self.address.rstrip("/")
        self.home.mkdir(exist_ok=True)
        self.command("db", "migrate", timeout=300)
        self.start_component("api-server")
        self.until(self._answers, 300, "the API server answers")

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.address}api/v2/version", timeout=5):
                return True
        except OSError:
            return False

    def token(self, role: str = "admin") -> str:
        with urllib.request.urlopen(f"{self.address}auth/token", timeout=60) as answer:
            return str(json.load(answer)["access_token"])


@pytest.fixture
def airflow(tmp_path: Any) -> Iterator[Below]:
    one = Below(tmp_path / "airflow", REPO / "dags", {})
    try:
        one.serve()
        yield one
    finally:
        one.stop()


def test_all_that_the_page_asks_for_and_leads_to_is_under_the_base_path(airflow: Below, browser: Any) -> None:
    engine = create_engine(f"sqlite:///{airflow.home.absolute() / 'airflow.db'}")
    stored = Stored(engine)
    stored.dag("brayns_session")
    _, dag_id, run_id = stored.session()
    engine.dispose()
    changed: list[tuple[str, str]] = []
    asked: list[tuple[str, int]] = []

    def answer(route: Any) -> None:
        changed.append((route.request.method, route.request.url))
        route.fulfill(content_type="application/json", body="{}")

    routes = {"details": details, "taskInstances/keep": answer}
    with seen_with(airflow.token(), browser, airflow.address, **routes) as page:
        page.on("response", lambda one: asked.append((one.url, one.status)) if "/brayns/" in one.url else None)
        page.locator(".state", has_text="Ready").wait_for()
        page.reload()
        page.locator(".state", has_text="Ready").wait_for()
        picture(page, "base-path")
        links = page.eval_on_selector_all(".brayns a", "all => all.map(one => one.href)")
        assert links and [one for one in links if not one.startswith(airflow.address)] == []
        page.get_by_role("button", name="Allocate…").click()
        page.get_by_label("Minutes").wait_for()
        page.get_by_role("button", name="Release…").click()
        page.get_by_role("button", name="Release", exact=True).click()
        page.get_by_role("dialog").wait_for(state="detached")
        page.get_by_role("link", name=f"{dag_id} {run_id}").click()
        page.wait_for_url(f"{airflow.address}dags/{dag_id}/runs/**")
    names = {url.removeprefix(f"{airflow.address}brayns/").partition("?")[0] for url, _ in asked}
    assert {"state", "clusters", "files/page.js"} <= names, "and nothing of them elsewhere"
    assert [one for one in asked if one[1] not in (200, 304) or not one[0].startswith(airflow.address)] == []
    [(method, url)] = changed
    assert method == "PATCH" and url.startswith(f"{airflow.address}api/v2/dags/{dag_id}/dagRuns/")
