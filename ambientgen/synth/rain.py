"""Rain: a shaped bed of countless drops, nearer drops as a dense patter, and single drops that can be heard as such.

A drop's sound is that of what it falls on (Farnell, *Designing Sound*, "Rain"). In the open it is a splash, and now and
then a bubble that rings in its puddle; on a pond nearly every drop leaves one (H. C. Pumphrey and P. A. Elmore, "The
entrainment of bubbles by drop impacts", J. Fluid Mech., 1990). A window, a tin roof, a tent and leaves ring or thud in
their own ways. Heavier rain has more drops, and larger ones, which sound lower (J. S. Marshall and W. McK. Palmer,
"The distribution of raindrops with size", J. Meteorology, 1948). Single drops, more than any spectrum, are what makes
rain rain.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from ambientgen.audio.clip import Samples
from ambientgen.synth.events import bubbles, bursts, event_count, heavy_tail, random_starts, rings, scatter, stereo
from ambientgen.synth.grains import grains
from ambientgen.synth.shaping import Canvas, Points, curve, db, modulate, shaped_noise


class Surface(NamedTuple):
    """What the rain falls on.

    Attributes:
        bed: the sound of all the drops too far away to be told apart.
        patter: the spectrum of one small near drop.
        patter_db: level of the patter against the bed in plain rain.
        drop_db: level of the single drops against the bed in plain rain.
        drop_rate_hz: single drops a second in plain rain.
    """

    bed: Points
    patter: Points
    patter_db: float
    drop_db: float
    drop_rate_hz: float


_OCTAVES_HZ: Final = (31, 63, 125, 250, 500, 1000, 2000, 4000, 8000, 16000)


def _octaves(*levels_db: float) -> Points:
    """A spectrum by its levels at `_OCTAVES_HZ`."""
    return tuple(zip(_OCTAVES_HZ, levels_db, strict=True))


SURFACES: Final = {
    "open": Surface(
        bed=_octaves(7, 6, 3, 0.5, -0.5, -2, -5.5, -9.5, -10.5, -16),
        patter=((500, -24), (2000, -8), (5000, 0), (10000, 0), (16000, -5)),
        patter_db=-7.0,
        drop_db=-8.0,
        drop_rate_hz=45.0,
    ),
    "window": Surface(
        bed=_octaves(8, 7, 5, 2, -2, -7, -13, -20, -28, -38),
        patter=((300, -18), (900, -3), (2500, 0), (5000, -8), (12000, -22)),
        patter_db=-8.0,
        drop_db=-5.0,
        drop_rate_hz=16.0,
    ),
    "roof": Surface(
        bed=_octaves(-2, 1, 4, 4, 2, -2, -6, -11, -18, -28),
        patter=((200, -16), (600, -2), (1800, 0), (4000, -4), (9000, -13)),
        patter_db=-2.0,
        drop_db=-4.0,
        drop_rate_hz=30.0,
    ),
    "tent": Surface(
        bed=_octaves(0, 3, 4, 3, 1, -4, -11, -18, -26, -36),
        patter=((100, -16), (250, -3), (700, 0), (1800, -4), (5000, -18), (12000, -32)),
        patter_db=-1.0,
        drop_db=-2.5,
        drop_rate_hz=34.0,
    ),
    "leaves": Surface(
        bed=_octaves(-4, -3, -3, -4, -5, -5, -5, -7, -9, -14),
        patter=((300, -26), (1200, -6), (3000, 0), (7000, -2), (14000, -10)),
        patter_db=-1.0,
        drop_db=-5.0,
        drop_rate_hz=26.0,
    ),
    "water": Surface(
        bed=_octaves(-8, -6, -6, -6, -6, -7, -8, -9, -10, -15),
        patter=((800, -24), (2500, -5), (6000, 0), (12000, -1), (16000, -4)),
        patter_db=-5.0,
        drop_db=-3.5,
        drop_rate_hz=60.0,
    ),
}

_NUM_TEMPLATES = 192
_PLAIN_PATTER_HZ = 1500.0


def render(canvas: Canvas) -> Samples:
    """Rain on the variant's surface, from a drizzle of single drops to a torrential roar.

    Density changes the single drops only.
    """
    surface = SURFACES[canvas.params.kind]
    # Heavier rain's larger drops reach lower: the bed's balance tips by some 8 dB from end to end.
    tilt = canvas.slide(-4.0, 4.0)
    bed_points = [
        (hz, level + tilt * float(np.clip(np.log2(2000.0 / hz) / 3.0, -1.0, 1.0))) for hz, level in surface.bed
    ]
    out = shaped_noise(canvas, bed_points, correlation=0.25)
    out *= np.float32(db(canvas.slide(-11.0, 8.0)))
    # Showers pass over, and what falls near goes its own way: no minute of rain is even.
    shower = 10.0 ** (1.5 / 20.0 * curve(canvas, 0.01, 0.2)[0])
    squall = np.exp(0.12 * curve(canvas, 0.05, 0.4)[0] + 0.16 * curve(canvas, 0.4, 6.0)[0])
    out += _patter(canvas, surface, squall)
    out = modulate(canvas, out, shower)
    out += _drops(canvas, surface, (shower * squall) ** 2)
    return out


def _patter(canvas: Canvas, surface: Surface, density: npt.NDArray[np.float64]) -> Samples:
    """Thousands of small drops."""
    drops = grains(canvas, surface.patter, canvas.swing(250.0, 9000.0), plain_hz=_PLAIN_PATTER_HZ, density=density)
    # A drizzle's drops are not only fewer but smaller.
    drops *= np.float32(db(surface.patter_db + canvas.slide(-3.0, 3.0)))
    return drops


def _drops(canvas: Canvas, surface: Surface, density: npt.NDArray[np.float64]) -> Samples:
    rate_hz = surface.drop_rate_hz * canvas.swing(0.22, 1.0 / 0.22) * canvas.crowd(0.2, 5.0)
    templates = _TEMPLATES[canvas.params.kind](canvas)
    starts = random_starts(canvas, event_count(canvas, rate_hz, at_least=1), density)
    gains = heavy_tail(canvas, starts.size, 4.5, 10.0)
    power = np.mean(np.sum(templates**2, axis=-1)) * surface.drop_rate_hz * 2.0 / canvas.sample_rate_hz
    gains *= db(surface.drop_db + canvas.slide(1.0, -1.0)) / np.sqrt(power)
    return scatter(canvas, templates, starts, gains)


def _puddle(canvas: Canvas) -> Samples:
    """A drop on wet ground: a sharp splash, and after one in three the softer ring of its bubble."""
    decay_s = canvas.rng.uniform(0.0008, 0.004, _NUM_TEMPLATES)
    out = bursts(canvas, _NUM_TEMPLATES, ((900, -22), (2500, -9), (4500, 0), (9000, 0), (16000, -5)), 0.05, decay_s)
    ring = canvas.rng.uniform(0.1, 0.5, _NUM_TEMPLATES) * (canvas.rng.random(_NUM_TEMPLATES) < 0.33)
    return stereo(canvas, out + _ringing(canvas, 900.0, 5000.0, ring), 0.85)


def _pond(canvas: Canvas) -> Samples:
    """A drop on open water: hardly a splash, but a bubble that sings."""
    decay_s = canvas.rng.uniform(0.0008, 0.003, _NUM_TEMPLATES)
    out = bursts(canvas, _NUM_TEMPLATES, ((1500, -18), (4000, -3), (9000, 0), (16000, -4)), 0.05, decay_s)
    out *= canvas.rng.uniform(0.15, 0.6, (_NUM_TEMPLATES, 1)).astype(np.float32)
    return stereo(canvas, out + _ringing(canvas, 1100.0, 7000.0, canvas.rng.uniform(0.3, 1.0, _NUM_TEMPLATES)), 0.85)


def _ringing(canvas: Canvas, low_hz: float, high_hz: float, gains: npt.NDArray[np.float64]) -> Samples:
    """The bubbles of drops, some milliseconds after the splash."""
    pitch = low_hz * (high_hz / low_hz) ** canvas.rng.random(_NUM_TEMPLATES)
    ring = bubbles(canvas, pitch, 0.05, 0.15) * gains[:, None].astype(np.float32)
    late = np.zeros_like(ring)
    delay = int(0.004 * canvas.sample_rate_hz)
    late[:, delay:] = ring[:, : ring.shape[1] - delay]
    return late


def _pane(canvas: Canvas) -> Samples:
    """A tap on glass: a short click and a few quickly damped modes of the pane."""
    out = _struck(canvas, (700.0, 1900.0), (0.0, 1.1, 2.2, 3.3), (0.004, 0.011), 0.05)
    decay_s = canvas.rng.uniform(0.001, 0.003, _NUM_TEMPLATES)
    out += np.float32(0.7) * bursts(canvas, _NUM_TEMPLATES, ((500, -12), (2500, 0), (7000, -10)), 0.05, decay_s)
    return stereo(canvas, out, 0.8)


def _panel(canvas: Canvas) -> Samples:
    """A knock on sheet metal: inharmonic modes that ring for a moment over a dull thud."""
    out = _struck(canvas, (260.0, 760.0), (0.0, 0.9, 1.8, 2.9, 4.3, 6.1), (0.010, 0.030), 0.1)
    decay_s = canvas.rng.uniform(0.002, 0.006, _NUM_TEMPLATES)
    out += np.float32(0.8) * bursts(canvas, _NUM_TEMPLATES, ((150, -8), (900, 0), (4000, -8)), 0.1, decay_s)
    return stereo(canvas, out, 0.85)


def _cloth(canvas: Canvas) -> Samples:
    """A drop on taut cloth: a small drum. Modes of a round membrane: 1, 1.59, 2.14, 2.30 and 2.65 times the lowest."""
    out = _struck(canvas, (130.0, 420.0), (0.0, 0.59, 1.14, 1.30, 1.65), (0.006, 0.014), 0.06)
    decay_s = canvas.rng.uniform(0.0015, 0.005, _NUM_TEMPLATES)
    pat = bursts(canvas, _NUM_TEMPLATES, ((150, -10), (600, 0), (1800, -5), (6000, -22)), 0.06, decay_s)
    return stereo(canvas, out + np.float32(0.9) * pat, 0.9)


def _leaf(canvas: Canvas) -> Samples:
    """A pat on a leaf: a soft burst without pitch."""
    decay_s = canvas.rng.uniform(0.003, 0.011, _NUM_TEMPLATES)
    pat = bursts(canvas, _NUM_TEMPLATES, ((300, -14), (1100, -1), (3500, 0), (9000, -9)), 0.05, decay_s)
    return stereo(canvas, pat, 0.9)


def _struck(
    canvas: Canvas,
    lowest_hz: tuple[float, float],
    above: tuple[float, ...],
    decay_s: tuple[float, float],
    length_s: float,
) -> Samples:
    """Struck bodies whose modes lie `above` times their lowest over it, each a little out; higher ones die sooner."""
    count, order = len(above), np.arange(len(above))
    lowest = canvas.rng.uniform(*lowest_hz, (_NUM_TEMPLATES, 1))
    modes = lowest * (1.0 + canvas.rng.uniform(0.85, 1.15, (_NUM_TEMPLATES, count)) * np.array(above))
    decays = canvas.rng.uniform(*decay_s, (_NUM_TEMPLATES, count)) / (1.0 + 0.4 * order)
    return rings(canvas, modes, decays, length_s)


_TEMPLATES: Final = {
    "open": _puddle,
    "window": _pane,
    "roof": _panel,
    "tent": _cloth,
    "leaves": _leaf,
    "water": _pond,
}
