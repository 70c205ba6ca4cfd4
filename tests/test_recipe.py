"""From a request to a recipe, and a recipe to JSON and back."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ambientgen.engines.procedural import ProceduralEngine
from ambientgen.errors import (
    EngineNotReadyError,
    OptionError,
    RequestError,
    UnknownEngineError,
    UnknownSceneError,
)
from ambientgen.planning import resolve, rounded_loop, unused_options
from ambientgen.recipe import MAX_SEED, Layer, Recipe, SceneRequest
from ambientgen.spec import ENGINE_OPTIONS, EngineSpec
from ambientgen.synth.params import VARIANTS


def _spec(name: str, *, reads_any_text: bool, supports: frozenset[str]) -> EngineSpec:
    return EngineSpec(
        name=name,
        version="1",
        model="test/model" if reads_any_text else None,
        sample_rate_hz=48_000,
        num_channels=2,
        default_duration_s=10.0 if reads_any_text else 30.0,
        longest_good_s=10.0,
        longest_step_s=1.0,
        supports=supports,
        needs_gpu=reads_any_text,
        textures=frozenset() if reads_any_text else frozenset(VARIANTS),
        license="MIT",
    )


MODEL = _spec("audioldm2", reads_any_text=True, supports=frozenset(ENGINE_OPTIONS))
PROCEDURAL = _spec("procedural", reads_any_text=False, supports=frozenset({"loop"}))
BOTH = [MODEL, PROCEDURAL]


def test_a_ready_model_serves_a_request_that_names_no_engine() -> None:
    """With a model ready, events without an engine named go to it, worded by the ground rules."""
    recipe = resolve(SceneRequest(description="a dog barking", seed=3), BOTH)
    (layer,) = recipe.layers
    assert layer.engine == "audioldm2"
    assert layer.prompt == "a dog barking, animal sounds, high quality recording, ambient soundscape"
    assert layer.negative_prompt == "music, voices, low quality, distorted"
    assert layer.num_inference_steps == 50
    assert 5.0 <= (layer.guidance_scale or 0) <= 7.5
    assert recipe.duration_s == 10.0
    assert recipe.seed == 3


def test_without_a_model_the_scene_becomes_procedural_layers() -> None:
    """The procedural engine gets one layer for each sound, with its own seed, and tells bed from events."""
    recipe = resolve(SceneRequest(description="gentle rain on a window with distant thunder", seed=7), [PROCEDURAL])
    rain, thunder = recipe.layers
    assert (rain.params["family"], rain.params["variant"], rain.role) == ("rain", "window", "bed")
    assert (thunder.params["family"], thunder.role) == ("thunder", "events")
    assert rain.params["intensity"] < 0.5 < thunder.params["distance"]
    assert thunder.gain_db < rain.gain_db
    assert rain.seed != thunder.seed
    assert recipe.duration_s == 30.0


@pytest.mark.parametrize(
    ("quality", "num_steps", "scheduler", "num_candidates"),
    [("draft", 20, "dpmpp_2m", 1), ("standard", 50, "ddim", 1), ("high", 50, "ddim", 3)],
)
def test_quality_decides_steps_scheduler_and_candidates(
    quality: str, num_steps: int, scheduler: str, num_candidates: int
) -> None:
    """Each quality stands for a fixed set of decisions."""
    (layer,) = resolve(SceneRequest(description="rain", engine="audioldm2", quality=quality), BOTH).layers  # type: ignore[arg-type]
    assert layer.num_inference_steps == num_steps
    assert layer.params == {"scheduler": scheduler, "num_candidates": num_candidates}


def test_explicit_values_win() -> None:
    """What a person sets is used as it is, also an empty negative prompt and an overcooked guidance."""
    request = SceneRequest(
        description="rain",
        engine="audioldm2",
        quality="draft",
        negative_prompt="",
        guidance_scale=14.0,
        num_inference_steps=33,
    )
    (layer,) = resolve(request, BOTH).layers
    assert (layer.negative_prompt, layer.guidance_scale, layer.num_inference_steps) == ("", 14.0, 33)


@pytest.mark.parametrize("asked_s", [1.0, 4.0, 7.03, 9.999, 10.24])
def test_a_loop_is_whole_frames_of_its_engine(asked_s: float) -> None:
    """A model's loop cannot be cut, so its length is rounded where it is decided, and the person is told."""
    model = dataclasses.replace(MODEL, supports=MODEL.supports | {"loop"}, loop_step_s=0.04)
    request = SceneRequest(description="gentle rain", duration_s=asked_s, loop=True)
    recipe = resolve(request, [model])
    assert recipe.duration_s == pytest.approx(round(recipe.duration_s / 0.04) * 0.04, abs=1e-9)
    assert abs(recipe.duration_s - asked_s) <= 0.02 + 1e-9
    exact = recipe.duration_s == asked_s
    assert (
        rounded_loop(request, recipe) is None
        if exact
        else f"not {asked_s:g} s" in (rounded_loop(request, recipe) or "")
    )
    not_a_loop = dataclasses.replace(request, loop=False)
    assert resolve(not_a_loop, [model]).duration_s == asked_s
    assert resolve(request, [PROCEDURAL]).duration_s == asked_s


