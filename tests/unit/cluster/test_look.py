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
from airflow_brayns.cluster.waiter import Waiter, question
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
        [*shell, "-s"], input=script, capture_output=True, text=True, env={**os.environ, "PATH": path}, check=True, timeout=120
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize("running", [False, True])
def test_what_nearly_all_allocations_have_is_told_without_a_process(
    shell: list[str], tmp_path: Path, running: bool
) -> None:
    """A thousand waits took 5.4 s of the login node's processor for each look, nearly all of it for ten processes a wait."""
    lay_out(tmp_path, 3, running=running)
    names = [name_of(number) for number in range(3)]
    described = "\n".join(f"tell {name} 1 1 2 s 5\nis_as_known {name} 1 1 9" for name in names)
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


def test_a_look_tells_each_wait_what_it_asks_for(shell: list[str], tmp_path: Path) -> None:
    """Who knows nothing yet is told of all logs and of the certificate; who knows something, of what is new; all, of the queue."""
    lay_out(tmp_path, 3, running=True)
    folders = [tmp_path / "state" / name_of(number) / "1" for number in range(3)]
    for folder in folders:
        (folder / "tls").mkdir()
        (folder / "tls" / "cert.pem").write_text("PEM\n")
    (folders[1] / "services" / "brayns1" / "log").write_bytes(LOG + b"new\n")
    waits = [
        Waiter(name_of(0), 1, known=2),
        *(Waiter(name_of(one), 1, known=2, offsets={"brayns1": len(LOG)}) for one in (1, 2)),
    ]
    found = list(read_status(run(shell, tmp_path, question(waits, 0, 0.2))).values())
    assert [one.certificate for one in found] == ["PEM\n", "", ""]
    assert [base64.b64decode(one.services[0].log) for one in found] == [LOG, b"new\n", b""]
    assert [one.job is not None and one.answered for one in found] == [True] * 3


@pytest.mark.parametrize("known", [1, 2])
def test_a_look_waits_only_where_nothing_is_new(shell: list[str], tmp_path: Path, known: int) -> None:
    lay_out(tmp_path, 2, running=True)
    waits = [Waiter(name_of(0), 1, known=2), Waiter(name_of(1), 1, known=known)]
    slept = tmp_path / "slept"
    clock = "now() { cat $scratch/time; }\necho 1000 >$scratch/time\n"
    clock += f"sleep() {{ echo $(($(now) + 1)) >$scratch/time; echo $1 >>{slept}; }}\n"
    slept.touch()
    told = run(shell, tmp_path, clock + question(waits, 3, 0.3))
    assert slept.read_text().split() == (["0.3"] * 3 if known == 2 else [])
    assert len(read_status(told)) == 2


@pytest.mark.parametrize("patience", [0, 5])
def test_whom_a_look_has_no_time_for_it_leaves_out(shell: list[str], tmp_path: Path, patience: int) -> None:
    """A look at thousands of folders on a slow file system took longer than its time limit: all of it was lost, each time."""
    lay_out(tmp_path, 40, running=True)
    waits = [Waiter(name_of(one), 1, known=2, offsets={"brayns1": 0}) for one in range(40)]
    slow = "now() { cat $scratch/time; }\ntake() { echo $(($(now) + 1)) >$scratch/time; }\necho 1000 >$scratch/time\n"
    slow += "value() { take; value=; }\nis_as_known() { take; }\n"  # each folder takes seconds
    found = read_status(run(shell, tmp_path, slow + question(waits, patience, 0.2)))
    assert list(found) == [(name_of(one), 1) for one in range(8)]
    assert all(one.services[0].log and one.answered for one in found.values()), "of those that are told of, all is told"


def test_logs_have_so_much_time_and_the_rest_comes_next(shell: list[str], tmp_path: Path) -> None:
    """Each log that has grown takes five processes: with 8,000 of them a look took longer than its time limit."""
    lay_out(tmp_path, 40, running=True)
    slow = "now() { cat $scratch/time; }\necho 1000 >$scratch/time\nlog_since() { echo $(($(now) + 1)) >$scratch/time; echo log; }\n"
    asked = " ".join(f"'{name_of(one)} 1 brayns1 0'" for one in range(40))
    assert run(shell, tmp_path, f"{slow}logs_since {asked}") == "log\n" * 8


def test_an_end_of_any_length_is_told_of_in_few_words(shell: list[str], tmp_path: Path) -> None:
    """What one allocation's folder holds is a part of an answer that all who wait share."""
    lay_out(tmp_path, 1, running=True)
    folder = tmp_path / "state" / name_of(0) / "1"
    for file in (folder / "ending", folder / "ended", folder / "services" / "brayns1" / "exit"):
        file.write_text("1 " + "x" * 10_000_000)
    answer = run(shell, tmp_path, question([Waiter(name_of(0), 1, offsets={"brayns1": 0})], 0, 0.2))
    assert len(answer) < 30_000
    [found] = read_status(answer).values()
    assert found.ended is not None
    assert found.ended.startswith("1 xxx")
    assert found.services[0].exit_code == 1


def test_a_newcomers_logs_have_the_same_bound(tmp_path: Path) -> None:
    """Each service's log came from its beginning, however many services there were."""
    lay_out(tmp_path, 1, running=True)
    services = tmp_path / "state" / name_of(0) / "1" / "services"
    for number in range(MOST_OF_ALL // MOST_OF_ONE + 20):
        (services / f"s{number}").mkdir()
        (services / f"s{number}" / "log").write_bytes(b"y" * MOST_OF_ONE)
    told = run(["sh"], tmp_path, question([Waiter(name_of(0), 1)], 0, 0.2))
    sizes = [len(base64.b64decode(line.split(" ")[5])) for line in told.splitlines() if line.startswith("log ")]
    assert 0 < sum(sizes) <= MOST_OF_ALL


def test_an_answer_of_thousands_is_read_once_through() -> None:
    """Each allocation looked through all jobs: 10,000 of them took minutes."""
    number = 4000
    lines = [f"allocation {name_of(one)} 1\njob {one} s\n" for one in range(number)]
    queue = [f"queue {one}|PENDING|Priority|||{name_of(one)}-1|s|N/A|59:00\n" for one in range(number)]
    began = time.process_time()
    found = read_status("".join([*lines, *queue, "answered\n"]))
    assert all(one.job is not None for one in found.values())
    assert time.process_time() - began < 3, "0.1 s; with all jobs for each, 16 million comparisons"
