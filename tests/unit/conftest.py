"""Nothing of whoever runs the tests: `bash -l`, which starts services on nodes, reads the home's profile."""

from __future__ import annotations

import os
import tempfile

# A profile's own work costs each service its time, and one that is killed in it can leave a lock (pyenv's: a minute each).
os.environ["HOME"] = tempfile.mkdtemp(prefix="airflow-brayns-user-")
