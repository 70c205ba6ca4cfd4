"""Crickets, cicadas and katydids: a summer's night, its noon, its late evening.

A cricket's chirp is some pulses of one nearly pure tone (stridulation: some 45 wing strokes a second; Farnell,
*Designing Sound*, "Insects"); its rate follows the air's warmth (A. E. Dolbear, "The cricket as a thermometer", 1897),
so a meadow chirps at nearly one pace and one pitch. A cicada's buzz is clicks of two drums in turn, some hundreds a
second, ringing in its hollow body (D. Young and H. C. Bennet-Clark, "The role of the tymbal in cicada sound
production", J. Exp. Biol., 1995), in swells of several seconds. A true katydid rasps: the teeth of its file pass one by
one, in two or three strokes, and neighbors answer each other in turn (K. C. Shaw, "An analysis of the phonoresponse of
males of the true katydid", Behaviour, 1968).
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from ambientgen.audio.clip import Samples
from ambientgen.synth.events import event_count, pan, random_starts, scatter, spread_times, stereo
from ambientgen.synth.shaping import (
    Canvas,
    Ints,
    control_events,
    convolve,
    curve,
    db,
    modulate,
    response,
    shaped_noise,
)

_NIGHT: Final = (
    (30, -4),
    (63, 1),
    (125, 0),
    (250, -14),
    (600, -17),
    (1200, -20),
    (2500, -29),
    (4000, -38),
    (5500, -45),
    (12000, -50),
)
_DAY: Final = ((30, -10), (80, -2), (200, 0), (500, -4), (1500, -9), (4000, -12), (12000, -20))
_EVENING: Final = ((30, -6), (80, 0), (150, 0), (400, -8), (1000, -14), (3000, -22), (8000, -32))
_MEADOW: Final = ((2500, -50), (3700, -14), (4150, -2), (4500, 0), (4900, -12), (8000, -50))
_RASP: Final = ((2000, -40), (3000, -12), (3600, 0), (5000, 0), (5500, -16), (6500, -34))
_RASP_DB: Final = -26.0
_BUZZ: Final = ((4800, -30), (5600, 0), (6600, -3), (7600, -3), (8800, -20))
_BUZZ_DB: Final = -49.0
_NUM_BODIES: Final = 3
_GRASS_S: Final = 0.02
_GRASS_DB: Final = -8.0


def render(canvas: Canvas) -> Samples:
    """Insects. More intensity: more of them, and faster. Density alone: more of them."""
    return {"crickets": _crickets, "cicadas": _cicadas, "katydids": _katydids}[canvas.params.kind](canvas)


def _singers(canvas: Canvas, few: float, many: float, limit: int) -> int:
    """How many sing close by."""
    return min(limit, max(1, round(canvas.swing(few, many) * canvas.crowd(0.4, 2.5))))


# Crickets --------------------------------------------------------------------------------------------------------


def _crickets(canvas: Canvas) -> Samples:
    out = shaped_noise(canvas, _NIGHT, correlation=0.5)
    out *= np.float32(db(-27.0))
    out += _meadow(canvas, 0.0)
    out += _ground_cricket(canvas)
    num_near = _singers(canvas, 1.6, 7.5, 14)
    # One is so near that it stands out from all others.
    nearness = canvas.character.uniform(0.04, 0.18, num_near)
    nearness[0] = 1.0
    for one, side in zip(nearness, canvas.character.permutation(np.linspace(-0.75, 0.75, num_near)), strict=True):
        out += _cricket(canvas, float(one), float(side))
    return out


def _cricket(canvas: Canvas, nearness: float, side: float) -> Samples:
    """One cricket: its own pitch, chirp rate and rhythm, with rests."""
    pitch = canvas.character.uniform(4150.0, 4550.0)
    num_pulses = int(canvas.character.integers(6, 10))
    left, right = pan(np.array([side]))
    chirps = _chirps(canvas, pitch, num_pulses)[:, None, :] * np.array([left, right], dtype=np.float32)
    starts = _rhythm(canvas, canvas.swing(1.5, 3.1) * canvas.rng.uniform(0.9, 1.1))
    gains = 0.5 * nearness * 10.0 ** (canvas.rng.normal(0.0, 1.2, starts.size) / 20.0)
    return scatter(canvas, chirps, starts, gains)


def _chirps(canvas: Canvas, pitch_hz: float, num_pulses: int) -> Samples:
    """Six versions of one cricket's chirp, shape (6, length): rounded pulses, the first soft, gliding down.

    Within each pulse the file's teeth rasp, far below the tone.
    """
    rate = canvas.sample_rate_hz
    pulse_hz = canvas.character.uniform(42.0, 54.0)
    seconds = np.arange(int(rate * (num_pulses + 0.5) / pulse_hz)) / rate
    turn = seconds * pulse_hz
    inside = np.mod(turn, 1.0) / 0.72
    pulse = np.where((inside < 1.0) & (turn < num_pulses), np.sin(np.pi * np.clip(inside, 0.0, 1.0) ** 0.8) ** 1.5, 0.0)
    pulse *= np.minimum(1.0, 0.45 + 0.3 * np.floor(turn))
    teeth = response(_RASP, np.fft.rfftfreq(seconds.size, 1.0 / rate))
    versions = []
    for _ in range(6):
        hz = pitch_hz * canvas.rng.normal(1.0, 0.004)
        phase = 2.0 * np.pi * hz * (seconds - 0.012 * (np.mod(turn, 1.0) ** 2) / pulse_hz)
        rasp = np.fft.irfft(np.fft.rfft(canvas.rng.standard_normal(seconds.size)) * teeth, seconds.size)
        rasp *= db(_RASP_DB) / np.std(rasp)
        versions.append(pulse * (np.sin(phase) + 0.03 * np.sin(2.0 * phase) + rasp))
    return _in_grass(canvas, np.stack(versions))


def _ground_cricket(canvas: Canvas) -> Samples:
    """One of the small kind that lives below the grass: long, faint, high buzzes, more song than pause."""
    rate_hz = canvas.swing(1.6, 3.2)
    seconds = np.arange(int(0.62 / rate_hz * canvas.sample_rate_hz)) / canvas.sample_rate_hz
    place = seconds / seconds[-1]
    buzz = np.fft.rfft(canvas.rng.standard_normal((6, seconds.size)))
    buzz *= response(_BUZZ, np.fft.rfftfreq(seconds.size, 1.0 / canvas.sample_rate_hz))
    buzzes = np.fft.irfft(buzz, seconds.size)
    buzzes *= np.clip(np.minimum(place / 0.15, (1.0 - place) / 0.1), 0.0, 1.0) * db(_BUZZ_DB) / np.std(buzzes)
    starts = _rhythm(canvas, rate_hz)
    return scatter(canvas, stereo(canvas, buzzes.astype(np.float32), 0.3), starts, np.ones(starts.size))


def _in_grass(canvas: Canvas, calls: npt.NDArray[np.float64]) -> Samples:
    """Calls, shape (count, length), with what the stems around scatter: a faint tail that fills the gaps of a song."""
    rate = canvas.sample_rate_hz
    seconds = np.arange(int(0.1 * rate)) / rate
    tail = canvas.character.standard_normal(seconds.size) * np.exp(-seconds / _GRASS_S)
    tail *= db(_GRASS_DB) / np.sqrt(np.sum(tail**2))
    tail[0] += 1.0
    size = calls.shape[1] + tail.size
    points = 1 << size.bit_length()
    out = np.fft.irfft(np.fft.rfft(calls, points) * np.fft.rfft(tail, points), points)[:, :size]
    return np.asarray(out, dtype=np.float32)


def _rhythm(canvas: Canvas, rate_hz: float) -> Ints:
    """Calls at a steady rate with a little jitter, in bouts with rests between."""
    times = spread_times(canvas, max(1, round(canvas.duration_s * rate_hz)), 0.25)
    mood = curve(canvas, 0.02, 0.1)[0]
    singing = mood[(times / canvas.duration_s * mood.size).astype(int) % mood.size] > -1.1
    kept = times[singing] if singing.any() else times
    return np.sort((kept * canvas.sample_rate_hz).astype(np.intp) % canvas.num_samples)


def _meadow(canvas: Canvas, level_db: float) -> Samples:
    """The far meadow: chirps that overlap, each soft, over a shimmer of all those too far to be told apart."""
    num_far = canvas.swing(7.0, 40.0) * canvas.crowd(0.3, 1.0 / 0.3)
    pitches = canvas.character.uniform(4100.0, 4700.0, 16)
    chirps = [_chirps(canvas, float(pitch), int(canvas.character.integers(4, 8)))[:2] for pitch in pitches]
    size = max(one.shape[1] for one in chirps)
    templates = np.concatenate([np.pad(one, ((0, 0), (0, size - one.shape[1]))) for one in chirps])
    starts = random_starts(canvas, event_count(canvas, num_far * canvas.swing(1.3, 2.9)))
    gains = 10.0 ** (canvas.rng.normal(-31.0, 4.0, starts.size) / 20.0)
    far = scatter(canvas, stereo(canvas, templates, 0.9), starts, gains)
    shimmer = np.exp(0.3 * curve(canvas, 1.0, 8.0, 2) + 0.25 * curve(canvas, 0.03, 0.2))
    shimmer *= db(canvas.slide(-47.0, -31.0)) * canvas.crowd(0.5, 2.0)
    far += modulate(canvas, shaped_noise(canvas, _MEADOW, correlation=0.1), shimmer)
    far *= np.float32(db(level_db))
    return far


# Cicadas ---------------------------------------------------------------------------------------------------------


def _cicadas(canvas: Canvas) -> Samples:
    """All clicks of the cicadas with bodies of one kind share one kernel, and their swells are in the clicks."""
    out = shaped_noise(canvas, _DAY, correlation=0.4)
    out *= np.float32(db(-26.0))
    bodies_hz = canvas.character.permutation(np.geomspace(4300.0, 7200.0, _NUM_BODIES))
    trains = np.zeros((_NUM_BODIES, 2, canvas.num_samples), dtype=np.float32)
    num_singers = _singers(canvas, 2.6, 7.5, 16)
    for number, side in enumerate(canvas.character.permutation(np.linspace(-0.8, 0.8, num_singers))):
        nearness = canvas.character.uniform(0.15, 0.7) if number else 1.0
        _clicks(canvas, trains[number % _NUM_BODIES], float(side), float(nearness))
    for train, body_hz in zip(trains, bodies_hz, strict=True):
        out += convolve(canvas, train, _body(canvas, float(body_hz), 600.0))
    # The wood behind, full of them.
    points = ((2500, -40), (4000, -10), (5200, 0), (6500, -3), (8500, -14), (12000, -34))
    shimmer = np.exp(0.25 * curve(canvas, 0.05, 0.3, 2)) * db(canvas.slide(-31.0, -21.0)) * canvas.crowd(0.5, 2.0)
    out += modulate(canvas, shaped_noise(canvas, points, correlation=0.1), shimmer)
    return out


def _clicks(canvas: Canvas, train: Samples, side: float, nearness: float) -> None:
    """Add one cicada's clicks to a train: two drums in turn, each buckling in three ribs, loud in its swells."""
    drum_hz = canvas.character.uniform(150.0, 230.0)
    count = max(1, round(canvas.duration_s * drum_hz))
    period = canvas.num_samples / count
    begun = (np.arange(count) + 0.06 * canvas.rng.standard_normal(count)) * period
    swells = _swells(canvas)
    level = swells[(begun / canvas.num_samples * swells.size).astype(np.intp) % swells.size]
    level = level * nearness * np.where(np.arange(count) % 2, 0.75, 1.0) * canvas.rng.uniform(0.7, 1.0, count)
    gains = np.concatenate(pan(np.array([side]))).astype(np.float32)
    for rib, share in enumerate((1.0, 0.8, 0.5)):
        # A rib follows about every millisecond, not quite evenly.
        late = rib * 0.0011 * canvas.sample_rate_hz * canvas.rng.uniform(0.8, 1.2, count)
        where = (begun + late).astype(np.intp) % canvas.num_samples
        for channel in range(2):
            np.add.at(train[channel], where, (share * level * gains[channel]).astype(np.float32))
    canvas.tick()


