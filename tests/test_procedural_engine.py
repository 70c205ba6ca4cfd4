"""The procedural engine through its two doors: `run` with a feed, and `blocks`."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Hashable
from typing import Any

import numpy as np
import pytest

from ambientgen.audio.clip import Clip, Samples
from ambientgen.engines.base import Engine, Progress, StreamingEngine, Take
from ambientgen.engines.procedural import ProceduralEngine
from ambientgen.errors import EngineError, RequestError
from ambientgen.recipe import Layer

RATE_HZ = 48_000


def take(num_samples: int = RATE_HZ, *, id: str = "take", seed: int = 7, loop: bool = False, **params: Any) -> Take:  # noqa: A002
    """A take of one texture."""
    layer = Layer(engine="procedural", prompt="a texture", seed=seed, params=params or {"family": "noise"})
    return Take(id=id, layer=layer, num_samples=num_samples, loop=loop)


class ListFeed:
    """A feed over a list, which remembers what it was told and drops the takes it is asked to."""

    def __init__(self, takes: list[Take], dropped: tuple[str, ...] = ()) -> None:
        self.waiting = list(takes)
        self.dropped = dropped
        self.finished: dict[str, Clip | EngineError] = {}
        self.reports: list[tuple[str, Progress]] = []

    def admit(self, key: Hashable | None, num_free: int) -> list[Take]:
        """The next takes."""
        taken, self.waiting = self.waiting[:num_free], self.waiting[num_free:]
        return taken

    def progress(self, take_id: str, progress: Progress) -> bool:
        """Note it; False for those to drop."""
        self.reports.append((take_id, progress))
        return take_id not in self.dropped

    def finish(self, take_id: str, result: Clip | EngineError) -> None:
        """Keep the result."""
        assert take_id not in self.finished
        self.finished[take_id] = result


def joined(one: Take) -> Samples:
    """A take's blocks in a row."""
    return np.concatenate(list(ProceduralEngine().blocks(one, lambda _progress: True)), axis=1)


def test_the_engine_is_what_the_protocols_ask_for() -> None:
    """It can be used wherever an engine or a streaming engine is wanted."""
    engine: Engine = ProceduralEngine()
    streaming: StreamingEngine = ProceduralEngine()
    assert engine.spec.name == streaming.spec.name == "procedural"
    assert not engine.spec.needs_gpu
    engine.load(lambda _: True)
    engine.unload()


