"""The operator that estimates what a movie takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow.sdk import Context

from airflow_brayns.errors import InvalidSetting
from airflow_brayns.links.cluster import SlurmJobLink
from airflow_brayns.movie.estimate import Estimate
from airflow_brayns.operators.frames import RendersFrames
from airflow_brayns.rendering.estimate import estimate_movie
from airflow_brayns.rendering.render import RenderRequest, booking_for_movie
from airflow_brayns.services.booking import BookingRequest
from airflow_brayns.task.fields import whole_number, word_list
from airflow_brayns.task.guard import guarded
from airflow_brayns.task.handover import announce
from airflow_brayns.task.movie_fields import read_specification
from airflow_brayns.task.report import TaskReporter


class EstimateMovieOperator(RendersFrames):
    """Renders three frames of a movie in full quality with one node, which is given back, and returns what the whole
    movie takes.

    The three are the middle ones of the movie's thirds. Returns a dict: ``nodes``, a list with a dict for each number of nodes
    (``nodes``, ``hours``, ``node_hours``, ``frames``, ``frame_seconds``, each but ``nodes`` and ``frames`` with ``…_low`` and ``…_high``,
    which the quickest and the slowest of the three make it; ``start_seconds`` and ``load_seconds``, which each node takes first), ``sample``,
    ``service`` and ``way``. The queue, faults and encoding are not in it. Fields for which three frames need nothing, such as
    ``renew_before``, are passed over.

    :param nodes: the numbers of nodes to tell it for, such as ``[1, 4, 16]`` or ``"1,4,16"``; default 1 (templated)
    :param plugins: names of the plugins to load; default `braynsCircuitExplorer` (templated)
    """

    template_fields: Sequence[str] = (*RendersFrames.template_fields, "nodes", "plugins")
    operator_extra_links = (SlurmJobLink(),)
    allocates = True

    def __init__(
        self,
        *,
        nodes: int | str | Sequence[int] = 1,
        plugins: Sequence[str] | str = ("braynsCircuitExplorer",),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.nodes = nodes
        self.plugins = plugins

    def bookings(self) -> list[BookingRequest]:
        """See `BraynsOperator.bookings`."""
        return [booking_for_movie(self.read_settings(), 1, word_list("plugins", self.plugins))]

    @guarded
    def execute(self, context: Context) -> dict[str, Any]:
        """Render the sample, and return what the whole movie takes."""
        numbers, request = self._read(context)
        reporter, settings = TaskReporter(self.log, context), self.read_settings()

        async def main() -> Estimate:
            async with self.hook.session(self.log) as session:
                return await estimate_movie(
                    session, request, reporter, lambda booking: announce(self, context, booking, settings)
                )

        found = self.block(main())
        self.log.info("%s", found.text(numbers))
        return found.plain(numbers)

    def _read(self, context: Context) -> tuple[list[int], RenderRequest]:
        """Read the fields: the numbers of nodes, and the movie.

        :raises InvalidSetting: a value cannot work; the error names the field.
        """
        given = self.nodes.replace(",", " ").split() if isinstance(self.nodes, str) else self.nodes
        numbers = sorted({whole_number("nodes", one) for one in ([given] if isinstance(given, int) else given)})
        if not numbers or numbers[0] < 1:
            raise InvalidSetting(
                "nodes", f"{self.nodes!r} has none, or one below 1.", remedy="give at least one number."
            )
        specification = read_specification(self, self.specification, context)
        for asked in self.bookings():
            asked.jobs()  # what cannot work fails here
        return numbers, self.request(context, specification, "", word_list("plugins", self.plugins))
