"""A stereo image that falls back to the very mono it was made from, and a band above that touches nothing below."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ambientgen.audio.clip import Clip, Samples
from ambientgen.audio.loop import measure_seam
from ambientgen.audio.loudness import integrated_lufs
from ambientgen.audio.resample import resample, to_stereo
from ambientgen.audio.spatial import extend_band, widen

RATE_HZ = 48_000
CUTOFF_HZ = 7_500.0


def noise(
    num_samples: int, low_hz: float = 20.0, high_hz: float = 24_000.0, slope_db: float = 0.0, seed: int = 0
) -> Clip:
    """Circular mono noise of one band, RMS 0.1, its level falling or rising by so many dB in an octave."""
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(num_samples))
    hz = np.fft.rfftfreq(num_samples, 1.0 / RATE_HZ)
    spectrum *= (hz >= low_hz) & (hz < high_hz)
    spectrum *= 10.0 ** (slope_db * np.log2(np.maximum(hz, 20.0) / 1000.0) / 20.0)
    samples = np.fft.irfft(spectrum, num_samples)
    return Clip((0.1 * samples / samples.std()).astype(np.float32)[np.newaxis], RATE_HZ)


def tone(hz: float, num_samples: int = RATE_HZ) -> Clip:
    """A sine of amplitude 0.1."""
    return Clip(
        (0.1 * np.sin(2 * np.pi * hz * np.arange(num_samples) / RATE_HZ)).astype(np.float32)[np.newaxis], RATE_HZ
    )


def click(num_samples: int = RATE_HZ, place: int = RATE_HZ // 2) -> Clip:
    """One sample of 1 at `place`."""
    samples = np.zeros((1, num_samples), np.float32)
    samples[0, place] = 1.0
    return Clip(samples, RATE_HZ)


def density_db(samples: Samples, low_hz: float, high_hz: float) -> float:
    """Mean power of the bins from one frequency to another, in dB."""
    power = np.abs(np.fft.rfft(samples.astype(np.float64))) ** 2 / samples.shape[-1]
    hz = np.fft.rfftfreq(samples.shape[-1], 1.0 / RATE_HZ)
    return 10.0 * float(np.log10(power[..., (hz >= low_hz) & (hz < high_hz)].mean() + 1e-20))


def octave(samples: Samples, center_hz: float) -> Samples:
    """One octave band of each channel."""
    spectrum = np.fft.rfft(samples.astype(np.float64))
    hz = np.fft.rfftfreq(samples.shape[-1], 1.0 / RATE_HZ)
    return np.fft.irfft(spectrum * ((hz >= center_hz / 2**0.5) & (hz < center_hz * 2**0.5)), samples.shape[-1])


# The image ---------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=40)
@given(
    num_samples=st.integers(0, 5000),
    seed=st.integers(0, 2**63 - 1),
    loop=st.booleans(),
    width=st.floats(0.0, 1.0),
    level=st.sampled_from([0.0, 1e-4, 0.3]),
)
def test_the_mono_sum_is_the_original(num_samples: int, seed: int, loop: bool, width: float, level: float) -> None:
    """Left and right add up to twice the mono clip within the rounding of float32, at any length, level and width."""
    mono = np.random.default_rng(seed % 1000).standard_normal((1, num_samples)).astype(np.float32) * np.float32(level)
    wide = widen(Clip(mono, RATE_HZ), seed=seed, loop=loop, width=width).samples
    assert wide.shape == (2, num_samples)
    off = np.abs(wide.sum(axis=0, dtype=np.float64) - 2.0 * mono[0])
    assert np.all(off <= np.abs(wide).max(axis=0) * 2.0**-23)
    assert np.abs(wide).max(initial=0.0) > 0.0 or level == 0.0 or num_samples == 0


def test_left_and_right_part_more_the_higher() -> None:
    """In octave bands they are nearly the same below and clearly two above, equally loud, whatever the seed."""
    mono = noise(RATE_HZ * 4)
    for seed in range(6):
        wide = widen(mono, seed=seed, loop=True).samples
        parts = [octave(wide, hz) for hz in (63, 125, 250, 500, 1000, 2000, 4000, 8000, 16_000)]
        correlations = [np.corrcoef(part)[0, 1] for part in parts]
        assert min(correlations[:2]) > 0.95
        assert 0.75 < correlations[2] < 0.97
        assert all(0.3 < value < 0.6 for value in correlations[-3:])
        levels_db = [10.0 * np.log10(np.mean(part[0] ** 2) / np.mean(part[1] ** 2)) for part in parts]
        assert np.abs(levels_db).max() < 1.5


@pytest.mark.parametrize("width", [0.55, 1.0])
def test_no_sound_can_come_out_of_phase(width: float) -> None:
    """At no frequency is the side as strong as the mid, so that no sound has left and right against each other."""
    for seed in range(4):
        left, right = np.fft.rfft(widen(click(), seed=seed, loop=True, width=width).samples.astype(np.float64))
        assert (np.abs(left - right) < np.abs(left + right)).all()


def test_a_width_of_none_is_mono() -> None:
    """Nothing asked, nothing done."""
    mono = noise(5000)
    np.testing.assert_array_equal(widen(mono, seed=0, loop=True, width=0.0).samples, to_stereo(mono).samples)


def test_what_is_sudden_stays_sudden() -> None:
    """A click comes at its instant on both sides with nothing before it, and what follows is over after 21 ms."""
    for seed in range(4):
        wide = widen(click(), seed=seed, loop=False).samples
        place = RATE_HZ // 2
        np.testing.assert_allclose(wide[:, place], 1.0, atol=1e-5)
        assert np.abs(wide[:, :place]).max() < 1e-5
        assert np.abs(wide[:, place + round(0.021 * RATE_HZ) :]).max() < 1e-5
        behind = wide[:, place + 1 :]
        assert np.abs(behind).max() < 0.4
        assert np.square(behind).sum(axis=1).max() < 0.4
        # Half of what follows comes within 8 ms, so that it is one event with the click.
        assert np.square(behind[:, : round(0.008 * RATE_HZ)]).sum() > 0.5 * np.square(behind).sum()


def test_widening_adds_little_level() -> None:
    """The mid is untouched, so the side's energy comes on top: at most 1.5 LU, and far less for a dull sound."""
    for slope_db, most_lu in ((0.0, 1.5), (-3.0, 1.3), (-9.0, 0.4)):
        mono = noise(RATE_HZ * 2, slope_db=slope_db)
        louder_lu = integrated_lufs(widen(mono, seed=3, loop=True)) - integrated_lufs(to_stereo(mono))
        assert 0.0 < louder_lu < most_lu


