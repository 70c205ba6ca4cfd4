"""Descriptions in German, French, Spanish and Portuguese."""

from __future__ import annotations

import tomllib
from importlib import resources

import pytest

from ambientgen import scenes
from ambientgen.vocabulary import build, vocabulary, words_of

LANGUAGES = tomllib.loads((resources.files("ambientgen") / "languages.toml").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("description", "expected"),
    [
        ("leichter Regen auf dem Blechdach mit fernem Donner", ["rain", "thunder"]),
        ("ein knisterndes Lagerfeuer und Grillen in der Nacht", ["fire", "insects"]),
        ("Meeresrauschen und Möwen, ohne Wind", ["ocean", "birds"]),
        ("eine volle Kneipe mit Musik", ["people", "music"]),
        ("nachts im Wald", ["insects", "wind", "birds"]),
        ("pluie légère sur la fenêtre et tonnerre au loin", ["rain", "thunder"]),
        ("feu de camp la nuit sans vent", ["fire"]),
        ("une forêt avec des oiseaux et un ruisseau", ["birds", "stream"]),
        ("les vagues et le vent, pas de mouettes", ["ocean", "wind"]),
        ("lluvia fuerte en el techo de chapa y truenos a lo lejos", ["rain", "thunder"]),
        ("olas suaves en la playa y gaviotas, sin gente", ["ocean", "birds"]),
        ("una taberna medieval con chimenea", ["people", "fire"]),
        ("chuva forte com trovões ao longe", ["rain", "thunder"]),
        ("cachoeira na floresta com pássaros", ["stream", "birds"]),
        ("fogueira à noite sem vento", ["fire"]),
    ],
)
def test_other_languages_call_for_the_same_sounds(description: str, expected: list[str]) -> None:
    """Sounds, settings and negation are understood, and no small word is reported as unknown."""
    plan = scenes.plan(description)
    assert [layer.category for layer in plan.layers] == expected
    assert plan.unknown == ()
    assert plan.foreign


@pytest.mark.parametrize(
    "description",
    [
        "leiser Regen mit fernem Donner",
        "pluie légère et tonnerre lointain",
        "lluvia suave y truenos lejanos",
        "chuva leve com trovões distantes",
    ],
)
def test_strength_and_distance_in_other_languages(description: str) -> None:
    """Inflected adjectives before or behind their noun change their own sound."""
    rain, thunder = scenes.plan(description).layers
    assert rain.settings["intensity"] < 0.35
    assert rain.settings["distance"] == 0.0
    assert thunder.settings["distance"] > 0.6


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_language_has_a_whole_vocabulary(language: str) -> None:
    """Hundreds of phrases, and with them words for nearly every sound there is."""
    meanings = [vocabulary().phrases[words_of(phrase)] for phrase in LANGUAGES[language]]
    assert len(meanings) >= 200
    named = {sound for meaning in meanings for sound in meaning.sounds}
    assert len(named) >= 25


def test_one_phrase_means_one_thing_in_every_language() -> None:
    """Two languages that spell a phrase the same mean the same by it."""
    english = build((resources.files("ambientgen") / "scenes.toml").read_text(encoding="utf-8"))
    meant: dict[tuple[str, ...], object] = {}
    for entries in LANGUAGES.values():
        for phrase, same_as in entries.items():
            meaning = english.phrases[words_of(same_as)]
            assert meant.setdefault(words_of(phrase), meaning) == meaning, phrase
