"""Probes: so many at once, for each cluster and for all of a loop, and the more rarely the longer a service takes."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from airflow_brayns.brayns.readiness import NotYet
from airflow_brayns.cluster.poller import Poller
from airflow_brayns.cluster.slurm import SlurmCluster
from airflow_brayns.services import probes
from airflow_brayns.services.probes import probe_until
from airflow_brayns.services.tasks import beside
from tests.support.clock import jumping_clock
from tests.support.shell import FakeShell

__all__ = ["jumping_clock"]


def poller() -> Poller:
    return Poller(SlurmCluster(FakeShell("")), 1)


class Silent:
    """Services of a cluster that do not answer, for as long as a rung waits."""

    def __init__(self, seconds: float = 0.02, *, answered: bool = False) -> None:
        self.answered = answered
        self.seconds, self.open, self.most, self.asked = seconds, 0, 0, Counter[int]()

    def service(self, number: int) -> Callable[[float], Awaitable[None]]:
        async def attempt(seconds: float) -> None:
            self.open += 1
            self.most = max(self.most, self.open)
            self.asked[number] += 1
            try:
                await asyncio.sleep(min(self.seconds, seconds))
            finally:
                self.open -= 1
            raise NotYet("TCP: no answer", answered=self.answered)

        return attempt


@asynccontextmanager
async def waits(services: Silent, *pollers: Poller, number: int = 300, within: float = 60) -> AsyncIterator[None]:
    async with beside() as group:
        for each in pollers:
            for one in range(number):
                group.create_task(probe_until(each, services.service(one), within=within))
        yield


async def until_all_were_asked(services: Silent, number: int = 300, times: int = 1) -> None:
    async with asyncio.timeout(30):
        while len(services.asked) < number or min(services.asked.values()) < times:
            await asyncio.sleep(0.01)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "PAUSE", 0.01)


async def test_so_many_services_of_a_cluster_are_asked_at_once() -> None:
    services = Silent()
    async with waits(services, poller()):
        await until_all_were_asked(services, times=2)
    assert services.most == probes._MOST
    assert services.open == 0


async def test_so_many_of_all_clusters_are_asked_at_once() -> None:
    services = Silent()
    async with waits(services, *(poller() for _ in range(5))):
        await until_all_were_asked(services, times=2)
    assert services.most == probes._MOST_OF_ALL


@pytest.mark.usefixtures("jumping_clock")
@pytest.mark.parametrize("answered", [False, True], ids=["nobody", "what accepts and says nothing"])
@pytest.mark.parametrize("before", [0, 100], ids=["together", "after they were asked for long"])
async def test_a_service_that_is_usable_is_found_within_seconds_whoever_does_not_answer(
    answered: bool, before: float
) -> None:
    """Each first probe of a dead one took ten seconds, and a good one behind 300 waited 91 s."""
    services, cluster, loop = Silent(3600, answered=answered), poller(), asyncio.get_running_loop()

    async def good(_: float) -> str:
        await asyncio.sleep(0.01)
        return "usable"

    async with waits(services, cluster, within=600):
        await asyncio.sleep(before)
        began = loop.time()
        assert await probe_until(cluster, good, within=600) == "usable"
        assert loop.time() - began < 5


@pytest.mark.usefixtures("jumping_clock")
async def test_one_that_says_that_it_loads_is_asked_as_often_whoever_does_not_answer() -> None:
    """It was asked every 52 to 184 s."""
    services, cluster, loop = Silent(3600), poller(), asyncio.get_running_loop()
    asked: list[float] = []

    async def loads(_: float) -> None:
        asked.append(loop.time())
        if asked[-1] - asked[0] < 200:
            raise NotYet("JSON-RPC: still loading")

    async with waits(services, cluster, within=600):
        await probe_until(cluster, loads, within=600)
    assert max(after - before for before, after in itertools.pairwise(asked)) < probes.LONGEST_PAUSE + 3


@pytest.mark.usefixtures("jumping_clock")
@pytest.mark.parametrize(
    ("answered", "seconds"), [(True, 10.0), (False, 2.0)], ids=["accepts and says nothing", "nobody"]
)
async def test_only_one_that_took_long_is_given_longer(answered: bool, seconds: float) -> None:
    given: list[float] = []

    async def attempt(patience: float) -> None:
        given.append(patience)
        await asyncio.sleep(0 if len(given) == 1 else patience)
        if len(given) < 5:
            raise NotYet("no answer", answered=answered)

    await probe_until(poller(), attempt, within=600)
    assert given == [1.0, 1.0, seconds, seconds, seconds]


@pytest.mark.usefixtures("jumping_clock")
async def test_a_last_probe_is_given_what_is_left_of_the_wait() -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(NotYet):
        await probe_until(poller(), Silent(3600, answered=True).service(0), within=6)
    assert loop.time() - began < 6 + 3 * probes.FIRST_SECONDS


async def test_a_cluster_whose_services_do_not_answer_is_in_no_other_ones_way() -> None:
    services = Silent(3600)
    async with waits(services, poller()):
        async with asyncio.timeout(30):
            while services.open < probes._MOST:
                await asyncio.sleep(0.01)
        async with asyncio.timeout(0.9):
            assert await probe_until(poller(), lambda _: asyncio.sleep(0, "usable"), within=60) == "usable"


async def test_a_service_that_takes_long_is_asked_more_and_more_rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    services = Silent(0)
    with pytest.raises(NotYet, match="TCP"):
        await probe_until(poller(), services.service(0), within=1.5)
    rarely, services.asked = services.asked[0], Counter()
    monkeypatch.setattr(probes, "LONGEST_PAUSE", 0.0)
    with pytest.raises(NotYet, match="TCP"):
        await probe_until(poller(), services.service(0), within=1.5)
    assert 10 <= rarely < services.asked[0] / 1.5
