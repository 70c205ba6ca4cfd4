"""The one GPU thread and the small CPU pool. The only module that knows threads and asyncio.

Engines that need the GPU run on one thread, a take at a time or in batches as they like. Everything else (the
procedural engine, health checks, mixing, loudness, encoding, pictures) runs on the pool, so that the GPU takes its
next take meanwhile. Progress is left in the handle for whoever looks; nothing is pushed, so a slow reader costs
nothing.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

from ambientgen.audio.clip import Clip
from ambientgen.audio.mix import Stem
from ambientgen.audio.sound import Sound
from ambientgen.engines.base import Engine, EngineWithWeights, Progress, Take, TimedEngine
from ambientgen.errors import EngineError, GenerationCancelled
from ambientgen.recipe import Recipe
from ambientgen.render import Output, Soundscape, finish
from ambientgen.spec import EngineSpec
from ambientgen.stems import StemCache
from ambientgen.takes import Made, TakeBook, run_one
from ambientgen.timings import Timing

log = logging.getLogger(__name__)

Status = Literal["ready", "warming up", "not installed", "failed"]

_UNAVAILABLE: dict[Status, str] = {
    "warming up": "is warming up. Please try again in a minute, or leave `engine` open.",
    "not installed": "is not installed here. The server's admin can add it with `make model`.",
    "failed": "could not be started; the bot's log says why. Leave `engine` open to use another one.",
}


#: How many later takes may join a batch before one that does not fit into it.
_MAX_OVERTAKEN = 8
#: How many jobs may be under way for a batch: more would gain little, and leave the order to the executor.
_MOST_TOGETHER = 8


class Handle:
    """A job the executor has: its newest progress, a way to cancel it, and its result."""

    def __init__(self, job_id: str, loop: asyncio.AbstractEventLoop) -> None:
        self.job_id = job_id
        self.progress = Progress("queued")
        self.running_since_s: float | None = None  # by the monotonic clock
        self._loop = loop
        self._future: asyncio.Future[Soundscape] = loop.create_future()
        self._future.add_done_callback(_mark_retrieved)
        self._cancelled = threading.Event()

    @property
    def cancelled(self) -> bool:
        """True once somebody asked to stop it."""
        return self._cancelled.is_set()

    def cancel(self) -> None:
        """Stop at the next step. `result` then raises `GenerationCancelled`. Any thread may call it."""
        self._cancelled.set()

    async def result(self) -> Soundscape:
        """Wait for the soundscape.

        Raises:
            GenerationCancelled, EngineError, EncodingError: as `ambientgen.render.render`.
        """
        return await asyncio.shield(self._future)

    def _report(self, progress: Progress) -> bool:
        if self.running_since_s is None:
            self.running_since_s = time.monotonic()
        self.progress = progress
        return not self.cancelled

    def _settle(self, outcome: Soundscape | BaseException) -> None:
        def settle() -> None:
            if self._future.done():
                return
            if isinstance(outcome, BaseException):
                self._future.set_exception(outcome)
            else:
                self._future.set_result(outcome)

        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(settle)


@dataclass(slots=True)
class _Work:
    """A submitted job and its book; `lock` guards the book."""

    handle: Handle
    book: TakeBook
    output: Output
    lock: threading.Lock
    started_at_s: float | None = None


@dataclass(slots=True)
class _Waiting:
    """A take in the GPU thread's line."""

    work: _Work
    take: Take
    num_overtaken: int = 0


