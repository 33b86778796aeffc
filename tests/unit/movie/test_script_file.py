from __future__ import annotations

import os
import re
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from airflow_brayns.errors import InvalidSetting, RenderingFailed
from airflow_brayns.movie.script import ScriptSpecification, specification_of
from airflow_brayns.movie.script_file import ScriptFile, is_movie
from tests.support.script import NEEDS_CLIENT, script

SMALL = "frames = 4\n"
FRAME = "def frame(service, number): ...\n"


def read(tmp_path: Path, text: str, values: dict[str, Any] | None = None) -> ScriptSpecification:
    file = tmp_path / "growth.py"
    file.write_text(text)
    return ScriptFile(file, values or {}).specification()


def test_a_file_is_a_specification_that_plain_values_keep(tmp_path: Path) -> None:
    text = 'frames, fps, resolution, output = 250, "30000/1001", (128, 64), "growth.mp4"\ncrf: int = 20\n' + FRAME
    found = read(tmp_path, text)
    assert (found.frames, found.resolution, found.output, found.crf) == (250, (128, 64), "growth.mp4", 20)
    assert found.script.file == str(tmp_path / "growth.py")
    assert specification_of(found.plain()) == found


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (SMALL, r"^growth\.py: write `def frame\(service, number\):`(?s:.*)It has no function `frame`"),
        (SMALL + "frame = 3\n", r"(?s)^growth\.py: .*It has no function `frame`"),
        (SMALL + "def frame(service): ...\n", r"^growth\.py line 2: write it as in `def frame\((?s:.*)frame takes \(service\)"),
        (SMALL + "async def frame(service, number): ...\n", r"(?s)^growth\.py line 2: .*frame is a coroutine"),
        (SMALL + "def frame(service, number):\n    yield\n", r"(?s)^growth\.py line 2: .*frame is a coroutine or yields"),
        (SMALL + "def scene(): ...\n" + FRAME, r"(?s)^growth\.py line 2: .*scene takes \(\)"),
        (SMALL + "scene = 5\n" + FRAME, r"(?s)^growth\.py: .*scene is int, no function"),
        (FRAME, r"^growth\.py: frames: say how many at the top"),
        ("frames = 0\n" + FRAME, r"^growth\.py line 1, frames: .*greater than or equal to 1"),
        (SMALL + "\nfps = 'fast'\n" + FRAME, r"^growth\.py line 3, fps: "),
        (SMALL + "resolution = (65, 64)\n" + FRAME, r"^growth\.py line 2, resolution: "),
        (SMALL + "output = 'movie.avi'\n" + FRAME, r"^growth\.py line 2, output: "),
        (SMALL + "codec = 'gif'\n" + FRAME, r"^growth\.py: output: "),  # it is on no line
        (SMALL + "inputs = 'a.csv'\n" + FRAME, r"^growth\.py line 2, inputs: give a list of files"),
        (SMALL + "def frame(service, number:\n", r"^growth\.py line 2: correct it\.\n    It is no Python, "),
        (SMALL + "\0", r"^growth\.py: correct it\.\n    It is no Python"),
        ("\n\nimport no_such_module_here\n", r"(?s)^growth\.py line 3: .*It imports no_such_module_here, which is not installed"),
        (
            SMALL + "def frame(service, number):\n    from no_such_module_here.x import y\n",
            r"(?s)^growth\.py line 3: .*It imports no_such_module_here",
        ),
        (SMALL + "def count(): return {}['a']\nframes = count()\n" + FRAME, r"(?s)^growth\.py line 2: correct it\.\n    It fails when it is loaded\. KeyError: 'a'\n.*line 3, in <module>: .*line 2, in count"),
        (SMALL + "frame = max\n", r"(?s)^growth\.py: .*frame is <built-in function max>, which tells no arguments"),
        (SMALL + "step = 5\n" + FRAME, r"(?s)^growth\.py line 2, step: .*not known here"),
        (SMALL + "FPS = 60\n" + FRAME, r"^growth\.py line 2, FPS: did you mean fps\?"),
        ("FRAMES = 60\n" + FRAME, r"^growth\.py line 1, FRAMES: did you mean frames\?"),
        (SMALL + "FPS = 60\ndef frame(service, number): number / FPS\n", r"^growth\.py line 2, FPS: add `fps = FPS`, or, where that is another one, `fps = 25\.0`"),
        (SMALL + "RESOLUTION = (640, 360)\ndef frame(service, number): RESOLUTION\n", r"^growth\.py line 2, RESOLUTION: add `resolution = RESOLUTION`, or, where that is another one, `resolution = \[1920, 1080\]`"),
        (SMALL + "samples_per_pixel = 64\n" + FRAME, r"^growth\.py line 2, samples_per_pixel: write it inside of `renderer`"),
        (SMALL + "renderer = {'background_color': [0, 0, 0, 0]}\n" + FRAME, r"^growth\.py line 2, renderer: h264 keeps no transparency: take .*brayns\.Color4\(0, 0, 0, 1\)"),
        (SMALL + "codec = 'h265'\nrenderer = {'background_color': [0, 0, 0, 0]}\n" + FRAME, r"^growth\.py line 2, codec: h265 keeps no transparency"),
        (SMALL + "class Quick: ...\nrenderer = Quick\n" + FRAME, r"^growth\.py line 3, renderer: is the class Quick itself; write `Quick\(\)`"),
        (SMALL + "import signal\nsignal.signal(signal.SIGTERM, print)\n" + FRAME, r"(?s)^growth\.py line 3: .*signal only works in main thread"),
        (SMALL + FRAME + "raise GeneratorExit\n", r"(?s)^growth\.py line 3: .*It fails when it is loaded\. GeneratorExit"),
        (SMALL + "class Of:\n    async def __call__(self, service, number): ...\nframe = Of()\n", r"(?s)^growth\.py: .*frame is a coroutine"),
        (SMALL + "async def frame(service, number):\n    yield\n", r"(?s)^growth\.py line 2: .*frame is a coroutine or yields"),
        (SMALL + "globals()['inputs'] = ['~/a.csv']\n" + FRAME, r"(?s)^growth\.py: inputs: write it out"),
        (SMALL + "inputs = ['~/a.csv']\n" + FRAME, r"(?s)^growth\.py line 2, inputs: write it out.*`~` is not known here"),
        (SMALL + "frames = 10**5000\n" + FRAME, r"(?s)^growth\.py line \d, frames: .*many digits"),
        (SMALL + "resolutoin = (64, 64)\n" + FRAME, r"^growth\.py line 2, resolutoin: did you mean resolution\?"),
        (SMALL + "x = = " + 9999 * "1", r"^growth\.py line 2: correct it\.\n    It is no Python, .{,400}$"),
        (SMALL + "raise ValueError(9999 * 'x')", r"(?s)^growth\.py line 2: correct it\.\n    It fails when it is loaded.{,700}$"),
        (SMALL + "raise SystemExit(3)\n", r"(?s)^growth\.py line 2: .*It fails when it is loaded\. SystemExit: 3"),
        (SMALL + "def frame(service, number, scale): ...\n", r"(?s)^growth\.py line 2: add it to the run's params.*frame needs 'scale', and nothing gives it"),
    ],
)  # fmt: skip
def test_what_cannot_work_names_file_line_and_remedy(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(InvalidSetting, match=told) as error:
        read(tmp_path, text)
    assert not error.value.retry


@pytest.mark.parametrize(
    "text",
    [
        "FPS, RESOLUTION = 60, (640, 480)\nfps, resolution = FPS, RESOLUTION\ndef frame(service, number): FPS\n",
        "FPS, RESOLUTION = 25, (1920, 1080)\ndef frame(service, number): FPS, RESOLUTION\n",
        "RESOLUTION, FPS = (8, 8, 8), 'a text'\ndef frame(service, number): FPS, RESOLUTION\n",
        "RESOLUTION, FPS = (0.5, 0.25), True\ndef frame(service, number): FPS, RESOLUTION\n",
        "class Array:\n    shape = (2, 2)\n    def __eq__(self, other): return Truth()\nclass Truth:\n    def __bool__(self): raise ValueError\n"
        "RESOLUTION, FPS = [Array(), Array()], Array()\ndef frame(service, number): FPS, RESOLUTION\n",
    ],
)
def test_capitals_that_set_nothing_wrong_are_taken(tmp_path: Path, text: str) -> None:
    read(tmp_path, SMALL + text)


@NEEDS_CLIENT
def test_a_connection_of_the_files_own_is_told_to_be_left_out(tmp_path: Path) -> None:
    """A script's first lines; 'correct it' did not say how."""
    text = "import brayns\nbrayns.Connector('127.0.0.1:9').connect()\n"
    with pytest.raises(InvalidSetting, match=r"line 3: leave it out: `scene` and `frame` are given the service"):
        read(tmp_path, SMALL + text + FRAME)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidSetting, match=r"(?s)^specification: .*/growth\.py cannot be read: No such file"):
        ScriptFile(tmp_path / "growth.py").specification()


