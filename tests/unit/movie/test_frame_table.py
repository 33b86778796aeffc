from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_brayns.errors import InvalidSetting
from airflow_brayns.movie.frame_table import FrameTable
from airflow_brayns.movie.specification import MovieSpecification
from tests.support.emulators import Emulator
from tests.support.movie import produce, specification

CUBE = Path(__file__).parents[2] / "data" / "cube.obj"
MODELS = [
    {"path": "/a.obj", "color": "#fff", "material": {"kind": "matte"}},
    {"path": "/b.swc", "colors": {"method": "morphology section", "values": {"soma": "#f00"}}},
]
BALL = {"kind": "sphere", "center": [0, 0, 0], "radius": 1}
MOVIE = {"models": MODELS, "lights": [{"kind": "ambient"}, {"direction": [0, 0, -1]}], "clipping": [BALL], "per_frame": "values.csv"}  # fmt: skip


def movie(folder: Path, table: str, **words: Any) -> MovieSpecification:
    (folder / "values.csv").write_text(table)
    (folder / "m.yaml").write_text(json.dumps({**MOVIE, **words}))
    return MovieSpecification.read_file(folder / "m.yaml")


def test_each_frame_has_the_values_of_its_line(tmp_path: Path) -> None:
    found = movie(
        tmp_path,
        "frame,camera.fovy,models.0.transform.translation.1,models.0.visible,models.0.color,lights.1.direction.0,clipping.0.radius,models.1.colors.values.soma\n"
        "0, 45, 1.5, true, #ff0000, 0, 1, #000\n1,30,-2e1,false,#0f0,1,2.5,#fff\n",
    )
    assert found.frames == 2, "the table tells"
    one, other = found.at(0), found.at(1)
    assert (one.camera.fovy, other.camera.fovy) == (45, 30)
    assert one.models[0].transform is not None
    assert one.models[0].transform.translation == (0, 1.5, 0)
    assert other.models[0].transform is not None
    assert other.models[0].transform.translation == (0, -20, 0)
    assert (one.models[0].visible, other.models[0].visible) == (True, False)
    assert (one.models[0].color, other.models[0].color) == ((1, 0, 0), (0, 1, 0))
    assert other.lights is not None
    assert other.lights[1].direction == (1, 0, -1)
    assert (one.clipping[0].radius, other.clipping[0].radius) == (1, 2.5)
    assert other.models[1].colors is not None
    assert other.models[1].colors.values["soma"] == (1, 1, 1)
    assert one.resolution == found.resolution


@pytest.mark.parametrize("tail", [",\n", " , \n,\n", "  \n"])
def test_lines_without_a_value_at_the_end_are_empty(tmp_path: Path, tail: str) -> None:
    assert movie(tmp_path, "frame,camera.fovy\n0,45\n1,30\n" + tail).frames == 2


def test_what_is_written_has_the_table_itself(tmp_path: Path) -> None:
    """Who encodes has the manifest, and no file of the worker that rendered."""
    found = movie(tmp_path, "frame,camera.fovy\n0,45\n1,30\n", frames=2)
    (tmp_path / "values.csv").unlink()
    assert MovieSpecification.check(json.loads(json.dumps(found.plain()))) == found


