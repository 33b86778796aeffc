"""Values that came through a template and are not what a field takes."""

from __future__ import annotations

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_brayns.errors import InvalidSetting
from airflow_brayns.operators.base import booking_of, whole_number, word_list
from airflow_brayns.operators.fields import check_output, seconds_of


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
    with pytest.raises(AirflowFailException, match="allocation"):
        booking_of('{"name": "ab-1", "allocations": [{"name": "ab-1", "incarnation": 1e999, "job_id": "7"}]}')
