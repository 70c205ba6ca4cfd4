"""Machines, vehicles, streets, ships and caves: that each has what it is known by, by measures of the sound."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from scipy import signal, stats

from ambientgen.audio.clip import Samples
from ambientgen.engines.base import Progress
from ambientgen.synth import TextureParams, render_texture
from ambientgen.synth.shaping import Canvas, curve
from ambientgen.synth.turning import course, moments, partials

RATE_HZ = 24_000  # nothing here is judged above 8 kHz
SEEDS = range(40, 44)
NEW = [
    ("city", "traffic"),
    ("train", "train"),
    ("vehicle", "car"),
    ("vehicle", "airplane"),
    ("ship", "ship"),
    ("cave", "drips"),
    ("machine", "hum"),
    ("machine", "fan"),
    ("machine", "engine"),
    ("machine", "spaceship"),
    ("drone", "drone"),
]
Array = npt.NDArray[np.float64]
Measure = Callable[[Samples], float]


def go_on(_: Progress) -> bool:
    """Never cancel."""
    return True


@functools.lru_cache(maxsize=64)
def render(
    family: str, variant: str = "", seed: int = 0, seconds: float = 8.0, intensity: float = 0.5, density: float = 0.5
) -> Samples:
    """A texture, made once per test run."""
    params = TextureParams(family=family, variant=variant, intensity=intensity, density=density)
    samples = render_texture(params, round(seconds * RATE_HZ), RATE_HZ, seed, go_on)
    samples.setflags(write=False)
    return samples


def band(samples: Samples, low_hz: float, high_hz: float) -> Array:
    """Mono, between two frequencies."""
    sos = signal.butter(3, (low_hz, high_hz), "band", fs=RATE_HZ, output="sos")
    return np.asarray(signal.sosfilt(sos, samples.mean(axis=0)))


def levels(mono: npt.NDArray[np.floating], frame_s: float) -> Array:
    """RMS of frames."""
    frame = round(frame_s * RATE_HZ)
    return np.asarray(np.sqrt(np.mean(mono[: mono.size // frame * frame].reshape(-1, frame) ** 2, axis=1)))


def brightness_db(samples: Samples, edge_hz: float = 1000.0) -> float:
    """Level above an edge against the level below it."""
    hz, power = signal.welch(samples.mean(axis=0), RATE_HZ, nperseg=4096)
    return float(10.0 * np.log10(power[hz >= edge_hz].sum() / power[(hz > 20.0) & (hz < edge_hz)].sum()))


def line_db(samples: Samples, cycles: int) -> float:
    """How far one line of the whole circle's spectrum stands above its neighborhood."""
    power = np.abs(np.fft.rfft(samples, axis=1)).sum(axis=0) ** 2
    around = np.concatenate([power[cycles - 60 : cycles - 8], power[cycles + 9 : cycles + 61]])
    return float(10.0 * np.log10(power[cycles] / np.median(around)))


def onset_rate(samples: Samples) -> float:
    """How often a second the level between 0.4 and 8 kHz jumps by 8 dB within 20 ms."""
    log_levels = np.log2(levels(band(samples, 400.0, 8000.0), 0.02) + 1e-7)
    jumps = np.diff(log_levels) > 1.33
    return float(np.sum(jumps[1:] & ~jumps[:-1]) * 50.0 / log_levels.size)


def sway_db(samples: Samples) -> float:
    """Deviation of the balance of left and right between 200 and 1500 Hz, as what goes by moves it."""
    sos = signal.butter(3, (200.0, 1500.0), "band", fs=RATE_HZ, output="sos")
    left, right = (levels(signal.sosfilt(sos, side), 0.5) for side in samples)
    return float(np.std(20.0 * np.log10(left / right)))


def knock_rate(samples: Samples) -> float:
    """How many knocks a second the coach's body gets."""
    envelope = levels(band(samples, 120.0, 500.0), 0.01)
    peaks, _ = signal.find_peaks(envelope, height=1.5 * envelope.mean(), prominence=envelope.mean(), distance=5)
    return float(len(peaks) * 100.0 / envelope.size)


def standing_out(samples: Samples, low_hz: float = 1000.0, high_hz: float = 6000.0) -> float:
    """Share of 50 ms frames of a band that stand well above its median."""
    envelope = levels(band(samples, low_hz, high_hz), 0.05)
    return float(np.mean(envelope > 2.0 * np.median(envelope)))


