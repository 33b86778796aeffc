"""One question per interval for all who wait, and what each of them hears."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from airflow_brayns.cluster.allocation import Allocation, AllocationStatus
from airflow_brayns.cluster.poller import Poller
from airflow_brayns.cluster.slurm import SlurmCluster
from airflow_brayns.errors import ConnectionLost, InvalidSetting
from tests.support.clock import jumping_clock
from tests.support.shell import FakeShell, coded, log_of, look, service

__all__ = ["jumping_clock"]
pytestmark = pytest.mark.usefixtures("jumping_clock")


@pytest.fixture(autouse=True)
def in_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """No interval is shorter than another one."""
    monkeypatch.setattr(random, "uniform", lambda low, high: 1)


NAME, OTHER = "ab-0123456789ab000", "ab-0123456789ab001"


def polling(answer: Callable[[str], str | BaseException] | str, interval: float = 10) -> tuple[Poller, FakeShell]:
    """A poller of a cluster that waits for news as long as it is told to."""

    async def answers(script: str) -> str | BaseException:
        if patience := re.search(r"\nlook_for [0-9]+ ([0-9]+) ", script):
            await asyncio.sleep(int(patience[1]))
        return answer if isinstance(answer, str) else answer(script)

    shell = FakeShell(answers)
    return Poller(SlurmCluster(shell, state_dir="/s"), interval), shell


@contextlib.asynccontextmanager
async def watching(poller: Poller, name: str = NAME, want: int = 1) -> AsyncIterator[AsyncIterator[Any]]:
    watch = poller.watch(Allocation(name, 1, "77"), want)
    try:
        yield watch
    finally:
        await watch.aclose()  # type: ignore[attr-defined]


def asked(script: str) -> str:
    """What a look asked for: its lines behind the library."""
    return script[script.rindex("\n}\n") :]


def asked_for(script: str) -> list[str]:
    """The allocations that a look asks for."""
    return re.findall(r" '(ab-[0-9a-f]+) ", asked(script))


def alone(name: str) -> str:
    return look(name, job_id=str(int(name[3:], 16)))


@contextlib.asynccontextmanager
async def all_watched(poller: Poller, number: int) -> AsyncIterator[list[Any]]:
    """So many who have had their first look."""
    watches = [poller.watch(Allocation(f"ab-{one:03x}", 1, str(one)), 1) for one in range(number)]
    await asyncio.gather(*(anext(watch) for watch in watches))
    try:
        yield watches
    finally:
        for watch in watches:
            await watch.aclose()


async def test_a_newcomers_first_look_is_its_own_and_quick() -> None:
    poller, shell = polling(look(NAME))
    began = time.monotonic()
    async with watching(poller) as watch:
        seen, logs = await anext(watch)
    assert isinstance(seen, AllocationStatus)
    assert (seen.name, logs) == (NAME, {})
    assert time.monotonic() - began < 2.5
    assert f"look_for 8 2 0.2 '{NAME} 1 1 0'" in asked(shell.scripts[0])


async def test_many_who_wait_are_one_question_an_interval() -> None:
    both = look(NAME).replace("answered\n", "") + look(OTHER, job_id="78")
    poller, shell = polling(both)
    async with watching(poller) as one, watching(poller, OTHER) as other:
        await anext(one), await anext(other)
        before, began = shell.commands, time.monotonic()
        for _ in range(6):
            assert (await anext(one))[0].name == NAME
            assert (await anext(other))[0].name == OTHER
    assert shell.commands - before <= 7
    assert 50 < time.monotonic() - began < 75
    assert f"{NAME} 1 1" in shell.scripts[-1] and f"{OTHER} 1 1" in shell.scripts[-1]


@pytest.mark.parametrize(("interval", "asks"), [(0.01, "look_for 8 1 "), (1, "look_for 8 1 "), (30, "look_for 8 30 ")])
async def test_no_cluster_is_asked_more_often_than_once_a_second(interval: float, asks: str) -> None:
    poller, shell = polling(look(NAME), interval)
    async with watching(poller) as watch:
        await anext(watch), await anext(watch)
    assert asks in asked(shell.scripts[-1])


async def test_a_job_that_waits_in_the_queue_is_looked_at_with_less_haste() -> None:
    """Nobody needs to know within a fifth of a second that an hour has passed."""
    for word, tick in (("PENDING", "1"), ("RUNNING", "0.2")):
        poller, shell = polling(look(NAME, word=word, nodes=()))
        async with watching(poller) as watch:
            await anext(watch), await anext(watch)
        assert f"look_for 8 10 {tick} " in asked(shell.scripts[-1])


@pytest.mark.parametrize(("interval", "tick"), [(10, "1.42857"), (1, "1"), (2, "2")])
async def test_with_many_waiters_the_login_node_looks_less_often(interval: float, tick: str) -> None:
    """But each interval: with 6,500 waiters a look slept longer than its own time limit, and each of them failed."""
    names = [f"ab-{number:03x}" for number in range(150)]
    poller, shell = polling(
        lambda script: "".join(look(name) for name in asked_for(script)),
        interval,
    )
    watches = [poller.watch(Allocation(name, 1, "77"), 1) for name in names]
    for _ in range(2):
        await asyncio.gather(*(anext(watch) for watch in watches))
    for watch in watches:
        await watch.aclose()  # type: ignore[attr-defined]
    assert f" {tick} '" in asked(shell.scripts[-1])


async def test_once_all_services_listen_the_login_node_looks_with_less_haste() -> None:
    """A movie that renders for a night had it look five times a second for an end."""
    for want, tick in ((1, "1"), (2, "0.2")):
        poller, shell = polling(look(NAME, services=[service(port=5000)]))
        async with watching(poller, want=want) as watch:
            await anext(watch), await anext(watch)
        assert f"look_for 8 10 {tick} " in asked(shell.scripts[-1])


def taking(seconds: float, awaited: float = 0) -> tuple[Poller, list[float]]:
    """A poller of a cluster whose every look takes so long, and when its looks began; the first of a newcomer is quick."""
    began: list[float] = []

    async def answers(script: str) -> str:
        patience = int(re.search(r"\nlook_for [0-9]+ ([0-9]+) ", script)[1])  # type: ignore[index]
        if began:
            await asyncio.sleep(seconds + min(patience, awaited))
        began.append(time.monotonic())
        return look(NAME)

    return Poller(SlurmCluster(FakeShell(answers), state_dir="/s"), 10), began


@pytest.mark.parametrize(
    ("seconds", "awaited", "least", "most"),
    [
        (0, 99, 9.5, 10.5),
        (1.5, 99, 9.5, 11.5),
        (4, 99, 9.5, 14.1),
        (25, 99, 35, 36),
        (0, 0, 0.3, 0.5),
        (2, 0, 3.9, 4.1),
    ],
)
async def test_looks_begin_an_interval_apart_and_the_later_the_longer_they_take(
    seconds: float, awaited: float, least: float, most: float
) -> None:
    """Where something is always new, a login node that took 2 s for a look was asked for the next one 0.3 s later."""
    poller, ended = taking(seconds, awaited)
    async with watching(poller) as watch:
        for _ in range(12):
            await anext(watch)
    between = (ended[-1] - ended[7]) / (len(ended) - 8)
    assert least <= between <= most


async def test_pollers_that_begin_together_do_not_go_in_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks of many workers begin at one moment, and hear of a dead login node at one moment."""
    monkeypatch.setattr(random, "uniform", lambda low, high: low)
    poller, shell = polling(look(NAME), 30)
    async with watching(poller) as watch:
        for _ in range(3):
            await anext(watch)
    assert "look_for 8 15 " in asked(shell.scripts[1])
    assert "look_for 8 30 " in asked(shell.scripts[2])


