"""How long a job will take: learning, fallbacks, ranges, sharing, and keeping it all."""

from __future__ import annotations

import dataclasses
import json
import math
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from queue_world import spec_of

from ambientgen.recipe import Layer, Recipe
from ambientgen.timings import Timing
from bot.eta import Batching, Part, RenderTimes, Shape, play, shape_of

SPECS = {
    "audioldm2": spec_of("audioldm2", needs_gpu=True),
    "procedural": spec_of("procedural", needs_gpu=False, longest_good_s=600.0),
}


CAPACITY = 100
BEYOND = '{"factors": {"audioldm2 cuda:0": [1e300, 1]}}'


def a_recipe(
    engine: str = "audioldm2", duration_s: float = 10.0, *, num_steps: int | None = 50, candidates: int = 1
) -> Recipe:
    """One layer."""
    model = SPECS[engine].model
    layer = Layer(
        engine=engine,
        model=model,
        prompt="rain",
        seed=1,
        num_inference_steps=num_steps,
        params={"num_candidates": candidates},
    )
    return Recipe(layers=(layer,), duration_s=duration_s, loop=False, target_lufs=-20.0, engine_versions={engine: "1"})


def a_shape(duration_s: float = 10.0, *, num_steps: int = 50, device: str = "cuda:0") -> Shape:
    """Of one take, a window for each second."""
    batching = Batching("key", round(duration_s), CAPACITY)
    return shape_of(a_recipe(duration_s=duration_s, num_steps=num_steps), SPECS, device, batching)


def took_s(shape: Shape, load: float | None = None) -> float:
    """A machine with overhead, and on which passes cost a tenth more for each second of sound in them."""
    slowdown = (1 + 0.1 * (load or shape.load)) / (1 + 0.1 * shape.load)
    return (2.0 + 0.004 * shape.amount) * slowdown


def learned(*lengths_s: float, num: int = 5) -> RenderTimes:
    """After some renders of each length, each alone."""
    times = RenderTimes()
    for _ in range(num):
        for length_s in lengths_s:
            times.learn(a_shape(length_s), length_s, took_s(a_shape(length_s)))
    return times


def test_nothing_is_known_at_first() -> None:
    """Without a measurement there is no prediction, and another device's does not count."""
    assert RenderTimes().expect_s(a_shape()) is None
    assert learned(10.0).expect_s(a_shape(device="cpu")) is None


def test_one_render_is_enough_for_a_first_guess() -> None:
    """The same again takes as long; another length in proportion, as nothing else is known."""
    times = learned(10.0, num=1)
    assert times.expect_s(a_shape(10.0)) == pytest.approx(took_s(a_shape(10.0)), rel=0.01)
    assert times.expect_s(a_shape(20.0)) == pytest.approx(2 * took_s(a_shape(10.0)), rel=0.01)


def test_mixed_lengths_and_steps_are_learned() -> None:
    """After a few renders each, lengths and steps are predicted within some percent, also those between them."""
    times = learned(5.0, 10.0, 20.0, 40.0, 80.0, num=20)
    for length_s in (5.0, 10.0, 20.0, 40.0, 80.0):
        assert times.expect_s(a_shape(length_s)) == pytest.approx(took_s(a_shape(length_s)), rel=0.03)
    assert times.expect_s(a_shape(20.0, num_steps=25)) == pytest.approx(took_s(a_shape(10.0)), rel=0.1)
    assert times.expect_s(a_shape(21.0)) == pytest.approx(took_s(a_shape(21.0)), rel=0.1)


def test_an_engine_s_own_timings_serve_until_then() -> None:
    """Steps, decoding and conditioning as the engine measured them are the first guess."""
    timings = [
        Timing(stage=stage, num_windows=1, window_frames=256, batch_size=1, duration_s=duration_s, num_measured=num)
        for stage, duration_s, num in (
            ("conditioning", 0.5, 1),
            ("denoising", 0.1, 30),
            ("denoising", 0.2, 10),
            ("decoding", 1.0, 2),
        )
    ]
    assert RenderTimes().expect_s(a_shape(), timings) == pytest.approx(50 * 0.125 + 1.0 + 0.5)
    assert RenderTimes().expect_s(a_shape(), timings[:1]) is None
    assert learned(10.0).expect_s(a_shape(), timings) == pytest.approx(took_s(a_shape()))


def test_sharing_is_learned() -> None:
    """How much longer a render takes with others is learned, also for loads and lengths that were not seen."""
    times, rng = RenderTimes(), random.Random(3)
    assert times.slowdown(a_shape(), 10.0) == 1.0
    for _ in range(300):
        shape = a_shape(rng.choice((5.0, 10.0, 20.0)))
        load = shape.load + rng.choice((0.0, 10.0, 70.0))
        times.learn(shape, load, took_s(shape, load))
    assert times.slowdown(a_shape(), 10.0) == 1.0
    for load in (20.0, 40.0, 160.0):
        assert times.slowdown(a_shape(), load) == pytest.approx((1 + 0.1 * load) / 2, rel=0.1)
        assert times.slowdown(a_shape(8.0), load) == pytest.approx((1 + 0.1 * load) / 1.8, rel=0.1)
    assert times.expect_s(a_shape()) == pytest.approx(took_s(a_shape()), rel=0.05)


