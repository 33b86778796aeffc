# ruff: noqa: F811 - fixtures are named as arguments
"""Movies that are given the same services: one renders with each at a time."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from airflow_brayns import BraynsServiceOperator, ReleaseNodesOperator
from airflow_brayns.brayns.endpoint import Endpoint
from airflow_brayns.brayns.readiness import NotYet
from airflow_brayns.cluster.cluster import Cluster
from airflow_brayns.cluster.owner import Owner
from airflow_brayns.errors import ConnectionLost, ServiceFailed, Superseded
from airflow_brayns.hooks.cluster import BraynsClusterHook
from airflow_brayns.movie.interfaces import RenderService
from airflow_brayns.rendering.endpoint_pool import EndpointPool
from airflow_brayns.rendering.service_pool import ServicePool
from airflow_brayns.task.fields import booking_of
from tests.support.local import FAST, cluster, context, state  # noqa: F401 - fixtures
from tests.support.movie import check_whole, produce, specification

pytestmark = pytest.mark.slow

QUICK = {"snapshot_seconds": 0, "frame_seconds": 0.1}


@asynccontextmanager
async def pool(*endpoints: str, by: str, token: str = "") -> AsyncIterator[EndpointPool]:
    log = logging.getLogger(f"movie.{by}")
    async with (
        BraynsClusterHook("here").session(log) as session,
        EndpointPool(session, endpoints, token=token or f"token-{by[-3:]}", by=by) as found,
    ):
        yield found


async def film(data: Path, folder: Path, by: str, *endpoints: str, token: str = "", frames: int = 12) -> None:
    async with pool(*endpoints, by=by, token=token) as found:
        await produce(specification(data / "cube.obj", frames=frames), [], folder, source=found, movie=by, token="try1")
    check_whole(folder, frames)


def colours(folder: Path) -> int:
    [*_, last] = sorted(folder.glob("*.png"))
    with Image.open(last) as picture:
        return len(picture.convert("RGB").getcolors(100000) or [])


async def told(caplog: pytest.LogCaptureFixture, text: str) -> None:
    async with asyncio.timeout(20):
        while text not in caplog.text:
            await asyncio.sleep(0.05)


async def test_two_movies_on_one_endpoint_take_turns_and_the_second_says_for_whom_it_waits(
    emulator: Any, cluster: Any, data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The second's clear-models emptied the first's scene: black frames, both green."""
    caplog.set_level(logging.INFO)
    endpoint = emulator(snapshot_seconds=0.2).endpoint
    first = asyncio.create_task(film(data, tmp_path / "one", "dag/one", endpoint))
    while not list((tmp_path / "one").glob("*.png")):
        assert not first.done(), first.result()
        await asyncio.sleep(0.05)
    port = endpoint.rpartition(":")[2]
    second = asyncio.create_task(film(data, tmp_path / "two", "dag/two", f"localhost:{port}"))
    await told(caplog, f"dag/one renders with localhost:{port}; waiting until it has stopped.")
    assert not list((tmp_path / "two").glob("*.png"))
    await asyncio.gather(first, second)
    assert colours(tmp_path / "one") > 2
    assert colours(tmp_path / "two") > 2


