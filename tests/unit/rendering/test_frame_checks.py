"""Frames that stay on the cluster are checked by whichever node answers."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from airflow_brayns.cluster.allocation import Allocation
from airflow_brayns.cluster.local import LocalCluster
from airflow_brayns.cluster.shell import LocalShell
from airflow_brayns.errors import ConnectionLost, RenderingFailed, StorageFailed
from airflow_brayns.movie.ffmpeg import static_ffmpeg
from airflow_brayns.movie.frame_store import Made
from airflow_brayns.movie.manifest import Header, Manifest
from airflow_brayns.movie.plan import Plan, SceneFacts, scene_hash
from airflow_brayns.movie.specification import MovieSpecification
from airflow_brayns.rendering import frame_checks
from airflow_brayns.rendering.cluster_frames import ClusterFrames
from airflow_brayns.rendering.frame_checks import Place

JOB = Allocation("ab-0123456789ab000", 1, "7")
MADE = Made(0.1, "n1", "7", "brayns1", "3.10.1", "one-pass")
SPECIFICATION = MovieSpecification.check({"models": [{"path": "/data/cube.obj"}], "resolution": [96, 64], "frames": 3})
PLAN = Plan(SPECIFICATION, SceneFacts.read({"min": [0, 0, 0], "max": [1, 1, 1]}, {}), scene_hash(SPECIFICATION))


class Nodes(LocalCluster):
    """A cluster whose nodes do what a test says; the others run the step here."""

    def __init__(self, **does: Callable[[str], str]) -> None:
        super().__init__(LocalShell())
        self.does, self.asked = does, list[str]()

    async def run_step(self, allocation: Allocation, script: str, *, timeout: float, node: str = "") -> str:
        self.asked.append(node)
        if node in self.does:
            return self.does[node](await super().run_step(allocation, script, timeout=timeout))
        return await super().run_step(allocation, script, timeout=timeout)


def dies(answer: str) -> str:
    """After all was done, before a word of it was heard."""
    raise ConnectionLost("the node does not answer")


def dies_half_way(answer: str) -> str:
    kept = [line for line in answer.split("\n") if line.startswith("kept ")]
    return f"{kept[0]}\nfailed {base64.b64encode(b'Node failure on n1').decode()}"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(frame_checks, "_PAUSE_SECONDS", 0.05)
    monkeypatch.setattr(frame_checks, "_BATCH_SECONDS", 0.01)
    (tmp_path / "ffmpeg").write_text("#!/bin/sh\necho 'Stream #0: Video: png, rgb24, 96x64, 25 fps'\n")
    (tmp_path / "ffmpeg").chmod(0o755)
    return tmp_path


async def keep_three(
    folder: Path, cluster: Nodes, where: Callable[[], list[Place]], ffmpeg: Path | None = None
) -> ClusterFrames:
    program = str(ffmpeg or folder / "ffmpeg")
    store = ClusterFrames(cluster, str(folder / "frames"), program, "movie", "token", where)
    await store.open()
    await store.begin(Header(PLAN.scene, PLAN.facts.plain(), "one-pass", "3.10.1", {}, {}))
    for frame in PLAN.frames:
        Path(store.file_path(PLAN, frame)).write_bytes(b"a picture")
    async with asyncio.timeout(60):
        await asyncio.gather(*(store.keep(PLAN, frame, b"", MADE) for frame in PLAN.frames))
    return store


async def check_kept(store: ClusterFrames, folder: Path) -> None:
    found: Manifest = await store.read()
    assert sorted(found.frames) == [0, 1, 2]
    lines = (folder / "frames" / "manifest.jsonl").read_text().splitlines()
    assert len(lines) == 1 + 3, "each was written down once"
    await store.close()


@pytest.mark.parametrize("end", [dies, dies_half_way, lambda answer: "failed "])
async def test_a_batch_whose_node_dies_goes_to_another_one(folder: Path, end: Callable[[str], str]) -> None:
    """It ended the try, and the frames that it had not told of with it."""
    cluster = Nodes(n1=end)
    store = await keep_three(folder, cluster, lambda: [(JOB, "n1"), (JOB, "n2")])
    assert cluster.asked == ["n1", "n2"]
    await check_kept(store, folder)


async def test_a_batch_waits_for_a_node(folder: Path) -> None:
    cluster, looks = Nodes(), iter([[], [], [(JOB, "n3")]])
    store = await keep_three(folder, cluster, lambda: next(looks))
    assert cluster.asked == ["n3"]
    await check_kept(store, folder)


async def test_where_no_node_ever_answers_it_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame_checks, "_PATIENCE_SECONDS", 0.2)
    cluster = Nodes(n1=lambda answer: "failed ", n2=dies)
    with pytest.raises(StorageFailed, match=r"(?s)a retry goes on.*could not be checked: the "):
        await keep_three(folder, cluster, lambda: [(JOB, "n1"), (JOB, "n2")])
    assert {"n1", "n2"} == set(cluster.asked)


async def test_a_frame_that_is_none_is_refused_and_the_others_are_kept(folder: Path) -> None:
    (folder / "ffmpeg").write_text(
        "#!/bin/sh\ncase $* in *00001*) exit 1;; esac\necho 'Video: png, rgb24, 96x64, 25 fps'\n"
    )
    with pytest.raises(RenderingFailed, match="no whole frame: it cannot be decoded"):
        await keep_three(folder, Nodes(), lambda: [(JOB, "n1")])


@pytest.mark.parametrize(("retry", "looks"), [(False, 1), (True, 3)])
async def test_whether_a_retry_can_help_is_the_connections_word(
    folder: Path, monkeypatch: pytest.MonkeyPatch, retry: bool, looks: int
) -> None:
    """A host key that is not trusted was asked for three times, and the task for all its retries."""
    cluster = Nodes()

    async def no_way(*_: object, **__: object) -> str:
        cluster.asked.append("")
        monkeypatch.setattr(frame_checks, "_PATIENCE_SECONDS", 0.0 if len(cluster.asked) == 3 else 300.0)
        raise ConnectionLost("no way there", retry=retry)

    monkeypatch.setattr(cluster, "run_step", no_way)
    with pytest.raises(StorageFailed, match="could not be checked: no way there") as raised:
        await keep_three(folder, cluster, lambda: [(JOB, "n1")])
    assert raised.value.retry is retry
    assert ("a retry goes on from here" in str(raised.value)) is retry
    assert len(cluster.asked) == looks


async def test_a_copy_of_ffmpeg_that_was_changed_is_replaced_and_not_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = (folder / "ffmpeg").read_bytes()
    copy = folder / f"ffmpeg-{hashlib.sha256(good).hexdigest()[:12]}"
    copy.write_bytes(good[:-20] + f"touch {folder}/evil\n".encode())
    copy.chmod(0o700)
    cluster = Nodes()

    async def install(_: Nodes, program: Path) -> str:
        copy.write_bytes(good)
        return str(copy)

    monkeypatch.setattr(frame_checks, "install", install)
    monkeypatch.setattr(frame_checks, "static_ffmpeg", lambda: "/ffmpeg")
    store = await keep_three(folder, cluster, lambda: [(JOB, "n1")], ffmpeg=copy)
    assert cluster.asked == ["n1", "n1"]
    assert not (folder / "evil").exists()
    await check_kept(store, folder)


@pytest.mark.parametrize(("shown", "told"), [(0, [True, True, True]), (2, [False, False, False])])
async def test_frames_are_looked_at_on_the_node_until_something_is_seen_in_one(
    folder: Path, shown: int, told: list[bool]
) -> None:
    """By the real ffmpeg: whether nothing is seen in it, since no picture comes to whoever warns of that."""
    cluster = Nodes()
    store = ClusterFrames(cluster, str(folder / "frames"), static_ffmpeg(), "movie", "token", lambda: [(JOB, "n1")])
    await store.open()
    found = []
    for frame in PLAN.frames:
        picture = Image.new("RGB", (96, 64), (10, 20, 30))
        picture.paste((200, 20, 30), (0, 0, 8 * shown, 8 * shown))
        picture.save(store.file_path(PLAN, frame), "PNG")
        found.append(await store.keep(PLAN, frame, b"", MADE))
    await store.close()
    assert found == told
