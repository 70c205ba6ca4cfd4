"""The queue: whose turn it is, how long it takes, and what becomes of each job. Knows nothing of Discord.

A job's row is written before its place is announced, so a crash loses nothing. People take turns: one person's many
requests never hold up another's first for longer than the jobs that already run.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import heapq
import logging
import time
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from ambientgen.engines.base import Progress
from ambientgen.errors import GenerationCancelled, RequestError
from ambientgen.executor import Executor, Handle
from ambientgen.recipe import Recipe
from ambientgen.render import Output, Soundscape, num_candidates
from bot.clips import Clips
from bot.errors import words_for, words_for_bug
from bot.store import Job, Store, StoreError

log = logging.getLogger(__name__)

#: A job that was running when the process died is tried again once.
_MAX_ATTEMPTS = 2
#: How much the newest render time counts in an engine's average.
_PACE_WEIGHT = 0.3
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
        num_ahead: jobs that come before it; 0 when it is next or runs.
        running: True once the executor has it.
        eta_s: a guess of the seconds until it is done, or None where nothing was measured yet.
        progress: the newest progress of a running job.
        warming_up: True while its engine is still being loaded.
    """

    num_ahead: int
    running: bool
    eta_s: float | None
    progress: Progress
    warming_up: bool


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
    ) -> None:
        self._store = store
        self._executor = executor
        self._clips = clips
        self._presenter = presenter
        self._max_pending = max_pending
        self._max_pending_per_user = max_pending_per_user
        self._pending: dict[str, Job] = {}  # from admission to outcome
        self._lines: dict[int, deque[str]] = {}  # ids of waiting jobs, by person
        self._held: set[str] = set()  # admitted, but their card is not shown yet
        self._turns: dict[int, int] = {}  # when each person with pending jobs was last served
        self._num_turns = 0
        self._cancelled: set[str] = set()  # by people, while it ran
        self._order: list[Job] | None = None  # of the waiting jobs; None after a change
        self._handles: dict[str, Handle] = {}  # jobs the executor has
        self._pace: dict[str, float] = {}  # seconds of work for an `_amount` of 1, by engine
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
        await self._store.jobs.erase_expired_tokens(now)
        for job in await self._store.jobs.undelivered():
            self._spawn(self._hand_on(job))
        for job in await self._store.jobs.unfinished():
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
        """An engine became ready or failed: jobs that waited for it may go on."""
        self._top_up()

    # ------------------------------------------------------------------ looking

    def view(self, job_id: str) -> JobView | None:
        """How an unfinished job stands; None once it has an outcome."""
        job = self._pending.get(job_id)
        if job is None:
            return None
        if (handle := self._handles.get(job_id)) is not None:
            running = handle.progress.stage != "queued"
            others = 0 if running else sum(1 for other in self._handles if other != job_id)
            return JobView(others, running, self._eta_s(job_id, others), handle.progress, warming_up=False)
        order = [waiting.id for waiting in self.order()]
        num_ahead = len(self._handles) + (order.index(job_id) if job_id in order else len(order))
        return JobView(num_ahead, False, self._eta_s(job_id, num_ahead), Progress("queued"), self._is_warming(job))

    def order(self) -> list[Job]:
        """The waiting jobs in the order in which they would run."""
        if self._order is None:
            lines = [
                (self._turns[user_id], number, deque(line))
                for number, (user_id, line) in enumerate(self._lines.items())
            ]
            heapq.heapify(lines)
            turn, order = self._num_turns, []
            while lines:
                _, number, line = heapq.heappop(lines)
                order.append(self._pending[line.popleft()])
                if line:
                    turn += 1
                    heapq.heappush(lines, (turn, number, line))
            self._order = order
        return list(self._order)

    def running(self) -> list[Job]:
        """The jobs the executor has."""
        return [self._pending[job_id] for job_id in self._handles]

    # ------------------------------------------------------------------ ending

    def cancel(self, job_id: str) -> bool:
        """Cancel an unfinished job; its outcome is delivered as any other. False if it has one already."""
        job = self._pending.get(job_id)
        if job is None:
            return False
        if (handle := self._handles.get(job_id)) is not None:
            self._cancelled.add(job_id)
            self._executor.cancel(handle)
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

    # ------------------------------------------------------------------ inside

    def _put_in_line(self, job: Job) -> None:
        self._lines.setdefault(job.user_id, deque()).append(job.id)
        # A newcomer goes before whoever was just served, and after whoever has waited longer.
        self._turns.setdefault(job.user_id, self._num_turns - 1)
        self._order = None

    def _take_out_of_line(self, job: Job) -> bool:
        """False if it is in no line."""
        line = self._lines.get(job.user_id)
        if line is None or job.id not in line:
            return False
        line.remove(job.id)
        if not line:
            del self._lines[job.user_id]
        self._order = None
        return True

    def _forget(self, job_id: str) -> None:
        """A job has its outcome; a person without any other begins anew."""
        job = self._pending.pop(job_id)
        self._held.discard(job_id)
        self._cancelled.discard(job_id)
        if self._num_pending_of(job.user_id) == 0:
            self._turns.pop(job.user_id, None)
        self._order = None

    def _num_pending_of(self, user_id: int) -> int:
        return sum(1 for job in self._pending.values() if job.user_id == user_id)

    def _top_up(self) -> None:
        while not self._closing and len(self._handles) < self._executor.max_in_flight:
            job = self._next()
            if job is None:
                return
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
                self._spawn(self._end(job, error))
                continue
            self._handles[job.id] = handle
            self._spawn(self._run(job, handle))

    def _next(self) -> Job | None:
        """The next job that can run, of the person who was served longest ago."""
        for job in self.order():
            if job.id in self._held or self._is_warming(job):
                continue
            self._take_out_of_line(job)
            self._num_turns += 1
            self._turns[job.user_id] = self._num_turns
            return job
        return None

    def _is_warming(self, job: Job) -> bool:
        status = self._executor.status()
        return any(status.get(layer.engine) == "warming up" for layer in job.recipe.layers)

    async def _run(self, job: Job, handle: Handle) -> None:
        outcome: Soundscape | Exception
        handed_over_s = time.monotonic()
        log.info("job %s starts: %s, %.0f s", job.id, _engines(job.recipe), job.recipe.duration_s)
        try:
            await self._store.jobs.start(job.id, _now())
            outcome = await handle.result()
        except Exception as error:
            self._executor.cancel(handle)
            outcome = error
        finally:
            self._handles.pop(job.id, None)
            elapsed_s = time.monotonic() - handed_over_s
        verdict = "done" if isinstance(outcome, Soundscape) else type(outcome).__name__
        log.info("job %s ends: %s, %s, %.1f s", job.id, verdict, _engines(job.recipe), elapsed_s)
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
        if isinstance(outcome, Soundscape):
            self._learn_pace(outcome)
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
            await self._store.jobs.requeue(job.id)
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

    async def _hand_on(self, job: Job) -> None:
        try:
            await self._presenter.deliver(job)
        except Exception:
            log.exception("the outcome of job %s could not be delivered", job.id)

    def _eta_s(self, job_id: str, num_ahead: int) -> float | None:
        ahead = [*self._handles, *(job.id for job in self.order())][:num_ahead]
        total_s = 0.0
        for other in (*ahead, job_id):
            recipe = self._pending[other].recipe
            pace = self._pace.get(_slowest_engine(recipe))
            if pace is None:
                return None
            handle = self._handles.get(other)
            since_s = None if handle is None else handle.running_since_s
            spent_s = 0.0 if since_s is None else time.monotonic() - since_s
            total_s += max(pace * self._amount(recipe) - spent_s, 0.0)
        return total_s

    def _learn_pace(self, soundscape: Soundscape) -> None:
        engine = _slowest_engine(soundscape.recipe)
        newest = soundscape.render_time_s / self._amount(soundscape.recipe)
        old = self._pace.get(engine, newest)
        self._pace[engine] = old + _PACE_WEIGHT * (newest - old)

    def _amount(self, recipe: Recipe) -> float:
        """How much work a recipe is: seconds of sound over all takes, times their steps where they have any."""
        specs = self._executor.specs()
        return sum(
            min(recipe.duration_s, specs[layer.engine].longest_good_s if layer.engine in specs else recipe.duration_s)
            * num_candidates(layer)
            * (layer.num_inference_steps or 1)
            for layer in recipe.layers
            if layer.engine == _slowest_engine(recipe)
        )

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _slowest_engine(recipe: Recipe) -> str:
    """The engine that a recipe's time depends on: one with weights, if any."""
    return next((layer.engine for layer in recipe.layers if layer.model), recipe.layers[0].engine)


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
