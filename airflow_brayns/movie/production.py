"""Frames of a movie over many services: one queue, whole frames, no gaps, whatever fails on the way."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter, deque
from dataclasses import dataclass

from airflow_brayns.brayns.client import BraynsClient
from airflow_brayns.errors import BraynsError, ConnectionLost, InvalidSetting, RenderingFailed
from airflow_brayns.movie.driver import Driver
from airflow_brayns.movie.frames import DEADLY, FrameQueue, Pace
from airflow_brayns.movie.manifest import Header, Manifest
from airflow_brayns.movie.plan import Plan, SceneFacts, scene_hash
from airflow_brayns.movie.scene import prepare
from airflow_brayns.movie.specification import MovieSpecification
from airflow_brayns.movie.store import Made, StorageFailed, Store, Superseded, Survey, listed
from airflow_brayns.movie.supply import Progress, Reporter, Station, Supply
from airflow_brayns.movie.way import SNAPSHOT, Trial, Way, make_way, try_both

FIRST_FRAME_SECONDS = 1800.0  # nothing is known yet of how long one takes
_QUEUE_AHEAD_BELOW = 2.0  # seconds a frame: above it, the way there and back is nothing
_END_MARGIN = 3.0
_OUTLOOK_SECONDS = 5.0


@dataclass
class Outcome:
    """What became of it.

    :param plan: the movie's frames.
    :param survey: what a resume found.
    :param rendered: how many frames this try rendered.
    """

    plan: Plan
    survey: Survey
    header: Header
    rendered: int


class Production:
    """Renders what is left of a movie.

    :param specification: the movie.
    :param supply: where services come from.
    :param store: where frames go.
    :param reporter: who is told.
    :param identity: of the models' files, see `scene_hash`.
    :param way: force `snapshot` or `render-image`; None to try both.
    :param sample: render so many frames only, evenly spread: a preview.
    :param frame_timeout: seconds that the first frame may take; later ones have time-outs learnt from those rendered.
    :param load_timeout: seconds that a model may take to load.
    """

    def __init__(
        self,
        specification: MovieSpecification,
        supply: Supply,
        store: Store,
        reporter: Reporter,
        *,
        identity: str = "",
        way: str | None = None,
        sample: int | None = None,
        frame_timeout: float = FIRST_FRAME_SECONDS,
        load_timeout: float = 3600.0,
    ) -> None:
        self._spec, self._supply, self._store, self._reporter = specification, supply, store, reporter
        self._scene = scene_hash(specification, identity)
        self._forced_way, self._sample = way, sample
        self._frame_timeout, self._load_timeout = frame_timeout, load_timeout
        self._manifest = Manifest(None, {})
        self._planning = asyncio.Lock()
        self._plan: Plan | None = None
        self._header: Header | None = None
        self._survey = Survey()
        self._frames = FrameQueue(deque(), 0)
        self._pace = Pace()
        self._live: dict[str, Station] = {}
        self._restarts: Counter[str] = Counter()
        self._nodes: Counter[str] = Counter()
        self._rendered = 0
        self._changed = asyncio.Event()
        self._failures: list[BraynsError] = []

    # ---- the whole ---------------------------------------------------------------------------------------------
    async def run(self) -> Outcome:
        """Render until no frame is left.

        :raises RenderingFailed: frames are missing; the message names them, and a retry goes on from there.
        :raises InvalidSetting: the scene cannot be loaded.
        :raises Superseded: another try has taken over.
        """
        self._manifest = await self._store.open()
        try:
            if outcome := await self._nothing_to_do():
                return outcome
            await self._drive_all()
        finally:
            await self._store.close()
        assert self._plan is not None
        assert self._header is not None
        if missing := [*self._frames.waiting, *self._frames.taken, *self._frames.given_up]:
            raise self._gaps(sorted(missing))
        return Outcome(self._plan, self._survey, self._header, self._rendered)

    async def look(self) -> Outcome | None:
        """What `run` would return if there is nothing left to render: then no node is needed; else None."""
        self._manifest = await self._store.open()
        try:
            return await self._nothing_to_do()
        finally:
            await self._store.close()

    async def _nothing_to_do(self) -> Outcome | None:
        header = self._manifest.header
        if header is None or header.scene != self._scene:
            return None
        plan = Plan(self._spec, SceneFacts.from_plain(header.facts), self._scene, self._sample)
        survey = await self._store.survey(plan, self._manifest)
        if survey.left:
            return None
        self._reporter.note(f"All {len(survey.done)} frames are there already.")
        return Outcome(plan, survey, header, 0)

    async def _drive_all(self) -> None:
        drivers: set[asyncio.Task[None]] = set()
        supplying: asyncio.Task[Station] | None = None
        outlook = asyncio.create_task(self._tell_outlook())
        incoming = self._supply.stations()
        try:
            while not (self._plan is not None and self._frames.over):
                if supplying is None and incoming is not None:
                    supplying = asyncio.ensure_future(anext(incoming))
                waiting = {*drivers, *({supplying} if supplying else ())}
                if not waiting:
                    raise self._none_left()
                done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for task in done & drivers:
                    drivers.discard(task)
                    task.result()
                if supplying in done:
                    assert supplying is not None
                    try:
                        drivers.add(asyncio.create_task(self._drive(supplying.result())))
                    except StopAsyncIteration:
                        incoming = None  # type: ignore[assignment]
                    except Superseded:
                        raise
                    except BraynsError as error:
                        incoming = None  # type: ignore[assignment]
                        self._failures.append(error)
                        if not drivers:
                            raise self._none_left() from error
                        self._reporter.trouble(f"No further service comes: {error}")
                    supplying = None
        finally:
            tasks = [*drivers, outlook, *([supplying] if supplying else [])]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if incoming is not None:
                with contextlib.suppress(RuntimeError):
                    await incoming.aclose()  # type: ignore[attr-defined]

    async def _tell_outlook(self) -> None:
        while True:
            self._supply.outlook(self._seconds_left())
            await asyncio.sleep(_OUTLOOK_SECONDS)

    def _seconds_left(self) -> float | None:
        rate = self._pace.rate(list(self._live.values()))
        left = self._frames.total - self._frames.done - len(self._frames.given_up)
        return left / rate if rate and self._plan else None

    def _none_left(self) -> BraynsError:
        """Why it cannot go on."""
        last = self._failures[-1] if self._failures else None
        if self._plan is None:
            return last or RenderingFailed("No service became usable.")
        missing = sorted([*self._frames.waiting, *self._frames.taken, *self._frames.given_up])
        return self._gaps(missing)

    def _gaps(self, missing: list[int]) -> RenderingFailed:
        given_up = self._frames.given_up
        text = f"{len(missing)} of {self._frames.total} frames are missing ({listed(missing)})."
        if given_up:
            worst = min(given_up)
            text += (
                f" Frames {listed(sorted(given_up))} failed on {DEADLY} different services, so it is the frame: look at camera "
                f"and scene there. Of frame {worst}: {given_up[worst]}"
            )
        if len(given_up) < len(missing):
            why = f" The last failure: {self._failures[-1]}" if self._failures else ""
            text += f" No service is left to render them; a retry goes on from here.{why}"
        return RenderingFailed(text, retry=len(given_up) < len(missing))

    # ---- one service -------------------------------------------------------------------------------------------
    async def _drive(self, station: Station) -> None:
        """Load the scene once, then take frames until there are none."""
        why: str | None = None
        self._reporter.note(f"{station} ({station.version or 'version not told'}) joins.")
        try:
            async with contextlib.AsyncExitStack() as stack:
                client = await stack.enter_async_context(self.client_of(station))
                way = await self._join(station, client)
                self._live[station.endpoint] = station
                why = await Driver(self, station, client, way, stack).work()
                if why is None and not self._frames.over:
                    await self._supply.set_aside(station, "its allocation ends", again=False)
        except (Superseded, StorageFailed):
            raise
        except InvalidSetting as error:
            if self._plan is None:
                raise  # the very first service: it is the specification
            why = str(error)
        except (BraynsError, OSError) as error:
            why = str(error)
            self._failures.append(error if isinstance(error, BraynsError) else RenderingFailed(str(error)))
        finally:
            self._live.pop(station.endpoint, None)
            self._changed.set()
        if why is not None and not (self._plan is not None and self._frames.over):
            await self._set_aside(station, why)

    def client_of(self, station: Station) -> BraynsClient:
        """A client that is not connected yet."""
        return BraynsClient(station.endpoint, ssl_context=station.ssl_context)

    async def _join(self, station: Station, client: BraynsClient) -> Way:
        """Load the scene; the first one to have it makes the plan."""
        facts = await prepare(client, self._spec, timeout=self._load_timeout)
        async with self._planning:
            if self._plan is None:
                await self._make_plan(station, client, facts)
        assert self._plan is not None
        assert self._header is not None
        if not self._plan.facts.agrees_with(facts):
            raise RenderingFailed(
                f"{station} sees another scene than the others: {facts.bounds} instead of {self._plan.facts.bounds}", retry=False
            )  # fmt: skip
        if station.version and station.version != self._header.version:
            raise RenderingFailed(
                f"{station} is braynsService {station.version}, and the movie's frames are of {self._header.version}; mixing "
                "them would flicker",
                retry=False,
            )
        way = make_way(self._header.way if station.owned else SNAPSHOT)
        if way.name != self._header.way:
            raise RenderingFailed(
                f"{station} is not ours alone, and the movie's frames are rendered by {self._header.way}, which needs that",
                retry=False,
            )
        await way.begin(client, self._plan)
        return way

    async def _make_plan(self, station: Station, client: BraynsClient, facts: SceneFacts) -> None:
        known = self._manifest.header
        if known is not None and known.scene == self._scene:
            before = SceneFacts.from_plain(known.facts)
            facts = before if before.agrees_with(facts) else facts  # to the last digit, or every key would change
        plan = Plan(self._spec, facts, self._scene, self._sample)
        survey = await self._store.survey(plan, self._manifest)
        if survey.done or survey.changed or survey.damaged:
            self._reporter.note(f"Of {len(plan.frames)} frames: {survey.text()}.")
        trial = None
        if known is not None and survey.done:
            self._check_same(station, known)
            way, measured, version = known.way, known.measured, known.version or station.version
        else:
            trial = await self._choose(station, client, plan, survey.left[0])
            way, measured, version = trial.way, trial.measured, station.version
        header = Header(self._scene, facts.plain(), way, version, self._spec.plain(), measured)
        if header != known:
            await self._store.begin(header)
        self._survey, self._header = survey, header
        self._frames = FrameQueue(deque(survey.left), len(plan.frames), done=len(survey.done))
        self._plan = plan
        if trial is not None and trial.data and self._frames.take(trial.frame):
            await self.keep(station, trial.frame, trial.data, trial.measured.get(trial.way, 0.0), trial.way)

    def _check_same(self, station: Station, known: Header) -> None:
        if station.version and known.version and station.version != known.version:
            raise InvalidSetting(
                "executable",
                f"the frames that are there were rendered by braynsService {known.version}, and {station} is {station.version}: "
                "mixing them would flicker. Use the same version, or another frames_dir to render all of it anew",
            )
        if self._forced_way and self._forced_way != known.way:
            raise InvalidSetting(
                "way",
                f"the frames that are there were rendered by {known.way}: mixing them with {self._forced_way} would flicker. "
                "Leave `way` out, or use another frames_dir",
            )

    async def _choose(self, station: Station, client: BraynsClient, plan: Plan, frame: int) -> Trial:
        """Which way this movie is rendered."""
        if self._forced_way:
            return Trial(self._forced_way, {}, "", b"", frame)
        if self._store.file_path(plan, frame):
            self._reporter.note("The services write the frames themselves, which only snapshot can.")
            return Trial(SNAPSHOT, {}, "", b"", frame)
        if not station.owned:
            self._reporter.note("The services are not known to be ours alone, so frames are rendered by snapshot.")
            return Trial(SNAPSHOT, {}, "", b"", frame)
        try:
            async with asyncio.timeout(3 * self._frame_timeout):
                trial = await try_both(client, plan, frame)
        except TimeoutError:
            raise ConnectionLost(
                f"frame {frame} took longer than frame_timeout ({self._frame_timeout:.0f} s)"
            ) from None
        self._reporter.note(f"Frames are rendered by {trial.why}.")
        return trial

    async def _set_aside(self, station: Station, why: str) -> None:
        """A service that is of no use any more; once a node, it is started anew."""
        culprit = why.startswith("frame ")
        place = f"{station.job}/{station.node}" if station.node else station.endpoint
        again = culprit or self._restarts[place] < 1
        if not culprit:
            self._restarts[place] += 1
        comes = await self._supply.set_aside(station, why, again=again)
        self._reporter.trouble(f"{station} is set aside{' and started anew on its node' if comes else ''}: {why}")

    # ---- what drivers use --------------------------------------------------------------------------------------
    @property
    def plan(self) -> Plan:
        """The movie's frames."""
        assert self._plan is not None
        return self._plan

    @property
    def outstanding(self) -> int:
        """See `Store`."""
        return self._store.outstanding

    def note(self, text: str) -> None:
        """For the log."""
        self._reporter.note(text)

    def file_path(self, frame: int) -> str:
        """Where the service is to write a frame itself."""
        return self._store.file_path(self.plan, frame)

    def limit(self) -> float:
        """Seconds after which a frame counts as lost."""
        return self._pace.limit(self._frame_timeout)

    def take(self, station: Station, in_flight: int) -> int | None:
        """The next frame for a service; None where it should take none now."""
        frames = self._frames
        if not frames.waiting:
            return None
        typical = self._pace.typical(station)
        others = [one for one in self._live.values() if one.endpoint != station.endpoint]
        if typical is not None and others and (rate := self._pace.rate(others)):
            quickest = min(seconds for one in others if (seconds := self._pace.typical(one)) is not None)
            # The others are done with all that is left before this service is with one: a slow one must not be the last.
            if typical * (in_flight + 1) > len(frames.waiting) / rate + max(quickest, 0.05):
                return None
        if in_flight and (typical is None or len(frames.waiting) <= len(self._live)):
            return None
        return frames.next_for(station, others)

    def ahead(self, station: Station, way: Way) -> int:
        """How many frames may be asked for at once."""
        typical = self._pace.typical(station)
        return 2 if way.queues and typical is not None and typical < _QUEUE_AHEAD_BELOW else 1

    def is_over(self) -> bool:
        """Whether there is nothing left to do."""
        return self._frames.over

    def would_not_finish(self, station: Station) -> bool:
        """Whether the allocation ends before a further frame is done."""
        ends_at = station.ends_at()
        if ends_at is None:
            return False
        expected = self._pace.typical(station) or self._pace.slowest or 1.0
        return time.time() + 1.5 * expected > ends_at - _END_MARGIN

    async def change(self) -> None:
        """Await that a frame comes back or the last one is done."""
        self._changed.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                await self._changed.wait()

    async def keep(self, station: Station, frame: int, data: bytes, seconds: float, way: str) -> None:
        """Check and write a frame, count it."""
        if not station.holds():
            self._frames.give_back(frame)
            return
        made = Made(seconds, station.node, station.job, station.name, station.version, way)
        await self._store.keep(self.plan, frame, data, made)
        self._frames.finish(frame)
        self._rendered += 1
        self._nodes[station.node or station.endpoint] += 1
        self._pace.add(station, seconds)
        self._changed.set()
        rate = self._pace.rate(list(self._live.values()))
        self._reporter.progress(
            Progress(self._frames.done, self._frames.total, rate, self._seconds_left(), dict(self._nodes), seconds)
        )

    def give_back(self, frame: int) -> None:
        """A frame that this service did not get to."""
        self._frames.give_back(frame)
        self._changed.set()

    def failed(self, frame: int, station: Station, error: BraynsError) -> bool:
        """A frame that failed on this service. Whether it did on another before."""
        self._failures.append(error)
        alone = not any(one.endpoint != station.endpoint for one in self._live.values())
        again = self._frames.fail(frame, station, str(error), alone=alone)
        self._reporter.trouble(f"Frame {frame} failed on {station}: {error}")
        if frame in self._frames.given_up:
            self._reporter.trouble(
                f"Frame {frame} failed on {DEADLY} different services; the others are rendered without it."
            )
        self._changed.set()
        return again
