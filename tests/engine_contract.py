"""What the contract tests need: the engines they run on, and a feed that notices where an engine breaks the protocol.

A new engine is a new entry in `CASES`; nothing else has to change.
"""

from __future__ import annotations

import dataclasses
import runpy
import threading
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import pytest

from ambientgen.audio.clip import Clip
from ambientgen.engines.audioldm2 import AudioLDM2Engine
from ambientgen.engines.base import Engine, Progress, Stage, Take
from ambientgen.engines.procedural import ProceduralEngine
from ambientgen.engines.stable_audio import StableAudioEngine
from ambientgen.errors import EngineError
from ambientgen.recipe import Layer

_STAGES = get_args(Stage)
_EXAMPLE = Path(__file__).parent.parent / "examples" / "custom_engine.py"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineCase:
    """An engine under test.

    Attributes:
        name: of the case.
        make: the engine, not loaded; may ask for fixtures.
        made_by: Python source whose value is such an engine.
        layer: what a take of it looks like; any seed works.
        bad_layer: changes that make a layer it cannot render; empty for an engine that renders everything.
        needs_loading: True if it cannot run before `load`.
    """

    name: str
    make: Callable[[pytest.FixtureRequest], Engine]
    made_by: str
    layer: Layer
    bad_layer: dict[str, Any] = field(default_factory=dict)
    needs_loading: bool

    def take(
        self, engine: Engine, take_id: str = "a", *, num_samples: int | None = None, loop: bool = False, **changes: Any
    ) -> Take:
        """A take of a quarter of a second or, if it is a loop, of about one."""
        spec = engine.spec
        if num_samples is None:
            num_steps = max(1, round(1.0 / spec.loop_step_s)) if spec.loop_step_s else 1
            duration_s = num_steps * (spec.loop_step_s or 1.0) if loop else 0.25
            num_samples = round(duration_s * spec.sample_rate_hz)
        return Take(id=take_id, layer=dataclasses.replace(self.layer, **changes), num_samples=num_samples, loop=loop)


def _diffusion_layer(engine: str) -> Layer:
    return Layer(
        engine=engine,
        prompt="rain on a tin roof",
        negative_prompt="music",
        seed=7,
        num_inference_steps=2,
        guidance_scale=6.0,
        params={"scheduler": "ddim", "num_candidates": 1},
    )


def _audioldm2(request: pytest.FixtureRequest) -> Engine:
    path = request.getfixturevalue("tiny_model_path")
    return AudioLDM2Engine(str(path), device="cpu", dtype="float32")


def _audioldm2_batching(request: pytest.FixtureRequest) -> Engine:
    # A CPU gains nothing from batches, so the engine would make none there; the code is the same as on a GPU.
    patch = pytest.MonkeyPatch()
    patch.setattr("ambientgen.diffusion.loaded._max_windows", lambda _device: 3)
    request.addfinalizer(patch.undo)
    return _audioldm2(request)


def _stable_audio(request: pytest.FixtureRequest) -> Engine:
    path = request.getfixturevalue("tiny_stable_audio_path")
    return StableAudioEngine(str(path), device="cpu", dtype="float32")


CASES = (
    EngineCase(
        name="procedural",
        make=lambda _request: ProceduralEngine(),
        made_by="__import__('ambientgen.engines.procedural').engines.procedural.ProceduralEngine()",
        layer=Layer(engine="procedural", prompt="drone", seed=7, params={"family": "drone"}),
        bad_layer={"params": {"family": "teapot"}},
        needs_loading=False,
    ),
    EngineCase(
        name="audioldm2",
        make=_audioldm2,
        made_by="__import__('ambientgen.engines.audioldm2').engines.audioldm2.AudioLDM2Engine()",
        layer=_diffusion_layer("audioldm2"),
        bad_layer={"params": {"scheduler": "teapot"}},
        needs_loading=True,
    ),
    EngineCase(
        name="audioldm2-batching",
        make=_audioldm2_batching,
        made_by="__import__('ambientgen.engines.audioldm2').engines.audioldm2.AudioLDM2Engine()",
        layer=_diffusion_layer("audioldm2"),
        bad_layer={"guidance_scale": None},
        needs_loading=True,
    ),
    EngineCase(
        name="stable-audio",
        make=_stable_audio,
        made_by="__import__('ambientgen.engines.stable_audio').engines.stable_audio.StableAudioEngine()",
        layer=_diffusion_layer("stable-audio"),
        bad_layer={"params": {"scheduler": "teapot"}},
        needs_loading=True,
    ),
    EngineCase(
        name="example",
        make=lambda _request: runpy.run_path(str(_EXAMPLE))["SwellEngine"](),
        made_by=f"__import__('runpy').run_path({str(_EXAMPLE)!r})['SwellEngine']()",
        layer=Layer(engine="swell", prompt="a calm swell", seed=7),
        needs_loading=False,
    ),
)


