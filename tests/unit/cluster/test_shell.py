from __future__ import annotations

import asyncio
import errno
import itertools
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_brayns.cluster.shell import LONG_SECONDS, MOST_COMMANDS, Framed, LocalShell, converse, quote
from airflow_brayns.errors import ConnectionLost, InvalidSetting
from tests.support.airflow import is_alive
from tests.support.bounds import until


async def test_a_banner_is_not_taken_for_an_answer() -> None:
    assert await LocalShell().run("echo hello", 5) == "hello\n"
    framed = Framed("true")
    begin, end = framed._begin, framed._end
    assert framed.read(f"Welcome!\n\n{begin}\nanswer\n\n{end} 0\n".encode(), b"").strip() == "answer"


def test_an_answer_without_its_end_is_a_lost_connection() -> None:
    """`SSHHookAsync.run_command` turns a dead link into an empty success; an empty squeue would read as 'the job is gone'."""
    framed = Framed("squeue")
    for output in (b"", f"\n{framed._begin}\nhalf an ans".encode()):
        with pytest.raises(ConnectionLost, match="cut off"):
            framed.read(output, b"")


async def test_commands_do_not_eat_the_script() -> None:
    assert (await LocalShell().run("cat\necho after", 5)).strip() == "after"


async def test_a_command_that_hangs_is_given_up() -> None:
    with pytest.raises(ConnectionLost, match="longer than"):
        await LocalShell().run("sleep 30", 0.3)


@settings(max_examples=15, deadline=None)
@given(st.text(alphabet=st.characters(blacklist_categories=["Cs"], blacklist_characters="\0\r"), max_size=200))
async def test_any_text_travels_quoted(text: str) -> None:
    printed = await LocalShell().run(f"printf '%s|' {quote(text)}", 5)
    assert printed.rstrip("\n") == f"{text}|" if not text.endswith("\n") else printed.startswith(text[:-1])


def test_nul_is_refused() -> None:
    with pytest.raises(InvalidSetting):
        quote("a\0b")


def test_half_a_character_is_refused_by_name() -> None:
    """A lone surrogate, as JSON can hold one, broke the encoding of the whole script."""
    with pytest.raises(InvalidSetting, match=r"^path: write it .*\n +It cannot be written"):
        quote("a\ud800", "path")


async def test_a_command_that_never_stops_talking_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it was kept until the time-out: a gigabyte a second."""
    monkeypatch.setattr("airflow_brayns.cluster.shell.LARGEST_ANSWER", 1 << 20)
    for command in ("yes", "yes >&2"):
        with pytest.raises(ConnectionLost, match="printed more than"):
            await LocalShell().run(command, 20)


async def test_what_broke_while_a_script_was_sent_is_told_and_not_that_reading_ended() -> None:
    """Of a reader that is cancelled nobody hears: the task would look as if a person had stopped it."""

    class Breaks:
        def write(self, _: bytes) -> None:
            raise OSError("the disk of the login node")

    pipes = SimpleNamespace(stdin=Breaks(), stdout=asyncio.StreamReader(), stderr=asyncio.StreamReader())
    with pytest.raises(OSError, match="the disk"):
        await converse(pipes, b"squeue")


async def test_a_long_script_and_a_long_answer_pass() -> None:
    word = "x" * 3_000_000
    assert await LocalShell().run(f"printf %s {word}", 20) == word


async def test_what_a_script_started_ends_with_it(tmp_path: Path) -> None:
    """Told to end at first, so that it lets go of its lock; then made to."""
    with pytest.raises(ConnectionLost, match="took longer than 2 s"):
        await LocalShell().run(
            f"trap 'echo told >{tmp_path}/told; exit' TERM; sleep 600 & echo $! >{tmp_path}/child; wait", 2
        )
    assert (tmp_path / "told").read_text() == "told\n"
    child = int((tmp_path / "child").read_text())
    until(lambda: not is_alive(child))  # killed at once; the kernel takes it away a moment later


async def test_so_many_commands_run_at_once_and_long_ones_leave_room_for_a_release(tmp_path: Path) -> None:
    """2,000 allocations that timed out together started 2,000 shells to note it."""
    shell = LocalShell()
    counts = f"echo begins >>{tmp_path}/log; sleep 0.1; echo ends >>{tmp_path}/log"
    await asyncio.gather(*(shell.run(counts, 60) for _ in range(3 * MOST_COMMANDS)))
    at_once = list(
        itertools.accumulate(1 if line == "begins" else -1 for line in (tmp_path / "log").read_text().split())
    )
    assert (len(at_once), max(at_once)) == (6 * MOST_COMMANDS, MOST_COMMANDS)
    long = [
        asyncio.create_task(shell.run(f"until [ -e {tmp_path}/go ]; do sleep 0.1; done", LONG_SECONDS + 1))
        for _ in range(2 * MOST_COMMANDS)
    ]
    async with asyncio.timeout(20):
        assert await shell.run("echo released", 60) == "released\n"
    (tmp_path / "go").touch()
    await asyncio.gather(*long)


async def test_a_command_that_cannot_be_started_is_a_lost_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """`OSError` went past all who wait for a cluster that does not answer."""

    async def start(*_: str, **__: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    shell = LocalShell()
    with monkeypatch.context() as patch:
        patch.setattr(asyncio, "create_subprocess_exec", start)
        for _ in range(2 * MOST_COMMANDS):
            with pytest.raises(ConnectionLost, match="starts no command: .*Too many open files") as raised:
                await shell.run("echo", 5)
            assert not raised.value.sent
    assert await shell.run("echo again", 5) == "again\n", "each has given its place back"


async def test_commands_are_counted() -> None:
    shell = LocalShell()
    await shell.run(":", 20), await shell.run(":", 20)
    assert shell.commands == 2


async def test_files_of_this_machine_are_copied_and_read_from_an_offset(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"0123456789")
    await LocalShell().put(tmp_path / "a", str(tmp_path / "b"))
    assert [block async for block in LocalShell().get(str(tmp_path / "b"), 4)] == [b"456789"]
    with pytest.raises(ConnectionLost, match="a could not be copied to .*nowhere/b: No such file"):
        await LocalShell().put(tmp_path / "a", str(tmp_path / "nowhere" / "b"))
    with pytest.raises(ConnectionLost, match="nowhere cannot be read: No such file"):
        [block async for block in LocalShell().get(str(tmp_path / "nowhere"), 0)]


@pytest.mark.parametrize("cut", ["", "banner\n", "BEGIN\nhalf"])
def test_an_answer_without_its_end_is_none(cut: str) -> None:
    framed = Framed("echo")
    begin = framed.text.split()[2]
    with pytest.raises(ConnectionLost, match="cut off before its end; it last said: no such host$"):
        framed.read(f"\n{cut.replace('BEGIN', begin)}".encode(), b"no such host\n")


def test_what_a_login_shell_prints_around_it_is_not_the_answer() -> None:
    framed = Framed("echo")
    begin, end = framed.text.split()[2], framed.text.split()[-2]
    assert framed.read(f"Welcome!\n\n{begin}\nthe answer\n\n{end} 0\nlogout\n".encode(), b"") == "the answer\n"