def test_further_arguments_come_by_name_and_those_that_are_not_used_stay_out(tmp_path: Path) -> None:
    text = SMALL + "def scene(service, cells=3): ...\ndef frame(service, number, *, scale, color='red'): ...\n"
    found = read(tmp_path, text, {"cells": 9, "scale": 2.5, "output": "x", "account": "secret"})
    assert found.script.arguments == {"cells": 9, "scale": 2.5}
    everything = read(tmp_path, SMALL + "def frame(service, number, **more): ...\n", {"a": 1, "number": 3})
    assert everything.script.arguments == {"a": 1}


def test_an_import_that_the_file_can_do_without_is_none_of_our_business(tmp_path: Path) -> None:
    read(tmp_path, SMALL + "try:\n    import no_such_module_here\nexcept ImportError:\n    pass\n" + FRAME)


def test_a_main_part_is_not_run(tmp_path: Path) -> None:
    read(tmp_path, SMALL + FRAME + "if __name__ == '__main__':\n    raise SystemExit('run as a program')\n")


def test_each_service_has_globals_of_its_own_in_the_file_and_beside_it(tmp_path: Path) -> None:
    (tmp_path / "cells.py").write_text("KNOWN = {}\n")
    text = SMALL + "import cells\nOWN = {}\ndef frame(service, number):\n    return OWN, cells.KNOWN\n"
    file = ScriptFile.of(read(tmp_path, text).script)
    one, other = file.load(), file.load()
    for mine, others in zip(one.frame(None, 0), other.frame(None, 0), strict=True):
        assert mine is not others


