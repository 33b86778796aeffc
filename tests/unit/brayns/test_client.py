from __future__ import annotations

import asyncio
import ssl
import subprocess
import time
from pathlib import Path

import pytest
from websockets.asyncio.server import serve

from airflow_brayns.brayns.client import BraynsClient
from airflow_brayns.errors import ConnectionLost, RpcFailed

SNAPSHOT = {
    "image_settings": {"format": "png", "size": [128, 128]},
    "renderer": {"name": "production", "params": {"samples_per_pixel": 400}},
}


async def test_a_conversation(emulator, data: Path) -> None:
    service = emulator("--plugin", "braynsCircuitExplorer", snapshot_seconds=0)
    steps: list[tuple[str, float]] = []
    async with BraynsClient(service.endpoint) as client:
        assert (await client.call("get-version")).result["major"] == 3
        await client.call("add-light-ambient", {})
        blob = (data / "cube.obj").read_bytes()
        model = {"type": "obj", "loader_name": "mesh", "loader_properties": {}}
        reply = await client.call("upload-model", model, binary=blob, progress=lambda *step: steps.append(step))
        assert reply.result[0]["bounds"]["max"] == [1, 1, 1]
        assert steps == [("Model uploaded", 0.5)]
        request = {
            "image_settings": {"format": "png", "size": [64, 64]},
            "renderer": {"name": "interactive", "params": {}},
        }
        reply = await client.call("snapshot", request)
        assert reply.binary.startswith(b"\x89PNG")
        assert len(reply.binary) == reply.result["color_buffer"]["size"]


async def test_errors_have_code_and_details(emulator) -> None:
    async with BraynsClient(emulator().endpoint) as client:
        with pytest.raises(RpcFailed, match="missing required property 'target'") as error:
            await client.call("set-camera-view", {"position": "x"})
        assert error.value.code == -32602


async def test_a_time_out_cancels_the_request_on_the_service(emulator) -> None:
    async with BraynsClient(emulator(snapshot_seconds=30).endpoint) as client:
        await client.call("add-light-ambient", {})
        with pytest.raises(ConnectionLost, match=r"not answered within 0\.5 s"):
            await client.call("snapshot", {**SNAPSHOT, "renderer": {"name": "interactive", "params": {}}}, timeout=0.5)
        began = time.monotonic()
        await client.call("get-version")
        assert time.monotonic() - began < 5


async def test_a_service_that_dies_mid_render_is_a_lost_connection(emulator) -> None:
    async with BraynsClient(emulator(crash_at_picture=1).endpoint) as client:
        await client.call("add-light-ambient", {})
        with pytest.raises(ConnectionLost, match="snapshot"):
            await client.call("snapshot", SNAPSHOT)


async def test_production_without_a_light_kills_it_as_it_does_the_real_one(emulator) -> None:
    service = emulator()
    async with BraynsClient(service.endpoint) as client:
        with pytest.raises(ConnectionLost):
            await client.call("snapshot", SNAPSHOT)
    assert service.wait(5) == -11


