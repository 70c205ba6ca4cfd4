"""Machines that run by themselves: the hum of mains and motors, a fan, an engine, and the inside of a spaceship.

A transformer pulls its iron twice a cycle, and an induction motor turns a little slower than the field that drags it
(Farnell, *Designing Sound*, "Electricity" and "Motors"). A fan is broad noise of turbulence under a soft tone at the
rate at which its blades pass (I. J. Sharland, "Sources of noise in axial flow fans", J. Sound Vib., 1964). A
four-stroke engine fires each cylinder once in two turns, never twice quite alike, which gives it its half orders and
its lope (S. Baldan, H. Lachambre, S. Delle Monache and P. Boussard, "Physically informed car engine sound synthesis for
virtual and augmented environments", IEEE SIVE, 2015). The spaceship is nobody's recording: low partials that beat as
two far generators would, the air of its ducts, and instruments that talk among themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from ambientgen.audio.clip import Samples
from ambientgen.synth.events import event_count, fold, pan, random_starts, rings
from ambientgen.synth.shaping import Canvas, at_audio_rate, convolve, curve, db, later, modulate, shaped_noise, tone
from ambientgen.synth.turning import add_panned, course, moments, partials

_ROOM: Final = ((30, -6), (80, 0), (200, -1), (600, -6), (2000, -14), (8000, -28))
_WIND: Final = ((40, -10), (90, -3), (180, 0), (400, -1), (900, -4), (2000, -9), (5000, -17), (12000, -29))
_RUSTLE: Final = ((300, -20), (900, -5), (1800, 0), (4000, -4), (9000, -13), (16000, -24))
_BURN: Final = ((30, -10), (60, -2), (110, 0), (220, -3), (500, -10), (1200, -19), (4000, -34))
_CLATTER: Final = ((250, -22), (700, -6), (1500, 0), (3200, -3), (7000, -14), (14000, -28))
_HULL: Final = ((25, -4), (45, 0), (90, -2), (180, -8), (400, -16), (1000, -27), (4000, -45))
_DUCTS: Final = ((60, -14), (150, -4), (320, 0), (420, -5), (700, -3), (1400, -10), (3000, -16), (8000, -27))


def render(canvas: Canvas) -> Samples:
    """A machine of the variant's kind.

    More intensity: more load, so brighter and faster. Density: how many machines run together; in the spaceship, how
    much its instruments have to say.
    """
    return _VARIANTS[canvas.params.kind](canvas)


def _num_machines(canvas: Canvas) -> int:
    """One to five; two are plain, for two that are nearly alike keep each other from being still."""
    return round(canvas.crowd(1.0, 4.6))


def _hum(canvas: Canvas) -> Samples:
    """A transformer, and motors that slip behind its field, each at a speed and a place of its own."""
    base_hz = (50.0, 60.0)[int(canvas.character.integers(0, 2))]
    out = modulate(canvas, shaped_noise(canvas, _ROOM, correlation=0.3), np.exp(0.12 * curve(canvas, 0.03, 0.5, 2)))
    out *= np.float32(db(canvas.slide(-17.0, -10.0)))
    fall_db = canvas.slide(-9.0, -4.5)
    for harmonic in (1, 2, 3, 4, 5, 6, 8, 10, 12, 16):
        # The second harmonic leads: iron is pulled twice a cycle.
        level_db = fall_db * float(np.log2(harmonic)) + (-4.0 if harmonic == 1 else 0.0)
        level_db += canvas.character.uniform(-4.0, 2.0) - (4.0 if harmonic % 2 and harmonic > 1 else 0.0)
        partial = tone(canvas, base_hz * harmonic, canvas.rng.uniform(0.0, 2.0 * np.pi))
        partial *= at_audio_rate(canvas, db(level_db) * np.exp(0.15 * curve(canvas, 0.03, 0.4)[0]))
        add_panned(out, partial, canvas.rng.uniform(-0.35, 0.35))
    for number in range(_num_machines(canvas)):
        poles = (2, 4)[int(canvas.character.integers(0, 2))]
        slip = canvas.character.uniform(0.015, 0.05)
        load = np.exp(0.25 * curve(canvas, 0.02, 0.2)[0])
        turned = course(canvas, base_hz * 2.0 / poles * (1.0 - slip), 0.003 * curve(canvas, 0.02, 0.15)[0])
        # Its rotor is a little out of balance, its bearings and slots add higher orders.
        slots = int(canvas.character.integers(11, 19))
        levels = {1: 0.5, 2: 0.8, 3: 0.3, 4: 0.35, 6: 0.15, 8: 0.08, slots: db(canvas.slide(-30.0, -18.0))}
        motor = partials(canvas, turned, levels) * at_audio_rate(canvas, load)
        add_panned(out, motor * np.float32(db(-9.0 - 2.5 * number)), canvas.character.uniform(-0.6, 0.6))
    return out


def _fan(canvas: Canvas) -> Samples:
    """Air through blades: each fan a broad rush, a soft tone at its blade rate, and its motor."""
    out = np.zeros((2, canvas.num_samples), dtype=np.float32)
    for number in range(_num_machines(canvas)):
        blades = int(canvas.character.integers(3, 6))
        turn_hz = canvas.swing(9.5, 21.0) * canvas.character.uniform(0.92, 1.08)
        turned = course(canvas, turn_hz, 0.004 * curve(canvas, 0.03, 0.3)[0])
        side = canvas.character.uniform(-0.45, 0.45)
        level = np.float32(db(-5.0 * number))
        # A faster fan is brighter: its turbulence moves up with its blades.
        rush = shaped_noise(canvas, _tilted(_WIND, canvas.slide(-1.4, 1.4), 400.0), correlation=0.35)
        rush = modulate(canvas, rush, np.exp(0.16 * curve(canvas, 0.02, 0.4)[0] + 0.08 * curve(canvas, 0.4, 5.0, 2)))
        # The air comes in puffs, one for each blade, and none of the blades is quite like another.
        puffs = partials(canvas, turned, {1: 0.06, blades: 0.14, 2 * blades: 0.05})
        rush *= 1.0 + puffs
        out += rush * level
        breath = at_audio_rate(canvas, np.exp(0.25 * curve(canvas, 0.03, 0.5)[0]))
        blade = partials(canvas, turned, {1: 0.25, blades: 1.0, 2 * blades: 0.4, 3 * blades: 0.2, 4 * blades: 0.1})
        add_panned(out, blade * breath * (level * np.float32(db(-14.0))), side)
        add_panned(out, tone(canvas, 100.0 + 20.0 * canvas.character.integers(0, 2)) * (level * np.float32(0.12)), side)
    rustle = shaped_noise(canvas, _RUSTLE, correlation=0.2)
    rustle = modulate(canvas, rustle, np.exp(0.2 * curve(canvas, 0.05, 0.6, 2) + 0.1 * curve(canvas, 0.6, 8.0, 2)))
    out += rustle * np.float32(db(canvas.slide(-23.0, -9.0)))
    return out


def _engine(canvas: Canvas) -> Samples:
    """Large diesels at an even speed: a deep pulse for each firing, and the clatter of valves that follows it."""
    out = np.zeros((2, canvas.num_samples), dtype=np.float32)
    clatter = np.zeros_like(out)
    base_hz = canvas.swing(3.4, 6.2) * 2.0 ** canvas.character.uniform(-0.25, 0.25)
    for number in range(_num_machines(canvas)):
        cylinders = (4, 6, 8)[int(canvas.character.integers(0, 3))]
        hunting = 0.006 * curve(canvas, 0.05, 0.4)[0] + 0.006 * curve(canvas, 0.4, 2.0)[0]
        turned = course(canvas, base_hz * (1.0 + 0.021 * number), hunting)
        side = canvas.character.uniform(-0.4, 0.4) if number else 0.0
        level = db(-3.0 * number)
        strength = canvas.character.uniform(0.6, 1.0, cylinders)
        pulses = np.zeros((1, canvas.num_samples), dtype=np.float32)
        for cylinder in range(cylinders):
            times = moments(canvas, turned, (cylinder + canvas.character.uniform(-0.03, 0.03)) / cylinders)
            gains = strength[cylinder] * np.exp(0.12 * canvas.rng.standard_normal(times.size))
            np.add.at(pulses[0], _starts(canvas, times), gains.astype(np.float32))
        body = rings(canvas, _ENGINE_MODES_HZ * canvas.character.uniform(0.9, 1.12), _ENGINE_DECAY_S, 0.3)[0]
        thump = convolve(canvas, pulses, body)[0]
        add_panned(out, thump * np.float32(level / (np.std(thump) + 1e-9)), side)
        # Burning gas and gears hiss while the pressure of each firing lasts.
        seconds = np.arange(int(0.12 * canvas.sample_rate_hz)) / canvas.sample_rate_hz
        puff = convolve(canvas, pulses, (np.exp(-seconds / 0.012) * -np.expm1(-seconds / 0.002)).astype(np.float32))[0]
        add_panned(clatter, puff * np.float32(level / (np.mean(puff) + 1e-9)), side)
    burn = shaped_noise(canvas, _BURN, correlation=0.4)
    out += burn * (0.45 * clatter + 0.5).astype(np.float32) * np.float32(db(-5.0))
    valves = shaped_noise(canvas, _tilted(_CLATTER, canvas.slide(-1.0, 1.0), 1200.0), correlation=0.4)
    out += valves * (0.8 * clatter + 0.25).astype(np.float32) * np.float32(db(canvas.slide(-24.0, -12.0)))
    # Load comes and goes with the sea or the grid.
    return modulate(canvas, out, np.exp(0.1 * curve(canvas, 0.02, 0.2)[0] + 0.05 * curve(canvas, 0.3, 2.0, 2)))


_ENGINE_MODES_HZ: Final = np.array([[46.0, 71.0, 108.0, 163.0, 240.0, 335.0]])
_ENGINE_DECAY_S: Final = np.array([[0.045, 0.04, 0.03, 0.02, 0.014, 0.01]])


def _spaceship(canvas: Canvas) -> Samples:
    """A hull that hums in slow beats, air in its ducts, a far slow pulse of the drive, and soft instruments."""
    root_hz = 36.0 * 2.0 ** (canvas.character.integers(0, 8) / 12.0)
    out = modulate(canvas, shaped_noise(canvas, _HULL, correlation=0.5, num_taps=16384), _pulse(canvas))
    out *= np.float32(db(-8.0))
    fall_db = canvas.slide(-5.6, -2.8)
    for ratio, level_db in ((1.0, 0.0), (1.5, -7.0), (2.0, -3.0), (3.0, -6.0), (4.0, -8.0), (5.0, -13.0), (6.0, -12.0)):
        # Two generators, never quite in step: the pair beats once in 3 to 20 s, differently on each side.
        apart_hz = canvas.rng.uniform(0.05, 0.3) * canvas.swing(0.6, 1.6)
        for number, side in enumerate((-0.5, 0.5, 0.0)):
            wave = tone(canvas, root_hz * ratio + apart_hz * (number - 1), canvas.rng.uniform(0.0, 2.0 * np.pi))
            wave *= at_audio_rate(
                canvas,
                db(level_db + fall_db * float(np.log2(ratio)) - 7.0) * np.exp(0.3 * curve(canvas, 0.02, 0.12)[0]),
            )
            add_panned(out, wave, side)
    ducts = shaped_noise(canvas, _DUCTS, correlation=0.25)
    ducts = modulate(canvas, ducts, np.exp(0.2 * curve(canvas, 0.03, 0.25, 2) + 0.07 * curve(canvas, 0.5, 4.0, 2)))
    out += ducts * np.float32(db(canvas.slide(-17.0, -8.0)))
    impeller = course(canvas, canvas.character.uniform(17.0, 22.0), 0.004 * curve(canvas, 0.03, 0.2)[0])
    whine = partials(canvas, impeller, {1: 0.3, 9: 1.0, 18: 0.4, 27: 0.15})
    whine *= at_audio_rate(canvas, np.exp(0.4 * curve(canvas, 0.02, 0.2)[0]))
    add_panned(out, whine * np.float32(db(canvas.slide(-30.0, -20.0))), canvas.character.uniform(-0.5, 0.5))
    out += _telemetry(canvas)
    return out


def _pulse(canvas: Canvas) -> npt.NDArray[np.float64]:
    """The drive's slow swell, a whole number of times around the circle, a little later on one side."""
    turned = course(canvas, canvas.swing(0.1, 0.28), 0.2 * curve(canvas, 0.02, 0.1)[0])[:-1]
    swell = np.exp(0.3 * np.sin(2.0 * np.pi * turned)) * np.exp(0.15 * curve(canvas, 0.05, 1.0)[0])
    return np.stack([swell, later(swell, canvas, 0.4)])


