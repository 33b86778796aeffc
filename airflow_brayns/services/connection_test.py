"""Whether a connection can work: each thing that it needs is tried, and nothing is allocated."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill

from airflow_brayns.brayns.command import CANNOT_RUN, EXECUTABLE_MISSING, GENERATION_UNKNOWN, SETUP_ENDED, SETUP_FAILED
from airflow_brayns.cluster.answers import check_folder, decode
from airflow_brayns.cluster.cluster import Cluster
from airflow_brayns.cluster.sbatch_errors import refusal
from airflow_brayns.cluster.shell import quote
from airflow_brayns.errors import BraynsError, reason_of
from airflow_brayns.services.settings import ClusterSettings

_NEEDED = ("sbatch", "squeue", "scancel", "scontrol", "srun")
_OPTIONAL = ("sinfo", "sacct")
_CERTIFICATES = ("tls_certificate_file", "tls_private_key_file")
_SETUP_SECONDS, _ALL_SECONDS = 30, 120.0
_TIMED_OUT = 124  # of coreutils' timeout
_NOT_OURS = frozenset(range(126)) - {SETUP_FAILED, SETUP_ENDED, GENERATION_UNKNOWN, _TIMED_OUT}  # 128 is a signal's
_OF_AN_END = re.compile(
    r"\bTerminated$|^airflow-brayns: the shell ended "
)  # what bash, and we, say of one that was ended
_VERSION = re.compile(r"version( \S+)?")
_WOULD_START = re.compile(r"\bJob [0-9]+ to start at ")
_NOT_TAKEN = re.compile(r"(allocation failure|submission failed|sbatch: (error|fatal)): ")
_WIDTH = 116

Told = Sequence[tuple[str, list[str]]]


@dataclass(frozen=True)
class Finding:
    """One thing that was tried.

    :param what: a field of the connection, or what it is about.
    :param good: None where it could not be tried, or is no fault by itself.
    :param remedy: what to do first.
    """

    what: str
    good: bool | None
    text: str
    remedy: str = ""

    def __str__(self) -> str:
        mark = {True: "ok  ", False: "FAIL", None: "-   "}[self.good]
        lines = [f"{mark} {self.what}: {' '.join(self.text.split())}"]
        if self.remedy:
            lines.append(f"     What to do: {self.remedy}.")
        return "\n".join(fill(line, _WIDTH, subsequent_indent="     ", break_on_hyphens=False) for line in lines)


async def try_connection(cluster: Cluster, settings: ClusterSettings, where: str) -> list[Finding]:
    """Try each thing, with all that is tried bounded in time. A cluster that is not reached is the only finding.

    :param where: the machine that is asked, for a person.
    """
    body = "\n".join(_calls(settings))
    try:
        async with asyncio.timeout(_ALL_SECONDS):
            told = await cluster.ask("inspect", body, _ALL_SECONDS)
    except (BraynsError, OSError, TimeoutError) as error:
        field = getattr(error, "field", "") or ("ssh_conn_id" if settings.ssh_conn_id else "scheduler")
        remedy = (
            f"`airflow connections test {settings.ssh_conn_id}` tests the way there" if settings.ssh_conn_id else ""
        )
        return [Finding(field, False, f"{where} does not answer: {reason_of(error)}", remedy)]
    return [
        Finding("reached", True, f"{where} answers"),
        *(_slurm(told, settings) if settings.scheduler == "slurm" else ()),
        *_known_hosts(settings),
        _state_folder(told, settings),
        *_certificates(told, settings, where),
        *_service(told, settings, where),
    ]


def _calls(settings: ClusterSettings) -> Iterator[str]:
    if settings.scheduler == "slurm":
        yield f"programs {' '.join((*_NEEDED, *_OPTIONAL))}"
        if settings.account:
            yield "accounts"
        if settings.partition:
            yield f"partition {quote(settings.partition)}"
        yield "look_at_jobs"
        yield f"tested {' '.join(quote(word) for word in settings.request(1).sbatch_arguments())}"
    yield "kept"
    if settings.tls == "given":
        yield from (f"legible {quote(getattr(settings, field))}" for field in _CERTIFICATES)
    yield f"ran {_SETUP_SECONDS} {quote(settings.service().trial())}"


def _slurm(told: Told, settings: ClusterSettings) -> Iterator[Finding]:
    missing = [fields[0] for word, fields in told if word == "missing"]
    version = next((fields[1] for word, fields in told if word == "program" and fields[0] == "sbatch"), "")
    lacking = [name for name in _NEEDED if name in missing]
    if lacking:
        remedy = "put Slurm's programs on the PATH that ssh gives, or set ssh_conn_id, or scheduler to local"
        yield Finding("scheduler", False, f"not on the PATH: {', '.join(lacking)}", remedy)
        return
    without = "".join(f", without {name}" for name in _OPTIONAL if name in missing)
    yield Finding("scheduler", True, f"{version or 'its programs are there, but do not tell their version'}{without}")
    words = dict(told)
    if unknown := [fields[0] for word, fields in told if word == "unknown"]:
        yield Finding("partition", False, f"there is no {', '.join(unknown)}", "`sinfo -s` lists the partitions")
    elif "known" in words:
        yield Finding("partition", True, str(settings.partition))
    elif settings.partition:
        yield Finding("partition", None, f"{settings.partition} was not looked up: sinfo gives no answer")
    if settings.account:
        yield _account(words.get("accounts"), settings.account)
    if "silent" in words:
        yield Finding(
            "squeue", False, f"gives no listing: {decode(words['silent'][0])}", "try `squeue -u $USER` by hand"
        )
    yield from _tested(words.get("tested"), bool(unknown))


def _account(listed: list[str] | None, account: str) -> Finding:
    if listed is None:
        return Finding("account", None, f"{account} was not looked up: this cluster's accounts cannot be listed")
    yours = sorted(set(decode(listed[0]).split()))
    if account.lower() in map(str.lower, yours):  # Slurm keeps them in lower case
        return Finding("account", True, account)
    return Finding("account", False, f"{account} is none of yours", f"yours are {', '.join(yours)}")


def _tested(answer: list[str] | None, known: bool) -> Iterator[Finding]:
    """What sbatch says of one node with the connection's options.

    :param known: whether a fault of it has been told already.
    """
    if answer is None:
        yield Finding("sbatch --test-only", False, "gave no answer", "try it by hand")
        return
    said = decode(answer[1])
    starts = [line for line in said.splitlines() if _WOULD_START.search(line)]
    # A site's wrapper may end with any code, and say more.
    if starts or (answer[0] == "0" and not _NOT_TAKEN.search(said)):
        told = (starts or said.splitlines() or ["one node"])[-1].replace("sbatch: ", "").strip()
        yield Finding("request", True, f"Slurm would take it: {told}")
    elif not known:
        yield _failed(refusal(said, answer[0]), "request")


def _failed(error: BraynsError, what: str) -> Finding:
    """What an error tells, at the field that it names, else at another one."""
    return Finding(error.field or what, False, f"{error.remedy} {error.why}".strip())


def _state_folder(told: Told, settings: ClusterSettings) -> Finding:
    try:
        check_folder(told)
    except BraynsError as error:
        return _failed(error, "state_dir")
    words = dict(told)
    if "kept" in words:
        return Finding("state_dir", True, f"{words['kept'][0]} can be written and read")
    folder = words.get("unwritable", [settings.state_dir])[0]
    return Finding("state_dir", False, f"{folder} cannot be written", "choose a folder that the nodes see, too")


def _known_hosts(settings: ClusterSettings) -> Iterator[Finding]:
    """The nodes' host keys, which are read where this is run."""
    if settings.node_known_hosts:
        file = Path(settings.node_known_hosts).expanduser()
        good = os.access(file, os.R_OK) and file.is_file()
        remedy = (
            "" if good else "put it on each worker and triggerer, or leave the field empty for the SSH connection's own"
        )
        yield Finding("node_known_hosts", good, f"{file} can{'' if good else 'not'} be read on this machine", remedy)


