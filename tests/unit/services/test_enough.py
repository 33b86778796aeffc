"""Which services a wait needs, and in which order it returns them: of one job and of several, listed late, ended and replaced."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from airflow_brayns.cluster.allocation import Allocation, AllocationStatus, ServiceStatus
from airflow_brayns.errors import NotReadyInTime, ServiceFailed
from airflow_brayns.services.booking import Booking
from airflow_brayns.services.stream import Failed, Looked
from airflow_brayns.services.waiting import _Tally
from tests.support.scripted import Service as Scripted
from tests.support.scripted import serving
from tests.support.shell import look, service
from tests.support.waiting import NAME, Looks, ago, waiting


async def test_services_that_are_usable_come_in_the_order_of_their_nodes(serving_two: list[str]) -> None:
    """With where they are, until when, and how long it took."""
    ports = [int(endpoint.rpartition(":")[2]) for endpoint in serving_two]
    listed = [service(f"brayns{index}", "127.0.0.1", port) for index, port in enumerate(ports, 1)]
    wait, _ = waiting(look(nodes=("127.0.0.1",), services=listed, left="10:00"), since=ago(5))
    found = await asyncio.wait_for(wait.services(), 10)
    assert [(one.name, str(one.endpoint), one.job_id) for one in found] == [
        ("brayns1", serving_two[0], "77"),
        ("brayns2", serving_two[1], "77"),
    ]
    assert found[0].log == f"/s/{NAME}/1/services/brayns1/log"
    assert found[0].usable.version == "3.10.1"
    assert found[0].ends_at is not None
    assert 590 < (datetime.fromisoformat(found[0].ends_at) - datetime.now(UTC)).total_seconds() < 601
    assert 5 <= wait.waits["brayns.queue_wait"] < 9
    assert 0 <= wait.waits["brayns.start_wait"] < 5


async def test_a_service_that_is_listed_late_is_waited_for(serving_two: list[str]) -> None:
    """A shared file system shows a new folder to another login node up to a minute later: one of two was handed on."""
    ports = [int(endpoint.rpartition(":")[2]) for endpoint in serving_two]
    listed = [service(f"brayns{index}", "127.0.0.1", port) for index, port in enumerate(ports, 1)]
    looks = [look(nodes=("127.0.0.1",), services=listed[:number]) for number in (1, 1, 2)]
    wait, _ = waiting(lambda number: looks[min(number, 2)], poll_interval=1)
    found = await asyncio.wait_for(wait.services(["brayns1", "brayns2"]), 15)
    assert [one.name for one in found] == ["brayns1", "brayns2"]
    wait, _ = waiting(looks[0], min_ready=1)
    assert len(await asyncio.wait_for(wait.services(["brayns1", "brayns2"]), 15)) == 1, "as many as are wanted"


async def test_a_service_that_was_started_and_is_never_listed_is_not_left_out(serving_two: list[str]) -> None:
    listed = [service("brayns1", "127.0.0.1", int(serving_two[0].rpartition(":")[2]))]
    wait, _ = waiting(look(nodes=("127.0.0.1",), services=listed), poll_interval=1, start_timeout=2)
    with pytest.raises(NotReadyInTime, match="no such service is in the allocation"):
        await asyncio.wait_for(wait.services(["brayns1", "brayns2"]), 15)


OTHER = "ab-0123456789ab001"


def of_two_jobs(first: list[str], second: list[str]) -> Looks:
    """What looks at a booking of two jobs, by name, find of their services."""
    one, other = look(nodes=("127.0.0.1",), services=first), look(OTHER, nodes=("127.0.0.1",), services=second)
    return lambda _: one + other


@pytest.mark.parametrize("exited", ["0 stopped", "9 it ended"])
async def test_in_the_place_of_a_service_of_one_job_another_counts(serving_two: list[str], exited: str) -> None:
    """Those of several jobs have one name: the one that had ended failed each sensor behind the start that was cleared."""
    ports = [int(endpoint.rpartition(":")[2]) for endpoint in serving_two]
    place = [service(exited=exited), service("brayns1-2", "127.0.0.1", ports[0])]
    seen = of_two_jobs(place, [service("brayns1", "127.0.0.1", ports[1])])
    wait, _ = waiting(seen, NAME, OTHER, poll_interval=1)
    found = await asyncio.wait_for(wait.services(["brayns1", "brayns1-2"]), 30)
    assert [one.name for one in found] == ["brayns1-2", "brayns1"]


async def test_a_job_whose_service_is_listed_late_is_waited_for(serving_two: list[str]) -> None:
    """The other one's bears the same name, and was handed on alone."""
    listed = [service("brayns1", "127.0.0.1", int(serving_two[0].rpartition(":")[2]))]
    wait, _ = waiting(of_two_jobs(listed, []), NAME, OTHER, poll_interval=1, start_timeout=2)
    with pytest.raises(NotReadyInTime, match="no such service is in the allocation"):
        await asyncio.wait_for(wait.services(["brayns1"]), 30)


async def test_enough_are_enough(serving_two: list[str]) -> None:
    """`min_ready`: the third may fail, as long as two are usable."""
    ports = [int(endpoint.rpartition(":")[2]) for endpoint in serving_two]
    listed = [service(f"brayns{index}", "127.0.0.1", port) for index, port in enumerate(ports, 1)]
    listed.append(service("brayns3", "127.0.0.1", exited="1 it ended"))
    seen = look(nodes=("127.0.0.1",), services=listed)
    wait, _ = waiting(seen, min_ready=2)
    assert [one.name for one in await asyncio.wait_for(wait.services(), 10)] == ["brayns1", "brayns2"]
    wait, _ = waiting(seen, min_ready=3)
    with pytest.raises(ServiceFailed, match="before it was usable: it ended"):
        await asyncio.wait_for(wait.services(), 10)


@pytest.fixture
async def serving_two() -> AsyncIterator[list[str]]:
    """Two services on this machine."""
    async with serving(Scripted()) as one, serving(Scripted()) as other:
        yield [one.endpoint, other.endpoint]


@pytest.mark.parametrize(
    ("min_ready", "failures", "in_vain"), [(2, 1, False), (2, 2, True), (1, 2, False), (1, 3, True), (None, 1, True)]
)
def test_a_wait_is_in_vain_once_too_few_can_still_become_usable(
    min_ready: int | None, failures: int, in_vain: bool
) -> None:
    allocation = Allocation(NAME, 1, "77")
    services = tuple(ServiceStatus(f"brayns{number}") for number in range(3))
    tally = _Tally(Booking(NAME, (allocation,)), min_ready, None)
    tally.take(Looked(allocation, AllocationStatus(NAME, 1, services=services)))
    for one in services[:failures]:
        tally.take(Failed(allocation, one, ServiceFailed(f"{one.name} has ended")))
    if in_vain:
        with pytest.raises(ServiceFailed, match="brayns0 has ended"):
            tally.settled()
    else:
        assert not tally.settled()