LAZY = """
import cells
def frame(service, number):
    import cells as again
    import tissue.layer
    from tissue import layer
    from late import KNOWN
    assert again is cells and again.neighbours() is KNOWN
    assert tissue.layer is layer and layer.cells is cells
    return cells.KNOWN, KNOWN, layer.KNOWN
"""


def test_what_is_imported_inside_a_function_is_each_services_own(tmp_path: Path) -> None:
    """Also where another service has loaded the file since, and in functions of the modules beside it."""
    (tmp_path / "cells.py").write_text("KNOWN = {}\ndef neighbours():\n    import late\n    return late.KNOWN\n")
    (tmp_path / "late.py").write_text("import cells\nKNOWN = {'cells': cells}\n")
    (tmp_path / "tissue").mkdir()
    (tmp_path / "tissue" / "__init__.py").write_text("")
    (tmp_path / "tissue" / "layer.py").write_text("import cells\nKNOWN = {}\n")
    file = ScriptFile.of(read(tmp_path, SMALL + LAZY).script)
    one, other = file.load(), file.load()
    first, second = one.frame(None, 0), other.frame(None, 0)
    for mine, others in zip(first, second, strict=True):
        assert mine is not others
    for mine, again in zip(first, one.frame(None, 1), strict=True):
        assert mine is again, "it is not loaded anew for each frame"


