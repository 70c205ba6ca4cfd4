"""What rain, thunder, wind, sea and streams are known by, measured on the sound."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import signal, stats

from ambientgen.audio.clip import Samples
from ambientgen.synth import FAMILIES, TextureParams, render_texture

RATE_HZ = 48_000
SEEDS = range(310, 313)
BEDS = [(family, variant) for family in ("rain", "wind", "ocean", "stream") for variant in FAMILIES[family].variants]
#: How long it takes to see what moves; everything else needs 8 s.
SECONDS = {"wind": 20, "ocean": 60, "thunder": 20}
Floats = npt.NDArray[np.float64]


@functools.lru_cache(maxsize=64)
def render(
    family: str, variant: str = "", *, density: float = 0.5, intensity: float = 0.5, seed: int = 0, seconds: int = 8
) -> Samples:
    """A texture in mono, made once per test run."""
    params = TextureParams(family=family, variant=variant, intensity=intensity, density=density)
    samples = render_texture(params, seconds * RATE_HZ, RATE_HZ, seed, lambda _: True).mean(axis=0)
    samples.setflags(write=False)
    return samples


def levels(mono: Samples, frame_s: float, above_hz: float = 60.0) -> Floats:
    """RMS of frames above a frequency."""
    high = signal.sosfilt(signal.butter(2, above_hz, "high", fs=RATE_HZ, output="sos"), mono)
    frame = round(frame_s * RATE_HZ)
    return np.asarray(np.sqrt(np.mean(high[: high.size // frame * frame].reshape(-1, frame) ** 2, axis=1)))


def in_db(amplitude: Floats) -> Floats:
    """Amplitudes as levels."""
    return np.asarray(20.0 * np.log10(amplitude + 1e-9))


def drop_rate_hz(mono: Samples) -> float:
    """How often a second something stands out of the bed above 3 kHz: 3.5 dB over its median, within 5 ms."""
    frames = levels(mono, 0.005, 3000.0)
    above = frames > 1.5 * np.median(frames)
    return float(np.sum(above[1:] & ~above[:-1]) / (mono.size / RATE_HZ))


def smoothness(mono: Samples) -> float:
    """The fewer single events stand out above 300 Hz, the higher: minus the log of the samples' kurtosis."""
    high = signal.sosfilt(signal.butter(2, 300.0, "high", fs=RATE_HZ, output="sos"), mono)
    return -float(np.log(stats.kurtosis(high, fisher=False)))


def unevenness(mono: Samples) -> float:
    """Deviation over mean of 10 ms frames above 300 Hz: what single bubbles do to a rush."""
    frames = levels(mono, 0.01, 300.0)
    return float(np.std(frames) / np.mean(frames))


def brightness_db(mono: Samples) -> float:
    """Level above 700 Hz against the level below."""
    hz, power = signal.welch(mono, RATE_HZ, nperseg=4096)
    return float(10.0 * np.log10(power[hz >= 700.0].sum() / power[(hz > 20.0) & (hz < 700.0)].sum()))


def babble_db(mono: Samples) -> float:
    """Level between 500 and 3500 Hz, where a brook's bubbles sing, against all the rest."""
    hz, power = signal.welch(mono, RATE_HZ, nperseg=4096)
    inside = (hz > 500.0) & (hz < 3500.0)
    return float(10.0 * np.log10(power[inside].sum() / power[~inside].sum()))


def gust_rate_hz(mono: Samples) -> float:
    """Mean rate of what moves the level of 250 ms frames slower than once a second, weighted by how much it does."""
    power = np.abs(np.fft.rfft(in_db(levels(mono, 0.25)))) ** 2
    hz = np.arange(power.size) / (mono.size / RATE_HZ)
    slow = (hz > 0.0) & (hz < 1.0)
    return float(np.sum(hz[slow] * power[slow]) / np.sum(power[slow]))


def mean(measure: Callable[[Samples], float], family: str, variant: str, **settings: Any) -> float:
    """A measure's mean over the seeds."""
    seconds = SECONDS.get(family, 8)
    return float(np.mean([measure(render(family, variant, seed=seed, seconds=seconds, **settings)) for seed in SEEDS]))


# Rain ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", FAMILIES["rain"].variants)
def test_single_drops_of_plain_rain_are_heard(variant: str) -> None:
    """Several a second stand out of the bed on every surface; out of mere noise, none does."""
    assert 5.0 < mean(drop_rate_hz, "rain", variant) < 40.0
    assert drop_rate_hz(render("noise", "pink")) < 0.5


def test_drops_stand_alone_in_a_drizzle_and_melt_together_in_a_cloudburst() -> None:
    """Intensity goes all the way: the same measure falls by more than half, and the sound smooths out."""
    assert mean(drop_rate_hz, "rain", "open", intensity=0.0) > 2.0 * mean(drop_rate_hz, "rain", "open", intensity=1.0)
    assert mean(smoothness, "rain", "open", intensity=0.0) < mean(smoothness, "rain", "open", intensity=1.0) - 0.5


def test_a_tent_is_duller_than_a_roof_and_water_is_brighter() -> None:
    """Each surface has its own balance."""
    tent, roof, water = (mean(brightness_db, "rain", variant) for variant in ("tent", "roof", "water"))
    assert tent < roof - 3.0 < water - 6.0


