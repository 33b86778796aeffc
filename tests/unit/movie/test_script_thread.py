from __future__ import annotations

import asyncio
import threading

import pytest

from airflow_brayns.movie.script_thread import ScriptThread
from tests.support.bounds import until


def endless(began: threading.Event) -> None:
    began.set()
    while True:
        try:
            sum(range(1000))
        except Exception:  # as users write it: it must not keep the code going
            pass


async def test_code_that_never_returns_is_ended() -> None:
    thread, began = ScriptThread("endless", lambda: None), threading.Event()
    with pytest.raises(TimeoutError):
        await thread.call(lambda: endless(began), 0.2)
    assert began.wait(20)
    await thread.give_up()
    until(lambda: not thread._thread.is_alive(), 20)


async def test_what_waits_is_woken() -> None:
    woken = threading.Event()
    thread = ScriptThread("waits", woken.set)
    call = asyncio.create_task(thread.call(lambda: woken.wait(60), 60))
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await thread.give_up()
    assert woken.is_set()
    until(lambda: not thread._thread.is_alive(), 20)


async def test_calls_run_in_one_thread_and_give_their_results() -> None:
    thread = ScriptThread("calls", lambda: None)
    found = [await thread.call(threading.get_ident, 20) for _ in range(3)]
    assert set(found) == {thread.ident} != {threading.get_ident()}
    await thread.give_up()


@pytest.mark.parametrize("kind", [OSError, KeyboardInterrupt, SystemExit], ids=lambda kind: str(kind.__name__))
async def test_an_error_of_the_work_itself_ends_the_call_at_once(kind: type[BaseException]) -> None:
    """As of a log that cannot be written: nobody waits for the time-out, and the next call finds the thread."""

    def fails() -> None:
        raise kind("the log is gone")

    thread = ScriptThread("fails", lambda: None)
    with pytest.raises(RuntimeError if kind is not OSError else OSError, match="the log is gone"):
        await asyncio.wait_for(thread.call(fails, 600), 20)
    assert await thread.call(lambda: "goes on", 20) == "goes on"
    await thread.give_up()
    until(lambda: not thread._thread.is_alive(), 20)
