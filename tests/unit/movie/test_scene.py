from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import serve

from airflow_brayns.brayns.client import BraynsClient
from airflow_brayns.errors import ConnectionLost, InvalidSetting
from airflow_brayns.movie.camera import Bounds
from airflow_brayns.movie.interfaces import FixedServices, RenderService
from airflow_brayns.movie.scene import prepare
from tests.support.movie import produce, specification
from tests.support.scripted import RefusedError, Service, serving

SPECIFICATION = specification(Path("/a.obj"), frames=2)


def refuses(code: int, message: str, data: list[str] | None = None) -> Service:
    def refuse(params: object) -> None:
        raise RefusedError(code, message, data)

    return Service(add_model=refuse)


@pytest.mark.parametrize(
    "message", ["File: /a.obj does not exist.", "File /a.obj does not exists"]
)  # as the plugins and as the core loaders say it (3.10.1, recorded)
async def test_a_file_that_is_missing_is_looked_for_on_the_nodes(message: str) -> None:
    async with serving(refuses(-32603, message)) as service, BraynsClient(service.endpoint) as client:
        with pytest.raises(
            InvalidSetting, match=r"(?s)models\.0\.path: the path must exist on the nodes.*does not exist"
        ):
            await prepare(client, SPECIFICATION)


@pytest.mark.parametrize(
    ("code", "message", "data", "field"),
    [
        (-32603, "Parsing error at line 1: 'No meshes found'. Line content: ''", None, "path"),
        (-32603, "File /a.obj is not a regular file", None, "path"),
        (-32602, "Invalid loader params schema", ["unknown property 'percentage'"], "properties"),
        (-32602, "Invalid loader name: 'mesh'", None, "loader"),
    ],
)
async def test_what_the_service_says_of_a_model_is_told_at_its_field(
    code: int, message: str, data: list[str] | None, field: str
) -> None:
    async with serving(refuses(code, message, data)) as service, BraynsClient(service.endpoint) as client:
        with pytest.raises(InvalidSetting) as error:
            await prepare(client, SPECIFICATION)
    assert error.value.field == f"models.0.{field}"
    assert message in str(error.value)
    assert all(one in str(error.value) for one in data or [])
    assert "must exist on the nodes" not in str(error.value)


async def test_a_loader_that_the_service_does_not_have_is_known_by_those_it_has() -> None:
    """Whatever it says, and with whatever code."""
    service = refuses(-32603, "nothing that anybody can read")
    service.loaders = ("BBP loader", "SONATA loader")
    async with serving(service), BraynsClient(service.endpoint) as client:
        with pytest.raises(
            InvalidSetting, match=r"(?s)models\.0\.loader: .*This service has BBP loader, SONATA loader"
        ):
            await prepare(client, SPECIFICATION)


async def test_how_far_a_model_is_stands_in_the_log_at_a_bearable_rate(tmp_path: Path) -> None:
    service = Service()
    service.progress = [("Loading cells", step / 1000) for step in range(1001)]
    async with serving(service), serving(Service()) as other:
        other.progress = service.progress
        source = FixedServices([RenderService(one.endpoint, "brayns1", "node1") for one in (service, other)])
        _, told = await produce(SPECIFICATION, [], tmp_path, source=source)
    lines = [line for line in told.notes if "is loading" in line]
    assert "brayns1 on node1 is loading … 40 % (/a.obj: Loading cells)" in lines
    assert 3 <= len(lines) <= 6


async def test_methods_that_an_older_version_lacks_are_passed_over(tmp_path: Path) -> None:
    lacks = (
        "clear-clipping-geometries", "clear-clip-planes", "clear-renderables", "set-camera-region", "set-camera-near-clip",
        "set-framebuffer-static",
    )  # fmt: skip
    async with serving(Service(lacks=lacks)) as service:
        source = FixedServices([RenderService(service.endpoint, "brayns1")])
        outcome, _ = await produce(SPECIFICATION, [], tmp_path, source=source)
    assert outcome.rendered == 2


