"""A port that stays while what is behind it comes and goes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial

import asyncssh
import pytest

from airflow_brayns.brayns.endpoint import Endpoint
from airflow_brayns.cluster.slurm import SlurmCluster
from airflow_brayns.cluster.ssh import SSHShell
from airflow_brayns.errors import ConnectionLost
from airflow_brayns.services.tunnel import local_port, near_endpoint


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while block := await reader.read(1 << 16):
        writer.write(block)
        await writer.drain()
    writer.close()


@pytest.fixture
async def service() -> AsyncIterator[int]:
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


async def asked(port: int, text: bytes = b"hello") -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(text)
        writer.write_eof()
        return await asyncio.wait_for(reader.read(-1), 10)
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


class Login(asyncssh.SSHServer):
    """A login node that lets everybody through to everywhere."""

    living: list[asyncssh.SSHServerConnection] = []

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self.living.append(conn)

    def begin_auth(self, username: str) -> bool:
        return False

    def connection_requested(self, *_: object) -> bool:
        return True


@pytest.fixture
async def shell() -> AsyncIterator[SSHShell]:
    key = asyncssh.generate_private_key("ssh-ed25519")
    server = await asyncssh.listen("127.0.0.1", 0, server_factory=Login, server_host_keys=[key])
    one = SSHShell(
        lambda: asyncssh.connect("127.0.0.1", server.get_port(), known_hosts=None, username="me", client_keys=None),
        lambda _, __: asyncssh.connect(
            "127.0.0.1", server.get_port(), known_hosts=None, username="me", client_keys=None
        ),
    )
    yield one
    await one.close()
    server.close()


@pytest.mark.parametrize("route", ["ssh", "node"])
async def test_the_same_port_leads_there_after_the_login_connection_has_broken(
    shell: SSHShell, service: int, route: str
) -> None:
    """A forward of asyncssh's own ended with its connection: a movie took its services for dead after two drops."""
    async with near_endpoint(SlurmCluster(shell), route, Endpoint("127.0.0.1", service)) as near:
        assert near.host == "127.0.0.1"
        port = near.port
        assert await asked(port) == b"hello"
        big = bytes(range(256)) * 40_000
        assert await asked(port, big) == big
        for _ in range(2):
            for one in Login.living:
                one.abort()
            Login.living.clear()
            await asyncio.sleep(0.05)
            assert await asked(port) == b"hello"


async def test_what_is_under_way_ends_with_its_connection_and_not_before_the_next(
    shell: SSHShell, service: int
) -> None:
    async with near_endpoint(SlurmCluster(shell), "ssh", Endpoint("127.0.0.1", service)) as near:
        port = near.port
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"x")
        assert await asyncio.wait_for(reader.read(1), 10) == b"x"
        for one in Login.living:
            one.abort()
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await asyncio.wait_for(reader.readexactly(1), 10)
        writer.close()
        assert await asked(port) == b"hello"


async def test_a_way_that_cannot_be_made_says_so_at_once() -> None:
    async def refuse() -> asyncssh.SSHClientConnection:
        raise asyncssh.PermissionDenied("no")

    with pytest.raises(ConnectionLost, match="refused the login"):
        async with near_endpoint(SlurmCluster(SSHShell(refuse)), "ssh", Endpoint("127.0.0.1", 1)):
            pass


async def test_nothing_behind_it_ends_the_client_and_not_the_port(service: int) -> None:
    leads_to = 1
    async with local_port(lambda: asyncio.open_connection("127.0.0.1", leads_to)) as port:
        assert await asked(port) == b""
        leads_to = service
        assert await asked(port) == b"hello"


async def test_its_connections_end_with_the_block(service: int) -> None:
    async with local_port(partial(asyncio.open_connection, "127.0.0.1", service)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"x")
        assert await asyncio.wait_for(reader.read(1), 10) == b"x"
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await asyncio.wait_for(reader.readexactly(1), 10)
    writer.close()
