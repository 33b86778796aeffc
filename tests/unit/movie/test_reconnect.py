"""A movie whose connections break: to services that live, that have died, and that somebody else has taken the place of."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from airflow_brayns.brayns.client import BraynsClient, Reply
from airflow_brayns.errors import ConnectionLost, RenderingFailed, ServiceFailed
from airflow_brayns.movie.interfaces import FixedServices, Liveness, Proof, RenderService
from airflow_brayns.movie.reconnect import check_ours, regain
from airflow_brayns.services.tunnel import Relay
from tests.support.clock import jumping_clock
from tests.support.movie import Remembers, check_whole, produce, records, render_services, specification

__all__ = ["jumping_clock"]

QUICK = {"snapshot_seconds": 0, "frame_seconds": 0.05}
ENDED = Proof(Liveness.ENDED, "braynsService brayns1 on r1i1n0 (job 7) was killed by signal 9 (SIGKILL).\nLast lines of brayns1 on r1i1n0:\nfarewell")  # fmt: skip


class Tunnel:
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
    async def to(self, service: Any, standing: Proof, **changes: Any) -> AsyncIterator[RenderService]:
        server = await asyncio.start_server(self._relay.serve, "127.0.0.1", 0)
        self.proof, self.asked = standing, 0

        async def prove() -> Proof:
            self.asked += 1
            return self.proof

        [one] = render_services([service], prove=prove, told="r1i1n0:43210", **changes)
        yield replace(one, endpoint=f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
        server.close()
        await self._relay.close()


async def frames(folder: Path, number: int) -> None:
    while not (folder / "manifest.jsonl").exists() or len(records(folder)) < number:
        await asyncio.sleep(0.02)


ANEW = {
    "lights": [{"kind": "ambient"}, {"follow_camera": True}],
    "per_frame": {"columns": ["models.0.transform.scale.0"], "rows": [[1 + frame / 50] for frame in range(60)]},
}  # in each frame


@pytest.mark.slow
@pytest.mark.parametrize("words", [{}, ANEW], ids=["still", "changing"])
async def test_dropped_connections_to_a_service_that_lives_cost_no_frame_and_no_service(
    emulator: Any, data: Path, tmp_path: Path, words: dict[str, Any]
) -> None:
    """Two drops ended a movie whose services were in the best of health."""
    service = emulator(**QUICK)
    tunnel, told = Tunnel(service.port), Remembers()
    async with tunnel.to(service, Proof(Liveness.OURS)) as near:
        movie = asyncio.create_task(
            produce(specification(data / "cube.obj", frames=60, **words), [], tmp_path, source=FixedServices([near]), reporter=told)
        )  # fmt: skip
        for number in (5, 15, 25, 35, 45):
            await frames(tmp_path, number)
            await tunnel.cut()
        outcome, _ = await movie
    assert outcome.rendered == 60
    check_whole(tmp_path, 60)
    assert "set aside" not in told.text
    assert "gets the scene anew" not in told.text, "the service is the same, and so is its scene"
    assert told.text.count("was made anew") >= 3


@pytest.mark.slow
async def test_while_there_is_no_way_the_service_is_waited_for(
    emulator: Any, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_brayns.movie.worker._AT_ONCE_SECONDS", 0.5)
    monkeypatch.setattr("airflow_brayns.movie.reconnect._PAUSES", (0.0, 0.1))
    service = emulator(**QUICK)
    tunnel = Tunnel(service.port)
    async with tunnel.to(service, Proof(Liveness.OURS)) as near:
        movie = asyncio.create_task(
            produce(specification(data / "cube.obj", frames=30), [], tmp_path, source=FixedServices([near]))
        )
        await frames(tmp_path, 5)
        tunnel.open, tunnel.proof = False, Proof(Liveness.UNKNOWN, "the login node is away")
        await tunnel.cut()
        asked = tunnel.asked
        while tunnel.asked < asked + 8:
            await asyncio.sleep(0.05)
        assert not movie.done()
        tunnel.open, tunnel.proof = True, Proof(Liveness.OURS)
        await movie
    check_whole(tmp_path, 30)


@pytest.mark.slow
async def test_a_strangers_pictures_never_count(emulator: Any, data: Path, tmp_path: Path) -> None:
    """A service crashed; a process of another account had waited for its port: frames 7 to 15 of 16 were that one's."""
    ours, stranger = emulator(**QUICK), emulator(**QUICK)
    tunnel, told = Tunnel(ours.port), Remembers()
    async with tunnel.to(ours, Proof(Liveness.OURS)) as near:
        movie = asyncio.create_task(
            produce(specification(data / "cube.obj", frames=40), [], tmp_path, source=FixedServices([near]), reporter=told)
        )  # fmt: skip
        await frames(tmp_path, 5)
        tunnel.leads_to, tunnel.proof = stranger.port, ENDED
        ours.kill()
        with pytest.raises(RenderingFailed, match=r"(?s)frames are missing .*signal 9 \(SIGKILL\).*farewell"):
            await movie
    assert len(records(tmp_path)) < 40
    assert "add-model" not in "\n".join(stranger.lines), "it was asked for nothing but its version"
    assert near.endpoint not in told.text, "a tunnel's port says nothing to the reader"


