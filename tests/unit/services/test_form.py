"""A field of the connection is written once: what is made of it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, BeforeValidator, Field

from airflow_brayns.provider import get_provider_info
from airflow_brayns.services.form import Needed, form_of, needed_for, parameters_of, setting, templated
from airflow_brayns.services.settings import CONNECTING, FIELDS, FINDING, WAITING, ClusterSettings

Seconds = Annotated[float, BeforeValidator(float), Field(gt=0)]


class Example(BaseModel):
    where: Literal["here", "there"] = setting("Where", "Here, or there.", "here", needed=Needed.TO_FIND)
    limit: Seconds | None = setting("Limit", "Seconds; empty for none.", needed=Needed.TO_WAIT)
    number: Literal[1, 2] | None = setting("Number", "One or two.")
    words: Annotated[list[str] | str, BeforeValidator(list)] = setting("Words", "As typed.", [])
    size: str | int | None = setting("Size", "How large.", form={"format": "multiline"})
    lines: str = setting("Lines", "Trusted code.", "", code=True)


@pytest.mark.parametrize(
    ("name", "schema"),
    [
        ("where", {"type": ["string", "null"], "enum": ["here", "there"], "default": "here"}),
        ("limit", {"type": ["number", "null"]}),
        ("number", {"type": ["integer", "null"], "enum": [None, 1, 2]}),
        ("words", {"type": ["array", "null"], "items": {"type": "string"}}),
        ("size", {"type": ["string", "null"], "format": "multiline"}),
    ],
)
def test_the_form_asks_for_what_the_type_says(name: str, schema: dict[str, Any]) -> None:
    shown = form_of(Example.model_fields)[name]
    assert shown["schema"] == schema
    assert shown["label"] == name.capitalize()


def test_what_few_need_is_folded() -> None:
    shown = form_of(Example.model_fields, {"More": ("where", "size")})
    assert [name for name, one in shown.items() if one["schema"].get("section") == "More"] == ["where", "size"]


def test_the_connections_form_opens_with_what_most_sites_set() -> None:
    [connection] = get_provider_info()["connection-types"]
    shown = connection["conn-fields"]
    assert set(shown) == set(FIELDS)
    opened = [name for name, one in shown.items() if "section" not in one["schema"]]
    assert opened == ["scheduler", "ssh_conn_id", "account", "partition", "executable", "setup", "route"]
    assert "default" not in shown["executable"]["schema"], "a form stores what it shows, and `local` has another one"
    assert shown["generation"]["schema"]["values_display"]["None"], "else Airflow's page shows `null` (3.3.2)"


def test_what_one_use_needs_the_uses_before_it_need_too() -> None:
    fields = Example.model_fields
    assert needed_for(fields, Needed.TO_FIND) == needed_for(fields, Needed.TO_CONNECT) == ("where",)
    assert needed_for(fields, Needed.TO_WAIT) == ("where", "limit")
    assert needed_for(fields, Needed.TO_START) == tuple(fields)


def test_no_template_makes_trusted_code() -> None:
    assert set(Example.model_fields) - set(templated(Example.model_fields)) == {"lines"}
    assert set(FIELDS) - set(templated(FIELDS)) == {"setup", "container"}


def test_a_docstring_tells_meaning_and_default() -> None:
    told = parameters_of(Example.model_fields, indent="").splitlines()
    assert told[:2] == [":param where: Here, or there. Default: ``here``.", ":param limit: Seconds; empty for none."]


def test_the_connections_form_and_docs_have_every_field_and_no_other() -> None:
    form = get_provider_info()["connection-types"][0]["conn-fields"]
    assert list(form) == list(ClusterSettings.model_fields)
    assert all(field["label"] and field["description"] for field in form.values())
    for name, field in form.items():
        assert f":param {name}: {field['description']}" in (ClusterSettings.__doc__ or "")


def test_a_wait_carries_nothing_secret_and_a_handed_on_allocation_says_where_it_is() -> None:
    """Waits go through the triggerer's database; `cluster` of XCom's `allocation` is compared with that of former versions."""
    assert FINDING == ("scheduler", "ssh_conn_id", "state_dir")
    assert set(FINDING) < set(CONNECTING) < set(WAITING)
    assert not {"environment", "setup", "container", "sbatch_options"} & set(WAITING)