def _telemetry(canvas: Canvas) -> Samples:
    """Very soft blips: each instrument has its own pitches and place, and says the same few notes every time."""
    rate = canvas.sample_rate_hz
    size = int(0.16 * rate)
    seconds = np.arange(size) / rate
    envelope = np.sin(np.pi * (np.arange(size) / size) ** 0.6) ** 2
    buffer = np.zeros((2, canvas.num_samples + 2 * rate), dtype=np.float32)
    instruments = [
        (
            canvas.character.uniform(620.0, 1500.0) * canvas.character.choice((1.0, 1.0, 1.25, 1.5), 4),
            int(canvas.character.integers(1, 5)),
            canvas.character.uniform(0.1, 0.24),
            np.concatenate(pan(canvas.character.uniform(-0.8, 0.8, 1))),
        )
        for _ in range(5)
    ]
    starts = random_starts(canvas, event_count(canvas, canvas.crowd(0.03, 0.6)))
    for start, chosen in zip(starts.tolist(), canvas.rng.integers(0, 5, starts.size).tolist(), strict=True):
        pitches, count, apart_s, gains = instruments[chosen]
        level = canvas.rng.uniform(0.4, 1.0)
        for number in range(count):
            first = start + int(number * apart_s * rate)
            blip = envelope * (
                np.sin(2.0 * np.pi * pitches[number] * seconds) + 0.2 * np.sin(4.0 * np.pi * pitches[number] * seconds)
            )
            piece = blip[: buffer.shape[1] - first]
            buffer[:, first : first + piece.size] += (gains[:, None] * piece * level).astype(np.float32)
    canvas.tick()
    return fold(buffer, canvas.num_samples) * np.float32(db(-5.0))


def _starts(canvas: Canvas, times_s: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
    return np.asarray((times_s * canvas.sample_rate_hz).astype(np.intp) % canvas.num_samples)


def _tilted(
    points: tuple[tuple[float, float], ...], db_per_octave: float, middle_hz: float
) -> list[tuple[float, float]]:
    """A response, turned around `middle_hz`."""
    return [(hz, level + db_per_octave * float(np.log2(hz / middle_hz))) for hz, level in points]


_VARIANTS: Final[Mapping[str, Callable[[Canvas], Samples]]] = {
    "hum": _hum,
    "fan": _fan,
    "engine": _engine,
    "spaceship": _spaceship,
}
