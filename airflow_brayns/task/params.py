"""Parameters of DAGs: a connection's fields in a trigger form, and no others than there are."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from airflow.sdk import Param

from airflow_brayns.errors import InvalidSetting
from airflow_brayns.services.form import asked_as
from airflow_brayns.services.settings import FIELDS
from airflow_brayns.task.guard import guarded

# Those of braynsService 3.10.1 and its predecessors; `more_plugins` takes any.
PLUGINS = (
    "braynsCircuitExplorer",
    "braynsCircuitInfo",
    "braynsAtlasExplorer",
    "braynsCylindricCamera",
    "braynsDTI",
    "braynsMoleculeExplorer",
)


def cluster_params(*names: str, section: str | None = None) -> dict[str, Param]:
    """A parameter for each of these fields of a connection, with its title and help; empty means the connection's own value.

    :param section: of the form, which shows it folded; None for the part that is open.
    """
    more: dict[str, Any] = {} if section is None else {"section": section}
    return {
        name: Param(
            None,
            title=FIELDS[name].title,
            description=f"{FIELDS[name].description} Empty: the connection's.",
            **asked_as(FIELDS[name]),
            **more,
        )
        for name in names
    }


def from_params(*names: str) -> dict[str, str]:
    """Templates that hand parameters of these names on to an operator's arguments of the same names."""
    return {name: f"{{{{ params.{name} }}}}" for name in names}


def plugin_params(*chosen: str) -> dict[str, Param]:
    """Two parameters for plugins: a list to choose from, and others, typed in. `PLUGINS_OF_PARAMS` puts them together.

    :param chosen: the default.
    """
    return {
        "plugins": Param(
            list(chosen),
            type=["null", "array"],
            items={"type": "string"},
            examples=list(PLUGINS),
            title="Plugins",
            description="Plugins that each service must have loaded.",
        ),
        "more_plugins": Param(
            None,
            type=["null", "string"],
            title="Other plugins",
            description="Plugins that the list does not have, with commas or blanks between them.",
        ),
    }


PLUGINS_OF_PARAMS = "{{ (params.plugins or []) + (params.more_plugins or '').replace(',', ' ').split() }}"


@guarded
def known_params_only(context: Mapping[str, Any]) -> None:
    """Refuse a run whose configuration has a key that is no parameter of its DAG: for `pre_execute` of the first task.

    :raises AirflowFailException: naming the key, and the one that may be meant.
    """
    conf, known = getattr(context.get("dag_run"), "conf", None) or {}, list(context["dag"].params)
    for name in conf:
        if name not in known:
            near = get_close_matches(str(name), known, 1)
            hint = f"Did you mean {near[0]}? " if near else ""
            raise InvalidSetting(
                str(name),
                "It is no parameter of this DAG.",
                remedy=f"{hint}It has {', '.join(sorted(known))}."
                if known
                else "leave it out: the DAG has no parameters.",
            )