async def test_what_is_known_is_not_told_again() -> None:
    """The next look asks for what follows: news beyond those that are known, bytes behind those of the log that came."""
    first = look(NAME, services=[service(port=5000)]) + log_of("hello\n")
    looks = iter([first, first.replace(coded("hello\n"), coded("wörld"))])
    poller, shell = polling(lambda _: next(looks, look(NAME, services=[service(port=5000)])))
    async with watching(poller) as watch:
        assert (await anext(watch))[1] == {"brayns1": "hello\n"}
        assert (await anext(watch))[1] == {"brayns1": "wörld"}
        assert (await anext(watch))[1] == {}
    assert f"'{NAME} 1 1 0'" in asked(shell.scripts[0])
    assert f"'{NAME} 1 1 2 brayns1 6'" in asked(shell.scripts[1])
    assert f"'{NAME} 1 1 2 brayns1 12'" in asked(shell.scripts[2])


async def test_a_damaged_piece_of_a_log_is_asked_for_again() -> None:
    damaged = look(NAME, services=[service()]) + f"log {NAME} 1 brayns1 0 ?x\n"
    poller, shell = polling(damaged)
    async with watching(poller) as watch:
        assert (await anext(watch))[1] == {}
        await anext(watch)
    assert f"'{NAME} 1 1 1 brayns1 0'" in asked(shell.scripts[1])


