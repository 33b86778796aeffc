"""What one look of the page costs the API server, with 500 services and 200 movies stored."""

from __future__ import annotations

import gzip
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.page import Page, Stored, crowd, page

LOOKS = 15
SERVICES, MOVIES = 500, 200
OWN = "/api/v2/dags/~/dagRuns?limit=100"  # what Airflow's own list of runs asks for


def measure_page(row: Callable[..., dict[str, Any]], folder: Path) -> list[dict[str, Any]]:
    """Time and bytes of the page's request, beside Airflow's own answer about 100 runs."""
    with page(folder) as found:
        stored = Stored(found.engine)
        stored.dag("brayns_session")
        crowd(stored, SERVICES, MOVIES)
        looks, own = [], []
        for _ in range(LOOKS + 1):
            looks.append(milliseconds(found, "/brayns/state"))
            own.append(milliseconds(found, OWN))
        answer = found.ask("viewer", "/brayns/state")
        told = answer.json()
        assert (len(told["services"]), len(told["movies"])) == (SERVICES, MOVIES)
    took, beside = statistics.median(looks[1:]), statistics.median(own[1:])  # the first makes the app
    size = len(gzip.compress(answer.content, 5)) / 1000  # as Airflow's server sends it
    return [
        row("page_request", took, "ms of the processor", beside, "<= 100 ms", took <= 100),
        row("page_bytes", size, "KB", None, "<= 60 KB", size <= 60),
    ]


def milliseconds(found: Page, path: str) -> float:
    """What a request takes of the processor: SQLite is a part of this process, and others' load does not count."""
    began = time.process_time()
    assert found.ask("viewer", path).status_code == 200
    return (time.process_time() - began) * 1000
