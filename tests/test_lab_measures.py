"""The lab's figures: against plain recomputations, against known signals, and against crunch put in on purpose."""

from __future__ import annotations

import io
import math

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from ambientgen.audio.clip import Clip
from ambientgen.lab import measures
from ambientgen.lab.measures import FIGURES, measure

RATE_HZ = 48_000
Array = npt.NDArray[np.float64]


def noise(seed: int, exponent: float = 0.0, duration_s: float = 3.0) -> Array:
    """Noise whose amplitude falls with frequency to that power, above 20 Hz; RMS 0.1."""
    num_samples = round(duration_s * RATE_HZ)
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(num_samples))
    hz = np.fft.rfftfreq(num_samples, 1.0 / RATE_HZ)
    spectrum[hz < 20.0] = 0.0
    samples = np.fft.irfft(spectrum / np.maximum(hz, 1.0) ** exponent, num_samples)
    return np.asarray(0.1 * samples / samples.std())


def as_clip(mono: Array) -> Clip:
    """Both channels alike."""
    return Clip(np.stack([mono, mono]).astype(np.float32), RATE_HZ)


def through_opus(mono: Array) -> Clip:
    """What a file of the lab gives back."""
    buffer = io.BytesIO()
    soundfile.write(buffer, np.stack([mono, mono], axis=1), RATE_HZ, format="OGG", subtype="OPUS")
    buffer.seek(0)
    return Clip(np.ascontiguousarray(soundfile.read(buffer, dtype="float32")[0].T), RATE_HZ)


# ---------------------------------------------------------------------- crunch


def quantized(mono: Array) -> Array:
    """To 5 bits. Finer steps come so often in noise that what they add is no more than hiss."""
    return np.asarray(np.round(mono * 16.0) / 16.0)


def held(mono: Array) -> Array:
    """Each twelfth sample held for twelve, without a filter: 4 kHz, and its mirror images."""
    return np.asarray(np.repeat(mono[::12], 12)[: mono.size])


def ringing(mono: Array) -> Array:
    """Steady lines where a decoder with strides of 5, 4 and 2 puts them, 30 dB below the sound."""
    time_s = np.arange(mono.size) / RATE_HZ
    lines = np.sum([np.sin(2 * np.pi * hz * time_s) for hz in (4000, 5000, 6000, 8000)], axis=0)
    return np.asarray(mono + 10**-1.5 * 0.1 * lines / lines.std())


