"""What to ask for: the scenes that come along, and the ideas of each category."""

from __future__ import annotations

import pytest

from ambientgen import ideas, scenes
from ambientgen.errors import RequestError
from ambientgen.planning import not_made, resolve
from ambientgen.recipe import SceneRequest
from tests.test_prompts import MODEL, TEXTURES

PRESETS = ideas.built_in_presets()


def test_there_are_at_least_two_dozen() -> None:
    """24 scenes or more come along, each under a name of its own."""
    assert len(PRESETS) >= 24
    assert len({preset.name.casefold() for preset in PRESETS}) == len(PRESETS)


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.name)
def test_every_preset_can_be_made_whole_on_any_machine(preset: ideas.BuiltInPreset) -> None:
    """Without a model each one is a valid recipe of textures, none of them a stand-in, and nothing is left out."""
    recipe = resolve(preset.request, [TEXTURES])
    assert not_made(preset.request, recipe, [TEXTURES]) == ()
    assert not any("nearest" in layer.label for layer in recipe.layers)
    assert len(preset.request.description) <= ideas.MAX_IDEA_CHARS


@pytest.mark.parametrize("idea", ideas.all_ideas([MODEL]))
def test_an_idea_fits_a_button(idea: str) -> None:
    """A button's label holds 80 characters, and pressing it asks for the label."""
    assert scenes.MIN_DESCRIPTION_CHARS <= len(idea) <= 80


def test_ideas_are_varied() -> None:
    """Of all categories, no two of the first dozen are of one; another seed gives others, the same seed the same."""
    first = ideas.ideas(None, 12, 1, [MODEL])
    assert len(set(first)) == 12
    assert ideas.ideas(None, 12, 1, [MODEL]) == first
    assert ideas.ideas(None, 12, 2, [MODEL]) != first


@pytest.mark.parametrize("category", ["rain", "Rain", "NOISE COLORS", "café and tavern", "cafe and tavern"])
def test_ideas_of_one_category(category: str) -> None:
    """A category is asked for by its key or its title, in any case, with or without accents."""
    assert ideas.ideas(category, 3, 1, [TEXTURES])


def test_an_unknown_category_names_those_there_are() -> None:
    """The refusal says what can be asked for."""
    with pytest.raises(RequestError, match="The categories are rain, thunder"):
        ideas.ideas("plumbing", 3, 1, [MODEL])


def test_only_what_can_be_made_is_offered() -> None:
    """Without a model no idea needs one, and a category that does says so."""
    offered = ideas.all_ideas([TEXTURES])
    assert 60 < len(offered) < len(ideas.all_ideas([MODEL]))
    for idea in offered:
        request = SceneRequest(description=idea)
        assert not_made(request, resolve(request, [TEXTURES]), [TEXTURES]) == ()
    with pytest.raises(RequestError, match="a model is needed"):
        ideas.ideas("footsteps", 3, 1, [TEXTURES])
