"""What an `ssh` connection means: the same as to Airflow's own asynchronous hook, without asking inside the loop."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import asyncssh
import pytest
from airflow.providers.ssh.hooks.ssh import SSHHookAsync
from airflow.sdk import Connection

from airflow_brayns.cluster.ssh import SSHShell
from airflow_brayns.errors import BraynsError, InvalidSetting, reason_of
from airflow_brayns.hooks.cluster import BraynsClusterHook, make_cluster
from airflow_brayns.hooks.login import SSHLogin
from tests.support.clock import jumping_clock

__all__ = ["jumping_clock"]
KEY = asyncssh.generate_private_key("ssh-ed25519").export_private_key().decode()


class Opened(Exception):  # noqa: N818 - no error: it is as far as the tests go
    """What asyncssh was asked to connect with."""


@pytest.fixture(autouse=True)
def connect(monkeypatch: pytest.MonkeyPatch) -> None:
    async def opened(host: str, port: int = 0, **options: Any) -> None:
        raise Opened({"host": host, "port": port, **options})

    monkeypatch.setattr(asyncssh, "connect", opened)


def define(monkeypatch: pytest.MonkeyPatch, extra: dict[str, Any], **fields: Any) -> None:
    values = {"conn_type": "ssh", "host": "login.site", "login": "me", "extra": json.dumps(extra), **fields}
    monkeypatch.setenv("AIRFLOW_CONN_SITE", json.dumps(values))


def opened(main: Any) -> dict[str, Any]:
    with pytest.raises(Opened) as found:
        asyncio.run(main)
    options = dict(found.value.args[0])
    options.pop("keepalive_interval", None)  # the shell sets its own
    if keys := options.get("client_keys"):
        options["client_keys"] = keys if isinstance(keys, str) else [one.export_public_key() for one in keys]
    return options


@pytest.mark.parametrize(
    ("extra", "fields"),
    [
        ({}, {"password": "secret", "port": 2222}),
        ({"key_file": "/home/me/key"}, {}),
        ({"key_file": "/home/me/key", "passphrase": "word"}, {"port": 2222}),
        ({"private_key": KEY, "key_file": "/home/me/key"}, {"password": "secret"}),
        ({"known_hosts": "/etc/known"}, {}),
        ({"known_hosts": "none"}, {}),
        ({"no_host_key_check": "true"}, {}),
        ({"no_host_key_check": False, "host_key": "ssh-ed25519 AAAA comment"}, {}),
        ({"host_key": "AAAA"}, {}),
    ],
)
def test_it_is_read_as_airflows_own_hook_reads_it(
    monkeypatch: pytest.MonkeyPatch, extra: dict[str, Any], fields: dict[str, Any]
) -> None:
    define(monkeypatch, extra, **fields)
    theirs = opened(SSHHookAsync(ssh_conn_id="site").get_conn())
    hook = BraynsClusterHook()
    assert opened(hook.login("site").connect()) == {
        name: value for name, value in theirs.items() if value is not None
    } | ({"known_hosts": None} if "known_hosts" in theirs and theirs["known_hosts"] is None else {})


@pytest.mark.parametrize("extra", [{"no_host_key_check": True, "host_key": "ssh-rsa A"}, {"host_key": "ssh-dss A"}])
def test_what_cannot_be_used_names_the_field(monkeypatch: pytest.MonkeyPatch, extra: dict[str, Any]) -> None:
    define(monkeypatch, extra)
    with pytest.raises(InvalidSetting, match="(?s)ssh_conn_id: .*'site'"):
        BraynsClusterHook().login("site")
    with pytest.raises(InvalidSetting, match="names no host"):
        SSHLogin.read("site", Connection(conn_id="site", conn_type="ssh"))
    with pytest.raises(InvalidSetting, match="private_key of the connection 'site' cannot be used"):
        asyncio.run(SSHLogin("site", "h", 22, None, private_key="nonsense").connect())


def test_a_prepared_hook_asks_for_nothing_when_it_connects(monkeypatch: pytest.MonkeyPatch) -> None:
    define(monkeypatch, {"key_file": "/k"}, password="secret")
    hook = BraynsClusterHook("site_cluster")
    monkeypatch.setenv(
        "AIRFLOW_CONN_SITE_CLUSTER",
        json.dumps({"conn_type": "brayns_cluster", "extra": {"ssh_conn_id": "site", "node_known_hosts": "/nodes"}}),
    )
    hook.prepare()

    def asked(*_: Any) -> None:
        raise AssertionError("asked for in the loop")

    monkeypatch.setattr(BraynsClusterHook, "get_connection", asked)
    monkeypatch.setattr(BraynsClusterHook, "aget_connection", asked)
    shell = make_cluster(hook.settings, hook._login).shell
    assert isinstance(shell, SSHShell)
    assert opened(shell._connect())["host"] == "login.site"
    login = SimpleNamespace(get_extra_info=lambda name: "me")
    assert shell._connect_node is not None
    node = opened(shell._connect_node(login, "node1"))  # type: ignore[arg-type]
    assert (node["host"], node["known_hosts"], node["password"], node["tunnel"]) == ("node1", "/nodes", "secret", login)


def test_whoever_comes_last_tells_how_to_log_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a triggerer somebody always waits: a key that was changed was never read again."""
    monkeypatch.setenv(
        "AIRFLOW_CONN_SITE_CLUSTER", json.dumps({"conn_type": "brayns_cluster", "extra": {"ssh_conn_id": "site"}})
    )
    hooks = []
    for key in ("/old", "/new"):
        define(monkeypatch, {"key_file": key})
        hooks.append(BraynsClusterHook("site_cluster"))
        hooks[-1].prepare()

    async def reconnect() -> None:
        async with hooks[0].session(), hooks[1].session() as session:
            shell = session.cluster.shell
            assert isinstance(shell, SSHShell)
            await shell._connect()

    assert opened(reconnect())["client_keys"] == "/new"


