"""Endpoints that somebody gave: which are usable, whose they are, and what is said where none is."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from airflow_brayns.brayns.endpoint import Endpoint
from airflow_brayns.brayns.readiness import NotYet, Usable
from airflow_brayns.cluster.poller import Poller
from airflow_brayns.cluster.slurm import SlurmCluster
from airflow_brayns.errors import BraynsError, ConnectionLost, ServiceFailed, Superseded
from airflow_brayns.movie.interfaces import Liveness, RenderService
from airflow_brayns.rendering import endpoint_pool as module
from airflow_brayns.rendering.endpoint_pool import EndpointPool
from airflow_brayns.services.session import Session
from airflow_brayns.services.settings import ClusterSettings
from tests.support.clock import jumping_clock
from tests.support.shell import FakeShell, look, service

__all__ = ["jumping_clock"]
pytestmark = pytest.mark.usefixtures("jumping_clock")

NAME = "ab-0123456789ab000"
ONE, TWO = "10.1.1.1:5000", "10.1.1.2:5000"


class Place:
    """A cluster that has a service of ours at one of the endpoints, or none; leases are free unless a test says otherwise."""

    def __init__(self, ours: bool = False) -> None:
        self.ours, self.lost, self.away = ours, False, False
        self.calls: list[str] = []
        self.shell = FakeShell(self._answer)

    def _answer(self, script: str) -> Any:
        at = script.find("\nexamine ab-")  # with a script of its own behind it
        call = script[at if at > 0 else script.rindex("\n}\n") + 3 :].strip()
        self.calls.append(call)
        if self.away:
            return ConnectionLost("the login node is away")
        match call.split()[0]:
            case "listening_at":
                return f"at {NAME} 1 brayns1 lives 10.1.1.1\n" if self.ours else ""
            case "examine":
                listed = [service("brayns1", "10.1.1.1", 5000)]
                return f"examined {NAME} 1 brayns1\nsocket ours\n" + look(NAME, nodes=("10.1.1.1",), services=listed)
            case "drive" | "confirm" as verb:
                word, age = (
                    ("undriven", "")
                    if self.lost and verb == "confirm"
                    else ("driving", " -1" if verb == "drive" else " 0")
                )
                return "".join(f"{word} {line.split()[1]} {line.split()[2]}{age}\n" for line in call.split("\n"))
        return ""

    def leases(self) -> list[str]:
        return [
            line.split()[1] + "/" + line.split()[2]
            for call in self.calls
            if call.startswith("drive ")
            for line in call.split("\n")
        ]


@pytest.fixture(autouse=True)
def probes(monkeypatch: pytest.MonkeyPatch) -> dict[str, BaseException]:
    """Which endpoints are not usable, and why."""
    bad: dict[str, BaseException] = {}

    async def probe(near: Endpoint, *, told: str) -> Usable:
        if told in bad:
            raise bad[told]
        return Usable("3.10.1", ())

    monkeypatch.setattr(module, "probe", probe)
    return bad


@asynccontextmanager
async def pool(place: Place, *endpoints: str, **settings: Any) -> AsyncIterator[EndpointPool]:
    read = ClusterSettings.read({"scheduler": "slurm", "route": "direct", **settings})
    session = Session(Poller(SlurmCluster(place.shell, state_dir="/s"), 10), read, logging.getLogger("endpoints"))
    async with EndpointPool(session, endpoints, token="me", by="the movie") as one:
        yield one


async def all_of(one: EndpointPool) -> list[RenderService]:
    async with asyncio.timeout(1000):
        return [found async for found in one.services()]


async def test_each_that_is_usable_comes_and_is_not_ours_alone() -> None:
    place = Place()
    async with pool(place, ONE, TWO) as one:
        found = sorted(await all_of(one), key=lambda service: service.endpoint)
        assert [(service.endpoint, service.node, service.version, service.owned) for service in found] == [
            (ONE, "10.1.1.1", "3.10.1", False), (TWO, "10.1.1.2", "3.10.1", False),
        ]  # fmt: skip
        assert all(service.holds() for service in found)
        assert (await found[0].prove()).liveness is Liveness.NOBODYS
        assert not await one.set_aside(found[0], "it hangs", again=True)
    assert len(place.leases()) == 2
    assert all(lease.startswith("at-") for lease in place.leases())
    assert place.calls[-1].startswith("let_go at-")


async def test_a_service_of_ours_is_taken_in_its_allocation_and_can_be_proved() -> None:
    place = Place(ours=True)
    async with pool(place, ONE) as one:
        [found] = await all_of(one)
        assert (found.name, found.node, found.job, found.owned) == ("brayns1", "10.1.1.1", "77", False)
        assert (await found.prove()).liveness is Liveness.OURS
    assert place.leases() == [f"{NAME}/1/services/brayns1"]


@pytest.mark.parametrize("times", [1, 2])
async def test_whose_it_is_is_asked_again_where_the_cluster_does_not_answer_at_first(times: int) -> None:
    """It counted as nobody's: another movie, which had been answered, took another lease, and both rendered with it at once."""
    place = Place(ours=True)
    answer, silent = place.shell.answers, iter(range(times))

    def answers(script: str) -> Any:
        if "\nlistening_at " in script and next(silent, None) is not None:
            return ConnectionLost("the login node is away")
        return answer(script)

    place.shell.answers = answers
    async with pool(place, ONE) as one:
        [found] = await all_of(one)
        assert (await found.prove()).liveness is Liveness.OURS
    assert place.leases() == [f"{NAME}/1/services/brayns1"]


