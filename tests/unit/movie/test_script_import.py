"""Modules beside a movie's file: found while its code runs, by its thread, and by nobody else."""

from __future__ import annotations

import importlib.util
import threading
from pathlib import Path

import pytest

from airflow_brayns.movie.script_import import from_folder


def finds(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


@pytest.fixture
def folder(tmp_path: Path) -> str:
    (tmp_path / "only_beside_a_movie.py").write_text("")
    return str(tmp_path)


def test_what_is_beside_a_movie_is_not_found_any_more_when_its_code_has_run(folder: str) -> None:
    """A worker runs other tasks' code behind it, in the same thread."""
    with from_folder(folder):
        assert finds("only_beside_a_movie")
    assert not finds("only_beside_a_movie")


def test_a_movie_within_anothers_code_gives_the_folder_back(folder: str, tmp_path: Path) -> None:
    with from_folder(folder):
        with pytest.raises(ZeroDivisionError), from_folder(str(tmp_path / "other")):
            raise ZeroDivisionError
        assert finds("only_beside_a_movie")


def test_another_thread_finds_nothing_of_it(folder: str) -> None:
    found: list[bool] = []
    with from_folder(folder):
        thread = threading.Thread(target=lambda: found.append(finds("only_beside_a_movie")))
        thread.start()
        thread.join()
    assert found == [False]
