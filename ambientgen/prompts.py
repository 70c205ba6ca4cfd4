"""What a model reads: prompt and negative prompt, by the findings of our listening tests and the categories' own words.

"high quality recording" and "ambient soundscape" in the prompt help; the default negative prompt always helps;
guidance between 5.0 and 7.5 is best and above 10 sounds overcooked.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ambientgen.scenes import PlannedLayer, ScenePlan
from ambientgen.vocabulary import Category, stem, vocabulary, words_of

OVERCOOKED_GUIDANCE_SCALE = 10.0
#: The models read English only; other words that nothing is known of get this sensible ambience around them.
_GENERAL = ("natural background ambience",)


@dataclass(frozen=True, slots=True)
class Wording:
    """What the model reads.

    Attributes:
        prompt: what is wanted, with the phrases that help and were lacking.
        negative_prompt: what to avoid; an empty string avoids nothing.
        guidance_scale: what suits the category best.
        num_inference_steps: likewise.
    """

    prompt: str
    negative_prompt: str
    guidance_scale: float
    num_inference_steps: int


def word_layer(plan: ScenePlan, layer: PlannedLayer, negative_prompt: str | None, max_tokens: int) -> Wording:
    """Word one sound of a scene, by its category's pattern.

    Args:
        plan: the whole scene.
        layer: one of its layers.
        negative_prompt: the person's own, used as it is (also when empty); None for the category's.
        max_tokens: what the engine's text encoder can take.
    """
    category = vocabulary().categories[layer.category]
    what = layer.words or layer.label
    return _worded(what, [category], plan, negative_prompt, max_tokens)


def word_other(plan: ScenePlan, words: str, negative_prompt: str | None, max_tokens: int) -> Wording:
    """Word a part of the description that names no known sound. Arguments as for `word_layer`."""
    return _worded(words, [], plan, negative_prompt, max_tokens)


def word_scene(plan: ScenePlan, description: str, negative_prompt: str | None, max_tokens: int) -> Wording:
    """Word a whole scene as one prompt: in the person's own words if they are English, else by what was understood.

    Args:
        plan: of the description.
        description: cleaned.
        negative_prompt: as for `word_layer`.
        max_tokens: likewise.
    """
    known = vocabulary().categories
    categories = [known[layer.category] for layer in plan.layers]
    what = ", ".join(layer.label for layer in plan.layers) if plan.foreign else plan.wanted or description
    return _worded(what, categories, plan, negative_prompt, max_tokens)


def _worded(
    what: str,
    categories: Sequence[Category],
    plan: ScenePlan,
    negative_prompt: str | None,
    max_tokens: int,
) -> Wording:
    known = vocabulary()
    usual = categories[0] if categories else next(iter(known.categories.values()))
    pattern = usual.prompt if len(categories) == 1 else ("{what}",)
    general = () if categories or any(char.isascii() and char.isalpha() for char in what) else _GENERAL
    subject = pattern[0].replace("{what}", what.rstrip(" .,;"))
    details = [phrase for phrase in (*pattern[1:], *general, *usual.quality) if not _says(subject, phrase)]
    if negative_prompt is None:
        negative_prompt = ", ".join(_negative(subject, categories, plan))
    return Wording(
        prompt=", ".join(_fitting([subject, *details], max_tokens)),
        negative_prompt=negative_prompt,
        guidance_scale=usual.guidance_scale,
        num_inference_steps=usual.num_inference_steps,
    )


def _negative(subject: str, categories: Sequence[Category], plan: ScenePlan) -> Iterable[str]:
    """What to avoid: what the scene is to be without, and the usual, less what the scene asks for."""
    wording = vocabulary().wording
    asked = _words_and_pairs(subject)
    kept_out = {phrase[1:] for category in categories for phrase in category.negative if phrase.startswith("-")}
    own = [phrase for category in categories for phrase in category.negative if not phrase.startswith("-")]
    for phrase in dict.fromkeys([*plan.left_out, *own, *wording.negative]):
        if phrase not in kept_out and asked.isdisjoint(wording.asked_for.get(phrase, ())):
            yield phrase


def _words_and_pairs(text: str) -> set[str]:
    words = words_of(text)
    return {*words, *map(stem, words), *(f"{a} {b}" for a, b in itertools.pairwise(words))}


def _says(text: str, phrase: str) -> bool:
    """True if the text holds the phrase already, word for word."""
    words, wanted = list(map(stem, words_of(text))), list(map(stem, words_of(phrase)))
    return any(words[at : at + len(wanted)] == wanted for at in range(len(words) - len(wanted) + 1))


def _fitting(parts: list[str], max_tokens: int) -> list[str]:
    """The parts that fit a text encoder: the longest goes first, and the subject, which stands first, never goes."""
    parts = list(parts)
    while len(parts) > 1 and sum(map(tokens_needed, parts)) > max_tokens:
        parts.remove(max(parts[1:], key=tokens_needed))
    return parts


def tokens_needed(text: str) -> int:
    """About how many tokens a text encoder makes of a text, with its comma: rather too many than too few.

    Byte-pair and sentence-piece vocabularies of 32,000 to 50,000 pieces hold the common English words whole and split
    rare ones into pieces of about four letters; what is not ASCII may cost a token a byte.
    """
    return 1 + sum(
        1 + len(word) // 5 if word.isascii() else len(word.encode("utf-8", "surrogatepass")) for word in text.split()
    )
