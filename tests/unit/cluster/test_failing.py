"""Nodes on which services fail: who is at fault is judged by how others fared, and requests avoid a few of them for a day."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from airflow_brayns.cluster.allocation import Allocation
from airflow_brayns.cluster.failing import FailingNode, read_failing
from airflow_brayns.cluster.protocol import ANSWERS, read
from airflow_brayns.cluster.request import AllocationRequest
from airflow_brayns.errors import SubmissionRefused, SubmissionUnsure
from tests.unit.cluster.test_sites import NAME, Site

pytestmark = pytest.mark.slow
FIRST, SECOND, THIRD = (f"ab-{letter * 12}" for letter in "abc")
NODES = [f"n{number}" for number in range(1, 9)]


class Farm(Site):
    """A Slurm of eight nodes, and jobs that have been there."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.wrap("sbatch", f'echo "$*" >>{folder}/asked; "$real" "$@"')
        self.has(NODES)

    def has(self, nodes: list[str], state: str = "idle", partition: str = "prod*") -> None:
        lines = "\n".join(f"node {node} {state} {partition}" for node in nodes)
        self._write(self.bin / "sinfo", f"echo 'Welcome'\ncat <<'END'\n{lines}\nEND\n")

    def ran(
        self, booking: str, part: int = 0, n: int = 1, *, asked: str = "5a3e", hours: float = 1, **fared: str
    ) -> None:
        """A job that was there, as its keeper left it.

        :param fared: by node, `well`, or why it failed: `start …` or `run …`.
        """
        name = f"{booking}{part:03x}"
        folder = self.folder / "state" / name / str(n)
        folder.mkdir(parents=True)
        (folder / "asked").write_text(f"{asked}\n")
        for number, (node, told) in enumerate(fared.items(), 1):
            service = folder / "services" / f"brayns{number}"
            service.mkdir(parents=True)
            (service / "port.sed").write_text("s/x/y/p\n")
            (service / "node").write_text(f"{node}\n")
            if not told.startswith("start"):
                (service / "listening").write_text("5000\n")
            if told != "well":
                failure = self.folder / "state" / "failures" / node / f"{name}-{n}"
                failure.parent.mkdir(parents=True, exist_ok=True)
                failure.write_text(f"{told}\n")
                os.utime(failure, (time.time() - 3600 * hours,) * 2)

    async def asks(self, **request: Any) -> tuple[Allocation, list[str]]:
        """A submission, and which nodes sbatch was told to leave out each time it was asked."""
        found = await self.cluster.submit(NAME, "me", AllocationRequest(**request), [], "a test")
        lines = (self.folder / "asked").read_text().splitlines()
        return found, [" ".join(w for w in line.split() if w.startswith("--exclude")) for line in lines]


@pytest.fixture
def farm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Farm:
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    return Farm(tmp_path)


def fails_twice(farm: Farm, node: str = "n3", why: str = "start the service ended with exit code 127") -> None:
    for booking in (FIRST, SECOND):
        farm.ran(booking, **{"n1": "well", "n2": "well", node: why})


async def test_a_node_that_failed_in_two_jobs_is_left_out_and_told_of(farm: Farm) -> None:
    fails_twice(farm)
    found, left_out = await farm.asks(nodes=2)
    assert (found.avoided, left_out) == (("n3",), ["--exclude=n3"])
    assert await farm.cluster.failing_nodes() == [FailingNode("n3", 2, "the service ended with exit code 127")]
    again = await farm.cluster.submit(NAME, "other", AllocationRequest(nodes=2), [], "a test")
    assert again.adopted and not again.avoided, (
        "a retry finds what runs, and whether nodes were left out is no part of it"
    )


async def test_jobs_of_one_node_each_are_compared_with_the_others_that_asked_for_the_same(farm: Farm) -> None:
    farm.ran(FIRST, 0, n3="start no module")
    farm.ran(FIRST, 1, n1="well")
    farm.ran(SECOND, 0, n3="start no module")
    assert (await farm.asks())[1] == ["--exclude=n3"]


async def never(farm: Farm, **request: Any) -> None:
    found, left_out = await farm.asks(**request)
    assert (found.avoided, left_out) == ((), [""])


