"""Events around the circle: when they happen, where in stereo, and the small sounds they are made of.

Source: Andy Farnell, *Designing Sound* (MIT Press, 2010).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ambientgen.audio.clip import Samples
from ambientgen.synth.shaping import Canvas, Ints, Points, response

_EVENTS_A_TICK = 4096


def event_count(canvas: Canvas, rate_hz: float, at_least: int = 0) -> int:
    """How many events of that mean rate the circle holds (a Poisson draw)."""
    return max(at_least, int(canvas.rng.poisson(rate_hz * canvas.duration_s)))


def random_starts(canvas: Canvas, count: int, density: npt.NDArray[np.float64] | None = None) -> Ints:
    """Sorted random positions, evenly spread or following a control curve of densities (not negative)."""
    if density is None:
        return np.sort(canvas.rng.integers(0, canvas.num_samples, count)).astype(np.intp)
    total = np.concatenate(([0.0], np.cumsum(np.maximum(density, 1e-6))))
    where = np.interp(canvas.rng.random(count) * total[-1], total, np.arange(total.size))
    starts = (where * (canvas.num_samples / density.size)).astype(np.intp)
    return np.sort(starts) % canvas.num_samples


def spread_times(canvas: Canvas, count: int, jitter: float) -> npt.NDArray[np.float64]:
    """`count` times in seconds around the circle, even but for `jitter` (0 to 1) of their spacing."""
    spacing = canvas.duration_s / count
    offset = canvas.rng.random() * canvas.duration_s
    times = offset + spacing * (np.arange(count) + jitter * (canvas.rng.random(count) - 0.5))
    return np.asarray(np.mod(times, canvas.duration_s))


def impulses(canvas: Canvas, starts: Ints, gains: npt.NDArray[np.floating], spread: float = 0.7) -> Samples:
    """A stereo train of single samples at `starts` with those gains, each panned at random by up to `spread`."""
    train = np.zeros((2, canvas.num_samples), dtype=np.float32)
    left, right = pan(spread * (2.0 * canvas.rng.random(starts.size) - 1.0))
    np.add.at(train[0], starts, (gains * left).astype(np.float32))
    np.add.at(train[1], starts, (gains * right).astype(np.float32))
    canvas.tick()
    return train


def pan(position: npt.NDArray[np.floating]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Equal-power gains (left, right) of positions from -1 (left) to 1 (right)."""
    angle = (position + 1.0) * (np.pi / 4.0)
    return np.sqrt(2.0) * np.cos(angle), np.sqrt(2.0) * np.sin(angle)


def stereo(canvas: Canvas, templates: Samples, spread: float = 0.7) -> Samples:
    """Give each of (count, length) templates a place of its own: shape (count, 2, length)."""
    left, right = pan(spread * (2.0 * canvas.rng.random(len(templates)) - 1.0))
    return templates[:, None, :] * np.stack([left, right], axis=1)[:, :, None].astype(np.float32)


def scatter(canvas: Canvas, templates: Samples, starts: Ints, gains: npt.NDArray[np.floating]) -> Samples:
    """Add random templates at `starts` around the circle.

    One slice addition an event: for events longer than some hundred samples this is faster than any gather, and a
    few hundred templates are too many for an ear to tell apart.

    Args:
        canvas: where to.
        templates: shape (count, 2, length).
        starts: positions in samples.
        gains: one for each position.

    Returns:
        Shape (2, num_samples).
    """
    length = templates.shape[-1]
    buffer = np.zeros((2, canvas.num_samples + length), dtype=np.float32)
    which = canvas.rng.integers(0, len(templates), starts.size).tolist()
    for count, (start, template, gain) in enumerate(zip(starts.tolist(), which, gains.tolist(), strict=True), 1):
        buffer[:, start : start + length] += templates[template] * np.float32(gain)
        if count % _EVENTS_A_TICK == 0:
            canvas.tick()
    canvas.tick()
    return fold(buffer, canvas.num_samples)


def fold(buffer: Samples, num_samples: int) -> Samples:
    """Wrap what runs over the end back to the beginning, as often as it takes; the result may share memory."""
    for start in range(num_samples, buffer.shape[-1], num_samples):
        tail = buffer[..., start : start + num_samples]
        buffer[..., : tail.shape[-1]] += tail
    return buffer[..., :num_samples]


