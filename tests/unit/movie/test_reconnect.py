"""A movie whose connections break: to services that live, that have died, and that somebody else has taken the place of."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from airflow_brayns.brayns.client import BraynsClient
from airflow_brayns.errors import ConnectionLost, RenderingFailed, ServiceFailed
from airflow_brayns.movie.reconnect import check_ours, regain
from airflow_brayns.movie.supply import FixedSupply, Proof, Standing, Station
from airflow_brayns.tunnel import Relay
from tests.support.movie import Remembers, check_whole, produce, records, specification, stations

pytestmark = pytest.mark.slow

QUICK = {"snapshot_seconds": 0, "frame_seconds": 0.05}
ENDED = Proof(Standing.ENDED, "braynsService brayns1 on r1i1n0 (job 7) was killed by signal 9 (SIGKILL).\nLast lines of brayns1 on r1i1n0:\nfarewell")  # fmt: skip


class Way:
    """A local port to a service; it can be cut, closed for a while, and lead elsewhere."""

    def __init__(self, port: int) -> None:
        self.leads_to, self.open, self._relay = port, True, Relay(self._reach)

    async def _reach(self) -> tuple[Any, Any]:
        if not self.open:
            raise ConnectionLost("No way through the login node")
        return await asyncio.open_connection("127.0.0.1", self.leads_to)

    async def cut(self) -> None:
        await self._relay.close()

    @asynccontextmanager
    async def station(self, service: Any, standing: Proof, **changes: Any) -> AsyncIterator[Station]:
        server = await asyncio.start_server(self._relay.serve, "127.0.0.1", 0)
        self.proof, self.asked = standing, 0

        async def prove() -> Proof:
            self.asked += 1
            return self.proof

        [one] = stations([service], prove=prove, told="r1i1n0:43210", **changes)
        yield replace(one, endpoint=f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
        server.close()
        await self._relay.close()


async def frames(folder: Path, number: int) -> None:
    while not (folder / "manifest.jsonl").exists() or len(records(folder)) < number:
        await asyncio.sleep(0.02)


async def test_dropped_connections_to_a_service_that_lives_cost_no_frame_and_no_service(
    emulator: Any, data: Path, tmp_path: Path
) -> None:
    """Two drops ended a movie whose services were in the best of health."""
    service = emulator(**QUICK)
    way, told = Way(service.port), Remembers()
    async with way.station(service, Proof(Standing.OURS)) as station:
        movie = asyncio.create_task(
            produce(specification(data / "cube.obj", frames=60), [], tmp_path, supply=FixedSupply([station]), reporter=told)
        )  # fmt: skip
        for number in (5, 15, 25, 35, 45):
            await frames(tmp_path, number)
            await way.cut()
        outcome, _ = await movie
    assert outcome.rendered == 60
    check_whole(tmp_path, 60)
    assert "set aside" not in told.text
    assert "gets the scene anew" not in told.text, "the service is the same, and so is its scene"
    assert told.text.count("was made anew") >= 3


async def test_while_there_is_no_way_the_service_is_waited_for(
    emulator: Any, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_brayns.movie.driver._AT_ONCE_SECONDS", 0.5)
    monkeypatch.setattr("airflow_brayns.movie.reconnect._PAUSES", (0.0, 0.1))
    service = emulator(**QUICK)
    way = Way(service.port)
    async with way.station(service, Proof(Standing.OURS)) as station:
        movie = asyncio.create_task(
            produce(specification(data / "cube.obj", frames=30), [], tmp_path, supply=FixedSupply([station]))
        )
        await frames(tmp_path, 5)
        way.open, way.proof = False, Proof(Standing.UNKNOWN, "the login node is away")
        await way.cut()
        asked = way.asked
        while way.asked < asked + 8:
            await asyncio.sleep(0.05)
        assert not movie.done()
        way.open, way.proof = True, Proof(Standing.OURS)
        await movie
    check_whole(tmp_path, 30)


async def test_a_strangers_pictures_never_count(emulator: Any, data: Path, tmp_path: Path) -> None:
    """A service crashed; a process of another account had waited for its port: frames 7 to 15 of 16 were that one's."""
    ours, stranger = emulator(**QUICK), emulator(**QUICK)
    way, told = Way(ours.port), Remembers()
    async with way.station(ours, Proof(Standing.OURS)) as station:
        movie = asyncio.create_task(
            produce(specification(data / "cube.obj", frames=40), [], tmp_path, supply=FixedSupply([station]), reporter=told)
        )  # fmt: skip
        await frames(tmp_path, 5)
        way.leads_to, way.proof = stranger.port, ENDED
        ours.kill()
        with pytest.raises(RenderingFailed, match=r"(?s)frames are missing .*signal 9 \(SIGKILL\).*farewell"):
            await movie
    assert len(records(tmp_path)) < 40
    assert "add-model" not in "\n".join(stranger.lines), "it was asked for nothing but its version"
    assert station.endpoint not in told.text, "a tunnel's port says nothing to the reader"


