from __future__ import annotations

import asyncio
import json
import socket

import pytest

from airflow_brayns.brayns.endpoint import Endpoint
from airflow_brayns.brayns.readiness import NotYet, ended_early, probe
from airflow_brayns.errors import ServiceFailed


@pytest.mark.parametrize("version", ["1.1.0", "2.0.0", "3.2.0", "3.10.1"])
async def test_every_generation_becomes_usable(emulator, version: str) -> None:
    service = emulator("--plugin", "braynsCircuitExplorer", version=version)
    usable = await probe(Endpoint("127.0.0.1", service.port), ["braynsCircuitExplorer"])
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
            await probe(Endpoint("127.0.0.1", port), ["braynsDTI"])
            break
        except NotYet as reason:
            reasons.add(str(reason).split(":")[0])
            await asyncio.sleep(0.05)
    assert reasons == {"TCP", "WebSocket"}


async def test_a_missing_plugin_fails_for_good(emulator) -> None:
    service = emulator("--plugin", "braynsDTI")
    with pytest.raises(ServiceFailed, match="runs without braynsAtlasExplorer; it has braynsDTI") as error:
        await probe(Endpoint("127.0.0.1", service.port), ["braynsDTI", "braynsAtlasExplorer"])
    assert not error.value.retry


async def test_taken_client_slots_are_not_ready(emulator, monkeypatch) -> None:
    monkeypatch.setattr("airflow_brayns.brayns.readiness.RUNG_SECONDS", 0.5)
    service = emulator("--max-clients", "1")
    with socket.create_connection(("127.0.0.1", service.port)), pytest.raises(NotYet):
        await probe(Endpoint("127.0.0.1", service.port))


async def test_a_stranger_on_the_port_is_not_brayns(monkeypatch) -> None:
    monkeypatch.setattr("airflow_brayns.brayns.readiness.RUNG_SECONDS", 0.5)
    server = await asyncio.start_server(lambda reader, writer: writer.write(b"SSH-2.0-x\r\n"), "127.0.0.1", 0)
    with pytest.raises(NotYet, match="WebSocket"):
        await probe(Endpoint("127.0.0.1", server.sockets[0].getsockname()[1]))
    server.close()


@pytest.mark.parametrize(
    ("code", "log", "field", "says", "retry"),
    [
        (1, "Error opening dynamic library: libnope.so: no", "plugins", "could not load the plugin 'nope' and exited with 1", False),
        (1, "Error opening dynamic library: no memory", "", "ended before it was usable: taken.", False),
        (93, "", "setup", "it ended the shell before braynsService was started", False),
        (97, "", "setup", "failed before braynsService was started", False), (96, "", "generation", "set it to 1, 2 or 3", False), (95, "", "tls", "generation 1", False),
        (127, "", "executable", "was not found", False), (126, "", "", "ended before it was usable: taken.", False),
        (98, "", "port", "taken.", False), (94, "", "state_dir", "taken.", True),
        (1, "bind: Address already in use", "port", "another program listens", True),
        (1, "Fatal error: 'Unknown keyword argument 'x''.", "generation", "an option it was given (exit 1)", False),
        (139, "", "", "killed by signal 11", True),
    ],
)  # fmt: skip
def test_an_early_end_tells_the_field_and_whether_a_retry_helps(
    code: int, log: str, field: str, says: str, retry: bool
) -> None:
    error = ended_early(code, "taken", log, ["nope"], node="r1i1n0", lines="Last lines of s1 on r1i1n0:\n…")
    assert (error.field, error.retry, error.node, error.exit_code) == (field, retry, "r1i1n0", code)
    assert says in str(error)
    assert str(error).startswith(
        f"{field}: {error.remedy}\n" if field else ("Mend what its last lines say.", "Look at setup")
    )
    assert "Last lines of s1" in str(error)


async def test_a_rung_names_the_endpoint_that_people_know() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        with pytest.raises(NotYet, match="TCP: r1i1n0:5000 does not answer"):
            await probe(Endpoint("127.0.0.1", nobody.getsockname()[1]), told="r1i1n0:5000")


async def test_a_node_with_no_possible_name_is_not_there_yet() -> None:
    with pytest.raises(NotYet, match="TCP"):
        await probe(Endpoint("a..b", 5000))


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
        return await probe(Endpoint("127.0.0.1", server.sockets[0].getsockname()[1]))


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
