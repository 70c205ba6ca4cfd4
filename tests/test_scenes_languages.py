"""Descriptions in German, French, Spanish and Portuguese."""

from __future__ import annotations

import tomllib
from importlib import resources

import pytest

from ambientgen import scenes
from ambientgen.vocabulary import build, vocabulary, words_of

LANGUAGES = tomllib.loads((resources.files("ambientgen") / "languages.toml").read_text(encoding="utf-8"))
ENGLISH = build((resources.files("ambientgen") / "scenes.toml").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("description", "expected"),
    [
        ("leichter Regen auf dem Blechdach mit fernem Donner", ["rain", "thunder"]),
        ("ein knisterndes Lagerfeuer und Grillen in der Nacht", ["fire", "insects"]),
        ("Meeresrauschen und Möwen, ohne Wind", ["ocean", "birds"]),
        ("eine volle Kneipe mit Musik", ["people", "music"]),
        ("nachts im Wald", ["insects", "wind", "birds"]),
        ("Gewitter ohne Regen", ["thunder"]),
        ("Strand ohne Menschen in der Nacht", ["ocean"]),
        ("das Rauschen der Blätter im Wind", ["wind"]),
        ("eine alte Standuhr tickt in einer stillen Bibliothek", ["clock"]),
        ("ein Boot auf einem ruhigen See", ["ship"]),
        ("Schritte im Schnee und eisiger Wind", ["footsteps", "wind"]),
        ("Tippen auf der Tastatur im Büro, während es draußen regnet", ["typing", "rain"]),
        ("weißes Rauschen zum Einschlafen", ["noise"]),
        ("keine Musik, keine Stimmen, nur Regen", ["rain"]),
        ("pluie légère sur la fenêtre et tonnerre au loin", ["rain", "thunder"]),
        ("feu de camp la nuit sans vent", ["fire"]),
        ("une forêt avec des oiseaux et un ruisseau", ["birds", "stream"]),
        ("les vagues et le vent, pas de mouettes", ["ocean", "wind"]),
        ("pluie sans tonnerre ni vent", ["rain"]),
        ("bruits de pas dans la neige", ["footsteps"]),
        ("un chat qui ronronne près du feu", ["animals", "fire"]),
        ("dans un vaisseau spatial, léger bourdonnement", ["machine"]),
        ("sous l'eau avec des chants de baleines", ["animals"]),
        ("taverne médiévale animée avec un feu et un luth", ["people", "fire", "music"]),
        ("mer sans mouettes, enfants ou bateaux", ["ocean"]),
        ("il ne pleut pas, juste du vent", ["wind"]),
        ("le ronronnement d'un ventilateur", ["machine"]),
        ("lluvia fuerte en el techo de chapa y truenos a lo lejos", ["rain", "thunder"]),
        ("olas suaves en la playa y gaviotas, sin gente", ["ocean", "birds"]),
        ("una taberna medieval con chimenea", ["people", "fire"]),
        ("lobos aullando en la distancia, está nevando", ["animals"]),
        ("no quiero truenos, solo lluvia", ["rain"]),
        ("llueve sobre una gran cascada en la selva", ["rain", "stream", "birds", "insects"]),
        ("tecleo en la oficina mientras llueve afuera", ["typing", "rain"]),
        ("ranas en el estanque una noche de verano", ["frogs", "insects"]),
        ("todo menos el viento: mar, gaviotas", ["ocean", "birds"]),
        ("en una nave espacial, zumbido suave", ["machine"]),
        ("sin coches en la calle, lluvia", ["rain"]),
        ("chuva forte com trovões ao longe", ["rain", "thunder"]),
        ("cachoeira na floresta com pássaros", ["stream", "birds"]),
        ("fogueira à noite sem vento", ["fire"]),
        ("chuva no telhado de zinco", ["rain"]),
        ("as ondas do mar no fundo", ["ocean"]),
        ("floresta no inverno, sem pássaros", ["wind"]),
        ("comboio a vapor no inverno", ["train"]),
        ("está a chover muito", ["rain"]),
        ("não quero música nem vozes, só a chuva", ["rain"]),
        ("pessoas no café", ["people"]),
        ("debaixo d'água com cantos de baleias", ["animals"]),
        ("gotas de água numa caverna profunda", ["cave"]),
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
        "sanfter Regen im Wald, in der Ferne Donnergrollen",
        "pluie légère et tonnerre lointain",
        "une pluie douce dans la forêt avec le tonnerre au loin",
        "lluvia suave y truenos lejanos",
        "lluvia ligera en el bosque con truenos a lo lejos",
        "chuva leve com trovões distantes",
        "chuva fraca na floresta e trovões ao longe",
    ],
)
def test_strength_and_distance_in_other_languages(description: str) -> None:
    """Inflected adjectives before or behind their noun change their own sound."""
    rain, thunder = scenes.plan(description).layers
    assert rain.settings["intensity"] < 0.35
    assert rain.settings["distance"] == 0.0
    assert thunder.settings["distance"] > 0.6


