"""Crickets and cicadas in a summer night or noon.

A cricket's chirp is a few pulses of one nearly pure tone (stridulation: about 30 wing strokes a second; Farnell,
*Designing Sound*, "Insects"); its rate follows the air's warmth (A. E. Dolbear, "The cricket as a thermometer", 1897).
A cicada's buzz is clicks of a drum, some 200 a second, ringing in its hollow body, in swells of several seconds.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ambientgen.audio.clip import Samples
from ambientgen.synth.events import pan, scatter, spread_times
from ambientgen.synth.shaping import (
    Canvas,
    Ints,
    at_audio_rate,
    control_events,
    curve,
    db,
    modulate,
    shaped_mono,
    shaped_noise,
    tone,
)

_NIGHT = ((30, -4), (63, 0), (125, 0), (250, -9), (600, -14), (1200, -19), (2500, -25), (5000, -29), (12000, -36))
_DAY = ((30, -10), (80, -2), (200, 0), (500, -4), (1500, -9), (4000, -12), (12000, -20))


def render(canvas: Canvas) -> Samples:
    """A meadow of crickets, or cicadas in the trees. More intensity: more of them, and faster."""
    return _cicadas(canvas) if canvas.params.kind == "cicadas" else _crickets(canvas)


def _crickets(canvas: Canvas) -> Samples:
    out = shaped_noise(canvas, _NIGHT, correlation=0.5)
    out *= np.float32(db(-23.0))
    out += _chorus(canvas)
    num_near = round(canvas.swing(1.6, 7.5))
    nearness = canvas.character.uniform(0.1, 0.45, num_near)
    nearness[0] = 1.0
    for one, side in zip(nearness, canvas.character.permutation(np.linspace(-0.75, 0.75, num_near)), strict=True):
        out += _cricket(canvas, float(one), float(side))
    return out


def _cricket(canvas: Canvas, nearness: float, side: float) -> Samples:
    """One cricket: its own pitch, chirp rate and rhythm, with rests."""
    pitch = canvas.character.uniform(4000.0, 5000.0)
    num_pulses = int(canvas.character.integers(3, 6))
    left, right = pan(np.array([side]))
    chirps = _chirps(canvas, pitch, num_pulses)[:, None, :] * np.array([left, right], dtype=np.float32)
    starts = _rhythm(canvas)
    gains = 0.5 * nearness * 10.0 ** (canvas.rng.normal(0.0, 1.2, starts.size) / 20.0)
    return scatter(canvas, chirps, starts, gains)


def _chirps(canvas: Canvas, pitch_hz: float, num_pulses: int) -> Samples:
    """Six versions of one cricket's chirp, shape (6, length): rounded pulses, the first soft, gliding down."""
    rate = canvas.sample_rate_hz
    pulse_hz = canvas.character.uniform(26.0, 34.0)
    seconds = np.arange(int(rate * (num_pulses + 0.5) / pulse_hz)) / rate
    turn = seconds * pulse_hz
    inside = np.mod(turn, 1.0) / 0.72
    pulse = np.where((inside < 1.0) & (turn < num_pulses), np.sin(np.pi * np.clip(inside, 0.0, 1.0) ** 0.8) ** 1.5, 0.0)
    pulse *= np.minimum(1.0, 0.45 + 0.3 * np.floor(turn))
    versions = []
    for _ in range(6):
        hz = pitch_hz * canvas.rng.normal(1.0, 0.004)
        phase = 2.0 * np.pi * hz * (seconds - 0.012 * (np.mod(turn, 1.0) ** 2) / pulse_hz)
        versions.append(pulse * (np.sin(phase) + 0.06 * np.sin(2.0 * phase)))
    return np.stack(versions).astype(np.float32)


def _rhythm(canvas: Canvas) -> Ints:
    """Chirps at a steady rate with a little jitter, in bouts with rests between."""
    rate_hz = canvas.swing(1.3, 2.9) * canvas.rng.uniform(0.85, 1.15)
    times = spread_times(canvas, max(1, round(canvas.duration_s * rate_hz)), 0.25)
    mood = curve(canvas, 0.02, 0.1)[0]
    singing = mood[(times / canvas.duration_s * mood.size).astype(int) % mood.size] > -1.1
    kept = times[singing] if singing.any() else times
    return np.sort((kept * canvas.sample_rate_hz).astype(np.intp) % canvas.num_samples)


def _chorus(canvas: Canvas) -> Samples:
    """The far meadow: narrow noise around the song's pitch, shimmering with all the chirps that merge in it."""
    points = ((2500, -50), (3900, -12), (4400, 0), (4800, -2), (5300, -14), (8000, -50))
    shimmer = np.exp(0.3 * curve(canvas, 1.0, 8.0, 2) + 0.2 * curve(canvas, 0.03, 0.2))
    return modulate(canvas, shaped_noise(canvas, points, correlation=0.1), db(canvas.slide(-35.0, -20.0)) * shimmer)


def _cicadas(canvas: Canvas) -> Samples:
    out = shaped_noise(canvas, _DAY, correlation=0.4)
    out *= np.float32(db(-24.0))
    num_singers = round(canvas.swing(2.0, 6.0))
    for side in canvas.character.permutation(np.linspace(-0.8, 0.8, num_singers)):
        left, right = pan(np.array([side]))
        mono = _cicada(canvas) * np.float32(canvas.rng.uniform(0.4, 1.0))
        out[0] += mono * np.float32(left[0])
        out[1] += mono * np.float32(right[0])
    return out


def _cicada(canvas: Canvas) -> Samples:
    """One cicada: noise around its body's resonance, clicked by its drum, in swells that build and sink."""
    body = canvas.character.uniform(4200.0, 6800.0)
    points = ((body * 0.45, -40), (body * 0.8, -8), (body, 0), (body * 1.25, -7), (body * 2.2, -34))
    buzz: Samples = shaped_mono(canvas, points)[0]
    drum_hz = canvas.character.uniform(110.0, 190.0)
    # A rounded pulse train: the square of a lifted sine keeps the drum audible without harshness.
    clicks = tone(canvas, drum_hz)
    clicks += np.float32(1.0)
    clicks *= clicks
    buzz *= clicks
    buzz *= at_audio_rate(canvas, _swells(canvas))
    return buzz


def _swells(canvas: Canvas) -> npt.NDArray[np.float64]:
    """Songs of 5 to 12 s that pulse slowly while they last, over a faint remainder."""
    count = max(1, round(canvas.duration_s / canvas.swing(16.0, 9.0)))
    times = spread_times(canvas, count, 0.6)
    lengths = canvas.rng.uniform(5.0, 12.0, count)

    def shape(since: npt.NDArray[np.float64], index: int) -> npt.NDArray[np.float64]:
        place = np.clip(since / lengths[index], 0.0, 1.0)
        return np.asarray(np.sin(np.pi * place**0.8) ** 2 * (0.8 + 0.2 * np.sin(2.0 * np.pi * 1.7 * since)))

    return np.asarray(0.12 + 0.6 * control_events(canvas, shape, times.tolist()))
