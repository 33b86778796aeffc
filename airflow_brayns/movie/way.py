"""The two ways to get a frame out of a service, and which a movie takes.

`snapshot` carries camera, renderer and size in its own parameters, and looks for its own end once a second. One pass of
`render-image` (`accumulate: false`) works on the service's own, so one driver must own the service; it is the same picture
to the bit, in the time that its samples take (0.03 s for 1.03 s at one sample, 0.35 s for 1.03 s at 16; 3.10.1, run). So
nothing is tried: services that are ours render in one pass, and `snapshot` is for those that others may use too and for
frames that the service writes itself.
"""

from __future__ import annotations

import reprlib
from typing import Any, Protocol

from airflow_brayns.brayns.client import BraynsClient, Reply
from airflow_brayns.errors import InvalidSetting, RenderingFailed, RpcFailed
from airflow_brayns.movie.plan import Plan
from airflow_brayns.movie.scene import call_where_known

SNAPSHOT, ONE_PASS = "snapshot", "one-pass"
# What 0.2.0 called its `render-image`: N passes of N samples, another picture. As a parameter it means one pass now.
FORMER = "render-image"
NEAR_CLIP = 1e-6  # braynsService's own
WHOLE_PICTURE = {"image_start": [0, 1], "image_end": [1, 0]}
_ENDLESS = 1e6  # whoever calls has a time-out of its own
_TRIES = 3


class Way(Protocol):
    """How a frame is asked for."""

    name: str

    async def begin(self, client: BraynsClient, plan: Plan) -> None:
        """Set what all frames have in common. Nothing is taken for granted: somebody may have used the service before."""
        ...

    async def render(self, client: BraynsClient, plan: Plan, frame: int, file_path: str = "") -> bytes:
        """One frame's image; nothing where the service writes it to `file_path` itself.

        :raises RpcFailed: the service refused.
        :raises ConnectionLost: it did not answer.
        :raises RenderingFailed: it answered with another picture.
        """
        ...


async def _reset(client: BraynsClient, plan: Plan) -> None:
    """Whatever shapes a picture and is in no parameter of a frame."""
    await call_where_known(client, "set-framebuffer-static")
    await call_where_known(client, "set-camera-near-clip", {"distance": NEAR_CLIP})
    await call_where_known(client, "set-camera-region", WHOLE_PICTURE)  # from 3.9 on
    if plan.shown is None:
        await client.call("set-simulation-parameters", {"current": plan.facts.first})


def _perspective(fovy: float) -> dict[str, float]:
    """All of it: what is left out may stay as somebody set it."""
    return {"fovy": fovy, "aperture_radius": 0.0, "focus_distance": 1.0}


class Snapshot:
    """Complete in itself, whatever the service's own camera and renderer are."""

    name = SNAPSHOT

    async def begin(self, client: BraynsClient, plan: Plan) -> None:
        """See `Way.begin`. Near clip and region are the service's own, unless a snapshot says otherwise."""
        await _reset(client, plan)

    async def render(self, client: BraynsClient, plan: Plan, frame: int, file_path: str = "") -> bytes:
        """See `Way.render`."""
        spec, pose, shown = plan.specification, plan.pose(frame), plan.simulation_frame(frame)
        settings: dict[str, Any] = {"format": spec.format, "size": list(spec.resolution)}
        if spec.format == "jpg":
            settings["quality"] = spec.quality
        request: dict[str, Any] = {
            "image_settings": settings,
            "camera": {"name": "perspective", "params": _perspective(pose.fovy)},
            "camera_view": pose.view(),
            "renderer": {"name": spec.renderer.name, "params": spec.renderer.parameters()},
            "simulation_frame": plan.facts.first if shown is None else shown,
        }
        if file_path:
            request["file_path"] = file_path
        reply = await client.call("snapshot", request, timeout=_ENDLESS)
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


class OnePass:
    """The first pass of `render-image`, through the service's own camera and renderer; for whoever has the service to itself.

    A camera that is set to the view it had goes on with the picture that is there (pass 2 of N: another picture), so each
    frame sets the projection last, which begins anew even with the values it had (3.10.1, run). A reply that does not say
    so is not taken.
    """

    name = ONE_PASS

    async def begin(self, client: BraynsClient, plan: Plan) -> None:
        """See `Way.begin`."""
        await _reset(client, plan)
        for method, params in self._common(plan):
            await client.call(method, params)

    def _common(self, plan: Plan) -> list[tuple[str, dict[str, Any]]]:
        spec = plan.specification
        return [
            ("set-application-parameters", {"viewport": list(spec.resolution)}),
            (f"set-renderer-{spec.renderer.name}", spec.renderer.parameters()),
        ]

    async def render(self, client: BraynsClient, plan: Plan, frame: int, file_path: str = "") -> bytes:
        """See `Way.render`. All goes out together: the service takes the requests in order, with none of another frame between."""
        spec, pose = plan.specification, plan.pose(frame)
        request: dict[str, Any] = {
            "send": True,
            "force": True,
            "accumulate": False,
            "render": True,
            "format": spec.format,
        }
        if spec.format == "jpg":
            request["jpeg_quality"] = spec.quality
        messages: list[tuple[str, dict[str, Any]]] = [
            ("set-camera-view", pose.view()),
            ("set-camera-perspective", _perspective(pose.fovy)),
            ("render-image", request),
        ]
        if (shown := plan.simulation_frame(frame)) is not None:
            messages.insert(0, ("set-simulation-parameters", {"current": shown}))
        for _ in range(_TRIES):
            reply = (await client.call_in_order(messages, timeout=_ENDLESS))[-1]
            if (reached := _accumulation(reply))[0] == 1:
                return reply.binary
            messages = [*self._common(plan), *messages]  # somebody else is at it, or it is a version that goes on
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


async def offers_one_pass(client: BraynsClient) -> bool:
    """Whether a service has `render-image`, by its own word."""
    try:
        known = (await client.call("registry")).result
    except RpcFailed:
        return False
    return isinstance(known, list) and "render-image" in known


def make_way(name: str) -> Way:
    """The way of a name.

    :raises InvalidSetting: there is none of that name.
    """
    if name in (ONE_PASS, FORMER):
        return OnePass()
    if name == SNAPSHOT:
        return Snapshot()
    raise InvalidSetting("way", f"{name!r} is none of {ONE_PASS}, {SNAPSHOT}")
