"""The queue: whose turn it is, how long it takes, and what becomes of each job. Knows nothing of Discord.

A job's row is written before its place is announced, so a crash loses nothing. People take turns (`bot/fairness.py`):
one person's many requests never hold up another's first for longer than the jobs that already run. How long everything
takes is learned as it happens (`bot/eta.py`).
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import itertools
import logging
import time
from collections.abc import Callable, Coroutine, Hashable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from ambientgen.engines.base import Progress
from ambientgen.errors import GenerationCancelled, RequestError
from ambientgen.executor import Executor, Handle
from ambientgen.recipe import Recipe
from ambientgen.render import Output, Soundscape
from bot.clips import Clips
from bot.errors import words_for, words_for_bug
from bot.eta import Batching, Eta, Part, RenderTimes, Shape, play, shape_of, slowest_engine
from bot.fairness import HALF_LIFE_S, FairOrder, RecentUse
from bot.store import Job, Store, StoreError

log = logging.getLogger(__name__)

#: A job that was running when the process died is tried again once.
_MAX_ATTEMPTS = 2
#: Jobs on the CPU alone that the executor has at a time: one that runs, and one so that nothing ever waits.
_CPU_PLACES = 2
#: On the CPU alone all takes of a job are under way at once.
_MANY_TAKES = 1000
#: Seconds of work for an amount of 1, where nothing was measured yet: so that longer sounds count more from the first.
_UNMEASURED_PACE = 0.01
#: What was predicted is looked at anew after this long, or after any change.
_PREDICT_EVERY_S = 1.0
#: How often what was learned is written down; a crash costs no more than that.
_KEEP_EVERY_S = 60.0
_LEARNED = "render_times"
#: Work of so many half-lives ago is not worth looking up.
_REMEMBERED_HALF_LIVES = 4
#: Waits before an outcome that the database did not take is written again; the next start makes the sound anew.
_WRITE_AGAIN_AFTER_S = (1.0, 10.0, 60.0, 300.0)
#: A multipart request may have 25 MiB as a whole; the picture and the form need a little of it.
MAX_REQUEST_BYTES = 25 * 2**20 - 512 * 1024


class QueueFullError(RequestError):
    """Too many requests wait, or too many of this person's."""


@dataclass(frozen=True, slots=True)
class JobView:
    """How an unfinished job stands.

    Attributes:
        num_ahead: jobs on the same device that come before it; 0 when it is next or runs.
        running: True while one of its takes is made; False again while all that is left of it waits.
        eta_s: a guess of the seconds until it is done, or None where nothing was measured yet.
        progress: the newest progress of a running job.
        warming_up: True while its engine is still being loaded.
        range_s: the seconds until it is done lie between these two nine times in ten; None with `eta_s`.
    """

    num_ahead: int
    running: bool
    eta_s: float | None
    progress: Progress
    warming_up: bool
    range_s: tuple[float, float] | None = None


@dataclass(slots=True)
class _Run:
    """A job that the executor has.

    Attributes:
        handle: the executor's.
        needs_gpu: which of the executor's two lines it is in.
        shape: what decides how long it takes.
        done_s: how much of it is done, in seconds as if it ran alone.
        active_s: how long it runs.
        shared_s: the same, times what was in the passes meanwhile, itself included.
        load_now: these at the last look; 0 before the first while it ran.
        expected_s: how long it would take, as was predicted when it was first seen running.
    """

    handle: Handle
    needs_gpu: bool
    shape: Shape
    done_s: float = 0.0
    active_s: float = 0.0
    shared_s: float = 0.0
    load_now: float = 0.0
    expected_s: float | None = None

    @property
    def is_active(self) -> bool:
        """True while a take of it shares the device's passes."""
        return self.handle.progress.stage not in ("queued", "decoding", "finishing")

    def left_s(self, alone_s: float | None) -> float | None:
        """What is left of it, as if it ran alone: of what it should take, and not less than its steps so far tell."""
        if alone_s is None:
            return None
        progress, by_steps_s = self.handle.progress, 0.0
        if progress.stage in ("denoising", "rendering"):
            # The step that is being made counts as made.
            by_steps_s = self.done_s * max(0.0, progress.num_steps / (progress.step + 1) - 1.0)
        return max(alone_s - self.done_s, by_steps_s)

    @property
    def mean_load(self) -> float:
        """What was in its passes, itself included, on average."""
        return self.shared_s / self.active_s if self.active_s else self.shape.load


