"""What docs/how-to/login.rst says of `~/.ssh/config`: through a gateway, and on to a node behind the login node."""

from __future__ import annotations

import getpass
import json
import os
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import asyncssh
import pytest

from airflow_brayns.errors import ConnectionLost
from airflow_brayns.hooks.cluster import BraynsClusterHook
from tests.support.bounds import until


class Machine(asyncssh.SSHServer):
    """A machine that its key opens, and that lets connections through; it remembers to where."""

    def __init__(self, passed: list[tuple[str, int]], users: list[str], ready: bool) -> None:
        self.passed, self.users, self.ready = passed, users, ready

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self.connection = conn

    def begin_auth(self, username: str) -> bool:
        self.users.append(username)
        if not self.ready:
            self.connection.set_authorized_keys(asyncssh.import_authorized_keys(""))
        return True

    def kbdint_auth_supported(self) -> bool:
        return not self.ready

    def get_kbdint_challenge(self, username: str, lang: str, submethods: str) -> Any:
        return ("", "", "en", [("Verification code:", False)])

    def connection_requested(self, host: str, port: int, *_: object) -> bool:
        self.passed.append((host, port))
        return True


@pytest.fixture
async def machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SimpleNamespace]:
    """A gateway, a login node and a node; the user's key, config and known hosts in a home of its own."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    ssh = tmp_path / ".ssh"
    ssh.mkdir(mode=0o700)
    key.write_private_key(ssh / "id_ed25519")
    key.write_public_key(ssh / "authorized")
    monkeypatch.setenv("HOME", str(tmp_path))
    made, known = SimpleNamespace(needs_code=False), []
    for name in ("gateway", "login", "node"):
        one = SimpleNamespace(passed=[], users=[])
        host_key = asyncssh.generate_private_key("ssh-ed25519")
        one.server = await asyncssh.listen(
            "127.0.0.1", 0, server_host_keys=[host_key], authorized_client_keys=str(ssh / "authorized"),
            server_factory=lambda one=one, name=name: Machine(one.passed, one.users, not (made.needs_code and name == "login")),
            process_factory=lambda process: process.exit(0),
        )  # fmt: skip
        one.port = one.server.get_port()
        known.append(f"[127.0.0.1]:{one.port} {host_key.export_public_key().decode()}")
        setattr(made, name, one)
    (ssh / "known_hosts").write_text("".join(known))
    (ssh / "config").write_text(
        f"Host gateway.example.org\n  User jane\n  Hostname 127.0.0.1\n  Port {made.gateway.port}\n"
        "Host login.example.org\n  ProxyJump gateway.example.org\n  Hostname 127.0.0.1\n"
    )
    values = {"conn_type": "ssh", "host": "login.example.org", "port": made.login.port, "login": "joe",
              "extra": json.dumps({"key_file": "~/.ssh/id_ed25519", "known_hosts": "~/.ssh/known_hosts"})}  # fmt: skip
    monkeypatch.setenv("AIRFLOW_CONN_SITE", json.dumps(values))
    yield made
    for one in (made.gateway, made.login, made.node):
        one.server.close()


async def test_the_login_node_is_reached_through_the_gateway_of_the_ssh_config(machines: SimpleNamespace) -> None:
    connection = await BraynsClusterHook().login("site").connect()
    try:
        assert (await connection.run("true")).exit_status == 0
    finally:
        connection.close()
    assert machines.gateway.passed == [("127.0.0.1", machines.login.port)]
    assert (machines.gateway.users, machines.login.users) == (["jane"], ["joe"])


async def test_a_node_is_the_third_hop(machines: SimpleNamespace) -> None:
    login = BraynsClusterHook().login("site")
    async with await login.connect() as first:
        config = Path("~/.ssh/config").expanduser()
        config.write_text(config.read_text() + f"Host r1i1n0\n  Hostname 127.0.0.1\n  Port {machines.node.port}\n")
        async with await login.connect_node(first, "r1i1n0", None) as second:
            assert (await second.run("true")).exit_status == 0
    assert machines.login.passed == [("127.0.0.1", machines.node.port)]
    assert machines.node.users == ["joe"]


async def test_a_login_that_asks_for_a_code_is_refused_at_once(machines: SimpleNamespace) -> None:
    """And not retried for ten minutes: nobody is there to type it."""
    machines.needs_code = True
    hook = BraynsClusterHook(overrides={"scheduler": "slurm", "ssh_conn_id": "site"})
    async with hook.session() as session:
        with pytest.raises(ConnectionLost, match="the login node refused the login") as raised:
            await session.cluster.list_all()
    assert not raised.value.retry


SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")


@contextmanager
def sshd(folder: Path, authorized: Path) -> Iterator[tuple[int, str, Path]]:
    """OpenSSH's own server on the loopback: its port, its public key, and the log that tells whom it let through."""
    folder.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    key = asyncssh.generate_private_key("ssh-ed25519")
    key.write_private_key(folder / "key")
    (folder / "key").chmod(0o600)
    lines = {
        "ListenAddress": f"127.0.0.1:{port}", "HostKey": folder / "key", "AuthorizedKeysFile": authorized, "PidFile": "none",
        "StrictModes": "no", "UsePAM": "no", "PermitRootLogin": "yes", "PasswordAuthentication": "no", "LogLevel": "DEBUG1",
    }  # fmt: skip
    (folder / "config").write_text("".join(f"{name} {value}\n" for name, value in lines.items()))
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where it separates its privileges
    assert SSHD is not None
    command = [SSHD, "-D", "-f", folder / "config", "-E", folder / "log"]
    with subprocess.Popen(command) as process:
        try:
            yield port, key.export_public_key().decode(), folder / "log"
        finally:
            process.terminate()


