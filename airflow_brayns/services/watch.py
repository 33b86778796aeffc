"""Watches over allocations: one is looked at again and again, the log shows what is new, and an error says that the
wait is in vain.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime

from airflow_brayns.brayns.readiness import ended_early, missing_plugin, runs_without
from airflow_brayns.cluster.allocation import (
    HOPELESS_ANYWHERE,
    HOPELESS_REASONS,
    HOPELESS_UNLESS_EXCLUSIVE,
    Allocation,
    AllocationStatus,
    JobState,
    ServiceStatus,
    is_idle_end,
)
from airflow_brayns.errors import AllocationLost, BraynsError, ConnectionLost, NotReadyInTime
from airflow_brayns.errors.plain import Changes, visible
from airflow_brayns.services.booking import check_machine
from airflow_brayns.services.service_log import ServiceLog
from airflow_brayns.services.session import Session

_LOG_TAIL = 8  # lines in an error: Airflow's page opens at a log's end, and with more the remedy was above its window (3.3.2, seen)
_MOST_UNFOLDED = 3  # lines of a service that come at once and are not folded away: Airflow's page shows a group's name alone (3.3.2, read)
_SILENCE_LIMIT = 600.0  # seconds that a cluster may be out of reach while something is awaited
_FORGOTTEN_LOOKS = 3
_LATE_LISTING = 75.0  # seconds for which a new job may be in no listing: sites keep squeue's answer for up to a minute, to spare slurmctld
_STOPPED_LIMIT = 15.0  # seconds that a stopped service's job may go on: a job that others end stops its services first
_HEARTBEAT_LIMIT = 240.0  # seconds that a keeper may show no sign; more than the wrappers wait themselves


class AllocationWatch:
    """A watch over one allocation, which looks at it again and again.

    :param plugins: names of the plugins that each service was asked to load.
    :param since: when the wait began, which `queue_timeout` is counted from; None for now.
    :param shows: whether the log is shown what the job does and what the services say.
    """

    def __init__(
        self,
        session: Session,
        allocation: Allocation,
        plugins: Sequence[str] = (),
        since: datetime | None = None,
        *,
        shows: bool = True,
    ) -> None:
        self.allocation, self.plugins = allocation, tuple(plugins)
        self._session, self._settings = session, session.settings
        self._since, self._shows = since or datetime.now(UTC), shows
        self.seen: AllocationStatus | None = None  # the last look that was answered
        self.reasons: dict[str, str] = {}  # why each service that listens was not usable at its last probe
        self.probed: dict[str, float] = {}  # when that probe ended, by the loop's time
        self._key = f"{allocation.name}/{allocation.incarnation}"
        self._told = Changes(session.told.states.get(self._key, ""))
        self._logs: dict[str, ServiceLog] = {}
        self._usable: set[str] = set()
        self._silent_since: float | None = None
        self._forgotten, self._forgotten_at = 0, 0.0
        self._is_listed = False  # whether the scheduler has ever told of the job here
        self._stopped: dict[str, float] = {}
        self._partitions: tuple[str, ...] = ()
        self._beat, self._beat_at = "", 0.0
        self._heard = ""

    async def statuses(self, want: int = 1) -> AsyncGenerator[AllocationStatus]:
        """Yield each look that was answered.

        :param want: how many services must listen before their listening makes news.
        :raises AllocationLost: the job has ended, or nobody looks after it any more.
        :raises ServiceFailed: the job has ended, and a service that had not proved usable had failed before.
        :raises NotReadyInTime: `queue_timeout` has passed.
        :raises ConnectionLost: the cluster has been out of reach for long, or refuses the login.
        :raises InvalidSetting: it is a local cluster's, on another machine.
        """
        check_machine(self._session.cluster, [self.allocation])
        self._beat_at = asyncio.get_running_loop().time()
        async with aclosing(self._session.poller.watch(self.allocation, want)) as looks:
            async for seen, logs in looks:
                self._check_silence(seen)
                if isinstance(seen, ConnectionLost):
                    continue
                self._show_logs(logs, seen)
                self.seen = seen
                if not self.allocation.job_id:  # one that follows on is known before it has a job
                    self.allocation = replace(self.allocation, job_id=seen.job_id)
                self._check_keeper(seen)
                await self._check_job(seen)
                yield seen

    def proved(self, service: str) -> None:
        """Note that a service has proved usable: should its job end, the job's end is told as the reason, and not the
        service's.
        """
        self._usable.add(service)

    def check(self, service: ServiceStatus) -> None:
        """Raise an error for a service that has ended, or could not load a plugin.

        :raises ServiceFailed: it has; the error has the last lines of its log. The end of its job, which stops it, is
            told of by `statuses`.
        """
        log, lines = self.log_of(service), self.last_lines(service)
        if service.exit_code is not None and not service.stopped:
            raise ended_early(service.exit_code, service.exit_text, log, self.plugins, node=service.node, lines=lines)
        if missing := missing_plugin(log):
            generation = self._logs[service.name].generation or self._settings.generation
            raise runs_without(missing, self.plugins, generation=generation, node=service.node, lines=lines)

    def is_stopped_alone(
        self, status: AllocationStatus, service: ServiceStatus, states: Sequence[JobState] = (JobState.RUNNING,)
    ) -> bool:
        """Tell whether a service was stopped, and its job has gone on without it for longer than an ending job does.

        :param states: in which a job counts as one that goes on.
        """
        if not service.stopped or status.ending or status.state not in states:
            return False
        now = asyncio.get_running_loop().time()
        return now - self._stopped.setdefault(service.name, now) > _STOPPED_LIMIT

    def last_lines(self, service: ServiceStatus) -> str:
        """The last lines of a service's log, for people."""
        lines = self.log_of(service).splitlines()[-_LOG_TAIL:]
        if not lines:
            return "It logged nothing."
        return f"Last lines of {service.name} on {service.node}:\n" + "\n".join(lines)

    def log_of(self, service: ServiceStatus) -> str:
        """The end of a service's log, as far as it has come."""
        log = self._logs.get(service.name)
        return log.told() if log else ""

    def _tell(self, text: str) -> None:
        """Log what a job does, once per change."""
        if self._shows and self._told.new(text):
            self._session.told.states[self._key] = text
            self._session.log.info("Job %s: %s", self.allocation.job_id, text)

    # ---- what each look tells --------------------------------------------------------------------------------------
    def _check_silence(self, seen: AllocationStatus | ConnectionLost) -> None:
        if isinstance(seen, ConnectionLost):
            if not seen.retry:
                raise seen
            trouble = str(seen)
        elif seen.answered:
            self._silent_since = None
            return
        else:
            trouble = seen.trouble
        now = asyncio.get_running_loop().time()
        self._silent_since = self._silent_since or now
        self._tell(f"the cluster does not answer: {trouble}")
        if now - self._silent_since > _SILENCE_LIMIT:
            raise ConnectionLost(
                f"The cluster has not answered for {_SILENCE_LIMIT:.0f} s: {trouble}",
                remedy="See that the login node and Slurm answer (`airflow connections test`); a retry finds the job.",
            )

    def _show_logs(self, logs: dict[str, str], status: AllocationStatus) -> None:
        for name, raw in logs.items():
            found = status.service(name)
            node = found.node if found else ""
            key = f"{self._key}/{name}"
            if name not in self._logs:
                known = self._session.told.lines.get(key)
                if known is None and self._shows:
                    self._session.log.info(
                        "[%s %s] Its start and its warnings are shown here; all it says is in %s",
                        node, name, self.allocation.log_of(name),
                    )  # fmt: skip
                self._logs[name] = ServiceLog(known=known or 0)
            log = self._logs[name]
            # "::group::" of a service's own would hide what we say after it
            lines = list(log.add(visible(raw).replace("group::", "group: :")))
            if not self._shows:
                continue
            self._session.told.lines[key] = max(log.lines, log.known)
            folds = len(lines) > _MOST_UNFOLDED
            if folds:
                self._session.log.info("::group::[%s %s] %d lines of its log", node, name, len(lines))
            for level, line in lines:
                self._session.log.log(level, "[%s %s] %s", node, name, line)
            if folds:
                self._session.log.info("::endgroup::")

    def _check_keeper(self, status: AllocationStatus) -> None:
        now = asyncio.get_running_loop().time()
        if status.heartbeat != self._beat or (status.job is not None and status.job.word != "RUNNING"):
            self._beat, self._beat_at = status.heartbeat, now
        if status.state is JobState.RUNNING and status.nodes and now - self._beat_at > _HEARTBEAT_LIMIT:
            raise AllocationLost(
                f"Job {self.allocation.job_id} is orphaned: it runs, but its keeper has shown no sign for "
                f"{_HEARTBEAT_LIMIT:.0f} s; its first node may be lost.",
                remedy="Clear the task: it allocates anew.",
            )

    def _is_forgotten(self, status: AllocationStatus) -> bool:
        """Tell whether the scheduler has told nothing of the job for some looks in a row, and its keeper shows no sign either. Of
        one that it has never told of, the listing may be an old one.
        """
        now, lives = asyncio.get_running_loop().time(), status.heartbeat not in ("", self._heard)
        self._heard = status.heartbeat or self._heard
        self._is_listed = self._is_listed or status.job is not None
        if status.job is not None or lives or not status.answered:
            self._forgotten, self._forgotten_at = 0, now
            return False
        self._forgotten += 1
        self._forgotten_at = self._forgotten_at or now
        return self._forgotten >= _FORGOTTEN_LOOKS and (self._is_listed or now - self._forgotten_at > _LATE_LISTING)

    async def _check_job(self, status: AllocationStatus) -> None:
        job = status.job
        forgotten = self._is_forgotten(status)
        if status.state is JobState.PENDING and job is not None:
            expected = f"; Slurm expects it to start at {job.start}" if job.start not in ("", "N/A", "Unknown") else ""
            self._tell(f"pending ({job.reason}){expected}")
            await self._check_queue(job.job_id, job.reason)
        elif status.state is JobState.RUNNING:
            self._tell(f"running on {', '.join(status.nodes) or job.nodes if job else ''}")
        elif status.gone:
            here, there = self._session.cluster.machine, self.allocation.machine
            folder = f"The folder of job {self.allocation.job_id}"
            if there in ("", here):
                remedy = "Clear the task; see that nothing cleans up in state_dir."
                raise AllocationLost(f"{folder} has gone from the cluster's state_dir.", remedy=remedy)
            remedy = "Put state_dir on a file system that all workers share: without ssh_conn_id they need one."
            raise AllocationLost(f"{folder} was made on {there}, and this is {here}.", remedy=remedy)
        elif status.state is JobState.ENDED and (status.ended is not None or job is not None or forgotten):
            for service in status.services:
                if service.name not in self._usable:
                    self.check(service)
            if status.left_no_trace:
                raise AllocationLost(
                    f"job {self.allocation.job_id} started, and its keeper left nothing in {self.allocation.folder}: its node does "
                    f"not see that folder, or may not write there.\n{await self._why_ended(status)}",
                    remedy="choose a folder that login node and nodes share, such as one in your home; not /tmp.",
                    field="state_dir",
                )
            raise AllocationLost(
                await self._why_ended(status),
                remedy="Clear the task: it allocates anew.",
                idle=is_idle_end(status.ended),
            )

    async def _check_queue(self, job_id: str, reason: str) -> None:
        if reason in HOPELESS_REASONS and not await self._may_run_elsewhere(reason):
            raise BraynsError(
                f"Job {job_id} would wait for ever: Slurm says {reason}.",
                remedy="Check partition, account, nodes, cpus_per_task, memory, constraint and time_limit.",
                retry=False,
            )
        limit = self._settings.queue_timeout
        if limit is not None and (datetime.now(UTC) - self._since).total_seconds() > limit:
            raise NotReadyInTime(
                f"job {job_id} still waited after {limit:.0f} s ({reason}).",
                remedy="raise it, or ask for fewer nodes, less time, or another partition (`sinfo -s`).",
                field="queue_timeout",
            )

    async def _may_run_elsewhere(self, reason: str) -> bool:
        """Whether a reason is that of the nodes that Slurm has just looked at, or one partition's, and the job has more than that one."""
        if self._settings.exclusive and reason in HOPELESS_UNLESS_EXCLUSIVE:
            return True
        if reason in HOPELESS_ANYWHERE:
            return False
        if not self._partitions:
            named = tuple((self._settings.partition or "").split(","))
            try:
                several = len(named) > 1
                self._partitions = named if several else await self._session.cluster.partitions_of(self.allocation)
            except ConnectionLost:
                return True  # the next look tells
            if len(self._partitions) > 1:
                self._session.log.info(
                    "Job %s: that is said of one of its partitions (%s); it waits for another one.",
                    self.allocation.job_id, ", ".join(self._partitions),
                )  # fmt: skip
        return len(self._partitions) > 1

    async def _why_ended(self, status: AllocationStatus) -> str:
        word = f" as {status.job.word}" if status.job else ""
        why = f" The keeper says: {status.ended}." if status.ended else ""
        try:
            details = await self._session.cluster.post_mortem(*self.allocation.key)
        except ConnectionLost:
            details = ""
        return (f"Job {self.allocation.job_id} ended{word} before it was done with.{why}\n{details}").strip()
