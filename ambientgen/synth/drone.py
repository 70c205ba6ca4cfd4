"""A drone of slowly beating partials, and the hum of mains and machines.

The drone is just intonation over one root, each note a few partials that breathe by themselves; the hum is harmonics
of 50 or 60 Hz under a soft fan (Farnell, *Designing Sound*, "Electricity").
"""

from __future__ import annotations

import numpy as np

from ambientgen.audio.clip import Samples
from ambientgen.synth.events import pan
from ambientgen.synth.shaping import Canvas, at_audio_rate, curve, db, modulate, shaped_noise, tone

_AIR = ((40, -14), (120, -3), (300, 0), (800, -7), (2000, -16), (6000, -30))
_FAN = ((30, -6), (80, 0), (200, -1), (600, -6), (2000, -14), (8000, -28))


def render(canvas: Canvas) -> Samples:
    """A warm drone, or a hum. More intensity: more and higher partials, faster beating."""
    return _hum(canvas) if canvas.params.kind == "hum" else _drone(canvas)


def _drone(canvas: Canvas) -> Samples:
    root_hz = 55.0 * 2.0 ** (canvas.character.integers(0, 8) / 12.0)
    third = (1.2, 1.25, 4.0 / 3.0)[int(canvas.character.integers(0, 3))]
    notes = ((1.0, 0.0), (1.5, -4.0), (2.0, -4.0), (2.0 * third, -9.0), (3.0, -8.0), (4.0, -12.0))
    out = shaped_noise(canvas, _AIR, correlation=0.2)
    out *= np.float32(db(-27.0))
    # Partials fall by 9 dB an octave in a soft drone and by 4 in a strong one.
    fall_db = canvas.slide(-11.0, -4.0)
    for ratio, level_db in notes:
        for partial in (1, 2, 3):
            hz = root_hz * ratio * partial
            _add_partial(canvas, out, hz, level_db + fall_db * float(np.log2(partial * ratio)))
    return out


def _add_partial(canvas: Canvas, out: Samples, hz: float, level_db: float) -> None:
    """Add one partial: a tone in the middle, and a slightly detuned one that differs in sign between the sides.

    The sides beat slowly against each other, and in mono the second tone is gone instead of canceling the first.
    """
    breath = np.exp(0.45 * curve(canvas, 0.02, canvas.slide(0.08, 0.3), 2))
    detune = canvas.rng.uniform(-0.5, 0.5) * canvas.slide(0.5, 2.0)
    middle, side = (
        tone(canvas, hz + offset, canvas.rng.uniform(0.0, 2.0 * np.pi))
        * at_audio_rate(canvas, db(level_db + extra_db) * one_breath)
        for offset, extra_db, one_breath in zip((0.0, detune), (-6.0, -11.0), breath, strict=True)
    )
    out[0] += middle + side
    out[1] += middle - side


def _hum(canvas: Canvas) -> Samples:
    base_hz = (50.0, 60.0)[int(canvas.character.integers(0, 2))]
    out = modulate(canvas, shaped_noise(canvas, _FAN, correlation=0.3), np.exp(0.08 * curve(canvas, 0.05, 0.5, 2)))
    out *= np.float32(db(canvas.slide(-16.0, -9.0)))
    fall_db = canvas.slide(-9.0, -4.5)
    for harmonic in (1, 2, 3, 4, 5, 6, 8, 10, 12, 16):
        # The second harmonic leads: iron is pulled twice a cycle.
        level_db = fall_db * float(np.log2(harmonic)) + (-4.0 if harmonic == 1 else 0.0)
        level_db += canvas.character.uniform(-4.0, 2.0) - (4.0 if harmonic % 2 and harmonic > 1 else 0.0)
        partial = tone(canvas, base_hz * harmonic, canvas.rng.uniform(0.0, 2.0 * np.pi))
        partial *= at_audio_rate(canvas, db(level_db) * np.exp(0.1 * curve(canvas, 0.03, 0.4)[0]))
        left, right = pan(canvas.rng.uniform(-0.35, 0.35, 1))
        out[0] += partial * np.float32(left[0])
        out[1] += partial * np.float32(right[0])
    return out
