"""`@task.brayns`: a Python function that is handed a connected client."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from airflow.providers.common.compat.sdk import (
    DecoratedOperator,
    KeywordParameters,
    TaskDecorator,
    task_decorator_factory,
)
from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowFailException

from airflow_brayns.endpoint import open_endpoint
from airflow_brayns.errors import BraynsError
from airflow_brayns.operators.base import BraynsOperator, failed

ARGUMENT = "client"


class _BraynsDecoratedOperator(DecoratedOperator, BraynsOperator):
    """Runs the function with `client`, a `brayns.Instance` connected to the endpoint.

    :param endpoint: `host:port` (templated)
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
        endpoint: Any,
        python_callable: Callable[..., Any],
        op_args: Collection[Any] | None = None,
        op_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        # Airflow checks at parse time that every argument is bound; the client is bound when the task runs.
        super().__init__(
            python_callable=python_callable, op_args=op_args, op_kwargs={ARGUMENT: None, **(op_kwargs or {})}, **kwargs
        )
        self.endpoint = endpoint

    def execute(self, context: Context) -> Any:
        """Make the way, connect, call the function."""
        try:
            import brayns
        except ImportError as error:
            raise AirflowFailException(
                f"The official client cannot be imported ({error}). Install airflow-brayns[client] on Python 3.11 or 3.12."
            ) from error
        endpoint = self.endpoint[0] if isinstance(self.endpoint, list | tuple) else self.endpoint
        try:
            with open_endpoint(endpoint, self.cluster_conn_id, **self.overrides) as near:
                client = brayns.Connector(near, max_attempts=3, attempt_period=1.0).connect()
                try:
                    values = {**context, **self.op_kwargs, ARGUMENT: client}
                    keywords = KeywordParameters.determine(self.python_callable, self.op_args, values).unpacking()
                    return self._handle_output(self.python_callable(*self.op_args, **keywords))
                finally:
                    with contextlib.suppress(Exception):  # of a connection that has broken already
                        client.disconnect()
        except BraynsError as error:
            failed(str(error), retry=error.retry)


def brayns_task(python_callable: Callable[..., Any] | None = None, **kwargs: Any) -> TaskDecorator:
    """Make a task of a function whose argument `client` is the official client, connected.

    `client` is handed over by name, so give the function's other arguments by name too.

    The service counts as used while the function runs. Several tasks may work with one service at once, as a mapped task does:
    they share its scene, and what one changes all see. A movie does not share: see `RenderFramesOperator.endpoints`.

    :param endpoint: `host:port`, or a list of which the first is taken; usually `service.output` (templated)
    :param kwargs: fields of the `brayns_cluster` connection, and any argument of a task.
    """
    return task_decorator_factory(
        python_callable=python_callable, decorated_operator_class=_BraynsDecoratedOperator, **kwargs
    )