async def test_one_that_is_named_twice_counts_once() -> None:
    async with pool(Place(), ONE, ONE, f"[::ffff:{ONE.partition(':')[0]}]:5000") as one:
        assert len(await all_of(one)) == 1


async def test_the_usable_ones_go_on_without_the_others(probes: dict[str, BaseException]) -> None:
    probes[ONE] = NotYet("TCP: it does not answer")
    async with pool(Place(), ONE, TWO) as one:
        assert [service.endpoint for service in await all_of(one)] == [TWO]


@pytest.mark.parametrize(
    ("errors", "retry"),
    [((NotYet("x"), NotYet("x")), True), ((ServiceFailed("x", retry=False), NotYet("x")), True), ((ServiceFailed("x", retry=False), ServiceFailed("y", retry=False)), False)],
)  # fmt: skip
async def test_where_none_is_usable_all_are_named_and_a_retry_helps_where_it_can_help_one(
    probes: dict[str, BaseException], errors: tuple[BraynsError, BraynsError], retry: bool
) -> None:
    probes[ONE], probes[TWO] = errors
    async with pool(Place(), ONE, TWO) as one:
        with pytest.raises(
            ServiceFailed, match=rf"^endpoints: see that .*\n +none of {ONE}, {TWO} is a usable braynsService"
        ) as raised:
            await all_of(one)
    assert raised.value.retry is retry


async def test_another_try_of_the_movie_ends_this_one(probes: dict[str, BaseException]) -> None:
    place = Place()

    async def slow(near: Endpoint, *, told: str) -> Usable:
        await asyncio.sleep(0 if told == ONE else 10**5)
        return Usable("3.10.1", ())

    async with pool(place, ONE, TWO) as one:
        incoming = one.services()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "probe", slow)
            await anext(incoming)
            place.lost = True
            with pytest.raises(Superseded):
                await anext(incoming)


async def test_a_cluster_that_cannot_be_asked_does_not_keep_who_connects_directly(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """But it is told that nobody knows whether another movie renders there."""
    place = Place()
    place.away = True
    with caplog.at_level(logging.INFO, "endpoints"):
        async with pool(place, ONE) as one:
            [found] = await all_of(one)
            assert found.holds(), "there is no lease to lose"
    assert "It cannot be told whether another movie renders with" in caplog.text


@pytest.mark.parametrize(("route", "direct"), [("direct", True), ("ssh", False)])
async def test_whose_an_endpoint_is_is_asked_where_it_is_connected_to(
    monkeypatch: pytest.MonkeyPatch, route: str, direct: bool
) -> None:
    """`localhost` is this machine where the route is direct, and the login node otherwise."""
    asked: list[bool] = []

    class Use(module.InUse):
        def __init__(self, *place: Any, direct: bool) -> None:
            asked.append(direct)
            super().__init__(*place, direct=direct)

    monkeypatch.setattr(module, "InUse", Use)
    async with pool(Place(), ONE, route=route, ssh_conn_id="login") as one:
        assert len(await all_of(one)) == 1
    assert asked == [direct]
