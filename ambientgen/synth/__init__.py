"""Procedural textures: sound made from a description of how it comes about, without weights or recordings.

`render_texture` is the one door. Each family has its own file; `shaping` holds what they share.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import numpy as np

from ambientgen.audio.clip import Clip, Samples
from ambientgen.audio.loudness import integrated_lufs
from ambientgen.engines.base import Report
from ambientgen.synth import (
    birds,
    cafe,
    cave,
    chimes,
    city,
    drone,
    fire,
    frogs,
    insects,
    machine,
    noise,
    ocean,
    rain,
    ship,
    stream,
    thunder,
    train,
    vehicle,
    wind,
)
from ambientgen.synth.params import VARIANTS, TextureParams
from ambientgen.synth.shaping import Canvas, db
from ambientgen.synth.space import place, soften_peaks

__all__ = ["FAMILIES", "Family", "TextureParams", "render_texture"]

_LEVEL_LUFS = -23.0
#: A few samples can be silent by chance; they are not raised without end.
_FAINTEST_LUFS = -70.0


class Family(NamedTuple):
    """One family of textures.

    Attributes:
        render: paints on a canvas; returns float32 (2, num_samples) at any level.
        variants: the first is the default.
        room: reverberant share of the energy of the near sound in the open, 0 to 1.
    """

    render: Callable[[Canvas], Samples]
    variants: tuple[str, ...]
    room: float


FAMILIES: Final[Mapping[str, Family]] = {
    "rain": Family(rain.render, VARIANTS["rain"], 0.0),
    "thunder": Family(thunder.render, VARIANTS["thunder"], 0.6),
    "wind": Family(wind.render, VARIANTS["wind"], 0.0),
    "ocean": Family(ocean.render, VARIANTS["ocean"], 0.0),
    "stream": Family(stream.render, VARIANTS["stream"], 0.0),
    "fire": Family(fire.render, VARIANTS["fire"], 0.0),
    "insects": Family(insects.render, VARIANTS["insects"], 0.0),
    "frogs": Family(frogs.render, VARIANTS["frogs"], 0.3),
    "birds": Family(birds.render, VARIANTS["birds"], 0.3),
    "cafe": Family(cafe.render, VARIANTS["cafe"], 0.5),
    "chimes": Family(chimes.render, VARIANTS["chimes"], 0.35),
    "city": Family(city.render, VARIANTS["city"], 0.25),
    "train": Family(train.render, VARIANTS["train"], 0.0),
    "vehicle": Family(vehicle.render, VARIANTS["vehicle"], 0.0),
    "ship": Family(ship.render, VARIANTS["ship"], 0.15),
    "cave": Family(cave.render, VARIANTS["cave"], 0.0),
    "machine": Family(machine.render, VARIANTS["machine"], 0.0),
    "drone": Family(drone.render, VARIANTS["drone"], 0.0),
    "noise": Family(noise.render, VARIANTS["noise"], 0.0),
}


def render_texture(params: TextureParams, num_samples: int, sample_rate_hz: int, seed: int, report: Report) -> Samples:
    """Make a texture whose last sample joins its first.

    The same arguments give bit-equal samples on one machine.

    Args:
        params: what to make.
        num_samples: exact length of the circle.
        sample_rate_hz: at least 16000.
        seed: 0 or more. Textures whose seeds agree in the low 32 bits share their character (a drone's root, which
            birds sing) and nothing else.
        report: called between pieces of work; answers False to stop.

    Returns:
        float32, shape (2, num_samples), about -23 LUFS for a plain near sound, peak below 1.

    Raises:
        ValueError: if the length or the rate is too small.
        GenerationCancelled: if `report` answered False.
    """
    if num_samples < 1 or sample_rate_hz < 16000:
        raise ValueError(f"cannot make {num_samples} samples at {sample_rate_hz} Hz")
    family = FAMILIES[params.family]
    canvas = Canvas(params, num_samples, sample_rate_hz, seed, report)
    canvas.tick()
    sound = place(canvas, family.render(canvas), family.room)
    sound -= np.mean(sound, axis=-1, keepdims=True, dtype=np.float64).astype(np.float32)
    level_lufs = _LEVEL_LUFS + 6.0 * (params.intensity - 0.5) - 10.0 * params.distance
    gain = db(level_lufs - max(integrated_lufs(Clip(sound, sample_rate_hz)), _FAINTEST_LUFS))
    sound *= np.float32(gain)
    soften_peaks(sound)
    canvas.tick()
    return sound
