"""The shell that a cluster is spoken to through: one POSIX script in, its output out, or an error. Silence is never
taken for an answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shlex
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Protocol

from airflow_brayns.cluster.places import Places
from airflow_brayns.errors import ConnectionLost, InvalidSetting, reason_of

REMOTE_COMMAND = "/bin/sh -s"
BLOCK = 1 << 20
# A command that is given more may take long, as a step of a job or the check of a large movie's frames; submitting and releasing are given less.
LONG_SECONDS = 120.0
MOST_COMMANDS, MOST_LONG = 8, 6  # of one cluster at once, and how many of them may take long
LARGEST_ANSWER = 1 << 28  # bytes; the manifest of a million frames has as many


class Shell(Protocol):
    """An interface: it runs POSIX scripts where the scheduler's commands are, and copies files there and back."""

    commands: int

    async def run(self, script: str, timeout: float) -> str:
        """Run a script to its end, and return what it printed.

        :param script: POSIX sh; read on stdin, so neither the login shell nor a limit on arguments matters.
        :param timeout: seconds for the whole command.
        :raises ConnectionLost: the script could not be run to its end.
        """
        ...

    async def put(self, local: Path, remote: str) -> None:
        """Copy a file of this machine to the cluster.

        :raises ConnectionLost: the file could not be copied whole.
        """
        ...

    def get(self, remote: str, offset: int) -> AsyncIterator[bytes]:
        """Yield the bytes of a file on the cluster, from an offset on.

        :raises ConnectionLost: the bytes ended before the file did.
        """
        ...

    async def close(self) -> None:
        """Close the connection; a later `run` opens a new one."""
        ...


def quote(value: str, field: str = "value") -> str:
    """Quote a value as one word of POSIX sh.

    :param field: what the value is called in errors.
    :raises InvalidSetting: the value holds a NUL, which no shell can carry, or half a character, which no encoding can.
    """
    if "\0" in value:
        raise InvalidSetting(field, "It cannot be passed to a cluster.", remedy="take the NUL character out.")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InvalidSetting(
            field, f"It cannot be written in UTF-8: {error.reason}.", remedy="write it in whole characters."
        ) from None
    return shlex.quote(value)


class Framed:
    """A script between two sentinels, so that a banner, a `.bashrc` or a dead link is not taken for an answer."""

    def __init__(self, script: str) -> None:
        mark = secrets.token_hex(8)
        self._begin, self._end = f"begin-{mark}", f"end-{mark}"
        self.text = f"printf '\\n%s\\n' {self._begin}\n(\n{script}\n) </dev/null\nprintf '\\n%s %s\\n' {self._end} $?\n"

    def read(self, output: bytes, errors: bytes) -> str:
        """The script's own output.

        :raises ConnectionLost: the end sentinel is missing.
        """
        text = output.decode("utf-8", "replace")
        begin = text.find(f"\n{self._begin}\n")
        end = text.rfind(f"\n{self._end} ")
        if begin < 0 or end < begin:
            seen = (errors.decode("utf-8", "replace") or text).strip()[-500:]
            told = "The command on the cluster was cut off before its end" + (
                f"; it last said: {seen}" if seen else "."
            )
            if begin < 0:
                told = (
                    "Nothing began on the cluster. If it is so each time, the account's start files (~/.bashrc) end the shell, or put "
                    f"another in its place: they may do so only for people, where $- has an i. {told}"
                )
            raise ConnectionLost(told)
        return text[begin + len(self._begin) + 2 : end]


async def _end(process: asyncio.subprocess.Process) -> None:
    """End a script's process and its commands: asked first, so that the script removes its lock, and killed after that."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        try:
            async with asyncio.timeout(1):
                await process.communicate()  # the pipes are read to their ends, or they outlive the loop
            return
        except TimeoutError:
            continue


async def converse(process: Any, script: bytes) -> tuple[bytes, bytes]:
    """Give a process its script, and return what it printed on stdout and on stderr.

    :param process: a process of asyncio's or asyncssh's, with pipes.
    :raises ConnectionLost: it printed more than `LARGEST_ANSWER`, which is more than any script of ours has to say.
    """
    reading = [asyncio.create_task(_read_some(stream)) for stream in (process.stdout, process.stderr)]
    try:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the process ended before it had read all
            process.stdin.write(script)
            await process.stdin.drain()
            process.stdin.write_eof()
        output, errors = await asyncio.gather(*reading)
        return output, errors
    finally:
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)


async def _read_some(stream: Any) -> bytes:
    found = bytearray()
    while block := await stream.read(BLOCK):
        found += block
        if len(found) > LARGEST_ANSWER:
            raise ConnectionLost(f"A command printed more than {LARGEST_ANSWER >> 20} MiB; it was ended.")
    return bytes(found)


class LocalShell:
    """A shell that runs scripts on this machine, eight at once, of which six may take long."""

    def __init__(self) -> None:
        self._places = Places(MOST_COMMANDS, MOST_LONG)
        self.commands = 0

    async def run(self, script: str, timeout: float) -> str:
        """See `Shell.run`."""
        framed = Framed(script)
        async with self._places.take(slow=timeout > LONG_SECONDS):
            return framed.read(*await self._run(framed.text.encode(), timeout))

    async def _run(self, script: bytes, timeout: float) -> tuple[bytes, bytes]:
        self.commands += 1
        try:
            process = await asyncio.create_subprocess_exec(
                "/bin/sh", "-s",
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
            )  # fmt: skip
        except OSError as error:  # no descriptor, no memory or no process is left
            raise ConnectionLost(f"This machine starts no command: {reason_of(error)}.", sent=False) from error
        try:
            async with asyncio.timeout(timeout):
                output, errors = await converse(process, script)
                await process.wait()
        except TimeoutError:
            raise ConnectionLost(f"A command on this machine took longer than {timeout:.0f} s.") from None
        finally:
            if process.returncode is None:
                await _end(process)
        return output, errors

    async def put(self, local: Path, remote: str) -> None:
        """See `Shell.put`."""
        try:
            await asyncio.to_thread(shutil.copyfile, local, remote)
        except OSError as error:
            raise ConnectionLost(f"{local.name} could not be copied to {remote}: {error.strerror}") from error

    async def get(self, remote: str, offset: int) -> AsyncIterator[bytes]:
        """See `Shell.get`."""
        try:
            file = await asyncio.to_thread(open, remote, "rb")
        except OSError as error:
            raise ConnectionLost(f"{remote} cannot be read: {error.strerror}") from error
        with file:
            file.seek(offset)
            while block := await asyncio.to_thread(file.read, BLOCK):
                yield block

    async def close(self) -> None:
        """See `Shell.close`; there is no connection to close here."""