async def test_a_certificate_is_told_once_and_known_from_then_on() -> None:
    looks = iter([look(NAME, services=[service()]) + f"certificate {NAME} 1 {coded('PEM')}\n"])
    poller, _ = polling(lambda _: next(looks, look(NAME, services=[service()])))
    async with watching(poller) as watch:
        assert [(await anext(watch))[0].certificate for _ in range(3)] == ["PEM"] * 3


async def test_who_waits_hears_of_every_kind_of_trouble_and_then_of_its_end() -> None:
    """A poll that ended with an error that nobody knew would leave all who wait for ever."""
    troubles = [
        look(NAME),
        ConnectionLost("cut"),
        InvalidSetting("state_dir", "is odd"),
        ValueError("a bug"),
        look(NAME),
    ]
    left = iter(troubles)
    poller, _ = polling(lambda _: next(left))
    async with watching(poller) as watch:
        seen = [(await anext(watch))[0] for _ in troubles]
    assert [type(one) for one in seen] == [
        AllocationStatus,
        ConnectionLost,
        ConnectionLost,
        ConnectionLost,
        AllocationStatus,
    ]
    assert [str(one) for one in seen[1:4]] == ["cut", "InvalidSetting: state_dir: is odd", "ValueError: a bug"]
    assert [one.retry for one in seen[1:4]] == [True, False, True]


async def test_after_trouble_a_whole_interval_passes() -> None:
    poller, shell = polling(lambda _: ConnectionLost("cut"), 10)
    async with watching(poller) as watch:
        began = time.monotonic()
        for _ in range(4):
            assert isinstance((await anext(watch))[0], ConnectionLost)
    assert time.monotonic() - began > 30
    assert shell.commands == 4


async def test_whom_a_look_has_no_time_for_the_next_one_asks_for_at_once() -> None:
    poller, shell = polling(lambda script: "".join(alone(name) for name in asked_for(script)[:30]))
    async with all_watched(poller, 100) as watches:
        began = time.monotonic()
        await asyncio.gather(*(anext(watch) for watch in watches))
    shared = [asked_for(script) for script in shell.scripts if len(asked_for(script)) > 1]
    assert [len(names) for names in shared[:4]] == [100, 70, 40, 10]
    assert not set(shared[1]) & set(shared[0][:30])
    assert time.monotonic() - began < 10 + 4, "one interval, not one for each look"


