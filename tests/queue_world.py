"""The real queue on a machine by script, in virtual time: hours pass in seconds, the same way every time.

The machine stands in for the executor: one GPU on which takes with equal keys share steps, join and leave between them,
and a pool for what needs the CPU alone, and for mixing and encoding. Only how long everything takes is made up.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import math
import random
import selectors
from collections import defaultdict, deque
from collections.abc import Callable, Coroutine, Hashable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from ambientgen.engines.base import Progress
from ambientgen.errors import GenerationCancelled
from ambientgen.recipe import Layer, Recipe, SceneRequest
from ambientgen.render import Output, Soundscape
from ambientgen.spec import EngineSpec
from ambientgen.takes import num_candidates, take_duration_s, take_seeds
from ambientgen.timings import Timing
from bot.eta import slowest_engine
from bot.jobs import JobQueue, JobView
from bot.store import Job

T = TypeVar("T")

#: As in the executor and the engine.
_MAX_OVERTAKEN, _MOST_TOGETHER = 8, 8
_NUM_CPU_WORKERS = 3
_EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


# ---------------------------------------------------------------------- time


class _Jumping(selectors.DefaultSelector):  # type: ignore[misc, valid-type]
    """Waits for nothing: where nothing is to be done, the time goes on at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise RuntimeError("everything waits, and nothing will ever happen")
        self.now_s += max(0.0, timeout)
        return super().select(0)


class _VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now_s


