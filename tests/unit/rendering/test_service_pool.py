"""The services of a booking as rendering uses them: whose they are, which come, which come anew, and what follows on."""

from __future__ import annotations

import asyncio
import base64
import logging
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from airflow_brayns.brayns.endpoint import Endpoint
from airflow_brayns.brayns.readiness import Usable
from airflow_brayns.cluster.allocation import Allocation
from airflow_brayns.cluster.owner import Owner
from airflow_brayns.cluster.poller import Poller
from airflow_brayns.cluster.slurm import SlurmCluster
from airflow_brayns.cluster.submission import ServiceCommand, proof
from airflow_brayns.errors import BraynsError, ConnectionLost, ServiceFailed, Superseded
from airflow_brayns.movie.interfaces import Liveness, RenderService
from airflow_brayns.movie.ledger import Ledger
from airflow_brayns.movie.manifest import Manifest
from airflow_brayns.movie.used import Used, UsedRecord
from airflow_brayns.rendering.service_pool import ServicePool, prove
from airflow_brayns.services import stream
from airflow_brayns.services.booking import Booking
from airflow_brayns.services.session import Session
from airflow_brayns.services.settings import ClusterSettings
from tests.support.clock import jumping_clock
from tests.support.shell import FakeShell, coded, look, service

__all__ = ["jumping_clock"]
pytestmark = pytest.mark.usefixtures("jumping_clock")

NAME = "ab-0123456789ab000"
ALLOCATION = Allocation(NAME, 1, "77", folder=f"/s/{NAME}/1")
COMMAND = ServiceCommand("brayns1", 1, "exec braynsService", "0", ("s/x/y/",))
TWO = [service("brayns1", "n1", 5000), service("brayns2", "n2", 5001)]


class Nodes:
    """A cluster that answers by what is asked of it.

    :param looks: what the look of that number (from 0) sees.
    :param drives: what comes of taking a lease, one after the other; then it is ours.
    :param confirms: the same of confirming it.
    """

    def __init__(
        self, looks: Callable[[int], Any] | str, drives: tuple[Any, ...] = (), confirms: tuple[Any, ...] = ()
    ) -> None:
        self.looks, self.drives, self.confirms = looks, list(drives), list(confirms)
        self.shell = FakeShell(self._answer)
        self.asked: list[str] = []
        self.seen = 0
        self.fails: dict[str, BaseException] = {}

    async def _answer(self, script: str) -> Any:
        call = script[script.rindex("\n}\n") + 3 :].strip()
        if call.startswith(("fill() ", "asked=")):  # a service, or a submission: what it calls comes last
            call = script.rstrip().rsplit("\n", 1)[1]
        verb = call.split(" ")[0]
        self.asked.append(call)
        if verb in self.fails:
            raise self.fails[verb]
        if patience := re.match(r"look_for [0-9]+ ([0-9]+) ", call):
            await asyncio.sleep(int(patience[1]))
        if call.startswith("look_for "):
            self.seen += 1
            return self.looks if isinstance(self.looks, str) else self.looks(self.seen - 1)
        return getattr(self, f"_{verb}", lambda _: "")(call)

    def _drive(self, call: str) -> Any:
        return (
            self.drives.pop(0)
            if self.drives
            else "".join(f"driving {words[1]} {words[2]} -1\n" for words in _words(call))
        )

    def _confirm(self, call: str) -> Any:
        return (
            self.confirms.pop(0)
            if self.confirms
            else "".join(f"driving {words[1]} {words[2]} 0\n" for words in _words(call))
        )

    def _stop_service(self, call: str) -> str:
        return f"stopped {call.split()[3]}\n"

    def _command_of(self, call: str) -> str:
        parts = {"index": "1\n", "port": "0\n", "port.sed": "s/x/y/\n", "command": "exec braynsService\n"}
        told = "".join(f"part {name} {base64.b64encode(text.encode()).decode()}\n" for name, text in parts.items())
        return f"{told}known {proof(COMMAND)}\n"

    def _add_service(self, call: str) -> str:
        return f"added {call.split()[3]}\n"

    def _submit(self, call: str) -> str:
        return f"incarnation 2\nadopted 0\njob 78 x\nfolder /s/{NAME}/2\n"

    def calls(self, verb: str) -> list[str]:
        return [call for call in self.asked if call.startswith(f"{verb} ")]


def _words(call: str) -> list[list[str]]:
    return [line.split(" ") for line in call.split("\n")]


