"""A city's traffic: the wash of all its far streets, cars that pass in the near one, and small life between the houses.

A passing car is a source on a straight line: its level follows the square of its distance, it crosses from side to
side, and what it hums falls in pitch by Doppler's law. Tires at that speed are louder than the engine (U. Sandberg and
J. A. Ejsmont, *Tyre/Road Noise Reference Book*, 2002); they throw their highs forward out of the wedge between tread
and road, so the highs lead and the lows follow. Farnell, *Designing Sound*, "Cars"; for the horn's two notes, a third
apart, the usual 400 and 500 Hz.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from ambientgen.audio.clip import Samples
from ambientgen.synth.events import bursts, event_count, fold, heavy_tail, pan, random_starts, rings, scatter, stereo
from ambientgen.synth.shaping import Canvas, Points, control_events, curve, db, modulate, shaped_noise

_WASH: Final = (
    (28, -6),
    (50, -1),
    (63, 0),
    (125, -1),
    (250, 2),
    (500, -6),
    (1000, -11),
    (2000, -18),
    (4000, -30),
    (9000, -42),
)
_HEEL: Final = ((250, -10), (600, -2), (1400, 0), (3500, -3), (8000, -14))
_CLATTER: Final = ((700, -14), (1800, -1), (4000, 0), (9000, -6))


class Band(NamedTuple):
    """One band of a passing car.

    Attributes:
        points: its spectrum.
        level_db: its level beside the car.
        leads_s: how long before the car itself its loudest moment comes.
        sharpness: exponent of the spreading; 1 is by the square of the distance, more where ground and air take it.
    """

    points: Points
    level_db: float
    leads_s: float
    sharpness: float


_BANDS: Final = (
    Band(((40, -5), (70, 0), (130, -1), (260, -6), (600, -20), (1500, -38)), 2.0, -0.18, 0.9),
    Band(((120, -12), (260, 0), (600, -2), (1200, -5), (2400, -12), (5000, -28)), 2.0, 0.0, 1.15),
    Band(((900, -24), (2200, -5), (4000, 0), (7000, -6), (12000, -20)), -18.0, 0.16, 1.6),
)


class Pass(NamedTuple):
    """One car going by.

    Attributes:
        time_s: when it is nearest.
        loudness: 0 to 1.
        distance_m: how far off it is then.
        speed_m_s: how fast it goes to the right; negative to the left.
        hum_hz: what its engine hums.
    """

    time_s: float
    loudness: float
    distance_m: float
    speed_m_s: float
    hum_hz: float


Curve = npt.NDArray[np.float64]


def render(canvas: Canvas) -> Samples:
    """Traffic, from a side street at night to rush hour. Density: how many cars pass, and how much else happens.

    More intensity: a louder wash and faster, nearer cars.
    """
    # The wash rises and sinks with the traffic lights, all streets together and each side by itself.
    tide = np.exp(0.14 * curve(canvas, 0.01, 0.06)[0] + 0.1 * curve(canvas, 0.06, 0.5, 2))
    tilt = canvas.slide(-1.3, 1.3)
    wash = [(hz, level + tilt * float(np.log2(hz / 300.0))) for hz, level in _WASH]
    out = modulate(canvas, shaped_noise(canvas, wash, correlation=0.55), tide * _flicker(canvas, 0.1))
    rumble = shaped_noise(
        canvas, ((25, -6), (45, 0), (80, -2), (160, -10), (400, -26)), correlation=0.6, num_taps=16384
    )
    out += modulate(canvas, rumble, np.exp(0.3 * curve(canvas, 0.05, 0.8)[0])) * np.float32(db(-4.0))
    out *= np.float32(db(canvas.slide(-5.0, -1.0)))
    passes = _passes(canvas)
    for band in _BANDS:
        noise = shaped_noise(canvas, band.points, correlation=0.6)
        level = np.float32(db(band.level_db))
        out += level * modulate(canvas, noise, _going_by(canvas, band, passes) * _flicker(canvas, 0.2))
    buffer = np.zeros((2, canvas.num_samples + _longest(canvas)), dtype=np.float32)
    for one in passes:
        _add_hum(canvas, buffer, one)
    _add_buses(canvas, buffer)
    _add_horns(canvas, buffer)
    _add_walkers(canvas, buffer)
    out += fold(buffer, canvas.num_samples)
    out += _life(canvas)
    return out


def _flicker(canvas: Canvas, depth: float) -> Curve:
    return np.asarray(np.exp(depth * curve(canvas, 0.5, 6.0, 2)))


def _passes(canvas: Canvas) -> list[Pass]:
    """Cars at random, in bunches as the lights let them go."""
    count = event_count(canvas, canvas.swing(0.07, 0.2) * canvas.crowd(0.2, 5.0))
    bunches = np.exp(0.8 * curve(canvas, 0.01, 0.08)[0])
    starts = random_starts(canvas, count, bunches)
    rng = canvas.rng
    return [
        Pass(
            time_s=start / canvas.sample_rate_hz,
            loudness=rng.uniform(0.5, 1.0),
            distance_m=rng.uniform(8.0, 25.0),
            speed_m_s=canvas.swing(9.0, 15.0) * rng.uniform(0.8, 1.2) * (1.0 if rng.random() < 0.5 else -1.0),
            hum_hz=rng.uniform(55.0, 105.0),
        )
        for start in starts.tolist()
    ]


def _going_by(canvas: Canvas, band: Band, passes: list[Pass]) -> Curve:
    """Left and right envelope of one band: powers of independent cars add up."""
    reach_s = min(_REACH_S, 0.5 * canvas.duration_s)

    def side(right: bool) -> Curve:
        def power(since: Curve, index: int) -> Curve:
            one = passes[index]
            away = since - reach_s
            nearness = _nearness(one, away + band.leads_s)
            position = np.clip(np.sin(np.arctan(one.speed_m_s * away / one.distance_m)), -1.0, 1.0) * _WIDTH
            gains = pan(position)[1 if right else 0]
            return np.asarray((one.loudness * _edges(since, 2.0 * reach_s) * gains) ** 2 * nearness**band.sharpness)

        return control_events(canvas, power, [one.time_s - reach_s for one in passes])

    return np.sqrt(np.stack([side(False), side(True)]))


#: How long before and after its nearest point a car is followed, how far it moves aside in stereo.
_REACH_S = 7.0
_WIDTH = 0.75


def _nearness(one: Pass, away_s: Curve) -> Curve:
    """Power against that at 15 m."""
    return np.asarray(15.0**2 / (one.distance_m**2 + (one.speed_m_s * away_s) ** 2))


def _edges(since: Curve, length_s: float) -> Curve:
    """One inside, with soft edges at 0 and at `length_s`."""
    return np.asarray(np.clip(np.minimum(since, length_s - since) / 2.0, 0.0, 1.0))


def _longest(canvas: Canvas) -> int:
    return int(2.0 * _REACH_S * canvas.sample_rate_hz)


def _add_hum(canvas: Canvas, buffer: Samples, one: Pass) -> None:
    """The car's engine: three harmonics that fall in pitch as it goes by (f = f0 / (1 + v_r / c))."""
    rate = canvas.sample_rate_hz
    reach_s = 0.5 * _REACH_S
    coarse = np.linspace(-reach_s, reach_s, 1 + int(2.0 * reach_s * 100.0))
    away_m = one.speed_m_s * coarse
    receding = one.speed_m_s * away_m / np.hypot(away_m, one.distance_m)
    turned = np.cumsum(one.hum_hz / (1.0 + receding / 343.0)) / 100.0
    fine = np.arange(int(2.0 * reach_s * rate)) * (100.0 / rate)
    phase = (2.0 * np.pi * np.interp(fine, np.arange(coarse.size), turned)).astype(np.float32)
    level = one.loudness * np.sqrt(_nearness(one, coarse)) * _edges(coarse + reach_s, 2.0 * reach_s)
    sides = np.stack(pan(_WIDTH * np.sin(np.arctan(away_m / one.distance_m)))) * level * db(-12.0)
    wave = np.sin(phase) + np.float32(0.6) * np.sin(2.0 * phase + 1.0) + np.float32(0.3) * np.sin(4.0 * phase + 2.0)
    start = int((one.time_s - reach_s) * rate) % canvas.num_samples
    for channel in range(2):
        envelope = np.interp(fine, np.arange(coarse.size), sides[channel]).astype(np.float32)
        buffer[channel, start : start + wave.size] += wave * envelope
    canvas.tick()


