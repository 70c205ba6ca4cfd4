"""Ocean waves on a shore: each swells, breaks along the beach and runs back, and every band has its own time in that.

Farnell, *Designing Sound*, and recordings agree: a low roar leads, the break is brightest, and the fizz of foam rises
after it and dies away last. A crest does not break at once but in one place after another; what it throws up falls back
as single splashes. High waves come in sets (M. S. Longuet-Higgins, "Statistical properties of wave groups in a random
sea state", Phil. Trans. R. Soc. A, 1984). Between waves the sea is never silent.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from ambientgen.audio.clip import Samples
from ambientgen.synth.events import bubbles, event_count, heavy_tail, pan, random_starts, scatter, spread_times, stereo
from ambientgen.synth.shaping import Canvas, Points, control_events, curve, db, modulate, shaped_noise


class Band(NamedTuple):
    """One band of a wave.

    Attributes:
        points: its spectrum.
        level_db: its level at a plain wave's height.
        lead_s: how long before the break it begins to rise.
        fall_s: how fast it dies away after its peak.
        lag_s: how long after the break its peak comes.
        growth_db: how much more of it a strong sea has, against a calm one.
    """

    points: Points
    level_db: float
    lead_s: float
    fall_s: float
    lag_s: float
    growth_db: float


class Breaker(NamedTuple):
    """One place where a wave breaks.

    Attributes:
        time_s: when.
        height: 1 is the highest of a plain sea.
        left: amplitude there.
        right: amplitude there.
    """

    time_s: float
    height: float
    left: float
    right: float


_BANDS: Final = (
    Band(((40, -6), (90, 0), (180, -2), (400, -16), (1000, -32)), -16.0, 1.4, 0.7, -0.3, 12.0),
    Band(((80, -22), (230, -2), (400, 0), (900, -1), (1800, -10), (5000, -26)), 2.0, 0.7, 0.65, 0.0, 3.0),
    Band(((200, -26), (700, -5), (1400, 0), (3000, -4), (6000, -11), (12000, -21)), 0.3, 0.6, 0.6, 0.1, 0.0),
    Band(((600, -30), (2000, -6), (4500, 0), (8000, -6), (14000, -14)), -10.5, 0.5, 0.8, 0.3, -4.0),
)
_SEA = ((30, -9), (80, 2), (200, 1), (450, 0), (900, -1), (2000, -5), (5000, -10), (10000, -18), (16000, -27))
_SPRAY_HZ = 1000.0
_NUM_TEMPLATES = 128
_LAPS_HZ = 0.33


def render(canvas: Canvas) -> Samples:
    """Waves every 6 to 14 s over the far sea, from a calm lapping to a storm.

    A stronger sea breaks more often and lower. Density changes in how many places each wave breaks, how many lap at the
    shore in between, and how much they foam.
    """
    breakers = _breakers(canvas)
    out = shaped_noise(canvas, _SEA, correlation=0.5)
    out = modulate(canvas, out, db(canvas.slide(-22.0, -18.5)) * np.exp(0.25 * curve(canvas, 0.03, 0.3, 2)))
    for band in _BANDS:
        # Water is never smooth: each side boils by itself.
        sides = _wash(canvas, band, breakers) * np.exp(0.25 * curve(canvas, 0.7, 9.0, 2))
        level = np.float32(db(band.level_db + canvas.slide(-0.5, 0.5) * band.growth_db))
        out += level * modulate(canvas, shaped_noise(canvas, band.points, correlation=0.5), sides)
    out += _spray(canvas, _wash(canvas, _BANDS[2], breakers).mean(axis=0))
    return out


def _spray(canvas: Canvas, foam: npt.NDArray[np.float64]) -> Samples:
    """Single bubbles of the foam, the more of them the higher it is."""
    pitch = 450.0 * (10000.0 / 450.0) ** canvas.rng.random(_NUM_TEMPLATES)
    templates = stereo(canvas, bubbles(canvas, pitch, 0.03, 0.05) * (pitch[:, None] / 1000.0).astype(np.float32) ** 0.3)
    thrown = foam**2
    rate_hz = _SPRAY_HZ * 4.0 * float(np.mean(thrown)) * canvas.crowd(0.5, 2.0)
    starts = random_starts(canvas, event_count(canvas, rate_hz), thrown)
    power = np.mean(np.sum(templates**2, axis=-1)) * _SPRAY_HZ * 2.0 / canvas.sample_rate_hz
    return scatter(canvas, templates, starts, heavy_tail(canvas, starts.size, 4.5) * db(-5.5) / np.sqrt(power))


def _breakers(canvas: Canvas) -> list[Breaker]:
    """All the places where all the waves break: a wave runs along the beach, from one side or the other."""
    times = spread_times(canvas, max(1, round(canvas.duration_s / canvas.swing(10.8, 7.6))), 0.35)
    sets = curve(canvas, 0.01, 0.04)[0]
    breakers = []
    for time_s in times.tolist():
        group = sets[int(time_s / canvas.duration_s * sets.size) % sets.size]
        height = np.clip(0.72 * np.exp(0.2 * group), 0.5, 0.95) * canvas.rng.uniform(0.85, 1.0)
        count = max(1, round(canvas.crowd(2.0, 8.0) * canvas.rng.uniform(0.7, 1.3)))
        late = np.sort(canvas.rng.uniform(0.0, 1.8, count))
        share = canvas.rng.uniform(0.5, 0.95, count)
        share[canvas.rng.integers(0, count)] = 1.0
        run = canvas.rng.choice((-0.6, 0.6)) * (late - 0.9) + canvas.rng.uniform(-0.3, 0.3, count)
        for after_s, part, left, right in zip(late, share, *pan(np.clip(run, -0.7, 0.7)), strict=True):
            breakers.append(Breaker(time_s + after_s, height * part, left, right))
    # Small ones lap at the shore in between, so that no lull is empty.
    laps = spread_times(canvas, max(1, round(canvas.duration_s * _LAPS_HZ * canvas.crowd(0.4, 2.5))), 0.9)
    for time_s, left, right in zip(laps, *pan(canvas.rng.uniform(-0.6, 0.6, laps.size)), strict=True):
        breakers.append(Breaker(time_s, canvas.rng.uniform(0.3, 0.58), left, right))
    return breakers


def _wash(canvas: Canvas, band: Band, breakers: list[Breaker]) -> npt.NDArray[np.float64]:
    """Left and right envelope of one band: for each breaker a rounded rise, a fall, and its longer run back.

    Breakers know nothing of each other, so their powers add up, not their amplitudes.
    """

    def power(since: npt.NDArray[np.float64], index: int) -> npt.NDArray[np.float64]:
        rise = np.clip(since / band.lead_s, 0.0, 1.0)
        after = np.maximum(since - band.lead_s, 0.0)
        fall = 0.75 * np.exp(-after / band.fall_s) + 0.25 * np.exp(-after / (3.0 * band.fall_s))
        return np.asarray(breakers[index].height ** 3.0 * (rise**2 * (3.0 - 2.0 * rise) * fall) ** 2)

    def side(gains: list[float]) -> npt.NDArray[np.float64]:
        return control_events(canvas, lambda since, index: gains[index] ** 2 * power(since, index), starts)

    starts = [breaker.time_s + band.lag_s - band.lead_s for breaker in breakers]
    return np.sqrt(np.stack([side([one.left for one in breakers]), side([one.right for one in breakers])]))
