"""What every engine promises, through the `Engine` protocol alone; `engine_contract.CASES` names the engines."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
from engine_contract import CASES, ContractFeed, EngineCase, assert_in_order, run

from ambientgen.audio.clip import Clip
from ambientgen.audio.loop import measure_seam
from ambientgen.engines.base import Engine, Progress
from ambientgen.errors import EngineError
from ambientgen.recipe import MAX_DURATION_S, MIN_DURATION_S
from ambientgen.spec import ENGINE_OPTIONS

#: Takes that share passes through a model may differ by rounding from those that have it alone, and by no more.
_ROUNDING = 1e-4


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> EngineCase:
    """One engine after the other."""
    chosen: EngineCase = request.param
    return chosen


@pytest.fixture(scope="module")
def engine(case: EngineCase, request: pytest.FixtureRequest) -> Iterator[Engine]:
    """The case's engine, loaded."""
    engine = case.make(request)
    engine.load(lambda _progress: True)
    yield engine
    engine.unload()


def test_the_spec_is_sane(case: EngineCase, request: pytest.FixtureRequest) -> None:
    """What people and the renderer rely on is there before anything is loaded."""
    spec = case.make(request).spec
    assert spec.name == case.layer.engine
    assert spec.version
    assert spec.sample_rate_hz >= 8_000
    assert spec.num_channels in (1, 2)
    assert MIN_DURATION_S <= spec.default_duration_s <= min(spec.longest_good_s, MAX_DURATION_S)
    assert spec.longest_step_s > 0
    assert spec.loop_step_s >= 0
    assert spec.supports <= {*ENGINE_OPTIONS, "loop"}
    assert spec.license
    assert "\n" not in spec.license
    dataclasses.replace(spec)  # a spec is a value: the executor keeps it


