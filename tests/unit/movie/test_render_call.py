from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from airflow_brayns.brayns.client import BraynsClient
from airflow_brayns.errors import InvalidSetting, RenderingFailed
from airflow_brayns.movie.interfaces import FixedServices, RenderService
from airflow_brayns.movie.manifest import NAME
from airflow_brayns.movie.render_call import image_settings, make_call, offers_one_pass
from tests.support.movie import produce, records, specification
from tests.support.scripted import Service, serving

RENDERER = {"name": "production", "samples_per_pixel": 4}
STILL = {"path": "still"}


def still(frames: int = 4, **changes: Any) -> Any:
    return specification(Path("/a.obj"), camera=STILL, renderer=RENDERER, frames=frames, **changes)


async def movie(service: Service, folder: Path, spec: Any, **options: Any) -> Any:
    render_service = options.pop("render_service", {})
    source = FixedServices([RenderService(service.endpoint, "brayns1", "node1", version="3.10.1", **render_service)])
    return await produce(spec, [], folder, source=source, **options)


def pictures(folder: Path) -> list[str]:
    return [record["sha256"] for record in sorted(records(folder), key=lambda record: record["frame"])]


@pytest.mark.parametrize(
    ("words", "file"),
    [({"format": "jpg", "quality": 80}, {"format": "jpg", "quality": 80}), ({"format": "png"}, {"format": "png"})],
)
def test_the_quality_that_was_asked_for_is_that_of_a_jpeg(words: dict[str, Any], file: dict[str, Any]) -> None:
    assert image_settings(specification(Path("/a.obj"), **words), (96, 64)) == {"size": [96, 64], **file}


# ---- one pass ------------------------------------------------------------------------------------------------------
async def test_a_still_camera_gives_the_first_pass_each_time(tmp_path: Path) -> None:
    """With the view it had the service goes on accumulating: 2 of 4, 3 of 4, and the old picture from there (run)."""
    async with serving(Service()) as service:
        outcome, told = await movie(service, tmp_path / "one", still())
        await movie(service, tmp_path / "snapshot", still(), way="snapshot")
    assert outcome.header.way == "one-pass"
    assert len(set(pictures(tmp_path / "one"))) == 1
    assert pictures(tmp_path / "one") == pictures(tmp_path / "snapshot"), "snapshot's picture"
    asked = [params for method, params in service.asked if method == "render-image"]
    assert len(asked) == 4
    assert not any(params["accumulate"] for params in asked)
    assert "Frames are rendered in one pass of render-image" in told.text


async def test_a_still_camera_shows_each_frame_of_a_simulation(tmp_path: Path) -> None:
    spec = still(frames=None, fps=1000, simulation={"start": 0, "end": 5, "slowing_factor": 1})
    async with serving(Service()) as service:
        service.simulation |= {"dt": 1.0, "end_frame": 9}
        await movie(service, tmp_path / "one", spec)
        await movie(service, tmp_path / "snapshot", spec, way="snapshot")
    assert len(set(pictures(tmp_path / "one"))) == 6
    assert pictures(tmp_path / "one") == pictures(tmp_path / "snapshot")


async def test_the_projection_goes_out_last(tmp_path: Path) -> None:
    async with serving(Service()) as service:
        await movie(service, tmp_path, still(frames=2))
    methods = [method for method, _ in service.asked]
    before = [methods[at - 1] for at, method in enumerate(methods) if method == "render-image"]
    assert before == ["set-camera-perspective"] * 2


@pytest.mark.parametrize("way", ["one-pass", "snapshot"])
async def test_lights_that_go_with_the_camera_are_there_before_each_frame(tmp_path: Path, way: str) -> None:
    """And in no frame twice."""
    lights = [{"kind": "ambient"}, {"follow_camera": True}]
    spec = specification(Path("/a.obj"), renderer=RENDERER, frames=3, lights=lights)
    async with serving(Service()) as service:
        await movie(service, tmp_path, spec, way=way)
    asked = [(method, params) for method, params in service.asked if "light" in method or method in ("render-image", "snapshot")]  # fmt: skip
    shown = "snapshot" if way == "snapshot" else "render-image"
    each = ["clear-lights", "add-light-ambient", "add-light-directional", shown]
    assert [method for method, _ in asked] == ["clear-lights", "add-light-ambient", *each * 3]
    directions = [params["direction"] for method, params in asked if method == "add-light-directional"]
    assert len({tuple(one) for one in directions}) == 3


