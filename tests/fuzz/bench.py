"""A bench on which the real scripts are run by real shells, with a trap for whatever would be executed.

`ab_canary` is a command that leaves a file behind. Slurm's commands, `stat` and ffmpeg are stand-ins that write down their
arguments, separated by NUL, and the input they got.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Self

from airflow_brayns.errors import ConnectionLost, InvalidSetting
from tests.fuzz.cases import CANARY

SHELLS = (["/bin/sh", "-s"], ["bash", "-s"])
RECORDING = ("sbatch", "squeue", "scancel", "srun", "service", "ffmpeg", "stat")
_END = b"end-of-call-5f1e"


@dataclass
class Tally:
    """What a run told.

    :param inputs: hostile values that were put in.
    :param executed: how often something of theirs was run.
    :param refused: how many were refused by name before they reached anything.
    :param findings: what else was wrong.
    """

    inputs: int = 0
    executed: int = 0
    refused: int = 0
    findings: list[str] = field(default_factory=list)

    def find(self, what: str) -> None:
        """Something that must not be."""
        if len(self.findings) < 1000:
            self.findings.append(what[:1500])

    def check(self, holds: object, what: str) -> None:
        """Something that must be."""
        if not holds:
            self.find(what)


@dataclass(frozen=True)
class Call:
    """A stand-in's run.

    :param words: its arguments, the name first.
    :param given: its input.
    :param environment: its variables; of `service` only.
    """

    words: list[bytes]
    given: bytes = b""
    environment: dict[bytes, bytes] = field(default_factory=dict)


class Bench:
    """A folder with the stand-ins first on the PATH; a context manager."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ab-hostile-"))
        self.bin = self.folder / "bin"
        self.bin.mkdir()
        self._traps = self.folder / "executed"
        self._traps.mkdir()
        self._records = self.folder / "records"
        self._records.mkdir()
        self.tally = Tally()
        self._write(CANARY, f': >"{self._traps}/$$"\n')
        for name in RECORDING:
            self._write(name, self._recorder(name))
        self.service = self.bin / "service"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def _write(self, name: str, text: str) -> None:
        (self.bin / name).write_text(f"#!/bin/sh\n{text}")
        (self.bin / name).chmod(0o755)

    def _recorder(self, name: str) -> str:
        record = f'"{self._records}/{name}.$$"'
        lines = [f"printf '%s\\0' {name} \"$@\" >{record}", f"printf '{_END.decode()}\\0' >>{record}"]
        if name == "srun":
            lines.append(f"cat >>{record}")
        if name == "ffmpeg":
            lines.append(f"[ ! -e /dev/fd/3 ] || cat <&3 >>{record}")
            lines.append("echo 'Stream #0:0: Video: png, rgb24, 96x64, 25 fps' >&2")
            lines.append('[ "$#" -lt 1 ] || for last do :; done; case ${last-} in /*) printf \'made\' >"$last" ;; esac')
        if name == "service":
            lines.append(f"cat /proc/$$/environ >>{record}")
        if name == "sbatch":
            lines.append("echo 77")
        if name == "squeue":
            lines = ["exit 0"]
        if name == "stat":
            lines = ['[ "$1" = -L ] || exec /usr/bin/stat "$@"', *lines, "echo 1 2"]
        return "\n".join([*lines, "exit 0", ""])

    @property
    def canary(self) -> str:
        """The command whose run is noticed, by its whole path: a PATH of another kind does not hide it."""
        return str(self.bin / CANARY)

    def run(self, script: str, shell: Sequence[str] = SHELLS[0], **environment: str) -> bytes:
        """What a script prints, read by a shell on its standard input, as the login machine reads it."""
        variables = {"PATH": f"{self.bin}:/usr/bin:/bin", "HOME": str(self.folder), "LC_ALL": "C.UTF-8", **environment}
        done = subprocess.run(
            list(shell), input=script.encode(), capture_output=True, env=variables, cwd=self.folder, timeout=120, check=False
        )  # fmt: skip
        self.count_executed()
        return done.stdout

    def count_executed(self) -> int:
        """How often a canary was run since the last count."""
        found = list(self._traps.iterdir())
        for one in found:
            one.unlink()
        self.tally.executed += len(found)
        return len(found)

    def calls(self, name: str) -> list[Call]:
        """The runs of a stand-in since the last question, in no order."""
        found = []
        for path in self._records.glob(f"{name}.*"):
            words, _, given = path.read_bytes().partition(_END + b"\0")
            path.unlink()
            variables = dict(one.partition(b"=")[::2] for one in given.split(b"\0") if one) if name == "service" else {}
            found.append(Call(words.split(b"\0")[:-1], given, variables))
        return found

    def accepted(self, field_name: str, make: Callable[[], Any], *also: str) -> Any:
        """What is made; None where the value is refused by an error that names the field."""
        try:
            return make()
        except InvalidSetting as error:
            self.tally.refused += 1
            self.tally.check(
                error.field in (field_name, *also), f"{field_name} was refused as {error.field!r}: {error}"
            )
        except ConnectionLost:
            pass  # a shell that answers nothing
        except Exception as error:
            self.tally.find(f"{field_name} was refused with {type(error).__name__}: {str(error)[:300]}")
        return None

    def scratch(self) -> Path:
        """A folder of its own."""
        path = self.folder / secrets.token_hex(4)
        path.mkdir()
        return path


def one_of(rng: Random, values: list[str]) -> str:
    """A value of a pool."""
    return rng.choice(values)


def encodable(value: str) -> bool:
    """Whether a text can be written in UTF-8 at all."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def fits_in_an_environment(environment: dict[str, str]) -> bool:
    """Whether the kernel passes them on."""
    return all(len(os.fsencode(value)) < 100_000 for value in environment.values())