def heavy_tail(canvas: Canvas, count: int, spread_db: float, limit_db: float = 14.0) -> npt.NDArray[np.float64]:
    """Gains whose levels are normal around 0 dB with that deviation, cut at `limit_db` so that none startles."""
    levels = np.minimum(canvas.rng.standard_normal(count) * spread_db, limit_db)
    return np.asarray(10.0 ** (levels / 20.0))


def bubbles(canvas: Canvas, frequencies_hz: npt.NDArray[np.float64], length_s: float, rise: float) -> Samples:
    """The sound of air bubbles in water, shape (count, length): a damped sine whose pitch may rise.

    Minnaert (1933): frequency = 3 / radius. Damping and rise after K. van den Doel, "Physically based models for
    liquid sounds" (ACM Trans. Applied Perception, 2005): d = 0.13 / r + 0.0072 * r**-1.5, f(t) = f0 (1 + rise d t).

    Args:
        canvas: for the rate and the phases.
        frequencies_hz: the bubbles' pitches, shape (count,).
        length_s: how long each template is.
        rise: how fast the pitch rises; 0 for bubbles far below the surface.
    """
    radius = 3.0 / frequencies_hz
    damping = (0.13 / radius + 0.0072 * radius**-1.5)[:, None]
    seconds = np.arange(int(length_s * canvas.sample_rate_hz)) / canvas.sample_rate_hz
    # The pitch stops rising when the bubble has died down; beyond, the sweep would alias.
    sweep = seconds + 0.5 * rise * damping * np.minimum(seconds, 4.0 / damping) ** 2
    phase = 2.0 * np.pi * frequencies_hz[:, None] * sweep
    attack = -np.expm1(-seconds * 4000.0)
    sound = np.sin(phase) * np.exp(-damping * seconds) * attack * _faded(seconds.size)
    return np.asarray(sound, dtype=np.float32)


def bursts(canvas: Canvas, count: int, points: Points, length_s: float, decay_s: npt.NDArray[np.float64]) -> Samples:
    """Decaying bursts of shaped noise, shape (count, length), each of unit peak, with its own decay time."""
    size = int(length_s * canvas.sample_rate_hz)
    noise = canvas.rng.standard_normal((count, size)).astype(np.float32)
    gain = response(points, np.fft.rfftfreq(size, 1.0 / canvas.sample_rate_hz)).astype(np.float32)
    seconds = np.arange(size) / canvas.sample_rate_hz
    envelope = np.exp(-seconds / decay_s[:, None]) * -np.expm1(-seconds * 6000.0) * _faded(size)
    out = (np.fft.irfft(np.fft.rfft(noise) * gain, size) * envelope).astype(np.float32)
    out /= np.max(np.abs(out), axis=-1, keepdims=True) + np.float32(1e-9)
    return out


def rings(
    canvas: Canvas, modes_hz: npt.NDArray[np.float64], decay_s: npt.NDArray[np.float64], length_s: float
) -> Samples:
    """Struck bodies: damped modes, shape (count, length), from modes and decay times of shape (count, num_modes)."""
    size = int(length_s * canvas.sample_rate_hz)
    seconds = np.arange(size, dtype=np.float32) / np.float32(canvas.sample_rate_hz)
    turns = (2.0 * np.pi * modes_hz).astype(np.float32)[:, :, None]
    falls = (-1.0 / decay_s).astype(np.float32)[:, :, None]
    out = np.zeros((len(modes_hz), size), dtype=np.float32)
    for mode in range(modes_hz.shape[1]):
        out += np.sin(turns[:, mode] * seconds) * np.exp(falls[:, mode] * seconds) / np.float32(1.0 + mode)
    out *= (-np.expm1(-seconds * 3000.0) * _faded(size)).astype(np.float32)
    return out


def _faded(size: int) -> npt.NDArray[np.float64]:
    """One, with a cosine fade over the last eighth, so that a cut-off tail does not click."""
    fade = np.ones(size)
    tail = max(1, size // 8)
    fade[-tail:] = 0.5 + 0.5 * np.cos(np.pi * np.arange(1, tail + 1) / tail)
    return fade
