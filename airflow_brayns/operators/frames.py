"""The operator that renders frames with services that are there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import Context

from airflow_brayns.errors import BraynsError, InvalidSetting
from airflow_brayns.movie.production import FIRST_FRAME_SECONDS, Outcome
from airflow_brayns.movie.render_call import SNAPSHOT, make_call
from airflow_brayns.movie.script import Script
from airflow_brayns.movie.specification import MovieSpecification
from airflow_brayns.rendering.frames_script import check_folder
from airflow_brayns.rendering.render import Rendering, RenderRequest, render_at, render_with
from airflow_brayns.services.booking import Booking
from airflow_brayns.task.fields import booking_of, is_set, node_hours_of, seconds_of, started_of, word_list
from airflow_brayns.task.guard import guarded
from airflow_brayns.task.movie_fields import check_output, is_on_cluster, read_specification
from airflow_brayns.task.operator import BraynsOperator
from airflow_brayns.task.report import TaskReporter, push_used


class RendersFrames(BraynsOperator):
    """The part of a movie's operator that renders.

    :param specification: the movie's specification: the path of a YAML or JSON file on the worker (its text is a
        template too, of plain values), its text, or a dict; see `airflow_brayns.movie.specification.MovieSpecification`.
        Or the path of a Python file with `scene` and `frame`. A path without a template is yours; one that a run or
        another task fills in must lie in the DAG bundle's folder or in `[brayns] script_folders` (templated)
    :param template_values: plain values by name that a file's text may use besides `params`, `ds`, `run_id`,
        `dag_run.conf` and the like. A file has no connections and no variables; what you give it here, whoever names a
        file can read. The functions of a Python file take them, and `params`, as further arguments (templated)
    :param way: the way to ask for a frame, `one-pass` or `snapshot`; None for one pass of `render-image` on services
        that are ours, and `snapshot` on others and for frames that stay on the cluster; the pictures are the same
        (templated)
    :param renew_before: seconds before an allocation's end at which the next one is queued, if the movie will not be
        done by then; None for no next one (templated)
    :param frame_timeout: seconds that the first frame may take, default 1800; later ones have time-outs learnt from
        those rendered. Of a Python file, also the seconds that the function `frame` may take, each time.
    :param load_timeout: seconds that a model may take to load, or a Python file's function `scene`; default 3600.
    :param budget: the node-hours that rendering may use in all tries of this task of this run; then no further frame is
        begun, what is whole stays, and the task fails without a retry: cleared with a larger one it goes on. None for the
        specification's `budget` (templated)
    :param frames_on: `worker`: frames come over the connection; `cluster`: the services write them on the cluster's own
        file system, and a node checks them, for when no worker mounts it (templated)
    """

    template_fields: Sequence[str] = (
        *BraynsOperator.template_fields, "specification", "template_values", "way", "renew_before", "budget",
        "frames_on",
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
        budget: float | str | None = None,
        frames_on: str = "worker",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.frames_on = frames_on
        self.specification = specification
        self.written = specification  # before it is templated: whose Python it is
        self.script: Script | None = None
        self.template_values = template_values
        self.way = way
        self.renew_before = renew_before
        self.frame_timeout = frame_timeout
        self.load_timeout = load_timeout
        self.budget = budget

    def rendering(self, plugins: Sequence[str]) -> Rendering:
        """The options of the rendering.

        :raises InvalidSetting: a value cannot work; the error names the field.
        """
        way = self.way if is_set(self.way) else None
        if way is not None and (way := make_call(way).name) != SNAPSHOT and self.on_cluster():
            raise InvalidSetting(
                "way",
                f"frames that stay on the cluster are written by the services, which only {SNAPSHOT} can",
                remedy=f"set it to {SNAPSHOT}, or leave it out.",
            )
        return Rendering(
            tuple(plugins),
            way,
            seconds_of("renew_before", self.renew_before),
            seconds_of("frame_timeout", self.frame_timeout) or FIRST_FRAME_SECONDS,
            seconds_of("load_timeout", self.load_timeout) or 3600.0,
            node_hours_of("budget", self.budget),
        )

    def on_cluster(self) -> bool:
        """Tell whether frames stay on the cluster.

        :raises InvalidSetting: `frames_on` is neither `worker` nor `cluster`.
        """
        return is_on_cluster(self.frames_on)

    def folder_of(self, frames_dir: str) -> str:
        """The folder that frames go to.

        :raises InvalidSetting: frames cannot be written there.
        """
        if self.on_cluster():
            return check_folder(frames_dir)
        return str(check_output(str(Path(frames_dir) / "frame"), "frames_dir").parent)

    def request(
        self, context: Context, specification: MovieSpecification, folder: str, plugins: Sequence[str]
    ) -> RenderRequest:
        """The request to render, which is the same for every try of this task of this run.

        :raises InvalidSetting: a value cannot work; the error names the field.
        """
        if specification.tiles is not None and self.on_cluster():
            raise InvalidSetting(
                "frames_on",
                "tiles are joined on the worker, where their files must be.",
                remedy="leave it at worker, or leave `tiles` out of the specification.",
            )
        return RenderRequest(
            specification,
            folder,
            self.rendering(plugins),
            self.owner_of(context),
            on_cluster=self.on_cluster(),
            script=self.script,
        )


class RenderFramesOperator(RendersFrames):
    """Renders what is left of a movie's frames with all services of an allocation, one file each. Returns the folder.

    Each service takes the next frame as it is free and joins as it becomes usable. A retry goes on from the frames that
    are whole; a changed specification renders again what it changes.

    :param frames_dir: the folder on the worker for the frames, `00000.png` and so on, and their manifest (templated)
    :param allocation: the allocation that the services run in (XCom key `allocation`, or what
        `StartBraynsServiceOperator` returned) (templated)
    :param endpoints: `host:port` of services, where there is no allocation. They may not be ours alone and cannot be
        started anew, so frames are rendered by `snapshot`. Their scenes are emptied first. One movie at a time renders
        with a service: another one waits until it is free, and its log says for whom; so do movies that share an
        `allocation`. A person's session, or an Airflow with another `state_dir`, cannot be known (templated)
    :param deferrable: whether to render from the triggerer, without a worker slot, which needs `frames_on="cluster"`;
        default False.
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

    @guarded
    def execute(self, context: Context) -> str:
        """Render, here or in the triggerer, and return the folder."""
        self.read_settings()
        request, booking, endpoints = self._read(context)
        if self.deferrable and booking is not None:
            if request.functions is None:
                self._defer(request, booking)
            self.log.info("A movie's Python never runs in the triggerer: this task renders here, in its worker.")
        reporter = TaskReporter(self.log, context, "" if request.on_cluster else request.folder)

        async def main() -> Outcome:
            async with self.hook.session(self.log) as session:
                if booking is None:
                    return await render_at(session, endpoints, request, reporter)
                return await render_with(session, booking, await request.prepared(session.cluster), reporter)

        outcome = self.block(main())
        return self._rendered(outcome.rendered, len(outcome.survey.done), request.folder)

    def _read(self, context: Context) -> tuple[RenderRequest, Booking | None, list[str]]:
        """Read the fields: the request to render, and the booking or the endpoints to render with.

        :raises InvalidSetting: a value cannot work; the error names the field.
        """
        specification = read_specification(self, self.specification, context)
        folder = self.folder_of(str(self.frames_dir))
        booking = booking_of(self.allocation) if is_set(self.allocation) else None
        plugins = started_of(self.allocation).get("plugins") or [] if booking else []
        request = self.request(context, specification, folder, plugins)
        endpoints = word_list("endpoints", self.endpoints)
        if booking is None and (request.on_cluster or not endpoints):
            others = "" if request.on_cluster else ", or endpoints"
            raise InvalidSetting("allocation", f"give the allocation to render with{others}")
        if booking is None and request.how.way not in (None, SNAPSHOT):
            raise InvalidSetting(
                "way",
                f"services given by `endpoints` may not be ours alone, so they render by {SNAPSHOT} only.",
                remedy="leave it out.",
            )
        if self.deferrable and not request.on_cluster and request.functions is None:
            raise InvalidSetting(
                "deferrable",
                "images must not go through the triggerer.",
                remedy="use it with frames_on='cluster', or leave it out.",
            )
        return request, booking, endpoints

    def _defer(self, request: RenderRequest, booking: Booking) -> None:
        from airflow_brayns.triggers.movie import RenderFramesTrigger  # imported on use, as in operators.cluster

        async def prepare() -> RenderRequest:
            async with self.hook.session(self.log) as session:
                return await request.prepared(session.cluster)

        prepared = self.block(prepare())
        self.defer(
            trigger=RenderFramesTrigger(
                cluster_conn_id=self.cluster_conn_id,
                overrides=self.plain_overrides,
                booking=booking.to_json(),
                specification=prepared.specification.plain(),
                folder=prepared.folder,
                ffmpeg=prepared.ffmpeg,
                files=prepared.files,
                rendering=prepared.how.to_json(),
                movie=prepared.owner.movie,
                owner=prepared.owner.token,
                about=prepared.owner.about,
                deferred_at=self.deferral(),
            ),
            method_name="resume",
            timeout=self.execution_timeout,
        )

    @guarded
    def resume(self, context: Context, event: dict[str, Any]) -> str:
        """Go on when the trigger's event has come."""
        if used := event.get("used"):
            push_used(context["ti"], used, self.log)
        if event["status"] != "success":
            raise BraynsError.from_json(event)
        return self._rendered(event["rendered"], event["done"], event["folder"])

    def _rendered(self, number: int, there: int, folder: str) -> str:
        self.log.info("%d frames rendered, %d were there: %s", number, there, folder)
        return folder