@pytest.mark.parametrize(
    ("camera", "name", "params", "near"),
    [
        ({"projection": "orthographic", "height": 7}, "orthographic", {"height": 7}, None),
        ({"aperture_radius": 2, "focus_distance": 9}, "perspective", {"fovy": 45, "aperture_radius": 2, "focus_distance": 9}, None),
        ({"near_clip": 3}, "perspective", {"fovy": 45, "aperture_radius": 0, "focus_distance": 1}, 3),
    ],
)  # fmt: skip
async def test_both_ways_have_the_same_lens(
    tmp_path: Path, camera: dict[str, Any], name: str, params: dict[str, Any], near: float | None
) -> None:
    spec = specification(Path("/a.obj"), camera={**STILL, **camera}, renderer=RENDERER, frames=2)
    async with serving(Service()) as service:
        await movie(service, tmp_path / "one", spec)
        one = list(service.asked)
        await movie(service, tmp_path / "snapshot", spec, way="snapshot")
    assert [given for method, given in one if method == f"set-camera-{name}"] == [params] * 2
    assert service.asked[-1][1]["camera"] == {"name": name, "params": params}
    assert service.asked[-1][1].get("camera_near_clip") == near
    assert [given["distance"] for method, given in one if method == "set-camera-near-clip"] == [1e-6, *([near] * 2 if near else [])]  # fmt: skip
    methods = [method for method, _ in one]
    assert [methods[at - 1] for at, method in enumerate(methods) if method == "render-image"] == [
        f"set-camera-{name}"
    ] * 2


@pytest.mark.parametrize("way", ["one-pass", "snapshot"])
async def test_what_differs_by_data_is_the_frames_own(tmp_path: Path, way: str) -> None:
    """With the number that this service gave the model, whatever frames it renders, and in whatever order: first, last, middle."""
    columns = ["models.0.visible", "renderer.samples_per_pixel", "camera.near_clip"]
    table = {"columns": columns, "rows": [[True, 1, 0.5], [False, 2, 1e-6], [True, 3, 2]]}
    spec = specification(Path("/a.obj"), camera=STILL, renderer=RENDERER, frames=3, per_frame=table)
    service = Service(add_model=lambda params: ([{"model_id": 7}], b""))
    async with serving(service):
        outcome, _ = await movie(service, tmp_path, spec, way=way)
    assert outcome.rendered == 3
    models = [params for method, params in service.asked if method == "update-model"]
    assert [(one["model_id"], one["model"]["is_visible"]) for one in models] == [(7, True), (7, True), (7, False)]
    if way == "snapshot":
        asked = [params for method, params in service.asked if method == "snapshot"]
        assert [one["renderer"]["params"]["samples_per_pixel"] for one in asked] == [1, 3, 2]
        assert [one.get("camera_near_clip") for one in asked] == [0.5, 2, 1e-6]
    else:
        samples = [
            params["samples_per_pixel"] for method, params in service.asked if method == "set-renderer-production"
        ]
        assert samples == [4, 1, 3, 2], "of the movie, then of each frame"
        assert [params["distance"] for method, params in service.asked if method == "set-camera-near-clip"] == [1e-6, 0.5, 2, 1e-6]  # fmt: skip
        methods = [method for method, _ in service.asked]
        before = [methods[at - 1] for at, method in enumerate(methods) if method == "render-image"]
        assert before == ["set-camera-perspective"] * 3


