"""A browser before the page, and pictures of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.support.cluster import REPO

playwright = pytest.importorskip("playwright.sync_api", reason="`make test-ui` installs it")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="`make test-ui` installs it")

PICTURES = REPO / "build" / "ui"
WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 400, "height": 860}
PATIENCE = 240_000  # milliseconds for what takes seconds on a machine that does nothing else
# The elements that stand out of the page's right edge, where nothing around them scrolls.
OUTSIDE = """() => {
  const page = document.querySelector('.brayns'), edge = page.getBoundingClientRect().right;
  if (page.scrollWidth <= page.clientWidth) return [];
  return [...page.querySelectorAll('*')].filter(one => one.getBoundingClientRect().right > edge && !one.closest('pre'))
    .map(one => one.outerHTML.slice(0, 200));
}"""


@contextmanager
def chromium() -> Iterator[Any]:
    """Debian's."""
    arguments = ["--no-sandbox", "--disable-dev-shm-usage"]
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path="/usr/bin/chromium", args=arguments)
        yield browser
        browser.close()


@contextmanager
def seen_with(token: str, browser: Any, address: str, path: str = "plugin/brayns", **routes: Any) -> Iterator[Any]:
    """The page, open before whoever has the token; an error of its script fails the test.

    :param address: of the API server, with a slash behind it.
    :param routes: by the end of an address, what answers instead of the server.
    """
    context = browser.new_context(viewport=WIDE)
    context.add_cookies([{"name": "_token", "value": token, "url": address}])
    context.set_default_timeout(PATIENCE)
    context.set_default_navigation_timeout(PATIENCE)
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    for end, answer in routes.items():
        page.route(f"**/{end}", answer)
    page.goto(address + path, wait_until="domcontentloaded")
    page.get_by_role("heading", name="Brayns", exact=True).wait_for()
    yield page
    assert wrong == []
    context.close()


def picture(page: Any, name: str) -> None:
    """The page as it stands, wide and narrow, light and dark. Nothing of it may be outside of the window, or a barrier."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    for theme in ("light", "dark"):
        page.evaluate("theme => { document.documentElement.className = theme }", theme)
        for width, size in (("wide", WIDE), ("narrow", NARROW)):
            page.set_viewport_size(size)
            page.screenshot(path=PICTURES / f"{name}-{theme}-{width}.png")
            assert page.evaluate(OUTSIDE) == [], f"{name} {width}: these are outside of the window"
            assert barriers(page) == [], f"{name} {theme} {width}: axe-core calls these serious"
    page.set_viewport_size(WIDE)
    page.evaluate("() => { document.documentElement.className = 'light' }")


def barriers(page: Any) -> list[str]:
    """What axe-core finds serious or worse in our part of the page; the rest is Airflow's."""
    found = axe.Axe().run(page, context=".brayns", options={"resultTypes": ["violations"]}).response["violations"]
    return [
        f"{one['id']} {node['html'][:120]}: {node.get('failureSummary', '')}"
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]


def details(route: Any) -> None:
    """The parameters of `brayns_session`, as Airflow's API tells them, where the database has no serialized DAG."""
    from airflow.dag_processing.dagbag import DagBag

    dag = DagBag(str(REPO / "dags" / "brayns_session.py"), bundle_name="ui").dags["brayns_session"]
    told = {name: dag.params.get_param(name).dump() for name in dag.params}
    route.fulfill(content_type="application/json", body=json.dumps({"params": told}))
