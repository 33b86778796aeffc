"""The table of lines by which the scripts answer, held against the scripts, against what they print, and against its page."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

import airflow_brayns
from airflow_brayns.cluster.allocation import AllocationStatus
from airflow_brayns.cluster.extension import ask_for_time
from airflow_brayns.cluster.files import identity
from airflow_brayns.cluster.local import LocalCluster
from airflow_brayns.cluster.protocol import ANSWERS, FILES, Line, lines, read
from airflow_brayns.cluster.render_lease import confirm_leases, lease_of, take_leases
from airflow_brayns.cluster.request import AllocationRequest
from airflow_brayns.cluster.scripts import COMMANDS, script_of
from airflow_brayns.cluster.shell import LocalShell
from airflow_brayns.cluster.submission import ServiceCommand, TlsFiles
from airflow_brayns.cluster.waiter import Waiter
from airflow_brayns.errors import InvalidSetting, Occupied
from airflow_brayns.rendering.frames_script import ANSWERS as FRAMES
from airflow_brayns.rendering.frames_script import frames_script

PACKAGE = Path(airflow_brayns.__file__).parent
PAGE = (PACKAGE.parent / "docs" / "protocol.rst").read_text()
NAME = "ab-0123456789abcde"
_FORMAT = re.compile(
    r"printf '(?:\\n)?((?:[a-z]+[^'\n]*?\\n)+)'|echo ([a-z]+)\b|stat -L -c '([^']*)'|sed 's/\^/([a-z]+) /'|awk '\{ printf \"([a-z]+) ",
    re.MULTILINE,
)


def printed(script: str) -> set[str]:
    """The words with which a script's lines begin."""
    formats = ["".join(found).removesuffix("\\n") for found in _FORMAT.findall(script)]
    words = {line.split(" ")[0] for text in formats for line in text.split("\\n")}
    keys = re.findall(r"for key in ([a-z ]+); do .*printf '%s %s", script)
    return {word for word in words if word.isalpha()} | set(" ".join(keys).split())


@pytest.mark.parametrize("command", ANSWERS)
def test_a_command_prints_the_lines_that_it_is_said_to(command: str) -> None:
    on_node = script_of("held") if command == "find" else ""
    assert set(ANSWERS[command]) <= printed(script_of(command) + on_node)


def test_no_script_prints_another_line() -> None:
    known = {word for kinds in ANSWERS.values() for word in kinds}
    for command in (*ANSWERS, "held"):
        assert printed(script_of(command)) <= known
    assert printed(frames_script("ffmpeg", "check")) == set(FRAMES)


def test_what_a_script_prints_is_read_by_the_table_alone() -> None:
    """A reader of its own has its own form of a line, which no test holds against the script."""
    by_hand = re.compile(r"answer\w*\.(split|splitlines|partition)\(|\bline\.(split|partition|startswith)\(")
    readers = {
        f"{path.relative_to(PACKAGE)}: {found[0]}"
        for room in ("cluster", "rendering")
        for path in (PACKAGE / room).glob("*.py")
        for found in by_hand.finditer(path.read_text())
    }
    assert readers == {
        "cluster/protocol.py: answer.split(",
        "cluster/protocol.py: line.partition(",
        "cluster/answers.py: line.split(",  # squeue's
    }


def test_the_page_tells_of_each_line_and_each_file() -> None:
    """Whoever looks into a state folder, or reads what a command printed, has that page alone."""
    kinds = [str(line) for kinds in (*ANSWERS.values(), FRAMES) for line in kinds.values()] + list(FILES)
    assert [kind for kind in kinds if f"``{kind}``" not in PAGE] == []


def test_a_line_of_another_form_is_passed_over() -> None:
    kinds = lines("log NAME N BYTES*", "answered", "nodes NODES...")
    told = "log a 1 eA==\nlog a 1\nlog a 1 2 3\nanswered yes\nanswered\nnodes a b\nnodes\nelse\n"
    assert list(read(kinds, told)) == [
        ("log", ["a", "1", "eA=="]), ("answered", []), ("nodes", ["a b"]), ("nodes", [""]),
    ]  # fmt: skip
    assert str(Line.of("log NAME N")) == "log NAME N"


class Overheard(LocalShell):
    """Runs scripts, and keeps what they answered."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[tuple[str, str]] = []

    async def run(self, script: str, timeout: float) -> str:
        answer = await super().run(script, timeout)
        command = max((name for name in COMMANDS if script_of(name) in script), key=lambda name: len(script_of(name)))
        self.heard.append((command, answer))
        return answer


@pytest.mark.slow
async def test_all_that_is_said_in_the_life_of_an_allocation_is_of_the_table(tmp_path: Path) -> None:
    shell = Overheard()
    cluster = LocalCluster(shell, state_dir=str(tmp_path))
    program = "import socket,time\ns=socket.create_server(('127.0.0.1',0))\nprint('listening on',s.getsockname()[1],flush=True)\ntime.sleep(99)"
    service = ServiceCommand("s1", 1, f'exec python3 -c "{program}"', "0", (r"s/^listening on \([0-9]*\)$/\1/p",))
    one = await cluster.submit(NAME, "me", AllocationRequest(nodes=2), [service], about="{}", tls=TlsFiles("k", "c"))
    try:
        assert (await cluster.submit(NAME, "you", AllocationRequest(nodes=2), [service])).adopted
        async with asyncio.timeout(60):
            while not (status := (await cluster.look([Waiter(NAME, 1)], patience=1))[one.key]).services[0].port:
                pass
        await cluster.look([Waiter(NAME, 1, offsets={"s1": 0})])
        port = status.services[0].port or 0
        assert await cluster.service_at("localhost", port)
        await cluster.certificate_at("localhost", port)
        await cluster.hosts("localhost", ["slot1"], direct=False)
        [(listed,), _] = await cluster.survey()
        assert listed.silent is not None, "the keeper has shown itself"
        assert listed.silent < 60
        await cluster.renew(NAME, 1)
        await ask_for_time(cluster, NAME, 3600, "2026-11-27T12:00:00+00:00")
        await take_leases(cluster, [lease_of(one)], "me", "a movie")
        await confirm_leases(cluster, [lease_of(one)], "else")
        with pytest.raises(Occupied):
            await take_leases(cluster, [lease_of(one)], "you", "another movie")
        await cluster.add_service(one, ServiceCommand("s2", 2, "exit 3", "0", ()))
        await cluster.add_service(one, ServiceCommand("s2", 2, "exit 3", "0", ()))
        await cluster.stop_service(one, "s2")
        with pytest.raises(InvalidSetting):
            await cluster.stop_service(one, "s3")
        assert await identity(cluster, [__file__, str(tmp_path / "none")])
        assert not await cluster.reap(AllocationStatus(NAME, 1, owner="else"))
        assert await cluster.cancel(NAME, "else") == 0
        kept = {
            str(file.relative_to(tmp_path / NAME / "1"))
            for file in (tmp_path / NAME / "1").rglob("*")
            if file.is_file()
        }
    finally:
        await cluster.release(NAME, grace=2)
    await cluster.post_mortem(NAME, 1)
    for command, answer in shell.heard:
        said = [line.split(" ")[0] for line in answer.split("\n") if line]
        assert [word for word, _ in read(ANSWERS[command], answer)] == said
    known = [re.compile(re.escape(file).replace("SERVICE", "[^/]+").replace("TOKEN", ".+")) for file in FILES]
    for file in kept:
        assert any(pattern.fullmatch(file.removesuffix(".room")) for pattern in known), file
