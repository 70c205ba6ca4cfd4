from __future__ import annotations

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ambientgen.audio.clip import Clip, Samples
from ambientgen.audio.health import check
from ambientgen.synth import FAMILIES, TextureParams, render_texture

RATE_HZ = 48_000
NUM_SAMPLES = RATE_HZ * 8
TIME_S = np.arange(NUM_SAMPLES) / RATE_HZ


@functools.lru_cache(maxsize=32)
def colored(seed: int, exponent: float) -> Samples:
    """Random noise of a color, of unit level."""
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal((2, NUM_SAMPLES)), axis=1)
    spectrum[:, 1:] /= np.arange(1, spectrum.shape[1]) ** exponent
    spectrum[:, 0] = 0
    samples = np.fft.irfft(spectrum, NUM_SAMPLES, axis=1)
    return np.asarray(samples / samples.std(), np.float32)


def noise(seed: int, exponent: float = 0.5, level: float = 0.1) -> Samples:
    """Random noise of a color."""
    return colored(seed, exponent) * np.float32(level)


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
        (noise(2, level=1e12), "not a number"),
        (np.zeros((2, RATE_HZ), np.float32), "silent"),
        (np.zeros((2, 0), np.float32), "silent"),
        (np.full((2, RATE_HZ), 0.5, np.float32), "silent"),
        (np.clip(noise(2) * 10, -1, 1), "clipped"),
        (np.clip(noise(2) * 10, -1, 1) * np.float32(0.2), "clipped"),
        (noise(3) + np.float32(0.3), "offset (DC)"),
        (noise(3, level=0.005) + np.float32(0.01), "offset (DC)"),
        (np.clip(noise(2, 0.0), -0.2, 0.2), "clipped"),
        (noise(4) * (TIME_S < 2).astype(np.float32), "mostly silent / level collapse"),
    ],
    ids=[
        "nan",
        "inf",
        "beyond all sound",
        "zeros",
        "empty",
        "constant",
        "clipped",
        "clipped and lowered",
        "offset",
        "offset of a quiet clip",
        "clipped white",
        "collapse",
    ],
)
def test_faults_are_named(samples: Samples, fault: str) -> None:
    """Each fault is found and named in plain words, and costs score."""
    health = check(Clip(samples, RATE_HZ))
    assert fault in health.faults
    assert not health.ok
    assert health.score <= 0


def with_gap(samples: Samples, seconds: float) -> Samples:
    """Nothing for a while, on one side."""
    cut = samples.copy()
    cut[0, 50_000 : 50_000 + round(seconds * RATE_HZ)] = 0.0
    return cut


def with_spike(samples: Samples, height: float, num_samples: int = 1) -> Samples:
    """One wrong sample or some, on both sides."""
    wrong = samples.copy()
    wrong[:, 100_000 : 100_000 + num_samples] += np.float32(height)
    return wrong


def with_hum(samples: Samples, level: float, mains_hz: float = 50.0) -> Samples:
    """Mains hum with three harmonics."""
    lines = sum(np.sin(2 * np.pi * k * mains_hz * TIME_S) / k for k in range(1, 5))
    return np.asarray(samples + level * lines, np.float32)


def stuck(samples: Samples, seconds: float, times: int) -> Samples:
    """A piece of the clip again and again."""
    length = round(seconds * RATE_HZ)
    again = samples.copy()
    again[:, 40_000 : 40_000 + length * times] = np.tile(samples[:, 40_000 : 40_000 + length], times)
    return again


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0], ids=["white", "pink", "brown"])
@pytest.mark.parametrize("rate_hz", [RATE_HZ, 16_000])
def test_what_processing_leaves_is_found_in_any_color(exponent: float, rate_hz: int) -> None:
    """A gap of 5 or 15 ms, one wrong sample, a piece stuck for a second: each by its name, also as 16 kHz mono."""
    clean = noise(11, exponent)
    if rate_hz != RATE_HZ:
        clean = clean[:1, :128_000] - clean[:1, :128_000].mean(dtype=np.float64).astype(np.float32)

    def faults(samples: Samples) -> tuple[str, ...]:
        return check(Clip(samples, rate_hz)).faults

    assert faults(clean) == ()
    assert faults(with_gap(clean, 0.005)) == ("dropout",)
    assert faults(with_spike(clean, 1.5)) == ("click",)
    assert faults(stuck(clean, 0.07, 15))[-1:] == ("stuck repetition",)


