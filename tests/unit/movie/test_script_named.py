"""Imports by a text: what is known of it before the code runs, and which modules beside it may mean."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from airflow_brayns.movie.script_named import named, so_named


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("import importlib\nimportlib.import_module('cells')", ["cells"]),
        ("def frame(service, number):\n    return il.import_module(name='cells.layer')", ["cells.layer"]),
        ("from importlib import import_module as load\nload('cells')", ["cells"]),
        ("__import__('cells')", ["cells"]),
        ("__import__('cells', fromlist=['layer'])", ["cells", "cells.*"]),
        ("import_module('.layer', 'cells.inner')", ["cells.inner.layer"]),
        ("import_module('..layer', package='cells.inner')", ["cells.layer"]),
        ("import_module('...layer', 'cells')", []),
        ("import_module('.layer', __package__)", [".layer"]),
        ("import_module('.layer', where)", ["*"]),
        ("import_module(f'style_{style}')", ["style_*"]),
        ("import_module('styles.' + style)", ["styles.*"]),
        ("import_module(style)", ["*"]),
        ("import_module(*given)", ["*"]),
        ("load = importlib.import_module", ["*"]),
        ("map(import_module, names)", ["*"]),
        ("getattr(importlib, 'import_module')('cells')", ["*"]),
        ("import cells\nfrom importlib import import_module\ncells.load('late')", []),
    ],
)
def test_what_a_text_says_of_a_module(code: str, found: list[str]) -> None:
    assert list(named(ast.parse(code))) == found


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("style_*", ["style_blue", "style_red"]),
        ("cells.*", ["cells.layer", "cells.layer.deep"]),
        ("mere.*", ["mere.inner"]),
        ("*", ["cells", "cells.layer", "cells.layer.deep", "style_blue", "style_red"]),
        ("nothing_*", []),
    ],
)
def test_modules_are_found_by_what_is_known_of_their_name(tmp_path: Path, pattern: str, found: list[str]) -> None:
    """What lies in mere folders, which may be anything, only where the folder is named."""
    names = (
        "style_red",
        "style_blue",
        "cells/__init__",
        "cells/layer/__init__",
        "cells/layer/deep",
        "mere/inner",
        "no-name",
    )
    for name in names:
        file = tmp_path / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("")
    (tmp_path / "style_notes.txt").write_text("")
    assert list(so_named(tmp_path, pattern)) == found


def test_a_folder_that_is_not_there_has_no_modules(tmp_path: Path) -> None:
    assert list(so_named(tmp_path / "gone", "*")) == []
