"""The shell over SSH: when it connects, what it takes for the end of a connection, and what a refusal says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from airflow_brayns.cluster.shell import LONG_SECONDS, MOST_LONG, REMOTE_COMMAND
from airflow_brayns.cluster.ssh import MOST_CHANNELS, SSHShell
from airflow_brayns.errors import ConnectionLost
from tests.support.clock import jumping_clock

__all__ = ["jumping_clock"]
pytestmark = pytest.mark.usefixtures("jumping_clock")


class Process:
    """A remote shell that echoes what its script prints to the sentinels, and no more."""

    def __init__(self, link: Link) -> None:
        self._link, self._written = link, b""
        self.stdin, self.stdout, self.stderr = self, Stream(self._printed), Stream(lambda: b"")

    def write(self, data: bytes) -> None:
        self._written += data

    async def drain(self) -> None:
        """Taken at once."""

    def write_eof(self) -> None:
        """All is said."""

    def _printed(self) -> bytes:
        lines = self._written.decode().split("\n")
        begin, end = (next(word for word in lines[at].split() if word.startswith(("begin-", "end-"))) for at in (0, -2))
        return f"\n{begin}\n{self._link.prints}\n{end} 0\n".encode()

    def close(self) -> None:
        self._link.closed_processes += 1


class Stream:
    def __init__(self, content: Callable[[], bytes]) -> None:
        self._content, self._read = content, False

    async def read(self, _: int) -> bytes:
        was, self._read = self._read, True
        return b"" if was else self._content()


class Link:
    """A connection, as far as the shell uses it."""

    def __init__(self, fails: BaseException | None = None, prints: str = "hello", hangs: bool = False) -> None:
        self.fails, self.prints, self.hangs = fails, prints, hangs
        self.closed, self.aborted, self.closed_processes = False, 0, 0
        self.kept_alive: list[Any] = []
        self.asked: list[Any] = []
        self.running, self.most = 0, 0

    def is_closed(self) -> bool:
        return self.closed

    def set_keepalive(self, *arguments: int) -> None:
        self.kept_alive.append(arguments)

    def abort(self) -> None:
        self.aborted += 1
        self.closed = True

    async def create_process(self, command: str, encoding: None) -> Process:
        self.asked.append(command)
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(10**6 if self.hangs else 0.1)
        self.running -= 1
        if self.fails is not None:
            raise self.fails
        return Process(self)

    async def open_connection(self, host: str, port: int, encoding: None) -> tuple[str, str]:
        self.asked.append((host, port))
        if self.fails is not None:
            raise self.fails
        return "reader", "writer"

    @asynccontextmanager
    async def start_sftp_client(self) -> AsyncIterator[Link]:
        if self.fails is not None:
            raise self.fails
        yield self

    async def put(self, local: str, remote: str) -> None:
        self.asked.append((Path(local).read_bytes(), remote))

    @asynccontextmanager
    async def _file(self) -> AsyncIterator[Link]:
        yield self

    def open(self, remote: str, mode: str) -> Any:
        self.asked.append((remote, mode))
        return self._file()

    async def read(self, size: int, offset: int) -> bytes:
        return b"0123456789"[offset : offset + 4]


class Login:
    """Opens links, one after the other; an exception is raised in its turn."""

    def __init__(self, *links: Link | BaseException) -> None:
        self.links, self.tries = list(links), 0

    async def __call__(self, *_: Any) -> Any:
        self.tries += 1
        link = self.links.pop(0) if len(self.links) > 1 else self.links[0]
        if isinstance(link, BaseException):
            raise link
        return link


def refused() -> asyncssh.Error:
    return asyncssh.PermissionDenied("no key is known")


def unknown_host() -> asyncssh.Error:
    return asyncssh.HostKeyNotVerifiable("another key")


async def seconds(work: Any) -> float:
    began = asyncio.get_running_loop().time()
    with pytest.raises(ConnectionLost):
        await work
    return asyncio.get_running_loop().time() - began


# ---- connecting --------------------------------------------------------------------------------------------------------
async def test_one_connection_is_kept_for_all_and_kept_alive() -> None:
    link = Link()
    login = Login(link)
    shell = SSHShell(login)
    assert await asyncio.gather(*(shell.run("echo", 5) for _ in range(3))) == ["hello"] * 3
    assert login.tries == 1
    assert link.kept_alive == [(15, 3)]
    assert link.asked == [REMOTE_COMMAND] * 3
    assert link.closed_processes == 3
    assert shell.commands == 3


async def test_a_connection_that_has_closed_is_opened_anew() -> None:
    first, second = Link(), Link(prints="again")
    shell = SSHShell(Login(first, second))
    assert "hello" in await shell.run("echo", 5)
    first.closed = True
    assert "again" in await shell.run("echo", 5)


async def test_one_that_cannot_be_opened_at_first_is_tried_again_with_a_pause() -> None:
    login = Login(OSError("no route"), TimeoutError(), Link())
    began = asyncio.get_running_loop().time()
    assert "hello" in await SSHShell(login).run("echo", 5)
    assert login.tries == 3
    assert 2 < asyncio.get_running_loop().time() - began < 6


@pytest.mark.parametrize(
    ("error", "why"),
    [(OSError(113, "No route to host"), "No route to host"), (TimeoutError(), "no answer within 7 s"), (ConnectionRefusedError(111, "Connection refused"), "refused")],
)  # fmt: skip
async def test_after_three_times_it_says_why_and_what_to_check(error: BaseException, why: str) -> None:
    login = Login(error)
    with pytest.raises(
        ConnectionLost,
        match=rf"^ssh_conn_id: check the connection's host and port.*\n +the login node cannot be reached: .*{why}",
    ) as raised:
        await SSHShell(login, connect_timeout=7).run("echo", 5)
    assert login.tries == 3
    assert raised.value.retry


@pytest.mark.parametrize("dropped", [asyncssh.ConnectionLost("Connection lost"), ConnectionResetError(104, "reset")])
async def test_whoever_sshd_drops_among_many_comes_again_until_let_in(dropped: Exception) -> None:
    """MaxStartups: with two hundred tasks that begin at once most first tries are dropped, and none may cost a retry."""
    login = Login(*[dropped] * 6, Link())
    assert "hello" in await SSHShell(login).run("echo", 5)
    assert login.tries == 7


async def test_who_is_always_dropped_is_told_within_a_minute_or_so() -> None:
    login = Login(asyncssh.ConnectionLost("Connection lost"))
    assert 30 < await seconds(SSHShell(login).run("echo", 5)) < 70
    assert login.tries == 8


async def test_those_who_were_dropped_together_do_not_come_together() -> None:
    async def arrival() -> float:
        login, began = Login(ConnectionResetError(104, "reset"), Link()), asyncio.get_running_loop().time()
        await SSHShell(login).run("echo", 5)
        return round(asyncio.get_running_loop().time() - began, 3)

    assert len({await arrival() for _ in range(6)}) > 3


async def test_a_login_node_that_says_nothing_has_its_time_out() -> None:
    async def silent() -> Any:
        await asyncio.sleep(10**6)

    assert 7 * 3 + 2 < await seconds(SSHShell(silent, connect_timeout=7).run("echo", 5)) < 28


@pytest.mark.parametrize(
    ("error", "why"), [(refused(), "refused the login .no key is known."), (unknown_host(), "host key is not trusted .another key."),
                       (asyncssh.ProtocolError("Too many authentication failures"), "refused the login .Too many")]
)  # fmt: skip
async def test_what_is_refused_is_not_tried_again(error: BaseException, why: str) -> None:
    """Three wrong logins lock an account at some sites."""
    login = Login(error)
    with pytest.raises(ConnectionLost, match=f"(?s)^ssh_conn_id: .*the login node.*{why}") as raised:
        await SSHShell(login).run("echo", 5)
    assert login.tries == 1
    assert not raised.value.retry


# ---- running -----------------------------------------------------------------------------------------------------------
async def test_no_more_commands_run_at_a_time_than_sshd_has_channels() -> None:
    link = Link()
    shell = SSHShell(Login(link))
    await asyncio.gather(*(shell.run("echo", 60) for _ in range(3 * MOST_CHANNELS)))
    assert link.most == MOST_CHANNELS == 8


async def test_commands_that_take_long_leave_channels_for_those_that_do_not() -> None:
    """A release would wait behind eight steps of jobs."""
    link = Link()
    shell = SSHShell(Login(link))
    await asyncio.gather(*(shell.run("echo", LONG_SECONDS + 1) for _ in range(3 * MOST_CHANNELS)))
    assert link.most == MOST_LONG < MOST_CHANNELS


async def test_a_link_that_is_silent_is_dropped_with_the_command() -> None:
    """The next command would hang in it too."""
    silent, good = Link(hangs=True), Link()
    shell = SSHShell(Login(silent, good))
    with pytest.raises(ConnectionLost, match="did not answer within 5 s"):
        await shell.run("echo", 5)
    assert silent.aborted == 1
    assert "hello" in await shell.run("echo", 5)


async def test_a_channel_that_is_refused_leaves_the_connection_to_the_others() -> None:
    link = Link(fails=asyncssh.ChannelOpenError(1, "open failed"))
    shell = SSHShell(Login(link))
    with pytest.raises(ConnectionLost, match="opens no further channel: .*open failed"):
        await shell.run("echo", 5)
    assert not link.aborted


@pytest.mark.parametrize("error", [OSError("broken pipe"), asyncssh.ConnectionLost("bye")])
async def test_a_connection_that_breaks_is_dropped(error: BaseException) -> None:
    link = Link(fails=error)
    with pytest.raises(ConnectionLost, match="^The connection to the login node broke: "):
        await SSHShell(Login(link)).run("echo", 5)
    assert link.aborted == 1


# ---- channels and nodes ------------------------------------------------------------------------------------------------
async def test_a_channel_leads_where_it_is_asked_to() -> None:
    link = Link()
    assert await SSHShell(Login(link)).channel("r1i1n0", 5000) == ("reader", "writer")
    assert link.asked == [("r1i1n0", 5000)]


async def test_a_channel_that_does_not_open_says_which_way() -> None:
    shell = SSHShell(Login(Link()), Login(Link(fails=OSError("refused"))))
    with pytest.raises(ConnectionLost, match="No way into r1i1n0, port 5000: .*refused"):
        await shell.channel_in("r1i1n0", 5000)
    shell = SSHShell(Login(Link(fails=OSError("refused"))))
    with pytest.raises(ConnectionLost, match="No way through the login node to r1i1n0:5000: .*refused"):
        await shell.channel("r1i1n0", 5000)


async def test_all_services_of_a_node_share_one_connection_to_its_own_loopback() -> None:
    node = Link()
    enter = Login(node)
    shell = SSHShell(Login(Link()), enter)
    await asyncio.gather(shell.channel_in("r1i1n0", 5000), shell.channel_in("r1i1n0", 5001))
    assert enter.tries == 1
    assert node.asked == [("127.0.0.1", 5000), ("127.0.0.1", 5001)]
    assert node.kept_alive == [(15, 3)]
    node.closed = True
    await shell.channel_in("r1i1n0", 5002)
    assert enter.tries == 2


async def test_a_node_needs_a_login_node_before_it() -> None:
    with pytest.raises(ConnectionLost, match=r"^route: set .*\n +'node' needs an SSH connection") as raised:
        await SSHShell(Login(Link())).inside("r1i1n0")
    assert not raised.value.retry


@pytest.mark.parametrize(
    ("error", "why", "retry"),
    [
        (
            unknown_host(),
            "(?s)^node_known_hosts: add .*the host key of node r1i1n0 is not trusted .another key.",
            False,
        ),
        (refused(), "(?s)^route: use .*node r1i1n0 refused the login .no key is known.", True),
        (OSError("no route"), "(?s)^route: use .*node r1i1n0 cannot be reached by SSH: .*no route", True),
        (TimeoutError(), "(?s)^route: use .*node r1i1n0 cannot be reached by SSH: no answer within 20 s", True),
    ],
)
async def test_a_node_that_cannot_be_entered_says_what_to_mend(error: BaseException, why: str, retry: bool) -> None:
    """A node refuses until Slurm's job has begun there; a strange host key stays strange."""
    with pytest.raises(ConnectionLost, match=why) as raised:
        await SSHShell(Login(Link()), Login(error)).inside("r1i1n0")
    assert raised.value.retry is retry


