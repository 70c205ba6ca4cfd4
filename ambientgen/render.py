"""From takes to a finished soundscape.

1. plan the takes a recipe needs        `TakeBook.first_takes`
2. check each take, retake a broken one `TakeBook.accept`
3. fit each layer's take to the scene   `_stem`
4. mix, limit the band, fade, level     `finish`
5. encode, measure, draw                `finish`

`render` does it all in the calling thread; `ambientgen/executor.py` does the same with the GPU thread and a pool.
"""

from __future__ import annotations

import dataclasses
import math
import os
import time
from collections import deque
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ambientgen import __version__
from ambientgen.audio import encode, extend, filters, health, loop, loudness, mix, picture, resample
from ambientgen.audio.clip import Clip
from ambientgen.engines.base import Engine, Progress, Report, Take
from ambientgen.errors import EngineError, GenerationCancelled, StorageError, UnhealthyTakeError
from ambientgen.recipe import MAX_SEED, Layer, Recipe, whole_steps_s
from ambientgen.spec import EngineSpec

SAMPLE_RATE_HZ = 48_000
#: A clip that is made into a loop afterwards gives this much to the crossfade, or a quarter of its length if shorter.
_LOOP_OVERLAP_S = 1.0
_NUM_FINISHING_STEPS = 5
_COUNTED_STAGES = ("denoising", "rendering")
#: A retake and a further candidate get seeds far from the neighbors that other layers use.
_SEED_STRIDE = 7919


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """Where and how a finished soundscape is written.

    Attributes:
        directory: an existing folder.
        name: file name without its ending.
        title: what the picture says above the sound.
        file_format: a name in `ambientgen.audio.encode.FORMATS`.
        max_bytes: the largest file that is of use.
    """

    directory: Path
    name: str
    title: str
    file_format: str
    max_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Soundscape:
    """The finished, encoded result with its facts.

    Attributes:
        recipe: with the seeds really used.
        path: of the sound file.
        picture_path: of its waveform and spectrogram, PNG.
        file_format: it was written in; `shrunk` tells if another one was asked for.
        num_bytes: size of the sound file.
        sample_rate_hz: of the file.
        num_channels: of the file.
        duration_s: of the decoded file.
        integrated_lufs: of the decoded file, ITU-R BS.1770-4.
        peak_dbtp: true peak of the decoded file.
        seam: how well the end joins the beginning, for a loop.
        notes: what a person should know about the making ("the first take was silent, so ...").
        shrunk: True if it had to be smaller than asked to fit.
        render_time_s: from the start of the first take to the end.
    """

    recipe: Recipe
    path: Path
    picture_path: Path
    file_format: str
    num_bytes: int
    sample_rate_hz: int
    num_channels: int
    duration_s: float
    integrated_lufs: float
    peak_dbtp: float
    seam: loop.Seam | None
    notes: tuple[str, ...]
    shrunk: bool
    render_time_s: float

    def facts(self) -> dict[str, object]:
        """The measured facts as a JSON object, without the recipe and without paths."""
        left_out = {"recipe", "path", "picture_path", "seam", "notes"}
        facts = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in left_out}
        seam = None if self.seam is None else {**dataclasses.asdict(self.seam), "clean": self.seam.clean}
        return {**facts, "seam": seam, "notes": list(self.notes)}


def num_candidates(layer: Layer) -> int:
    """How many takes compete for a layer."""
    value = layer.params.get("num_candidates", 1)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _without_candidates(layer: Layer) -> Layer:
    if num_candidates(layer) == 1:
        return layer
    return dataclasses.replace(layer, params={**layer.params, "num_candidates": 1})