async def test_a_look_that_is_lost_is_followed_by_smaller_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look that did not fit into its time limit failed for ever, and all who waited with it."""
    monkeypatch.setattr("airflow_brayns.cluster.poller._LEAST", 10)

    def answer(script: str) -> str | BaseException:
        names = asked_for(script)
        return ConnectionLost("no answer") if len(names) > 20 else "".join(map(alone, names))

    poller, shell = polling(answer)
    async with all_watched(poller, 100) as watches:
        heard = [
            {type(seen) for seen, _ in await asyncio.gather(*(anext(watch) for watch in watches))} for _ in range(6)
        ]
    assert heard == [{ConnectionLost}] * 3 + [{AllocationStatus}] * 3
    sizes = [len(asked_for(script)) for script in shell.scripts[100:]]
    assert sizes[:12] == [100, 50, 25, *[12] * 8, 4], "and each is asked for once in each interval"


async def test_looks_grow_again_and_never_get_too_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dead login node says nothing about sizes: a look for each wait would be a command for each."""
    monkeypatch.setattr("airflow_brayns.cluster.poller._LEAST", 10)
    looks = iter(range(10))

    def answer(script: str) -> str | BaseException:
        names = asked_for(script)
        return ConnectionLost("dead") if len(names) > 1 and next(looks, None) else "".join(map(alone, names))

    poller, shell = polling(answer)
    next(looks)
    async with all_watched(poller, 40) as watches:
        for _ in range(100):
            await asyncio.gather(*(anext(watch) for watch in watches))
    sizes = [len(asked_for(script)) for script in shell.scripts[40:]]
    assert min(sizes) == 10
    assert sizes[-1] == 40


async def test_a_connection_that_cannot_be_opened_makes_no_look_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_brayns.cluster.poller._LEAST", 2)
    down = [ConnectionLost("down", sent=False)]
    poller, shell = polling(
        lambda script: down.pop() if len(asked_for(script)) > 1 and down else "".join(map(alone, asked_for(script)))
    )
    async with all_watched(poller, 8) as watches:
        for _ in range(3):
            await asyncio.gather(*(anext(watch) for watch in watches))
    assert [len(asked_for(script)) for script in shell.scripts[8:11]] == [8, 8, 8]


async def test_one_whom_no_look_tells_of_makes_no_haste() -> None:
    poller, shell = polling(lambda script: look(NAME) if NAME in asked_for(script) else "")
    async with watching(poller) as one, watching(poller, OTHER) as other:
        await anext(other)
        for _ in range(5):
            await anext(one)
        before, began = shell.commands, time.monotonic()
        for _ in range(5):
            await anext(one)
    assert shell.commands - before <= 10
    assert time.monotonic() - began > 45


async def test_a_login_that_is_refused_ends_it_at_the_first_look() -> None:
    poller, _ = polling(lambda _: ConnectionLost("refused", retry=False))
    with pytest.raises(ConnectionLost, match="refused"):
        async with watching(poller) as watch:
            await anext(watch)


async def test_one_that_the_answer_leaves_out_hears_nothing_but_the_others_do() -> None:
    poller, _ = polling(look(NAME))
    async with watching(poller) as one, watching(poller, OTHER) as other:
        assert str((await anext(other))[0]) == f"The cluster's answer does not tell of {OTHER}."
        for _ in range(3):
            assert (await anext(one))[0].name == NAME
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(other), 60)


async def test_nobody_is_asked_when_nobody_waits() -> None:
    poller, shell = polling(look(NAME))
    async with watching(poller) as watch:
        await anext(watch), await anext(watch)
    await poller.close()
    before = shell.commands
    await asyncio.sleep(100)
    assert shell.commands == before
    assert shell.closed == 1


async def test_one_who_comes_after_all_have_gone_is_served() -> None:
    poller, _ = polling(look(NAME))
    for _ in range(2):
        async with watching(poller) as watch:
            for _ in range(3):
                assert isinstance((await anext(watch))[0], AllocationStatus)


async def test_it_closes_within_seconds_whatever_hangs() -> None:
    poller, shell = polling(look(NAME))

    async def hang() -> None:
        await asyncio.sleep(10**6)

    shell.close = hang  # type: ignore[method-assign]
    began = time.monotonic()
    await poller.close()
    assert time.monotonic() - began < 6
