"""Asked, decided: `SceneRequest` (what a person asked) becomes `Recipe` (everything decided, complete, JSON)."""

from __future__ import annotations

import dataclasses
import json
import math
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, get_args

from ambientgen import prompts, scenes
from ambientgen.errors import (
    EngineNotReadyError,
    OptionError,
    RequestError,
    UnknownEngineError,
    UnknownSceneError,
)
from ambientgen.spec import ENGINE_OPTIONS, EngineSpec

Quality = Literal["draft", "standard", "high"]
Role = Literal["bed", "events"]
T = TypeVar("T")

RECIPE_VERSION = 1
MIN_DURATION_S, MAX_DURATION_S = 1.0, 600.0
MIN_GUIDANCE_SCALE, MAX_GUIDANCE_SCALE = 1.0, 15.0
MIN_STEPS, MAX_STEPS = 10, 200
MAX_SEED = 2**32 - 1
MAX_NEGATIVE_PROMPT_CHARS = 300
DEFAULT_TARGET_LUFS = -20.0

#: steps, scheduler and number of candidate takes of each quality (draft: 20 steps of DPM++ 2M; 50 steps beat 100)
_QUALITIES: dict[Quality, tuple[int, str, int]] = {
    "draft": (20, "dpmpp_2m", 1),
    "standard": (50, "ddim", 1),
    "high": (50, "ddim", 3),
}


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
    """

    layers: tuple[Layer, ...]
    duration_s: float
    loop: bool
    target_lufs: float
    engine_versions: Mapping[str, str]
    version: int = RECIPE_VERSION

    @property
    def seed(self) -> int:
        """The seed to show and to ask for again: the first layer's."""
        return self.layers[0].seed

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


def resolve(
    request: SceneRequest,
    available: Sequence[EngineSpec],
    *,
    unavailable: Mapping[str, str] | None = None,
    target_lufs: float = DEFAULT_TARGET_LUFS,
    longest_s: float = MAX_DURATION_S,
) -> Recipe:
    """Decide everything a request leaves open.

    Args:
        request: what was asked.
        available: the engines that are ready, the preferred one first.
        unavailable: engines that exist but cannot serve now, with the reason as the end of "NAME ...".
        target_lufs: integrated loudness of the finished clip.
        longest_s: the most that is allowed here; an engine's own length may be longer.

    Raises:
        RequestError: with words for the person, if the request cannot be met.
    """
    check_request(request)
    description = scenes.clean_description(request.description)
    spec = _choose_engine(request.engine, available, unavailable or {})
    seed = secrets.randbelow(MAX_SEED + 1) if request.seed is None else request.seed
    duration_s = spec.default_duration_s if request.duration_s is None else float(request.duration_s)
    duration_s = min(duration_s, longest_s)
    if request.loop and "loop" in spec.supports:
        rounded_s = whole_steps_s(duration_s, spec.loop_step_s)
        duration_s = (
            rounded_s if rounded_s <= longest_s else whole_steps_s(rounded_s - spec.loop_step_s, spec.loop_step_s)
        )
    layers = (
        (_model_layer(request, description, spec, seed),)
        if spec.reads_any_text
        else _planned_layers(description, spec, seed, available)
    )
    return Recipe(
        layers=layers,
        duration_s=duration_s,
        loop=request.loop,
        target_lufs=target_lufs,
        engine_versions={spec.name: spec.version},
    )


def whole_steps_s(duration_s: float, step_s: float) -> float:
    """The nearest whole number of steps, in seconds; the duration itself where the step is 0."""
    return duration_s if step_s == 0.0 else round(round(duration_s / step_s) * step_s, 6)


def rounded_loop(request: SceneRequest, recipe: Recipe) -> str | None:
    """Words for a loop that is a little longer or shorter than asked, or None."""
    if request.duration_s is None or not recipe.loop or math.isclose(request.duration_s, recipe.duration_s):
        return None
    return f"the loop is {recipe.duration_s:g} s long, not {request.duration_s:g} s: whole frames of its engine"


def unused_options(request: SceneRequest, recipe: Recipe, specs: Sequence[EngineSpec]) -> dict[str, tuple[str, ...]]:
    """The options a person set that an engine of the recipe cannot use: engine name -> option names."""
    given = {
        "quality": request.quality != "standard",
        "negative_prompt": request.negative_prompt is not None,
        "guidance_scale": request.guidance_scale is not None,
        "num_inference_steps": request.num_inference_steps is not None,
    }
    used_engines = {layer.engine for layer in recipe.layers}
    unused = {
        spec.name: tuple(name for name in ENGINE_OPTIONS if given[name] and name not in spec.supports)
        for spec in specs
        if spec.name in used_engines
    }
    return {name: options for name, options in unused.items() if options}


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


def _choose_engine(name: str | None, available: Sequence[EngineSpec], unavailable: Mapping[str, str]) -> EngineSpec:
    if name is None:
        if not available:
            raise EngineNotReadyError("No engine is ready yet. Please try again in a minute.")
        return available[0]
    for spec in available:
        if spec.name == name:
            return spec
    if name in unavailable:
        raise EngineNotReadyError(f"The engine `{name}` {unavailable[name]}")
    known = ", ".join(f"`{known}`" for known in sorted({*unavailable, *(spec.name for spec in available)}))
    raise UnknownEngineError(f"There is no engine of that name. The engines here are {known}.")


def _model_layer(request: SceneRequest, description: str, spec: EngineSpec, seed: int) -> Layer:
    num_steps, scheduler, num_candidates = _QUALITIES[request.quality]
    wording = prompts.word(description, request.negative_prompt)
    return Layer(
        engine=spec.name,
        model=spec.model,
        prompt=wording.prompt,
        negative_prompt=wording.negative_prompt,
        seed=seed,
        num_inference_steps=request.num_inference_steps or num_steps,
        guidance_scale=prompts.DEFAULT_GUIDANCE_SCALE if request.guidance_scale is None else request.guidance_scale,
        params={"scheduler": scheduler, "num_candidates": num_candidates},
    )


def _planned_layers(
    description: str, spec: EngineSpec, seed: int, available: Sequence[EngineSpec]
) -> tuple[Layer, ...]:
    plan = scenes.plan(description)
    if not plan.layers:
        other = next((s.name for s in available if s.reads_any_text), None)
        hint = f" The engine `{other}` takes any description." if other else ""
        raise UnknownSceneError(
            f"The {spec.name} engine cannot place this scene. It makes {scenes.what_it_makes()}.{hint}",
            scenes.nearest_examples(description),
        )
    return tuple(
        Layer(
            engine=spec.name,
            role=planned.role,
            prompt=planned.label,
            seed=(seed + index) % (MAX_SEED + 1),
            gain_db=planned.gain_db,
            params=dict(planned.params),
        )
        for index, planned in enumerate(plan.layers)
    )


def _check_recipe(recipe: Recipe) -> None:
    if not MIN_DURATION_S <= recipe.duration_s <= MAX_DURATION_S:
        raise RequestError(f"A recipe's duration_s goes from {MIN_DURATION_S:g} to {MAX_DURATION_S:g}.")
    if not -60.0 <= recipe.target_lufs <= -5.0:
        raise RequestError("A recipe's target_lufs goes from -60 to -5.")
    for layer in recipe.layers:
        if not 0 <= layer.seed <= MAX_SEED:
            raise RequestError(f"A layer's seed goes from 0 to {MAX_SEED}.")
        if not -60.0 <= layer.gain_db <= 30.0:
            raise RequestError("A layer's gain_db goes from -60 to 30.")
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
