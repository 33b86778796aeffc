from __future__ import annotations

import asyncio
import base64
import itertools
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from airflow_brayns.brayns.endpoint import Endpoint
from airflow_brayns.brayns.identity import identity
from airflow_brayns.brayns.readiness import Usable
from airflow_brayns.cluster.allocation import Allocation, ServiceStatus
from airflow_brayns.cluster.local import LocalCluster
from airflow_brayns.cluster.owner import Owner
from airflow_brayns.cluster.shell import LocalShell
from airflow_brayns.cluster.slurm import SlurmCluster
from airflow_brayns.cluster.submission import ServiceCommand
from airflow_brayns.cluster.waiter import Waiter
from airflow_brayns.errors import (
    BraynsError,
    ConnectionLost,
    InvalidSetting,
    SubmissionLimited,
    SubmissionRefused,
    SubmissionUnsure,
)
from airflow_brayns.services.booking import (
    Booking,
    Service,
    awaited,
    book,
    book_on,
    service_commands,
    start_in,
    until_known,
)
from airflow_brayns.services.settings import ClusterSettings
from tests.support.clock import jumping_clock
from tests.support.shell import FakeShell

__all__ = ["jumping_clock"]


def test_many_services_come_in_the_order_of_their_nodes() -> None:
    """Folders are read in the order of their names: brayns2 must not come behind brayns11."""
    commands = service_commands(ClusterSettings.read({}), ["braynsDTI"], 11)
    names = [command.name for command in commands]
    assert names == sorted(names)
    assert [command.index for command in commands] == list(range(1, 12))


def test_a_service_is_known_by_what_0_2_0_would_have_started() -> None:
    settings = ClusterSettings.read({"setup": "module load brayns"})
    [command] = service_commands(settings, ["braynsDTI"], 1)
    assert command.identity == identity(settings.service(("braynsDTI",)))


def test_a_booking_travels_as_json() -> None:
    booking = Booking("ab-0123456789ab", (Allocation("ab-0123456789ab000", 2, "77", "2026-11-22T10:00:00", "/home/x"),))
    assert Booking.from_json({**booking.to_json(), "nodes": ["a"]}) == booking


@pytest.mark.parametrize("nodes", [0, 10**9, pytest.param(10**400, id="huge")])
async def test_nodes_that_no_cluster_has_are_refused_before_a_list_is_made_of_them(nodes: int) -> None:
    """With a job for each node, a billion of them was a list of a billion first."""
    settings = ClusterSettings.read({"packing": "job_per_node"})
    with pytest.raises(InvalidSetting, match="^nodes"):
        await book(SlurmCluster(LocalShell()), settings, Owner("ab-0123456789ab", "me"), nodes=nodes, plugins=None)


# ---- what is asked of a cluster ----------------------------------------------------------------------------------------
NAME = "ab-0123456789ab"


def answering() -> tuple[SlurmCluster, FakeShell]:
    """A cluster that takes everything: each submission is the next job."""
    jobs = itertools.count(77)
    shell = FakeShell(lambda _: f"incarnation 1\nadopted 0\njob {next(jobs)} x\nfolder /s/x\n")
    return SlurmCluster(shell, state_dir="/s"), shell


async def test_nodes_that_it_is_not_to_get_are_told_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    cluster, shell = answering()
    caplog.set_level("INFO")
    asked = (cluster, ClusterSettings.read({"packing": "job_per_node"}), Owner(NAME, "me", "a movie"))
    await book(*asked, nodes=2, plugins=["braynsDTI"])
    assert not caplog.messages
    shell.answers = "incarnation 1\nadopted 0\navoided n3,n1\njob 77 x\nfolder /s/x\n"
    booking = await book(*asked, nodes=2, plugins=["braynsDTI"])
    [told] = caplog.messages
    assert told.startswith("Not asked for: n1, n3, since services failed there")
    command = ServiceCommand("brayns1", 1, "run", "0", ())
    await book_on(*asked[:2], booking.allocations[0], asked[2], nodes=1, command=command)
    assert len(caplog.messages) == 2


