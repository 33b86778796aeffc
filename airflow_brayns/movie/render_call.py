"""Render calls: the two ways to get a frame out of a service.

`snapshot` carries camera, renderer and size in its own parameters, and looks for its own end once a second. One pass of
`render-image` (`accumulate: false`) works on the service's own, so one movie must have the service to itself; it is the
same picture to the bit, in the time that its samples take (0.03 s for 1.03 s at one sample, 0.35 s for 1.03 s at 16;
3.10.1, run). So nothing is tried: services that are ours render in one pass, and `snapshot` is for those that others
may use too and for frames that the service writes itself.
"""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from typing import Any, Protocol

from airflow_brayns.brayns.client import BraynsClient, Reply
from airflow_brayns.errors import InvalidSetting, RenderingFailed, RpcFailed
from airflow_brayns.movie.camera_fields import NEAR_CLIP as NEAR_CLIP
from airflow_brayns.movie.plan import Plan
from airflow_brayns.movie.scene import call_where_known
from airflow_brayns.movie.specification import MovieSpecification

Message = tuple[str, Any]  # a method and its parameters
SNAPSHOT, ONE_PASS = "snapshot", "one-pass"
# The name of 0.2.0's way, which made N passes of N samples: another picture. As a parameter the name means one pass
# now.
FORMER = "render-image"
WHOLE_PICTURE = {"image_start": [0, 1], "image_end": [1, 0]}
Loaded = Sequence[Sequence[int]]
_ENDLESS = 1e6  # seconds; whoever renders a frame has a time-out of its own
_TRIES = 3
# The parameters and the results of `render-image` that one pass needs (3.10.1, recorded).
_PARAMETERS = {"send", "force", "accumulate", "render", "format", "jpeg_quality"}
_RESULTS = {"accumulation", "max_accumulation"}


class RenderCall(Protocol):
    """An interface: a way to ask a service for a frame."""

    name: str

    def since(self, began: float) -> float:
        """The time from which the service is at a frame (`time.monotonic()`), where `began` is when it was asked: the
        time-out of a frame does not run while a movie's Python does.
        """
        ...

    async def begin(self, client: BraynsClient, plan: Plan, loaded: Loaded | None = None) -> None:
        """Set on a service what all frames have in common. Nothing is taken for granted, since somebody may have used
        the service before.

        :param loaded: what the service calls each model, see `SceneFacts.loaded`; None for what it was told before.
        """
        ...

    async def render(self, client: BraynsClient, plan: Plan, picture: int, file_path: str = "") -> bytes:
        """Have a service render a picture of the plan, a frame or a tile, and return its image; empty where the service
        writes it to `file_path` itself. A tile leaves no region behind.

        :param file_path: the path that the service is to write to; empty to get the image over the connection.
        :raises RpcFailed: the service refused.
        :raises ConnectionLost: the service did not answer.
        :raises RenderingFailed: the service answered with another picture.
        """
        ...


async def _reset(client: BraynsClient, plan: Plan) -> None:
    """Set whatever shapes a picture and is in no parameter of a frame."""
    await call_where_known(client, "set-framebuffer-static")
    await call_where_known(client, "set-camera-near-clip", {"distance": NEAR_CLIP})
    await call_where_known(client, "set-camera-region", WHOLE_PICTURE)  # braynsService has it from 3.9 on
    if plan.shown is None:
        await client.call("set-simulation-parameters", {"current": plan.facts.first})


class _PlannedCall:
    """The base class of the calls whose frames a plan says in full: nobody's Python has a part in them."""

    _loaded: Loaded = ()

    def since(self, began: float) -> float:
        """See `RenderCall.since`."""
        return began

    async def begin(self, client: BraynsClient, plan: Plan, loaded: Loaded | None = None) -> None:
        """See `RenderCall.begin`."""
        self._loaded = self._loaded if loaded is None else loaded
        await _reset(client, plan)


