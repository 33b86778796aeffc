"""A cloud of cells that grows, cell by cell, while the camera goes around it: a movie whose scene is Python."""

import math
import random

import brayns

frames, fps, resolution, output = 120, 25, (1280, 720), "growth.mp4"
renderer = {"name": "production", "samples_per_pixel": 8, "background_color": [0.01, 0.01, 0.03]}


def cell(number: int) -> brayns.Sphere:
    """Each cell is where its own number says, on every node and in every try."""
    chance = random.Random(number)
    turn, height = chance.uniform(0, 2 * math.pi), chance.uniform(-1, 1)
    out = math.sqrt(1 - height * height) * chance.uniform(20, 60)
    return brayns.Sphere(
        chance.uniform(1.5, 4), brayns.Vector3(out * math.cos(turn), 60 * height, out * math.sin(turn))
    )


def scene(service: brayns.Instance) -> None:
    """Once on each service, which is empty: what all frames have."""
    brayns.add_light(service, brayns.DirectionalLight(4, direction=brayns.Vector3(-0.5, -0.7, -0.9)))
    brayns.add_light(service, brayns.AmbientLight(0.4))


def frame(service: brayns.Instance, number: int, seed: int = 0) -> brayns.Camera:
    """What this frame is, whichever was rendered before it: cells of before are taken away, and as many are there as it has."""
    brayns.clear_renderables(service)  # the lights stay
    cells = [cell(1000 * seed + one) for one in range(2 * number + 1)]
    brayns.add_geometries(service, [(one, brayns.Color4(1, 0.55, 0.2)) for one in cells])
    turn = math.radians(90 * number / frames)
    place = brayns.Vector3(190 * math.sin(turn), 40, 190 * math.cos(turn))
    return brayns.Camera(brayns.View(place, brayns.Vector3(0, 0, 0)))
