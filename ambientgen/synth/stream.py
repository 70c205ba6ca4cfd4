"""Running water: bubbles by the thousand over a rush of turbulence.

K. van den Doel, "Physically based models for liquid sounds" (ACM Trans. Applied Perception, 2005): running water is
a population of bubbles whose radii and depths follow a power law, each a damped sine with a rising pitch. More water
and deeper water make larger bubbles, which sound lower (Minnaert, 1933); where it falls, spray covers them all.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from ambientgen.audio.clip import Samples
from ambientgen.synth.events import bubbles, event_count, heavy_tail, random_starts, scatter, stereo
from ambientgen.synth.grains import grains
from ambientgen.synth.shaping import Canvas, Points, curve, db, modulate, shaped_noise


class Water(NamedTuple):
    """One kind of running water; pairs go from the least water to the most.

    Attributes:
        rush: spectrum of the turbulence.
        rush_db: its level against the bubbles of plain water.
        swell: how far it swells and ebbs, as the deviation of the logarithm of its amplitude.
        plunge_db: level of the deep pulse of falling and turning water against the rush.
        spray_db: level of the splashes against the rush.
        lowest_hz: pitch of the largest bubbles.
        highest_hz: pitch of the smallest bubbles.
        bubbles_hz: bubbles a second.
    """

    rush: Points
    rush_db: tuple[float, float]
    swell: float
    plunge_db: float
    spray_db: float
    lowest_hz: tuple[float, float]
    highest_hz: tuple[float, float]
    bubbles_hz: tuple[float, float]


_WATERS: Final = {
    "brook": Water(
        rush=((40, -14), (120, -10), (300, -3), (700, 0), (1500, -4), (4000, -10), (9000, -18), (16000, -28)),
        rush_db=(-11.5, -0.5),
        swell=0.14,
        plunge_db=-14.0,
        spray_db=-9.0,
        lowest_hz=(560.0, 300.0),
        highest_hz=(3800.0, 2800.0),
        bubbles_hz=(60.0, 700.0),
    ),
    "river": Water(
        rush=((30, -7), (80, -2), (200, 0), (450, -1), (900, -5), (2000, -10), (5000, -18), (14000, -32)),
        rush_db=(-2.0, 8.0),
        swell=0.2,
        plunge_db=-6.0,
        spray_db=-15.0,
        lowest_hz=(260.0, 130.0),
        highest_hz=(1900.0, 1300.0),
        bubbles_hz=(330.0, 1000.0),
    ),
    "waterfall": Water(
        rush=((30, -3), (80, 0), (200, 0), (600, -2), (1500, -4), (4000, -7), (9000, -12), (16000, -20)),
        rush_db=(4.0, 14.0),
        swell=0.12,
        plunge_db=-4.0,
        spray_db=-9.0,
        lowest_hz=(300.0, 200.0),
        highest_hz=(3400.0, 2600.0),
        bubbles_hz=(250.0, 1000.0),
    ),
}
_PLUNGE: Final = ((30, -8), (70, 0), (160, 0), (350, -9), (900, -26))
_SPRAY: Final = ((500, -18), (1500, -4), (4000, 0), (9000, -5), (16000, -12))
_SPRAY_HZ = 1800.0
_NUM_TEMPLATES = 256


def render(canvas: Canvas) -> Samples:
    """A brook of single bubbles, a river that gurgles under its rush, or a waterfall of spray.

    More water: more and lower bubbles, more rush. Density changes the bubbles and the splashes only.
    """
    water = _WATERS[canvas.params.kind]
    tilt = canvas.slide(1.0, -1.0)
    tilted = tuple((hz, level + tilt * float(np.log2(hz / 700.0))) for hz, level in water.rush)
    # The current surges as a whole, and eddies come and go on either side.
    surge = np.exp(water.swell * curve(canvas, 0.01, 0.25)[0])
    eddies = np.exp(0.1 * curve(canvas, 0.1, 1.0, 2) + 0.06 * curve(canvas, 1.0, 6.0, 2))
    rush = modulate(canvas, shaped_noise(canvas, tilted, correlation=0.2), surge * eddies)
    plunge = shaped_noise(canvas, _PLUNGE, correlation=0.5)
    plunge = modulate(canvas, plunge, np.exp(0.25 * curve(canvas, 0.05, 1.0)[0] + 0.2 * curve(canvas, 1.0, 7.0)[0]))
    rush += np.float32(db(water.plunge_db + canvas.slide(-3.0, 3.0))) * plunge
    rate_hz = _SPRAY_HZ * canvas.swing(0.5, 2.0) * canvas.crowd(0.4, 2.5)
    rush += np.float32(db(water.spray_db)) * grains(
        canvas, _SPRAY, rate_hz, plain_hz=_SPRAY_HZ, spread_db=4.5, density=surge**3
    )
    rush *= np.float32(db(canvas.slide(*water.rush_db)))
    rush += _bubbling(canvas, water)
    return rush


def _bubbling(canvas: Canvas, water: Water) -> Samples:
    """Small bubbles are the most frequent; a lone low one now and then makes the gurgle."""
    low_hz, high_hz = canvas.swing(*water.lowest_hz), canvas.swing(*water.highest_hz)
    pitch = low_hz * (high_hz / low_hz) ** canvas.rng.beta(1.7, 1.4, _NUM_TEMPLATES)
    templates = stereo(
        canvas, bubbles(canvas, pitch, 0.06, 0.1) * (600.0 / pitch[:, None]).astype(np.float32) ** 0.3, 0.8
    )
    rate_hz = canvas.swing(*water.bubbles_hz) * canvas.crowd(0.3, 1.0 / 0.3)
    babble = np.exp(0.45 * curve(canvas, 0.4, 5.0)[0] + 0.3 * curve(canvas, 0.02, 0.3)[0])
    starts = random_starts(canvas, event_count(canvas, rate_hz, at_least=1), babble)
    gains = heavy_tail(canvas, starts.size, 4.5, 8.0)
    plain_hz = float(np.sqrt(np.prod(water.bubbles_hz)))
    power = np.mean(np.sum(templates**2, axis=-1)) * plain_hz * 2.0 / canvas.sample_rate_hz
    return scatter(canvas, templates, starts, gains * db(-1.0) / np.sqrt(power))
