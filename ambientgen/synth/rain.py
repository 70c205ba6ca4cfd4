"""Rain: a shaped bed of countless drops, nearer drops as a dense patter, and single drops that can be heard as such.

In open rain the single drops are bubbles in puddles (Minnaert; van den Doel 2005) after a small splash; on a window,
a roof and leaves they strike something that rings or thuds in its own way. Farnell, *Designing Sound*, "Rain": a drop's
sound is that of what it falls on. Single drops, more than any spectrum, are what makes rain rain.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from ambientgen.audio.clip import Samples
from ambientgen.synth.events import (
    bubbles,
    bursts,
    event_count,
    heavy_tail,
    impulses,
    random_starts,
    rings,
    scatter,
    stereo,
)
from ambientgen.synth.shaping import Canvas, Points, at_audio_rate, convolve, curve, db, fir, shaped_noise


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


SURFACES: Final = {
    "open": Surface(
        bed=(
            (31, 6),
            (63, 5),
            (125, 2),
            (250, -2),
            (500, -4),
            (1000, -5),
            (2000, -8),
            (4000, -8.5),
            (8000, -8),
            (16000, -13),
        ),
        patter=((500, -24), (2000, -8), (5000, 0), (12000, 0), (16000, -3)),
        patter_db=-7.0,
        drop_db=-8.5,
        drop_rate_hz=45.0,
    ),
    "window": Surface(
        bed=(
            (31, 8),
            (63, 7),
            (125, 5),
            (250, 2),
            (500, -2),
            (1000, -7),
            (2000, -13),
            (4000, -20),
            (8000, -28),
            (16000, -38),
        ),
        patter=((300, -18), (900, -3), (2500, 0), (5000, -8), (12000, -22)),
        patter_db=-8.0,
        drop_db=-5.0,
        drop_rate_hz=16.0,
    ),
    "roof": Surface(
        bed=(
            (31, 2),
            (63, 4),
            (125, 5),
            (250, 4),
            (500, 1),
            (1000, -4),
            (2000, -9),
            (4000, -14),
            (8000, -20),
            (16000, -30),
        ),
        patter=((150, -14), (400, -2), (1200, 0), (3000, -5), (9000, -16)),
        patter_db=-2.0,
        drop_db=-4.0,
        drop_rate_hz=30.0,
    ),
    "leaves": Surface(
        bed=(
            (31, -4),
            (63, -3),
            (125, -3),
            (250, -4),
            (500, -5),
            (1000, -5),
            (2000, -5),
            (4000, -7),
            (8000, -9),
            (16000, -14),
        ),
        patter=((300, -26), (1200, -6), (3000, 0), (7000, -2), (14000, -10)),
        patter_db=-1.0,
        drop_db=-5.0,
        drop_rate_hz=26.0,
    ),
}

_NUM_TEMPLATES = 192


def render(canvas: Canvas) -> Samples:
    """Rain on the variant's surface. Heavier rain has more drops, a fuller bed, and a darker, closer roar."""
    surface = SURFACES[canvas.params.kind]
    # Larger drops fall in heavier rain and reach lower: the bed's balance tips by some 6 dB from end to end.
    tilt = canvas.slide(-3.5, 3.5)
    bed_points = [
        (hz, level + tilt * float(np.clip(np.log2(2000.0 / hz) / 3.0, -1.0, 1.0))) for hz, level in surface.bed
    ]
    out = shaped_noise(canvas, bed_points, correlation=0.25)
    out *= np.float32(db(canvas.slide(-7.0, 4.0)))
    out += _patter(canvas, surface)
    shower = 10.0 ** (curve(canvas, 0.03, 0.25)[0] * 1.4 / 20.0)
    out *= at_audio_rate(canvas, shower)
    out += _drops(canvas, surface, shower**3)
    return out


def _patter(canvas: Canvas, surface: Surface) -> Samples:
    """Thousands of small drops: impulses with a heavy tail of levels, colored by one short kernel."""
    rate_hz = canvas.swing(500.0, 4500.0)
    starts = random_starts(canvas, event_count(canvas, rate_hz))
    train = impulses(canvas, starts, heavy_tail(canvas, starts.size, 6.0), 0.9)
    kernel = fir(surface.patter, canvas.sample_rate_hz, 256)
    # The level of one drop follows from plain rain's rate, so that more drops are louder together, not each.
    kernel *= db(surface.patter_db) / np.sqrt(np.sum(kernel**2) * 1500.0 * 2.6 / canvas.sample_rate_hz)
    return convolve(canvas, train, kernel.astype(np.float32), centered=True)


