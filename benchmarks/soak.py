"""Does the bot stay as it is over many jobs? The real queue and database, an executor by script, no Discord.

Waves of people ask at once, some cancel, and each outcome is recorded as delivered. The database is on disk and waits
for it at every commit, as the bot's does.

Held to: memory at the end within 5 % of what it was after a fifth of the jobs; no task, thread, open file or connection
left over; every job has its outcome; commits p99 at most 3 ms.

    python benchmarks/soak.py [--jobs 20000]
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import gc
import itertools
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiosqlite
import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from queue_world import spec_of

from ambientgen.engines.base import Progress
from ambientgen.errors import GenerationCancelled
from ambientgen.recipe import Layer, Recipe, SceneRequest
from ambientgen.render import Output, Soundscape
from bot.clips import Clips
from bot.jobs import JobQueue, JobView
from bot.store import Job, Jobs, Store

_WAVE, _NUM_PEOPLE, _CANCEL_EVERY = 50, 40, 9
_DURATION_S, _RENDER_TIME_S = 10.0, 0.5


class _Handle:
    """A job that is made in two turns of the event loop."""

    def __init__(self, recipe: Recipe) -> None:
        self.progress = Progress("queued")
        self.running_since_s: float | None = None
        self._recipe = recipe
        self._cancelled = False

    def cancel(self) -> None:
        self._cancelled = True

    async def result(self) -> Soundscape:
        self.running_since_s = time.monotonic()
        for stage in ("rendering", "finishing"):
            self.progress = Progress(stage, 0, 1)
            await asyncio.sleep(0)
            if self._cancelled:
                raise GenerationCancelled
        return Soundscape(
            recipe=self._recipe,
            path=Path("none.ogg"),
            picture_path=Path("none.png"),
            file_format="opus",
            num_bytes=0,
            sample_rate_hz=48_000,
            num_channels=2,
            duration_s=self._recipe.duration_s,
            integrated_lufs=-20.0,
            peak_dbtp=-3.0,
            seam=None,
            notes=(),
            lifts_db=(0.0,) * len(self._recipe.layers),
            shrunk=False,
            render_time_s=_RENDER_TIME_S,
        )


class _Executor:
    """Has what the queue asks of an executor."""

    max_in_flight = 2

    def __init__(self) -> None:
        self._specs = {"procedural": spec_of("procedural", needs_gpu=False)}

    def specs(self) -> dict[str, Any]:
        return self._specs

    def status(self) -> dict[str, str]:
        return {"procedural": "ready"}

    def device(self, _name: str) -> str:
        return "cpu"

    def timings(self, _name: str) -> tuple[()]:
        return ()

    def submit(self, _job_id: str, recipe: Recipe, _output: Output) -> _Handle:
        return _Handle(recipe)

    def cancel(self, handle: _Handle) -> None:
        handle.cancel()

    async def close(self, _grace_s: float) -> None:
        pass


class _Presenter:
    """Looks at each job once and records its outcome as delivered."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.num_delivered = 0
        self.changed = asyncio.Event()

    def follow(self, _job: Job, look: Callable[[], JobView | None]) -> None:
        look()

    async def deliver(self, job: Job) -> None:
        await self._store.jobs.set_delivery(job.id, "delivered")
        self.num_delivered += 1
        self.changed.set()