def _body(canvas: Canvas, body_hz: float, clicks_hz: float) -> Samples:
    """How a hollow body rings after a click, shape (taps,); so many clicks of unit size a second have unit power."""
    rate = canvas.sample_rate_hz
    seconds = np.arange(int(0.006 * rate)) / rate
    ring = np.exp(-seconds * np.pi * body_hz / 7.0) * np.sin(2.0 * np.pi * body_hz * seconds)
    if 1.7 * body_hz < 0.45 * rate:
        ring += 0.2 * np.exp(-seconds * np.pi * body_hz / 4.0) * np.sin(2.0 * np.pi * 1.7 * body_hz * seconds)
    ring *= -np.expm1(-seconds * 9000.0)
    return np.asarray(ring * np.sqrt(rate / clicks_hz / np.sum(ring**2)), dtype=np.float32)


def _swells(canvas: Canvas) -> npt.NDArray[np.float64]:
    """Songs of 5 to 12 s that build, pulse while they last, and sink, over a faint remainder."""
    count = max(1, round(canvas.duration_s / canvas.swing(15.0, 9.0)))
    times = spread_times(canvas, count, 0.6)
    lengths = canvas.rng.uniform(5.0, 12.0, count)
    pulse_hz = canvas.rng.uniform(1.2, 6.0)

    def shape(since: npt.NDArray[np.float64], index: int) -> npt.NDArray[np.float64]:
        place = np.clip(since / lengths[index], 0.0, 1.0)
        return np.asarray(np.sin(np.pi * place**0.8) ** 2 * (0.78 + 0.22 * np.sin(2.0 * np.pi * pulse_hz * since)))

    return np.asarray(0.12 + 0.6 * control_events(canvas, shape, times.tolist()))


