"""Rendering frames with services that are there."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowFailException

from airflow_brayns.booking import Booking
from airflow_brayns.cluster.poller import Poller
from airflow_brayns.cluster_store import check_folder
from airflow_brayns.endpoint_supply import EndpointSupply
from airflow_brayns.errors import InvalidSetting
from airflow_brayns.movie.encode import static_ffmpeg
from airflow_brayns.movie.production import FIRST_FRAME_SECONDS, Outcome, Production
from airflow_brayns.movie.specification import MovieSpecification
from airflow_brayns.movie.store import FolderStore
from airflow_brayns.movie.way import SNAPSHOT, make_way
from airflow_brayns.operators.base import (
    BraynsOperator,
    booking_of,
    failed,
    is_set,
    started_of,
    word_list,
)
from airflow_brayns.operators.fields import check_output, is_on_cluster, read_specification, seconds_of
from airflow_brayns.operators.report import TaskReporter
from airflow_brayns.render import Rendering, files_of, place_for_frames, render_with
from airflow_brayns.settings import ClusterSettings


class RendersFrames(BraynsOperator):
    """What rendering takes.

    :param specification: the movie: path of a YAML or JSON file on the worker (its text is a template too, of plain values),
        its text, or a dict; see `airflow_brayns.movie.specification.MovieSpecification` (templated)
    :param template_values: what a file's text may use besides `params`, `ds`, `run_id`, `dag_run.conf` and the like: plain
        values by name. A file has no connections and no variables; what you give it here, whoever names a file can read (templated)
    :param way: `one-pass` or `snapshot`; None for one pass of `render-image` on services that are ours, and `snapshot` on others
        and for frames that stay on the cluster; the pictures are the same (templated)
    :param renew_before: seconds before an allocation's end at which the next one is queued, if the movie will not be done by
        then; None for no next one (templated)
    :param frame_timeout: seconds that the first frame may take; later ones have time-outs learnt from those rendered.
    :param load_timeout: seconds that a model may take to load.
    :param frames_on: `worker`: frames come over the connection; `cluster`: the services write them on the cluster's own file
        system, and a node checks them, for when no worker mounts it (templated)
    """

    template_fields: Sequence[str] = (
        *BraynsOperator.template_fields, "specification", "template_values", "way", "renew_before", "frames_on",
    )  # fmt: skip
    template_fields_renderers = {**BraynsOperator.template_fields_renderers, "specification": "yaml"}

    def __init__(
        self,
        *,
        specification: Any,
        template_values: Mapping[str, Any] | None = None,
        way: str | None = None,
        renew_before: timedelta | float | str | None = None,
        frame_timeout: timedelta | float = FIRST_FRAME_SECONDS,
        load_timeout: timedelta | float = 3600.0,
        frames_on: str = "worker",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.frames_on = frames_on
        self.specification = specification
        self.template_values = template_values
        self.way = way
        self.renew_before = renew_before
        self.frame_timeout = frame_timeout
        self.load_timeout = load_timeout

    def rendering(self, plugins: Sequence[str]) -> Rendering:
        """How it is rendered.

        :raises InvalidSetting: naming the field.
        """
        way = self.way if is_set(self.way) else None
        if way is not None and (way := make_way(way).name) != SNAPSHOT and self.on_cluster():
            raise InvalidSetting(
                "way", f"frames that stay on the cluster are written by the services, which only {SNAPSHOT} can"
            )
        return Rendering(
            tuple(plugins),
            way,
            seconds_of("renew_before", self.renew_before),
            seconds_of("frame_timeout", self.frame_timeout) or FIRST_FRAME_SECONDS,
            seconds_of("load_timeout", self.load_timeout) or 3600.0,
        )

    def movie_of(self, context: Context) -> str:
        """Whose frames these are: this task of this run, whichever try."""
        ti = context["ti"]
        return f"{ti.dag_id}/{ti.run_id}/{ti.task_id}/{-1 if ti.map_index is None else ti.map_index}"

    def driver(self, context: Context) -> str:
        """Token of this process: another one for each, also where the same try goes on in another process."""
        return f"{str(context['ti'].id)[:18]}-{secrets.token_hex(4)}"

    def on_cluster(self) -> bool:
        """Whether frames stay on the cluster.

        :raises InvalidSetting: naming the field.
        """
        return is_on_cluster(self.frames_on)

    async def render(
        self,
        context: Context,
        poller: Poller,
        settings: ClusterSettings,
        booking: Booking,
        specification: MovieSpecification,
        folder: str,
        how: Rendering,
        files: str,
        about: str,
    ) -> Outcome:
        """Every frame that is left.

        :param about: what follow-up allocations are for.
        """
        driver = self.driver(context)
        ffmpeg = await poller.cluster.install(Path(static_ffmpeg())) if self.on_cluster() else ""
        return await render_with(
            poller,
            settings,
            booking,
            specification,
            place_for_frames(poller.cluster, folder, ffmpeg, self.movie_of(context), driver),
            TaskReporter(self.log, context),
            how,
            driver=driver,
            owner=self.token(context),
            about=about,
            log=self.log,
            files=files,
            movie=self.movie_of(context),
        )


class RenderFramesOperator(RendersFrames):
    """Renders what is left of a movie's frames with all services of an allocation, a file each. Returns the folder.

    Each service takes the next frame as it is free and joins as it becomes usable. A retry goes on from the frames that are
    whole; a changed specification renders again what it changes.

    :param frames_dir: folder on the worker for the frames, `00000.png` and so on, and their manifest (templated)
    :param allocation: what the services run in (XCom key `allocation`, or what `StartBraynsServiceOperator` returned) (templated)
    :param endpoints: where there is no allocation: `host:port` of services. They may not be ours alone and cannot be started
        anew, so frames are rendered by `snapshot`. What is in them is taken out first. A service is rendered with by one movie
        at a time: another one waits until it is free, and its log says for whom; so do movies that share an `allocation`. A
        person's session, or an Airflow with another `state_dir`, cannot be known (templated)
    :param deferrable: with `frames_on="cluster"`, render from the triggerer, without a worker slot.
    """

    template_fields: Sequence[str] = (*RendersFrames.template_fields, "frames_dir", "allocation", "endpoints")

    def __init__(
        self, *, frames_dir: str, allocation: Any = None, endpoints: Any = None, deferrable: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.frames_dir = frames_dir
        self.allocation = allocation
        self.endpoints = endpoints
        self.deferrable = deferrable

    def execute(self, context: Context) -> str:
        """Render, here or in the triggerer."""
        settings = self.read_settings()
        try:
            specification = read_specification(self, self.specification, context)
            on_cluster = self.on_cluster()
            if on_cluster:
                folder = check_folder(str(self.frames_dir))
            else:
                folder = str(check_output(str(Path(self.frames_dir) / "frame"), "frames_dir").parent)
            booking = booking_of(self.allocation) if is_set(self.allocation) else None
            plugins = started_of(self.allocation).get("plugins") or [] if booking else []
            how = self.rendering(plugins)
            endpoints = word_list("endpoints", self.endpoints)
            if booking is None and (on_cluster or not endpoints):
                others = "" if on_cluster else ", or endpoints"
                raise InvalidSetting("allocation", f"give the allocation to render with{others}")
            if booking is None and how.way not in (None, SNAPSHOT):
                raise InvalidSetting(
                    "way",
                    f"services given by `endpoints` may not be ours alone, so they render by {SNAPSHOT} only; leave it out",
                )
            if self.deferrable and not on_cluster:
                raise InvalidSetting(
                    "deferrable",
                    "images must not go through the triggerer: use it with frames_on='cluster', or leave it out",
                )
        except InvalidSetting as error:
            raise AirflowFailException(str(error)) from error
        if self.deferrable and booking is not None:
            self._defer(context, settings, specification, booking, folder, how)

        about = self.about(context)  # asks Airflow, so it comes before the loop

        async def main() -> Outcome:
            if booking is None:
                return await self._render_at(context, settings, endpoints, specification, Path(folder), how)
            async with self.hook.connect(settings) as poller:
                files = await files_of(poller.cluster, specification)
                return await self.render(context, poller, settings, booking, specification, folder, how, files, about)

        outcome = self.block(main())
        self.log.info("%d frames rendered, %d were there: %s", outcome.rendered, len(outcome.survey.done), folder)
        return folder

    def _defer(
        self,
        context: Context,
        settings: ClusterSettings,
        specification: MovieSpecification,
        booking: Booking,
        folder: str,
        how: Rendering,
    ) -> None:
        from airflow_brayns.triggers.movie import RenderFramesTrigger  # as in operators.cluster

        async def prepare() -> tuple[str, str]:
            async with self.hook.connect(settings) as poller:
                ffmpeg = await poller.cluster.install(Path(static_ffmpeg()))
                return ffmpeg, await files_of(poller.cluster, specification)

        ffmpeg, files = self.block(prepare())
        self.defer(
            trigger=RenderFramesTrigger(
                cluster_conn_id=self.cluster_conn_id,
                overrides=self.plain_overrides,
                booking=booking.to_json(),
                specification=specification.plain(),
                folder=folder,
                ffmpeg=ffmpeg,
                files=files,
                rendering=asdict(how),
                movie=self.movie_of(context),
                owner=self.token(context),
                about=self.about(context),
                deferred_at=self.now(),
            ),
            method_name="resume",
            timeout=self.execution_timeout,
        )

    def resume(self, context: Context, event: dict[str, Any]) -> str:
        """Comes back from the triggerer."""
        if event["status"] != "success":
            failed(event["message"], retry=event["retry"])
        self.log.info("%d frames rendered, %d were there: %s", event["rendered"], event["done"], event["folder"])
        return str(event["folder"])

    async def _render_at(
        self,
        context: Context,
        settings: ClusterSettings,
        endpoints: list[str],
        specification: MovieSpecification,
        folder: Path,
        how: Rendering,
    ) -> Outcome:
        """With services that somebody else looks after."""
        driver, movie = self.driver(context), self.movie_of(context)
        supply = EndpointSupply(self.hook, settings, endpoints, token=driver, by=movie, log=self.log)
        async with supply:
            return await Production(
                specification, supply, FolderStore(folder, movie, driver), TaskReporter(self.log, context), way=how.way,
                frame_timeout=how.frame_timeout, load_timeout=how.load_timeout,
            ).run()  # fmt: skip