def test_the_seed_decides_the_image() -> None:
    """The same seed gives the same image, another one another."""
    mono = noise(9600)
    first, again, other = (widen(mono, seed=seed, loop=True).samples for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.01


def test_only_mono_is_widened() -> None:
    """A clip that has an image already is refused, as is a width that does not exist."""
    with pytest.raises(ValueError, match="2 channels"):
        widen(to_stereo(noise(100)), seed=0, loop=False)
    with pytest.raises(ValueError, match="width"):
        widen(noise(100), seed=0, loop=False, width=1.1)


# The band ----------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=30)
@given(num_samples=st.integers(0, 6000), num_channels=st.integers(1, 2), loop=st.booleans(), seed=st.integers(0, 99))
def test_any_length_and_what_is_below_is_not_touched(
    num_samples: int, num_channels: int, loop: bool, seed: int
) -> None:
    """The shape stays, all numbers are finite, and below the cutoff nothing changes by more than -100 dB."""
    samples = np.random.default_rng(seed).standard_normal((num_channels, num_samples)).astype(np.float32)
    filled = extend_band(Clip(samples, RATE_HZ), loop=loop).samples
    assert filled.shape == samples.shape
    assert np.isfinite(filled).all()
    if loop and num_samples:
        changed = np.abs(np.fft.rfft(filled.astype(np.float64) - samples))
        below = np.fft.rfftfreq(num_samples, 1.0 / RATE_HZ) < CUTOFF_HZ
        assert changed[:, below].max() < 1e-5 * np.abs(np.fft.rfft(samples)).max()


@pytest.mark.parametrize("slope_db", [-3.0, -6.0, -12.0])
def test_the_level_goes_on_as_it_fell(slope_db: float) -> None:
    """The new band lies within 3 dB of the straight line that the sound's own top octaves draw."""
    mono = noise(RATE_HZ * 3, slope_db=slope_db)
    low = resample(resample(mono, 16_000, loop=True), RATE_HZ, loop=True)
    filled = extend_band(low, loop=True).samples[0]
    below = np.abs(np.fft.rfft(filled - low.samples[0]))[: round(CUTOFF_HZ) * 3]
    assert below.max() < 1e-5 * np.abs(np.fft.rfft(low.samples[0])).max()
    for low_hz in np.arange(7_600.0, 18_500.0, 700.0):
        truth_db = density_db(mono.samples[0], low_hz, low_hz + 700.0)
        assert density_db(filled, low_hz, low_hz + 700.0) == pytest.approx(truth_db, abs=3.0)
    assert density_db(filled, 20_500.0, 24_000.0) < density_db(filled, 1000.0, 7000.0) - 90.0


def test_a_rising_sound_does_not_go_on_rising() -> None:
    """Violet noise is followed by no more than it has below."""
    filled = extend_band(noise(RATE_HZ, high_hz=CUTOFF_HZ, slope_db=6.0), loop=True).samples[0]
    top_db = density_db(filled, 5_300.0, 7_500.0)
    assert density_db(filled, 9_000.0, 14_000.0) < top_db
    assert density_db(filled, 14_000.0, 19_000.0) < density_db(filled, 9_000.0, 14_000.0)


def test_a_sound_without_highs_gets_none() -> None:
    """What has nothing from 5 kHz on gets nothing above, and silence stays silence."""
    dull = noise(RATE_HZ, high_hz=4_900.0)
    assert density_db(extend_band(dull, loop=True).samples[0], CUTOFF_HZ, 20_000.0) < -110.0
    silent = Clip(np.zeros((2, 4000), np.float32), RATE_HZ)
    assert not extend_band(silent, loop=False).samples.any()


def test_a_full_sound_is_left_as_it_is() -> None:
    """Where the band is there already, nothing is added to it."""
    full = noise(RATE_HZ)
    assert density_db(extend_band(full, loop=True).samples[0] - full.samples[0], CUTOFF_HZ, 20_000.0) < (
        density_db(full.samples[0], CUTOFF_HZ, 20_000.0) - 10.0
    )


def test_a_tone_gets_its_own_harmonics() -> None:
    """What is added to 6 kHz is 12 and 18 kHz, and nothing between."""
    pure = tone(6000.0)
    lines = np.abs(np.fft.rfft(extend_band(pure, loop=True).samples[0] - pure.samples[0]))
    assert set(np.flatnonzero(lines > 1e-3 * lines.max())) <= {12_000, 18_000}
    assert lines[12_000] > 0.0


def test_a_click_keeps_its_instant() -> None:
    """Nearly all that is added to a click lies within a millisecond of it."""
    sharp = resample(resample(click(), 16_000), RATE_HZ)
    added = np.square(extend_band(sharp, loop=False).samples[0] - sharp.samples[0], dtype=np.float64)
    middle = int(np.abs(sharp.samples[0]).argmax())
    assert added[middle - 48 : middle + 49].sum() > 0.9 * added.sum()
    assert added[middle - 480 : middle + 481].sum() > 0.999 * added.sum()


def test_the_new_band_comes_and_goes_with_the_sound() -> None:
    """Where the sound pauses, so does what is added."""
    gate = np.repeat([1.0, 0.0, 1.0, 0.0], RATE_HZ // 4).astype(np.float32)
    gated = Clip(noise(RATE_HZ, high_hz=CUTOFF_HZ).samples * gate, RATE_HZ)
    added = extend_band(gated, loop=True).samples[0] - gated.samples[0]
    pause = added[RATE_HZ // 4 + 480 : RATE_HZ // 2 - 480]
    assert np.square(pause).mean() < 1e-4 * np.square(added[480 : RATE_HZ // 4 - 480]).mean()


def test_there_must_be_room_above() -> None:
    """A rate without an octave above the cutoff is refused."""
    with pytest.raises(ValueError, match="no octave"):
        extend_band(Clip(np.zeros((1, 100), np.float32), 16_000), loop=False)


# Both --------------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=20)
@given(num_samples=st.integers(1000, 9000), shift=st.integers(1, 9000), seed=st.integers(0, 50))
def test_a_circle_has_no_first_sample(num_samples: int, shift: int, seed: int) -> None:
    """Turned before or turned afterwards, a circle is the same."""
    mono = noise(num_samples, high_hz=CUTOFF_HZ, seed=seed)
    turned = Clip(np.roll(mono.samples, shift, axis=1), RATE_HZ)
    afterwards, before = (widen(extend_band(clip, loop=True), seed=seed, loop=True).samples for clip in (mono, turned))
    np.testing.assert_allclose(np.roll(afterwards, shift, axis=1), before, atol=1e-5)


def test_a_loop_stays_one() -> None:
    """The seam of a circle is as clean afterwards, and one that is no circle does not reach round its end."""
    low = noise(RATE_HZ * 3, high_hz=CUTOFF_HZ, slope_db=-3.0)
    assert measure_seam(widen(extend_band(low, loop=True), seed=5, loop=True), is_circle=True).clean
    late = click(4800, 4790)
    made = widen(extend_band(late, loop=False), seed=5, loop=False).samples
    assert np.abs(made[:, :4000]).max() < 1e-4