@pytest.mark.parametrize(
    "description",
    [
        "heftiger Regen und leiser Wind",
        "forte pluie et léger vent",
        "lluvia muy fuerte y viento suave",
        "chuva forte e vento leve",
    ],
)
def test_each_adjective_keeps_to_its_own_sound(description: str) -> None:
    """A strong sound beside a weak one stays strong."""
    rain, wind = scenes.plan(description).layers
    assert rain.settings["intensity"] > 0.7
    assert wind.settings["intensity"] < 0.35


@pytest.mark.parametrize(
    ("description", "place"),
    [
        ("gedämpfte Musik durch die Wand", "outside"),
        ("Gesang in einer Kathedrale", "hall"),
        ("musique étouffée", "outside"),
        ("de la musique dans une grotte", "cave"),
        ("música bajo el agua", "underwater"),
        ("chuva lá fora", "outside"),
    ],
)
def test_places_in_other_languages(description: str, place: str) -> None:
    """Where the listener is, is understood too."""
    assert scenes.plan(description).layers[0].settings["place"] == place


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_language_has_a_whole_vocabulary(language: str) -> None:
    """Hundreds of phrases, and with them words for nearly every sound there is."""
    meanings = [vocabulary().phrases[words_of(phrase)] for phrase in LANGUAGES[language]]
    assert len(meanings) >= 200
    named = {sound for meaning in meanings for sound in meaning.sounds}
    assert named == {key for key, category in vocabulary().categories.items() if category.label}


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_entry_is_without_effect(language: str) -> None:
    """A phrase that English has too would keep its English meaning, and one written twice would hide the other."""
    phrases = [words_of(phrase) for phrase in LANGUAGES[language]]
    assert [phrase for phrase in phrases if phrase in ENGLISH.phrases] == []
    assert sorted(phrases) == sorted(set(phrases))


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_phrase_reads_as_its_english_meaning(language: str) -> None:
    """Alone, before a sound and behind one, each phrase leads to the same layers as the English it stands for."""
    different = {
        phrase: english
        for phrase, english in LANGUAGES[language].items()
        for frame in ("{}", "{}, ukulele", "zebra {} ukulele")
        if _reads(frame.format(phrase)) != _reads(frame.format(english))
    }
    assert different == {}


def _reads(description: str) -> object:
    plan = scenes.plan(description)
    layers = [(layer.category, layer.settings, layer.variant) for layer in plan.layers]
    return layers, plan.left_out, plan.unknown


def test_one_phrase_means_one_thing_in_every_language() -> None:
    """Two languages that spell a phrase the same mean the same by it."""
    meant: dict[tuple[str, ...], str] = {}
    different = {
        phrase
        for entries in LANGUAGES.values()
        for phrase, english in entries.items()
        if meant.setdefault(words_of(phrase), english) != english
    }
    assert different == set()


def test_plain_english_is_not_taken_for_another_language() -> None:
    """Words of everyday English are in no other language's list, or the person's own words would be lost."""
    taken = [idea for category in ENGLISH.categories.values() for idea in category.ideas if scenes.plan(idea).foreign]
    assert taken == []
    plan = scenes.plan("I am on a grand old ship; see the fine rain die down, as we came from the public library")
    assert not plan.foreign
