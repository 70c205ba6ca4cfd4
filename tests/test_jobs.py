"""The queue through its public doors: turns, limits, places, cancelling, stopping, and taking up again."""

from __future__ import annotations

import asyncio
import dataclasses
import math
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from queue_world import QueueWorld, ScriptedMachine, Speeds, now_s, run_virtual, spec_of
from scripted import ScriptedEngine, silence

from ambientgen.executor import Executor
from ambientgen.planning import resolve
from ambientgen.recipe import SceneRequest
from bot.clips import Clips
from bot.jobs import JobQueue, JobView, QueueFullError
from bot.store import Job, Jobs, Store, StoreError


class _Presenter:
    """Writes down what it is asked to show."""

    def __init__(self) -> None:
        self.delivered: asyncio.Queue[Job] = asyncio.Queue()
        self.followed: list[str] = []

    def follow(self, job: Job, look: Callable[[], JobView | None]) -> None:
        assert look() is not None
        self.followed.append(job.id)

    async def deliver(self, job: Job) -> None:
        self.delivered.put_nowait(job)

    async def next(self) -> Job:
        return await asyncio.wait_for(self.delivered.get(), 20.0)


class _World:
    """A queue with everything real but the engine and Discord."""

    def __init__(self, folder: Path, **engine_options: Any) -> None:
        self.engine = ScriptedEngine(needs_gpu=True, **engine_options)
        self.folder = folder
        self.presenter = _Presenter()
        self.stack = AsyncExitStack()

    async def open(self, *, max_pending: int = 50, max_clips_bytes: int = 2**30) -> _World:
        self.store = await self.stack.enter_async_context(Store.open(self.folder / "ambient.db"))
        self.clips = Clips(self.folder / "clips", max_clips_bytes)
        self.clips.prepare()
        self.executor = Executor([self.engine])
        self.queue = JobQueue(
            store=self.store,
            executor=self.executor,
            clips=self.clips,
            presenter=self.presenter,
            max_pending=max_pending,
            max_pending_per_user=3,
        )
        return self

    async def start(self) -> None:
        """Start the executor and wait for its engine."""
        ready = asyncio.Event()

        def changed() -> None:
            self.queue.engines_changed()
            ready.set()

        self.executor.start(changed)
        await asyncio.wait_for(ready.wait(), 10.0)

    def job(self, user_id: int = 1, seed: int = 0) -> Job:
        request = SceneRequest(description="rain", seed=seed, duration_s=1.0)
        return Job(
            id=Jobs.new_id(),
            recipe=resolve(request, [self.engine.spec]),
            request=request,
            file_format="opus",
            user_id=user_id,
            guild_id=10,
            channel_id=20,
            message_id=30 + seed,
            interaction_token="token",  # noqa: S106
            token_expires_at=datetime.now(UTC) + timedelta(minutes=15),
            upload_limit_bytes=10 * 2**20,
            created_at=datetime.now(UTC) + timedelta(milliseconds=seed),
        )

    async def ask(self, user_id: int = 1, seed: int = 0) -> Job:
        job = self.job(user_id, seed)
        await self.queue.admit(job)
        await self.queue.enqueue(job)
        return job

    async def close(self) -> None:
        await self.queue.close(10.0)
        await self.stack.aclose()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[_World]:
    """A running queue whose engine waits at each step for its gate."""
    world = await _World(tmp_path, gate=threading.Semaphore(0), num_steps=1).open()
    await world.start()
    yield world
    world.engine.gate.release(1000)
    await world.close()


async def test_a_job_is_written_run_and_delivered(world: _World) -> None:
    """The row is there before the job is in line; the outcome is written before it is delivered."""
    job = world.job()
    await world.queue.admit(job)
    assert (await world.store.jobs.get(job.id)).status == "queued"
    await world.queue.enqueue(job)
    world.engine.gate.release()
    delivered = await world.presenter.next()
    stored = await world.store.jobs.get(job.id)
    assert (stored.status, stored.delivery_state, stored.attempts) == ("done", "pending", 1)
    assert stored.clip_name == delivered.clip_name == f"ambient-{job.id}-0.ogg"
    assert stored.facts["duration_s"] == pytest.approx(1.0)
    assert (world.clips.folder / stored.clip_name).exists()
    assert world.presenter.followed == [job.id]
    assert world.queue.view(job.id) is None


