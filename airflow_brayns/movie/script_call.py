"""The render call of a movie's Python: what its frame function wants, by whichever way the movie is rendered."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from airflow_brayns.brayns.client import BraynsClient
from airflow_brayns.errors import RpcFailed, ScriptFailed
from airflow_brayns.movie.plan import Plan
from airflow_brayns.movie.render_call import (
    SNAPSHOT,
    WHOLE_PICTURE,
    Loaded,
    Message,
    image_settings,
    make_call,
    render_pass,
    take_snapshot,
)
from airflow_brayns.movie.scene import as_kind, scene_models
from airflow_brayns.movie.script_run import ScriptRun
from airflow_brayns.movie.script_wanted import Named, Wanted
from airflow_brayns.movie.tiles import Tile, Tiling

# parts of the names of methods that may change which lights there are
_LIGHTS = ("light", "clear-", "remove-", "update-model", "instantiate-")
_DIVIDED = ("perspective", "orthographic")  # projections that tiles divide
_STANDING = ("set-", "enable-")  # methods that may change how the service stands


@dataclass(frozen=True)
class _Standing:
    """How a service stands between frames, as the user's code has left it: a frame that wants a camera of its own must
    not be seen in the next one.
    """

    view: Mapping[str, Any]
    projection: Named
    near_clip: Mapping[str, Any]
    region: Mapping[str, Any] | None
    renderer: Named
    simulation: int


class ScriptCall:
    """A way to ask for the frames of a movie's Python. See `RenderCall`.

    One frame at a time: whatever its function calls is done, and its picture is there, before the next begins.

    :param way: `one-pass` or `snapshot`.
    :param run: the service's run.
    """

    def __init__(self, way: str, run: ScriptRun) -> None:
        self.name = make_call(way).name
        self._run = run
        self._turn = asyncio.Lock()
        self._standing: _Standing | None = None
        self._renderer = ""
        self._lights: int | None = None

    def since(self, began: float) -> float:
        """See `RenderCall.since`."""
        return self._run.since(began)

    async def begin(self, client: BraynsClient, plan: Plan, loaded: Loaded | None = None) -> None:
        """See `RenderCall.begin`; the run has set it all before its scene."""
        self._standing, self._renderer, self._lights = None, "", None

    async def render(self, client: BraynsClient, plan: Plan, picture: int, file_path: str = "") -> bytes:
        """See `RenderCall.render`. The frame function runs for each tile, which may be the only one here of its frame."""
        frame, tile = plan.part(picture)
        async with self._turn:
            wanted = await self._run.frame(client, frame)
            spec = plan.specification
            if plan.sample is not None:  # a preview is quick, whatever the movie will be
                wanted = replace(wanted, renderer=(spec.renderer.name, spec.renderer.parameters()))
            await self._look(client)
            if (wanted.renderer[0] if wanted.renderer else self._renderer) == "production" and self._lights == 0:
                raise ScriptFailed(_dark(frame), frame=frame)
            if plan.tiling is not None and tile is not None:
                standing = self._standing or await standing_of(client)
                wanted = _tiled(wanted, standing, plan.tiling, tile, frame)
            try:
                return await self._rendered(client, plan, wanted, tile, file_path)
            except RpcFailed as error:
                await _check_refusal(client, wanted, frame, error)
                raise

    async def _rendered(
        self, client: BraynsClient, plan: Plan, wanted: Wanted, tile: Tile | None, file_path: str
    ) -> bytes:
        spec = plan.specification
        if self.name == SNAPSHOT:
            request = {"image_settings": image_settings(spec, plan.size), **_snapshot(wanted)}
            return await take_snapshot(client, request, file_path)
        assert self._standing is not None
        before, after = _messages(wanted, self._standing)
        if tile is not None:  # the user's code may have set that of the whole frame
            before.insert(0, ("set-application-parameters", {"viewport": list(plan.size)}))
        return await render_pass(client, spec, before, after)

    async def _look(self, client: BraynsClient) -> None:
        """Ask the service how it stands, where the user's code may have changed that."""
        called = self._run.take_called()
        if self._lights is None or any(part in method for method in called for part in _LIGHTS):
            models = await scene_models(client)
            self._lights = sum(
                one.get("model_type") == "light" and one.get("is_visible") is not False for one in models
            )
        if self._renderer and not any(method.startswith(_STANDING) for method in called):
            return
        if self.name == SNAPSHOT:
            self._renderer = str(await _known(client, "get-renderer-type"))
            return
        self._standing = await standing_of(client)
        self._renderer = self._standing.renderer[0]


async def _check_refusal(client: BraynsClient, wanted: Wanted, frame: int, error: RpcFailed) -> None:
    """Ask, for a frame that a service has refused, whether it is what the frame function wants: that will not do on any
    other service. Where it is not, the service stands as before.

    :raises ScriptFailed: it is.
    """
    back = _messages(wanted, await standing_of(client))[1]
    for method, params in _wishes(wanted):
        try:
            await client.call(method, params)
        except RpcFailed as refused:
            raise ScriptFailed(
                f"frame {frame} returned what braynsService does not take, {method}: {refused.said}.",
                remedy="Correct what `frame` returns; frames that are whole stay.",
                frame=frame,
            ) from error
    await client.call_in_order(back)


