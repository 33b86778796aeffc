"""Shells for tests: one that runs nothing and answers as a test says, and one that runs everything in a way of its own."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from airflow_brayns.cluster.shell import Framed
from airflow_brayns.cluster.slurm import SlurmCluster
from airflow_brayns.errors import ConnectionLost

Answer = str | BaseException
Answers = Answer | Callable[[str], Answer | Awaitable[Answer]]


class FakeShell:
    """Runs nothing: keeps what it is told to run, and answers as the test says.

    :param answers: what every script prints; an exception to raise; or a function of the script that gives either.
    :param files: what is on the cluster, by path; `put` adds to it.
    """

    def __init__(self, answers: Answers = "", files: dict[str, bytes] | None = None) -> None:
        self.answers = answers
        self.files = {} if files is None else files
        self.scripts: list[str] = []
        self.timeouts: list[float] = []
        self.commands = 0
        self.closed = 0

    async def run(self, script: str, timeout: float) -> str:
        """See `Shell.run`."""
        self.commands += 1
        self.scripts.append(script)
        self.timeouts.append(timeout)
        answer = self.answers(script) if callable(self.answers) else self.answers
        if not isinstance(answer, str | BaseException):
            answer = await answer
        if isinstance(answer, BaseException):
            raise answer
        return answer

    async def put(self, local: Path, remote: str) -> None:
        """See `Shell.put`."""
        self.files[remote] = local.read_bytes()

    async def get(self, remote: str, offset: int) -> AsyncIterator[bytes]:
        """See `Shell.get`."""
        if remote not in self.files:
            raise ConnectionLost(f"{remote} cannot be read: No such file or directory")
        yield self.files[remote][offset:]

    async def close(self) -> None:
        """See `Shell.close`."""
        self.closed += 1

    def last(self, number: int = 1) -> str:
        """The last lines of the last script: what was asked, behind the functions that it is asked of."""
        return "\n".join(self.scripts[-1].rstrip("\n").split("\n")[-number:])


class ShellThrough(FakeShell):
    """Runs scripts really, by another program than this machine's own `/bin/sh`.

    :param command: a shell, which gets `-s` and then the script on its input.
    :param before: lines of sh in front of every script.
    """

    def __init__(self, command: Sequence[str | Path], before: str = "") -> None:
        super().__init__()
        self.command, self.before = command, before

    async def run(self, script: str, timeout: float) -> str:
        """See `Shell.run`. What the shell does not understand fails the test."""
        framed = Framed(f"{self.before}\n{script}")
        self.commands += 1
        process = await asyncio.create_subprocess_exec(
            *self.command, "-s", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )  # fmt: skip
        output, errors = await asyncio.wait_for(process.communicate(framed.text.encode()), timeout)
        assert not [line for line in errors.decode().splitlines() if "syntax" in line.lower() or "bad" in line.lower()]
        return framed.read(output, errors)


def coded(text: str) -> str:
    """A text as the scripts print it."""
    return base64.b64encode(text.encode()).decode()


def look(
    name: str = "ab-0123456789ab000",
    *,
    word: str = "RUNNING",
    reason: str = "None",
    start: str = "N/A",
    left: str = "1:00:00",
    nodes: Sequence[str] = ("r1i1n0",),
    services: Sequence[str] = (),
    heartbeat: str = "1",
    ended: str | None = None,
    more: str = "",
    answered: bool = True,
    job_id: str = "77",
) -> str:
    """What a look at one allocation, the first of its name, prints.

    :param word: squeue's; empty where it does not know the job.
    :param services: see `service`.
    :param more: further lines about the allocation.
    """
    lines = [f"allocation {name} 1", f"job {job_id} 2026-11-22T10:00:00", f"heartbeat {heartbeat}", more]
    lines += [f"nodes {' '.join(nodes)}"] if nodes else []
    lines += list(services)
    lines += [f"ended {coded(ended)}"] if ended is not None else []
    if word:
        lines.append(
            f"queue {job_id}|{word}|{reason}|{' '.join(nodes)}|comment|{name}-1|2026-11-22T10:00:00|{start}|{left}"
        )
    lines += ["answered" if answered else f"silent {coded('Unable to contact slurm controller')}"]
    return "\n".join(line for line in lines if line) + "\n"


def service(name: str = "brayns1", node: str = "r1i1n0", port: int | None = None, exited: str = "") -> str:
    """A service's lines in a look.

    :param exited: its exit code and why, as its wrapper writes them: `1 the service ended`.
    """
    lines = [f"service {name}", f"node {node}"]
    lines += [f"listening {port}"] if port is not None else []
    lines += [f"exit {coded(exited)}"] if exited else []
    return "\n".join(lines)


def log_of(text: str, service: str = "brayns1", name: str = "ab-0123456789ab000") -> str:
    """New text of a service's log, as a look tells it."""
    return f"log {name} 1 {service} 0 {coded(text)}\n"


def answering(answer: Answers, **options: Any) -> tuple[SlurmCluster, FakeShell]:
    """A cluster of a `FakeShell`."""
    shell = FakeShell(answer)
    return SlurmCluster(shell, state_dir="/s", **options), shell


def in_turn(*answers: str) -> tuple[SlurmCluster, FakeShell]:
    """A cluster that answers one after the other."""
    left = iter(answers)
    return answering(lambda _: next(left))
