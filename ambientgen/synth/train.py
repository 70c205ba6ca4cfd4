"""Inside a train: wheels over rail joints, the rumble of steel on steel, and the coach that answers.

A coach of 26.4 m stands on two bogies, 19 m apart, each with two axles at 2.5 m (the European UIC-X coach). Near a
coach's end one hears two bogies, one's own and the next coach's; each of their axles strikes each joint of the rails:
clack-clack, clack-clack. A joint is an impact of the wheel on a dip and a step (T. X. Wu and D. J. Thompson, "On the
impact noise generation due to a wheel passing over rail joints", J. Sound Vib., 2003); between joints the roughness of
wheel and rail makes the rolling noise, which sleepers 0.6 m apart make flutter (D. Thompson, *Railway Noise and
Vibration*, 2009).
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from ambientgen.audio.clip import Samples
from ambientgen.synth.events import bursts, event_count, heavy_tail, pan, random_starts, rings, scatter, stereo
from ambientgen.synth.shaping import Canvas, Points, curve, db, later, modulate, shaped_noise
from ambientgen.synth.turning import course, moments, partials

_RAIL_M = 25.0
_SLEEPER_M = 0.6
#: Where the axles are, in m from the nearest one, how loud each is heard, and on which side.
_AXLES: Final = (
    (0.0, 1.0, 0.25),
    (2.5, 0.95, 0.15),
    (7.4, 1.0, -0.2),
    (9.9, 0.9, -0.3),
    (-19.0, 0.22, 0.55),
    (-16.5, 0.2, 0.5),
    (26.4, 0.16, -0.6),
    (28.9, 0.14, -0.6),
)
_RUMBLE: Final = ((25, -14), (45, -2), (63, -3), (90, 0), (160, 0), (300, -4), (600, -14), (1500, -28))
_ROLL: Final = (
    (100, -12),
    (200, -2),
    (280, 0),
    (400, -8),
    (800, -11),
    (1200, -13),
    (2500, -20),
    (5000, -28),
    (9000, -38),
)
_WIND: Final = ((80, -16), (250, -6), (700, -2), (1500, 0), (3000, -4), (6000, -9), (12000, -18))
_KNOCK: Final = ((120, -8), (250, 0), (400, -6), (600, -15), (1500, -25), (4000, -38), (10000, -52))
_PANELS: Final = ((200, -8), (450, -1), (1000, -3), (2500, -11), (6000, -26))
_TICK: Final = ((500, -14), (1200, 0), (2500, -2), (6000, -8), (12000, -20))
_NUM_TEMPLATES = 24


def render(canvas: Canvas) -> Samples:
    """A coach at speed. More intensity: a faster train. Density: shorter rails, so more joints, and more rattling."""
    speed_m_s = canvas.swing(10.5, 26.5) * 2.0 ** canvas.character.uniform(-0.15, 0.15)
    pace = 0.02 * curve(canvas, 0.01, 0.06)[0]
    out = _rolling(canvas, speed_m_s, pace)
    out += _joints(canvas, speed_m_s, pace)
    out += _rattling(canvas)
    return out


def _rolling(canvas: Canvas, speed_m_s: float, pace: npt.NDArray[np.float64]) -> Samples:
    """What does not strike: rumble through the floor, roll through the walls, wind along the windows."""
    # The coach sways on its springs about once a second; track and cuttings change over many seconds.
    sway = course(canvas, canvas.character.uniform(0.9, 1.2), 0.25 * curve(canvas, 0.05, 0.4)[0])[:-1]
    sway = np.exp(0.12 * np.sin(2.0 * np.pi * sway))
    track = np.exp(0.2 * curve(canvas, 0.02, 0.15)[0])
    out = shaped_noise(canvas, _RUMBLE, correlation=0.6, num_taps=16384)
    modulate(canvas, out, track * sway * np.exp(0.2 * curve(canvas, 0.5, 5.0, 2)))
    out *= np.float32(db(-7.0))
    roll = shaped_noise(canvas, _ROLL, correlation=0.45)
    sides = np.stack([track / sway, later(track, canvas, 0.3) * sway])
    modulate(canvas, roll, sides * np.exp(0.12 * curve(canvas, 1.0, 9.0, 2)))
    # Once a sleeper the rail gives a little less.
    sleepers = course(canvas, speed_m_s / _SLEEPER_M, pace)
    roll *= 1.0 + partials(canvas, sleepers, {1: 0.12, 2: 0.05})
    out += roll * np.float32(db(canvas.slide(-10.0, -4.0)))
    outside = np.exp(0.35 * curve(canvas, 0.02, 0.12, 2) + 0.12 * curve(canvas, 0.2, 2.0, 2))
    wind = modulate(canvas, shaped_noise(canvas, _WIND, correlation=0.2), outside)
    out += wind * np.float32(db(canvas.slide(-38.0, -22.0)))
    return out


def _joints(canvas: Canvas, speed_m_s: float, pace: npt.NDArray[np.float64]) -> Samples:
    """Every axle over every joint."""
    rail_m = _RAIL_M / canvas.crowd(0.5, 2.0)
    joints = course(canvas, speed_m_s / rail_m, pace)
    step = np.exp(
        0.14 * canvas.rng.standard_normal(round(joints[-1] - joints[0]))
    )  # no joint is quite as deep as the next
    knocks = _knocks(canvas)
    out = np.zeros((2, canvas.num_samples), dtype=np.float32)
    for behind_m, loudness, side in _AXLES:
        times = moments(canvas, joints, behind_m / rail_m) + canvas.rng.normal(0.0, 0.002, step.size)
        starts = (times * canvas.sample_rate_hz).astype(np.intp) % canvas.num_samples
        gains = loudness * step * np.exp(0.09 * canvas.rng.standard_normal(step.size))
        sides = knocks[:, None, :] * np.stack(pan(np.array([side])), axis=1)[..., None].astype(np.float32)
        out += scatter(canvas, sides, starts, gains)
    return out * np.float32(db(canvas.slide(1.5, 4.0)))


def _knocks(canvas: Canvas) -> Samples:
    """One axle on one joint, shape (count, length): the coach's floor is struck, steel ticks, and panels shake."""
    length_s = 0.3
    body_hz = np.array([168.0, 236.0, 141.0, 272.0, 205.0, 112.0, 330.0]) * canvas.character.uniform(0.93, 1.07, 7)
    modes_hz = body_hz * canvas.rng.uniform(0.98, 1.02, (_NUM_TEMPLATES, 7))
    out = _unit(rings(canvas, modes_hz, canvas.rng.uniform(0.025, 0.05, modes_hz.shape), length_s))
    out += np.float32(1.2) * _unit(_bursts(canvas, _KNOCK, length_s, (0.022, 0.04)))
    out += np.float32(db(-13.0)) * _unit(_bursts(canvas, _PANELS, length_s, (0.06, 0.1)))
    out += np.float32(db(canvas.slide(-46.0, -34.0))) * _unit(_bursts(canvas, _TICK, length_s, (0.006, 0.015)))
    # Springs and floor keep it from hitting like a hammer.
    rise = -np.expm1(-np.arange(out.shape[1]) / (0.006 * canvas.sample_rate_hz))
    return np.asarray(out * rise, dtype=np.float32)


