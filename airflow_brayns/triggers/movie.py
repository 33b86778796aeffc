"""The trigger that renders, for movies of many hours whose frames stay on the cluster."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import TriggerEvent

from airflow_brayns.cluster.owner import Owner
from airflow_brayns.errors import BraynsError, InvalidSetting
from airflow_brayns.hooks.cluster import BraynsClusterHook
from airflow_brayns.movie.script import script_of, specification_of
from airflow_brayns.movie.specification import MovieSpecification
from airflow_brayns.rendering.render import Rendering, RenderRequest, render_with
from airflow_brayns.services.booking import Booking
from airflow_brayns.task.report import TaskReporter
from airflow_brayns.triggers.base import BraynsTrigger
from airflow_brayns.triggers.events import failed, safe_events


def read_told(value: dict[str, Any]) -> MovieSpecification:
    """Read the specification that a task has handed on.

    :raises InvalidSetting: it is none; or its scene is Python, which never runs in the triggerer, beside all others.
    """
    found = specification_of(value)
    if script_of(found) is not None:
        raise InvalidSetting(
            "deferrable", "a movie's Python runs in a worker, never in the triggerer.", remedy="leave it out."
        )
    return found


class RenderFramesTrigger(BraynsTrigger):
    """Renders what is left of a movie. Only small messages pass, since the services write the frames on the cluster
    themselves.

    When a triggerer dies, another one goes on from the manifest; it waits until the one before has certainly stopped
    (see `airflow_brayns.rendering.service_pool`).

    :param cluster_conn_id: the id of the cluster's connection.
    :param overrides: fields of the connection to which the task gives other values.
    :param booking: the booking to render with, as `Booking.to_json()` gives it.
    :param specification: the movie's specification, as `MovieSpecification.plain()` gives it.
    :param folder: the folder on the cluster that frames go to.
    :param ffmpeg: the path of an ffmpeg on the cluster's nodes.
    :param files: size and time of the models' files, see `RenderRequest`.
    :param rendering: the options of the rendering, as `Rendering.to_json()` gives them.
    :param movie: the movie whose frames these are.
    :param owner: the token of the task.
    :param about: the note for follow-up allocations.
    :param deferred_at: this, and ``newer``: see `BraynsTrigger`.
    """

    fields_of = {**BraynsTrigger.fields_of, "rendering": Rendering.names()}

    def __init__(
        self,
        *,
        cluster_conn_id: str,
        overrides: dict[str, Any],
        booking: dict[str, Any],
        specification: dict[str, Any],
        folder: str,
        ffmpeg: str,
        files: str,
        rendering: dict[str, Any],
        movie: str,
        owner: str,
        about: str,
        deferred_at: str | None = None,
        **newer: Any,
    ) -> None:
        super().__init__(deferred_at, newer)
        self.cluster_conn_id = cluster_conn_id
        self.overrides = overrides
        self.booking = booking
        self.specification = specification
        self.folder = folder
        self.ffmpeg = ffmpeg
        self.files = files
        self.rendering = rendering
        self.movie = movie
        self.owner = owner
        self.about = about

    @safe_events
    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Render, and yield one event: `success` with the numbers of frames, or `error` with the reason and whether a
        retry can help.
        """
        reporter = TaskReporter(self.log)
        hook = BraynsClusterHook(self.cluster_conn_id, self.overrides, quiet=True)
        try:
            self.check_known()
            booking = Booking.from_json(self.booking)
            owner = Owner(booking.name, self.owner, self.about, self.movie)
            request = RenderRequest(
                read_told(self.specification), self.folder, Rendering.from_json(self.rendering), owner,
                on_cluster=True, ffmpeg=self.ffmpeg, files=self.files,
            )  # fmt: skip
            async with hook.session(self.log) as session:
                outcome = await render_with(session, booking, request, reporter)
        except BraynsError as error:
            event = failed(error)
        else:
            numbers = {"rendered": outcome.rendered, "done": len(outcome.survey.done), "folder": self.folder}
            event = {"status": "success", **numbers}
        if reporter.told_used is not None:
            event["used"] = reporter.told_used
        await self.hold()
        yield TriggerEvent(event)
