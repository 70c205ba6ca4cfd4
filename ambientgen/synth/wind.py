"""Wind: noise bands that follow one gusting wind speed, each with its own power of it.

Farnell, *Designing Sound*, "Wind": the air itself is silent; what is heard is turbulence at obstacles, whose level
rises with the square of the speed and whose pitch rises with it. Faster air reaches higher bands, so a gust brightens.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ambientgen.audio.clip import Samples
from ambientgen.synth.shaping import Canvas, at_audio_rate, curve, db, later, modulate, shaped_noise, tone

_ROAR = ((20, -8), (45, 2), (80, 2), (180, 0), (300, -5), (500, -17), (1000, -28))
_RUSH = ((80, -20), (250, -2), (450, 0), (900, -7), (2000, -17), (6000, -32))
_HISS = ((400, -24), (1200, -4), (3000, 0), (7000, -6), (14000, -16))
_LEAVES = ((400, -22), (1200, -7), (2800, 0), (6000, -1), (11000, -8), (16000, -16))


def render(canvas: Canvas) -> Samples:
    """Gusting wind in the open, or in trees. Stronger wind gusts faster and deeper, brightens, and whistles."""
    trees = canvas.params.kind == "trees"
    speed = _speed(canvas)
    sides = np.stack([speed, later(speed, canvas, 0.25)])
    out = modulate(canvas, shaped_noise(canvas, _ROAR, correlation=0.75, num_taps=16384), sides**1.3)
    out *= np.float32(db(-9.0 if trees else 0.0))
    rush = modulate(canvas, shaped_noise(canvas, _RUSH, correlation=0.3), sides**2.0)
    out += np.float32(db(canvas.slide(-16.0, -5.0))) * rush
    hiss = modulate(canvas, shaped_noise(canvas, _HISS, correlation=0.1), sides**2.6)
    out += np.float32(db(canvas.slide(-36.0, -21.0))) * hiss
    if trees:
        out += np.float32(db(canvas.slide(-7.0, 1.0))) * _foliage(canvas, speed)
    else:
        for delay_s in (0.0, 0.7):
            out += np.float32(db(canvas.slide(-34.0, -15.0))) * _whistle(canvas, later(speed, canvas, delay_s))
    return out


def _speed(canvas: Canvas) -> npt.NDArray[np.float64]:
    """Wind speed around 1: slow weather, gusts of some seconds, and a little turbulence."""
    depth = canvas.slide(0.18, 0.42)
    gusts = 0.5 * curve(canvas, 0.02, 0.1)[0] + curve(canvas, 0.08, 0.4)[0] + 0.3 * curve(canvas, 0.5, 3.0)[0]
    return np.asarray(np.exp(depth * np.clip(gusts, -2.5, 2.0) - 0.5 * depth**2))


def _foliage(canvas: Canvas, speed: npt.NDArray[np.float64]) -> Samples:
    """Leaves: high noise that flutters, different on each side, and swells as the gust passes through."""
    leaves = shaped_noise(canvas, _LEAVES, correlation=0.05)
    sides = np.stack([later(speed, canvas, 0.15), later(speed, canvas, 0.6)])
    return modulate(canvas, leaves, sides**2.2 * np.exp(0.22 * curve(canvas, 1.5, 12.0, 2)))


def _whistle(canvas: Canvas, speed: npt.NDArray[np.float64]) -> Samples:
    """A soft moan: narrow noise around a pitch that follows the wind, heard in gusts only.

    The noise carries the pitch sweep as phase modulation; the sweep's total phase is rounded to whole cycles.
    """
    base = canvas.rng.uniform(280.0, 560.0)
    spread = 0.35 * np.clip(speed - 1.0, -0.6, 1.2)
    drift = np.cumsum(base * (spread - spread.mean())) * (canvas.duration_s / speed.size)
    phase = 2.0 * np.pi * at_audio_rate(canvas, drift)
    cosine, sine = np.cos(phase), np.sin(phase)
    carrier = tone(canvas, base, np.pi / 2.0) * cosine
    carrier -= tone(canvas, base) * sine
    breath = curve(canvas, 3.0, 22.0, 2) * np.maximum(speed - 0.75, 0.0) ** 1.5
    place = canvas.rng.uniform(0.3, 0.7)
    mono = carrier * at_audio_rate(canvas, breath[0])
    return np.stack([mono * np.float32(place), mono * np.float32(1.0 - place)]) * np.float32(2.0)
