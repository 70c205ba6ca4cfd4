"""Wind: noise bands that follow one gusting wind speed, each with its own power of it.

Farnell, *Designing Sound*, "Wind": the air itself is silent; what is heard is turbulence at obstacles, whose level
rises with a power of the speed and whose pitch rises with it. Faster air reaches higher bands, so a gust brightens.
What howls sheds a vortex street, whose pitch is in proportion to the speed: f = 0.2 v / d (V. Strouhal, "Ueber eine
besondere Art der Tonerregung", Annalen der Physik, 1878).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ambientgen.audio.clip import Samples
from ambientgen.synth.grains import grains
from ambientgen.synth.shaping import Canvas, at_audio_rate, curve, db, later, modulate, shaped_noise, tone

_ROAR = ((20, -8), (45, 2), (75, 3), (130, -1), (220, 1), (330, -5), (500, -14), (1000, -28))
_RUSH = ((80, -20), (250, -2), (450, 0), (900, -6), (2000, -13), (6000, -28))
_HISS = ((400, -24), (1200, -4), (3000, 0), (7000, -8), (14000, -20))
_LEAVES = ((400, -22), (1200, -7), (2800, 0), (6000, -1), (11000, -8), (16000, -16))
_LEAF = ((700, -20), (2000, -3), (4500, 0), (9000, -4), (16000, -14))
_LEAVES_HZ = 900.0


def render(canvas: Canvas) -> Samples:
    """Gusting wind in the open, in trees, or howling around a house, from a breeze to a gale.

    Stronger wind gusts faster and deeper, brightens, and whistles. Density changes how often it gusts.
    """
    kind = canvas.params.kind
    speed = _speed(canvas)
    sides = np.stack([speed, later(speed, canvas, 0.25)])
    roar = sides**1.5 * np.exp(0.12 * curve(canvas, 0.4, 4.0)[0])
    out = modulate(canvas, shaped_noise(canvas, _ROAR, correlation=0.75, num_taps=16384), roar)
    out *= np.float32(db({"open": 0.0, "trees": -9.0, "howling": -8.0}[kind]))
    rush = sides**1.6 * np.exp(0.1 * curve(canvas, 0.3, 3.0, 2))
    out += np.float32(db(canvas.slide(-24.0, -5.0))) * modulate(
        canvas, shaped_noise(canvas, _RUSH, correlation=0.4), rush
    )
    # Grass and trees all around never fall silent together.
    hiss = 0.3 + 0.7 * sides**2.0
    out += np.float32(db(canvas.slide(-48.0, -17.0))) * modulate(
        canvas, shaped_noise(canvas, _HISS, correlation=0.2), hiss
    )
    if kind == "trees":
        out += np.float32(db(canvas.slide(-8.0, 0.0))) * _foliage(canvas, speed)
    elif kind == "howling":
        for base_hz in _gaps(canvas):
            howl = _whistle(canvas, later(speed, canvas, canvas.rng.uniform(0.0, 1.2)), base_hz, 0.7, (0.15, 3.0), 0.6)
            out += np.float32(db(canvas.slide(-9.0, 1.0)) * (330.0 / base_hz) ** 0.5) * howl
    else:
        for delay_s in (0.0, 0.7):
            base_hz = canvas.rng.uniform(280.0, 560.0)
            moan = _whistle(canvas, later(speed, canvas, delay_s), base_hz, 0.35, (3.0, 22.0), 0.75)
            out += np.float32(db(canvas.slide(-36.0, -15.0))) * moan
    return out


def _speed(canvas: Canvas) -> npt.NDArray[np.float64]:
    """Wind speed around 1: slow weather, gusts of some seconds, and a little turbulence."""
    depth = canvas.slide(0.15, 0.36)
    often = canvas.swing(0.75, 1.33) * canvas.crowd(0.5, 2.0)
    gusts = 0.5 * curve(canvas, 0.01, 0.08)[0] + curve(canvas, 0.08 * often, 0.4 * often)[0]
    gusts += 0.3 * curve(canvas, 0.5, 3.0)[0]
    return np.asarray(np.exp(depth * np.clip(gusts, -2.5, 2.0) - 0.5 * depth**2))


def _foliage(canvas: Canvas, speed: npt.NDArray[np.float64]) -> Samples:
    """Leaves: high noise that flutters, different on each side, and swells as the gust passes through.

    The nearest leaves are heard one by one.
    """
    leaves = shaped_noise(canvas, _LEAVES, correlation=0.05)
    rate_hz = _LEAVES_HZ * canvas.swing(0.5, 2.0) * canvas.crowd(0.4, 2.5)
    leaves += np.float32(0.5) * grains(
        canvas, _LEAF, rate_hz, plain_hz=_LEAVES_HZ, spread_db=4.0, density=later(speed, canvas, 0.4)
    )
    sides = np.stack([later(speed, canvas, 0.15), later(speed, canvas, 0.6)])
    return modulate(canvas, leaves, sides**2.0 * np.exp(0.2 * curve(canvas, 1.5, 12.0, 2)))


def _gaps(canvas: Canvas) -> npt.NDArray[np.float64]:
    """The pitches of a few gaps and wires at plain wind, spread over two octaves."""
    return np.asarray(230.0 * 2.0 ** (np.arange(4) * 0.55 + canvas.rng.uniform(0.0, 0.4, 4)))


def _whistle(
    canvas: Canvas,
    speed: npt.NDArray[np.float64],
    base_hz: float,
    bend: float,
    breath_hz: tuple[float, float],
    silent_below: float,
) -> Samples:
    """A soft moan: narrow noise around a pitch that follows the wind, heard in gusts only.

    The noise carries the pitch sweep as phase modulation; the sweep's total phase is rounded to whole cycles.

    Args:
        canvas: where to.
        speed: the wind speed around 1.
        base_hz: the pitch at plain speed.
        bend: how far the pitch follows the speed; 1 is in proportion.
        breath_hz: lowest and highest rate at which its level wavers; a low one is a purer tone.
        silent_below: the speed it takes to sound at all.
    """
    spread = bend * np.clip(speed - 1.0, -0.6, 1.2)
    drift = np.cumsum(base_hz * (spread - spread.mean())) * (canvas.duration_s / speed.size)
    phase = 2.0 * np.pi * at_audio_rate(canvas, drift)
    carrier = tone(canvas, base_hz, np.pi / 2.0) * np.cos(phase)
    carrier -= tone(canvas, base_hz) * np.sin(phase)
    breath = curve(canvas, *breath_hz)[0] * np.maximum(speed - silent_below, 0.0) ** 1.5
    place = canvas.rng.uniform(0.3, 0.7)
    mono = carrier * at_audio_rate(canvas, breath)
    return np.stack([mono * np.float32(place), mono * np.float32(1.0 - place)]) * np.float32(2.0)
