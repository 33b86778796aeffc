from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_brayns.errors import InvalidSetting
from airflow_brayns.movie.specification import MovieSpecification
from airflow_brayns.movie.yaml_text import Text

TEXT = """\
version: 1
models:
  - path: /data/neuron.swc
fps: 24
frames: 60
resolution: [640, 360]
camera:
  path: turntable
output: movie.mp4
"""
KEYS = [{"frame": 0, "position": [0, 0, 1], "target": [0, 0, 0]}]


@pytest.mark.parametrize(
    ("change", "into", "says"),
    [
        ("fps: 24", "fps: -3", r"m\.yaml line 4, fps: .*greater than 0 \(it is -3\)"),
        ("frames: 60\n", "", r"m\.yaml line 1, frames: missing"),
        ("path: turntable", "path: spiral", r"line 8, camera\.path: .*'turntable'"),
        ("[640, 360]", "[641, 360]", r"line 6, resolution: both sides must be even for video, not 641x360"),
        ("fps: 24", "fpz: 24", r"line 4, fpz: "),
        ("movie.mp4", "movie.avi", r"line 9, output: .* must end in \.mp4"),
        ("models:", "models: {", r"(?s)m\.yaml line \d+: correct .*not YAML or JSON"),
        ("fps: 24", "fps: 24\nfps: 25", r"line 5, fps: leave one of them out"),
        ("neuron.swc", "neuron.xyz", r"line 3, models\.0: no loader is known for '\.xyz'"),
        ("/data/neuron.swc", "/data/neuron.xyz\n    loader: ''", r"line 3, models\.0: no loader is known for '\.xyz'"),
        ("fps: 24", "lights: []", r"line 4, lights: without a light the production renderer kills"),
        ("/data/neuron.swc", "neuron.swc", r"(?s)models\.0\.path: write .*'neuron.swc' is relative"),
        ("  path: turntable", "  path: keyframes", r"line 7, camera: `keyframes` are given with path 'keyframes'"),
        ("frames: 60", "frames: 60\nframe_range: [0, 60]", r"line 6, frame_range: the movie's last frame is 59"),
        ("frames: 60", "frames: 60\nsimulation: {}", r"line 5, frames: follows from `simulation`"),
        ("fps: 24", "fps: &a 24\ncrf: *a", r"(?s)m\.yaml line 5: write it out.*aliases \(\*a\)"),
        ("fps: 24", "? [1]\n: 2", "a key must be a word"),
        (TEXT, "- a list", "must be a mapping"),
        ("/data/neuron.swc", "/data/neuron.swc\n    color: red", r"line 4, models\.0\.color: a colour is"),
    ],
)
def test_an_error_names_the_line_and_the_key(change: str, into: str, says: str) -> None:
    assert change in TEXT
    with pytest.raises(InvalidSetting, match=says):
        MovieSpecification.read(TEXT.replace(change, into), "m.yaml")


def test_json_is_read_with_its_lines_too() -> None:
    text = json.dumps({"models": [{"path": "/a.obj"}], "frames": 3, "fps": "x"}, indent=1)
    with pytest.raises(InvalidSetting, match=r"m\.json line \d, fps: "):
        MovieSpecification.read(text, "m.json")
    assert MovieSpecification.read(text.replace('"x"', "5")).frames == 3


def test_relative_paths_are_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text(TEXT.replace("/data/neuron.swc", "../scenes/neuron.swc"))
    assert MovieSpecification.read_file(tmp_path / "m.yaml").models[0].path == str(
        tmp_path.parent / "scenes/neuron.swc"
    )


def test_plain_values_come_back_the_same() -> None:
    full: dict[str, Any] = {
        "models": [
            {"path": "/a.obj", "color": "#f80"},
            {"path": "/b.json", "loader": "SONATA loader", "properties": {"node_population_settings": [{"node_population": "All"}]}, "colors": {"method": "solid", "values": {"color": [0, 1, 0, 0.5]}}},
        ],
        "lights": [{"kind": "ambient", "intensity": 2}],
        "renderer": {"name": "interactive", "samples_per_pixel": 2},
        "camera": {"path": "keyframes", "keyframes": KEYS},
        "simulation": {"start": 5, "end": -2, "slowing_factor": 3},
        "codec": "gif",
        "output": "x.gif",
    }  # fmt: skip
    found = MovieSpecification.check(full)
    assert MovieSpecification.check(json.loads(json.dumps(found.plain()))) == found
    assert found.models[0].color == (1.0, 0x88 / 255, 0.0)
    assert found.models[1].loader_name == "SONATA loader"