def _add_buses(canvas: Canvas, buffer: Samples) -> None:
    """A bus or a tram that pulls away some streets off: a soft whine that climbs, then is gone."""
    rate = canvas.sample_rate_hz
    for start in random_starts(canvas, event_count(canvas, 0.05 * canvas.crowd(0.4, 2.5))).tolist():
        length_s = canvas.rng.uniform(3.5, 6.5)
        inside = np.arange(int(length_s * rate), dtype=np.float32) / np.float32(length_s * rate)
        low_hz, climb = canvas.rng.uniform(170.0, 260.0), canvas.rng.uniform(0.15, 0.5)
        phase = 2.0 * np.pi * low_hz * length_s * (inside + climb * (0.5 * inside**2 - inside**3 / 6.0))
        wave = np.sin(phase) + np.float32(0.35) * np.sin(2.0 * phase + 1.0) + np.float32(0.1) * np.sin(3.0 * phase)
        wave *= np.sin(np.pi * inside) ** 2 * np.float32(canvas.rng.uniform(0.4, 1.0) * db(-5.0))
        _put(canvas, buffer, start, wave.astype(np.float32))


def _add_horns(canvas: Canvas, buffer: Samples) -> None:
    """A horn, streets away: two notes without their highs, round at both ends."""
    rate = canvas.sample_rate_hz
    for start in random_starts(canvas, event_count(canvas, 0.02 * canvas.crowd(0.3, 4.0))).tolist():
        higher = canvas.rng.uniform(0.85, 1.12)
        times = 1 if canvas.rng.random() < 0.65 else 2
        for number in range(times):
            length_s = canvas.rng.uniform(0.25, 0.7)
            seconds = np.arange(int(length_s * rate)) / rate
            wave = np.zeros(seconds.size)
            for note_hz in (400.0 * higher, 500.0 * higher):
                for harmonic, level in ((1, 1.0), (2, 0.8), (3, 0.45), (4, 0.2), (5, 0.1)):
                    wave += level * np.sin(2.0 * np.pi * note_hz * harmonic * seconds + harmonic)
            edge = np.clip(np.minimum(seconds / 0.08, (length_s - seconds) / 0.12), 0.0, 1.0)
            wave *= np.sin(0.5 * np.pi * edge) ** 2 * db(-19.0)
            _put(canvas, buffer, start + int(number * 0.8 * rate), wave.astype(np.float32))


