"""The errors of this package. An error's message is for people: what happened, where, and what they can do. Facts that
code needs are its fields.

    BraynsError                  whose fault it is, and who mends it                                     a retry may help
     ├─ InvalidSetting           of whoever wrote `field`: it has a value that cannot work                     no
     │   └─ StateFolderNotOurs   of who gave others rights in the state folder                                 no
     ├─ SubmissionRefused        of the request, in the scheduler's eyes: `field`, where it says which         no
     │   ├─ AskedForElsewhere    of who cloned an Airflow: one with the same mark asked for it                 no
     │   └─ StateFolderFull      of nobody: a file system or a quota has no room                               yes
     ├─ ConnectionLost           of the network: nothing is known of the job or the service                    yes
     │   └─ SubmissionUnsure     of the scheduler: whether it took the job is not known                        yes
     ├─ AllocationLost           of the scheduler, or of nobody who used it: `idle`                            yes
     ├─ NotReadyInTime           of nobody: `field` is the time-out                                            yes
     ├─ ServiceFailed            of the service on `node`, or of `field`: `exit_code`, once it has ended       yes
     ├─ RpcFailed                of the request, in braynsService's eyes: `code`                               no
     ├─ RenderingFailed          of the service, or of `frame`                                                 yes
     │   ├─ StorageFailed        of the place for frames: no other service would do better                     yes
     │   ├─ NothingSeen          of the scene: its pictures are of one colour                                  no
     │   ├─ ScriptFailed         of a movie's Python, at `frame`: it would fail again                          no
     │   └─ BudgetSpent          of nobody: `budget` does for no further frame; `used`, `missing`              no
     ├─ Stopped                  of nobody: the task was told to, or is not wanted any more                    yes
     ├─ Superseded               of nobody: another try has taken over                                         no
     ├─ Occupied                 of nobody: another movie is at it, `by` which                                 yes
     └─ Unexpected               ours: a mistake in this package                                               yes

The column tells whether a retry may help as a rule; each error says it in `retry`. The error of another library that an
error was made of is its `__cause__`.
`airflow_brayns.task.guard` makes Airflow's errors of these, and is the only place that does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from airflow_brayns.errors.plain import plain_text


def reason_of(error: BaseException) -> str:
    """The reason that an error gives, for a message; words for it where a time-out, a cancelled task or a broken
    connection gives none.
    """
    if text := str(error).strip():
        return plain_text(text)
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, asyncio.CancelledError):
        return "it was stopped before it was done"
    return f"{type(error).__name__}, without a reason"


class BraynsError(Exception):
    """Base of all errors of this package.

    :param message: what happened, for the task's log; what it quotes of others is made safe here (`plain_text`), its
        further lines indented.
    :param remedy: what the reader can do: a sentence that stands before `message`, which goes on in the next line.
    :param retry: whether the same request may succeed later.
    :param field: the field that is to be mended, of an operator, the connection or a specification; it is the message's
        first word.
    :param node: the node on which it happened; empty where that is not known.
    :param exit_code: the exit code of the program that ended.
    :param frame: the frame that is at fault; None where none is.
    :param idle: whether the keeper gave the allocation back since nobody used it.
    """

    retry = True
    ours = False

    def __init__(
        self,
        message: str,
        *,
        remedy: str = "",
        retry: bool | None = None,
        field: str = "",
        node: str = "",
        exit_code: int | None = None,
        frame: int | None = None,
        idle: bool = False,
    ) -> None:
        told = f"{remedy}\n{message}" if remedy else message
        super().__init__(plain_text(f"{field}: {told}" if field else told))
        self.remedy, self.why = remedy, plain_text(message)
        if retry is not None:
            self.retry = retry
        self.field, self.node, self.exit_code, self.frame, self.idle = field, node, exit_code, frame, idle

    def to_json(self) -> dict[str, Any]:
        """The error as plain JSON values, for an event: its kind, message, `retry`, and the facts that are known."""
        facts = {name: getattr(self, name, None) for name in _FACTS}
        told = {name: fact for name, fact in facts.items() if fact not in ("", None) and fact is not False}
        return {"kind": type(self).__name__, "message": str(self), "retry": self.retry, **told}

    @staticmethod
    def from_json(told: Mapping[str, Any]) -> BraynsError:
        """Read what `to_json` gave; unknown keys are passed over. Version 0.2.0 told message and `retry` only."""
        kind = next((one for one in _kinds(BraynsError) if one.__name__ == told.get("kind")), BraynsError)
        error = kind.__new__(kind)
        BraynsError.__init__(error, told["message"], retry=told.get("retry"))
        vars(error).update({name: told[name] for name in _FACTS if name in told})
        return error


_FACTS = ("remedy", "field", "node", "exit_code", "frame", "idle", "used", "missing")


def _kinds(kind: type[BraynsError]) -> Iterator[type[BraynsError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from _kinds(below)


def together(errors: Sequence[BraynsError]) -> BraynsError:
    """Make one error of several: it says what each says, and a retry may help where it may help one of them."""
    all_of_them = BraynsError("", retry=any(one.retry for one in errors))
    all_of_them.args = ("\n".join(map(str, errors)),)  # each text is safe already, and begins its own line
    return all_of_them


class InvalidSetting(BraynsError, ValueError):  # noqa: N818 - named for what it says
    """A field has a value that cannot work; the message names the field."""

    retry = False

    def __init__(self, field: str, message: str, *, remedy: str = "", retry: bool = False) -> None:
        super().__init__(message, remedy=remedy, field=field, retry=retry)


class ConnectionLost(BraynsError):  # noqa: N818
    """The cluster or a service could not be reached, or its answer was cut off. This says nothing about the job.

    :param timed_out: whether no answer came in time: whoever was asked may be at it still.
    :param sent: whether what was asked may have arrived; False where there was no connection to send it by.
    """

    def __init__(
        self,
        message: str,
        *,
        remedy: str = "",
        retry: bool | None = None,
        field: str = "",
        timed_out: bool = False,
        sent: bool = True,
    ) -> None:
        super().__init__(message, remedy=remedy, retry=retry, field=field)
        self.timed_out, self.sent = timed_out, sent


class SubmissionUnsure(ConnectionLost):
    """Whether the scheduler took a job is not known; whoever asks again finds the job, or submits one.

    :param said: what the scheduler, or whoever stands before it, said; may be empty.
    """

    def __init__(self, said: str) -> None:
        told = f": {said}" if said else ""
        super().__init__(
            f"The scheduler did not say whether the job was taken{told}.",
            remedy="Nothing, where the task has retries, else clear it: the next try looks for the job first, and submits none twice.",
        )
        self.said = said


class SubmissionRefused(BraynsError):  # noqa: N818
    """The scheduler does not take the request as it is."""

    retry = False


class SubmissionLimited(SubmissionRefused):
    """A limit of the account or QOS is reached while other jobs of this user wait or run: it may pass with their ends."""

    retry = True


class StateFolderNotOurs(InvalidSetting):
    """Somebody else could change what is run from the state folder under our name: nothing was started.

    :param reason: `owner`: the part belongs to somebody else; `writable`: others may write in it; `link`: it is
        somebody else's link; `mode`: it cannot be kept from others.
    :param part: the state folder itself, or a folder or link on the way there.
    :param owner: the account that it belongs to.
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
            f"{part} {told}, who could exchange what is run from there under your name; nothing was started.",
            remedy=f"{remedy}; or, for a folder above it that is so on purpose, set state_dir_parents to 'shared'.",
        )
        self.reason, self.part, self.owner = reason, part, owner