def test_the_published_schema_is_the_models() -> None:
    from airflow_brayns.cli.movie import SCHEMA

    published = json.loads(SCHEMA.read_text())
    ours = json.loads(json.dumps(MovieSpecification.model_json_schema()))
    for key in ("properties", "$defs", "required"):
        assert published[key] == ours[key], "python -m tests.support.schema writes it anew"


SONATA = {"path": "/c/simulation_config.json", "loader": "SONATA loader"}
POPULATION = {"node_population": "All", "node_percentage": 0.5, "neuron_morphology_parameters": {"load_soma": True}}


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ({"path": "/c/nodes.h5", "loader": "SONATA loader", "properties": {"percentage": 0.1}}, r"models\.0\.properties\.percentage: .*known: node_population_settings \(needed\)"),
        ({**SONATA, "path": "/c/nodes.h5", "properties": {"node_population_settings": [POPULATION]}}, r"models\.0\.path: .*the circuit's or simulation's JSON"),
        (SONATA, r"models\.0\.properties\.node_population_settings: missing"),
        ({**SONATA, "properties": {"node_population_settings": [{**POPULATION, "node_percentage": 2}]}}, r"node_population_settings\.0\.node_percentage: 2 is above 1"),
        ({**SONATA, "properties": {"node_population_settings": [{**POPULATION, "node_percent": 1}]}}, r"node_population_settings\.0\.node_percent: .*known: .*node_percentage"),
        ({**SONATA, "properties": {"node_population_settings": POPULATION}}, r"node_population_settings: must be a list"),
        ({**SONATA, "properties": {"node_population_settings": [{**POPULATION, "report_type": "compartment"}]}}, r"node_population_settings\.0\.report_type: 'compartment' needs `report_name`"),
        ({**SONATA, "properties": {"node_population_settings": [POPULATION, {**POPULATION, "report_name": "soma"}]}}, r"node_population_settings\.1\.report_name: needs `report_type`"),
        ({"path": "/c/BlueConfig", "loader": "BBP loader", "properties": {"report_type": "compartment"}}, r"properties\.report_type: 'compartment' needs"),
        ({"path": "/a.swc", "properties": {"geometry_type": "triangles"}}, r"models\.0\.properties\.geometry_type: 'triangles' is none of original, smooth"),
        ({"path": "/a.swc", "properties": {"radius_multiplier": 0}}, r"properties\.radius_multiplier: 0 is below 0\.1"),
        ({"path": "/a.swc", "properties": {"load_soma": 1}}, r"properties\.load_soma: must be true or false"),
        ({"path": "/a.swc", "properties": {"subsampling": True}}, r"properties\.subsampling: must be a whole number"),
        ({"path": "/v.raw", "loader": "raw-volume", "properties": {"dimensions": [8, 8], "spacing": [1, 1, 1], "data_type": "float"}}, r"properties\.dimensions: has 2 values instead of 3"),
        ({"path": "/a.swc", "loader": "mesh"}, r"models\.0\.path: .*obj, ply, stl, off"),
        ({"path": "/a.obj", "loader": "Neuron Morphology loader"}, r"models\.0\.path: .*swc, h5, asc"),
        ({"path": "/a.swc", "properties": {"load_soma": False, "load_axon": False, "load_dendrites": False}}, r"properties\.load_soma: is false, and so are load_axon and load_dendrites"),
        ({"path": "/c/circuit.morphologies.h5", "properties": {"morphology_folder": "/m"}}, r"morphology_folder: .*of the Neuron Morphology loader, by the ending \.h5; give `loader` for another"),
        ({**SONATA, "loader": "SonataLoader"}, r"models\.0\.loader: did you mean 'SONATA loader'\?"),
        ({**SONATA, "loader": "Sonata Loader"}, r"models\.0\.loader: did you mean 'SONATA loader'\?"),
        ({"path": "/a.obj", "loader": "Mesh"}, r"models\.0\.loader: did you mean 'mesh'\?"),
        ({"path": "/v.raw", "loader": "RawVolumeLoader"}, r"models\.0\.loader: did you mean 'raw-volume'\?"),
        ({"path": "/c/circuit_config.json"}, r"no loader is known for '\.json' files; give `loader` \(such as SONATA loader or DTI loader\)"),
        ({"path": "/v.mhd"}, r"give `loader` \(such as mhd-volume\)"),
        ({"path": "/c/BlueConfig"}, r"no loader is known for files without an ending; give `loader` \(such as BBP loader\)"),
    ],
)  # fmt: skip
def test_what_a_loader_would_refuse_is_refused_before_a_node_is_asked_for(model: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidSetting, match=says):
        MovieSpecification.check({"models": [model], "frames": 1})