def test_a_length_is_never_more_than_allowed() -> None:
    """A place's limit cuts an engine's own length, and a loop is rounded down to it, not beyond."""
    assert resolve(SceneRequest(description="rain"), [PROCEDURAL], longest_s=12.5).duration_s == 12.5
    model = dataclasses.replace(MODEL, supports=MODEL.supports | {"loop"}, loop_step_s=0.04)
    recipe = resolve(SceneRequest(description="rain", loop=True), [model], longest_s=7.03)
    assert recipe.duration_s == 7.0


def test_a_missing_seed_is_chosen_and_recorded() -> None:
    """Two requests without a seed get recipes with two different, allowed seeds."""
    seeds = {resolve(SceneRequest(description="rain"), BOTH).seed for _ in range(20)}
    assert len(seeds) > 1
    assert all(0 <= seed <= MAX_SEED for seed in seeds)


def test_options_an_engine_cannot_use_are_reported() -> None:
    """Every model option that was set is named as not used by the procedural engine; none for the model."""
    request = SceneRequest(
        description="rain",
        quality="high",
        negative_prompt="wind",
        guidance_scale=6.0,
        num_inference_steps=30,
        full_band=True,
    )
    procedural = resolve(dataclasses.replace(request, engine="procedural"), BOTH)
    assert unused_options(request, procedural, BOTH) == {"procedural": ENGINE_OPTIONS}
    assert unused_options(request, resolve(dataclasses.replace(request, engine="audioldm2"), BOTH), BOTH) == {}
    plain = SceneRequest(description="rain", engine="procedural")
    assert unused_options(plain, resolve(plain, BOTH), BOTH) == {}


@pytest.mark.parametrize(
    ("option", "changes"),
    [
        ("duration", {"duration_s": 0.0}),
        ("duration", {"duration_s": float("nan")}),
        ("duration", {"duration_s": 1e9}),
        ("guidance_scale", {"guidance_scale": 0.5}),
        ("guidance_scale", {"guidance_scale": 15.1}),
        ("steps", {"num_inference_steps": 9}),
        ("steps", {"num_inference_steps": 201}),
        ("seed", {"seed": -1}),
        ("seed", {"seed": MAX_SEED + 1}),
        ("quality", {"quality": "best"}),
        ("negative_prompt", {"negative_prompt": "x" * 301}),
    ],
)
def test_an_option_outside_its_range_is_refused_by_name(option: str, changes: dict[str, object]) -> None:
    """The error names the option as the person knows it."""
    request = dataclasses.replace(SceneRequest(description="rain"), **changes)
    with pytest.raises(OptionError, match=option) as caught:
        resolve(request, BOTH)
    assert caught.value.option == option


def test_an_unknown_scene_says_what_can_be_made() -> None:
    """The procedural engine does not invent: it names what it makes, and what is near to a misspelling."""
    with pytest.raises(UnknownSceneError, match="cannot place this scene") as caught:
        resolve(SceneRequest(description="thondr and a litening"), [PROCEDURAL])
    assert "distant thunder over heavy rain" in caught.value.suggestions
    with pytest.raises(UnknownSceneError, match="takes any description"):
        resolve(SceneRequest(description="a purple gramophile", engine="procedural"), BOTH)