async def test_once_is_not_twice(farm: Farm) -> None:
    farm.ran(FIRST, n1="well", n3="start x")
    farm.ran(SECOND, n1="well", n3="well")
    await never(farm)


async def test_what_fails_wherever_it_runs_is_no_nodes_fault(farm: Farm) -> None:
    """As with a mistyped module: n1 has it twice, since Slurm gives the first node that is free."""
    farm.ran(FIRST, n1="start x", n2="start x", n3="start x")
    farm.ran(SECOND, n1="start x")
    farm.ran(THIRD, asked="07e4", n4="well", n5="well")
    await never(farm)
    assert await farm.cluster.failing_nodes() == []


@pytest.mark.parametrize("others", [{}, {"n1": "well", "n2": "run x"}], ids=["alone", "with another"])
async def test_a_scene_that_ends_services_is_no_nodes_fault(farm: Farm, others: dict[str, str]) -> None:
    """Although services with the same request did well elsewhere: their scene was another one."""
    for booking in (FIRST, SECOND):
        farm.ran(booking, **{**others, "n3": "run x"})
    farm.ran(THIRD, n4="well", n5="well", n6="well")
    await never(farm)


async def test_a_node_whose_services_die_while_those_of_the_same_movie_live_is_left_out(farm: Farm) -> None:
    for booking in (FIRST, SECOND):
        for part, (node, fared) in enumerate({"n1": "well", "n2": "well", "n3": "run it was killed"}.items()):
            farm.ran(booking, part, **{node: fared})
    assert (await farm.asks())[1] == ["--exclude=n3"]


async def test_a_node_whose_services_listen_and_are_never_usable_is_left_out(farm: Farm) -> None:
    fails_twice(farm, why="ready it listened, and was not usable within 300 s: TCP: n3:5000 does not answer")
    assert (await farm.asks(nodes=2))[1] == ["--exclude=n3"]
    [found] = await farm.cluster.failing_nodes()
    assert (found.node, found.why.endswith("TCP: n3:5000 does not answer")) == ("n3", True)


async def test_failures_of_several_kinds_are_those_of_one_node(farm: Farm) -> None:
    farm.ran(FIRST, n1="well", n3="ready it listened")
    farm.ran(SECOND, n1="well", n3="start no module")
    assert (await farm.asks())[1] == ["--exclude=n3"]


@pytest.mark.parametrize(("well", "left_out"), [(3, ""), (4, "--exclude=n8")], ids=["many others", "few others"])
async def test_services_that_are_out_of_reach_by_the_same_way_are_not_their_nodes_fault(
    farm: Farm, well: int, left_out: str
) -> None:
    """Those that did well may have been reached by another way, as from workers where the triggerer is cut off."""
    farm.has([*NODES, "n9", "n10"])
    farm.ran(THIRD, **{f"n{number}": "well" for number in range(1, well + 1)})
    farm.ran(FIRST, n8="ready it listened", n9="ready it listened")
    farm.ran(SECOND, n8="ready it listened")
    assert (await farm.asks())[1] == [left_out]


async def test_a_plugin_that_no_node_has_is_no_nodes_fault(farm: Farm) -> None:
    """Its services listen: those of before counted as well, whatever they were asked for."""
    why = "start braynsService could not load the plugin 'x'"
    farm.ran(FIRST, n1=why, n2=why, n3=why)
    farm.ran(SECOND, n3=why)
    farm.ran(THIRD, asked="07e4", n4="well", n5="well", n6="well", n7="well")
    await never(farm)


async def test_after_a_day_it_is_forgiven(farm: Farm) -> None:
    farm.ran(FIRST, n1="well", n3="start x", hours=25)
    farm.ran(SECOND, n1="well", n3="start x")
    assert await farm.cluster.failing_nodes() == []
    await never(farm)
    assert [one.name for one in (farm.folder / "state" / "failures" / "n3").iterdir()] == [f"{SECOND}000-1"]


