"""Nothing of whoever runs the tests: `bash -l`, which starts services on nodes, reads the home's profile."""

from __future__ import annotations

import os
import shutil
import tempfile

# A profile's own work costs each service its time, and one that is killed in it can leave a lock (pyenv's: a minute each).
HOME = os.environ["HOME"] = tempfile.mkdtemp(prefix="airflow-brayns-user-")


def pytest_unconfigure() -> None:
    """In each of the workers too."""
    shutil.rmtree(HOME, ignore_errors=True)
