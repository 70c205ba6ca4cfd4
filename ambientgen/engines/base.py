"""What every engine is: the `Engine` protocol, and the `Feed` it works through.

An engine is synchronous and knows nothing of asyncio, Discord, files or SQL. It pulls takes from a feed, so that
takes can join, leave and finish one by one: a plain pipeline serves one take at a time, a batching loop admits new
ones between steps, a cluster replica is handed another feed.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from ambientgen.audio.clip import Clip, Samples
from ambientgen.errors import EngineError
from ambientgen.recipe import Layer
from ambientgen.spec import EngineSpec
from ambientgen.timings import Timing

Stage = Literal["queued", "loading", "conditioning", "denoising", "rendering", "decoding", "finishing"]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a take or a job is.

    Attributes:
        stage: what is being done.
        step: finished steps of that stage.
        num_steps: all steps of that stage; 0 where they cannot be counted.
    """

    stage: Stage
    step: int = 0
    num_steps: int = 0


Report = Callable[[Progress], bool]
"""Takes the newest progress; answers False when the work should be dropped. Never blocks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Take:
    """One pass of an engine for one layer.

    Attributes:
        id: unique within the process.
        layer: what to render (its `seed` is this take's seed).
        num_samples: exact length at the engine's own sample rate.
        loop: True if the end must join the beginning.
    """

    id: str
    layer: Layer
    num_samples: int
    loop: bool


class Feed(Protocol):
    """Where an engine gets its takes and leaves its results. All calls come from the engine's thread."""

    def admit(self, key: Hashable | None, num_free: int) -> list[Take]:
        """Up to `num_free` takes with that batch key (None: whatever is next). Never blocks; empty when none waits."""

    def progress(self, take_id: str, progress: Progress) -> bool:
        """Report between any two pieces of work. False: drop this take, and only this one, without `finish`."""

    def finish(
        self, take_id: str, result: Clip | EngineError, match: float | None = None, leaks: tuple[str, ...] = ()
    ) -> None:
        """Hand over a take as soon as it is done.

        Args:
            take_id: which one.
            result: what came of it.
            match: how well the clip fits its prompt by the model's own judgment, higher is better; None: not judged.
            leaks: what the clip has in it by that judgment although its negative prompt names it, as "music".
        """


class Engine(Protocol):
    """Turns takes into clips."""

    @property
    def spec(self) -> EngineSpec:
        """What it can do; never loads anything."""

    @property
    def device(self) -> str | None:
        """Where it runs ("cuda:0", "cpu"), or None while that is not decided."""

    def load(self, report: Report) -> None:
        """Get ready to run (heavy imports, weights). Called on the engine's thread; a second call does nothing.

        Raises:
            EngineError: if it cannot be made ready, with words for the operator.
        """

    def unload(self) -> None:
        """Give back memory. A later `load` works again."""

    def batch_key(self, take: Take) -> Hashable:
        """Takes with equal keys may run together."""

    def max_batch(self, key: Hashable) -> int:
        """How many takes with that key may run together; None: with the key that bears most."""

    def run(self, feed: Feed) -> None:
        """Serve the feed until `admit` has nothing left. A take's failure is finished as an `EngineError`."""


@runtime_checkable
class EngineWithWeights(Engine, Protocol):
    """An engine that may be there without being installed."""

    def installed(self) -> bool:
        """True if packages and complete weights are on this machine. Looks only: no import, no network."""

    def warm_up(self) -> None:
        """Get faster in the background, where the engine can. For a process that will serve for long."""

    def import_packages(self) -> None:
        """Import what `load` needs. Done in a thread beside a running event loop, it would stop that for too long.

        Raises:
            EngineError: if a package is missing or broken.
        """


@runtime_checkable
class TimedEngine(Engine, Protocol):
    """An engine that measures its stages while it serves."""

    def timings(self) -> tuple[Timing, ...]:
        """What each stage took so far, per shape and batch size. Any thread may ask."""


@runtime_checkable
class StreamingEngine(Engine, Protocol):
    """An engine that can also make a take piece by piece, in bounded memory."""

    def blocks(self, take: Take, report: Report) -> Iterator[Samples]:
        """The take in order, in blocks of shape (num_channels, n).

        Raises:
            EngineError: if it cannot be made.
            GenerationCancelled: if `report` answered False.
        """
