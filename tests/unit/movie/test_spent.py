"""What a movie tells while it is rendered, and what it may cost: its ledger, its glimpse and its budget."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from PIL import Image

from airflow_brayns.errors import BudgetSpent, RenderingFailed
from airflow_brayns.movie.images import spread
from airflow_brayns.movie.ledger import Ledger
from airflow_brayns.movie.used import Used
from tests.support.movie import Remembers, check_whole, produce, records, specification
from tests.unit.movie.test_production import QUICK

pytestmark = pytest.mark.slow


async def test_what_the_nodes_did_is_told_and_each_try_adds_to_it(emulator, data: Path, tmp_path: Path) -> None:
    spec, began = specification(data / "cube.obj", frames=12), time.monotonic()
    first, second, third = Remembers(), Remembers(), Remembers()
    with pytest.raises(RenderingFailed):
        await produce(spec, [emulator(crash_at_picture=8, **QUICK)], tmp_path, reporter=first)
    [(used, total)] = first.uses
    assert used == total
    assert used.frames == len(records(tmp_path))
    assert used.rendering >= 0.02 * used.frames and used.starting > 0 and used.lost > 0
    assert used.node_seconds <= time.monotonic() - began
    await produce(spec, [emulator(**QUICK)], tmp_path, token="2", reporter=second)
    [(again, total)] = second.uses
    assert total.frames == 12 and not again.lost
    assert total.node_seconds == pytest.approx(used.node_seconds + again.node_seconds, abs=0.01)
    await produce(spec, [], tmp_path, token="3", reporter=third)
    [(nothing, told)] = third.uses
    assert (nothing.node_seconds, told.frames) == (0, 12), "a movie that failed at encoding still tells it"


async def test_a_running_movie_is_seen_as_a_whole_early(emulator, data: Path, tmp_path: Path) -> None:
    _, told = await produce(specification(data / "cube.obj", frames=40), [emulator(**QUICK)], tmp_path)
    order = [record["frame"] for record in records(tmp_path)]
    assert set(order[:14]) < set(spread(range(40), 16)), "two that come at once may be written in either order"
    with Image.open(tmp_path / "glimpse" / "contact-sheet.jpg") as sheet:
        assert sheet.width == 1600
    assert (tmp_path / "glimpse" / "newest.png").resolve().name in [f"{frame:05d}.png" for frame in order[-2:]]
    assert f"{tmp_path}/glimpse/contact-sheet.jpg shows" in told.text


async def test_when_the_budget_is_spent_no_frame_is_begun_and_a_larger_one_goes_on(
    emulator, data: Path, tmp_path: Path
) -> None:
    spec = specification(data / "cube.obj", frames=60)
    slow = {"snapshot_seconds": 0, "frame_seconds": 0.1}
    told, budget = Remembers(), 3.0 / 3600
    services, ledger = [emulator(**slow), emulator(**slow)], Ledger("movie", "1", budget)
    with pytest.raises(BudgetSpent, match=r"frames are missing") as spent:
        await produce(spec, services, tmp_path, reporter=told, ledger=ledger)
    before = len(records(tmp_path))
    assert 5 < before < 60 and spent.value.missing == 60 - before
    [(used, _)] = told.uses
    assert 2.0 <= used.node_seconds <= 3.2 and not used.lost, "what was begun is whole"
    assert not list(tmp_path.glob(".*"))
    again = Remembers()
    with pytest.raises(BudgetSpent) as refused:  # no service is there, and none is asked for
        await produce(spec, [], tmp_path, reporter=again, ledger=Ledger("movie", "2", budget))
    assert refused.value.missing == 60 - before and again.uses[0][0] == Used()
    _, told = await produce(spec, [emulator(**QUICK)], tmp_path, ledger=Ledger("movie", "3", 1))
    check_whole(tmp_path, 60)
    assert len(records(tmp_path)) == 60 and told.uses[0][1].node_seconds > used.node_seconds


async def test_a_budget_that_is_spent_before_a_frame_comes_ends_it(emulator, data: Path, tmp_path: Path) -> None:
    spec, ledger = specification(data / "cube.obj", frames=9), Ledger("movie", "1", 1.0 / 3600)
    with pytest.raises(BudgetSpent, match="no scene was loaded"):
        await produce(spec, [emulator(load_seconds=30)], tmp_path, ledger=ledger)
    assert ledger.used.node_seconds < 5
