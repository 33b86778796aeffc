"""The page's routes where people log in by the FAB auth manager, in an environment of its own: it wants older libraries than ours."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest
from sqlalchemy import create_engine

from tests.support.airflow import Airflow
from tests.support.cluster import REPO
from tests.support.page import Stored

FAB = REPO / "build" / "fab" / "bin"
ROLES = ("Public", "Viewer", "User")
MAY = ["trigger", "mark", "end", "answer"]


class WithFab(Airflow):
    """An API server with people of FAB's roles, each with a password that is the role; no other part."""

    def __init__(self, home: Path) -> None:
        manager = "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager"
        super().__init__(home, REPO / "dags", {"AIRFLOW__CORE__AUTH_MANAGER": manager})
        self.environment["PATH"] = f"{FAB}:{self.environment['PATH']}"

    def serve(self) -> None:
        self.home.mkdir(exist_ok=True)
        self._do("db", "migrate")
        for role in ROLES:
            self._do(*f"users create -u {role} -p {role} -r {role} -f {role} -l {role} -e {role}@x".split())
        self.start_component("api-server", FAB)
        self.until(lambda: self.ask("api/v2/version")[0] == 200, 300, "the API server answers")

    def _do(self, *words: str) -> None:
        subprocess.run([FAB / "airflow", *words], env=self.environment, check=True, capture_output=True, timeout=600)

    def ask(self, path: str, role: str = "", body: Any = None) -> tuple[int, Any]:
        """Status and answer; 0 where nobody answers."""
        headers = {"Content-Type": "application/json"}
        if role:
            code, told = self.ask("auth/token", body={"username": role, "password": role})
            assert code == 201, told
            headers["Authorization"] = f"Bearer {told['access_token']}"
        data = None if body is None else json.dumps(body).encode()
        asked = urllib.request.Request(f"http://127.0.0.1:{self.port}/{path}", data, headers)
        try:
            with urllib.request.urlopen(asked, timeout=60) as answer:
                return answer.status, json.load(answer)
        except HTTPError as error:
            return error.code, error.read()
        except OSError:
            return 0, None


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WithFab]:
    one = WithFab(tmp_path_factory.mktemp("fab"))
    try:
        one.serve()
        engine = create_engine(f"sqlite:///{one.home.absolute() / 'airflow.db'}")
        stored = Stored(engine)
        stored.dag("brayns_session")
        stored.session()
        engine.dispose()
        yield one
    finally:
        one.stop()


def test_nobody_is_told_anything(airflow: WithFab) -> None:
    for path in ("state", "clusters", "files/page.js"):
        assert airflow.ask(f"brayns/{path}")[0] == 401
    assert airflow.ask("brayns/docs")[0] == 404


@pytest.mark.parametrize(("role", "names", "may"), [
    ("Public", [], {}),
    ("Viewer", ["ab-000000000001"], {"brayns_session": []}),
    ("User", ["ab-000000000001"], {"brayns_session": MAY}),
])  # fmt: skip
def test_each_role_is_told_what_it_may_read_and_do(
    airflow: WithFab, role: str, names: list[str], may: dict[str, list[str]]
) -> None:
    code, told = airflow.ask("brayns/state", role)
    assert (code, [row["name"] for row in told["services"]], told["may"]) == (200, names, may)
