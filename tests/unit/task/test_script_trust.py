from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_brayns.errors import InvalidSetting
from airflow_brayns.task.script_trust import check_may_bring, is_authors, script_path


def bundle(folder: Path) -> dict[str, Any]:
    return {"ti": SimpleNamespace(bundle_instance=SimpleNamespace(path=folder))}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "dags" / "movies").mkdir(parents=True)
    found = tmp_path / "dags" / "movies" / "growth.py"
    found.write_text("")
    return found


def test_the_bundles_folder_may_bring_python_and_others_may_not(file: Path, tmp_path: Path) -> None:
    check_may_bring(file, bundle(tmp_path / "dags"))
    check_may_bring(file, {"dag": SimpleNamespace(fileloc=str(tmp_path / "dags" / "a.py"))})
    for context in (bundle(tmp_path / "elsewhere"), bundle(tmp_path / "dag"), {}, None):
        with pytest.raises(
            InvalidSetting, match=r"(?s)^specification: .*/growth\.py is Python, which would run as the worker"
        ):
            check_may_bring(file, context)


def test_links_are_followed_both_ways(file: Path, tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    evil = tmp_path / "theirs" / "evil.py"
    evil.write_text("")
    link = file.with_name("link.py")
    link.symlink_to(evil)
    for path in (link, file.parent / ".." / ".." / "theirs" / "evil.py"):
        with pytest.raises(InvalidSetting, match=r"that is \S*/theirs/evil\.py"):
            check_may_bring(path, bundle(tmp_path / "dags"))
    (tmp_path / "linked").symlink_to(tmp_path / "dags")
    assert check_may_bring(tmp_path / "linked" / "movies" / "growth.py", bundle(tmp_path / "linked")) == file.resolve()


def test_a_site_may_name_folders(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__BRAYNS__SCRIPT_FOLDERS", f"/nowhere, {file.parent}")
    check_may_bring(file, None)
    with pytest.raises(InvalidSetting, match=r"from these folders only: /nowhere, \S*/movies\."):
        check_may_bring(tmp_path / "growth.py", None)


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ("/a/growth.py", "/a/growth.py"),
        (Path("/a/growth.py"), "/a/growth.py"),
        ({"script": {"file": "/a/growth.py"}, "frames": 3}, "/a/growth.py"),
        ({"script": 5}, None),
        ("/a/movie.yaml", None),
        ("models:\n- path: a.py", None),
        ({"models": []}, None),
        (None, None),
    ],
)
def test_what_names_python(value: Any, path: str | None) -> None:
    assert script_path(value) == (path and Path(path))


def test_what_a_template_fills_in_is_not_the_authors() -> None:
    plain = {"script": {"file": "/a/growth.py"}, "frames": 3, "frame_range": [0, 1]}
    for value in ("/a/growth.py", Path("/a/growth.py"), plain):
        assert is_authors(value, value)
    for written in ("{{ params.specification }}", "[[ mine ]]", {"script": {"file": "{{ x }}"}, "frames": 3}, None):
        assert not is_authors(written, plain)


def test_what_is_filled_in_at_run_time_is_not_the_authors() -> None:
    class Anything:
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = None  # type: ignore[assignment]

    plain = {"script": {"file": "/a/growth.py"}}
    for written in (Anything(), {"script": {"file": Anything()}}, {"script": [Anything()]}, None):
        assert not is_authors(written, written if written is None else plain)


@pytest.mark.parametrize("text", ["~nosuchuser/x.py", "/a\0/x.py", f"/{5000 * 'x'}.py"])
def test_what_is_no_path_is_told(text: str) -> None:
    for value in (text, {"script": {"file": text}}):
        with pytest.raises(InvalidSetting, match="specification: .*\n?.*is not a path"):
            script_path(value)
