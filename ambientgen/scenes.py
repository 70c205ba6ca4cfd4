"""From a description to a scene plan: which sounds it calls for, how strong, how far away, and where.

The vocabulary is data (`ambientgen.vocabulary`). Reading is deterministic and linear in the length of the text: words
are looked up longest phrase first; a change of strength or distance goes to the nearest sound in its part of the
sentence; what is negated stays away; a mere setting ("forest") brings its typical sounds only if none is named.
"""

from __future__ import annotations

import difflib
import itertools
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ambientgen.errors import DescriptionError
from ambientgen.vocabulary import PUNCTUATION, TOKEN, Category, Meaning, Role, fold, vocabulary, words_of

MIN_DESCRIPTION_CHARS, MAX_DESCRIPTION_CHARS = 3, 500
MAX_LAYERS = 5

#: How much quieter a far sound is in a mix, and how much louder a strong one (at distance or intensity 1 against 0).
_DISTANCE_DB, _INTENSITY_DB = -9.0, 6.0

#: A zero-width (non-)joiner is a format character, but part of words in some scripts.
_JOINERS = "\u200c\u200d"
#: Shorter words are rarely the name of a sound.
_MIN_UNKNOWN_CHARS = 3
#: How far ahead a modifier or a negation looks for its sound; bounded, so that reading stays linear.
_LOOK_AHEAD = 8
_ENDS_A_LIST = PUNCTUATION - {","}
_PLACE_WORDS = {
    "room": "inside a room",
    "hall": "in a large hall",
    "cave": "in a cave",
    "outside": "heard from indoors",
    "underwater": "under water",
}


@dataclass(frozen=True, slots=True)
class PlannedLayer:
    """A sound the description calls for.

    Attributes:
        category: its key in the vocabulary.
        label: what a person reads ("distant thunder").
        role: bed or events.
        gain_db: loudness against a plain bed, in LU.
        settings: what the words say of it: intensity, distance, density, brightness (0 to 1), place.
        variant: of the category, or "".
        words: the person's own words for it, if they are English and about nothing else; else "".
        because: the words that called for it, in order.
    """

    category: str
    label: str
    role: Role
    gain_db: float
    settings: Mapping[str, Any]
    variant: str
    words: str
    because: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ScenePlan:
    """The sounds a description calls for, in the order of the text.

    Attributes:
        layers: empty when nothing was understood.
        settings: sounds that a mere setting would bring; not among the layers if any sound is named.
        too_many: labels of what was understood but is one sound too many.
        others: parts of the description that name no known sound, in the person's words.
        unknown: the words nothing is known of.
        left_out: what the description does not want.
        wanted: the description without what it does not want.
        foreign: True if words of another language than English were understood.
    """

    layers: tuple[PlannedLayer, ...]
    settings: tuple[PlannedLayer, ...] = ()
    too_many: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    wanted: str = ""
    foreign: bool = False


@dataclass(slots=True)
class _Clause:
    """A part of the sentence between two words like "with" and "while"; places are positions in the text."""

    start: int
    stop: int = 0
    known: set[str] = field(default_factory=set)  # sounds named in it
    unknown: list[str] = field(default_factory=list)
    negated: bool = False
    without: bool = False  # a sound is negated in it
    located: bool = False  # it says where something is


@dataclass(slots=True)
class _Found:
    """A sound met in the text, while its modifiers are collected."""

    category: Category
    clause: int
    phrase: str
    text: str  # as it was typed, or its English if that was another language
    because: list[str]
    weak: bool
    manner: bool  # says only how something sounds
    direct: bool  # named itself, not implied by a word of another category
    negated: bool
    settings: dict[str, Any] = field(default_factory=dict)
    variant: str = ""


