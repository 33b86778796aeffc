"""The decorator `@task.brayns`, which hands a Python function a connected client."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, cast

from airflow.providers.common.compat.sdk import (
    DecoratedOperator,
    KeywordParameters,
    TaskDecorator,
    task_decorator_factory,
)
from airflow.sdk import Context

from airflow_brayns.brayns.official import official_client
from airflow_brayns.errors import InvalidSetting
from airflow_brayns.hooks.endpoint import open_endpoint
from airflow_brayns.task.fields import word_list
from airflow_brayns.task.guard import guarded
from airflow_brayns.task.operator import BraynsOperator

ARGUMENT, ENDPOINT = "client", "endpoint"


class _BraynsDecoratedOperator(DecoratedOperator, BraynsOperator):
    """Runs the function with `client`, a `brayns.Instance` connected to the endpoint.

    :param endpoint: `host:port`, or a list of which each mapped instance takes the next (templated)
    """

    template_fields: Sequence[str] = (*DecoratedOperator.template_fields, *BraynsOperator.template_fields, "endpoint")
    template_fields_renderers = {
        **DecoratedOperator.template_fields_renderers,
        **BraynsOperator.template_fields_renderers,
    }
    custom_operator_name = "@task.brayns"

    def __init__(
        self,
        *,
        endpoint: Any = None,
        python_callable: Callable[..., Any],
        op_args: Collection[Any] | None = None,
        op_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        # Airflow checks at parse time that every argument is bound; this one stands in for the client, which is bound
        # when the task runs.
        super().__init__(
            python_callable=python_callable, op_args=op_args, op_kwargs={ARGUMENT: None, **(op_kwargs or {})}, **kwargs
        )
        self.endpoint = endpoint

    @guarded
    def execute(self, context: Context) -> Any:
        """Connect to the service, through a tunnel where its route needs one, and call the function."""
        brayns = official_client()
        with open_endpoint(self._endpoint(context), self.cluster_conn_id, **self.overrides) as near:
            client = brayns.Connector(near, max_attempts=3, attempt_period=1.0).connect()
            try:
                values = {**context, **self.op_kwargs, ARGUMENT: client}
                keywords = KeywordParameters.determine(self.python_callable, self.op_args, values).unpacking()
                return self._handle_output(self.python_callable(*self.op_args, **keywords))
            finally:
                with contextlib.suppress(Exception):  # the connection may have broken already
                    client.disconnect()

    def _endpoint(self, context: Context) -> str:
        """Tell the service that this instance works with: its own of `expand(endpoint=…)`, or the next of a list.

        :raises InvalidSetting: none was given.
        """
        own = self.op_kwargs.get(ENDPOINT) if getattr(self.python_callable, _GIVEN, False) else None
        endpoints = word_list(ENDPOINT, self.endpoint if own is None else own)
        if not endpoints:
            raise InvalidSetting(
                ENDPOINT,
                "none is given.",
                remedy="write @task.brayns(endpoint=service.output), or .expand(endpoint=…).",
            )
        ti = context.get("ti")
        chosen = endpoints[max(0, getattr(ti, "map_index", None) or 0) % len(endpoints)]
        if len(endpoints) > 1:
            self.log.info("Works with %s, one of %d services.", chosen, len(endpoints))
        return chosen


_GIVEN = "_brayns_takes_endpoint"


def _taking_endpoint(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, with an argument `endpoint` that it need not know: Airflow lets only arguments be expanded over."""
    signature = inspect.signature(function)
    if ENDPOINT in signature.parameters:
        return function
    parameters = list(signature.parameters.values())
    rest = [one for one in parameters if one.kind is inspect.Parameter.VAR_KEYWORD]
    named = [one for one in parameters if one not in rest]
    extra = inspect.Parameter(ENDPOINT, inspect.Parameter.KEYWORD_ONLY, default=None)

    @functools.wraps(function)
    def taking(*args: Any, endpoint: Any = None, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    taking.__signature__ = signature.replace(parameters=[*named, extra, *rest])  # type: ignore[attr-defined]
    setattr(taking, _GIVEN, True)
    return taking


def brayns_task(python_callable: Callable[..., Any] | None = None, **kwargs: Any) -> TaskDecorator:
    """Make a task of a function whose argument `client` is the official client, connected.

    `client` is handed over by name, so give the function's other arguments by name too.

    The service counts as used while the function runs. Several tasks may work with one service at once, as a mapped
    task does: they share its scene, and what one changes all see. A movie does not share: see
    `RenderFramesOperator.endpoints`.

    :param endpoint: `host:port`, or a list, usually `service.output`, of which a task takes the first, and each instance of a
        mapped task the next, so that they spread over the services. `.expand(endpoint=service.output)` runs the function once
        on each service (templated)
    :param kwargs: fields of the `brayns_cluster` connection, and any argument of a task.
    """

    def decorated(function: Callable[..., Any]) -> Any:
        return task_decorator_factory(
            python_callable=_taking_endpoint(function), decorated_operator_class=_BraynsDecoratedOperator, **kwargs
        )

    return cast("TaskDecorator", decorated if python_callable is None else decorated(python_callable))