# ---- files -------------------------------------------------------------------------------------------------------------
async def test_files_are_copied_and_read_from_an_offset_to_their_end(tmp_path: Path) -> None:
    link = Link()
    shell = SSHShell(Login(link))
    (tmp_path / "ffmpeg").write_bytes(b"x")
    await shell.put(tmp_path / "ffmpeg", "/s/bin/ffmpeg")
    assert [block async for block in shell.get("/s/movie.mp4", 3)] == [b"3456", b"789"]
    assert link.asked == [(b"x", "/s/bin/ffmpeg"), ("/s/movie.mp4", "rb")]


async def test_a_file_that_cannot_be_copied_or_read_names_it(tmp_path: Path) -> None:
    shell = SSHShell(Login(Link(fails=asyncssh.SFTPError(4, "no room"))))
    with pytest.raises(ConnectionLost, match="ffmpeg could not be copied to the login node: .*no room"):
        await shell.put(tmp_path / "ffmpeg", "/s/bin/ffmpeg")
    with pytest.raises(ConnectionLost, match="/s/movie.mp4 could not be read to its end: .*no room"):
        [block async for block in shell.get("/s/movie.mp4", 0)]


async def test_closed_it_lets_go_of_all_and_can_begin_anew() -> None:
    login, node, again = Link(), Link(), Link()
    shell = SSHShell(Login(login, again), Login(node))
    await shell.close()
    await shell.inside("r1i1n0")
    await shell.close()
    assert (login.aborted, node.aborted) == (1, 1)
    assert "hello" in await shell.run("echo", 5)
    assert again.asked == [REMOTE_COMMAND]
