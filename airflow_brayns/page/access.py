"""What a user of the page may read and do, by Airflow's auth manager."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.models.dag import DagModel

# What Airflow's own routes ask for before they show what the page shows; None is the DAG itself.
_READ = (None, DagAccessEntity.RUN, DagAccessEntity.TASK_INSTANCE, DagAccessEntity.XCOM)


class Access:
    """The rights of one user, each asked for once a request.

    :param user: as Airflow's own dependency gives it.
    :param session: of Airflow's database.
    """

    def __init__(self, user: Any, session: Any) -> None:
        self._user, self._session, self._manager = user, session, get_auth_manager()
        self._teams: dict[str, str | None] = {}

    def readable(self, dag_ids: Collection[str]) -> set[str]:
        """Those of the DAGs of which the user may read runs, tasks and XCom."""
        self._teams |= DagModel.get_dag_id_to_team_name_mapping(list(dag_ids), session=self._session)
        return {dag_id for dag_id in dag_ids if all(self._is_allowed("GET", one, dag_id) for one in _READ)}

    def asked(self, dag_ids: Collection[str]) -> set[str]:
        """Those of the DAGs of which the user may read what they ask people."""
        return {dag_id for dag_id in dag_ids if self._is_allowed("GET", DagAccessEntity.HITL_DETAIL, dag_id)}

    def may(self, dag_id: str) -> list[str]:
        """What the user may do with a readable DAG: `trigger` it, mark its tasks (`mark`), `end` its runs, `answer` what they ask."""
        asked = {
            "trigger": ("POST", DagAccessEntity.RUN),
            "mark": ("PUT", DagAccessEntity.TASK_INSTANCE),
            "end": ("PUT", DagAccessEntity.RUN),
            "answer": ("PUT", DagAccessEntity.HITL_DETAIL),
        }
        return [name for name, (method, entity) in asked.items() if self._is_allowed(method, entity, dag_id)]

    def connections(self) -> set[str]:
        """The ids of the connections that the user may read."""
        return set(self._manager.get_authorized_connections(user=self._user, method="GET", session=self._session))

    def _is_allowed(self, method: Any, entity: DagAccessEntity | None, dag_id: str) -> bool:
        details = DagDetails(id=dag_id, team_name=self._teams.get(dag_id))
        return bool(
            self._manager.is_authorized_dag(method=method, access_entity=entity, details=details, user=self._user)
        )