class StateFolderFull(SubmissionRefused):
    """The state folder's file system has no room, or a quota is used up: nothing of what was asked for was started.

    :param folder: the state folder on the cluster.
    """

    retry = True

    def __init__(self, folder: str) -> None:
        super().__init__(
            f"{folder} is full on the cluster, or your quota there is used up, so nothing was started.",
            remedy="make room there (`df`, `quota`), or choose another folder.",
            field="state_dir",
        )
        self.folder = folder


class AllocationLost(BraynsError):  # noqa: N818
    """The allocation ended while it was needed."""


class AskedForElsewhere(SubmissionRefused):
    """Another Airflow has this one's mark, as the clone of a database has, and asked for what was to be changed.

    :param name: the allocation's name.
    :param deployment: the deployment that the other Airflow has.
    """

    def __init__(self, name: str, deployment: str) -> None:
        super().__init__(
            f"another Airflow, {deployment[:120]}, asked for {name}, and has this one's mark, as the clone of a database has: it "
            "is left alone.",
            remedy="in the clone, set [brayns] installation_id to a value of its own. If it is this very "
            "Airflow, which had another address or host name then, set [brayns] deployment to that text, or give it back by "
            f"`airflow brayns release {name} --any-installation`.",
            field="installation_id",
        )


class ServiceFailed(BraynsError):  # noqa: N818
    """A braynsService ended, or cannot become usable."""


