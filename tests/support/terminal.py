"""A command on a terminal: what it wrote, and when, on the clock of arrivals."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_TICK = 0.1


@dataclass(frozen=True)
class Shown:
    """What a command wrote to its terminal.

    :param text: all of it, with what moves the cursor.
    :param gap: the longest time without a byte, in seconds, from its start to its end.
    :param late: how much longer than asked the machine let somebody sleep meanwhile, at worst: so much of a gap is the machine's.
    """

    code: int
    text: str
    gap: float
    late: float

    @property
    def lines(self) -> list[str]:
        """As they stand there at the end."""
        return re.sub(r"[^\n]*\x1b\[1G\x1b\[K", "", self.text.replace("\r\n", "\n")).splitlines()


def on_terminal(command: list[str], *, env: Mapping[str, str], cwd: Path, seconds: float) -> Shown:
    """Run a command with a terminal of its own.

    :param seconds: after which it is ended.
    """
    ours, its = pty.openpty()
    late, over = [0.0], threading.Event()

    def sleep() -> None:
        while not over.is_set():
            began = time.monotonic()
            time.sleep(_TICK)
            late.append(time.monotonic() - began - _TICK)

    told, last, gap = bytearray(), time.monotonic(), 0.0
    with subprocess.Popen(
        command, stdin=its, stdout=its, stderr=its, env=env, cwd=cwd, start_new_session=True
    ) as child:
        os.close(its)
        limit = threading.Timer(seconds, child.terminate)
        sleeper = threading.Thread(target=sleep)
        limit.start()
        sleeper.start()
        try:
            while more := _read(ours):
                now = time.monotonic()
                last, gap = now, max(gap, now - last)
                told += more
        finally:
            limit.cancel()
            over.set()
            sleeper.join()
            os.close(ours)
        child.wait()
    return Shown(child.returncode, told.decode(errors="replace"), max(gap, time.monotonic() - last), max(late))


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # its last writer has closed it
        return b""
