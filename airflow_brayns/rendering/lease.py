"""Leases: whoever renders holds one on each allocation, or service, that it renders with. A lease is a file on the
cluster that only its holder confirms.

A holder that could not confirm for `LEASE_SECONDS` stops asking for frames and throws away what still comes; a holder
that takes over waits that long since the one before was last heard of. So two of them - a worker that was thought dead
and its retry, or a trigger that moved - never use a service at the same time.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence

from airflow_brayns.cluster.render_lease import RenderLease, confirm_leases, leave_leases, take_leases
from airflow_brayns.errors import BraynsError, Occupied, Superseded
from airflow_brayns.errors.plain import Changes
from airflow_brayns.services.session import Session

LEASE_SECONDS = 20.0
_CONFIRM_SECONDS = 5.0
_WHOLE_SECOND = 1.0  # the cluster counts whole seconds: what it calls one second ago may just have been
_TURN_SECONDS = 3.0  # time between two looks whether another movie has stopped
_MOST_TAKEN = 2  # how often the services may be taken from one that has just taken them over


class Leases:
    """The leases of one holder.

    :param what: words for what is rendered with, for the log and for errors.
    :param token: the token of this holder; each process has another one.
    :param by: the movie that is rendered: its next try takes over, another movie waits until this one has stopped.
    """

    def __init__(self, session: Session, what: str, *, token: str, by: str) -> None:
        self._cluster, self._log = session.cluster, session.log
        self._what, self._token, self._by = what, token, by
        self._confirmed: dict[RenderLease, float] = {}
        self._superseded = ""

    async def take(self, leases: Sequence[RenderLease], what: str = "") -> None:
        """Take leases: wait until no other movie has them, and an earlier try of this one has certainly stopped.

        :param what: words for what they are for, where that is less than all; empty for all.
        :raises Superseded: another try takes them whenever this one has them.
        """
        what, holders, taken = what or self._what, Changes(), 0
        while taken < _MOST_TAKEN:
            try:
                heard = await take_leases(self._cluster, leases, self._token, self._by)
            except Occupied as error:
                if holders.new(by := error.by or "Another movie"):
                    self._log.info("%s renders with %s; waiting until it has stopped.", by, what)
            else:
                ages = [one for one in heard.values() if one >= 0]
                if ages and (wait := LEASE_SECONDS + _WHOLE_SECOND - min(ages)) > 0:
                    self._log.info("An earlier try renders with %s; waiting %d s until it has certainly stopped.", what, wait)  # fmt: skip
                    await asyncio.sleep(wait)
                if all((await self._confirm(leases)).values()):
                    return
                taken += 1
            await asyncio.sleep(_TURN_SECONDS)
        # Of two tries that wait for each other the one that came later goes on: taking the services back in turn, neither would.
        raise Superseded(f"Another try of this movie has taken {what} over; this one stops.")

    async def take_free(self, lease: RenderLease) -> None:
        """Take a lease that nobody can have had before, as that of a new allocation."""
        await take_leases(self._cluster, [lease], self._token, self._by)
        self._confirmed[lease] = time.monotonic()

    async def kept(self, leases: Callable[[], Iterable[RenderLease]]) -> AsyncIterator[None]:
        """Confirm leases again and again, and yield after each time, for whatever else is due then.

        :param leases: a function that tells which leases are in use.
        :raises Superseded: another try has taken one of them.
        """
        troubles = Changes()
        while True:
            await asyncio.sleep(_CONFIRM_SECONDS)
            try:
                if now := list(leases()):
                    ours = await self._confirm(now)
                    # The lease's folder has gone; an allocation that has ended stays ended.
                    for lease in [one for one in now if one not in ours]:
                        await take_leases(self._cluster, [lease], self._token, self._by)
                troubles.new("")
            except Superseded:
                raise
            except BraynsError as error:
                if troubles.new(str(error)):
                    self._log.info("The lease could not be confirmed; no frames are asked for meanwhile: %s", error)
            yield

    async def _confirm(self, leases: Sequence[RenderLease]) -> dict[RenderLease, bool]:
        """Confirm leases, and tell of each whether it is still this holder's; those whose folder has gone are missing.

        :raises Superseded: a lease is another try's now.
        """
        asked = time.monotonic()
        ours = await confirm_leases(self._cluster, leases, self._token, self._by)
        for lease, still in ours.items():
            if still:
                self._confirmed[lease] = asked
            elif lease in self._confirmed:
                self._superseded = f"Another try of this movie renders with {self._what} now; this one stops."
                raise Superseded(self._superseded)
        return ours

    def hold(self, *leases: RenderLease) -> bool:
        """Tell whether leases are this holder's for certain: each was confirmed within `LEASE_SECONDS`.

        :raises Superseded: another try has taken one.
        """
        if self._superseded:
            raise Superseded(self._superseded)
        now = time.monotonic()
        return all(now - self._confirmed.get(lease, 0.0) < LEASE_SECONDS for lease in leases)

    async def leave(self) -> None:
        """Give the leases up, so that the next holder need not wait."""
        with contextlib.suppress(BraynsError, TimeoutError):
            async with asyncio.timeout(3):
                await leave_leases(self._cluster, list(self._confirmed), self._token)
