from __future__ import annotations

import logging
import sys
import threading

import pytest

from airflow_brayns.movie.script_output import captured, said_by


def test_lines_of_a_thread_have_its_place_and_others_go_where_they_went(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    told: list[str] = []
    before = logging.getLogRecordFactory()

    def work() -> None:
        with said_by("frame 3 on n1", told.append):
            print("one\ntwo", end="")
            print(" goes on", file=sys.stderr)
            logging.getLogger("theirs").warning("%d %%", 7)
            print("no end", end="")

    with captured():
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        print("mine")
        logging.getLogger("ours").warning("ours")
    assert told == ["frame 3 on n1: one", "frame 3 on n1: two goes on", "frame 3 on n1: no end"]
    assert capsys.readouterr().out == "mine\n"
    assert caplog.messages == ["frame 3 on n1: 7 %", "ours"]
    assert logging.getLogRecordFactory() is before


def test_a_log_that_prints_is_no_circle(capsys: pytest.CaptureFixture[str]) -> None:
    """As Airflow's does in a command and in tests: its lock was held for good."""
    with captured(), said_by("frame 3", print):
        print("one")
    assert capsys.readouterr().out == "frame 3: one\n"


def test_two_movies_that_overlap_in_one_process_are_told_apart_to_their_ends(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The one that ended first took the other one's lines away, and left its stream behind when that ended."""
    before = sys.stdout, sys.stderr, logging.getLogRecordFactory()
    told: list[str] = []
    first, second = captured(), captured()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    with said_by("frame 3 on n2", told.append):
        print("still here")
    second.__exit__(None, None, None)
    assert told == ["frame 3 on n2: still here"]
    assert (sys.stdout, sys.stderr, logging.getLogRecordFactory()) == before
    assert capsys.readouterr().out == ""


def test_what_it_does_with_the_streams_reaches_nobody_else(capsys: pytest.CaptureFixture[str]) -> None:
    """One that closed its output closed that of the task."""
    told: list[str] = []
    with captured(), said_by("frame 3", told.append):
        sys.stdout.writelines(["one\n", "two\n"])
        sys.stdout.close()
        sys.stderr.close()
    print("mine")
    assert told == ["frame 3: one", "frame 3: two"]
    assert capsys.readouterr().out == "mine\n"


def test_words_of_a_log_that_do_not_go_together_do_not_end_the_movie(capsys: pytest.CaptureFixture[str]) -> None:
    """By hand such a line tells of itself, and the script goes on."""
    heard: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = heard.append  # type: ignore[method-assign]
    logger = logging.getLogger("theirs of words")
    logger.propagate = False  # pytest's own handler takes it for an error
    logger.addHandler(handler)
    try:
        with captured(), said_by("frame 3", print):
            logger.warning("%s and %s", 1)
    finally:
        logger.removeHandler(handler)
    assert [(one.msg, one.args) for one in heard] == [("%s and %s", (1,))]
