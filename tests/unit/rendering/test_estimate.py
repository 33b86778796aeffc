"""The estimate of a movie on a cluster: one node, which is given back whatever happens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from airflow_brayns.cluster.owner import Owner
from airflow_brayns.errors import InvalidSetting
from airflow_brayns.hooks.cluster import BraynsClusterHook
from airflow_brayns.rendering.estimate import estimate_movie
from airflow_brayns.rendering.render import Rendering, RenderRequest
from tests.support.local import FAST, cluster, gone, state
from tests.support.movie import Remembers, specification

__all__ = ["cluster", "state"]
pytestmark = pytest.mark.slow

SLOW = {"environment": {"BRAYNS_EMULATOR": "start_seconds=1.5,load_seconds=1,snapshot_seconds=0,frame_seconds=0.2"}}


async def estimated(hook: BraynsClusterHook, spec: Any, folder: Path, **changes: Any) -> Any:
    owner = Owner("ab-0123456789ab", "estimate-1", json.dumps({}), movie="estimate")
    request = RenderRequest(spec, str(folder / "frames"), Rendering(), owner, **changes)
    import logging

    async with hook.session(logging.getLogger("estimate")) as session:
        return await estimate_movie(session, request, Remembers())


async def test_start_load_and_frames_are_told_apart_and_nothing_is_left(
    cluster: Any, data: Path, tmp_path: Path
) -> None:
    found = await estimated(BraynsClusterHook("here", SLOW), specification(data / "cube.obj", frames=200), tmp_path)
    assert (found.frames, [frame for frame, _ in found.sample], found.way) == (200, [33, 100, 166], "one-pass")
    assert found.start >= 1.5 and found.load >= 1
    assert found.each[0] == pytest.approx(0.2, rel=0.3)
    assert found.service.startswith("brayns1 on slot1")
    assert gone(cluster)
    assert not (tmp_path / "frames").exists()


async def test_frames_that_would_stay_on_the_cluster_are_asked_for_as_they_would_be(
    cluster: Any, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = await estimated(
        BraynsClusterHook("here", FAST), specification(data / "cube.obj", frames=2), tmp_path, on_cluster=True
    )
    assert (found.way, len(found.sample)) == ("snapshot", 2)


async def test_a_scene_that_does_not_load_names_its_key_and_nothing_is_left(
    cluster: Any, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(InvalidSetting, match=r"models\.0"):
        await estimated(BraynsClusterHook("here", FAST), specification(data / "none.obj"), tmp_path)
    assert gone(cluster)