class Executor:
    """Runs recipes.

    Args:
        engines: the preferred one first. One with an `installed()` that says no is never touched.
        num_cpu_workers: threads of the pool; by default one less than the cores, at most 4.
        kept_stems: where the layers of a mix are looked for, and kept for the next one.
    """

    def __init__(
        self, engines: Sequence[Engine], *, num_cpu_workers: int | None = None, kept_stems: StemCache | None = None
    ) -> None:
        self._kept_stems = kept_stems
        self._engines = {engine.spec.name: engine for engine in engines}
        self._specs = {name: engine.spec for name, engine in self._engines.items()}
        self._status: dict[str, Status] = {name: _first_status(engine) for name, engine in self._engines.items()}
        workers = num_cpu_workers or max(1, min(4, (os.cpu_count() or 2) - 1))
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="ambient-cpu")
        self._gpu = threading.Thread(target=self._serve_gpu, name="ambient-gpu", daemon=True)
        self._wake = threading.Condition()
        self._to_load: deque[str] = deque()
        self._gpu_takes: deque[_Waiting] = deque()
        self._works: dict[str, _Work] = {}
        self._changed: Callable[[], object] = lambda: None
        self._closing = False

    # ------------------------------------------------------------------ what is there

    def specs(self) -> dict[str, EngineSpec]:
        """Every engine by name, ready or not."""
        return dict(self._specs)

    def status(self) -> dict[str, Status]:
        """How each engine is, by name."""
        return dict(self._status)

    def device(self, name: str) -> str | None:
        """Where an engine runs, or None while that is not decided."""
        return self._engines[name].device

    def timings(self, name: str) -> tuple[Timing, ...]:
        """What an engine's stages took so far; empty where it does not measure."""
        engine = self._engines[name]
        return engine.timings() if isinstance(engine, TimedEngine) else ()

    def available(self) -> list[EngineSpec]:
        """The engines that are ready, the preferred one first."""
        return [spec for name, spec in self._specs.items() if self._status[name] == "ready"]

    @property
    def max_in_flight(self) -> int:
        """How many jobs are of use here at a time: what may run together, and one so that nothing ever waits."""
        ready = [self._engines[spec.name] for spec in self.available() if spec.needs_gpu]
        return 1 + min(_MOST_TOGETHER, max((engine.max_batch(None) for engine in ready), default=1))

    def unavailable(self) -> dict[str, str]:
        """Engines that cannot serve now, and why, as the end of "NAME ..."."""
        return {name: _UNAVAILABLE[status] for name, status in self._status.items() if status != "ready"}

    # ------------------------------------------------------------------ life

    def start(self, on_change: Callable[[], None] = lambda: None) -> None:
        """Start the GPU thread and warm the installed engines, in the background. Call it from the event loop.

        Args:
            on_change: called in the event loop when an engine became ready or failed.
        """
        loop = asyncio.get_running_loop()
        self._changed = lambda: loop.is_closed() or loop.call_soon_threadsafe(on_change)
        with self._wake:
            self._to_load.extend(name for name, status in self._status.items() if status == "warming up")
        self._gpu.start()

    async def close(self, grace_s: float) -> bool:
        """Cancel everything, wait up to `grace_s` for the threads. True if they ended in time."""
        with self._wake:
            self._closing = True
            self._wake.notify_all()
        for work in list(self._works.values()):
            work.handle.cancel()
        self._drop_cancelled()

        def wait() -> bool:
            deadline = time.monotonic() + grace_s
            if self._gpu.is_alive():  # it hands its last takes to the pool, so it ends first
                self._gpu.join(grace_s)
            while self._works and time.monotonic() < deadline:
                time.sleep(0.01)
            self._pool.shutdown(wait=False, cancel_futures=True)
            return not self._gpu.is_alive() and not self._works

        return await asyncio.to_thread(wait)

    # ------------------------------------------------------------------ work

    def submit(self, job_id: str, recipe: Recipe, output: Output) -> Handle:
        """Start a job. Call it from the event loop.

        Raises:
            EngineError: if the recipe names an engine that is not here, or one that is not ready.
        """
        if self._closing:
            raise EngineError("AmbientGen is shutting down.")
        for layer in recipe.layers:
            if layer.engine in self._status and self._status[layer.engine] != "ready":
                raise EngineError(f"The engine `{layer.engine}` {_UNAVAILABLE[self._status[layer.engine]]}")
        book = TakeBook(job_id, recipe, self._specs, self._kept_stems)
        work = _Work(Handle(job_id, asyncio.get_running_loop()), book, output, threading.Lock())
        self._works[job_id] = work
        takes = book.first_takes()
        self._dispatch(work, takes)
        if not takes:  # every layer is there already
            self._pool.submit(self._guarded, work, functools.partial(self._finish, work, *book.chosen()))
        return work.handle

    def cancel(self, handle: Handle) -> None:
        """Cancel a job; one whose takes all still wait ends at once, a running one at its next step."""
        handle.cancel()
        self._drop_cancelled()

    def _dispatch(self, work: _Work, takes: Sequence[Take]) -> None:
        if takes and self._closing:
            raise GenerationCancelled
        for take in takes:
            if self._specs[take.layer.engine].needs_gpu:
                with self._wake:
                    self._gpu_takes.append(_Waiting(work, take))
                    self._wake.notify_all()
            else:
                self._pool.submit(self._guarded, work, functools.partial(self._run_on_cpu, work, take))

    def _guarded(self, work: _Work, action: Callable[[], None]) -> None:
        """Run a piece of a job on the pool; whatever it raises is the job's outcome."""
        try:
            if work.handle.cancelled:
                raise GenerationCancelled
            if work.started_at_s is None:
                work.started_at_s = time.perf_counter()
            action()
        except BaseException as error:
            self._end(work, error)

    def _run_on_cpu(self, work: _Work, take: Take) -> None:
        engine = self._engines[take.layer.engine]

        def report(progress: Progress) -> bool:
            return work.handle._report(work.book.scale(take.id, progress))

        self._take_done(work, take, run_one(engine, take, report, work.output.directory))

    def _take_done(self, work: _Work, take: Take, made: Made | EngineError) -> None:
        if isinstance(made, EngineError):
            raise made
        with work.lock:
            more = work.book.accept(take.id, made)
            used = work.book.chosen() if work.book.complete and not more else None
        self._dispatch(work, more)
        if used is not None:
            self._finish(work, *used)

    def _finish(self, work: _Work, recipe: Recipe, sounds: list[Stem | list[Sound]]) -> None:
        soundscape = finish(
            recipe,
            sounds,
            self._specs,
            work.output,
            work.handle._report,
            notes=work.book.notes,
            started_at_s=work.started_at_s or time.perf_counter(),
            kept_stems=self._kept_stems,
        )
        self._end(work, soundscape)

    def _end(self, work: _Work, outcome: Soundscape | BaseException) -> None:
        work.handle.cancel()  # whatever of the job still runs or waits is no longer wanted
        work.handle._settle(outcome)
        self._works.pop(work.handle.job_id, None)
        with self._wake:
            self._gpu_takes = deque(entry for entry in self._gpu_takes if entry.work is not work)

    def _drop_cancelled(self) -> None:
        """End the jobs that were cancelled before any of their takes started."""
        for work in list(self._works.values()):
            if work.handle.cancelled and work.started_at_s is None:
                self._end(work, GenerationCancelled())

    # ------------------------------------------------------------------ the GPU thread

    def _serve_gpu(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._closing or self._to_load or self._gpu_takes)
                if self._closing:
                    break
                name = self._to_load.popleft() if self._to_load else None
                engine = self._engines[name or self._gpu_takes[0].take.layer.engine]
            if name is not None:
                self._load(engine)
            else:
                feed = _GpuFeed(self, engine)
                try:
                    engine.run(feed)
                except BaseException as error:
                    log.exception("the %s engine broke off", engine.spec.name)
                    feed.fail_all(error)
        for engine in self._engines.values():
            if engine.spec.needs_gpu:
                engine.unload()

    def _load(self, engine: Engine) -> None:
        name, started_at_s = engine.spec.name, time.perf_counter()
        try:
            engine.load(lambda _progress: not self._closing)
            if isinstance(engine, EngineWithWeights):
                engine.warm_up()
        except EngineError as error:
            self._status[name] = "failed"
            log.error("engine %s cannot be used: %s", name, error, exc_info=error.__cause__)
        except GenerationCancelled:
            return
        except BaseException:  # also what a native library throws: this thread must go on
            self._status[name] = "failed"
            log.exception("engine %s cannot be used", name)
        else:
            self._status[name] = "ready"
            log.info("engine %s is ready after %.1f s", name, time.perf_counter() - started_at_s)
        self._changed()


