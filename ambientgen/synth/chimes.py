"""Things that are struck and ring for long: wind chimes, church bells far off, singing bowls.

All of them are sums of damped modes, whose frequencies follow from the body (N. H. Fletcher and T. D. Rossing, *The
Physics of Musical Instruments*, 1998): a tube bends as a free bar does, in the ratios of 3.011², 5², 7², 9² and 11²; a
church bell is tuned to hum, prime, tierce, quint and nominal, an octave apart from hum to prime and to nominal. A
bowl's modes lie near 1, 2.8, 5.2 and 8 (O. Inácio, L. L. Henrique and J. Antunes, "The dynamics of Tibetan singing
bowls", Acta Acustica, 2006). None is perfectly round, so that each mode is two, close together, which beat.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from ambientgen.audio.clip import Samples
from ambientgen.synth.events import event_count, pan, random_starts, scatter, spread_times
from ambientgen.synth.shaping import Canvas, at_audio_rate, curve, db, modulate, shaped_noise, tone

Array = npt.NDArray[np.float64]

_BREEZE: Final = ((40, -10), (100, -1), (250, 0), (600, -4), (1500, -8), (4000, -10), (9000, -14), (16000, -24))
_VILLAGE: Final = ((30, -8), (80, 0), (200, 0), (500, -6), (1500, -14), (4000, -24), (10000, -36))
_STILLNESS: Final = ((40, -6), (100, 0), (250, -2), (700, -9), (2000, -18), (8000, -32))

#: Free bar: the squares of 3.0112, 5, 7, 9 and 11, over the first.
TUBE_RATIOS: Final = tuple((k / 3.0112) ** 2 for k in (3.0112, 5.0, 7.0, 9.0, 11.0))
#: Hum, prime, tierce, quint, nominal, tenth, eleventh, twelfth, double octave; and their levels for a soft clapper.
_BELL_RATIOS: Final = (0.5, 1.0, 1.2, 1.5, 2.0, 2.5, 2.66, 3.0, 4.0)
_BELL_LEVELS_DB: Final = (-5.0, -3.0, -4.0, -14.0, 0.0, -12.0, -14.0, -9.0, -16.0)
_BOWL_RATIOS: Final = (1.0, 2.78, 5.18, 8.0)
_BLOCK: Final = 1 << 10


class _Strike(NamedTuple):
    """One strike on one body: its modes, and how long the template is.

    Attributes:
        modes_hz: shape (modes,).
        levels: amplitudes, shape (modes,).
        decay_s: times to fall by 8.7 dB, shape (modes,).
        attack_s: how soft the strike is.
        length_s: where the ringing is cut, with a fade.
    """

    modes_hz: Array
    levels: Array
    decay_s: Array
    attack_s: float
    length_s: float


def render(canvas: Canvas) -> Samples:
    """Wind chimes, bells or bowls. More intensity: struck harder and more often; density alone: more often."""
    return {"chimes": _chimes, "bells": _bells, "bowls": _bowls}[canvas.params.kind](canvas)


# Wind chimes -----------------------------------------------------------------------------------------------------


def _chimes(canvas: Canvas) -> Samples:
    """A clapper among tubes that hang in a circle, driven by a breeze: none in a lull, several in a gust."""
    gusts = curve(canvas, 0.03, 0.25)[0] + 0.5 * curve(canvas, 0.3, 1.2)[0]
    out = shaped_noise(canvas, _BREEZE, correlation=0.4)
    modulate(canvas, out, np.exp(0.3 * gusts + 0.12 * curve(canvas, 0.3, 2.0, 2)))
    out *= np.float32(db(canvas.slide(-34.0, -27.0)))
    rng = canvas.character
    root_hz = 440.0 * 2.0 ** rng.uniform(-0.2, 0.75)
    # Five tones without a half step: whichever two meet, they agree.
    scale = np.array(((0, 2, 4, 7, 9, 12, 14), (0, 3, 5, 7, 10, 12, 15), (0, 2, 5, 7, 9, 12, 14))[rng.integers(0, 3)])
    tubes_hz = root_hz * 2.0 ** (scale[: int(rng.integers(5, 8))] / 12.0)
    sides = np.linspace(-0.6, 0.6, tubes_hz.size)[rng.permutation(tubes_hz.size)]
    templates = []
    for hz, side in zip(tubes_hz, sides, strict=True):
        oval = rng.uniform(0.4, 1.6)
        templates += [_placed(_ring(canvas, _tube(canvas, float(hz), oval)), float(side)) for _ in range(3)]
    starts, gains = _blows(canvas, gusts)
    out += scatter(canvas, np.stack(templates), starts, gains * db(-11.0))
    return out


def _tube(canvas: Canvas, hz: float, oval_hz: float) -> _Strike:
    """A strike near the middle of a tube: where it meets, and how hard, decides which modes it wakes."""
    ratios = np.array(TUBE_RATIOS)
    where = canvas.rng.uniform(0.38, 0.5)
    # The shape of a bending bar, well enough between its ends: a cosine about its middle, turned for the odd modes.
    number = np.arange(1, ratios.size + 1)
    shape = np.abs(np.cos(np.pi * (number + 0.5) * (where - 0.5) + 0.5 * np.pi * (number % 2 == 0)))
    levels = (0.08 + shape) * canvas.swing(0.42, 0.72) ** np.arange(ratios.size)
    decay_s = 2.1 * (600.0 / hz) ** 0.5 / ratios**0.62
    return _doubled(hz * ratios, levels, decay_s, oval_hz, attack_s=0.0015, length_s=6.5)


def _blows(canvas: Canvas, gusts: Array) -> tuple[npt.NDArray[np.intp], Array]:
    """When the clapper strikes and how hard: a swing draws one to four strikes, a third of a second or so apart."""
    rate_hz = canvas.swing(0.16, 1.1) * canvas.crowd(0.35, 1.0 / 0.35)
    first = random_starts(canvas, event_count(canvas, rate_hz, at_least=1), np.exp(1.1 * gusts))
    owner = np.repeat(np.arange(first.size), canvas.rng.integers(0, 4, first.size))
    later = np.cumsum(canvas.rng.uniform(0.08, 0.4, owner.size)) if owner.size else np.zeros(0)
    later -= later[np.searchsorted(owner, owner)] if owner.size else 0.0
    later += canvas.rng.uniform(0.12, 0.4, owner.size)
    starts = np.concatenate([first, first[owner] + (later * canvas.sample_rate_hz).astype(np.intp)])
    gains = canvas.rng.uniform(0.35, 1.0, starts.size)
    gains[first.size :] *= 0.7
    return starts % canvas.num_samples, gains


# Bells -----------------------------------------------------------------------------------------------------------


def _bells(canvas: Canvas) -> Samples:
    """A few bells that swing, each at the pace of its own weight, and rest; heard across a valley."""
    out = shaped_noise(canvas, _VILLAGE, correlation=0.4)
    modulate(canvas, out, np.exp(0.2 * curve(canvas, 0.03, 0.3, 2)))
    out *= np.float32(db(-30.0))
    rng = canvas.character
    lowest_hz = rng.uniform(300.0, 400.0)
    steps = ((0, 4, 7, 12, 16), (0, 3, 7, 10, 14), (0, 2, 4, 7, 9))[int(rng.integers(0, 3))]
    num_bells = min(5, max(1, round(2.6 * canvas.crowd(0.4, 2.0))))
    # Peals come and go; the smallest bell starts and the largest goes on longest, as they do.
    peal = curve(canvas, 0.015, 0.06)[0]
    for number in range(num_bells):
        prime_hz = lowest_hz * 2.0 ** (steps[number] / 12.0)
        side = float(rng.uniform(-0.35, 0.35))
        period_s = 2.4 * (lowest_hz / prime_hz) ** 0.5 * rng.uniform(0.94, 1.06) * canvas.swing(1.35, 0.8)
        oval = rng.uniform(0.3, 1.2)
        templates = np.stack([_placed(_ring(canvas, _bell(canvas, prime_hz, oval)), side) for _ in range(2)])
        times = spread_times(canvas, max(1, round(canvas.duration_s / period_s)), 0.05)
        swinging = peal[(times / canvas.duration_s * peal.size).astype(np.intp) % peal.size] + 0.15 * number
        # As it comes to rest, a bell is struck ever softer.
        gains = np.clip(0.75 + 0.6 * swinging, 0.0, 1.0) * canvas.rng.uniform(0.8, 1.0, times.size)
        struck = gains > 0.15
        starts = (times[struck] * canvas.sample_rate_hz).astype(np.intp) % canvas.num_samples
        if starts.size:
            out += scatter(canvas, templates, starts, gains[struck] * db(-5.0))
    return out


def _bell(canvas: Canvas, prime_hz: float, oval_hz: float) -> _Strike:
    """A strike on a church bell far off: the air has taken its edge, and the hills its beginning."""
    ratios = np.array(_BELL_RATIOS)
    levels = 10.0 ** (np.array(_BELL_LEVELS_DB) / 20.0) * canvas.rng.uniform(0.85, 1.15, ratios.size)
    hz = prime_hz * ratios
    levels = levels / (1.0 + (hz / canvas.swing(900.0, 1700.0)) ** 2)
    decay_s = 3.4 * (330.0 / prime_hz) ** 0.5 / (0.55 + ratios) ** 1.1
    return _doubled(hz, levels, decay_s, oval_hz, attack_s=0.012, length_s=8.0)


# Singing bowls ---------------------------------------------------------------------------------------------------


def _bowls(canvas: Canvas) -> Samples:
    """Bowls struck with a soft mallet, seldom and in no hurry, over one that is rubbed and sings."""
    out = shaped_noise(canvas, _STILLNESS, correlation=0.5)
    out *= np.float32(db(-35.0))
    rng = canvas.character
    lowest_hz = rng.uniform(130.0, 185.0)
    steps = (0, 7, 12, 16) if rng.random() < 0.5 else (0, 5, 12, 15)
    sides = rng.permutation(np.linspace(-0.5, 0.5, len(steps)))
    ovals = rng.uniform(0.25, 1.1, len(steps))
    detuned = np.exp(rng.normal(0.0, 0.004, len(steps)))
    bowls_hz = lowest_hz * 2.0 ** (np.array(steps) / 12.0) * detuned
    templates = np.stack(
        [
            _placed(_ring(canvas, _bowl(canvas, float(hz), float(oval))), float(side))
            for hz, oval, side in zip(bowls_hz, ovals, sides, strict=True)
        ]
    )
    pause_s = canvas.swing(9.0, 4.5) * canvas.crowd(1.6, 1.0 / 1.6)
    times = spread_times(canvas, max(1, round(canvas.duration_s / pause_s)), 0.7)
    starts = (times * canvas.sample_rate_hz).astype(np.intp) % canvas.num_samples
    out += scatter(canvas, templates, starts, canvas.rng.uniform(0.5, 1.0, starts.size) * db(-13.0))
    out += _rubbed(canvas, float(bowls_hz[0]), float(ovals[0]))
    return out


def _bowl(canvas: Canvas, hz: float, oval_hz: float) -> _Strike:
    ratios = np.array(_BOWL_RATIOS)
    levels = np.array((1.0, 0.5, 0.2, 0.06)) * canvas.swing(0.6, 1.7) ** np.array((0.0, 1.0, 2.0, 3.0))
    decay_s = np.array((6.5, 4.2, 2.0, 1.0)) * (160.0 / hz) ** 0.4
    return _doubled(hz * ratios, levels, decay_s, oval_hz, attack_s=0.03, length_s=18.0)


def _rubbed(canvas: Canvas, hz: float, oval_hz: float) -> Samples:
    """A bowl that sings: its lowest two modes, swelling as the stick goes round, and slowly beating."""
    out = np.zeros((2, canvas.num_samples), dtype=np.float32)
    swell = np.exp(0.45 * curve(canvas, 0.02, 0.1)[0])
    for ratio, level_db in ((1.0, -15.0), (_BOWL_RATIOS[1], -25.0)):
        # Its two halves are not of one strength, so that the beat never falls silent.
        for side, apart, share_db in ((-0.3, 0.5, 0.0), (0.3, -0.5, -7.0)):
            mode = tone(canvas, hz * ratio + apart * oval_hz, canvas.rng.uniform(0.0, 2.0 * np.pi))
            level = db(level_db + share_db + canvas.slide(-4.0, 4.0))
            mode *= at_audio_rate(canvas, level * swell * np.exp(0.2 * curve(canvas, 0.1, 0.6)[0]))
            left, right = pan(np.array([side]))
            out[0] += mode * np.float32(left[0])
            out[1] += mode * np.float32(right[0])
    return out


# Modes -----------------------------------------------------------------------------------------------------------


def _doubled(
    modes_hz: Array, levels: Array, decay_s: Array, oval_hz: float, *, attack_s: float, length_s: float
) -> _Strike:
    """Split every mode in two that beat: a body that is not quite round has two of each (Fletcher and Rossing)."""
    apart = 0.5 * oval_hz * np.sqrt(modes_hz / modes_hz[0])
    return _Strike(
        modes_hz=np.concatenate([modes_hz - apart, modes_hz + apart]),
        levels=np.concatenate([0.7 * levels, 0.3 * levels]),
        decay_s=np.concatenate([decay_s, 0.9 * decay_s]),
        attack_s=attack_s,
        length_s=length_s,
    )


def _ring(canvas: Canvas, strike: _Strike) -> Samples:
    """A struck body, shape (length,), of about unit peak.

    A damped mode is a power of one complex number, and so an outer product of coarse and fine powers: far cheaper than
    a sine and an exponential for every sample.
    """
    rate = canvas.sample_rate_hz
    size = int(strike.length_s * rate)
    heard = strike.modes_hz < 0.45 * rate
    step = (2j * np.pi * strike.modes_hz[heard] - 1.0 / strike.decay_s[heard]) / rate
    phases = np.exp(2j * np.pi * canvas.rng.random(step.size))
    fine = np.exp(step[:, None] * np.arange(_BLOCK))
    coarse = np.exp(step[:, None] * _BLOCK * np.arange(-(-size // _BLOCK)))
    coarse *= (strike.levels[heard] * phases)[:, None]
    # The real part of the sum over modes of coarse times fine.
    rows = np.concatenate([coarse.real, -coarse.imag]).astype(np.float32)
    columns = np.concatenate([fine.real, fine.imag]).astype(np.float32)
    ringing = (rows.T @ columns).reshape(-1)[:size]
    attack = int(4.0 * strike.attack_s * rate)
    ringing[:attack] *= -np.expm1(-np.arange(attack) / (strike.attack_s * rate)).astype(np.float32)
    tail = size // 4
    ringing[-tail:] *= (0.5 + 0.5 * np.cos(np.pi * np.arange(1, tail + 1) / tail)).astype(np.float32)
    canvas.tick()
    return np.asarray(ringing / (np.sum(strike.levels[heard]) + 1e-9), dtype=np.float32)


def _placed(mono: Samples, side: float) -> Samples:
    """A mono sound at a place from -1 (left) to 1 (right), shape (2, length)."""
    return np.asarray(mono * np.concatenate(pan(np.array([side])))[:, None], dtype=np.float32)
