from __future__ import annotations

import json
from pathlib import Path

import pytest
from websockets.asyncio.server import serve

from airflow_brayns.brayns.client import BraynsClient
from airflow_brayns.errors import ConnectionLost, InvalidSetting
from airflow_brayns.movie.scene import prepare
from airflow_brayns.movie.supply import FixedSupply, Station
from tests.support.movie import produce, specification
from tests.support.scripted import RefusedError, Service, serving

SPECIFICATION = specification(Path("/a.obj"), frames=2)


def refuses(code: int, message: str, data: list[str] | None = None) -> Service:
    def refuse(params: object) -> None:
        raise RefusedError(code, message, data)

    return Service(add_model=refuse)


@pytest.mark.parametrize(
    "message", ["File: /a.obj does not exist.", "File /a.obj does not exists"]
)  # as the plugins and as the core loaders say it (3.10.1, recorded)
async def test_a_file_that_is_missing_is_looked_for_on_the_nodes(message: str) -> None:
    async with serving(refuses(-32603, message)) as service, BraynsClient(service.endpoint) as client:
        with pytest.raises(InvalidSetting, match=r"models\.0\.path: .*does not exist.*must exist on the nodes"):
            await prepare(client, SPECIFICATION)


@pytest.mark.parametrize(
    ("code", "message", "data", "field"),
    [
        (-32603, "Parsing error at line 1: 'No meshes found'. Line content: ''", None, "path"),
        (-32603, "File /a.obj is not a regular file", None, "path"),
        (-32602, "Invalid loader params schema", ["unknown property 'percentage'"], "properties"),
        (-32602, "Invalid loader name: 'mesh'", None, "loader"),
    ],
)
async def test_what_the_service_says_of_a_model_is_told_at_its_field(
    code: int, message: str, data: list[str] | None, field: str
) -> None:
    async with serving(refuses(code, message, data)) as service, BraynsClient(service.endpoint) as client:
        with pytest.raises(InvalidSetting) as error:
            await prepare(client, SPECIFICATION)
    assert error.value.field == f"models.0.{field}"
    assert message in str(error.value)
    assert all(one in str(error.value) for one in data or [])
    assert "must exist on the nodes" not in str(error.value)


async def test_how_far_a_model_is_stands_in_the_log_at_a_bearable_rate(tmp_path: Path) -> None:
    service = Service()
    service.progress = [("Loading cells", step / 1000) for step in range(1001)]
    async with serving(service), serving(Service()) as other:
        other.progress = service.progress
        supply = FixedSupply([Station(one.endpoint, "brayns1", "node1") for one in (service, other)])
        _, told = await produce(SPECIFICATION, [], tmp_path, supply=supply)
    lines = [line for line in told.notes if "is loading" in line]
    assert "brayns1 on node1 is loading … 40 % (/a.obj: Loading cells)" in lines
    assert 3 <= len(lines) <= 6


async def test_methods_that_an_older_version_lacks_are_passed_over(tmp_path: Path) -> None:
    lacks = (
        "clear-clipping-geometries", "clear-clip-planes", "clear-renderables", "set-camera-region", "set-camera-near-clip",
        "set-framebuffer-static",
    )  # fmt: skip
    async with serving(Service(lacks=lacks)) as service:
        supply = FixedSupply([Station(service.endpoint, "brayns1")])
        outcome, _ = await produce(SPECIFICATION, [], tmp_path, supply=supply)
    assert outcome.rendered == 2


@pytest.mark.parametrize("name", ["latin1_ascii.stl", "binary_solid_bytes.stl"])
async def test_an_error_that_quotes_a_file_raw_is_told_and_ends_nothing(name: str, data: Path) -> None:
    """The real one quotes the bad line as it is, in a text frame: no UTF-8. The connection ended, and the reason was lost."""
    line = (data / "files" / name).read_bytes().split(b"\n")[0][:200].replace(b"\\", b"").replace(b'"', b"")
    said = b"Parsing error at line 1: 'Expected facet'. Line content: '" + line + b"'"

    async def answer(socket) -> None:
        async for message in socket:
            request = json.loads(message)
            if request["method"] != "add-model":
                await socket.send(json.dumps({"id": request["id"], "jsonrpc": "2.0", "result": None}))
                continue
            reply = b'{"error":{"code":-32603,"message":"' + said + b'"},"id":%d,"jsonrpc":"2.0"}' % request["id"]
            await socket.send(reply, text=True)

    async with serve(answer, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        async with BraynsClient(f"127.0.0.1:{port}", timeout=10) as client:
            with pytest.raises(InvalidSetting, match=r"models\.0\.path: .*Parsing error at line 1: 'Expected facet'"):
                await prepare(client, SPECIFICATION)
            assert (await client.call("get-version")).result is None, "the same connection goes on"


async def test_a_service_that_is_still_at_what_another_asked_for_is_waited_for() -> None:
    """A request that was given up goes on there: `cancel` is answered at once and ends it much later (3.10.1, run)."""
    import asyncio

    async def busy(params: object) -> None:
        await asyncio.sleep(1.0)

    async with serving(Service(clear_models=busy)) as service:
        async with BraynsClient(service.endpoint, timeout=0.3) as client:
            assert (await prepare(client, SPECIFICATION, timeout=10)).first == 0
        async with BraynsClient(service.endpoint, timeout=0.3) as client:
            with pytest.raises(ConnectionLost) as error:
                await prepare(client, SPECIFICATION, timeout=0.2)
            assert error.value.timed_out
