"""Giving back what nobody will give back any more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowException

from airflow_brayns.errors import BraynsError
from airflow_brayns.hooks.installation import deployment, installation_id, made_of_shared_key
from airflow_brayns.observe import count
from airflow_brayns.operators.base import BraynsOperator
from airflow_brayns.reaper import Here, give_back, leftovers
from airflow_brayns.supervisor import ask
from airflow_brayns.task_state import run_state


class ReapNodesOperator(BraynsOperator):
    """Finds allocations of this Airflow whose DAG run has ended or was deleted, whose keeper is lost, or whose folder has gone,
    and gives them back. Returns the names of what it found.

    Only what bears this Airflow's mark: nothing of another user, of another Airflow, or submitted by hand. What has the mark, but
    was asked for by another Airflow (the clone of a database has the same), is only said.

    :param only_say: only say in the log what would be done (templated)
    """

    template_fields: Sequence[str] = (*BraynsOperator.template_fields, "only_say")

    def __init__(self, *, only_say: bool | str = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.only_say = only_say

    def execute(self, context: Context) -> list[str]:
        """Look, and give back."""
        settings = self.read_settings()
        mark, troubles = installation_id(), list[str]()
        here = Here(deployment(), made_of_shared_key(mark))

        async def main() -> list[str]:
            async with self.hook.connect(settings) as poller:
                seen, jobs = await poller.cluster.survey()
                found = await ask(
                    lambda: leftovers(seen, jobs, mark, lambda run: run_state(run.dag_id, run.run_id), here=here)
                )
                for one in found:
                    self.log.info("%s, job %s, of %s: %s", one.name, one.job_id, one.run or "an unknown run", one.why)
                    if one.foreign:
                        self.log.warning("%s: %s", one.name, one.foreign)
                        continue
                    if str(self.only_say) == "True":
                        continue
                    try:
                        if await give_back(poller.cluster, one):
                            count("brayns.reaped")
                        else:
                            self.log.info("%s was taken over meanwhile; left alone", one.name)
                    except BraynsError as error:
                        troubles.append(str(error))
                return [one.name for one in found if not one.foreign]

        names = self.block(main())
        if troubles:
            raise AirflowException("\n".join(troubles))
        return names
