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


class StateFolderNotOurs(InvalidSetting):
    """Somebody else could change what is run from the state folder under our name: nothing was started.

    :param reason: `owner`: the part belongs to somebody else; `writable`: others may write in it; `link`: it is somebody
        else's link; `mode`: it cannot be kept from others.
    :param part: the state folder itself, or a folder or link on the way there.
    :param owner: whose it is.
    """

    def __init__(self, reason: str, part: str, owner: str) -> None:
        told, remedy = {
            "owner": (f"belongs to {owner}", "choose a folder of your own"),
            "writable": ("can be written by others", f"take that right away (`chmod go-w {part}`)"),
            "link": (f"is a link of {owner or 'a link of a link'}", "name the folder itself"),
            "mode": ("cannot be kept from others (`chmod 700` changes nothing)", "choose another file system"),
        }[reason]
        super().__init__(
            "state_dir",
            f"{part} {told}, who could exchange what is run from there under your name; nothing was started. What to do: "
            f"{remedy}; or, for a folder above it that is so on purpose, set state_dir_parents to 'shared'.",
        )
        self.reason, self.part, self.owner = reason, part, owner


class StateFolderFull(SubmissionRefused):
    """The state folder's file system has no room, or a quota is used up: nothing of what was asked for was started.

    :param folder: the state folder on the cluster.
    """

    retry = True
    field = "state_dir"

    def __init__(self, folder: str) -> None:
        super().__init__(
            f"state_dir: {folder} is full on the cluster, or your quota there is used up, so nothing was started. Make room "
            "there (`df`, `quota`), or choose another folder."
        )
        self.folder = folder


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
