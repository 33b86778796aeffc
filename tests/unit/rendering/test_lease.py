"""Who renders holds a lease: when it is taken, how long it holds, and who stops."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import pytest

from airflow_brayns.cluster.poller import Poller
from airflow_brayns.cluster.render_lease import RenderLease
from airflow_brayns.cluster.slurm import SlurmCluster
from airflow_brayns.errors import ConnectionLost, Superseded
from airflow_brayns.rendering.lease import Leases
from airflow_brayns.services.session import Session
from airflow_brayns.services.settings import ClusterSettings
from tests.support.clock import jumping_clock
from tests.support.shell import FakeShell, coded

__all__ = ["jumping_clock"]
pytestmark = pytest.mark.usefixtures("jumping_clock")

ONE, TWO = RenderLease("ab-01", "1"), RenderLease("ab-02", "1/services/s1")
BY = f"'{coded('the movie')}'"


class Cluster:
    """A cluster that gives leases, and says of each what the test says.

    :param drives: what comes of taking, one after the other, by lease; then each is free.
    """

    def __init__(self, *drives: Any) -> None:
        self.drives, self.lost, self.gone, self.fails = list(drives), set[RenderLease](), set[RenderLease](), None
        self.calls: list[str] = []
        shell = FakeShell(self._answer)
        settings = ClusterSettings.read({"scheduler": "slurm"})
        session = Session(Poller(SlurmCluster(shell, state_dir="/s"), 10), settings, logging.getLogger("lease"))
        self.leases = Leases(session, "these services", token="me", by="the movie")

    def _answer(self, script: str) -> str:
        told = ""
        heard = self.drives.pop(0) if "\ndrive ab-" in script and self.drives else -1
        if self.fails:
            raise self.fails
        for line in script.split("\n"):
            verb, *words = line.split(" ")
            if verb not in ("drive", "confirm", "let_go") or not words or not words[0].startswith("ab-"):
                continue
            self.calls.append(line)
            lease = RenderLease(words[0], words[1])
            if verb == "drive":
                told += heard if isinstance(heard, str) else f"driving {words[0]} {words[1]} {heard}\n"
                self.gone.discard(lease)
            elif verb == "confirm" and lease not in self.gone:
                told += f"{'undriven' if lease in self.lost else 'driving'} {words[0]} {words[1]}{'' if lease in self.lost else ' 0'}\n"
        return told

    def verbs(self) -> list[str]:
        return [call.split(" ")[0] for call in self.calls]


async def test_leases_are_taken_together_and_confirmed_before_they_count() -> None:
    cluster = Cluster()
    assert not cluster.leases.hold(ONE)
    await cluster.leases.take([ONE, TWO])
    assert cluster.calls == [
        f"drive ab-01 1 me {BY}", f"drive ab-02 1/services/s1 me {BY}", f"confirm ab-01 1 me {BY} 0", f"confirm ab-02 1/services/s1 me {BY} 0",
    ]  # fmt: skip
    assert cluster.leases.hold(ONE, TWO)


@pytest.mark.parametrize(("heard", "waits"), [(-1, 0), (0, 21), (5, 16), (19, 2), (20, 1), (21, 0), (100, 0)])
async def test_an_earlier_try_has_certainly_stopped_before_one_is_used(heard: int, waits: int) -> None:
    """It stops when it could not confirm for twenty seconds, and a second that the cluster counts may just have begun: both
    rendered at once for up to a second.
    """
    began = time.monotonic()
    await Cluster(heard).leases.take([ONE])
    assert waits <= time.monotonic() - began < waits + 1


async def test_another_movie_is_waited_for_and_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    occupied = f"occupied ab-01 1 2 {coded('dag/other')}\n"
    cluster = Cluster(*[occupied] * 5)
    began = time.monotonic()
    with caplog.at_level(logging.INFO, "lease"):
        await cluster.leases.take([ONE])
    assert time.monotonic() - began >= 15
    assert cluster.verbs().count("drive") == 6
    assert caplog.messages == ["dag/other renders with these services; waiting until it has stopped."]


async def test_of_two_that_take_from_each_other_the_later_one_goes_on() -> None:
    cluster = Cluster()
    cluster.lost = {ONE}
    with pytest.raises(Superseded, match="Another try of this movie has taken the nodes over"):
        await cluster.leases.take([ONE], "the nodes")
    assert cluster.verbs().count("drive") == 2


async def test_without_confirmation_a_lease_holds_for_twenty_seconds() -> None:
    cluster = Cluster()
    await cluster.leases.take([ONE])
    await asyncio.sleep(19.9)
    assert cluster.leases.hold(ONE)
    await asyncio.sleep(0.2)
    assert not cluster.leases.hold(ONE)


async def test_kept_it_holds_and_what_else_is_due_is_done_each_time() -> None:
    cluster, times = Cluster(), 0
    await cluster.leases.take([ONE])
    async for _ in cluster.leases.kept(lambda: [ONE]):
        times += 1
        assert cluster.leases.hold(ONE)
        if times == 20:
            break
    assert cluster.verbs().count("confirm") == 21


async def test_while_it_cannot_be_confirmed_it_is_lost_by_time_and_had_again_after(
    caplog: pytest.LogCaptureFixture,
) -> None:
    cluster, held = Cluster(), []
    await cluster.leases.take([ONE])
    cluster.fails = ConnectionLost("the login node is away")
    with caplog.at_level(logging.INFO, "lease"):
        async for _ in cluster.leases.kept(lambda: [ONE]):
            held.append(cluster.leases.hold(ONE))
            if len(held) == 6:
                cluster.fails = None
            if len(held) == 8:
                break
    assert held == [True, True, True, False, False, False, True, True]
    assert caplog.messages == [
        "The lease could not be confirmed; no frames are asked for meanwhile: the login node is away"
    ]


async def test_one_that_is_taken_over_stops() -> None:
    cluster = Cluster()
    await cluster.leases.take([ONE, TWO])
    cluster.lost = {TWO}
    with pytest.raises(Superseded, match="Another try of this movie renders with these services now"):
        async for _ in cluster.leases.kept(lambda: [ONE, TWO]):
            pass


async def test_one_whose_file_has_gone_is_taken_again() -> None:
    cluster = Cluster()
    await cluster.leases.take([ONE])
    cluster.gone = {ONE}
    async for _ in cluster.leases.kept(lambda: [ONE]):
        if cluster.verbs().count("drive") > 1:
            break
    assert cluster.calls[-1] == f"drive ab-01 1 me {BY}"


async def test_what_is_in_use_no_more_is_not_confirmed() -> None:
    cluster = Cluster()
    await cluster.leases.take([ONE])
    async for _ in cluster.leases.kept(list):
        break
    assert cluster.verbs().count("confirm") == 1


async def test_one_that_nobody_can_have_had_is_taken_at_once_and_all_are_let_go() -> None:
    cluster = Cluster()
    await cluster.leases.take([ONE])
    await cluster.leases.take_free(TWO)
    assert cluster.leases.hold(ONE, TWO)
    await cluster.leases.leave()
    assert cluster.calls[-2:] == ["let_go ab-01 1 me", "let_go ab-02 1/services/s1 me"]


async def test_letting_go_does_not_wait_for_a_cluster_that_is_away() -> None:
    cluster = Cluster()
    await cluster.leases.take([ONE])
    cluster.fails = ConnectionLost("away")
    await cluster.leases.leave()
