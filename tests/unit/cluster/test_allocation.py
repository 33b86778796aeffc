from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_brayns.cluster.allocation import Job, JobState, read_status

ANSWER = """allocation ab-12000 1
job 77 2026-11-22T10:00:00
nodes r1i1n0 r1i1n1
heartbeat 3
owner abc
service brayns1
node r1i1n0
listening 43111
service brayns2
node r1i1n1
exit {exit}
queue 77|RUNNING|None|r1i1n[0-1]|a|b|ab-12000-1|2026-11-22T10:00:00|2026-11-22T10:00:01|1-02:03:04
queue 78|RUNNING|None|r1i1n9|x|ab-12000-2|2026-11-22T10:00:00|N/A|1:00
answered
"""


def read(answer: str, key: tuple[str, int] = ("ab-12000", 1)):
    return read_status(answer)[key]


def test_an_answer_is_read() -> None:
    status = read(ANSWER.format(exit=base64.b64encode(b"1 it broke").decode()))
    assert status.state is JobState.RUNNING
    assert status.nodes == ("r1i1n0", "r1i1n1")
    assert [service.port for service in status.services] == [43111, None]
    assert (status.services[1].exit_code, status.services[1].exit_text) == (1, "it broke")
    assert status.job and status.job.seconds_left == 93784


def test_a_bar_in_the_comment_moves_no_field() -> None:
    job = Job.read("1|PENDING|Priority||with|bars|ab-1-1|t|s|0:00")
    assert job and job.name == "ab-1-1"


def test_an_id_that_was_given_out_again_is_another_job() -> None:
    """After a controller's crash ids come again: name, id and submit time must all agree."""
    answer = ANSWER.format(exit="").replace("ab-12000-1|2026-11-22T10:00:00", "ab-12000-1|2026-11-22T11:11:11")
    assert read(answer).job is None


def test_an_error_is_not_an_empty_answer() -> None:
    silent = ANSWER.format(exit="").replace("answered\n", f"silent {base64.b64encode(b'Unable to contact').decode()}\n")
    silent = "\n".join(line for line in silent.splitlines() if not line.startswith("queue"))
    status = read(silent)
    assert not status.answered
    assert status.state is JobState.UNKNOWN
    assert "Unable to contact" in status.trouble


@given(st.integers(0, 600))
def test_an_answer_cut_anywhere_is_never_believed_to_be_ended(cut: int) -> None:
    whole = ANSWER.format(exit="")
    found = read_status(whole[:cut])
    assert all(status.state is not JobState.ENDED for status in found.values() if not status.answered)


@given(st.text())
def test_any_text_is_read_without_an_error(text: str) -> None:
    read_status(f"allocation ab-1 1\n{text}")
    Job.read(text)


def test_states_of_every_slurm() -> None:
    assert JobState.of("COMPLETING") is JobState.ENDING
    assert JobState.of("CONFIGURING") is JobState.PENDING
    for word in ("NODE_FAIL", "TIMEOUT", "PREEMPTED", "CANCELLED", "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE"):
        assert JobState.of(word) is JobState.ENDED


@pytest.mark.parametrize("digits", ["²", "٣", "9" * 5000, "", "-1", "1e3"])
def test_only_plain_numbers_are_numbers(digits: str) -> None:
    """`"²".isdigit()` is true and `int("²")` an error; so is the int of 5,000 digits."""
    answer = ANSWER.format(exit=base64.b64encode(f"{digits} x".encode()).decode())
    answer = answer.replace("43111", digits).replace("1-02:03:04", f"{digits}:1") + f"allocation ab-1 {digits}\n"
    status = read(answer)
    assert [service.port for service in status.services] == [None, None]
    assert status.services[1].exit_code == 1
    assert status.job and status.job.seconds_left is None
    assert len(read_status(answer)) == 1


def test_a_line_is_what_the_scripts_end_as_one() -> None:
    """`splitlines` ends lines at form feeds too: the comment of any job of the user's could speak for the cluster."""
    for end in ("\x0b", "\x0c", "\x1c", "\x85", "\u2028"):
        forged = end.join(("x", "allocation ab-bad 1", "ended cmVsZWFzZWQ=", ""))
        assert set(read_status(ANSWER.format(exit="").replace("|a|b|", f"|{forged}|"))) == {("ab-12000", 1)}


def test_what_is_told_of_a_service_without_a_name_is_not_its_neighbours() -> None:
    answer = (
        ANSWER.format(exit="").replace("service brayns2\n", "service Brayns 2\n").replace("exit \n", "listening 77\n")
    )
    assert [(one.name, one.port) for one in read(answer).services] == [("brayns1", 43111)]


def test_a_node_that_has_no_nodes_name_is_left_out() -> None:
    """Names of nodes end in commands that people copy and in Python that is shown to them."""
    answer = (
        ANSWER.format(exit="").replace("nodes r1i1n0", 'nodes $(reboot) ";x r1i1n0').replace("node r1i1n0", "node `x`")
    )
    assert (read(answer).nodes, read(answer).services[0].node) == (("r1i1n0", "r1i1n1"), "")


@pytest.mark.parametrize("job_id", ["", "--user=me", "x", "1 2", "12;x", "²"])
def test_a_job_without_an_id_is_no_job(job_id: str) -> None:
    """The reaper hands ids of a listing on to scancel: an option among them would cancel more than one job."""
    assert Job.read(f"{job_id}|RUNNING|None|n|c|ab-1-1|t|s|1:00") is None
    assert all(Job.read(f"{good}|RUNNING|None|n|c|ab-1-1|t|s|1:00") for good in ("12", "12_3", "12_[4-9%2]", "12+1"))
