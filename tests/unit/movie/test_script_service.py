"""The service as a movie's Python sees it: what is answered without it, and what a call that is given up ends with."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from airflow_brayns.brayns.client import Reply
from airflow_brayns.errors import RpcFailed
from airflow_brayns.movie.script_service import Refused, ScriptService
from tests.support.script import NEEDS_CLIENT

pytestmark = NEEDS_CLIENT
VIEWPORT = "set-application-parameters"


class Client:
    """A connection on which `wait` is never answered."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []

    async def call(self, method: str, params: Any = None, **_: Any) -> Reply:
        self.calls.append((method, params))
        if method == "wait":
            await asyncio.Event().wait()
        return Reply({"answers": method})


def service(client: Client, *, strict: bool = True) -> ScriptService:
    one = ScriptService(client, (96, 64), strict=strict)  # type: ignore[arg-type]
    one.deadline = time.monotonic() + 60
    return one


@pytest.mark.parametrize(("size", "strict"), [([96, 64], True), ([96, 64], False), ([640, 360], False)])
async def test_the_size_that_a_movie_has_anyway_is_not_set(size: list[int], strict: bool) -> None:
    """A service that divides a frame, or renders a small one, has another one."""
    client = Client()
    one = service(client, strict=strict)
    assert await asyncio.to_thread(one.request, VIEWPORT, {"viewport": size}) is None
    assert client.calls == []
    assert one.take_called() == set()


async def test_another_size_is_refused_and_whatever_else_has_one_is_the_services() -> None:
    client = Client()
    one = service(client)
    with pytest.raises(Refused, match="asks for 640x360, and the movie is 96x64"):
        await asyncio.to_thread(one.request, VIEWPORT, {"viewport": [640, 360]})
    other = {"viewport": [640, 360]}  # as a plugin's method may well have it
    assert await asyncio.to_thread(one.request, "set-thumbnail", other) == {"answers": "set-thumbnail"}
    assert client.calls == [("set-thumbnail", other)]
    assert one.take_called() == {"set-thumbnail"}
    assert one.take_called() == set(), "each is told once"


async def test_a_call_that_is_given_up_ends_as_braynsservice_ends_one_that_was_cancelled() -> None:
    """Whoever waits for it in the user's code would wait for ever."""
    from brayns.network import JsonRpcError

    one = service(Client())
    waiting = one.task("wait")
    await asyncio.sleep(0)
    waiting.cancel()
    while one.is_running(0):
        await asyncio.to_thread(one.poll, True)
    assert waiting.is_ready()
    with pytest.raises(JsonRpcError) as raised:
        waiting.wait_for_reply()
    assert raised.value.code == 20


async def test_calls_that_run_beside_one_another_get_their_own_answers() -> None:
    one = service(Client())
    tasks = [one.task(method) for method in ("wait", "a", "b")]
    found = await asyncio.to_thread(lambda: [task.wait_for_reply().result for task in tasks[1:]])
    assert found == [{"answers": "a"}, {"answers": "b"}]
    assert one.is_running(0)
    one.give_up()


@pytest.mark.parametrize(
    ("loader", "data", "told"),
    [
        ("SONATA loader", None, "is of the plugin braynsCircuitExplorer: name it in `plugins`"),
        ("xyz", None, "is of the plugin braynsMoleculeExplorer"),
        ("SONATA loader", ["missing required property 'node_population_settings'"], ""),
        ("mesh", None, ""),
        ("a site's own", None, ""),
    ],
)
async def test_a_loader_that_is_refused_is_told_with_its_plugin(loader: str, data: list[str] | None, told: str) -> None:
    """'Correct growth.py' was no remedy for a plugin that nobody had asked for."""
    from brayns.network import JsonRpcError

    class Refuses(Client):
        async def call(self, method: str, params: Any = None, **_: Any) -> Reply:
            raise RpcFailed(method, -32602, "Invalid loader name", data)

    with pytest.raises(JsonRpcError) as raised:
        await asyncio.to_thread(service(Refuses()).request, "add-model", {"loader_name": loader})
    notes = getattr(raised.value, "__notes__", [])
    assert len(notes) == bool(told)
    assert told in "".join(notes)
