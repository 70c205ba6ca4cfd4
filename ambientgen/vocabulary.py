"""The vocabulary of scenes: `scenes.toml` and `languages.toml`, checked and made ready to look words up in.

Both files are written by people who need not program, so every fault in them is told by name.
"""

from __future__ import annotations

import functools
import re
import tomllib
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from importlib import resources
from typing import Any, Literal, get_args

Role = Literal["bed", "events"]
EngineKind = Literal["procedural", "diffusion"]

#: What a word can change of a sound; each is a table of its own in `scenes.toml`.
MODIFIERS = ("intensity", "distance", "density", "brightness", "place")

_WORD = r"[^\W_]+(?:['’][^\W_]+)*"
TOKEN = re.compile(rf"{_WORD}|[,.;:!?()–—]")
PUNCTUATION = frozenset(",.;:!?()–—")
#: "l'orage", "d'eau": the article of French and Portuguese is no part of the word.
_ELISION = re.compile(r"^(?:[ldjsnmct]|qu)['’](?=.)")
#: Only words as long as this are looked for behind a slip of the keyboard, and only so long a token is looked at.
_MIN_TYPO_CHARS, _MAX_TYPO_CHARS = 6, 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Category:
    """One kind of soundscape. `scenes.toml` explains the entries.

    Attributes:
        key: short name.
        title: what a person reads.
        ideas: good descriptions of it.
        label: the sound's own name, or "" for a category that only implies others.
        strengths: words for a weak and for a strong one.
        role: bed or events.
        loudness_db: against a bed of rain, in LU.
        engine: the kind that makes it best.
        family: its texture as (family, variant), or None.
        nearest: the texture that stands in where there is no `family`.
        prompt: phrases for a model; the first holds "{what}".
        negative: phrases to avoid besides the usual; one with "-" in front is not avoided.
        guidance_scale: for a model.
        num_inference_steps: for a model.
        quality: phrases every prompt ends with.
        variants: variant -> label.
    """

    key: str
    title: str
    ideas: tuple[str, ...]
    label: str = ""
    strengths: tuple[str, str] = ("light", "heavy")
    role: Role = "bed"
    loudness_db: float = 0.0
    engine: EngineKind = "diffusion"
    family: tuple[str, str] | None = None
    nearest: tuple[str, str] | None = None
    prompt: tuple[str, ...] = ("{what}",)
    negative: tuple[str, ...] = ()
    guidance_scale: float
    num_inference_steps: int
    quality: tuple[str, ...]
    variants: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Meaning:
    """What one word or phrase can mean; several meanings may stand together.

    Attributes:
        calls: the sounds it calls for.
        settings: the sounds it calls for when nothing else is named.
        manners: the sounds it calls for when its part of the sentence names none ("humming").
        implied: those of them that only another category's words imply ("thunderstorm": thunder).
        variants: (category, variant) it chooses.
        levels: sound -> the intensity that the word itself tells ("downpour").
        modifies: modifier -> value.
        negates, negates_list, negates_before, breaks, locates, joins, fills: its part in the sentence.
        english: the phrase itself, or the English one it stands for in another language.
        foreign: True if it is of another language.
    """

    calls: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    manners: tuple[str, ...] = ()
    implied: frozenset[str] = frozenset()
    variants: tuple[tuple[str, str], ...] = ()
    levels: Mapping[str, float] = field(default_factory=dict)
    modifies: Mapping[str, Any] = field(default_factory=dict)
    negates: bool = False
    negates_list: bool = False
    negates_before: bool = False
    breaks: bool = False
    locates: bool = False
    joins: bool = False
    fills: bool = False
    english: str = ""
    foreign: bool = False

    @property
    def sounds(self) -> tuple[str, ...]:
        """Every sound it may call for."""
        return (*self.calls, *self.manners, *self.settings)


