"""The official PyPI client, unmodified, against the emulator."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from PIL import Image

if sys.version_info >= (3, 13):
    pytest.skip("the official client does not import on Python 3.13 (facts/brayns.md)", allow_module_level=True)
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def test_the_clients_own_steps(emulator, data: Path, tmp_path: Path) -> None:
    """Connect, version, load, bounds, camera, light, colour, snapshot, image, stop."""
    import brayns

    service = emulator("--plugin", "braynsCircuitExplorer", snapshot_seconds=0.1)
    client = brayns.Connector(service.endpoint).connect()
    assert brayns.get_version(client).release == (3, 10, 1) or brayns.get_version(client).release == "3.10.1"
    assert brayns.get_application(client).plugins == ["braynsCircuitExplorer"]
    neuron = brayns.Morphology(radius_multiplier=1.0, load_soma=True, load_axon=True, load_dendrites=True)
    model = brayns.MorphologyLoader(neuron).load_models(client, str(data / "neuron.swc"))[0]
    cube = brayns.MeshLoader().load_models(client, str(data / "cube.obj"))
    brayns.remove_models(client, [one.id for one in cube])
    bounds = brayns.get_bounds(client)
    assert bounds.min.x == pytest.approx(-166.37599, abs=1e-3)
    brayns.clear_lights(client)
    brayns.add_light(client, brayns.DirectionalLight(4, direction=brayns.Vector3(-0.3, -0.5, -1)))
    brayns.add_light(client, brayns.AmbientLight(0.5))
    brayns.set_model_color(client, model.id, brayns.Color4(0.95, 0.6, 0.25))
    camera = brayns.CameraController(target=bounds, aspect_ratio=16 / 9).camera
    size = brayns.Resolution(320, 180)
    snapshot = brayns.Snapshot(resolution=size, camera=camera, renderer=brayns.ProductionRenderer(4))
    snapshot.save(client, str(tmp_path / "snapshot.png"))
    snapshot.save_remotely(client, str(tmp_path / "remote.png"))
    brayns.set_resolution(client, size)
    brayns.set_camera(client, camera)
    brayns.set_renderer(client, brayns.InteractiveRenderer())
    brayns.Image().save(client, str(tmp_path / "image.png"))
    for name in ("snapshot", "remote", "image"):
        with Image.open(tmp_path / f"{name}.png") as picture:
            assert picture.size == (320, 180)
            assert len(picture.convert("RGB").getcolors(1 << 16) or []) > 20, f"{name} shows nothing"
    assert len(brayns.get_entrypoints(client)) > 40
    brayns.stop(client)
    client.disconnect()
    assert service.wait(5) in (0, -11), "quit ends by a segmentation fault one time in four, as the real one does"
