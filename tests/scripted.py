"""An engine that does exactly what a test says, one step at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable

import numpy as np

from ambientgen.audio.clip import Clip
from ambientgen.engines.base import Feed, Progress, Report, Take
from ambientgen.errors import EngineError, ModelMissingError
from ambientgen.spec import ENGINE_OPTIONS, EngineSpec


class ScriptedEngine:
    """Makes quiet pink-ish noise in `num_steps` steps, each of which waits for `gate` if there is one.

    Attributes:
        gate: released once for each step that may go on; None lets every step go on.
        started: set before each step of a take.
        stepped: set after each step.
        seeds: of the takes it finished, in order.
        matches: how well each take fits its prompt, in order; none: not judged.
        leaks: what each take has in it that it should not, in order.
        results: what to hand over instead of noise, in order; a callable gets the take.
        threads: names of the threads that ran it.
    """

    def __init__(
        self,
        name: str = "audioldm2",
        *,
        needs_gpu: bool = True,
        num_steps: int = 3,
        gate: threading.Semaphore | None = None,
        is_installed: bool = True,
        load_error: Exception | None = None,
        load_gate: threading.Event | None = None,
    ) -> None:
        self.spec = EngineSpec(
            name=name,
            version="1",
            model="test/model",
            sample_rate_hz=48_000,
            num_channels=2,
            default_duration_s=2.0,
            longest_good_s=4.0,
            longest_step_s=0.1,
            supports=frozenset(ENGINE_OPTIONS),
            needs_gpu=needs_gpu,
            license="CC BY-NC-SA 4.0 (non-commercial)",
        )
        self.device: str | None = None
        self.gate = gate
        self.started = threading.Event()
        self.stepped = threading.Event()
        self.seeds: list[int] = []
        self.results: list[Clip | EngineError | Callable[[Take], Clip]] = []
        self.matches: list[float] = []
        self.leaks: list[tuple[str, ...]] = []
        self.threads: set[str] = set()
        self.num_loads = 0
        self.num_steps = num_steps
        self._is_installed = is_installed
        self._load_error = load_error
        self._load_gate = load_gate

    def installed(self) -> bool:
        """As the test says."""
        return self._is_installed

    def load(self, report: Report) -> None:
        """Fails or waits as the test says."""
        report(Progress("loading"))
        if self._load_gate is not None:
            self._load_gate.wait(10.0)
        if self._load_error is not None:
            raise self._load_error
        self.threads.add(threading.current_thread().name)
        self.num_loads += 1
        self.device = "test"

    def unload(self) -> None:
        """Nothing to give back."""

    def batch_key(self, take: Take) -> Hashable:
        """Equal lengths go together."""
        return take.num_samples

    def max_batch(self, key: Hashable) -> int:
        """One at a time."""
        return 1

    def run(self, feed: Feed) -> None:
        """One take at a time, a step at a time."""
        while takes := feed.admit(None, 1):
            (take,) = takes
            self.threads.add(threading.current_thread().name)
            if self._steps(take, feed):
                result = self.results.pop(0) if self.results else noise
                self.seeds.append(take.layer.seed)
                match = self.matches.pop(0) if self.matches else None
                leaks = self.leaks.pop(0) if self.leaks else ()
                feed.finish(take.id, result(take) if callable(result) else result, match, leaks)

    def _steps(self, take: Take, feed: Feed) -> bool:
        for step in range(self.num_steps):
            self.started.set()
            if self.gate is not None:
                self.gate.acquire(timeout=10.0)
            wanted = feed.progress(take.id, Progress("denoising", step + 1, self.num_steps))
            self.stepped.set()
            if not wanted:
                return False
        return True


def noise(take: Take) -> Clip:
    """Healthy stereo noise of the take's length, by its seed."""
    rng = np.random.default_rng(take.layer.seed)
    samples = 0.1 * rng.standard_normal((2, take.num_samples), dtype=np.float32)
    return Clip(samples.astype(np.float32), 48_000)


def silence(take: Take) -> Clip:
    """What a broken model makes."""
    return Clip(np.zeros((2, take.num_samples), np.float32), 48_000)


MISSING = ModelMissingError("The weights are not on this machine: run `make model`.")
