"""The preview of a movie: a few small, quick frames on a contact sheet, by one node that is given back whatever happens."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

from airflow_brayns.errors import InvalidSetting
from airflow_brayns.movie.images import contact_sheet
from airflow_brayns.movie.interfaces import Reporter
from airflow_brayns.movie.overlays import Drawing
from airflow_brayns.movie.plan import Plan
from airflow_brayns.movie.specification import LARGEST_SIDE, SMALLEST_SIDE, MovieSpecification
from airflow_brayns.rendering.render import RenderRequest, one_node, render_with
from airflow_brayns.services.booking import Booking
from airflow_brayns.services.session import Session

_DRAWN_LONGER, _DRAWN_SHORTER = 2048, 512  # pixels a side of what is drawn over a preview, before it is made as small
_LARGEST_DRAWN = 8192  # pixels a side


async def preview_movie(
    session: Session,
    request: RenderRequest,
    target: Path,
    full_size: tuple[int, int],
    reporter: Reporter,
    announce: Callable[[Booking], Awaitable[None]] | None = None,
) -> None:
    """Render a movie's preview with a service of its own.

    :param request: the small movie, see `small_movie`, with as many frames as its `how.sample` says; its folder is not used.
    :param target: the file that the contact sheet becomes.
    :param full_size: width and height of the movie's frames, for which what lies over them is drawn.
    :param announce: a function that is told of the booking.
    """
    with tempfile.TemporaryDirectory() as scratch:
        request = await replace(request, folder=scratch, on_cluster=False).prepared(session.cluster)
        async with one_node(session, request, announce) as booking:
            outcome = await render_with(session, booking, request, reporter)
        await asyncio.to_thread(make_sheet, outcome.plan, Path(scratch), target, full_size)


def small_movie(specification: MovieSpecification, width: int, field: str = "width") -> MovieSpecification:
    """The movie with small frames that are quick to render.

    :param width: of a frame, in pixels.
    :param field: what the width is called where somebody gives it.
    :raises InvalidSetting: the width cannot be taken.
    """
    size = preview_size(width, specification.aspect, field)
    renderer = specification.renderer.model_copy(update={"name": "interactive", "samples_per_pixel": 1})
    return specification.model_copy(update={"resolution": size, "renderer": renderer, "format": "png", "tiles": None})


def preview_size(width: int, aspect: float, field: str = "width") -> tuple[int, int]:
    """The size of a small frame: its sides are even, and of the movie's shape as nearly as 64 pixels allow, which
    braynsService needs at least.

    :param field: what the width is called where somebody gives it.
    :raises InvalidSetting: the width cannot be taken.
    """
    if not SMALLEST_SIDE <= width <= LARGEST_SIDE:
        raise InvalidSetting(
            field,
            f"{width} is not between them; braynsService renders nothing smaller.",
            remedy=f"take one from {SMALLEST_SIDE} to {LARGEST_SIDE}.",
        )
    height = round(width / aspect / 2) * 2
    if height > LARGEST_SIDE:
        raise InvalidSetting(
            field, f"{width} makes a frame {height} pixels high; at most {LARGEST_SIDE}", remedy="take a smaller one."
        )
    return width // 2 * 2, max(SMALLEST_SIDE, height)


def drawn_size(size: tuple[int, int]) -> tuple[int, int]:
    """The size at which overlays are drawn that are then made smaller: the movie's, or that of a huge picture's shape."""
    share = min(1.0, _LARGEST_DRAWN / max(size))
    return max(1, round(size[0] * share)), max(1, round(size[1] * share))


def make_sheet(plan: Plan, folder: Path, target: Path, full_size: tuple[int, int]) -> None:
    """Put small frames on a sheet, with what is drawn over the movie's made as small as they are.

    :param folder: of the frames.
    :param full_size: width and height of the movie's frames.
    """
    full_size = drawn_size(full_size)
    shrunk = min(1.0, max(_DRAWN_LONGER / max(full_size), _DRAWN_SHORTER / min(full_size)))
    size = tuple(round(side * shrunk) for side in full_size)  # 40,000 pixels a side need not be drawn for that
    full = replace(plan, specification=plan.specification.model_copy(update={"resolution": size}))
    drawing = Drawing.of(full)
    over = (drawing.over(index) for index in range(len(plan.frames))) if drawing else ()
    contact_sheet([(str(frame), folder / plan.file(frame)) for frame in plan.frames], target, over=over)