def test_a_click_is_what_nothing_else_in_the_clip_is_like() -> None:
    """Many pops, each ringing in its own way, are a fire; a spike among them is a click; a hard onset is none."""
    assert "click" not in check(Clip(fire(5), RATE_HZ)).faults
    assert "click" in check(Clip(with_spike(fire(5), 0.9, 2), RATE_HZ)).faults
    burst = noise(12, 0.5)
    burst[:, : 3 * RATE_HZ] *= np.float32(0.01)
    assert "click" not in check(Clip(burst, RATE_HZ)).faults


def test_a_pause_is_no_dropout() -> None:
    """A sound that dies away before the silence, and one that starts after it, have a soft edge; a cut has none."""
    fades = noise(13)
    fades[:, 2 * RATE_HZ : 4 * RATE_HZ] *= np.exp(-TIME_S[: 2 * RATE_HZ] * 12.0).astype(np.float32)
    fades[:, 4 * RATE_HZ - 4800 : 4 * RATE_HZ] = 0.0
    assert check(Clip(fades, RATE_HZ)).faults == ()
    fades[:, 2 * RATE_HZ + 4800 : 2 * RATE_HZ + 9600] = 0.0
    assert check(Clip(fades, RATE_HZ)).faults == ("dropout",)


@pytest.mark.parametrize("mains_hz", [50.0, 60.0])
def test_hum_is_a_fault_only_where_no_tone_belongs(mains_hz: float) -> None:
    """Whether a steady tone on the mains' frequency is meant, only the asker can know."""
    humming = Clip(with_hum(noise(14), 0.05, mains_hz), RATE_HZ)
    assert check(humming, tonal=False).faults == ("mains hum",)
    assert check(humming).ok
    assert check(Clip(noise(14), RATE_HZ), tonal=False).ok
    assert check(Clip(with_hum(noise(14), 0.05, 43.0), RATE_HZ), tonal=False).ok


def test_pitches_and_rhythms_are_no_stuck_repetition() -> None:
    """What repeats within 50 ms is a tone or a chirp, and what comes again after a pause is an event of its own."""
    pulses = noise(15) * np.float32(0.01)
    piece = noise(16)[:, :1920]
    pulses += np.tile(piece - piece.mean(axis=1, keepdims=True), 200)  # every 40 ms
    later = noise(17)
    later[:, 200_000:220_000] = later[:, 100_000:120_000]
    assert check(Clip(pulses, RATE_HZ)).faults == ()
    assert check(Clip(later, RATE_HZ)).faults == ()
    for seconds, times in ((0.2, 5), (0.6, 3), (1.5, 4)):
        assert "stuck repetition" in check(Clip(stuck(noise(17), seconds, times), RATE_HZ)).faults


@pytest.mark.parametrize("family", FAMILIES)
def test_procedural_textures_are_healthy(family: str) -> None:
    """No family, as it is made, is taken for broken."""
    samples = render_texture(TextureParams(family=family), 2 * RATE_HZ, RATE_HZ, 31, lambda _: True)
    assert check(Clip(samples, RATE_HZ)).faults == ()


class LongSound:
    """Two and a half minutes of noise at a low rate, and how much of it was read at a time."""

    sample_rate_hz = 2000
    num_channels = 1

    def __init__(self) -> None:
        self.samples = np.resize(noise(18), (1, 300_000)).astype(np.float32)
        self.samples *= np.random.default_rng(18).uniform(0.8, 1.2, 300_000).astype(np.float32)  # no repetition
        self.num_samples = self.samples.shape[1]
        self.duration_s = self.num_samples / self.sample_rate_hz
        self.lengths: list[int] = []

    def read(self, start: int, stop: int) -> Samples:
        """The samples from `start` up to `stop`."""
        self.lengths.append(stop - start)
        return self.samples[:, start:stop]


def test_a_long_sound_is_read_a_minute_at_a_time() -> None:
    """Every sample once, a fault in any of its minutes counts, and a minute without a sound is a pause."""
    sound = LongSound()
    sound.samples[:, 95_000:210_000] *= np.float32(1e-5)
    assert check(sound).faults == ()
    assert sum(sound.lengths) == sound.num_samples
    assert max(sound.lengths) <= 60 * sound.sample_rate_hz
    for place in (20_000, 280_000):
        broken = LongSound()
        broken.samples[:, place] += 2.0
        broken.samples[:, place + 5000 : place + 5100] = 0.0
        assert check(broken).faults == ("dropout", "click")
    sound.samples[:, 60_000:] *= np.float32(1e-5)
    assert check(sound).faults == ("mostly silent / level collapse",)
    sound.samples[:, 250_000] = np.nan
    assert check(sound).faults == ("not a number",)


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