def test_importing_it_needs_neither_scipy_nor_torch() -> None:
    """The base install stays small."""
    code = (
        "import sys, json, ambientgen.engines.procedural; "
        "print(json.dumps([name for name in ('scipy', 'torch', 'pyloudnorm') if name in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


def test_a_take_is_finished_as_a_clip_of_exactly_its_length() -> None:
    """Two channels at the engine's rate, and the same samples that `blocks` gives."""
    one = take(12_345, family="rain", variant="roof", intensity=0.8)
    feed = ListFeed([one])
    ProceduralEngine().run(feed)
    clip = feed.finished["take"]
    assert isinstance(clip, Clip)
    assert (clip.num_channels, clip.num_samples, clip.sample_rate_hz) == (2, 12_345, RATE_HZ)
    assert np.array_equal(clip.samples, joined(one))


def test_run_serves_every_take_until_none_waits() -> None:
    """One after the other, each by its own seed."""
    feed = ListFeed([take(id="a", seed=1), take(id="b", seed=2), take(id="c", seed=1)])
    ProceduralEngine().run(feed)
    assert list(feed.finished) == ["a", "b", "c"]
    a, b, c = (result.samples for result in feed.finished.values() if isinstance(result, Clip))
    assert np.array_equal(a, c)
    assert not np.array_equal(a, b)


@pytest.mark.parametrize(
    "params", [{"family": "lava"}, {"family": "rain", "wetness": 1}, {"family": "rain", "intensity": "high"}]
)
def test_a_take_with_bad_params_is_finished_as_an_error_and_the_next_one_is_served(params: dict[str, Any]) -> None:
    """One broken layer harms nobody else, and its error says what is wrong."""
    feed = ListFeed([take(id="bad", **params), take(id="good")])
    ProceduralEngine().run(feed)
    error = feed.finished["bad"]
    assert isinstance(error, EngineError)
    assert isinstance(error.__cause__, RequestError)
    assert str(error.__cause__) in str(error)
    assert isinstance(feed.finished["good"], Clip)


def test_a_take_without_samples_is_finished_as_an_error() -> None:
    """A length of nothing is refused, not rendered."""
    feed = ListFeed([take(0)])
    ProceduralEngine().run(feed)
    assert isinstance(feed.finished["take"], EngineError)


def test_a_dropped_take_is_not_finished_and_the_next_one_is_served() -> None:
    """Cancellation ends one take at its next report, and only that one."""
    feed = ListFeed([take(id="dropped"), take(id="kept")], dropped=("dropped",))
    ProceduralEngine().run(feed)
    assert list(feed.finished) == ["kept"]
    assert [take_id for take_id, _ in feed.reports].count("dropped") == 1


# Long takes ------------------------------------------------------------------------------------------------------

LONG = 125 * RATE_HZ + 17


@pytest.fixture(scope="module")
def long_noise() -> Samples:
    """A take of three segments of a steady texture."""
    return joined(take(LONG, family="noise", variant="pink", loop=True))


def test_a_long_take_comes_in_bounded_blocks(long_noise: Samples) -> None:
    """Exactly its length, in pieces of less than a minute."""
    sizes = [block.shape for block in ProceduralEngine().blocks(take(LONG, family="noise"), lambda _progress: True)]
    assert sum(size for _, size in sizes) == LONG == long_noise.shape[1]
    assert max(size for _, size in sizes) < 60 * RATE_HZ
    assert {channels for channels, _ in sizes} == {2}


def test_the_segments_of_a_long_take_join_without_a_sag(long_noise: Samples) -> None:
    """Every half second of a steady texture, also around the end, has the level of all others within 1 dB."""
    around = np.concatenate([long_noise, long_noise[:, : 2 * RATE_HZ]], axis=1)
    size = RATE_HZ // 2
    frames = around[:, : around.shape[1] // size * size].reshape(2, -1, size)
    levels = 10.0 * np.log10(np.mean(frames**2, axis=(0, 2)))
    assert levels.max() - levels.min() < 2.0


def test_a_long_take_is_closed_sample_by_sample(long_noise: Samples) -> None:
    """No jump at its end, nor anywhere inside, is larger than the largest of a short circle."""
    jumps = np.abs(np.diff(long_noise, axis=1, append=long_noise[:, :1])).max(axis=0)
    short = joined(take(20 * RATE_HZ, family="noise", variant="pink"))
    assert jumps.max() < 1.5 * np.abs(np.diff(short, axis=1)).max()


def test_a_long_take_does_not_repeat_itself(long_noise: Samples) -> None:
    """Its segments are different sounds: no shift by a segment's length correlates."""
    third = LONG // 3
    a, b = long_noise[0, RATE_HZ : 11 * RATE_HZ], long_noise[0, third + RATE_HZ : third + 11 * RATE_HZ]
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.05


def test_a_long_take_reports_finished_segments_and_can_be_dropped_at_any_report() -> None:
    """Progress counts segments; the first False ends the work."""
    feed = ListFeed([take(LONG)])
    ProceduralEngine().run(feed)
    steps = [progress.step for _, progress in feed.reports]
    assert steps == sorted(steps)
    assert {progress.num_steps for _, progress in feed.reports} == {3}
    assert set(steps) == {0, 1, 2}

    dropping = ListFeed([take(LONG)], dropped=("take",))
    ProceduralEngine().run(dropping)
    assert len(dropping.reports) == 1
    assert not dropping.finished
