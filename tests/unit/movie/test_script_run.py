"""A movie's Python with services that answer, from its scene to its frames."""

from __future__ import annotations

import asyncio
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageChops

from airflow_brayns.brayns.client import Reply
from airflow_brayns.errors import InvalidSetting, ScriptFailed
from airflow_brayns.movie.interfaces import RenderService
from airflow_brayns.movie.join import join_tiles
from airflow_brayns.movie.manifest import NAME
from airflow_brayns.movie.script import Functions
from airflow_brayns.movie.script_file import ScriptFile
from airflow_brayns.movie.script_run import ScriptRun
from tests.support.bounds import until
from tests.support.movie import Remembers, check_whole, produce, records, specification
from tests.support.script import FRAME, HEAD, NEEDS_CLIENT, SCENE, script

pytestmark = NEEDS_CLIENT
FAST = {"snapshot_seconds": 0}


async def made(
    file: Path, services: list[Any], folder: Path, values: dict[str, Any] | None = None, **options: Any
) -> tuple[Any, Remembers]:
    spec = ScriptFile(file, values or {}).specification()
    return await produce(spec, services, folder, script=ScriptFile.of(spec.script), **options)


def pictures(folder: Path) -> dict[int, str]:
    return {record["frame"]: record["sha256"] for record in records(folder)}


@pytest.mark.slow
async def test_frames_are_what_the_function_returns_in_both_ways(emulator: Any, tmp_path: Path) -> None:
    """A Camera, a Snapshot and None give the same picture where they say the same, and each frame its own."""
    returned = {
        "camera": FRAME,
        "snapshot": FRAME.replace("return camera", "return brayns.Snapshot(camera=camera, resolution=brayns.Resolution(96, 64))"),
        "none": FRAME.replace("return camera", "brayns.set_camera(service, camera)"),
    }  # fmt: skip
    services = [emulator(**FAST), emulator(**FAST)]
    found = {}
    for name, frame in returned.items():
        for way in ("one-pass", "snapshot"):
            file, folder = script(tmp_path / name, frame), tmp_path / name / way
            outcome, _ = await made(file, services, folder, way=way)
            check_whole(folder, 4)
            assert outcome.header.way == way
            found[name, way] = pictures(folder)
    assert len({tuple(sorted(one.items())) for one in found.values()}) == 1
    assert len(set(found["camera", "one-pass"].values())) == 4


@pytest.mark.slow
async def test_a_frame_that_wants_a_camera_is_not_seen_in_the_next(emulator: Any, tmp_path: Path) -> None:
    """Frames are as they are alone, also where only some return a camera, a renderer and a simulation's frame."""
    mixed = FRAME.replace(
        "return camera",
        """if number % 2:
        return None
    return brayns.Snapshot(camera=camera, renderer=brayns.InteractiveRenderer(background_color=brayns.Color4(1, 0, 0)), frame=0)""",
    )
    await made(script(tmp_path, mixed), [emulator(**FAST)], tmp_path / "all")
    found = pictures(tmp_path / "all")
    assert found[1] == found[3] != found[0]
    assert found[0] != found[2]
    await made(script(tmp_path, mixed), [emulator(**FAST)], tmp_path / "by-snapshot", way="snapshot")
    assert pictures(tmp_path / "by-snapshot") == found


