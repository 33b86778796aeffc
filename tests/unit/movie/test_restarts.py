"""How often services are started anew: once on each node, and no fault of a scene for ever."""

from __future__ import annotations

import pytest

from airflow_brayns.movie.restarts import Restarts
from airflow_brayns.movie.worker import Aside

DIED, HUNG, BY_FRAME = Aside("it died"), Aside("it hangs", hung=True), Aside("frame 7 ended it", frame=7)


@pytest.mark.parametrize("rendered", [0, 9])
def test_one_that_died_is_started_anew_once_on_each_node(rendered: int) -> None:
    restarts = Restarts()
    assert [restarts.allows(place, DIED, rendered) for place in ("n1", "n2", "n1", "n2")] == [True, True, False, False]


def test_where_no_frame_has_come_one_that_hangs_is_started_anew_once_for_all_nodes() -> None:
    restarts = Restarts()
    assert [restarts.allows(place, HUNG, 0) for place in ("n1", "n2", "n3")] == [True, False, False]


def test_where_frames_come_one_that_hangs_counts_as_one_that_died() -> None:
    restarts = Restarts()
    assert [restarts.allows(place, HUNG, 9) for place in ("n1", "n2", "n1")] == [True, True, False]


def test_an_end_that_a_frame_caused_does_not_count_as_long_as_frames_come() -> None:
    restarts = Restarts()
    assert [restarts.allows("n1", BY_FRAME, rendered) for rendered in (3, 5, 8)] == [True, True, True]
    assert [restarts.allows("n1", BY_FRAME, 8) for _ in range(2)] == [True, False], "no frame has come since"
