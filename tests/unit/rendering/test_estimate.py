"""The estimate of a movie on a cluster: one node, which is given back whatever happens."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_brayns.cluster.owner import Owner
from airflow_brayns.errors import InvalidSetting, ServiceFailed
from airflow_brayns.hooks.cluster import BraynsClusterHook
from airflow_brayns.movie.interfaces import RenderService
from airflow_brayns.movie.script_file import ScriptFile
from airflow_brayns.rendering import estimate as module
from airflow_brayns.rendering.estimate import estimate_movie
from airflow_brayns.rendering.render import Rendering, RenderRequest
from tests.support.local import FAST, cluster, gone, state
from tests.support.movie import Remembers, specification
from tests.support.script import FRAME, HEAD, NEEDS_CLIENT, script

__all__ = ["cluster", "state"]
SLOW = {"environment": {"BRAYNS_EMULATOR": "start_seconds=1.5,load_seconds=1,snapshot_seconds=0,frame_seconds=0.2"}}


async def estimated(
    hook: BraynsClusterHook, spec: Any, folder: Path, *, name: str = "ab-0123456789ab", told: Any = None, **changes: Any
) -> Any:
    owner = Owner(name, "estimate-1", json.dumps({}), movie="estimate")
    request = RenderRequest(spec, str(folder / "frames"), Rendering(), owner, **changes)
    async with hook.session(logging.getLogger("estimate")) as session:
        return await estimate_movie(session, request, told or Remembers())


@pytest.mark.slow
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


@pytest.mark.slow
async def test_frames_that_would_stay_on_the_cluster_are_asked_for_as_they_would_be(
    cluster: Any, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = await estimated(
        BraynsClusterHook("here", FAST), specification(data / "cube.obj", frames=2), tmp_path, on_cluster=True
    )
    assert (found.way, len(found.sample)) == ("snapshot", 2)


@pytest.mark.slow
@NEEDS_CLIENT
async def test_two_estimates_of_one_movie_at_the_same_time_are_as_one_alone(
    cluster: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each has a node of its own, its own modules, and the lines of its own; the slower one goes on when the other is done."""
    (tmp_path / "tally.py").write_text("FRAMES = []\n")
    frame = FRAME.replace(
        "number):",
        "number):\n    import tally\n    tally.FRAMES.append(number)\n    print('frames so far:', tally.FRAMES)",
    )
    file = script(
        tmp_path, frame, head=HEAD.replace("frames, fps", "import tally\nframes, fps").replace("= 4, 25", "= 200, 25")
    )
    spec = ScriptFile(file).specification()
    told = Remembers(), Remembers()
    slower = {"environment": {"BRAYNS_EMULATOR": "load_seconds=0,snapshot_seconds=0,frame_seconds=0.5"}}
    found = await asyncio.gather(
        *(
            estimated(BraynsClusterHook("here", how), spec, tmp_path, name=f"ab-{number}23456789abc", told=one)
            for number, (how, one) in enumerate(zip((FAST, slower), told, strict=True))
        )
    )
    for one, reporter in zip(found, told, strict=True):
        assert [number for number, _ in one.sample] == [33, 100, 166]
        assert [line for line in reporter.notes if line.endswith("[33, 100, 166]")], reporter.notes
    assert found[0].each[0] < found[1].each[0]
    assert "frames so far" not in capsys.readouterr().out
    assert gone(cluster)


@pytest.mark.slow
async def test_a_scene_that_does_not_load_names_its_key_and_nothing_is_left(
    cluster: Any, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(InvalidSetting, match=r"models\.0"):
        await estimated(BraynsClusterHook("here", FAST), specification(data / "none.obj"), tmp_path)
    assert gone(cluster)


# ---- without a service ---------------------------------------------------------------------------------------------------
@pytest.fixture
def usable(monkeypatch: pytest.MonkeyPatch) -> list[RenderService]:
    """The services that become usable; an estimate with one is the way that it was asked in."""
    services: list[RenderService] = []

    class Pool:
        def __init__(self, *_: Any, **__: Any) -> None: ...

        async def __aenter__(self) -> None: ...

        async def __aexit__(self, *_: object) -> None: ...

        async def services(self) -> AsyncIterator[RenderService]:
            for one in services:
                yield one

    class Sampling:
        def __init__(self, spec: Any, service: Any, stage: Any, way: str | None, timeout: float) -> None:
            self.way = way

        async def measure(self, start: float) -> str | None:
            return self.way

    @asynccontextmanager
    async def one_node(*_: Any) -> AsyncIterator[None]:
        yield

    async def prepared(self: RenderRequest, cluster: Any) -> RenderRequest:
        return self

    monkeypatch.setattr(module, "ServicePool", Pool)
    monkeypatch.setattr(module, "Sampling", Sampling)
    monkeypatch.setattr(module, "one_node", one_node)
    monkeypatch.setattr(RenderRequest, "prepared", prepared)
    return services


async def estimate(**changes: Any) -> Any:
    owner = Owner("ab-0123456789ab", "estimate-1", json.dumps({}), movie="estimate")
    values = {"how": Rendering(way="one-pass"), "owner": owner, **changes}
    session: Any = SimpleNamespace(cluster=None)
    return await estimate_movie(session, RenderRequest(specification(Path("/a.obj")), "/f", **values), Remembers())


@pytest.mark.parametrize(("on_cluster", "way"), [(True, "snapshot"), (False, "one-pass")])
async def test_frames_are_measured_in_the_way_in_which_they_would_be_rendered(
    usable: list[RenderService], on_cluster: bool, way: str
) -> None:
    """A service writes a file by snapshot alone, and the two ways do not take as long as one another."""
    usable.append(RenderService("n1:5000", "brayns1", "n1"))
    assert await estimate(on_cluster=on_cluster) == way


async def test_without_a_usable_service_there_is_no_estimate(usable: list[RenderService]) -> None:
    """Else it would be nothing, and whoever asked for it would fail at that."""
    with pytest.raises(ServiceFailed, match="No service became usable"):
        await estimate()