@pytest.mark.slow
async def test_what_it_prints_and_logs_has_frame_and_node(
    emulator: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    frame = "import logging\n" + FRAME.replace(
        "return", "print('at', number)\n    logging.getLogger('x').warning('seen')\n    return"
    )
    _, told = await made(
        script(tmp_path, frame, scene=SCENE + "    print('loaded')\n"), [emulator(**FAST)], tmp_path / "f"
    )
    assert "scene on brayns1 on node1: loaded" in told.notes
    assert [f"frame {number} on brayns1 on node1: at {number}" for number in range(4)] == [
        one for one in told.notes if one.startswith("frame ")
    ]
    assert "frame 2 on brayns1 on node1: seen" in caplog.messages


@pytest.mark.slow
async def test_arguments_make_another_movie_of_one_file(emulator: Any, tmp_path: Path) -> None:
    file = script(tmp_path, FRAME.replace("number):", "number, far):").replace("4 + number", "far + number"))
    services = [emulator(**FAST)]
    await made(file, services, tmp_path / "f", {"far": 4})
    before = pictures(tmp_path / "f")
    outcome, told = await made(file, services, tmp_path / "f", {"far": 8})
    assert outcome.rendered == 4
    assert "4 frames are rendered anew, since the argument far has another value." in told.notes
    assert not set(before.values()) & set(pictures(tmp_path / "f").values())
    outcome, _ = await made(file, services, tmp_path / "f", {"far": 8, "unused": 1})
    assert outcome.rendered == 0


@pytest.mark.slow
async def test_a_changed_function_renders_anew_and_a_changed_rate_does_not(emulator: Any, tmp_path: Path) -> None:
    services = [emulator(**FAST)]
    await made(script(tmp_path), services, tmp_path / "f")
    outcome, _ = await made(script(tmp_path, head=HEAD.replace("25, (96", "30, (96")), services, tmp_path / "f")
    assert outcome.rendered == 0
    assert outcome.header.specification["fps"] == 30
    outcome, told = await made(script(tmp_path, FRAME.replace("3, 5", "2, 5")), services, tmp_path / "f")
    assert outcome.rendered == 4
    assert "4 frames are rendered anew, since growth.py has changed." in told.notes


FAILING = {
    "raises": ("\n    {}[number]", r"KeyError: 2\n +growth\.py line \d+, in frame: \{\}\[number\]"),
    "refused": ("\n    service.request('no-such-method')", r"(?s)JsonRpcError: .*in frame: service\.request\('no-such-method'\)"),
    "returns": ("\n    return 'x'", r"frame returned str; return a brayns\.Camera, a brayns\.Snapshot or None"),
    "resolution": (
        "\n    return brayns.Snapshot(resolution=brayns.Resolution(128, 64))",
        r"frame asks for 128x64, and the movie is 96x64: all its frames have one size",
    ),
    "sets resolution": ("\n    brayns.set_resolution(service, brayns.Resolution(128, 64))", r"asks for 128x64, and the movie is 96x64"),
    "quits": ("\n    brayns.stop(service)", r"quit would end the service, .*\n.*in frame: brayns\.stop\(service\)"),
    "dark": (
        "\n    brayns.clear_lights(service); return brayns.Snapshot(renderer=brayns.ProductionRenderer(1))",
        r"^frame 2 would be rendered by the production renderer without a light",
    ),
    "exits": ("\n    raise SystemExit('enough')", r"SystemExit: enough"),
    "nan": ("\n    service.request('set-camera-view', {'position': [float('nan'), 0, 0]})", r"params\['position'\]\[0\] = nan; NaN and infinity are no numbers"),
    "nan camera": ("\n    camera.position = brayns.Vector3(float('nan'), 0, 0)\n    return camera", r"holds something that is no number"),
    "recursion": ("\n    return frame(service, number)", r"RecursionError"),
}  # fmt: skip


@pytest.mark.parametrize("kind", FAILING)
@pytest.mark.slow
async def test_what_fails_fails_at_once_with_the_users_own_lines(emulator: Any, tmp_path: Path, kind: str) -> None:
    """No retry, and what is whole stays."""
    line, told = FAILING[kind]
    frame = FRAME.replace("\n    return camera", f"\n    if number != 2:\n        return camera{line}")
    service = emulator(**FAST)
    with pytest.raises(ScriptFailed, match=told) as error:
        await made(script(tmp_path, frame), [service], tmp_path / "f")
    assert (error.value.frame, error.value.retry) == (2, False)
    if kind != "dark":
        assert error.value.why.startswith("growth.py, frame 2 on brayns1 on node1: ")
        assert error.value.node == "node1"
    assert set(pictures(tmp_path / "f")) == {0, 1}
    assert service.exit_code is None
    await made(script(tmp_path), [service], tmp_path / "f")
    check_whole(tmp_path / "f", 4, doubles=2)


@pytest.mark.slow
async def test_a_scene_that_fails_names_no_frame(emulator: Any, tmp_path: Path) -> None:
    file = script(tmp_path, scene="def scene(service):\n    brayns.MeshLoader().load_models(service, '/nowhere.obj')\n")
    with pytest.raises(ScriptFailed, match=r"(?s)growth\.py, scene on brayns1 on node1: .*nowhere.*in scene") as error:
        await made(file, [emulator(**FAST)], tmp_path / "f")
    assert error.value.frame is None


@pytest.mark.slow
async def test_production_without_any_light_is_said_before_the_service_dies(emulator: Any, tmp_path: Path) -> None:
    head, scene = HEAD.replace("interactive", "production"), SCENE.replace("brayns.add_light", "0 and brayns.add_light")
    service = emulator(**FAST)
    with pytest.raises(
        ScriptFailed, match=r"frame 0 would be rendered .* kills braynsService 3\.10\.1\. Add one in `scene`"
    ):
        await made(script(tmp_path, head=head, scene=scene), [service], tmp_path / "f")
    assert service.exit_code is None


@pytest.mark.parametrize("hang", ["while True: pass", "import time; time.sleep(20)"])
@pytest.mark.slow
async def test_a_function_that_never_returns_is_named_with_where_it_is(
    emulator: Any, tmp_path: Path, hang: str
) -> None:
    frame = FRAME.replace("\n    return camera", f"\n    if number == 2:\n        {hang}\n    return camera")
    with pytest.raises(ScriptFailed, match=r"frame 2 on brayns1 on node1: has not returned within 2 s\. Where it is:\n +growth\.py line \d+, in frame: "):  # fmt: skip
        await made(script(tmp_path, frame), [emulator(**FAST)], tmp_path / "f", frame_timeout=2)
    assert set(pictures(tmp_path / "f")) == {0, 1}


@pytest.mark.slow
async def test_a_service_that_dies_inside_a_call_is_no_fault_of_the_code(emulator: Any, tmp_path: Path) -> None:
    """Another one goes on with the frame: its scene is made there too."""
    dying, other = emulator(**FAST), emulator(**FAST)
    mark = tmp_path / "there"
    frame = FRAME.replace(
        "\n    return camera",
        f"\n    import pathlib\n    if number == 1 and not pathlib.Path({str(mark)!r}).exists():"
        f"\n        pathlib.Path({str(mark)!r}).touch()\n        pathlib.Path({str(tmp_path)!r}, 'pid').write_text('x')"
        "\n        import time\n        while service.request('get-version'): time.sleep(0.01)"
        "\n    return camera",
    )
    working = asyncio.create_task(made(script(tmp_path, frame), [dying], tmp_path / "f"))
    await asyncio.to_thread(until, lambda: (tmp_path / "pid").exists(), 60)
    dying.send(signal.SIGKILL)
    with pytest.raises(Exception, match="ended") as error:
        await working
    assert not isinstance(error.value, ScriptFailed)
    assert error.value.retry
    await made(script(tmp_path, frame), [other], tmp_path / "f", token="try2")
    check_whole(tmp_path / "f", 4, doubles=1)


@pytest.mark.slow
async def test_a_movie_that_is_stopped_leaves_the_code(emulator: Any, tmp_path: Path) -> None:
    """No thread of it goes on."""
    mark, before = tmp_path / "began", set(threading.enumerate())
    frame = FRAME.replace(
        "\n    return camera", f"\n    open({str(mark)!r}, 'w').close()\n    while True: service.request('get-version')"
    )
    working = asyncio.create_task(made(script(tmp_path, frame), [emulator(**FAST)], tmp_path / "f"))
    await asyncio.to_thread(until, mark.exists, 60)
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    until(lambda: not [one for one in set(threading.enumerate()) - before if one.name.startswith("scene of ")], 30)


@pytest.mark.slow
async def test_a_value_that_python_is_given_stands_in_no_manifest(emulator: Any, tmp_path: Path) -> None:
    """Of a movie that was whole already the next try wrote it there, a token of a database for one."""
    frame = FRAME.replace("number):", "number, token):")
    for token in ("one", "two"):
        outcome, _ = await made(
            script(tmp_path, frame), [emulator(**FAST)], tmp_path / "f", {"token": "geheim"}, token=token
        )
        assert "geheim" not in (tmp_path / "f" / NAME).read_text(), token
    assert outcome.rendered == 0
    assert (tmp_path / "f" / NAME).read_text().count('"manifest"') == 1, "nothing has changed, so nothing is written"


@pytest.mark.slow
async def test_a_file_that_cannot_be_loaded_any_more_is_said(emulator: Any, tmp_path: Path) -> None:
    file = script(tmp_path)
    spec = ScriptFile(file).specification()
    file.write_text("frames = 4\n")
    with pytest.raises(Exception, match="growth.py has changed while the movie was rendered"):
        await produce(spec, [emulator(**FAST)], tmp_path / "f", script=ScriptFile.of(spec.script))
    with pytest.raises(InvalidSetting, match="has no function `frame`"):
        ScriptFile(file).load()
    assert not (tmp_path / "f" / "00000.png").exists()


# ---- tiles ---------------------------------------------------------------------------------------------------------
TILED = HEAD.replace("(96, 64)", "(192, 128)").replace('"interactive"', '"interactive", "ao_samples": 0')


@pytest.mark.slow
async def test_a_frame_in_tiles_is_the_one_that_is_rendered_whole(emulator: Any, tmp_path: Path) -> None:
    """A Camera, a Snapshot and what the service stands at, in both ways; and a function that sets the whole size."""
    returned = {
        "camera": FRAME,
        "snapshot": FRAME.replace("return camera", "return brayns.Snapshot(camera=camera, resolution=brayns.Resolution(192, 128))"),
        "none": FRAME.replace("return camera", "brayns.set_resolution(service, brayns.Resolution(192, 128))\n    brayns.set_camera(service, camera)"),
    }  # fmt: skip
    services = [emulator(**FAST), emulator(**FAST)]
    await made(script(tmp_path / "whole", head=TILED), services, tmp_path / "w")
    whole = [Image.open(tmp_path / "w" / f"0000{frame}.png").convert("RGB") for frame in range(4)]
    for name, frame in returned.items():
        for way in ("one-pass", "snapshot"):
            file, folder = script(tmp_path / name, frame, head=f"{TILED}tiles = (3, 2)\n"), tmp_path / name / way
            outcome, _ = await made(file, services, folder, way=way)
            check_whole(folder, 24)
            for number, one in enumerate(whole):
                tiles = [folder / outcome.plan.file(picture) for picture in range(number * 6, number * 6 + 6)]
                await join_tiles(tiles, outcome.plan.tiling, folder / "joined.png", alpha=False, about={})
                with Image.open(folder / "joined.png") as joined:
                    apart = np.asarray(ImageChops.difference(joined, one)).max(2)
                assert (apart > 2).mean() < 0.001, (name, way, number)


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        ("camera.image_start = (0.25, 1)\n    return camera", "frame 0 has a camera with a region of its own"),
        ('service.request("set-camera-cylindric", {"fovy": 45})', "frame 0 has a cylindric camera, and `tiles`"),
    ],
)
@pytest.mark.slow
async def test_a_camera_that_cannot_be_divided_is_refused(emulator: Any, tmp_path: Path, frame: str, says: str) -> None:
    file = script(tmp_path, FRAME.replace("return camera", frame), head=f"{TILED}tiles = (3, 2)\n")
    with pytest.raises(ScriptFailed, match=says):
        await made(file, [emulator("--plugin", "braynsCylindricCamera", **FAST)], tmp_path / "f")