async def test_nothing_is_rendered_to_find_the_way(tmp_path: Path) -> None:
    async with serving(Service()) as service:
        await movie(service, tmp_path, still(frames=3))
    rendered = [method for method, _ in service.asked if method in ("snapshot", "render-image")]
    assert rendered == ["render-image"] * 3


async def test_a_service_without_render_image_is_asked_by_snapshot(tmp_path: Path) -> None:
    async with serving(Service(lacks=("render-image",))) as service:
        outcome, told = await movie(service, tmp_path, still(frames=2))
    assert outcome.header.way == "snapshot"
    assert "since brayns1 on node1 has no render-image" in told.text


@pytest.mark.parametrize("lacks", ["accumulate", "schema"])
async def test_a_render_image_that_makes_no_one_pass_is_known_by_its_schema(tmp_path: Path, lacks: str) -> None:
    """A version may have the method and not the parameter: it was known by the method's name alone."""
    async with serving(Service(lacks=(lacks,))) as service:
        outcome, told = await movie(service, tmp_path, still(frames=2))
        assert not [method for method, _ in service.asked if method == "render-image"]
    assert outcome.header.way == "snapshot"
    assert "since brayns1 on node1 has no render-image that makes one pass" in told.text


@pytest.mark.parametrize(
    "schema",
    [None, [], {}, {"params": []}, {"params": [1], "returns": {}}, {"params": {"properties": {"accumulate": {}}}}, "x"],
)
async def test_a_schema_that_is_none_offers_nothing(schema: Any) -> None:
    async with serving(Service(schema=lambda _: (schema, b""))) as service, BraynsClient(service.endpoint) as client:
        assert not await offers_one_pass(client)


async def test_the_schema_of_3_10_1_offers_one_pass_also_in_a_list() -> None:
    recorded = Path(__file__).parents[2] / "data" / "recorded" / "conversation-3.10.1-wide.jsonl"
    asked = [json.loads(line) for line in recorded.read_text().splitlines()]
    [real] = [one["reply"]["result"] for one in asked if one.get("params") == {"endpoint": "render-image"}]
    for schema in (real, {**real, "params": [real["params"]]}):
        given = schema, b""
        scripted = Service(schema=lambda _, given=given: given)
        async with serving(scripted) as service, BraynsClient(service.endpoint) as client:
            assert await offers_one_pass(client)


async def test_a_pass_that_is_not_the_first_is_asked_for_anew_and_not_taken(tmp_path: Path) -> None:
    """Somebody renders between, once: the picture that counts is still the first pass."""
    disturbed = 0

    def render(params: Any) -> None:
        nonlocal disturbed
        if disturbed < 2 and (disturbed := disturbed + 1):
            service.passes = 1

    async with serving(Service(render_image=render)) as service:
        await movie(service, tmp_path / "one", still(frames=1))
        await movie(service, tmp_path / "snapshot", still(frames=1), way="snapshot")
    assert disturbed == 2
    assert pictures(tmp_path / "one") == pictures(tmp_path / "snapshot")


async def test_a_connection_that_closes_between_camera_and_picture_costs_no_wrong_picture(tmp_path: Path) -> None:
    """The next one knows nothing of the camera: it is set again, and the scene is loaded where nobody says whose service it is."""
    closed = 0

    async def perspective(params: Any) -> None:
        nonlocal closed
        if service.asked[-2][0] == "set-camera-view" and closed < 2:
            closed += 1
            service.renew()
            await asyncio.sleep(0)  # the connection ends here

    turning = specification(Path("/a.obj"), camera={"path": "turntable"}, renderer=RENDERER, frames=3)
    async with serving(Service(set_camera_perspective=perspective)) as service:
        outcome, told = await movie(service, tmp_path / "one", turning)
        await movie(service, tmp_path / "snapshot", turning, way="snapshot")
    assert closed == 2
    assert outcome.rendered == 3
    assert told.text.count("broke, and was made anew") == 2
    assert pictures(tmp_path / "one") == pictures(tmp_path / "snapshot")


