"""The files that commands are made of: whole, small, and no function that is called is missing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from airflow_brayns.cluster import scripts
from airflow_brayns.cluster.allocation import Allocation, AllocationStatus, Job
from airflow_brayns.cluster.extension import ask_for_time
from airflow_brayns.cluster.files import identity, install
from airflow_brayns.cluster.render_lease import confirm_leases, lease_of, leave_leases, take_leases
from airflow_brayns.cluster.request import AllocationRequest
from airflow_brayns.cluster.scripts import COMMANDS, file_text, script_of
from airflow_brayns.cluster.shell import LocalShell
from airflow_brayns.cluster.slurm import SlurmCluster
from airflow_brayns.cluster.submission import ServiceCommand, TlsFiles
from airflow_brayns.cluster.waiter import Waiter
from airflow_brayns.errors import BraynsError
from tests.support.shell_calls import assigned, functions, missing

FILES = sorted({name for files in COMMANDS.values() for name in files})
# Functions that are written for one call: what is to be put into the folder, and sbatch's words.
WRITTEN = {"submit": {"services", "secrets", "request"}}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_defines_every_function_that_it_calls(command: str) -> None:
    text = script_of(command)
    assert missing(text) == WRITTEN.get(command, set())
    defined = functions(text)
    assert sorted(defined) == sorted(set(defined)), "each once"


def test_a_function_that_is_not_sent_is_noticed() -> None:
    """Of every function but those at the end of a chain somebody in its command tells."""
    noticed = set()
    for files in COMMANDS.values():
        for left_out in files:
            noticed |= missing("".join(file_text(name) for name in files if name != left_out))
    for name in (
        "put",
        "jobs_of",
        "check_folder",
        "describe",
        "locked",
        "no_room",
        "classify",
        "read_service",
        "wrap",
    ):
        assert name in noticed


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_one_idea(name: str) -> None:
    lines = file_text(name).splitlines()
    assert lines[0].startswith("# "), "it says what it is about"
    assert len(lines) <= 150


@pytest.mark.parametrize("name", FILES)
def test_a_functions_names_are_its_own_unless_the_file_says_that_they_are_shared(name: str) -> None:
    """A loop's `one` was another function's `one`, and each author had to know all of them."""
    heads = [
        line for file in COMMANDS["keeper"] for line in file_text(file).splitlines() if line.startswith("# Shared: ")
    ]
    heads += [line for line in file_text(name).splitlines() if line.startswith("# Shared: ")]
    shared = set(re.findall(r"[a-z_]+", " ".join(heads).replace("# Shared: ", "")))
    for function, names in assigned(file_text(name)):
        assert names <= shared, function


def test_no_file_lies_there_that_nobody_sends() -> None:
    assert sorted(file.stem for file in Path(scripts.__path__[0]).glob("*.sh")) == FILES


class Keeps(LocalShell):
    """Keeps what it is to run."""

    def __init__(self) -> None:
        super().__init__()
        self.scripts: list[str] = []

    async def run(self, script: str, timeout: float) -> str:
        self.scripts.append(script)
        return "program /bin/program-0\n"

    async def put(self, local: Path, remote: str) -> None:
        pass


NAME = "ab-0123456789ab000"
ONE = Allocation(NAME, 1, "77")
SERVICE = ServiceCommand("s1", 1, "sleep 9", "0", ())
ASKED: dict[str, Any] = {
    "submit": lambda c: c.submit(NAME, "owner", AllocationRequest(), [SERVICE], tls=TlsFiles("key", "certificate")),
    "look": lambda c: c.look([Waiter(NAME, 1), Waiter(NAME, 2, offsets={"s1": 4})], patience=5),
    "service_at": lambda c: c.service_at("node", 5000),
    "hosts": lambda c: c.hosts("cave", ["n1"], direct=False),
    "examine": lambda c: c.examine(NAME, 1, "s1"),
    "renew": lambda c: c.renew(NAME, 1),
    "list_all": lambda c: c.list_all(),
    "survey": lambda c: c.survey(),
    "post_mortem": lambda c: c.post_mortem(NAME, 1),
    "release": lambda c: c.release(NAME),
    "reap": lambda c: c.reap(AllocationStatus(NAME, 1)),
    "end_job": lambda c: c.end_job(Job("77", "RUNNING", "", "", f"{NAME}-1", "", "", None)),
    "cancel": lambda c: c.cancel(NAME, "owner"),
    "take_leases": lambda c: take_leases(c, [lease_of(ONE), lease_of(ONE, "s1")], "me"),
    "confirm_leases": lambda c: confirm_leases(c, [lease_of(ONE)], "me"),
    "leave_leases": lambda c: leave_leases(c, [lease_of(ONE)], "me"),
    "identity": lambda c: identity(c, ["/a"]),
    "run_step": lambda c: c.run_step(ONE, "true", timeout=5),
    "install": lambda c: install(c, Path(__file__)),
    "add_service": lambda c: c.add_service(ONE, SERVICE),
    "stop_service": lambda c: c.stop_service(ONE, "s1"),
    "ask_for_time": lambda c: ask_for_time(c, NAME, 3600, "2026-11-27T12:00:00+00:00"),
}


@pytest.mark.parametrize("asked", ASKED)
async def test_what_is_sent_defines_all_that_it_calls(asked: str) -> None:
    shell = Keeps()
    try:
        await ASKED[asked](SlurmCluster(shell))
    except BraynsError:
        pass  # it was answered with nothing
    assert shell.scripts
    for script in shell.scripts:
        assert not missing(script)


async def test_a_look_sends_no_more_than_it_needs() -> None:
    shell = Keeps()
    await SlurmCluster(shell).look([Waiter(NAME, 1)])
    [script] = shell.scripts
    assert len(script) < 12_000
    assert not {"submit", "step", "end_job"} & set(functions(script))


@pytest.mark.parametrize("command", [one for one in COMMANDS if one != "keeper"])
def test_what_only_readers_need_is_not_sent_with_each_command(command: str) -> None:
    assert "#" in "".join(map(file_text, COMMANDS[command])), "there are comments"
    script_of.cache_clear()  # else `make mutants` sees this test read nothing, where another one has read it before
    assert not [line for line in script_of(command).splitlines() if not line or line.lstrip().startswith("#")]
