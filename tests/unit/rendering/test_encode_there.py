"""A movie that is made on the cluster: what the step tells, and what is believed of it."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from airflow_brayns.cluster.allocation import Allocation, AllocationStatus, ServiceStatus
from airflow_brayns.cluster.owner import Owner
from airflow_brayns.cluster.poller import Poller
from airflow_brayns.cluster.slurm import SlurmCluster
from airflow_brayns.errors import AllocationLost, InvalidSetting, RenderingFailed
from airflow_brayns.movie.codecs import Encoding
from airflow_brayns.movie.ffmpeg import Encoded
from airflow_brayns.movie.frame_store import Survey
from airflow_brayns.movie.manifest import Header, Known, Manifest
from airflow_brayns.movie.plan import Plan, SceneFacts
from airflow_brayns.rendering import encode as module
from airflow_brayns.rendering.encode import (
    CHANGED,
    UNPROVED,
    EncodeRequest,
    Sources,
    _begin,
    encode_here,
    encode_on_cluster,
    encode_script,
    encode_there,
    kept_name,
    sources_in,
    step_name,
)
from airflow_brayns.services.booking import Booking
from airflow_brayns.services.session import Session
from airflow_brayns.services.settings import ClusterSettings
from tests.support.clock import jumping_clock
from tests.support.movie import specification
from tests.support.shell import FakeShell, in_turn, log_of, look, service

__all__ = ["jumping_clock"]

NAME = "ab-0123456789ab000"
BOOKING = Booking(NAME[:-3], (Allocation(NAME, 1, "77", folder=f"/s/{NAME}/1"),))
FACTS = {"low": [0, 0, 0], "high": [1, 1, 1], "first": 0, "last": 0, "dt": 0}
LOG = logging.getLogger("encode")


STEP = step_name("the script")


def sources(frames: int = 50) -> Sources:
    plan = Plan(specification(Path("/a.obj"), frames=frames), SceneFacts.from_plain(FACTS), "scene")
    return Sources("/frames", plan, "/s/bin/ffmpeg")


def said(frames: int = 50, size: str = "96x64", seconds: str = "00:00:02.00", sha256: str = "a" * 64) -> str:
    """What ffmpeg and the script print."""
    return (
        f"frame=12\nframe={frames}\n  Duration: {seconds}, start: 0.0\n  Stream #0:0: Video: h264 (High), yuv420p, {size}, 25 fps\n"
        f"sha256 {sha256} 4321\n"
    )


async def made(
    log: str = "",
    exited: str = "0 the service ended",
    before: Sequence[str] = (),
    found: Sequence[str] = (),
    step: str = STEP,
    calls: list[str] | None = None,
    **ends: Any,
) -> Any:
    """What comes of a step that runs for two looks, and then has ended.

    :param before: further looks, before it has ended.
    :param found: services of earlier tries.
    :param calls: takes what the cluster is asked to do.
    """
    ended = look(NAME, services=[*found, service(step, exited=exited)], **ends) + log_of(log, step, NAME)
    first = look(NAME, services=list(found) or [service(step)])
    seen = iter([first, look(NAME, services=[*found, service(step)]), *before])

    async def answer(script: str) -> str:
        patience = re.search(r"^look_for [0-9]+ ([0-9]+) ", script, re.MULTILINE)
        if patience is None:
            call = script.rstrip().rpartition("\n")[2]
            if calls is not None:
                calls.append(call)
            return f"stopped {call.split()[-1]}\n" if call.startswith("stop_service") else "added encode\n"
        await asyncio.sleep(int(patience[1]))
        return next(seen, ended)

    shell = FakeShell(answer)
    session = Session(
        Poller(SlurmCluster(shell, state_dir="/s"), 10), ClusterSettings.read({"scheduler": "slurm"}), LOG
    )
    told = await encode_there(session, BOOKING, "the script", "/out/movie.mp4", sources(), 25.0)
    assert any("the script" in script and f"add_service {NAME} 1 {step} " in script for script in shell.scripts)
    return told


@pytest.mark.usefixtures("jumping_clock")
async def test_what_the_step_tells_is_the_movie() -> None:
    movie, sha256 = await made(said())
    assert (movie.path, movie.frames, movie.duration, movie.width, movie.height, movie.codec, movie.bytes) == (
        Path("/out/movie.mp4"), 50, 2.0, 96, 64, "h264", 4321,
    )  # fmt: skip
    assert sha256 == "a" * 64


@pytest.mark.usefixtures("jumping_clock")
async def test_what_an_earlier_try_encodes_otherwise_is_stopped_and_not_taken_for_this_movie() -> None:
    """Its worker had been killed, and the movie is to be another one by now: of another codec, at another place."""
    calls: list[str] = []
    other = step_name("another script")
    movie, _ = await made(
        said(), found=[service(other), service("encode"), service("encode-0", exited="0 done")], calls=calls
    )
    assert movie.frames == 50
    assert [call.split() for call in calls[:2]] == [
        ["stop_service", NAME, "1", other],
        ["stop_service", NAME, "1", "encode"],
    ]
    assert calls[2].startswith("add_service")


@pytest.mark.usefixtures("jumping_clock")
@pytest.mark.parametrize(("exited", "step"), [("", STEP), ("65 x", f"{STEP}-1"), ("0 stopped", f"{STEP}-1")])
async def test_what_an_earlier_try_encodes_alike_goes_on_unless_it_has_failed(exited: str, step: str) -> None:
    calls: list[str] = []
    found = [service(STEP, exited=exited)] if step != STEP else []
    await made(said(), found=found, step=step, calls=calls)
    assert [call.split()[0] for call in calls] == ["add_service"]


async def test_what_goes_on_in_the_place_of_one_that_failed_goes_on_too() -> None:
    """A third try stopped what the second had begun, and began anew."""
    cluster, shell = in_turn("present encode\n")
    tried = (ServiceStatus(STEP, exit_code=65), ServiceStatus(f"{STEP}-1"))
    status = AllocationStatus(NAME, 1, services=tried)
    assert await _begin(cluster, BOOKING.allocations[0], status, "the script") == f"{STEP}-1"
    assert shell.commands == 1


@pytest.mark.usefixtures("jumping_clock")
@pytest.mark.parametrize(
    ("log", "why"),
    [
        (said(frames=49), "49 frames.* instead of 50 frames"), (said(size="96x66"), "96x66.* instead of 50 frames"),
        (said(seconds="00:00:02.11"), "2.11 s instead of 2.00 s"), (said(seconds="00:00:01.89"), "1.89 s instead of 2.00 s"),
        (said().replace("sha256", "sha1"), "did not tell what it made"), ("", "did not tell what it made"), (said().replace("Stream", "stream"), "did not tell"),
        (said().replace("Duration", "duration"), "did not tell"), (said().replace("frame=", "frames="), "did not tell"),
    ],
)  # fmt: skip
async def test_a_movie_that_is_not_what_it_should_be_is_refused(log: str, why: str) -> None:
    with pytest.raises(RenderingFailed, match=why):
        await made(log)


@pytest.mark.usefixtures("jumping_clock")
async def test_a_step_is_waited_for_until_it_has_ended() -> None:
    """Also one that its keeper has not begun yet: then nothing is told of it."""
    running = look(NAME, services=[service(STEP)]) + log_of("frame=12\n", STEP, NAME)
    movie, _ = await made(said(), before=[look(NAME), running, running])
    assert movie.frames == 50


@pytest.mark.usefixtures("jumping_clock")
@pytest.mark.parametrize("seconds", ["00:00:02.09", "00:00:01.91"])
async def test_a_frame_more_or_less_is_how_files_round(seconds: str) -> None:
    await made(said(seconds=seconds))


@pytest.mark.usefixtures("jumping_clock")
@pytest.mark.parametrize(
    ("exited", "why", "field"),
    [
        (f"{CHANGED} x", "some in /frames are not those that were rendered", "frames"), (f"{UNPROVED} x", "/s/bin/ffmpeg was cut off or changed", "state_dir"),
        ("1 x", "ffmpeg failed on r1i1n0 with exit code 1: no such encoder", None),
    ],
)  # fmt: skip
async def test_a_step_that_fails_says_why_and_can_be_tried_again(exited: str, why: str, field: str | None) -> None:
    with pytest.raises(RenderingFailed, match=why) as raised:
        await made("no such encoder\n", exited)
    assert raised.value.retry
    assert raised.value.field == (field or raised.value.field)


@pytest.mark.usefixtures("jumping_clock")
async def test_a_job_that_ends_before_its_step_is_lost() -> None:
    with pytest.raises(AllocationLost, match="TIMEOUT"):
        await made(exited="", word="TIMEOUT", ended="time limit")


@pytest.mark.parametrize(("frames", "step"), [(1, 1), (31, 1), (32, 2), (50, 3), (160, 10)])
def test_a_sheet_shows_sixteen_of_the_frames_or_a_few_more(frames: int, step: int) -> None:
    script = encode_script(sources(frames), "/out/movie.mp4", Encoding(), {}, poster=True, sheet=True, mark="m")
    assert f"\nsheet_step={step}\n" in script
    assert "\nposter=/out/movie.poster.jpg\n" in script
    assert "\nsheet=/out/movie.sheet.jpg\n" in script
    assert f"poster_of=/frames/{frames // 2:05d}.png\n" in script


@pytest.mark.parametrize(("poster", "sheet"), [(False, False), (True, False), (False, True)])
async def test_on_the_worker_the_log_names_the_movie_and_the_pictures_that_are_asked_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, poster: bool, sheet: bool
) -> None:
    (tmp_path / "frames").mkdir()
    for number in range(3):
        Image.new("RGB", (96, 64), (number * 50, 0, 0)).save(tmp_path / "frames" / f"{number:05d}.png")
    owner = Owner("", "", "dag/run/task")
    request = EncodeRequest(
        str(tmp_path / "frames"), tmp_path / "movie.mp4", Encoding(), poster, sheet, owner, frames=3
    )
    with caplog.at_level(logging.INFO, "encode"):
        movie = await encode_here(request, None, {}, LOG)
    assert movie.frames == 3
    assert "3 of 3 frames encoded" in caplog.text
    assert f"The movie is {movie.text()}" in caplog.messages
    assert ("movie.poster.jpg" in caplog.text, "movie.sheet.jpg" in caplog.text) == (poster, sheet)


H264 = Encoding("h264", 25.0)
MADE = Encoded(Path("/out/movie.mp4"), 50, 2.0, 96, 64, "h264", 4321)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is done for a movie on the cluster, one after the other; each step as it is when all goes well."""
    done: list[Any] = []

    async def find(cluster: Any, folder: str, about: str) -> Any:
        done.append(f"look into {folder} for {about}")
        return sources(), {"version": "3.10.1"}

    async def book(cluster: Any, settings: ClusterSettings, owner: Owner, **what: Any) -> Booking:
        done.append(f"book {owner.name} {owner.token} {settings.packing} {what['nodes']} {what['plugins']}")
        return BOOKING

    async def encode(session: Any, booking: Booking, script: str, *rest: Any) -> Any:
        assert booking is BOOKING
        assert '"by"' in script and "3.10.1" in script
        done.append("encode")
        return MADE, "a" * 64

    async def bring(cluster: Any, remote: str, target: Path, sha256: str, size: int, log: Any, *, owner: str) -> Path:
        done.append(f"fetch {remote} {target} {size} {owner}")
        return target

    async def give_back(cluster: Any, owner: Owner, log: Any, *, told_to_stop: bool) -> None:
        done.append(f"give back {owner.name} {owner.token} {told_to_stop}")

    for name, step in (("sources_in", find), ("book", book), ("encode_there", encode), ("fetch", bring)):
        monkeypatch.setattr(module, name, step)
    monkeypatch.setattr(module, "give_back", give_back)
    return done


