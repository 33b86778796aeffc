from __future__ import annotations

import asyncio
import contextlib
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from airflow_brayns.errors import ConnectionLost
from airflow_brayns.movie import script_order as module
from airflow_brayns.movie.interfaces import RenderService
from airflow_brayns.movie.script_file import ScriptFile
from airflow_brayns.movie.script_order import Order, order_of, same_picture
from airflow_brayns.movie.specification import Renderer
from tests.support.cluster import REPO
from tests.support.movie import Remembers, render_services, specification
from tests.support.script import FRAME, HEAD, NEEDS_CLIENT, script

FAST = {"snapshot_seconds": 0}
COUNTS = (
    HEAD + "\nCALLS = []\n",
    FRAME.replace("number):", "number):\n    CALLS.append(number)").replace("4 + number", "4 + len(CALLS)"),
)
BESIDE = HEAD + "\nimport tally\n", FRAME.replace("number):", "number):\n    import tally\n    tally.CALLS += 1").replace("4 + number", "4 + tally.CALLS")  # fmt: skip
ADDS = HEAD, FRAME.replace("number):", "number):\n    brayns.add_geometries(service, [(brayns.Sphere(0.5, brayns.Vector3(1, 1, number / 2)), brayns.Color4(1, 0, 0))])")  # fmt: skip


async def order(emulator: Any, file: Path) -> Order:
    spec = ScriptFile(file).specification()
    services = render_services([emulator(**FAST), emulator(**FAST)])
    return await order_of(
        spec, ScriptFile.of(spec.script), services, [0, 1, 3], Remembers(), scene_seconds=60, frame_seconds=60
    )


@NEEDS_CLIENT
@pytest.mark.slow
async def test_frames_that_do_not_depend_on_their_order_pass(emulator: Any, tmp_path: Path) -> None:
    assert (await order(emulator, script(tmp_path))).differ == []


@NEEDS_CLIENT
@pytest.mark.slow
async def test_the_example_grows_and_does_not_depend_on_its_order(emulator: Any) -> None:
    spec = ScriptFile(REPO / "dags" / "movies" / "growth.py", {"seed": 3}).specification()
    small = spec.model_copy(update={"resolution": (96, 64), "renderer": Renderer(name="interactive")})
    services = render_services([emulator(**FAST), emulator(**FAST)])
    found = await order_of(
        small, ScriptFile.of(spec.script), services, [0, 60], Remembers(), scene_seconds=60, frame_seconds=60
    )
    assert found.differ == []


@NEEDS_CLIENT
@pytest.mark.slow
@pytest.mark.parametrize(("head", "frame"), [COUNTS, BESIDE, ADDS], ids=["counts its calls", "counts in a module beside it", "adds to what is there"])  # fmt: skip
async def test_frames_that_do_are_named(emulator: Any, tmp_path: Path, head: str, frame: str) -> None:
    (tmp_path / "tally.py").write_text("CALLS = 0\n")
    found = await order(emulator, script(tmp_path, frame, head=head))
    assert list(found.after_others) == [0, 1, 3], "each of them comes after another one"
    assert list(found.on_second) == [1, 3], "the first one of the second service is alone there, too"


@NEEDS_CLIENT
@pytest.mark.slow
async def test_a_service_that_fails_leaves_nothing_at_work_on_the_other(emulator: Any, tmp_path: Path) -> None:
    spec = ScriptFile(script(tmp_path)).specification()
    [there] = render_services([emulator(snapshot_seconds=60)])
    gone = replace(there, endpoint="127.0.0.1:1", told="127.0.0.1:1")
    before = asyncio.all_tasks()
    with pytest.raises(ConnectionLost, match="127.0.0.1:1"):
        await order_of(
            spec, ScriptFile.of(spec.script), [there, gone], [0, 1], Remembers(), scene_seconds=60, frame_seconds=60
        )
    assert asyncio.all_tasks() == before


@pytest.mark.parametrize(("grows", "found"), [(True, [0, 1, 3]), (False, [])])
async def test_each_frame_is_rendered_alone_and_behind_all_others(
    monkeypatch: pytest.MonkeyPatch, grows: bool, found: list[int]
) -> None:
    """Also the first one of the order backwards, which would be as alone there as it is alone."""
    begun: list[list[int]] = []

    class Run:
        def __init__(self, *_: Any, **__: Any) -> None: ...

        async def prepare(self, client: Any) -> None:
            begun.append([])

        async def close(self) -> None: ...

    class Call:
        def __init__(self, *_: Any) -> None: ...

        async def begin(self, client: Any, plan: Any) -> None:
            self.rendered = begun[-1]

        async def render(self, client: Any, plan: Any, number: int) -> bytes:
            self.rendered.append(number)
            picture = io.BytesIO()
            Image.new("RGB", (4, 4), (9 * number, 100 * min(1, len(self.rendered) - 1) * grows, 0)).save(picture, "PNG")
            return picture.getvalue()

    async def one_pass(client: Any) -> bool:
        return True

    monkeypatch.setattr(module, "ScriptRun", Run)
    monkeypatch.setattr(module, "ScriptCall", Call)
    monkeypatch.setattr(module, "client_of", contextlib.nullcontext)
    monkeypatch.setattr(module, "offers_one_pass", one_pass)
    services: Any = [RenderService(f"n{number}:5000", f"brayns{number}") for number in (1, 2)]
    spec: Any = specification(Path("/a.obj"))
    run: Any = None
    order = await order_of(spec, run, services, [0, 1, 3], Remembers(), scene_seconds=60, frame_seconds=60)
    assert sorted(begun) == [[0], [0, 1, 3], [1], [3], [3, 1, 0, 3]]
    assert list(order.after_others) == found
    assert order.differ == found


def test_the_last_digit_is_no_difference() -> None:
    def image(value: int, size: tuple[int, int] = (4, 4)) -> bytes:
        found = io.BytesIO()
        Image.new("RGB", size, (value, 0, 0)).save(found, "PNG")
        return found.getvalue()

    assert same_picture(image(100), image(102))
    assert not same_picture(image(100), image(103))
    assert not same_picture(image(100), image(100, (4, 5)))