def _drops(canvas: Canvas, surface: Surface, density: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> Samples:
    rate_hz = surface.drop_rate_hz * canvas.swing(0.25, 4.0)
    templates = _TEMPLATES[canvas.params.kind](canvas)
    starts = random_starts(canvas, event_count(canvas, rate_hz, at_least=1), density)
    gains = heavy_tail(canvas, starts.size, 4.5, 10.0)
    power = np.mean(np.sum(templates**2, axis=-1)) * surface.drop_rate_hz * 2.0 / canvas.sample_rate_hz
    gains *= db(surface.drop_db + canvas.slide(1.5, -1.5)) / np.sqrt(power)
    return scatter(canvas, templates, starts, gains)


def _puddle(canvas: Canvas) -> Samples:
    """A splash, then in most drops a bubble, pitched 900 to 5500 Hz."""
    pitch = 10.0 ** canvas.rng.uniform(np.log10(900.0), np.log10(5500.0), _NUM_TEMPLATES)
    splash = bursts(
        canvas,
        _NUM_TEMPLATES,
        ((500, -20), (3000, -3), (8000, 0)),
        0.03,
        canvas.rng.uniform(0.001, 0.005, _NUM_TEMPLATES),
    )
    ring = bubbles(canvas, pitch, 0.03, 0.15)
    ring *= canvas.rng.uniform(0.15, 0.9, (_NUM_TEMPLATES, 1)).astype(np.float32)
    delay = int(0.004 * canvas.sample_rate_hz)
    splash[:, delay:] += ring[:, : ring.shape[1] - delay]
    return stereo(canvas, splash, 0.85)


def _pane(canvas: Canvas) -> Samples:
    """A tap on glass: a short click and a few quickly damped modes of the pane."""
    base = canvas.rng.uniform(700.0, 1900.0, (_NUM_TEMPLATES, 1))
    modes = base * (1.0 + canvas.rng.uniform(0.9, 1.3, (_NUM_TEMPLATES, 4)) * np.arange(4))
    decay = canvas.rng.uniform(0.004, 0.011, (_NUM_TEMPLATES, 4)) / (1.0 + 0.5 * np.arange(4))
    out = rings(canvas, modes, decay, 0.05)
    click = bursts(
        canvas,
        _NUM_TEMPLATES,
        ((500, -12), (2500, 0), (7000, -10)),
        0.05,
        canvas.rng.uniform(0.001, 0.003, _NUM_TEMPLATES),
    )
    return stereo(canvas, out + 0.7 * click, 0.8)


def _panel(canvas: Canvas) -> Samples:
    """A knock on a roof panel: low modes under a dull thud."""
    base = canvas.rng.uniform(180.0, 520.0, (_NUM_TEMPLATES, 1))
    modes = base * (1.0 + canvas.rng.uniform(0.6, 1.2, (_NUM_TEMPLATES, 5)) * np.arange(5))
    decay = canvas.rng.uniform(0.008, 0.022, (_NUM_TEMPLATES, 5)) / (1.0 + 0.35 * np.arange(5))
    out = rings(canvas, modes, decay, 0.08)
    thud = bursts(
        canvas,
        _NUM_TEMPLATES,
        ((150, -8), (900, 0), (4000, -12)),
        0.08,
        canvas.rng.uniform(0.002, 0.006, _NUM_TEMPLATES),
    )
    return stereo(canvas, out + 0.8 * thud, 0.85)


def _leaf(canvas: Canvas) -> Samples:
    """A pat on a leaf: a soft burst without pitch."""
    decay = canvas.rng.uniform(0.003, 0.011, _NUM_TEMPLATES)
    return stereo(
        canvas, bursts(canvas, _NUM_TEMPLATES, ((300, -14), (1100, -1), (3500, 0), (9000, -9)), 0.05, decay), 0.9
    )


_TEMPLATES: Final = {"open": _puddle, "window": _pane, "roof": _panel, "leaves": _leaf}
