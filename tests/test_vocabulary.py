"""The vocabulary as data: what is in it, and what a mistake in it is told."""

from __future__ import annotations

import re
from importlib import resources

import pytest

from ambientgen import scenes
from ambientgen.synth.params import PLACES, VARIANTS, TextureParams
from ambientgen.vocabulary import build, vocabulary

TEXT = (resources.files("ambientgen") / "scenes.toml").read_text(encoding="utf-8")
#: Sounds that no texture makes yet: a model makes them, and where there is none the nearest texture, or nothing.
GAPS = {
    "animals": None,
    "clock": None,
    "fantasy": "chimes",
    "footsteps": None,
    "horror": "drone",
    "household": None,
    "music": None,
    "room": "machine",
    "typing": None,
}


def test_it_is_as_large_as_promised() -> None:
    """At least 20 categories and 200 words, and every category has ideas."""
    known = vocabulary()
    assert len(known.categories) >= 20
    assert len(known.phrases) >= 200
    assert all(category.ideas for category in known.categories.values())


def test_the_gaps_between_vocabulary_and_textures_are_known() -> None:
    """What a machine without a model stands in for, or cannot make, is written down here."""
    sounds = {key: category for key, category in vocabulary().categories.items() if category.label}
    gaps = {key: c.nearest and c.nearest[0] for key, c in sounds.items() if not c.family or c.family[0] not in VARIANTS}
    assert gaps == GAPS
    assert {c.family[0] for c in sounds.values() if c.family} == set(VARIANTS)


@pytest.mark.parametrize("key", [key for key, category in vocabulary().categories.items() if category.label])
def test_every_texture_it_names_exists(key: str) -> None:
    """Family, variants and stand-in of a category are ones the synthesizer has."""
    category = vocabulary().categories[key]
    for texture in (category.family, category.nearest):
        if texture is not None:
            TextureParams(family=texture[0], variant=texture[1])
    for variant in category.variants:
        assert category.family is not None
        TextureParams(family=category.family[0], variant=variant)


def test_every_place_exists() -> None:
    """A word for a place names one the synthesizer has."""
    places = {meaning.modifies.get("place", "") for meaning in vocabulary().phrases.values()}
    assert places == set(PLACES)


@pytest.mark.parametrize("key", vocabulary().categories)
def test_every_idea_is_understood_whole(key: str) -> None:
    """An idea calls for its own sound, or what its category implies, and holds no unknown word."""
    for idea in vocabulary().categories[key].ideas:
        plan = scenes.plan(idea)
        assert plan.layers, idea
        assert plan.unknown == (), idea
        assert not vocabulary().categories[key].label or key in {layer.category for layer in plan.layers}, idea


def test_every_word_leads_to_its_category() -> None:
    """Each word calls for its sound when it stands alone, also in capitals and in the plural."""
    for phrase, meaning in vocabulary().phrases.items():
        for text in (" ".join(phrase), " ".join(phrase).upper()):
            found = {layer.category for layer in scenes.plan(text).layers}
            assert set(meaning.calls) <= found, text
            assert found or not meaning.settings, text


_CATEGORY = """
[[category]]
key = "rain"
title = "Rain"
label = "rain"
role = "bed"
loudness_db = 0.0
engine = "procedural"
family = "rain"
prompt = "{what}"
words = "rain, heavy rain"
ideas = ["rain"]
"""
_REST = TEXT[: TEXT.index("\n[[category]]\n")]


def test_a_small_vocabulary_is_enough() -> None:
    """The categories are the file's alone: nothing in the code knows their names."""
    assert list(build(_REST + _CATEGORY).categories) == ["rain"]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('role = "bed"', 'role = "bad"', "category 'rain': 'role' is one of bed, events"),
        ('role = "bed"\n', "", "category 'rain': 'role' is missing"),
        ('title = "Rain"\n', "", "category 'rain': 'title' is missing"),
        ("loudness_db = 0.0", "loudnes_db = 0.0", "category 'rain': 'loudnes_db' is not a known entry"),
        ('label = "rain"\n', "", "category 'rain': it has neither a label of its own nor implies"),
        ('family = "rain"\n', "", "makes nothing without a 'family'"),
        ('prompt = "{what}"', 'prompt = "rain"', "the first phrase of 'prompt' holds {what}"),
        ('ideas = ["rain"]', 'ideas = ["rain"]\nimplies = ["thunder"]', "implies 'thunder'"),
        ('ideas = ["rain"]', 'ideas = ["rain"]\nlevels = { rain = 2 }', "'rain' has 2, but it goes from 0 to 1"),
        ('ideas = ["rain"]', 'ideas = ["rain"]\nlevels = { hail = 1 }', "'hail' has a level"),
        ('words = "rain, heavy rain"', 'words = "rain, !"', "'!' has no word"),
    ],
)
def test_a_mistake_is_told_by_name(old: str, new: str, words: str) -> None:
    """Whoever adds a category reads which entry is wrong and why."""
    assert old in _CATEGORY
    with pytest.raises(ValueError, match=re.escape(words)):
        build(_REST + _CATEGORY.replace(old, new))


def test_a_category_cannot_stand_twice() -> None:
    """Two entries of one key would hide each other."""
    with pytest.raises(ValueError, match="two categories 'rain'"):
        build(_REST + _CATEGORY + _CATEGORY)


def test_another_language_means_what_english_means() -> None:
    """A foreign phrase needs an English one that exists; a word that English has keeps its own meaning."""
    known = build(_REST + _CATEGORY, '[de]\n"Regen" = "rain"\n"quiet" = "rain"\n')
    assert known.phrases["regen",].calls == ("rain",)
    assert known.phrases["regen",].foreign
    assert known.phrases["quiet",].calls == ()
    with pytest.raises(ValueError, match="'Schnee' is said to mean 'snow', which is not in"):
        build(_REST + _CATEGORY, '[de]\n"Schnee" = "snow"\n')
