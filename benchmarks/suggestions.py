"""How long a person waits for what `scene:` offers while they type.

    python benchmarks/suggestions.py [number of the person's earlier sounds]

A real database with that many sounds of one person and 100 presets of a server; the time of one answer, at each letter
of some scenes, against the plain way: reading every sound of that person whole and looking through all of them.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from ambientgen import ideas
from ambientgen.engines.procedural import ProceduralEngine
from ambientgen.planning import resolve
from ambientgen.recipe import SceneRequest
from bot.cogs.ideas import suggest_scenes
from bot.store import Job, Jobs, Store

TYPED = ["gentle rain on a win", "crackling fire wi", "waves gulls", ""]
USER, GUILD = 1, 2


def a_job(number: int, scene: str, spec: Any) -> Job:
    """One earlier sound."""
    request = SceneRequest(description=scene, seed=number)
    now = datetime.now(UTC) - timedelta(minutes=number)
    return Job(
        id=Jobs.new_id(), recipe=resolve(request, [spec]), request=request, file_format="opus", user_id=USER,
        guild_id=GUILD, channel_id=3, private=False, locale="en-US", interaction_token=None, token_expires_at=now,
        upload_limit_bytes=2**20, created_at=now,
    )  # fmt: skip


async def measure(num_jobs: int) -> None:
    """Print the table."""
    spec = ProceduralEngine().spec
    scenes = ideas.all_ideas([spec])
    person: Any = SimpleNamespace(user=SimpleNamespace(id=USER), guild_id=GUILD)
    with tempfile.TemporaryDirectory() as folder:
        async with Store.open(Path(folder) / "ambient.db") as store:
            for number in range(num_jobs):
                scene = f"{scenes[number % len(scenes)]}, take {number}"
                await store.jobs.add(a_job(number, scene, spec))
            for number in range(100):
                await store.presets.save(USER, GUILD, f"preset {number}", SceneRequest(description=f"rain {number}"))
            executor = SimpleNamespace(available=lambda: [spec])
            services: Any = SimpleNamespace(store=store, executor=executor)
            await suggest_scenes(services, person, "")  # the first use reads the vocabulary
            ours, plain = [], []
            for text in TYPED:
                for end in range(len(text) + 1):
                    started = time.perf_counter()
                    await suggest_scenes(services, person, text[:end])
                    ours.append((time.perf_counter() - started) * 1e3)
            for text in TYPED:
                started = time.perf_counter()
                jobs = await store.jobs.history(USER, limit=num_jobs)
                _ = [job for job in jobs if text in job.request.description][:25]
                plain.append((time.perf_counter() - started) * 1e3)
    print(
        f"{num_jobs} sounds: median {np.median(ours):.1f} ms, p99 {np.percentile(ours, 99):.1f} ms; "
        f"{np.median(plain) / np.median(ours):.1f} times faster than reading them all"
    )


if __name__ == "__main__":
    asyncio.run(measure(int(sys.argv[1]) if len(sys.argv) > 1 else 2000))
