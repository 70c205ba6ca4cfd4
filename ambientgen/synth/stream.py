"""Running water: bubbles by the thousand over a rush of turbulence.

K. van den Doel, "Physically based models for liquid sounds" (ACM Trans. Applied Perception, 2005): running water is
a population of bubbles whose radii and depths follow a power law, each a damped sine with a rising pitch.
"""

from __future__ import annotations

import numpy as np

from ambientgen.audio.clip import Samples
from ambientgen.synth.events import bubbles, event_count, heavy_tail, random_starts, scatter, stereo
from ambientgen.synth.shaping import Canvas, at_audio_rate, curve, db, modulate, shaped_noise

_BROOK = ((40, -14), (120, -10), (300, -3), (700, 0), (1500, -4), (4000, -10), (9000, -18), (16000, -28))
_FALL = ((30, -3), (80, 0), (200, 0), (600, -2), (1500, -4), (4000, -7), (9000, -12), (16000, -20))
_NUM_TEMPLATES = 256


def render(canvas: Canvas) -> Samples:
    """A brook of single bubbles, or a waterfall of rushing water. More water: more and lower bubbles, more rush."""
    waterfall = canvas.params.kind == "waterfall"
    points = _FALL if waterfall else _BROOK
    tilt = canvas.slide(2.0, -2.0)
    tilted = tuple((hz, level + tilt * float(np.log2(hz / 700.0)) * 0.5) for hz, level in points)
    rush = shaped_noise(canvas, tilted, correlation=0.2)
    rush = modulate(canvas, rush, np.exp(0.12 * curve(canvas, 0.05, 0.3, 2) + 0.06 * curve(canvas, 1.0, 6.0, 2)))
    rush *= np.float32(db(canvas.slide(4.0, 12.0) if waterfall else canvas.slide(-11.0, -1.0)))
    rush += _bubbling(canvas, waterfall)
    return rush


def _bubbling(canvas: Canvas, waterfall: bool) -> Samples:
    low_hz, high_hz = (250.0, 3000.0) if waterfall else (canvas.swing(520.0, 300.0), canvas.swing(3600.0, 2800.0))
    # Small bubbles are the most frequent; a lone low one now and then makes the gurgle.
    pitch = low_hz * (high_hz / low_hz) ** canvas.rng.beta(1.7, 1.4, _NUM_TEMPLATES)
    templates = bubbles(canvas, pitch, 0.06, 0.1) * (600.0 / pitch[:, None]).astype(np.float32) ** 0.4
    rate_hz = canvas.swing(90.0, 520.0)
    density = np.exp(0.55 * curve(canvas, 0.4, 5.0)[0] + 0.3 * curve(canvas, 0.05, 0.3)[0])
    starts = random_starts(canvas, event_count(canvas, rate_hz, at_least=1), density)
    placed = stereo(canvas, templates, 0.8)
    gains = heavy_tail(canvas, starts.size, 5.0, 11.0)
    gains *= db(-1.0) / np.sqrt(np.mean(np.sum(placed**2, axis=-1)) * 200.0 * 2.0 / canvas.sample_rate_hz)
    out = scatter(canvas, placed, starts, gains)
    out *= at_audio_rate(canvas, np.exp(0.15 * curve(canvas, 0.05, 0.4)[0]))
    return out
