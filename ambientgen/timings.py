"""How long an engine's stages take, as measured while it serves: for whoever has to say when a take will be done."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

#: How much a new measurement counts against all before it.
_WEIGHT = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """A stage's usual duration.

    Attributes:
        stage: "conditioning" (one prompt that was not remembered), "denoising" (one step) or "decoding" (one take).
        num_windows: windows of the step, or of the take that is decoded; 0 for conditioning.
        window_frames: their length in latent frames; 0 for conditioning.
        batch_size: takes that shared the step; 1 for the other stages.
        duration_s: moving average, in seconds.
        num_measured: how many measurements are in it.
    """

    stage: str
    num_windows: int
    window_frames: int
    batch_size: int
    duration_s: float
    num_measured: int


class Timings:
    """Collects `Timing`s. One thread measures, any thread may read."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._known: dict[tuple[str, int, int, int], Timing] = {}

    @contextmanager
    def measure(
        self, stage: str, *, num_windows: int = 0, window_frames: int = 0, batch_size: int = 1
    ) -> Iterator[None]:
        """Measure what happens inside; what ends in an error is not counted."""
        started_at_s = self._clock()
        yield
        taken_s = self._clock() - started_at_s
        key = (stage, num_windows, window_frames, batch_size)
        old = self._known.get(key)
        average_s = taken_s if old is None else old.duration_s + _WEIGHT * (taken_s - old.duration_s)
        self._known[key] = Timing(
            stage=stage,
            num_windows=num_windows,
            window_frames=window_frames,
            batch_size=batch_size,
            duration_s=average_s,
            num_measured=1 if old is None else old.num_measured + 1,
        )

    def all(self) -> tuple[Timing, ...]:
        """Everything measured so far."""
        return tuple(self._known.values())
