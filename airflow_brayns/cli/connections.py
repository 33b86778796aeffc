"""Which clusters the commands ask: every connection that a task may name, each asked by itself."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, Generic, NamedTuple, TypeVar

from airflow.sdk import BaseHook
from airflow.sdk.configuration import ensure_secrets_loaded
from airflow.sdk.exceptions import AirflowNotFoundException
from sqlalchemy.exc import SQLAlchemyError

from airflow_brayns.cli.console import say, words_of
from airflow_brayns.hooks.cluster import BraynsClusterHook
from airflow_brayns.services.session import Session
from airflow_brayns.services.settings import CONNECTION_TYPE, DEFAULT_CONN_ID, FINDING

Found = TypeVar("Found")
_PREFIX = "AIRFLOW_CONN_"


class Told(NamedTuple, Generic[Found]):
    """What one cluster answered.

    :param conn_ids: of the connections that describe it, with commas between them.
    """

    conn_ids: str
    found: Found


def opened(conn_id: str) -> BraynsClusterHook:
    """A connection's hook, read and ready for a loop, which may ask Airflow nothing.

    :raises BraynsError: there is no such connection, or it cannot work.
    """
    hook = BraynsClusterHook(conn_id)
    hook.prepare()
    if hook.embedded:
        say(hook.embedded)
    return hook


def ask_each(conn_id: str | None, question: Callable[[Session], Awaitable[Found]]) -> tuple[list[Told[Found]], bool]:
    """Ask one cluster, or all; those that two connections describe once. One that fails is said, and spoils no other.

    :param conn_id: None for all.
    :return: the answers, and whether something failed.
    """
    clusters, failed = _clusters([conn_id] if conn_id else None)

    async def ask(names: str, hook: BraynsClusterHook) -> Told[Found] | None:
        try:
            async with hook.session() as session:
                return Told(names, await question(session))
        except Exception as error:
            say(f"{names}: {words_of(error)}")
            return None

    async def main() -> list[Told[Found] | None]:
        return await asyncio.gather(*(ask(names, hook) for names, hook in clusters))

    answers = asyncio.run(main())
    return [one for one in answers if one is not None], failed or None in answers


def _clusters(conn_ids: list[str] | None) -> tuple[list[tuple[str, BraynsClusterHook]], bool]:
    """Hooks of different clusters with the names of their connections, and whether one could not be read."""
    names, failed = (conn_ids, False) if conn_ids else _every()
    found: dict[str, list[BraynsClusterHook]] = {}
    for name in names:
        try:
            hook = opened(name)
        except Exception as error:
            say(f"{name}: {words_of(error)}")
            failed = True
        else:
            found.setdefault(hook.settings.model_dump_json(include=set(FINDING)), []).append(hook)
    return [(",".join(hook.cluster_conn_id for hook in hooks), hooks[0]) for hooks in found.values()], failed


def _every() -> tuple[list[str], bool]:
    """Every connection of our type, and whether Airflow could not be asked for all of them.

    A secrets backend lists nothing: of those that it holds, those are found that a DAG names, or a file holds.
    """
    names, failed = {DEFAULT_CONN_ID}, False
    try:
        names |= {*_stored()}
        mentioned = {*_mentioned()}
    except SQLAlchemyError as error:
        say(words_of(error))
        mentioned, failed = set(), True
    mentioned |= {name.removeprefix(_PREFIX).lower() for name in os.environ if name.startswith(_PREFIX)}
    backends = ensure_secrets_loaded()
    mentioned |= {name for backend in backends for name in getattr(backend, "_local_connections", ())}
    names |= {name for name in mentioned - names if _is_ours(name)}
    if len(backends) > 2:  # beside the environment and the database
        say("A secrets backend lists no connections: those that no DAG names are asked by --cluster-conn-id.")
    return sorted(names), failed


def _is_ours(conn_id: str) -> bool:
    try:
        return bool(BaseHook.get_connection(conn_id).conn_type == CONNECTION_TYPE)
    except AirflowNotFoundException:
        if f"{_PREFIX}{conn_id.upper()}" in os.environ:
            say(f"{_PREFIX}{conn_id.upper()} cannot be read as a connection: see `airflow connections get {conn_id}`.")
        return False


def _stored() -> Iterator[str]:
    """The ids of our type's connections in Airflow's database."""
    from airflow.models import Connection
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        yield from session.scalars(select(Connection.conn_id).where(Connection.conn_type == CONNECTION_TYPE)).all()


def _mentioned() -> Iterator[str]:
    """The ids of connections that DAGs name, or that tasks were run with lately."""
    from airflow.models.renderedtifields import RenderedTaskInstanceFields
    from airflow.models.serialized_dag import SerializedDagModel
    from airflow.utils.session import create_session
    from sqlalchemy import String, cast, select

    rendered = RenderedTaskInstanceFields.rendered_fields
    with create_session() as session:
        for fields in session.scalars(select(rendered).where(cast(rendered, String).contains("cluster_conn_id"))):
            yield from _named(fields)
        for dag in session.scalars(select(SerializedDagModel)):
            yield from _named(dag.data)


def _named(value: Any) -> Iterator[str]:
    """The plain texts under the key `cluster_conn_id`, wherever they are; of a parameter, its default."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            if key == "cluster_conn_id" or part == "cluster_conn_id":
                yield from _texts(part if key == "cluster_conn_id" else value)
            yield from _named(part)
    elif isinstance(value, list | tuple):
        if value[:1] in (["cluster_conn_id"], ("cluster_conn_id",)):  # Airflow's spelling of a dict's items
            yield from _texts(value[1:])
        for part in value:
            yield from _named(part)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str) and value and "{" not in value and len(value) <= 250:
        yield value
    elif isinstance(value, Mapping):
        for key in ("default", "value", "__var"):
            yield from _texts(value.get(key))
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _texts(part)
