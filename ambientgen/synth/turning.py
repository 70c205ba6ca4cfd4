"""Things that turn or roll: shafts, fans, wheels on rails. Their speed drifts, yet they close their circle exactly.

A course is how far something has turned or traveled, as a curve that rises by a whole number around the circle.
Whatever is read off it (a sound that repeats every turn, the moment of every rail joint) is circular by itself.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from ambientgen.audio.clip import Samples
from ambientgen.synth.shaping import Canvas

_TABLE_SIZE = 1 << 15
_BLOCK = 1 << 19


def course(canvas: Canvas, rate_hz: float, drift: npt.NDArray[np.float64] | None = None) -> npt.NDArray[np.float64]:
    """How far something has turned, shape (num_control + 1,): up by the whole number nearest to that mean rate.

    It begins anywhere in a turn, so that nothing always happens at the seam.

    Args:
        canvas: the circle.
        rate_hz: mean turns a second; at least one turn is made.
        drift: the logarithm of the speed as a control curve; None is an even speed.
    """
    num_turns = max(1, round(rate_hz * canvas.duration_s))
    begun = canvas.rng.random()
    if drift is None:
        return np.linspace(begun, begun + num_turns, canvas.num_control + 1)
    # The speed runs in straight lines between the points of its curve.
    speed = np.exp(np.append(drift, drift[0]))
    turned = np.concatenate(([0.0], np.cumsum(0.5 * (speed[1:] + speed[:-1]))))
    return np.asarray(begun + turned * (num_turns / turned[-1]))


def moments(canvas: Canvas, turned: npt.NDArray[np.float64], offset: float = 0.0) -> npt.NDArray[np.float64]:
    """The times in seconds at which a course completes each turn, and `offset` turns more; one for each turn."""
    num_turns = round(turned[-1] - turned[0])
    clock = np.linspace(0.0, canvas.duration_s, turned.size)
    return np.asarray(
        np.interp(turned[0] + np.mod(np.arange(num_turns) + offset - turned[0], num_turns), turned, clock)
    )


def partials(canvas: Canvas, turned: npt.NDArray[np.float64], levels: Mapping[int, float]) -> Samples:
    """A sound that repeats every turn, shape (num_samples,).

    Args:
        canvas: the circle; its chance gives the phases.
        turned: from `course`.
        levels: harmonic of the rate of turning -> its amplitude. Those above 0.4 of the sample rate are left out.
    """
    num_samples = canvas.num_samples
    mean_hz = (turned[-1] - turned[0]) / canvas.duration_s
    angle = 2.0 * np.pi * np.arange(_TABLE_SIZE) / _TABLE_SIZE
    table = np.zeros(_TABLE_SIZE, dtype=np.float32)
    for harmonic, level in levels.items():
        phase = canvas.rng.uniform(0.0, 2.0 * np.pi)
        if harmonic * mean_hz < 0.4 * canvas.sample_rate_hz:
            table += (level * np.sin(harmonic * angle + phase)).astype(np.float32)
    out = np.empty(num_samples, dtype=np.float32)
    for start in range(0, num_samples, _BLOCK):
        stop = min(start + _BLOCK, num_samples)
        place = np.arange(start, stop) * ((turned.size - 1) / num_samples)
        turns = np.interp(place, np.arange(turned.size), turned)
        out[start:stop] = table[(turns * _TABLE_SIZE).astype(np.intp) & (_TABLE_SIZE - 1)]
        canvas.tick()
    return out


def add_panned(out: Samples, mono: Samples, side: float) -> None:
    """Add a mono sound to a stereo one, in place, at a position from -1 (left) to 1 (right), with equal power."""
    angle = (side + 1.0) * (np.pi / 4.0)
    out[0] += mono * np.float32(np.sqrt(2.0) * np.cos(angle))
    out[1] += mono * np.float32(np.sqrt(2.0) * np.sin(angle))