# Katydids --------------------------------------------------------------------------------------------------------


def _katydids(canvas: Canvas) -> Samples:
    """Pairs of true katydids that answer each other, others further off, and a soft meadow of crickets below."""
    out = shaped_noise(canvas, _EVENING, correlation=0.4)
    out *= np.float32(db(-21.0))
    out += _meadow(canvas, -8.0)
    num_singers = _singers(canvas, 2.4, 9.0, 18)
    nearness = np.sort(canvas.character.uniform(0.12, 0.5, num_singers))[::-1]
    nearness[0] = 1.0
    sides = canvas.character.permutation(np.linspace(-0.85, 0.85, num_singers))
    rate_hz = canvas.swing(0.75, 1.35)
    beat = _rhythm(canvas, rate_hz)
    for number in range(num_singers):
        if number % 2 == 0:
            beat = _rhythm(canvas, rate_hz * canvas.rng.uniform(0.9, 1.1))
        else:
            # The neighbor answers in the middle between two calls.
            beat = (beat + int(0.5 / rate_hz * canvas.sample_rate_hz)) % canvas.num_samples
        gains = np.concatenate(pan(sides[number : number + 1]))
        calls = _rasps(canvas)[:, None, :] * gains[None, :, None].astype(np.float32)
        loud = 0.4 * nearness[number] * 10.0 ** (canvas.rng.normal(0.0, 1.5, beat.size) / 20.0)
        jitter = canvas.rng.normal(0.0, 0.02 * canvas.sample_rate_hz, beat.size).astype(np.intp)
        out += scatter(canvas, calls, (beat + jitter) % canvas.num_samples, loud)
    return out