@pytest.mark.parametrize(
    "model",
    [
        {**SONATA, "properties": {"node_population_settings": [POPULATION]}},
        {"path": "/a.swc", "properties": {"radius_multiplier": 2, "growth": 0.5, "geometry_type": "spheres"}},
        {"path": "/a.OBJ"},
        {"path": "/a.swc", "properties": {"load_soma": False, "load_axon": False}},
        {"path": "/a.obj", "loader": "mesh loader of a site"},
        {**SONATA, "properties": {"node_population_settings": [{**POPULATION, "report_type": "compartment", "report_name": "soma"}]}},
        {"path": "/c/BlueConfig", "loader": "BBP loader", "properties": {"report_type": "spikes", "targets": ["Mosaic"]}},
        {"path": "/v.raw", "loader": "raw-volume", "properties": {"dimensions": [8, 8, 8], "spacing": [1, 1, 0.5], "data_type": "unsinged_char"}},
        {"path": "/c/BlueConfig", "loader": "BBP loader", "properties": {"percentage": 0.1, "targets": ["Mosaic"]}},
        {"path": "/x.y", "loader": "a site's own", "properties": {"anything": [1, {"a": None}]}},
    ],
)  # fmt: skip
def test_what_a_loader_takes_is_taken(model: dict[str, Any]) -> None:
    MovieSpecification.check({"models": [model], "frames": 1})


def test_the_loaders_are_those_recorded() -> None:
    """What the service of `tests/data` says of itself, word for word."""
    from airflow_brayns.movie import loaders

    shipped = json.loads((Path(loaders.__file__).parent / "loaders.json").read_text())
    lines = (Path(__file__).parents[2] / "data" / "recorded" / "conversation-3.10.1.jsonl").read_text().splitlines()
    told = next(json.loads(line) for line in lines if '"method": "get-loaders"' in line)
    assert {one["name"] for one in shipped} == {one["name"] for one in told["replies"][0]["json"]["result"]}
    assert shipped == told["replies"][0]["json"]["result"]


def test_the_documentations_example_is_right() -> None:
    import textwrap

    page = (Path(__file__).parents[3] / "docs" / "specification.rst").read_text()
    block = page.split(".. code-block:: yaml\n\n")[1].split("\n\n``properties``")[0]
    found = MovieSpecification.read(textwrap.dedent(block))
    assert found.models[0].loader_name == "SONATA loader"


@pytest.mark.parametrize(
    ("size", "field"), [([62, 64], "resolution.0"), ([64, 62], "resolution.1"), ([0, 0], "resolution.0")]
)
def test_a_size_that_kills_the_service_is_refused(size: list[int], field: str) -> None:
    with pytest.raises(InvalidSetting, match="greater than or equal to 64") as error:
        MovieSpecification.check({"models": [{"path": "/a.obj"}], "frames": 1, "resolution": size})
    assert error.value.field == field


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        MovieSpecification.read(text)
    except InvalidSetting:
        pass


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_any_values_are_read_or_refused(value: Any) -> None:
    for where in (
        {"models": value, "frames": 1},
        {"models": [{"path": "/a.obj"}], "frames": 1, "camera": value},
        value,
    ):
        try:
            MovieSpecification.check(where)
        except InvalidSetting:
            pass


