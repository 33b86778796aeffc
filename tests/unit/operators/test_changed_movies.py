"""A movie is what its plan says, whatever lies in the folder: changed specifications, foreign frames, changed files."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from PIL import Image

from airflow_brayns import BraynsMovieOperator, EncodeMovieOperator, RenderFramesOperator
from airflow_brayns.movie import encode as encoding
from airflow_brayns.movie.ffmpeg import ffmpeg, look_into
from airflow_brayns.movie.frame_store import ASIDE
from airflow_brayns.movie.manifest import NAME
from tests.support.local import movie
from tests.support.movie import headers, records
from tests.support.pictures import left, shown

pytestmark = pytest.mark.slow

RED, BLUE = (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)
QUICK = {"environment": {"BRAYNS_EMULATOR": "snapshot_seconds=0"}}


def coloured(color: tuple[float, float, float], **changes: Any) -> dict[str, Any]:
    return {
        "frames": 3,
        "resolution": [96, 64],
        "renderer": {"name": "interactive", "background_color": color},
        **changes,
    }


def number_of_frames(file: Path) -> int:
    return asyncio.run(look_into(file)).frames


@pytest.mark.parametrize(
    "changes",
    [
        {"format": "jpg"},
        {"resolution": [128, 64], "frames": 4},
        {"frame_range": [1, 2]},
        {"format": "jpg", "frames": 2, "quality": 50},
    ],
)
def test_a_changed_specification_gives_the_new_movie(
    context: Any, cluster: Any, data: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    """From png to jpg and from red to blue the movie was the old, red one, and green."""
    common = {"keep_frames": True, "nodes": 1, "frames_dir": str(tmp_path / "f"), **QUICK}
    file = tmp_path / "movie.mp4"
    movie(data, tmp_path, coloured(RED), **common).execute(context)
    assert shown(file) == "red"
    movie(data, tmp_path, coloured(BLUE, **changes), **common).execute(context)
    assert shown(file) == shown(file.with_suffix(".poster.jpg")) == shown(file.with_suffix(".sheet.jpg")) == "blue"
    expected = 2 if "frame_range" in changes else changes.get("frames", 3)
    assert number_of_frames(file) == expected
    with Image.open(next((tmp_path / "f").glob("0*"))) as one:
        assert list(one.size) == changes.get("resolution", [96, 64])
    there = sorted(path.name for path in (tmp_path / "f").glob("0*"))
    assert len(there) == expected, "what is of no use any more lies elsewhere"
    encode = EncodeMovieOperator(
        task_id="task", cluster_conn_id="here", frames_dir=str(tmp_path / "f"), output_file=str(tmp_path / "again.mp4")
    )
    encode.execute(context)
    assert shown(tmp_path / "again.mp4") == "blue"
    movie(data, tmp_path, coloured(RED), **common).execute(context)
    assert shown(file) == "red"
    assert number_of_frames(file) == 3


@pytest.mark.parametrize("changed", ["model", "report"])
@pytest.mark.parametrize("by", ["ours", "endpoints"])
def test_a_models_file_of_another_content_gives_the_new_movie(
    context: Any, cluster: Any, data: Path, tmp_path: Path, emulator: Any, by: str, changed: str
) -> None:
    """Of services given by `endpoints`, and of a simulation that was run once more, the movie was the old one, and green."""
    if changed == "model":
        file = shutil.copy(data / "cube.obj", tmp_path)
        models, service = [{"path": str(tmp_path / "cube.obj")}], emulator(snapshot_seconds=0)
    else:
        circuit = shutil.copytree(data / "recorded" / "sonata", tmp_path / "sonata")
        file = str(circuit / "out" / "soma.h5")
        report = {"node_population": "All", "node_percentage": 1.0, "report_type": "compartment", "report_name": "soma",
                  "neuron_morphology_parameters": {"load_soma": True, "load_dendrites": True, "load_axon": True}}  # fmt: skip
        models = [
            {"path": str(circuit / "simulation_config.json"), "properties": {"node_population_settings": [report]}}
        ]
        models[0]["loader"] = "SONATA loader"
        service = emulator("--plugin", "braynsCircuitExplorer", snapshot_seconds=0)
    spec = {"models": models, "frames": 3, "resolution": [96, 64], "renderer": {"name": "interactive"}}
    common = {"task_id": "task", "cluster_conn_id": "here", "specification": spec, "frames_dir": str(tmp_path / "f")}
    plugins = [] if changed == "model" else ["braynsCircuitExplorer"]
    ours = {
        **common,
        "output_file": str(tmp_path / "m.mp4"),
        "keep_frames": True,
        "nodes": 1,
        "plugins": plugins,
        **QUICK,
    }
    operator = (
        BraynsMovieOperator(**ours) if by == "ours" else RenderFramesOperator(**common, endpoints=[service.endpoint])
    )
    for _ in range(2):
        operator.execute(context)
        assert len(records(tmp_path / "f")) == 3
    if changed == "model":
        Path(file).write_text(Path(file).read_text().replace("1", "2"))
    os.utime(file, (1_000_000_000, 1_000_000_000))
    operator.execute(context)
    assert len(records(tmp_path / "f")) == 6


def test_a_way_back_to_the_first_format_is_rendered_anew(
    context: Any, cluster: Any, data: Path, tmp_path: Path
) -> None:
    common = {"keep_frames": True, "nodes": 1, "frames_dir": str(tmp_path / "f"), **QUICK}
    for color, suffix, name in ((RED, "png", "red"), (BLUE, "jpg", "blue"), (BLUE, "png", "blue"), (RED, "jpg", "red")):
        movie(data, tmp_path, coloured(color, format=suffix), **common).execute(context)
        assert shown(tmp_path / "movie.mp4") == name
    assert sorted(path.name for path in (tmp_path / "f" / ASIDE).iterdir()) == sorted(
        f"0000{n}.{suffix}" for n in range(3) for suffix in ("png", "jpg")
    ), "each name once"


def test_on_the_cluster_it_is_the_new_movie_too(context: Any, cluster: Any, data: Path, tmp_path: Path) -> None:
    """And what lies there does not matter, nor what an earlier try has left; the movie that was made is the one that is fetched."""
    folder = tmp_path / "f"
    common = {
        "frames_on": "cluster",
        "nodes": 1,
        "frames_dir": str(folder),
        "fetch": str(tmp_path / "near.mp4"),
        **QUICK,
    }
    file = tmp_path / "out" / "movie.mp4"
    common["output_file"] = str(file)
    movie(data, tmp_path, coloured(RED), **common).execute(context)
    assert shown(file) == shown(tmp_path / "near.mp4") == "red"
    (folder / "00002.jpg").mkdir()
    Image.new("RGB", (96, 64), (255, 0, 0)).save(folder / "000001.jpg")
    left(file.parent, ".movie.part.mp4", 7200)
    movie(data, tmp_path, coloured(BLUE, format="jpg"), **common).execute(context)
    assert shown(file) == shown(tmp_path / "near.mp4") == shown(file.with_suffix(".poster.jpg")) == "blue"
    assert shown(file.with_suffix(".sheet.jpg")) == "blue"
    assert sorted(path.name for path in folder.glob("0*")) == ["00000.jpg", "00001.jpg", "00002.jpg"]
    names = sorted(path.name for path in (folder / ASIDE).iterdir())
    assert names == sorted(["000001.jpg", "00000.png", "00001.png", "00002.jpg", "00002.png"])
    assert not list(file.parent.glob(".*")), "no part file is left"
    assert not list(tmp_path.glob(".*.part*"))


@pytest.fixture
def rendered(context: Any, cluster: Any, data: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "f"
    common = {"keep_frames": True, "nodes": 1, "frames_dir": str(folder), **QUICK}
    movie(data, tmp_path, coloured(BLUE), **common).execute(context)
    (tmp_path / "movie.mp4").unlink()
    return folder


def encode(folder: Path, **changes: Any) -> EncodeMovieOperator:
    output = str(folder.parent / "movie.mp4")
    return EncodeMovieOperator(
        task_id="task", cluster_conn_id="here", frames_dir=str(folder), output_file=output, **changes
    )


def test_foreign_frames_in_the_folder_do_not_matter(rendered: Path, context: Any) -> None:
    for name in ("00003.png", "00000.jpg", "000000.png", "00099.png", "00001.jpg"):
        Image.new("RGB", (96, 64), (255, 0, 0)).save(rendered / name)
    encode(rendered).execute(context)
    assert shown(rendered.parent / "movie.mp4") == "blue"
    assert number_of_frames(rendered.parent / "movie.mp4") == 3


@pytest.mark.parametrize("how", ["other", "cut", "gone", "link", "folder", "same_size", "forged"])
def test_a_frame_that_changed_since_it_was_rendered_is_refused_and_a_clear_mends_it(
    rendered: Path, context: Any, data: Path, tmp_path: Path, how: str
) -> None:
    frame = rendered / "00001.png"
    whole, times = frame.read_bytes(), frame.stat()
    frame.unlink()
    if how == "other":
        Image.new("RGB", (96, 64), (255, 0, 0)).save(frame)
    elif how == "cut":
        frame.write_bytes(whole[:-20])
    elif how == "link":
        frame.symlink_to("/nowhere")
    elif how == "folder":
        (frame / "inner").mkdir(parents=True)
    elif how == "forged":  # another file of the same size and time, as rsync or cp -p leave it
        frame.write_bytes(bytes(len(whole)))
        os.utime(frame, ns=(times.st_atime_ns, times.st_mtime_ns))
    elif how == "same_size":
        frame.write_bytes(whole[:-1] + b"x")
    with pytest.raises(AirflowFailException, match=r"(?s)1 of 3 in .*\scannot\s+be\s+encoded:\s.*\(1\)"):
        encode(rendered).execute(context)
    assert not (tmp_path / "movie.mp4").exists()
    common = {"keep_frames": True, "nodes": 1, "frames_dir": str(rendered), **QUICK}
    movie(data, tmp_path, coloured(BLUE), **common).execute(context)
    assert shown(tmp_path / "movie.mp4") == "blue"


def test_on_the_cluster_a_frame_that_is_not_the_one_rendered_is_found_out(rendered: Path, context: Any) -> None:
    frame = rendered / "00001.png"
    times = frame.stat()
    frame.write_bytes(bytes(times.st_size))
    os.utime(frame, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(AirflowException, match=r"are\s+not\s+those\s+that\s+were\s+rendered"):
        encode(rendered, frames_on="cluster").execute(context)
    with pytest.raises(AirflowFailException, match=r"1 damaged \(1\)"):
        encode(rendered, frames_on="cluster").execute(context)
    assert not (rendered.parent / "movie.mp4").exists()


def test_a_frame_that_changes_while_it_is_encoded_is_found_out(
    rendered: Path, context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = encoding.look_into

    async def look(file: Path) -> Any:
        Image.new("RGB", (96, 64), (255, 0, 0)).save(rendered / "00002.png")
        return await real(file)

    monkeypatch.setattr(encoding, "look_into", look)
    with pytest.raises(AirflowException, match=r"(?s)1 in .*\schanged\s+while\s+they\s+were\s+encoded:\s+2"):
        encode(rendered).execute(context)
    assert not (rendered.parent / "movie.mp4").exists()


def test_a_manifest_that_tells_of_no_movie_is_refused(rendered: Path, context: Any, data: Path, tmp_path: Path) -> None:
    """Encoding what lies there would be a guess; rendering mends it."""
    lines = (rendered / NAME).read_text().splitlines(keepends=True)
    (rendered / NAME).write_text("".join(line for line in lines if '"manifest"' not in line))
    with pytest.raises(AirflowFailException, match=r"does\s+not\s+tell\s+of\s+which\s+movie"):
        encode(rendered).execute(context)
    common = {"keep_frames": True, "nodes": 1, "frames_dir": str(rendered), **QUICK}
    movie(data, tmp_path, coloured(RED), **common).execute(context)
    assert shown(tmp_path / "movie.mp4") == "red"
    with pytest.raises(AirflowFailException, match="(?s)frames: .* movie of 3, not of 5"):
        encode(rendered, frames=5).execute(context)
    (rendered / NAME).write_text(json.dumps({**headers(rendered)[-1], "specification": {"frames": 0}}) + "\n")
    with pytest.raises(AirflowFailException, match="tells of no movie"):
        encode(rendered).execute(context)


def test_what_was_put_aside_goes_with_the_frames(context: Any, cluster: Any, data: Path, tmp_path: Path) -> None:
    common = {"nodes": 1, "frames_dir": str(tmp_path / "f"), **QUICK}
    movie(data, tmp_path, coloured(RED), keep_frames=True, **common).execute(context)
    movie(data, tmp_path, coloured(BLUE, format="jpg"), keep_frames=False, **common).execute(context)
    assert not (tmp_path / "f").exists()


def comment_of(file: Path) -> dict[str, Any]:
    """What is written into a movie's file of where it is from."""
    command = [ffmpeg(), "-v", "error", "-i", str(file), "-f", "ffmetadata", "-"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    line = next(line for line in told.splitlines() if line.lower().startswith("comment="))
    found: dict[str, Any] = json.loads(line[len("comment=") :].replace("\\", ""))
    return found


def test_how_it_is_encoded_comes_from_the_manifest(context: Any, cluster: Any, data: Path, tmp_path: Path) -> None:
    """`brayns_movie` encoded with a crf of its own, and said the specification's in the file; 25 frames a second were taken
    whatever the specification said.
    """
    folder, output = tmp_path / "frames", tmp_path / "there" / "movie.webm"
    spec = coloured(RED, fps="30000/1001", crf=50, codec="vp9", output=str(output))
    movie(data, tmp_path, spec, output_file=None, frames_dir=str(folder), keep_frames=True, **QUICK).execute(context)
    output.unlink()

    def encoded(**given: Any) -> dict[str, Any]:
        operator = EncodeMovieOperator(task_id="encode", cluster_conn_id="here", frames_dir=str(folder), **given)
        return comment_of(Path(operator.execute(context)))["encoding"]  # type: ignore[no-any-return]

    assert encoded() == {"codec": "vp9", "fps": "30000/1001", "crf": 50, "pixel_format": "yuv420p"}
    assert output.exists(), "the specification's output"
    assert encoded(fps="24000/1001", crf=40)["fps"] == "24000/1001"
    other = encoded(output_file=str(tmp_path / "other.mov"), codec="h264")
    assert other == {"codec": "h264", "fps": "30000/1001", "crf": 18, "pixel_format": "yuv420p"}, "a crf is its codec's"
    with pytest.raises(
        AirflowFailException, match=r"^output_file: end it in \.webm or \.mkv\.\n +'x\.mp4' does not suit vp9"
    ):
        encoded(output_file=str(tmp_path / "x.mp4"))
    with pytest.raises(AirflowFailException, match="^fps: gif takes from"):
        encoded(output_file=str(tmp_path / "x.gif"), codec="gif", fps=60)


def test_a_specification_that_changes_only_how_it_is_encoded_is_what_counts(
    context: Any, cluster: Any, data: Path, tmp_path: Path
) -> None:
    """All frames are there, so nothing is rendered: the manifest went on telling the rate of the specification before."""
    folder = tmp_path / "frames"
    for fps in (10, 20):
        movie(
            data, tmp_path, coloured(RED, fps=fps), frames_dir=str(folder), keep_frames=True, **QUICK
        ).execute(context)  # fmt: skip
    operator = EncodeMovieOperator(
        task_id="encode", cluster_conn_id="here", frames_dir=str(folder), output_file=str(tmp_path / "again.mp4")
    )
    assert comment_of(Path(operator.execute(context)))["encoding"]["fps"] == "20"
    assert comment_of(tmp_path / "movie.mp4")["specification"]["fps"] == 20
