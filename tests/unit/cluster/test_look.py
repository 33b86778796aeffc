"""A look at thousands of allocations: no process for what has nothing new, and a bound for what has."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from airflow_brayns.cluster.answers import read_status
from airflow_brayns.cluster.scripts import script_of
from tests.benchmarks.look import LOG, lay_out, name_of

SHELLS = {"dash": ["dash"], "busybox": ["busybox", "sh"], "bash": ["bash", "--posix"]}
MOST_OF_ONE, MOST_OF_ALL = 1 << 16, 1 << 23  # bytes of logs in a look


@pytest.fixture(params=sorted(SHELLS))
def shell(request: pytest.FixtureRequest) -> list[str]:
    command = SHELLS[request.param]
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed (apt-get install {command[0]})")
    return command


def run(shell: list[str], folder: Path, calls: str) -> str:
    """What the calls print in a state folder of `lay_out`'s."""
    path = f"{folder}/bin:{os.environ['PATH']}"
    script = f"scheduler=slurm\nstate_dir='{folder}/state'\n{script_of('look')}{calls}\n"
    done = subprocess.run(
        [*shell, "-s"], input=script, capture_output=True, text=True, env={**os.environ, "PATH": path}, check=True
    )
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize("running", [False, True])
def test_what_nearly_all_allocations_have_is_told_without_a_process(
    shell: list[str], tmp_path: Path, running: bool
) -> None:
    """A thousand waits took 5.4 s of the login node's processor for each look, nearly all of it for ten processes a wait."""
    lay_out(tmp_path, 3, running=running)
    names = [name_of(number) for number in range(3)]
    described = "\n".join(f"describe {name} 1 1\nis_as_known {name} 1 1 9" for name in names)
    bare = run(shell, tmp_path, f"clock=1795000000\nPATH=/nowhere\nhash -r\n{described}\nPATH={os.environ['PATH']}")
    whole = run(shell, tmp_path, "\n".join(f"describe {name} 1 1" for name in names))
    assert bare == whole
    found = read_status(whole)
    assert [one.job_id for one in found.values()] == ["100000", "100001", "100002"]
    assert {one.services[0].port for one in found.values()} == {5000 if running else None}
    assert {one.nodes for one in found.values()} == {("r1i1n0",) if running else ()}
    assert {one.owner for one in found.values()} == {"0123456789ab"}


def test_a_folder_without_a_command_is_no_service_and_its_lines_are_no_neighbours(
    shell: list[str], tmp_path: Path
) -> None:
    lay_out(tmp_path, 1, running=True)
    half = tmp_path / "state" / name_of(0) / "1" / "services" / "brayns2"
    half.mkdir()
    (half / "node").write_text("r1i1n9\n")
    (half / "exit").write_text("3 it has ended\n")
    [found] = read_status(run(shell, tmp_path, f"describe {name_of(0)} 1 1")).values()
    assert [(one.name, one.node, one.port, one.exit_code) for one in found.services] == [
        ("brayns1", "r1i1n0", 5000, None)
    ]


def test_that_somebody_waits_is_noted_where_it_is_asked_for(shell: list[str], tmp_path: Path) -> None:
    lay_out(tmp_path, 3, running=True)
    leases = [tmp_path / "state" / name_of(number) / "1" / "lease" for number in range(3)]
    leases[0].write_text("1000000000\n")
    leases[1].write_text("1000000000\n")
    leases[2].unlink()
    before = time.time()
    run(shell, tmp_path, f"describe {name_of(0)} 1 1\ndescribe {name_of(1)} 1 0\ndescribe {name_of(2)} 1 1")
    assert before - 1 <= int(leases[0].read_text()) <= time.time()
    assert leases[1].read_text() == "1000000000\n"
    assert before - 1 <= int(leases[2].read_text()) <= time.time()


def test_logs_are_told_from_where_they_are_known_and_at_most_so_much_of_each(shell: list[str], tmp_path: Path) -> None:
    lay_out(tmp_path, 4, running=True)
    logs = [tmp_path / "state" / name_of(number) / "1" / "services" / "brayns1" / "log" for number in range(4)]
    logs[1].write_bytes(LOG + b"new\n")
    logs[2].write_bytes(b"x" * 100_000)
    logs[3].unlink()
    offsets = [len(LOG), len(LOG), 10, 0]
    asked = " ".join(f"'{name_of(number)} 1 brayns1 {offset}'" for number, offset in enumerate(offsets))
    told = [line.split(" ") for line in run(shell, tmp_path, f"logs_since {asked}").splitlines()]
    assert [(name, offset) for _, name, _, _, offset, _ in told] == [(name_of(1), str(len(LOG))), (name_of(2), "10")]
    assert base64.b64decode(told[0][5]) == b"new\n"
    assert base64.b64decode(told[1][5]) == b"x" * MOST_OF_ONE


def test_all_logs_together_are_bounded_and_the_rest_comes_next(tmp_path: Path) -> None:
    """From about 3,500 waits with much new of each a look passed what an answer may have, and no offset ever moved on."""
    waits = MOST_OF_ALL // MOST_OF_ONE + 20
    lay_out(tmp_path, waits, running=True)
    for number in range(waits):
        (tmp_path / "state" / name_of(number) / "1" / "services" / "brayns1" / "log").write_bytes(b"y" * MOST_OF_ONE)
    known = dict.fromkeys(range(waits), 0)
    for most in (MOST_OF_ALL, 20 * MOST_OF_ONE):
        asked = " ".join(f"'{name_of(number)} 1 brayns1 {offset}'" for number, offset in known.items())
        told = [line.split(" ") for line in run(["sh"], tmp_path, f"logs_since {asked}").splitlines()]
        assert sum(len(base64.b64decode(one[5])) for one in told) == most
        for one in told:
            known[int(one[1][3:], 16)] += MOST_OF_ONE
    assert set(known.values()) == {MOST_OF_ONE}


def test_a_log_may_lie_below_a_folder_with_a_space(shell: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "a folder's"
    folder.mkdir()
    lay_out(folder, 1, running=True)
    script = (
        f"scheduler=slurm\nstate_dir=\"{folder}/state\"\n{script_of('look')}logs_since '{name_of(0)} 1 brayns1 0'\n"
    )
    done = subprocess.run([*shell, "-s"], input=script, capture_output=True, text=True, check=True)
    assert base64.b64decode(done.stdout.split(" ")[5]) == LOG


def test_an_answer_of_thousands_is_read_once_through() -> None:
    """Each allocation looked through all jobs: 10,000 of them took minutes."""
    number = 4000
    lines = [f"allocation {name_of(one)} 1\njob {one} s\n" for one in range(number)]
    queue = [f"queue {one}|PENDING|Priority|||{name_of(one)}-1|s|N/A|59:00\n" for one in range(number)]
    began = time.process_time()
    found = read_status("".join([*lines, *queue, "answered\n"]))
    assert all(one.job is not None for one in found.values())
    assert time.process_time() - began < 3, "0.1 s; with all jobs for each, 16 million comparisons"
