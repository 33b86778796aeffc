"""Stages: what makes a movie's scene on a service and says how a frame is asked for, be it a specification or Python."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Protocol

from airflow_brayns.brayns.client import BraynsClient
from airflow_brayns.movie.interfaces import RenderService, Reporter
from airflow_brayns.movie.render_call import RenderCall, make_call
from airflow_brayns.movie.scene import prepare
from airflow_brayns.movie.scene_facts import SceneFacts
from airflow_brayns.movie.script import Script
from airflow_brayns.movie.script_call import ScriptCall
from airflow_brayns.movie.script_run import ScriptRun
from airflow_brayns.movie.specification import MovieSpecification

_LOADING_STEP, _LOADING_SECONDS = 0.2, 60.0


class Stage(Protocol):
    """An interface: the scene of a movie on one service.

    :param stays: whether the scene stays as it was made from frame to frame.
    """

    stays: bool

    async def prepare(self, client: BraynsClient) -> SceneFacts:
        """Make the scene on the service, whatever was there before.

        :raises InvalidSetting: the specification is at fault.
        :raises ScriptFailed: a movie's Python is.
        """
        ...

    def call(self, way: str) -> RenderCall:
        """The render call for a way's name."""
        ...

    async def close(self) -> None:
        """Give up what the stage still does."""
        ...


class _Loading:
    """A teller of how far the models are loaded, at a rate that a log can bear; of all services it tells of the one
    that is ahead.
    """

    def __init__(self, specification: MovieSpecification, reporter: Reporter) -> None:
        self._spec, self._reporter = specification, reporter
        self._told: dict[int, tuple[float, float]] = {}  # by model: the share that was told last, and when

    def tell(self, service: RenderService, number: int, operation: str, amount: float) -> None:
        """See `scene.Loading`."""
        share, at = self._told.get(number, (-1.0, 0.0))
        now = time.monotonic()
        late = now - at > _LOADING_SECONDS and amount != share
        if share < 0 or amount >= share + _LOADING_STEP - 1e-9 or late:
            self._told[number] = (amount, now)
            path = self._spec.models[number].path
            told = operation if path in operation else f"{path}: {operation}"
            self._reporter.note(f"{service} is loading … {amount * 100:.0f} % ({told})")


class _Specified:
    """The scene that a specification tells. See `Stage`."""

    stays = True

    def __init__(
        self, specification: MovieSpecification, service: RenderService, seconds: float, loading: _Loading
    ) -> None:
        self._spec, self._seconds, self._loading = specification, seconds, partial(loading.tell, service)

    async def prepare(self, client: BraynsClient) -> SceneFacts:
        return await prepare(client, self._spec, timeout=self._seconds, loading=self._loading)

    def call(self, way: str) -> RenderCall:
        return make_call(way)

    async def close(self) -> None:
        pass


class _Scripted(ScriptRun):
    """The scene that Python makes. See `Stage`."""

    stays = False

    def call(self, way: str) -> RenderCall:
        return ScriptCall(way, self)


def stages(
    specification: MovieSpecification,
    script: Script | None,
    reporter: Reporter,
    *,
    load_timeout: float,
    frame_timeout: float,
    preview: bool,
) -> Callable[[RenderService], Stage]:
    """The function that makes a stage for each service.

    :param script: the Python that scene and frames come from; None where the specification tells them.
    :param load_timeout: seconds that a model, or the function `scene`, may take.
    :param frame_timeout: seconds that the function `frame` may take.
    :param preview: whether frames are small and few.
    """
    if script is not None:
        return lambda service: _Scripted(
            script, specification, service, reporter, scene_seconds=load_timeout, frame_seconds=frame_timeout, preview=preview
        )  # fmt: skip
    loading = _Loading(specification, reporter)
    return lambda service: _Specified(specification, service, load_timeout, loading)
