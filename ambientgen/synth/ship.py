"""A wooden sailing ship at sea: its hull creaks as it rolls, ropes and blocks work aloft, and water runs along it.

A creak is stick and slip: two timbers hold, give, and hold again, some dozens of times a second, and each slip strikes
the wood (Farnell, *Designing Sound*, "Creaking Door"; A. Akay, "Acoustics of friction", J. Acoust. Soc. Am., 2002). It
comes while the hull turns fastest, so twice in a roll. A wooden ship of that size rolls once in some seven seconds.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from ambientgen.audio.clip import Samples
from ambientgen.synth.events import bubbles, bursts, event_count, heavy_tail, random_starts, rings, scatter, stereo
from ambientgen.synth.grains import grains
from ambientgen.synth.shaping import Canvas, curve, db, later, modulate, shaped_noise
from ambientgen.synth.turning import course, moments

_SEA: Final = ((25, -8), (50, 1), (90, 2), (180, -2), (350, -4), (700, -7), (1500, -13), (3000, -20), (8000, -28))
_WASH: Final = ((120, -14), (300, -4), (700, -1), (1500, 0), (3500, -1), (7000, -4), (14000, -14))
_SPRAY: Final = ((800, -16), (2500, -3), (5000, 0), (9000, -3), (15000, -10))
_RIGGING: Final = ((120, -14), (260, -3), (420, 0), (800, -4), (1600, -12), (5000, -28))
_SLIP: Final = ((150, -12), (400, -4), (900, -2), (2500, 0), (6000, 0), (12000, -8))
_THUD: Final = ((50, -6), (80, 0), (140, 0), (280, -2), (500, -8), (1000, -20))
_SPRAY_HZ = 400.0
_NUM_CREAKS = 24

Curve = npt.NDArray[np.float64]


def render(canvas: Canvas) -> Samples:
    """A ship under sail. More intensity: a rougher sea, a harder wind. Density: how much creaks and knocks."""
    roll_s = canvas.character.uniform(6.0, 8.0)
    # Two half rolls are one turn; neither the sea nor the ship keeps time exactly.
    rolls = course(canvas, 1.0 / roll_s, 0.15 * curve(canvas, 0.02, 0.12)[0])
    out = _water(canvas, rolls)
    out += _creaks(canvas, rolls)
    out += _rigging(canvas)
    return out


def _water(canvas: Canvas, rolls: Curve) -> Samples:
    """The sea all around, the wash that rises on one side and then the other, and what laps and gurgles."""
    swell = np.exp(0.2 * curve(canvas, 0.03, 0.3)[0])
    sea = shaped_noise(canvas, _SEA, correlation=0.5)
    out = modulate(canvas, sea, swell * np.exp(0.12 * curve(canvas, 0.3, 3.0, 2))) * np.float32(db(-4.0))
    turn = 2.0 * np.pi * rolls[:-1]
    heave = np.exp(0.35 * curve(canvas, 0.08, 0.5)[0])
    # It is loudest where the hull goes down; every third or so wave meets another and is hardly heard.
    sides = np.stack([np.exp(0.7 * np.sin(turn)), np.exp(0.7 * np.sin(turn + 2.2))]) * heave
    sides = sides * np.exp(0.25 * curve(canvas, 0.5, 4.0, 2) + 0.25 * curve(canvas, 4.0, 14.0, 2))
    wash = modulate(canvas, shaped_noise(canvas, _WASH, correlation=0.35), 0.7 * sides)
    out += wash * np.float32(db(canvas.slide(-25.0, -5.0)))
    thrown = sides.mean(axis=0) ** 2.5
    spray = grains(canvas, _SPRAY, _SPRAY_HZ * canvas.swing(0.3, 3.0), plain_hz=_SPRAY_HZ, density=thrown)
    out += spray * np.float32(db(-19.0))
    pitch = 260.0 * 8.0 ** canvas.rng.beta(1.4, 1.8, 160)
    templates = stereo(canvas, bubbles(canvas, pitch, 0.08, 0.1) * (600.0 / pitch[:, None]).astype(np.float32) ** 0.4)
    starts = random_starts(canvas, event_count(canvas, canvas.swing(14.0, 45.0)), thrown)
    out += scatter(canvas, templates, starts, heavy_tail(canvas, starts.size, 6.0, 9.0) * db(-4.5))
    return out


def _creaks(canvas: Canvas, rolls: Curve) -> Samples:
    """Timbers, twice in every roll: a few creaks one after the other, now and then with the thud of a joint."""
    groups = np.concatenate([moments(canvas, rolls, offset) for offset in (0.1, 0.6)])
    busy = canvas.swing(0.6, 1.7) * canvas.crowd(0.25, 4.0)
    times: list[float] = []
    for time_s in groups.tolist():
        gap_s = canvas.rng.uniform(0.5, 0.95)
        numbers = np.arange(canvas.rng.poisson(1.1 * busy))
        times += (time_s + gap_s * numbers + canvas.rng.normal(0.0, 0.15, numbers.size)).tolist()
    starts = _starts(canvas, np.array(times))
    creaks = stereo(canvas, _stick_slip(canvas, (20.0, 95.0), _TIMBER_HZ, (0.4, 1.1)), 0.75)
    out = scatter(canvas, creaks, starts, heavy_tail(canvas, starts.size, 4.5, 6.0) * db(18.5))
    thuds = bursts(canvas, 16, _THUD, 0.5, canvas.rng.uniform(0.03, 0.07, 16))
    late = np.array(times)[canvas.rng.random(len(times)) < 0.4] + 0.3
    gains = heavy_tail(canvas, late.size, 3.0, 3.0) * db(canvas.slide(11.0, 15.0))
    out += scatter(canvas, stereo(canvas, thuds, 0.4), _starts(canvas, late), gains)
    return out


def _rigging(canvas: Canvas) -> Samples:
    """Aloft: wind in the shrouds, ropes that squeak under load, and blocks that knock on the mast."""
    gusts = curve(canvas, 0.03, 0.4)[0]
    wind = shaped_noise(canvas, _RIGGING, correlation=0.3)
    modulate(
        canvas, wind, np.exp(0.4 * np.stack([gusts, later(gusts, canvas, 0.4)]) + 0.1 * curve(canvas, 0.5, 5.0, 2))
    )
    out = wind * np.float32(db(canvas.slide(-22.0, -8.0)))
    strain = np.exp(0.7 * gusts)
    often = canvas.swing(0.7, 1.5) * canvas.crowd(0.25, 4.0)
    ropes = stereo(canvas, _stick_slip(canvas, (45.0, 130.0), _ROPE_HZ, (0.2, 0.6)), 0.9)
    starts = random_starts(canvas, event_count(canvas, 0.22 * often), strain)
    out += scatter(canvas, ropes, starts, heavy_tail(canvas, starts.size, 3.0, 4.0) * db(2.0))
    lowest_hz = canvas.rng.uniform(280.0, 700.0, (24, 1))
    modes_hz = lowest_hz * (1.0 + canvas.rng.uniform(0.6, 1.1, (24, 4)) * np.arange(4))
    blocks = stereo(canvas, rings(canvas, modes_hz, canvas.rng.uniform(0.008, 0.02, (24, 4)), 0.12), 0.9)
    starts = random_starts(canvas, event_count(canvas, 0.35 * often), strain)
    out += scatter(canvas, blocks, starts, heavy_tail(canvas, starts.size, 5.0, 6.0) * db(6.0))
    return out


#: Where wood of that size rings, about; and how fast rope and blocks do.
_TIMBER_HZ: Final = (2080.0, 1040.0, 4100.0, 5200.0, 520.0, 3100.0, 810.0, 1560.0, 340.0)
_ROPE_HZ: Final = (700.0, 1150.0, 1700.0, 2500.0, 3600.0)


def _stick_slip(
    canvas: Canvas, slips_hz: tuple[float, float], modes_hz: tuple[float, ...], length_s: tuple[float, float]
) -> Samples:
    """Creaks, shape (count, length): slips that come faster as the strain rises, each of which strikes the wood.

    Args:
        canvas: where chance comes from.
        slips_hz: slowest and fastest rate of slipping, at the ends and in the middle of a creak.
        modes_hz: where the wood rings.
        length_s: shortest and longest creak.
    """
    rate = canvas.sample_rate_hz
    size = int((length_s[1] + 0.25) * rate)
    train = np.zeros((_NUM_CREAKS, size), dtype=np.float32)
    for creak in train:
        length = canvas.rng.uniform(*length_s)
        lean = canvas.rng.uniform(0.6, 1.7)
        higher = canvas.rng.uniform(0.7, 1.4)
        place_s = 0.01
        while place_s < length:
            strain = np.sin(np.pi * (place_s / length) ** lean)
            creak[int(place_s * rate)] += strain**1.3 * canvas.rng.uniform(0.4, 1.0)
            slips = slips_hz[0] * (slips_hz[1] / slips_hz[0]) ** strain * higher
            place_s += max(0.3, canvas.rng.normal(1.0, 0.12)) / slips
    wood = np.array(modes_hz) * np.exp(0.1 * canvas.rng.standard_normal((_NUM_CREAKS, len(modes_hz))))
    decay_s = canvas.rng.uniform(4.0, 9.0, wood.shape) / wood
    strike = rings(canvas, wood, decay_s, 0.12)
    strike += np.float32(1.6) * bursts(canvas, _NUM_CREAKS, _SLIP, 0.12, canvas.rng.uniform(0.006, 0.02, _NUM_CREAKS))
    points = 1 << (size + strike.shape[1]).bit_length()
    out = np.fft.irfft(np.fft.rfft(train, points) * np.fft.rfft(strike, points), points)[:, :size].astype(np.float32)
    return np.asarray(out / (np.max(np.abs(out), axis=-1, keepdims=True) + np.float32(1e-9)))


def _starts(canvas: Canvas, times_s: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
    return np.asarray((times_s * canvas.sample_rate_hz).astype(np.intp) % canvas.num_samples)
