"""The shell a cluster is spoken to through: one POSIX script in, its output out, or an error; never silence taken for an answer."""

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

from airflow_brayns.errors import ConnectionLost, InvalidSetting

REMOTE_COMMAND = "/bin/sh -s"
BLOCK = 1 << 20
LARGEST_ANSWER = 1 << 28  # bytes; a manifest of a million frames has as many


class Shell(Protocol):
    """Runs POSIX scripts where the scheduler's commands are."""

    commands: int

    async def run(self, script: str, timeout: float) -> str:
        """Run `script` and give back what it printed.

        :param script: POSIX sh; read on stdin, so neither the login shell nor a limit on arguments matters.
        :param timeout: seconds for the whole command.
        :raises ConnectionLost: it could not be run to its end.
        """
        ...

    async def put(self, local: Path, remote: str) -> None:
        """Copy a file to the cluster.

        :raises ConnectionLost: it could not be copied whole.
        """
        ...

    def get(self, remote: str, offset: int) -> AsyncIterator[bytes]:
        """The bytes of a file on the cluster from an offset on.

        :raises ConnectionLost: they ended before the file did.
        """
        ...

    async def close(self) -> None:
        """Let go of the connection; a later `run` opens a new one."""
        ...


def quote(value: str, field: str = "value") -> str:
    """A value as one word of POSIX sh.

    :param field: what the value is called in errors.
    :raises InvalidSetting: for a NUL, which no shell can carry, and for half a character, which no encoding can.
    """
    if "\0" in value:
        raise InvalidSetting(field, "contains a NUL character, which cannot be passed to a cluster")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InvalidSetting(field, f"cannot be written in UTF-8: {error.reason}") from None
    return shlex.quote(value)


class Framed:
    """A script between two sentinels, so that a banner, a `.bashrc` or a dead link is not taken for an answer."""

    def __init__(self, script: str) -> None:
        mark = secrets.token_hex(8)
        self._begin, self._end = f"begin-{mark}", f"end-{mark}"
        self.text = f"printf '\\n%s\\n' {self._begin}\n(\n{script}\n) </dev/null\nprintf '\\n%s %s\\n' {self._end} $?\n"

    def read(self, output: bytes, errors: bytes) -> str:
        """The script's own output.

        :raises ConnectionLost: when the end sentinel is missing.
        """
        text = output.decode("utf-8", "replace")
        begin = text.find(f"\n{self._begin}\n")
        end = text.rfind(f"\n{self._end} ")
        if begin < 0 or end < begin:
            seen = (errors.decode("utf-8", "replace") or text).strip()[-500:]
            raise ConnectionLost(
                "The command on the cluster was cut off before its end" + (f"; it last said: {seen}" if seen else ".")
            )
        return text[begin + len(self._begin) + 2 : end]


async def _end(process: asyncio.subprocess.Process) -> None:
    """Ask a script and its commands to end, so that it lets go of its lock; then make them."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        try:
            async with asyncio.timeout(1):
                await process.communicate()  # to the pipes' ends, or they outlive the loop
            return
        except TimeoutError:
            continue


async def converse(process: Any, script: bytes) -> tuple[bytes, bytes]:
    """What a script prints and what it complains of.

    :param process: asyncio's or asyncssh's, with pipes.
    :raises ConnectionLost: it is more than anything of ours has to say.
    """
    reading = [asyncio.create_task(_read_some(stream)) for stream in (process.stdout, process.stderr)]
    try:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it ended before it was told all
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
    """Runs scripts on this machine."""

    def __init__(self) -> None:
        self.commands = 0

    async def run(self, script: str, timeout: float) -> str:
        """See `Shell.run`."""
        framed = Framed(script)
        self.commands += 1
        process = await asyncio.create_subprocess_exec(
            "/bin/sh", "-s",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip
        try:
            async with asyncio.timeout(timeout):
                output, errors = await converse(process, framed.text.encode())
                await process.wait()
        except TimeoutError:
            raise ConnectionLost(f"A command on this machine took longer than {timeout:.0f} s.") from None
        finally:
            if process.returncode is None:
                await _end(process)
        return framed.read(output, errors)

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
        """Nothing to let go of."""
