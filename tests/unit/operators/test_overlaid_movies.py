"""What is drawn over a movie's frames when its tasks run, on the worker and on the cluster: a change of it renders nothing."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException
from PIL import Image

from airflow_brayns import EncodeMovieOperator
from airflow_brayns.movie.ffmpeg import ffmpeg
from airflow_brayns.movie.manifest import NAME
from tests.support.local import movie
from tests.support.movie import headers
from tests.unit.movie.test_overlays import read

pytestmark = pytest.mark.slow

SIZE = (256, 144)
QUICK = {"environment": {"BRAYNS_EMULATOR": "snapshot_seconds=0"}}
DARK: dict[str, Any] = {
    "frames": 3, "resolution": list(SIZE), "camera": {"path": "still", "distance": 400, "target": [0, 0, 0]},
    "renderer": {"name": "interactive", "background_color": [0, 0, 0.1]},
}  # fmt: skip


def titled(title: str) -> dict[str, Any]:
    return {**DARK, "overlays": {"title": title, "size": 0.15}}


def bright(picture: Image.Image) -> int:
    """The width in pixels of what is white at the top: the title."""
    box = picture.convert("L").crop((0, 0, SIZE[0], SIZE[1] // 3)).point(lambda one: 255 * (one > 180)).getbbox()
    return box[2] - box[0] if box else 0


def shown(file: Path) -> int:
    return bright(read(file, SIZE)[1])


def records(folder: Path) -> list[str]:
    return [line for line in (folder / NAME).read_text().splitlines() if '"frame"' in line]


@pytest.mark.parametrize("where", ["worker", "cluster"])
def test_a_changed_title_is_in_the_next_movie_and_no_frame_is_rendered_anew(
    context: Any, cluster: Any, data: Path, tmp_path: Path, where: str
) -> None:
    folder, file = tmp_path / "f", tmp_path / "movie.mp4"
    common = {"frames_on": where, "keep_frames": True, "nodes": 1, "frames_dir": str(folder), **QUICK}
    widths = []
    for spec in (DARK, titled("One"), titled("Another one")):
        movie(data, tmp_path, spec, **common).execute(context)
        widths.append(shown(file))
        if widths[-1]:
            with Image.open(tmp_path / "movie.poster.jpg") as poster:
                assert abs(bright(poster) - widths[-1]) <= 4
        files = {path.name: path.read_bytes() for path in folder.glob("*.png")}
    none, short, long = widths
    assert none == 0 < 2 * short < long
    assert len(records(folder)) == 3, "each frame once"
    assert all(bright(Image.open(folder / name)) == 0 for name in files), "frames stay clean"
    assert not list(folder.glob(".*")), "nothing is left beside them"
    # whoever encodes later takes it from the manifest
    operator = EncodeMovieOperator(
        task_id="encode",
        cluster_conn_id="here",
        frames_dir=str(folder),
        output_file=str(tmp_path / "later.mp4"),
        frames_on=where,
    )
    assert shown(Path(operator.execute(context))) == long


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({"overlays": {"logo": "/nowhere/logo.png"}}, r"^overlays.logo: give the path of a PNG or JPEG file, or leave it out\.\n +there is no"),
        ({"overlays": {"title": "much too long " * 20}}, "^overlays.title: shorten it"),
        ({"overlays": {"legend": True}}, "^specification: overlays.legend|^overlays.legend"),
        ({"overlays": {"time": True}}, "overlays.time: there is no `simulation`"),
        ({"shots": [{"frames": 2, "title": "much too long " * 20}], "frames": None}, "^shots.0.title: shorten it"),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn_asks_for_no_node(
    context: Any, cluster: Any, data: Path, tmp_path: Path, state: Path, spec: dict[str, Any], why: str
) -> None:
    with pytest.raises(AirflowFailException, match=why):
        movie(data, tmp_path, spec).execute(context)
    assert not state.exists()


def test_a_bar_that_is_longer_than_the_picture_is_told_before_a_frame_is_rendered(
    context: Any, cluster: Any, data: Path, tmp_path: Path
) -> None:
    """How long it is in the picture follows from the scene, which only a service knows."""
    operator = movie(data, tmp_path, {"overlays": {"scale_bar": {"length": 1e6}}}, frames_dir=str(tmp_path / "f"))
    with pytest.raises(AirflowFailException, match="^overlays.scale_bar.length: take one that fits"):
        operator.execute(context)
    assert not list((tmp_path / "f").glob("*.png"))


def test_a_logo_that_has_gone_since_is_told_by_whoever_encodes(
    context: Any, cluster: Any, data: Path, tmp_path: Path, state: Path
) -> None:
    logo = tmp_path / "logo.png"
    Image.new("RGB", (60, 20), (255, 0, 0)).save(logo)
    spec = {**DARK, "overlays": {"logo": str(logo)}}
    folder = tmp_path / "f"
    movie(data, tmp_path, spec, keep_frames=True, frames_dir=str(folder), **QUICK).execute(context)
    assert any(red > 200 > green + 100 for red, green, _ in read(tmp_path / "movie.mp4", SIZE)[0].get_flattened_data())
    assert headers(folder)[0]["specification"]["overlays"] == {"logo": str(logo)}
    said = subprocess.run([ffmpeg(), "-v", "error", "-i", tmp_path / "movie.mp4", "-f", "ffmetadata", "-"], capture_output=True, text=True, check=True).stdout  # fmt: skip
    assert '"logo":"logo.png"' in said
    assert str(tmp_path / "logo") not in said
    logo.unlink()
    operator = EncodeMovieOperator(
        task_id="e", cluster_conn_id="here", frames_dir=str(folder), output_file=str(tmp_path / "b.mp4")
    )
    with pytest.raises(AirflowFailException, match="^overlays.logo: "):
        operator.execute(context)