def test_a_machine_that_changes_is_followed_and_one_odd_render_is_not() -> None:
    """Twice as fast from now on is learned within twenty renders; a single hanging one moves little."""
    times = learned(10.0, num=50)
    times.learn(a_shape(), 10.0, 50 * took_s(a_shape()))
    assert times.expect_s(a_shape()) == pytest.approx(took_s(a_shape()), rel=0.5)
    for _ in range(20):
        times.learn(a_shape(), 10.0, took_s(a_shape()) / 2)
    assert times.expect_s(a_shape()) == pytest.approx(took_s(a_shape()) / 2, rel=0.05)


def test_a_range_is_wide_until_it_is_earned() -> None:
    """Unsure at first, then as wide as nine of ten errors were, and corrected by what they have in common."""
    times, rng = RenderTimes(), random.Random(1)
    first = times.judged("render", 10.0)
    assert (first.likely_s, first.low_s, first.high_s) == (10.0, pytest.approx(4.0), pytest.approx(25.0))
    for _ in range(200):
        times.score("render", 10.0, 12.0 * math.exp(rng.gauss(0.0, 0.1)))
    then = times.judged("render", 10.0)
    assert then.likely_s == pytest.approx(12.0, rel=0.05)
    assert 12.0 * math.exp(-0.3) < then.low_s < 12.0 * math.exp(-0.1)
    assert 12.0 * math.exp(0.1) < then.high_s < 12.0 * math.exp(0.3)


def test_a_kind_without_errors_has_its_family_s() -> None:
    """Predictions of a rare kind are as unsure as those of its family."""
    times = RenderTimes()
    for number in range(40):
        times.score("wait first 2", 10.0, 20.0 if number % 2 else 10.0)
    assert times.judged("wait later 5", 10.0) == times.judged("wait first 2", 10.0)
    assert times.judged("render", 10.0).high_s == pytest.approx(25.0)


@given(st.floats(0.5, 1000.0), st.floats(0.01, 0.5))
def test_the_range_holds_the_truth_nine_times_in_ten(scale_s: float, spread: float) -> None:
    """Whatever the scale and the spread, once there are errors to go by."""
    times, rng, num_held = RenderTimes(), random.Random(2), 0
    for number in range(500):
        actual_s = scale_s * math.exp(rng.gauss(0.0, spread))
        eta = times.judged("render", scale_s)
        num_held += number >= 100 and eta.low_s <= actual_s <= eta.high_s
        times.score("render", scale_s, actual_s)
    assert num_held >= 0.9 * 400


def test_what_was_learned_is_kept() -> None:
    """Through JSON everything is as it was; what cannot be read is learned anew."""
    times = learned(5.0, 20.0)
    times.learn(a_shape(5.0), 80.0, 9.0)
    for actual_s in range(1, 30):
        times.score("render", 10.0, float(actual_s))
    again = RenderTimes.from_json(times.to_json())
    assert again.slowdown(a_shape(), 50.0) == pytest.approx(times.slowdown(a_shape(), 50.0), rel=0.001)
    assert again.expect_s(a_shape(20.0)) == pytest.approx(times.expect_s(a_shape(20.0)), rel=0.001)
    for name in ("likely_s", "low_s", "high_s"):
        assert getattr(again.judged("render", 9.0), name) == pytest.approx(
            getattr(times.judged("render", 9.0), name), rel=0.01
        )
    for text in (
        None,
        "",
        "{}",
        "[]",
        "nonsense",
        '{"factors": {"a": 1}}',
        '{"factors": {"a": [NaN, 1]}}',
        BEYOND,
        "[" * 9999,
    ):
        assert RenderTimes.from_json(text).expect_s(a_shape()) is None


def test_what_is_kept_is_bounded() -> None:
    """Of endlessly many forms the ones seen last are kept."""
    times = RenderTimes()
    shape = a_shape()
    for number in range(3000):
        times.learn(dataclasses.replace(shape, form=f"form {number}"), 10.0, 10.0)
    assert len(json.loads(times.to_json())["factors"]) <= 1000
    assert times.expect_s(shape) == pytest.approx(10.0, rel=0.01)