@pytest.mark.parametrize(("packing", "sizes"), [("one_job", [3]), ("job_per_node", [1, 1, 1])])
async def test_nodes_are_one_job_or_each_a_job_of_its_own(packing: str, sizes: list[int]) -> None:
    cluster, shell = answering()
    settings = ClusterSettings.read({"packing": packing, "idle_limit": 77})
    booking = await book(cluster, settings, Owner(NAME, "me", "a movie"), nodes=3, plugins=["braynsDTI"])
    assert [(one.name, one.job_id) for one in booking.allocations] == [
        (f"{NAME}{part:03x}", str(77 + part)) for part in range(len(sizes))
    ]
    assert [shell.scripts[part].rstrip().rsplit("\n", 1)[1] for part in range(len(sizes))] == [
        f"submit {NAME}{part:03x} me 0" for part in range(len(sizes))
    ]
    for script, size in zip(shell.scripts, sizes, strict=True):
        assert f"--nodes={size} " in script
        assert script.count("/services/brayns") >= size
        assert "braynsDTI" in script
        assert "idle_limit=77" in script
        assert "about='a movie'" in script


async def test_nodes_alone_have_no_services() -> None:
    cluster, shell = answering()
    await book(cluster, ClusterSettings.read({}), Owner(NAME, "me"), nodes=1, plugins=None)
    assert "services/brayns" not in shell.scripts[0]


@pytest.mark.parametrize(("tls", "has"), [("off", False), ("allocation", True)])
async def test_an_allocation_has_a_certificate_of_its_own_where_that_is_asked_for(tls: str, has: bool) -> None:
    cluster, shell = answering()
    await book(cluster, ClusterSettings.read({"tls": tls}), Owner(NAME, "me"), nodes=1, plugins=[])
    assert ("BEGIN CERTIFICATE" in shell.scripts[0]) is has


async def test_what_follows_on_is_the_same_again_behind_the_one_before() -> None:
    cluster, shell = answering()
    command = ServiceCommand("brayns7-1", 9, "exec braynsService", "0", ())
    before = Allocation(f"{NAME}000", 2, "77")
    await book_on(cluster, ClusterSettings.read({}), before, Owner(NAME, "me"), nodes=2, command=command)
    assert shell.last().split() == ["submit", f"{NAME}000", "me", "2"]
    assert "/services/brayns1\n" in shell.scripts[0] and "/services/brayns2\n" in shell.scripts[0]
    assert shell.scripts[0].count("exec braynsService") == 2
    assert "brayns7" not in shell.scripts[0]


async def test_a_next_try_finds_what_follows_on(tmp_path: Path) -> None:
    """It is started by the script that the one before was started by, which says less than what was wanted: its nodes were
    given back, and those of the one before.
    """
    cluster, settings = (
        LocalCluster(LocalShell(), state_dir=str(tmp_path)),
        ClusterSettings.read({"setup": "exec sleep 600"}),
    )
    try:
        [first] = (await book(cluster, settings, Owner(NAME, "me"), nodes=1, plugins=[])).allocations
        command = await cluster.command_of(first, "brayns1")
        second = await book_on(cluster, settings, first, Owner(NAME, "me"), nodes=1, command=command)
        again = await book_on(cluster, settings, first, Owner(NAME, "me"), nodes=1, command=command)
        [found] = (await book(cluster, settings, Owner(NAME, "next"), nodes=1, plugins=[])).allocations
        assert (second.incarnation, again.key, found.key) == (2, second.key, second.key)
        assert found.adopted
        [other] = (await book(cluster, settings, Owner(NAME, "next"), nodes=1, plugins=["braynsDTI"])).allocations
        assert (other.incarnation, other.adopted) == (3, False), "who wants something else does not"
    finally:
        await cluster.release(NAME, grace=1)


