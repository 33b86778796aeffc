"""The end of a loop that a task runs in is bounded."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowTaskTimeout
from airflow.sdk.execution_time.timeout import TimeoutPosix

from airflow_brayns.task import blocking


def test_the_end_of_a_loop_waits_for_nothing_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """`asyncio.run` would wait for a thread that looks up a name, and for whoever does not heed its cancel."""
    monkeypatch.setattr(blocking, "CLOSE_SECONDS", 0.3)
    let_go = threading.Event()

    async def deaf() -> None:
        while not let_go.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0.05)

    async def main(keep: list[Any]) -> str:
        keep.append(asyncio.create_task(deaf()))
        keep.append(asyncio.ensure_future(asyncio.to_thread(let_go.wait, 30)))
        await asyncio.sleep(0.1)
        return "proved"

    try:
        began = time.monotonic()
        assert blocking.run(main([])) == "proved"
        assert time.monotonic() - began < 10
    finally:
        let_go.set()


def test_a_loop_that_ends_in_order_is_closed_with_its_tasks_ended() -> None:
    ended = []

    async def other() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("task")

    async def main(keep: list[Any]) -> None:
        keep.append(asyncio.create_task(other()))
        await asyncio.sleep(0)
        raise KeyError("its own")

    with pytest.raises(KeyError, match="its own"):
        blocking.run(main([]))
    assert ended == ["task"]


# ---- Airflow's time-out of a task ------------------------------------------------------------------------------------
@contextlib.contextmanager
def timing_out() -> Iterator[None]:
    """As Airflow's task runner does; the test says when the time is over."""
    before = signal.getsignal(signal.SIGALRM)
    try:
        with TimeoutPosix(3600):
            yield
    finally:
        signal.signal(signal.SIGALRM, before)


def ring() -> None:
    """The time is over now, in the middle of a callback of the loop."""
    signal.raise_signal(signal.SIGALRM)


def test_a_time_out_in_a_callback_ends_the_coroutine() -> None:
    """asyncio logged the error of Airflow's handler, and the task went on with its nodes."""
    told = []

    async def main() -> None:
        asyncio.get_running_loop().call_later(0.05, ring)
        try:
            await asyncio.sleep(20)
        except asyncio.CancelledError:
            await asyncio.sleep(0.05)
            told.append("given back")
            raise

    with timing_out():
        with pytest.raises(AirflowTaskTimeout) as raised:
            blocking.run(main())
        assert getattr(signal.getsignal(signal.SIGALRM), "__self__", None).__class__ is TimeoutPosix, (
            "it is Airflow's again"
        )
    assert told == ["given back"]
    assert raised.value.__suppress_context__, "one error, without how the loop ended"


@pytest.mark.parametrize("where", ["task", "thread"])
def test_a_time_out_ends_the_coroutine_wherever_the_main_thread_is(where: str) -> None:
    async def busy() -> None:
        await asyncio.sleep(0.05)
        ring()
        await asyncio.sleep(20)

    async def main(keep: list[Any]) -> None:
        if where == "task":
            keep.append(asyncio.create_task(busy()))
        else:
            timer = threading.Timer(0.05, lambda: os.kill(os.getpid(), signal.SIGALRM))
            timer.start()
        await asyncio.sleep(20)

    with timing_out(), pytest.raises(AirflowTaskTimeout):
        blocking.run(main([]))


def test_what_a_kill_asks_for_comes_to_its_end_first() -> None:
    done = []

    async def give_back() -> None:
        asyncio.get_running_loop().call_later(0.05, ring)
        await asyncio.sleep(0.2)
        done.append("given back")

    with timing_out(), pytest.raises(AirflowTaskTimeout):
        blocking.run(give_back(), cancellable=False)
    assert done == ["given back"]


def test_without_a_time_out_nothing_of_signals_is_touched() -> None:
    before = signal.signal(signal.SIGALRM, signal.SIG_DFL)  # of whatever test came before

    async def main() -> Any:
        return signal.getsignal(signal.SIGALRM)

    try:
        assert blocking.run(main()) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGALRM, before)
