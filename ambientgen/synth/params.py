"""What a texture can be asked for: `TextureParams`, and the families and variants there are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ambientgen.errors import RequestError

#: Family -> its variants; the first one is the default.
VARIANTS: Final[Mapping[str, tuple[str, ...]]] = {
    "rain": ("open", "window", "roof", "tent", "leaves", "water"),
    "thunder": ("thunder", "rolling"),
    "wind": ("open", "trees", "howling"),
    "ocean": ("waves",),
    "stream": ("brook", "river", "waterfall"),
    "fire": ("hearth", "campfire", "embers"),
    "insects": ("crickets", "cicadas", "katydids"),
    "frogs": ("frogs",),
    "birds": ("songbirds", "gulls", "owl", "crows"),
    "cafe": ("murmur", "tavern"),
    "chimes": ("chimes", "bells", "bowls"),
    "city": ("traffic",),
    "train": ("train",),
    "vehicle": ("car", "airplane"),
    "ship": ("ship",),
    "cave": ("drips",),
    "machine": ("hum", "fan", "engine", "spaceship"),
    "drone": ("drone",),
    "noise": ("white", "pink", "brown", "blue", "violet"),
}

#: Where the listener is; "" is in the open. "outside": within four walls, while the sound is out of doors.
PLACES: Final = ("", "room", "hall", "cave", "outside", "underwater")

_KEYS: Final = ("family", "variant", "intensity", "distance", "brightness", "density", "place")


@dataclass(frozen=True, slots=True, kw_only=True)
class TextureParams:
    """A texture, as far as a recipe decides it.

    Attributes:
        family: a key of `VARIANTS`.
        intensity: 0 (faint) to 1 (extreme), 0.5 is plain. It changes the sound itself, not only its level.
        distance: 0 (near) to 1 (far off).
        variant: one of the family's variants; "" is the family's default.
        brightness: 0 (dull) to 1 (bright), 0.5 is plain.
        density: how many of its single events there are (drops, crackles, calls), 0 (few) to 1 (many), 0.5 is plain.
        place: one of `PLACES`.

    Raises:
        RequestError: if a value is unknown or outside its range.
    """

    family: str
    intensity: float = 0.5
    distance: float = 0.0
    variant: str = ""
    brightness: float = 0.5
    density: float = 0.5
    place: str = ""

    def __post_init__(self) -> None:
        if self.family not in VARIANTS:
            raise RequestError(f"There is no texture {_short(self.family)}. There are {_listed(tuple(VARIANTS))}.")
        if self.variant and self.variant not in VARIANTS[self.family]:
            variants = _listed(VARIANTS[self.family])
            raise RequestError(f"The texture {self.family!r} has no variant {_short(self.variant)}. It has {variants}.")
        if self.place not in PLACES:
            raise RequestError(f"A texture has no place {_short(self.place)}. There are {_listed(PLACES[1:])}.")
        for name in ("intensity", "distance", "brightness", "density"):
            value = getattr(self, name)
            if not 0.0 <= value <= 1.0:
                raise RequestError(f"A texture's {name} goes from 0 to 1, not {value:g}.")

    @property
    def kind(self) -> str:
        """The variant, with the family's default filled in."""
        return self.variant or VARIANTS[self.family][0]

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> TextureParams:
        """Read a recipe layer's `params`.

        Args:
            mapping: `family`, and optionally the others.

        Raises:
            RequestError: if a key, a type, a name or a number is not one of those a texture has.
        """
        unknown = [key for key in mapping if key not in _KEYS]
        if unknown:
            raise RequestError(f"A texture has no {_short(unknown[0])}. It has {_listed(_KEYS)}.")
        return cls(
            family=_text(mapping, "family", None),
            intensity=_number(mapping, "intensity", 0.5),
            distance=_number(mapping, "distance", 0.0),
            variant=_text(mapping, "variant", ""),
            brightness=_number(mapping, "brightness", 0.5),
            density=_number(mapping, "density", 0.5),
            place=_text(mapping, "place", ""),
        )


def _text(mapping: Mapping[str, Any], key: str, default: str | None) -> str:
    value = mapping.get(key, default)
    if not isinstance(value, str):
        raise RequestError(f"A texture's {key} is one word, not {_short(value)}.")
    return value


def _number(mapping: Mapping[str, Any], key: str, default: float) -> float:
    value = mapping.get(key, default)
    # Compared before it becomes a float: a huge integer would overflow. A bool is an int in Python, but no number here.
    if isinstance(value, bool) or not isinstance(value, int | float) or not (0 <= value <= 1) or math.isnan(value):
        raise RequestError(f"A texture's {key} is a number from 0 to 1, not {_short(value)}.")
    return float(value)


def _short(value: object) -> str:
    return repr(value)[:40]


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names)