def sources_with(overlays: Any, steps: list[Any]) -> Any:
    async def find(cluster: Any, folder: str, about: str) -> Any:
        steps.append(f"look into {folder} for {about}")
        plan = Plan(
            specification(Path("/a.obj"), overlays=overlays, resolution=[640, 480]),
            SceneFacts.from_plain(FACTS),
            "scene",
        )
        return Sources("/frames", plan, "/s/bin/ffmpeg"), {}

    return find


async def on_cluster(
    steps: list[Any], near: Path | None = None, answers: Any = "", encoding: Encoding = H264
) -> tuple[Encoded, dict[str, Any]]:
    shell = FakeShell(answers)
    read = ClusterSettings.read({"scheduler": "slurm", "packing": "job_per_node"})
    session = Session(Poller(SlurmCluster(shell, state_dir="/s"), 10), read, LOG)
    request = EncodeRequest("/frames", Path("/out/movie.mp4"), encoding, False, False, OWNER, near=near)

    async def announce(booking: Booking) -> None:
        assert booking is BOOKING
        steps.append("announce")

    found = await encode_on_cluster(session, request, {"by": "me"}, announce)
    steps.extend(script.strip() for script in shell.scripts)
    return found


OWNER = Owner(NAME, "try-1", "dag/run/task")
BEFORE = ["look into /frames for dag/run/task", f"book {NAME} try-1 one_job 1 None", "announce", "encode"]


