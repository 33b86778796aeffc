"""The trigger that renders: for movies of many hours whose frames stay on the cluster."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_brayns.booking import Booking
from airflow_brayns.errors import BraynsError
from airflow_brayns.hooks.cluster import BraynsClusterHook
from airflow_brayns.movie.specification import MovieSpecification
from airflow_brayns.operators.report import TaskReporter
from airflow_brayns.render import Rendering, place_for_frames, render_with
from airflow_brayns.triggers.events import safe_events
from airflow_brayns.triggers.service import deferral, hold, path_of

_FIELDS = (
    "cluster_conn_id", "overrides", "booking", "specification", "folder", "ffmpeg", "files", "rendering", "movie", "owner",
    "about",
)  # fmt: skip


class RenderFramesTrigger(BaseTrigger):
    """Renders what is left of a movie. Only small messages pass: the services write the frames on the cluster themselves.

    A triggerer that dies goes on elsewhere from the manifest: the one that comes waits until the one before has certainly
    stopped (see `airflow_brayns.crew`).

    :param cluster_conn_id: the cluster.
    :param overrides: fields of the connection with other values.
    :param booking: `Booking.to_json()`.
    :param specification: `MovieSpecification.plain()`.
    :param folder: where frames go, on the cluster.
    :param ffmpeg: path of an ffmpeg on its nodes.
    :param files: see `render.files_of`.
    :param rendering: `Rendering` as plain values.
    :param movie: whose frames these are.
    :param owner: token of the task.
    :param about: what follow-up allocations are for.
    :param deferred_at: when the task deferred, ISO 8601; None from an older version.
    """

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
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.cluster_conn_id = cluster_conn_id
        self.overrides = overrides
        self.booking = booking
        self.specification = specification
        self.folder = folder
        self.ffmpeg = ffmpeg
        self.files = files
        self.rendering = {**rendering, "plugins": list(rendering["plugins"])}
        self.movie = movie
        self.owner = owner
        self.about = about
        self.deferred_at = deferred_at

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """See `BaseTrigger.serialize`."""
        return path_of(self), {name: getattr(self, name) for name in _FIELDS} | deferral(self.deferred_at)

    @safe_events
    async def run(self) -> AsyncIterator[TriggerEvent]:
        """One event: `success` with the numbers, or `error` with why not and whether a retry can help."""
        hook = BraynsClusterHook(self.cluster_conn_id, self.overrides)
        how = Rendering(**{**self.rendering, "plugins": tuple(self.rendering["plugins"])})
        driver = f"{self.owner[:18]}-{secrets.token_hex(4)}"
        try:
            settings = await hook.asettings()
            async with hook.connect(settings) as poller:
                outcome = await render_with(
                    poller,
                    settings,
                    Booking.from_json(self.booking),
                    MovieSpecification.check(self.specification),
                    place_for_frames(poller.cluster, self.folder, self.ffmpeg, self.movie, driver),
                    TaskReporter(self.log),
                    how,
                    driver=driver,
                    owner=self.owner,
                    about=self.about,
                    log=self.log,
                    files=self.files,
                    movie=self.movie,
                )
        except BraynsError as error:
            event: dict[str, Any] = {"status": "error", "message": str(error), "retry": error.retry}
        else:
            numbers = {"rendered": outcome.rendered, "done": len(outcome.survey.done), "folder": self.folder}
            event = {"status": "success", **numbers}
        await hold(self.deferred_at)
        yield TriggerEvent(event)
