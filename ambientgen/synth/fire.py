"""Fire: a hearth, a camp fire, embers. Lapping flames, hissing gas, and wood that crackles.

Farnell, *Designing Sound*, "Fire": three sounds at once. The flames' tongues lap low and slowly, gas escapes with a
hiss, and fibers snap: short bursts in clusters, a few of them loud. A fire puffs as often a second as 1.5 over the root
of its width in meters (B. M. Cetegen and T. A. Ahmed, "Experiments on the periodic instability of buoyant plumes and
pool fires", Combustion and Flame, 1993), so a bigger one laps more slowly. What cracks does so at all sizes and draws
further cracks after it (J. P. Sethna, K. A. Dahmen and C. R. Myers, "Crackling noise", Nature, 2001).
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from ambientgen.audio.clip import Samples
from ambientgen.synth.events import (
    bursts,
    event_count,
    heavy_tail,
    impulses,
    random_starts,
    rings,
    scatter,
    stereo,
)
from ambientgen.synth.shaping import Canvas, Ints, Points, convolve, curve, db, fir, modulate, shaped_noise

_SNAP: Final = ((400, -22), (1200, -12), (2500, -5), (5000, 0), (9000, 0), (13000, -2), (18000, -16))
_STEAM: Final = ((1500, -30), (4000, -4), (7000, 0), (10000, -3), (16000, -9))
_NUM_TEMPLATES: Final = 160


class _Fire(NamedTuple):
    """One kind of fire.

    Attributes:
        lapping: spectrum of its flames.
        hiss: spectrum of its gas.
        lapping_db: level of its flames, plain.
        lapping_range_db: how much they gain from intensity 0 to 1.
        hiss_db: level of its gas.
        flicker: how strongly the flames lap, in nepers.
        width_m: how wide it burns, plain.
        ticks_hz: fine ticks a second at intensity 0 and 1.
        snaps_hz: clusters of snaps a second at intensity 0 and 1.
        steam_hz: spurts of steam a second.
        wood_hz: pitches of what rings when it cracks.
        wood_s: shortest and longest ring.
        wood: share of that ring in a snap.
        spread: how wide it lies.
    """

    lapping: Points
    hiss: Points
    lapping_db: float
    lapping_range_db: float
    hiss_db: float
    flicker: float
    width_m: float
    ticks_hz: tuple[float, float]
    snaps_hz: tuple[float, float]
    steam_hz: float
    wood_hz: tuple[float, float]
    wood_s: tuple[float, float]
    wood: float
    spread: float


_FIRES: Final = {
    "hearth": _Fire(
        lapping=((20, -4), (45, 0), (90, 1), (140, -1), (230, -16), (500, -25), (1200, -33), (4000, -44)),
        hiss=((200, -24), (600, -22), (1200, -20), (2500, -9), (5000, -2), (8500, 2), (11000, 0), (15000, -4)),
        lapping_db=-1.0,
        lapping_range_db=12.0,
        hiss_db=-4.0,
        flicker=0.27,
        width_m=0.35,
        ticks_hz=(40.0, 260.0),
        snaps_hz=(0.6, 4.2),
        steam_hz=2.2,
        wood_hz=(350.0, 1500.0),
        wood_s=(0.002, 0.007),
        wood=0.3,
        spread=0.6,
    ),
    # In the open nothing holds the low end together: the flames flap in the air, and dry branches crack louder.
    "campfire": _Fire(
        lapping=((30, -9), (70, -2), (130, 0), (260, -3), (500, -9), (1000, -17), (2500, -27), (6000, -36)),
        hiss=((300, -24), (1000, -15), (2500, -6), (5000, -1), (8000, 0), (12000, -3), (16000, -8)),
        lapping_db=0.0,
        lapping_range_db=12.0,
        hiss_db=-6.0,
        flicker=0.42,
        width_m=0.7,
        ticks_hz=(50.0, 300.0),
        snaps_hz=(2.6, 13.0),
        steam_hz=1.2,
        wood_hz=(250.0, 1100.0),
        wood_s=(0.003, 0.012),
        wood=1.2,
        spread=0.85,
    ),
    # No flames are left: a faint breath, ticks as of glass when charcoal shrinks, and now and then a soft pop.
    "embers": _Fire(
        lapping=((30, -10), (60, -2), (110, 0), (220, -6), (500, -15), (1200, -24), (4000, -34)),
        hiss=((500, -22), (1500, -10), (3500, -3), (7000, 0), (12000, -4), (16000, -10)),
        lapping_db=-11.0,
        lapping_range_db=6.0,
        hiss_db=-8.0,
        flicker=0.15,
        width_m=0.5,
        ticks_hz=(12.0, 60.0),
        snaps_hz=(0.8, 4.5),
        steam_hz=0.5,
        wood_hz=(1400.0, 4200.0),
        wood_s=(0.001, 0.005),
        wood=1.0,
        spread=0.7,
    ),
}


def render(canvas: Canvas) -> Samples:
    """A fire. A bigger one roars lower and louder and crackles more often; density alone makes it crackle more."""
    fire = _FIRES[canvas.params.kind]
    puffs_hz = 1.5 / np.sqrt(fire.width_m * canvas.swing(0.5, 2.0))
    tongues = fire.flicker * curve(canvas, 0.6 * puffs_hz, 2.6 * puffs_hz, 2)
    breath = 0.16 * curve(canvas, 0.05, 0.4)[0]
    out = shaped_noise(canvas, fire.lapping, correlation=0.6, num_taps=16384)
    modulate(canvas, out, np.exp(tongues + breath))
    out *= np.float32(db(fire.lapping_db + fire.lapping_range_db * (canvas.params.intensity - 0.5)))
    # Gas escapes in fits, and the more the higher the flames stand.
    fits = np.exp(0.2 * curve(canvas, 3.0, 30.0, 2) + 0.07 * curve(canvas, 0.1, 1.0, 2) + 0.5 * breath)
    out += np.float32(db(fire.hiss_db)) * modulate(canvas, shaped_noise(canvas, fire.hiss, correlation=0.5), fits)
    activity = np.exp(0.5 * curve(canvas, 0.05, 0.6)[0])
    out += _ticks(canvas, fire, activity)
    out += _crackles(canvas, fire, activity)
    out += _steam(canvas, fire)
    return out


def _ticks(canvas: Canvas, fire: _Fire, activity: npt.NDArray[np.float64]) -> Samples:
    """Fine crackle: sparse impulses with a heavy tail, colored by one short kernel."""
    rate_hz = canvas.swing(*fire.ticks_hz) * canvas.crowd(0.3, 1.0 / 0.3)
    starts = random_starts(canvas, event_count(canvas, rate_hz), activity)
    gains = heavy_tail(canvas, starts.size, 8.0, 12.0) * canvas.rng.choice([-1.0, 1.0], starts.size)
    train = impulses(canvas, starts, gains, fire.spread)
    kernel = fir(_SNAP, canvas.sample_rate_hz, 192)
    kernel *= db(-5.0) / np.sqrt(np.sum(kernel**2) * 100.0 * 5.5 / canvas.sample_rate_hz)
    return convolve(canvas, train, kernel.astype(np.float32), centered=True)


def _crackles(canvas: Canvas, fire: _Fire, activity: npt.NDArray[np.float64]) -> Samples:
    """Single snaps, often several within a tenth of a second, and a few woody pops."""
    decay = 10.0 ** canvas.rng.uniform(np.log10(0.0008), np.log10(0.006), _NUM_TEMPLATES)
    snaps = bursts(canvas, _NUM_TEMPLATES, _SNAP, 0.04, decay)
    low, high = fire.wood_hz
    base = low * (high / low) ** canvas.rng.random((_NUM_TEMPLATES, 1))
    modes = base * (1.0 + canvas.rng.uniform(0.5, 1.1, (_NUM_TEMPLATES, 3)) * np.arange(3))
    wood = rings(canvas, modes, canvas.rng.uniform(*fire.wood_s, (_NUM_TEMPLATES, 3)), 0.04)
    snaps += wood * canvas.rng.uniform(0.0, fire.wood, (_NUM_TEMPLATES, 1)).astype(np.float32)
    # A crack pushes the air as often as it pulls it.
    snaps *= canvas.rng.choice(np.array([-1.0, 1.0], dtype=np.float32), (_NUM_TEMPLATES, 1))
    starts, gains = _clusters(canvas, fire, activity)
    placed = stereo(canvas, snaps, fire.spread)
    gains *= db(-5.0) / np.sqrt(np.mean(np.sum(placed**2, axis=-1)) * 14.0 * 3.0 / canvas.sample_rate_hz)
    return scatter(canvas, placed, starts, gains)


def _clusters(canvas: Canvas, fire: _Fire, activity: npt.NDArray[np.float64]) -> tuple[Ints, npt.NDArray[np.float64]]:
    """When the snaps come, and how loud: a first one draws up to six more, each softer and a little later."""
    rate_hz = canvas.swing(*fire.snaps_hz) * canvas.crowd(0.25, 4.0)
    first = random_starts(canvas, event_count(canvas, rate_hz, at_least=1), activity)
    loud = heavy_tail(canvas, first.size, 5.5, 9.0)
    followers = np.minimum(canvas.rng.geometric(0.42, first.size) - 1, 6)
    owner = np.repeat(np.arange(first.size), followers)
    delays = canvas.rng.exponential(0.05 * canvas.sample_rate_hz, owner.size).astype(np.intp)
    starts = np.concatenate([first, (first[owner] + delays) % canvas.num_samples])
    gains = np.concatenate([loud, loud[owner] * canvas.rng.uniform(0.15, 0.8, owner.size)])
    order = np.argsort(starts, kind="stable")
    return starts[order], gains[order]


def _steam(canvas: Canvas, fire: _Fire) -> Samples:
    """Spurts of steam and gas from the wood: soft swells of high noise, a tenth to half a second long."""
    size = int(0.5 * canvas.sample_rate_hz)
    spurts = bursts(canvas, 24, _STEAM, 0.5, np.full(24, 10.0))
    place = np.minimum(np.arange(size) / size / canvas.rng.uniform(0.2, 1.0, (24, 1)), 1.0)
    spurts *= (np.sin(np.pi * place ** canvas.rng.uniform(0.3, 0.8, (24, 1))) ** 2).astype(np.float32)
    starts = random_starts(canvas, event_count(canvas, fire.steam_hz * canvas.crowd(0.5, 2.0)))
    gains = heavy_tail(canvas, starts.size, 4.0, 5.0) * db(fire.hiss_db + 6.0)
    return scatter(canvas, stereo(canvas, spurts, fire.spread), starts, gains)
