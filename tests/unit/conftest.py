"""Nothing of whoever runs the tests: `bash -l`, which starts services on nodes, reads the home's profile."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from typing import Any

import pytest

from tests.support.bounds import bound_all

# A profile's own work costs each service its time, and one that is killed in it can leave a lock (pyenv's: a minute each).
HOME = os.environ["HOME"] = tempfile.mkdtemp(prefix="airflow-brayns-user-")

# What a shell has started with `&`, as some CI does, ignores SIGINT, and so would all that the tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_unconfigure() -> None:
    """In each of the workers too."""
    shutil.rmtree(HOME, ignore_errors=True)


def pytest_collection_modifyitems(items: list[Any]) -> None:
    """See `bound_all`."""
    bound_all(items)


@pytest.fixture(autouse=True)
def _unwrapped(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors in one line, except with the mark `in_lines`: where a temporary folder's name breaks a line is chance, and a
    pattern held on one machine and not on the next.
    """
    if "in_lines" not in request.keywords:
        monkeypatch.setattr("airflow_brayns.task.guard.in_lines", lambda text, **_: text)
