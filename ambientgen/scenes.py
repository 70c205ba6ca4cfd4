"""From a description to a scene plan: which sounds it calls for, how strong, and how far away.

The vocabulary is data (`scenes.toml`). Reading is deterministic and linear in the length of the text: words are
looked up longest phrase first; a change of strength or distance goes to the nearest sound in its part of the sentence.
"""

from __future__ import annotations

import difflib
import functools
import re
import tomllib
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import resources
from typing import Any, Literal

from ambientgen.errors import DescriptionError

MIN_DESCRIPTION_CHARS, MAX_DESCRIPTION_CHARS = 3, 500
MAX_LAYERS = 5

#: How much quieter a far sound is in a mix, and how much louder a strong one (at distance or intensity 1 against 0).
_DISTANCE_DB, _INTENSITY_DB = -9.0, 6.0

#: A zero-width (non-)joiner is a format character, but part of words in some scripts.
_JOINERS = "\u200c\u200d"
#: Shorter words are rarely the name of a sound.
_MIN_UNKNOWN_CHARS = 3
_PUNCTUATION = frozenset(",.;:!?()")
_TOKEN = re.compile(r"[^\W_]+(?:['’][^\W_]+)?|[,.;:!?()]")


@dataclass(frozen=True, slots=True)
class PlannedLayer:
    """A sound the description calls for.

    Attributes:
        label: what a person reads ("distant thunder").
        role: bed or events.
        gain_db: loudness against a plain bed, in LU.
        params: for the procedural engine: family, intensity, distance, variant.
        because: the words that called for it, in order.
    """

    label: str
    role: Literal["bed", "events"]
    gain_db: float
    params: Mapping[str, Any]
    because: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ScenePlan:
    """The sounds a description calls for, in the order of the text.

    Attributes:
        layers: empty when nothing was understood.
        not_made: what was understood but is one sound too many, and words that nothing is known of.
    """

    layers: tuple[PlannedLayer, ...]
    not_made: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Source:
    family: str
    label: str
    strengths: tuple[str, str]
    role: Literal["bed", "events"]
    gain_db: float
    example: str
    levels: Mapping[str, float]
    variants: Mapping[str, str]  # variant -> label


@dataclass(frozen=True, slots=True)
class _Meaning:
    """What one word or phrase can mean; several meanings may stand together."""

    sources: tuple[str, ...] = ()
    weak_sources: tuple[str, ...] = ()
    variants: tuple[tuple[str, str], ...] = ()  # (family, variant)
    intensity: float | None = None
    distance: float | None = None
    negates: bool = False
    breaks: bool = False
    fills: bool = False


@dataclass(slots=True)
class _Found:
    """A source met in the text, while its modifiers are collected."""

    family: str
    clause: int
    because: list[str]
    weak: bool = False
    negated: bool = False
    intensity: float | None = None
    distance: float | None = None
    variant: str = ""


@dataclass(slots=True)
class _Reading:
    found: list[_Found] = field(default_factory=list)
    waiting: list[tuple[str, _Meaning]] = field(default_factory=list)  # modifiers before their sound
    variants: list[tuple[str, str]] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)


def clean_description(text: str) -> str:
    """Normalize what a person typed and check that it can be a scene.

    Control and format characters become spaces, runs of white space one space, Unicode its composed form.

    Raises:
        DescriptionError: if fewer than 3 or more than 500 characters are left, or no letter is among them.
    """
    composed = unicodedata.normalize("NFC", text)
    visible = "".join(c if c in _JOINERS or not unicodedata.category(c).startswith("C") else " " for c in composed)
    cleaned = " ".join(visible.split())
    if not cleaned:
        raise DescriptionError("The scene is empty. Describe it in a few words, like “gentle rain on a window”.")
    if len(cleaned) > MAX_DESCRIPTION_CHARS:
        raise DescriptionError(
            f"The scene has {len(cleaned)} characters; {MAX_DESCRIPTION_CHARS} is the most. Please shorten it."
        )
    if not any(unicodedata.category(c).startswith("L") for c in cleaned):
        raise DescriptionError("The scene has no words. Describe it in words, like “waves on a quiet beach”.")
    if len(cleaned) < MIN_DESCRIPTION_CHARS:
        raise DescriptionError(f"The scene is too short: write at least {MIN_DESCRIPTION_CHARS} characters.")
    return cleaned


