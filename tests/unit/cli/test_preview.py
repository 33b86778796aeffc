from __future__ import annotations

import argparse

import pytest

from airflow_brayns.cli.definition import _PREVIEW
from airflow_brayns.cli.movie import preview, preview_size
from tests.support.cluster import REPO

FILE = REPO / "dags" / "movies" / "neuron.yaml"


@pytest.mark.parametrize(("width", "aspect"), [(64, 16 / 9), (65, 1.0), (400, 16 / 9), (400, 250.0), (16384, 16 / 9)])
def test_a_small_frame_is_never_smaller_than_the_service_bears(width: int, aspect: float) -> None:
    size = preview_size(width, aspect)
    assert min(size) >= 64
    assert not any(side % 2 for side in size)


@pytest.mark.parametrize("options", [["--width", "63"], ["--width", "0"], ["--width", "99999"], ["--frames", "0"]])
def test_bad_values_are_refused_by_name_before_a_node_is_asked_for(
    options: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ask(*_: object) -> None:
        raise AssertionError("a node was asked for")

    monkeypatch.setattr("airflow_brayns.cli.movie._render", ask)
    with pytest.raises(SystemExit, match=options[0]):
        _preview([str(FILE), *options])


def _preview(words: list[str]) -> None:
    """As `airflow brayns movie preview` reads its command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("file")
    for argument in _PREVIEW:
        argument.add_to_parser(parser)
    preview(parser.parse_args(words))