@pytest.mark.slow
async def test_a_stranger_does_not_even_join(emulator: Any, data: Path, tmp_path: Path) -> None:
    stranger = emulator(**QUICK)
    tunnel = Tunnel(stranger.port)
    async with tunnel.to(stranger, ENDED) as near:
        with pytest.raises((ServiceFailed, RenderingFailed), match="signal 9"):
            await produce(specification(data / "cube.obj"), [], tmp_path, source=FixedServices([near]))
    assert not list(tmp_path.glob("*.png"))


@pytest.mark.slow
async def test_of_a_service_that_nobody_looks_after_the_scene_is_loaded_anew(
    emulator: Any, data: Path, tmp_path: Path
) -> None:
    """It cannot be known whether it is the same: without its scene it would give black frames."""
    first, second = emulator(**QUICK), emulator(**QUICK)
    tunnel, told = Tunnel(first.port), Remembers()
    async with tunnel.to(first, Proof(Liveness.NOBODYS)) as near:
        movie = asyncio.create_task(
            produce(specification(data / "cube.obj", frames=30), [], tmp_path, source=FixedServices([near]), reporter=told)
        )  # fmt: skip
        await frames(tmp_path, 5)
        tunnel.leads_to = second.port
        first.kill()
        await movie
    check_whole(tmp_path, 30)
    assert "gets the scene anew" in told.text


@pytest.mark.slow
async def test_a_blip_on_the_way_ends_no_service_that_nobody_looks_after(
    emulator: Any, data: Path, tmp_path: Path
) -> None:
    """Three quick tries ended it after 2.5 s, as one that 'hangs'."""
    service = emulator(**QUICK)
    tunnel, told = Tunnel(service.port), Remembers()
    async with tunnel.to(service, Proof(Liveness.NOBODYS)) as near:
        movie = asyncio.create_task(
            produce(specification(data / "cube.obj", frames=30), [], tmp_path, source=FixedServices([near]), reporter=told)
        )  # fmt: skip
        await frames(tmp_path, 5)
        tunnel.open, asked = False, tunnel.asked
        await tunnel.cut()
        while tunnel.asked < asked + 4:
            assert not movie.done(), await movie
            await asyncio.sleep(0.05)
        tunnel.open = True
        await movie
    check_whole(tmp_path, 30)


@pytest.mark.slow
async def test_a_scene_that_somebody_changed_is_loaded_anew(emulator: Any, data: Path, tmp_path: Path) -> None:
    service = emulator(**QUICK)
    tunnel, told = Tunnel(service.port), Remembers()
    async with tunnel.to(service, Proof(Liveness.OURS)) as near:
        movie = asyncio.create_task(
            produce(specification(data / "cube.obj", frames=40), [], tmp_path, source=FixedServices([near]), reporter=told)
        )  # fmt: skip
        await frames(tmp_path, 5)
        tunnel.open = False
        await tunnel.cut()
        async with BraynsClient(service.endpoint) as client:
            await client.call("clear-models")
        tunnel.open = True
        await movie
    check_whole(tmp_path, 40)
    assert "gets the scene anew" in told.text


