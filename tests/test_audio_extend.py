from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ambientgen.audio.clip import Clip, Samples
from ambientgen.audio.extend import MAX_TAKES, extend, num_takes
from ambientgen.audio.loop import make_loop, measure_seam
from ambientgen.recipe import Role

Array = npt.NDArray[np.float64]

RATE_HZ = 8_000
ROLES: tuple[Role, ...] = ("bed", "events")
#: The events of `calls`, by their pitch.
PITCHES_HZ = (500.0, 800.0, 1100.0, 1500.0, 2000.0, 2600.0)
CALL_S = 0.5


def noise(seed: int, num_samples: int, num_channels: int = 2) -> Samples:
    """Low noise, white."""
    return (0.1 * np.random.default_rng(seed).standard_normal((num_channels, num_samples))).astype(np.float32)


def calls(number: int) -> Clip:
    """A take of 8 s: two calls of half a second, on the left, over a faint hiss."""
    samples = noise(number, 8 * RATE_HZ) * np.float32(0.02)
    time_s = np.arange(round(CALL_S * RATE_HZ)) / RATE_HZ
    for place_s, pitch_hz in zip((1.5, 5.0), PITCHES_HZ[2 * number : 2 * number + 2], strict=True):
        start = round(place_s * RATE_HZ)
        samples[0, start : start + len(time_s)] += (0.4 * np.sin(2 * np.pi * pitch_hz * time_s)).astype(np.float32)
    return Clip(samples, RATE_HZ)


def extended(takes: Sequence[Clip], num_samples: int, *, seed: int = 1, loop: bool = False, role: Role = "bed") -> Clip:
    """All blocks in one."""
    blocks = list(extend(takes, num_samples, seed=seed, loop=loop, role=role))
    return Clip(np.concatenate(blocks, axis=1), takes[0].sample_rate_hz)


def levels_db(clip: Clip, frame_s: float = 0.05) -> Array:
    """Of frames, over all channels."""
    frame = round(frame_s * clip.sample_rate_hz)
    num_frames = clip.num_samples // frame
    frames = clip.samples[:, : num_frames * frame].reshape(clip.num_channels, num_frames, frame)
    return np.asarray(10 * np.log10(np.mean(np.square(frames, dtype=np.float64), axis=(0, 2)) + 1e-12))


@settings(deadline=None, max_examples=40)
@given(
    lengths=st.lists(st.integers(1, 9000), min_size=1, max_size=4),
    num_samples=st.integers(1, 12_000),
    num_channels=st.sampled_from([1, 2]),
    seed=st.integers(0, 2**32 - 1),
    loop=st.booleans(),
    role=st.sampled_from(ROLES),
    rate_hz=st.sampled_from([100, 1000, 4000, 44_100]),
)
def test_any_takes_become_any_length(
    lengths: list[int], num_samples: int, num_channels: int, seed: int, loop: bool, role: Role, rate_hz: int
) -> None:
    """Exactly, equally by seed, finite, and never much louder than the takes."""
    swell = 0.3 + np.abs(np.sin(np.arange(9000) / 700)) ** 8
    takes = [
        Clip((noise(number, length, num_channels) * swell[:length]).astype(np.float32), rate_hz)
        for number, length in enumerate(lengths)
    ]
    longer = extended(takes, num_samples, seed=seed, loop=loop, role=role)
    assert longer.samples.shape == (num_channels, num_samples)
    assert longer.samples.dtype == np.float32
    loudest = max(float(np.abs(take.samples).max()) for take in takes)
    assert np.abs(longer.samples).max() <= 4 * loudest
    np.testing.assert_array_equal(longer.samples, extended(takes, num_samples, seed=seed, loop=loop, role=role).samples)


@pytest.mark.parametrize("role", ROLES)
def test_it_ends_where_it_begins(role: Role) -> None:
    """A loop of several takes has a clean seam (a perfect one fails once in 200), and each seed is another one."""
    takes = (
        [calls(number) for number in range(3)]
        if role == "events"
        else [Clip(noise(n, 64_000), RATE_HZ) for n in (0, 1)]
    )
    loops = [extended(takes, 30 * RATE_HZ + 7, seed=seed, loop=True, role=role) for seed in range(5)]
    assert sum(measure_seam(loop).clean for loop in loops) >= 4
    assert not np.array_equal(loops[0].samples, loops[1].samples)