@dataclass(frozen=True, slots=True)
class _Asked:
    """What was predicted of a job when it came, to be held against what came of it."""

    at_s: float
    kind: str
    predicted_s: float | None


@dataclass(frozen=True, slots=True)
class _Predicted:
    """When each job starts and ends, in seconds from an instant, with those that ran then."""

    at_s: float
    running: frozenset[str]
    times: Mapping[str, tuple[float, float]]


class Presenter(Protocol):
    """Shows jobs to people."""

    def follow(self, job: Job, look: Callable[[], JobView | None]) -> None:
        """Keep the job's card up to date for as long as `look` has something to say."""

    async def deliver(self, job: Job) -> None:
        """Bring the outcome to the person, and record that."""


class JobQueue:
    """Takes jobs in, runs them in turn, and hands their outcome on.

    Args:
        store: where jobs are kept.
        executor: what runs them.
        clips: where the sounds go.
        presenter: who shows them.
        max_pending: unfinished jobs of everybody together.
        max_pending_per_user: unfinished jobs of one person.
        weight_of: how much more often than others a job's person is served, 1 to 2.
        batching: how a recipe shares the GPU's passes; without it, all of an engine's takes share them alike.
        clock: seconds that only go on; the executor's handles use the same.
    """

    def __init__(
        self,
        *,
        store: Store,
        executor: Executor,
        clips: Clips,
        presenter: Presenter,
        max_pending: int,
        max_pending_per_user: int,
        weight_of: Callable[[Job], float] = lambda _job: 1.0,
        batching: Callable[[Recipe], tuple[Hashable, int, int]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._executor = executor
        self._clips = clips
        self._presenter = presenter
        self._max_pending = max_pending
        self._max_pending_per_user = max_pending_per_user
        self._pending: dict[str, Job] = {}  # from admission to outcome
        self._held: set[str] = set()  # admitted, but their card is not shown yet
        self._cancelled: set[str] = set()  # by people, while it ran
        self._weight_of = weight_of
        self._batching = batching
        self._clock = clock
        self._recent = RecentUse(clock)
        # Those who need the GPU thread and those who do not are in nobody's way.
        self._lines = {needs_gpu: FairOrder(self._recent) for needs_gpu in (True, False)}
        self._shapes: dict[str, Shape] = {}  # of pending jobs
        self._asked: dict[str, _Asked] = {}
        self._runs: dict[str, _Run] = {}  # jobs the executor has, in the order in which it got them
        self._looked_at_s = clock()
        self._predicted: _Predicted | None = None  # None after a change
        self._render_times = RenderTimes()
        self._kept_at_s = clock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False

    # ------------------------------------------------------------------ coming in

    async def admit(self, job: Job) -> None:
        """Check the limits and write the job's row. `enqueue` it once its card is shown.

        Raises:
            QueueFullError: if a limit is reached; nothing is written.
            StoreError: if the row could not be written.
        """
        mine = self._num_pending_of(job.user_id)
        if mine >= self._max_pending_per_user:
            raise QueueFullError(
                f"You already have {mine} sounds in the queue, which is the most here. Wait for one of them, or "
                "cancel one with the button on its card."
            )
        if len(self._pending) >= self._max_pending:
            raise QueueFullError(f"The queue is full ({len(self._pending)} sounds). Please try again in a few minutes.")
        self._pending[job.id] = job
        log.debug("job %s: %s", job.id, job.request.description)
        try:
            await self._store.jobs.add(job)
        except BaseException:
            self._forget(job.id)
            raise
        self._held.add(job.id)
        self._put_in_line(job)
        self._remember_prediction(job)

    async def enqueue(self, job: Job) -> None:
        """Let an admitted job run; its card, whose id it now has, is kept up to date from here on."""
        self._held.discard(job.id)
        if job.id in self._pending:  # else it was cancelled by somebody quick
            self._pending[job.id] = job
            self._presenter.follow(job, lambda: self.view(job.id))
            self._top_up()
        if job.message_id is not None:
            try:
                await self._store.jobs.set_message(job.id, job.message_id)
            except StoreError:  # the card can still be found by the interaction's token
                log.exception("the card of job %s could not be written down", job.id)

    async def withdraw(self, job: Job) -> None:
        """Take back an admitted job whose card could not be shown."""
        self._take_out_of_line(job)
        if job.id not in self._pending:  # cancelled by somebody quick
            return
        self._forget(job.id)
        try:
            await self._store.jobs.cancel(job.id, _now())
            await self._store.jobs.set_delivery(job.id, "kept")
        except StoreError:  # why its card could not be shown matters more
            log.exception("job %s could not be withdrawn", job.id)

    async def recover(self) -> None:
        """Take up what an earlier process left: waiting and running jobs, and outcomes nobody got yet."""
        now = _now()
        self._render_times = RenderTimes.from_json(await self._store.get_meta(_LEARNED))
        await self._remember_use(now)
        await self._store.jobs.erase_expired_tokens(now)
        for job in await self._store.jobs.undelivered():
            self._spawn(self._hand_on(job))
        # What was running starts again before anything else.
        for job in sorted(await self._store.jobs.unfinished(), key=lambda job: job.status != "running"):
            if job.status == "running" and job.attempts >= _MAX_ATTEMPTS:
                words = "The bot stopped twice while making this sound, so it is not tried again. Try other options."
                await self._store.jobs.fail(job.id, now, words)
                failed = dataclasses.replace(job, status="failed", error=words, finished_at=now)
                self._spawn(self._hand_on(failed))
                continue
            if job.status == "running":
                await self._store.jobs.requeue(job.id)
            self._pending[job.id] = job
            self._put_in_line(job)
            self._presenter.follow(job, functools.partial(self.view, job.id))
        if self._pending:
            log.info("took up %d unfinished jobs", len(self._pending))
        self._top_up()

    def engines_changed(self) -> None:
        """An engine became ready or failed: jobs that waited for it may go on, and where it runs is known."""
        for job_id in self._shapes.keys() - self._runs.keys():
            self._shapes[job_id] = self._shape(self._pending[job_id].recipe)
        self._predicted = None
        self._top_up()

    def room_made(self) -> None:
        """The executor needs a device no more for one of its jobs, which is only mixed and encoded from here on."""
        self._top_up()

    # ------------------------------------------------------------------ looking

    def view(self, job_id: str) -> JobView | None:
        """How an unfinished job stands; None once it has an outcome."""
        job = self._pending.get(job_id)
        if job is None:
            return None
        run = self._runs.get(job_id)
        running = run is not None and self._stage(job_id) != "queued"
        warming_up = run is None and self._is_warming(job)
        eta = None if warming_up else self._eta(job_id, running=running)
        return JobView(
            num_ahead=0 if running else self._num_ahead(job),
            running=running,
            eta_s=None if eta is None else eta.likely_s,
            progress=Progress("queued") if run is None else run.handle.progress,
            warming_up=warming_up,
            range_s=None if eta is None else (eta.low_s, eta.high_s),
        )

    def predicted_wait_s(self, recipe: Recipe, user_id: int, guild_id: int | None) -> float | None:
        """How long a new job would wait before it starts; None where nothing was measured yet."""
        line, shape = self._lines[self._needs_gpu(recipe)], self._shape(recipe)
        line.add("", user_id, guild_id, self._cost_s(shape))
        try:
            times = self._play(self._needs_gpu(recipe), {"": shape})
        finally:
            line.remove("")
        return times[""][0] if "" in times else None

    def order(self) -> list[Job]:
        """The waiting jobs in the order in which they would run; those on the GPU and on the CPU alone by turns."""
        both = itertools.zip_longest(self._lines[True].order(), self._lines[False].order())
        return [self._pending[job_id] for pair in both for job_id in pair if job_id is not None]

    def running(self) -> list[Job]:
        """The jobs the executor has."""
        return [self._pending[job_id] for job_id in self._runs]

    # ------------------------------------------------------------------ ending

    def cancel(self, job_id: str) -> bool:
        """Cancel an unfinished job; its outcome is delivered as any other. False if it has one already."""
        job = self._pending.get(job_id)
        if job is None:
            return False
        if (run := self._runs.get(job_id)) is not None:
            self._cancelled.add(job_id)
            self._executor.cancel(run.handle)
            return True
        if not self._take_out_of_line(job):
            return False
        self._spawn(self._end(job, GenerationCancelled()))
        return True

    async def close(self, grace_s: float) -> None:
        """Stop: running jobs go back to the queue, for the next start."""
        self._closing = True
        await self._executor.close(grace_s)
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=2.0)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        await self._keep_learned()

    # ------------------------------------------------------------------ inside

    def _put_in_line(self, job: Job) -> None:
        shape = self._shapes[job.id] = self._shape(job.recipe)
        line = self._lines[self._needs_gpu(job.recipe)]
        line.add(job.id, job.user_id, job.guild_id, self._cost_s(shape), self._weight_of(job))
        self._predicted = None

    def _take_out_of_line(self, job: Job) -> bool:
        """False if it is in no line."""
        self._predicted = None
        return self._lines[self._needs_gpu(job.recipe)].remove(job.id)

    def _forget(self, job_id: str) -> None:
        """A job has its outcome."""
        self._pending.pop(job_id)
        self._held.discard(job_id)
        self._cancelled.discard(job_id)
        self._shapes.pop(job_id, None)
        self._asked.pop(job_id, None)
        self._predicted = None

    def _num_pending_of(self, user_id: int) -> int:
        return sum(1 for job in self._pending.values() if job.user_id == user_id)

    def _top_up(self) -> None:
        """Hand over what there is room for: as many as run together, and one more."""
        self._look()
        while not self._closing and (job := self._next()) is not None:
            try:
                output = Output(
                    directory=self._clips.folder,
                    name=Clips.name_for(job.id, job.recipe),
                    title=job.request.description,
                    file_format=job.file_format,
                    max_bytes=min(job.upload_limit_bytes, MAX_REQUEST_BYTES),
                )
                handle = self._executor.submit(job.id, job.recipe, output)
            except Exception as error:
                self._lines[self._needs_gpu(job.recipe)].charge(job.id, 0.0)
                self._spawn(self._end(job, error))
                continue
            run = self._runs[job.id] = _Run(handle, self._needs_gpu(job.recipe), self._shapes[job.id])
            self._predicted = None
            self._spawn(self._run(job, run))

    def _num_ahead(self, job: Job) -> int:
        """How many jobs come before one that does not run, or not at the moment."""
        needs_gpu = self._needs_gpu(job.recipe)
        handed_over = [job_id for job_id, run in self._runs.items() if run.needs_gpu is needs_gpu]
        if job.id in handed_over:
            earlier = set(handed_over[: handed_over.index(job.id)])
            waits_or_leaves = ("queued", "finishing")
            return len(earlier | {other for other in handed_over if self._stage(other) not in waits_or_leaves})
        place = self._lines[needs_gpu].position(job.id)
        return len(handed_over) + (len(self._lines[needs_gpu]) if place is None else place)

    def _next(self) -> Job | None:
        """The next job that can run."""
        warming = {name for name, status in self._executor.status().items() if status == "warming up"}

        def cannot_run(job_id: str) -> bool:
            return job_id in self._held or any(layer.engine in warming for layer in self._pending[job_id].recipe.layers)

        for needs_gpu, line in self._lines.items():
            if self._has_room(needs_gpu=needs_gpu) and (job_id := line.next(cannot_run)) is not None:
                return self._pending[job_id]
        return None

    def _has_room(self, *, needs_gpu: bool) -> bool:
        """A job that is only being mixed and encoded takes up no room any more."""
        num_places = self._executor.max_in_flight if needs_gpu else _CPU_PLACES
        mine = [job_id for job_id, run in self._runs.items() if run.needs_gpu is needs_gpu]
        return sum(1 for job_id in mine if self._stage(job_id) != "finishing") < num_places

    def _stage(self, job_id: str) -> str:
        return self._runs[job_id].handle.progress.stage

    def _needs_gpu(self, recipe: Recipe) -> bool:
        specs = self._executor.specs()
        return any(layer.engine in specs and specs[layer.engine].needs_gpu for layer in recipe.layers)

    def _is_warming(self, job: Job) -> bool:
        status = self._executor.status()
        return any(status.get(layer.engine) == "warming up" for layer in job.recipe.layers)

    async def _run(self, job: Job, run: _Run) -> None:
        outcome: Soundscape | Exception
        handed_over_s = self._clock()
        log.info("job %s starts: %s, %.0f s", job.id, _engines(job.recipe), job.recipe.duration_s)
        try:
            await self._store.jobs.start(job.id, _now())
            outcome = await run.handle.result()
        except Exception as error:
            self._executor.cancel(run.handle)
            outcome = error
        finally:
            self._look()
            self._runs.pop(job.id, None)
            self._lines[run.needs_gpu].charge(job.id, run.done_s)
            elapsed_s = self._clock() - handed_over_s
        verdict = "done" if isinstance(outcome, Soundscape) else type(outcome).__name__
        log.info("job %s ends: %s, %s, %.1f s", job.id, verdict, _engines(job.recipe), elapsed_s)
        if isinstance(outcome, Soundscape):
            self._learn(job, run, outcome)
        self._top_up()
        await self._end(job, outcome)

    async def _end(self, job: Job, outcome: Soundscape | Exception) -> None:
        """Write the outcome, then hand it on. A database that cannot be written does not cost the person the clip."""
        if self._closing and isinstance(outcome, GenerationCancelled) and job.id not in self._cancelled:
            await self._put_back(job)
            return
        now = _now()
        current = self._pending.get(job.id, job)
        if job.id in self._pending:
            self._forget(job.id)
        ended = dataclasses.replace(current, finished_at=now, delivery_state="pending", **_outcome_fields(job, outcome))
        written = await self._write_outcome(ended, now)
        if written:
            await self._tidy()
        else:
            self._spawn(self._write_again(ended, now))
        await self._hand_on(ended)

    async def _write_outcome(self, job: Job, now: datetime) -> bool:
        try:
            await self._store_outcome(job, now)
        except StoreError:
            log.exception("the outcome of job %s could not be written", job.id)
            return False
        return True

    async def _write_again(self, job: Job, now: datetime) -> None:
        for wait_s in _WRITE_AGAIN_AFTER_S:
            await asyncio.sleep(wait_s)
            if await self._write_outcome(job, now):
                return

    async def _put_back(self, job: Job) -> None:
        try:
            await self._store.jobs.put_back(job.id)
        except StoreError:  # a job that is left running is taken up at the next start all the same
            log.exception("job %s could not be put back", job.id)

    async def _store_outcome(self, job: Job, now: datetime) -> None:
        if job.status == "done":
            assert job.clip_name is not None
            assert job.facts is not None
            await self._store.jobs.finish(job.id, now, recipe=job.recipe, clip_name=job.clip_name, facts=job.facts)
        elif job.status == "cancelled":
            await self._store.jobs.cancel(job.id, now)
        else:
            await self._store.jobs.fail(job.id, now, job.error or "")

    async def _tidy(self) -> None:
        """Keep the clips under their cap, and no token beyond its end."""
        try:
            for name in await self._clips.make_room():
                await self._store.jobs.forget_clip(name)
            await self._store.jobs.erase_expired_tokens(_now())
        except StoreError:
            log.exception("the store could not be tidied")
        if self._clock() - self._kept_at_s >= _KEEP_EVERY_S:
            await self._keep_learned()

    async def _hand_on(self, job: Job) -> None:
        try:
            await self._presenter.deliver(job)
        except Exception:
            log.exception("the outcome of job %s could not be delivered", job.id)

    # ------------------------------------------------------------------ time

    def _shape(self, recipe: Recipe) -> Shape:
        specs, engine = self._executor.specs(), slowest_engine(recipe)
        device = self._executor.device(engine) if engine in specs else None
        if not self._needs_gpu(recipe):
            batching = Batching(engine, 1, _MANY_TAKES)
        elif self._batching is not None:
            batching = Batching(*self._batching(recipe))
        else:
            batching = Batching(engine, 1, max(1, self._executor.max_in_flight - 1))
        return shape_of(recipe, specs, device, batching)

    def _alone_s(self, shape: Shape) -> float | None:
        name = shape.engine.split()[0]
        timings = self._executor.timings(name) if name in self._executor.specs() else ()
        return self._render_times.expect_s(shape, timings)

    def _cost_s(self, shape: Shape) -> float:
        """What a job counts for in the order."""
        alone_s = self._alone_s(shape)
        return shape.amount * _UNMEASURED_PACE if alone_s is None else alone_s

    def _look(self) -> None:
        """Write down how far the running jobs are: each had its share of the time since the last look."""
        now_s = self._clock()
        since_s, self._looked_at_s = self._looked_at_s, now_s
        for needs_gpu in self._lines:
            runs = [run for run in self._runs.values() if run.needs_gpu is needs_gpu]
            loads = [run.shape.load for run in runs if run.is_active]
            for run in runs:
                load_before, run.load_now = run.load_now, sum(loads) if run.is_active else run.shape.load
                if run.handle.running_since_s is None or run.handle.progress.stage == "queued":
                    run.load_now = 0.0
                    continue
                passed_s, load = max(0.0, now_s - max(since_s, run.handle.running_since_s)), load_before or run.load_now
                run.done_s += passed_s / self._render_times.slowdown(run.shape, load)
                run.active_s += passed_s
                run.shared_s += passed_s * load

    def _predict(self) -> _Predicted:
        """When each job starts and ends."""
        now_s, known = self._clock(), self._predicted
        running = frozenset(job_id for job_id, run in self._runs.items() if run.is_active)
        if known is None or now_s - known.at_s >= _PREDICT_EVERY_S or running != known.running:
            self._look()
            times = {**self._play(True, self._shapes), **self._play(False, self._shapes)}
            known = self._predicted = _Predicted(now_s, running, times)
            for job_id in running & times.keys():
                run = self._runs[job_id]
                if run.expected_s is None and run.handle.running_since_s is not None:
                    run.expected_s = now_s - run.handle.running_since_s + times[job_id][1]
        return known

    def _play(self, needs_gpu: bool, shapes: Mapping[str, Shape]) -> dict[str, tuple[float, float]]:
        alone_s = functools.cache(self._alone_s)
        running, waiting, leaving = list[Part](), list[Part](), dict[str, tuple[float, float]]()
        for job_id, run in self._runs.items():
            if run.needs_gpu is not needs_gpu:
                continue
            left_s = run.left_s(alone_s(run.shape))
            if run.is_active:
                running.append(Part(job_id, run.shape, left_s))
            elif run.handle.progress.stage == "queued":
                waiting.append(Part(job_id, run.shape, left_s))
            elif left_s is not None:
                leaving[job_id] = 0.0, left_s
        for job_id in self._lines[needs_gpu].order():
            shape = shapes.get(job_id) or self._shapes[job_id]
            waiting.append(Part(job_id, shape, alone_s(shape)))
        # One of the executor's places is for what comes next.
        num_places = max(1, self._executor.max_in_flight - 1) if needs_gpu else _CPU_PLACES
        return leaving | play(running, waiting, self._render_times.sharing, num_places=num_places)

    def _eta(self, job_id: str, *, running: bool) -> Eta | None:
        """When a job is done, with how far off such predictions are."""
        predicted = self._predict()
        if job_id not in predicted.times:
            return None
        left_s = max(0.0, predicted.times[job_id][1] - (self._clock() - predicted.at_s))
        asked = self._asked.get(job_id)
        kind = _kind_of_render(self._shapes[job_id]) if running else "wait" if asked is None else asked.kind
        return self._render_times.judged(kind, left_s)

    def _remember_prediction(self, job: Job) -> None:
        """What is held against the truth later. Nothing can be said of an engine that is still being loaded."""
        is_first = self._num_pending_of(job.user_id) == 1
        # Who comes later goes before a person's further jobs, and not before the first.
        kind = f"wait {'first' if is_first else 'later'} {self._num_ahead(job).bit_length()}"
        times = {} if self._is_warming(job) else self._predict().times
        self._asked[job.id] = _Asked(self._clock(), kind, times[job.id][1] if job.id in times else None)

    def _learn(self, job: Job, run: _Run, soundscape: Soundscape) -> None:
        took_s, asked = soundscape.render_time_s, self._asked.get(job.id)
        if run.expected_s is not None:
            self._render_times.score(_kind_of_render(run.shape), run.expected_s, took_s)
        if asked is not None and asked.predicted_s is not None:
            self._render_times.score(asked.kind, asked.predicted_s, self._clock() - asked.at_s)
        self._render_times.learn(run.shape, run.mean_load, took_s)

    async def _remember_use(self, now: datetime) -> None:
        """Who had how much lately counts after a restart too."""
        costs = await self._store.jobs.recent_costs(now - timedelta(seconds=_REMEMBERED_HALF_LIVES * HALF_LIFE_S))
        for cost in costs:
            self._recent.add(cost.user_id, cost.render_time_s, (now - cost.finished_at).total_seconds())

    async def _keep_learned(self) -> None:
        self._kept_at_s = self._clock()
        try:
            await self._store.set_meta(_LEARNED, self._render_times.to_json())
        except StoreError:  # it is learned again
            log.exception("what was learned of render times could not be kept")

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _kind_of_render(shape: Shape) -> str:
    return f"render {shape.engine}"


def _engines(recipe: Recipe) -> str:
    return " + ".join(dict.fromkeys(layer.engine for layer in recipe.layers))


def _outcome_fields(job: Job, outcome: Soundscape | Exception) -> Mapping[str, Any]:
    if isinstance(outcome, Soundscape):
        return {
            "status": "done",
            "recipe": outcome.recipe,
            "clip_name": outcome.path.name,
            "facts": outcome.facts(),
        }
    if isinstance(outcome, GenerationCancelled):
        return {"status": "cancelled"}
    words = words_for(outcome)
    if words is None:
        words = words_for_bug(job.id)
        log.error("job %s met a bug", job.id, exc_info=outcome)
    elif not isinstance(outcome, RequestError):
        log.warning("job %s failed: %s", job.id, outcome, exc_info=outcome.__cause__)
    return {"status": "failed", "error": words}


def _now() -> datetime:
    return datetime.now(UTC)
