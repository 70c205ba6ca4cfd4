from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ambientgen.audio.clip import Clip, Samples
from ambientgen.audio.loop import best_loop, fade_edges, make_loop, measure_seam
from ambientgen.audio.resample import resample, to_stereo
from ambientgen.audio.sound import blocks_of

RATE_HZ = 48_000


def noise(seed: int, num_samples: int, exponent: float = 0.5) -> Samples:
    """Random noise of a color."""
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal((2, num_samples)), axis=1)
    spectrum[:, 1:] /= np.arange(1, spectrum.shape[1]) ** exponent
    spectrum[:, 0] = 0
    samples = np.fft.irfft(spectrum, num_samples, axis=1)
    return np.asarray(samples / samples.std() * 0.1, np.float32)


def test_a_loop_continues_over_its_seam() -> None:
    """The first sample is the one that followed the last, and behind the overlap nothing has changed."""
    samples = noise(0, RATE_HZ * 3)
    looped = make_loop(Clip(samples, RATE_HZ), RATE_HZ * 2).samples
    assert looped.shape == (2, RATE_HZ * 2)
    np.testing.assert_array_equal(looped[:, 0], samples[:, RATE_HZ * 2])
    np.testing.assert_array_equal(looped[:, RATE_HZ:], samples[:, RATE_HZ : RATE_HZ * 2])


def test_a_loop_needs_an_overlap() -> None:
    """No overlap, or one longer than the loop, is an error."""
    clip = Clip(noise(0, 1000), RATE_HZ)
    for num_samples in (1000, 1001, 400):
        with pytest.raises(ValueError, match="loop"):
            make_loop(clip, num_samples)


def test_a_join_that_fails_is_made_elsewhere() -> None:
    """A bang in the last half second would be cut in two by the longest join; a shorter one before it is clean."""
    samples = noise(5, RATE_HZ * 4) * 0.1
    clip = Clip(samples, RATE_HZ)
    np.testing.assert_array_equal(best_loop(clip, RATE_HZ * 3).samples, make_loop(clip, RATE_HZ * 3).samples)
    samples[:, RATE_HZ * 3 : RATE_HZ * 3 + 40] += 0.9 * np.linspace(1, 0, 40, dtype=np.float32)
    assert not measure_seam(make_loop(Clip(samples, RATE_HZ), RATE_HZ * 3)).clean
    elsewhere = best_loop(Clip(samples, RATE_HZ), RATE_HZ * 3)
    assert elsewhere.num_samples == RATE_HZ * 3
    assert measure_seam(elsewhere).clean
    with pytest.raises(ValueError, match="loop"):
        best_loop(clip, RATE_HZ * 4)


@pytest.mark.parametrize("exponent", [0.0, 0.5])
def test_seams_of_good_loops_are_clean(exponent: float) -> None:
    """Of ten circular and ten crossfaded loops of noise all but one or two are clean, and their flux is ordinary."""
    circular = [measure_seam(Clip(noise(seed, RATE_HZ * 5, exponent), RATE_HZ)) for seed in range(10)]
    faded = [
        measure_seam(make_loop(Clip(noise(seed, RATE_HZ * 12, exponent)[:, : RATE_HZ * 6], RATE_HZ), RATE_HZ * 5))
        for seed in range(10)
    ]
    for seams in (circular, faded):
        assert sum(seam.clean for seam in seams) >= 9
        assert 15 < np.mean([seam.flux_percentile for seam in seams]) < 85


def test_broken_seams_are_found() -> None:
    """A step, a change of timbre and a fade to silence each fail, by the measure made for them."""
    step = noise(1, RATE_HZ * 5, 1.0) + np.linspace(-0.5, 0.5, RATE_HZ * 5, dtype=np.float32)
    assert measure_seam(Clip(step, RATE_HZ)).jump_ratio_p999 > 2
    timbre = np.concatenate([noise(2, RATE_HZ * 5, 0.0), noise(3, RATE_HZ * 5, 1.5)], axis=1)
    turned = np.roll(timbre, RATE_HZ * 2, axis=1)
    assert measure_seam(Clip(timbre, RATE_HZ)).flux_percentile > 99
    assert measure_seam(Clip(turned, RATE_HZ)).flux_percentile < 99
    faded = np.concatenate(list(fade_edges([noise(4, RATE_HZ * 5)], RATE_HZ * 5, RATE_HZ, 0.5)), axis=1)
    silence = measure_seam(Clip(faded, RATE_HZ))
    assert silence.level_sag_db > 10
    assert not silence.clean