async def test_a_stranger_does_not_even_join(emulator: Any, data: Path, tmp_path: Path) -> None:
    stranger = emulator(**QUICK)
    way = Way(stranger.port)
    async with way.station(stranger, ENDED) as station:
        with pytest.raises((ServiceFailed, RenderingFailed), match="signal 9"):
            await produce(specification(data / "cube.obj"), [], tmp_path, supply=FixedSupply([station]))
    assert not list(tmp_path.glob("*.png"))


async def test_of_a_service_that_nobody_looks_after_the_scene_is_loaded_anew(
    emulator: Any, data: Path, tmp_path: Path
) -> None:
    """It cannot be known whether it is the same: without its scene it would give black frames."""
    first, second = emulator(**QUICK), emulator(**QUICK)
    way, told = Way(first.port), Remembers()
    async with way.station(first, Proof(Standing.NOBODYS)) as station:
        movie = asyncio.create_task(
            produce(specification(data / "cube.obj", frames=30), [], tmp_path, supply=FixedSupply([station]), reporter=told)
        )  # fmt: skip
        await frames(tmp_path, 5)
        way.leads_to = second.port
        first.kill()
        await movie
    check_whole(tmp_path, 30)
    assert "gets the scene anew" in told.text


async def test_a_blip_on_the_way_ends_no_service_that_nobody_looks_after(
    emulator: Any, data: Path, tmp_path: Path
) -> None:
    """Three quick tries ended it after 2.5 s, as one that 'hangs'."""
    service = emulator(**QUICK)
    way, told = Way(service.port), Remembers()
    async with way.station(service, Proof(Standing.NOBODYS)) as station:
        movie = asyncio.create_task(
            produce(specification(data / "cube.obj", frames=30), [], tmp_path, supply=FixedSupply([station]), reporter=told)
        )  # fmt: skip
        await frames(tmp_path, 5)
        way.open, asked = False, way.asked
        await way.cut()
        while way.asked < asked + 4:
            assert not movie.done(), await movie
            await asyncio.sleep(0.05)
        way.open = True
        await movie
    check_whole(tmp_path, 30)


async def test_a_scene_that_somebody_changed_is_loaded_anew(emulator: Any, data: Path, tmp_path: Path) -> None:
    service = emulator(**QUICK)
    way, told = Way(service.port), Remembers()
    async with way.station(service, Proof(Standing.OURS)) as station:
        movie = asyncio.create_task(
            produce(specification(data / "cube.obj", frames=40), [], tmp_path, supply=FixedSupply([station]), reporter=told)
        )  # fmt: skip
        await frames(tmp_path, 5)
        way.open = False
        await way.cut()
        async with BraynsClient(service.endpoint) as client:
            await client.call("clear-models")
        way.open = True
        await movie
    check_whole(tmp_path, 40)
    assert "gets the scene anew" in told.text


async def test_a_node_that_answers_nobody_is_given_up_soon(emulator: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_brayns.movie.reconnect._PAUSES", (0.0,))

    async def unproven() -> Proof:
        return Proof(Standing.UNPROVEN, "its node was not asked")

    async def never(client: BraynsClient, certain: bool) -> None:
        pytest.fail("who is not proved gets no scene")

    station = Station("127.0.0.1:1", "brayns1", "r1i1n0", prove=unproven)
    with pytest.raises(ServiceFailed, match="brayns1 on r1i1n0 does not answer, nor does its node"):
        await regain(station, never)
    answering = emulator(**QUICK)
    with pytest.raises(ServiceFailed, match="nor does its node"):
        await regain(replace(station, endpoint=answering.endpoint), never)
    assert (await check_ours(station)).standing is Standing.UNPROVEN


async def test_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_brayns.movie.reconnect._PAUSES", (0.0, 0.1))

    async def unknown() -> Proof:
        return Proof(Standing.UNKNOWN, "away")

    async def never(client: BraynsClient, certain: bool) -> None: ...

    with pytest.raises(ConnectionLost, match="no way to brayns1 on r1i1n0"):
        await regain(Station("127.0.0.1:1", "brayns1", "r1i1n0", prove=unknown), never, patience=0.5)