async def test_people_take_turns(world: _World) -> None:
    """One person's three requests do not hold up another's first."""
    for seed in (1, 2, 3):
        await world.ask(user_id=1, seed=seed)
    await world.ask(user_id=2, seed=4)
    await world.ask(user_id=3, seed=5)
    # Two of the first person's jobs were handed over before anybody else came.
    assert [job.recipe.seed for job in world.queue.order()] == [4, 5, 3]
    await world.ask(user_id=2, seed=6)
    assert [job.recipe.seed for job in world.queue.order()] == [4, 5, 3, 6]
    world.engine.gate.release(100)
    for _ in range(6):
        await world.presenter.next()
    assert world.engine.seeds[:4] == [1, 2, 4, 5]
    assert sorted(world.engine.seeds[4:]) == [3, 6]  # by the seconds that each had by then


async def test_places_count_what_comes_before(world: _World) -> None:
    """A job's place counts the jobs before it, and shrinks as they end."""
    jobs = [await world.ask(user_id=user, seed=user) for user in (1, 2, 3, 4)]
    await asyncio.to_thread(world.engine.started.wait, 10.0)
    world.engine.gate.release()
    await world.presenter.next()
    views = [world.queue.view(job.id) for job in jobs]
    assert views[0] is None
    assert [view.num_ahead for view in views[2:]] == [1, 2]
    assert not views[3].running
    assert views[3].eta_s > 0


async def test_limits_are_kept_and_nothing_is_written(tmp_path: Path) -> None:
    """A person's fourth and the queue's third request are refused with words and leave no row."""
    world = await _World(tmp_path, gate=threading.Semaphore(0)).open(max_pending=4)
    await world.start()
    for seed in range(3):
        await world.ask(user_id=1, seed=seed)
    with pytest.raises(QueueFullError, match="3 sounds"):
        await world.ask(user_id=1)
    await world.ask(user_id=2)
    with pytest.raises(QueueFullError, match="queue is full"):
        await world.ask(user_id=3)
    assert await world.store.jobs.num_pending() == 4
    world.engine.gate.release(100)
    await world.close()


async def test_a_waiting_job_is_cancelled(world: _World) -> None:
    """Cancelling a waiting job ends it at once, is delivered as such, and happens once."""
    first = await world.ask(user_id=1, seed=1)
    await world.ask(user_id=2, seed=2)
    third = await world.ask(user_id=3, seed=3)
    assert world.queue.cancel(third.id)
    delivered = await world.presenter.next()
    assert (delivered.id, delivered.status) == (third.id, "cancelled")
    assert not world.queue.cancel(third.id)
    assert (await world.store.jobs.get(third.id)).status == "cancelled"
    assert world.queue.view(first.id) is not None


async def test_a_running_job_is_cancelled(world: _World) -> None:
    """Cancelling a running job ends it within a step and frees the engine for the next."""
    first = await world.ask(user_id=1, seed=1)
    await world.ask(user_id=2, seed=2)
    await asyncio.to_thread(world.engine.started.wait, 10.0)
    assert world.queue.cancel(first.id)
    world.engine.gate.release(2)
    outcomes = {job.recipe.seed: job.status for job in [await world.presenter.next(), await world.presenter.next()]}
    assert outcomes == {1: "cancelled", 2: "done"}


async def test_a_failure_has_words_and_no_secrets(world: _World, caplog: pytest.LogCaptureFixture) -> None:
    """An engine's failure is stored with words for the person; a bug with an id that the log has too."""

    def bug(_take: object) -> Any:
        raise RuntimeError("secret path /home/me")

    world.engine.results = [silence, silence, bug]
    broken = await world.ask(user_id=1, seed=1)
    world.engine.gate.release(2)
    assert "broken clip twice" in (await world.presenter.next()).error
    assert (await world.store.jobs.get(broken.id)).status == "failed"
    await world.ask(user_id=1, seed=2)
    world.engine.gate.release(1)
    error = (await world.presenter.next()).error
    assert "secret" not in error
    assert "/home" not in error


async def test_old_clips_make_room(tmp_path: Path) -> None:
    """Beyond the cap the oldest clip goes, and its job knows."""
    world = await _World(tmp_path).open(max_clips_bytes=150_000)
    await world.start()
    names = []
    for seed in range(6):
        await world.ask(seed=seed)
        names.append((await world.presenter.next()).clip_name)
    await world.close()
    left = {path.name for path in (tmp_path / "clips").iterdir()}
    assert names[0] not in left
    assert names[-1] in left
    async with Store.open(tmp_path / "ambient.db") as store:
        kept = await store.jobs.clip_names()
    assert kept == {name for name in left if name.endswith(".ogg")}


