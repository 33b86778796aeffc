"""Tasks that allocate nodes: the nodes go back where nobody wants them any more, and stay where a next try finds them."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from airflow.sdk import Context
from airflow.sdk.exceptions import TaskDeferralError, TaskDeferralTimeout

from airflow_brayns.cluster.cluster import Cluster
from airflow_brayns.cluster.owner import Owner
from airflow_brayns.errors import Stopped, reason_of
from airflow_brayns.hooks.supervisor import ask
from airflow_brayns.task.airflow_state import next_try_comes, states_of
from airflow_brayns.task.operator import BraynsOperator

_STATE_SECONDS = 1.0  # time for Airflow's answer when the task is told to stop, which has 5 s in all


class AllocatingOperator(BraynsOperator):
    """The base of the operators that allocate nodes and leave them to later tasks."""

    allocates = True
    _kept = False

    def check_killed(self) -> None:
        """Raise an error where the task was told to stop."""
        if self._killed:
            raise Stopped(self.stopped_text)

    def check_wanted(self, context: Context) -> None:
        """Raise an error where the task has been marked or cleared meanwhile: Airflow tells it so only every few
        seconds, then refuses its success, and nobody would give back. The task goes on where Airflow cannot be asked.
        """
        states = self._states(context)
        if states is None or "running" in states:
            return
        words = ", ".join(sorted(states)) or "deleted"
        if next_try_comes(states):
            self._killed = True  # as it is about to be told
            raise Stopped(f"The task is {words} by now; its next try finds the nodes.")
        raise Stopped(f"The task is {words} by now, so nobody wants the nodes; they were given back.")

    def give_back_now(self, context: Context) -> None:
        """See `BraynsOperator.give_back_now`; nothing is given back where the next try comes, and finds the nodes."""
        if not (self._killed and self._keeps(self._states(context))):
            super().give_back_now(context)

    async def let_go(self, context: Context, cluster: Cluster, owner: Owner) -> None:
        """Give back what this try owns, from inside a loop, unless the next try comes and finds the nodes."""
        states = None
        if self._killed:
            try:
                async with asyncio.timeout(_STATE_SECONDS):
                    states = await ask(partial(self._states, context))
            except TimeoutError:
                self.log.info("Airflow does not say in time what becomes of the task.")
        if not self._keeps(states):
            await self.give_back(cluster, owner)

    def _states(self, context: Context) -> set[str] | None:
        """The state that Airflow has of the task, see `states_of`; None where Airflow cannot be asked."""
        try:
            return states_of(context["ti"])
        except Exception as error:
            say = self.log.info if self._killed else self.log.debug
            say("Airflow does not say what became of the task: %s", reason_of(error))
            return None

    def _keeps(self, states: set[str] | None) -> bool:
        """Tell whether a next try is coming, soon enough to find what is there. Airflow can stop a task that has just
        come back from the triggerer (apache/airflow#71580): giving back would cost a second place in the queue.
        """
        states = states or set()
        pause = self.retry_delay.total_seconds() if "up_for_retry" in states else 0.0
        self._kept = next_try_comes(states) and pause < self.read_settings().idle_limit
        if self._kept:
            self.log.info("The task is %s: the nodes stay for its next try.", ", ".join(sorted(states)))
        return self._kept

    @property
    def stopped_text(self) -> str:
        """See `BraynsOperator.stopped_text`."""
        return "The task was told to stop; its next try finds the nodes." if self._kept else super().stopped_text

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """See `BaseOperator.resume_execution`; a wait that failed in the triggerer gives back first."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except (TaskDeferralError, TaskDeferralTimeout):
            self.give_back_now(context)
            raise
