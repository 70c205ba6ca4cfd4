"""Thunder: rolls of many claps from one long crooked channel, heard one after the other.

After H. S. Ribner and D. Roy, "Acoustics of thunder: a quasilinear model for tortuous lightning" (J. Acoust. Soc. Am.,
1982), A. A. Few, "Acoustic radiations from lightning" (Handbook of Atmospherics, 1982), and Farnell, *Designing Sound*,
"Thunder": each stretch of the channel sends its own short wave; the nearest arrive first and sharpest, the farther ones
later, duller and overlapping. Stretches that face the listener arrive together: those are the claps within a rumble.
Each roll swells rather than strikes, so that nothing startles.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from ambientgen.audio.clip import Samples
from ambientgen.synth.events import spread_times
from ambientgen.synth.grains import grains
from ambientgen.synth.shaping import Canvas, curve, db, later, modulate, shaped_noise

_RUMBLE = ((20, -3), (40, 2), (63, 3), (125, -1.5), (250, -8), (500, -18), (1000, -32))
_BODY = ((60, -18), (125, -5), (250, 0), (500, -1), (1000, -9), (2000, -24), (4000, -50))
_CRACK = ((250, -18), (600, -4), (1200, 0), (2500, -6), (6000, -22), (12000, -40))
_TEAR = ((400, -20), (900, -3), (1800, 0), (4000, -6), (9000, -19), (16000, -33))
_AIR = ((500, -24), (2000, -8), (5000, -2), (9000, 0), (16000, 0))
_TEARS_HZ = 250.0


class Sky(NamedTuple):
    """What kind of thunder it is.

    Attributes:
        apart_s: seconds between rolls in faint and in the strongest thunder.
        length_s: shortest and longest roll.
        claps: mean number of claps in a roll.
        fading: share of its length in which a roll loses two thirds of its loudness.
        floor: level of the rumble that never ends, against a clap's.
    """

    apart_s: tuple[float, float]
    length_s: tuple[float, float]
    claps: float
    fading: float
    floor: float


_SKIES: Final = {
    "thunder": Sky(apart_s=(16.0, 7.5), length_s=(3.0, 6.0), claps=16.0, fading=0.36, floor=0.03),
    "rolling": Sky(apart_s=(9.5, 5.5), length_s=(9.0, 15.0), claps=34.0, fading=1.1, floor=0.18),
}


class Clap(NamedTuple):
    """One clap: when, how loud, how near (1 to 0), and how much of it cracks (0 to 1)."""

    time_s: float
    loudness: float
    nearness: float
    sharpness: float


def render(canvas: Canvas) -> Samples:
    """Single rolls, or one that hardly ends before the next; at least one in any clip.

    Stronger thunder cracks more and rolls more often. Density changes how many claps a roll has.
    """
    sky = _SKIES[canvas.params.kind]
    times = spread_times(canvas, max(1, round(canvas.duration_s / canvas.swing(*sky.apart_s))), 0.5)
    claps = [clap for time_s in times.tolist() for clap in _roll(canvas, sky, time_s)]

    far = sky.floor * np.exp(0.5 * curve(canvas, 0.03, 0.4)[0])
    rumble = shaped_noise(canvas, _RUMBLE, correlation=0.6, num_taps=16384)
    out = modulate(canvas, rumble, _sides(canvas, claps, 0.5, 1.0, far))
    body = shaped_noise(canvas, _BODY, correlation=0.5)
    out += np.float32(canvas.swing(0.42, 1.8)) * modulate(canvas, body, _sides(canvas, claps, 0.22, 0.9, 0.4 * far))
    sharp = [clap._replace(loudness=clap.loudness * clap.sharpness) for clap in claps]
    near = _sides(canvas, sharp, 0.09, 0.5, np.zeros_like(far))
    crack = shaped_noise(canvas, _CRACK, correlation=0.3)
    out += np.float32(canvas.swing(0.2, 3.2)) * modulate(canvas, crack, near)
    # The tortuous channel's smallest stretches: single tearing snaps, only while a near clap lasts.
    snaps = near.mean(axis=0) ** 2
    rate_hz = 4.0 * _TEARS_HZ * float(np.mean(snaps))
    tears = grains(canvas, _TEAR, rate_hz, plain_hz=_TEARS_HZ, spread_db=5.0, density=snaps, spread=0.5)
    out += np.float32(canvas.swing(0.12, 1.9)) * tears
    # Rain far off, below everything.
    out += np.float32(db(-49.0)) * shaped_noise(canvas, _AIR, correlation=0.1)
    return out


def _roll(canvas: Canvas, sky: Sky, time_s: float) -> list[Clap]:
    """The claps of one roll: most of them in a few clusters, the first ones nearest."""
    strength = canvas.rng.uniform(0.6, 1.0)
    length_s = canvas.rng.uniform(*sky.length_s)
    count = max(3, round(sky.claps * canvas.crowd(0.5, 2.0) * canvas.rng.uniform(0.7, 1.3)))
    clusters = np.concatenate(([0.0], np.sort(canvas.rng.beta(0.9, 1.4, max(2, count // 4))))) * length_s
    delays = canvas.rng.choice(clusters, count) + canvas.rng.exponential(0.25, count)
    near = np.exp(-delays / (sky.fading * length_s))
    # The nearest stretch tears before it crashes: a roll swells for a second.
    swell = 1.0 - 0.93 * np.exp(-delays / 0.9)
    loud = strength * near * swell * canvas.rng.uniform(0.2, 1.0, count)
    # Few stretches stand square to the listener.
    sharp = canvas.rng.random(count) ** 8.0
    return [
        Clap(*clap)
        for clap in zip((time_s + delays).tolist(), loud.tolist(), near.tolist(), sharp.tolist(), strict=True)
    ]


def _sides(
    canvas: Canvas, claps: list[Clap], decay_s: float, dulling: float, floor: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Left and right envelopes of one band: farther claps rise and fall more slowly there, and the sky crackles.

    Claps are waves of their own, so their powers add up.
    """
    envelope = np.zeros(canvas.num_control)
    step_s = canvas.duration_s / canvas.num_control
    # A clap is done long before the circle is: only as much of it is computed as can be heard.
    ahead = np.arange(min(canvas.num_control, round(8.0 * decay_s * (1.0 + dulling) / step_s)))
    for time_s, loudness, nearness, _ in claps:
        first = int(np.ceil(time_s / step_s))
        since = (first + ahead) * step_s - time_s
        fall = decay_s * (1.0 + dulling * (1.0 - nearness))
        rise = 0.08 + 0.25 * decay_s * (1.0 - nearness)
        power = (loudness * -np.expm1(-since / rise) * np.exp(-since / fall)) ** 2
        envelope[(first + ahead) % canvas.num_control] += power
    envelope = np.sqrt(envelope)
    flutter = np.exp(0.5 * curve(canvas, 1.5, 18.0, 2))
    both = np.stack([envelope, later(envelope, canvas, 0.02)])
    return np.asarray(both * flutter + floor)
