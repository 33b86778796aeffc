"""What of a service's log the task's log shows."""

from __future__ import annotations

import logging
import time

import pytest

from airflow_brayns.services.service_log import MOST_WARNINGS, ServiceLog, level_of

START = [
    "Loading brayns/3.10.1",
    "[info][21:11:45] Brayns version 3.10.1 (747afcdfc)",
    "[info][21:11:45] Command line parameters values:",
    *(f"[info][21:11:45]     - flag-{number}: value" for number in range(110)),
    "[info][21:11:45] Server started on '0.0.0.0:43210'.",
]


def shown(log: ServiceLog, *lines: str) -> list[tuple[int, str]]:
    return list(log.add("".join(f"{line}\n" for line in lines)))


def test_of_a_start_little_is_shown_and_of_requests_nothing() -> None:
    log = ServiceLog()
    told = [line for _, line in shown(log, *START)]
    assert told == [START[0], START[1], START[-1]]
    assert shown(log, *["[info][21:12:00] New request 'snapshot'.", "[debug][21:12:00] error code none"] * 50) == []


def test_warnings_keep_their_level() -> None:
    log = ServiceLog()
    assert shown(
        log, "[warn][21:12:00] odd", "[error][21:12:00] bad", "[critical][21:12:00] worse", "[info][21:12:00] no error"
    ) == [
        (logging.WARNING, "[warn][21:12:00] odd"),
        (logging.ERROR, "[error][21:12:00] bad"),
        (logging.ERROR, "[critical][21:12:00] worse"),
    ]


@pytest.mark.parametrize(
    ("line", "level"),
    [
        ("Error opening dynamic library: libX.so: no", logging.ERROR),
        ("Warning: no lights", logging.WARNING),
        ("Fatal error: 'x'.", logging.ERROR),
        ("terrorbird loaded", logging.INFO),
        ("x" * 100_000 + " error", logging.INFO),
    ],
)
def test_generations_without_levels_are_told_by_their_words(line: str, level: int) -> None:
    assert level_of(line) == level


def test_a_line_that_comes_in_two_looks_is_one() -> None:
    log = ServiceLog()
    assert list(log.add("[info][21:12:00] a line with the word er")) == []
    assert list(log.add("ror in it\n[warn][21:12:0")) == []
    assert list(log.add("0] low on memory\n")) == [(logging.WARNING, "[warn][21:12:00] low on memory")]
    assert "low on memory" in log.told()


def test_a_service_that_only_warns_does_not_fill_the_log() -> None:
    log = ServiceLog()
    told = shown(log, *["[warn][21:12:00] again"] * 1000)
    assert len(told) == MOST_WARNINGS + 1
    assert "only in its own log" in told[-1][1]
    assert log.told().count("again") > 100, "an error shows the last ones all the same"


def test_a_missing_plugin_and_the_version_are_remembered() -> None:
    log = ServiceLog()
    shown(log, "[info][21:11:45] Brayns version 2.0.0 (x)", "Error opening dynamic library: libX.so: no")
    shown(log, *["[info][21:12:00] " + "y" * 1000] * 20)
    assert log.generation == 2
    assert log.told().startswith("Error opening dynamic library: libX.so: no")


def test_a_log_of_one_long_line_holds_nobody_up() -> None:
    """A pattern that began with `.*` tried each of its characters as a beginning: 64 KiB took seconds of the triggerer's loop."""
    log = ServiceLog()
    began = time.monotonic()
    list(log.add("x" * 65536))
    list(log.add("Error opening dynamic library: libX.so: no\n" + "x" * 65536))
    list(log.add("error" * 13000 + "\n"))
    assert time.monotonic() - began < 1
    assert "libX.so" in log.told()


def test_lines_that_were_shown_elsewhere_are_not_shown_again_and_still_count() -> None:
    first = ServiceLog()
    assert len(list(first.add("[info][1] Brayns version 3.10.1\n[warn][2] slow\n"))) == 2
    after = ServiceLog(known=first.lines)
    assert [line for _, line in after.add("[info][1] Brayns version 3.10.1\n[warn][2] slow\n[warn][3] slower\n")] == [
        "[warn][3] slower"
    ]
    assert after.generation == 3 and "slow\n" in after.end, "an error needs what it says"
