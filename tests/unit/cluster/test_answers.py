from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_brayns.cluster.allocation import JobState
from airflow_brayns.cluster.answers import read_job, read_status
from tests.support.shell import coded, log_of, look, service

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
    job = read_job("1|PENDING|Priority||with|bars|ab-1-1|t|s|0:00")
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
    read_job(text)


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
    assert read_job(f"{job_id}|RUNNING|None|n|c|ab-1-1|t|s|1:00") is None
    assert all(read_job(f"{good}|RUNNING|None|n|c|ab-1-1|t|s|1:00") for good in ("12", "12_3", "12_[4-9%2]", "12+1"))


@pytest.mark.parametrize("beginning", ["allocation", "allocation ab-2", "allocation ab-2 1 x", "allocation ab-2 one"])
def test_what_is_said_behind_a_beginning_that_cannot_be_read_is_nobodys(beginning: str) -> None:
    assert read_status(f"allocation ab-1 1\n{beginning}\nended cmVsZWFzZWQ=\nanswered\n")["ab-1", 1].ended is None


def test_all_that_a_look_tells_is_read() -> None:
    told = look(
        "ab-1", more=f"owner me\nunheard 12\nabout {coded(' what for ')}\nending {coded('told to end')}\nreleased", ended="released",
        services=[service("s1", port=65535), service("s2", exited="255 x"), service("s3", exited="256 x"), service("s4", port=65536)],
        left="10:05",
    ) + log_of("hello", "s2", "ab-1") + f"certificate ab-1 1 {coded('PEM')}\n"  # fmt: skip
    status = read(told, ("ab-1", 1))
    assert (status.owner, status.silent, status.about, status.ending, status.ended) == (
        "me",
        12.0,
        "what for",
        "told to end",
        "released",
    )
    assert status.released
    assert not status.gone
    assert (status.job_id, status.submitted, status.heartbeat, status.certificate) == (
        "77",
        "2026-11-22T10:00:00",
        "1",
        "PEM",
    )
    assert [(one.name, one.node, one.port, one.exit_code, one.log) for one in status.services] == [
        ("s1", "r1i1n0", 65535, None, ""), ("s2", "r1i1n0", None, 255, coded("hello")), ("s3", "r1i1n0", None, 1, ""),
        ("s4", "r1i1n0", None, None, ""),
    ]  # fmt: skip
    assert status.job
    assert (status.job.reason, status.job.nodes, status.job.start, status.job.comment) == (
        "None",
        "r1i1n0",
        "N/A",
        "comment",
    )


@pytest.mark.parametrize(
    ("left", "seconds"), [("1-02:03:04", 93784), ("2:03:04", 7384), ("3:04", 184), ("0:00", 0), ("UNLIMITED", None), ("INVALID", None), ("", None), ("5", None)],
)  # fmt: skip
def test_the_time_that_is_left_as_squeue_writes_it(left: str, seconds: int | None) -> None:
    job = read_job(f"7|RUNNING|None|n|c|ab-1-1|t|s|{left}")
    assert job
    assert job.seconds_left == seconds


def test_a_certificate_or_a_log_of_another_allocation_is_its_own() -> None:
    told = (
        look("ab-1", services=[service("s1")])
        + log_of("x", "s1", "ab-2")
        + f"certificate ab-2 1 {coded('PEM')}\ncertificate ab-1 2 {coded('PEM')}\n"
    )
    status = read(told, ("ab-1", 1))
    assert (status.certificate, status.services[0].log) == ("", "")


@pytest.mark.parametrize("change", [("ab-12000-1|2026", "ab-12000-2|2026"), ("queue 77|", "queue 79|")])
def test_another_job_of_ours_is_not_this_ones(change: tuple[str, str]) -> None:
    assert read(ANSWER.format(exit="").replace(*change)).job is None