@pytest.mark.parametrize("piece", ["[", "{a: ", "- ", "? "])
def test_what_is_nested_without_end_is_refused(piece: str) -> None:
    """PyYAML reads it by recursion in C: a file of a few kilobytes took the whole worker down with a segmentation fault."""
    for depth in (60, 1000, 100_000):
        with pytest.raises(InvalidSetting, match="deeper than 50|not YAML"):
            MovieSpecification.read("models: " + ("\n" if piece in ("- ", "? ") else "") + piece * depth)


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"resolution": [16384, 16384]}, "resolution"),
        ({"camera": {"turns": 1e308}}, "camera.turns"), ({"camera": {"path": "swing", "swing": 1e308}}, "camera.swing"),
        ({"camera": {"distance": 1e308}}, "camera.distance"), ({"camera": {"margin": 1e300}}, "camera.margin"), ({"camera": {"target": [1e300, 0, 0]}}, "camera.target"),
        ({"camera": {"path": "keyframes", "keyframes": [{"frame": 10**400, "position": [0, 0, 1], "target": [0, 0, 0]}]}}, "frame"),
        ({"output": "\ud800.mp4"}, "output"), ({"models": [{"path": "/\ud800.obj"}]}, "models.0"), ({"models": [{"path": "/" + "x" * 5000 + ".obj"}]}, "models.0"),
        ({"models": [{"path": "/a.obj", "properties": {"a": float("nan")}}]}, "models.0"),
        ({"models": [{"path": "/a.obj", "properties": {"a": datetime.date(2026, 1, 1)}}]}, "models.0"),
        ({"models": [{"path": "/a.obj", "properties": {"a": {1: 2, "b": 3}}}]}, "models.0"),
        ({"models": [{"path": "/a.obj", "properties": {"\ud800": 1}}]}, "models.0"), ({"models": [{"path": "/a.obj", "loader": "\ud800"}]}, "JSON"),
    ],
)  # fmt: skip
def test_what_could_not_be_reckoned_or_sent_is_refused(change: dict[str, object], where: str) -> None:
    """Each was taken, and failed in the middle of the movie: math domain error, infinities in JSON, dates that JSON has not."""
    with pytest.raises(InvalidSetting, match=where):
        MovieSpecification.check({"models": [{"path": "/a.obj"}], "frames": 3, **change})


@pytest.mark.parametrize(
    ("path", "loader"),
    [("a.obj", "mesh"), ("a.PLY", "mesh"), ("a.stl", "mesh"), ("a.off", "mesh"), ("a.swc", "Neuron Morphology loader"), ("a.asc", "Neuron Morphology loader"), ("b.c/a.h5", "Neuron Morphology loader")],
)  # fmt: skip
def test_a_files_ending_tells_its_loader(path: str, loader: str) -> None:
    model = MovieSpecification.check({"models": [{"path": f"/{path}"}], "frames": 1}).models[0]
    assert model.loader_name == loader
    assert bool(model.loader_properties) is (loader != "mesh"), "a morphology has Brayns' usual values"


def test_ids_and_layers_are_words_to_brayns() -> None:
    """YAML reads them as numbers; the error said that 1 is no string."""
    text = "models:\n- path: /a.swc\n  colors: {method: layer, values: {1: '#f00', 2: [0, 1, 0]}}\nframes: 1\n"
    colors = MovieSpecification.read(text).models[0].colors
    assert colors is not None
    assert colors.values == {"1": (1, 0, 0), "2": (0, 1, 0)}
    with pytest.raises(InvalidSetting, match=r"line 3, models\.0\.colors\.values"):
        MovieSpecification.read(text.replace("1:", "true:"))


def test_light_that_never_bounces_is_taken_as_the_service_takes_it() -> None:
    found = MovieSpecification.check(
        {"models": [{"path": "/a.obj"}], "frames": 1, "renderer": {"name": "interactive", "max_ray_bounces": 0}}
    )
    assert found.renderer.parameters()["max_ray_bounces"] == 0


