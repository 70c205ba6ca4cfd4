from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ambientgen.audio.clip import Clip, Samples
from ambientgen.audio.health import check

RATE_HZ = 48_000
NUM_SAMPLES = RATE_HZ * 8
TIME_S = np.arange(NUM_SAMPLES) / RATE_HZ


def noise(seed: int, exponent: float = 0.5, level: float = 0.1) -> Samples:
    """Random noise of a color."""
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal((2, NUM_SAMPLES)), axis=1)
    spectrum[:, 1:] /= np.arange(1, spectrum.shape[1]) ** exponent
    spectrum[:, 0] = 0
    samples = np.fft.irfft(spectrum, NUM_SAMPLES, axis=1)
    return np.asarray(samples / samples.std() * level, np.float32)


def fire(seed: int) -> Samples:
    """Sparse sharp pops."""
    rng = np.random.default_rng(seed)
    samples = np.zeros((2, NUM_SAMPLES))
    for start in rng.integers(0, NUM_SAMPLES - 2000, 150):
        pop = rng.standard_normal((2, 2000)) * np.exp(-np.arange(2000) / 100)
        samples[:, start : start + 2000] += rng.random() ** 4 * pop
    return np.asarray(samples / np.abs(samples).max(), np.float32)


def thunder(seed: int) -> Samples:
    """One clap that dies away."""
    envelope = np.where(TIME_S > 2, np.exp(-(TIME_S - 2) / 0.8), 0)
    return (noise(seed, 1.0) * envelope).astype(np.float32)


def crickets() -> Samples:
    """Chirps with long pauses."""
    chirps = (np.sin(2 * np.pi * 30 * TIME_S) > 0) * (TIME_S % 2.5 < 0.5)
    return np.tile((0.3 * chirps * np.sin(2 * np.pi * 4500 * TIME_S)).astype(np.float32), (2, 1))


def drone() -> Samples:
    """A full-scale low tone."""
    return np.tile(np.sin(2 * np.pi * 55 * TIME_S).astype(np.float32), (2, 1))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("make", [noise, fire, thunder])
def test_real_textures_are_healthy(make: object, seed: int) -> None:
    """Rain-like noise, fire crackles and a lone thunderclap are no faults."""
    assert callable(make)
    assert check(Clip(make(seed), RATE_HZ)).faults == ()


def test_tones_and_pauses_are_healthy() -> None:
    """Crickets with long pauses and a full-scale drone are no faults, nor are quiet clips."""
    for samples in (crickets(), drone(), noise(1, level=0.002)):
        assert check(Clip(samples, RATE_HZ)).ok


@pytest.mark.parametrize(
    ("samples", "fault"),
    [
        (np.full((2, 100), np.nan, np.float32), "not a number"),
        (np.array([[0.1, np.inf, 0.2]], np.float32), "not a number"),
        (np.zeros((2, RATE_HZ), np.float32), "silent"),
        (np.zeros((2, 0), np.float32), "silent"),
        (np.full((2, RATE_HZ), 0.5, np.float32), "silent"),
        (np.clip(noise(2) * 10, -1, 1), "clipped"),
        (np.clip(noise(2) * 10, -1, 1) * np.float32(0.2), "clipped"),
        (noise(3) + np.float32(0.3), "offset (DC)"),
        (noise(4) * (TIME_S < 2).astype(np.float32), "mostly silent / level collapse"),
    ],
    ids=["nan", "inf", "zeros", "empty", "constant", "clipped", "clipped and lowered", "offset", "collapse"],
)
def test_faults_are_named(samples: Samples, fault: str) -> None:
    """Each fault is found and named in plain words, and costs score."""
    health = check(Clip(samples, RATE_HZ))
    assert fault in health.faults
    assert not health.ok
    assert health.score <= 0


def test_score_ranks_candidates() -> None:
    """Of healthy clips the better one scores higher: full sound over a hum, whole over half dead."""
    best = check(Clip(noise(5), RATE_HZ)).score
    half = check(Clip(noise(5) * (TIME_S < 4.5).astype(np.float32), RATE_HZ)).score
    hum = check(Clip(drone() * np.float32(0.3), RATE_HZ)).score
    broken = check(Clip(np.clip(noise(5) * 20, -1, 1), RATE_HZ)).score
    assert best > half > broken
    assert best > hum > broken


@settings(deadline=None)
@given(
    hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 2), st.integers(0, 50)),
        elements=st.floats(width=32, allow_nan=True, allow_infinity=True),
    )
)
def test_any_samples_can_be_checked(samples: Samples) -> None:
    """Whatever the numbers, there is an answer, and its score is a number."""
    health = check(Clip(samples, 100))
    assert np.isfinite(health.score)
    assert health.ok == (health.faults == ())
