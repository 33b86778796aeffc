"""Modules beside a movie's file: found while its code runs, by its thread, and by nobody else."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import threading
import types
from pathlib import Path
from typing import Any

import pytest

from airflow_brayns.movie.script_import import OwnModules, from_folder


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


def test_a_module_that_is_called_as_anothers_takes_nothing_from_it(tmp_path: Path) -> None:
    """The worker's own code had the movie's from then on: its callbacks, and what opens its pictures."""
    for name in ("PIL", "colorsys_of_a_dag", "helper_of_a_movie"):
        (tmp_path / f"{name}.py").write_text("MINE = 1\n")
    importlib.import_module("PIL.Image")
    others = sys.modules["colorsys_of_a_dag"] = types.ModuleType("colorsys_of_a_dag")
    before = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "PIL"}
    own = OwnModules(str(tmp_path), {"PIL", "colorsys_of_a_dag", "helper_of_a_movie", "yaml_of_nobody"})
    code = "import PIL, colorsys_of_a_dag, helper_of_a_movie\nfound = PIL.MINE + colorsys_of_a_dag.MINE + helper_of_a_movie.MINE\n"
    values: dict[str, Any] = {"__builtins__": own.builtins}
    try:
        for _ in range(2):  # at the top, and later inside a function
            exec(code, values)
            assert values.pop("found") == 3
            assert {name: sys.modules.get(name) for name in before} == before
            assert sys.modules["colorsys_of_a_dag"] is others
        assert "helper_of_a_movie" in sys.modules, "what the movie has pickled is looked for by its name"
    finally:
        sys.modules.pop("colorsys_of_a_dag", None)
        sys.modules.pop("helper_of_a_movie", None)


def test_a_module_that_is_called_as_one_that_is_installed_is_nobody_elses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where nobody has imported that yet."""
    for folder in ("site", "movie"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "installed_here.py").write_text(f"WHERE = {folder!r}\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    values: dict[str, Any] = {"__builtins__": OwnModules(str(tmp_path / "movie"), {"installed_here"}).builtins}
    exec("import installed_here\nfound = installed_here.WHERE\n", values)
    assert values["found"] == "movie"
    assert importlib.import_module("installed_here").WHERE == "site"
    monkeypatch.delitem(sys.modules, "installed_here")


def pickles(own: OwnModules, name: str) -> None:
    """As code of a movie does it: a class is looked for by its module's name."""
    values: dict[str, Any] = {"__builtins__": own.builtins}
    with own.placed():
        exec(f"import {name}, pickle", values)
    exec(f"found = pickle.dumps({name}.T())", values)


def test_a_movie_in_a_folder_that_is_looked_in_anyway_keeps_its_modules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Airflow puts a bundle of DAGs where Python looks: what lies beside a movie there was taken for somebody else's."""
    (tmp_path / "cells_of_a_bundle.py").write_text("class T: pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    pickles(OwnModules(str(tmp_path), {"cells_of_a_bundle"}), "cells_of_a_bundle")


def test_a_package_without_init_is_each_loads_own(tmp_path: Path) -> None:
    """The second load, of another service, took it for somebody else's, and it was nobody's."""
    (tmp_path / "parts_of_a_movie").mkdir()
    (tmp_path / "parts_of_a_movie" / "inner.py").write_text("class T: pass\n")
    for _ in range(3):
        pickles(OwnModules(str(tmp_path), {"parts_of_a_movie"}), "parts_of_a_movie.inner")


def test_finders_of_others_that_fail_find_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing:
        def find_spec(self, *_: object) -> None:
            raise OSError("a disk that is gone")

    (tmp_path / "helper_beside.py").write_text("class T: pass\n")
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, object(), Failing()])
    pickles(OwnModules(str(tmp_path), {"helper_beside"}), "helper_beside")