# Thunder ---------------------------------------------------------------------------------------------------------


def test_rolling_thunder_goes_on_longer() -> None:
    """More of the time is within 12 dB of the loudest tenth of a second."""

    def lasting(mono: Samples) -> float:
        frames = in_db(levels(mono, 0.1))
        return float(np.mean(frames > frames.max() - 12.0))

    plain, rolling = (
        np.mean([lasting(render("thunder", variant, seed=seed, seconds=20)) for seed in SEEDS])
        for variant in ("thunder", "rolling")
    )
    assert rolling > 1.3 * plain


# Wind ------------------------------------------------------------------------------------------------------------


def tones(mono: Samples) -> tuple[float, float]:
    """Share of 80 ms frames with a sharp peak between 200 and 1500 Hz, and how far those peaks spread in octaves."""
    hz, _, spectrum = signal.spectrogram(mono, RATE_HZ, nperseg=8192, noverlap=4096)
    band = (hz > 200.0) & (hz < 1500.0)
    inside = 10.0 * np.log10(spectrum[band] + 1e-15)
    standing_out = inside - signal.medfilt2d(inside, (31, 1))
    rows, peaks = np.argmax(standing_out, axis=0), np.max(standing_out, axis=0)
    sharp = peaks > 16.0
    pitch = np.log2(hz[band][rows[sharp]])
    return float(np.mean(sharp)), float(np.percentile(pitch, 95) - np.percentile(pitch, 5)) if sharp.any() else 0.0


def test_howling_wind_has_tones_that_move() -> None:
    """Whistles stand out in much of it and wander over more than half an octave; open wind has hardly any."""
    howling = [tones(render("wind", "howling", seed=seed, seconds=20)) for seed in SEEDS]
    still = [tones(render("wind", "open", seed=seed, seconds=20))[0] for seed in SEEDS]
    assert np.mean([share for share, _ in howling]) > 0.3
    assert min(spread for _, spread in howling) > 0.5
    assert np.mean(still) < 0.1


# Ocean -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("intensity", [0.0, 0.5, 1.0])
def test_waves_come_every_six_to_fourteen_seconds_and_rise_high(intensity: float) -> None:
    """Calm or storm: a minute holds 4 to 10 crests, and the envelope varies by 60 to 110 % of its mean."""
    mono = render("ocean", intensity=intensity, seed=SEEDS[0], seconds=60)
    frames = levels(mono, 0.2, 100.0)
    around = np.concatenate([frames[-5:], frames, frames[:5]])
    smooth = np.convolve(around, np.hanning(13)[1:-1] / np.hanning(13).sum(), "valid")
    crests, _ = signal.find_peaks(smooth, prominence=0.25 * smooth.max(), distance=15)
    assert 4 <= len(crests) <= 10
    assert 0.6 < np.std(frames) / np.mean(frames) < 1.1


# Stream ----------------------------------------------------------------------------------------------------------


def test_a_river_is_darker_and_denser_than_a_brook_and_a_waterfall_denser_still() -> None:
    """More water is lower and less of it is heard as single bubbles."""
    brook, river, waterfall = (mean(unevenness, "stream", variant) for variant in ("brook", "river", "waterfall"))
    assert brook > 1.4 * river > 1.4 * 1.2 * waterfall
    assert mean(brightness_db, "stream", "river") < mean(brightness_db, "stream", "brook") - 4.0


# All of them -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "variant", "measure"),
    [
        ("rain", "open", drop_rate_hz),
        ("rain", "window", drop_rate_hz),
        ("rain", "leaves", drop_rate_hz),
        ("stream", "brook", babble_db),
        ("wind", "open", gust_rate_hz),
    ],
)
def test_density_means_more_single_events(family: str, variant: str, measure: Callable[[Samples], float]) -> None:
    """From few to plain to many, over all the seeds."""
    few, plain, many = (mean(measure, family, variant, density=density) for density in (0.0, 0.5, 1.0))
    assert few < plain < many


@pytest.mark.parametrize(("family", "variant"), BEDS)
def test_a_bed_is_never_static_and_never_startles(family: str, variant: str) -> None:
    """Its second-by-second level drifts; no tenth of a second stands far above its usual level or the one before."""
    mono = render(family, variant, seed=SEEDS[0], seconds=SECONDS.get(family, 8))
    tenths_db = in_db(levels(mono, 0.1))
    assert np.std(in_db(levels(mono, 1.0))) > 0.3
    assert np.diff(tenths_db).max() < 10.0
    # A wave is no event: it stands high above the lull, but swells for a second.
    assert tenths_db.max() - np.median(in_db(levels(mono, 3.0))) < (16.5 if family == "ocean" else 12.0)


@pytest.mark.parametrize("variant", FAMILIES["thunder"].variants)
def test_thunder_swells(variant: str) -> None:
    """Out of near silence or not, a roll takes more than a tenth of a second to gain 16 dB."""
    for seed in SEEDS:
        assert np.diff(in_db(levels(render("thunder", variant, seed=seed, seconds=20), 0.1))).max() < 16.0