def test_a_linear_crossfade_sags_and_ours_does_not() -> None:
    """The sag of a linear crossfade is seen; the equal-power one has none, for noise and for tones of any phase."""
    samples, overlap = noise(5, RATE_HZ * 12, 0.0)[:, : RATE_HZ * 6], RATE_HZ
    rise = np.linspace(0, 1, overlap, dtype=np.float32)
    linear = samples[:, :-overlap].copy()
    linear[:, :overlap] = samples[:, :overlap] * rise + samples[:, -overlap:] * (1 - rise)
    assert measure_seam(Clip(linear, RATE_HZ)).level_sag_db > 1.5
    assert measure_seam(make_loop(Clip(samples, RATE_HZ), RATE_HZ * 5)).level_sag_db < 0.5
    for frequency_hz in (100.0, 100.06, 100.08):
        tone = np.sin(2 * np.pi * frequency_hz * np.arange(RATE_HZ * 6) / RATE_HZ).astype(np.float32)
        levels = make_loop(Clip(tone[np.newaxis], RATE_HZ), RATE_HZ * 5).samples.reshape(100, -1).std(axis=1)
        assert 20 * np.log10(levels.max() / levels.min()) < 1.5


def test_seam_of_a_too_short_clip() -> None:
    """Under 0.2 s there is nothing to compare with; just above it still measures."""
    with pytest.raises(ValueError, match="short"):
        measure_seam(Clip(np.zeros((1, 100), np.float32), RATE_HZ))
    assert measure_seam(Clip(noise(0, 10_000), RATE_HZ)).level_sag_db >= 0
    assert measure_seam(Clip(np.zeros((2, RATE_HZ), np.float32), RATE_HZ)).clean


@settings(deadline=None)
@given(num_samples=st.integers(1, 300), fade_s=st.floats(0, 0.01), block_samples=st.integers(1, 300))
def test_fades_start_and_end_at_silence(num_samples: int, fade_s: float, block_samples: int) -> None:
    """Nothing gets louder, both ends are zero, the middle stays, and it does not matter in which blocks it comes."""
    ones = Clip(np.ones((2, num_samples), np.float32), 8000)
    faded = np.concatenate(list(fade_edges(blocks_of(ones, block_samples), num_samples, 8000, fade_s)), axis=1)
    assert faded.shape == (2, num_samples)
    assert np.all((faded >= 0) & (faded <= 1))
    num_faded = min(round(fade_s * 8000), num_samples // 2)
    assert np.all(faded[:, num_faded : num_samples - num_faded] == 1)
    if num_faded:
        assert faded[0, 0] == faded[0, -1] == 0
    np.testing.assert_array_equal(faded, faded[:, ::-1])


@settings(deadline=None, max_examples=40)
@given(
    num_samples=st.integers(0, 5000),
    rates=st.tuples(*[st.sampled_from([8000, 11_025, 16_000, 22_050, 44_100, 48_000])] * 2),
    loop=st.booleans(),
)
def test_resample_has_the_exact_length(num_samples: int, rates: tuple[int, int], loop: bool) -> None:
    """The new length is the old one times the ratio, rounded."""
    clip = resample(Clip(noise(9, 5000)[:, :num_samples].copy(), rates[0]), rates[1], loop=loop)
    assert clip.num_samples == round(num_samples * rates[1] / rates[0])
    assert clip.sample_rate_hz == rates[1]


def test_resample_keeps_a_loop_circular() -> None:
    """A tone of whole cycles stays one pure line of the spectrum, also where the ratio is awkward."""
    for num_samples in (1601, 16_000):
        tone = np.sin(2 * np.pi * 37 * np.arange(num_samples) / num_samples).astype(np.float32)
        looped = resample(Clip(tone[np.newaxis], 16_000), 44_100, loop=True).samples[0]
        lines = np.abs(np.fft.rfft(looped))
        assert np.delete(lines, 37).max() / lines[37] < 1e-4


def test_to_stereo() -> None:
    """Mono is doubled, stereo left alone, and more channels refused."""
    mono = Clip(noise(10, 100)[:1], RATE_HZ)
    stereo = to_stereo(mono)
    np.testing.assert_array_equal(stereo.samples, np.concatenate([mono.samples] * 2))
    assert to_stereo(stereo) is stereo
    with pytest.raises(ValueError, match="3 channels"):
        to_stereo(Clip(np.zeros((3, 4), np.float32), RATE_HZ))
    with pytest.raises(ValueError, match="positive"):
        resample(mono, 0)


def test_a_circles_own_swells_are_no_fault() -> None:
    """A clip that was made as a circle may have its only trough at the seam; a step there is still told."""
    swell = noise(0, RATE_HZ * 4) * (1.02 - np.cos(2 * np.pi * np.arange(RATE_HZ * 4) / (RATE_HZ * 4))).astype(
        np.float32
    )
    circle = Clip(swell.astype(np.float32), RATE_HZ)
    assert not measure_seam(circle).clean
    assert measure_seam(circle, is_circle=True).clean
    jump = circle.samples.copy()
    jump[:, 0] += 1.0
    assert not measure_seam(Clip(jump, RATE_HZ), is_circle=True).clean
