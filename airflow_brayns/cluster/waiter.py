"""Who waits for an allocation, and what one look asks for all who do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from airflow_brayns.cluster.allocation import AllocationStatus
from airflow_brayns.cluster.submission import NAME, SERVICE, check

# A look that takes longer to read the folders leaves the rest of them to the next one. Logs and queue have to fit into its time limit, too.
DESCRIBING_SECONDS = 8


@dataclass(frozen=True)
class Waiter:
    """An allocation that somebody waits for.

    :param want: how many listening services make news.
    :param known: how much news is known already (`news`).
    :param offsets: how many bytes of each service's log are known.
    """

    name: str
    incarnation: int
    want: int = 1
    known: int = 0
    offsets: Mapping[str, int] | None = None

    def words(self) -> str:
        """What a look is told of it, in the form that waits.sh reads.

        :raises InvalidSetting: it cannot be the name of an allocation, or of a service.
        """
        check(NAME, "name", self.name)
        words = [self.name, int(self.incarnation), int(self.want), int(self.known)]
        for service, offset in (self.offsets or {}).items():
            check(SERVICE, "service", service)
            words += [service, int(offset)]
        return " ".join(map(str, words))


def question(waiters: Sequence[Waiter], patience: float, tick: float) -> str:
    """The call of waits.sh that tells of all; see `Cluster.look`. Each is named in it once: it is sent with each look."""
    words = " ".join(f"'{waiter.words()}'" for waiter in waiters)
    return f"look_for {DESCRIBING_SECONDS} {int(patience)} {tick:g} {words}"


def news(status: AllocationStatus, want: int) -> int:
    """The number of things that have happened to an allocation, counted as `is_as_known` in waits.sh does."""
    up = sum(service.port is not None for service in status.services)
    ended = sum(service.exit_code is not None for service in status.services)
    return bool(status.nodes) + (status.ended is not None) + ended + (up if up >= want else 0)