class TakeBook:
    """Which takes a recipe still needs, and what came of each. Not thread-safe: one caller at a time.

    Every take is checked. A broken one is made again once with another seed. Of several healthy candidates the one that
    fits its prompt best is kept, or the healthiest where the engine cannot judge that. The book's `recipe` then carries
    the seeds really used.
    """

    def __init__(self, job_id: str, recipe: Recipe, specs: Mapping[str, EngineSpec]) -> None:
        missing = {layer.engine for layer in recipe.layers} - set(specs)
        if missing:
            raise EngineError(f"The engine `{sorted(missing)[0]}` of this recipe is not on this machine.")
        self.recipe = recipe
        self.notes: list[str] = []
        self.takes: dict[str, Take] = {}
        self._job_id = job_id
        self._steps: dict[str, tuple[int, int]] = {}  # done and all steps of each take that has started
        self._specs = specs
        self._layer_of: dict[str, int] = {}
        self._wanted = [num_candidates(layer) for layer in recipe.layers]
        self._retaken = [False] * len(recipe.layers)
        self._best: list[tuple[tuple[float, float], Layer, Clip] | None] = [None] * len(recipe.layers)

    def first_takes(self) -> list[Take]:
        """Every take the recipe calls for."""
        return [
            self._new_take(index, (layer.seed + number * _SEED_STRIDE) % (MAX_SEED + 1))
            for index, layer in enumerate(self.recipe.layers)
            for number in range(num_candidates(layer))
        ]

    def accept(self, take_id: str, clip: Clip, match: float | None = None) -> list[Take]:
        """Take in a finished clip; the answer is what must be made besides.

        Args:
            take_id: the clip's take.
            clip: what came of it.
            match: how well it fits its prompt, if its engine says so.

        Raises:
            UnhealthyTakeError: if a layer has no healthy take, also after its retake.
        """
        index, take = self._layer_of[take_id], self.takes[take_id]
        num_steps = self._steps.get(take_id, (0, 1))[1]
        self._steps[take_id] = (num_steps, num_steps)
        report = health.check(clip)
        self._wanted[index] -= 1
        best, rank = self._best[index], (-math.inf if match is None else match, report.score)
        if report.ok and (best is None or rank > best[0]):
            self._best[index] = (rank, take.layer, clip)
        if self._wanted[index] or self._best[index] is not None:
            return []
        faults = ", ".join(report.faults)
        if self._retaken[index]:
            raise UnhealthyTakeError(
                f"The {take.layer.engine} engine made a broken clip twice ({faults}). Other words or another seed may "
                "help; if it goes on, the model or its settings need a look."
            )
        self._retaken[index] = True
        self._wanted[index] = 1
        self.notes.append(f"the first take was broken ({faults}), so it was made again with another seed")
        return [self._new_take(index, (take.layer.seed + _SEED_STRIDE * 101) % (MAX_SEED + 1))]

    @property
    def complete(self) -> bool:
        """True once every layer has its clip."""
        return not any(self._wanted)

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

    def chosen(self) -> tuple[Recipe, list[Clip]]:
        """The recipe with the seeds really used, and each layer's clip; the book lets go of the clips."""
        best = [entry for entry in self._best if entry is not None]
        self._best = [None] * len(best)
        # The winner alone: rendered again, the recipe makes this very sound and no further candidates.
        layers = tuple(_without_candidates(layer) for _, layer, _ in best)
        recipe = dataclasses.replace(self.recipe, layers=layers)
        return recipe, [clip for _, _, clip in best]

    def _new_take(self, index: int, seed: int) -> Take:
        layer = dataclasses.replace(self.recipe.layers[index], seed=seed)
        spec = self._specs[layer.engine]
        take = Take(
            id=f"{self._job_id}.{len(self.takes)}",
            layer=layer,
            num_samples=round(_take_duration_s(self.recipe, spec) * spec.sample_rate_hz),
            loop=_loops_itself(self.recipe, spec),
        )
        self.takes[take.id] = take
        self._layer_of[take.id] = index
        return take


def finish(
    recipe: Recipe,
    clips: list[Clip],
    specs: Mapping[str, EngineSpec],
    output: Output,
    report: Report,
    *,
    notes: Sequence[str] = (),
    started_at_s: float,
) -> Soundscape:
    """Make one soundscape of each layer's clip and write it.

    Args:
        recipe: what was made.
        clips: one per layer, in order; the list is emptied, so that each clip is freed as soon as it is used.
        specs: of the engines that made them.
        output: where and how to write.
        report: told "finishing"; False cancels.
        notes: for the soundscape.
        started_at_s: `time.perf_counter()` at the start of the work.

    Raises:
        GenerationCancelled: if `report` answered False.
        EncodingError: if it could not be written.
    """

    def step(number: int) -> None:
        if not report(Progress("finishing", number, _NUM_FINISHING_STEPS)):
            raise GenerationCancelled

    # Two minutes of stereo are 46 MB, and several copies add up: nothing is held longer than it is needed.
    step(0)
    stems = [(_stem(clips.pop(0), layer, recipe, specs[layer.engine]), layer.gain_db) for layer in recipe.layers]
    step(1)
    mixed, lifts_db = mix.mix(stems)
    mixed = filters.band_limit(mixed)
    stems.clear()
    raised = [
        f"{layer.label or layer.prompt} was raised by {lift_db:g} dB to be heard"
        for layer, lift_db in zip(recipe.layers, lifts_db, strict=True)
        if lift_db >= 1.0  # less is not worth a word
    ]
    step(2)
    faded = mixed if recipe.loop else loop.fade_edges(mixed)
    del mixed
    mastered = loudness.master(faded, recipe.target_lufs, loop=recipe.loop)
    del faded
    step(3)
    encoded = encode.encode(
        mastered,
        output.directory,
        output.name,
        output.file_format,
        max_bytes=output.max_bytes,
        tags=_tags(recipe, output),
        report=lambda: report(Progress("finishing", 3, _NUM_FINISHING_STEPS)),
    )
    picture_path: Path | None = None
    try:
        step(4)
        caption = f"{encoded.duration_s:.1f} s · {encoded.integrated_lufs:.1f} LUFS · {encoded.peak_dbtp:.1f} dBTP"
        drawn = picture.draw(mastered, output.title, caption)
        picture_path = _write_bytes(output.directory / f"{output.name}.png", drawn)
        is_circle = all(_loops_itself(recipe, specs[layer.engine]) for layer in recipe.layers)
        seam = loop.measure_seam(encode.decode(encoded.path), is_circle=is_circle) if recipe.loop else None
    except BaseException:
        for path in (encoded.path, picture_path):  # nobody will be told of them
            if path is not None:
                path.unlink(missing_ok=True)
        raise
    return Soundscape(
        recipe=recipe,
        path=encoded.path,
        picture_path=picture_path,
        file_format=encoded.file_format,
        num_bytes=encoded.num_bytes,
        sample_rate_hz=encoded.sample_rate_hz,
        num_channels=encoded.num_channels,
        duration_s=encoded.duration_s,
        integrated_lufs=round(encoded.integrated_lufs, 2),
        peak_dbtp=round(encoded.peak_dbtp, 2),
        seam=seam,
        notes=(*notes, *raised),
        shrunk=encoded.shrunk,
        render_time_s=round(time.perf_counter() - started_at_s, 3),
    )


