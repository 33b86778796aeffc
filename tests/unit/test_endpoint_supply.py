# ruff: noqa: F811 - fixtures are named as arguments
"""Movies that are given the same services: one renders with each at a time."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from airflow_brayns import BraynsServiceOperator, ReleaseNodesOperator
from airflow_brayns.crew import Crew
from airflow_brayns.endpoint_supply import EndpointSupply
from airflow_brayns.errors import ServiceFailed
from airflow_brayns.hooks.cluster import BraynsClusterHook
from airflow_brayns.movie.store import Superseded
from airflow_brayns.operators.base import booking_of
from tests.support.local import FAST, cluster, context, state  # noqa: F401 - fixtures
from tests.support.movie import check_whole, produce, specification

pytestmark = pytest.mark.slow

QUICK = {"snapshot_seconds": 0, "frame_seconds": 0.1}


def supply(*endpoints: str, by: str, token: str = "") -> EndpointSupply:
    hook = BraynsClusterHook("here")
    return EndpointSupply(
        hook, hook.settings, endpoints, token=token or f"token-{by[-3:]}", by=by, log=logging.getLogger(f"movie.{by}")
    )


async def film(data: Path, folder: Path, by: str, *endpoints: str, token: str = "", frames: int = 12) -> None:
    async with supply(*endpoints, by=by, token=token) as found:
        await produce(specification(data / "cube.obj", frames=frames), [], folder, supply=found, movie=by, token="try1")
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
    await told(caplog, f"localhost:{port} is rendered with by dag/one; waiting until that has stopped.")
    assert not list((tmp_path / "two").glob("*.png"))
    await asyncio.gather(first, second)
    assert colours(tmp_path / "one") > 2
    assert colours(tmp_path / "two") > 2


async def test_other_endpoints_are_rendered_with_meanwhile(
    emulator: Any, cluster: Any, data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    busy, free = emulator(**QUICK), emulator(**QUICK)
    async with supply(busy.endpoint, by="dag/one") as held:
        assert (await anext(held.stations())).told == busy.endpoint
        await film(data, tmp_path, "dag/two", busy.endpoint, free.endpoint)
    assert f"{busy.endpoint} is rendered with by dag/one" in caplog.text


async def test_the_next_try_of_a_movie_takes_over_and_the_one_before_stops(
    emulator: Any, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_brayns.endpoint_supply._CONFIRM_SECONDS", 0.3)
    monkeypatch.setattr("airflow_brayns.endpoint_supply.LEASE_SECONDS", 2.0)
    endpoint = emulator(**QUICK).endpoint
    async with supply(endpoint, by="dag/one", token="try-1") as before:
        stations = before.stations()
        first = await anext(stations)
        assert first.holds()
        async with supply(endpoint, by="dag/one", token="try-2") as after:
            taking = asyncio.ensure_future(anext(after.stations()))
            while first.holds():
                await asyncio.sleep(0.05)
                assert not taking.done() or not first.holds(), "never both at once"
            assert (await taking).holds()
            found = [one async for one in _rest(before)]
            assert any(isinstance(one, Superseded) for one in found)


async def _rest(supply: EndpointSupply) -> Any:
    while not supply._queue.empty():
        yield supply._queue.get_nowait()


async def test_two_tries_that_come_at_once_do_not_take_turns_for_ever(
    emulator: Any, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each took the seat back while the other waited for its lease to grow old: neither ever rendered."""
    monkeypatch.setattr("airflow_brayns.endpoint_supply._CONFIRM_SECONDS", 0.3)
    monkeypatch.setattr("airflow_brayns.endpoint_supply._TURN_SECONDS", 0.3)
    monkeypatch.setattr("airflow_brayns.endpoint_supply.LEASE_SECONDS", 2.0)
    endpoint = emulator(**QUICK).endpoint

    async def first_station(token: str) -> str:
        async with supply(endpoint, by="dag/one", token=token) as one:
            station = await anext(one.stations())
            assert station.holds()
            return token

    async with asyncio.timeout(60):
        came = await asyncio.gather(*map(first_station, ("try-1", "try-2")), return_exceptions=True)
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

    def crew(by: str) -> Crew:
        return Crew(
            poller, hook.settings, booking, (), token=f"crew-{by[-3:]}", owner="x", about="", renew_before=None,
            log=logging.getLogger("crew"), by=by,
        )  # fmt: skip

    try:
        async with hook.connect(hook.settings) as poller:
            async with supply(one, by="dag/one") as first, supply(other, by="dag/two") as second:
                station = await anext(first.stations())
                assert (station.name, station.node) == ("brayns1", "slot1")
                assert (await station.prove()).standing.value == "ours"
                assert (await anext(second.stations())).name == "brayns2", "each of them has its own movie"
                entering = asyncio.ensure_future(crew("dag/three").__aenter__())
                await told(caplog, "renders with these services; waiting until it has stopped.")
                assert not entering.done()
            three = await asyncio.wait_for(entering, 30)
            try:
                async with supply(one, by="dag/four") as fourth:
                    waiting = asyncio.ensure_future(anext(fourth.stations()))
                    await told(caplog, f"{one} is rendered with by dag/three")
                    assert not waiting.done()
                    waiting.cancel()
            finally:
                await three.__aexit__(None, None, None)
    finally:
        release = ReleaseNodesOperator(task_id="release", cluster_conn_id="here", allocated_by="task")
        await asyncio.to_thread(release.execute, context)


async def test_of_endpoints_none_of_which_is_usable_all_are_named(cluster: Any) -> None:
    async with supply("127.0.0.1:1", "127.0.0.1:2", by="dag/one") as found:
        with pytest.raises(ServiceFailed, match=r"none of 127\.0\.0\.1:1, 127\.0\.0\.1:2 is a usable braynsService"):
            await anext(found.stations())


async def test_nothing_is_left_of_a_movie_that_has_ended(emulator: Any, cluster: Any, state: Path) -> None:
    endpoint = emulator(**QUICK).endpoint
    async with supply(endpoint, by="dag/one") as found:
        await anext(found.stations())
        assert list(state.glob("at-*/1/driver.*"))
    assert not list(state.glob("at-*/1/driver.*"))


async def test_a_seat_outlives_its_folder_and_a_day(
    emulator: Any, cluster: Any, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What nobody has confirmed for a day is cleared away; what was only made so long ago is in use."""
    monkeypatch.setattr("airflow_brayns.endpoint_supply._CONFIRM_SECONDS", 0.2)
    one, other = emulator(**QUICK), emulator(**QUICK)
    async with supply(one.endpoint, by="dag/one") as found:
        await anext(found.stations())
        [folder] = state.glob("at-*")
        old = time.time() - 3 * 86400
        os.utime(folder, (old, old))
        async with supply(other.endpoint, by="dag/two") as beside:
            await anext(beside.stations())
        assert list(folder.glob("1/driver.*")), "it is in use"
        shutil.rmtree(folder)
        async with asyncio.timeout(20):
            while not list(folder.glob("1/driver.*")):
                await asyncio.sleep(0.1)
