"""A movie's frames with nodes of their own: asked for when they are needed, given back whatever happens."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_brayns.cluster.owner import Owner
from airflow_brayns.errors import ConnectionLost, RenderingFailed
from airflow_brayns.movie.frame_folder import FolderStore
from airflow_brayns.rendering import render as module
from airflow_brayns.rendering.cluster_frames import ClusterFrames
from airflow_brayns.rendering.render import (
    Rendering,
    RenderRequest,
    one_node,
    render_alone,
    render_at,
    settings_for_movies,
)
from airflow_brayns.services.settings import ClusterSettings
from tests.support.movie import Remembers, specification

NAME, BOOKING = "ab-0123456789ab", SimpleNamespace(name="ab-0123456789ab")


class FakeCluster:
    """Says what it is asked for."""

    scheduler = "slurm"

    def __init__(self, asked: list[str], fails: tuple[str, ...] = ()) -> None:
        self.asked, self.fails = asked, fails

    async def _ask(self, what: str) -> None:
        self.asked.append(what)
        if what in self.fails:
            raise ConnectionLost(f"{what}: no answer")

    async def ask(self, command: str, body: str, timeout: float) -> list[tuple[str, list[str]]]:
        verb = body.partition(" ")[0]
        await self._ask(verb)
        if verb == "identify":
            return [("file", ["12", "1700000000"])]
        return [("program", ["/there/ffmpeg"]), ("there", [])]

    async def release(self, name: str) -> int:
        await self._ask("release")
        return 1

    async def cancel(self, name: str, token: str) -> int:
        assert (name, token) == (NAME, "try-1")
        await self._ask("cancel")
        return 1


def request(folder: Path, **changes: Any) -> RenderRequest:
    return RenderRequest(
        specification(Path("/a.obj")),
        str(folder),
        Rendering(("a",)),
        Owner(NAME, "try-1", "what for", "dag/run/task"),
        **changes,
    )


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Renders a movie of which nothing is there, and tells what was done for it."""

    async def run(outcome: Any, *, fails: tuple[str, ...] = (), there: Any = None) -> tuple[Any, list[str]]:
        asked: list[str] = []
        session: Any = SimpleNamespace(
            cluster=FakeCluster(asked, fails), settings=ClusterSettings.read({}), log=logging.getLogger("x")
        )

        async def book(cluster: Any, settings: ClusterSettings, owner: Owner, **what: Any) -> Any:
            asked.append(f"book {what['nodes']} {settings.packing}")
            return BOOKING

        async def render_with(session: Any, booking: Any, request: RenderRequest, reporter: Any) -> Any:
            assert (booking, request.files) == (BOOKING, "12 1700000000")
            asked.append("render")
            if isinstance(outcome, BaseException):
                raise outcome
            return outcome

        async def look(production: Any) -> Any:
            return there

        async def announce(booking: Any) -> None:
            asked.append("announce")

        monkeypatch.setattr(module, "book", book)
        monkeypatch.setattr(module, "render_with", render_with)
        monkeypatch.setattr(module.Production, "look", look)
        return await render_alone(session, 3, request(tmp_path), Remembers(), announce), asked

    return run


async def test_nodes_are_asked_for_and_given_back(alone: Callable[..., Any]) -> None:
    assert await alone("done") == ("done", ["identify", "book 3 job_per_node", "announce", "render", "release"])


async def test_where_nothing_is_left_to_render_no_node_is_asked_for(alone: Callable[..., Any]) -> None:
    """A movie that failed at encoding needs no nodes again."""
    assert await alone("done", there="all there") == ("all there", ["identify"])


async def test_frames_are_not_lost_with_a_release_that_fails(alone: Callable[..., Any]) -> None:
    outcome, asked = await alone("done", fails=("release", "cancel"))
    assert outcome == "done"
    assert asked[-2:] == ["release", "cancel"]