async def test_stopping_puts_jobs_back_and_a_new_start_takes_them_up(tmp_path: Path) -> None:
    """What ran or waited at the stop runs after the next start, in order, and nothing is delivered as cancelled."""
    world = await _World(tmp_path, gate=threading.Semaphore(0), num_steps=1).open()
    await world.start()
    for seed in (1, 2, 3):
        await world.ask(user_id=seed, seed=seed)
    await asyncio.to_thread(world.engine.started.wait, 10.0)
    closing = asyncio.create_task(world.queue.close(10.0))
    await asyncio.sleep(0)
    world.engine.gate.release(10)
    await closing
    assert {job.status for job in await world.store.jobs.unfinished()} == {"queued"}
    await world.stack.aclose()
    assert world.presenter.delivered.empty()

    again = await _World(tmp_path).open()
    await again.queue.recover()
    await again.start()
    for _ in range(3):
        assert (await again.presenter.next()).status == "done"
    assert again.engine.seeds == [1, 2, 3]
    await again.close()


async def test_a_job_that_killed_the_process_twice_is_not_tried_again(tmp_path: Path) -> None:
    """After two starts that ended in the process's death the job fails with words."""
    world = await _World(tmp_path).open()
    job = world.job()
    await world.store.jobs.add(job)
    for _ in range(2):
        await world.store.jobs.requeue(job.id)
        await world.store.jobs.start(job.id, datetime.now(UTC))
    await world.queue.recover()
    delivered = await world.presenter.next()
    assert delivered.status == "failed"
    assert "stopped twice" in delivered.error
    await world.start()
    await world.close()
    assert world.engine.seeds == []


async def test_an_outcome_nobody_got_is_delivered_after_a_restart(tmp_path: Path) -> None:
    """A finished job whose delivery was cut off is delivered again at the next start."""
    world = await _World(tmp_path).open()
    await world.start()
    job = await world.ask()
    await world.presenter.next()
    await world.close()
    again = await _World(tmp_path).open()
    await again.queue.recover()
    assert (await again.presenter.next()).id == job.id
    await again.start()
    await again.close()


async def test_jobs_wait_for_an_engine_that_warms_up(tmp_path: Path) -> None:
    """A job taken up before its model is loaded waits, says so, and then runs."""
    loaded = threading.Event()
    world = await _World(tmp_path, load_gate=loaded).open()
    job = world.job()
    await world.store.jobs.add(job)
    await world.queue.recover()
    world.executor.start(world.queue.engines_changed)
    view = world.queue.view(job.id)
    assert view.warming_up
    loaded.set()
    assert (await world.presenter.next()).status == "done"
    await world.close()


