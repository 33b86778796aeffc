"""Productions: the frames of a movie over many services, from one queue, whole and without gaps, whatever fails on the
way.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, replace
from functools import partial

from airflow_brayns.brayns.client import BraynsClient
from airflow_brayns.errors import (
    BraynsError,
    InvalidSetting,
    NothingSeen,
    RenderingFailed,
    ScriptFailed,
    StorageFailed,
    Superseded,
)
from airflow_brayns.movie.former import scene_beside
from airflow_brayns.movie.frame_store import ASIDE, FrameStore, Survey
from airflow_brayns.movie.interfaces import Liveness, RenderService, Reporter, ServiceSource
from airflow_brayns.movie.ledger import Ledger
from airflow_brayns.movie.manifest import Header, Manifest
from airflow_brayns.movie.overlay_layers import check_scale
from airflow_brayns.movie.plan import Plan
from airflow_brayns.movie.queue import FrameQueue
from airflow_brayns.movie.reconnect import check_ours, client_of
from airflow_brayns.movie.render_call import (
    FORMER,
    ONE_PASS,
    SNAPSHOT,
    RenderCall,
    check_region,
    make_call,
    offers_one_pass,
)
from airflow_brayns.movie.restarts import Restarts
from airflow_brayns.movie.scene import scene_of
from airflow_brayns.movie.scene_facts import SceneFacts
from airflow_brayns.movie.script import Script, why_changed, without_values
from airflow_brayns.movie.script_output import captured
from airflow_brayns.movie.shared_state import SharedState
from airflow_brayns.movie.specification import MovieSpecification
from airflow_brayns.movie.stage import Stage, stages
from airflow_brayns.movie.used import Used
from airflow_brayns.movie.worker import Aside, RenderWorker

FIRST_FRAME_SECONDS = 1800.0  # the time-out of the first frame, when nobody knows yet how long one takes
_OUTLOOK_SECONDS = 5.0


@dataclass
class Outcome:
    """The outcome of a production.

    :param plan: the movie's frames.
    :param survey: the pictures as a resume found them.
    :param rendered: how many pictures this try rendered.
    """

    plan: Plan
    survey: Survey
    header: Header
    rendered: int


class Production:
    """The rendering of what is left of a movie.

    :param specification: the movie.
    :param source: the source that services come from.
    :param store: the place where frames go.
    :param reporter: whoever is told how it goes.
    :param identity: size and time of the models' files, see `scene_hash`.
    :param way: the way to ask for a frame, `snapshot` or `one-pass`; None for one pass where the services are ours.
    :param sample: how many frames to render, evenly spread, as a preview; None for all.
    :param frame_timeout: seconds that the first frame may take; later ones have time-outs learnt from those rendered.
    :param load_timeout: seconds that a model may take to load.
    :param script: the Python that scene and frames come from; None where the specification tells them.
    :param ledger: the ledger that whoever gives the services writes in too; None for one of its own.
    """

    def __init__(
        self,
        specification: MovieSpecification,
        source: ServiceSource,
        store: FrameStore,
        reporter: Reporter,
        *,
        identity: str = "",
        way: str | None = None,
        sample: int | None = None,
        frame_timeout: float = FIRST_FRAME_SECONDS,
        load_timeout: float = 3600.0,
        script: Script | None = None,
        ledger: Ledger | None = None,
    ) -> None:
        self._spec, self._source, self._store, self._reporter = specification, source, store, reporter
        self._identity, self._scene = identity, ""
        self._forced_way, self._sample = make_call(way).name if way else None, sample
        self._manifest = Manifest(None, {})
        self._planning = asyncio.Lock()
        self._header: Header | None = None
        self._survey = Survey()
        self._ledger = ledger or Ledger()
        self._shared = SharedState(store, reporter, frame_timeout, self._ledger)
        self._has_script = script is not None
        self._stages = stages(
            specification, script, reporter, load_timeout=load_timeout, frame_timeout=frame_timeout, preview=sample is not None
        )  # fmt: skip
        self._restarts = Restarts()
        self._left: tuple[list[int], Plan] | None = (
            None  # what is missing, and of which plan, before a service is there
        )

    # ---- the whole ---------------------------------------------------------------------------------------------
    async def run(self) -> Outcome:
        """Render until no frame is left.

        :raises RenderingFailed: frames are missing; the message names them, and a retry goes on from there.
        :raises InvalidSetting: the scene cannot be loaded.
        :raises ScriptFailed: the movie's Python failed; what is whole stays.
        :raises NothingSeen: the first pictures are of one colour.
        :raises BudgetSpent: the ledger's budget does for no further frame.
        :raises Superseded: another try has taken over.
        """
        await self._open()
        try:
            if outcome := await self._nothing_to_do():
                return outcome
            self._check_budget()
            with captured() if self._has_script else contextlib.nullcontext():
                await self._render_all()
        except NothingSeen:
            assert self._header is not None
            with contextlib.suppress(BraynsError):  # what was rendered must not make a movie, when the task is cleared
                await self._store.begin(self._header.withdrawn())
            raise
        finally:
            await self._ledger.close(self._store, self._reporter)
            await self._store.close()
        assert self._header is not None
        if missing := self._shared.missing():
            raise self._shared.gaps(missing)
        return Outcome(self._shared.plan, self._survey, self._header, self._shared.rendered)

    async def look(self) -> Outcome | None:
        """Look whether anything is left to render: None if so; else what `run` would return, and no node is needed."""
        await self._open()
        try:
            if outcome := await self._nothing_to_do():
                self._reporter.used(Used(), self._ledger.earlier)
            else:
                self._check_budget()
            return outcome
        finally:
            await self._store.close()

    async def _open(self) -> None:
        self._manifest = await self._store.open()
        # Here and below a thread goes through the frames: a movie of many hours is rendered in a triggerer's loop.
        self._scene = await asyncio.to_thread(scene_beside, self._manifest, self._spec, self._identity)
        self._ledger.opens(self._manifest)

    def _check_budget(self) -> None:
        if self._ledger.is_spent_before:
            raise self._shared.spent(self._left)

    async def _nothing_to_do(self) -> Outcome | None:
        header = self._manifest.header
        if header is None or header.scene != self._scene:
            return None
        facts = SceneFacts.from_plain(header.facts)
        if self._spec.fits_models and not facts.models:
            return None  # only a service tells how large that one model is
        plan = Plan(self._spec, facts, self._scene, self._sample)
        survey = await self._store.survey(plan, self._manifest)
        self._left = survey.left, plan
        if survey.left:
            return None
        asked = replace(header, specification=without_values(self._spec.plain()))
        if asked != header:  # the same pictures, but perhaps another rate or codec: who encodes reads it there
            await self._store.begin(asked)
            header = asked
        await self._put_aside(plan)
        self._reporter.note(f"All {len(survey.done)} {plan.noun} are there already.")
        return Outcome(plan, survey, header, 0)

    async def _render_all(self) -> None:
        workers: set[asyncio.Task[None]] = set()
        awaited: asyncio.Task[RenderService] | None = None
        spent = asyncio.create_task(self._shared.budget_spent())
        beside = [spent, *(asyncio.create_task(one) for one in (self._tell_outlook(), self._ledger.kept(self._store)))]
        incoming = self._source.services()
        try:
            while not self._shared.over:
                if awaited is None and incoming is not None:
                    awaited = asyncio.ensure_future(anext(incoming))
                waiting = {*workers, *({awaited} if awaited else ())}
                if not waiting:
                    raise self._shared.none_left()
                done, _ = await asyncio.wait({*waiting, spent}, return_when=asyncio.FIRST_COMPLETED)
                if spent in done and not self._shared.over:
                    raise self._shared.spent(self._left)
                for task in done & workers:
                    workers.discard(task)
                    task.result()
                if awaited in done:
                    assert awaited is not None
                    try:
                        workers.add(asyncio.create_task(self._render_with(awaited.result())))
                    except StopAsyncIteration:
                        incoming = None  # type: ignore[assignment]
                    except Superseded:
                        raise
                    except BraynsError as error:
                        incoming = None  # type: ignore[assignment]
                        self._shared.failures.append(error)
                        if not workers:
                            raise self._shared.none_left() from error
                        self._reporter.trouble(f"No further service comes: {error}")
                    awaited = None
        finally:
            tasks = [*workers, *beside, *([awaited] if awaited else [])]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if incoming is not None:
                with contextlib.suppress(RuntimeError):
                    await incoming.aclose()  # type: ignore[attr-defined]

    async def _tell_outlook(self) -> None:
        while True:
            self._source.outlook(self._shared.seconds_left())
            await asyncio.sleep(_OUTLOOK_SECONDS)

    # ---- one service -------------------------------------------------------------------------------------------
    async def _render_with(self, service: RenderService) -> None:
        """Load the scene on a service once, then have the service render frames until none is left."""
        aside: Aside | None = None
        self._reporter.note(f"{service} ({service.version or 'version not told'}) joins.")
        self._ledger.held(service.place)
        try:
            async with contextlib.AsyncExitStack() as stack:
                client = await stack.enter_async_context(client_of(service))
                await self._check_ours(service)
                stage = self._stages(service)
                stack.push_async_callback(stage.close)
                call = await self._join(service, client, stage)
                restore = partial(self._restore, service, stage, call, await scene_of(client, self._shared.plan))
                self._shared.joins(service)
                self._ledger.ready(service.place)
                aside = await RenderWorker(self._shared, service, client, call, stack, restore).work()
                if aside is None and not self._shared.over:
                    await self._source.set_aside(service, "its allocation ends", again=False)
        except (NothingSeen, ScriptFailed, Superseded, StorageFailed):
            raise
        except InvalidSetting as error:
            if not self._shared.planned:
                raise  # the very first service failed, so the specification is at fault
            aside = Aside.of(error)
        except (BraynsError, OSError) as error:
            aside = Aside.of(error)
            self._shared.failures.append(error if isinstance(error, BraynsError) else RenderingFailed(str(error)))
        finally:
            self._shared.leaves(service)
        if aside is not None and not self._shared.over:
            self._ledger.breaks(service.place)
            await self._set_aside(service, aside)

    async def _join(self, service: RenderService, client: BraynsClient, stage: Stage) -> RenderCall:
        """Load the scene on a service; the first service to have it makes the plan."""
        if self._spec.tiles is not None:
            await check_region(client, str(service), service.version)
        facts = await stage.prepare(client)
        async with self._planning:
            if not self._shared.planned:
                await self._make_plan(service, client, facts)
        assert self._header is not None
        if not self._shared.plan.facts.agrees_with(facts):
            raise RenderingFailed(
                f"{service} sees another scene than the others: {facts.bounds} instead of {self._shared.plan.facts.bounds}", retry=False
            )  # fmt: skip
        if service.version and service.version != self._header.version:
            raise RenderingFailed(
                f"{service} is braynsService {service.version}, and the movie's frames are of {self._header.version}; mixing "
                "them would flicker",
                retry=False,
            )
        call = stage.call(self._header.way if service.owned else SNAPSHOT)
        if call.name != self._header.way:
            raise RenderingFailed(
                f"{service} is not ours alone, and the movie's frames are rendered by {self._header.way}, which needs that",
                retry=False,
            )
        await call.begin(client, self._shared.plan, facts.loaded)
        return call

    async def _check_ours(self, service: RenderService) -> None:
        """Check that whoever has answered is the service.

        :raises ServiceFailed: somebody else has answered, or the service has ended.
        """
        proof = await check_ours(service)
        if proof.liveness in (Liveness.UNPROVEN, Liveness.UNKNOWN):
            self._reporter.trouble(f"{service} joins as it was found; it could not be proved again: {proof.why}")

    async def _restore(
        self, service: RenderService, stage: Stage, call: RenderCall, scene: str, client: BraynsClient, certain: bool
    ) -> None:
        """See to the scene after a lost connection: where the service is certainly the same it is asked for its scene,
        else the scene is loaded anew.
        """
        loaded = None
        if not certain or not stage.stays or await scene_of(client, self._shared.plan) != scene:
            self._reporter.note(f"{service} gets the scene anew.")
            facts = await stage.prepare(client)
            loaded = facts.loaded
            if not self._shared.plan.facts.agrees_with(facts):
                raise RenderingFailed(
                    f"{service} sees another scene than before: {facts.bounds} instead of {self._shared.plan.facts.bounds}",
                    retry=False,
                )
        await call.begin(client, self._shared.plan, loaded)

    async def _make_plan(self, service: RenderService, client: BraynsClient, facts: SceneFacts) -> None:
        known = self._manifest.header
        if known is not None and known.scene == self._scene:
            before = SceneFacts.from_plain(known.facts)
            # the former facts, to the last digit, or every key would change
            facts = replace(before, models=before.models or facts.models) if before.agrees_with(facts) else facts
        plan = Plan(self._spec, facts, self._scene, self._sample)
        await asyncio.to_thread(check_scale, plan)
        survey = await self._store.survey(plan, self._manifest)
        if survey.done or survey.changed or survey.damaged:
            self._reporter.note(f"Of {len(plan.pictures)} {plan.noun}: {await asyncio.to_thread(survey.text, plan)}.")
        if known is not None and survey.changed:
            why = why_changed(known.specification, self._spec, scene=known.scene != self._scene)
            if why:
                self._reporter.note(f"{len(survey.changed)} {plan.noun} are rendered anew, since {why}.")
        if known is not None and survey.done and known.way == FORMER:
            survey = await self._without_former(plan, known)
        if known is not None and survey.done:
            known.check_same(str(service), service.version, self._forced_way)
            way, measured, version = known.way, known.measured, known.version or service.version
        else:
            way, measured, version = await self._choose(service, client, plan, survey.left[0]), {}, service.version
        header = Header(self._scene, facts.plain(), way, version, without_values(self._spec.plain()), measured)
        if header != known:
            await self._store.begin(header)
        await self._put_aside(plan)
        self._survey, self._header = survey, header
        self._shared.begin(plan, await asyncio.to_thread(FrameQueue.of, plan, survey))
        if told := self._store.shows(plan, survey.done):
            self._reporter.note(told)

    async def _without_former(self, plan: Plan, known: Header) -> Survey:
        """Survey the frames without those of 0.2.0's `render-image`, whose pictures are other ones than any way gives
        now.
        """
        self._reporter.note(
            "The frames that are there were accumulated over several passes, as version 0.2.0 did. One pass is another "
            "picture, and mixing them would flicker: all are rendered anew."
        )
        self._manifest.frames.clear()
        return await self._store.survey(plan, self._manifest)

    async def _put_aside(self, plan: Plan) -> None:
        """Move frames of other specifications aside, so that they are not in the way of this one, and not lost."""
        if self._sample is None and (number := await self._store.put_aside(plan)):
            self._reporter.note(f"{number} frames that are none of this movie's were moved into the folder {ASIDE}.")

    async def _choose(self, service: RenderService, client: BraynsClient, plan: Plan, frame: int) -> str:
        """Choose the way that this movie is rendered in, by what is known; nothing is tried."""
        if self._forced_way:
            return self._forced_way
        if self._store.file_path(plan, frame):
            why = "the services write the frames themselves, which only it can"
        elif not service.owned:
            why = "the services are not known to be ours alone"
        elif not await offers_one_pass(client):
            why = f"{service} has no render-image that makes one pass and says so"
        else:
            self._reporter.note("Frames are rendered in one pass of render-image.")
            return ONE_PASS
        self._reporter.note(f"Frames are rendered by snapshot, since {why}.")
        return SNAPSHOT

    async def _set_aside(self, service: RenderService, aside: Aside) -> None:
        """Set a service aside that is of no use any more."""
        again = self._restarts.allows(service.place, aside, self._shared.rendered)
        comes = await self._source.set_aside(service, aside.why, again=again, hung=aside.hung and aside.frame is None)
        self._reporter.trouble(f"{service} is set aside{' and started anew on its node' if comes else ''}: {aside.why}")
