from __future__ import annotations

import base64

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
