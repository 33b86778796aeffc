"""What the tests of the page share: the browser, and the test cluster for the time of a module."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.cluster import TestCluster, bring_up, take_down
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