@pytest.fixture(autouse=True)
def usable(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every service is usable as soon as it listens; which were asked."""
    asked: list[str] = []

    async def probe(near: Endpoint, plugins: Any = (), *, told: str, seconds: float | None) -> Usable:
        asked.append(told)
        return Usable("3.10.1", ())

    monkeypatch.setattr(stream, "probe", probe)
    return asked


def pool(nodes: Nodes, **options: Any) -> ServicePool:
    settings = ClusterSettings.read({"scheduler": "slurm", "poll_interval": 10})
    session = Session(Poller(SlurmCluster(nodes.shell, state_dir="/s"), 10), settings, logging.getLogger("pool"))
    owner = Owner(NAME[:-3], "owner", movie="the movie")
    values = {"token": "me-0123", "owner": owner, "renew_before": None, **options}
    return ServicePool(session, Booking(NAME[:-3], (ALLOCATION,)), (), **values)


@asynccontextmanager
async def coming(nodes: Nodes, **options: Any) -> AsyncIterator[tuple[ServicePool, Callable[[], Any]]]:
    """The pool, and what gives the next service."""
    one = pool(nodes, **options)
    async with one:
        incoming = one.services()

        async def following() -> RenderService:
            async with asyncio.timeout(2000):
                return await anext(incoming)

        await asyncio.sleep(0)  # what works beside it has begun
        try:
            yield one, following
        finally:
            await incoming.aclose()  # type: ignore[attr-defined]


# ---- the services ------------------------------------------------------------------------------------------------------
async def test_each_service_comes_as_rendering_needs_it() -> None:
    nodes = Nodes(look(NAME, nodes=("n1", "n2"), services=TWO, left="10:00"))
    async with coming(nodes) as (_, following):
        one, two = await following(), await following()
    assert (one.endpoint, one.name, one.node, one.job, one.version, one.owned) == (
        "n1:5000",
        "brayns1",
        "n1",
        "77",
        "3.10.1",
        True,
    )
    assert two.endpoint == "n2:5001"
    ends_at = one.ends_at()
    assert ends_at is not None
    assert 400 < ends_at - time.time() < 481, "ten minutes, but for the two in which Slurm may end it"


async def test_where_there_is_no_time_limit_it_ends_never() -> None:
    async with coming(Nodes(look(NAME, services=TWO[:1], left="UNLIMITED"))) as (_, following):
        assert (await following()).ends_at() is None


async def test_a_service_that_failed_leaves_the_others_and_the_last_failure_ends_it() -> None:
    failed = [service("brayns1", "n1", exited="1 it broke"), service("brayns2", "n2")]
    later = [failed[0], service("brayns2", "n2", exited="2 it broke too")]
    nodes = Nodes(lambda number: look(NAME, nodes=("n1", "n2"), services=failed if number < 3 else later))
    nodes.fails["add_service"] = ConnectionLost("cut")
    async with coming(nodes) as (_, following):
        with pytest.raises(ServiceFailed, match="it broke too"):
            await following()


async def test_a_job_that_ends_tells_why() -> None:
    ended = look(NAME, word="TIMEOUT", services=TWO, ended="time limit of 60 s reached")
    nodes = Nodes(lambda number: look(NAME, nodes=("n1", "n2"), services=TWO) if number < 3 else ended)
    async with coming(nodes) as (one, following):
        await following(), await following()
        with pytest.raises(BraynsError, match="time limit of 60 s reached"):
            await following()
        assert one.nodes() == []


async def test_nodes_on_which_a_service_lives_come_first() -> None:
    listed = [service("brayns1", "n1", exited="0 stopped"), service("brayns2", "n2", 5001)]
    async with coming(Nodes(look(NAME, nodes=("n1", "n2", "n3"), services=listed))) as (one, following):
        await following()
        assert one.nodes() == [(ALLOCATION, "n2"), (ALLOCATION, "n1"), (ALLOCATION, "n3")]


# ---- started anew ------------------------------------------------------------------------------------------------------
async def test_one_that_was_set_aside_is_ended_for_certain_and_started_anew_with_what_it_was_started_with() -> None:
    names = ["brayns1"]
    nodes = Nodes(
        lambda _: look(NAME, services=[service(name, "r1i1n0", 5000 + index) for index, name in enumerate(names)])
    )
    async with coming(nodes) as (one, following):
        first = await following()
        assert await one.set_aside(first, "it hangs", again=True)
        assert nodes.calls("stop_service") == [f"stop_service {NAME} 1 brayns1"]
        [added] = nodes.calls("add_service")
        new = added.split()[3]
        assert new == "brayns1-10123"
        assert "exec braynsService" in next(script for script in nodes.shell.scripts if script.rstrip().endswith(added))
        names.append(new)
        assert (await following()).name == new


@pytest.mark.parametrize("fails", [{}, {"useless": ConnectionLost("cut")}], ids=["noted", "not noted"])
async def test_one_that_hung_is_noted_of_its_node_before_it_is_started_anew(fails: dict[str, BraynsError]) -> None:
    nodes = Nodes(look(NAME, services=[service("brayns1", "r1i1n0", 5000)]))
    nodes.fails |= fails
    async with coming(nodes) as (one, following):
        assert await one.set_aside(await following(), "no answer", again=True, hung=True)
    assert nodes.calls("useless") == [f"useless {NAME} 1 brayns1 run 'it hung while it rendered'"]
    assert nodes.calls("add_service")


async def test_the_last_one_that_is_set_aside_ends_it_with_why() -> None:
    nodes = Nodes(look(NAME, services=[service("brayns1", "r1i1n0", 5000)]))
    async with coming(nodes) as (one, following):
        first = await following()
        assert not await one.set_aside(first, "it hangs", again=False)
        assert nodes.calls("add_service") == []
        with pytest.raises(ServiceFailed, match="brayns1 on r1i1n0 was the last one: it hangs"):
            await following()


async def test_one_that_cannot_be_started_anew_is_gone() -> None:
    nodes = Nodes(look(NAME, nodes=("n1", "n2"), services=TWO))
    nodes.fails["add_service"] = ConnectionLost("cut")
    async with coming(nodes) as (one, following):
        first, _ = await following(), await following()
        assert not await one.set_aside(first, "it hangs", again=True)


@pytest.mark.parametrize(("exited", "anew"), [("1 it broke", True), ("127 not found", False), ("0 stopped", True)])
async def test_what_died_before_this_try_began_is_started_anew_where_that_can_help(exited: str, anew: bool) -> None:
    listed = [service("brayns1", "n1", exited=exited), service("brayns2", "n2", 5001)]
    nodes = Nodes(look(NAME, nodes=("n1", "n2"), services=listed))
    async with coming(nodes) as (_, following):
        assert (await following()).name == "brayns2"
        await asyncio.sleep(60)
    assert len(nodes.calls("add_service")) == anew


async def test_where_another_one_lives_on_its_node_a_dead_one_stays_dead() -> None:
    listed = [service("brayns1", "n1", exited="1 it broke"), service("brayns1-1abcd", "n1", 5001)]
    nodes = Nodes(look(NAME, nodes=("n1",), services=listed))
    async with coming(nodes) as (_, following):
        assert (await following()).name == "brayns1-1abcd"
        await asyncio.sleep(60)
    assert nodes.calls("add_service") == []


# ---- the lease ---------------------------------------------------------------------------------------------------------
async def test_the_lease_is_taken_before_anything_and_let_go_at_the_end() -> None:
    nodes = Nodes(look(NAME, services=TWO))
    async with coming(nodes) as (_, following):
        await following()
        assert nodes.asked[:2] == [
            f"drive {NAME} 1 me-0123 '{coded('the movie')}'",
            f"confirm {NAME} 1 me-0123 '{coded('the movie')}' 0",
        ]
    assert nodes.asked[-1] == f"let_go {NAME} 1 me-0123"


async def test_one_that_is_taken_over_stops() -> None:
    ours = f"driving {NAME} 1 0\n"
    nodes = Nodes(look(NAME, services=TWO[:1]), confirms=(ours, ours, f"undriven {NAME} 1\n"))
    async with coming(nodes) as (_, following):
        await following()
        with pytest.raises(Superseded, match="Another try of this movie"):
            await following()


async def test_who_cannot_confirm_asks_for_no_more_frames_and_goes_on_when_it_can(
    caplog: pytest.LogCaptureFixture,
) -> None:
    nodes = Nodes(look(NAME, services=TWO[:1]))
    with caplog.at_level(logging.INFO, "pool"):
        async with coming(nodes) as (_, following):
            one = await following()
            await asyncio.sleep(60)
            assert one.holds()
            nodes.fails["confirm"] = ConnectionLost("the login node is away")
            await asyncio.sleep(14)
            assert one.holds()
            await asyncio.sleep(12)
            assert not one.holds()
            del nodes.fails["confirm"]
            await asyncio.sleep(6)
            assert one.holds()
    assert sum("could not be confirmed" in message for message in caplog.messages) == 1


# ---- what follows on ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("renew_before", "left", "outlook", "follows"),
    [(300.0, "6:00", 1000.0, True), (300.0, "6:00", None, True), (300.0, "6:00", 60.0, False), (300.0, "1:00:00", 10**5, False), (None, "6:00", 10**5, False)],
)  # fmt: skip
async def test_where_the_time_will_not_do_the_next_allocation_is_queued_once(
    renew_before: float | None, left: str, outlook: float | None, follows: bool
) -> None:
    nodes = Nodes(lambda _: look(NAME, services=TWO[:1], left=left))
    async with coming(nodes, renew_before=renew_before) as (one, following):
        await following()
        one.outlook(outlook)
        await asyncio.sleep(60)
    assert nodes.calls("submit") == ([f"submit {NAME} owner 1"] if follows else [])
    taken = [call for call in nodes.calls("drive") if f"{NAME} 2 " in call]
    assert len(taken) == follows


async def test_a_follow_up_that_could_not_be_queued_is_tried_again() -> None:
    nodes = Nodes(lambda _: look(NAME, services=TWO[:1], left="6:00"))
    nodes.fails["submit"] = ConnectionLost("cut")
    async with coming(nodes, renew_before=300.0) as (_, following):
        await following()
        await asyncio.sleep(30)
        del nodes.fails["submit"]
        await asyncio.sleep(30)
    assert len(nodes.calls("submit")) > 2
    assert len([call for call in nodes.calls("drive") if f"{NAME} 2 " in call]) == 1


# ---- proof -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("found", "liveness", "why"),
    [
        (f"socket ours\n{look(NAME, services=TWO)}", Liveness.OURS, "has not ended"),
        (f"socket strange joe\n{look(NAME, services=TWO)}", Liveness.ENDED, "a process of user joe"),
        (look(NAME, services=[service("brayns1", "n1", exited="139 x")]), Liveness.ENDED, "killed by signal 11"),
        (look(NAME, services=TWO), Liveness.UNPROVEN, "has not ended"),
        (look(NAME, services=TWO, answered=False), Liveness.UNKNOWN, "has not ended"),
        ("", Liveness.ENDED, "brayns1 of job 77 is not in the cluster's state_dir any more"),
        (ConnectionLost("cut"), Liveness.UNKNOWN, "cut"),
    ],
)
async def test_what_can_be_said_of_a_service(found: Any, liveness: Liveness, why: str) -> None:
    told = f"examined {NAME} 1 brayns1\n{found}" if isinstance(found, str) and found else found
    proved = await prove(SlurmCluster(FakeShell(told), state_dir="/s"), ALLOCATION, "brayns1")
    assert proved.liveness is liveness
    assert why in proved.why


async def test_a_cluster_that_does_not_answer_in_time_is_no_proof() -> None:
    async def silent(_: str) -> str:
        await asyncio.sleep(10**5)
        return ""

    began = time.monotonic()
    proved = await prove(SlurmCluster(FakeShell(silent), state_dir="/s"), ALLOCATION, "brayns1")
    assert proved.liveness is Liveness.UNKNOWN
    assert proved.why == "the cluster did not answer within 30 s"
    assert time.monotonic() - began < 31


# ---- the ledger --------------------------------------------------------------------------------------------------------
async def test_a_node_is_held_from_the_look_that_sees_it_run_until_its_job_ends() -> None:
    ended = look(NAME, word="TIMEOUT", services=TWO, nodes=("n1", "n2"), ended="time limit of 60 s reached")
    pending = look(NAME, word="PENDING")
    running = look(NAME, nodes=("n1", "n2"), services=TWO)
    ledger = Ledger()
    nodes = Nodes(lambda number: [pending, pending, running, running, ended][min(number, 4)])
    async with coming(nodes, ledger=ledger) as (_, following):
        await asyncio.sleep(5)
        assert ledger.used == Used(), "waiting in the queue costs nothing"
        one, two = await following(), await following()
        began = ledger.used.starting
        await asyncio.sleep(4)
        assert ledger.used.starting - began == pytest.approx(8, abs=0.2), "until its service has the scene"
        ledger.ready(one.place), ledger.ready(two.place)
        with pytest.raises(BraynsError, match="time limit"):
            await following()
        used = ledger.used
        assert used.waiting > 0 and not used.lost
        await asyncio.sleep(1000)
        assert ledger.used == used


async def test_a_node_on_which_the_service_died_at_its_start_is_lost() -> None:
    listed = [service("brayns1", "n1", exited="127 not found"), service("brayns2", "n2", 5001)]
    ledger = Ledger()
    async with coming(Nodes(look(NAME, nodes=("n1", "n2"), services=listed)), ledger=ledger) as (_, following):
        ledger.ready((await following()).place)
        await asyncio.sleep(100)
    assert (ledger.used.waiting, ledger.used.lost) == (pytest.approx(100, abs=1), pytest.approx(100, abs=1))


async def test_nodes_that_a_killed_try_left_are_lost_since_it_was_last_heard_of() -> None:
    ledger = Ledger("the movie", "second")
    killed = UsedRecord("the movie", "first", time.time() - 300, Used(1000), ("77/n1",))
    ledger.opens(Manifest.read([killed.line()]))
    async with coming(Nodes(look(NAME, nodes=("n1",), services=TWO[:1])), ledger=ledger):
        await asyncio.sleep(30)
    assert ledger.used.lost == pytest.approx(300, abs=1)
