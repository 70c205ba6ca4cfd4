from __future__ import annotations

import math

import numpy as np
import pyloudnorm  # type: ignore[import-untyped]
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ambientgen.audio.clip import Clip, Samples
from ambientgen.audio.loudness import PeakMeter, integrated_lufs, master, measure, true_peak_dbtp
from ambientgen.audio.mix import REFERENCE_LUFS, Mix, Stem
from ambientgen.audio.sound import in_memory

RATE_HZ = 48_000


def sine(level_dbfs: float, duration_s: float, rate_hz: int = RATE_HZ, frequency_hz: float = 1000.0) -> Samples:
    """A tone in stereo, level by its peak."""
    phase = 2 * np.pi * frequency_hz * np.arange(round(duration_s * rate_hz)) / rate_hz
    return np.tile((10 ** (level_dbfs / 20) * np.sin(phase)).astype(np.float32), (2, 1))


def noise(seed: int, num_samples: int, exponent: float = 0.5, level: float = 0.1) -> Samples:
    """Random noise of a color."""
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal((2, num_samples)), axis=1)
    spectrum[:, 1:] /= np.arange(1, spectrum.shape[1]) ** exponent
    spectrum[:, 0] = 0
    samples = np.fft.irfft(spectrum, num_samples, axis=1)
    return np.asarray(samples / samples.std() * level, np.float32)


def crackle(seed: int, duration_s: float) -> Samples:
    """Sharp pops over a faint bed."""
    rng = np.random.default_rng(seed)
    samples = 0.002 * rng.standard_normal((2, round(duration_s * RATE_HZ)))
    for start in rng.integers(0, samples.shape[1] - 2000, round(20 * duration_s)):
        pop = rng.standard_normal((2, 2000)) * np.exp(-np.arange(2000) / 100)
        samples[:, start : start + 2000] += rng.random() ** 4 * pop
    return samples.astype(np.float32)


@pytest.mark.parametrize(
    "parts",
    [
        [(-23, 20)],
        [(-36, 10), (-23, 60), (-36, 10)],
        [(-72, 10), (-36, 10), (-23, 60), (-36, 10), (-72, 10)],
        [(-26, 20), (-20, 20.1), (-26, 20)],
    ],
    ids=["case 1", "case 3", "case 4", "case 5"],
)
def test_ebu_tech_3341_cases(parts: list[tuple[float, float]]) -> None:
    """The meter reads -23.0 LUFS within 0.1 LU on the minimum-requirement signals of EBU Tech 3341."""
    clip = Clip(np.concatenate([sine(level, duration_s) for level, duration_s in parts], axis=1), RATE_HZ)
    assert integrated_lufs(clip) == pytest.approx(-23.0, abs=0.1)


@pytest.mark.parametrize("rate_hz", [16_000, 22_050, 32_000, 44_100, 96_000])
def test_same_reading_at_every_rate(rate_hz: int) -> None:
    """A tone reads the same whatever the sample rate."""
    assert integrated_lufs(Clip(sine(-23, 5, rate_hz), rate_hz)) == pytest.approx(-23.0, abs=0.1)


@pytest.mark.parametrize("rate_hz", [44_100, 48_000])
@pytest.mark.parametrize("exponent", [0.0, 0.5, 0.9])
def test_agrees_with_pyloudnorm(rate_hz: int, exponent: float) -> None:
    """On noise of three colors it agrees with pyloudnorm's form of the standard's filters."""
    swell = 1 + 0.8 * np.sin(np.arange(rate_hz * 4) / rate_hz * 2)
    samples = (noise(1, rate_hz * 4, exponent) * swell).astype(np.float32)
    theirs = pyloudnorm.Meter(rate_hz, filter_class="DeMan").integrated_loudness(samples.T.astype(float))
    assert integrated_lufs(Clip(samples, rate_hz)) == pytest.approx(theirs, abs=0.02)


def test_short_and_silent_clips() -> None:
    """Silence reads -inf at any length; a clip under 400 ms reads as a whole, not an error."""
    for num_samples in (0, 1, 5000, 100_000):
        assert integrated_lufs(Clip(np.zeros((2, num_samples), np.float32), RATE_HZ)) == -math.inf
    assert true_peak_dbtp(Clip(np.zeros((2, 100), np.float32), RATE_HZ)) == -math.inf
    assert integrated_lufs(Clip(sine(-23, 0.2), RATE_HZ)) == pytest.approx(-23.0, abs=0.2)
    assert integrated_lufs(Clip(sine(-80, 2), RATE_HZ)) == -math.inf


def test_true_peak_between_samples() -> None:
    """A tone at a quarter of the rate, sampled 3 dB beside its crests, shows its real peak."""
    phase = np.pi / 2 * np.arange(RATE_HZ) + np.pi / 4
    clip = Clip(np.sin(phase).astype(np.float32)[np.newaxis] * np.float32(0.5), RATE_HZ)
    assert np.abs(clip.samples).max() < 0.36
    assert true_peak_dbtp(clip) == pytest.approx(-6.02, abs=0.2)


def test_true_peak_of_the_last_milliseconds() -> None:
    """What rings after an abrupt end counts too."""
    samples = np.zeros((2, RATE_HZ), np.float32)
    samples[:, -2:] = 0.5
    assert true_peak_dbtp(Clip(samples, RATE_HZ)) > -6.0
    assert true_peak_dbtp(Clip(samples, RATE_HZ)) == pytest.approx(
        true_peak_dbtp(Clip(np.pad(samples, ((0, 0), (0, 999))), RATE_HZ)), abs=0.01
    )


