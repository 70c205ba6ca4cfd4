"""Which takes a recipe needs, what came of each, and which are kept."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from ambientgen.audio import extend, health
from ambientgen.audio.clip import Clip
from ambientgen.audio.mix import Stem
from ambientgen.audio.sound import LONGEST_IN_MEMORY_S, Sound, record
from ambientgen.engines.base import Engine, Progress, Report, StreamingEngine, Take
from ambientgen.errors import EngineError, GenerationCancelled, UnhealthyTakeError
from ambientgen.recipe import MAX_SEED, Layer, Recipe, whole_steps_s
from ambientgen.spec import EngineSpec
from ambientgen.stems import StemCache

#: A clip that is made into a loop afterwards gives this much to the crossfade, or a quarter of its length if shorter.
_LOOP_OVERLAP_S = 1.0
_COUNTED_STAGES = ("denoising", "rendering")
#: A further candidate, a retake and a further take of a long scene get seeds far from the neighbors other layers use.
_CANDIDATE_STRIDE, _RETAKE_STRIDE, _TAKE_STRIDE = 7919, 7919 * 101, 7919 * 10_007
#: Faults with which a clip is of no use to anybody.
_UNUSABLE = frozenset({"silent", "not a number"})
#: What of a layer's params is the renderer's, and not its engine's.
_RENDER_PARAMS = ("take_seeds",)


class Made(NamedTuple):
    """What came of a take.

    Attributes:
        sound: the take.
        match: how well it fits its prompt by the model's own judgment, higher is better; None: not judged.
        leaks: what it should have avoided and has in it, by the model's own judgment ("music").
    """

    sound: Sound
    match: float | None = None
    leaks: tuple[str, ...] = ()


def num_candidates(layer: Layer) -> int:
    """How many takes compete for a layer."""
    value = layer.params.get("num_candidates", 1)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def take_seeds(recipe: Recipe, layer: Layer, spec: EngineSpec) -> tuple[int, ...]:
    """The seeds of the takes that a layer is made of: several where a scene is much longer than the engine is good at.

    Those that a recipe carries already (`take_seeds` among the layer's params) are kept.
    """
    carried = layer.params.get("take_seeds")
    if isinstance(carried, list) and carried and all(type(seed) is int and 0 <= seed <= MAX_SEED for seed in carried):
        return tuple(carried[: extend.MAX_TAKES])
    num = extend.num_takes(recipe.duration_s, take_duration_s(recipe, spec))
    return tuple((layer.seed + number * _TAKE_STRIDE) % (MAX_SEED + 1) for number in range(num))


def take_duration_s(recipe: Recipe, spec: EngineSpec) -> float:
    """A take is as long as the scene, as far as the engine sounds good; a loop made afterwards needs an overlap."""
    wanted_s = recipe.duration_s
    if recipe.loop and not loops_itself(recipe, spec):
        wanted_s += min(_LOOP_OVERLAP_S, recipe.duration_s / 4)
    return min(wanted_s, spec.longest_good_s)


def loops_itself(recipe: Recipe, spec: EngineSpec) -> bool:
    """True if the engine's takes join their own end to their beginning, at this length too."""
    if not recipe.loop or "loop" not in spec.supports:
        return False
    return spec.loop_step_s == 0.0 or math.isclose(
        recipe.duration_s, whole_steps_s(recipe.duration_s, spec.loop_step_s)
    )


@dataclass(slots=True)
class _Slot:
    """One place for a take in a layer, and the best that was made for it.

    Attributes:
        layer_index: of the recipe's layers.
        num_wanted: takes that are still to come.
        retaken: True once it was made again because of a fault.
        best: rank, seed, sound and faults of the best usable take.
    """

    layer_index: int
    num_wanted: int
    retaken: bool = False
    best: tuple[tuple[bool, float, float], int, Sound, tuple[str, ...]] | None = None


@dataclass(slots=True)
class _Layer:
    """One layer's slots, or the stem that was kept of it."""

    slots: list[_Slot] = field(default_factory=list)
    stem: Stem | None = None


class TakeBook:
    """Which takes a recipe still needs, and what came of each. Not thread-safe: one caller at a time.

    Every take is checked. A faulty one is made again once with another seed; if that has a fault as well, the better
    one is kept, and a note says what is wrong with it. Of several candidates the one that fits its prompt best is kept,
    or the healthiest where the engine cannot judge that. The recipe then carries the seeds really used.

    Args:
        job_id: the takes' ids begin with it.
        recipe: what to make.
        specs: of every engine here.
        stems: where finished layers may be found.

    Raises:
        EngineError: if the recipe names an engine that is not here.
    """

    def __init__(
        self, job_id: str, recipe: Recipe, specs: Mapping[str, EngineSpec], stems: StemCache | None = None
    ) -> None:
        missing = {layer.engine for layer in recipe.layers} - set(specs)
        if missing:
            raise EngineError(f"The engine `{sorted(missing)[0]}` of this recipe is not on this machine.")
        self.recipe = recipe
        self.notes: list[str] = []
        self.takes: dict[str, Take] = {}
        self._job_id = job_id
        self._steps: dict[str, tuple[int, int]] = {}  # done and all steps of each take that has started
        self._specs = specs
        self._slot_of: dict[str, _Slot] = {}
        self._layers = [_Layer(stem=stems.find(recipe, layer) if stems else None) for layer in recipe.layers]

    def first_takes(self) -> list[Take]:
        """Every take the recipe calls for, beyond the layers that were found finished."""
        takes = []
        for index, (layer, state) in enumerate(zip(self.recipe.layers, self._layers, strict=True)):
            if state.stem is not None:
                continue
            for seed in take_seeds(self.recipe, layer, self._specs[layer.engine]):
                slot = _Slot(index, num_candidates(layer))
                state.slots.append(slot)
                takes += [self._new_take(slot, seed + number * _CANDIDATE_STRIDE) for number in range(slot.num_wanted)]
        return takes

    def accept(self, take_id: str, made: Made) -> list[Take]:
        """Take in what was made; the answer is what must be made besides.

        Raises:
            UnhealthyTakeError: if there is nothing usable, also after a retake.
        """
        slot, take = self._slot_of[take_id], self.takes[take_id]
        num_steps = self._steps.get(take_id, (0, 1))[1]
        self._steps[take_id] = (num_steps, num_steps)
        report = health.check(made.sound)
        faults = (*report.faults, *made.leaks)
        rank = (not faults, -math.inf if made.match is None else made.match, report.score)
        if not _UNUSABLE.intersection(faults) and (slot.best is None or rank > slot.best[0]):
            slot.best = (rank, take.layer.seed, made.sound, faults)
        slot.num_wanted -= 1
        if slot.num_wanted or (slot.best is not None and not slot.best[3]):
            return []
        if not slot.retaken:
            slot.retaken = True
            slot.num_wanted = 1
            self.notes.append(
                f"the first take was broken ({', '.join(faults)}), so it was made again with another seed"
            )
            return [self._new_take(slot, take.layer.seed + _RETAKE_STRIDE)]
        if slot.best is None:
            raise UnhealthyTakeError(
                f"The {take.layer.engine} engine made a broken clip twice ({', '.join(faults)}). Other words or "
                "another seed may help; if it goes on, the model or its settings need a look."
            )
        self.notes.append(f"it may still have a fault ({', '.join(slot.best[3])}): another seed may be better")
        return []

    @property
    def complete(self) -> bool:
        """True once every layer has its sound."""
        return not any(slot.num_wanted for state in self._layers for slot in state.slots)

    def scale(self, take_id: str, progress: Progress) -> Progress:
        """A take's progress as the whole recipe's: the steps of all takes, which may run side by side.

        Only the stages that make the sound are counted; what comes before them is nothing yet, what comes after them
        is all. A take whose engine cannot count its steps is one step. Any thread may ask.
        """
        num_done, num_steps = self._steps.get(take_id, (0, 1))
        if progress.stage in _COUNTED_STAGES and progress.num_steps:
            num_steps = max(num_steps, progress.num_steps)
            num_done = max(num_done, min(progress.step, num_steps))
        elif progress.stage == "decoding":
            num_done = num_steps
        self._steps[take_id] = (num_done, num_steps)
        started = list(self._steps.values())
        num_waiting = len(self.takes) - len(started)
        longest = max(steps for _, steps in started)
        return Progress(
            progress.stage,
            sum(done for done, _ in started),
            sum(steps for _, steps in started) + num_waiting * longest,
        )

    def chosen(self) -> tuple[Recipe, list[Stem | list[Sound]]]:
        """The recipe with the seeds really used, and each layer's stem or takes; the book lets go of the sounds."""
        layers: list[Layer] = []
        sounds: list[Stem | list[Sound]] = []
        for layer, state in zip(self.recipe.layers, self._layers, strict=True):
            if state.stem is not None:
                layers.append(layer)
                sounds.append(state.stem)
                continue
            best = [slot.best for slot in state.slots if slot.best is not None]
            layers.append(_with_seeds(layer, [seed for _, seed, _, _ in best]))
            sounds.append([sound for _, _, sound, _ in best])
        self._layers = [_Layer() for _ in layers]
        return dataclasses.replace(self.recipe, layers=tuple(layers)), sounds

    def _new_take(self, slot: _Slot, seed: int) -> Take:
        planned = self.recipe.layers[slot.layer_index]
        params = {name: value for name, value in planned.params.items() if name not in _RENDER_PARAMS}
        layer = dataclasses.replace(planned, seed=seed % (MAX_SEED + 1), params=params)
        spec = self._specs[layer.engine]
        take = Take(
            id=f"{self._job_id}.{len(self.takes)}",
            layer=layer,
            num_samples=round(take_duration_s(self.recipe, spec) * spec.sample_rate_hz),
            loop=loops_itself(self.recipe, spec),
        )
        self.takes[take.id] = take
        self._slot_of[take.id] = slot
        return take


def _with_seeds(layer: Layer, seeds: list[int]) -> Layer:
    """The winners alone: rendered again, the recipe makes this very sound and no further candidates."""
    params = {name: value for name, value in layer.params.items() if name != "take_seeds"}
    if num_candidates(layer) != 1:
        params["num_candidates"] = 1
    if len(seeds) > 1:
        params["take_seeds"] = seeds
    return dataclasses.replace(layer, seed=seeds[0], params=params)


def run_one(engine: Engine, take: Take, report: Report, directory: Path) -> Made:
    """Run one take in the calling thread.

    Args:
        engine: loaded.
        take: what to make; one too long for memory comes block by block, from an engine that can do that.
        report: told the newest progress; answers False to cancel.
        directory: where a sound too long for memory is kept.

    Raises:
        GenerationCancelled: if `report` answered False.
        EngineError: if the engine could not make it.
        StorageError: if the disk is full.
    """
    spec = engine.spec
    if take.num_samples > LONGEST_IN_MEMORY_S * spec.sample_rate_hz and isinstance(engine, StreamingEngine):
        blocks = engine.blocks(take, report)
        return Made(
            record(
                blocks,
                take.num_samples,
                num_channels=spec.num_channels,
                sample_rate_hz=spec.sample_rate_hz,
                directory=directory,
            )
        )
    feed = _SingleFeed(take, report)
    engine.run(feed)
    if isinstance(feed.result, EngineError):
        raise feed.result
    if feed.result is None:
        raise GenerationCancelled
    return feed.result


class _SingleFeed:
    """A feed of one take."""

    def __init__(self, take: Take, report: Report) -> None:
        self._waiting = [take]
        self._report = report
        self.result: Made | EngineError | None = None

    def admit(self, _key: Hashable | None, _num_free: int) -> list[Take]:
        admitted, self._waiting = self._waiting, []
        return admitted

    def progress(self, _take_id: str, progress: Progress) -> bool:
        return self._report(progress)

    def finish(
        self, _take_id: str, result: Clip | EngineError, match: float | None = None, leaks: tuple[str, ...] = ()
    ) -> None:
        self.result = result if isinstance(result, EngineError) else Made(result, match, leaks)