@pytest.mark.slow
async def test_a_log_that_cannot_be_written_ends_the_movie_at_once(emulator: Any, tmp_path: Path) -> None:
    """The frame's last line is told in the thread, behind the function: nobody waits for `frame_timeout`."""

    class Broken(Remembers):
        def said(self, text: str) -> None:
            raise RuntimeError("the log is gone")

    frame = FRAME.replace("\n    return camera", "\n    print('no line feed', end='')\n    return camera")
    making = made(script(tmp_path, frame), [emulator(**FAST)], tmp_path / "f", reporter=Broken(), frame_timeout=600)
    with pytest.raises(RuntimeError, match="the log is gone"):
        await asyncio.wait_for(making, 60)


# ---- without a service ---------------------------------------------------------------------------------------------------
class Records:
    """A connection that keeps what a service was set to."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []

    async def call(self, method: str, params: Any = None, **_: Any) -> Reply:
        self.calls.append((method, params))
        bounds = {"min": [-1, -1, -1], "max": [1, 1, 1]}
        simulation = {"start_frame": 0, "end_frame": 0, "current": 0, "dt": 0, "unit": "ms"}
        return Reply({"bounds": bounds} if method == "get-scene" else simulation)


class Code:
    """Python without a scene of its own."""

    name, folder = "growth.py", "/movies"

    def load(self) -> Functions:
        return Functions(lambda service, number: None)


def without_service(**words: Any) -> tuple[ScriptRun, Records]:
    code: Any = Code()
    spec = specification(Path("/a.obj"), **words)
    service = RenderService("n1:5000", "brayns1", "n1")
    return ScriptRun(code, spec, service, Remembers(), scene_seconds=60, frame_seconds=60), Records()


async def test_before_its_scene_a_service_stands_as_the_official_clients_own_camera() -> None:
    """Whatever somebody has left on it: a function that sets no camera shows the same on each service."""
    import brayns

    run, client = without_service()
    await run.prepare(client)  # type: ignore[arg-type]
    await run.close()
    told, camera = dict(client.calls), brayns.Camera()
    assert told["set-camera-view"] == {
        name: pytest.approx(list(getattr(camera.view, name))) for name in ("position", "target", "up")
    }
    properties = camera.projection.get_properties_with_name()
    assert told[f"set-camera-{properties['name']}"] == pytest.approx(properties["params"])
    assert told["set-camera-near-clip"] == {"distance": camera.near_clipping_distance}
    assert told["set-camera-region"] == {"image_start": list(camera.image_start), "image_end": list(camera.image_end)}
    assert told["set-simulation-parameters"] == {"current": 0}


@pytest.mark.parametrize(
    ("words", "size"),
    [
        ({"resolution": [256, 128]}, [256, 128]),
        ({"resolution": [256, 128], "tiles": [4, 2], "frames": 1, "output": "a.png"}, [64, 64]),
    ],
)
async def test_a_service_renders_whole_frames_or_tiles(words: dict[str, Any], size: list[int]) -> None:
    run, client = without_service(**words)
    await run.prepare(client)  # type: ignore[arg-type]
    await run.close()
    assert dict(client.calls)["set-application-parameters"] == {"viewport": size}


async def test_a_run_that_is_closed_leaves_no_thread_behind() -> None:
    """A worker renders one movie after the other."""
    run, client = without_service()
    await run.prepare(client)  # type: ignore[arg-type]
    [thread] = [one for one in threading.enumerate() if one.name == "scene of brayns1 on n1"]
    await run.close()
    until(lambda: not thread.is_alive(), 20)
