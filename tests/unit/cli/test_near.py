"""The port of this machine that `airflow brayns connect` holds open."""

from __future__ import annotations

import asyncio
import io
import socket
from typing import Any

import pytest

from airflow_brayns.cli import near
from airflow_brayns.errors import InvalidSetting


async def test_it_is_printed_and_passes_on_until_the_block_ends() -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        writer.close()

    service = await asyncio.start_server(greet, "127.0.0.1", 0)
    far, out = service.sockets[0].getsockname()[1], io.StringIO()
    async with near.port(lambda: asyncio.open_connection("127.0.0.1", far), 0, out):
        host, _, port = out.getvalue().strip().partition(":")
        assert host == "localhost"
        reader, writer = await asyncio.open_connection("127.0.0.1", int(port))
        assert await reader.read() == b"hello"
        writer.close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", int(port))
    service.close()


@pytest.mark.parametrize("number", [70000, -1, None])
async def test_one_that_cannot_be_opened_is_said(number: int | None) -> None:
    async def nowhere() -> Any:
        raise AssertionError

    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(InvalidSetting, match="cannot be opened here"):
        async with near.port(nowhere, taken.getsockname()[1] if number is None else number, io.StringIO()):
            raise AssertionError
