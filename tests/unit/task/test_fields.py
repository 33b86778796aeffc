"""Values that came through a template and are not what a field takes."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_brayns.errors import InvalidSetting
from airflow_brayns.task.fields import (
    booking_of,
    node_hours_of,
    patience_of,
    seconds_of,
    truth_of,
    whole_number,
    word_list,
)
from airflow_brayns.task.movie_fields import check_output


@pytest.mark.parametrize("value", [float("inf"), float("nan"), "9" * 5000, [], "²"])
def test_what_is_no_number_names_its_field(value: object) -> None:
    with pytest.raises(InvalidSetting, match="^nodes"):
        whole_number("nodes", value)


@pytest.mark.parametrize("value", ["nan", float("inf"), "1e999", 10**400, -1])
def test_seconds_have_an_end(value: object) -> None:
    """NaN is not less than 0: it was taken, and no time-out ever came."""
    with pytest.raises(InvalidSetting, match="^renew_before"):
        seconds_of("renew_before", value)


@pytest.mark.parametrize("path", ["\ud800", "a\0b", "~nobody-of-that-name/x", "x" * 300 + "/y"])
def test_what_is_no_path_names_its_field(path: str) -> None:
    with pytest.raises(InvalidSetting, match="^output_file"):
        check_output(path)


def test_an_errors_text_does_not_hold_the_whole_value() -> None:
    with pytest.raises(InvalidSetting) as error:
        word_list("plugins", ["x", {"y": "z" * 1_000_000}])
    assert len(str(error.value)) < 1000


def test_a_booking_with_an_infinite_number_is_none() -> None:
    with pytest.raises(InvalidSetting, match="allocation"):
        booking_of('{"name": "ab-1", "allocations": [{"name": "ab-1", "incarnation": 1e999, "job_id": "7"}]}')


@pytest.mark.parametrize(
    "value",
    [2.7, True, False, "2.7", "yes", "1_0", "\u0663", float("nan"), float("inf"), 10**400, "9" * 5000, [2], None],
)
def test_what_is_no_whole_number_is_none(value: object) -> None:
    """2.7 nodes were 2, and true was 1."""
    if isinstance(value, int) and not isinstance(value, bool):
        assert whole_number("nodes", value) == value
        return
    with pytest.raises(InvalidSetting, match="^nodes: must be a whole number, not "):
        whole_number("nodes", value)


@pytest.mark.parametrize("value", [2, 2.0, "2", " 2\n", "+2"])
def test_a_whole_number_may_have_been_templated(value: object) -> None:
    assert whole_number("nodes", value) == 2


@pytest.mark.parametrize(
    ("value", "truth"),
    [(True, True), ("True", True), ("true", True), (" yes\n", True), (1, True), (False, False), ("false", False), (None, False), ("", False), ("None", False)],
)  # fmt: skip
def test_a_switch_may_have_been_templated(value: Any, truth: bool) -> None:
    """`only_say: "true"` of a reaper gave the nodes back: only Python's own spelling was taken for true."""
    assert truth_of("only_say", value) is truth


@pytest.mark.parametrize("value", ["perhaps", 2, [], "{{ params.only_say }}"])
def test_what_is_neither_true_nor_false_names_its_field(value: Any) -> None:
    with pytest.raises(InvalidSetting, match="^only_say: must be true or false"):
        truth_of("only_say", value)


@pytest.mark.parametrize("value", [True, False])
def test_a_switch_is_no_number_of_seconds(value: bool) -> None:
    with pytest.raises(InvalidSetting, match="^renew_before: "):
        seconds_of("renew_before", value)
    with pytest.raises(InvalidSetting, match="^patience: "):
        patience_of(value)


@pytest.mark.parametrize(
    ("value", "hours"), [(None, None), ("", None), ("None", None), (2, 2.0), ("0.5", 0.5), (1e9, 1e9)]
)
def test_node_hours_may_be_templated(value: Any, hours: float | None) -> None:
    assert node_hours_of("budget", value) == hours


@pytest.mark.parametrize("value", [0, -1, "0", "much", True, float("nan"), float("inf"), "1e400", [1], {}, 10**400])
def test_what_is_no_number_of_node_hours_names_the_field(value: Any) -> None:
    with pytest.raises(InvalidSetting, match="^budget: give a number of node-hours above 0"):
        node_hours_of("budget", value)
