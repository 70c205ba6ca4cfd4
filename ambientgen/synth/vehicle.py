"""Inside a car on the road, and inside an airliner at cruise.

A car at speed is tires, wind and engine: tire noise has its hump where the air in the tire rings, near 220 Hz
(T. Sakata, H. Morimura and H. Ide, "Effects of tire cavity resonance on vehicle road noise", Tire Science and
Technology, 1990), and grows less with speed than the wind does (U. Sandberg and J. A. Ejsmont, *Tyre/Road Noise
Reference Book*, 2002). An airliner's cabin is full of the turbulent air that runs along its skin (W. V. Bhat and
J. F. Wilby, "Interior noise radiated by an airplane fuselage subjected to turbulent boundary layer excitation and
evaluation of noise reduction treatments", J. Sound Vib., 1971); under it two engines hum at almost the same speed, and
beat, and over it hisses the air for the cabin.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from ambientgen.audio.clip import Samples
from ambientgen.synth.events import bursts, event_count, heavy_tail, pan, random_starts, rings, scatter, stereo
from ambientgen.synth.shaping import Canvas, at_audio_rate, control_events, curve, db, later, modulate, shaped_noise
from ambientgen.synth.turning import add_panned, course, partials

_BODY: Final = ((22, -4), (40, 0), (63, -1), (100, -5), (160, -9), (250, -16), (500, -28))
_TIRES: Final = (
    (80, -16),
    (160, -4),
    (220, 0),
    (300, -4),
    (600, -7),
    (1000, -9),
    (1800, -16),
    (4000, -28),
    (9000, -42),
)
_AIR: Final = ((150, -14), (400, -5), (900, -2), (2000, 0), (4000, -5), (8000, -13), (14000, -22))
_SEAM: Final = ((35, -4), (70, 0), (140, -5), (280, -12), (700, -22), (2000, -34))
_PASSING: Final = ((80, -8), (200, -2), (600, 0), (1500, -3), (4000, -11), (9000, -22))
_SKIN: Final = ((30, -9), (63, -3), (125, 0), (250, 0), (450, -2), (800, -7), (1500, -14), (3000, -22), (8000, -36))
_RUMBLE: Final = ((22, -4), (40, 0), (70, -2), (120, -8), (250, -20))
_VENTS: Final = ((300, -18), (900, -5), (2000, 0), (4500, -3), (8000, -9), (14000, -18))

Curve = npt.NDArray[np.float64]


def render(canvas: Canvas) -> Samples:
    """A cabin. More intensity: a faster car, a rougher flight.

    Density: seams of the road and cars that come by; in the air, chimes and the small noises of the fittings.
    """
    return _airplane(canvas) if canvas.params.kind == "airplane" else _car(canvas)


def _car(canvas: Canvas) -> Samples:
    speed_m_s = canvas.swing(13.0, 36.0) * canvas.character.uniform(0.95, 1.05)
    # The foot on the pedal, hills, and the wear of the road.
    pace = 0.03 * curve(canvas, 0.01, 0.08)[0]
    load = np.exp(0.2 * curve(canvas, 0.02, 0.15)[0])
    surface = np.exp(0.18 * curve(canvas, 0.02, 0.2)[0] + 0.06 * curve(canvas, 0.5, 3.0)[0])
    out = modulate(
        canvas, shaped_noise(canvas, _BODY, correlation=0.7, num_taps=16384), surface * _unrest(canvas, 0.18)
    )
    tires = modulate(canvas, shaped_noise(canvas, _TIRES, correlation=0.5), surface * _unrest(canvas, 0.08))
    out += tires * np.float32(db(canvas.slide(-9.0, -5.0)))
    gusts = np.exp(0.3 * curve(canvas, 0.04, 0.5)[0] + 0.12 * curve(canvas, 0.5, 4.0, 2))
    out += modulate(canvas, shaped_noise(canvas, _AIR, correlation=0.2), gusts) * np.float32(
        db(canvas.slide(-33.0, -15.0))
    )
    # Four cylinders fire twice a turn; the gears hold the engine between 1,500 and 2,800 turns a minute.
    turned = course(canvas, canvas.swing(25.0, 46.0) * canvas.character.uniform(0.95, 1.05), pace)
    levels = {1: 0.25, 2: 1.0, 3: 0.15, 4: 0.45, 5: 0.06, 6: 0.2, 8: 0.1, 10: 0.04}
    engine = partials(canvas, turned, levels) * at_audio_rate(canvas, load)
    add_panned(out, engine * np.float32(db(-8.0)), 0.1)
    wheels = course(canvas, speed_m_s / 1.98, pace)
    add_panned(out, partials(canvas, wheels, {1: 0.5, 2: 0.35, 3: 0.2, 4: 0.1}) * np.float32(db(-17.0)), -0.1)
    out += _seams(canvas, speed_m_s)
    out += _oncoming(canvas)
    return out


def _unrest(canvas: Canvas, depth: float) -> Curve:
    """Left and right go over different stones."""
    return np.asarray(np.exp(depth * curve(canvas, 0.5, 7.0, 2)))


def _seams(canvas: Canvas, speed_m_s: float) -> Samples:
    """Seams and patches: the front wheels, and the rear ones 2.7 m later."""
    decay_s = canvas.rng.uniform(0.02, 0.05, 24)
    thuds = bursts(canvas, 24, _SEAM, 0.25, decay_s)
    gap = int(2.7 / speed_m_s * canvas.sample_rate_hz)
    both = np.zeros((24, thuds.shape[1] + gap), dtype=np.float32)
    both[:, : thuds.shape[1]] += thuds
    both[:, gap:] += np.float32(0.85) * thuds[canvas.rng.permutation(24)]
    stretches = np.exp(0.9 * curve(canvas, 0.02, 0.3)[0])
    starts = random_starts(canvas, event_count(canvas, canvas.crowd(0.06, 1.1)), stretches)
    gains = heavy_tail(canvas, starts.size, 4.0, 5.0) * db(canvas.slide(13.0, 15.0))
    return scatter(canvas, stereo(canvas, both, 0.3), starts, gains)


def _oncoming(canvas: Canvas) -> Samples:
    """Cars that come the other way: a soft rush on the driver's side that swells and is gone in a second or two."""
    count = event_count(canvas, canvas.crowd(0.02, 0.22))
    if not count:
        return np.zeros((2, canvas.num_samples), dtype=np.float32)
    times = canvas.rng.uniform(0.0, canvas.duration_s, count).tolist()
    strength = canvas.rng.uniform(0.4, 1.0, count)
    length_s = canvas.rng.uniform(0.35, 0.8, count)

    def swell(since: Curve, index: int) -> Curve:
        away = (since - 3.0) / length_s[index]
        return np.asarray(strength[index] / (1.0 + away**2) ** 1.5 * (np.abs(since - 3.0) < 3.0) * _edges(since, 6.0))

    envelope = control_events(canvas, swell, times)
    left, right = pan(np.array([-0.6]))
    return modulate(
        canvas, shaped_noise(canvas, _PASSING, correlation=0.5), np.stack([envelope * left, envelope * right])
    ) * np.float32(db(canvas.slide(-8.0, -4.0)))


