"""Thunder: rolls of many claps from one long crooked channel, heard one after the other.

After Ribner and Roy, "Acoustics of thunder: a quasilinear model" (J. Acoust. Soc. Am., 1982) and Farnell, *Designing
Sound*, "Thunder": each stretch of the channel sends its own short wave; the nearest arrive first and sharpest, the
farther ones later, duller and overlapping. Each roll swells rather than strikes, so that nothing startles.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ambientgen.audio.clip import Samples
from ambientgen.synth.events import spread_times
from ambientgen.synth.shaping import Canvas, control_events, curve, later, modulate, shaped_noise

_RUMBLE = ((20, -3), (40, 2), (63, 3), (125, 0), (250, -7), (500, -18), (1000, -32))
_BODY = ((60, -18), (125, -5), (250, 0), (500, -2), (1000, -8), (2000, -18), (5000, -36))
_CRACK = ((250, -18), (600, -4), (1200, 0), (2500, -6), (6000, -22), (12000, -40))


def render(canvas: Canvas) -> Samples:
    """Rolls every 8 to 16 s, at least one in any clip. Stronger thunder cracks more and rolls more often."""
    times = spread_times(canvas, max(1, round(canvas.duration_s / canvas.swing(16.0, 7.5))), 0.5)
    strength = canvas.rng.uniform(0.55, 1.0, times.size)
    claps = [
        (float(time), float(loud), *clap) for time, loud in zip(times, strength, strict=True) for clap in _roll(canvas)
    ]

    far = 0.04 * (1.0 + 0.5 * curve(canvas, 0.05, 0.4)[0]) ** 2
    out = modulate(
        canvas, shaped_noise(canvas, _RUMBLE, correlation=0.5, num_taps=16384), _sides(canvas, claps, 0.5, 1.0, far)
    )
    body = shaped_noise(canvas, _BODY, correlation=0.3)
    out += np.float32(canvas.swing(0.35, 1.4)) * modulate(canvas, body, _sides(canvas, claps, 0.22, 0.6, 0.15 * far))
    crack = shaped_noise(canvas, _CRACK, correlation=0.2)
    out += np.float32(canvas.swing(0.08, 1.2)) * modulate(canvas, crack, _sides(canvas, claps, 0.09, 0.25, 0.15 * far))
    return out


def _roll(canvas: Canvas) -> list[tuple[float, float, float]]:
    """The claps of one roll: (delay in s, loudness, nearness 1..0)."""
    count = int(canvas.rng.integers(9, 18))
    length = canvas.rng.uniform(3.0, 6.5)
    delays = np.sort(canvas.rng.beta(0.8, 1.8, count)) * length
    near = np.exp(-delays / (0.45 * length))
    loud = near * canvas.rng.uniform(0.35, 1.0, count)
    return list(zip(delays.tolist(), loud.tolist(), near.tolist(), strict=True))


def _sides(
    canvas: Canvas,
    claps: list[tuple[float, float, float, float, float]],
    decay_s: float,
    dulling_s: float,
    floor: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """Left and right envelopes of one band: farther claps rise and fall more slowly there, and the sky crackles."""

    def shape(since: npt.NDArray[np.float64], index: int) -> npt.NDArray[np.float64]:
        _, strength, _, loud, near = claps[index]
        fall = decay_s + dulling_s * (1.0 - near) * decay_s
        rise = 0.03 + 0.25 * decay_s * (1.0 - near)
        return strength * loud * -np.expm1(-since / rise) * np.exp(-since / fall)

    envelope = control_events(canvas, shape, [time + delay for time, _, delay, _, _ in claps])
    flutter = np.maximum(1.0 + 0.35 * curve(canvas, 2.0, 14.0, 2), 0.1)
    both = np.stack([envelope, later(envelope, canvas, 0.02)])
    return np.asarray(both * flutter + floor)