async def test_at_most_a_quarter_is_left_out_the_worst_first(farm: Farm) -> None:
    for node in ("n3", "n4", "n5"):
        for number, booking in enumerate((FIRST, SECOND, THIRD)):
            if node != "n3" or number:
                farm.ran(booking, NODES.index(node), n1="well", n2="well", n6="well", **{node: "start x"})
    assert [one.node for one in await farm.cluster.failing_nodes()] == ["n5", "n4", "n3"]
    assert (await farm.asks())[0].avoided == ("n5", "n4")


@pytest.mark.parametrize(("there", "wanted"), [(3, 1), (8, 8)], ids=["few", "all"])
async def test_a_partition_that_cannot_do_without_it_gives_it(farm: Farm, there: int, wanted: int) -> None:
    fails_twice(farm)
    farm.has(NODES[:there])
    await never(farm, nodes=wanted)


@pytest.mark.parametrize(
    ("nodes", "state", "partition"),
    [(NODES, "down*", "prod*"), (NODES[:2] + NODES[4:], "idle", "prod*"), (NODES, "idle", "other"), ([], "idle", "prod*")],
    ids=["nodes that are down do not count", "of another partition", "no default partition", "nobody answers"],
)  # fmt: skip
async def test_what_the_partition_does_not_give_is_not_counted(
    farm: Farm, nodes: list[str], state: str, partition: str
) -> None:
    fails_twice(farm)
    farm.has(nodes, state, partition)
    await never(farm)


@pytest.mark.parametrize(
    "request_",
    [
        {"sbatch_options": ["--nodelist=n3"]}, {"sbatch_options": ["-wn3"]}, {"sbatch_options": ["-H", "-x", "n1"]}, {"reservation": "r"},
        {"sbatch_options": ["--partition", "big"]}, {"constraint": "gpu"}, {"gres": "gpu:1"},
    ],
)  # fmt: skip
async def test_whoever_says_which_nodes_it_may_be_gets_them(farm: Farm, request_: dict[str, Any]) -> None:
    fails_twice(farm)
    found, left_out = await farm.asks(**request_)
    assert found.avoided == () and "n3" not in left_out[0].replace("--exclude=n1", "")


REFUSES = """case $* in *--exclude*) echo 'sbatch: error: Batch job submission failed: Requested node configuration is not available' >&2; exit 1 ;; esac
"""


async def test_a_request_that_is_refused_without_it_is_made_with_it(farm: Farm) -> None:
    fails_twice(farm)
    farm.wrap("sbatch", f'echo "$*" >>{farm.folder}/asked\n{REFUSES}"$real" "$@"')
    found, left_out = await farm.asks()
    assert (found.avoided, left_out) == ((), ["--exclude=n3", ""])
    assert len(farm.jobs) == 1


async def test_a_request_that_is_refused_anyway_is_refused(farm: Farm) -> None:
    fails_twice(farm)
    farm.wrap("sbatch", f'echo "$*" >>{farm.folder}/asked\necho "sbatch: error: Invalid account" >&2; exit 1')
    with pytest.raises(SubmissionRefused, match="Invalid account"):
        await farm.asks()


async def test_an_answer_that_is_lost_is_asked_for_by_no_second_submission(farm: Farm) -> None:
    fails_twice(farm)
    lost = "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation"
    farm.wrap("sbatch", f'echo "$*" >>{farm.folder}/asked\necho "{lost}" >&2; exit 1')
    with pytest.raises(SubmissionUnsure):
        await farm.asks()
    assert len((farm.folder / "asked").read_text().splitlines()) == 1


async def test_what_is_no_nodes_name_is_passed_over(farm: Farm) -> None:
    for name in ("n3,n4", "-n3", "$(touch x)", "n 3"):
        folder = farm.folder / "state" / "failures" / name
        folder.mkdir(parents=True)
        for booking in (FIRST, SECOND):
            (folder / f"{booking}000-1").write_text("start x\n")
    farm.ran(FIRST, n1="well")
    assert await farm.cluster.failing_nodes() == []
    await never(farm)


