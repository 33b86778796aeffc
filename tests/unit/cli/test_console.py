"""How every command speaks: results and words apart, one message for an error, an exit code, and an end by signals."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal

import pytest
import structlog
from airflow.sdk.exceptions import AirflowException
from sqlalchemy.exc import OperationalError

from airflow_brayns.cli.console import Answer, command
from airflow_brayns.errors import InvalidSetting

ARGS = argparse.Namespace()


def test_what_is_logged_or_printed_meanwhile_does_not_spoil_the_result(capsys: pytest.CaptureFixture[str]) -> None:
    @command
    def work(args: argparse.Namespace) -> Answer:
        print("a DAG file prints")
        logging.getLogger("x").warning("a library warns")
        structlog.get_logger("airflow.y").warning("Airflow warns")
        structlog.get_logger("airflow.y").info("Airflow tells")
        return Answer(text="result")

    work(ARGS)
    said = capsys.readouterr()
    assert said.out == "result\n"
    assert "a DAG file prints" in said.err
    assert "Airflow tells" not in said.err


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (InvalidSetting("nodes", "must be more"), "nodes: must be more"),
        (AirflowException("told by Airflow"), "told by Airflow"),
        (OperationalError("select", {}, Exception("no such table: connection")), "no such table: connection"),
        (FileNotFoundError(2, "No such file", "/nodir/x"), "/nodir/x: No such file"),
        (ZeroDivisionError("by zero"), "ZeroDivisionError: by zero"),
    ],
)
def test_an_error_is_one_message_and_an_exit_code(error: Exception, words: str) -> None:
    @command
    def work(args: argparse.Namespace) -> Answer:
        raise error

    with pytest.raises(SystemExit) as end:
        work(ARGS)
    assert str(end.value.code).startswith(words) or words in str(end.value.code).splitlines()[0]
    assert end.value.__suppress_context__, "no traceback"


def test_what_failed_in_part_still_prints_the_rest(capsys: pytest.CaptureFixture[str]) -> None:
    @command
    def work(args: argparse.Namespace) -> Answer:
        return Answer([{"name": "a"}], failed=True)

    with pytest.raises(SystemExit) as end:
        work(ARGS)
    assert end.value.code == 1
    assert "a" in capsys.readouterr().out


@pytest.mark.parametrize("output", ["table", "plain", "json", "yaml"])
@pytest.mark.parametrize("value", ["scene[old].py", "[fe80::1]:5000", "x [/] y", "a\\[b]"])
def test_a_value_is_shown_with_its_brackets(capsys: pytest.CaptureFixture[str], value: str, output: str) -> None:
    """Airflow's tables take them for marks of style: they were left out, or ended the command."""

    @command
    def work(args: argparse.Namespace) -> Answer:
        return Answer([{"for": value}])

    work(argparse.Namespace(output=output))
    assert value in capsys.readouterr().out.replace("\\\\", "\\")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_gives_back_before_it_ends(number: signal.Signals) -> None:
    given_back = []
    before = signal.getsignal(number)

    async def hold() -> None:
        try:
            os.kill(os.getpid(), number)
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)
            given_back.append(number)

    @command
    def work(args: argparse.Namespace) -> Answer:
        asyncio.run(hold())
        return Answer()

    with pytest.raises(SystemExit) as end:
        work(ARGS)
    assert given_back == [number]
    assert end.value.code == 128 + number
    assert signal.getsignal(number) is before
