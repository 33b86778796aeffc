"""What is drawn over frames on the cluster: laid beside them, taken away, and drawn by the script on a node."""

from __future__ import annotations

import asyncio
import hashlib
import io
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from airflow_brayns.cluster.local import LocalCluster
from airflow_brayns.cluster.shell import LocalShell
from airflow_brayns.cluster.slurm import SlurmCluster
from airflow_brayns.errors import ConnectionLost, StorageFailed
from airflow_brayns.movie.ffmpeg import ffmpeg
from airflow_brayns.movie.overlays import Drawing
from airflow_brayns.movie.plan import Plan
from airflow_brayns.rendering.drawn import Drawn, drawn_beside
from airflow_brayns.rendering.encode import UNDRAWN, Sources, encode_script
from tests.support.shell import FakeShell
from tests.unit.movie.test_overlays import GROUND, SIZE, near, plan_of, read, rendered

MARK = "00000001-000002"
OVERLAYS = {"title": "A title", "frame_number": True, "size": 0.1}


def drawing_of(plan: Plan) -> Drawing:
    found = Drawing.of(plan)
    assert found is not None
    return found


def laid(script: str) -> str:
    return "laid\n" if "sha256sum" in script else ""


async def test_it_is_laid_beside_the_frames_and_taken_away() -> None:
    shell = FakeShell(laid)
    async with drawn_beside(SlurmCluster(shell), "/frames/a b", drawing_of(plan_of(OVERLAYS)), MARK) as drawn:
        assert drawn is not None
        assert drawn.path == f"/frames/a b/.overlays.00000001-{drawn.sha256[:12]}.tar.gz"
        data = shell.files[f"{drawn.path}.part"]
        assert hashlib.sha256(data).hexdigest() == drawn.sha256
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            assert tar.getnames() == ["layer0.png", "layer1.png", "poster.png"]
        assert len(shell.scripts) == 1
    assert shell.scripts[1:] == ["rm -f '/frames/a b/.overlays.00000001'-*\n"]


async def test_the_next_try_lays_the_same_under_the_same_name() -> None:
    """A job that it finds running, or waiting, looks for it there."""
    paths = []
    for mark in (MARK, "00000001-ffffff"):
        async with drawn_beside(SlurmCluster(FakeShell(laid)), "/frames", drawing_of(plan_of(OVERLAYS)), mark) as drawn:
            assert drawn is not None
            paths.append(drawn.path)
    assert paths[0] == paths[1]


async def test_what_does_not_come_whole_is_told_and_taken_away() -> None:
    shell = FakeShell("")
    with pytest.raises(StorageFailed, match=r"frames_dir: see whether there is room"):
        async with drawn_beside(SlurmCluster(shell), "/frames", drawing_of(plan_of(OVERLAYS)), MARK):
            pytest.fail("it is not there")
    assert shell.scripts[-1].startswith("rm -f ")


async def test_a_connection_that_breaks_at_the_end_spoils_nothing() -> None:
    def answer(script: str) -> Any:
        return ConnectionLost("broke") if script.startswith("rm -f ") else laid(script)

    async with drawn_beside(SlurmCluster(FakeShell(answer)), "/frames", drawing_of(plan_of(OVERLAYS)), MARK) as drawn:
        assert drawn is not None


async def test_of_a_movie_without_overlays_nothing_is_laid_there() -> None:
    shell = FakeShell("")
    async with drawn_beside(SlurmCluster(shell), "/frames", None, MARK) as drawn:
        assert drawn is None
    assert not shell.scripts and not shell.files


# ---- on a node -------------------------------------------------------------------------------------------------
class Node:
    """A movie's frames on this machine, as a node has them.

    :param folder: where they are.
    """

    def __init__(self, folder: Path, overlays: Any = OVERLAYS, **changes: Any) -> None:
        self.plan = plan_of(overlays, **changes)
        self.folder, self.movie = folder / "50%d 'frames'", folder / "out" / "movie.mp4"
        self.paths = rendered(self.plan, self.folder)
        sums = "".join(f"{hashlib.sha256(one.read_bytes()).hexdigest()}  {one.name}\n" for one in self.paths)
        self.sources = Sources(str(self.folder), self.plan, ffmpeg(), hashlib.sha256(sums.encode()).hexdigest())

    def script(self, drawn: Drawn | None) -> str:
        encoding = self.plan.specification.encoding
        return encode_script(
            self.sources, str(self.movie), encoding, {"a": "b"}, poster=True, sheet=True, mark=MARK, drawn=drawn
        )

    async def encoded(self, **environment: str) -> subprocess.CompletedProcess[str]:
        drawing = await asyncio.to_thread(Drawing.of, self.plan)
        async with drawn_beside(LocalCluster(LocalShell()), str(self.folder), drawing, MARK) as drawn:
            return await asyncio.to_thread(
                subprocess.run, ["bash"], input=self.script(drawn), capture_output=True, text=True, check=False,
                env={"PATH": "/usr/bin:/bin", **environment},
            )  # fmt: skip


@pytest.mark.parametrize(
    "changes", [{}, {"frames": 30, "step": 7}, {"shots": [{"frames": 3}, {"frames": 4, "fade": 2, "title": "b"}]}]
)
async def test_a_node_draws_what_the_worker_does_and_leaves_nothing(tmp_path: Path, changes: dict[str, Any]) -> None:
    node, scratch = Node(tmp_path, **changes), tmp_path / "100%d scratch"
    scratch.mkdir()
    before = [path.read_bytes() for path in node.paths]
    done = await node.encoded(TMPDIR=str(scratch))
    assert done.returncode == 0, done.stderr
    drawing, clean = drawing_of(node.plan), Image.new("RGB", SIZE, GROUND)
    found = read(node.movie)
    assert len(found) == node.plan.specification.encoding.length(len(node.plan.frames))
    assert near(found[0], drawing.on(clean, 0), 20)
    assert near(found[-1], drawing.on(clean, len(node.plan.frames) - 1), 20)
    with Image.open(node.movie.with_suffix(".poster.jpg")) as poster:
        assert near(poster, drawing.on(clean, len(node.plan.frames) // 2), 20)
    assert node.movie.with_suffix(".sheet.jpg").exists()
    assert not list(scratch.iterdir())
    assert sorted(node.folder.iterdir()) == sorted(node.paths)
    assert [path.read_bytes() for path in node.paths] == before


async def test_a_node_that_did_not_get_it_whole_says_so(tmp_path: Path) -> None:
    node = Node(tmp_path)
    archive = node.folder / ".overlays.x.tar.gz"
    archive.write_bytes(b"something else")
    script = node.script(Drawn(drawing_of(node.plan), str(archive), "0" * 64))
    done = await asyncio.to_thread(subprocess.run, ["bash"], input=script, capture_output=True, text=True, check=False)
    assert done.returncode == UNDRAWN, done.stderr
    assert not node.movie.exists()