def test_a_shape_counts_all_the_work() -> None:
    """Candidates and steps multiply, its device belongs to an engine, and the one with weights decides."""
    one = Batching("key", 1, 8)
    shape = shape_of(a_recipe(duration_s=20.0, num_steps=10, candidates=3), SPECS, "cuda:0", one)
    assert (shape.engine, shape.amount) == ("audioldm2 cuda:0", 600.0)
    assert (shape.num_steps, shape.num_takes) == (30, 3)
    assert shape_of(a_recipe("procedural", 300.0, num_steps=None), SPECS, "cpu", one).amount == 300.0
    layers = (a_recipe("procedural", num_steps=None).layers[0], a_recipe().layers[0])
    assert shape_of(dataclasses.replace(a_recipe(), layers=layers), SPECS, "cpu", one).engine == "audioldm2 cpu"
    assert shape_of(a_recipe(), {}, None, one) == shape_of(a_recipe(), SPECS, None, one)


@pytest.mark.parametrize(("take_size", "load"), [(1, 3.0), (4, 8.0), (7, 14.0), (8, 8.0), (15, 15.0)])
def test_as_many_takes_share_a_pass_as_fit(take_size: int, load: float) -> None:
    """Of three candidates those join that find a pass which is not full yet."""
    assert shape_of(a_recipe(candidates=3), SPECS, "cuda:0", Batching("key", take_size, 8)).load == load


def a_part(job_id: str, alone_s: float | None, load: float = 1.0, **changes: Any) -> Part:
    """A job by its time alone."""
    shape = Shape(engine="e", amount=1.0, num_steps=0, num_takes=1, form="", key="k", load=load, capacity=99.0)
    return Part(job_id, dataclasses.replace(shape, **changes), alone_s)


def parts(*alone_s: float | None) -> list[Part]:
    """Jobs named by their place."""
    return [a_part(str(number), seconds) for number, seconds in enumerate(alone_s)]


def a_third(_engine: str) -> float:
    """Two share a pass that takes 5/4 of the time of one."""
    return 1 / 3


def test_one_after_the_other() -> None:
    """With one place each job starts when the one before it ends."""
    times = play(parts(4.0), [a_part("a", 10.0), a_part("b", 5.0)], a_third, num_places=1)
    assert {job: pytest.approx(both) for job, both in times.items()} == {"0": (0, 4), "a": (4, 14), "b": (14, 19)}


def test_together() -> None:
    """Jobs share, a waiting one takes the first free place, and the last ones are faster for being few."""
    times = play(parts(10.0, 4.0), [a_part("a", 4.0)], a_third, num_places=2)
    assert {job: pytest.approx(both) for job, both in times.items()} == {"0": (0, 12), "1": (0, 5), "a": (5, 10)}


def test_a_pass_has_room_for_so_much() -> None:
    """Nothing joins a full pass; the last to join may be too much for it."""
    waiting = [a_part("long", 8.0, 3.0, capacity=2.0), a_part("short", 2.0, capacity=2.0)]
    times = play([a_part("0", 6.0, capacity=2.0)], waiting, a_third, num_places=8)
    assert times["long"][0] == 0.0
    assert times["short"][0] == pytest.approx(times["long"][1])
    assert times["short"][0] < times["0"][1]


def test_other_keys_wait_for_the_batch_to_end() -> None:
    """What fits overtakes what does not, up to eight times, and then the batch ends."""
    running = [a_part("0", 4.0), a_part("1", 4.0)]
    waiting = [a_part("other", 4.0, key="x"), *(a_part(f"fits {number}", 4.0) for number in range(30))]
    times = play(running, waiting, a_third, num_places=2)
    before = [job_id for job_id, (start_s, _) in times.items() if start_s < times["other"][0]]
    assert len(before) == 2 + 8
    alone = play([a_part("0", 4.0, key=None)], [a_part("other", 4.0, key=None)], a_third, num_places=2)
    assert alone == {"0": (0.0, 4.0), "other": (4.0, 8.0)}


def test_what_is_unknown_hides_what_comes_after_it() -> None:
    """Nothing is claimed of jobs behind one of which nothing is known."""
    waiting = [a_part("a", 1.0), a_part("b", None), a_part("c", 1.0)]
    assert set(play(parts(4.0), waiting, a_third, num_places=1)) == {"0", "a"}
    assert set(play(parts(4.0, None), waiting, a_third, num_places=2)) == {"0"}
    assert play([], [], a_third, num_places=1) == {}


@given(st.lists(st.floats(0.0, 100.0), max_size=30), st.lists(st.floats(0.0, 100.0), max_size=4), st.integers(1, 8))
def test_played_times_are_in_order(waiting: list[float], running: list[float], num_places: int) -> None:
    """Nobody starts before an earlier one, nobody ends before it starts, and no more run at once than there is room."""
    jobs = [a_part(f"w{number}", seconds) for number, seconds in enumerate(waiting)]
    times = play(parts(*running), jobs, a_third, num_places=num_places)
    assert len(times) == len(waiting) + len(running)
    starts = [times[job.job_id][0] for job in jobs]
    assert starts == sorted(starts)
    assert all(start <= end for start, end in times.values())
    for start in starts:
        num = sum(1 for begun, end in times.values() if begun <= start < end)
        assert num <= max(num_places, len(running))
