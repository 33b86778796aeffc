from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from airflow_brayns.cli.definition import _PREVIEW
from airflow_brayns.cli.movie import preview
from tests.support.bounds import until
from tests.support.cluster import REPO
from tests.support.command_line import CommandLine, airflow_brayns_command
from tests.support.local import cluster, running, state
from tests.support.script import FRAME, HEAD, NEEDS_CLIENT, script

__all__ = ["airflow_brayns_command", "cluster", "state"]

FILE = REPO / "dags" / "movies" / "neuron.yaml"


BAD = [
    ["--width", "63"],
    ["--width", "0"],
    ["--width", "99999"],
    ["--frames", "0"],
    ["--frames", "-1"],
    ["--output", "/nodir/x.jpg"],
    ["--output", "x.gif"],
    ["--output", "/proc/x.png"],
]


def test_check_tells_what_cannot_be_drawn(tmp_path: Path, airflow_brayns_command: CommandLine) -> None:
    file = tmp_path / "movie.yaml"
    file.write_text("models: [{path: /a.obj}]\nframes: 3\noverlays: {logo: logo.png}\n")
    said = airflow_brayns_command("movie", "check", str(file))
    assert said.code == 1
    assert "overlays.logo: give the path of a PNG or JPEG file, or leave it out." in said.err
    assert f"there is no {tmp_path}/logo.png where this runs" in " ".join(said.err.split())


@pytest.mark.parametrize("options", BAD)
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


def test_check_of_shots_tells_the_length_of_the_movie_and_how_many_they_are(
    airflow_brayns_command: CommandLine, tmp_path: Path
) -> None:
    file = tmp_path / "m.json"
    shots = [{"frames": 50}, {"frames": 50, "fade": 25}]
    file.write_text(json.dumps({"version": 2, "models": [{"path": "/a.obj"}], "shots": shots}))
    said = airflow_brayns_command("movie", "check", str(file))
    assert "75 frames, 3.00 s" in said.out and "2 shots" in said.out and "turntable" not in said.out


@pytest.mark.parametrize("conn_id", ["nix", "broken"])
def test_a_connection_that_cannot_work_is_said_before_a_node_is_asked_for(
    airflow_brayns_command: CommandLine, monkeypatch: pytest.MonkeyPatch, conn_id: str
) -> None:
    extra = {"scheduler": "local", "start_timeot": 3}
    monkeypatch.setenv("AIRFLOW_CONN_BROKEN", json.dumps({"conn_type": "brayns_cluster", "extra": extra}))
    said = airflow_brayns_command("movie", "preview", str(FILE), "--cluster-conn-id", conn_id)
    assert (said.code, said.out) == (1, "")
    assert ("no connection 'nix'" if conn_id == "nix" else "start_timeot") in said.err


def test_check_tells_how_large_tiles_are(airflow_brayns_command: CommandLine) -> None:
    said = airflow_brayns_command("movie", "check", str(FILE.with_name("poster.yaml")))
    assert "1 frames" in said.out and "4800x6000" in said.out
    assert "\n  4 x 5 tiles of 1200x1200 pixels\n" in said.out


def test_check_tells_people_and_programs(airflow_brayns_command: CommandLine, tmp_path: Path) -> None:
    assert "is right: " in airflow_brayns_command("movie", "check", str(FILE)).out
    [row] = json.loads(airflow_brayns_command("movie", "check", str(FILE), "--output", "json").out)
    assert row["file"] == str(FILE)
    (tmp_path / "bad.yaml").write_text("frames: no\n")
    for file in (tmp_path / "bad.yaml", tmp_path / "none.yaml", tmp_path):
        said = airflow_brayns_command("movie", "check", str(file))
        assert (said.code, said.out) == (1, ""), file
        assert said.err.strip()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_preview_that_is_stopped_leaves_nothing(
    cluster: SimpleNamespace, state: Path, tmp_path: Path, number: signal.Signals
) -> None:
    code = (
        "import argparse; from airflow_brayns.cli.movie import preview; "
        f"preview(argparse.Namespace(file={str(FILE)!r}, output={str(tmp_path / 'x.jpg')!r}, frames=8, width=400, "
        "plugins='braynsCircuitExplorer', cluster_conn_id='here'))"
    )
    slow = {"BRAYNS_EMULATOR": "frame_seconds=30,snapshot_seconds=30"}
    process = subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, **slow}, stderr=subprocess.PIPE, text=True
    )
    until(lambda: len(running(state)) > 1 or process.poll() is not None, 300)
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 128 + number, errors
    assert "Traceback" not in errors
    assert not running(state)


@NEEDS_CLIENT
@pytest.mark.slow
@pytest.mark.parametrize("counts", [False, True])
def test_check_of_python_proves_that_frames_do_not_depend_on_their_order(
    airflow_brayns_command: CommandLine, cluster: SimpleNamespace, state: Path, tmp_path: Path, counts: bool
) -> None:
    head, frame = HEAD + "\nCALLS = []\n", FRAME.replace("4 + number", "4 + len(CALLS)")
    frame = frame.replace("number):", "number):\n    CALLS.append(number)") if counts else FRAME
    said = airflow_brayns_command(
        "movie",
        "check",
        str(script(tmp_path, frame, head=head)),
        "--cluster-conn-id",
        "here",
        "--plugins",
        "",
        "-n",
        "3",
    )
    assert (said.code, "is right: 4 frames" in said.out) == ((1, False) if counts else (0, True)), said.err
    if counts:
        assert "frames 0, 2-3 depend on what was rendered before" in " ".join(said.err.split())
    else:
        assert "Frames 0, 2-3 are the same pictures alone, after others and on a second service." in said.out
    assert not running(state)


@NEEDS_CLIENT
def test_python_is_read_without_a_service(airflow_brayns_command: CommandLine, tmp_path: Path) -> None:
    file = script(tmp_path, FRAME.replace("number):", "number, far):"))
    said = airflow_brayns_command("movie", "check", str(file), "--without-rendering")
    assert (said.code, said.out) == (1, "")
    assert "frame needs 'far'" in said.err
    said = airflow_brayns_command("movie", "check", str(file), "--without-rendering", "--params", '{"far": 3}')
    assert "is right: 4 frames, 0.16 s with 25 frames a second, 96x64, interactive renderer, Python, h264" in said.out
    said = airflow_brayns_command("movie", "check", str(file), "--without-rendering", "--params", "3")
    assert "--params: must be a JSON object, not '3'" in said.err


@NEEDS_CLIENT
@pytest.mark.slow
def test_a_preview_of_python_is_small_and_quick(
    airflow_brayns_command: CommandLine, cluster: SimpleNamespace, tmp_path: Path
) -> None:
    frame = FRAME.replace(
        "return camera",
        "print('at', number)\n    return brayns.Snapshot(brayns.Resolution(96, 64), camera, brayns.ProductionRenderer(64))",
    )
    file, sheet = script(tmp_path, frame), tmp_path / "sheet.jpg"
    said = airflow_brayns_command(
        "movie", "preview", str(file), "-o", str(sheet), "-n", "2", "-w", "64", "--plugins", "", "--cluster-conn-id", "here"
    )  # fmt: skip
    assert (said.code, said.out) == (0, f"{sheet}\n"), said.err
    assert "frame 3 on brayns1 on slot1: at 3" in said.err.splitlines(), "what it prints is seen"
    assert sheet.stat().st_size > 500
