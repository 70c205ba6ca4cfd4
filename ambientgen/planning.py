"""Asked becomes decided: `resolve` makes a `Recipe` of a `SceneRequest`, and says which engine makes which sound.

Textures go to the procedural engine, events to a model, as far as each is here. On a machine without a model a sound
that no texture makes gets the nearest one, and says so. `engine:` in the request forces one engine for everything.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping, Sequence

from ambientgen import prompts, scenes
from ambientgen.errors import EngineNotReadyError, UnknownEngineError, UnknownSceneError
from ambientgen.recipe import (
    DEFAULT_TARGET_LUFS,
    MAX_DURATION_S,
    MAX_SEED,
    Layer,
    Quality,
    Recipe,
    SceneRequest,
    check_request,
    whole_steps_s,
)
from ambientgen.scenes import MAX_LAYERS, PlannedLayer
from ambientgen.spec import ENGINE_OPTIONS, EngineSpec
from ambientgen.vocabulary import vocabulary

#: scheduler and number of candidate takes of each quality
_QUALITIES: dict[Quality, tuple[str, int]] = {"draft": ("dpmpp_2m", 1), "standard": ("ddim", 1), "high": ("ddim", 3)}
#: 20 steps of DPM++ 2M; everything else takes what its category says (50 steps beat 100)
_DRAFT_STEPS = 20


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
    first = _choose_engine(request.engine, available, unavailable or {})
    seed = secrets.randbelow(MAX_SEED + 1) if request.seed is None else request.seed
    texture_maker = next((spec for spec in available if spec.textures), None) if request.engine is None else None
    layers = _Planner(request, description, seed).layers(first, texture_maker, available)
    used = [spec for spec in available if spec.name in {layer.engine for layer in layers}]
    return Recipe(
        layers=layers,
        duration_s=_duration_s(request, used, longest_s),
        loop=request.loop,
        target_lufs=target_lufs,
        engine_versions={spec.name: spec.version for spec in used},
    )


def rounded_loop(request: SceneRequest, recipe: Recipe) -> str | None:
    """Words for a loop that is a little longer or shorter than asked, or None."""
    if request.duration_s is None or not recipe.loop or math.isclose(request.duration_s, recipe.duration_s):
        return None
    return f"the loop is {recipe.duration_s:g} s long, not {request.duration_s:g} s: whole frames of its engine"


def unused_options(request: SceneRequest, recipe: Recipe, specs: Sequence[EngineSpec]) -> dict[str, tuple[str, ...]]:
    """The options a person set that no engine of the recipe can use: engine name -> option names."""
    given = {
        "quality": request.quality != "standard",
        "negative_prompt": request.negative_prompt is not None,
        "guidance_scale": request.guidance_scale is not None,
        "num_inference_steps": request.num_inference_steps is not None,
        "full_band": request.full_band,
    }
    used_engines = {layer.engine for layer in recipe.layers}
    unused = {
        spec.name: tuple(name for name in ENGINE_OPTIONS if given[name] and name not in spec.supports)
        for spec in specs
        if spec.name in used_engines
    }
    return {name: options for name, options in unused.items() if options}


def not_made(request: SceneRequest, recipe: Recipe, specs: Sequence[EngineSpec]) -> tuple[str, ...]:
    """What the recipe leaves out of the scene: sounds without an engine or one too many, and words nobody knows."""
    by_name = {spec.name: spec for spec in specs}
    if len(recipe.layers) == 1 and not recipe.layers[0].label:
        return ()  # one engine reads the whole scene
    plan = scenes.plan(request.description)
    labels = {layer.label.partition(" (")[0] for layer in recipe.layers}
    sounds = [layer.label for layer in plan.layers if layer.label not in labels]
    readers = [layer for layer in recipe.layers if layer.engine in by_name and not by_name[layer.engine].textures]
    read = " ".join(layer.prompt.casefold() for layer in readers)
    words = [word for word in plan.unknown if word not in read]
    return tuple(dict.fromkeys([*sounds, *plan.too_many, *words]))


def makes_whole(description: str, available: Sequence[EngineSpec]) -> bool:
    """True if these engines make everything a description calls for, and nothing stands in for anything."""
    if any(spec.reads_any_text for spec in available):
        return True
    textures: frozenset[str] = frozenset().union(*(spec.textures for spec in available))
    plan = scenes.plan(description)
    families = [vocabulary().categories[layer.category].family for layer in plan.layers]
    all_known = bool(families) and not (plan.too_many or plan.unknown)
    return all_known and all(family is not None and family[0] in textures for family in families)


class _Planner:
    """Which engine makes which sound of one request."""

    def __init__(self, request: SceneRequest, description: str, seed: int) -> None:
        self._request = request
        self._description = description
        self._seed = seed
        self._plan = scenes.plan(description)

    def layers(
        self, first: EngineSpec, texture_maker: EngineSpec | None, available: Sequence[EngineSpec]
    ) -> tuple[Layer, ...]:
        if first.textures:
            return self._without_a_model(first, available)
        if texture_maker is not None and any(_made_by_rule(layer, texture_maker) for layer in self._plan.layers):
            return self._together(first, texture_maker)
        return (self._whole_scene(first),)

    def _whole_scene(self, model: EngineSpec) -> Layer:
        wording = prompts.word_scene(
            self._plan, self._description, self._request.negative_prompt, model.max_prompt_tokens
        )
        return self._model_layer(model, wording, 0)

    def _together(self, model: EngineSpec, texture_maker: EngineSpec) -> tuple[Layer, ...]:
        """Textures by rule, everything else by the model, in the order of the text; then what nothing is known of."""
        made: list[Layer] = []
        for planned in self._plan.layers:
            if _made_by_rule(planned, texture_maker):
                made.append(self._texture_layer(texture_maker, planned, len(made)))
                continue
            wording = prompts.word_layer(self._plan, planned, self._request.negative_prompt, model.max_prompt_tokens)
            made.append(self._model_layer(model, wording, len(made), planned))
        for words in self._plan.others[: MAX_LAYERS - len(made)]:
            wording = prompts.word_other(self._plan, words, self._request.negative_prompt, model.max_prompt_tokens)
            made.append(self._model_layer(model, wording, len(made), label=words))
        return tuple(made)

    def _without_a_model(self, spec: EngineSpec, available: Sequence[EngineSpec]) -> tuple[Layer, ...]:
        able = [planned for planned in self._plan.layers if _texture(planned, spec) is not None]
        # "A clock in a library": of what cannot be made, the place is left.
        able = able or [planned for planned in self._plan.settings if _texture(planned, spec) is not None]
        if not able:
            other = next((s.name for s in available if s.reads_any_text), None)
            hint = f" The engine `{other}` takes any description." if other else ""
            raise UnknownSceneError(
                f"The {spec.name} engine cannot place this scene. "
                f"It makes {scenes.what_it_makes(spec.textures)}.{hint}",
                scenes.nearest_examples(self._description, spec.textures),
            )
        return tuple(self._texture_layer(spec, planned, index) for index, planned in enumerate(able))

    def _texture_layer(self, spec: EngineSpec, planned: PlannedLayer, index: int) -> Layer:
        texture = _texture(planned, spec)
        assert texture is not None
        family, variant = texture
        own = vocabulary().categories[planned.category].family
        stands_in = own is None or own[0] not in spec.textures
        label = f"{planned.label} (nearest texture: {variant or family})" if stands_in else planned.label
        place = planned.settings["place"] if family != "cave" else ""  # it is its own
        return Layer(
            engine=spec.name,
            role=planned.role,
            prompt=label,
            seed=self._seed_of(index),
            gain_db=planned.gain_db,
            params={**planned.settings, "family": family, "variant": variant, "place": place},
            label=label,
        )

    def _model_layer(
        self,
        model: EngineSpec,
        wording: prompts.Wording,
        index: int,
        planned: PlannedLayer | None = None,
        label: str = "",
    ) -> Layer:
        request = self._request
        scheduler, num_candidates = _QUALITIES[request.quality]
        full_band = {"full_band": True} if request.full_band and "full_band" in model.supports else {}
        usual_steps = _DRAFT_STEPS if request.quality == "draft" else wording.num_inference_steps
        return Layer(
            engine=model.name,
            model=model.model,
            role="bed" if planned is None and not label else planned.role if planned else "events",
            prompt=wording.prompt,
            negative_prompt=wording.negative_prompt,
            seed=self._seed_of(index),
            num_inference_steps=request.num_inference_steps or usual_steps,
            guidance_scale=wording.guidance_scale if request.guidance_scale is None else request.guidance_scale,
            gain_db=planned.gain_db if planned else 0.0,
            params={"scheduler": scheduler, "num_candidates": num_candidates, **full_band},
            label=planned.label if planned else label,
        )

    def _seed_of(self, index: int) -> int:
        return (self._seed + index) % (MAX_SEED + 1)


def _made_by_rule(planned: PlannedLayer, texture_maker: EngineSpec) -> bool:
    category = vocabulary().categories[planned.category]
    has_family = category.family is not None and category.family[0] in texture_maker.textures
    return category.engine == "procedural" and has_family


def _texture(planned: PlannedLayer, spec: EngineSpec) -> tuple[str, str] | None:
    """The family and variant that makes a sound, or the nearest that stands in for it."""
    category = vocabulary().categories[planned.category]
    if category.family is not None and category.family[0] in spec.textures:
        family, variant = category.family
        return family, planned.variant or variant
    if category.nearest is not None and category.nearest[0] in spec.textures:
        return category.nearest
    return None


def _duration_s(request: SceneRequest, used: Sequence[EngineSpec], longest_s: float) -> float:
    # Of several engines a model's usual length counts: it is the one that costs.
    usual_s = min(spec.default_duration_s for spec in used)
    duration_s = min(usual_s if request.duration_s is None else float(request.duration_s), longest_s)
    step_s = max((spec.loop_step_s for spec in used if "loop" in spec.supports), default=0.0)
    if not request.loop or step_s == 0.0:
        return duration_s
    rounded_s = whole_steps_s(duration_s, step_s)
    return rounded_s if rounded_s <= longest_s else whole_steps_s(rounded_s - step_s, step_s)


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