@pytest.mark.slow
async def test_a_node_that_answers_nobody_is_given_up_soon(emulator: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_brayns.movie.reconnect._PAUSES", (0.0,))

    async def unproven() -> Proof:
        return Proof(Liveness.UNPROVEN, "its node was not asked")

    async def never(client: BraynsClient, certain: bool) -> None:
        pytest.fail("who is not proved gets no scene")

    near = RenderService("127.0.0.1:1", "brayns1", "r1i1n0", prove=unproven)
    with pytest.raises(ServiceFailed, match="brayns1 on r1i1n0 does not answer, nor does its node"):
        await regain(near, never)
    answering = emulator(**QUICK)
    with pytest.raises(ServiceFailed, match="nor does its node"):
        await regain(replace(near, endpoint=answering.endpoint), never)
    assert (await check_ours(near)).liveness is Liveness.UNPROVEN


@pytest.mark.slow
async def test_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_brayns.movie.reconnect._PAUSES", (0.0, 0.1))

    async def unknown() -> Proof:
        return Proof(Liveness.UNKNOWN, "away")

    async def never(client: BraynsClient, certain: bool) -> None: ...

    with pytest.raises(ConnectionLost, match="no way to brayns1 on r1i1n0"):
        await regain(RenderService("127.0.0.1:1", "brayns1", "r1i1n0", prove=unknown), never, patience=0.5)


# ---- on a clock that jumps ---------------------------------------------------------------------------------------------
SERVICE = RenderService("127.0.0.1:40000", "brayns1", "r1i1n0", version="3.10.1", told="r1i1n0:43210")
REFUSED = ConnectionLost("refused")
REFUSED.__cause__ = ConnectionRefusedError()


class Away:
    """A way to a service that does, at each try, what the test says.

    :param tries: `None` for an answer, `"hangs"`, or the error that it ends with; the last one for all that follow.
    :param proofs: what the cluster says of the service, one after the other; the last one from then on.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, tries: list[Any], *proofs: Proof) -> None:
        self.tries, self.proofs = tries, list(proofs)
        self.opened = self.closed = 0
        self.restored: list[bool] = []
        self.restore_fails: list[BaseException] = []
        self.version: Any = {"major": 3, "minor": 10, "patch": 1, "tag": "x"}
        monkeypatch.setattr("airflow_brayns.movie.reconnect.client_of", lambda _: self)
        self.service = replace(SERVICE, prove=self._prove)

    async def open(self) -> None:
        self.opened += 1
        now = self.tries.pop(0) if len(self.tries) > 1 else self.tries[0]
        if now == "hangs":
            await asyncio.sleep(10**6)
        if isinstance(now, BaseException):
            raise now

    async def call(self, method: str) -> Reply:
        assert method == "get-version"
        return Reply(self.version)

    async def close(self) -> None:
        self.closed += 1

    async def _prove(self) -> Proof:
        return self.proofs.pop(0) if len(self.proofs) > 1 else self.proofs[0]

    async def restore(self, client: Any, certain: bool) -> None:
        self.restored.append(certain)
        if self.restore_fails:
            raise self.restore_fails.pop(0)

    async def regain(self, **options: Any) -> float:
        """How long it took to have it again."""
        began = time.monotonic()
        assert await regain(self.service, self.restore, **options) is self  # type: ignore[comparison-overlap]
        return time.monotonic() - began

    async def gives_up(self, error: type[BaseException], why: str, **options: Any) -> float:
        """How long it took to give it up."""
        began = time.monotonic()
        with pytest.raises(error, match=why):
            await regain(self.service, self.restore, **options)
        assert self.closed == self.opened
        return time.monotonic() - began


@pytest.mark.usefixtures("jumping_clock")
class TestRegain:
    @pytest.mark.parametrize(("liveness", "certain"), [(Liveness.OURS, True), (Liveness.NOBODYS, False)])
    async def test_a_service_that_answers_and_is_ours_is_had_again_at_once(
        self, monkeypatch: pytest.MonkeyPatch, liveness: Liveness, certain: bool
    ) -> None:
        """Of one that nobody looks after it is not certain that it is the same."""
        away = Away(monkeypatch, [None], Proof(liveness))
        assert await away.regain() < 1
        assert away.restored == [certain]
        assert not away.closed

    @pytest.mark.parametrize(
        "version", [{"major": 3, "minor": 9, "patch": 0}, {}, None, "3.10.1", {"major": 3, "minor": 10}]
    )
    async def test_another_version_in_its_place_renders_nothing(
        self, monkeypatch: pytest.MonkeyPatch, version: Any
    ) -> None:
        """Somebody had started their service anew, by another one: the movie's frames were of both, and it was green."""
        away = Away(monkeypatch, [None], Proof(Liveness.NOBODYS))
        away.version = version
        await away.gives_up(ServiceFailed, "by now, and was 3.10.1")
        assert not away.restored

    async def test_it_is_tried_with_growing_pauses(self, monkeypatch: pytest.MonkeyPatch) -> None:
        away = Away(monkeypatch, [ConnectionLost("x")] * 6 + [None], Proof(Liveness.OURS))
        assert 0.5 + 2 + 5 + 10 + 10 + 10 <= await away.regain() < 39
        assert away.closed == 6

    async def test_one_that_has_ended_is_not_tried_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        away = Away(monkeypatch, [ConnectionLost("x")], Proof(Liveness.UNKNOWN), ENDED)
        assert await away.gives_up(ServiceFailed, "killed by signal 9") < 1

    async def test_one_that_answers_and_is_not_ours_any_more_is_not_taken(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        away = Away(monkeypatch, [None], ENDED)
        await away.gives_up(ServiceFailed, "killed by signal 9")
        assert not away.restored

    async def test_while_the_cluster_cannot_be_asked_even_one_that_answers_waits(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whoever answers may be a stranger."""
        away = Away(monkeypatch, [None], *[Proof(Liveness.UNKNOWN)] * 4, Proof(Liveness.OURS))
        await away.regain()
        assert away.restored == [True]
        assert away.opened == 5

    async def test_ten_minutes_without_a_way_are_enough(self, monkeypatch: pytest.MonkeyPatch) -> None:
        away = Away(monkeypatch, [ConnectionLost("no route")], Proof(Liveness.OURS))
        assert 600 < await away.gives_up(ConnectionLost, "no way to brayns1 on r1i1n0 for 600 s: .*no route") < 615

    async def test_one_that_no_cluster_knows_has_two(self, monkeypatch: pytest.MonkeyPatch) -> None:
        away = Away(monkeypatch, [ConnectionLost("no route")], Proof(Liveness.NOBODYS))
        assert 120 < await away.gives_up(ConnectionLost, "for 120 s") < 135

    async def test_where_nobody_listens_one_that_no_cluster_knows_has_ended(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        away = Away(monkeypatch, [REFUSED], Proof(Liveness.NOBODYS))
        assert await away.gives_up(ServiceFailed, "has ended: nobody listens at r1i1n0:43210 any more") < 1
        away = Away(monkeypatch, [REFUSED], Proof(Liveness.OURS))
        assert await away.gives_up(ConnectionLost, "no way", patience=50) > 50, "its cluster says that it lives"

    @pytest.mark.parametrize(
        ("timed_out", "liveness", "tries"),
        [(False, Liveness.OURS, 3), (True, Liveness.OURS, 1), (True, Liveness.UNKNOWN, 3)],
    )
    async def test_one_that_takes_connections_and_does_not_answer_hangs(
        self, monkeypatch: pytest.MonkeyPatch, timed_out: bool, liveness: Liveness, tries: int
    ) -> None:
        away = Away(monkeypatch, ["hangs"], Proof(liveness, "It is at a frame."))
        took = await away.gives_up(
            ServiceFailed, "hangs: it takes connections and does not answer. It is at a frame.", timed_out=timed_out
        )
        assert away.opened == tries
        assert took >= 10 * tries

    async def test_a_node_that_answers_nobody_is_given_up_at_the_second_time(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        away = Away(monkeypatch, [ConnectionLost("x")], Proof(Liveness.UNPROVEN, "Its node is silent."))
        await away.gives_up(
            ServiceFailed, "does not answer, nor does its node when it is asked of it. Its node is silent."
        )
        assert away.opened == 2

    async def test_a_connection_that_breaks_again_while_the_scene_is_looked_at_is_made_again(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        away = Away(monkeypatch, [None], Proof(Liveness.OURS))
        away.restore_fails = [ConnectionLost("again"), ConnectionLost("again")]
        await away.regain()
        assert away.restored == [True] * 3
        assert away.closed == 2

    async def test_a_scene_that_cannot_be_restored_is_an_error_of_its_own(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        away = Away(monkeypatch, [None], Proof(Liveness.OURS))
        away.restore_fails = [RenderingFailed("another scene")]
        await away.gives_up(RenderingFailed, "another scene")


async def test_told_to_stop_while_it_connects_it_leaves_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_brayns.movie.reconnect._PAUSES", (0.0,))
    away = Away(monkeypatch, ["hangs"], Proof(Liveness.OURS))
    asked = asyncio.create_task(regain(away.service, away.restore))
    while not away.opened:
        await asyncio.sleep(0)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    assert away.closed == 1


async def test_of_a_service_that_cannot_be_proved_it_is_told_why() -> None:
    for liveness in (Liveness.OURS, Liveness.UNPROVEN, Liveness.UNKNOWN, Liveness.NOBODYS):

        async def prove(liveness: Liveness = liveness) -> Proof:
            return Proof(liveness, "why")

        assert await check_ours(replace(SERVICE, prove=prove)) == Proof(liveness, "why")
