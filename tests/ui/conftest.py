"""What the tests of the page share: the browser, Airflow's API server with the page's part, and the test cluster, each for the time
of a module.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.airflow import free_port
from tests.support.bounds import until
from tests.support.cluster import TestCluster, bring_up, take_down
from tests.support.page import Page, Stored, page
from tests.ui.browser import chromium


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as one:
        yield one


@pytest.fixture(scope="module")
def slurm() -> Iterator[TestCluster]:
    cluster, ours = bring_up()
    yield cluster
    if ours:
        take_down()


@pytest.fixture(scope="module")
def the_page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with page(tmp_path_factory.mktemp("page")) as found:
        yield found


@pytest.fixture(scope="module")
def address(the_page: Page) -> Iterator[str]:
    import uvicorn

    port = free_port()
    server = uvicorn.Server(uvicorn.Config(the_page.app, host="127.0.0.1", port=port, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until(lambda: server.started, 120)
    yield f"http://127.0.0.1:{port}/"
    server.should_exit = True
    thread.join(30)


@pytest.fixture
def stored(the_page: Page) -> Iterator[Stored]:
    made = Stored(the_page.engine)
    made.dag("brayns_session")
    yield made
    made.clear()