class Snapshot(_PlannedCall):
    """The way `snapshot`: each call is complete in itself, whatever the service's own camera and renderer are. Near clip
    and region are the service's own values, unless a snapshot says otherwise.
    """

    name = SNAPSHOT

    async def render(self, client: BraynsClient, plan: Plan, picture: int, file_path: str = "") -> bytes:
        """See `RenderCall.render`."""
        frame, region, projection = look_of(plan, picture)
        spec, pose, shown = plan.at(frame), plan.pose(frame), plan.simulation_frame(frame)
        request: dict[str, Any] = {
            "image_settings": image_settings(spec, plan.size),
            "camera": dict(zip(("name", "params"), projection, strict=True)),
            "camera_view": pose.view(),
            **(region or {}),
            "renderer": {"name": spec.renderer.name, "params": spec.renderer.parameters()},
            "simulation_frame": plan.facts.first if shown is None else shown,
        }
        if pose.near_clip != NEAR_CLIP or plan.varies("camera"):
            request["camera_near_clip"] = pose.near_clip
        return await take_snapshot(client, request, file_path, before=plan.changes(frame, self._loaded))


def look_of(plan: Plan, picture: int) -> tuple[int, dict[str, Any] | None, tuple[str, dict[str, Any]]]:
    """The frame that a picture is of, the region of it (None for the whole), and the projection that is set for it."""
    frame, tile = plan.part(picture)
    name, parameters = plan.pose(frame).projection()
    if plan.tiling is None or tile is None:
        return frame, None, (name, parameters)
    return frame, plan.tiling.region(tile), plan.tiling.projection(name, parameters)


def image_settings(spec: MovieSpecification, size: tuple[int, int]) -> dict[str, Any]:
    """The part of a snapshot's request that says what file the picture becomes.

    :param size: its width and height.
    """
    quality = {"quality": spec.quality} if spec.format == "jpg" else {}
    return {"format": spec.format, "size": list(size), **quality}


async def take_snapshot(
    client: BraynsClient, request: dict[str, Any], file_path: str, *, before: Sequence[Message] = ()
) -> bytes:
    """Ask for a snapshot, and return its image; empty where the service writes it to `file_path` itself.

    :param before: what is set before it.
    """
    asked = {**request, "file_path": file_path} if file_path else request
    reply = (await client.call_in_order([*before, ("snapshot", asked)], timeout=_ENDLESS))[-1]
    return b"" if file_path else _color_buffer(reply)


def _color_buffer(reply: Reply) -> bytes:
    try:
        buffer = reply.result["color_buffer"]
        offset, size = int(buffer["offset"]), int(buffer["size"])
        if not 0 <= offset <= offset + size <= len(reply.binary):
            raise ValueError
    except (KeyError, TypeError, ValueError, OverflowError):
        told = reprlib.repr(reply.result)
        raise RenderingFailed(f"snapshot answered {told} and {len(reply.binary)} bytes, which is no image") from None
    return reply.binary[offset : offset + size]


class OnePass(_PlannedCall):
    """The way `one-pass`: the first pass of `render-image`, through the service's own camera and renderer, for a movie
    that has the service to itself.

    A camera that is set to the view it had goes on with the picture that is there (pass 2 of N: another picture), so
    each frame sets the projection last, which begins anew even with the values it had (3.10.1, run). A reply that does
    not say so is not taken.
    """

    name = ONE_PASS

    async def begin(self, client: BraynsClient, plan: Plan, loaded: Loaded | None = None) -> None:
        """See `RenderCall.begin`."""
        await super().begin(client, plan, loaded)
        for method, params in self._common(plan.specification, plan.size):
            await client.call(method, params)

    def _common(self, spec: MovieSpecification, size: tuple[int, int]) -> list[tuple[str, Any]]:
        return [
            ("set-application-parameters", {"viewport": list(size)}),
            (f"set-renderer-{spec.renderer.name}", spec.renderer.parameters()),
        ]

    async def render(self, client: BraynsClient, plan: Plan, picture: int, file_path: str = "") -> bytes:
        """See `RenderCall.render`. All requests go out together: the service takes them in order, with none of another
        picture between.
        """
        frame, region, (name, parameters) = look_of(plan, picture)
        spec, pose = plan.at(frame), plan.pose(frame)
        messages: list[Message] = [
            *plan.changes(frame, self._loaded),
            *([("set-camera-region", region)] if region else []),
            ("set-camera-view", pose.view()),
            (f"set-camera-{name}", parameters),
        ]
        if pose.near_clip != NEAR_CLIP or plan.varies("camera"):
            messages.insert(0, ("set-camera-near-clip", {"distance": pose.near_clip}))
        if plan.varies("renderer"):
            messages = [*self._common(spec, plan.size), *messages]
        if (shown := plan.simulation_frame(frame)) is not None:
            messages.insert(0, ("set-simulation-parameters", {"current": shown}))
        after: list[Message] = [("set-camera-region", WHOLE_PICTURE)] if region else []
        return await render_pass(client, spec, messages, after, again=self._common(spec, plan.size))