async def test_what_fails_gives_the_nodes_back_and_is_told_as_itself(
    alone: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(RenderingFailed, match="a frame"):
        await alone(RenderingFailed("a frame"), fails=("cancel",))
    assert "the keeper ends them when they stay unused: cancel: no answer" in caplog.text


async def test_where_frames_go_and_what_the_cluster_is_asked_for(tmp_path: Path) -> None:
    asked: list[str] = []
    cluster: Any = FakeCluster(asked)
    here = await request(tmp_path).prepared(cluster)
    assert (here.ffmpeg, here.files, asked) == ("", "12 1700000000", ["identify"])
    assert isinstance(here.store(cluster), FolderStore)
    there = await request(tmp_path, on_cluster=True).prepared(cluster)
    assert there.ffmpeg == "/there/ffmpeg"
    assert isinstance(there.store(cluster), ClusterFrames)


@pytest.mark.parametrize(("route", "goes_on"), [("direct", True), ("ssh", False)])
async def test_with_others_services_the_models_files_are_looked_at_too(
    tmp_path: Path, route: str, goes_on: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A model's file of another content gave the old movie. Where the cluster cannot be asked, `direct` goes on without."""
    seen: list[RenderRequest] = []

    class Pool:
        def __init__(self, *_: Any, **__: Any) -> None: ...
        async def __aenter__(self) -> Pool:
            return self

        async def __aexit__(self, *_: object) -> None: ...

    class Rendered:
        def __init__(self, request: RenderRequest) -> None:
            seen.append(request)

        async def run(self) -> str:
            return "done"

    monkeypatch.setattr(module, "EndpointPool", Pool)
    monkeypatch.setattr(RenderRequest, "production", lambda self, *_: Rendered(self))
    monkeypatch.setattr(RenderRequest, "store", lambda self, *_: None)
    settings: Any = SimpleNamespace(route=route)
    session: Any = SimpleNamespace(cluster=FakeCluster([]), settings=settings, log=logging.getLogger("x"))
    assert await module.render_at(session, ["h:1"], request(tmp_path), Remembers()) == "done"
    assert seen.pop().files == "12 1700000000"
    session.cluster = FakeCluster([], ("identify",))
    if not goes_on:
        with pytest.raises(ConnectionLost):
            await module.render_at(session, ["h:1"], request(tmp_path), Remembers())
        return
    assert await module.render_at(session, ["h:1"], request(tmp_path), Remembers()) == "done"
    assert "whether the models' files have changed: identify: no answer" in caplog.text


def test_each_process_is_another_holder_of_the_same_owner(tmp_path: Path) -> None:
    """So that the one before is told that it was taken over."""
    one, other = request(tmp_path), request(tmp_path)
    assert one == other
    assert one.holder == one.holder != other.holder
    assert one.holder.startswith("try-1-")


def test_a_job_for_each_node_unless_something_else_is_asked_for() -> None:
    assert settings_for_movies(ClusterSettings.read({})).packing == "job_per_node"
    assert settings_for_movies(ClusterSettings.read({"packing": "one_job"})).packing == "one_job"


async def test_what_became_of_a_movie_on_endpoints_that_somebody_gave_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = request(tmp_path)
    seen: list[Any] = []

    class Pool:
        def __init__(self, session: Any, endpoints: Any, **holder: Any) -> None:
            seen.append((session, endpoints, holder))

        async def __aenter__(self) -> Any:
            return self

        async def __aexit__(self, *error: Any) -> None:
            seen.append("left")

    async def run(production: Any) -> Any:
        assert isinstance(production._source, Pool)
        return "done"

    monkeypatch.setattr(module, "EndpointPool", Pool)
    monkeypatch.setattr(module.Production, "run", run)
    session: Any = SimpleNamespace(cluster=FakeCluster([]))
    assert await render_at(session, ["10.1.1.1:5000"], asked, Remembers()) == "done"
    [(_, _, holder), _] = seen
    assert holder["token"].startswith("try-1-")
    assert seen == [(session, ["10.1.1.1:5000"], {"token": holder["token"], "by": "dag/run/task"}), "left"]


@pytest.mark.parametrize(
    ("how", "told"),
    [
        (Rendering(), {"plugins": []}),
        (Rendering(("a",), sample=3), {"plugins": ["a"], "sample": 3}),
        (Rendering(budget=2.5), {"plugins": [], "budget": 2.5}),
        (
            Rendering(("a", "b"), "snapshot", 60.0, frame_timeout=5.0, load_timeout=3600.0),
            {"plugins": ["a", "b"], "way": "snapshot", "renew_before": 60.0, "frame_timeout": 5.0},
        ),
    ],
)
def test_a_trigger_is_sent_what_is_not_at_its_default(how: Rendering, told: dict[str, Any]) -> None:
    """So that a triggerer of an older version takes it; the plugins it demands."""
    assert how.to_json() == told
    assert Rendering.from_json(told) == how


@pytest.mark.parametrize(
    ("told", "how", "budget"),
    [(None, {}, None), (5, {}, 5), (5, {"budget": 2.0}, 2), (None, {"budget": 2.0}, 2), (5, {"budget": 2.0, "sample": 3}, None)],
)  # fmt: skip
def test_the_tasks_budget_wins_and_a_preview_has_none(
    told: float | None, how: dict[str, Any], budget: float | None
) -> None:
    owner = Owner("ab-0123456789ab", "t", movie="movie")
    asked = RenderRequest(specification(Path("/a.obj"), budget=told), "/f", Rendering(**how), owner)
    assert asked.ledger.budget == budget


@pytest.mark.parametrize("told", [True, False])
async def test_of_the_one_node_whoever_wants_to_hears_before_it_is_used_and_it_is_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: bool
) -> None:
    """Who stops a task gives back what the page shows of it."""
    asked: list[str] = []
    session: Any = SimpleNamespace(
        cluster=FakeCluster(asked), settings=ClusterSettings.read({}), log=logging.getLogger("x")
    )

    async def book(cluster: Any, settings: ClusterSettings, owner: Owner, **what: Any) -> Any:
        asked.append(f"book {what['nodes']}")
        return BOOKING

    async def announce(booking: Any) -> None:
        asked.append(f"announce {booking.name}")

    monkeypatch.setattr(module, "book", book)
    async with one_node(session, request(tmp_path), announce if told else None):
        asked.append("use")
    assert asked == ["book 1", *([f"announce {NAME}"] if told else []), "use", "cancel"]