def _certificates(told: Told, settings: ClusterSettings, where: str) -> Iterator[Finding]:
    """The files of `tls: given` lie on the nodes, and need not be on a login node."""
    legible = {fields[0] for word, fields in told if word == "legible"}
    for field in _CERTIFICATES if settings.tls == "given" else ():
        file = getattr(settings, field)
        if file in legible:
            yield Finding(field, True, f"{file} can be read on {where}")
        else:
            good = False if settings.scheduler == "local" else None
            yield Finding(field, good, f"{file} cannot be read on {where}; the nodes need it")


def _service(told: Told, settings: ClusterSettings, where: str) -> Iterator[Finding]:
    """What `setup` does, and whether the executable is there: on the machine that is asked, since a node would have to be
    allocated for it.
    """
    code, text = dict(told).get("ran", ["", ""])
    said, number = decode(text).strip(), int(code) if code.isdigit() else -1
    last = said.splitlines()[-1] if said else "nothing"
    note = f"on {where}; a node may have another PATH" if settings.scheduler == "slurm" else "on this machine"
    if number == _TIMED_OUT:
        lines = [line for line in said.splitlines() if not _OF_AN_END.search(line)]
        last = lines[-1] if lines else "nothing"
        yield Finding(
            "setup", False, f"not done within {_SETUP_SECONDS} s; it last said: {last}", "see what it waits for"
        )
        return
    version = next((line for line in reversed(said.splitlines()) if _VERSION.fullmatch(line)), "")
    if not settings.setup and not number and not version:
        yield Finding("executable", None, f"was not tried {note}: the start files (~/.bash_profile) end the shell")
        return
    # The trial's own lines end with a version, or with a code of theirs: another is that of what `setup` has put in their
    # place (`exec PROGRAM`), behind which no trap of the shell is run.
    ended = number == SETUP_ENDED or (bool(settings.setup) and not version and number in _NOT_OURS)
    if number == SETUP_FAILED or ended:
        lines = said.splitlines() if number in _NOT_OURS else said.splitlines()[:-1]
        before = " ".join(lines[-3:]) or "nothing"
        how = "ends the shell, so that nothing behind it is run," if ended else "failed"
        yield Finding("setup", False, f"{how} {note}: {before}", "run its lines by hand in `bash -l` there")
        return
    if settings.setup:
        yield Finding("setup", True, "runs without an error")
    if number in (CANNOT_RUN, EXECUTABLE_MISSING):
        remedy = "load its module in `setup`, or give `executable` its whole path"
        yield Finding("executable", False, f"{settings.executable} not found, or cannot be run, {note}: {last}", remedy)
    elif number == GENERATION_UNKNOWN:
        yield Finding("executable", False, last, "set `generation` to 1, 2 or 3")
    elif number:
        yield Finding(
            "executable", False, f"--version ends with exit code {code} {note}: {last}", "run it by hand there"
        )
    else:
        yield Finding("executable", True, f"{settings.executable} is there: {version}")
