"""Frames that stay on the cluster: what a node's answer is taken for, and who is asked when it says nothing."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_brayns.cluster.allocation import Allocation
from airflow_brayns.cluster.slurm import SlurmCluster
from airflow_brayns.errors import (
    BraynsError,
    ConnectionLost,
    InvalidSetting,
    RenderingFailed,
    StorageFailed,
    Superseded,
)
from airflow_brayns.movie.frame_store import Made
from airflow_brayns.movie.manifest import FrameRecord, Header, Manifest
from airflow_brayns.movie.plan import Plan, SceneFacts
from airflow_brayns.movie.used import Used, UsedRecord
from airflow_brayns.rendering.cluster_frames import ClusterFrames
from airflow_brayns.rendering.frames_script import check_folder
from tests.support.clock import jumping_clock
from tests.support.movie import specification
from tests.support.shell import FakeShell, coded

__all__ = ["jumping_clock"]
pytestmark = pytest.mark.usefixtures("jumping_clock")

MOVIE, MADE = "dag/run/render", Made(1.5, "n1", "77", "brayns1", "3.10.1", "snapshot")
ALLOCATION = Allocation("ab-0123456789ab000", 1, "77")
N1, N2 = (ALLOCATION, "n1"), (ALLOCATION, "n2")
FACTS = {"low": [0, 0, 0], "high": [1, 1, 1], "first": 0, "last": 0, "dt": 0}
PLAN = Plan(specification(Path("/a.obj"), frames=4), SceneFacts.from_plain(FACTS), "scene")
HEADER = Header("scene", FACTS, "snapshot", "3.10.1", {}, {})
Answer = Callable[[str], Any] | str | BaseException


class Place:
    """A folder on a cluster that answers as a test says, by the last function that a script calls.

    :param nodes: that may check frames.
    """

    def __init__(self, *nodes: Any, **answers: Answer) -> None:
        self.nodes, self.answers = (
            list(nodes),
            {"open_frames": "opened\nread\n", "renew_frames": "", "close_frames": "", **answers},
        )
        self.shell = FakeShell(self._answer)
        self.calls: list[str] = []
        cluster = SlurmCluster(self.shell, state_dir="/s")
        self.store = ClusterFrames(cluster, "/frames/", "/ffmpeg", MOVIE, "try1", lambda: self.nodes)

    def _answer(self, script: str) -> Any:
        if "\nstep 77 " in script:
            verb, call = "step", script[script.rindex("\nstep 77 ") + 1 :]
        else:
            call = script[script.rindex("\n}\n") + 3 :]
            verb = call.split()[0]
        self.calls.append(call)
        answer = self.answers[verb]
        return answer(call) if callable(answer) else answer

    def made(self, verb: str) -> list[str]:
        return [call for call in self.calls if call.startswith(verb)]


def record(frame: int, **changes: Any) -> str:
    values = {
        "frame": frame,
        "key": PLAN.key(frame),
        "file": PLAN.file(frame),
        "sha256": f"sum{frame}",
        "size": 10,
        "mtime": 5 * 10**9,
    }
    return FrameRecord(**{**values, **changes}).line()


def manifest(*lines: str) -> Manifest:
    return Manifest.read([HEADER.line(), *lines])


def frame_of(call: str) -> list[int]:
    return [int(found) for found in re.findall(r"^([0-9]+) \.[0-9]{5,}\.try1\.part\.png", call, re.MULTILINE)]


# ---- the folder --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("folder", ["relative", "", "/a/../b", "/a/..", "/a\nb", "/a\0b", "/" + "x" * 4095, "/\ud800"])
def test_a_folder_is_an_absolute_path(folder: str) -> None:
    with pytest.raises(InvalidSetting, match="^frames_dir"):
        check_folder(folder)


def test_a_folder_has_one_spelling() -> None:
    assert [check_folder(one) for one in ("/a/b/", "/", "/a..b", "/" + "x" * 4094)] == [
        "/a/b",
        "/",
        "/a..b",
        "/" + "x" * 4094,
    ]


async def test_opened_it_is_known_what_is_there_and_the_claim_is_renewed_by_time() -> None:
    place = Place(open_frames=f"opened\nline {HEADER.line()}line {record(1)}read\n")
    found = await place.store.open()
    assert found.header == HEADER
    assert list(found.frames) == [1]
    assert place.calls[0] == f"open_frames {coded(MOVIE)} 180"
    await asyncio.sleep(100)
    assert len(place.made("renew_frames")) == 2
    await place.store.close()
    await asyncio.sleep(100)
    assert len(place.made("renew_frames")) == 2
    assert place.calls[-1] == "close_frames"


async def test_a_renewal_that_fails_is_no_end() -> None:
    place = Place(renew_frames=ConnectionLost("cut"))
    await place.store.open()
    await asyncio.sleep(100)
    assert len(place.made("renew_frames")) == 2
    await place.store.close()


@pytest.mark.parametrize(
    ("answer", "error", "why", "retry"),
    [
        ("unwritable /frames\nread\n", InvalidSetting, "/frames cannot be written on the cluster", False),
        (f"busy {coded('dag/other')}\nread\n", InvalidSetting, "/frames is in use by dag/other", True),
        ("read\n", ConnectionLost, "/frames could not be opened", True),
        ("opened\n", ConnectionLost, "its manifest could not be read to its end", True),
    ],
)
async def test_why_a_folder_cannot_be_opened(answer: str, error: type[BraynsError], why: str, retry: bool) -> None:
    with pytest.raises(error, match=why) as raised:
        await Place(open_frames=answer).store.open()
    assert raised.value.retry is retry


async def test_who_only_reads_takes_nothing_over() -> None:
    place = Place(read_frames=f"line {HEADER.line()}read\n")
    assert (await place.store.read()).header == HEADER
    assert place.calls == ["read_frames"]


# ---- what is there -----------------------------------------------------------------------------------------------------
async def test_a_file_of_the_size_and_time_that_were_written_down_is_not_read_again() -> None:
    place = Place(list_frames=f"file {PLAN.file(0)} 10 5.75\nfile {PLAN.file(1)} 11 5\nfile {PLAN.file(2)} 10 5\n")
    found = await place.store.survey(PLAN, manifest(record(0), record(1), record(2, key="other"), record(3)))
    assert (found.done, found.missing, found.changed, found.damaged) == ({0}, [3], [2], [1])
    assert place.calls == ["list_frames"]


async def test_one_of_another_time_is_read() -> None:
    listed = "".join(f"file {PLAN.file(frame)} 10 6\n" for frame in range(3))
    place = Place(list_frames=listed, hash_frames=f"hash {PLAN.file(0)} sum0\nhash {PLAN.file(1)} other\n")
    found = await place.store.survey(PLAN, manifest(record(0), record(1), record(2)))
    assert (found.done, found.damaged, found.missing) == ({0}, [1, 2], [3])
    assert place.made("hash_frames") == ["hash_frames 00000.png 00001.png 00002.png"]


async def test_what_is_none_of_this_movies_is_put_aside_and_nothing_else() -> None:
    listed = "file 00001.png 10 5\nfile 00009.png 10 5\nodd 00002.png\nfile notes.txt 1 5\nfile 00003.jpg 1 5\n"
    place = Place(list_frames=listed, put_aside="moved\nmoved\nmoved\n")
    await place.store.survey(PLAN, manifest())
    assert await place.store.put_aside(PLAN) == 3
    assert place.made("put_aside") == ["put_aside set-aside 00009.png 00002.png 00003.jpg"]


@pytest.mark.parametrize(
    ("answer", "error"), [("unwritable /frames\n", StorageFailed), (f"superseded {coded(MOVIE)}\n", Superseded)]
)
async def test_what_cannot_be_put_aside_is_an_error(answer: str, error: type[BraynsError]) -> None:
    place = Place(list_frames="file 00009.png 10 5\n", put_aside=answer)
    await place.store.survey(PLAN, manifest())
    with pytest.raises(error):
        await place.store.put_aside(PLAN)


async def test_many_files_are_put_aside_in_several_goes() -> None:
    listed = "".join(f"file {number:05d}.png 10 5\n" for number in range(10, 1210))
    place = Place(list_frames=listed, put_aside=lambda call: "moved\n" * (len(call.split()) - 2))
    await place.store.survey(PLAN, manifest())
    assert await place.store.put_aside(PLAN) == 1200
    assert [len(call.split()) - 2 for call in place.made("put_aside")] == [500, 500, 200]


async def test_what_all_frames_have_in_common_is_written_down() -> None:
    place = Place(begin_frames="begun\n")
    await place.store.begin(HEADER)
    assert HEADER.line().rstrip() in place.calls[0].replace("'\"'\"'", "'")
    for answer, error in (("", StorageFailed), (f"superseded {coded('dag/other')}\n", Superseded)):
        with pytest.raises(error):
            await Place(begin_frames=answer).store.begin(HEADER)


async def test_what_a_try_has_used_is_written_down_beside_the_frames() -> None:
    place, used = Place(begin_frames="begun\n"), UsedRecord(MOVIE, "try1", 1000.5, Used(3, 2, 1, 0, 4), ("77/n1",))
    await place.store.note(used)
    [call] = place.made("begin_frames")
    assert Manifest.read([shlex.split(call)[1]]).used == {"try1": used}
    with pytest.raises(Superseded):
        await Place(begin_frames="superseded\n").store.note(used)


def test_a_service_writes_a_frame_beside_its_place() -> None:
    assert Place().store.file_path(PLAN, 2) == "/frames/.00002.try1.part.png"


# ---- checking ----------------------------------------------------------------------------------------------------------
def keeping(place: Place, *frames: int) -> Any:
    """Keep frames at the same time; what became of each."""
    return asyncio.gather(*(place.store.keep(PLAN, frame, b"", MADE) for frame in frames), return_exceptions=True)


async def test_frames_that_come_together_are_checked_together() -> None:
    place = Place(N1, step=lambda call: "".join(f"kept {frame}\n" for frame in frame_of(call)))
    assert await keeping(place, 0, 1, 2) == [False] * 3
    [call] = place.made("step")
    assert call.startswith("step 77 72 n1 ")
    assert "check_frames 96 64 <<" in call
    [line] = re.findall(r"^1 \.00001\.try1\.part\.png 00001\.png (\{.*)$", call, re.MULTILINE)
    told = json.loads(line + "}")
    assert (told["frame"], told["key"], told["node"], told["seconds"], told["way"], told["scene"]) == (
        1,
        PLAN.key(1),
        "n1",
        1.5,
        "snapshot",
        "scene",
    )
    assert not {"sha256", "size", "mtime"} & set(told), "the node adds what it has seen"


async def test_a_frame_that_is_not_whole_is_refused_with_why_and_the_others_are_kept() -> None:
    place = Place(N1, step=f"kept 0\nrefused 1 {coded('4x4 in place of 96x64')}\nkept 9\nkept x\n")
    kept, refused = await keeping(place, 0, 1)
    assert kept is False
    assert isinstance(refused, RenderingFailed)
    assert "no whole frame: 4x4 in place of 96x64" in str(refused)
    assert refused.frame == 1


async def test_what_a_dying_node_has_left_is_checked_on_another() -> None:
    answers = iter(["kept 0\n", ConnectionLost("the step was cut off"), "kept 1\nkept 2\n"])
    place = Place(N1, N2, step=lambda _: next(answers))
    assert await keeping(place, 0, 1, 2) == [False] * 3
    assert [(call.split()[3], frame_of(call)) for call in place.made("step")] == [
        ("n1", [0, 1, 2]),
        ("n2", [1, 2]),
        ("n1", [1, 2]),
    ]


async def test_where_no_node_is_there_one_is_waited_for() -> None:
    place = Place(step="kept 0\n")
    working = asyncio.create_task(place.store.keep(PLAN, 0, b"", MADE))
    await asyncio.sleep(200)
    assert not working.done()
    place.nodes = [N1]
    await working


@pytest.mark.parametrize("nodes", [[], [N1]])
async def test_five_minutes_without_an_answer_of_any_node_end_it_and_a_retry_goes_on(nodes: list[Any]) -> None:
    place = Place(*nodes, step=ConnectionLost("cut"))
    began = time.monotonic()
    [error] = await keeping(place, 0)
    assert isinstance(error, StorageFailed)
    assert error.retry
    assert re.search(r"could not be checked: (cut|no node is there to check them on)$", str(error))
    assert "a retry goes on from here" in str(error)
    assert 300 < time.monotonic() - began < 400, (
        "not before, and not for ever; a busy machine adds to the clock that jumps"
    )


async def test_a_login_that_is_refused_is_not_tried_for_five_minutes() -> None:
    place = Place(N1, step=ConnectionLost("the login node refused the login", retry=False))
    [error] = await keeping(place, 0)
    assert isinstance(error, StorageFailed)
    assert not error.retry
    assert len(place.made("step")) == 1


async def test_a_step_that_says_nothing_of_use_is_told_with_what_it_said() -> None:
    for answer, said in ((f"failed {coded('srun: no room')}\n", "srun: no room"), ("odd\n", "odd"), ("", "nothing")):
        [error] = await keeping(Place(N1, step=answer), 0)
        assert f"the step on n1 of job 77 said {said}" in str(error)


@pytest.mark.parametrize(
    ("answer", "error", "why"),
    [
        (f"kept 0\nsuperseded {coded(MOVIE)}\n", Superseded, "another try of this movie has taken over"),
        (f"superseded {coded('dag/other')}\n", Superseded, "dag/other has taken it over"),
        ("unwritable /frames\n", StorageFailed, "/frames cannot be written on the cluster"),
    ],
)
async def test_a_folder_that_is_not_ours_any_more_ends_all_that_wait(
    answer: str, error: type[BraynsError], why: str
) -> None:
    found = await keeping(Place(N1, step=answer), 0, 1)
    assert [type(one) for one in found] == [error, error]
    assert why in str(found[1])


async def test_frames_that_come_while_others_are_checked_come_next() -> None:
    async def slow(call: str) -> str:
        await asyncio.sleep(30)
        return "".join(f"kept {frame}\n" for frame in frame_of(call))

    place = Place(N1, step=slow)
    first = asyncio.create_task(place.store.keep(PLAN, 0, b"", MADE))
    await asyncio.sleep(10)
    await place.store.keep(PLAN, 1, b"", MADE)
    await first
    assert [frame_of(call) for call in place.made("step")] == [[0], [1]]


async def test_closed_it_leaves_nobody_waiting() -> None:
    place = Place()
    working = asyncio.create_task(place.store.keep(PLAN, 0, b"", MADE))
    await asyncio.sleep(10)
    await place.store.close()
    with pytest.raises(asyncio.CancelledError):
        await working


async def test_it_closes_within_seconds_though_the_cluster_is_silent() -> None:
    async def silent(_: str) -> str:
        await asyncio.sleep(10**6)
        return ""

    place = Place(close_frames=silent)
    began = time.monotonic()
    await place.store.close()
    assert time.monotonic() - began < 5