def test_nothing_heavy_is_imported_before_loading() -> None:
    """The base install has no torch; engines can be made, described and asked whether they are installed without it."""
    lines = [
        f"e = {case.made_by}; e.spec; e.device; getattr(e, 'installed', bool)(); look({case.name!r})" for case in CASES
    ]
    code = (
        "import sys\ndef look(name):\n"
        "    print(name, [m for m in ('torch', 'diffusers', 'transformers', 'huggingface_hub') if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code + "\n".join(lines)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"{case.name} []" for case in CASES]


def test_loading_reports_and_is_done_once(case: EngineCase, request: pytest.FixtureRequest) -> None:
    """What takes long is reported step by step; a second load does nothing; after unloading it works again."""
    engine = case.make(request)
    told: list[Progress] = []

    def report(progress: Progress) -> bool:
        told.append(progress)
        return True

    engine.load(report)
    assert {progress.stage for progress in told} == ({"loading"} if case.needs_loading else set())
    assert_in_order(told)
    assert engine.device
    before, num_reports = run(engine, case.take(engine)).clip(), len(told)
    engine.load(report)
    assert len(told) == num_reports
    engine.unload()
    engine.unload()
    engine.load(report)
    assert len(told) == 2 * num_reports
    assert np.array_equal(run(engine, case.take(engine)).clip().samples, before.samples)


def test_an_engine_that_is_not_loaded_says_so(case: EngineCase, request: pytest.FixtureRequest) -> None:
    """Running it is a mistake of the caller's, and leaves the takes where they are."""
    if not case.needs_loading:
        pytest.skip("it runs without loading")
    engine = case.make(request)
    with pytest.raises(EngineError, match="not loaded"):
        run(engine, case.take(engine))


def test_every_take_is_served(case: EngineCase, engine: Engine) -> None:
    """`run` goes on until nothing waits, also for takes of several lengths, and for an empty feed it stops at once."""
    lengths = dict(zip("abcde", (12_000, 12_000, 20_000, 12_000, 20_000), strict=True))
    takes = [case.take(engine, name, num_samples=length, seed=length) for name, length in lengths.items()]
    feed = run(engine, *takes)
    assert {name: feed.clip(name).num_samples for name in lengths} == lengths
    assert run(engine).served() == {}


def test_a_take_that_comes_later_is_served(case: EngineCase, engine: Engine) -> None:
    """Takes join while others run, or wait until they are through."""
    late = [case.take(engine, "late", seed=8), case.take(engine, "other", seed=9, num_samples=20_000)]
    feed = run(engine, case.take(engine), late=late)
    assert set(feed.served()) == {"a", "late", "other"}
    alone = run(engine, late[0]).clip("late")
    assert np.abs(feed.clip("late").samples - alone.samples).max() <= _ROUNDING


@pytest.mark.parametrize("num_samples", [1, 2_401, 37_123])
def test_a_clip_is_exact(case: EngineCase, engine: Engine, num_samples: int) -> None:
    """Length, rate, channels and type are those of the take and the spec, and all of it is a sound."""
    clip = run(engine, case.take(engine, num_samples=num_samples)).clip()
    assert clip.samples.shape == (engine.spec.num_channels, num_samples)
    assert clip.sample_rate_hz == engine.spec.sample_rate_hz
    assert clip.samples.dtype == np.float32
    assert np.isfinite(clip.samples).all()
    assert np.ptp(clip.samples) > 0 or num_samples == 1


def test_a_seed_is_a_sound(case: EngineCase, engine: Engine) -> None:
    """The same take is bit-equal, also after another one; another seed is another sound."""
    first = run(engine, case.take(engine)).clip().samples
    other = run(engine, case.take(engine, seed=8)).clip().samples
    assert np.array_equal(run(engine, case.take(engine)).clip().samples, first)
    assert np.abs(first - other).max() > 100 * _ROUNDING


def test_a_take_does_not_hear_its_neighbors(case: EngineCase, engine: Engine) -> None:
    """Alone or beside others, a take sounds the same."""
    takes = [case.take(engine, name, seed=seed) for seed, name in enumerate("abc")]
    together = run(engine, *takes)
    for take in takes:
        alone = run(engine, take).clip(take.id).samples
        assert np.abs(together.clip(take.id).samples - alone).max() <= _ROUNDING


@pytest.mark.parametrize("when", ["first", "middle", "last"])
def test_a_dropped_take_is_not_finished_and_the_others_are(case: EngineCase, engine: Engine, when: str) -> None:
    """After its drop a take is neither reported nor finished, wherever it was; the others do not notice."""
    takes = [case.take(engine, name, seed=seed) for seed, name in enumerate("abc")]
    undisturbed = run(engine, *takes)
    num_reports = len(undisturbed.progress_of["b"])
    place = {"first": 1, "middle": (num_reports + 1) // 2, "last": num_reports}[when]
    feed = run(engine, *takes, drop=lambda take_id, count: take_id == "b" and count == place)
    assert feed.dropped == {"b"}
    assert set(feed.served()) == {"a", "c"}
    assert len(feed.progress_of["b"]) == place
    for name in "ac":
        assert np.abs(feed.clip(name).samples - undisturbed.clip(name).samples).max() <= _ROUNDING


def test_a_bad_take_fails_alone(case: EngineCase, engine: Engine) -> None:
    """What an engine cannot make ends as an `EngineError`; the takes beside and behind it are served."""
    if not case.bad_layer:
        pytest.skip("it makes whatever it is given")
    bad = case.take(engine, "bad", **case.bad_layer)
    feed = run(engine, case.take(engine, "a"), bad, case.take(engine, "b", seed=8))
    assert str(feed.error("bad"))
    assert isinstance(feed.clip("a"), Clip)
    assert isinstance(feed.clip("b"), Clip)


def test_progress_goes_forward(case: EngineCase, engine: Engine) -> None:
    """Every take is heard of, stages come in order, and no step is taken back."""
    feed = run(engine, case.take(engine, "a"), case.take(engine, "b", seed=8))
    assert set(feed.served()) == set(feed.progress_of) == {"a", "b"}
    for reports in feed.progress_of.values():
        assert_in_order(reports)


def test_batches_are_described(case: EngineCase, engine: Engine) -> None:
    """A key can be compared and stored, belongs to the take alone, and at least one take fits."""
    take = case.take(engine)
    key = engine.batch_key(take)
    assert key is not None  # for a feed that means any key
    assert {key: 1}[engine.batch_key(take)] == 1
    assert engine.max_batch(key) >= 1


def test_a_loop_joins_itself(case: EngineCase, engine: Engine) -> None:
    """The step across the seam is none that the sound does not have elsewhere."""
    if "loop" not in engine.spec.supports:
        pytest.skip("its loops are made afterwards")
    for seed in range(3):
        clip = run(engine, case.take(engine, loop=True, seed=seed)).clip()
        assert measure_seam(clip).jump_ratio_p999 <= 1.0


class _FaithlessEngine:
    """Breaks what the feed watches over."""

    def batch_key(self, take: object) -> str:
        return "any"

    def max_batch(self, key: object) -> int:
        return 1

    def run(self, feed: ContractFeed) -> None:
        first, second = feed.admit(None, 2)
        feed.progress(first.id, Progress("rendering"))
        feed.finish(first.id, EngineError("dropped, and finished all the same"))
        feed.finish(second.id, EngineError("finished once"))
        feed.finish(second.id, EngineError("finished twice"))
        feed.admit(None, 0)


def test_the_feed_notices_broken_promises() -> None:
    """Each of these would otherwise pass unseen: too many takes at once, a dropped or finished take that comes back."""
    engine, case = _FaithlessEngine(), CASES[0]
    takes = [dataclasses.replace(case.take(case.make(None)), id=name) for name in "ab"]  # type: ignore[arg-type]
    feed = ContractFeed(engine, *takes, drop=lambda take_id, _count: take_id == "a")  # type: ignore[arg-type]
    engine.run(feed)
    assert feed.violations == [
        "more takes ran than max_batch",
        "a was finished while it did not run",
        "b was finished while it did not run",
        "admit was asked for 0 takes",
    ]