def plan(description: str) -> ScenePlan:
    """The sounds a description calls for. Deterministic; linear in the length of the text."""
    reading = _read(description)
    kept = [found for found in reading.found if not found.negated]
    banned = {found.family for found in reading.found if found.negated}
    strong = [found for found in kept if not found.weak and found.family not in banned]
    chosen = strong or [found for found in kept if found.family not in banned]
    merged: dict[str, _Found] = {}
    for found in chosen:
        first = merged.setdefault(found.family, found)
        if first is not found:
            first.because += found.because
            first.intensity = found.intensity if first.intensity is None else first.intensity
            first.distance = found.distance if first.distance is None else first.distance
    for family, variant in reading.variants:
        if family in merged and not merged[family].variant:
            merged[family].variant = variant
    layers = [_planned(found) for found in merged.values()]
    too_many = [layer.label for layer in layers[MAX_LAYERS:]]
    return ScenePlan(tuple(layers[:MAX_LAYERS]), tuple(dict.fromkeys([*too_many, *reading.unknown])))


def what_it_makes() -> str:
    """Everything the vocabulary knows, as the end of "It makes ..."."""
    labels = [source.label for source in _vocabulary().sources.values()]
    return ", ".join(labels[:-1]) + " and " + labels[-1]


def examples() -> tuple[str, ...]:
    """One good description for each sound."""
    return tuple(source.example for source in _vocabulary().sources.values())


def nearest_examples(description: str, count: int = 3) -> tuple[str, ...]:
    """The examples whose words are spelled most like the description's, nearest first."""
    known = _vocabulary()
    tokens = [token for token in _TOKEN.findall(description.casefold()) if len(token) > 2][:40]
    scores: dict[str, float] = dict.fromkeys(known.sources, 0.0)
    single = [" ".join(phrase) for phrase, meaning in known.phrases.items() if meaning.sources]
    for token in dict.fromkeys(tokens):
        for near in difflib.get_close_matches(token, single, n=2, cutoff=0.75):
            for family in known.phrases[tuple(near.split())].sources:
                scores[family] = max(scores[family], difflib.SequenceMatcher(None, token, near).ratio())
    ranked = sorted(scores, key=lambda family: -scores[family])
    return tuple(known.sources[family].example for family in ranked[:count])


def _read(description: str) -> _Reading:
    known = _vocabulary()
    tokens = _TOKEN.findall(description.casefold().replace("-", " "))
    reading, clause, negating, position = _Reading(), 0, False, 0
    while position < len(tokens):
        phrase, meaning, length = known.longest_at(tokens, position)
        position += length
        if phrase in _PUNCTUATION or (meaning is not None and meaning.breaks):
            clause, negating = clause + 1, False
            continue
        if meaning is None:
            if len(phrase) >= _MIN_UNKNOWN_CHARS and not negating:
                reading.unknown.append(phrase)
            continue
        if meaning.negates:
            negating = True
            continue
        reading.variants += meaning.variants
        new = [_Found(family, clause, [phrase]) for family in meaning.sources]
        new += [_Found(family, clause, [phrase], weak=True) for family in meaning.weak_sources]
        for found in new:
            found.negated = negating
            found.intensity = known.sources[found.family].levels.get(phrase)
            _take_waiting(found, reading.waiting)
        if new:
            reading.waiting = []
            reading.found += new
        elif meaning.intensity is not None or meaning.distance is not None:
            _place_modifier(phrase, meaning, reading, known, tokens, position)
    for phrase, meaning in reading.waiting:
        _modify(reading.found[-1:], phrase, meaning)
    return reading


def _place_modifier(
    phrase: str, meaning: _Meaning, reading: _Reading, known: _Vocabulary, tokens: list[str], position: int
) -> None:
    """A modifier goes to the next sound in its clause ("heavy rain"), else to the one before ("rain, far away")."""
    if not reading.found or known.sound_follows(tokens, position):
        reading.waiting.append((phrase, meaning))
        return
    last = reading.found[-1]
    together = [found for found in reading.found if found.because[0] == last.because[0] and found.clause == last.clause]
    _modify(together, phrase, meaning)


def _take_waiting(found: _Found, waiting: list[tuple[str, _Meaning]]) -> None:
    for phrase, meaning in waiting:
        _modify([found], phrase, meaning)


def _modify(targets: list[_Found], phrase: str, meaning: _Meaning) -> None:
    for found in targets:
        if meaning.intensity is not None:
            found.intensity = meaning.intensity
        if meaning.distance is not None:
            found.distance = meaning.distance
        found.because.append(phrase)