@pytest.mark.parametrize("name", ["latin1_ascii.stl", "binary_solid_bytes.stl"])
async def test_an_error_that_quotes_a_file_raw_is_told_and_ends_nothing(name: str, data: Path) -> None:
    """The real one quotes the bad line as it is, in a text frame: no UTF-8. The connection ended, and the reason was lost."""
    line = (data / "files" / name).read_bytes().split(b"\n")[0][:200].replace(b"\\", b"").replace(b'"', b"")
    said = b"Parsing error at line 1: 'Expected facet'. Line content: '" + line + b"'"

    async def answer(socket) -> None:
        async for message in socket:
            request = json.loads(message)
            if request["method"] != "add-model":
                await socket.send(json.dumps({"id": request["id"], "jsonrpc": "2.0", "result": None}))
                continue
            reply = b'{"error":{"code":-32603,"message":"' + said + b'"},"id":%d,"jsonrpc":"2.0"}' % request["id"]
            await socket.send(reply, text=True)

    async with serve(answer, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        async with BraynsClient(f"127.0.0.1:{port}", timeout=10) as client:
            with pytest.raises(
                InvalidSetting, match=r"(?s)models\.0\.path: .*Parsing error at line 1: 'Expected facet'"
            ):
                await prepare(client, SPECIFICATION)
            assert (await client.call("get-version")).result is None, "the same connection goes on"


async def test_a_service_that_is_still_at_what_another_asked_for_is_waited_for() -> None:
    """A request that was given up goes on there: `cancel` is answered at once and ends it much later (3.10.1, run)."""
    import asyncio

    async def busy(params: object) -> None:
        await asyncio.sleep(1.0)

    async with serving(Service(clear_models=busy)) as service:
        async with BraynsClient(service.endpoint, timeout=0.3) as client:
            assert (await prepare(client, SPECIFICATION, timeout=10)).first == 0
        async with BraynsClient(service.endpoint, timeout=0.3) as client:
            with pytest.raises(ConnectionLost) as error:
                await prepare(client, SPECIFICATION, timeout=0.2)
            assert error.value.timed_out


async def test_a_scene_is_built_before_it_is_measured_and_lit(tmp_path: Path) -> None:
    """A quad light has bounds (3.10.1, recorded): the camera would be fitted to it."""
    ball = {"kind": "sphere", "center": [0, 0, 0], "radius": 1}
    spec = specification(
        Path("/a.obj"),
        models=[{"path": "/a.obj", "transform": {"scale": 2}, "material": {"kind": "matte", "opacity": 0.5}}],
        primitives=[ball],
        clipping=[ball],
        lights=[{"kind": "quad", "edge1": [9, 0, 0], "edge2": [0, 9, 0]}, {"kind": "ambient"}],
    )
    async with serving(Service()) as service, BraynsClient(service.endpoint) as client:
        await prepare(client, spec)
    methods = [method for method, _ in service.asked if method.startswith(("add-", "update-", "set-", "get-scene"))]
    assert methods == [
        "add-model", "update-model", "set-material-matte", "add-spheres", "add-clipping-spheres", "get-scene", "add-light-quad", "add-light-ambient",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "lacks", "field"),
    [
        ({"models": [{"path": "/a.obj", "material": {"kind": "matte"}}]}, "set-material-matte", "models.0.material"),
        ({"primitives": [{"kind": "box", "min": [0, 0, 0], "max": [1, 1, 1]}]}, "add-boxes", "primitives.0"),
        ({"clipping": [{"kind": "sphere", "center": [0, 0, 0], "radius": 1}]}, "add-clipping-spheres", "clipping.0"),
        ({"lights": [{"kind": "ambient"}, {"kind": "sphere", "radius": 1}]}, "add-light-sphere", "lights.1"),
    ],
)
async def test_what_this_version_does_not_have_is_told_at_its_key(
    words: dict[str, Any], lacks: str, field: str
) -> None:
    spec = specification(Path("/a.obj"), **words)
    async with serving(Service(lacks=(lacks,))) as service, BraynsClient(service.endpoint) as client:
        with pytest.raises(InvalidSetting, match=f"This braynsService has no {lacks}") as error:
            await prepare(client, spec)
    assert error.value.field == field


