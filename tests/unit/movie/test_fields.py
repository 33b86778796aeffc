"""What is said of values that a specification cannot have, in words of whoever wrote it, and paths that lead elsewhere."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from airflow_brayns.errors import InvalidSetting
from airflow_brayns.movie.fields import check_is_file, path_problem
from airflow_brayns.movie.specification import MovieSpecification
from airflow_brayns.rendering.frames_script import check_folder
from airflow_brayns.task.movie_fields import check_output

MOVIE: dict[str, Any] = {"models": [{"path": "/a.obj"}], "frames": 3}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ({"resolution": "1920x1080"}, r"resolution: must be a list, such as \[1, 2\] \(it is '1920x1080'\)"),
        ({"resolution": [640]}, r"resolution: missing: it has 1 of 2 values \(it is \[640\]\)"),
        ({"resolution": [640, 480, 3]}, "resolution: has 3 values; at most 2 are taken"),
        ({"camera": {"target": []}}, "camera.target: missing: it has 0 of 3 values"),
        ({"camera": "turntable"}, "camera: must be keys with values"),
        ({"models": [{"path": "/a.obj", "transform": {"rotation": [1, 2]}}]}, "rotation: has 2 values; at least 3 are"),
        ({"frames": 10**5000}, r"frames: .*\(it is a number of very many digits\)"),
        ({"Frames": 3}, r"Frames: did you mean frames\?"),
        ({"FRAMES": 3}, r"FRAMES: did you mean frames\?"),
        ({"output": "m.webm"}, r"output: 'm.webm' must end in .* for h264, or take codec vp9"),
        ({"output": "m.avi"}, r"output: 'm.avi' must end in .* for h264$"),
        ({"output": "m.tif"}, r"output: 'm.tif' must end in .* for h264, or, for a picture, in \.png or \.jpg$"),
        ({"renderer": {"background_color": [0, 0, 0, 255]}}, r"background_color\.3: .*less than or equal to 1 \(it is 255"),
        ({"overlays": {"color": [0, -1, 0, 1]}}, r"overlays\.color\.1: .*greater than or equal to 0 \(it is -1"),
        ({"overlays": {"color": [0, 0, 0, 1, 1]}}, r"overlays\.color: has 5 values; at most 4 are taken"),
        ({"renderer": {"background_color": "#00000000"}}, r"background_color: .*a fourth for its alpha \(0 is transparent\)"),
        ({"clipping": {"kind": "plane"}}, r"clipping: must be a list, such as \[\{key: value\}\]"),
        ({"background_color": [0, 0, 0]}, "background_color: write it inside of `renderer`"),
        ({"title": "Growth"}, "title: write it inside of `shots` or `overlays`"),
        ({"camera": {"path": "still", "position": [0, 0, 9]}}, r"camera\.position: write it inside of `keyframes`"),
        ({"models": [{"path": "/a.obj", "opacity": 0.5}]}, r"models\.0\.opacity: write it inside of `material`"),
        ({"models": [{"path": "/a.obj", "transform": {"position": [0, 0, 1]}}]}, "position: did you mean translation"),
        ({"clipping": [{"kind": "plane", "normal": [0, 0, 1]}]}, r"clipping\.0\.normal: did you mean coefficients\?"),
        ({"lights": [{"type": "ambient"}]}, r"lights\.0\.type: did you mean kind\?"),
        ({"list[a]": 1}, r"list\[a\]: correct it, or leave it out"),
        ({"renderer": {"type": "production"}}, r"renderer\.type: did you mean name\?"),
        ({"renderer": {"spp": 64}}, r"renderer\.spp: did you mean samples_per_pixel\?"),
        ({"camera": {"type": "orthographic"}}, r"camera\.type: did you mean projection\?"),
        ({"size": [640, 480]}, r"size: did you mean resolution\?"),
        ({"primitives": [{"type": "sphere"}]}, r"primitives\.0\.kind: missing, .*in place of `type`, which is not known here"),
        ({"shots": [{"title": "a"}]}, r"shots\.0\.frames: missing, and required: write `frames: …`$"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_without_words_of_python(words: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidSetting, match=told) as error:
        MovieSpecification.check({**MOVIE, **words})
    assert "tuple" not in str(error.value).lower()


@pytest.mark.parametrize(
    "path", ["s3://bucket/m.mp4", "file:m.mp4", "C:\\m.mp4", "$HOME/m.mp4", "/scratch/$USER/m.mp4", "${HOME}/m.mp4"]
)
def test_a_path_that_would_lead_elsewhere_is_refused_wherever_one_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """The movie was green, in a folder of that name beside the worker."""
    monkeypatch.chdir(tmp_path)
    for words in (
        {"output": path},
        {"models": [{"path": path.replace("mp4", "obj")}]},
        {"overlays": {"logo": path.replace("mp4", "png")}},
        {"per_frame": path.replace("mp4", "csv")},
    ):
        with pytest.raises(InvalidSetting, match=r"(variables are not known|no path of a file) here"):
            MovieSpecification.check({**MOVIE, **words}, folder=tmp_path)
    with pytest.raises(InvalidSetting, match="output_file: write a path"):
        check_output(path)
    with pytest.raises(InvalidSetting, match="frames_dir: write an absolute path"):
        check_folder(path)
    assert not list(tmp_path.iterdir())


def test_the_home_is_the_workers_and_no_nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert check_output("~/movies/m.mp4") == tmp_path / "movies" / "m.mp4"
    with pytest.raises(InvalidSetting, match="models.0.path: .*`~` is not known here"):
        MovieSpecification.check({**MOVIE, "models": [{"path": "~/a.obj"}]}, folder=tmp_path)
    assert not path_problem("/gpfs/a$b/m.obj")


@pytest.mark.parametrize(("length", "taken"), [(200, True), (245, False), (260, False)])
def test_a_name_that_no_file_can_have_is_refused_before_anything_is_rendered(
    tmp_path: Path, length: int, taken: bool
) -> None:
    """It was found out at the encoding; a poster's name is longer than its movie's."""
    path = str(tmp_path / ("m" * (length - 4) + ".mp4"))
    if taken:
        assert str(check_output(path)) == path
    else:
        with pytest.raises(InvalidSetting, match="output_file: make it shorter than"):
            check_output(path)


@pytest.mark.parametrize("told", [0, -1, OSError(22, "Invalid argument")])
def test_a_file_system_that_tells_no_longest_name_takes_any(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: int | OSError
) -> None:
    def pathconf(_path: Path, _name: str) -> int:
        if isinstance(told, OSError):
            raise told
        return told

    monkeypatch.setattr(os, "pathconf", pathconf)
    assert check_output(str(tmp_path / "m.mp4")) == tmp_path / "m.mp4"


def test_a_folder_is_no_movie(tmp_path: Path) -> None:
    (tmp_path / "movie.mp4").mkdir()
    with pytest.raises(InvalidSetting, match=r"(?s)output_file: name a file.*movie\.mp4 is a folder"):
        check_output(str(tmp_path / "movie.mp4"))


@pytest.mark.parametrize("words", [{"per_frame": "pipe.csv"}, {"overlays": {"logo": "pipe.png"}}])
def test_a_pipe_is_not_waited_for(tmp_path: Path, words: dict[str, Any]) -> None:
    """Nobody writes into it, and the task hung."""
    from airflow_brayns.movie.overlay_layers import check_overlays

    for name in ("pipe.csv", "pipe.png"):
        os.mkfifo(tmp_path / name)
    with pytest.raises(InvalidSetting, match="is no file, but a folder, a pipe or a device"):
        check_overlays(MovieSpecification.check({**MOVIE, **words}, folder=tmp_path))


def test_a_file_and_what_is_not_there_are_no_pipes(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("")
    check_is_file("per_frame", tmp_path / "a.csv")
    check_is_file("per_frame", tmp_path / "none.csv")


@pytest.mark.parametrize("name", ["m.yaml", "v.csv"])
@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_a_file_in_another_encoding_is_told_to_be_saved_anew(tmp_path: Path, name: str, encoding: str) -> None:
    (tmp_path / "m.yaml").write_text("models: [{path: /a.obj}]\nper_frame: v.csv\n")
    (tmp_path / "v.csv").write_text("frame,camera.fovy\n0,30\n")
    (tmp_path / name).write_bytes((tmp_path / name).read_text().replace("\n", "\u00e9\n", 1).encode(encoding))
    with pytest.raises(InvalidSetting, match=f"(?s)^{name}: save it as UTF-8.*line 1 has a byte 0x(e9|ff)"):
        MovieSpecification.read_file(tmp_path / "m.yaml")
