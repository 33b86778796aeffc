"""What can go wrong, told in one paragraph: what happened, where, and what the reader can do.

`retry` says whether trying again can help; the Airflow layer turns the others into `AirflowFailException`.
"""

from __future__ import annotations

import asyncio

from airflow_brayns.plain import plain_text


def reason_of(error: BaseException) -> str:
    """What an error says, for a message; a time-out, a cancelled task or a broken connection often say nothing themselves."""
    if text := str(error).strip():
        return plain_text(text)
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, asyncio.CancelledError):
        return "it was stopped before it was done"
    return f"{type(error).__name__}, without a reason"


class BraynsError(Exception):
    """Base of all errors of this package.

    :param message: for the task log; what it quotes of others is made safe here (`plain_text`), its further lines indented.
    :param retry: whether the same request may succeed later.
    """

    retry = True

    def __init__(self, message: str, *, retry: bool | None = None) -> None:
        super().__init__(plain_text(message))
        if retry is not None:
            self.retry = retry


class InvalidSetting(BraynsError, ValueError):  # noqa: N818 - named for what it says
    """A field has a value that cannot work; the message names the field."""

    retry = False

    def __init__(self, field: str, message: str, *, retry: bool = False) -> None:
        super().__init__(f"{field}: {message}", retry=retry)
        self.field = field


class ConnectionLost(BraynsError):  # noqa: N818
    """The cluster or a service could not be reached, or the answer was cut off. Says nothing about the job.

    :param timed_out: whether no answer came in time: whoever was asked may be at it still.
    """

    def __init__(self, message: str, *, retry: bool | None = None, timed_out: bool = False) -> None:
        super().__init__(message, retry=retry)
        self.timed_out = timed_out


class SubmissionRefused(BraynsError):  # noqa: N818
    """The scheduler does not take the request as it is."""

    retry = False


class AllocationLost(BraynsError):  # noqa: N818
    """The allocation ended while it was needed."""


class ServiceFailed(BraynsError):  # noqa: N818
    """A braynsService ended, or cannot become usable."""


class NotReadyInTime(BraynsError):  # noqa: N818
    """A time-out: connect, queue or start."""


class RpcFailed(BraynsError):  # noqa: N818
    """A braynsService answered a request with an error.

    :param code: of JSON-RPC, or braynsService's own.
    :param message: what it said; `said` is that with the details.
    :param data: details: a list of texts, where there are any.
    """

    def __init__(self, method: str, code: int, message: str, data: object = None) -> None:
        details = f" ({'; '.join(map(str, data))})" if isinstance(data, list) and data else ""
        super().__init__(f"braynsService refused {method}: {message}{details} (error {code})", retry=False)
        self.method, self.code, self.message, self.data = method, code, message, data
        self.said = f"{message}{details}"


class RenderingFailed(BraynsError):  # noqa: N818
    """Frames could not be rendered or encoded."""
