"""What a model reads: golden wordings of 60 descriptions, and the rules behind them.

`python -m tests.test_prompts` writes the golden file anew; read the difference before committing it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ambientgen import prompts, scenes
from ambientgen.planning import resolve
from ambientgen.recipe import SceneRequest
from ambientgen.spec import ENGINE_OPTIONS, EngineSpec
from ambientgen.synth.params import VARIANTS

GOLDEN = Path(__file__).parent / "data" / "wordings.json"
_LIMIT_TOKENS = 512
QUALITY = ("high quality recording", "ambient soundscape")


def spec(name: str, *, textures: frozenset[str] = frozenset(), max_prompt_tokens: int = _LIMIT_TOKENS) -> EngineSpec:
    """An engine on paper."""
    return EngineSpec(
        name=name, version="1", model=None if textures else "test/model", sample_rate_hz=48_000, num_channels=2,
        default_duration_s=10.0, longest_good_s=10.0, longest_step_s=1.0, supports=frozenset(ENGINE_OPTIONS),
        needs_gpu=not textures, license="MIT", textures=textures, max_prompt_tokens=max_prompt_tokens,
    )  # fmt: skip


MODEL, TEXTURES = spec("audioldm2"), spec("procedural", textures=frozenset(VARIANTS))


def wordings(description: str) -> list[dict[str, Any]]:
    """What each engine is told on a machine with a model, and what the model alone would be told."""
    both = resolve(SceneRequest(description=description, seed=1), [MODEL, TEXTURES]).layers
    alone = resolve(SceneRequest(description=description, seed=1, engine="audioldm2"), [MODEL, TEXTURES]).layers
    return [
        {"engine": layer.engine, "prompt": layer.prompt, "negative_prompt": layer.negative_prompt}
        for layer in (*both, *alone)
    ]


_GOLDEN: dict[str, list[dict[str, Any]]] = json.loads(GOLDEN.read_text(encoding="utf-8")) if GOLDEN.exists() else {}


def test_there_are_sixty_golden_wordings() -> None:
    """The golden file holds 60 descriptions, and every sound of the vocabulary is among them."""
    assert len(_GOLDEN) >= 60
    heard = {layer.category for description in _GOLDEN for layer in scenes.plan(description).layers}
    assert heard == {key for key, category in scenes.vocabulary().categories.items() if category.label}


@pytest.mark.parametrize("description", _GOLDEN)
def test_a_description_is_worded_as_ever(description: str) -> None:
    """No change of the vocabulary or of the rules changes a prompt unseen."""
    assert wordings(description) == _GOLDEN[description]


@pytest.mark.parametrize("description", _GOLDEN)
def test_every_wording_keeps_the_rules(description: str) -> None:
    """Each prompt has the quality phrases once, avoids nothing that it asks for, and doubles no phrase."""
    for layer in wordings(description):
        if layer["engine"] == "procedural":
            continue
        prompt, avoided = layer["prompt"].lower(), layer["negative_prompt"].split(", ")
        parts = prompt.split(", ")
        assert len(parts) == len(set(parts)), prompt
        assert all(prompt.count(phrase) == 1 for phrase in QUALITY), prompt
        assert {"low quality", "distorted"} <= set(avoided)
        assert not [term for term in avoided if term in parts]


def _whole(description: str, negative_prompt: str | None = None, max_tokens: int = _LIMIT_TOKENS) -> prompts.Wording:
    return prompts.word_scene(scenes.plan(description), description, negative_prompt, max_tokens)


def test_a_phrase_the_person_wrote_is_not_doubled() -> None:
    """The helping phrases are added only where they are missing, whatever their capitals and plurals."""
    wording = _whole("High quality recordings of rain, steady raindrop falling.")
    assert wording.prompt == "High quality recordings of rain, steady raindrop falling, ambient soundscape"


@pytest.mark.parametrize(
    ("description", "negative_prompt"),
    [
        ("a choir singing", "low quality, distorted"),
        ("soft piano in a café", "low quality, distorted"),
        ("tavern with people talking", "music, low quality, distorted"),
        ("a dog barking without wind", "wind, music, voices, low quality, distorted"),
        ("rain", "music, voices, low quality, distorted"),
    ],
)
def test_the_negative_prompt_does_not_contradict_the_scene(description: str, negative_prompt: str) -> None:
    """What the scene asks for leaves the default negative prompt, and what it does not want enters it."""
    assert _whole(description).negative_prompt == negative_prompt


def test_a_persons_own_negative_prompt_wins() -> None:
    """It is used as it is, also when empty."""
    assert _whole("rain", "birds").negative_prompt == "birds"
    assert _whole("rain", "").negative_prompt == ""


def test_other_languages_are_worded_in_english() -> None:
    """The models read English only, so the prompt is made of what was understood."""
    assert _whole("leichter Regen mit fernem Donner").prompt.startswith("light rain, distant thunder, ")


def test_words_in_another_script_get_a_sensible_ambience() -> None:
    """Where nothing is understood and nothing can be read, the model is still asked for an ambience."""
    assert "natural background ambience" in _whole("静かな夜").prompt


def test_a_short_encoder_drops_the_longest_phrase_first_and_never_the_subject() -> None:
    """As the room shrinks, phrases go by their length; the person's own words stay, first."""
    subject = "a dog barking"
    lengths = [len(_whole(subject, max_tokens=limit).prompt.split(", ")) for limit in range(60, 0, -1)]
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[-1] == 1
    assert _whole(subject, max_tokens=1).prompt == subject
    shortened = _whole(subject, max_tokens=11).prompt
    assert shortened.startswith(subject)
    assert "high quality recording" not in shortened
    assert "animal sounds" in shortened


@settings(deadline=None)
@given(st.text(min_size=1, max_size=500), st.integers(1, 600))
def test_no_text_makes_a_prompt_too_long_or_loses_its_subject(text: str, max_tokens: int) -> None:
    """A prompt is within the encoder's limit, or is the subject alone."""
    try:
        description = scenes.clean_description(text)
    except scenes.DescriptionError:
        return
    parts = _whole(description, max_tokens=max_tokens).prompt
    alone = _whole(description, max_tokens=1).prompt
    assert parts.startswith(alone)
    assert parts == alone or prompts.tokens_needed(parts) <= max_tokens + parts.count(",")


if __name__ == "__main__":
    made = {description: wordings(description) for description in _GOLDEN}
    GOLDEN.write_text(json.dumps(made, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
