"""Asked, decided: `SceneRequest` (what a person asked) and `Recipe` (everything decided, complete, JSON).

`ambientgen.planning.resolve` makes the one of the other.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, get_args

from ambientgen.errors import OptionError, RequestError

Quality = Literal["draft", "standard", "high"]
Role = Literal["bed", "events"]
T = TypeVar("T")

RECIPE_VERSION = 1
MIN_DURATION_S, MAX_DURATION_S = 1.0, 3600.0
MIN_GUIDANCE_SCALE, MAX_GUIDANCE_SCALE = 1.0, 15.0
MIN_STEPS, MAX_STEPS = 10, 200
MAX_SEED = 2**32 - 1
MIN_GAIN_DB, MAX_GAIN_DB = -60.0, 30.0
MAX_NEGATIVE_PROMPT_CHARS = 300
DEFAULT_TARGET_LUFS = -20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneRequest:
    """What a person asked for. None means "choose for me".

    Attributes:
        description: the scene in the person's words, 3 to 500 characters.
        duration_s: `MIN_DURATION_S` to `MAX_DURATION_S`; None: what the engine does best.
        engine: an engine's name; None: the best one that is ready.
        preset: the preset it came from, if any; recorded, not interpreted.
        quality: draft, standard or high.
        loop: True if the end must join the beginning.
        seed: 0 to `MAX_SEED`.
        negative_prompt: what the model should avoid; an empty string switches the default off.
        guidance_scale: `MIN_GUIDANCE_SCALE` to `MAX_GUIDANCE_SCALE`.
        num_inference_steps: `MIN_STEPS` to `MAX_STEPS`.
        full_band: True to fill the band above 8 kHz that a model of 16 kHz leaves empty.
    """

    description: str
    duration_s: float | None = None
    engine: str | None = None
    preset: str | None = None
    quality: Quality = "standard"
    loop: bool = False
    seed: int | None = None
    negative_prompt: str | None = None
    guidance_scale: float | None = None
    num_inference_steps: int | None = None
    full_band: bool = False

    def to_json(self) -> str:
        """As one line of JSON; `from_json` gives an equal request back."""
        return json.dumps(dataclasses.asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> SceneRequest:
        """Read what `to_json` wrote.

        Raises:
            RequestError: if the text is not such a request.
        """
        return _from_mapping(cls, _object(text, "request"), "request")


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One engine's part of a recipe.

    Attributes:
        engine: the engine's name.
        model: its weights' name, or None.
        role: a textured `bed`, or `events` above it.
        prompt: what the engine reads.
        negative_prompt: what it avoids, or None where the engine has no such thing.
        seed: 0 to `MAX_SEED`.
        num_inference_steps: or None where the engine has none.
        guidance_scale: or None where the engine has none.
        gain_db: loudness above (+) or below (-) a layer at 0 dB, in LU.
        params: what only this engine understands; it validates them.
        label: what a person reads of it ("distant thunder"); "" where the prompt says it.
    """

    engine: str
    model: str | None = None
    role: Role = "bed"
    prompt: str
    negative_prompt: str | None = None
    seed: int
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    gain_db: float = 0.0
    params: Mapping[str, Any] = field(default_factory=dict)
    label: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """The decided, complete, serializable answer to a request; the identity of a sound.

    Attributes:
        layers: at least one.
        duration_s: exact length.
        loop: True if the end must join the beginning.
        target_lufs: integrated loudness of the finished clip.
        engine_versions: the version of each engine named in the layers.
        version: of this format.
        unmask: True if a layer that others cover is raised; False where a person set the gains.
    """

    layers: tuple[Layer, ...]
    duration_s: float
    loop: bool
    target_lufs: float
    engine_versions: Mapping[str, str]
    version: int = RECIPE_VERSION
    unmask: bool = True

    @property
    def seed(self) -> int:
        """The seed to show and to ask for again: the first layer's."""
        return self.layers[0].seed

    def remixed(self, gains_db: Sequence[float]) -> Recipe:
        """The same sounds at other gains, which are kept as they are.

        Args:
            gains_db: one for each layer.

        Raises:
            RequestError: if one is outside its range.
        """
        layers = tuple(
            dataclasses.replace(layer, gain_db=gain_db) for layer, gain_db in zip(self.layers, gains_db, strict=True)
        )
        recipe = dataclasses.replace(self, layers=layers, unmask=False)
        _check_recipe(recipe)
        return recipe

    def to_json(self) -> str:
        """As one line of JSON; `from_json` gives an equal recipe back."""
        return json.dumps(dataclasses.asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """Read what `to_json` wrote.

        Raises:
            RequestError: if the text is not a recipe this version can read.
        """
        data = _object(text, "recipe")
        version = data.get("version")
        if isinstance(version, int) and version > RECIPE_VERSION:
            raise RequestError(
                f"This recipe was written by a newer version of AmbientGen (format {version}; this one reads up to "
                f"{RECIPE_VERSION}). Update AmbientGen to use it."
            )
        layers = data.get("layers")
        if not isinstance(layers, list) or not layers:
            raise RequestError("This is not a readable recipe: it has no layers.")
        if not all(isinstance(layer, dict) for layer in layers):
            raise RequestError("This is not a readable recipe: a layer is not an object.")
        parsed = tuple(_from_mapping(Layer, layer, "recipe") for layer in layers)
        recipe = _from_mapping(cls, {**data, "layers": parsed}, "recipe")
        _check_recipe(recipe)
        return recipe


def whole_steps_s(duration_s: float, step_s: float) -> float:
    """The nearest whole number of steps, in seconds; the duration itself where the step is 0."""
    return duration_s if step_s == 0.0 else round(round(duration_s / step_s) * step_s, 6)


def check_request(request: SceneRequest) -> None:
    """Check every option's range; a Discord client's own check is not repeated by Discord.

    Raises:
        OptionError: for the first option outside its range.
    """
    _in_range("duration", request.duration_s, MIN_DURATION_S, MAX_DURATION_S, " seconds")
    _in_range("guidance_scale", request.guidance_scale, MIN_GUIDANCE_SCALE, MAX_GUIDANCE_SCALE)
    _in_range("steps", request.num_inference_steps, MIN_STEPS, MAX_STEPS)
    _in_range("seed", request.seed, 0, MAX_SEED)
    if request.quality not in get_args(Quality):
        raise OptionError("quality", f"`quality` is one of {', '.join(get_args(Quality))}.")
    if request.negative_prompt is not None and len(request.negative_prompt) > MAX_NEGATIVE_PROMPT_CHARS:
        raise OptionError(
            "negative_prompt",
            f"`negative_prompt` can have at most {MAX_NEGATIVE_PROMPT_CHARS} characters; "
            f"this one has {len(request.negative_prompt)}.",
        )


def _in_range(option: str, value: float | None, low: float, high: float, unit: str = "") -> None:
    if value is not None and not (math.isfinite(value) and low <= value <= high):
        low_words, high_words = (f"{limit}" if isinstance(limit, int) else f"{limit:g}" for limit in (low, high))
        raise OptionError(option, f"`{option}` goes from {low_words} to {high_words}{unit}.")


def _check_recipe(recipe: Recipe) -> None:
    if not MIN_DURATION_S <= recipe.duration_s <= MAX_DURATION_S:
        raise RequestError(f"A recipe's duration_s goes from {MIN_DURATION_S:g} to {MAX_DURATION_S:g}.")
    if not -60.0 <= recipe.target_lufs <= -5.0:
        raise RequestError("A recipe's target_lufs goes from -60 to -5.")
    for layer in recipe.layers:
        if not 0 <= layer.seed <= MAX_SEED:
            raise RequestError(f"A layer's seed goes from 0 to {MAX_SEED}.")
        if not MIN_GAIN_DB <= layer.gain_db <= MAX_GAIN_DB:
            raise RequestError(f"A layer's gain goes from {MIN_GAIN_DB:g} to {MAX_GAIN_DB:g} dB.")
        if layer.num_inference_steps is not None:
            _in_range("num_inference_steps", layer.num_inference_steps, 1, MAX_STEPS)
        _in_range("guidance_scale", layer.guidance_scale, 0.0, MAX_GUIDANCE_SCALE)


#: JSON types each annotation accepts; bool is checked apart, as it is an int in Python.
_KINDS: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "Quality": (str,),
    "Role": (str,),
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "Mapping[str, Any]": (dict,),
    "Mapping[str, str]": (dict,),
    "tuple[Layer, ...]": (tuple,),
}
_CHOICES = {"Quality": get_args(Quality), "Role": get_args(Role)}