BY_TEXT = """
import importlib
from importlib import import_module as load
import cells
def frame(service, number, style="red"):
    assert importlib.import_module("cells") is load("cells") is __import__("cells") is cells
    layer = load("tissue.layer")
    assert load(".layer", "tissue") is layer and layer.cells is cells
    assert layer.neighbours() is layer
    assert importlib.util.find_spec("json") and importlib.machinery.SOURCE_SUFFIXES
    return cells.KNOWN, layer.KNOWN, load(f"style_{style}").KNOWN
"""


def test_what_is_imported_by_a_text_is_each_services_own(tmp_path: Path) -> None:
    """`importlib` asks for no `__import__`: all services had the modules of whichever was loaded last."""
    (tmp_path / "cells.py").write_text("KNOWN = {}\n")
    (tmp_path / "style_red.py").write_text("KNOWN = {}\n")
    (tmp_path / "tissue").mkdir()
    (tmp_path / "tissue" / "__init__.py").write_text("")
    late = "import importlib\nfrom importlib import *\ncells = import_module('cells')\nKNOWN = {}\n"
    late += "def neighbours():\n    return importlib.import_module('.layer', __package__)\n"
    (tmp_path / "tissue" / "layer.py").write_text(late)
    source = read(tmp_path, SMALL + BY_TEXT).script
    assert set(source.digests) == {"growth.py", "cells.py", "style_red.py", "tissue/__init__.py", "tissue/layer.py"}
    file = ScriptFile.of(source)
    one, other = file.load(), file.load()
    first, second = one.frame(None, 0), other.frame(None, 0)
    for mine, others in zip(first, second, strict=True):
        assert mine is not others
    for mine, again in zip(first, one.frame(None, 1), strict=True):
        assert mine is again, "it is not loaded anew for each frame"


def test_a_module_is_reloaded_for_its_own_service(tmp_path: Path) -> None:
    (tmp_path / "cells.py").write_text("COUNT = 0\n")
    text = SMALL + "import importlib, cells\ndef frame(service, number):\n    cells.COUNT += 1\n"
    text += "    assert number or importlib.reload(cells) is cells\n    return cells.COUNT\n"
    file = ScriptFile.of(read(tmp_path, text).script)
    one, other = file.load(), file.load()
    assert [other.frame(None, 1), one.frame(None, 1), one.frame(None, 0), other.frame(None, 2)] == [1, 1, 0, 2]


@pytest.mark.parametrize(
    "code", ["from importlib import import_module\ncells = import_module('cells')", "import cells"]
)
def test_a_module_beside_one_movie_is_none_of_another_ones(tmp_path: Path, code: str) -> None:
    """Nor does it stand in the way of an installed one of its name, in the movies after it."""
    text = (
        SMALL + code.replace("cells", "paint_beside") + "\ndef frame(service, number):\n    return paint_beside.KNOWN\n"
    )
    folders = [tmp_path / name for name in ("one", "other", "none")]
    for folder in folders[:2]:
        folder.mkdir()
        (folder / "paint_beside.py").write_text(f"KNOWN = {folder.name!r}\n")
    one, other = (ScriptFile.of(read(folder, text).script).load() for folder in folders[:2])
    assert [one.frame(None, 0), other.frame(None, 0), one.frame(None, 1)] == ["one", "other", "one"]
    folders[2].mkdir()
    with pytest.raises(InvalidSetting, match="No module named 'paint_beside'|imports paint_beside, which is not"):
        read(folders[2], text)


