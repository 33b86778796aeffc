from __future__ import annotations

from pathlib import Path

import pytest

from airflow_brayns.errors import InvalidSetting
from airflow_brayns.movie.script_digest import inputs_of, modules_of, parse

TEXT = 'frames, fps, output = 10, 25, "a.mp4"\nSCALE = 2\ndef frame(service, number):\n    return SCALE * number\n'


def digest(text: str) -> str:
    return modules_of(Path("growth.py"), parse(text, "growth.py"))["growth.py"]


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("SCALE = 2", "SCALE = 2  # of the cube", True),
        ("return SCALE * number", "return (SCALE   *\n        number)", True),
        ("fps, output = 10, 25,", "fps, output = 20, 30,", True),
        ("SCALE = 2", "budget = 20\nSCALE = 2", True),
        ("SCALE = 2", "SCALE = 3", False),
        ("number)", "number, scale=2)", False),
        ("SCALE * number", "SCALE * number / frames", False),
    ],
)
def test_what_shapes_no_picture_is_not_in_the_digest(old: str, new: str, same: bool) -> None:
    assert (digest(TEXT) == digest(TEXT.replace(old, new))) is same


def test_a_setting_that_the_code_reads_shapes_pictures() -> None:
    reads = TEXT.replace("SCALE * number", "number / frames")
    assert digest(reads) != digest(reads.replace("= 10, 25", "= 20, 25"))
    assert digest(reads) == digest(reads.replace("= 10, 25", "= 10, 30"))


def test_modules_beside_are_found_wherever_they_are_imported(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("import b\nimport json\n")
    (tmp_path / "b.py").write_text("import a\n")
    (tmp_path / "c.py").write_text("")
    (tmp_path / "unused.py").write_text("")
    file = tmp_path / "growth.py"
    file.write_text("import a\ndef frame(service, number):\n    from c import x\n")
    assert set(modules_of(file, parse(file.read_bytes(), file.name))) == {"growth.py", "a.py", "b.py", "c.py"}


def test_inputs_are_known_by_what_is_in_them(tmp_path: Path) -> None:
    file = tmp_path / "spikes.csv"
    file.write_text("1,2")
    before = inputs_of([file, tmp_path / "not-here.csv"])
    assert set(before) == {str(file)}
    file.write_text("1,3")
    assert inputs_of([file]) != before


def digests(folder: Path, **texts: str) -> dict[str, str]:
    """The digests of `growth.py` and what is beside it."""
    for name, text in texts.items():
        file = folder / f"{name.replace('__in_', '/')}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    file = folder / "growth.py"
    return modules_of(file, parse(file.read_bytes(), file.name))


def test_settings_of_a_module_beside_shape_pictures(tmp_path: Path) -> None:
    before = digests(tmp_path, growth="from settings import frames\n", settings="frames = 250\n")
    assert digests(tmp_path, settings="frames = 300\n") != before


@pytest.mark.parametrize(
    "reads",
    ["import growth\nN = growth.frames\n", "from growth import frames\n", "from growth import *\nN = frames\n",
     "import growth\nN = getattr(growth, 'frames')\n"],
)  # fmt: skip
def test_a_setting_that_a_module_beside_reads_shapes_pictures(tmp_path: Path, reads: str) -> None:
    before = digests(tmp_path, growth="import a\nframes = 250\n", a=reads)
    assert digests(tmp_path, growth="import a\nframes = 300\n") != before
    before = digests(tmp_path, growth="import a\nframes = 250\n", a="N = 3\n")
    assert digests(tmp_path, growth="import a\nframes = 300\n") == before


@pytest.mark.parametrize("reads", ["from growth import SCALE\n", "from math import *\n"])
def test_a_module_beside_that_imports_something_else_reads_no_setting(tmp_path: Path, reads: str) -> None:
    """Else such a movie would be rendered anew where only how many frames it has is another number."""
    before = digests(tmp_path, growth="import a\nframes = 250\nSCALE = 2\n", a=reads)
    assert digests(tmp_path, growth="import a\nframes = 300\nSCALE = 2\n") == before


def test_relative_imports_are_followed_and_those_that_leave_the_folder_refused(tmp_path: Path) -> None:
    movie = {"growth": "from shapes.inner.ball import C\n", "shapes__in_common": "C = 3\n", "shapes__in___init__": ""}
    found = digests(tmp_path, **movie, shapes__in_inner__in_ball="from ..common import C\n")
    assert "shapes/common.py" in found
    found = digests(tmp_path, shapes__in_inner__in_ball="from .. import common\nC = common.C\n")
    assert "shapes/common.py" in found
    digests(tmp_path, shapes__in_inner__in_ball="try:\n    from ... import x\nexcept ImportError: ...\n")
    with pytest.raises(InvalidSetting, match=r"(?s)shapes/inner/ball\.py line 1: .*leaves the movie's folder"):
        digests(tmp_path, shapes__in_inner__in_ball="from ...common import C\n")


BY_TEXT = "import importlib\ndef frame(service, number):\n    return importlib.import_module({})\n"


def test_what_is_imported_by_a_text_is_followed_as_by_a_statement(tmp_path: Path) -> None:
    found = digests(tmp_path, growth=BY_TEXT.format("'cells'"), cells="import late\n", late="A = 1\n", unused="")
    assert set(found) == {"growth.py", "cells.py", "late.py"}
    assert digests(tmp_path, late="A = 2\n") != found
    found = digests(
        tmp_path, growth="import p.a\n", p__in___init__="", p__in_a=BY_TEXT.format("'.b', __package__"), p__in_b=""
    )
    assert "p/b.py" in found


def test_each_module_that_a_text_may_mean_counts_with_what_that_imports(tmp_path: Path) -> None:
    styles = {
        "style_red": "import paint\n",
        "style_blue": BY_TEXT.format("'late'"),
        "paint": "",
        "late": "",
        "unused": "",
    }
    found = digests(tmp_path, growth=BY_TEXT.format("f'style_{number}'"), **styles)
    assert set(found) == {"growth.py", "style_red.py", "style_blue.py", "paint.py", "late.py"}
    assert digests(tmp_path, paint="RED = 1\n") != found
    package = {"p__in___init__": "", "p__in_a": BY_TEXT.format("'.' + which, __package__"), "p__in_b": ""}
    found = digests(tmp_path, growth="import p.a\n", **package)
    assert set(found) == {"growth.py", "p/__init__.py", "p/a.py", "p/b.py"}


def test_where_nothing_of_a_text_is_known_all_modules_count_but_other_movies(tmp_path: Path) -> None:
    """One that is no Python may be another movie that is being written: it counts where something of its name is said."""
    others = {"cells": "A = 1\n", "broken": "def\n", "another": TEXT}
    found = digests(tmp_path, growth=BY_TEXT.format("number"), **others)
    assert set(found) == {"growth.py", "cells.py"}
    assert "another.py" in digests(tmp_path, growth=BY_TEXT.format("'another'"))
    found = digests(tmp_path, growth=BY_TEXT.format("'bro' + number"))
    assert set(found) == {"growth.py", "broken.py"}
    assert digests(tmp_path, broken="def f\n") != found


def test_an_input_that_is_a_folder_is_known_by_what_lies_in_it(tmp_path: Path) -> None:
    inner = tmp_path / "spikes" / "a" / "1.csv"
    inner.parent.mkdir(parents=True)
    inner.write_text("1")
    before = inputs_of([tmp_path / "spikes"])
    assert inputs_of([tmp_path / "spikes"]) == before
    inner.write_text("12")
    assert inputs_of([tmp_path / "spikes"]) != before