def test_a_renderer_asks_for_what_it_knows() -> None:
    """The production renderer of Brayns takes no ambient occlusion; each has its own number of samples."""
    renderer = MovieSpecification.check({"models": [{"path": "/a.obj"}], "frames": 1}).renderer
    assert renderer.name == "production"
    background = [0.006, 0.01, 0.03, 1.0]
    assert renderer.parameters() == {"samples_per_pixel": 16, "max_ray_bounces": 3, "background_color": background}
    quick = MovieSpecification.check(
        {"models": [{"path": "/a.obj"}], "frames": 1, "renderer": {"name": "interactive", "ao_samples": 2}}
    ).renderer
    assert quick.parameters() == {
        "samples_per_pixel": 4, "max_ray_bounces": 3, "background_color": background, "ao_samples": 2, "enable_shadows": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("location", "line"), [(("models",), 2), (("models", 1), 4), (("models", 1, "color"), 5), (("models", 1, "color", 2), 5), (("models", 7, "path"), 2), (("camera", "path"), 6), (("nothing",), 1), (("models", "word"), 2), (("camera", 0), 6)],
)  # fmt: skip
def test_a_mistake_is_told_with_the_line_of_the_innermost_key_that_is_there(
    location: tuple[int | str, ...], line: int
) -> None:
    text = Text.read(
        "frames: 1\nmodels:\n- path: a.obj\n- path: b.obj\n  color: [1, 2, x]\ncamera: {path: swing}\n", "spec"
    )
    assert text.line(location) == line


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("frames: yes", "line 2, frames: .*integer"),
        ("frames: true", "line 2, frames: must be a number or a text, not true"),
        ("frames: 1:30", "line 2, frames: .*integer"),
        ("frames: 2.5", "line 2, frames: .*integer"),
        ("frames: 9\nresolution: [true, 64]", "line 3, resolution: must be a number or a text, not true"),
        ("frames: 9\nfps: on", "line 3, fps: .*number"),
        (
            "frames: 9\nrenderer: {samples_per_pixel: 1, samples_per_pixel: 2}",
            "line 3, samples_per_pixel: leave one of them out",
        ),
        ("frames: 9\ncamera: {target: [0, 0, true]}", "line 3, camera.target: must be a number"),
        ("frames: 9\nlights: [{intensity: true}]", "line 3, lights.0.intensity: must be a number"),
        ("frames: 9\noutput: true", "line 3, output: must be a number or a text, not true"),
    ],
)
def test_what_yaml_or_python_take_for_a_number_is_none(line: str, says: str) -> None:
    """`yes` was one frame, and so was `true`."""
    with pytest.raises(InvalidSetting, match=says):
        MovieSpecification.read(f"models: [{{path: /x.obj}}]\n{line}\n")


@pytest.mark.parametrize(
    ("text", "value"),
    [("0100", 100), ("0x40", 64), ("0o100", 64), ("1e3", 1000), ("64", 64), ("+64", 64), ("'64'", 64), ("64.0", 64)],
)
def test_numbers_are_those_of_todays_yaml(text: str, value: int) -> None:
    """0100 was 64 (YAML 1.1)."""
    assert MovieSpecification.read(f"models: [{{path: /x.obj}}]\nframes: {text}\n").frames == value


def test_switches_and_nothing_are_read_as_before() -> None:
    text = "models: [{path: /x.swc, properties: {load_soma: false}}]\nframes: 9\nrenderer: {enable_shadows: no}\ncrf: ~\nlights:\n"
    found = MovieSpecification.read(text)
    assert (found.renderer.enable_shadows, found.crf, found.lights) == (False, None, None)
    assert found.models[0].properties == {"load_soma": False}


@pytest.mark.parametrize(("size", "aspect"), [((1920, 1080), 16 / 9), ((64, 128), 0.5), ((96, 96), 1)])
def test_the_aspect_of_a_picture_is_its_width_over_its_height(size: tuple[int, int], aspect: float) -> None:
    """As cameras are told it, and a preview's size is found by it."""
    found = MovieSpecification.check({"models": [{"path": "/a.obj"}], "frames": 1, "resolution": size})
    assert found.aspect == pytest.approx(aspect)