def test_metering_by_blocks_equals_metering_at_once() -> None:
    """Blocks of a file give the figures of the whole clip."""
    samples = noise(2, RATE_HZ * 3 + 17)
    found = measure((samples[:, start : start + 6400] for start in range(0, samples.shape[1], 6400)), RATE_HZ, 2)
    clip = Clip(samples, RATE_HZ)
    assert found.integrated_lufs == pytest.approx(integrated_lufs(clip), abs=1e-6)
    assert found.peak_dbtp == pytest.approx(true_peak_dbtp(clip), abs=1e-3)
    assert found.num_samples == clip.num_samples


def test_peak_meter_of_nothing() -> None:
    """A peak meter that was fed nothing reads silence."""
    assert PeakMeter(RATE_HZ, 1).dbtp() == -math.inf


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 99),
    gain_db=st.floats(-30, 20),
    offset=st.floats(-0.3, 0.3),
    target_lufs=st.floats(-40, -14),
    loop=st.booleans(),
)
def test_master_meets_target_and_ceiling(
    seed: int, gain_db: float, offset: float, target_lufs: float, loop: bool
) -> None:
    """Noise comes out at the target within 0.3 LU, under the ceiling, without an offset."""
    samples = noise(seed, RATE_HZ) * np.float32(10 ** (gain_db / 20)) + np.float32(offset)
    mastered = in_memory(master(Clip(samples, RATE_HZ), target_lufs, loop=loop))
    assert integrated_lufs(mastered) == pytest.approx(target_lufs, abs=0.3)
    assert true_peak_dbtp(mastered) <= -1.5
    assert np.abs(mastered.samples.mean(axis=1)).max() < 1e-3


@pytest.mark.parametrize("target_lufs", [-30.0, -20.0, -8.0])
def test_master_keeps_the_ceiling_on_sharp_sounds(target_lufs: float) -> None:
    """A crackle that cannot be so loud stays under the ceiling and keeps its peaks."""
    clip = Clip(crackle(3, 6), RATE_HZ)
    mastered = master(clip, target_lufs)
    peak = true_peak_dbtp(mastered)
    assert peak <= -1.5
    assert integrated_lufs(mastered) <= target_lufs + 0.3
    assert integrated_lufs(mastered) == pytest.approx(target_lufs, abs=0.3) or peak > -1.7


def test_master_counts_what_rings_beyond_the_ends() -> None:
    """A clip that stops at full level stays under the ceiling as a file, loop or not."""
    rng = np.random.default_rng(0)
    for seed in range(4):
        samples = (noise(seed, RATE_HZ // 2, 0.0, 0.05)).copy()
        samples[:, -3:] = 0.3 * np.sign(rng.standard_normal())
        for loop in (False, True):
            target_lufs = integrated_lufs(Clip(samples, RATE_HZ)) - 20 * np.log10(0.3) - 1.5
            assert true_peak_dbtp(master(Clip(samples, RATE_HZ), target_lufs, loop=loop)) <= -1.5


def test_master_of_a_loop_is_blind_to_its_start() -> None:
    """Turning a loop by a whole number of limiter steps turns its master likewise, up to a small common gain."""
    samples, turn = crackle(4, 4), 16 * 5000
    straight = in_memory(master(Clip(samples, RATE_HZ), -22, loop=True)).samples
    turned = in_memory(master(Clip(np.roll(samples, turn, axis=1), RATE_HZ), -22, loop=True)).samples
    expected = np.roll(straight, turn, axis=1)
    gain = float(np.vdot(turned, expected) / np.vdot(expected, expected))
    assert gain == pytest.approx(1.0, abs=0.05)
    assert np.abs(turned - gain * expected).max() < 0.02


def test_master_never_raises_silence() -> None:
    """Silence and a constant stay silent, and a whisper is raised by at most 50 dB."""
    for value in (0.0, 0.3):
        constant = Clip(np.full((2, RATE_HZ), value, np.float32), RATE_HZ)
        assert not in_memory(master(constant, -20)).samples.any()
    faint = sine(-120, 0.1)
    raised = in_memory(master(Clip(faint, RATE_HZ), -20)).samples
    assert np.abs(raised).max() <= np.abs(faint).max() * 10 ** (50 / 20) * 1.01


def test_mix_balances_by_loudness() -> None:
    """Each stem enters at the reference loudness plus its gain, however loud it was made."""
    quiet, loud = Clip(noise(5, RATE_HZ * 2, 0.0, 0.001), RATE_HZ), Clip(noise(6, RATE_HZ * 2, 0.5, 0.9), RATE_HZ)
    silent = Clip(np.zeros_like(loud.samples), RATE_HZ)
    quiet_stem, loud_stem, silent_stem = (Stem.of(clip) for clip in (quiet, loud, silent))
    assert integrated_lufs(Mix([quiet_stem, silent_stem], [0.0, 0.0])) == pytest.approx(REFERENCE_LUFS, abs=0.05)
    both, alone = Mix([quiet_stem, loud_stem], [0.0, -6.0]), Mix([quiet_stem], [0.0])
    difference = in_memory(both).samples - in_memory(alone).samples
    assert integrated_lufs(Clip(difference, RATE_HZ)) == pytest.approx(REFERENCE_LUFS - 6, abs=0.05)


def test_mix_refuses_what_does_not_fit() -> None:
    """Nothing, other lengths and other rates are errors."""
    clip = Clip(noise(7, 4800), RATE_HZ)
    for others in ([], [Clip(clip.samples[:, 1:], RATE_HZ)], [Clip(clip.samples, 1)]):
        stems = [Stem(sound, -20.0) for sound in ([clip, *others] if others else [])]
        with pytest.raises(ValueError, match=r"mix|differ"):
            Mix(stems, [0.0] * len(stems))
