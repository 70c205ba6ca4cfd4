"""Frogs at a pond: tree frogs, trilling toads, peepers, and a deep one or two among the reeds.

A frog's call is a train of pulses at a rate of its kind, each a short ring of the vocal sac at one or two frequencies,
and males in earshot of each other fall in step and take turns (H. C. Gerhardt and F. Huber, *Acoustic Communication in
Insects and Anurans*, 2002). The two bands of a gray tree frog lie near 1.1 and 2.2 kHz, the lower one softer; green
frogs twang like a string.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from ambientgen.audio.clip import Samples
from ambientgen.synth.events import bubbles, event_count, fold, heavy_tail, pan, random_starts, scatter, stereo
from ambientgen.synth.shaping import Canvas, curve, db, modulate, shaped_noise

_POND: Final = ((30, -10), (70, -2), (150, 0), (350, -3), (800, -10), (2000, -18), (5000, -27), (12000, -38))
_NUM_VERSIONS: Final = 5


class _Kind(NamedTuple):
    """One kind of frog.

    Attributes:
        pitch_hz: lowest and highest main frequency.
        lower: a second band: its frequency and level as shares of the main one.
        pulses: fewest and most in a call.
        pulses_hz: slowest and fastest.
        ring: how much of the time to the next pulse a pulse takes.
        glide: how far a pulse's pitch rises, as a share.
        pause_s: shortest and longest time from call to call in a bout.
        level_db: of one call.
    """

    pitch_hz: tuple[float, float]
    lower: tuple[float, float]
    pulses: tuple[int, int]
    pulses_hz: tuple[float, float]
    ring: float
    glide: float
    pause_s: tuple[float, float]
    level_db: float


_FROGS: Final = (
    # Tree frogs, the most common: a dry, quick rattle.
    _Kind((1900.0, 2500.0), (0.5, 0.45), (6, 12), (28.0, 46.0), 0.55, 0.02, (0.7, 1.3), 0.0),
    # Pond frogs: slower croaks, lower.
    _Kind((1150.0, 1600.0), (0.62, 0.7), (4, 9), (15.0, 24.0), 0.75, 0.05, (1.3, 2.6), -1.0),
    # Peepers: one clear whistle that rises.
    _Kind((2600.0, 3050.0), (0.5, 0.03), (1, 1), (5.5, 7.5), 0.9, 0.09, (0.9, 1.5), -7.0),
    # Toads: trills of many seconds.
    _Kind((1350.0, 1750.0), (0.5, 0.06), (90, 200), (26.0, 36.0), 0.8, 0.01, (9.0, 16.0), -8.0),
    # Green frogs: a single twang, low.
    _Kind((380.0, 520.0), (1.96, 0.5), (1, 2), (2.6, 3.6), 0.5, -0.04, (4.0, 8.0), 0.0),
)
#: Which kinds sing, in turn: the first frog and most others are tree frogs and pond frogs.
_WHO: Final = (0, 1, 0, 2, 1, 3, 0, 4)


def render(canvas: Canvas) -> Samples:
    """A pond by night. More intensity: more frogs, closer on each other's heels. Density alone: more frogs."""
    out = shaped_noise(canvas, _POND, correlation=0.4)
    modulate(canvas, out, np.exp(0.2 * curve(canvas, 0.03, 0.3, 2)))
    out *= np.float32(db(-29.0))
    out += _water(canvas)
    num_frogs = max(2, round(canvas.swing(4.0, 12.0) * canvas.crowd(0.35, 1.0 / 0.35)))
    nearness = np.sort(canvas.character.uniform(0.12, 0.55, num_frogs))[::-1]
    nearness[0] = 0.8
    sides = canvas.character.permutation(np.linspace(-0.9, 0.9, num_frogs))
    # They start and fall silent together, as a pond does, but some always go on.
    mood = curve(canvas, 0.02, 0.12)[0]
    buffer = np.zeros((2, canvas.num_samples + 9 * canvas.sample_rate_hz), dtype=np.float32)
    for number in range(num_frogs):
        kind = _FROGS[_WHO[number % len(_WHO)]]
        own = mood + 0.8 * curve(canvas, 0.02, 0.1)[0]
        _frog(canvas, buffer, kind, own, float(nearness[number]), float(sides[number]))
    out += fold(buffer, canvas.num_samples)
    return out


def _frog(
    canvas: Canvas, buffer: Samples, kind: _Kind, mood: npt.NDArray[np.float64], near: float, side: float
) -> None:
    """One frog's calls all around the circle, in bouts."""
    calls = _calls(canvas, kind)
    gains = np.concatenate(pan(np.array([side]))) * near * 0.5 * db(kind.level_db)
    pause_s = canvas.character.uniform(*kind.pause_s) * canvas.swing(1.5, 0.75)
    count = max(1, round(canvas.duration_s / pause_s))
    begun = canvas.rng.random() * canvas.duration_s
    times = begun + canvas.duration_s / count * (np.arange(count) + 0.08 * canvas.rng.standard_normal(count))
    for start in ((times * canvas.sample_rate_hz).astype(np.intp) % canvas.num_samples).tolist():
        readiness = mood[start * mood.size // canvas.num_samples]
        if readiness < -0.7:
            continue
        call = calls[int(canvas.rng.integers(0, len(calls)))][: buffer.shape[1] - start]
        level = canvas.rng.uniform(0.7, 1.0) * min(1.0, 0.75 + 0.25 * readiness)
        buffer[:, start : start + call.size] += call * (gains[:, None] * level).astype(np.float32)
    canvas.tick()


def _calls(canvas: Canvas, kind: _Kind) -> list[Samples]:
    """A few versions of one frog's call: a train of pulses that swells, at this frog's own pitch and rate."""
    rng, rate = canvas.character, canvas.sample_rate_hz
    low, high = kind.pitch_hz
    pitch = low * (high / low) ** rng.random()
    pulses_hz = rng.uniform(*kind.pulses_hz)
    num_pulses = int(rng.integers(kind.pulses[0], kind.pulses[1] + 1))
    size = int(rate / pulses_hz)
    place = np.arange(size) / size
    inside = np.clip(place / kind.ring, 0.0, 1.0)
    # A quick rise and a slower fall; a trill's or whistle's pulse is rounder.
    shape = np.sin(np.pi * inside**0.6) ** 1.2
    calls = []
    for _ in range(_NUM_VERSIONS):
        higher = canvas.rng.normal(1.0, 0.01)
        phase = 2.0 * np.pi * pitch * higher * size / rate * (place + 0.5 * kind.glide * place**2)
        pulse = shape * (np.sin(phase) + kind.lower[1] * np.sin(kind.lower[0] * phase) + 0.06 * np.sin(2.0 * phase))
        count = max(1, round(num_pulses * canvas.rng.uniform(0.85, 1.15)))
        turn = (np.arange(count) + 0.5) / count
        swell = np.sin(np.pi * turn**0.6) ** 0.5 if count > 2 else np.ones(count)
        swell = swell * canvas.rng.uniform(0.85, 1.0, count)
        calls.append((swell[:, None] * pulse).reshape(-1).astype(np.float32))
    return calls


def _water(canvas: Canvas) -> Samples:
    """The pond itself: now and then a bubble, or something small that drops in."""
    pitches = 500.0 * 5.0 ** canvas.rng.random(24)
    templates = stereo(canvas, bubbles(canvas, pitches, 0.08, 0.1), 0.9)
    starts = random_starts(canvas, event_count(canvas, 0.8))
    return scatter(canvas, templates, starts, heavy_tail(canvas, starts.size, 4.0, 6.0) * db(-27.0))
