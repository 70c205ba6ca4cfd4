"""Songbirds in a wood, and gulls over a harbor.

A songbird's syllable is a nearly pure tone whose pitch sweeps (Farnell, *Designing Sound*, "Birds"; the syrinx has
little overtones); what makes a song is its phrase: a motif, repeated with small changes, then a pause. Each bird here
draws its own motif, keeps to its own pitch and perch, and varies it every time. A gull's cry is rich in harmonics and
rises, then falls, in a series that slows down.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ambientgen.audio.clip import Samples
from ambientgen.synth.events import fold, pan, spread_times
from ambientgen.synth.shaping import Canvas, curve, db, modulate, shaped_noise

_WOOD = ((30, -12), (63, 0), (125, 0), (250, -5), (500, -7), (1000, -8), (3000, -12), (8000, -18), (16000, -28))
_HARBOR = ((30, -8), (80, -2), (200, 0), (500, -4), (1500, -9), (4000, -15), (12000, -26))

Curve = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Syllable:
    """A sweep: pitches in Hz at its start, middle and end, its length, and how it wavers."""

    start_hz: float
    middle_hz: float
    end_hz: float
    length_s: float
    waver_hz: float
    waver_depth: float
    gap_s: float
    level: float


def render(canvas: Canvas) -> Samples:
    """Songbirds, or gulls. More intensity: more birds that sing more often and with longer phrases."""
    gulls = canvas.params.kind == "gulls"
    out = shaped_noise(canvas, _HARBOR if gulls else _WOOD, correlation=0.4)
    out = modulate(canvas, out, np.exp(0.2 * curve(canvas, 0.04, 0.3, 2)))
    out *= np.float32(db(-25.0 if gulls else -30.0))
    num_birds = round(canvas.swing(2.0, 6.0) if gulls else canvas.swing(2.5, 9.0))
    nearness = np.sort(canvas.character.uniform(0.25, 0.85, num_birds) ** 2)[::-1]
    nearness[0] = 1.0
    sides = canvas.character.permutation(np.linspace(-0.85, 0.85, num_birds))
    buffer = np.zeros((2, canvas.num_samples + 6 * canvas.sample_rate_hz), dtype=np.float32)
    for near, side in zip(nearness, sides, strict=True):
        _bird(canvas, buffer, float(near), float(side), gulls=gulls)
    out += fold(buffer, canvas.num_samples)
    return out


def _bird(canvas: Canvas, buffer: Samples, near: float, side: float, *, gulls: bool) -> None:
    """One bird's phrases all around the circle, with pauses of its own."""
    motif = _cry(canvas) if gulls else _motif(canvas)
    pause_s = canvas.swing(9.0, 4.0) * canvas.rng.uniform(0.8, 1.5) * (1.5 if gulls else 1.0)
    gains = np.concatenate(pan(np.array([side]))) * near
    for time_s in spread_times(canvas, max(1, round(canvas.duration_s / pause_s)), 0.8):
        phrase = _gull_phrase(canvas, motif) if gulls else _phrase(canvas, motif)
        start = int(time_s * canvas.sample_rate_hz) % canvas.num_samples
        phrase = phrase[: buffer.shape[1] - start]
        level = canvas.rng.uniform(0.4, 1.0)
        buffer[:, start : start + phrase.size] += phrase * (gains[:, None] * level).astype(np.float32)
        canvas.tick()


