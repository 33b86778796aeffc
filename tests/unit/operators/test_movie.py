from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from PIL import Image

from airflow_brayns import BraynsServiceOperator, EncodeMovieOperator, ReleaseNodesOperator, RenderFramesOperator
from airflow_brayns.movie.ffmpeg import ffmpeg
from airflow_brayns.movie.images import vips
from tests.support.local import gone, movie
from tests.support.script import ROOT
from tests.support.task import Ti

CUBE = str(ROOT / "data" / "cube.obj")
pytestmark = pytest.mark.slow


def test_a_file_is_a_template_and_its_errors_name_the_line(
    context: Any, cluster: Any, data: Path, tmp_path: Path, state: Path
) -> None:
    file = tmp_path / "spec.yaml"
    file.write_text(f"models:\n- path: {data}/cube.obj\nframes: {{{{ params.frames }}}}\nresolution: [64, 64]\n")
    operator = movie(data, tmp_path, specification=str(file))
    operator.execute({**context, "params": {"frames": 3}})
    with pytest.raises(AirflowFailException, match=r"spec\.yaml line 3, frames: .*greater than or equal to 1"):
        operator.execute({**context, "params": {"frames": 0}})


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("output_file", {"output_file": "movie.avi"}),
        ("fps", {"spec": {"fps": 0}}),
        ("nodes", {"nodes": 0}),
        ("frames", {"spec": {"frames": 0}}),
        (r"models\.0\.path", {"spec": {"models": [{"path": "/nowhere.swc"}]}}),
        ("resolution", {"spec": {"resolution": [65, 64]}}),
        ("plugins", {"plugins": ["a b"]}),
        ("way", {"way": "by hand"}),
        ("renew_before", {"renew_before": "soon"}),
        ("specification", {"specification": "/nowhere/movie.yaml"}),
        ("camera.path", {"spec": {"camera": {"path": "spiral"}}}),
        ("tiles", {"spec": {"tiles": [0, 4]}}),
        ("tiles", {"spec": {"tiles": [3, 3]}}),  # 43x24 pixels each
        ("resolution", {"spec": {"resolution": [40_000, 40_000], "tiles": [4, 4]}}),  # h264
        ("lights", {"spec": {"lights": [], "renderer": {"name": "production"}}}),
        (
            r"models\.0\.transform\.translation\.1",
            {"spec": {"models": [{"path": CUBE, "transform": {"translation": [0, float("nan"), 0]}}]}},
        ),
        (r"models\.0\.material", {"spec": {"models": [{"path": CUBE, "material": {"kind": "velvet"}}]}}),
        ("frames_on", {"spec": {"resolution": [256, 144], "tiles": [2, 2]}, "frames_on": "cluster"}),
    ],
)
def test_bad_input_asks_for_no_node(
    context: Any, cluster: Any, data: Path, tmp_path: Path, state: Path, field: str, changes: dict[str, Any]
) -> None:
    with pytest.raises(AirflowFailException, match=field):
        movie(data, tmp_path, **changes).execute(context)
    assert not state.exists()


@pytest.mark.parametrize(
    ("lines", "told"),
    [("0,45\n2,30", r"values\.csv line 3, frame: .*frame 1 is missing"), ("0,45\n1,wide", r"values\.csv line 3, camera\.fovy: .*'wide'")],
    ids=["a gap", "a text in a number"],
)  # fmt: skip
def test_a_table_that_is_wrong_asks_for_no_node(
    context: Any, cluster: Any, data: Path, tmp_path: Path, state: Path, lines: str, told: str
) -> None:
    (tmp_path / "values.csv").write_text(f"frame,camera.fovy\n{lines}\n")
    file = tmp_path / "movie.yaml"
    file.write_text(f"models: [{{path: {CUBE}}}]\nframes: 2\nresolution: [64, 64]\nper_frame: values.csv\n")
    with pytest.raises(AirflowFailException, match=f"(?s){told}"):
        movie(data, tmp_path, specification=str(file)).execute(context)
    assert not state.exists()


def test_a_still_in_tiles_by_two_services(context: Any, cluster: Any, data: Path, tmp_path: Path) -> None:
    """One file comes out, and its pictures; the tiles are gone with the frames."""
    spec = {"frames": 1, "resolution": [513, 300], "tiles": [4, 3], "output": "cover.png"}
    operator = movie(data, tmp_path, spec, output_file=str(tmp_path / "cover.png"))
    assert operator.execute(context) == str(tmp_path / "cover.png")
    with Image.open(tmp_path / "cover.png") as cover:
        assert cover.size == (513, 300)
        assert json.loads(cover.text["comment"])["specification"]["tiles"] == [4, 3]
    assert sorted(path.name for path in tmp_path.iterdir() if "cover" in path.name) == [
        "cover.png", "cover.poster.jpg", "cover.sheet.jpg",
    ]  # fmt: skip