def _wishes(wanted: Wanted) -> Iterator[Message]:
    """What a frame function wants to be set, as requests."""
    if wanted.simulation is not None:
        yield "set-simulation-parameters", {"current": wanted.simulation}
    if wanted.view is not None:
        yield "set-camera-view", wanted.view
    if wanted.near_clip is not None:
        yield "set-camera-near-clip", {"distance": wanted.near_clip}
    if wanted.region is not None and wanted.region != WHOLE_PICTURE:
        yield "set-camera-region", wanted.region
    for kind, named in (("renderer", wanted.renderer), ("camera", wanted.projection)):
        if named is not None:
            yield f"set-{kind}-{named[0]}", named[1]


async def standing_of(client: BraynsClient) -> _Standing:
    """How a service stands.

    :raises RenderingFailed: it answers with something else.
    """
    methods = ["get-camera-type", "get-renderer-type", "get-camera-view", "get-camera-near-clip", "get-simulation-parameters"]  # fmt: skip
    replies = [one.result for one in await client.call_in_order([(method, None) for method in methods])]
    camera, renderer = (as_kind(str, method, reply) for method, reply in zip(methods[:2], replies[:2], strict=True))
    view, near_clip, simulation = (
        as_kind(dict, method, reply) for method, reply in zip(methods[2:], replies[2:], strict=True)
    )
    named = [(f"get-camera-{camera}", None), (f"get-renderer-{renderer}", None)]
    projection, quality = [
        as_kind(dict, method, one.result)
        for (method, _), one in zip(named, await client.call_in_order(named), strict=True)
    ]
    region = await _known(client, "get-camera-region")  # braynsService has it from 3.9 on
    current = as_kind(int, "get-simulation-parameters", simulation.get("current"))
    return _Standing(view, (camera, projection), near_clip, region, (renderer, quality), current)


async def _known(client: BraynsClient, method: str) -> Any:
    """The result of a method; None where the service does not have it."""
    try:
        return (await client.call(method)).result
    except RpcFailed:
        return None


def _messages(wanted: Wanted, standing: _Standing) -> tuple[list[Message], list[Message]]:
    """What is set before a pass, and what is set back behind it. The last one before it begins the picture anew, which
    projection and renderer do with the values that they had, too (3.10.1, run).
    """
    before, after = list[Message](), list[Message]()
    if wanted.simulation is not None:
        before.append(("set-simulation-parameters", {"current": wanted.simulation}))
        after.append(("set-simulation-parameters", {"current": standing.simulation}))
    if wanted.view is not None:
        before.append(("set-camera-view", wanted.view))
        after.append(("set-camera-view", standing.view))
    if wanted.near_clip is not None and (clip := {"distance": wanted.near_clip}) != standing.near_clip:
        before.append(("set-camera-near-clip", clip))
        after.append(("set-camera-near-clip", standing.near_clip))
    if wanted.region is not None and standing.region is not None and wanted.region != standing.region:
        before.append(("set-camera-region", wanted.region))
        after.append(("set-camera-region", standing.region))
    if wanted.renderer is not None or wanted.projection is None:
        renderer = wanted.renderer or standing.renderer
        before.append((f"set-renderer-{renderer[0]}", renderer[1]))
    if wanted.renderer is not None:
        after.append((f"set-renderer-{standing.renderer[0]}", standing.renderer[1]))
    if wanted.projection is not None:
        before.append((f"set-camera-{wanted.projection[0]}", wanted.projection[1]))
        after.append((f"set-camera-{standing.projection[0]}", standing.projection[1]))
    return before, after


def _tiled(wanted: Wanted, standing: _Standing, tiling: Tiling, tile: Tile, frame: int) -> Wanted:
    """One tile of what a frame function wants.

    :raises ScriptFailed: it wants a camera that cannot be divided.
    """
    name, parameters = wanted.projection or standing.projection
    if name not in _DIVIDED:
        told = f"frame {frame} has a {name} camera, and `tiles` divide what a {' or '.join(_DIVIDED)} one sees"
        raise ScriptFailed(f"{told}.", remedy="Take one of these, or leave `tiles` out.", frame=frame)
    if (wanted.region or standing.region) not in (None, WHOLE_PICTURE):
        told = f"frame {frame} has a camera with a region of its own, and `tiles` divide whole pictures"
        raise ScriptFailed(f"{told}.", remedy="Leave one of them out.", frame=frame)
    return replace(
        wanted,
        view=wanted.view or standing.view,
        near_clip=standing.near_clip.get("distance") if wanted.near_clip is None else wanted.near_clip,
        projection=tiling.projection(name, parameters),
        region=tiling.region(tile),
    )


def _snapshot(wanted: Wanted) -> dict[str, Any]:
    """The part of a snapshot's request that says what a frame shows."""
    found: dict[str, Any] = {}
    if wanted.view is not None and wanted.projection is not None:
        found["camera_view"] = wanted.view
        found["camera"] = {"name": wanted.projection[0], "params": wanted.projection[1]}
        found["camera_near_clip"] = wanted.near_clip
        if wanted.region is not None and wanted.region != WHOLE_PICTURE:  # braynsService has it from 3.9 on
            found |= wanted.region
    if wanted.renderer is not None:
        found["renderer"] = {"name": wanted.renderer[0], "params": wanted.renderer[1]}
    if wanted.simulation is not None:
        found["simulation_frame"] = wanted.simulation
    return found


def _dark(frame: int) -> str:
    return (
        f"frame {frame} would be rendered by the production renderer without a light, which kills braynsService 3.10.1. Add "
        "one in `scene`: brayns.add_light(service, brayns.DirectionalLight(4)); or do not remove them all: "
        "clear_models takes the lights, too, and clear_renderables leaves them."
    )