# ---- services that are started later ------------------------------------------------------------------------------------
@pytest.fixture
async def started(tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[str]]]:
    """Starts a service in an allocation, as a task or its next try does, and returns its name."""
    cluster = LocalCluster(LocalShell(), state_dir=str(tmp_path))
    [allocation] = (await book(cluster, ClusterSettings.read({}), Owner(NAME, "me"), nodes=1, plugins=None)).allocations

    async def start(setup: str, *, ends: bool = False) -> str:
        [command] = service_commands(ClusterSettings.read({"setup": setup}), [], 1)
        async with asyncio.timeout(20):
            while not (seen := (await cluster.look([Waiter(*allocation.key)]))[allocation.key]).nodes:
                await asyncio.sleep(0.1)
        name = await start_in(cluster, allocation, seen, command)
        if ends:
            await cluster.stop_service(allocation, name)
        return name

    yield start
    await cluster.release(NAME, grace=1)


async def test_a_next_try_finds_the_service_that_was_started_and_only_where_the_same_is_wanted(
    started: Callable[..., Awaitable[str]],
) -> None:
    assert [await started("exec sleep 600"), await started("exec sleep 600")] == ["brayns1", "brayns1"]
    with pytest.raises(InvalidSetting, match="brayns1 runs in .* already, and was started with something else") as told:
        await started("exec sleep 700")
    assert (told.value.field, told.value.retry) == ("service", False)


async def test_in_the_place_of_a_service_that_has_ended_a_next_try_starts_another(
    started: Callable[..., Awaitable[str]],
) -> None:
    """Each error said so, and the task that was cleared left all as it was."""
    assert await started("exec sleep 600", ends=True) == "brayns1"
    assert [await started("exec sleep 700"), await started("exec sleep 700")] == ["brayns1-2", "brayns1-2"]


@pytest.mark.parametrize(
    ("there", "names", "counted"),
    [
        ("a1. a1-2", "a1 a1-2", "a1-2"),
        ("a1. a1-2. a1-3", "a1-2 a1-3", "a1-3"),
        ("a1. a1-9. a1-10.", "a1 a1-9 a1-10", "a1-10."),
        ("a1. a2", "a1 a2", "a1. a2"),
        ("a1. a1-2", "a1", "a1."),
        ("run2-1. run2-2", "run2-1 run2-2", "run2-1. run2-2"),
        ("a1 a1-2", "a1 a1-2", "a1 a1-2"),
        ("a1. a1-2", None, "a1. a1-2"),
    ],
)
def test_a_service_in_whose_place_another_was_started_does_not_count(
    there: str, names: str | None, counted: str
) -> None:
    """Those with a stop behind them have ended."""
    services = [ServiceStatus(one.rstrip("."), exit_code=1 if one.endswith(".") else None) for one in there.split()]
    found = awaited(services, names.split() if names else None)
    assert [one.name for one in found] == counted.replace(".", "").split()


@pytest.mark.parametrize("secured", [False, True])
def test_what_the_next_task_reads_of_a_service(secured: bool) -> None:
    context = ssl.create_default_context() if secured else None
    one = Service("brayns1", "n1", Endpoint("n1", 5000, context), "77", Usable("3.10.1", ("a",)), "/s/log", None, "PEM")
    told = {"endpoint": "n1:5000", "node": "n1", "job_id": "77", "service": "brayns1", "version": "3.10.1", "plugins": ["a"], "generation": 3,
            "log": "/s/log", "ends_at": None}  # fmt: skip
    assert one.to_json() == ({**told, "certificate": "PEM"} if secured else told)


# ---- while it is not known whether a job was taken ----------------------------------------------------------------------
@pytest.mark.usefixtures("jumping_clock")
@pytest.mark.parametrize(("patience", "tries"), [(None, 22), (60.0, 5), (0.0, 1)])
async def test_what_is_not_known_is_asked_again_ever_less_often_for_as_long_as_the_queue_may_take(
    patience: float | None, tries: int, caplog: pytest.LogCaptureFixture
) -> None:
    """A controller that changes over was the task's end."""
    asked = []

    async def submit() -> Allocation:
        asked.append(1)
        raise SubmissionUnsure("backup controller in standby mode")

    with pytest.raises(SubmissionUnsure):
        await until_known(submit, patience)
    assert abs(len(asked) - tries) <= 3, "not all at the same time"
    assert caplog.text.count("standby mode") == len(asked) - 1


