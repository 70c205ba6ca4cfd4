"""Ocean waves on a shore: each wave swells, breaks and runs back, and every band has its own time in that.

Farnell, *Designing Sound*, and recordings agree: a low roar leads, the break is brightest, and the fizz of foam rises
after it and dies away last. Between waves the sea is never silent.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from ambientgen.audio.clip import Samples
from ambientgen.synth.events import spread_times
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


_BANDS: Final = (
    Band(((40, -6), (90, 0), (180, -2), (400, -16), (1000, -32)), -8.0, 1.6, 0.9, -0.35, 9.0),
    Band(((80, -22), (250, -4), (500, 0), (900, -3), (1800, -12), (5000, -26)), 0.0, 1.3, 1.0, 0.0, 3.0),
    Band(((200, -26), (700, -6), (1400, 0), (3000, -2), (6000, -8), (12000, -18)), 0.5, 1.0, 1.3, 0.2, 0.0),
    Band(((600, -30), (2000, -6), (4500, 0), (8000, -3), (14000, -12)), -7.5, 0.8, 2.2, 0.7, -4.0),
)
_SEA = ((30, -16), (80, -5), (200, 0), (500, -2), (1500, -6), (4000, -10), (10000, -18), (16000, -26))


def render(canvas: Canvas) -> Samples:
    """Waves every 6 to 14 s over the far sea. A stronger sea breaks more often, deeper and lower."""
    period_s = canvas.swing(11.0, 6.8)
    times = spread_times(canvas, max(1, round(canvas.duration_s / period_s)), 0.3)
    heights = canvas.rng.uniform(0.5, 1.0, times.size)
    offsets = canvas.rng.uniform(-0.45, 0.45, times.size)
    out = shaped_noise(canvas, _SEA, correlation=0.3)
    out = modulate(canvas, out, db(canvas.slide(-21.0, -15.0)) * np.exp(0.3 * curve(canvas, 0.05, 0.3, 2)))
    for band in _BANDS:
        surf = shaped_noise(canvas, band.points, correlation=0.25)
        sides = np.stack([_wash(canvas, band, times + offsets * side, heights) for side in (-0.5, 0.5)])
        # Water is never smooth: each side boils by itself.
        sides *= np.exp(0.16 * curve(canvas, 1.0, 9.0, 2))
        level = np.float32(db(band.level_db + canvas.slide(-0.5, 0.5) * band.growth_db))
        out += level * modulate(canvas, surf, sides)
    return out


def _wash(
    canvas: Canvas, band: Band, times_s: npt.NDArray[np.float64], heights: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """The envelope of one band: a rounded rise and a long fall for each wave, and its longer run back."""

    def shape(since: npt.NDArray[np.float64], index: int) -> npt.NDArray[np.float64]:
        rise = np.clip(since / band.lead_s, 0.0, 1.0)
        after = np.maximum(since - band.lead_s, 0.0)
        fall = 0.82 * np.exp(-after / band.fall_s) + 0.18 * np.exp(-after / (3.0 * band.fall_s))
        return np.asarray(heights[index] ** 1.5 * rise**2 * (3.0 - 2.0 * rise) * fall)

    return control_events(canvas, shape, (times_s + band.lag_s - band.lead_s).tolist())