def test_a_module_beside_hides_an_installed_one_from_its_own_movie_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("installed", "one", "none"):
        (tmp_path / name).mkdir()
    for name in ("installed", "one"):
        (tmp_path / name / "paint_of_ours.py").write_text(f"KNOWN = {name!r}\n")
    monkeypatch.syspath_prepend(str(tmp_path / "installed"))
    text = SMALL + "import paint_of_ours\ndef frame(service, number):\n    return paint_of_ours.KNOWN\n"
    found = [read(tmp_path / name, text) for name in ("none", "one", "none")]
    loaded = [ScriptFile.of(one.script).load() for one in found]
    assert [one.frame(None, 0) for one in loaded] == ["installed", "one", "installed"]
    monkeypatch.delitem(sys.modules, "paint_of_ours")


def test_services_that_import_at_the_same_time_get_their_own(tmp_path: Path) -> None:
    (tmp_path / "cells.py").write_text("import time\ntime.sleep(0.02)\nCOUNT = 0\n")
    text = SMALL + "def frame(service, number):\n    import cells\n    cells.COUNT += 1\n    return cells.COUNT\n"
    file = ScriptFile.of(read(tmp_path, text).script)
    with ThreadPoolExecutor(8) as pool:
        found = list(
            pool.map(lambda load: [load.frame(None, one) for one in range(50)], [file.load() for _ in range(8)])
        )
    assert found == [list(range(1, 51))] * 8


def test_dataclasses_and_modules_beside_work_as_in_a_program(tmp_path: Path) -> None:
    (tmp_path / "shapes").mkdir()
    (tmp_path / "shapes" / "__init__.py").write_text("from .ball import RADIUS\n")
    (tmp_path / "shapes" / "ball.py").write_text("RADIUS = 3\n")
    text = "from __future__ import annotations\nfrom dataclasses import dataclass\nfrom shapes import RADIUS\n"
    text += "@dataclass\nclass Cell:\n    radius: float = RADIUS\n" + SMALL + FRAME
    assert set(read(tmp_path, text).script.digests) == {"growth.py", "shapes/__init__.py", "shapes/ball.py"}


def test_a_file_that_changes_under_a_movie_is_not_mixed_with_what_it_was(tmp_path: Path) -> None:
    file = ScriptFile.of(read(tmp_path, SMALL + FRAME).script)
    file.load()
    (tmp_path / "growth.py").write_text(SMALL + "def frame(service, number): return 1\n")
    with pytest.raises(RenderingFailed, match=r"growth\.py has changed while the movie was rendered"):
        file.load()


def test_modules_of_a_batchs_folder_are_no_movies(tmp_path: Path) -> None:
    (tmp_path / "cells.py").write_text("def load(service): ...\n")
    (tmp_path / "broken.py").write_text("def (")
    assert is_movie(script(tmp_path))
    assert is_movie(tmp_path / "broken.py"), "its error is told"
    assert not is_movie(tmp_path / "cells.py")


def test_numbers_of_numpy_and_paths_are_settings(tmp_path: Path) -> None:
    text = "import numpy\nfrom pathlib import Path\nframes = numpy.int64(3)\noutput = Path('a') / 'b.mp4'\n" + FRAME
    found = read(tmp_path, text)
    assert (found.frames, found.output) == (3, "a/b.mp4")
    assert re.fullmatch("[0-9a-f]{16}", found.script.digests["growth.py"])


def test_a_module_beside_is_compiled_from_its_source_and_nothing_is_written_there(tmp_path: Path) -> None:
    import os
    import py_compile

    for name, inner in (("cells", tmp_path), ("shapes.ball", tmp_path / "shapes")):
        inner.mkdir(exist_ok=True)
        module = inner / f"{name.rpartition('.')[2]}.py"
        module.write_text("N = 1\n")
        about = module.stat()
        py_compile.compile(str(module))
        module.write_text("N = 2\n")
        os.utime(module, ns=(about.st_atime_ns, about.st_mtime_ns))
        text = SMALL + f"from {name} import N\ndef frame(service, number): return N\n"
        assert ScriptFile.of(read(tmp_path, text).script).load().frame(None, 0) == 2
    (tmp_path / "fresh.py").write_text("")
    read(tmp_path, SMALL + "import fresh\n" + FRAME)
    assert not list(tmp_path.glob("__pycache__/fresh*"))