def thuds(samples: Samples) -> float:
    """Share of frames with a thud in the bass."""
    return standing_out(samples, 70.0, 250.0)


def water_db(samples: Samples) -> float:
    """Level of the wash against the deep sea, between all events."""
    wash, deep = (np.median(levels(band(samples, *edges), 0.05)) for edges in ((1000.0, 6000.0), (60.0, 300.0)))
    return float(20.0 * np.log10(wash / deep))


def spikiness(samples: Samples) -> float:
    """Kurtosis where small things ring."""
    return float(stats.kurtosis(band(samples, 600.0, 4000.0)))


def blips(samples: Samples) -> float:
    """Kurtosis where instruments speak."""
    return float(stats.kurtosis(band(samples, 600.0, 1800.0)))


def bass_to_rest_db(samples: Samples) -> float:
    """Level below 250 Hz against the rest."""
    return -brightness_db(samples, 250.0)


# Density and intensity -------------------------------------------------------------------------------------------

DENSITY: list[tuple[str, str, Measure, float]] = [
    ("city", "traffic", sway_db, 8.0),
    ("train", "train", knock_rate, 6.0),
    ("vehicle", "car", thuds, 10.0),
    ("vehicle", "airplane", spikiness, 8.0),
    ("ship", "ship", standing_out, 10.0),
    ("cave", "drips", onset_rate, 8.0),
    ("machine", "spaceship", blips, 10.0),
]
INTENSITY: list[tuple[str, str, Measure, int]] = [
    ("city", "traffic", bass_to_rest_db, -1),
    ("train", "train", knock_rate, 1),
    ("vehicle", "car", brightness_db, 1),
    ("vehicle", "airplane", bass_to_rest_db, 1),
    ("ship", "ship", water_db, 1),
    ("cave", "drips", spikiness, -1),
    ("machine", "hum", brightness_db, 1),
    ("machine", "fan", brightness_db, 1),
    ("machine", "engine", brightness_db, 1),
    ("machine", "spaceship", brightness_db, 1),
    ("drone", "drone", bass_to_rest_db, -1),
]


@pytest.mark.parametrize(("family", "variant", "measure", "seconds"), DENSITY)
def test_density_changes_how_much_happens(family: str, variant: str, measure: Measure, seconds: float) -> None:
    """From few events to plain to many, the measure of events rises."""
    few, plain, many = (
        np.mean([measure(render(family, variant, seed, seconds, density=density)) for seed in SEEDS])
        for density in (0.0, 0.5, 1.0)
    )
    assert few < plain < many, (few, plain, many)


@pytest.mark.parametrize(("family", "variant", "measure", "direction"), INTENSITY)
def test_intensity_changes_the_sound_in_one_direction(
    family: str, variant: str, measure: Measure, direction: int
) -> None:
    """From faint to plain to extreme, the measure goes one way."""
    faint, plain, extreme = (
        direction * np.mean([measure(render(family, variant, seed, 4.0, intensity=intensity)) for seed in SEEDS])
        for intensity in (0.0, 0.5, 1.0)
    )
    assert faint < plain < extreme, (faint, plain, extreme)


# A minute of any of them -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("family", "variant"), NEW)
def test_it_is_never_static_and_never_startles(family: str, variant: str) -> None:
    """Its level and its balance wander from second to second, and no 0.4 s stand more than 12 dB above the median."""
    for seed in SEEDS[:1]:
        samples = render(family, variant, seed, 10.0)
        seconds = np.stack([levels(band(samples, low, 2.0 * low), 1.0) for low in (60.0, 250.0, 1000.0, 4000.0)])
        wander_db = np.std(20.0 * np.log10(seconds + 1e-9), axis=1)
        assert wander_db.max() > 0.5, wander_db
        loud_db = 20.0 * np.log10(levels(samples.mean(axis=0), 0.4))
        assert loud_db.max() < np.median(loud_db) + 12.0


# What turns ------------------------------------------------------------------------------------------------------


def plain_canvas(seconds: float = 4.0, seed: int = 3) -> Canvas:
    """A circle to turn on."""
    return Canvas(TextureParams(family="noise"), round(seconds * RATE_HZ), RATE_HZ, seed, go_on)