def test_an_engine_that_is_not_ready_or_not_there_is_refused() -> None:
    """An engine is refused with its reason, a name that does not exist with the names that do."""
    asked = SceneRequest(description="rain", engine="audioldm2")
    with pytest.raises(EngineNotReadyError, match="warming up"):
        resolve(asked, [PROCEDURAL], unavailable={"audioldm2": "is warming up."})
    with pytest.raises(UnknownEngineError, match=r"audioldm2.*procedural"):
        resolve(SceneRequest(description="rain", engine="magic"), BOTH)
    with pytest.raises(EngineNotReadyError, match="No engine"):
        resolve(SceneRequest(description="rain"), [])


_layers = st.builds(
    Layer,
    engine=st.sampled_from(["procedural", "audioldm2"]),
    model=st.none() | st.text(max_size=20),
    role=st.sampled_from(["bed", "events"]),
    prompt=st.text(max_size=60),
    negative_prompt=st.none() | st.text(max_size=60),
    seed=st.integers(0, MAX_SEED),
    num_inference_steps=st.none() | st.integers(1, 200),
    guidance_scale=st.none() | st.floats(0.0, 15.0),
    gain_db=st.floats(-60.0, 30.0),
    params=st.dictionaries(st.text(max_size=10), st.integers() | st.text(max_size=10), max_size=4),
)
_recipes = st.builds(
    Recipe,
    layers=st.lists(_layers, min_size=1, max_size=4).map(tuple),
    duration_s=st.floats(1.0, 600.0),
    loop=st.booleans(),
    target_lufs=st.floats(-60.0, -5.0),
    engine_versions=st.dictionaries(st.text(max_size=10), st.text(max_size=10), max_size=2),
)


@given(_recipes)
def test_a_recipe_survives_json(recipe: Recipe) -> None:
    """Every recipe comes back equal from its JSON."""
    assert Recipe.from_json(recipe.to_json()) == recipe


@given(
    st.builds(
        SceneRequest,
        description=st.text(max_size=100),
        duration_s=st.none() | st.floats(0, 1e6),
        engine=st.none() | st.text(max_size=20),
        quality=st.sampled_from(["draft", "standard", "high"]),
        loop=st.booleans(),
        seed=st.none() | st.integers(),
        negative_prompt=st.none() | st.text(max_size=50),
    )
)
def test_a_request_survives_json(request: SceneRequest) -> None:
    """Every request comes back equal from its JSON."""
    assert SceneRequest.from_json(request.to_json()) == request


_json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)


@given(st.text(max_size=60) | _json_values.map(json.dumps))
def test_anything_that_is_no_recipe_is_refused_with_words(text: str) -> None:
    """No text crashes the reader: it is a recipe, or a RequestError."""
    with pytest.raises(RequestError):
        Recipe.from_json(text)


@given(_recipes, st.data())
def test_a_damaged_recipe_is_refused_with_words(recipe: Recipe, data: st.DataObject) -> None:
    """A recipe with one value replaced by any JSON value is still read, or refused with a RequestError."""
    damaged = json.loads(recipe.to_json())
    target = data.draw(st.sampled_from([damaged, damaged["layers"][0]]))
    target[data.draw(st.sampled_from(sorted(target)))] = data.draw(_json_values)
    try:
        read = Recipe.from_json(json.dumps(damaged))
    except RequestError:
        return
    assert isinstance(read, Recipe)


def test_a_recipe_from_a_newer_version_is_refused() -> None:
    """A newer format says that AmbientGen must be updated."""
    recipe = resolve(SceneRequest(description="rain"), BOTH)
    newer = {**json.loads(recipe.to_json()), "version": 2}
    with pytest.raises(RequestError, match="newer version"):
        Recipe.from_json(json.dumps(newer))


def test_a_remix_changes_the_gains_and_nothing_else() -> None:
    """The gains given are kept as they are: no layer is raised behind a person's back."""
    recipe = resolve(SceneRequest(description="rain with a campfire", seed=3), [ProceduralEngine().spec])
    mixed = recipe.remixed([-12.0, 3.5])
    assert [layer.gain_db for layer in mixed.layers] == [-12.0, 3.5]
    assert not mixed.unmask
    assert mixed.remixed([layer.gain_db for layer in recipe.layers]) == dataclasses.replace(recipe, unmask=False)
    assert Recipe.from_json(mixed.to_json()) == mixed
    with pytest.raises(RequestError, match="gain"):
        recipe.remixed([-61.0, 0.0])
