"""What people write: specifications, a connection's fields, templated values."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from airflow_brayns.brayns.endpoint import Endpoint
from airflow_brayns.cluster.allocation import Allocation, AllocationStatus
from airflow_brayns.cluster.slurm import SlurmCluster
from airflow_brayns.cluster.waiter import Waiter, news
from airflow_brayns.errors import InvalidSetting
from airflow_brayns.movie.plan import Plan, SceneFacts, scene_hash
from airflow_brayns.movie.specification import MovieSpecification
from airflow_brayns.services.booking import service_commands
from airflow_brayns.services.settings import ClusterSettings, literal
from tests.fuzz import cases
from tests.fuzz.readers.checks import SLOW, must, ours
from tests.fuzz.readers.movie import FACTS
from tests.fuzz.senders.common import NAME
from tests.support.shell import FakeShell

# ---- what people write --------------------------------------------------------------------------------------------------
SPECIFICATION: dict[str, Any] = {
    "version": 1, "models": [{"path": "/a.obj", "loader": "mesh", "properties": {"a": 1, "b": [1, {"c": None}]}, "color": [1, 0, 0]}],
    "lights": [{"kind": "directional", "intensity": 1.0, "direction": [0, 0, -1]}], "renderer": {"name": "interactive", "samples_per_pixel": 1},
    "resolution": [96, 64], "fps": 25.0, "frames": 10, "frame_range": [0, 9], "output": "movie.mp4", "crf": 20,
    "camera": {"path": "turntable", "turns": 1.0, "elevation": 10.0, "distance": 3.0, "margin": 1.0, "target": [0, 0, 0], "fovy": 45.0},
}  # fmt: skip
_KEYFRAMES = {"path": "keyframes", "keyframes": [{"frame": 0, "position": [0, 0, 3], "target": [0, 0, 0]}, {"frame": 9, "position": [1, 0, 3], "target": [0, 0, 0], "fovy": 60}]}  # fmt: skip

_BALL = {"kind": "sphere", "center": [0, 0, 0], "radius": 1.0}
_LATER: dict[str, Any] = {
    "version": 2, "primitives": [_BALL, {"kind": "box", "min": [0, 0, 0], "max": [1, 1, 1], "color": "#f80"}], "clipping": [{"kind": "plane", "coefficients": [0, 1, 0, -3], "invert_normals": True}],
    "models": [{"path": "/a.obj", "color": "#fff", "transform": {"translation": [0, 1, 0], "rotation": [0, 90, 0], "scale": 2}, "visible": False, "material": {"kind": "metal", "roughness": 0.5}, "color_ramp": {"range": [-80, -10], "colors": ["#000", "#fff"]}}],
    "lights": [{"kind": "quad", "edge1": [1, 0, 0], "edge2": [0, 1, 0], "follow_camera": True}, {"kind": "sphere", "radius": 2.0, "position": [1, 1, 1]}, {"kind": "ambient"}],
    "camera": {"view": "top", "projection": "orthographic", "height": 3.0, "near_clip": 0.5, "fit": 0, "easing": "ease-in"}, "step": 2, "frame_range": None,
    "frames": 3, "per_frame": {"columns": ["models.0.material.roughness", "camera.height", "models.0.visible"], "rows": [[0.5, 3, True], [0.7, 4, False], [1, 5, True]]},
}  # fmt: skip

_SHOTS: dict[str, Any] = {
    "version": 2, "frames": None, "frame_range": None, "camera": {},
    "shots": [{"frames": 4, "hide": [0]}, {"frames": 3, "fade": 2, "camera": {"view": "left", "fit": 0}, "lights": [{"kind": "ambient"}]}],
}  # fmt: skip


def specifications(rng: Random) -> None:
    """A specification in JSON or YAML with anything in it: refused by name, or one that can be planned, hashed and sent."""
    good = {
        **SPECIFICATION,
        **rng.choice(
            (
                {},
                _LATER,
                {"camera": _KEYFRAMES},
                {"frames": None, "frame_range": None, "simulation": {"start": 0, "end": 5}},
            )
        ),
    }
    content = cases.damaged(rng, good, 0.05)
    began = time.process_time()
    if rng.random() < 0.5:
        text = cases.as_json(rng, content)
        if rng.random() < 0.2:
            text = (
                rng.choice(
                    (
                        "a: &a [*a]",
                        "!!python/object:os.system x",
                        "? [a]\n: b",
                        "2020-01-01: 1",
                        "<<: {}",
                        "%YAML 9\n---\n",
                    )
                )
                + text
            )
        spec = ours(lambda: MovieSpecification.read(text, folder=Path("/x")))
    else:
        spec = ours(lambda: MovieSpecification.check(content, folder=Path("/x")))
    must(time.process_time() - began < SLOW, f"reading took {time.process_time() - began:.1f} s")
    if spec is None:
        return
    plain = spec.plain()
    must(
        MovieSpecification.check(json.loads(json.dumps(plain, allow_nan=False))) == spec,
        f"not read back: {plain!r:.300}",
    )
    scene_hash(spec)
    json.dumps([one.loader_properties for one in spec.models], allow_nan=False)
    for model in spec.models:
        model.path.encode()
    spec.output.encode()
    total = spec.frames or 0
    facts = SceneFacts.read(*FACTS)
    plan = Plan(spec, replace(facts, models=(facts.bounds,) * len(spec.models)), "scene")
    for frame in {0, total // 2, max(0, total - 1)} if total else ():
        pose = plan.pose(frame)
        must(
            all(math.isfinite(one) for one in (*pose.position, *pose.target, *pose.up, pose.fovy)),
            f"{pose!r} of {plain!r:.400}",
        )
        plan.key(frame)
        json.dumps([pose.projection(), plan.changes(frame, [[1]] * len(spec.models))], allow_nan=False)
    if spec.simulation is not None:
        ours(lambda: plan.total)


_FIELDS: dict[str, Any] = {
    "scheduler": "slurm", "ssh_conn_id": "ssh", "account": "proj3", "partition": "prod", "qos": "q", "constraint": "cpu", "reservation": "r", "gres": "gpu:1",
    "cpus_per_task": 72, "memory": "4G", "exclusive": True, "time_limit": "1:00:00", "sbatch_options": ["--licenses=x"], "executable": "braynsService",
    "setup": "module load x", "environment": {"A": "b"}, "container": "", "generation": 3, "log_level": "info", "max_clients": 4, "port": "0",
    "node_suffix": ".x", "route": "ssh", "state_dir": "~/x", "poll_interval": 5.0, "idle_limit": 60.0, "start_timeout": 60.0, "queue_timeout": 60.0,
    "packing": "one_job", "min_ready": 1,
}  # fmt: skip


def fields(rng: Random) -> None:
    """A connection's extras: refused by name, or settings of which everything can be made."""
    chosen = {name: _FIELDS[name] for name in rng.sample(sorted(_FIELDS), rng.randint(0, 5))}
    extras = cases.damaged(rng, chosen, 0.3)
    if not isinstance(extras, dict):
        return
    try:
        settings = ClusterSettings.read(extras)
    except InvalidSetting as error:
        must(error.field or "" in extras, f"no field for {extras!r:.200}")
        must(len(str(error)) < 100_000, f"an error of {len(str(error))} characters")
        return
    settings.request(2).sbatch_arguments()
    for command in service_commands(settings, ["braynsDTI"], 2):
        command.script.encode()
    keeper = settings.keeper()
    must(all(0 < one < 2**31 for one in (keeper.idle_limit, keeper.start_timeout)), f"{keeper!r}")
    must(
        math.isfinite(settings.poll_interval) and settings.poll_interval < 2**31,
        f"poll_interval {settings.poll_interval}",
    )
    json.dumps(settings.model_dump(mode="json"), allow_nan=False)
    shell = FakeShell()
    cluster = ours(lambda: SlurmCluster(shell, state_dir=settings.state_dir, node_suffix=settings.node_suffix))
    ours(lambda: cluster and asyncio.run(cluster.look([Waiter(NAME, 1)], patience=settings.poll_interval)))