def _planned(found: _Found) -> PlannedLayer:
    source = _vocabulary().sources[found.family]
    intensity = 0.5 if found.intensity is None else found.intensity
    distance = 0.0 if found.distance is None else found.distance
    strength = source.strengths[0] if intensity < 0.35 else source.strengths[1] if intensity > 0.65 else ""
    place = "distant" if distance > 0.35 else ""
    label = source.variants.get(found.variant, "")
    noun = f"{source.label} {label}" if label.startswith(("on ", "in ")) else label or source.label
    return PlannedLayer(
        label=" ".join(part for part in (strength, place, noun) if part),
        role=source.role,
        gain_db=round(source.gain_db + _DISTANCE_DB * distance + _INTENSITY_DB * (intensity - 0.5), 2),
        params={"family": found.family, "intensity": intensity, "distance": distance, "variant": found.variant},
        because=tuple(dict.fromkeys(found.because)),
    )


@dataclass(frozen=True, slots=True)
class _Vocabulary:
    sources: Mapping[str, _Source]
    phrases: Mapping[tuple[str, ...], _Meaning]
    longest: int

    def longest_at(self, tokens: list[str], position: int) -> tuple[str, _Meaning | None, int]:
        """The longest known phrase that starts here, what it means, and how many tokens it takes."""
        for length in range(min(self.longest, len(tokens) - position), 0, -1):
            words = tuple(tokens[position : position + length])
            for last in _singulars(words[-1]):
                meaning = self.phrases.get((*words[:-1], last))
                if meaning is not None:
                    return " ".join((*words[:-1], last)), meaning, length
        return tokens[position], None, 1

    def sound_follows(self, tokens: list[str], position: int) -> bool:
        """True if a sound comes before the clause ends. Looks a few words ahead only, so reading stays linear."""
        end = min(len(tokens), position + 6)
        while position < end:
            phrase, meaning, length = self.longest_at(tokens, position)
            if phrase in _PUNCTUATION:
                return False
            if meaning is not None and (meaning.breaks or meaning.negates):
                return False
            if meaning is not None and (meaning.sources or meaning.weak_sources):
                return True
            position += length
        return False


def _singulars(word: str) -> tuple[str, ...]:
    """The word itself, then what it may be the plural of."""
    forms = [word]
    if word.endswith("ies") and len(word) > 4:
        forms.append(word[:-3] + "y")
    if word.endswith("es") and len(word) > 3:
        forms.append(word[:-2])
    if word.endswith("s") and len(word) > 2:
        forms.append(word[:-1])
    return tuple(forms)


@functools.cache
def _vocabulary() -> _Vocabulary:
    data = tomllib.loads((resources.files("ambientgen") / "scenes.toml").read_text(encoding="utf-8"))
    phrases: dict[tuple[str, ...], _Meaning] = {}

    def mean(phrase: str, **more: Any) -> None:
        key = tuple(_TOKEN.findall(phrase.casefold().replace("-", " ")))
        old = phrases.get(key, _Meaning())
        joined = {
            name: getattr(old, name) + value if isinstance(value, tuple) else value for name, value in more.items()
        }
        phrases[key] = replace(old, **joined)

    sources: dict[str, _Source] = {}
    for entry in data["source"]:
        family, variants = entry["family"], entry.get("variants", {})
        sources[family] = _Source(
            family=family,
            label=entry["label"],
            strengths=tuple(entry.get("strengths", ("light", "heavy"))),
            role=entry["role"],
            gain_db=entry["gain_db"],
            example=entry["example"],
            levels=entry.get("levels", {}),
            variants={name: variant["label"] for name, variant in variants.items()},
        )
        for phrase in entry["words"]:
            mean(phrase, sources=(family,))
        for phrase in entry.get("weak", ()):
            mean(phrase, weak_sources=(family,))
        for name, variant in variants.items():
            for phrase in variant["words"]:
                mean(phrase, variants=((family, name),))
    for phrase, value in data["intensity"].items():
        mean(phrase, intensity=float(value))
    for phrase, value in data["distance"].items():
        mean(phrase, distance=float(value))
    for phrase in data["negations"]:
        mean(phrase, negates=True)
    for phrase in data["breaks"]:
        mean(phrase, breaks=True)
    for phrase in data["fillers"]:
        mean(phrase, fills=True)
    return _Vocabulary(sources, phrases, max(map(len, phrases)))
