from __future__ import annotations

import asyncio
import json
import socket

import pytest

from airflow_brayns.brayns.readiness import NotYet, parse_endpoint, probe, why_it_ended
from airflow_brayns.errors import InvalidSetting, ServiceFailed


@pytest.mark.parametrize("version", ["1.1.0", "2.0.0", "3.2.0", "3.10.1"])
async def test_every_generation_becomes_usable(emulator, version: str) -> None:
    service = emulator("--plugin", "braynsCircuitExplorer", version=version)
    usable = await probe("127.0.0.1", service.port, ["braynsCircuitExplorer"])
    assert usable.version == version
    assert usable.plugins == ("braynsCircuitExplorer",)


async def test_an_open_port_is_not_a_ready_service(emulator, monkeypatch) -> None:
    """The socket listens while the plugins still load: a connect succeeds, nothing answers."""
    monkeypatch.setattr("airflow_brayns.brayns.readiness.RUNG_SECONDS", 0.4)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    emulator("--plugin", "braynsDTI", wait=False, uri=f"127.0.0.1:{port}", start_seconds=0.5, plugin_seconds=2.5)
    reasons = set()
    for _ in range(100):
        try:
            await probe("127.0.0.1", port, ["braynsDTI"])
            break
        except NotYet as reason:
            reasons.add(str(reason).split(":")[0])
            await asyncio.sleep(0.05)
    assert reasons == {"TCP", "WebSocket"}


async def test_a_missing_plugin_fails_for_good(emulator) -> None:
    service = emulator("--plugin", "braynsDTI")
    with pytest.raises(ServiceFailed, match="runs without braynsAtlasExplorer; it has braynsDTI") as error:
        await probe("127.0.0.1", service.port, ["braynsDTI", "braynsAtlasExplorer"])
    assert not error.value.retry


async def test_taken_client_slots_are_not_ready(emulator, monkeypatch) -> None:
    monkeypatch.setattr("airflow_brayns.brayns.readiness.RUNG_SECONDS", 0.5)
    service = emulator("--max-clients", "1")
    with socket.create_connection(("127.0.0.1", service.port)), pytest.raises(NotYet):
        await probe("127.0.0.1", service.port)


async def test_a_stranger_on_the_port_is_not_brayns(monkeypatch) -> None:
    monkeypatch.setattr("airflow_brayns.brayns.readiness.RUNG_SECONDS", 0.5)
    server = await asyncio.start_server(lambda reader, writer: writer.write(b"SSH-2.0-x\r\n"), "127.0.0.1", 0)
    with pytest.raises(NotYet, match="WebSocket"):
        await probe("127.0.0.1", server.sockets[0].getsockname()[1])
    server.close()


@pytest.mark.parametrize(
    ("code", "log", "says"),
    [
        (1, "Error opening dynamic library: libnope.so: no", "plugins: .* 'nope'"),
        (97, "", "setup"), (96, "", "generation"), (127, "", "executable"), (98, "", "port: taken"),
        (1, "Fatal error: 'Unknown keyword argument 'x''.", "generation"), (139, "", "killed by signal 11"),
    ],
)  # fmt: skip
def test_why_it_ended_names_the_field(code: int, log: str, says: str) -> None:
    text = why_it_ended(code, "taken", log, ["nope"])
    assert pytest.importorskip("re").search(says, text), text


@pytest.mark.parametrize("bad", ["", "host", "host:", "host:0", "host:99999", "a b:5", "http://x:5", "h:5\n"])
def test_endpoints(bad: str) -> None:
    if bad == "h:5\n":
        assert parse_endpoint(bad) == ("h", 5)
        return
    with pytest.raises(InvalidSetting, match="endpoint"):
        parse_endpoint(bad)


@pytest.mark.parametrize(
    "bad", ["a..b:5", ".:5", "x" * 64 + ":5", "h:٣", "h:5\n5", "a." * 130 + "b:5", f"[1{'0' * 64}]:5", "[127.0.0.1]:5"]
)
def test_an_endpoint_is_a_name_that_can_be_looked_up(bad: str) -> None:
    """Python's IDNA codec fails on such names with a UnicodeError, in the middle of a probe."""
    with pytest.raises(InvalidSetting, match="endpoint"):
        parse_endpoint(bad)


def test_an_address_of_ipv6_stands_in_brackets() -> None:
    assert parse_endpoint("[::1]:5000") == ("::1", 5000)


async def test_a_node_with_no_possible_name_is_not_there_yet() -> None:
    with pytest.raises(NotYet, match="TCP"):
        await probe("a..b", 5000)


async def stranger(version: str, http: bytes) -> object:
    """A probe of one that answers `get-version` and HTTP like this."""
    from websockets.asyncio.server import serve

    async def answer(socket) -> None:
        async for message in socket:
            request = json.loads(message)
            result = version if request["method"] == "get-version" else '{"plugins": []}'
            await socket.send(f'{{"id": {request["id"]}, "result": {result}}}')

    def http_too(connection, request):
        if "Upgrade" not in request.headers:
            connection.transport.write(http)
            return connection.respond(200, "")
        return None

    async with serve(answer, "127.0.0.1", 0, process_request=http_too) as server:
        return await probe("127.0.0.1", server.sockets[0].getsockname()[1])


@pytest.mark.parametrize(
    "version",
    ["null", "[]", "7", '"3.10.1"', '{"major": 1e999, "minor": 1, "patch": 1}', '{"major": NaN, "minor": 1, "patch": 1}', '{"major": -3, "minor": 1, "patch": 1}',
     '{"major": 3, "minor": 99999999999, "patch": 1}'],
)  # fmt: skip
async def test_a_version_that_is_none_is_not_brayns(version: str) -> None:
    """An infinite number was an OverflowError, which ended the wait."""
    with pytest.raises(NotYet, match="get-version"):
        await stranger(version, b"")


async def test_a_line_of_http_without_an_end_is_no_answer() -> None:
    """`readline` raises ValueError for it, which ended the wait."""
    with pytest.raises(NotYet, match="HTTP"):
        await stranger('{"major": 3, "minor": 10, "patch": 1}', b"x" * 200_000)