_NESTED = ("[", "{", "(", "-", "not ", "1+", "a.", "[1", '{"a":', "lambda:", "~", "[[", "f'{", "*", "'\\")


def templated(rng: Random) -> None:
    """Lists and dicts that came through a template as text, bookings and endpoints from XCom."""
    match rng.randrange(5):
        case 0:
            piece = rng.choice(_NESTED)
            text = (
                rng.choice(("[", "{", "", "("))
                + piece * rng.choice((3, 90, 200, 3000, 60_000))
                + rng.choice(("", "1]", "]", "}"))
            )
        case 1:
            text = cases.as_json(rng, cases.value(rng))
        case 2:
            text = repr(cases.value(rng))
        case _:
            text = cases.text(rng)
    began = time.process_time()
    literal(text)
    must(time.process_time() - began < 2 * SLOW, f"{text[:60]!r} took {time.process_time() - began:.1f} s")
    endpoint = rng.choice((text, f"{text}:5000", "h" * 300 + ":1", "a..b:5", "h:٣", "[::1]:5", "h:00080"))
    try:
        found = Endpoint.parse(endpoint)
        host = found.host
        must(
            0 < found.port < 65536 and host.isascii() and not set(host) & set(" /@?#\n\0"),
            f"{endpoint[:80]!r} is {host!r}",
        )
        must(Endpoint.parse(str(found)) == found, f"{endpoint[:80]!r} is spelled {found}")
        host.encode("idna")
    except InvalidSetting:
        pass
    booking_of = _airflow_layer()
    good = {"name": NAME, "allocations": [Allocation(NAME, 1, "7").to_json()]}
    found = booking_of(cases.as_json(rng, cases.damaged(rng, good, 0.2)))
    if found is not None:
        news(AllocationStatus(*found.allocations[0].key) if found.allocations else AllocationStatus("x", 1), 1)


@cache
def _airflow_layer() -> Callable[[Any], Any]:
    from airflow_brayns.task.fields import booking_of, seconds_of, whole_number, word_list

    def all_of(value: Any) -> Any:
        for take in (word_list, whole_number, seconds_of):
            for one in (value, literal(value)):
                found = ours(lambda take=take, one=one: take("field", one))
                must(not isinstance(found, float) or math.isfinite(found), f"{found} seconds")
        try:
            return booking_of(value)
        except InvalidSetting:
            return None

    return all_of
