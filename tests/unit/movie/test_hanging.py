"""A frame or a model that never comes: the movie ends with its error after one restart, and does not go on for ever."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from airflow_brayns.errors import RenderingFailed
from airflow_brayns.movie.interfaces import RenderService
from tests.support.movie import Remembers, produce
from tests.support.scripted import Service, serving
from tests.unit.movie.test_render_call import still


class Renewed:
    """A source whose services are started anew as often as it is asked; each is the same, and hangs as it did."""

    def __init__(self, services: list[Service]) -> None:
        self._queue: asyncio.Queue[RenderService | None] = asyncio.Queue()
        self._services = {f"node{number}": service for number, service in enumerate(services, 1)}
        self._open = len(services)
        for node, service in self._services.items():
            self._queue.put_nowait(RenderService(service.endpoint, f"brayns-{node}", node))
        self.restarts = 0
        self.hung: list[bool] = []

    async def services(self) -> AsyncIterator[RenderService]:
        while (render_service := await self._queue.get()) is not None:
            yield render_service

    async def set_aside(self, render_service: RenderService, why: str, *, again: bool, hung: bool = False) -> bool:
        self.hung.append(hung)
        if again:
            self.restarts += 1
            service = self._services[render_service.node]
            service.renew()
            host, _, port = render_service.endpoint.rpartition(":")
            other = "localhost" if host == "127.0.0.1" else "127.0.0.1"  # one that is started anew has another endpoint
            self._queue.put_nowait(RenderService(f"{other}:{port}", f"{render_service.name}r", render_service.node))
        else:
            self._open -= 1
            if not self._open:
                self._queue.put_nowait(None)
        return again

    def outlook(self, seconds: float | None) -> None: ...


@pytest.mark.parametrize("nodes", [1, 3])
async def test_a_first_frame_that_never_comes_ends_it_after_one_restart(
    nodes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It went on for ever: the words of the time-out said 'frame 0', which counted as the frame's fault."""
    monkeypatch.setattr("airflow_brayns.movie.reconnect._CONNECT_SECONDS", 0.3)
    told = Remembers()

    async def hang(params: Any) -> None:
        await asyncio.Event().wait()

    async with contextlib.AsyncExitStack() as stack:
        services = [await stack.enter_async_context(serving(Service(render_image=hang))) for _ in range(nodes)]
        source = Renewed(services)
        async with asyncio.timeout(60):
            with pytest.raises(RenderingFailed, match="missing") as error:
                await produce(still(frames=9), [], tmp_path, source=source, reporter=told, frame_timeout=0.5)
    assert source.restarts == 1
    assert "frame_timeout" in str(error.value)


async def test_frames_that_all_hang_after_some_end_it_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A frame that ended another service is the frame's fault only as long as others come."""
    monkeypatch.setattr("airflow_brayns.movie.reconnect._CONNECT_SECONDS", 0.3)
    monkeypatch.setattr("airflow_brayns.movie.queue._TIMEOUT_FLOOR", 0.5)
    rendered = 0

    async def hang(params: Any) -> None:
        nonlocal rendered
        rendered += 1
        if rendered > 4:
            await asyncio.Event().wait()

    async with serving(Service(render_image=hang)) as service:
        source = Renewed([service])
        async with asyncio.timeout(60):
            with pytest.raises(RenderingFailed, match="missing"):
                await produce(still(frames=30), [], tmp_path, source=source, frame_timeout=5)
    assert source.restarts <= 2


async def test_a_load_that_never_ends_ends_it_after_one_restart(tmp_path: Path) -> None:
    async def hang(params: Any) -> None:
        await asyncio.Event().wait()

    async with serving(Service(add_model=hang)) as service:
        source = Renewed([service])
        async with asyncio.timeout(60):
            with pytest.raises(Exception, match=r"add-model .* was not answered within 0\.5 s"):
                await produce(still(), [], tmp_path, source=source, load_timeout=0.5)
    assert source.restarts == 1
    assert source.hung == [True, True], "its node may be at fault"
