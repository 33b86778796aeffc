"""The run of a movie's Python for one service: its scene, and what each frame is."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from airflow_brayns.brayns.client import BraynsClient
from airflow_brayns.errors import BraynsError, ConnectionLost, InvalidSetting, ScriptFailed
from airflow_brayns.movie.camera import Bounds
from airflow_brayns.movie.interfaces import RenderService, Reporter
from airflow_brayns.movie.render_call import NEAR_CLIP, WHOLE_PICTURE
from airflow_brayns.movie.scene import call_where_known, empty, facts_of
from airflow_brayns.movie.scene_facts import SceneFacts
from airflow_brayns.movie.script import Functions, Script
from airflow_brayns.movie.script_import import from_folder
from airflow_brayns.movie.script_output import said_by
from airflow_brayns.movie.script_service import ScriptService
from airflow_brayns.movie.script_thread import GivenUp, ScriptThread
from airflow_brayns.movie.script_traceback import stack_of, traceback_of
from airflow_brayns.movie.script_wanted import Wanted, wanted_of
from airflow_brayns.movie.specification import MovieSpecification

Result = TypeVar("Result")
_GRACE_SECONDS = 1.0  # a call's own time-out comes before the function's
_VIEW = {"position": [0, 0, 0], "target": [0, 0, -1], "up": [0, 1, 0]}
_PERSPECTIVE = {"fovy": 45.0, "aperture_radius": 0.0, "focus_distance": 1.0}


class ScriptRun:
    """The run of a movie's Python for one service.

    :param script: whatever the functions come from.
    :param service: the service that they are for.
    :param reporter: whoever is told what they print.
    :param scene_seconds, frame_seconds: the time-outs of `scene` and `frame`, and of each call that they make.
    :param preview: whether frames are small and few, and other sizes are passed over.
    """

    def __init__(
        self,
        script: Script,
        specification: MovieSpecification,
        service: RenderService,
        reporter: Reporter,
        *,
        scene_seconds: float,
        frame_seconds: float,
        preview: bool = False,
    ) -> None:
        self._script, self._spec, self._service, self._reporter = script, specification, service, reporter
        self._scene_seconds, self._frame_seconds, self._preview = scene_seconds, frame_seconds, preview
        self._thread: ScriptThread | None = None
        self._functions: Functions | None = None
        self._instance: ScriptService | None = None
        self._at_work, self._ended = False, 0.0

    def since(self, began: float) -> float:
        """See `RenderCall.since`: the user's code has time-outs of its own."""
        return time.monotonic() if self._at_work else max(began, self._ended)

    def take_called(self) -> set[str]:
        """The methods that the user's code has called since this was asked last."""
        return self._instance.take_called() if self._instance else set()

    async def prepare(self, client: BraynsClient) -> SceneFacts:
        """Empty the service, set all that shapes a picture as the specification says, and run `scene` with functions
        that are loaded for it.

        :raises ScriptFailed: `scene` failed, or did not return in time.
        :raises InvalidSetting: the file cannot be loaded.
        """
        await self.close()
        await empty(client, self._scene_seconds)
        for method, params in self._beginning():
            await call_where_known(client, method, params)
        instance = self._instance = ScriptService(client, self._spec.resolution, strict=not self._preview)
        self._thread = ScriptThread(f"scene of {self._service}", instance.give_up)
        functions = await self._call("loading", self._script.load, self._scene_seconds, None)
        if functions.scene is not None:
            work = partial(functions.scene, instance, **functions.for_scene)
            await self._call("scene", work, self._scene_seconds, None)
        self._functions = functions
        return _facts(*await facts_of(client))

    async def frame(self, client: BraynsClient, number: int) -> Wanted:
        """Run `frame`, and return what it wants. Where the user's code was given up in the middle of a frame, the scene
        is made anew first: nobody knows how far it came.

        :raises ScriptFailed: `frame` failed, did not return in time, or returned something else.
        """
        if self._functions is None:
            await self.prepare(client)
        assert self._functions is not None
        assert self._instance is not None
        functions, instance = self._functions, self._instance

        def work() -> Wanted:
            found = functions.frame(instance, number, **functions.for_frame)
            return wanted_of(found, self._spec.resolution, strict=not self._preview)

        return await self._call(f"frame {number}", work, self._frame_seconds, number)

    async def close(self) -> None:
        """End the thread, whatever it is at."""
        thread, self._thread, self._functions = self._thread, None, None
        if thread is not None:
            await thread.give_up()

    def _beginning(self) -> list[tuple[str, Any]]:
        """What a service is set to before `scene`, whatever somebody has left on it."""
        renderer, tiling = self._spec.renderer, self._spec.tiling
        return [
            ("set-framebuffer-static", None),
            ("set-application-parameters", {"viewport": list(tiling.size if tiling else self._spec.resolution)}),
            ("set-simulation-parameters", {"current": 0}),
            ("set-camera-near-clip", {"distance": NEAR_CLIP}),
            ("set-camera-region", WHOLE_PICTURE),
            ("set-camera-view", _VIEW),
            ("set-camera-perspective", _PERSPECTIVE),
            (f"set-renderer-{renderer.name}", renderer.parameters()),
        ]

    async def _call(self, what: str, work: Callable[[], Result], seconds: float, frame: int | None) -> Result:
        """Run some of the user's code in the thread.

        :param what: words for it.
        :param frame: the number of the frame; None for the scene.
        """
        assert self._thread is not None
        assert self._instance is not None
        thread, instance = self._thread, self._instance
        place = f"{what} on {self._service}"
        instance.deadline = time.monotonic() + seconds
        self._at_work = True
        try:
            found, error = await thread.call(partial(self._run, work, place, frame), seconds + _GRACE_SECONDS)
        except TimeoutError:
            stands = stack_of(thread.ident, self._script.folder)
            await self.close()
            raise instance.lost or self._failed(
                f"has not returned within {seconds:g} s. Where it is:\n{stands}", place, frame
            ) from None
        except BaseException:
            await self.close()
            raise
        finally:
            self._at_work, self._ended = False, time.monotonic()
        if instance.lost is not None:
            raise ConnectionLost(str(instance.lost), timed_out=getattr(instance.lost, "timed_out", False))
        if error is not None:
            raise error
        return found  # type: ignore[return-value]

    def _run(self, work: Callable[[], Result], place: str, frame: int | None) -> tuple[Result | None, BraynsError | None]:  # fmt: skip
        """Run some of the user's code, in the thread: its result, or what is wrong with it."""
        with from_folder(self._script.folder), said_by(place, self._reporter.said):
            try:
                return work(), None
            except GivenUp:
                raise
            except BraynsError as error:  # of ours, about the file
                return None, error
            except BaseException as error:
                with contextlib.suppress(RecursionError):
                    return None, self._failed(traceback_of(error, self._script.folder), place, frame)
                return None, self._failed(type(error).__name__, place, frame)

    def _failed(self, why: str, place: str, frame: int | None) -> ScriptFailed:
        return ScriptFailed(
            f"{self._script.name}, {place}: {why}",
            remedy=f"Correct {self._script.name}; frames that are whole stay.",
            frame=frame,
            node=self._service.node,
        )


def _facts(bounds: dict[str, Any], simulation: dict[str, Any]) -> SceneFacts:
    """The facts of a scene, which may be empty as long as no frame has filled it."""
    try:
        return SceneFacts.read(bounds, simulation)
    except InvalidSetting:
        return SceneFacts(Bounds((0.0, 0.0, 0.0), (0.0, 0.0, 0.0)))
