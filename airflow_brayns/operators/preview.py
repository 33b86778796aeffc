"""The operator that shows what a movie will look like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from airflow.sdk import Context, conf

from airflow_brayns.errors import InvalidSetting
from airflow_brayns.links import keys
from airflow_brayns.links.cluster import SlurmJobLink
from airflow_brayns.operators.frames import RendersFrames
from airflow_brayns.rendering.preview import preview_movie, small_movie
from airflow_brayns.rendering.render import RenderRequest, booking_for_movie
from airflow_brayns.services.booking import BookingRequest
from airflow_brayns.task.fields import is_set, whole_number, word_list
from airflow_brayns.task.guard import guarded
from airflow_brayns.task.handover import announce
from airflow_brayns.task.movie_fields import check_output, read_specification
from airflow_brayns.task.report import TaskReporter

_ENDINGS = (".jpg", ".png")


class PreviewMovieOperator(RendersFrames):
    """Renders a few small, quick frames of a movie with one node, which is given back, and puts them on a contact sheet.

    Returns the sheet's path. XCom `brayns_preview` has `contact_sheet`, its path, and `picture`, the address under which
    Airflow shows it where the API server has the file; so a person can look at it before the movie costs, as in an
    `ApprovalOperator` whose `body` is ``![preview]({{ ti.xcom_pull(task_ids='preview', key='brayns_preview')['picture'] }})``.
    Fields for which such frames need nothing, such as ``renew_before`` and ``frames_on``, are passed over.

    :param output_file: the sheet's file on the worker, `.jpg` or `.png`; None for one beside the specification's output
        (templated)
    :param frames: how many frames; default 12 (templated)
    :param width: of a frame in pixels; default 320 (templated)
    :param plugins: names of the plugins to load; default `braynsCircuitExplorer` (templated)
    """

    template_fields: Sequence[str] = (*RendersFrames.template_fields, "output_file", "frames", "width", "plugins")
    operator_extra_links = (SlurmJobLink(),)
    allocates = True

    def __init__(
        self,
        *,
        output_file: str | None = None,
        frames: int | str = 12,
        width: int | str = 320,
        plugins: Sequence[str] | str = ("braynsCircuitExplorer",),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.output_file = output_file
        self.frames = frames
        self.width = width
        self.plugins = plugins

    def bookings(self) -> list[BookingRequest]:
        """See `BraynsOperator.bookings`."""
        return [booking_for_movie(self.read_settings(), 1, word_list("plugins", self.plugins))]

    @guarded
    def execute(self, context: Context) -> str:
        """Render the sheet, and return its path."""
        request, target, full_size = self._read(context)
        reporter, settings = TaskReporter(self.log, context), self.read_settings()

        async def main() -> None:
            async with self.hook.session(self.log) as session:
                await preview_movie(
                    session, request, target, full_size, reporter,
                    lambda booking: announce(self, context, booking, settings),
                )  # fmt: skip

        self.block(main())
        self.log.info("Frames of the movie: %s", target)
        told = {"contact_sheet": str(target), "picture": _picture(context["ti"])}
        context["ti"].xcom_push(key=keys.PREVIEW, value=told)
        return str(target)

    def _read(self, context: Context) -> tuple[RenderRequest, Path, tuple[int, int]]:
        """Read the fields: the request to render, the sheet's file, and the size of the movie's frames.

        :raises InvalidSetting: a value cannot work; the error names the field.
        """
        specification = read_specification(self, self.specification, context)
        frames = whole_number("frames", self.frames)
        if frames < 1:
            raise InvalidSetting("frames", f"{frames} is none.", remedy="ask for at least 1.")
        small = small_movie(specification, whole_number("width", self.width))
        beside = Path(specification.output).with_suffix(".preview.jpg")
        target = check_output(str(self.output_file if is_set(self.output_file) else beside))
        if target.suffix.lower() not in _ENDINGS:
            raise InvalidSetting("output_file", f"{target.name} does not.", remedy="end it in .jpg or .png.")
        for asked in self.bookings():
            asked.jobs()  # what cannot work fails here
        request = self.request(context, small, "", word_list("plugins", self.plugins))
        how = replace(request.how, sample=frames, renew_before=None, way=None)
        return replace(request, how=how), target, specification.resolution


def _picture(ti: Any) -> str:
    """The address of what a task has recorded as its preview, in Airflow's own pages."""
    task = {"dag_id": ti.dag_id, "run_id": ti.run_id, "task_id": ti.task_id, "map_index": ti.map_index}
    base = conf.get("api", "base_url", fallback="") or ""
    return f"{base.rstrip('/')}/brayns/movies/preview?{urlencode(task)}"