@dataclass(slots=True)
class _Reading:
    found: list[_Found] = field(default_factory=list)
    waiting: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)  # modifiers before their sound
    variants: list[tuple[str, str]] = field(default_factory=list)
    clauses: list[_Clause] = field(default_factory=list)
    unwanted: list[tuple[int, int]] = field(default_factory=list)  # positions in the text
    place: str = ""
    foreign: bool = False


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
    reading = _Reader(description).read()
    # "a spaceship, no beeping" is still a spaceship, but "a thunderstorm without thunder" has none.
    named = {found.category.key for found in reading.found if found.direct and not found.negated}
    banned = {found.category.key for found in reading.found if found.negated} - named
    kept = [found for found in reading.found if not found.negated and found.category.key not in banned]
    sure = [found for found in kept if not (found.manner and reading.clauses[found.clause].known)]
    chosen = [found for found in sure if not found.weak] or sure or kept
    settings = [found for found in kept if found.weak and found not in chosen]
    words = _own_words(description, reading, chosen)
    layers = _merged(chosen, reading, words)
    others = [
        _tidy(description[clause.start : clause.stop])
        for clause in reading.clauses
        if clause.unknown and not (clause.known or clause.negated or clause.located)
    ]
    return ScenePlan(
        layers=tuple(layers[:MAX_LAYERS]),
        settings=tuple(_merged(settings, reading, {})[:MAX_LAYERS]),
        too_many=tuple(layer.label for layer in layers[MAX_LAYERS:]),
        others=tuple(dict.fromkeys(filter(None, others))),
        unknown=tuple(dict.fromkeys(word for clause in reading.clauses for word in clause.unknown)),
        left_out=tuple(dict.fromkeys(found.text for found in reading.found if found.negated)),
        wanted=_without(description, reading.unwanted),
        foreign=reading.foreign,
    )


def _merged(chosen: list[_Found], reading: _Reading, words: Mapping[str, str]) -> list[PlannedLayer]:
    """One layer for each sound, however often it was named."""
    merged: dict[str, _Found] = {}
    for found in chosen:
        first = merged.setdefault(found.category.key, found)
        if first is not found:
            first.because += found.because
            first.settings = {**found.settings, **first.settings}
    for key, variant in reading.variants:
        if key in merged and not merged[key].variant:
            merged[key].variant = variant
    return [_planned(found, reading.place, words.get(found.category.key, "")) for found in merged.values()]


def explain(plan: ScenePlan) -> list[str]:
    """Which words led to what, a line for each sound."""
    lines = [f"{layer.label} ← {', '.join(layer.because)}" for layer in plan.layers]
    return [*lines, *(f"no {label}" for label in plan.left_out)]


def what_it_makes(families: frozenset[str]) -> str:
    """Every sound that an engine with these textures knows, as the end of "It makes ..."."""
    labels = [c.label for c in vocabulary().categories.values() if c.family and c.family[0] in families]
    return ", ".join(labels[:-1]) + " and " + labels[-1]


def nearest_examples(description: str, families: frozenset[str], count: int = 3) -> tuple[str, ...]:
    """Ideas for an engine with these textures whose words are spelled most like the description's, nearest first."""
    known = vocabulary()
    tokens = [token for token in words_of(description) if len(token) > 2][:40]
    able = {key: c for key, c in known.categories.items() if c.family and c.family[0] in families}
    scores = dict.fromkeys(able, 0.0)
    english = ((phrase, meaning) for phrase, meaning in known.phrases.items() if not meaning.foreign)
    single = [phrase[0] for phrase, meaning in english if len(phrase) == 1 and meaning.calls]
    for token in dict.fromkeys(tokens):
        for near in difflib.get_close_matches(token, single, n=2, cutoff=0.75):
            for key in known.phrases[near,].calls:
                if key in scores:
                    scores[key] = max(scores[key], difflib.SequenceMatcher(None, token, near).ratio())
    ranked = sorted(scores, key=lambda key: -scores[key])
    return tuple(able[key].ideas[0] for key in ranked[:count])