@pytest.mark.parametrize("drifts", [False, True])
def test_a_course_closes_after_whole_turns(drifts: bool) -> None:
    """At an uneven speed too, it rises all the way, by a whole number."""
    canvas = plain_canvas()
    turned = course(canvas, 7.3, 0.3 * curve(canvas, 0.2, 2.0)[0] if drifts else None)
    assert turned[-1] - turned[0] == pytest.approx(29.0)
    assert np.all(np.diff(turned) > 0.0)


def test_an_even_course_is_heard_as_lines_of_whole_cycles() -> None:
    """Nothing else is in the spectrum, so there is no seam."""
    canvas = plain_canvas()
    power = np.abs(np.fft.rfft(partials(canvas, course(canvas, 50.0), {1: 1.0, 3: 0.5}))) ** 2
    assert sorted(np.argsort(power)[-2:]) == [200, 600]
    assert power[200] / power[600] == pytest.approx(4.0, rel=0.01)
    assert power[[200, 600]].sum() > 0.99999 * power.sum()


def test_moments_are_where_the_course_says() -> None:
    """One for each turn, at even distances, wherever around the circle the first one is."""
    canvas = plain_canvas()
    times = np.sort(moments(canvas, course(canvas, 2.0), 0.25))
    assert times.size == 8
    assert np.diff(times) == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize(("variant", "lines_hz"), [("hum", (100.0, 120.0)), ("fan", (100.0, 120.0))])
def test_mains_sing_at_whole_cycles(variant: str, lines_hz: tuple[float, float]) -> None:
    """Twice 50 or 60 Hz stands out of the spectrum of the whole circle as one single line."""
    for seed in SEEDS[:3]:
        samples = render("machine", variant, seed)
        heights = [line_db(samples, round(hz * 8.0)) for hz in lines_hz]
        assert max(heights) > 13.0, heights


# What each is known by -------------------------------------------------------------------------------------------


def rail_period_s(samples: Samples) -> tuple[float, float]:
    """The lag from 0.6 to 3.2 s at which the knocks repeat best around the circle, and how well (1 is exactly)."""
    envelope = levels(band(samples, 120.0, 500.0), 0.01)
    power = np.abs(np.fft.rfft(envelope - envelope.mean())) ** 2
    likeness = np.fft.irfft(power) / np.mean(power)
    likeness = likeness / likeness[0]
    # The first of the best: twice the period fits as well.
    lag = 60 + int(np.argmax(likeness[60:320] > 0.9 * likeness[60:320].max()))
    lag += int(np.argmax(likeness[lag : lag + 8]))
    return lag * 0.01, float(likeness[lag])


def test_rails_have_their_period() -> None:
    """The same four knocks come again after one rail's time, and sooner in a faster train."""
    periods = []
    for intensity in (0.2, 0.8):
        found = [rail_period_s(render("train", seed=seed, seconds=12.0, intensity=intensity)) for seed in SEEDS[:3]]
        assert min(likeness for _, likeness in found) > 0.25, found
        periods.append(np.mean([period for period, _ in found]))
    assert periods[0] > 1.25 * periods[1], periods


def test_drops_ring_in_the_cave_for_seconds() -> None:
    """After its loudest drop a cave dies away by 15 dB in about 0.3 to 1.3 s: no click, and no endless wash."""
    times_s = []
    for seed in SEEDS:
        envelope = levels(band(render("cave", "drips", seed, density=0.0), 400.0, 4000.0), 0.02)
        at = int(np.argmax(envelope))
        after = np.roll(envelope, -at)
        tail_db = 20.0 * np.log10(after[2:150] / after[2:5].mean())
        times_s.append(0.02 * float(np.argmax(tail_db < -15.0)))
    assert 0.3 < np.median(times_s) < 1.3, times_s


def test_a_hull_creaks_by_fits_and_starts() -> None:
    """At full density some creaks of 0.1 to 1.5 s stand out above 1 kHz in every 8 s, and many fewer at none."""

    def creaks(samples: Samples) -> int:
        envelope = levels(band(samples, 1000.0, 6000.0), 0.05)
        above = np.concatenate(([False], envelope > 2.0 * np.median(envelope), [False]))
        edges = np.flatnonzero(np.diff(above.astype(int)))
        lengths = edges[1::2] - edges[::2]
        return int(np.sum((lengths >= 2) & (lengths <= 30)))

    many = [creaks(render("ship", seed=seed, density=1.0)) for seed in SEEDS]
    few = [creaks(render("ship", seed=seed, density=0.0)) for seed in SEEDS]
    assert min(many) >= 2, many
    assert sum(many) > 2 * sum(few), (few, many)
