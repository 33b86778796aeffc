from __future__ import annotations

import pytest

from airflow_brayns.errors import InvalidSetting
from airflow_brayns.services.literal import literal
from airflow_brayns.services.settings import ClusterSettings


@pytest.mark.parametrize(
    "text", ['{"a": 1, "a": 2}', "{'a': 1, 'a': 2}", '[{"x": {"a": 1, "b": 2, "a": 3}}]', "[{'a': 1, 'a': None}]"]
)
def test_a_doubled_key_in_a_text_is_refused(text: str) -> None:
    """The last one was taken, without a word."""
    with pytest.raises(InvalidSetting, match=r"^a: leave one of them out\.\n +It is there twice"):
        literal(text)
    with pytest.raises(InvalidSetting, match=r"^A: leave one of them out\.\n +It is there twice"):
        ClusterSettings.read({"environment": '{"A": "1", "A": "2"}'})