async def test_a_camera_that_fits_one_model_gets_the_box_of_all_that_it_was_loaded_as() -> None:
    def box(number: int, low: float, high: float) -> dict[str, Any]:
        return {"model_id": number, "bounds": {"min": [low] * 3, "max": [high] * 3}}

    ids = iter([[{"model_id": 1}], [{"model_id": 4}, {"model_id": 5}]])
    scene = {"bounds": {"min": [-9] * 3, "max": [9] * 3}, "models": [box(1, -9, 0), box(4, 1, 2), box(5, 1.5, 3)]}
    service = Service(add_model=lambda params: (next(ids), b""), get_scene=lambda params: (scene, b""))
    spec = specification(Path("/a.obj"), models=[{"path": "/a.obj"}, {"path": "/b.obj"}], camera={"fit": 1})
    async with serving(service), BraynsClient(service.endpoint) as client:
        facts = await prepare(client, spec)
    assert facts.models == (Bounds((-9, -9, -9), (0, 0, 0)), Bounds((1, 1, 1), (3, 3, 3)))


RAMP = {"range": [0.0, 1.0], "colors": [[0, 0, 0, 1], [1, 1, 1, 1]]}


def has_no_ramp(params: Any) -> None:
    if params["id"] != 5:
        raise RefusedError(0, "The requested model does not have a color ramp")


async def test_a_report_is_coloured_where_it_is_and_synapses_beside_it_need_none() -> None:
    service = Service(
        add_model=lambda params: ([{"model_id": 4}, {"model_id": 5}], b""),
        get_color_ramp=lambda params: has_no_ramp(params) or (RAMP, b""),
    )
    spec = specification(Path("/a.obj"), models=[{"path": "/a.obj", "color_ramp": {"range": [-80, -10]}}])
    async with serving(service), BraynsClient(service.endpoint) as client:
        await prepare(client, spec)
    ramps = [params for method, params in service.asked if method == "set-color-ramp"]
    assert ramps == [{"id": 5, "color_ramp": {**RAMP, "range": [-80, -10]}}]


async def test_a_ramp_of_what_has_no_values_is_told_at_its_key() -> None:
    service = Service(get_color_ramp=has_no_ramp)
    spec = specification(Path("/a.obj"), models=[{"path": "/a.obj", "color_ramp": {"range": [-80, -10]}}])
    async with serving(service), BraynsClient(service.endpoint) as client:
        with pytest.raises(
            InvalidSetting, match="(?s)`report_type` and `report_name`.*does not have a color ramp"
        ) as error:
            await prepare(client, spec)
    assert error.value.field == "models.0.color_ramp"


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ("No population with name 'Alll'", "models.0.properties.node_population_settings.1.node_population"),
        ("The report 'soma' was not found", "models.0.properties.node_population_settings.0.report_name"),
        ("Could not find node set 'Top5'", "models.0.properties.node_population_settings.1.node_sets.0"),
        ("Something else is wrong with it", "models.0.path"),
    ],
)
async def test_what_the_circuit_lacks_is_told_at_the_key_that_names_it(message: str, field: str) -> None:
    settings = [
        {"node_population": "All", "report_type": "compartment", "report_name": "soma"},
        {"node_population": "Alll", "node_sets": ["Top5"]},
    ]
    circuit = {"path": "/c.json", "loader": "SONATA loader", "properties": {"node_population_settings": settings}}
    service = refuses(-32603, message)
    service.loaders = ("SONATA loader",)
    async with serving(service), BraynsClient(service.endpoint) as client:
        with pytest.raises(InvalidSetting, match=message) as error:
            await prepare(client, specification(Path("/a.obj"), models=[circuit]))
    assert error.value.field == field


@pytest.mark.parametrize(("asked", "told"), [({}, True), ({"load_axon": False}, True), ({"load_soma": True}, False)])
async def test_a_circuit_of_whose_cells_nothing_is_asked_for_is_told_so(asked: dict[str, bool], told: bool) -> None:
    """The loader's own values ask for nothing; the error told to look at the file."""
    settings = [{"node_population": "All", "neuron_morphology_parameters": asked}]
    circuit = {"path": "/c.json", "loader": "SONATA loader", "properties": {"node_population_settings": settings}}
    service = refuses(-32603, "OSPData: shared buffer is NULL")
    service.loaders = ("SONATA loader",)
    async with serving(service), BraynsClient(service.endpoint) as client:
        with pytest.raises(InvalidSetting) as error:
            await prepare(client, specification(Path("/a.obj"), models=[circuit]))
    assert error.value.field == "models.0.path"
    assert ("load_soma, load_axon and load_dendrites are false" in str(error.value)) is told