def render(
    recipe: Recipe, engines: Mapping[str, Engine], output: Output, report: Report = lambda _progress: True
) -> Soundscape:
    """Render a recipe in the calling thread.

    Args:
        recipe: what to make.
        engines: by name; loaded if need be.
        output: where and how to write.
        report: told the newest progress; answers False to cancel.

    Raises:
        GenerationCancelled, EngineError, EncodingError: see `ambientgen.errors`.
    """
    started_at_s = time.perf_counter()
    specs = {name: engine.spec for name, engine in engines.items()}
    book = TakeBook("render", recipe, specs)
    waiting = deque(book.first_takes())
    while waiting:
        take = waiting.popleft()
        engine = engines[take.layer.engine]
        engine.load(report)
        clip, match = run_one(engine, take, _scaled(book, take, report))
        waiting.extend(book.accept(take.id, clip, match))
    used, clips = book.chosen()
    return finish(used, clips, specs, output, report, notes=book.notes, started_at_s=started_at_s)


def _scaled(book: TakeBook, take: Take, report: Report) -> Report:
    return lambda progress: report(book.scale(take.id, progress))


def run_one(engine: Engine, take: Take, report: Report) -> tuple[Clip, float | None]:
    """Run one take in the calling thread; the answer is its clip, and how well that fits its prompt, if judged.

    Raises:
        GenerationCancelled: if `report` answered False.
        EngineError: if the engine could not make it.
    """
    feed = _SingleFeed(take, report)
    engine.run(feed)
    if isinstance(feed.result, EngineError):
        raise feed.result
    if feed.result is None:
        raise GenerationCancelled
    return feed.result, feed.match


class _SingleFeed:
    """A feed of one take."""

    def __init__(self, take: Take, report: Report) -> None:
        self._waiting = [take]
        self._report = report
        self.result: Clip | EngineError | None = None
        self.match: float | None = None

    def admit(self, _key: Hashable | None, _num_free: int) -> list[Take]:
        admitted, self._waiting = self._waiting, []
        return admitted

    def progress(self, _take_id: str, progress: Progress) -> bool:
        return self._report(progress)

    def finish(self, _take_id: str, result: Clip | EngineError, match: float | None = None) -> None:
        self.result, self.match = result, match


def _take_duration_s(recipe: Recipe, spec: EngineSpec) -> float:
    """A take is as long as the scene, as far as the engine sounds good; a loop made afterwards needs an overlap."""
    wanted_s = recipe.duration_s
    if recipe.loop and not _loops_itself(recipe, spec):
        wanted_s += min(_LOOP_OVERLAP_S, recipe.duration_s / 4)
    return min(wanted_s, spec.longest_good_s)


def _loops_itself(recipe: Recipe, spec: EngineSpec) -> bool:
    """True if the engine's takes join their own end to their beginning, at this length too."""
    if not recipe.loop or "loop" not in spec.supports:
        return False
    return spec.loop_step_s == 0.0 or math.isclose(
        recipe.duration_s, whole_steps_s(recipe.duration_s, spec.loop_step_s)
    )


def _stem(clip: Clip, layer: Layer, recipe: Recipe, spec: EngineSpec) -> Clip:
    """A layer's clip at the scene's rate, channels and exact length."""
    num_samples = round(recipe.duration_s * SAMPLE_RATE_HZ)
    native_loop = _loops_itself(recipe, spec)
    clip = resample.to_stereo(resample.resample(clip, SAMPLE_RATE_HZ, loop=native_loop))
    if clip.num_samples == num_samples and (native_loop or not recipe.loop):
        return clip
    if recipe.loop and clip.num_samples > num_samples:
        return loop.make_loop(clip, num_samples)
    return extend.extend(clip, num_samples, seed=layer.seed, loop=recipe.loop)


def _tags(recipe: Recipe, output: Output) -> dict[str, str]:
    return {
        "title": output.title,
        "comment": recipe.to_json(),
        "software": f"AmbientGen {__version__}",
        "date": datetime.now(UTC).date().isoformat(),
    }


def _write_bytes(path: Path, data: bytes) -> Path:
    partial = path.with_suffix(".part")
    try:
        partial.write_bytes(data)
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise StorageError("The clip folder cannot be written: is the disk full?") from error
    return path