class _GpuFeed:
    """The feed of the GPU thread's engine: takes out of the executor's line, results to the pool."""

    def __init__(self, executor: Executor, engine: Engine) -> None:
        self._executor = executor
        self._engine = engine
        self._running: dict[str, tuple[_Work, Take]] = {}

    def admit(self, key: Hashable | None, num_free: int) -> list[Take]:
        executor = self._executor
        admitted: list[Take] = []
        with executor._wake:
            waiting = executor._gpu_takes
            kept = executor._gpu_takes = deque()
            while waiting and len(admitted) < num_free and not executor._closing:
                if kept and kept[0].num_overtaken >= _MAX_OVERTAKEN:
                    break  # this batch ends, and the next one is that take's
                entry = waiting.popleft()
                if entry.take.layer.engine != self._engine.spec.name or key not in (None, self._key(entry)):
                    kept.append(entry)
                    continue
                for overtaken in kept:
                    overtaken.num_overtaken += 1
                entry.work.started_at_s = entry.work.started_at_s or time.perf_counter()
                self._running[entry.take.id] = (entry.work, entry.take)
                admitted.append(entry.take)
                key = self._key(entry)
            kept.extend(waiting)
        return admitted

    def _key(self, entry: _Waiting) -> Hashable:
        return self._engine.batch_key(entry.take)

    def progress(self, take_id: str, progress: Progress) -> bool:
        work, _ = self._running[take_id]
        wanted = work.handle._report(work.book.scale(take_id, progress))
        if not wanted:
            del self._running[take_id]
            self._executor._end(work, GenerationCancelled())
        return wanted

    def finish(
        self, take_id: str, result: Clip | EngineError, match: float | None = None, leaks: tuple[str, ...] = ()
    ) -> None:
        work, take = self._running.pop(take_id)
        executor = self._executor
        made = result if isinstance(result, EngineError) else Made(result, match, leaks)
        try:
            executor._pool.submit(executor._guarded, work, lambda: executor._take_done(work, take, made))
        except RuntimeError:  # the pool was shut down while this take was finished
            executor._end(work, GenerationCancelled())

    def fail_all(self, error: BaseException) -> None:
        """The engine broke off: its running takes end with an error the operator can look up.

        If it did not even take one, the next would meet the same end: then the first that waits is ended.
        """
        if not self._running:
            with self._executor._wake:
                name = self._engine.spec.name
                mine = [entry for entry in self._executor._gpu_takes if entry.take.layer.engine == name]
            self._running = {entry.take.id: (entry.work, entry.take) for entry in mine[:1]}
        failure = EngineError(f"The {self._engine.spec.name} engine broke off. The bot's log says why.")
        failure.__cause__ = error
        for work, _ in self._running.values():
            self._executor._end(work, failure)
        self._running.clear()


def _first_status(engine: Engine) -> Status:
    installed = getattr(engine, "installed", None)
    if installed is None:
        return "warming up" if engine.spec.needs_gpu else "ready"
    return "warming up" if installed() else "not installed"


def _mark_retrieved(future: asyncio.Future[Soundscape]) -> None:
    """A result nobody waited for (the bot is stopping) is not an error of its own."""
    if not future.cancelled():
        future.exception()