def _bursts(canvas: Canvas, points: Points, length_s: float, decay_s: tuple[float, float]) -> Samples:
    return bursts(canvas, _NUM_TEMPLATES, points, length_s, canvas.rng.uniform(*decay_s, _NUM_TEMPLATES))


def _unit(templates: Samples) -> Samples:
    """Each of unit energy in a tenth of a second at 48 kHz, whatever it is made of."""
    gain = 70.0 / np.sqrt(np.sum(templates**2, axis=-1, keepdims=True))
    return np.asarray(templates * gain, dtype=np.float32)


def _rattling(canvas: Canvas) -> Samples:
    """What hangs and lies in the coach: small loose things that chatter for a moment when it sways."""
    lowest_hz = canvas.rng.uniform(500.0, 1800.0, (48, 1))
    modes_hz = lowest_hz * (1.0 + canvas.rng.uniform(0.4, 0.9, (48, 3)) * np.arange(3))
    templates = stereo(canvas, rings(canvas, modes_hz, canvas.rng.uniform(0.004, 0.014, (48, 3)), 0.06), 0.8)
    unrest = np.exp(1.3 * curve(canvas, 0.1, 1.5)[0])
    starts = random_starts(canvas, event_count(canvas, 3.0 * canvas.swing(0.6, 1.7) * canvas.crowd(0.25, 4.0)), unrest)
    return scatter(canvas, templates, starts, heavy_tail(canvas, starts.size, 4.0, 6.0) * db(-25.0))