async def test_other_endpoints_are_rendered_with_meanwhile(
    emulator: Any, cluster: Any, data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    busy, free = emulator(**QUICK), emulator(**QUICK)
    async with pool(busy.endpoint, by="dag/one") as held:
        assert (await anext(held.services())).told == busy.endpoint
        await film(data, tmp_path, "dag/two", busy.endpoint, free.endpoint)
    assert f"dag/one renders with {busy.endpoint}" in caplog.text


def holds(render_service: RenderService) -> bool:
    try:
        return render_service.holds()
    except Superseded:
        return False


async def test_the_next_try_of_a_movie_takes_over_and_the_one_before_stops(
    emulator: Any, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_brayns.rendering.lease._CONFIRM_SECONDS", 0.3)
    monkeypatch.setattr("airflow_brayns.rendering.lease.LEASE_SECONDS", 2.0)
    endpoint = emulator(**QUICK).endpoint
    async with pool(endpoint, by="dag/one", token="try-1") as before:
        services = before.services()
        first = await anext(services)
        assert first.holds()
        async with pool(endpoint, by="dag/one", token="try-2") as after:
            taking = asyncio.ensure_future(anext(after.services()))
            while holds(first):
                await asyncio.sleep(0.05)
                assert not taking.done() or not holds(first), "never both at once"
            assert (await taking).holds()
            found = [one async for one in _rest(before)]
            assert any(isinstance(one, Superseded) for one in found)


async def test_a_movie_whose_endpoints_were_taken_over_stops_though_all_have_come(
    emulator: Any, cluster: Any, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It asked for no frame any more and never ended: nobody listens to whom services come from, once all have come."""
    monkeypatch.setattr("airflow_brayns.rendering.lease._CONFIRM_SECONDS", 0.3)
    monkeypatch.setattr("airflow_brayns.rendering.lease.LEASE_SECONDS", 2.0)
    endpoint = emulator(**QUICK).endpoint
    first = asyncio.create_task(film(data, tmp_path / "one", "dag/one", endpoint, token="try-1", frames=500))
    while not list((tmp_path / "one").glob("*.png")):
        await asyncio.sleep(0.05)
    async with pool(endpoint, by="dag/one", token="try-2") as after:
        assert (await anext(after.services())).holds()
        with pytest.raises(Superseded, match="Another try of this movie renders with these endpoints now"):
            async with asyncio.timeout(30):
                await first


async def _rest(pool: EndpointPool) -> Any:
    while not pool._queue.empty():
        yield pool._queue.get_nowait()


async def test_two_tries_that_come_at_once_do_not_take_turns_for_ever(
    emulator: Any, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each took the lease back while the other waited for its lease to grow old: neither ever rendered."""
    monkeypatch.setattr("airflow_brayns.rendering.lease._CONFIRM_SECONDS", 0.3)
    monkeypatch.setattr("airflow_brayns.rendering.lease._TURN_SECONDS", 0.3)
    monkeypatch.setattr("airflow_brayns.rendering.lease.LEASE_SECONDS", 2.0)
    endpoint = emulator(**QUICK).endpoint

    async def first_service(token: str) -> str:
        async with pool(endpoint, by="dag/one", token=token) as one:
            service = await anext(one.services())
            assert service.holds()
            return token

    async with asyncio.timeout(60):
        came = await asyncio.gather(*map(first_service, ("try-1", "try-2")), return_exceptions=True)
    assert sorted(type(one) for one in came if not isinstance(one, str)) in ([], [Superseded])
    assert any(isinstance(one, str) for one in came), came


async def test_endpoints_of_ours_are_kept_from_who_renders_with_their_allocation(
    cluster: Any, context: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    operator = BraynsServiceOperator(task_id="task", cluster_conn_id="here", nodes=2, **FAST)
    one, other = await asyncio.to_thread(operator.execute, context)
    booking = booking_of(context["ti"].xcom["allocation"])
    hook = BraynsClusterHook("here")

    def service_pool(by: str) -> ServicePool:
        return ServicePool(
            session, booking, (), token=f"service_pool-{by[-3:]}", owner=Owner(booking.name, "x", movie=by),
            renew_before=None,
        )  # fmt: skip

    try:
        async with hook.session(logging.getLogger("service_pool")) as session:
            async with pool(one, by="dag/one") as first, pool(other, by="dag/two") as second:
                service = await anext(first.services())
                assert (service.name, service.node) == ("brayns1", "slot1")
                assert (await service.prove()).liveness.value == "ours"
                assert (await anext(second.services())).name == "brayns2", "each of them has its own movie"
                entering = asyncio.ensure_future(service_pool("dag/three").__aenter__())
                await told(caplog, "renders with these services; waiting until it has stopped.")
                assert not entering.done()
            three = await asyncio.wait_for(entering, 30)
            try:
                async with pool(one, by="dag/four") as fourth:
                    waiting = asyncio.ensure_future(anext(fourth.services()))
                    await told(caplog, f"dag/three renders with {one}")
                    assert not waiting.done()
                    waiting.cancel()
            finally:
                await three.__aexit__(None, None, None)
    finally:
        release = ReleaseNodesOperator(task_id="release", cluster_conn_id="here", allocated_by="task")
        await asyncio.to_thread(release.execute, context)


async def test_of_endpoints_none_of_which_is_usable_all_are_named(cluster: Any) -> None:
    async with pool("127.0.0.1:1", "127.0.0.1:2", by="dag/one") as found:
        with pytest.raises(ServiceFailed, match=r"none of 127\.0\.0\.1:1, 127\.0\.0\.1:2 is a usable braynsService"):
            await anext(found.services())


async def test_nothing_is_left_of_a_movie_that_has_ended(emulator: Any, cluster: Any, state: Path) -> None:
    endpoint = emulator(**QUICK).endpoint
    async with pool(endpoint, by="dag/one") as found:
        await anext(found.services())
        assert list(state.glob("at-*/1/driver.*"))
    assert not list(state.glob("at-*/1/driver.*"))


async def test_a_lease_outlives_its_folder_and_a_day(
    emulator: Any, cluster: Any, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What nobody has confirmed for a day is cleared away; what was only made so long ago is in use."""
    monkeypatch.setattr("airflow_brayns.rendering.lease._CONFIRM_SECONDS", 0.2)
    one, other = emulator(**QUICK), emulator(**QUICK)
    async with pool(one.endpoint, by="dag/one") as found:
        await anext(found.services())
        [folder] = state.glob("at-*")
        old = time.time() - 3 * 86400
        os.utime(folder, (old, old))
        async with pool(other.endpoint, by="dag/two") as beside:
            await anext(beside.services())
        assert list(folder.glob("1/driver.*")), "it is in use"
        folder.rename(state.parent / "gone")  # at once: it is confirmed all the time
        async with asyncio.timeout(20):
            while not list(folder.glob("1/driver.*")):
                await asyncio.sleep(0.1)


def own_address() -> str:
    """An address of this machine that is no loopback; there is one for each interface that is up."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has a loopback only")
        return str(probe.getsockname()[0])


@pytest.mark.parametrize("other", ["LOCALHOST", "127.1", "[::ffff:127.0.0.1]", "address"])
async def test_a_service_is_one_however_its_host_is_spelled(
    emulator: Any, cluster: Any, caplog: pytest.LogCaptureFixture, other: str
) -> None:
    """Two movies that named it differently rendered with it at once."""
    caplog.set_level(logging.INFO)
    host = own_address() if other == "address" else other
    port = emulator(uri="0.0.0.0:0", **QUICK).endpoint.rpartition(":")[2]
    async with pool(f"127.0.0.1:{port}", by="dag/one") as first:
        assert (await anext(first.services())).holds()
        async with pool(f"{host}:{port}", by="dag/two") as second:
            waiting = asyncio.ensure_future(anext(second.services()))
            await told(caplog, f"dag/one renders with {host}:{port}")
            assert not waiting.done()
            waiting.cancel()


async def test_a_service_that_is_named_twice_counts_once(
    emulator: Any, cluster: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    port = emulator(**QUICK).endpoint.rpartition(":")[2]
    async with pool(f"127.0.0.1:{port}", f"localhost:{port}", by="dag/one") as found:
        assert len([one async for one in found.services()]) == 1
    assert "is the same service as another one of the list" in caplog.text


@pytest.mark.parametrize(
    ("troubles", "retry"),
    [
        ({1: ServiceFailed("it has ended", retry=False), 2: ServiceFailed("so has this", retry=False)}, False),
        ({1: ServiceFailed("it has ended", retry=False), 2: NotYet("it does not listen yet")}, True),
        ({1: ConnectionLost("the login node is down")}, True),
    ],
)
async def test_that_no_endpoint_is_usable_is_tried_again_where_that_can_help_one_of_them(
    cluster: Any, monkeypatch: pytest.MonkeyPatch, troubles: dict[int, Exception], retry: bool
) -> None:
    """It was tried again whatever was wrong with them."""

    async def fail(near: Endpoint, **_: Any) -> None:
        raise troubles[near.port]

    monkeypatch.setattr("airflow_brayns.rendering.endpoint_pool.probe", fail)
    async with pool(*(f"127.0.0.1:{port}" for port in troubles), by="dag/one") as found:
        with pytest.raises(ServiceFailed, match=r"endpoints: see that .*\n +none of") as raised:
            await anext(found.services())
    assert raised.value.retry is retry


async def test_a_service_of_ours_is_one_however_its_host_is_spelled(
    cluster: Any, context: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    operator = BraynsServiceOperator(task_id="task", cluster_conn_id="here", nodes=1, **FAST)
    [endpoint] = await asyncio.to_thread(operator.execute, context)
    port = endpoint.rpartition(":")[2]
    try:
        async with pool(endpoint, by="dag/one") as first:
            assert (await anext(first.services())).name == "brayns1"
            async with pool(f"LocalHost.:{port}", by="dag/two") as second:
                waiting = asyncio.ensure_future(anext(second.services()))
                await told(caplog, f"dag/one renders with LocalHost.:{port}")
                assert not waiting.done()
                waiting.cancel()
    finally:
        release = ReleaseNodesOperator(task_id="release", cluster_conn_id="here", allocated_by="task")
        await asyncio.to_thread(release.execute, context)


async def test_a_service_of_ours_counts_as_used_once_the_cluster_can_be_asked(
    cluster: Any, context: Any, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was looked for once; where that failed, its allocation went idle under the movie."""
    operator = BraynsServiceOperator(task_id="task", cluster_conn_id="here", nodes=1, **FAST)
    [endpoint] = await asyncio.to_thread(operator.execute, context)
    monkeypatch.setattr("airflow_brayns.services.in_use._MOST_SECONDS", 0.5)
    asked = 0

    async def silent_at_first(self: Any, host: str, port: int, direct: bool) -> Any:
        nonlocal asked
        asked += 1
        if asked < 3:
            raise ConnectionLost("the login node does not answer")
        return await listener(self, host, port, direct)

    listener = Cluster._listener
    monkeypatch.setattr(Cluster, "_listener", silent_at_first)
    [lease] = state.glob("ab-*/1/lease")
    try:
        async with pool(endpoint, by="dag/one") as found, asyncio.timeout(60):
            await anext(found.services())
            lease.unlink()
            while not lease.exists():
                await asyncio.sleep(0.1)
    finally:
        release = ReleaseNodesOperator(task_id="release", cluster_conn_id="here", allocated_by="task")
        await asyncio.to_thread(release.execute, context)
    assert asked == 3
