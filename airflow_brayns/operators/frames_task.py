"""The decorator `@task.brayns_frames`, which makes a movie's frames of a Python function."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from airflow.providers.common.compat.sdk import DecoratedOperator, TaskDecorator, task_decorator_factory
from airflow.sdk import Context

from airflow_brayns.brayns.official import official_client
from airflow_brayns.errors import InvalidSetting
from airflow_brayns.movie.script import Functions, ScriptSource, ScriptSpecification
from airflow_brayns.movie.script_digest import inputs_of, modules_of, parse
from airflow_brayns.movie.script_file import SETTINGS, functions_of, plain_setting
from airflow_brayns.operators.frames import RenderFramesOperator
from airflow_brayns.task.file_values import values_for
from airflow_brayns.task.guard import guarded
from airflow_brayns.task.movie_fields import template_values_of


@dataclass(frozen=True)
class GivenFunctions:
    """The functions of a DAG's file, which all services share. See `Script`."""

    functions: Functions
    folder: str
    name: str

    def load(self) -> Functions:
        """See `Script.load`."""
        return self.functions


class _FramesDecoratedOperator(DecoratedOperator, RenderFramesOperator):
    """Renders the frames that the function tells. Returns the folder.

    :param settings: the specification's fields, such as `frames` (templated)
    :param inputs: paths of data files that the pictures depend on (templated)
    """

    template_fields: Sequence[str] = (
        *DecoratedOperator.template_fields, *RenderFramesOperator.template_fields, "settings", "inputs",
    )  # fmt: skip
    template_fields_renderers = {
        **DecoratedOperator.template_fields_renderers,
        **RenderFramesOperator.template_fields_renderers,
    }
    custom_operator_name = "@task.brayns_frames"

    def __init__(
        self,
        *,
        scene: Callable[..., Any] | None = None,
        inputs: Sequence[str] = (),
        python_callable: Callable[..., Any],
        op_args: Collection[Any] | None = None,
        op_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if op_args:
            raise TypeError(
                "give further arguments of the frame function by name: service and number come by themselves"
            )
        settings = {name: kwargs.pop(name) for name in SETTINGS if name in kwargs}
        # Airflow checks at parse time that every argument is bound; these stand in for the service and the number.
        super().__init__(
            python_callable=python_callable, op_args=(None, None), op_kwargs=op_kwargs, specification=None, **kwargs
        )
        self.settings, self.inputs, self.scene = settings, inputs, scene

    @guarded
    def execute(self, context: Context) -> Any:
        """Render, and return the folder."""
        official_client()
        self.specification, self.script = self._movie(context)
        return RenderFramesOperator.execute(self, context)

    def _movie(self, context: Context) -> tuple[ScriptSpecification, GivenFunctions]:
        file = Path(inspect.getsourcefile(inspect.unwrap(self.python_callable)) or "").absolute()
        values = {**values_for(context, template_values_of(self)), **self.op_kwargs}
        functions = functions_of(file.name, self.python_callable, self.scene, values)
        inputs = tuple(str(file.parent / one) for one in self.inputs)
        source = ScriptSource(
            file=str(file),
            arguments={**functions.for_scene, **functions.for_frame},
            digests={**modules_of(file, parse(file.read_bytes(), file.name)), **inputs_of(map(Path, inputs))},
            inputs=inputs,
        )
        if "frames" not in self.settings:
            raise InvalidSetting("frames", "There is none.", remedy="say how many, @task.brayns_frames(frames=250).")
        settings = {name: plain_setting(value) for name, value in self.settings.items()}
        found = ScriptSpecification.check({**settings, "script": source.plain(file.name)}, file.name)
        return cast(ScriptSpecification, found), GivenFunctions(functions, str(file.parent), file.name)


def brayns_frames_task(python_callable: Callable[..., Any] | None = None, **kwargs: Any) -> TaskDecorator:
    """Make a task of a function that says what a frame is: `frame(service, number)`, which returns a `brayns.Camera`, a
    `brayns.Snapshot` or None.

    The service is a `brayns.Instance`; give the function's further arguments by name where you call it. They may come
    from other tasks, and from `params` where they are not given.

    :param frames: how many; `fps`, `resolution`, `format`, `quality`, `renderer`, `codec`, `crf`, `output`, `frame_range`
        are as in a specification (templated)
    :param scene: a function that makes the scene, once on each service: `scene(service)`; None for an empty one.
    :param inputs: paths of data files that the pictures depend on (templated)
    :param kwargs: as for `RenderFramesOperator`: `frames_dir`, `allocation` and so on, and any argument of a task.
    """
    return task_decorator_factory(
        python_callable=python_callable, decorated_operator_class=_FramesDecoratedOperator, **kwargs
    )