def _put(canvas: Canvas, buffer: Samples, start: int, wave: Samples) -> None:
    """Add a sound somewhere in stereo."""
    sides = np.concatenate(pan(canvas.rng.uniform(-0.7, 0.7, 1))).astype(np.float32)
    buffer[:, start : start + wave.size] += sides[:, None] * wave
    canvas.tick()


def _add_walkers(canvas: Canvas, buffer: Samples) -> None:
    """Somebody walks by on the pavement, some 1.8 steps a second, from one side to the other."""
    rate = canvas.sample_rate_hz
    for start in random_starts(canvas, event_count(canvas, 0.06 * canvas.crowd(0.4, 2.5))).tolist():
        steps = bursts(canvas, 4, _HEEL, 0.12, canvas.rng.uniform(0.006, 0.018, 4)) * canvas.rng.uniform(0.5, 1.0)
        count = int(canvas.rng.integers(10, 19))
        pace_s = canvas.rng.uniform(0.5, 0.6)
        way = np.linspace(-0.8, 0.8, count) * canvas.rng.choice((-1.0, 1.0))
        for number, gains in enumerate(np.stack(pan(way), axis=1)):
            first = start + int((number + canvas.rng.normal(0.0, 0.03)) * pace_s * rate)
            heard = np.sin(np.pi * (number + 0.5) / count) ** 1.5 * canvas.rng.uniform(0.7, 1.0) * db(0.0)
            step = steps[canvas.rng.integers(0, 4)]
            place = max(first, 0)
            buffer[:, place : place + step.size] += (heard * gains[:, None] * step).astype(np.float32)
        canvas.tick()


def _life(canvas: Canvas) -> Samples:
    """Doors, shutters, heels, somebody's bicycle: soft, short and far, by ones and in small groups."""
    lowest_hz = 500.0 * 8.0 ** canvas.rng.random((40, 1))
    modes_hz = lowest_hz * (1.0 + canvas.rng.uniform(0.4, 0.9, (40, 3)) * np.arange(3))
    templates = rings(canvas, modes_hz, 0.004 * 12.0 ** canvas.rng.random((40, 3)), 0.2)
    templates *= canvas.rng.uniform(0.0, 1.0, (40, 1)).astype(np.float32)
    templates += np.float32(0.8) * bursts(canvas, 40, _CLATTER, 0.2, canvas.rng.uniform(0.004, 0.02, 40))
    together = np.exp(1.2 * curve(canvas, 0.1, 2.0)[0])
    starts = random_starts(canvas, event_count(canvas, 2.2 * canvas.swing(0.5, 2.0) * canvas.crowd(0.2, 5.0)), together)
    return scatter(canvas, stereo(canvas, templates, 0.85), starts, heavy_tail(canvas, starts.size, 5.0, 8.0) * db(0.0))