def chirping(mono: Array) -> Array:
    """Short tones that come and go, 30 dB below the sound: what a starved codec makes of a hiss."""
    rng = np.random.default_rng(5)
    tones = np.zeros_like(mono)
    window = np.hanning(1440)
    for start in rng.integers(0, mono.size - window.size, 150 * mono.size // RATE_HZ):
        phase = 2 * np.pi * rng.uniform(4000, 12000) / RATE_HZ * np.arange(window.size)
        tones[start : start + window.size] += window * np.sin(phase)
    return np.asarray(mono + 10**-1.5 * 0.1 * tones / tones.std())


def clipped(mono: Array) -> Array:
    """Cut off at its own RMS."""
    return np.asarray(np.clip(mono, -mono.std(), mono.std()))


@pytest.mark.parametrize("crunch", [quantized, held, ringing, chirping, clipped])
def test_crunch_shows_in_the_artifact_measure(crunch: object) -> None:
    """On dull noise each kind lifts the measure by 0.3 dB or more, also in what Opus leaves of it."""
    assert callable(crunch)
    for seed in (1, 2):
        clean = noise(seed, exponent=1.0)
        for heard in (as_clip, through_opus):
            lift_db = measures.hf_artifacts_db(heard(crunch(clean))) - measures.hf_artifacts_db(heard(clean))
            assert lift_db > 0.3, (crunch, seed, heard)


@given(seed=st.integers(0, 2**32 - 1), exponent=st.floats(0.0, 1.0), swell=st.floats(0.0, 0.9))
@settings(max_examples=15, deadline=None)
def test_clean_noise_has_no_artifacts(seed: int, exponent: float, swell: float) -> None:
    """Whatever its color, and also while it slowly swells."""
    mono = noise(seed, exponent)
    mono *= 1.0 + swell * np.sin(2 * np.pi * 0.4 * np.arange(mono.size) / RATE_HZ)
    assert abs(measures.hf_artifacts_db(as_clip(mono))) < 0.2


# ---------------------------------------------------------------------- known signals


def test_flatness_tells_noise_from_a_tone() -> None:
    """White noise has exp(-0.5772), geometric over arithmetic mean of exponential values; a tone has nearly 0."""
    assert measures.spectral_flatness(as_clip(noise(1))) == pytest.approx(math.exp(-np.euler_gamma), abs=0.01)
    tone = 0.1 * np.sin(2 * np.pi * 1000.0 * np.arange(2 * RATE_HZ) / RATE_HZ)
    assert measures.spectral_flatness(as_clip(tone)) < 0.01
    assert measures.spectral_flux(as_clip(tone)) < 0.001


def test_the_crest_of_a_sine_is_3_db() -> None:
    """And that of a single sample among zeros grows with the length."""
    tone = np.sin(2 * np.pi * 1000.0 * np.arange(RATE_HZ) / RATE_HZ)
    assert measures.crest_db(as_clip(tone)) == pytest.approx(20 * math.log10(math.sqrt(2.0)), abs=0.001)
    click = np.zeros(1000)
    click[500] = 0.5
    assert measures.crest_db(as_clip(click)) == pytest.approx(30.0)


@pytest.mark.parametrize("period_s", [0.7, 1.0, 1.2526, 2.9])
def test_a_repeated_stretch_is_found(period_s: float) -> None:
    """Also where the period is no whole number of the measure's own frames."""
    stretch = noise(3, 0.5, duration_s=period_s)
    assert measures.repetition(as_clip(np.tile(stretch, 9)[: 6 * RATE_HZ])) > 0.7


def test_noise_and_slow_swells_do_not_repeat() -> None:
    """A swell that comes again every two seconds is no repetition of details."""
    mono = noise(4, 0.5, duration_s=10.0)
    swelling = mono * (1.0 + 0.8 * np.sin(2 * np.pi * 0.5 * np.arange(mono.size) / RATE_HZ))
    assert measures.repetition(as_clip(mono)) < 0.12
    assert measures.repetition(as_clip(swelling)) < 0.2


@given(gain_db=st.floats(-30.0, 12.0), seed=st.integers(0, 999))
@settings(max_examples=10, deadline=None)
def test_only_the_levels_depend_on_the_gain(gain_db: float, seed: int) -> None:
    """Loudness and peak move with it; every other figure stays."""
    mono = noise(seed, 0.5, duration_s=2.0)
    first, second = measure(as_clip(mono)), measure(as_clip(mono * 10 ** (gain_db / 20)))
    for name, value in first.items():
        moved = gain_db if name in ("integrated_lufs", "peak_dbtp") else 0.0
        assert value is not None
        assert second[name] == pytest.approx(value + moved, abs=0.01)


def test_silence_and_short_clips_have_no_figures_where_there_is_nothing_to_measure() -> None:
    """None, not a number that means nothing; and what JSON cannot hold never comes out."""
    assert set(measure(as_clip(np.zeros(RATE_HZ))).values()) == {None}
    short = measure(as_clip(noise(1, duration_s=1.0)))
    assert short.pop("repetition") is None
    assert None not in short.values()


def test_every_figure_is_explained() -> None:
    """What is measured, and the CLAP score, is what the page lists, with unit, meaning and source."""
    assert [f.name for f in FIGURES] == [*measure(as_clip(noise(1, duration_s=1.0))), "clap_score"]
    assert all(figure.meaning and figure.source for figure in FIGURES)
