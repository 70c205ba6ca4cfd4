"""A fire in a hearth: hissing, lapping and crackling.

Farnell, *Designing Sound*, "Fire": three sounds at once. Escaping gas hisses high, the draft and the flames' tongues
lap low and slowly, and wood fibers snap: short bursts in clusters, a few of them loud.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ambientgen.audio.clip import Samples
from ambientgen.synth.events import bursts, event_count, heavy_tail, impulses, random_starts, rings, scatter, stereo
from ambientgen.synth.shaping import Canvas, Ints, convolve, curve, db, fir, modulate, shaped_noise

_LAPPING = ((20, -4), (45, 0), (90, 1), (140, 0), (230, -12), (500, -20), (1200, -28), (4000, -38))
_HISS = ((300, -30), (1000, -19), (2500, -9), (5000, -3), (9000, 0), (14000, -1))
_SNAP = ((500, -18), (2000, -4), (6000, 0), (13000, -2))
_NUM_TEMPLATES = 160


def render(canvas: Canvas) -> Samples:
    """A hearth. A bigger fire roars lower and louder and crackles more often; embers hiss and tick."""
    lapping = shaped_noise(canvas, _LAPPING, correlation=0.6, num_taps=16384)
    flames = np.exp(0.27 * curve(canvas, 1.2, 7.0, 2) + 0.16 * curve(canvas, 0.05, 0.4))
    out = modulate(canvas, lapping, flames)
    out *= np.float32(db(canvas.slide(-7.0, 5.0)))
    hiss = shaped_noise(canvas, _HISS, correlation=0.3)
    out += np.float32(db(-3.0)) * modulate(canvas, hiss, np.exp(0.16 * curve(canvas, 0.1, 2.0, 2)))
    activity = np.exp(0.5 * curve(canvas, 0.05, 0.6)[0])
    out += _ticks(canvas)
    out += _crackles(canvas, activity)
    return out


def _ticks(canvas: Canvas) -> Samples:
    """Fine crackle: sparse impulses with a heavy tail, colored by one short kernel."""
    starts = random_starts(canvas, event_count(canvas, canvas.swing(40.0, 260.0)))
    train = impulses(canvas, starts, heavy_tail(canvas, starts.size, 7.0), 0.6)
    kernel = fir(_SNAP, canvas.sample_rate_hz, 192)
    kernel *= db(-10.0) / np.sqrt(np.sum(kernel**2) * 100.0 * 3.7 / canvas.sample_rate_hz)
    return convolve(canvas, train, kernel.astype(np.float32), centered=True)


def _crackles(canvas: Canvas, activity: npt.NDArray[np.float64]) -> Samples:
    """Single snaps, often several within a tenth of a second, and a few woody pops."""
    decay = 10.0 ** canvas.rng.uniform(np.log10(0.0008), np.log10(0.006), _NUM_TEMPLATES)
    snaps = bursts(canvas, _NUM_TEMPLATES, _SNAP, 0.03, decay)
    base = canvas.rng.uniform(350.0, 1500.0, (_NUM_TEMPLATES, 1))
    modes = base * (1.0 + canvas.rng.uniform(0.5, 1.1, (_NUM_TEMPLATES, 3)) * np.arange(3))
    wood = rings(canvas, modes, canvas.rng.uniform(0.002, 0.007, (_NUM_TEMPLATES, 3)), 0.03)
    snaps += wood * canvas.rng.uniform(0.0, 0.7, (_NUM_TEMPLATES, 1)).astype(np.float32)
    starts, gains = _clusters(canvas, activity)
    placed = stereo(canvas, snaps, 0.6)
    gains *= db(-7.0) / np.sqrt(np.mean(np.sum(placed**2, axis=-1)) * 14.0 * 3.0 / canvas.sample_rate_hz)
    return scatter(canvas, placed, starts, gains)


def _clusters(canvas: Canvas, activity: npt.NDArray[np.float64]) -> tuple[Ints, npt.NDArray[np.float64]]:
    """When the snaps come, and how loud: a first one draws up to six more, each softer and a little later."""
    first = random_starts(canvas, event_count(canvas, canvas.swing(1.5, 9.0), at_least=1), activity)
    loud = heavy_tail(canvas, first.size, 5.0, 9.0)
    followers = np.minimum(canvas.rng.geometric(0.42, first.size) - 1, 6)
    owner = np.repeat(np.arange(first.size), followers)
    delays = canvas.rng.exponential(0.05 * canvas.sample_rate_hz, owner.size).astype(np.intp)
    starts = np.concatenate([first, (first[owner] + delays) % canvas.num_samples])
    gains = np.concatenate([loud, loud[owner] * canvas.rng.uniform(0.15, 0.8, owner.size)])
    order = np.argsort(starts, kind="stable")
    return starts[order], gains[order]