async def test_a_movie_of_one_pass_is_not_continued_by_a_service_that_others_may_use(tmp_path: Path) -> None:
    """Its frames would be another picture."""
    async with serving(Service()) as service:
        await movie(service, tmp_path, still(frames=2))
        (tmp_path / "00001.png").unlink()
        with pytest.raises(
            RenderingFailed, match="brayns1 on node1 is not ours alone, and the movie's frames are rendered by one-pass"
        ):
            await movie(service, tmp_path, still(frames=2), render_service={"owned": False})


async def test_a_service_that_always_goes_on_is_told_of(tmp_path: Path) -> None:
    def render(params: Any) -> None:
        service.passes = 1

    async with serving(Service(render_image=render)) as service:
        with pytest.raises(RenderingFailed, match=r"pass 2 of 4, 3 times.*way='snapshot'"):
            await movie(service, tmp_path, still(frames=1))
    assert not list(tmp_path.glob("*.png"))


@pytest.mark.parametrize("name", ["one-pass", "render-image"])
def test_the_former_name_of_the_parameter_still_works(name: str) -> None:
    assert make_call(name).name == "one-pass"


def test_a_way_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidSetting, match=r"way: take one-pass or snapshot, .*\n +'fast' is none"):
        make_call("fast")


# ---- what 0.2.0 left -----------------------------------------------------------------------------------------------
async def left_by_0_2_0(folder: Path, service: Service, way: str) -> None:
    """Half a movie, as a manifest of 0.2.0 tells of it."""
    await movie(service, folder, still())
    lines = [json.loads(line) for line in (folder / NAME).read_text().splitlines()]
    for line in lines:
        line["way"] = way
    (folder / NAME).write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "00002.png").unlink()


async def test_frames_that_were_accumulated_are_not_mixed_with_one_pass(tmp_path: Path) -> None:
    async with serving(Service()) as service:
        await left_by_0_2_0(tmp_path, service, "render-image")
        outcome, told = await movie(service, tmp_path, still(), token="2")
        assert (outcome.rendered, outcome.header.way) == (4, "one-pass")
        assert "all are rendered anew" in told.text
        (tmp_path / "00001.png").unlink()
        outcome, _ = await movie(service, tmp_path, still(), token="3")
        assert outcome.rendered == 1, "from there it is one movie"


async def test_a_movie_of_snapshots_goes_on_by_snapshot(tmp_path: Path) -> None:
    async with serving(Service()) as service:
        await left_by_0_2_0(tmp_path, service, "snapshot")
        outcome, _ = await movie(service, tmp_path, still(), token="2")
    assert (outcome.rendered, outcome.header.way) == (1, "snapshot")


async def test_a_whole_movie_of_the_former_way_needs_nothing(tmp_path: Path) -> None:
    async with serving(Service()) as service:
        await left_by_0_2_0(tmp_path, service, "render-image")
        (tmp_path / NAME).write_text("")
        await movie(service, tmp_path, still(), token="2")
        text = (tmp_path / NAME).read_text().replace('"way":"one-pass"', '"way":"render-image"')
        (tmp_path / NAME).write_text(text)
        asked = len(service.asked)
        outcome, _ = await movie(service, tmp_path, still(), token="3")
    assert outcome.rendered == 0
    assert len(service.asked) == asked


# ---- a service that was used before --------------------------------------------------------------------------------
async def use(endpoint: str) -> None:
    """What somebody may have left."""
    async with BraynsClient(endpoint) as client:
        for method, params in (
            ("set-framebuffer-progressive", {"scale": 4}),
            ("set-camera-near-clip", {"distance": 500.0}),
            ("set-camera-region", {"image_start": [0, 1], "image_end": [0.5, 0.5]}),
            ("set-camera-perspective", {"fovy": 20, "aperture_radius": 30.0, "focus_distance": 9.0}),
            ("set-camera-orthographic", {"height": 3}),
            ("set-application-parameters", {"viewport": [64, 64]}),
            ("set-renderer-interactive", {"samples_per_pixel": 7, "ao_samples": 9}),
            ("set-simulation-parameters", {"current": 4}),
            ("add-clipping-planes", {"primitives": [{"coefficients": [0, 1, 0, 0]}]}),
            ("add-light-ambient", {"intensity": 30}),
            ("add-model", {"path": "/other.obj", "loader_name": "mesh", "loader_properties": {}}),
        ):
            await client.call(method, params)