def test_a_mere_folder_beside_hides_no_installed_package(tmp_path: Path) -> None:
    (tmp_path / "yaml").mkdir()
    (tmp_path / "only_here").mkdir()
    (tmp_path / "only_here" / "a.py").write_text("")
    read(
        tmp_path,
        "import sys\nsys.modules.pop('yaml', None)\nfrom yaml import safe_load\nimport only_here.a\n" + SMALL + FRAME,
    )


def test_inputs_that_change_under_a_movie_are_not_mixed_with_what_they_were(tmp_path: Path) -> None:
    (tmp_path / "spikes.csv").write_text("1,2")
    source = read(tmp_path, SMALL + "inputs = ['spikes.csv', 'on-the-cluster.csv']\n" + FRAME).script
    file = ScriptFile.of(source)
    file.load()
    (tmp_path / "spikes.csv").write_text("1,3")
    for changed in (file.load, lambda: ScriptFile.of(source)):
        with pytest.raises(RenderingFailed, match=r"spikes\.csv has changed while the movie was rendered"):
            changed()


def test_names_that_the_code_reads_are_its_own(tmp_path: Path) -> None:
    text = "step = 0.5\ncamera, resolutions = None, [2]\n_frame = 3\n"
    read(tmp_path, SMALL + text + "def frame(service, number): return step * number, resolutions\n")


def test_imports_that_are_not_run_are_not_required(tmp_path: Path) -> None:
    read(tmp_path, "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import no_such_module\n" + SMALL + FRAME)
    read(tmp_path, SMALL + FRAME + "if __name__ == '__main__':\n    import no_such_module\n")
    with pytest.raises(InvalidSetting, match="imports no_such_module"):
        read(tmp_path, "DEBUG = False\nif DEBUG:\n    import no_such_module\n" + SMALL + FRAME)


def test_an_argument_that_is_no_plain_value_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidSetting, match=r"(?s)growth\.py: cells: .*is object, which is no plain value"):
        read(tmp_path, SMALL + "def frame(service, number, cells): ...\n", {"cells": object()})


def test_overlays_are_a_setting_and_no_part_of_what_the_pictures_depend_on(tmp_path: Path) -> None:
    plain = read(tmp_path, SMALL + FRAME)
    found = read(tmp_path, SMALL + "overlays = {'title': 'Growth', 'logo': 'logo.png', 'frame_number': True}\n" + FRAME)
    assert found.overlays is not None
    assert (found.overlays.title, found.overlays.logo) == ("Growth", str(tmp_path / "logo.png"))
    assert found.script.digests == plain.script.digests
    with pytest.raises(InvalidSetting, match=r"^growth\.py line 2, overlays\.scale_bar: cannot be known: .* Python's"):
        read(tmp_path, SMALL + "overlays = {'scale_bar': True}\n" + FRAME)


def test_handlers_by_which_a_task_is_told_to_end_stay_its_own(tmp_path: Path) -> None:
    """A file that set one had it from the check on, and was refused by the services only."""
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(InvalidSetting, match="signal only works in main thread"):
        read(tmp_path, SMALL + "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + FRAME)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_pipe_is_no_file_that_could_be_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "growth.py")
    with pytest.raises(InvalidSetting, match="specification: name a file"):
        ScriptFile(tmp_path / "growth.py").specification()


def test_what_a_file_can_do_without_need_not_be_there(tmp_path: Path) -> None:
    text = "    from contextlib import suppress\n    with suppress(ImportError):\n        import no_such_module_here\n"
    assert read(tmp_path, SMALL + "def frame(service, number):\n" + text).frames == 4