def _object(text: str, what: str) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"This is not a readable {what}: it is not JSON.") from error
    if not isinstance(data, dict):
        raise RequestError(f"This is not a readable {what}: it is not a JSON object.")
    return data


def _from_mapping(cls: type[T], data: Mapping[str, Any], what: str) -> T:
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    unknown = sorted(set(data) - set(fields))
    if unknown:
        raise RequestError(f"This is not a readable {what}: it has an unknown entry {unknown[0][:40]!r}.")
    for name, spec in fields.items():
        if name not in data:
            if spec.default is dataclasses.MISSING and spec.default_factory is dataclasses.MISSING:
                raise RequestError(f"This is not a readable {what}: {name!r} is missing.")
            continue
        _check_kind(name, data[name], str(spec.type), what)
    return cls(**data)


def _check_kind(name: str, value: Any, annotation: str, what: str) -> None:
    base, optional = annotation.removesuffix(" | None"), annotation.endswith(" | None")
    if value is None and optional:
        return
    fits = isinstance(value, _KINDS[base]) and (base == "bool" or not isinstance(value, bool))
    if fits and base == "float":
        fits = math.isfinite(value)
    if fits and base in _CHOICES:
        fits = value in _CHOICES[base]
    if not fits:
        raise RequestError(f"This is not a readable {what}: {name!r} has a wrong value.")
