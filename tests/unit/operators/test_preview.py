"""The task that shows what a movie will look like."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from airflow.sdk.exceptions import AirflowFailException
from PIL import Image

from airflow_brayns import PreviewMovieOperator
from tests.support.local import FAST, HERE, gone
from tests.support.script import NEEDS_CLIENT, script


def task(data: Path, spec: dict[str, Any] | None = None, **changes: Any) -> PreviewMovieOperator:
    specification = {
        "models": [{"path": str(data / "cube.obj")}],
        "frames": 200,
        "resolution": [1920, 1080],
        "renderer": {"name": "production", "samples_per_pixel": 128},
    }
    values = {"task_id": "preview", "specification": specification | (spec or {}), "plugins": [], **HERE, **FAST}
    return PreviewMovieOperator(**{**values, **changes})


@pytest.mark.slow
def test_a_sheet_of_the_movie_is_made_by_one_node_that_is_given_back(
    context: Any, cluster: Any, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "http://airflow:8080/air/")
    sheet = tmp_path / "new" / "sheet.jpg"
    assert task(data, output_file=str(sheet), frames="6", width=160).execute(context) == str(sheet)
    with Image.open(sheet) as image:
        assert image.width > 3 * 160
    told = context["ti"].xcom["brayns_preview"]
    assert told["contact_sheet"] == str(sheet)
    address = urlsplit(told["picture"])
    assert (address.netloc, address.path) == ("airflow:8080", "/air/brayns/movies/preview")
    ti = context["ti"]
    asked = {name: [str(getattr(ti, name))] for name in ("dag_id", "run_id", "task_id", "map_index")}
    assert parse_qs(address.query) == asked
    assert len(context["ti"].xcom["allocation"]["allocations"]) == 1
    assert gone(cluster)
    assert sorted(path.name for path in sheet.parent.iterdir()) == ["sheet.jpg"], "its frames are of no use any more"


@pytest.mark.slow
@NEEDS_CLIENT
def test_a_movie_of_python_is_shown_too(context: Any, cluster: Any, data: Path, tmp_path: Path) -> None:
    file = script(tmp_path)
    found = Path(task(data, specification=str(file), output_file=str(tmp_path / "sheet.png")).execute(context))
    with Image.open(found) as image:
        assert image.format == "PNG"


BAD: list[tuple[str, dict[str, Any]]] = [
    ("frames", {"frames": 0}),
    ("frames", {"frames": "many"}),
    ("width", {"width": 63}),
    ("output_file", {"output_file": "/tmp/sheet.gif"}),
    ("output_file", {"output_file": "/proc/none/sheet.jpg"}),
    ("plugins", {"plugins": ["a b"]}),
    ("models", {"spec": {"models": [{"path": "/nowhere.obj"}]}}),
]


@pytest.mark.parametrize(("field", "changes"), BAD)
def test_bad_input_asks_for_no_node(
    context: Any, cluster: Any, data: Path, state: Path, field: str, changes: dict[str, Any]
) -> None:
    with pytest.raises(AirflowFailException, match=field):
        task(data, **changes).execute(context)
    assert not state.exists()