async def folds_away(farm: Farm) -> None:
    """All jobs that were there ended more than a day ago, and the first submission of an hour has folded their folders away."""
    state = farm.folder / "state"
    for folder in state.glob("ab-*/[0-9]*"):
        (folder / "ended").write_text("released\n")
        os.utime(folder / "ended", (time.time() - 26 * 3600,) * 2)
    (state / ".swept").unlink(missing_ok=True)
    await farm.cluster.call("submit", "sweep", 60)
    assert not list(state.glob("ab-*"))


async def test_what_was_folded_away_still_tells_how_nodes_fared(farm: Farm) -> None:
    fails_twice(farm)
    await folds_away(farm)
    assert await farm.cluster.failing_nodes() == [FailingNode("n3", 2, "the service ended with exit code 127")]


async def test_what_was_folded_away_still_tells_that_it_fails_wherever_it_runs(farm: Farm) -> None:
    farm.ran(FIRST, n1="start x", n2="start x", n3="start x")
    farm.ran(SECOND, n1="start x")
    await folds_away(farm)
    assert await farm.cluster.failing_nodes() == []


async def test_a_movies_parts_that_were_folded_away_still_tell_of_its_scene(farm: Farm) -> None:
    for booking in (FIRST, SECOND):
        for part, (node, fared) in enumerate({"n1": "well", "n2": "well", "n3": "run it was killed"}.items()):
            farm.ran(booking, part, **{node: fared})
    await folds_away(farm)
    assert [one.node for one in await farm.cluster.failing_nodes()] == ["n3"]


@pytest.mark.parametrize("folded", [False, True])
async def test_many_failures_are_judged_by_as_many_processes_as_few(farm: Farm, folded: bool) -> None:
    """Each failure of a request of its own walked through the whole state folder: with 200 of them, for seconds, under the lock."""
    for command in ("find", "awk", "grep", "xargs", "sort"):
        farm.wrap(command, f'echo {command} >>{farm.folder}/processes; exec /usr/bin/{command} "$@"')

    async def processes(bookings: range) -> int:
        for number in bookings:
            for letter, kind in zip("abc", ("start x", "run x", "ready x"), strict=True):
                others = {"n1": "well", "n2": "well", "n4": "well", "n5": "well"}
                farm.ran(f"ab-{number:09x}{letter * 3}", asked=f"{letter}{number:03x}", **others, n3=kind)
        if folded:
            await folds_away(farm)
        (farm.folder / "processes").write_text("")
        assert [one.node for one in await farm.cluster.failing_nodes()] == ["n3"]
        return len((farm.folder / "processes").read_text().splitlines())

    few = await processes(range(2))
    assert await processes(range(2, 60)) == few


async def test_more_requests_than_a_command_takes_words_are_judged_in_part(
    farm: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An `xargs` that gives 32 KiB to a command (busybox's) ran none with a list of all."""
    farm.wrap("xargs", 'exec /usr/bin/xargs -s 32768 "$@"')
    for number in range(2200):
        failure = farm.folder / "state" / "failures" / "n4" / f"ab-{number:012x}000-1"
        failure.parent.mkdir(parents=True, exist_ok=True)
        failure.write_text("start x\n")
        (asked := farm.folder / "state" / f"ab-{number:012x}000" / "1" / "asked").parent.mkdir(parents=True)
        asked.write_text(f"{number:016x}\n")
    fails_twice(farm)
    assert "n3" in [one.node for one in await farm.cluster.failing_nodes()]


async def test_with_nothing_there_nothing_is_searched(farm: Farm) -> None:
    """A `find` that is given no folder searches the one it is in, which may be somebody's home."""
    fails_twice(farm)
    await folds_away(farm)
    farm.wrap("find", f'case ${{1-}} in -*) echo "$*" >>{farm.folder}/searched ;; esac; exec /usr/bin/find "$@"')
    assert [one.node for one in await farm.cluster.failing_nodes()] == ["n3"]
    assert not (farm.folder / "searched").exists()


def test_lines_that_are_none_are_passed_over() -> None:
    told = "failing n1 2 eA==\nfailing n2 two eA==\nfailing n3\nfailing n4 3 !\n"
    assert read_failing(read(ANSWERS["inspect"], told)) == [FailingNode("n1", 2, "x"), FailingNode("n4", 3, "")]