class _Reader:
    """One pass over a description."""

    def __init__(self, description: str) -> None:
        self._known = vocabulary()
        self._description = description
        matches = list(TOKEN.finditer(description.replace("-", " ")))
        self._tokens = [match[0] if match[0] in PUNCTUATION else fold(match[0]) for match in matches]
        self._spans = [match.span() for match in matches]
        self._reading = _Reading()
        self._negating: tuple[int, bool] | None = None  # where it began in the text, and if it governs a list
        self._last_sound = (0, 0)  # where the last sound stands in the text

    def read(self) -> _Reading:
        reading, position = self._reading, 0
        reading.clauses.append(_Clause(self._spans[0][0] if self._spans else 0))
        while position < len(self._tokens):
            meaning, length = (
                (None, 1) if self._tokens[position] in PUNCTUATION else self._known.longest_at(self._tokens, position)
            )
            start, stop = self._spans[position][0], self._spans[position + length - 1][1]
            if self._ends_clause(position, length, meaning):
                self._new_clause(stop, located=meaning is not None and meaning.locates)
            elif meaning is None:
                self._unknown(self._tokens[position])
            else:
                self._take_in(meaning, position + length, start)
            if meaning is None or not (meaning.breaks or meaning.locates):
                reading.clauses[-1].stop = stop
            position += length
        self._end_negation(self._spans[-1][1] if self._spans else 0)
        for phrase, modifies in reading.waiting:
            if reading.found:
                _modify(reading.found[-1:], phrase, modifies)
        return reading

    def _ends_clause(self, position: int, length: int, meaning: Meaning | None) -> bool:
        mark = self._tokens[position] if self._tokens[position] in PUNCTUATION else ""
        if not mark and (meaning is None or not (meaning.breaks or meaning.locates)):
            return False
        if self._negating is None:
            return True
        if mark == ",":  # "no birds, people or cars" is one list
            return not self._or_follows(position + 1)
        governs_list = self._negating[1] and meaning is not None and meaning.english == "and"
        return not (governs_list and self._sound_at(position + length))

    def _new_clause(self, at: int, *, located: bool) -> None:
        self._end_negation(self._reading.clauses[-1].stop)
        self._reading.clauses.append(_Clause(at, at, located=located))

    def _end_negation(self, at: int) -> None:
        if self._negating is not None:
            self._reading.unwanted.append((self._negating[0], at))
            self._negating = None

    def _unknown(self, token: str) -> None:
        if len(token) >= _MIN_UNKNOWN_CHARS and self._negating is None:
            self._reading.clauses[-1].unknown.append(token)

    def _take_in(self, meaning: Meaning, after: int, start: int) -> None:
        reading, clause = self._reading, self._reading.clauses[-1]
        reading.foreign |= meaning.foreign and (bool(meaning.sounds) or not meaning.fills)
        if meaning.negates or meaning.negates_list:
            if self._negating is None:
                self._negating = (start, meaning.negates_list)
                clause.without = False
            clause.negated |= not clause.known
            return
        if meaning.negates_before and self._just_named(after):
            reading.found[-1].negated = True
            clause.known.discard(reading.found[-1].category.key)
            reading.unwanted.append((self._last_sound[0], self._spans[after - 1][1]))
            return
        if self._negating is None:
            reading.variants += meaning.variants
            place = meaning.modifies.get("place", "")
            reading.place = place if place and place != "outside" else reading.place
        # "without birds in the forest": the forest is still there.
        negated = self._negating is not None and (bool(meaning.calls or meaning.manners) or not clause.without)
        text = self._description[start : self._spans[after - 1][1]]
        new = [
            self._found(key, meaning, text, weak=False, negated=negated) for key in (*meaning.calls, *meaning.manners)
        ]
        new += [self._found(key, meaning, text, weak=True, negated=negated) for key in meaning.settings]
        if negated:
            clause.without |= bool(meaning.calls or meaning.manners)
        if new:
            self._last_sound = (start, self._spans[after - 1][1])
            for found in new:
                for phrase, modifies in reading.waiting:
                    _modify([found], phrase, modifies)
            reading.waiting = []
            reading.found += new
            if not negated:
                clause.known.update(meaning.calls)
        elif meaning.modifies and self._negating is None:
            self._place_modifier(meaning.english, meaning.modifies, after)

    def _found(self, key: str, meaning: Meaning, text: str, *, weak: bool, negated: bool) -> _Found:
        category, clause = self._known.categories[key], len(self._reading.clauses) - 1
        direct = not weak and key not in meaning.implied
        text = meaning.english if meaning.foreign else text
        manner = not weak and key not in meaning.calls
        found = _Found(
            category,
            clause,
            meaning.english,
            text,
            [meaning.english],
            weak,
            manner,
            direct,
            negated,
        )
        if key in meaning.levels:
            found.settings["intensity"] = meaning.levels[key]
        return found

    def _place_modifier(self, phrase: str, modifies: Mapping[str, Any], after: int) -> None:
        """A modifier goes to the next sound in its clause ("heavy rain"), else to the one before ("rain, far away")."""
        found = self._reading.found
        if not found or self._sound_follows(after):
            self._reading.waiting.append((phrase, modifies))
            return
        last = found[-1]
        together = itertools.takewhile(lambda f: (f.phrase, f.clause) == (last.phrase, last.clause), reversed(found))
        _modify(together, phrase, modifies)

    def _just_named(self, after: int) -> bool:
        """True if a sound stands right before the token that ends at `after` ("wind free")."""
        return after >= 2 and bool(self._reading.found) and self._spans[after - 2][1] == self._last_sound[1]

    def _sound_at(self, position: int) -> bool:
        if position >= len(self._tokens):
            return False
        meaning, _ = self._known.longest_at(self._tokens, position)
        return meaning is not None and bool(meaning.sounds)

    def _sound_follows(self, position: int) -> bool:
        """True if a sound comes before the clause ends."""
        end = min(len(self._tokens), position + _LOOK_AHEAD)
        while position < end:
            if self._tokens[position] in PUNCTUATION:
                return False
            meaning, length = self._known.longest_at(self._tokens, position)
            if meaning is not None and (meaning.breaks or meaning.locates or meaning.negates or meaning.negates_list):
                return False
            if meaning is not None and meaning.sounds:
                return True
            position += length
        return False

    def _or_follows(self, position: int) -> bool:
        """True if an "or" comes before anything that ends a list."""
        for word in self._tokens[position : position + _LOOK_AHEAD]:
            meaning = self._known.phrases.get((word,))
            if meaning is not None and meaning.joins:
                return True
            if word in _ENDS_A_LIST or (meaning is not None and (meaning.breaks or meaning.locates)):
                return False
        return False


