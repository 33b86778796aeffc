"""Who waits for an allocation, and what one look asks for all who do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from airflow_brayns.cluster.allocation import AllocationStatus
from airflow_brayns.cluster.submission import NAME, SERVICE, check


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

    def questions(self) -> list[str]:
        """Calls of look.sh that tell of it.

        :raises InvalidSetting: it cannot be the name of an allocation, or of a service.
        """
        check(NAME, "name", self.name)
        place = f"{self.name} {self.incarnation}"
        lines = [f"describe {place} 1"]
        if not self.offsets:
            lines += [f"all_logs {place}", f"certificate {place}"]
        return lines

    def logs(self) -> list[str]:
        """The logs of which the new bytes are asked for, each as an argument of `logs_since` in look.sh.

        :raises InvalidSetting: one cannot be the name of a service.
        """
        known = self.offsets or {}
        for service in known:
            check(SERVICE, "service", service)
        return [f"'{self.name} {self.incarnation} {service} {int(offset)}'" for service, offset in known.items()]


def questions(waiters: Sequence[Waiter], patience: float, tick: float) -> str:
    """Calls of look.sh that tell of all; see `Cluster.look`."""
    lines = [line for waiter in waiters for line in waiter.questions()]
    if patience >= 1:
        words = " ".join(f"'{w.name} {w.incarnation} {w.want} {w.known}'" for w in waiters)
        lines.insert(0, f"await_news {int(patience)} {tick} {words}")
    if logs := [log for waiter in waiters for log in waiter.logs()]:
        lines.append(f"logs_since {' '.join(logs)}")
    folders = " ".join(f'"$state_dir/{w.name}/{w.incarnation}"' for w in waiters)
    return "\n".join([*lines, f"look_at_jobs {folders}"])


def news(status: AllocationStatus, want: int) -> int:
    """The number of things that have happened to an allocation, counted as `progress_of` in look.sh does."""
    up = sum(service.port is not None for service in status.services)
    ended = sum(service.exit_code is not None for service in status.services)
    return bool(status.nodes) + (status.ended is not None) + ended + (up if up >= want else 0)