@pytest.mark.parametrize(
    ("table", "field", "says"),
    [
        ("frame,camera.fovy\n0,45\n2,30\n", "values.csv line 3, frame", "frame 1 is missing"),
        ("frame,camera.fovy\n1,45\n", "values.csv line 2, frame", "frame 0 is missing"),
        ("frame,camera.fovy\n0,45\n0,30\n", "values.csv line 3, frame", "frame 0 is there twice"),
        ("frame,camera.fovy\n0,45\nlast,30\n", "values.csv line 3, frame", "not 'last'"),
        ("frame,camera.fovy\n0,45\n1,\n", "values.csv line 3, camera.fovy", "give frame 1 a value"),
        ("frame,camera.fovy\n0,45\n1,wide\n", "values.csv line 3, camera.fovy", "valid number.*'wide'"),
        ("frame,camera.fovy\n0,45\n1,nan\n", "values.csv line 3, camera.fovy", "nan|less than 180"),
        ("frame,camera.fovy\n0,45\n1,180\n", "values.csv line 3, camera.fovy", "less than 180"),
        ("frame,camera.fovy\n0,45\n1,true\n", "values.csv line 3, camera.fovy", "must be a number"),
        ("frame,camera.fovy\n0,45\n1\n", "values.csv line 3", "has 1 values; the first line names 2"),
        ("frame,camera.fovy\n0,45\n1,30,3\n", "values.csv line 3", "has 3 values"),
        ("frame,camera.fovy\n", "values.csv line 2", "a line for each frame"),
        ("", "values.csv line 1", "must be `frame` and the keys"),
        ("camera.fovy,frame\n45,0\n", "values.csv line 1", "must be `frame` and the keys"),
        ("frame,camera.fovy,camera.fovy\n0,4,5\n", "values.csv line 1, camera.fovy", "is there twice"),
        ("frame,camera.fov\n0,45\n", "per_frame, camera.fov", "did you mean fovy"),
        ("frame,resolution.0\n0,640\n", "values.csv line 1, resolution.0", "what can begins with camera., renderer."),
        ("frame,models.0.path\n0,/x.obj\n", "values.csv line 1, models.0.path", "would be loaded anew; .* transform, visible"),
        ("frame,models.2.visible\n0,true\n", "per_frame, models.2.visible", "models has no 2: it has 2, the first is 0"),
        ("frame,models.1.material.opacity\n0,1\n", "per_frame, models.1.material.opacity", "has no material: give it there first"),
        ("frame,models.0.transform\n0,1\n", "per_frame, models.0.transform", "is not one value; name what of transform differs"),
        ("frame,models.0.material.opacity\n0,0.5\n1,1.5\n", "values.csv line 3, models.0.material.opacity", "less than or equal to 1"),
        ("frame,clipping.0.radius\n0,1\n1,0\n", "values.csv line 3, clipping.0.radius", "nothing would be there"),
        ("frame,lights.1.visible,lights.0.visible\n0,true,true\n1,false,false\n", "values.csv line 3, lights", "without a light"),
        ("frame,renderer.background_color.3\n0,0\n", "per_frame, renderer.background_color.3", "background_color has no 3"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_table_is_told_with_its_line(tmp_path: Path, table: str, field: str, says: str) -> None:
    with pytest.raises(InvalidSetting, match=says) as error:
        movie(tmp_path, table)
    assert error.value.field == field
    assert not error.value.retry


@pytest.mark.parametrize(
    ("words", "field", "says"),
    [
        ({"frames": 3}, "values.csv", "has lines for 2 frames, but the movie has 3"),
        ({"per_frame": "values.txt"}, "per_frame", "must end in .csv"),
        ({"per_frame": "other.csv"}, "per_frame", "other.csv cannot be read: .*No such file"),
        ({"per_frame": 3}, "per_frame", "the path of a CSV file"),
    ],
)
def test_a_table_that_is_none_of_this_movies_is_refused(
    tmp_path: Path, words: dict[str, Any], field: str, says: str
) -> None:
    with pytest.raises(InvalidSetting, match=says) as error:
        movie(tmp_path, "frame,camera.fovy\n0,45\n1,30\n", **words)
    assert error.value.field.rpartition(" ")[2] == field


def test_a_relative_table_of_a_specification_that_lies_nowhere_is_refused() -> None:
    with pytest.raises(
        InvalidSetting, match="(?s)per_frame: write the path as the worker sees it.*'values.csv' is relative"
    ):
        MovieSpecification.check(MOVIE)


@pytest.mark.parametrize(
    ("table", "field", "says"),
    [
        ({"columns": ["camera.fovy"], "rows": [[45], [30, 2]]}, "per_frame.rows.1", "has 2 values for 1 columns"),
        ({"columns": ["frames"], "rows": [[45]]}, "per_frame.columns.0", "cannot differ from frame to frame"),
        ({"columns": [], "rows": [[]]}, "per_frame.columns", "at least 1"),
        ({"rows": [[45]]}, "per_frame.columns", "required"),
    ],
)
def test_a_table_that_was_written_wrong_is_refused_at_its_key(table: Any, field: str, says: str) -> None:
    with pytest.raises(InvalidSetting, match=says) as error:
        MovieSpecification.check({**MOVIE, "per_frame": table})
    assert error.value.field == field


@pytest.mark.parametrize(
    ("table", "field", "says"),
    [
        ("frame;camera.fovy\n0;45\n", "values.csv line 1", "It is 'frame;camera.fovy', with semicolons where commas"),
        ("frame\tcamera.fovy\n0\t45\n", "values.csv line 1", "with tabs where commas are taken"),
        ("Frame,camera.fovy\n0,45\n", "values.csv line 1", "It is 'Frame,camera.fovy'"),
        ('frame,camera.fovy\n0,"45\n', "values.csv line 2", "close each quote"),
        ("frame,lights.0.intensity\n0,1\n", "per_frame, lights.0.intensity", "has no lights: give it there first"),
        ("frame,lights.intensity\n0,1\n", "per_frame, lights.intensity", "has no lights: give it there first"),
        ("frame,camera.keyframes.0.fovy\n0,1\n", "per_frame, camera.keyframes.0.fovy", "keyframes is empty"),
        ("frame,camera.fovy\n0,45\n\n1,30\n", "values.csv line 3", "has 0 values"),
    ],
)
def test_a_table_as_others_write_it_tells_what_is_otherwise(tmp_path: Path, table: str, field: str, says: str) -> None:
    (tmp_path / "values.csv").write_text(table)
    with pytest.raises(InvalidSetting, match=says) as error:
        MovieSpecification.check({"models": [{"path": "/a.obj"}], "per_frame": "values.csv"}, folder=tmp_path)
    assert error.value.field == field


def test_empty_lines_at_the_end_are_no_frames(tmp_path: Path) -> None:
    (tmp_path / "values.csv").write_text("frame,camera.fovy\n0,45\n1,30\n\n\n")
    assert FrameTable.read(tmp_path / "values.csv").rows == ((45,), (30,))


@pytest.mark.parametrize("data", [b"frame,camera.fovy\n0,\xff\n", b'frame,camera.fovy\n0,"45\n'])
def test_what_is_no_table_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "values.csv").write_bytes(data)
    with pytest.raises(InvalidSetting, match="cannot be read"):
        FrameTable.read(tmp_path / "values.csv")


def test_a_table_of_another_program_is_read(tmp_path: Path) -> None:
    """With its mark of UTF-8, its line ends and its quotes."""
    (tmp_path / "values.csv").write_bytes(b'\xef\xbb\xbf"frame","camera.fovy"\r\n0,45\r\n1,"30"\r\n')
    assert FrameTable.read(tmp_path / "values.csv").rows == ((45,), (30,))


@pytest.mark.slow
async def test_a_service_shows_what_each_line_says(tmp_path: Path, emulator: Callable[..., Emulator]) -> None:
    """The model is there, is hidden, and is there again, as it was."""
    table = {"columns": ["models.0.visible", "models.0.transform.scale.0"], "rows": [[True, 1], [False, 1], [True, 1]]}
    spec = specification(CUBE, frames=3, camera={"path": "still"}, per_frame=table)
    outcome, _ = await produce(spec, [emulator()], tmp_path)
    assert outcome.rendered == 3
    one, hidden, again = ((tmp_path / outcome.plan.file(frame)).read_bytes() for frame in range(3))
    assert one == again != hidden


def test_a_part_beyond_the_tables_lines_is_told(tmp_path: Path) -> None:
    table = "frame,camera.fovy\n0,40\n1,50\n"
    assert movie(tmp_path, table, frame_range=[0, 1]).frames == 2
    with pytest.raises(InvalidSetting, match="^frame_range: the movie's last frame is 1"):
        movie(tmp_path, table, frame_range=[0, 2])


@pytest.mark.parametrize(("rows", "columns", "taken"), [(2, 4, True), (9, 1, False), (3, 3, False), (2, 5, False)])
def test_a_table_of_more_values_than_memory_bears_is_refused_whatever_its_shape(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int, columns: int, taken: bool
) -> None:
    monkeypatch.setattr("airflow_brayns.movie.frame_table._MOST_CELLS", 8)
    names = [f"models.0.transform.{word}.0" for word in ("scale", "translation", "rotation")]
    names = [*names, "camera.fovy", "lights.0.intensity"][:columns]
    lines = [["frame", *names], *([str(number), *["1"] * columns] for number in range(rows))]
    (tmp_path / "values.csv").write_text("".join(",".join(line) + "\n" for line in lines))
    if taken:
        assert len(FrameTable.read(tmp_path / "values.csv").rows) == rows
    else:
        with pytest.raises(InvalidSetting, match=r"has more than 8 values"):
            FrameTable.read(tmp_path / "values.csv")
