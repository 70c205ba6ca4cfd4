"""Does one person's flood of requests hold up the others? The real queue, a machine by script, virtual time.

One person asks for 200 sounds at once. Ten others ask for one each, at least two batches apart, at 10 different moments
within a batch. Their waits are given in batches: the time in which as many jobs as run together are made. Served in the
order of asking is the same run through the same queue, with everybody as one person.

Held to: 95 of 100 waits at most 2 batches; at least 50 times shorter than in the order of asking where jobs run one by
one, and 8 times with batches of 8. All ten at once: each within ceil(10 / batch) + 1 batches.

    python benchmarks/flood.py
"""

from __future__ import annotations

import asyncio
import math
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from queue_world import QueueWorld, ScriptedMachine, Speeds, now_s, run_virtual, spec_of

_NUM_FLOOD, _NUM_OTHERS, _APART = 200, 10, 2.1
_NUM_MOMENTS = 10


def main() -> int:
    """Print the table; 1 if something is not held."""
    print(f"{'waits of the ten, in batches':<34}{'p50':>8}{'p95':>8}{'max':>8}{'asking order p95':>18}{'times':>8}")
    held = True
    for batch_size, at_least in ((1, 50), (8, 8)):
        moments = [number / _NUM_MOMENTS for number in range(_NUM_MOMENTS)]
        fair = np.concatenate([waits(batch_size, moment, _APART) for moment in moments])
        asking_order = np.concatenate([waits(batch_size, moment, _APART, is_fair=False) for moment in moments])
        p50, p95, most = np.percentile(fair, (50, 95, 100))
        before = float(np.percentile(asking_order, 95))
        times = before / p95
        print(f"{f'one by one, batch {batch_size}':<34}{p50:>8.2f}{p95:>8.2f}{most:>8.2f}{before:>18.1f}{times:>8.1f}")
        held = held and p95 <= 2.0 and times >= at_least
        most_at_once = max(float(waits(batch_size, moment, 0.0).max()) for moment in moments)
        bound = math.ceil(_NUM_OTHERS / batch_size) + 1
        print(f"{f'all at once, batch {batch_size}':<34}{'':>16}{most_at_once:>8.2f}   (at most {bound})")
        held = held and most_at_once <= bound
    return 0 if held else 1


def waits(batch_size: int, moment: float, apart: float, *, is_fair: bool = True) -> np.ndarray:  # type: ignore[type-arg]
    """How long each of the ten waited until its start, in batches.

    Args:
        batch_size: how many run together.
        moment: when the first of them asks, in batches after the flood.
        apart: batches between two of them.
        is_fair: False: in the order of asking.
    """
    return np.asarray(run_virtual(_run(batch_size, moment, apart, is_fair=is_fair)))


async def _run(batch_size: int, moment: float, apart: float, *, is_fair: bool) -> list[float]:
    batch_s = await _batch_s(batch_size)
    world = _world(batch_size)
    flood = [await world.ask(user_id=1) for _ in range(_NUM_FLOOD)]
    asked_at_s, others = [], []
    await asyncio.sleep((0.2 + moment) * batch_s)
    for number in range(_NUM_OTHERS):
        asked_at_s.append(now_s())
        others.append(await world.ask(user_id=100 + number if is_fair else 1))
        await asyncio.sleep(apart * batch_s)
    await world.until_done([*flood, *others])
    return [(world.started_at_s(job) - at_s) / batch_s for job, at_s in zip(others, asked_at_s, strict=True)]


async def _batch_s(batch_size: int) -> float:
    """How long a full batch takes from its start to its end."""
    world = _world(batch_size)
    jobs = [await world.ask(user_id=1) for _ in range(batch_size)]
    await world.until_done(jobs)
    return max(world.presenter.done_at_s.values()) - world.started_at_s(jobs[0])


def _world(batch_size: int) -> QueueWorld:
    speeds = Speeds(step_s=0.4, sharing=0.4, conditioning_s=0.05, decoding_s=0.1, max_windows=batch_size)
    return QueueWorld(ScriptedMachine({"audioldm2": speeds}, [spec_of("audioldm2", needs_gpu=True)]), look_every_s=60.0)


if __name__ == "__main__":
    sys.exit(main())