def main() -> int:
    """Print the figures; 1 if something is not held."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=20_000)
    num_jobs = parser.parse_args().jobs
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        asyncio.run(_warm_up(Path(folder)))
        before = _left_open()
        num_tasks, rss_mib, commits_ms, num_unfinished = asyncio.run(_soak(Path(folder), num_jobs))
        gc.collect()
        after = _left_open()
    early, late = rss_mib[len(rss_mib) // 5], rss_mib[-1]
    p50, p99, most = np.percentile(commits_ms, (50, 99, 100))
    print(f"{'jobs':<44}{num_jobs:>10}")
    print(f"{'without an outcome':<44}{num_unfinished:>10}")
    print(f"{'memory at 20 % and 100 %, MiB':<44}{early:>10.1f}{late:>10.1f}  ({100 * (late / early - 1):+.1f} %)")
    print(f"{'threads, files before and after':<44}{before!s:>10}{after!s:>10}")
    print(f"{'tasks left over':<44}{num_tasks:>10}")
    print(f"{f'{len(commits_ms)} commits, ms: p50, p99, max':<44}{p50:>10.2f}{p99:>10.2f}{most:>10.2f}")
    is_held = abs(late / early - 1) <= 0.05 and after == before and not num_tasks and not num_unfinished and p99 <= 3.0
    return 0 if is_held else 1


async def _warm_up(folder: Path) -> None:
    """Open and close once, so that what Python keeps for good is there before anything is counted."""
    async with Store.open(folder / "other.db"):
        await asyncio.to_thread(int)


async def _soak(folder: Path, num_jobs: int) -> tuple[int, list[float], np.ndarray, int]:
    """Tasks left over, memory after each wave in MiB, commits in ms, jobs without an outcome."""
    rss_mib = []
    # Memory that is there from the first, so that measuring does not look like a leak.
    commits_ms, num_commits = np.full(8 * num_jobs + 100, np.nan), itertools.count()
    fetch = aiosqlite.Connection._execute_fetchall

    def timed(self: aiosqlite.Connection, sql: str, parameters: Any) -> Any:
        started = time.perf_counter()
        rows = fetch(self, sql, parameters)
        if sql.startswith(("INSERT", "UPDATE", "DELETE")):  # each is a transaction of its own here
            commits_ms[next(num_commits)] = (time.perf_counter() - started) * 1e3
        return rows

    # In the database's own thread: how long the event loop leaves a task waiting is not the database's.
    aiosqlite.Connection._execute_fetchall = timed  # type: ignore[method-assign]
    clips = Clips(folder / "clips", 2**30)
    clips.prepare()
    try:
        async with Store.open(folder / "ambient.db") as store:
            presenter = _Presenter(store)
            queue = JobQueue(
                store=store,
                executor=_Executor(),  # type: ignore[arg-type]
                clips=clips,
                presenter=presenter,
                max_pending=1000,
                max_pending_per_user=1000,
            )
            await queue.recover()
            for number in range(num_jobs):
                job = _job(number)
                await queue.admit(job)
                await queue.enqueue(dataclasses.replace(job, message_id=number + 1))
                if number % _CANCEL_EVERY == 0:
                    queue.cancel(job.id)
                if (number + 1) % _WAVE == 0 or number + 1 == num_jobs:
                    while presenter.num_delivered <= number:
                        presenter.changed.clear()
                        await presenter.changed.wait()
                    rss_mib.append(_rss_mib())
            await queue.close(1.0)
            num_unfinished = await store.jobs.num_pending() + len(await store.jobs.undelivered())
    finally:
        aiosqlite.Connection._execute_fetchall = fetch  # type: ignore[method-assign]
    return len(asyncio.all_tasks()) - 1, rss_mib, commits_ms[: next(num_commits)], num_unfinished


def _job(number: int) -> Job:
    layer = Layer(engine="procedural", model=None, prompt="rain", seed=number, num_inference_steps=None)
    recipe = Recipe(
        layers=(layer,), duration_s=_DURATION_S, loop=False, target_lufs=-20.0, engine_versions={"procedural": "1"}
    )
    return Job(
        id=Jobs.new_id(),
        recipe=recipe,
        request=SceneRequest(description="rain"),
        file_format="opus",
        user_id=number % _NUM_PEOPLE + 1,
        guild_id=1,
        channel_id=2,
        interaction_token="t" * 150,
        token_expires_at=datetime.now(UTC) + timedelta(minutes=15),
        upload_limit_bytes=2**20,
        created_at=datetime.now(UTC),
    )


def _rss_mib() -> float:
    """What the process has in memory now; Linux alone says so without a package."""
    num_pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return num_pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _left_open() -> tuple[int, int]:
    """How many threads there are, and how many open files."""
    return threading.active_count(), len(os.listdir("/proc/self/fd"))


if __name__ == "__main__":
    sys.exit(main())