class NotReadyInTime(BraynsError):  # noqa: N818
    """Something was not ready in time: the connection, the nodes, or a service."""


class RpcFailed(BraynsError):  # noqa: N818
    """A braynsService answered a request with an error.

    :param method: the method that was called.
    :param code: the error's code, JSON-RPC's or braynsService's own.
    :param message: the error's text; `said` is that with the details.
    :param data: the details, a list of texts; None where there are none.
    """

    def __init__(self, method: str, code: int, message: str, data: object = None) -> None:
        details = f" ({'; '.join(map(str, data))})" if isinstance(data, list) and data else ""
        super().__init__(f"braynsService refused {method}: {message}{details} (error {code})", retry=False)
        self.method, self.code, self.message, self.data = method, code, message, data
        self.said = f"{message}{details}"


class RenderingFailed(BraynsError):  # noqa: N818
    """Frames could not be rendered or encoded."""


class StorageFailed(RenderingFailed):
    """Frames cannot be written. No service is at fault, so nothing is tried again on another one."""


class NothingSeen(RenderingFailed):
    """The pictures of a movie are of one colour: no service's fault, and more of them would be the same."""

    retry = False


class ScriptFailed(RenderingFailed):
    """A movie's own Python failed; on another service it would fail again."""

    retry = False


class BudgetSpent(RenderingFailed):
    """The node-hours that a movie may use do for no further frame; what is whole stays, and a larger budget goes on.

    :param used: the node-hours that the movie has used.
    :param missing: how many of its frames are missing; None where that is not known.
    """

    retry = False

    def __init__(
        self, message: str, *, remedy: str = "", field: str = "budget", used: float = 0.0, missing: int | None = None
    ) -> None:
        super().__init__(message, remedy=remedy, field=field)
        self.used, self.missing = used, missing


class Stopped(BraynsError):  # noqa: N818
    """The task was told to stop, or nobody wants any more what it found."""


class Superseded(BraynsError):  # noqa: N818
    """Another try has taken the frames or the services over; what this one still gets is thrown away."""

    retry = False


class Occupied(BraynsError):  # noqa: N818
    """Another movie renders with the same services, or into the same folder.

    :param by: the other movie.
    :param heard: the seconds since it was heard of.
    """

    def __init__(self, by: str, heard: int) -> None:
        super().__init__(f"{by or 'another movie'} renders with it, and was heard of {heard} s ago")
        self.by, self.heard = by, heard


class Unexpected(BraynsError):  # noqa: N818
    """A mistake in this package was met. It stands in `__cause__`, or in the triggerer's log."""

    ours = True


def known(error: BaseException) -> BraynsError:
    """Make any error one of this package's: itself if it is one, else `Unexpected`."""
    if isinstance(error, BraynsError):
        return error
    unexpected = Unexpected(repr(error))
    unexpected.__cause__ = error
    return unexpected