async def test_a_database_that_cannot_be_written_does_not_cost_the_clip(
    world: _World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """If the outcome cannot be written, it is delivered all the same and the log says so."""

    async def refuse(*_args: object, **_kwargs: object) -> bool:
        raise StoreError("disk full")

    monkeypatch.setattr(world.store.jobs, "finish", refuse)
    job = await world.ask()
    world.engine.gate.release()
    delivered = await world.presenter.next()
    assert (delivered.id, delivered.status) == (job.id, "done")
    assert "could not be written" in caplog.text


async def test_a_job_whose_card_could_not_be_shown_is_withdrawn(world: _World) -> None:
    """A withdrawn job is neither pending nor run, and frees its person's place."""
    job = dataclasses.replace(world.job(), message_id=None)
    await world.queue.admit(job)
    await world.queue.withdraw(job)
    assert (await world.store.jobs.get(job.id)).status == "cancelled"
    assert world.queue.view(job.id) is None
    assert await world.store.jobs.num_pending() == 0


async def test_what_was_running_starts_first_and_recent_use_counts_after_a_restart(tmp_path: Path) -> None:
    """After a crash the running job begins again, and who had much lately comes after who had nothing."""
    world = await _World(tmp_path).open()
    ids = {}
    for name, user, seed in (("waited", 1, 1), ("ran", 2, 2), ("used much", 3, 3), ("used nothing", 4, 4)):
        job = world.job(user, seed)
        await world.store.jobs.add(job)
        ids[name] = job.id
    await world.store.jobs.start(ids["ran"], datetime.now(UTC))
    used = world.job(3, 9)
    await world.store.jobs.add(used)
    await world.store.jobs.start(used.id, datetime.now(UTC))
    await world.store.jobs.finish(
        used.id, datetime.now(UTC), recipe=used.recipe, clip_name=None, facts={"render_time_s": 3600.0}
    )
    await world.store.jobs.set_delivery(used.id, "delivered")
    await world.queue.recover()
    assert [job.id for job in world.queue.order()] == [
        ids[name] for name in ("ran", "waited", "used nothing", "used much")
    ]
    await world.start()
    for _ in range(4):
        await world.presenter.next()
    await world.close()


async def test_what_was_learned_of_times_is_kept(tmp_path: Path) -> None:
    """A new process knows how long things take before it made anything."""
    world = await _World(tmp_path).open()
    await world.start()
    await world.ask()
    await world.presenter.next()
    await world.close()
    again = await _World(tmp_path, gate=threading.Semaphore(0)).open()
    await again.queue.recover()
    await again.start()
    job = await again.ask()
    view = again.queue.view(job.id)
    assert view.eta_s > 0
    assert view.range_s[0] < view.eta_s < view.range_s[1]
    again.engine.gate.release(100)
    await again.presenter.next()
    await again.close()


# ---------------------------------------------------------------------- on a machine by script, in virtual time


def _a_gpu(batch_size: int, **options: Any) -> QueueWorld:
    speeds = Speeds(step_s=0.4, sharing=0.4, conditioning_s=0.05, decoding_s=0.1, max_windows=batch_size)
    specs = [spec_of("audioldm2", needs_gpu=True), spec_of("procedural", needs_gpu=False)]
    return QueueWorld(ScriptedMachine({"audioldm2": speeds, "procedural": Speeds(rendering_s=1.0)}, specs), **options)


def _num_running(world: QueueWorld, jobs: list[Job]) -> int:
    views = [world.queue.view(job.id) for job in jobs]
    return sum(1 for view in views if view is not None and view.running)


@pytest.mark.parametrize("batch_size", [1, 4, 8])
def test_a_flood_holds_up_nobody(batch_size: int) -> None:
    """While one person has a hundred jobs waiting, another's only one starts within two batches, whenever it comes."""

    async def story() -> None:
        world = _a_gpu(batch_size)
        flood = [await world.ask(1) for _ in range(100)]
        await world.until_done(flood[:batch_size])
        batch_s = now_s()
        for user in range(2, 8):
            await asyncio.sleep(0.7 * batch_s)
            asked_at_s = now_s()
            job = await world.ask(user)
            await world.until_started(job)
            assert now_s() - asked_at_s <= 2 * batch_s
        assert len(world.presenter.done_at_s) < 100

    run_virtual(story())


@pytest.mark.parametrize("batch_size", [1, 8])
def test_ten_at_once_come_before_the_flood(batch_size: int) -> None:
    """Ten people who ask at once are all served within ceil(10 / batch) + 1 batches."""

    async def story() -> None:
        world = _a_gpu(batch_size)
        flood = [await world.ask(1) for _ in range(100)]
        await world.until_done(flood[:batch_size])
        batch_s = now_s()
        asked_at_s = now_s()
        others = [await world.ask(user) for user in range(2, 12)]
        await world.until_done(others)
        waits_s = [world.started_at_s(job) - asked_at_s for job in others]
        assert max(waits_s) <= (math.ceil(10 / batch_size) + 1) * batch_s

    run_virtual(story())


def test_jobs_run_together_and_one_more_is_ready() -> None:
    """The executor has as many as run together and one more, and every free place is taken again at once."""

    async def story() -> None:
        world = _a_gpu(4)
        jobs = [await world.ask(user) for user in range(20)]
        assert len(world.queue.running()) == 5
        began_at_s = now_s()
        while len(world.presenter.done_at_s) < 12:
            await asyncio.sleep(0.5)
            assert _num_running(world, jobs) >= 4
            ready = [run for run in world.queue.running() if world.handles[run.id].progress.stage == "queued"]
            assert len(ready) <= 4
        assert world.machine.busy_s >= 0.99 * (now_s() - began_at_s - 1.0)

    run_virtual(story())


def test_mixing_and_encoding_take_up_no_place() -> None:
    """While jobs are mixed and encoded the GPU has as much to do as before."""

    async def story() -> None:
        world = _a_gpu(1)
        jobs = [await world.ask(user, duration_s=100.0, num_steps=1) for user in range(4)]
        await world.until(lambda: world.handles[jobs[0].id].progress.stage == "finishing")
        await asyncio.sleep(0.05)
        assert [job.id for job in world.queue.running()] == [job.id for job in jobs[:3]]
        await world.until_done(jobs)

    run_virtual(story())


def test_the_cpu_alone_waits_for_no_gpu() -> None:
    """Jobs that need the CPU alone start while the GPU has a long line, and count only their own line."""

    async def story() -> None:
        world = _a_gpu(1)
        models = [await world.ask(1) for _ in range(10)]
        textures = [await world.ask(2, engine="procedural", num_steps=None) for _ in range(3)]
        await asyncio.sleep(0.1)
        assert _num_running(world, models) == 1
        assert _num_running(world, textures) == 2
        assert world.queue.view(textures[2].id).num_ahead == 2
        assert world.queue.view(models[9].id).num_ahead == 9
        assert len(world.queue.order()) == 9
        await world.until_done(textures)
        assert len(world.presenter.done_at_s) < 13

    run_virtual(story())


def test_a_card_goes_back_when_what_is_left_waits() -> None:
    """A take that must be made again behind another job's is shown as waiting, and then as running again."""

    async def story() -> None:
        world = _a_gpu(1)
        world.machine.num_retakes = 1
        first, _second = await world.ask(1), await world.ask(2)
        running = []
        while first.id not in world.presenter.done_at_s:
            view = world.queue.view(first.id)
            if not running or running[-1] != view.running:
                running.append(view.running)
            if running == [False, True, False]:
                assert view.num_ahead == 1
            await asyncio.sleep(0.02)
        assert running == [False, True, False, True]

    run_virtual(story())


def test_a_favored_person_has_two_turns_for_one() -> None:
    """What `weight_of` says of a job counts, up to twice."""

    async def story() -> None:
        world = _a_gpu(1, weight_of=lambda job: 5.0 if job.user_id == 1 else 1.0)
        jobs = {user: [await world.ask(user) for _ in range(40)] for user in (1, 2)}
        await world.until(lambda: len(world.presenter.done_at_s) >= 30, 1.0)
        num = [sum(1 for job in jobs[user] if job.id in world.presenter.done_at_s) for user in (1, 2)]
        assert num[0] == pytest.approx(20, abs=3)

    run_virtual(story())


@pytest.mark.parametrize("batch_size", [1, 4])
def test_times_are_predicted(batch_size: int) -> None:
    """Once it has made some, the queue says when the next are done, and how long one more would wait."""

    async def story() -> None:
        world = _a_gpu(batch_size)
        assert world.queue.predicted_wait_s(world.job(1).recipe, 1, 1) is None
        for duration_s in (10.0, 20.0, 40.0):
            await world.until_done([await world.ask(1, duration_s=duration_s) for _ in range(8)])
        asked_at_s = now_s()
        jobs = [await world.ask(2, duration_s=duration_s) for duration_s in (10.0, 40.0, 20.0) * 5]
        views = [world.queue.view(job.id) for job in jobs]
        wait_s = world.queue.predicted_wait_s(world.job(2).recipe, 2, 1)
        assert world.queue.predicted_wait_s(world.job(3).recipe, 3, 1) < wait_s
        last = await world.ask(2)
        await world.until_done([*jobs, last])
        for job, view in zip(jobs, views, strict=True):
            took_s = world.presenter.done_at_s[job.id] - asked_at_s
            assert view.eta_s == pytest.approx(took_s, rel=0.25)
            assert view.range_s[0] <= took_s <= view.range_s[1]
        assert world.started_at_s(last) - asked_at_s == pytest.approx(wait_s, rel=0.2)

    run_virtual(story())


def test_a_running_job_counts_down() -> None:
    """The time left of a running job falls with the time, and is right at its start."""

    async def story() -> None:
        world = _a_gpu(1)
        for _ in range(6):
            await world.until_done([await world.ask(1)])
        job = await world.ask(1)
        seen = []
        await asyncio.sleep(0.5)
        while (view := world.queue.view(job.id)) is not None and job.id not in world.presenter.done_at_s:
            seen.append((now_s(), view.eta_s))
            await asyncio.sleep(1.0)
        done_at_s = world.presenter.done_at_s[job.id]
        assert len(seen) >= 5
        for at_s, left_s in seen:
            assert left_s == pytest.approx(done_at_s - at_s, abs=0.4)

    run_virtual(story())
