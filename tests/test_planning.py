"""Which engine makes which sound: with a model, without one, and where one is forced."""

from __future__ import annotations

import dataclasses

import pytest

from ambientgen.errors import UnknownSceneError
from ambientgen.planning import not_made, resolve, unused_options
from ambientgen.recipe import SceneRequest
from tests.test_prompts import MODEL, TEXTURES

BOTH = [MODEL, TEXTURES]


def test_textures_are_made_by_rule_and_events_by_the_model() -> None:
    """A bed of rain lies under the model's thunder, quieter the farther it is, each with a seed of its own."""
    request = SceneRequest(description="gentle rain on a window with distant thunder", seed=7)
    recipe = resolve(request, BOTH)
    rain, thunder = recipe.layers
    assert (rain.engine, rain.role, rain.label) == ("procedural", "bed", "light rain on a window")
    assert (rain.params["family"], rain.params["variant"], rain.model) == ("rain", "window", None)
    assert (thunder.engine, thunder.role, thunder.label) == ("audioldm2", "events", "distant thunder")
    assert thunder.prompt == "distant thunder, low rolling rumble, high quality recording, ambient soundscape"
    assert (thunder.model, thunder.num_inference_steps, thunder.guidance_scale) == ("test/model", 50, 6.0)
    assert thunder.gain_db < rain.gain_db
    assert (rain.seed, thunder.seed) == (7, 8)
    assert recipe.engine_versions == {"audioldm2": "1", "procedural": "1"}
    assert recipe.duration_s == MODEL.default_duration_s


@pytest.mark.parametrize("engine", ["audioldm2", "procedural"])
def test_an_engine_that_is_named_makes_everything(engine: str) -> None:
    """`engine:` forces one: the model reads the whole scene as one prompt, the textures make each sound."""
    scene = "gentle rain on a window with distant thunder"
    recipe = resolve(SceneRequest(description=scene, engine=engine), BOTH)
    assert {layer.engine for layer in recipe.layers} == {engine}
    assert [layer.label for layer in recipe.layers] == (
        [""] if engine == "audioldm2" else ["light rain on a window", "distant thunder"]
    )


def test_a_scene_of_events_alone_is_one_prompt() -> None:
    """Where no texture is called for, the model reads the whole scene in the person's own words."""
    (layer,) = resolve(SceneRequest(description="a dog barking and footsteps on gravel"), BOTH).layers
    assert layer.prompt.startswith("a dog barking and footsteps on gravel, ")


def test_a_scene_of_textures_alone_needs_no_model() -> None:
    """Textures alone are made by rule, at the textures' own length."""
    recipe = resolve(SceneRequest(description="rain and wind"), BOTH)
    assert {layer.engine for layer in recipe.layers} == {"procedural"}
    assert recipe.engine_versions == {"procedural": "1"}


def test_what_nothing_is_known_of_goes_to_the_model() -> None:
    """A part of the sentence without a known sound is the model's, above the textures; a mere place is not."""
    recipe = resolve(SceneRequest(description="gentle rain with a laser battle, waves under a xylophonist"), BOTH)
    assert [layer.label for layer in recipe.layers] == ["light rain", "ocean waves", "a laser battle"]
    assert recipe.layers[2].prompt == "a laser battle, high quality recording, ambient soundscape"


def test_an_unknown_description_is_read_by_the_model() -> None:
    """Whatever it says, a model gets it as it is, with the phrases that help."""
    (layer,) = resolve(SceneRequest(description="a purple gramophile"), BOTH).layers
    assert layer.prompt == "a purple gramophile, high quality recording, ambient soundscape"


def test_without_a_model_the_nearest_texture_stands_in_and_says_so() -> None:
    """A sound that no texture makes gets the nearest; one that none is near to is left out and told."""
    request = SceneRequest(description="rain, a quiet library and footsteps", engine="procedural")
    assert [layer.label for layer in resolve(request, [TEXTURES]).layers] == ["rain"]
    request = dataclasses.replace(request, description="rain in an eerie graveyard, room tone and footsteps")
    recipe = resolve(request, [TEXTURES])
    assert [layer.label for layer in recipe.layers] == ["rain", "room tone (nearest texture: fan)"]
    assert recipe.layers[1].params["family"] == "machine"
    assert not_made(request, recipe, [TEXTURES]) == ("footsteps",)
    with pytest.raises(UnknownSceneError):
        resolve(SceneRequest(description="footsteps"), [TEXTURES])


def test_the_place_is_left_of_a_scene_that_cannot_be_made() -> None:
    """Where no texture makes any sound that was named, the setting's own sounds stand for the scene, and it says so."""
    request = SceneRequest(description="a clock ticking in a quiet forest", engine="procedural")
    recipe = resolve(request, [TEXTURES])
    assert [layer.label for layer in recipe.layers] == ["light wind in the trees", "sparse birdsong"]
    assert not_made(request, recipe, [TEXTURES]) == ("ticking clock",)


def test_a_family_that_an_engine_lacks_goes_to_the_model() -> None:
    """An engine with fewer textures leaves the rest to the model."""
    fewer = dataclasses.replace(TEXTURES, textures=frozenset({"rain"}))
    recipe = resolve(SceneRequest(description="rain and wind"), [MODEL, fewer])
    assert [(layer.engine, layer.label) for layer in recipe.layers] == [("procedural", "rain"), ("audioldm2", "wind")]


def test_a_models_options_reach_all_its_layers() -> None:
    """Negative prompt, guidance, steps and quality are for every layer that a model makes."""
    request = SceneRequest(
        description="rain with thunder and a dog barking",
        quality="high",
        negative_prompt="birds",
        guidance_scale=7.5,
        num_inference_steps=20,
    )
    rain, *events = resolve(request, BOTH).layers
    assert rain.engine == "procedural"
    assert [layer.label for layer in events] == ["thunder", "animals"]
    for layer in events:
        assert (layer.negative_prompt, layer.guidance_scale, layer.num_inference_steps) == ("birds", 7.5, 20)
        assert layer.params["num_candidates"] == 3


def test_the_full_band_is_for_a_model_that_lacks_it() -> None:
    """Only where it was asked for, and only in the layers of an engine that leaves the band empty."""
    request = SceneRequest(description="rain with thunder", full_band=True)
    rain, thunder = resolve(request, BOTH).layers
    assert thunder.params["full_band"] is True
    assert "full_band" not in rain.params
    assert all(
        "full_band" not in layer.params for layer in resolve(dataclasses.replace(request, full_band=False), BOTH).layers
    )
    full = dataclasses.replace(MODEL, supports=MODEL.supports - {"full_band"})
    recipe = resolve(request, [full, TEXTURES])
    assert all("full_band" not in layer.params for layer in recipe.layers)
    assert unused_options(request, recipe, [full]) == {"audioldm2": ("full_band",)}


def test_nothing_is_not_made_where_everything_is_read() -> None:
    """With a model that reads the whole scene, or the part nobody knows, nothing is said to be missing."""
    for scene in ("a purple gramophile", "gentle rain with a laser battle"):
        request = SceneRequest(description=scene)
        assert not_made(request, resolve(request, BOTH), BOTH) == ()


def test_a_sound_too_many_and_unknown_words_are_not_made() -> None:
    """Both are named to the person."""
    request = SceneRequest(description="rain, wind, waves, a stream, a fire and crickets on a xylophonist")
    recipe = resolve(request, [TEXTURES])
    assert not_made(request, recipe, [TEXTURES]) == ("crickets", "xylophonist")
