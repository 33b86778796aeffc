"""People who log in to an Airflow, and what each of them sees of the page."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

from tests.support.airflow import Airflow
from tests.support.cluster import REPO
from tests.ui.browser import seen_with

ROLES = ("viewer", "user", "admin")
VERSION = "(3, 10, 1)"  # what the official client prints of the emulator


class Known(Airflow):
    """An Airflow in which people log in, each with a password that is their name."""

    def __init__(self, home: Path, **environment: str) -> None:
        super().__init__(home, REPO / "dags", environment)
        passwords = home / "passwords.json"
        passwords.write_text(json.dumps({role: role for role in ROLES}))
        self.environment |= {
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{role}:{role}" for role in ROLES),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
            "AIRFLOW__BRAYNS__INSTALLATION_ID": "ui",
        }

    def token(self, role: str = "admin") -> str:
        body = json.dumps({"username": role, "password": role}).encode()
        address = f"http://127.0.0.1:{self.port}/auth/token"
        asked = urllib.request.Request(address, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(asked, timeout=60) as answer:
            return str(json.load(answer)["access_token"])

    def begin(self, *dag_ids: str) -> None:
        """Await these DAGs, and let them run."""
        for dag_id in dag_ids:
            self.until(lambda dag_id=dag_id: f"'{dag_id}'" in str(self.api("GET", "dags")), 240, f"{dag_id} is parsed")
            self.api("PATCH", f"dags/{dag_id}", {"is_paused": False})


def seen_by(role: str, browser: Any, airflow: Known, path: str = "plugin/brayns") -> Any:
    """The page, open before somebody."""
    return seen_with(airflow.token(role), browser, f"http://127.0.0.1:{airflow.port}/", path)


def run_elsewhere(lines: str) -> str:
    """What Python prints of some lines: a process of its own, with the official client."""
    done = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()