async def render_pass(
    client: BraynsClient,
    spec: MovieSpecification,
    before: Sequence[Message],
    after: Sequence[Message] = (),
    *,
    again: Sequence[Message] = (),
) -> bytes:
    """Render one pass, and return its image.

    :param before: what shapes the picture, the one that begins it anew last.
    :param after: what is set when it is rendered.
    :param again: what is set besides where the pass was not the first.
    :raises RenderingFailed: it was never the first pass.
    """
    request: dict[str, Any] = {"send": True, "force": True, "accumulate": False, "render": True, "format": spec.format}
    if spec.format == "jpg":
        request["jpeg_quality"] = spec.quality
    messages = [*before, ("render-image", request), *after]
    for _ in range(_TRIES):
        reply = (await client.call_in_order(messages, timeout=_ENDLESS))[-1 - len(after)]
        if (reached := _accumulation(reply))[0] == 1:
            return reply.binary
        # somebody else uses the service, or its version goes on accumulating
        messages = [*again, *messages]
    raise RenderingFailed(
        f"render-image answered with pass {reached[0]} of {reached[1]}, {_TRIES} times: that is another picture. "
        f"Either somebody else renders with this service, or its version needs way={SNAPSHOT!r}"
    )


def _accumulation(reply: Reply) -> tuple[int, int]:
    try:
        return int(reply.result["accumulation"]), int(reply.result["max_accumulation"])
    except (KeyError, TypeError, ValueError, OverflowError):
        told = reprlib.repr(reply.result)
        raise RenderingFailed(f"render-image answered {told}, which is no image") from None


async def check_region(client: BraynsClient, service: str, version: str) -> None:
    """Check by its schema that a service renders a part of a picture, which tiles need.

    :param service: its name; `version` is empty where it is not told.
    :raises InvalidSetting: it does not.
    """
    try:
        await client.call("schema", {"endpoint": "set-camera-region"})
    except RpcFailed:
        raise InvalidSetting(
            "tiles",
            f"{service} is braynsService {version or 'of a version that it does not tell'}, which renders whole pictures only: "
            "`set-camera-region` came with 3.9.",
            remedy="use braynsService 3.9 or later, or leave `tiles` out.",
        ) from None


async def offers_one_pass(client: BraynsClient) -> bool:
    """Tell by its schema whether a service's `render-image` can be asked for one pass, and says which pass it was:
    former versions may have a method of that name which can not.
    """
    try:
        schema = (await client.call("schema", {"endpoint": "render-image"})).result
    except RpcFailed:
        return False
    if not isinstance(schema, dict):
        return False
    return _names(schema.get("params")) >= _PARAMETERS and _names(schema.get("returns")) >= _RESULTS


def _names(schema: object) -> set[str]:
    """The names of an object's properties, as a schema tells them; generations 1 and 2 have a list that holds the
    schema.
    """
    one = schema[0] if isinstance(schema, list) and schema else schema
    properties = one.get("properties") if isinstance(one, dict) else None
    return {name for name in properties if isinstance(name, str)} if isinstance(properties, dict) else set()


def make_call(name: str) -> RenderCall:
    """Make the render call for a way's name.

    :param name: `snapshot` or `one-pass`; `render-image`, the name of 0.2.0, means one pass.
    :raises InvalidSetting: there is no way of that name.
    """
    if name in (ONE_PASS, FORMER):
        return OnePass()
    if name == SNAPSHOT:
        return Snapshot()
    raise InvalidSetting("way", f"{name!r} is none of them.", remedy=f"take {ONE_PASS} or {SNAPSHOT}, or leave it out.")
