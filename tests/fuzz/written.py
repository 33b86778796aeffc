"""What is written to be run, cut off: by a full folder while it is written, or afterwards. Nothing that is not whole may run.

The real submission, with a stand-in for sbatch, and the real keeper on what it left. The command of a service is lines of which
each leaves a file: one such file of a command that is not whole is a finding, and none of one that is.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from airflow_brayns.cluster.keeper import KeeperSettings
from airflow_brayns.cluster.local import LocalCluster
from airflow_brayns.cluster.request import AllocationRequest
from airflow_brayns.cluster.shell import LocalShell
from airflow_brayns.cluster.slurm import SlurmCluster
from airflow_brayns.cluster.submission import ServiceCommand
from airflow_brayns.errors import BraynsError

NAME = "ab-0123456789ab000"
AT_ONCE = 4
SECONDS = 20.0  # for the keeper to say what became of the service
_READ = ("command", "index", "port", "port.sed")  # of a service, by whoever starts it
_SBATCH = "#!/bin/sh\necho 77\n"


class _Held(SlurmCluster):
    """Submits to an sbatch that starts nothing; its keeper is the local one, which starts services without srun."""

    def keeper_for(self, *arguments: Any, **more: Any) -> str:
        """The local cluster's."""
        return LocalCluster(self.shell, state_dir=self.state_dir).keeper_for(*arguments, **more)


class Folder:
    """A state folder with one allocation that was submitted, and not yet begun."""

    def __init__(self, rng: Random) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="ab-written-"))
        self.traps, self.bin, self.state = self.root / "traps", self.root / "bin", self.root / "state"
        for one in (self.traps, self.bin):
            one.mkdir()
        (self.bin / "sbatch").write_text(_SBATCH)
        (self.bin / "squeue").write_text("#!/bin/sh\nexit 0\n")
        for one in self.bin.iterdir():
            one.chmod(0o755)
        lines = [f": >{self.traps}/{line} # {'x' * rng.randint(0, 60)}" for line in range(rng.randint(2, 80))]
        self.lines = len(lines)
        self.script = "\n".join([*lines, "exit 0"])

    @property
    def allocation(self) -> Path:
        return self.state / NAME / "1"

    @property
    def ran(self) -> int:
        """How many of the command's lines were run."""
        return len(list(self.traps.iterdir()))

    async def submit(self) -> str:
        """What a submission says of it; empty where it was taken."""
        settings = KeeperSettings(idle_limit=60, start_timeout=60)
        service = ServiceCommand("s1", 1, self.script, "0", ())
        try:
            cluster = _Held(LocalShell(), state_dir=str(self.state))
            await cluster.submit(NAME, "try-1", AllocationRequest(), [service], "{}", settings)
        except BraynsError as error:
            return str(error)
        return ""

    def begin(self, copy: Path) -> None:
        """Run the keeper from sbatch's own copy, as Slurm does, until it has said what became of the service."""
        process = subprocess.Popen(
            ["/bin/sh", copy, self.allocation], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env={"PATH": "/usr/bin:/bin", "HOME": str(self.root)}, start_new_session=True,
        )  # fmt: skip
        end = time.monotonic() + SECONDS
        try:
            while not self.told() and process.poll() is None and time.monotonic() < end:
                time.sleep(0.05)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            for pid in _processes(self.root):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.wait(10)

    def told(self) -> bool:
        return (self.allocation / "services" / "s1" / "exit").exists() or (self.allocation / "ended").exists()

    def close(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)


def _processes(root: Path) -> Iterator[int]:
    for found in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"{root}/".encode() in (found / "cmdline").read_bytes():
                yield int(found.name)


@contextlib.contextmanager
def _room(size: int | None) -> Iterator[None]:
    """Files of no more than so many bytes, as a quota that is nearly used up; the shells' writes fail with `File too large`."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    if size is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def _cut(rng: Random, folder: Folder) -> str:
    """Cut one of the files that are read, anywhere; which, and what was lost. Empty where nothing was."""
    service = folder.allocation / "services" / "s1"
    path = rng.choice([service / name for name in _READ] + [folder.allocation / "keeper.sh"])
    whole = path.read_bytes() if path.exists() else b""
    content = whole if path.name in ("command", "keeper.sh") else whole.rstrip(b"\n")  # the others are read as lines
    if not content:
        return ""
    length = rng.randrange(len(content))
    path.write_bytes(whole[:length])
    return f"{path.name} of {len(whole)} bytes cut to {length}"


def written(rng: Random, number: int = AT_ONCE) -> tuple[int, list[str]]:
    """Submissions whose files are cut off, in several ways, and one that is whole."""
    findings = []
    path = os.environ["PATH"]
    for one in range(number):
        folder = Folder(rng)
        os.environ["PATH"] = f"{folder.bin}:{path}"
        how = ("whole", "cut", "full")[one] if one < 3 else rng.choice(("cut", "full"))
        try:
            findings += [f"{one}: {finding}" for finding in _one(rng, folder, how)]
        finally:
            os.environ["PATH"] = path
            folder.close()
    return number, findings


def _one(rng: Random, folder: Folder, how: str) -> Iterator[str]:
    room = rng.choice((0, 10, rng.randint(1, 512), rng.randint(1, 60_000))) if how == "full" else None
    with _room(room):
        refused = asyncio.run(folder.submit())
    if folder.ran:
        yield f"{folder.ran} lines ran before a job was there"
    if how == "full" and refused:
        return
    if refused:
        yield f"{how}: a submission with room was refused: {refused[:300]}"
        return
    copy = folder.root / "spooled"
    shutil.copyfile(folder.allocation / "keeper.sh", copy)
    lost = _cut(rng, folder) if how == "cut" else ""
    folder.begin(copy)
    whole = (folder.allocation / "services" / "s1" / "command").read_bytes() == f"{folder.script}\n".encode()
    if lost and folder.ran:
        yield f"{lost}: {folder.ran} of {folder.lines} lines ran"
    elif how == "full" and folder.ran not in (0, folder.lines):
        yield f"room for {room} bytes: {folder.ran} of {folder.lines} lines ran"
    elif how == "whole" and (not whole or folder.ran != folder.lines):
        yield f"of a whole command {folder.ran} of {folder.lines} lines ran: the fuzzer sees nothing"