@pytest.mark.parametrize(
    "nonsense", ["not json", "[]", b"\x05", b"\xff\xff\xff\xff{}", b"\x02\x00\x00\x00{", '{"id": 0, "result": ']
)
async def test_nonsense_ends_the_request_and_is_not_believed(nonsense: str | bytes) -> None:
    async def answer(socket) -> None:
        await socket.recv()
        await socket.send(nonsense)

    async with serve(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with BraynsClient(f"127.0.0.1:{port}", timeout=5) as client:
            with pytest.raises(ConnectionLost):
                await client.call("get-version")


async def test_a_silent_server_is_given_up() -> None:
    """Its connections are kept: from 3.12 on a writer that nobody holds closes its connection."""
    kept: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda reader, writer: kept.append(writer), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(ConnectionLost, match="no answer within"):
        await BraynsClient(f"127.0.0.1:{port}", timeout=0.3).open()
    for one in kept:
        one.close()
    server.close()


async def test_tls_with_a_ca(emulator, tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key, "-out", certificate, "-days", "1",
         "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    service = emulator("--secure", "true", "--private-key-file", str(key), "--certificate-file", str(certificate))
    trusted = ssl.create_default_context(cafile=str(certificate))
    async with BraynsClient(service.endpoint, ssl_context=trusted) as client:
        assert (await client.call("get-version")).result["major"] == 3
    with pytest.raises(ConnectionLost, match="certificate"):
        await BraynsClient(service.endpoint, ssl_context=ssl.create_default_context()).open()


async def answered(*messages: str | bytes, largest: int = 1 << 20) -> object:
    """What a client takes from a service that sends these."""

    async def answer(socket) -> None:
        await socket.recv()
        for message in messages:
            await socket.send(message)

    async with (
        serve(answer, "127.0.0.1", 0) as server,
        BraynsClient(f"127.0.0.1:{server.sockets[0].getsockname()[1]}", timeout=0.5, largest=largest) as client,
    ):
        return (await client.call("get-version")).result


@pytest.mark.parametrize("other", ["false", "0.0", "-0.0", '"0"', "[]", "{}", "[0]", "null", "1", "1e0"])
async def test_a_reply_is_known_by_its_very_id(other: str) -> None:
    """`false` and `0.0` are found under 0 in a dict; a list was a TypeError that took the reader away."""
    assert await answered(f'{{"id": {other}, "result": "lie"}}', '{"id": 0, "result": "truth"}') == "truth"


@pytest.mark.parametrize(
    "error",
    ["{}", "null", "[]", '{"code": null}', '{"code": "x"}', '{"code": 1e999}', '{"code": [], "message": {}}', '{"code": true, "data": {}}'],
)  # fmt: skip
async def test_an_error_of_any_kind_is_an_error(error: str) -> None:
    """A code that is no number took the reader away: the request waited for its time-out, and the next ones too."""
    with pytest.raises(RpcFailed, match="refused get-version"):
        await answered(f'{{"id": 0, "error": {error}}}')


async def test_an_errors_text_is_told_at_a_bearable_length() -> None:
    with pytest.raises(RpcFailed) as error:
        await answered(f'{{"id": 0, "error": {{"code": 1, "message": "{"x" * 900_000}", "data": ["{"y" * 90_000}"]}}}}')
    assert len(str(error.value)) < 10_000


@pytest.mark.parametrize(
    "message", ["[" * 100_000, '{"id": 0, "result": ' + "[" * 50_000, '{"id": 0, "result": ' + "9" * 5000 + "}"]
)
async def test_json_that_is_nested_without_end_ends_the_connection(message: str) -> None:
    """Python's RecursionError took the reader away without a word."""
    with pytest.raises(ConnectionLost, match="no JSON-RPC"):
        await answered(message)


@pytest.mark.parametrize("progress", ['{"id": 0, "amount": null}', '{"id": 0, "amount": [1]}', '{"id": [], "amount": 1}', '{"id": 0, "amount": 1e999}', '{"id": 0, "amount": NaN}'])  # fmt: skip
async def test_progress_of_any_kind_is_passed_over(progress: str) -> None:
    assert await answered(f'{{"method": "x", "params": {progress}}}', '{"id": 0, "result": 7}') == 7


async def test_a_message_larger_than_allowed_ends_the_connection() -> None:
    with pytest.raises(ConnectionLost, match="ended during get-version"):
        await answered('{"id": 0, "result": "' + "x" * 2_000_000 + '"}')


async def test_a_client_that_was_closed_leaves_nothing_behind_and_says_that_nobody_else_closed_it(emulator) -> None:
    before = asyncio.all_tasks()
    client = BraynsClient(emulator(snapshot_seconds=30).endpoint)
    await client.open()
    await client.call("add-light-ambient", {})
    asked = asyncio.create_task(client.call("snapshot", SNAPSHOT))
    await asyncio.sleep(0.1)
    reader = client._reader
    await client.close()
    assert reader is not None
    assert reader.done()
    with pytest.raises(ConnectionLost, match="ended during snapshot: closed$"):
        await asked
    assert asyncio.all_tasks() == before


async def test_json_of_many_megabytes_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read, it takes tens of times as much memory; what is large is pictures, which come as bytes."""
    monkeypatch.setattr("airflow_brayns.brayns.client.LARGEST_TEXT", 1000)
    with pytest.raises(ConnectionLost, match="bytes of JSON"):
        await answered('{"id": 0, "result": "' + "x" * 2000 + '"}')
    body = b'{"id": 0, "result": 7}'
    assert await answered(len(body).to_bytes(4, "little") + body + b"x" * 100_000) == 7


async def test_nobody_is_followed_elsewhere() -> None:
    """The WebSocket library follows redirections: a stranger on the port could hand its visitors on to any other host."""
    visits = []

    async def lead(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 302 x\r\nLocation: ws://127.0.0.1:{port}/\r\nContent-Length: 0\r\n\r\n".encode())
        writer.close()

    def visit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        visits.append(1)
        writer.close()

    async with await asyncio.start_server(visit, "127.0.0.1", 0) as other:
        port = other.sockets[0].getsockname()[1]
        async with await asyncio.start_server(lead, "127.0.0.1", 0) as server:
            with pytest.raises(ConnectionLost, match="302"):
                await BraynsClient(f"127.0.0.1:{server.sockets[0].getsockname()[1]}", timeout=2).open()
    assert visits == []


@pytest.mark.parametrize("host", ["a..b", "x" * 64])
async def test_a_name_that_is_none_cannot_be_reached(host: str) -> None:
    with pytest.raises(ConnectionLost, match="cannot be reached"):
        await BraynsClient(f"{host}:5000", timeout=2).open()


RAW = b"Parsing error at line 1: 'x'. Line content: 'solid pi\xe8ce\x01\x00\xff'"


@pytest.mark.parametrize("binary", [False, True])
async def test_an_error_that_is_no_utf8_is_told_and_ends_nothing(binary: bool) -> None:
    """It quotes a file's bad line as it is. The library closes the connection on a text that is not UTF-8 (code 1007)."""

    async def answer(socket) -> None:
        await socket.recv()
        body = b'{"error":{"code":-32603,"message":"' + RAW + b'"},"id":0,"jsonrpc":"2.0"}'
        await socket.send(len(body).to_bytes(4, "little") + body if binary else body, text=not binary)
        await socket.recv()
        await socket.send('{"id": 1, "result": 7}')

    async with (
        serve(answer, "127.0.0.1", 0) as server,
        BraynsClient(f"127.0.0.1:{server.sockets[0].getsockname()[1]}", timeout=5) as client,
    ):
        with pytest.raises(RpcFailed, match="Line content: 'solid pi\ufffdce") as error:
            await client.call("add-model", {})
        assert error.value.code == -32603
        assert (await client.call("get-version")).result == 7


async def test_a_text_in_pieces_that_part_a_character_is_put_together() -> None:
    async def answer(socket) -> None:
        await socket.recv()
        await socket.send([b'{"id": 0, "result": "pi\xc3', b'\xa8ce"}'], text=True)

    async with (
        serve(answer, "127.0.0.1", 0) as server,
        BraynsClient(f"127.0.0.1:{server.sockets[0].getsockname()[1]}", timeout=5) as client,
    ):
        assert (await client.call("get-version")).result == "pièce"


@pytest.mark.parametrize(
    "reply",
    [
        '{"error":{"code":-32603,"message":"line: "a"b""},"id":0,"jsonrpc":"2.0"}',
        '{"id": 0, "error": {"message": "a\\x"}}',
    ],
)
async def test_an_error_that_is_no_json_fails_its_own_request_only(reply: str) -> None:
    async def answer(socket) -> None:
        await socket.recv()
        await socket.send(reply)
        await socket.recv()
        await socket.send('{"id": 1, "result": 7}')

    async with (
        serve(answer, "127.0.0.1", 0) as server,
        BraynsClient(f"127.0.0.1:{server.sockets[0].getsockname()[1]}", timeout=5) as client,
    ):
        with pytest.raises(RpcFailed, match="no JSON"):
            await client.call("add-model", {})
        assert (await client.call("get-version")).result == 7
