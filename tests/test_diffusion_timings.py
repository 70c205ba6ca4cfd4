"""Timings: what was measured, by stage, shape and batch size."""

from __future__ import annotations

import pytest

from ambientgen.timings import Timing, Timings


class Clock:
    """A clock that goes on only when told."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        """The time."""
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    """A clock to turn."""
    return Clock()


def test_each_stage_shape_and_batch_size_is_its_own(clock: Clock) -> None:
    """A timing says what it is of; nothing is mixed."""
    timings = Timings(clock)
    assert timings.all() == ()
    for number, (stage, shape) in enumerate(
        [
            ("conditioning", (0, 0, 1)),
            ("denoising", (1, 256, 1)),
            ("denoising", (1, 128, 1)),
            ("denoising", (2, 256, 1)),
            ("denoising", (2, 256, 2)),
            ("decoding", (2, 256, 1)),
        ]
    ):
        with timings.measure(stage, num_windows=shape[0], window_frames=shape[1], batch_size=shape[2]):
            clock.now_s += number + 1
    assert [
        (t.stage, t.num_windows, t.window_frames, t.batch_size, t.duration_s, t.num_measured) for t in timings.all()
    ] == [
        ("conditioning", 0, 0, 1, 1.0, 1),
        ("denoising", 1, 256, 1, 2.0, 1),
        ("denoising", 1, 128, 1, 3.0, 1),
        ("denoising", 2, 256, 1, 4.0, 1),
        ("denoising", 2, 256, 2, 5.0, 1),
        ("decoding", 2, 256, 1, 6.0, 1),
    ]


def test_the_average_follows_what_is_measured(clock: Clock) -> None:
    """The first measurement stands, each later one moves it by a fifth of the way, and in time it arrives."""
    timings = Timings(clock)

    def measure(duration_s: float) -> Timing:
        with timings.measure("conditioning"):
            clock.now_s += duration_s
        (timing,) = timings.all()
        return timing

    assert measure(1.0).duration_s == pytest.approx(1.0)
    assert measure(2.0).duration_s == pytest.approx(1.2)
    assert measure(0.2).duration_s == pytest.approx(1.0)
    for _ in range(40):
        newest = measure(3.0)
    assert newest.duration_s == pytest.approx(3.0, abs=1e-3)
    assert newest.num_measured == 43


def test_what_ends_in_an_error_is_not_counted(clock: Clock) -> None:
    """A dropped take stops early, which says nothing about how long one takes; the error goes on."""
    timings = Timings(clock)

    def decode(duration_s: float, error: Exception | None = None) -> None:
        with timings.measure("decoding"):
            clock.now_s += duration_s
            if error is not None:
                raise error

    with pytest.raises(KeyError):
        decode(5.0, KeyError())
    assert timings.all() == ()
    decode(1.0)
    with pytest.raises(KeyError):
        decode(5.0, KeyError())
    (timing,) = timings.all()
    assert (timing.duration_s, timing.num_measured) == (1.0, 1)


def test_what_was_read_does_not_change(clock: Clock) -> None:
    """A reader in another thread keeps what it got."""
    timings = Timings(clock)
    with timings.measure("decoding"):
        clock.now_s += 1.0
    before = timings.all()
    with timings.measure("decoding"):
        clock.now_s += 2.0
    assert before[0].duration_s == 1.0
    assert timings.all() != before


def test_without_a_clock_of_its_own_time_is_real() -> None:
    """The default clock runs forward."""
    timings = Timings()
    with timings.measure("decoding"):
        pass
    (timing,) = timings.all()
    assert 0 <= timing.duration_s < 60