@pytest.mark.usefixtures("jumping_clock")
async def test_what_passes_is_waited_for_and_what_does_not_is_not() -> None:
    answers: list[Allocation | BraynsError] = [SubmissionUnsure(""), SubmissionUnsure("x"), Allocation(NAME, 1, "77")]

    async def submit() -> Allocation:
        answer = answers.pop(0)
        if isinstance(answer, BraynsError):
            raise answer
        return answer

    assert (await until_known(submit, None)).job_id == "77"
    for final in (SubmissionRefused("no such account"), ConnectionLost("the login node is off")):
        answers[:] = [final]
        with pytest.raises(type(final)):
            await until_known(submit, None)
        assert not answers


@pytest.mark.usefixtures("jumping_clock")
@pytest.mark.parametrize(("patience", "tries"), [(None, 101), (60.0, 5), (0.0, 1)])
async def test_at_a_limit_of_jobs_it_is_waited_for_room_as_in_the_queue(
    patience: float | None, tries: int, caplog: pytest.LogCaptureFixture
) -> None:
    """A batch of five hundred movies used up its retries at a limit of a hundred jobs."""
    caplog.set_level("INFO")
    asked = []

    async def submit() -> Allocation:
        asked.append(1)
        if len(asked) > 100:
            return Allocation(NAME, 1, "77")
        raise SubmissionLimited("AssocMaxSubmitJobLimit")

    if patience is None:
        assert (await until_known(submit, patience)).job_id == "77"
    else:
        with pytest.raises(SubmissionLimited):
            await until_known(submit, patience)
    assert abs(len(asked) - tries) <= 1
    assert caplog.text.count("AssocMaxSubmitJobLimit") == len(asked) - 1


async def test_whoever_waits_elsewhere_is_told_of_the_limit_at_once() -> None:
    async def submit() -> Allocation:
        raise SubmissionLimited("AssocMaxSubmitJobLimit")

    with pytest.raises(SubmissionLimited):
        await until_known(submit, None, waits_for_room=False)


LIMITED = "refused 1 " + base64.b64encode(b"sbatch: error: AssocMaxSubmitJobLimit").decode() + "\nqueued 5\n"


@pytest.mark.parametrize(
    ("fields", "taken", "at_least", "jobs"),
    [({}, 2, 1, 2), ({"min_ready": 2}, 2, None, 2), ({"min_ready": 3}, 2, None, 0), ({}, 2, None, 0), ({}, 3, None, 3)],
)
async def test_a_limit_after_some_jobs_is_not_waited_for(
    fields: dict[str, int], taken: int, at_least: int | None, jobs: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Those that were taken idled until they were given back, or were submitted and cancelled each minute for ever."""
    numbers = itertools.count(1)

    def answer(_: str) -> str:
        number = next(numbers)
        return f"incarnation 1\nadopted 0\njob {number} x\nfolder /s/x\n" if number <= taken else LIMITED

    cluster = SlurmCluster(FakeShell(answer), state_dir="/s")
    asked = (cluster, ClusterSettings.read({"packing": "job_per_node", **fields}), Owner(NAME, "me", "a movie"))
    wanted = {"nodes": 3, "plugins": ["braynsDTI"], "at_least": at_least}
    if jobs:
        assert len((await book(*asked, **wanted)).allocations) == jobs
        assert bool(caplog.messages) == (jobs < 3)
    else:
        with pytest.raises(SubmissionRefused, match="takes 2 of the 3 jobs") as raised:
            await book(*asked, **wanted)
        assert raised.value.retry
        assert not isinstance(raised.value, SubmissionLimited), "nobody may come again for it while these go and come"


async def test_a_limit_before_the_first_job_is_the_limits_own_error() -> None:
    cluster = SlurmCluster(FakeShell(LIMITED), state_dir="/s")
    with pytest.raises(SubmissionLimited):
        await book(cluster, ClusterSettings.read({}), Owner(NAME, "me"), nodes=1, plugins=None, waits_for_room=False)