def test_a_bed_does_not_repeat_its_take() -> None:
    """Five times one take is of even level and never the same twice at one lag."""
    longer = extended([Clip(noise(7, 8 * RATE_HZ), RATE_HZ)], 40 * RATE_HZ, loop=True)
    power = np.abs(np.fft.rfft(longer.samples[0], 2 * longer.num_samples)) ** 2
    correlation = np.fft.irfft(power)[: longer.num_samples]
    assert np.abs(correlation[RATE_HZ // 2 :]).max() / correlation[0] < 0.2
    levels = levels_db(longer, 0.25)
    assert levels.max() - levels.min() < 2


@pytest.mark.parametrize("num", [1, 2, 3])
@pytest.mark.parametrize("loop", [False, True])
def test_no_two_equal_grains_side_by_side(num: int, loop: bool) -> None:
    """Takes whose channels' ratio tells the place: neighboring grains share no part, and all of the takes is heard."""
    rate_hz, length = 1000, 10_000
    places = np.arange(num * length) / length + 1.0  # take and place in it, from 1 on
    ratios = places.reshape(num, length).astype(np.float32)
    takes = [Clip(np.stack([np.full(length, 0.1, np.float32), 0.1 * ratio]), rate_hz) for ratio in ratios]
    longer = extended(takes, 120 * rate_hz, loop=loop).samples.astype(np.float64)
    heard = longer[1] / longer[0]
    plays = np.abs(np.diff(heard) * length - 1) < 0.1
    edges = np.flatnonzero(np.diff(plays.astype(np.int8), prepend=0, append=0)).reshape(-1, 2)
    grains = [(heard[start], heard[stop]) for start, stop in edges if stop - start > 500]
    assert len(grains) > 25
    neighbors = list(itertools.pairwise([*grains, grains[0]] if loop else grains))
    for (start, stop), (next_start, next_stop) in neighbors:
        if max(stop - start, next_stop - next_start) < 0.4:  # longer than any grain: two that go on without a break
            assert min(stop, next_stop) - max(start, next_start) < 0.02
    # In tenths of a take, but for the very ends, which few grains reach.
    used = np.histogram(heard, bins=10 * num, range=(1.0, 1.0 + num))[0].reshape(num, 10)
    assert used.sum(axis=1).max() < 2 * used.sum(axis=1).min()
    assert used[:, 1:-1].max() < 4 * used[:, 1:-1].min()


def test_a_hum_goes_on_without_sinking() -> None:
    """Tones are joined in phase: no trough where two grains meet, at the seam neither."""
    time_s = np.arange(10 * RATE_HZ) / RATE_HZ
    hum = sum(np.sin(2 * np.pi * 60.0 * harmonic * time_s + harmonic**2) / harmonic for harmonic in range(1, 6))
    longer = extended([Clip((0.1 * hum[np.newaxis]).astype(np.float32), RATE_HZ)], 60 * RATE_HZ, loop=True)
    levels = levels_db(longer)
    assert levels.max() - levels.min() < 2


def test_waves_still_rise_and_fall_smoothly() -> None:
    """Swells of 24 dB keep their depth, and where grains meet the level does not jump."""
    time_s = np.arange(12 * RATE_HZ) / RATE_HZ
    takes = [
        Clip(
            (noise(n, len(time_s)) * 10 ** (0.6 * np.sin(2 * np.pi * (time_s + 2 * n) / 7))).astype(np.float32), RATE_HZ
        )
        for n in range(3)
    ]
    own, waves = levels_db(takes[0], 0.25), levels_db(extended(takes, 90 * RATE_HZ), 0.25)
    assert np.ptp(np.quantile(waves, (0.1, 0.9))) > 0.85 * np.ptp(np.quantile(own, (0.1, 0.9)))
    assert np.abs(np.diff(waves)).max() < 2 * np.abs(np.diff(own)).max()


@pytest.mark.parametrize("loop", [False, True])
def test_events_are_heard_whole_varied_and_never_twice_in_a_row(loop: bool) -> None:
    """Every call is as long as it was, at its own pitch within 3 %, and its neighbor is another one."""
    longer = extended([calls(number) for number in range(3)], 90 * RATE_HZ, loop=loop, role="events")
    levels = levels_db(longer, 0.02)
    edges = np.flatnonzero(np.diff((levels > -25).astype(np.int8), prepend=0, append=0)).reshape(-1, 2)
    assert 12 <= len(edges) <= 40
    assert np.all(np.abs(np.diff(edges, axis=1) * 0.02 - CALL_S) < 0.06)
    heard, sides, loudness = [], [], []
    for start, stop in edges:
        call = longer.samples[:, round((start + 3) * 0.02 * RATE_HZ) : round((stop - 3) * 0.02 * RATE_HZ)]
        spectra = np.abs(np.fft.rfft(call, 1 << 16, axis=1))
        side = int(np.argmax(spectra.max(axis=1)))
        pitch_hz = float(np.argmax(spectra[side])) * RATE_HZ / (1 << 16)
        nearest = int(np.argmin([abs(np.log(pitch_hz / known_hz)) for known_hz in PITCHES_HZ]))
        assert abs(pitch_hz / PITCHES_HZ[nearest] - 1) < 0.032
        heard.append(nearest)
        sides.append(side)
        loudness.append(20 * np.log10(call[side].std()))
    assert set(heard) == set(range(len(PITCHES_HZ)))
    assert all(call != following for call, following in itertools.pairwise(heard))
    assert not loop or heard[0] != heard[-1]
    assert set(sides) == {0, 1}
    assert 1 < np.ptp(loudness) < 4.2
    pauses_s = (edges[1:, 0] - edges[:-1, 1]) * 0.02
    assert pauses_s.max() > 1.5 * pauses_s.min()
    assert levels.min() > -60  # the takes' hiss lies at -54 dB
    assert np.median(levels) == pytest.approx(-54, abs=1)


def test_an_event_that_a_take_cuts_off_is_left_out() -> None:
    """Where others are whole; alone it is better than nothing."""
    whole = calls(0)
    cut_off = Clip(np.roll(calls(1).samples[:, : 4 * RATE_HZ], -2 * RATE_HZ + 2000, axis=1), RATE_HZ)
    cut_off.samples[:, -3 * RATE_HZ // 2 :] = noise(5, 3 * RATE_HZ // 2) * np.float32(0.02)
    for takes, pitch_hz in (([whole, cut_off], 0.0), ([cut_off], PITCHES_HZ[2])):
        longer = extended(takes, 60 * RATE_HZ, role="events")
        power = np.abs(np.fft.rfft(longer.samples.sum(axis=0))) ** 2
        hz = np.fft.rfftfreq(longer.num_samples, 1 / RATE_HZ)
        near = (hz > 1050) & (hz < 1150)
        assert bool(power[near].max() > 1000 * np.median(power)) == bool(pitch_hz)


def test_what_is_long_enough_is_cut() -> None:
    """A longer take is cut as it is, or looped by one crossfade, also if another one is shorter."""
    long, short = Clip(noise(8, RATE_HZ * 4), RATE_HZ), Clip(noise(9, RATE_HZ), RATE_HZ)
    for role in ROLES:
        cut = extended([short, long], 3 * RATE_HZ, role=role)
        np.testing.assert_array_equal(cut.samples, long.samples[:, : 3 * RATE_HZ])
        looped = extended([short, long], 3 * RATE_HZ, loop=True, role=role)
        np.testing.assert_array_equal(looped.samples, make_loop(long, 3 * RATE_HZ).samples)


def test_what_cannot_be_extended() -> None:
    """No takes, an empty one, unlike ones and no length are errors, at once."""
    clip = Clip(noise(0, 1000), RATE_HZ)
    empty = Clip(np.zeros((2, 0), np.float32), RATE_HZ)
    for takes, num_samples in (([], 10), ([clip, empty], 10), ([clip], 0)):
        with pytest.raises(ValueError, match="cannot become"):
            extend(takes, num_samples, seed=0, loop=False, role="bed")
    for other in (Clip(clip.samples, 16_000), Clip(clip.samples[:1], RATE_HZ)):
        with pytest.raises(ValueError, match="different"):
            extend([clip, other], 2000, seed=0, loop=False, role="bed")


@pytest.mark.parametrize("role", ROLES)
def test_silence_stays_silence(role: Role) -> None:
    """Silent takes become silence, and a silent one among others no more than that."""
    silence = Clip(np.zeros((1, 3 * RATE_HZ), np.float32), RATE_HZ)
    assert not extended([silence, silence], 10 * RATE_HZ, loop=True, role=role).samples.any()
    sound = Clip(noise(0, 3 * RATE_HZ, 1), RATE_HZ)
    assert extended([silence, sound], 20 * RATE_HZ, role=role).samples.any()


@pytest.mark.parametrize("role", ROLES)
def test_length_costs_no_memory(role: Role) -> None:
    """A quarter of an hour comes in blocks, of which little is held at a time."""
    takes = [calls(number) for number in range(2)]
    num_samples, heard = 900 * RATE_HZ, 0
    tracemalloc.start()
    for block in extend(takes, num_samples, seed=0, loop=True, role=role):
        heard += block.shape[1]
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert heard == num_samples
    assert peak_bytes < 6e6  # of 58 MB


def test_longer_scenes_are_made_of_more_takes() -> None:
    """One where it is long enough; more, the longer the scene; never too many."""
    assert num_takes(10, 10) == num_takes(5, 10) == 1
    counts = [num_takes(duration_s, 10) for duration_s in range(10, 3601, 10)]
    assert counts == sorted(counts)
    assert counts[-1] == MAX_TAKES
    assert num_takes(60, 60) == 1