class ContractFeed:
    """A feed of given takes that keeps what it is told.

    Engines turn what a feed raises into a take's failure; so it does not raise, but collects `violations`.

    Args:
        engine: that will run.
        takes: what waits from the beginning, in order.
        late: what arrives as soon as the first take reports progress.
        drop: takes a take's id and how often it has reported; True drops it there.
    """

    def __init__(
        self,
        engine: Engine,
        *takes: Take,
        late: Sequence[Take] = (),
        drop: Callable[[str, int], bool] = lambda _take_id, _num_reports: False,
    ) -> None:
        self._engine = engine
        self._waiting = list(takes)
        self._late = list(late)
        self._drop = drop
        self._running: dict[str, Take] = {}
        self._thread = threading.get_ident()
        self.progress_of: dict[str, list[Progress]] = {}
        self.results: dict[str, Clip | EngineError] = {}
        self.dropped: set[str] = set()
        self.violations: list[str] = []

    def admit(self, key: Hashable | None, num_free: int) -> list[Take]:
        """The next takes of that key."""
        self._expect(threading.get_ident() == self._thread, "admit was called from another thread")
        self._expect(num_free >= 1, f"admit was asked for {num_free} takes")
        admitted: list[Take] = []
        for take in list(self._waiting):
            if len(admitted) < num_free and key in (None, self._engine.batch_key(take)):
                key = self._engine.batch_key(take)
                self._waiting.remove(take)
                self._running[take.id] = take
                admitted.append(take)
        keys = {self._engine.batch_key(take) for take in self._running.values()}
        self._expect(len(keys) <= 1, "takes of different keys ran together")
        self._expect(
            all(len(self._running) <= self._engine.max_batch(key) for key in keys), "more takes ran than max_batch"
        )
        return admitted

    def progress(self, take_id: str, progress: Progress) -> bool:
        """Keep it; False where the take is to be dropped."""
        self._expect(take_id in self._running, f"{take_id} reported {progress} while it did not run")
        reports = self.progress_of.setdefault(take_id, [])
        reports.append(progress)
        self._waiting += self._late
        self._late.clear()
        if self._drop(take_id, len(reports)):
            self.dropped.add(take_id)
            self._running.pop(take_id, None)
            return False
        return True

    def finish(
        self, take_id: str, result: Clip | EngineError, match: float | None = None, leaks: tuple[str, ...] = ()
    ) -> None:
        """Keep it."""
        self._expect(take_id in self._running, f"{take_id} was finished while it did not run")
        self._running.pop(take_id, None)
        self.results[take_id] = result

    def served(self) -> dict[str, Clip | EngineError]:
        """The results of a run that kept the protocol to its end."""
        assert self.violations == []
        assert not self._running, "takes were left behind"
        assert not self._waiting, "run stopped before the feed was empty"
        return self.results

    def clip(self, take_id: str = "a") -> Clip:
        """The clip of a take in such a run."""
        result = self.served()[take_id]
        if isinstance(result, EngineError):
            raise result
        return result

    def error(self, take_id: str = "a") -> EngineError:
        """The error of a take in such a run."""
        result = self.served()[take_id]
        assert isinstance(result, EngineError)
        return result

    def _expect(self, kept: bool, words: str) -> None:
        if not kept:
            self.violations.append(words)


def run(engine: Engine, *takes: Take, **options: Any) -> ContractFeed:
    """Run takes; the answer is their feed, afterwards."""
    feed = ContractFeed(engine, *takes, **options)
    engine.run(feed)
    return feed


def assert_in_order(reports: Sequence[Progress]) -> None:
    """Stages come in the order of `Stage`, steps never go back within a stage or beyond its last."""
    places = [(_STAGES.index(report.stage), report.step) for report in reports]
    assert places == sorted(places)
    assert all(0 <= report.step <= report.num_steps for report in reports if report.num_steps)
