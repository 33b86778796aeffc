"""Probes: so many at once, for each cluster and for all of a loop, and the more rarely the longer a service takes."""

from __future__ import annotations

import asyncio
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
from tests.support.shell import FakeShell


def poller() -> Poller:
    return Poller(SlurmCluster(FakeShell("")), 1)


class Silent:
    """Services of a cluster that do not answer, but for as long as a rung waits."""

    def __init__(self, seconds: float = 0.02) -> None:
        self.seconds, self.open, self.most, self.asked = seconds, 0, 0, Counter[int]()

    def service(self, number: int) -> Callable[[], Awaitable[None]]:
        async def attempt() -> None:
            self.open += 1
            self.most = max(self.most, self.open)
            self.asked[number] += 1
            try:
                await asyncio.sleep(self.seconds)
            finally:
                self.open -= 1
            raise NotYet("TCP: no answer")

        return attempt


@asynccontextmanager
async def waits(services: Silent, *pollers: Poller, number: int = 300) -> AsyncIterator[None]:
    async with beside() as group:
        for each in pollers:
            for one in range(number):
                group.create_task(probe_until(each, services.service(one), within=60))
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


async def test_a_service_that_has_begun_to_listen_is_asked_at_once_whoever_does_not_answer() -> None:
    services, cluster = Silent(), poller()
    async with waits(services, cluster):
        await until_all_were_asked(services)
        services.seconds = 3600  # they hold their places from now on
        async with asyncio.timeout(30):
            while services.open < probes._MOST // 2:
                await asyncio.sleep(0.01)
        async with asyncio.timeout(10):
            assert await probe_until(cluster, lambda: asyncio.sleep(0, "usable"), within=60) == "usable"


async def test_a_cluster_whose_services_do_not_answer_is_in_no_other_ones_way() -> None:
    services = Silent(3600)
    async with waits(services, poller()):
        async with asyncio.timeout(30):
            while services.open < probes._MOST:
                await asyncio.sleep(0.01)
        async with asyncio.timeout(10):
            assert await probe_until(poller(), lambda: asyncio.sleep(0, "usable"), within=60) == "usable"


async def test_a_service_that_takes_long_is_asked_more_and_more_rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    services = Silent(0)
    with pytest.raises(NotYet, match="TCP"):
        await probe_until(poller(), services.service(0), within=1.5)
    rarely, services.asked = services.asked[0], Counter()
    monkeypatch.setattr(probes, "LONGEST_PAUSE", 0.0)
    with pytest.raises(NotYet, match="TCP"):
        await probe_until(poller(), services.service(0), within=1.5)
    assert 10 <= rarely < services.asked[0] / 1.5