def test_no_such_connection_may_be_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow says the same when its API server does not answer."""
    hook = BraynsClusterHook(overrides={"ssh_conn_id": "nowhere", "scheduler": "slurm"})
    hook.prepare()
    shell = make_cluster(hook.settings, hook._login).shell
    assert isinstance(shell, SSHShell)
    with pytest.raises(
        InvalidSetting, match=r"ssh_conn_id: make a connection .*\n +no connection 'nowhere' is defined"
    ) as raised:
        asyncio.run(shell.run("true", 5))
    assert raised.value.retry


def test_a_secret_is_in_no_text() -> None:
    login = SSHLogin("site", "h", 22, "me", "secret-1", private_key="secret-2", passphrase="secret-3")
    assert "secret" not in repr(login)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (TimeoutError(), "no answer in time"),
        (asyncio.CancelledError(), "it was stopped before it was done"),
        (ConnectionResetError(), "ConnectionResetError, without a reason"),
        (asyncssh.ConnectionLost(""), "ConnectionLost, without a reason"),
        (BraynsError("this"), "this"),
    ],
)
def test_every_error_has_words(error: BaseException, says: str) -> None:
    assert reason_of(error) == says


@pytest.mark.usefixtures("jumping_clock")
async def test_a_login_node_that_says_nothing_is_told_with_a_reason() -> None:
    async def silent() -> Any:
        raise asyncssh.ConnectionLost("")

    with pytest.raises(BraynsError, match="cannot be reached: ConnectionLost, without a reason"):
        await SSHShell(silent).run("true", 5)


# ---- what a connection leaves empty -----------------------------------------------------------------------------------
def login_of(**fields: Any) -> SSHLogin:
    values = {"host": "site", "port": None, "login": None, "password": None, "extra_dejson": {}, **fields}
    return SSHLogin.read("site", SimpleNamespace(**values))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir()
    return tmp_path


@pytest.mark.parametrize("login", [None, ""])
def test_without_a_user_name_ssh_s_own_rules_hold(login: str | None, home: Path) -> None:
    """`TypeError: 'NoneType' object is not iterable`: `~/.ssh/config`, else who runs the process, is asyncssh's own rule."""
    assert opened(login_of(login=login).connect())["username"] == ()


@pytest.mark.parametrize(
    ("config", "user"), [("Host site\n  User alice\n", "alice"), ("Host other\n  User alice\n", "me"), ("", "me")]
)
def test_the_user_is_the_configs_or_the_processs(
    home: Path, config: str, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", "me")
    (home / ".ssh" / "config").write_text(config)
    options = asyncio.run(asyncssh.SSHClientConnectionOptions.construct(host="site", config=(), username=()))
    assert options.username == user


@pytest.mark.parametrize(
    ("config", "given", "port"),
    [("Host si*\n  Port 2222\n", None, 2222), ("Host site\n  Port 2222\n", 22022, 22022), ("Host other\n  Port 2222\n", None, 22),
     ("Host site\n  Port x\n", None, 22), (None, None, 22), ("Host site\n  Port 2222\n", 0, 2222),
     ("Include conf.d/*\n", None, 2244), ("Match host site exec \"true\"\n  Port 2222\n", None, 2222),
     ("CanonicalizeHostname yes\nCanonicalDomains invalid\nCanonicalizeFallbackLocal no\nHost site\n  Port 2222\n", None, 2222)],
)  # fmt: skip
def test_the_port_is_the_connections_or_the_configs(
    home: Path, config: str | None, given: int | None, port: int
) -> None:
    if config is not None:
        (home / ".ssh" / "config").write_text(config)
    (home / ".ssh" / "conf.d").mkdir()
    (home / ".ssh" / "conf.d" / "cluster").write_text("Host site\n  Port 2244\n")
    assert login_of(port=given).port == port


@pytest.mark.parametrize(
    "config", ["Host site\n  Port\n", "Host site\n  Port x\n", "# caf\xe9\n", 'Host "site\n']
)  # fmt: skip
async def test_a_config_that_cannot_be_read_is_named(home: Path, config: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that ended too soon, and a letter that is no UTF-8, were tracebacks; 'correct key, passphrase or known_hosts' else."""
    (home / ".ssh" / "config").write_text(config, encoding="latin-1")

    async def connect(host: str, *_: Any, **__: Any) -> None:
        await asyncssh.SSHClientConnectionOptions.construct(host=host, config=())

    monkeypatch.setattr(asyncssh, "connect", connect)
    with pytest.raises(InvalidSetting, match=r"^ssh_conn_id: correct that file .*\n +~/.ssh/config cannot be read"):
        await login_of().connect()


@pytest.mark.parametrize("host", [None, ""])
def test_a_connection_without_a_host_says_so(host: str | None) -> None:
    with pytest.raises(InvalidSetting, match="names no host"):
        login_of(host=host)


def test_a_key_file_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was told as a login node that cannot be reached."""

    async def missing(*_: Any, **__: Any) -> None:
        raise FileNotFoundError(2, "No such file or directory", "/keys/none")

    monkeypatch.setattr(asyncssh, "connect", missing)
    with pytest.raises(InvalidSetting, match="key_file of the connection 'site' is not there: /keys/none") as raised:
        asyncio.run(login_of(extra_dejson={"key_file": "/keys/none"}).connect())
    assert not raised.value.retry
    with pytest.raises(FileNotFoundError):
        asyncio.run(login_of().connect())
