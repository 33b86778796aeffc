"""What counts as news for who waits."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_brayns.cluster.allocation import AllocationStatus, ServiceStatus
from airflow_brayns.cluster.waiter import Waiter, news, question
from airflow_brayns.errors import InvalidSetting

NAME = "ab-0123456789ab000"


@pytest.mark.parametrize(
    ("status", "want", "number"),
    [
        ({}, 1, 0),
        ({"nodes": ("a",)}, 1, 1),
        ({"ended": ""}, 1, 1),
        ({"nodes": ("a",), "services": (ServiceStatus("s1", port=1), ServiceStatus("s2"))}, 1, 2),
        ({"nodes": ("a",), "services": (ServiceStatus("s1", port=1), ServiceStatus("s2"))}, 2, 1),
        ({"nodes": ("a",), "services": (ServiceStatus("s1", port=1), ServiceStatus("s2", port=2, exit_code=0))}, 2, 4),
    ],
)
def test_news_are_nodes_ends_and_as_many_listening_services_as_are_wanted(
    status: dict[str, Any], want: int, number: int
) -> None:
    assert news(AllocationStatus(NAME, 1, **status), want) == number


def test_who_waits_is_named_once_in_a_look() -> None:
    """A look is sent again each interval: each wait was named four times in it, 116 bytes."""
    waits = [Waiter(f"{NAME[:-3]}{number:03x}", 1, 1, 2, {"brayns1": 52_000}) for number in range(1000)]
    asked = question(waits, 5, 10)
    assert asked.startswith(f"look_for 8 5 10 '{NAME} 1 1 2 brayns1 52000' '")
    assert len(asked) / len(waits) <= 60


@pytest.mark.parametrize(("name", "offsets", "field"), [("x; ls", None, "name"), (NAME, {"s1; ls": 0}, "service")])
def test_what_is_no_name_is_refused_by_the_field_that_it_is_in(
    name: str, offsets: dict[str, int] | None, field: str
) -> None:
    """Both are words of a script."""
    with pytest.raises(InvalidSetting, match=f"^{field}: "):
        question([Waiter(name, 1, offsets=offsets)], 0, 1)