@dataclass(frozen=True, slots=True)
class Wording:
    """What all prompts share.

    Attributes:
        negative: phrases that are avoided by default.
        asked_for: negative phrase -> words by which a person asks for that very thing.
    """

    negative: tuple[str, ...]
    asked_for: Mapping[str, frozenset[str]]


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Everything there is to look up.

    Attributes:
        categories: by key, in the file's order.
        wording: for `ambientgen.prompts`.
        phrases: as written.
        stems: the same without plural endings.
        longest: first word or stem -> most words in a phrase that starts with it.
        typos: a word less one letter -> the words it may have been.
    """

    categories: Mapping[str, Category]
    wording: Wording
    phrases: Mapping[tuple[str, ...], Meaning]
    stems: Mapping[tuple[str, ...], Meaning]
    longest: Mapping[str, int]
    typos: Mapping[str, tuple[str, ...]]

    def longest_at(self, tokens: list[str], position: int) -> tuple[Meaning | None, int]:
        """The meaning of the longest known phrase that starts here, and how many tokens it takes (1 if unknown)."""
        first = tokens[position]
        most = max(self.longest.get(first, 0), self.longest.get(stem(first), 0))
        for length in range(min(most, len(tokens) - position), 0, -1):
            words = tuple(tokens[position : position + length])
            meaning = self.phrases.get(words) or self.stems.get(tuple(map(stem, words)))
            if meaning is not None:
                return meaning, length
        return self._behind_a_typo(first), 1

    def _behind_a_typo(self, token: str) -> Meaning | None:
        """The long word of a sound that this may be with one letter missing, added or swapped."""
        if not _MIN_TYPO_CHARS - 1 <= len(token) <= _MAX_TYPO_CHARS:
            return None
        near = [word for less in (token, *_less_one(token)) for word in self.typos.get(less, ())]
        close = sorted({word for word in near if word[0] == token[0] and _one_edit_apart(word, token)})
        return self.phrases[(close[0],)] if close else None


def fold(word: str) -> str:
    """A word as it is compared: no capitals, no accents, no apostrophes and no elided article."""
    folded = word.casefold()
    if folded.isascii() and "'" not in folded:
        return folded
    folded = _ELISION.sub("", folded)
    folded = "".join(c for c in unicodedata.normalize("NFKD", folded) if not unicodedata.combining(c))
    for possessive in ("'s", "’s"):
        folded = folded.removesuffix(possessive)
    return folded.replace("'", "").replace("’", "")


def stem(word: str) -> str:
    """A word without its plural ending; the same for the vocabulary and the text, so that it need not be English."""
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 4 and word.endswith(("shes", "ches", "sses", "xes", "zes")):
        return word[:-2]
    if len(word) > 2 and word.endswith("s") and not word.endswith("ss"):
        return word[:-1]
    return word


def words_of(text: str) -> tuple[str, ...]:
    """The folded words of a text, punctuation left out."""
    return tuple(fold(token) for token in TOKEN.findall(text.replace("-", " ")) if token not in PUNCTUATION)


@functools.cache
def vocabulary() -> Vocabulary:
    """The vocabulary of this installation, read once."""
    folder = resources.files("ambientgen")
    return build(
        (folder / "scenes.toml").read_text(encoding="utf-8"), (folder / "languages.toml").read_text(encoding="utf-8")
    )


def build(scenes_toml: str, languages_toml: str = "") -> Vocabulary:
    """Read and check both files.

    Raises:
        ValueError: naming the entry that is wrong.
    """
    data = tomllib.loads(scenes_toml)
    expected = {"wording", "words", "category", *MODIFIERS}
    _only(data, expected, "scenes.toml")
    categories: dict[str, Category] = {}
    for entry in data["category"]:
        category = _category(entry, data["wording"])
        if category.key in categories:
            raise ValueError(f"scenes.toml: there are two categories {category.key!r}")
        categories[category.key] = category
    book = _Book()
    for entry in data["category"]:
        _enter(book, entry, categories)
    book.complete_phrases()
    for meaning in book.phrases.values():
        for key in meaning.levels:
            if key not in meaning.sounds:
                raise ValueError(f"scenes.toml: {meaning.english!r} has a level, but does not call for {key!r}")
    for modifier in MODIFIERS:
        for phrase, value in data[modifier].items():
            book.mean(phrase, modifies={modifier: value if modifier == "place" else _share(phrase, value)})
    parts = ("negations", "negations_of_a_list", "negations_before", "breaks", "locates", "joins", "fillers")
    _only(data["words"], set(parts), "scenes.toml: words")
    flags = ("negates", "negates_list", "negates_before", "breaks", "locates", "joins", "fills")
    for part, flag in zip(parts, flags, strict=True):
        for phrase in _listed(data["words"][part]):
            book.mean(phrase, **{flag: True})
    asked = {
        name: frozenset(map(" ".join, map(words_of, _listed(words))))
        for name, words in data["wording"]["asked_for"].items()
    }
    wording = Wording(_listed(data["wording"]["negative"]), asked)
    english = dict(book.phrases)
    for language, entries in tomllib.loads(languages_toml).items():
        _translate(book, language, entries, english)
    return book.closed(categories, wording)


class _Book:
    """Phrases while they are collected."""

    def __init__(self) -> None:
        self.phrases: dict[tuple[str, ...], Meaning] = {}

    def mean(self, phrase: str, **more: Any) -> None:
        key = words_of(phrase)
        if not key:
            raise ValueError(f"scenes.toml: {phrase!r} has no word")
        old = self.phrases.get(key, Meaning(english=phrase.lower()))
        joined: dict[str, Any] = {
            name: {**getattr(old, name), **value}
            if isinstance(value, dict)
            else getattr(old, name) | value
            if isinstance(value, frozenset)
            else tuple(dict.fromkeys(getattr(old, name) + value))
            if isinstance(value, tuple)
            else value
            for name, value in more.items()
        }
        self.phrases[key] = replace(old, **joined)

    def complete_phrases(self) -> None:
        """A phrase hides its words, so it takes over what they say of the same sound: its variant, and the sound."""
        for key, meaning in list(self.phrases.items()):
            parts = [self.phrases[word,] for word in key if (word,) in self.phrases] if len(key) > 1 else []
            for part in parts:
                variants = tuple(pair for pair in part.variants if pair[0] in meaning.calls)
                calls = tuple(sound for sound, _ in meaning.variants if sound in (*part.calls, *part.manners))
                if (variants and not self.phrases[key].variants) or calls:
                    self.mean(" ".join(key), variants=variants, calls=calls)

    def closed(self, categories: Mapping[str, Category], wording: Wording) -> Vocabulary:
        stems: dict[tuple[str, ...], Meaning] = {}
        longest: dict[str, int] = {}
        typos: dict[str, tuple[str, ...]] = {}
        for key, meaning in self.phrases.items():
            stems.setdefault(tuple(map(stem, key)), meaning)
            for first in (key[0], stem(key[0])):
                longest[first] = max(longest.get(first, 0), len(key))
            if (
                len(key) == 1
                and (meaning.calls or meaning.manners)
                and not meaning.foreign
                and len(key[0]) >= _MIN_TYPO_CHARS
            ):
                for less in (key[0], *_less_one(key[0])):
                    typos[less] = (*typos.get(less, ()), key[0])
        return Vocabulary(categories, wording, self.phrases, stems, longest, typos)


_FIELDS = {f.name for f in fields(Category)}


def _category(entry: Mapping[str, Any], wording: Mapping[str, Any]) -> Category:
    what = f"scenes.toml: category {entry.get('key', '?')!r}"
    _only(entry, _FIELDS | {"words", "setting", "manner", "implies", "levels"}, what)
    values: dict[str, Any] = {name: value for name, value in entry.items() if name in _FIELDS}
    for name in ("key", "title", "ideas"):
        if not values.get(name):
            raise ValueError(f"{what}: {name!r} is missing")
    if "label" in values:
        for name in ("role", "loudness_db", "engine", "prompt"):
            if name not in values:
                raise ValueError(f"{what}: {name!r} is missing")
    elif "implies" not in entry:
        raise ValueError(f"{what}: it has neither a label of its own nor implies another category")
    for name, choices in (("role", get_args(Role)), ("engine", get_args(EngineKind))):
        if name in values and values[name] not in choices:
            raise ValueError(f"{what}: {name!r} is one of {', '.join(choices)}")
    for name in ("family", "nearest"):
        if name in values:
            family, _, variant = values[name].partition("/")
            values[name] = (family, variant)
    if values.get("engine") == "procedural" and "family" not in values:
        raise ValueError(f"{what}: the procedural engine makes nothing without a 'family'")
    values["variants"] = {name: variant["label"] for name, variant in values.get("variants", {}).items()}
    for name in ("quality", "prompt", "negative"):
        if name in values or name == "quality":
            values[name] = _listed(values.get(name, wording.get(name, "")))
    if "prompt" in values and "{what}" not in values["prompt"][0]:
        raise ValueError(f"{what}: the first phrase of 'prompt' holds {{what}}")
    for name in ("ideas", "strengths"):
        if name in values:
            values[name] = tuple(values[name])
    for name in ("guidance_scale", "num_inference_steps"):
        values.setdefault(name, wording[name])
    return Category(**values)


def _enter(book: _Book, entry: Mapping[str, Any], categories: Mapping[str, Category]) -> None:
    """The words of one category."""
    key = entry["key"]
    what = f"scenes.toml: category {key!r}"
    sounds = ((key,) if "label" in entry else ()) + tuple(entry.get("implies", ()))
    for sound in sounds:
        if sound not in categories or not categories[sound].label:
            raise ValueError(f"{what}: it implies {sound!r}, which is no category with a label")
    for phrase in _listed(entry.get("words", "")):
        book.mean(phrase, calls=sounds, implied=frozenset(entry.get("implies", ())))
    for phrase in _listed(entry.get("setting", "")):
        book.mean(phrase, settings=sounds)
    for phrase in _listed(entry.get("manner", "")):
        book.mean(phrase, manners=sounds)
    for phrase, value in entry.get("levels", {}).items():
        book.mean(phrase, levels=dict.fromkeys(sounds, _share(phrase, value)))
    for name, variant in entry.get("variants", {}).items():
        for phrase in _listed(variant["words"]):
            book.mean(phrase, variants=((key, name),), fills=True)


def _translate(
    book: _Book, language: str, entries: Mapping[str, str], english: Mapping[tuple[str, ...], Meaning]
) -> None:
    """Words of another language: each means what an English phrase means. English words keep their own meaning."""
    for phrase, same_as in entries.items():
        meaning = english.get(words_of(same_as))
        if meaning is None:
            raise ValueError(
                f"languages.toml: {language}: {phrase!r} is said to mean {same_as!r}, which is not in scenes.toml"
            )
        key = words_of(phrase)
        if not key:
            raise ValueError(f"languages.toml: {language}: {phrase!r} has no word")
        if key not in english:
            book.phrases[key] = replace(meaning, foreign=True)


def _only(data: Mapping[str, Any], known: Iterable[str], what: str) -> None:
    unknown = sorted(set(data) - set(known))
    if unknown:
        raise ValueError(f"{what}: {unknown[0]!r} is not a known entry")


def _share(phrase: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError(f"scenes.toml: {phrase!r} has {value!r}, but it goes from 0 to 1")
    return float(value)


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _less_one(word: str) -> Iterator[str]:
    """The word with each letter left out in turn (W. Garbe's symmetric delete spelling correction)."""
    return (word[:index] + word[index + 1 :] for index in range(len(word)))


def _one_edit_apart(one: str, other: str) -> bool:
    """True if a letter added, left out or swapped with its neighbor makes one of the other.

    A changed letter does not count: too many words differ by one ("clicking", "clinking").
    """
    if abs(len(one) - len(other)) > 1:
        return False
    start = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    one, other = one[start:], other[start:]
    if len(one) == len(other):
        return one[:2] == other[1::-1] and one[2:] == other[2:]
    longer, shorter = (one, other) if len(one) > len(other) else (other, one)
    return longer[1:] == shorter
