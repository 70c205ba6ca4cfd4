"""From a description to a scene plan, and to the words the model reads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ambientgen import prompts, scenes
from ambientgen.errors import DescriptionError, RequestError
from ambientgen.synth.params import VARIANTS, TextureParams


def _families(description: str) -> list[str]:
    return [layer.params["family"] for layer in scenes.plan(description).layers]


@pytest.mark.parametrize(
    ("description", "families"),
    [
        ("gentle rain on a window with distant thunder", ["rain", "thunder"]),
        ("a crackling campfire by a stream at night", ["fire", "stream"]),
        ("ocean waves and seagulls", ["ocean", "birds"]),
        ("a busy café while it rains outside", ["cafe", "rain"]),
        ("forest with birds and no wind", ["birds"]),
        ("rain without thunder, with crickets", ["rain", "insects"]),
        ("a thunderstorm", ["rain", "thunder"]),
        ("medieval tavern with a roaring fire", ["cafe", "fire"]),
        ("wind through the pines", ["wind"]),
        ("a quiet forest", ["wind", "birds"]),
        ("a waterfall", ["stream"]),
        ("spaceship engine hum", ["drone"]),
        ("brown noise", ["noise"]),
        ("night", ["insects"]),
        ("no rain", []),
        ("a purple elephant", []),
    ],
)
def test_a_description_calls_for_its_sounds(description: str, families: list[str]) -> None:
    """Several sounds come from one description, in its order; what it negates stays away."""
    assert _families(description) == families


@pytest.mark.parametrize(
    ("description", "family", "intensity_above", "distance_above"),
    [
        ("heavy rain", "rain", 0.65, -1),
        ("rain, heavy", "rain", 0.65, -1),
        ("soft rain and loud thunder", "thunder", 0.65, -1),
        ("thunder in the distance, soft rain", "thunder", -1, 0.6),
        ("distant birds and close rain", "birds", -1, 0.6),
        ("wind, far away", "wind", -1, 0.6),
        ("a downpour", "rain", 0.9, -1),
    ],
)
def test_strength_and_distance_go_to_their_own_sound(
    description: str, family: str, intensity_above: float, distance_above: float
) -> None:
    """A modifier changes the sound it belongs to."""
    params = next(p.params for p in scenes.plan(description).layers if p.params["family"] == family)
    assert params["intensity"] > intensity_above
    assert params["distance"] > distance_above


def test_a_modifier_leaves_the_other_sounds_alone() -> None:
    """The rain of "distant thunder and rain" stays near, the birds of "heavy rain and birds" stay plain."""
    rain = scenes.plan("distant thunder and rain").layers[1]
    birds = scenes.plan("heavy rain and birds").layers[1]
    assert rain.params["distance"] == 0.0
    assert birds.params["intensity"] == 0.5


def test_distance_and_strength_change_the_loudness_in_the_mix() -> None:
    """A distant sound is quieter than a near one, a heavy one louder than a light one."""
    gain = {text: scenes.plan(text).layers[0].gain_db for text in ("rain", "distant rain", "heavy rain", "light rain")}
    assert gain["distant rain"] < gain["rain"]
    assert gain["light rain"] < gain["rain"] < gain["heavy rain"]


@pytest.mark.parametrize(
    ("description", "not_made"),
    [
        ("rain, a helicopter and a church bell", ("helicopter", "church", "bell")),
        ("the sound of gentle rain on an old window, for sleeping", ()),
        ("rain without traffic", ()),
        ("rain, wind, waves, a stream, a fire and crickets", ("crickets",)),
        ("a crackling campfire at night", ()),
    ],
)
def test_what_is_not_made_is_named(description: str, not_made: tuple[str, ...]) -> None:
    """A word nobody knows and a sound too many are told; what fills a sentence, or is not wanted, is not."""
    assert scenes.plan(description).not_made == not_made


def test_every_example_is_made_whole() -> None:
    """No example holds a word that would be reported as not made."""
    assert [scenes.plan(example).not_made for example in scenes.examples()] == [()] * len(scenes.examples())


def test_the_words_that_led_to_a_layer_are_kept() -> None:
    """A plan can say which words called for what."""
    rain, thunder = scenes.plan("gentle rain with distant thunder").layers
    assert rain.because == ("rain", "gentle")
    assert thunder.because == ("thunder", "distant")


def test_every_example_and_every_source_can_be_made() -> None:
    """The vocabulary names only families and variants that the synthesizer has, and each example works."""
    for example in scenes.examples():
        plan = scenes.plan(example)
        assert plan.layers, example
        for layer in plan.layers:
            TextureParams.from_mapping(layer.params)
    reached = {layer.params["family"] for example in scenes.examples() for layer in scenes.plan(example).layers}
    assert reached == set(VARIANTS)


@given(st.text(max_size=2000))
def test_no_text_breaks_the_reading(text: str) -> None:
    """Any text is refused with words, or gives a plan of valid layers."""
    try:
        cleaned = scenes.clean_description(text)
    except DescriptionError:
        cleaned = text
    plan = scenes.plan(cleaned)
    assert len(plan.layers) <= scenes.MAX_LAYERS
    for layer in plan.layers:
        TextureParams.from_mapping(layer.params)
    assert len(scenes.nearest_examples(cleaned)) == 3


_KNOWN_WORDS = ["rain", "heavy", "distant", "no", "with", ",", "thunder", "window", "softly"]


@given(st.lists(st.sampled_from(_KNOWN_WORDS), max_size=30))
def test_any_order_of_known_words_gives_valid_layers(words: list[str]) -> None:
    """Known words in any order give each family once, with values in range."""
    layers = scenes.plan(" ".join(words)).layers
    families = [layer.params["family"] for layer in layers]
    assert len(families) == len(set(families))
    for layer in layers:
        TextureParams.from_mapping(layer.params)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        (" \n\t ", "empty"),
        ("\x00\x07\u202e", "empty"),
        ("🌧️🌩️🔥", "no words"),
        ("123 456", "no words"),
        ("a", "too short"),
        ("x" * 501, "501 characters"),
    ],
)
def test_a_scene_that_cannot_be_read_is_refused_with_words(text: str, words: str) -> None:
    """Empty, control-character, all-emoji, too short and over-long scenes each get their own sentence."""
    with pytest.raises(DescriptionError, match=words):
        scenes.clean_description(text)


@given(st.text(max_size=700))
def test_a_cleaned_description_holds_no_control_characters(text: str) -> None:
    """What passes is one line of 3 to 500 characters, and cleaning it again changes nothing."""
    try:
        cleaned = scenes.clean_description(text)
    except RequestError:
        return
    assert scenes.MIN_DESCRIPTION_CHARS <= len(cleaned) <= scenes.MAX_DESCRIPTION_CHARS
    assert cleaned.isprintable() or any(c in cleaned for c in "\u200c\u200d") or not cleaned.isascii()
    assert "\n" not in cleaned
    assert scenes.clean_description(cleaned) == cleaned


def test_a_phrase_the_person_wrote_is_not_doubled() -> None:
    """The quality phrases are added only where they are missing."""
    wording = prompts.word("High quality recording of rain.")
    assert wording.prompt == "High quality recording of rain, ambient soundscape"


def test_the_negative_prompt_does_not_contradict_the_scene() -> None:
    """What the scene asks for leaves the default negative prompt; a given one is used as it is."""
    assert prompts.word("a choir singing").negative_prompt == "low quality, distorted"
    assert prompts.word("tavern with people talking").negative_prompt == "music, low quality, distorted"
    assert prompts.word("rain", "birds").negative_prompt == "birds"
    assert prompts.word("rain", "").negative_prompt == ""