def _motif(canvas: Canvas) -> list[_Syllable]:
    """What one songbird sings: two to five kinds of syllables around its own pitch."""
    rng = canvas.character
    center = 10.0 ** rng.uniform(np.log10(2100.0), np.log10(4300.0))
    reach = rng.uniform(0.06, 0.3)
    trilling = rng.random() < 0.35
    motif = []
    for _ in range(int(rng.integers(2, 6))):
        start, middle, end = (center * np.exp(rng.uniform(-reach, reach, 3))).tolist()
        length = rng.uniform(0.04, 0.09) if trilling else rng.uniform(0.07, 0.28)
        wavers = rng.random() < 0.3
        motif.append(
            _Syllable(
                start_hz=start,
                middle_hz=middle,
                end_hz=end,
                length_s=length,
                waver_hz=rng.uniform(18.0, 40.0) if wavers else 0.0,
                waver_depth=rng.uniform(0.02, 0.06) if wavers else 0.0,
                gap_s=length * rng.uniform(0.3, 0.6) if trilling else rng.uniform(0.03, 0.16),
                level=rng.uniform(0.5, 1.0),
            )
        )
    return motif


def _phrase(canvas: Canvas, motif: list[_Syllable]) -> Samples:
    """The motif once: some syllables repeated, the whole a little higher or lower, faster or slower than last time."""
    rng = canvas.rng
    higher, slower = rng.normal(1.0, 0.025), rng.uniform(0.9, 1.12)
    longest = canvas.slide(1.3, 2.6)
    repeats = np.array([int(rng.integers(4, 11)) if one.length_s < 0.09 else int(rng.integers(1, 4)) for one in motif])
    parts: list[Samples] = []
    total_s = 0.0
    for syllable, times in zip(motif, repeats, strict=True):
        for _ in range(times):
            total_s += (syllable.length_s + syllable.gap_s) * slower
            if total_s > longest and parts:
                return np.concatenate(parts)
            parts.append(_sing(canvas, syllable, higher * rng.normal(1.0, 0.008), slower, (1.0, 0.07, 0.02)))
    return np.concatenate(parts)


def _cry(canvas: Canvas) -> list[_Syllable]:
    """A gull's own cry."""
    low = canvas.character.uniform(620.0, 820.0)
    top = low * canvas.character.uniform(1.45, 1.75)
    length = canvas.character.uniform(0.32, 0.55)
    return [_Syllable(low, top, low * 1.1, length, 28.0, 0.01, canvas.character.uniform(0.12, 0.25), 0.9)]


def _gull_phrase(canvas: Canvas, motif: list[_Syllable]) -> Samples:
    """A long cry, then a series that slows down and sinks."""
    rng = canvas.rng
    count = int(rng.integers(1, round(canvas.slide(3.0, 6.0)) + 2))
    slower = rng.uniform(0.85, 1.2)
    parts = []
    for index in range(count):
        pitch = rng.normal(1.0, 0.02) * (1.0 - 0.02 * index)
        length = slower * (1.25 if index == 0 else 0.8 + 0.05 * index)
        parts.append(_sing(canvas, motif[0], pitch, length, (0.55, 1.0, 0.75, 0.5, 0.3, 0.16, 0.08)))
    return np.concatenate(parts)


def _sing(canvas: Canvas, syllable: _Syllable, higher: float, slower: float, partials: tuple[float, ...]) -> Samples:
    """One syllable and the gap after it, shape (length,)."""
    rate = canvas.sample_rate_hz
    size = max(64, int(syllable.length_s * slower * rate))
    place = np.linspace(0.0, 1.0, size)
    # A parabola through the three pitches.
    a, b, c = syllable.start_hz, syllable.middle_hz, syllable.end_hz
    hz = higher * (a + place * (4.0 * b - 3.0 * a - c) + place**2 * (2.0 * a + 2.0 * c - 4.0 * b))
    hz *= 1.0 + syllable.waver_depth * np.sin(2.0 * np.pi * syllable.waver_hz * place * syllable.length_s * slower)
    phase = 2.0 * np.pi * np.cumsum(hz) / rate
    envelope = np.sin(np.pi * place**0.7) ** 1.2 * syllable.level
    out = np.zeros(size + int(syllable.gap_s * slower * rate), dtype=np.float32)
    for number, level in enumerate(partials, 1):
        out[:size] += (level * envelope * np.sin(number * phase)).astype(np.float32)
    return out
