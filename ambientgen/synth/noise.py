"""Noise of one color: its level falls or rises by so many dB an octave.

Power-law noise after R. F. Voss and J. Clarke, "1/f noise in music" (J. Acoust. Soc. Am., 1978); named slopes as in
common use: white 0, pink -3, brown -6, blue +3, violet +6 dB an octave.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from ambientgen.audio.clip import Samples
from ambientgen.synth.shaping import Canvas, shaped_noise

SLOPES_DB: Final = {"white": 0.0, "pink": -3.0103, "brown": -6.0206, "blue": 3.0103, "violet": 6.0206}


def render(canvas: Canvas) -> Samples:
    """Steady noise. At the plain intensity its slope is exact; fainter is softer and stronger is sharper, by 1 dB."""
    slope = SLOPES_DB[canvas.params.kind] + canvas.slide(-1.0, 1.0)
    points = [(hz, slope * float(np.log2(hz / 1000.0))) for hz in (20.0, canvas.sample_rate_hz / 2.0)]
    return shaped_noise(canvas, points, correlation=0.2, num_taps=16384)