async def test_a_job_of_its_own_encodes_is_announced_and_given_back(steps: list[Any]) -> None:
    made, known = await on_cluster(steps)
    told = {"codec": "h264", "fps": "25", "crf": 18, "pixel_format": "yuv420p"}
    assert (made, known) == (MADE, {"by": "me", "version": "3.10.1", "encoding": told})
    assert steps == [*BEFORE, f"give back {NAME} try-1 False"]


async def test_a_movie_that_is_wanted_here_is_fetched_by_its_second_name_which_goes(
    steps: list[Any], tmp_path: Path
) -> None:
    near = tmp_path / "movie.mp4"
    made, _ = await on_cluster(steps, near)
    assert made.path == near
    *_, fetched, removed = steps
    word, *brought = fetched.split(" ")
    assert (word, brought[1:]) == ("fetch", [str(near), "4321", "dag/run/task"])
    assert brought[0] == kept_name("/out/movie.mp4", brought[0].split(".")[2])
    assert removed == f"rm -f {brought[0]}"


async def test_the_same_in_the_same_job_is_one_writer(steps: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A next try goes on with the step of the one before, and fetches what that has made; in another job it is another writer."""
    scripts: list[str] = []

    async def encode(session: Any, booking: Booking, script: str, *rest: Any) -> Any:
        scripts.append(script)
        return MADE, "a" * 64

    monkeypatch.setattr(module, "encode_there", encode)
    for crf in (18, 18, 20):
        await on_cluster(steps, encoding=Encoding("h264", 25.0, crf))
    other = Booking(BOOKING.name, (Allocation(NAME, 2, "78", folder=f"/s/{NAME}/2"),))
    monkeypatch.setitem(globals(), "BOOKING", other)
    await on_cluster(steps, encoding=Encoding("h264", 25.0, 18))
    assert scripts[0] == scripts[1]
    assert len({re.search(r"^movie_part=(.*)$", one, re.MULTILINE)[1] for one in scripts}) == 3  # type: ignore[index]


async def test_overlays_that_cannot_be_drawn_are_told_before_a_node_is_asked_for(
    steps: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "sources_in", sources_with({"logo": "/nowhere/logo.png"}, steps))
    with pytest.raises(InvalidSetting, match="overlays.logo: give the path"):
        await on_cluster(steps)
    assert steps == BEFORE[:1]


async def test_overlays_are_drawn_here_and_lie_beside_the_frames_while_a_node_encodes(
    steps: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    scripts: list[str] = []

    async def encode(session: Any, booking: Booking, script: str, *rest: Any) -> Any:
        scripts.append(script)
        return MADE, "a" * 64

    monkeypatch.setattr(module, "sources_in", sources_with({"title": "µ `id` $(id)"}, steps))
    monkeypatch.setattr(module, "encode_there", encode)
    await on_cluster(steps, answers=lambda script: "laid" if "sha256sum" in script else "")
    [script] = scripts
    path = re.search(r"^drawn=(/frames/.overlays.[0-9a-f]{8}-[0-9a-f]{12}.tar.gz)$", script, re.MULTILINE)
    assert path is not None
    assert "layers=(-f png_pipe -framerate 25 -i layer0.png)" in script
    assert "µ `id`" not in script.replace("metadata='", "").partition("codec=")[2]
    laid, *_, removed = [step for step in steps if path[1].rpartition("-")[0] in step]
    assert "mv -f" in laid
    assert removed == f"rm -f {path[1].rpartition('-')[0]}-*"


async def test_nodes_are_given_back_when_the_encoding_fails(steps: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: Any) -> Any:
        raise RenderingFailed("ffmpeg failed")

    monkeypatch.setattr(module, "encode_there", fail)
    with pytest.raises(RenderingFailed, match="ffmpeg failed"):
        await on_cluster(steps)
    assert steps == [*BEFORE[:-1], f"give back {NAME} try-1 False"]


HEADER = Header(
    scene="scene", facts=FACTS, way="one-pass", version="3.10.1", specification=specification(Path("/a.obj"), frames=2).plain(),
    measured={},
)  # fmt: skip


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets what the folder of frames on the cluster holds."""

    async def install(cluster: Any, program: Path) -> str:
        return "/s/bin/ffmpeg"

    monkeypatch.setattr(module, "install", install)
    monkeypatch.setattr(module, "static_ffmpeg", lambda: "/usr/bin/ffmpeg")

    def holds(manifest: Manifest, missing: tuple[int, ...] = ()) -> None:
        async def read(store: Any) -> Manifest:
            return manifest

        async def survey(store: Any, plan: Plan, known: Manifest) -> Survey:
            return Survey(missing=list(missing))

        monkeypatch.setattr(module.ClusterFrames, "read", read)
        monkeypatch.setattr(module.ClusterFrames, "survey", survey)

    return holds


async def test_a_folder_in_which_nothing_was_rendered_is_no_movie(folder: Any) -> None:
    folder(Manifest(None, {}))
    with pytest.raises(RenderingFailed, match="/frames has no manifest on the cluster") as raised:
        await sources_in(SlurmCluster(FakeShell("")), "/frames", "dag/run/task")
    assert (raised.value.field, raised.value.retry) == ("frames_dir", False)


async def test_frames_of_the_cluster_are_those_of_their_manifest_and_all_of_them(folder: Any) -> None:
    frames = {number: Known("key", f"0000{number}.png", f"{number}" * 64, 1, 1) for number in range(2)}
    folder(Manifest(HEADER, frames))
    found, known = await sources_in(SlurmCluster(FakeShell("")), "/frames", "dag/run/task")
    assert (found.folder, found.ffmpeg, list(found.plan.frames)) == ("/frames", "/s/bin/ffmpeg", [0, 1])
    assert found.sums == hashlib.sha256(f"{'0' * 64}  00000.png\n{'1' * 64}  00001.png\n".encode()).hexdigest()
    assert known["manifest_sha256"] == hashlib.sha256(f"0:{'0' * 64}\n1:{'1' * 64}\n".encode()).hexdigest()
    folder(Manifest(HEADER, frames), missing=(1,))
    with pytest.raises(RenderingFailed, match=r"1 of 2 in /frames cannot be encoded.*1 missing") as raised:
        await sources_in(SlurmCluster(FakeShell("")), "/frames", "dag/run/task")
    assert not raised.value.retry
