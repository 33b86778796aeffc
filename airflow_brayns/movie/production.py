"""Frames of a movie over many services: one queue, whole frames, no gaps, whatever fails on the way."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter, deque
from dataclasses import dataclass
from functools import partial

from airflow_brayns.brayns.client import BraynsClient
from airflow_brayns.errors import BraynsError, InvalidSetting, RenderingFailed
from airflow_brayns.movie.board import Board
from airflow_brayns.movie.driver import Aside, Driver
from airflow_brayns.movie.frames import FrameQueue
from airflow_brayns.movie.manifest import Header, Manifest
from airflow_brayns.movie.plan import Plan, SceneFacts, scene_hash
from airflow_brayns.movie.reconnect import check_ours, client_of
from airflow_brayns.movie.scene import prepare, scene_of
from airflow_brayns.movie.specification import MovieSpecification
from airflow_brayns.movie.store import ASIDE, StorageFailed, Store, Superseded, Survey
from airflow_brayns.movie.supply import Reporter, Standing, Station, Supply
from airflow_brayns.movie.way import FORMER, ONE_PASS, SNAPSHOT, Way, make_way, offers_one_pass

FIRST_FRAME_SECONDS = 1800.0  # nothing is known yet of how long one takes
_OUTLOOK_SECONDS = 5.0
_LOADING_STEP, _LOADING_SECONDS = 0.2, 60.0


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


class _Loading:
    """How far the models are, at a rate that a log can bear: of all services, the one that is ahead."""

    def __init__(self, specification: MovieSpecification, reporter: Reporter) -> None:
        self._spec, self._reporter = specification, reporter
        self._told: dict[int, tuple[float, float]] = {}  # of each model: the share and when

    def tell(self, station: Station, number: int, operation: str, amount: float) -> None:
        """See `scene.Loading`."""
        share, at = self._told.get(number, (-1.0, 0.0))
        now = time.monotonic()
        late = now - at > _LOADING_SECONDS and amount != share
        if share < 0 or amount >= share + _LOADING_STEP - 1e-9 or late:
            self._told[number] = (amount, now)
            path = self._spec.models[number].path
            told = operation if path in operation else f"{path}: {operation}"
            self._reporter.note(f"{station} is loading … {amount * 100:.0f} % ({told})")


class Production:
    """Renders what is left of a movie.

    :param specification: the movie.
    :param supply: where services come from.
    :param store: where frames go.
    :param reporter: who is told.
    :param identity: of the models' files, see `scene_hash`.
    :param way: force `snapshot` or `one-pass`; None for one pass where the services are ours.
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
        self._forced_way, self._sample = make_way(way).name if way else None, sample
        self._frame_timeout, self._load_timeout = frame_timeout, load_timeout
        self._manifest = Manifest(None, {})
        self._planning = asyncio.Lock()
        self._header: Header | None = None
        self._survey = Survey()
        self._board = Board(store, reporter, frame_timeout)
        self._loading = _Loading(specification, reporter)
        self._restarts: Counter[str] = Counter()
        self._rendered_before: dict[str, int] = {}
        self._hung = False

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
        assert self._header is not None
        if missing := self._board.missing():
            raise self._board.gaps(missing)
        return Outcome(self._board.plan, self._survey, self._header, self._board.rendered)

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
        await self._put_aside(plan)
        self._reporter.note(f"All {len(survey.done)} frames are there already.")
        return Outcome(plan, survey, header, 0)

    async def _drive_all(self) -> None:
        drivers: set[asyncio.Task[None]] = set()
        supplying: asyncio.Task[Station] | None = None
        outlook = asyncio.create_task(self._tell_outlook())
        incoming = self._supply.stations()
        try:
            while not self._board.over:
                if supplying is None and incoming is not None:
                    supplying = asyncio.ensure_future(anext(incoming))
                waiting = {*drivers, *({supplying} if supplying else ())}
                if not waiting:
                    raise self._board.none_left()
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
                        self._board.failures.append(error)
                        if not drivers:
                            raise self._board.none_left() from error
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
            self._supply.outlook(self._board.seconds_left())
            await asyncio.sleep(_OUTLOOK_SECONDS)

    # ---- one service -------------------------------------------------------------------------------------------
    async def _drive(self, station: Station) -> None:
        """Load the scene once, then take frames until there are none."""
        aside: Aside | None = None
        self._reporter.note(f"{station} ({station.version or 'version not told'}) joins.")
        try:
            async with contextlib.AsyncExitStack() as stack:
                client = await stack.enter_async_context(client_of(station))
                await self._check_ours(station)
                way = await self._join(station, client)
                restore = partial(self._restore, station, way, await scene_of(client))
                self._board.joins(station)
                aside = await Driver(self._board, station, client, way, stack, restore).work()
                if aside is None and not self._board.over:
                    await self._supply.set_aside(station, "its allocation ends", again=False)
        except (Superseded, StorageFailed):
            raise
        except InvalidSetting as error:
            if not self._board.planned:
                raise  # the very first service: it is the specification
            aside = Aside.of(error)
        except (BraynsError, OSError) as error:
            aside = Aside.of(error)
            self._board.failures.append(error if isinstance(error, BraynsError) else RenderingFailed(str(error)))
        finally:
            self._board.leaves(station)
        if aside is not None and not self._board.over:
            await self._set_aside(station, aside)

    async def _prepare(self, station: Station, client: BraynsClient) -> SceneFacts:
        loading = partial(self._loading.tell, station)
        return await prepare(client, self._spec, timeout=self._load_timeout, loading=loading)

    async def _join(self, station: Station, client: BraynsClient) -> Way:
        """Load the scene; the first one to have it makes the plan."""
        facts = await self._prepare(station, client)
        async with self._planning:
            if not self._board.planned:
                await self._make_plan(station, client, facts)
        assert self._header is not None
        if not self._board.plan.facts.agrees_with(facts):
            raise RenderingFailed(
                f"{station} sees another scene than the others: {facts.bounds} instead of {self._board.plan.facts.bounds}", retry=False
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
        await way.begin(client, self._board.plan)
        return way

    async def _check_ours(self, station: Station) -> None:
        """Whoever has answered must be the service.

        :raises ServiceFailed: it is somebody else.
        """
        proof = await check_ours(station)
        if proof.standing in (Standing.UNPROVEN, Standing.UNKNOWN):
            self._reporter.trouble(f"{station} joins as it was found; it could not be proved again: {proof.why}")

    async def _restore(self, station: Station, way: Way, scene: str, client: BraynsClient, certain: bool) -> None:
        """After a lost connection: the scene is asked for, where the service is certainly the same, or else loaded anew."""
        if not certain or await scene_of(client) != scene:
            self._reporter.note(f"{station} gets the scene anew.")
            facts = await self._prepare(station, client)
            if not self._board.plan.facts.agrees_with(facts):
                raise RenderingFailed(
                    f"{station} sees another scene than before: {facts.bounds} instead of {self._board.plan.facts.bounds}",
                    retry=False,
                )
        await way.begin(client, self._board.plan)

    async def _make_plan(self, station: Station, client: BraynsClient, facts: SceneFacts) -> None:
        known = self._manifest.header
        if known is not None and known.scene == self._scene:
            before = SceneFacts.from_plain(known.facts)
            facts = before if before.agrees_with(facts) else facts  # to the last digit, or every key would change
        plan = Plan(self._spec, facts, self._scene, self._sample)
        survey = await self._store.survey(plan, self._manifest)
        if survey.done or survey.changed or survey.damaged:
            self._reporter.note(f"Of {len(plan.frames)} frames: {survey.text()}.")
        if known is not None and survey.done and known.way == FORMER:
            survey = await self._without_former(plan, known)
        if known is not None and survey.done:
            self._check_same(station, known)
            way, measured, version = known.way, known.measured, known.version or station.version
        else:
            way, measured, version = await self._choose(station, client, plan, survey.left[0]), {}, station.version
        header = Header(self._scene, facts.plain(), way, version, self._spec.plain(), measured)
        if header != known:
            await self._store.begin(header)
        await self._put_aside(plan)
        self._survey, self._header = survey, header
        self._board.begin(plan, FrameQueue(deque(survey.left), len(plan.frames), done=len(survey.done)))

    async def _without_former(self, plan: Plan, known: Header) -> Survey:
        """What is left when frames of 0.2.0's `render-image` do not count: that is another picture than any way gives now."""
        self._reporter.note(
            "The frames that are there were accumulated over several passes, as version 0.2.0 did. One pass is another "
            "picture, and mixing them would flicker: all are rendered anew."
        )
        self._manifest.frames.clear()
        return await self._store.survey(plan, self._manifest)

    async def _put_aside(self, plan: Plan) -> None:
        """What other specifications have left is not in the way of this one, and not lost."""
        if self._sample is None and (number := await self._store.put_aside(plan)):
            self._reporter.note(f"{number} frames that are none of this movie's were moved into the folder {ASIDE}.")

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

    async def _choose(self, station: Station, client: BraynsClient, plan: Plan, frame: int) -> str:
        """Which way this movie is rendered; told by what is known, nothing is tried."""
        if self._forced_way:
            return self._forced_way
        if self._store.file_path(plan, frame):
            why = "the services write the frames themselves, which only it can"
        elif not station.owned:
            why = "the services are not known to be ours alone"
        elif not await offers_one_pass(client):
            why = f"{station} has no render-image"
        else:
            self._reporter.note("Frames are rendered in one pass of render-image.")
            return ONE_PASS
        self._reporter.note(f"Frames are rendered by snapshot, since {why}.")
        return SNAPSHOT

    async def _set_aside(self, station: Station, aside: Aside) -> None:
        """A service that is of no use any more."""
        place = f"{station.job}/{station.node}" if station.node else station.endpoint
        again = self._may_start_anew(place, aside)
        comes = await self._supply.set_aside(station, aside.why, again=again)
        self._reporter.trouble(f"{station} is set aside{' and started anew on its node' if comes else ''}: {aside.why}")

    def _may_start_anew(self, place: str, aside: Aside) -> bool:
        """Once a node. What a frame did to it does not count as long as others come; where none has ever come and the
        services hang, once for all nodes: it is the scene, and each hanging service costs the whole `frame_timeout`.
        """
        rendered = self._board.rendered
        if aside.frame is not None and rendered > self._rendered_before.get(place, 0):
            again = True
        elif aside.hung and not rendered:
            again, self._hung = not self._hung, True
        else:
            self._restarts[place] += 1
            again = self._restarts[place] <= 1
        if again:
            self._rendered_before[place] = rendered
        return again