def _edges(since: Curve, length_s: float) -> Curve:
    """One inside, with soft edges at 0 and at `length_s`."""
    return np.asarray(np.clip(np.minimum(since, length_s - since), 0.0, 1.0))


def _airplane(canvas: Canvas) -> Samples:
    weather = curve(canvas, 0.01, 0.08)[0]
    out = shaped_noise(canvas, _SKIN, correlation=0.45)
    modulate(
        canvas, out, np.exp(0.08 * weather + 0.06 * curve(canvas, 0.1, 1.0, 2) + 0.04 * curve(canvas, 1.0, 8.0, 2))
    )
    # Rough air shakes the floor in slow heaves.
    heave = np.exp(canvas.slide(0.2, 0.5) * (0.5 * weather + 0.7 * curve(canvas, 0.2, 1.5)[0]))
    rumble = modulate(canvas, shaped_noise(canvas, _RUMBLE, correlation=0.7, num_taps=16384), heave)
    out += rumble * np.float32(db(canvas.slide(-8.0, 2.0)))
    fan_hz = canvas.character.uniform(52.0, 64.0)
    for side, apart_hz in ((-0.5, 0.0), (0.5, canvas.character.uniform(0.12, 0.45))):
        # The two shafts of an engine are out of balance, each at its own speed.
        for rate_hz, levels, level_db in (
            (fan_hz + apart_hz, {1: 1.0, 2: 0.45, 3: 0.12, 4: 0.1}, -7.0),
            (2.37 * fan_hz + 2.0 * apart_hz, {1: 1.0, 2: 0.2}, -15.0),
        ):
            turned = course(canvas, rate_hz, 0.0006 * curve(canvas, 0.01, 0.08)[0])
            shaft = partials(canvas, turned, levels) * at_audio_rate(canvas, np.exp(0.15 * curve(canvas, 0.02, 0.2)[0]))
            add_panned(out, shaft * np.float32(db(level_db)), side)
    vents = shaped_noise(canvas, _VENTS, correlation=0.15)
    vents = modulate(canvas, vents, np.exp(0.15 * curve(canvas, 0.02, 0.3, 2) + 0.05 * curve(canvas, 0.5, 5.0, 2)))
    out += vents * np.float32(db(canvas.slide(-19.0, -15.0)))
    out += _fittings(canvas, later(heave, canvas, 0.1))
    out += _chimes(canvas)
    return out


def _fittings(canvas: Canvas, heave: Curve) -> Samples:
    """Bins and trays that tick when the floor heaves."""
    lowest_hz = canvas.rng.uniform(350.0, 1300.0, (32, 1))
    modes_hz = lowest_hz * (1.0 + canvas.rng.uniform(0.4, 0.9, (32, 3)) * np.arange(3))
    templates = stereo(canvas, rings(canvas, modes_hz, canvas.rng.uniform(0.004, 0.012, (32, 3)), 0.06), 0.9)
    rate_hz = canvas.swing(0.3, 2.0) * canvas.crowd(0.3, 3.0)
    starts = random_starts(canvas, event_count(canvas, rate_hz), heave**4)
    return scatter(canvas, templates, starts, heavy_tail(canvas, starts.size, 4.0, 5.0) * db(7.0))


def _chimes(canvas: Canvas) -> Samples:
    """Somebody calls the crew, far down the aisle: a soft low note, or a high one and a low one."""
    rate = canvas.sample_rate_hz
    seconds = np.arange(int(2.6 * rate)) / rate
    fade = np.clip((2.6 - seconds) / 0.3, 0.0, 1.0) * -np.expm1(-seconds / 0.02)

    def note(hz: float) -> Curve:
        return np.asarray((np.sin(2.0 * np.pi * hz * seconds) + 0.25 * np.sin(4.0 * np.pi * hz * seconds)) * fade)

    low = note(480.0) * np.exp(-seconds / 0.6)
    pair = note(600.0) * np.exp(-seconds / 0.5) + np.concatenate(
        (np.zeros(int(0.7 * rate)), low[: low.size - int(0.7 * rate)])
    )
    templates = np.stack([low, low, pair]).astype(np.float32)
    starts = random_starts(canvas, event_count(canvas, canvas.crowd(0.005, 0.08)))
    return scatter(canvas, stereo(canvas, templates, 0.4), starts, np.full(starts.size, db(-5.0)))