@pytest.mark.parametrize("way", ["one-pass", "snapshot"])
async def test_a_service_that_was_used_before_gives_the_same_pictures(way: str, tmp_path: Path) -> None:
    """A quarter of the picture came, and the movie was green."""
    found = []
    for used in (False, True):
        async with serving(Service()) as service:
            service.simulation |= {"dt": 1.0, "end_frame": 9}
            if used:
                await use(service.endpoint)
            await movie(service, tmp_path / str(used), still(frames=2), way=way)
            found.append(pictures(tmp_path / str(used)))
    assert found[0] == found[1]


async def test_all_that_is_changed_changes_the_scripted_services_picture(tmp_path: Path) -> None:
    """The test above would pass with a service that draws the same whatever is set."""
    async with serving(Service()) as service, BraynsClient(service.endpoint) as client:
        await client.call("set-camera-view", {"position": [0, 0, 9], "target": [0, 0, 0], "up": [0, 1, 0]})
        request = {"accumulate": False, "send": True, "force": True, "render": True, "format": "png"}
        seen = {(await client.call("render-image", request)).binary}
        for method, params in (
            ("set-framebuffer-progressive", {"scale": 4}),
            ("set-camera-near-clip", {"distance": 500.0}),
            ("set-camera-region", {"image_start": [0, 1], "image_end": [0.5, 0.5]}),
            ("add-clipping-planes", {"primitives": []}),
            ("set-simulation-parameters", {"current": 4}),
        ):
            await client.call(method, params)
            seen.add((await client.call("render-image", request)).binary)
    assert len(seen) == 6


@pytest.mark.slow
async def test_all_that_a_scene_can_have_is_the_same_picture_by_both_ways(
    emulator: Any, data: Path, tmp_path: Path
) -> None:
    """By a service that draws it; each word shows."""
    ball = {"kind": "sphere", "center": [-1.5, 0, 0], "radius": 0.7}
    looks = {
        "transform": {"rotation": [0, 30, 10], "scale": [1, 1.5, 1]},
        "material": {"kind": "matte", "opacity": 0.5},
    }
    plain: dict[str, Any] = {"frames": 2, "renderer": {"name": "interactive", "ao_samples": 0}}
    words: dict[str, Any] = {
        "models": [{"path": str(data / "cube.obj"), "color": "#f00", **looks}],
        "primitives": [{**ball, "color": "#0f0"}],
        "clipping": [{"kind": "plane", "coefficients": [0, 1, 0, -0.6]}],
        "lights": [{"kind": "ambient"}, {"kind": "sphere", "radius": 0.5, "position": [0, 0, 5], "intensity": 9}, {"follow_camera": True}],
        "camera": {"view": "left", "projection": "orthographic"},
    }  # fmt: skip
    service = emulator()
    whole = specification(data / "cube.obj", **plain, **words)
    ways = {}
    for way in ("one-pass", "snapshot"):
        await produce(whole, [service], tmp_path / way, way=way)
        ways[way] = pictures(tmp_path / way)
    assert ways["one-pass"] == ways["snapshot"]
    for word in words.keys() - {"models"}:
        without = specification(
            data / "cube.obj", **plain, **{name: one for name, one in words.items() if name != word}
        )
        await produce(without, [service], tmp_path / word)
        assert pictures(tmp_path / word)[0] != ways["one-pass"][0], word
    bare = specification(
        data / "cube.obj", **plain, **{**words, "models": [{"path": str(data / "cube.obj"), "color": "#f00"}]}
    )
    await produce(bare, [service], tmp_path / "bare")
    assert pictures(tmp_path / "bare")[0] != ways["one-pass"][0]
