"""A service of which only the endpoint is known: it is asked until it is usable, and must be ours where it is one of ours."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import pytest

from airflow_brayns.brayns.endpoint import Endpoint
from airflow_brayns.brayns.readiness import NotYet, Usable
from airflow_brayns.cluster.poller import Poller
from airflow_brayns.cluster.slurm import SlurmCluster
from airflow_brayns.errors import ConnectionLost, NotReadyInTime, ServiceFailed
from airflow_brayns.services import endpoints as module
from airflow_brayns.services import stream
from airflow_brayns.services.endpoints import wait_for_endpoint
from airflow_brayns.services.session import Session
from airflow_brayns.services.settings import ClusterSettings
from tests.support.shell import FakeShell

ENDPOINT = "r1i1n0:5000"


class Place:
    """What is at the endpoint, and what was asked of the cluster about it."""

    def __init__(self, *answers: BaseException | None, refused: BaseException | None = None) -> None:
        self.answers, self.refused = list(answers), refused
        self.direct: list[bool] = []

    async def probe(self, near: Endpoint, plugins: Sequence[str], *, told: str, seconds: float | None) -> Usable:
        if self.answers and (trouble := self.answers.pop(0)):
            raise trouble
        return Usable("3.10.1", tuple(plugins))


@pytest.fixture
def wait(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Waits for an endpoint of a place."""

    async def run(place: Place, *, within: float, route: str = "direct", **settings: Any) -> dict[str, Any]:
        class Use:
            def __init__(self, cluster: Any, endpoint: str, log: Any, *, direct: bool) -> None:
                place.direct.append(direct)

            async def look(self) -> None:
                if place.refused:
                    raise place.refused

        monkeypatch.setattr(module, "InUse", Use)
        monkeypatch.setattr(stream, "probe", place.probe)
        read = ClusterSettings.read({"scheduler": "slurm", "route": route, "ssh_conn_id": "login", **settings})
        session = Session(Poller(SlurmCluster(FakeShell("")), 10), read, logging.getLogger("endpoints"))
        return await wait_for_endpoint(session, ENDPOINT, ["braynsCircuitExplorer"], within=within)

    return run


@pytest.mark.parametrize(("route", "direct"), [("direct", True), ("ssh", False)])
async def test_what_an_endpoint_told_is_an_entry_of_services(wait: Any, route: str, direct: bool) -> None:
    """Whose it is, is asked where it is connected to: `localhost` is another machine on the login node."""
    place = Place()
    assert await wait(place, within=10, route=route) == {
        "endpoint": ENDPOINT, "node": "r1i1n0", "job_id": None, "service": None, "version": "3.10.1",
        "plugins": ["braynsCircuitExplorer"], "generation": 3, "log": None, "ends_at": None,
    }  # fmt: skip
    assert place.direct == [direct]


async def test_one_that_is_not_there_yet_is_asked_again(wait: Any) -> None:
    place = Place(NotYet("TCP: no answer"), NotYet("TCP: no answer"))
    assert (await wait(place, within=0.4))["version"] == "3.10.1"


async def test_one_that_does_not_come_is_told_with_its_rung(wait: Any) -> None:
    with pytest.raises(NotReadyInTime, match=r"r1i1n0:5000 was not usable within 0 s: TCP: no answer") as raised:
        await wait(Place(*[NotYet("TCP: no answer")] * 1000), within=0.01)
    assert raised.value.field == "start_timeout"


async def test_one_that_answers_and_is_somebody_elses_is_not_waited_for(wait: Any) -> None:
    with pytest.raises(ServiceFailed, match="its port is somebody else's"):
        await wait(Place(refused=ServiceFailed("its port is somebody else's")), within=10)


async def test_a_login_node_that_is_away_when_the_certificate_is_asked_for_is_waited_for(
    wait: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sensor failed at once."""
    answers: list[Any] = [ConnectionLost("the login node cannot be reached"), ("ab-1", "a certificate")]
    asked: list[Any] = []

    async def certificate_at(*_: Any, **__: Any) -> Any:
        asked.append(answer := answers.pop(0))
        if isinstance(answer, BaseException):
            raise answer
        return answer

    monkeypatch.setattr(SlurmCluster, "certificate_at", certificate_at)
    monkeypatch.setattr(ClusterSettings, "client_context", lambda _, name, *__: asked.append(name))
    place = Place(NotYet("TCP: no answer"))
    assert (await wait(place, within=1, tls="allocation"))["version"] == "3.10.1"
    assert asked[1:] == [("ab-1", "a certificate"), "ab-1"], "what is known is not asked for again"


async def test_a_login_that_is_refused_is_not_tried_again(wait: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def certificate_at(*_: Any, **__: Any) -> Any:
        raise ConnectionLost("the login was refused", retry=False)

    monkeypatch.setattr(SlurmCluster, "certificate_at", certificate_at)
    with pytest.raises(ConnectionLost, match="the login was refused"):
        await wait(Place(), within=30, tls="allocation")
