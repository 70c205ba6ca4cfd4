"""What to ask for: the scenes that come with AmbientGen (`presets.toml`) and the ideas of each category."""

from __future__ import annotations

import functools
import random
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

from ambientgen.errors import RequestError
from ambientgen.planning import makes_whole
from ambientgen.recipe import SceneRequest, check_request
from ambientgen.spec import EngineSpec
from ambientgen.vocabulary import fold, vocabulary

#: A Discord button holds so many.
MAX_IDEA_CHARS = 80


@dataclass(frozen=True, slots=True)
class BuiltInPreset:
    """A scene that comes with AmbientGen.

    Attributes:
        name: what people pick.
        category: a key of the vocabulary.
        request: what is asked for with it.
    """

    name: str
    category: str
    request: SceneRequest


@functools.cache
def built_in_presets() -> tuple[BuiltInPreset, ...]:
    """Every scene that comes with AmbientGen, in the file's order.

    Raises:
        ValueError: naming the preset that is wrong.
    """
    data = tomllib.loads((resources.files("ambientgen") / "presets.toml").read_text(encoding="utf-8"))
    presets = []
    for entry in data["preset"]:
        options = {name: value for name, value in entry.items() if name not in {"name", "category", "scene"}}
        try:
            request = SceneRequest(description=entry["scene"], preset=entry["name"], **options)
            check_request(request)
        except (KeyError, TypeError, RequestError) as error:
            raise ValueError(f"presets.toml: {entry.get('name', '?')!r}: {error}") from error
        if entry["category"] not in vocabulary().categories or len(entry["scene"]) > MAX_IDEA_CHARS:
            raise ValueError(f"presets.toml: {entry['name']!r}: an unknown category, or a scene that is too long")
        presets.append(BuiltInPreset(entry["name"], entry["category"], request))
    return tuple(presets)


def categories() -> dict[str, str]:
    """The categories that ideas can be asked for: key -> title."""
    return {key: category.title for key, category in vocabulary().categories.items()}


def all_ideas(available: Sequence[EngineSpec]) -> tuple[str, ...]:
    """Every scene that these engines can make, by category."""
    return tuple(dict.fromkeys(idea for some in _by_category(available).values() for idea in some))


def ideas(category: str | None, count: int, seed: int, available: Sequence[EngineSpec]) -> tuple[str, ...]:
    """Good scene descriptions, as different from each other as can be.

    Args:
        category: its key or title in any case, or None for all of them.
        count: at most so many.
        seed: another seed gives others.
        available: the engines that are ready: only what they can make is offered.

    Raises:
        RequestError: if there is no such category, or none of these engines makes anything of it.
    """
    chance = random.Random(seed)
    by_category = _by_category(available)
    if category is not None:
        wanted = fold(category)
        keys = [key for key, title in categories().items() if wanted in (key, fold(title))]
        if not keys:
            raise RequestError(f"There is no category of that name. The categories are {', '.join(categories())}.")
        by_category = {keys[0]: by_category[keys[0]]}
    by_category = {key: some for key, some in by_category.items() if some}
    if not by_category:
        raise RequestError("For ideas of that kind a model is needed, and none is ready here. Try another category.")
    for some in by_category.values():
        chance.shuffle(some)
    order = list(by_category.values())
    chance.shuffle(order)
    # One of each category first, then the second of each, ...
    rounds = [some[turn] for turn in range(max(map(len, order))) for some in order if turn < len(some)]
    return tuple(dict.fromkeys(rounds))[:count]


def _by_category(available: Sequence[EngineSpec]) -> dict[str, list[str]]:
    by_category = {key: list(category.ideas) for key, category in vocabulary().categories.items()}
    for preset in built_in_presets():
        by_category[preset.category].append(preset.request.description)
    specs = tuple(available)
    return {key: [idea for idea in some if _makes_whole(idea, specs)] for key, some in by_category.items()}


@functools.lru_cache(maxsize=4096)
def _makes_whole(idea: str, available: tuple[EngineSpec, ...]) -> bool:
    """Remembered: it is asked of every idea at every letter that a person types."""
    return makes_whole(idea, available)