def test_tiles_that_were_kept_are_joined_again_by_whoever_encodes(
    context: Any, cluster: Any, data: Path, tmp_path: Path
) -> None:
    """As the manifest says, also to another format; one that is gone is told of."""
    spec = {"frames": 1, "resolution": [512, 256], "tiles": [4, 2], "output": "cover.png"}
    frames = tmp_path / "tiles"
    made = movie(
        data, tmp_path, spec, output_file=str(tmp_path / "a.png"), frames_dir=str(frames), keep_frames=True
    ).execute(context)
    assert len(list(frames.glob("*.png"))) == 8
    encode = EncodeMovieOperator(
        task_id="task", cluster_conn_id="here", frames_dir=str(frames), output_file=str(tmp_path / "b.jpg"), codec="jpg"
    )
    with Image.open(encode.execute(context)) as joined, Image.open(made) as first:
        assert joined.size == first.size == (512, 256)
    (frames / "00000-1-2.png").unlink()
    with pytest.raises(
        AirflowFailException, match=r"1 of 8 in \S+ cannot be encoded: 7 tiles are there already; 1 missing"
    ):
        encode.execute(context)


def test_tiles_without_the_extra_ask_for_no_node(
    context: Any, cluster: Any, data: Path, tmp_path: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vips.cache_clear()
    monkeypatch.setitem(sys.modules, "pyvips", None)
    spec = {"frames": 1, "resolution": [512, 256], "tiles": [4, 2], "output": "cover.png"}
    with pytest.raises(AirflowFailException, match=r"tiles: install the extra"):
        movie(data, tmp_path, spec, output_file=str(tmp_path / "cover.png")).execute(context)
    assert not state.exists()


def test_a_folder_that_cannot_be_written_names_the_field(context: Any, cluster: Any, data: Path) -> None:
    render = RenderFramesOperator(
        task_id="task", cluster_conn_id="here", endpoints=["h:1"], frames_dir="/proc/frames",
        specification=json.dumps(movie(data, Path("/tmp")).specification),
    )  # fmt: skip
    with pytest.raises(AirflowFailException, match="frames_dir"):
        render.execute(context)
    encode = EncodeMovieOperator(
        task_id="task", cluster_conn_id="here", frames_dir="/nowhere", output_file="/proc/x/movie.mp4"
    )
    with pytest.raises(AirflowFailException, match="output_file"):
        encode.execute(context)


def test_one_pass_with_endpoints_is_refused_before_anything_is_loaded(
    context: Any, cluster: Any, data: Path, tmp_path: Path
) -> None:
    """It could never work, and was found out when the model had been loaded, again at each retry."""
    render = RenderFramesOperator(
        task_id="task", cluster_conn_id="here", endpoints=["127.0.0.1:1"], way="one-pass", frames_dir=str(tmp_path / "frames"),
        specification={"models": [{"path": str(data / "cube.obj")}], "frames": 2},
    )  # fmt: skip
    with pytest.raises(AirflowFailException, match=r"way: leave it out\.\n +services given by `endpoints`"):
        render.execute(context)


def test_a_movie_on_four_nodes_keeps_its_log_short(
    context: Any, cluster: Any, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """1,431 of 1,597 lines for 24 frames were the services' own (run, 3.10.1): 120 at each start, five for each request.

    Here each service's setup chatters, too: what a service says beside its start and its warnings is in its own log.
    """
    chatter = "for n in 1 2 3 4 5 6 7 8 9; do echo module $n; done"
    movie(data, tmp_path, {"frames": 24}, nodes=4, min_ready=4, setup=chatter).execute(context)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 150, "\n".join(lines)
    # A line of which half was there at the last look is not told: the movie may be made before the next one.
    assert 1 <= sum("Server started on" in line for line in lines) <= 4
    assert sum("all it says is in" in line for line in lines) == 4


def test_a_service_that_dies_in_a_movie_is_named_with_its_end_and_its_last_lines(
    context: Any, cluster: Any, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was told was the tunnel's local port."""
    dying = {"BRAYNS_EMULATOR": "snapshot_seconds=0,frame_seconds=0.02,crash_at_picture=4"}
    with pytest.raises(
        AirflowException,
        match=r"(?s)brayns\S*\s+on\s+slot1\s+\(job\s+\d+\)\s+was\s+killed\s+by\s+signal\s+11\s+\(SIGSEGV\).*Last\s+lines",
    ):
        movie(data, tmp_path, {"frames": 30}, nodes=1, environment=dying).execute(context)
    told = capsys.readouterr().out
    assert "is set aside and started anew on its node: " in told
    assert "Server started on" in told


def test_what_it_used_is_in_xcom_in_the_log_and_in_the_movie(
    context: Any, cluster: Any, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    movie(data, tmp_path, {"frames": 24}, min_ready=2).execute(context)
    used = context["ti"].xcom["brayns_used"]
    assert used["frames"] == 24 and 0 < used["efficiency"] < 1 and not used["lost"]
    assert used["rendering"] * 3600 >= 24 * 0.02
    parts = sum(used[name] for name in ("rendering", "starting", "waiting", "lost"))
    assert used["node_hours"] == pytest.approx(parts, abs=1e-5)
    assert "Rendering used 0.00" in capsys.readouterr().out
    out = subprocess.run(
        [ffmpeg(), "-v", "error", "-i", tmp_path / "movie.mp4", "-f", "ffmetadata", "-"], capture_output=True, text=True, check=True
    ).stdout  # fmt: skip
    assert f'"node_hours":{used["node_hours"]}' in out.replace("\\", "")


def test_a_spent_budget_ends_the_task_without_a_retry_and_cleared_with_a_larger_one_it_goes_on(
    context: Any, cluster: Any, data: Path, tmp_path: Path, state: Path
) -> None:
    slow = {"BRAYNS_EMULATOR": "snapshot_seconds=0,frame_seconds=0.1"}
    asked = {"spec": {"frames": 40, "budget": 4 / 3600}, "environment": slow, "keep_frames": True, "nodes": 1}
    with pytest.raises(
        AirflowFailException, match=r"(?s)budget: clear the task with a larger one.*frames are missing"
    ) as spent:
        movie(data, tmp_path, **asked).execute(context)
    error = spent.value.error  # type: ignore[attr-defined]
    first = context["ti"].xcom["brayns_used"]
    assert gone(cluster) and 0 < error.missing < 40 and error.used == pytest.approx(first["node_hours"], abs=1e-5)
    assert first["frames"] == 40 - error.missing
    jobs = len(list(state.glob("ab-*/*/job")))
    with pytest.raises(AirflowFailException, match="budget: clear"):  # cleared as it is
        movie(data, tmp_path, **asked).execute(context)
    assert len(list(state.glob("ab-*/*/job"))) == jobs, "no node was asked for"
    movie(data, tmp_path, **asked, budget="{{ 1 }}".strip("{} ")).execute(context)  # the operator's wins
    whole = context["ti"].xcom["brayns_used"]
    assert whole["frames"] == 40 and whole["node_hours"] > first["node_hours"]
    assert (tmp_path / "movie.mp4").exists()


@pytest.mark.parametrize("budget", [0, -1, "much", float("nan"), True, 1e10])
def test_a_budget_that_is_none_asks_for_no_node(
    context: Any, cluster: Any, data: Path, tmp_path: Path, state: Path, budget: Any
) -> None:
    with pytest.raises(AirflowFailException, match="budget"):
        movie(data, tmp_path, budget=budget).execute(context)
    with pytest.raises(AirflowFailException, match="budget"):
        movie(data, tmp_path, {"budget": budget}).execute(context)
    assert not state.exists()


def test_a_service_is_started_anew_with_what_it_was_first_started_with(
    context: Any, cluster: Any, data: Path, tmp_path: Path, state: Path
) -> None:
    """The task that renders has an environment and plugins of its own, which are not those of the services it was given."""
    dying = {"BRAYNS_EMULATOR": "snapshot_seconds=0,frame_seconds=0.02,crash_at_picture=4", "WHOSE": "the allocation's"}
    started = BraynsServiceOperator(task_id="task", cluster_conn_id="here", nodes=1, environment=dying)
    started.execute(context)
    render = RenderFramesOperator(
        task_id="render", cluster_conn_id="here", allocation=context["ti"].xcom["allocation"], environment={"WHOSE": "mine"},
        frames_dir=str(tmp_path / "frames"), specification=movie(data, tmp_path).specification,
    )  # fmt: skip
    try:
        with pytest.raises(AirflowException, match="SIGSEGV"):
            render.execute({"ti": Ti(task_id="render")})
        first, *anew = sorted(state.glob("ab-*/1/services/*/command"), key=lambda path: len(path.parent.name))
        assert anew
        assert {one.read_text() for one in anew} == {first.read_text()}
    finally:
        ReleaseNodesOperator(task_id="release", cluster_conn_id="here", allocated_by="task").execute(context)


def test_a_model_that_loads_for_longer_than_idle_limit_is_use(
    context: Any, cluster: Any, data: Path, tmp_path: Path
) -> None:
    """Not a byte passes meanwhile."""
    loading = {"BRAYNS_EMULATOR": "snapshot_seconds=0,frame_seconds=0.02,load_seconds=15"}
    movie(data, tmp_path, nodes=1, environment=loading, idle_limit=7, retries=0).execute(context)
    assert (tmp_path / "movie.mp4").exists()
