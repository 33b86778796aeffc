from __future__ import annotations

from typing import get_args

import pytest

from airflow_brayns.movie.easing import EASINGS, Easing


@pytest.mark.parametrize("name", get_args(Easing))
def test_each_begins_at_0_ends_at_1_and_never_goes_back(name: str) -> None:
    shares = [EASINGS[name](step / 100) for step in range(101)]
    assert (shares[0], shares[-1]) == (0, pytest.approx(1))
    assert shares == sorted(shares)


def test_what_eases_in_begins_slowly_and_what_eases_out_ends_slowly() -> None:
    quarter = {name: ease(0.25) for name, ease in EASINGS.items()}
    assert quarter["ease-in"] < quarter["ease-in-out"] < quarter["linear"] < quarter["ease-out"]
    assert EASINGS["ease-in-out"](0.5) == 0.5