def _modify(targets: Iterable[_Found], phrase: str, modifies: Mapping[str, Any]) -> None:
    for found in targets:
        found.settings.update(modifies)
        found.because.append(phrase)


def _own_words(description: str, reading: _Reading, chosen: list[_Found]) -> dict[str, str]:
    """For each sound that has a part of the sentence to itself, that part with what hangs on to it."""
    if reading.foreign:
        return {}
    own: dict[str, str] = {}
    for found in chosen:
        clause = reading.clauses[found.clause]
        if (clause.known or {found.category.key}) != {found.category.key} or found.weak or found.category.key in own:
            continue
        stop = clause.stop
        for later in itertools.islice(reading.clauses, found.clause + 1, None):
            if later.known or later.unknown or later.negated or later.stop == later.start:
                break
            stop = later.stop
        own[found.category.key] = _without(description[:stop], [(0, clause.start), *reading.unwanted])
    return own


def _without(description: str, spans: list[tuple[int, int]]) -> str:
    """The description with these spans cut out, and what they leave hanging."""
    kept, position = [], 0
    for start, stop in sorted(spans):
        kept.append(description[position:start])
        position = max(position, stop)
    return _tidy("".join([*kept, description[position:]]))


_HANGING = frozenset(["with", "and", "but", "while", "or", "plus", "as", "over", "just", "only", "please"])


def _tidy(text: str) -> str:
    """A part of a sentence without the connecting words and the punctuation at its ends."""
    words = " ".join(text.split()).replace(" ,", ",").strip(" ,.;:!?()–—").split(" ")
    while words and words[-1].casefold().strip(",;") in _HANGING:
        words.pop()
    while words and words[0].casefold() in _HANGING:
        words.pop(0)
    return " ".join(words).strip(" ,.;:!?()–—")


def _planned(found: _Found, scene_place: str, words: str) -> PlannedLayer:
    category = found.category
    settings = {
        "intensity": 0.5,
        "distance": 0.0,
        "brightness": 0.5,
        "density": 0.5,
        "place": scene_place,
        **found.settings,
    }
    intensity, distance = settings["intensity"], settings["distance"]
    strength = category.strengths[0] if intensity < 0.35 else category.strengths[1] if intensity > 0.65 else ""
    far = "distant" if distance > 0.35 else ""
    label = category.variants.get(found.variant, "")
    noun = f"{category.label} {label}" if label.startswith(("on ", "in ")) else label or category.label
    place = _PLACE_WORDS.get(settings["place"], "") if settings["place"] != "cave" or category.key != "cave" else ""
    return PlannedLayer(
        category=category.key,
        label=" ".join(part for part in (strength, far, noun, place) if part),
        role=category.role,
        gain_db=round(category.loudness_db + _DISTANCE_DB * distance + _INTENSITY_DB * (intensity - 0.5), 2),
        settings=settings,
        variant=found.variant,
        words=words,
        because=tuple(dict.fromkeys(found.because)),
    )
