"""Follows a booking until it has its nodes, or its services are usable, and tells the log what happens."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from airflow_brayns.booking import Booking, Service, way_to
from airflow_brayns.brayns.readiness import NotYet, Usable, missing_plugin, probe, why_it_ended, why_without_plugin
from airflow_brayns.cluster.allocation import (
    HOPELESS_REASONS,
    Allocation,
    AllocationStatus,
    JobState,
    ServiceStatus,
)
from airflow_brayns.cluster.finding import Fate
from airflow_brayns.cluster.poller import Poller
from airflow_brayns.errors import AllocationLost, BraynsError, ConnectionLost, NotReadyInTime, ServiceFailed
from airflow_brayns.plain import visible
from airflow_brayns.service_log import ServiceLog
from airflow_brayns.settings import ClusterSettings

_PROBE_PAUSE = 0.5
_STILL_SECONDS = 10.0  # for what was usable to answer once more
_LOG_TAIL = 20
_SILENCE_LIMIT = 600.0  # how long a cluster may be out of reach while something is awaited
_FORGOTTEN_LOOKS = 3
_HEARTBEAT_LIMIT = 240.0  # more than the wrappers' own
_STOPPED_LIMIT = 15.0  # a job that is ended by others stops its services first, and then its keeper says why


class _Tally:
    """How many services there are, have proved usable, or failed, over all parts of a booking."""

    def __init__(self, parts: int, min_ready: int | None) -> None:
        self._parts, self._min_ready = parts, min_ready
        self._expected: dict[int, int] = {}
        self.found: dict[tuple[int, int], Service] = {}
        self.failed: dict[tuple[int, int], BraynsError] = {}

    def expect(self, part: int, services: int) -> None:
        self._expected[part] = services

    def fail(self, part: int, index: int, error: BraynsError) -> None:
        self.found.pop((part, index), None)
        self.failed[part, index] = error

    def lost(self, part: int, error: BraynsError) -> None:
        """A whole allocation, with all its services."""
        self._expected.setdefault(part, 1)
        for index in range(max(1, self._expected[part])):
            self.fail(part, index, error)

    def report(self, part: int, index: int, changed: asyncio.Event, task: asyncio.Task[Service]) -> None:
        """A probe has ended."""
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            self.found[part, index] = task.result()
        else:
            self.fail(part, index, error if isinstance(error, BraynsError) else BraynsError(repr(error)))
        changed.set()

    def settled(self) -> bool:
        """Whether enough are usable.

        :raises BraynsError: the first failure, once too few can still become usable.
        """
        total = sum(self._expected.values())
        known = len(self._expected) == self._parts and total > 0
        want = self._min_ready or total
        if self.failed and (not self._min_ready or (known and total - len(self.failed) < min(want, total))):
            raise next(iter(self.failed.values()))
        return known and len(self.found) >= min(want, total)


class Follower:
    """Follows a booking until it has its nodes, or its services are usable, and tells the log what happens.

    :param booking: what is awaited.
    :param settings: time-outs, route and `min_ready`.
    :param plugins: what each service must have loaded.
    :param log: a task's log.
    :param queued_since: when the wait began, so that a wait that moves to another process keeps its time-out.
    """

    def __init__(
        self,
        poller: Poller,
        booking: Booking,
        settings: ClusterSettings,
        plugins: Sequence[str],
        log: Any,
        *,
        queued_since: datetime | None = None,
    ) -> None:
        self._poller, self._booking, self._settings = poller, booking, settings
        self._plugins, self._log = tuple(plugins), log
        self._cluster = poller.cluster
        self._since = queued_since or datetime.now(UTC)
        # Seconds that were spent in the queue and with starting, for metrics.
        self.waits: dict[str, float] = {}
        self._told: dict[tuple[str, int], str] = {}
        self._logs: dict[tuple[str, int, str], ServiceLog] = {}
        self._usable: set[tuple[str, int, str]] = set()
        self._shown: dict[tuple[str, int, str], str] = {}

    async def nodes(self) -> list[AllocationStatus]:
        """Wait until every job runs and its keeper has named the nodes."""
        found: dict[int, AllocationStatus] = {}

        async def follow(part: int, allocation: Allocation, changed: asyncio.Event) -> None:
            async for status in self.statuses(allocation, want=1):
                if status.nodes:
                    found[part] = status
                    changed.set()

        await self._until(follow, lambda: len(found) == len(self._booking.allocations))
        return [found[part] for part in sorted(found)]

    async def services(self, names: Sequence[str] | None = None) -> list[Service]:
        """Wait until `min_ready` services (default: all) are usable; in node order.

        :param names: which services; None for every one of each allocation.
        :raises ServiceFailed: too few can still become usable; with the last lines of a log.
        :raises NotReadyInTime: `queue_timeout` or `start_timeout` passed.
        :raises AllocationLost: the job ended first.
        """
        tally = _Tally(len(self._booking.allocations), self._settings.min_ready)

        async def follow(part: int, allocation: Allocation, changed: asyncio.Event) -> None:
            try:
                await self._follow(part, allocation, names, tally, changed)
            except BraynsError as error:
                tally.lost(part, error)
                changed.set()

        await self._until(follow, tally.settled)
        passed = (datetime.now(UTC) - self._since).total_seconds()
        self.waits["brayns.start_wait"] = passed - self.waits.get("brayns.queue_wait", 0.0)
        return [tally.found[key] for key in sorted(tally.found)]

    async def still_there(self, found: Sequence[dict[str, Any]] | None) -> list[tuple[AllocationStatus, ServiceStatus]]:
        """One look at what was found before: it must still be there, as far as the cluster knows.

        :param found: entries of XCom's `services`; None for all nodes.
        :return: these services, for `still_answer`.
        :raises BraynsError: a job has ended, or one of these services.
        """
        names = None if found is None else {(str(one["job_id"]), one["service"]) for one in found}
        jobs = None if names is None else {job_id for job_id, _ in names}
        there = []
        for allocation in self._booking.allocations:
            if jobs is not None and allocation.job_id not in jobs:
                continue
            async for status in self.statuses(allocation, want=1):
                for service in status.services:
                    if names is not None and (allocation.job_id, service.name) in names:
                        self.check(status, service)
                        if service.exit_code is not None:  # stopped, while its job goes on
                            raise ServiceFailed(f"{service.name} on {service.node} was stopped meanwhile.")
                        there.append((status, service))
                break
        return there

    async def still_answer(self, there: Sequence[tuple[AllocationStatus, ServiceStatus]]) -> None:
        """Slurm takes minutes to notice that a node is off, and then nobody is there to write that its service has ended.

        :raises ServiceFailed: one does not answer any more.
        :raises ConnectionLost: there is no way to ask.
        """
        await asyncio.gather(*(self._still_answers(status, service) for status, service in there))

    async def _still_answers(self, status: AllocationStatus, service: ServiceStatus) -> None:
        give_up = asyncio.get_running_loop().time() + _STILL_SECONDS
        while True:
            try:
                await self._check_ours(
                    status, service
                )  # first: it may take seconds, of which the answer must not be older
                await self._ask(status, service)
                return
            except NotYet as reason:
                if asyncio.get_running_loop().time() > give_up:
                    raise ServiceFailed(
                        f"{service.name} on {service.node} was usable, and does not answer any more: {reason}"
                    ) from None
            await asyncio.sleep(_PROBE_PAUSE)

    async def _check_ours(self, status: AllocationStatus, service: ServiceStatus) -> None:
        """Whoever answers must be it: another account's process may have waited for the port of one that died."""
        found = await self._cluster.examine(status.name, status.incarnation, service.name)
        if found is not None and found.fate in (Fate.ENDED, Fate.STRANGE):
            raise ServiceFailed(found.text())

    async def _until(
        self, follow: Callable[[int, Allocation, asyncio.Event], Awaitable[None]], settled: Callable[[], bool]
    ) -> None:
        """Follow all allocations, each to the end of the wait: what was ready first must still be there at the last."""
        changed = asyncio.Event()
        followers = [
            asyncio.ensure_future(follow(part, allocation, changed))
            for part, allocation in enumerate(self._booking.allocations)
        ]
        signal: asyncio.Task[Any] | None = None
        try:
            while not settled():
                changed.clear()
                signal = asyncio.create_task(changed.wait())
                done, _ = await asyncio.wait({signal, *followers}, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
                followers = [task for task in followers if not task.done()]
        finally:
            tasks = [*followers, *([signal] if signal else [])]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(
        self,
        part: int,
        allocation: Allocation,
        names: Sequence[str] | None,
        tally: _Tally,
        changed: asyncio.Event,
    ) -> None:
        probes: dict[str, asyncio.Task[Service]] = {}
        stopped: dict[str, float] = {}
        running_since: datetime | None = None
        # By default all services of the allocation make news together; the first look tells how many there are.
        want = self._settings.min_ready or (len(names) if names else 1)
        try:
            async for status in self.statuses(allocation, want=want):
                services = [one for one in status.services if names is None or one.name in names]
                tally.expect(part, len(services))
                if status.nodes and running_since is None:
                    running_since = datetime.now(UTC)
                    self.waits["brayns.queue_wait"] = (running_since - self._since).total_seconds()
                for index, service in enumerate(services):
                    if (part, index) in tally.failed:
                        continue
                    try:
                        self.check(status, service)
                        self._check_stopped(status, service, stopped)
                        self.check_start(status, running_since, service, (part, index) in tally.found)
                    except BraynsError as error:
                        tally.fail(part, index, error)
                        changed.set()
                        if probe_of := probes.pop(service.name, None):
                            probe_of.cancel()
                        continue
                    if service.port and service.name not in probes:
                        self._log.info(
                            "%s on %s listens on port %d; looking whether it is usable",
                            service.name, service.node, service.port,
                        )  # fmt: skip
                        probes[service.name] = asyncio.create_task(self.prove(status, service))
                        probes[service.name].add_done_callback(partial(tally.report, part, index, changed))
                if not services and running_since is not None:
                    self._check_any(running_since)
        finally:
            for task in probes.values():
                task.cancel()

    async def prove(self, status: AllocationStatus, service: ServiceStatus) -> Service:
        """Probe until every rung holds."""
        assert service.port is not None
        host = self._cluster.address(service.node)
        give_up = asyncio.get_running_loop().time() + self._settings.start_timeout
        last = ""
        while True:
            try:
                usable = await self._ask(status, service)
                break
            except (NotYet, ConnectionLost) as reason:
                if isinstance(reason, ConnectionLost) and not reason.retry:
                    raise  # a host key or a login that is refused does not mend itself
                if str(reason) != last:
                    last = str(reason)
                    self._log.info("%s on %s is not usable yet: %s", service.name, service.node, last)
                if asyncio.get_running_loop().time() > give_up:
                    raise NotReadyInTime(
                        f"start_timeout: {service.name} on {service.node} listens, but was not usable within "
                        f"{self._settings.start_timeout:.0f} s: {last}"
                    ) from None
                await asyncio.sleep(_PROBE_PAUSE)
        self._usable.add((status.name, status.incarnation, service.name))
        left = status.job.seconds_left if status.job else None
        ends = datetime.now(UTC) + timedelta(seconds=left) if left else None
        self._log.info("%s is usable: braynsService %s at %s:%d", service.name, usable.version, host, service.port)
        folder = next(a.folder for a in self._booking.allocations if a.name == status.name)
        log = f"{folder}/services/{service.name}/log"
        return Service(
            service.name, service.node, host, service.port, status.job_id, usable, log,
            ends.isoformat(timespec="seconds") if ends else None, status.certificate, self._context(status, host),
        )  # fmt: skip

    def _context(self, status: AllocationStatus, host: str) -> ssl.SSLContext | None:
        return self._settings.client_context(status.name, host, status.certificate)

    async def _ask(self, status: AllocationStatus, service: ServiceStatus) -> Usable:
        """One probe, from here.

        :raises NotYet: it names the node's port: a tunnel's own is another at each look, and says nothing to the reader.
        :raises ConnectionLost: there is no way to the node.
        """
        assert service.port is not None
        host = self._cluster.address(service.node)
        near, port = host, service.port
        try:
            async with way_to(self._cluster, self._settings.route, host, service.port) as (near, port):
                return await probe(near, port, self._plugins, ssl_context=self._context(status, host))
        except NotYet as reason:
            raise NotYet(str(reason).replace(f"{near}:{port}", f"{host}:{service.port}")) from None

    # ---- what each look tells --------------------------------------------------------------------------------------
    async def statuses(self, allocation: Allocation, want: int) -> AsyncIterator[AllocationStatus]:
        """Looks that were answered; raises when there is nothing left to wait for."""
        silent_since: float | None = None
        forgotten = 0
        loop = asyncio.get_running_loop()
        beat, beat_at = "", loop.time()
        watch = self._poller.watch(allocation, want)
        try:
            async for seen, logs in watch:
                trouble = str(seen) if isinstance(seen, ConnectionLost) else seen.trouble
                if isinstance(seen, ConnectionLost) and not seen.retry:
                    raise seen
                if isinstance(seen, ConnectionLost) or not seen.answered:
                    silent_since = silent_since or loop.time()
                    self._tell(allocation, f"the cluster does not answer: {trouble.strip()}")
                    if loop.time() - silent_since > _SILENCE_LIMIT:
                        raise ConnectionLost(
                            f"The cluster has not answered for {_SILENCE_LIMIT:.0f} s: {trouble.strip()}"
                        )
                    if isinstance(seen, ConnectionLost):
                        continue
                else:
                    silent_since = None
                self._show_logs(allocation, logs, seen)
                forgotten = forgotten + 1 if seen.answered and seen.job is None else 0
                if seen.heartbeat != beat or (seen.job is not None and seen.job.word != "RUNNING"):
                    beat, beat_at = seen.heartbeat, loop.time()
                if seen.state is JobState.RUNNING and seen.nodes and loop.time() - beat_at > _HEARTBEAT_LIMIT:
                    raise AllocationLost(
                        f"Job {allocation.job_id} is orphaned: it runs, but its keeper has shown no sign for "
                        f"{_HEARTBEAT_LIMIT:.0f} s; its first node may be lost. Clear the task to allocate anew."
                    )
                await self._check_job(allocation, seen, forgotten)
                yield seen
        finally:
            await watch.aclose()  # type: ignore[attr-defined]

    def _tell(self, allocation: Allocation, text: str) -> None:
        """Once per change."""
        if self._told.get(allocation.key) != text:
            self._told[allocation.key] = text
            self._log.info("Job %s: %s", allocation.job_id, text)

    def _show_logs(self, allocation: Allocation, logs: dict[str, str], status: AllocationStatus) -> None:
        for service, raw in logs.items():
            key = (*allocation.key, service)
            found = status.service(service)
            node = found.node if found else ""
            if key not in self._logs:
                where = f"{allocation.folder}/services/{service}/log"
                self._log.info(
                    "[%s %s] Its start and its warnings are shown here; all it says is in %s", node, service, where
                )
            log = self._logs.setdefault(key, ServiceLog())
            for level, line in log.add(visible(raw)):
                self._log.log(level, "[%s %s] %s", node, service, line)

    async def _check_job(self, allocation: Allocation, status: AllocationStatus, forgotten: int) -> None:
        job = status.job
        if status.state is JobState.PENDING and job is not None:
            expected = f"; Slurm expects it to start at {job.start}" if job.start not in ("", "N/A", "Unknown") else ""
            self._tell(allocation, f"pending ({job.reason}){expected}")
            if job.reason in HOPELESS_REASONS:
                raise BraynsError(
                    f"Job {job.job_id} would wait for ever: Slurm says {job.reason}. Check partition, account, nodes, cpus_per_task, memory, constraint and time_limit.",
                    retry=False,
                )
            limit = self._settings.queue_timeout
            if limit is not None and (datetime.now(UTC) - self._since).total_seconds() > limit:
                raise NotReadyInTime(
                    f"queue_timeout: job {job.job_id} still waited after {limit:.0f} s ({job.reason})."
                )
        elif status.state is JobState.RUNNING:
            self._tell(allocation, f"running on {', '.join(status.nodes) or job.nodes if job else ''}")
        elif status.gone:
            raise AllocationLost(f"The folder of job {allocation.job_id} has gone from the cluster's state_dir.")
        elif status.state is JobState.ENDED and (
            status.ended is not None or job is not None or forgotten >= _FORGOTTEN_LOOKS
        ):
            for service in status.services:
                if (*allocation.key, service.name) not in self._usable:
                    self.check(status, service)
            raise AllocationLost(await self._why_ended(allocation, status))

    async def _why_ended(self, allocation: Allocation, status: AllocationStatus) -> str:
        word = f" as {status.job.word}" if status.job else ""
        why = f" The keeper says: {status.ended}." if status.ended else ""
        try:
            details = await self._cluster.post_mortem(*allocation.key)
        except ConnectionLost:
            details = ""
        return f"Job {allocation.job_id} ended{word} before it was done with.{why} Clear the task to allocate anew.\n{details}".strip()

    def check(self, status: AllocationStatus, service: ServiceStatus) -> None:
        """Fail for a service that has ended, or could not load a plugin."""
        log = self.log_of(status, service)
        if service.exit_code is not None and service.exit_text != "stopped":  # stopped: the job's end tells why
            reason = why_it_ended(service.exit_code, service.exit_text, log, self._plugins)
            raise ServiceFailed(f"{reason}\n{self._tail(service, log)}", retry=_may_mend(service, log))
        if missing := missing_plugin(log):
            reason = why_without_plugin(missing, self._plugins, generation=self._generation(status, service))
            raise ServiceFailed(f"{reason}\n{self._tail(service, log)}", retry=False)
        self._shown[status.name, status.incarnation, service.name] = self._tail(service, log)

    def _check_stopped(self, status: AllocationStatus, service: ServiceStatus, since: dict[str, float]) -> None:
        """Fail for a service that was stopped alone: nobody starts it again, and its job goes on without it."""
        if service.exit_code is None or status.ending or status.state is not JobState.RUNNING:
            return
        now = asyncio.get_running_loop().time()
        if now - since.setdefault(service.name, now) > _STOPPED_LIMIT:
            raise ServiceFailed(
                f"{service.name} on {service.node} was stopped before it was usable, while job {status.job_id} goes on: by "
                "scancel of its step, or by a StopBraynsServiceOperator. Clear the task that started it to start it anew."
            )

    def _generation(self, status: AllocationStatus, service: ServiceStatus) -> int | None:
        log = self._logs.get((status.name, status.incarnation, service.name))
        return (log.generation if log else None) or self._settings.generation

    def log_of(self, status: AllocationStatus, service: ServiceStatus) -> str:
        """The end of a service's log, as far as it has come."""
        log = self._logs.get((status.name, status.incarnation, service.name))
        return log.told() if log else ""

    def check_start(
        self, status: AllocationStatus, since: datetime | None, service: ServiceStatus, proven: bool
    ) -> None:
        """Fail for a service that takes too long."""
        limit = self._settings.start_timeout
        if proven or since is None or (datetime.now(UTC) - since).total_seconds() < limit:
            return
        raise NotReadyInTime(
            f"start_timeout: {service.name} on {service.node} was not usable {limit:.0f} s after the job started. Its log "
            f"tells how far it came; raise start_timeout if it is only slow.\n{self._shown.get((status.name, status.incarnation, service.name), '')}"
        )

    def _check_any(self, since: datetime) -> None:
        if (datetime.now(UTC) - since).total_seconds() > self._settings.start_timeout:
            raise NotReadyInTime(
                "started: no such service is in the allocation. Start one with StartBraynsServiceOperator and hand on what "
                "it returns.",
                retry=False,
            )

    @staticmethod
    def _tail(service: ServiceStatus, log: str) -> str:
        lines = log.splitlines()[-_LOG_TAIL:]
        return (
            f"Last lines of {service.name} on {service.node}:\n" + "\n".join(lines) if lines else "It logged nothing."
        )


def _may_mend(service: ServiceStatus, log: str) -> bool:
    """Whether a retry can help: not with a missing plugin, program, option or module."""
    if service.exit_code in (95, 96, 97, 98, 126, 127):
        return False
    return not any(
        word in log for word in ("Error opening dynamic library", "Unrecognized option", "Unknown keyword argument")
    )