def run_virtual(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end in virtual time, which starts at 0; whatever is left over is cancelled."""
    with asyncio.Runner(loop_factory=_VirtualLoop) as runner:
        return runner.run(work)


def now_s() -> float:
    """The virtual time."""
    return asyncio.get_running_loop().time()


# ---------------------------------------------------------------------- the machine


@dataclass(frozen=True, slots=True)
class Speeds:
    """How fast an engine works.

    Attributes:
        step_s: one step of one window.
        sharing: what each further window of a step costs, as a share of the first; a shorter one costs less.
        conditioning_s, decoding_s: of each take, on the GPU, for it alone; decoding for each window.
        rendering_s: of each second of a layer, for an engine without steps.
        max_windows: of one step.
        jitter: how much renders differ from each other, as a share.
    """

    step_s: float = 0.0
    sharing: float = 0.0
    conditioning_s: float = 0.0
    decoding_s: float = 0.0
    rendering_s: float = 0.0
    max_windows: int = 1
    jitter: float = 0.0


def spec_of(name: str, *, needs_gpu: bool, longest_good_s: float = 120.0) -> EngineSpec:
    """An engine's abilities."""
    return EngineSpec(
        name=name,
        version="1",
        model="test/model" if needs_gpu else None,
        sample_rate_hz=48_000,
        num_channels=2,
        default_duration_s=10.0,
        longest_good_s=longest_good_s,
        longest_step_s=0.1,
        supports=frozenset(),
        needs_gpu=needs_gpu,
        license="none",
    )


class ScriptedHandle:
    """As the executor's, set by the machine."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.progress = Progress("queued")
        self.running_since_s: float | None = None
        self.cancelled = False
        self.started = asyncio.Event()
        self.outcome: asyncio.Future[Soundscape] = asyncio.get_running_loop().create_future()
        self.takes: list[_Take] = []

    def cancel(self) -> None:
        """Stop at the next step."""
        self.cancelled = True

    async def result(self) -> Soundscape:
        """Wait for the soundscape."""
        return await self.outcome

    def report(self, progress: Progress) -> None:
        """The newest progress."""
        if self.running_since_s is None:
            self.running_since_s = now_s()
            self.started.set()
        self.progress = progress


@dataclass(slots=True, eq=False)
class _Take:
    handle: ScriptedHandle
    engine: str
    num_windows: int
    window: float  # its length, as a share of the longest
    key: object
    num_steps: int
    length_s: float
    pace: float
    step: int = 0
    num_overtaken: int = 0
    done: bool = False


class ScriptedMachine:
    """Has what the queue asks of an executor.

    Args:
        speeds: of each engine that there is.
        specs: of the same.
        seed: of what differs from render to render.
    """

    def __init__(self, speeds: Mapping[str, Speeds], specs: Sequence[EngineSpec], *, seed: int = 0) -> None:
        self.speeds = dict(speeds)
        self._specs = {spec.name: spec for spec in specs}
        self._random = random.Random(seed)
        self._gpu_line: deque[_Take] = deque()
        self._gpu: asyncio.Task[None] | None = None
        self._pool = asyncio.Semaphore(_NUM_CPU_WORKERS)
        self._tasks: set[asyncio.Task[None]] = set()
        self.on_room: Callable[[], None] = lambda: None
        self.busy_s = 0.0  # the GPU's
        self.num_retakes = 0  # takes that are to be made once more

    def specs(self) -> dict[str, EngineSpec]:
        """Every engine by name."""
        return self._specs

    def status(self) -> dict[str, str]:
        """All are ready."""
        return dict.fromkeys(self._specs, "ready")

    def device(self, name: str) -> str | None:
        """Where an engine runs."""
        return "cuda:0" if self._specs[name].needs_gpu else "cpu"

    def timings(self, _name: str) -> tuple[Timing, ...]:
        """It measures nothing itself."""
        return ()

    @property
    def max_in_flight(self) -> int:
        """As the executor's."""
        sizes = [self.speeds[name].max_windows for name, spec in self._specs.items() if spec.needs_gpu]
        return 1 + min(_MOST_TOGETHER, max(sizes, default=1))

    def batching(self, recipe: Recipe) -> tuple[Hashable, int, int]:
        """As audioldm2's: windows of four lengths, and for whatever is longer some of the longest that overlap."""
        engine = slowest_engine(recipe)
        length_s, max_windows = take_duration_s(recipe, self._specs[engine]), self.speeds[engine].max_windows
        num_windows = 1 if length_s <= 10.24 else 1 + math.ceil((length_s - 10.24) / 8.32)
        key = (engine, min(4, math.ceil(length_s / 2.56)))
        return key if max_windows > 1 else None, num_windows, max_windows

    def submit(self, _job_id: str, recipe: Recipe, _output: Output) -> Any:
        """Start a job."""
        handle = ScriptedHandle(recipe)
        for layer in recipe.layers:
            handle.takes += self._takes(handle, layer)
        for take in handle.takes:
            self._dispatch(take)
        return handle

    def cancel(self, handle: ScriptedHandle) -> None:
        """Cancel a job; a running one ends at its next step."""
        handle.cancel()
        if handle.running_since_s is None:
            self._end_cancelled(handle)

    async def close(self, _grace_s: float) -> bool:
        """Stop everything."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        return True

    def _takes(self, handle: ScriptedHandle, layer: Layer) -> list[_Take]:
        spec, speeds = self._specs[layer.engine], self.speeds[layer.engine]
        length_s = take_duration_s(handle.recipe, spec)
        key, num_windows, _ = self.batching(handle.recipe)
        return [
            _Take(
                handle=handle,
                engine=layer.engine,
                num_windows=num_windows,
                window=min(1.0, math.ceil(length_s / 2.56) / 4),
                key=key or object(),
                num_steps=layer.num_inference_steps or 10,
                length_s=length_s,
                pace=math.exp(self._random.gauss(0.0, speeds.jitter)),
            )
            for _ in range(num_candidates(layer) * len(take_seeds(handle.recipe, layer, spec)))
        ]

    def _dispatch(self, take: _Take) -> None:
        if not self._specs[take.engine].needs_gpu:
            self._spawn(self._render(take))
            return
        self._gpu_line.append(take)
        if self._gpu is None:
            self._gpu = self._spawn(self._serve_gpu())

    async def _serve_gpu(self) -> None:
        await asyncio.sleep(0)  # what is handed over at one time is there at one time
        while self._gpu_line:
            engine, active = self._gpu_line[0].engine, list[_Take]()
            speeds = self.speeds[engine]
            while await self._admit(engine, active):
                for key in {take.key for take in active}:
                    group = [take for take in active if take.key == key]
                    windows = sum(take.num_windows * take.window for take in group)
                    pace = sum(take.pace for take in group) / len(group)
                    await self._work(speeds.step_s * pace * (1 - speeds.sharing + speeds.sharing * windows))
                    for take in group:
                        await self._advance(take, active, speeds)
        self._gpu = None

    async def _admit(self, engine: str, active: list[_Take]) -> bool:
        """As the engine and the GPU thread's feed do it."""
        speeds = self.speeds[engine]
        while not active or sum(take.num_windows for take in active) < speeds.max_windows:
            entry = self._pull(engine, active[0].key if active else None)
            if entry is None:
                break
            entry.handle.report(self._scaled(entry, "conditioning"))
            await self._work(speeds.conditioning_s * entry.pace)
            active.append(entry)
        return bool(active)

    def _pull(self, engine: str, key: object | None) -> _Take | None:
        overtaken: list[_Take] = []
        for take in self._gpu_line:
            if overtaken and overtaken[0].num_overtaken >= _MAX_OVERTAKEN:
                return None
            if take.engine == engine and (key is None or take.key == key):
                for other in overtaken:
                    other.num_overtaken += 1
                self._gpu_line.remove(take)
                return take
            overtaken.append(take)
        return None

    async def _advance(self, take: _Take, active: list[_Take], speeds: Speeds) -> None:
        if take.handle.cancelled:
            active.remove(take)
            self._end_cancelled(take.handle)
            return
        take.step += 1
        take.handle.report(self._scaled(take, "denoising"))
        if take.step == take.num_steps:
            active.remove(take)
            take.handle.report(self._scaled(take, "decoding"))
            await self._work(speeds.decoding_s * take.num_windows * take.pace)
            if self.num_retakes:
                self.num_retakes -= 1
                take.step = 0
                # What is left of the job waits for the GPU.
                take.handle.report(self._scaled(take, "queued"))
                self._dispatch(take)
            else:
                self._take_done(take)

    async def _work(self, seconds: float) -> None:
        self.busy_s += seconds
        await asyncio.sleep(seconds)

    async def _render(self, take: _Take) -> None:
        seconds = self.speeds[take.engine].rendering_s * take.length_s * take.pace
        async with self._pool:
            for _ in range(take.num_steps):
                if take.handle.cancelled:
                    self._end_cancelled(take.handle)
                    return
                take.handle.report(self._scaled(take, "rendering"))
                await asyncio.sleep(seconds / take.num_steps)
                take.step += 1
            self._take_done(take)

    def _take_done(self, take: _Take) -> None:
        take.done = True
        if all(other.done for other in take.handle.takes) and not take.handle.outcome.done():
            self._spawn(self._finish(take.handle))

    async def _finish(self, handle: ScriptedHandle) -> None:
        async with self._pool:
            handle.report(Progress("finishing", 0, 5))
            self.on_room()
            await asyncio.sleep(0.1 + 0.01 * handle.recipe.duration_s)
        if handle.cancelled:
            self._end_cancelled(handle)
        else:
            assert handle.running_since_s is not None
            handle.outcome.set_result(_soundscape(handle.recipe, now_s() - handle.running_since_s))

    def _end_cancelled(self, handle: ScriptedHandle) -> None:
        self._gpu_line = deque(take for take in self._gpu_line if take.handle is not handle)
        if not handle.outcome.done():
            handle.outcome.set_exception(GenerationCancelled())

    def _scaled(self, take: _Take, stage: Any) -> Progress:
        takes = take.handle.takes
        return Progress(stage, sum(other.step for other in takes), sum(other.num_steps for other in takes))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _soundscape(recipe: Recipe, render_time_s: float) -> Soundscape:
    return Soundscape(
        recipe=recipe,
        path=Path("none.ogg"),
        picture_path=Path("none.png"),
        file_format="opus",
        num_bytes=0,
        sample_rate_hz=48_000,
        num_channels=2,
        duration_s=recipe.duration_s,
        integrated_lufs=-20.0,
        peak_dbtp=-3.0,
        seam=None,
        notes=(),
        lifts_db=(0.0,) * len(recipe.layers),
        shrunk=False,
        render_time_s=render_time_s,
    )


# ---------------------------------------------------------------------- the queue


class _Clips:
    """Keeps nothing."""

    folder = Path()

    async def make_room(self) -> list[str]:
        return []


class _Jobs:
    """Takes every step of a job, and has no earlier ones."""

    async def _yes(self, *_args: Any, **_options: Any) -> bool:
        return True

    async def _none(self, *_args: Any) -> list[Any]:
        return []

    add = set_message = start = requeue = put_back = finish = fail = cancel = set_delivery = erase_expired_tokens = _yes
    unfinished = undelivered = recent_costs = _none


class _Store:
    def __init__(self, meta: dict[str, str]) -> None:
        self.jobs = _Jobs()
        self.meta = meta

    async def get_meta(self, key: str) -> str | None:
        return self.meta.get(key)

    async def set_meta(self, key: str, value: str) -> None:
        self.meta[key] = value


class _Presenter:
    """Looks at each job as often as its card would, and writes down when its outcome came."""

    def __init__(self, look_every_s: float) -> None:
        self.done_at_s: dict[str, float] = {}
        self.done: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._look_every_s = look_every_s
        self._tasks: set[asyncio.Task[None]] = set()

    def follow(self, job: Job, look: Callable[[], JobView | None]) -> None:
        task = asyncio.get_running_loop().create_task(self._follow(look))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _follow(self, look: Callable[[], JobView | None]) -> None:
        while look() is not None:  # noqa: ASYNC110 - as a card does
            await asyncio.sleep(self._look_every_s)

    async def deliver(self, job: Job) -> None:
        self.done_at_s[job.id] = now_s()
        self.done[job.id].set()


class QueueWorld:
    """A queue and its machine. Build it inside `run_virtual`.

    Args:
        machine: what runs the jobs.
        meta: what the queue keeps over restarts.
        weight_of: the queue's.
        look_every_s: how often each card is looked at.
        max_pending: the queue's, as the next.
        max_pending_per_user: by default as good as none.
    """

    def __init__(
        self,
        machine: ScriptedMachine,
        *,
        meta: dict[str, str] | None = None,
        weight_of: Callable[[Job], float] = lambda _job: 1.0,
        look_every_s: float = 2.5,
        max_pending: int = 100_000,
        max_pending_per_user: int = 100_000,
    ) -> None:
        self.machine = machine
        self.presenter = _Presenter(look_every_s)
        self.meta: dict[str, str] = {} if meta is None else meta
        self.queue = JobQueue(
            store=_Store(self.meta),  # type: ignore[arg-type]
            executor=machine,  # type: ignore[arg-type]
            clips=_Clips(),  # type: ignore[arg-type]
            presenter=self.presenter,
            max_pending=max_pending,
            max_pending_per_user=max_pending_per_user,
            weight_of=weight_of,
            batching=machine.batching,
            clock=asyncio.get_running_loop().time,
        )
        machine.on_room = self.queue.room_made
        self.handles: dict[str, ScriptedHandle] = {}
        self.handed_over: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
        submit = machine.submit

        def remembered(job_id: str, recipe: Recipe, output: Output) -> Any:
            self.handles[job_id] = submit(job_id, recipe, output)
            self.handed_over[job_id].set()
            return self.handles[job_id]

        machine.submit = remembered  # type: ignore[method-assign]
        self._numbers = itertools.count()

    async def ask(self, user_id: int, **options: Any) -> Job:
        """One person asks for one sound; the options are those of `job`."""
        job = self.job(user_id, **options)
        await self.put(job)
        return job

    async def put(self, job: Job) -> None:
        """A job comes in."""
        await self.queue.admit(job)
        await self.queue.enqueue(job)

    def job(
        self,
        user_id: int,
        *,
        server_id: int | None = 1,
        engine: str = "audioldm2",
        duration_s: float = 10.0,
        num_steps: int | None = 20,
        num_candidates: int = 1,
        num_layers: int = 1,
    ) -> Job:
        """A job to put in."""
        number = next(self._numbers)
        model = self.machine.specs()[engine].model
        layer = Layer(
            engine=engine,
            model=model,
            prompt="rain",
            seed=number,
            num_inference_steps=num_steps,
            params={"num_candidates": num_candidates},
        )
        recipe = Recipe(
            layers=tuple(dataclasses.replace(layer, seed=number + other) for other in range(num_layers)),
            duration_s=duration_s,
            loop=False,
            target_lufs=-20.0,
            engine_versions={engine: "1"},
        )
        return Job(
            id=f"{number:010}",
            recipe=recipe,
            request=SceneRequest(description="rain"),
            file_format="opus",
            user_id=user_id,
            guild_id=server_id,
            channel_id=2,
            message_id=3,
            upload_limit_bytes=2**20,
            created_at=_EPOCH,
        )

    async def until(self, reached: Callable[[], bool], every_s: float = 0.01) -> None:
        """Wait in virtual time."""
        while not reached():  # noqa: ASYNC110 - what is waited for has no event, and time costs nothing
            await asyncio.sleep(every_s)

    async def until_done(self, jobs: Sequence[Job]) -> None:
        """Wait until all of these have their outcome."""
        for job in jobs:
            await self.presenter.done[job.id].wait()

    async def until_started(self, job: Job) -> None:
        """Wait until a job's first take has begun."""
        await self.handed_over[job.id].wait()
        await self.handles[job.id].started.wait()

    def started_at_s(self, job: Job) -> float:
        """When a job's first take began."""
        at_s = self.handles[job.id].running_since_s
        assert at_s is not None
        return at_s
