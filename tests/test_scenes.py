"""From a description to a scene plan."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ambientgen import scenes
from ambientgen.engines.procedural import ProceduralEngine
from ambientgen.errors import DescriptionError, RequestError
from ambientgen.planning import resolve
from ambientgen.recipe import Recipe, SceneRequest
from ambientgen.synth.params import VARIANTS
from ambientgen.vocabulary import vocabulary


def categories(description: str) -> list[str]:
    """The sounds a description calls for, in its order."""
    return [layer.category for layer in scenes.plan(description).layers]


def layer_of(description: str, category: str) -> scenes.PlannedLayer:
    """One sound of a description."""
    return next(layer for layer in scenes.plan(description).layers if layer.category == category)


@pytest.mark.parametrize(
    ("description", "expected"),
    [
        ("gentle rain on a window with distant thunder", ["rain", "thunder"]),
        ("a crackling campfire by a stream at night", ["fire", "stream"]),
        ("ocean waves and seagulls", ["ocean", "birds"]),
        ("a busy café while it rains outside", ["people", "rain"]),
        ("a thunderstorm", ["rain", "thunder"]),
        ("a storm at sea", ["rain", "thunder", "ocean"]),
        ("medieval tavern with a roaring fire", ["people", "fire"]),
        ("wind through the pines", ["wind"]),
        ("a quiet forest", ["wind", "birds"]),
        ("a forest at night", ["wind", "birds", "insects"]),
        ("rain in a forest at night", ["rain"]),
        ("a waterfall", ["stream"]),
        ("spaceship engine hum", ["machine"]),
        ("brown noise", ["noise"]),
        ("night", ["insects"]),
        ("katydids and torches", ["insects", "fire"]),
        ("it is coming down in buckets: it buckets down", ["rain"]),
        ("the murmur of a brook", ["stream"]),
        ("crickets chirping", ["insects"]),
        ("thunderstrom over the mountains", ["rain", "thunder"]),
        ("a tropical rainforest", ["birds", "insects"]),
        ("church bells", ["chimes"]),
        ("inside a church", ["chimes"]),
        ("a purple gramophile", []),
        ("no rain", []),
    ],
)
def test_a_description_calls_for_its_sounds(description: str, expected: list[str]) -> None:
    """Several sounds come from one description, in its order; a setting brings its own only where none is named."""
    assert categories(description) == expected


@pytest.mark.parametrize(
    ("description", "expected"),
    [
        ("forest with birds and no wind", ["birds"]),
        ("rain without thunder, with crickets", ["rain", "insects"]),
        ("rain without thunder and lightning", ["rain"]),
        ("waves, no birds, people or traffic", ["ocean"]),
        ("a wind-free beach", ["ocean"]),
        ("everything in the forest except the birds", ["wind"]),
        ("everything but the birds in a forest", ["wind"]),
        ("I don't want any music, just a fireplace", ["fire"]),
        ("nothing but rain", ["rain"]),
        ("not too heavy rain", ["rain"]),
        ("no thunder, gentle rain", ["rain"]),
        ("a spaceship, no beeping", ["machine"]),
        ("a thunderstorm without thunder", ["rain"]),
    ],
)
def test_what_is_negated_stays_away(description: str, expected: list[str]) -> None:
    """A negation governs its sound, a list of them, and nothing else."""
    assert categories(description) == expected


@pytest.mark.parametrize(
    ("description", "wanted", "left_out"),
    [
        ("forest with birds and no wind", "forest with birds", ("wind",)),
        ("rain without thunder, with crickets", "rain, with crickets", ("thunder",)),
        ("no birds, people or traffic, just waves", "waves", ("birds", "people", "traffic")),
        ("heavy rain", "heavy rain", ()),
    ],
)
def test_what_is_wanted_is_told_from_what_is_not(description: str, wanted: str, left_out: tuple[str, ...]) -> None:
    """A model that cannot read "no" gets the text without it, and the sounds to avoid by name."""
    plan = scenes.plan(description)
    assert (plan.wanted, plan.left_out) == (wanted, left_out)


@pytest.mark.parametrize(
    ("description", "category", "setting", "low", "high"),
    [
        ("heavy rain", "rain", "intensity", 0.65, 1),
        ("rain, heavy", "rain", "intensity", 0.65, 1),
        ("drizzle", "rain", "intensity", 0, 0.3),
        ("torrential rain", "rain", "intensity", 1, 1),
        ("it buckets down", "rain", "intensity", 0.9, 1),
        ("soft rain and loud thunder", "thunder", "intensity", 0.65, 1),
        ("soft rain and loud thunder", "rain", "intensity", 0, 0.35),
        ("a storm", "rain", "intensity", 0.65, 1),
        ("thunder in the distance, soft rain", "thunder", "distance", 0.6, 1),
        ("thunder in the distance, soft rain", "rain", "distance", 0, 0),
        ("distant birds and close rain", "birds", "distance", 0.6, 1),
        ("wind, far off", "wind", "distance", 0.6, 1),
        ("an occasional owl", "birds", "density", 0, 0.3),
        ("a chorus of frogs", "frogs", "density", 0.7, 1),
        ("bright wind chimes", "chimes", "brightness", 0.6, 1),
        ("heavy rain and birds", "birds", "intensity", 0.5, 0.5),
        ("distant thunder and rain", "rain", "distance", 0, 0),
    ],
)
def test_a_modifier_changes_its_own_sound(
    description: str, category: str, setting: str, low: float, high: float
) -> None:
    """Strength, distance, density and brightness go to the nearest sound, and leave the others alone."""
    assert low <= layer_of(description, category).settings[setting] <= high


@pytest.mark.parametrize(
    ("description", "category", "place"),
    [
        ("a café while it rains outside", "rain", "outside"),
        ("a café while it rains outside", "people", ""),
        ("a stream in a cave", "stream", "cave"),
        ("footsteps in a cathedral", "footsteps", "hall"),
        ("waves under water", "ocean", "underwater"),
        ("muffled city traffic", "city", "outside"),
        ("heavy rain", "rain", ""),
    ],
)
def test_a_place_is_heard(description: str, category: str, place: str) -> None:
    """A room is around everything; what is outside is only that sound."""
    assert layer_of(description, category).settings["place"] == place


def test_distance_and_strength_change_the_loudness_in_the_mix() -> None:
    """A distant sound is quieter than a near one, a heavy one louder than a light one."""
    gain = {text: scenes.plan(text).layers[0].gain_db for text in ("rain", "distant rain", "heavy rain", "light rain")}
    assert gain["distant rain"] < gain["rain"]
    assert gain["light rain"] < gain["rain"] < gain["heavy rain"]


def test_the_words_that_led_to_a_layer_are_kept() -> None:
    """A plan can say which words called for what, and what they kept away."""
    plan = scenes.plan("gentle rain with distant thunder and no wind")
    assert scenes.explain(plan) == ["light rain ← rain, gentle", "distant thunder ← thunder, distant", "no wind"]


def test_each_sound_keeps_the_persons_own_words() -> None:
    """A part of the sentence that is about one sound alone is what a model reads for it."""
    plan = scenes.plan("footsteps on gravel slowly approaching, gentle rain on a window with a laser battle")
    assert [layer.words for layer in plan.layers] == [
        "footsteps on gravel slowly approaching",
        "gentle rain on a window",
    ]
    assert plan.others == ("a laser battle",)


@pytest.mark.parametrize(
    ("description", "unknown"),
    [
        ("rain on a xylophonist", ("xylophonist",)),
        ("rain without a xylophonist", ()),
        ("a crackling campfire at night", ()),
    ],
)
def test_words_nobody_knows_are_named(description: str, unknown: tuple[str, ...]) -> None:
    """An unknown word is told; what fills a sentence, or is not wanted, is not."""
    assert scenes.plan(description).unknown == unknown


def test_one_sound_too_many_is_told() -> None:
    """A scene has five sounds at most."""
    plan = scenes.plan("rain, wind, waves, a stream, a fire and crickets")
    assert len(plan.layers) == scenes.MAX_LAYERS
    assert plan.too_many == ("crickets",)


def _resolved(plan_of: str) -> Recipe | None:
    """The recipe of a description on a machine without a model, read back from its JSON; None if refused in words."""
    try:
        recipe = resolve(SceneRequest(description=plan_of), [ProceduralEngine().spec])
    except RequestError:
        return None
    assert Recipe.from_json(recipe.to_json()) == recipe
    return recipe


@settings(deadline=None)
@given(st.text(max_size=2000))
def test_no_text_breaks_the_reading(text: str) -> None:
    """Any text is refused with words, or gives a plan and a valid recipe."""
    plan = scenes.plan(text)
    assert len(plan.layers) <= scenes.MAX_LAYERS
    _resolved(text)
    assert len(scenes.nearest_examples(text, frozenset(VARIANTS))) == 3


_KNOWN = sorted(" ".join(phrase) for phrase in vocabulary().phrases)
_PIECES = st.one_of(st.sampled_from(_KNOWN), st.sampled_from([",", ".", "no", "with", "or", "and", "-", "’s", "qux"]))


@settings(deadline=None)
@given(st.lists(_PIECES, max_size=40))
def test_any_order_of_known_words_gives_valid_layers(words: list[str]) -> None:
    """Known words in any order give each sound once, and every layer is one its engine can make."""
    text = " ".join(words)
    found = categories(text)
    assert len(found) == len(set(found))
    recipe = _resolved(text[:500])
    assert recipe is None or all(layer.params["family"] in VARIANTS for layer in recipe.layers)


def _calls(work: Callable[[], object]) -> int:
    """How many functions a piece of work calls: the same every time, whatever the machine is doing."""
    count = 0

    def note(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize(
    "unit",
    [
        "rain, heavy ",
        "heavy ",
        "no birds, ",
        "over over ",
        "thunderstrom ",
        "x" * 40 + " ",
        "rain with wind or ",
        "qux ",
    ],
)
def test_reading_costs_linear_work(unit: str) -> None:
    """Twice the text costs no more than twice the work, also where it is written to be slow."""
    short, long = unit * 50, unit * 100
    scenes.plan(short)
    assert _calls(lambda: scenes.plan(long)) <= 2.2 * _calls(lambda: scenes.plan(short)) + 100


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