def answers(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.slow
@pytest.mark.skipif(SSHD is None, reason="apt-get install openssh-server")
async def test_a_chain_of_openssh_servers_is_gone_through_as_ssh_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`ProxyJump` of ~/.ssh/config, with the config's user, port and key of both; the connection names the last host alone."""
    ssh, me = tmp_path / ".ssh", getpass.getuser()
    ssh.mkdir(mode=0o700)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("gateway_key", "login_key"):
        key = asyncssh.generate_private_key("ssh-ed25519")
        key.write_private_key(ssh / name)
        key.write_public_key(ssh / f"{name}.pub")
    with ExitStack() as stack:
        gateway, gateway_host, through = stack.enter_context(sshd(tmp_path / "gateway", ssh / "gateway_key.pub"))
        login, login_host, _ = stack.enter_context(sshd(tmp_path / "login", ssh / "login_key.pub"))
        for port in (gateway, login):
            until(lambda port=port: answers(port))
        known = {gateway: gateway_host, login: login_host}
        (ssh / "known_hosts").write_text("".join(f"[127.0.0.1]:{port} {key}" for port, key in known.items()))
        (ssh / "config").write_text(
            f"Host gateway.example.org\n  User {me}\n  Hostname 127.0.0.1\n  Port {gateway}\n  IdentityFile ~/.ssh/gateway_key\n"
            f"Host login.example.org\n  User {me}\n  Hostname 127.0.0.1\n  Port {login}\n  IdentityFile ~/.ssh/login_key\n"
            "  ProxyJump gateway.example.org\n"
        )
        values = {
            "conn_type": "ssh",
            "host": "login.example.org",
            "extra": json.dumps({"known_hosts": "~/.ssh/known_hosts"}),
        }
        monkeypatch.setenv("AIRFLOW_CONN_SITE", json.dumps(values))
        hook = BraynsClusterHook()
        async with await hook.login("site").connect() as connection:
            done = await connection.run("echo here")
            assert (done.exit_status, done.stdout) == (0, "here\n")
        assert f"target 127.0.0.1 port {login}" in through.read_text()