def _rasps(canvas: Canvas) -> Samples:
    """Six calls of one katydid, shape (6, length): two or three strokes of a file, the last one the longest."""
    rate = canvas.sample_rate_hz
    rng = canvas.character
    num_strokes = int(rng.integers(2, 4))
    stroke_s, tooth_hz, body_hz = rng.uniform(0.07, 0.1), rng.uniform(380.0, 560.0), rng.uniform(3300.0, 4600.0)
    size = int((num_strokes + 1.0) * 1.6 * stroke_s * rate)
    kernel = _body(canvas, body_hz, tooth_hz) + 0.7 * _body(canvas, 1.43 * body_hz, tooth_hz)
    versions = np.zeros((6, size + kernel.size), dtype=np.float32)
    for version in versions:
        for stroke in range(num_strokes):
            length_s = stroke_s * (1.5 if stroke == num_strokes - 1 else 1.0) * canvas.rng.uniform(0.92, 1.08)
            num_teeth = int(length_s * tooth_hz)
            place = (np.arange(num_teeth) + canvas.rng.uniform(-0.25, 0.25, num_teeth) + 0.3) / num_teeth
            # The wing gains speed as it closes.
            where = (stroke * 1.6 * stroke_s + length_s * np.clip(place, 0.0, 1.0) ** 0.85) * rate
            loud = np.sin(np.pi * np.clip(place, 0.0, 1.0) ** 1.3) * canvas.rng.uniform(0.5, 1.0, num_teeth)
            np.add.at(version, where.astype(np.intp), loud.astype(np.float32))
        version[:-1] = np.convolve(version[:size], kernel)
    return versions
