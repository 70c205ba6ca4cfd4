"""Grains: a great many tiny splashes or cracks, too many to be heard one by one, whose roughness no noise has.

Noise is even; water and torn air are not. Impulses of very different strength, all colored by one short kernel, have
the heavy tails that McDermott and Simoncelli ("Sound texture perception via statistics of the auditory periphery",
Neuron, 2011) found an ear to need before it hears rain or surf instead of noise.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ambientgen.audio.clip import Samples
from ambientgen.synth.events import event_count, heavy_tail, impulses, random_starts
from ambientgen.synth.shaping import Canvas, Points, convolve, fir

_NUM_TAPS = 256


def grains(
    canvas: Canvas,
    points: Points,
    rate_hz: float,
    *,
    plain_hz: float,
    spread_db: float = 6.0,
    density: npt.NDArray[np.float64] | None = None,
    spread: float = 0.9,
) -> Samples:
    """Grains at random times, shape (2, num_samples); of unit power where they come at their plain rate.

    So more of them are louder together, and each is as loud as ever.

    Args:
        canvas: where to.
        points: spectrum of one grain.
        rate_hz: mean number a second.
        plain_hz: the rate that gives unit power.
        spread_db: deviation of their levels.
        density: a control curve (not negative) that their rate follows; None is an even rate.
        spread: how wide they lie, 0 (all in the middle) to 1.
    """
    starts = random_starts(canvas, event_count(canvas, rate_hz), density)
    train = impulses(canvas, starts, heavy_tail(canvas, starts.size, spread_db), spread)
    kernel = fir(points, canvas.sample_rate_hz, _NUM_TAPS)
    # The mean square of levels that are normal in dB.
    mean_square = np.exp(2.0 * (spread_db * np.log(10.0) / 20.0) ** 2)
    kernel /= np.sqrt(np.sum(kernel**2) * mean_square * plain_hz / canvas.sample_rate_hz)
    return convolve(canvas, train, kernel.astype(np.float32), centered=True)
