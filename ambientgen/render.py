"""From takes to a finished soundscape.

1. plan the takes a recipe needs         `ambientgen.takes.TakeBook.first_takes`
2. check each take, retake a faulty one  `TakeBook.accept`
3. fit each layer's takes to the scene   `ambientgen.stems.fit`
4. mix, limit the band, fade, level      `finish`
5. encode, measure, draw                 `finish`

From the third phase on every sound is read and written in blocks, and what is longer than a minute lies on disk: a
scene of an hour needs no more memory than one of a minute.

`render` does it all in the calling thread; `ambientgen/executor.py` does the same with the GPU thread and a pool.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ambientgen import __version__, stems
from ambientgen.audio import encode, filters, loop, loudness, picture
from ambientgen.audio.clip import Samples
from ambientgen.audio.mix import Mix, Stem
from ambientgen.audio.sound import Sound, blocks_of, record
from ambientgen.engines.base import Engine, Progress, Report, Take
from ambientgen.errors import GenerationCancelled, StorageError
from ambientgen.recipe import Recipe
from ambientgen.spec import EngineSpec
from ambientgen.takes import TakeBook, loops_itself, run_one

_NUM_FINISHING_STEPS = 5
#: Of the samples; an encoder adds a little, and the finished file is held to -1 dBTP.
_CEILING_DBTP = -1.5


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
        lifts_db: by how many dB each layer was raised to be heard among the others.
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
    lifts_db: tuple[float, ...]
    shrunk: bool
    render_time_s: float

    def facts(self) -> dict[str, object]:
        """The measured facts as a JSON object, without the recipe and without paths."""
        left_out = {"recipe", "path", "picture_path", "seam", "notes", "lifts_db"}
        facts = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in left_out}
        seam = None if self.seam is None else {**dataclasses.asdict(self.seam), "clean": self.seam.clean}
        return {**facts, "seam": seam, "notes": list(self.notes), "lifts_db": list(self.lifts_db)}


def finish(
    recipe: Recipe,
    sounds: list[Stem | list[Sound]],
    specs: Mapping[str, EngineSpec],
    output: Output,
    report: Report,
    *,
    notes: Sequence[str] = (),
    started_at_s: float,
    kept_stems: stems.StemCache | None = None,
) -> Soundscape:
    """Make one soundscape of what each layer is made of, and write it.

    Args:
        recipe: what was made.
        sounds: of each layer, in order, its takes or its stem; the list is emptied, so that each is freed as soon as it
            is used.
        specs: of the engines that made them.
        output: where and how to write.
        report: told "finishing"; False cancels.
        notes: for the soundscape.
        started_at_s: `time.perf_counter()` at the start of the work.
        kept_stems: where the layers of a mix are kept for the next one.

    Raises:
        GenerationCancelled: if `report` answered False.
        EncodingError: if it could not be written.
    """
    number = 0

    def check() -> None:
        if not report(Progress("finishing", number, _NUM_FINISHING_STEPS)):
            raise GenerationCancelled

    # An hour of stereo is 1.4 GB, on disk or not, and several copies add up: nothing is held longer than it is needed.
    check()
    made: list[Stem] = []
    for layer in recipe.layers:
        sound = sounds.pop(0)
        if not isinstance(sound, Stem):
            native_loop = loops_itself(recipe, specs[layer.engine])
            fitted = stems.fit(sound, layer, recipe, native_loop=native_loop, directory=output.directory)
            sound = Stem.of(_Watched(fitted, check))
            if kept_stems is not None and len(recipe.layers) > 1:
                kept_stems.keep(recipe, layer, sound)
        made.append(sound)
    number = 1
    mix = Mix(made, [layer.gain_db for layer in recipe.layers], unmask=recipe.unmask)
    lifts_db = tuple(mix.lifts_db)
    raised = [
        f"{layer.label or layer.prompt} was raised by {lift_db:g} dB to be heard"
        for layer, lift_db in zip(recipe.layers, lifts_db, strict=True)
        if lift_db >= 1.0  # less is not worth a word
    ]
    blocks = filters.band_limited(_Watched(mix, check))
    if not recipe.loop:
        blocks = loop.fade_edges(blocks, mix.num_samples, mix.sample_rate_hz)
    mixed = _recorded(blocks, mix, output.directory)
    made.clear()
    del mix, blocks, sound
    number = 2

    def master(lowered_db: float) -> Sound:
        ceiling_dbtp = _CEILING_DBTP - lowered_db
        mastered = loudness.master(
            _Watched(mixed, check), recipe.target_lufs, ceiling_dbtp=ceiling_dbtp, loop=recipe.loop
        )
        return _recorded(blocks_of(mastered), mastered, output.directory)

    mastered = master(0.0)
    number = 3
    encoded = encode.encode(
        _Watched(mastered, check),
        output.directory,
        output.name,
        output.file_format,
        max_bytes=output.max_bytes,
        tags=_tags(recipe, output),
        loop=recipe.loop,
        lower_peaks=master,
    )
    picture_path: Path | None = None
    try:
        number = 4
        caption = f"{_length(encoded.duration_s)} · {encoded.integrated_lufs:.1f} LUFS · {encoded.peak_dbtp:.1f} dBTP"
        drawn = picture.draw(_Watched(mastered, check), output.title, caption)
        picture_path = _write_bytes(output.directory / f"{output.name}.png", drawn)
        seam: loop.Seam | None = None
        if recipe.loop:
            is_circle = all(loops_itself(recipe, specs[layer.engine]) for layer in recipe.layers)
            decoded = _Watched(encode.decode_long(encoded.path, output.directory), check)
            seam = loop.measure_seam(decoded, is_circle=is_circle)
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
        lifts_db=lifts_db,
        shrunk=encoded.shrunk,
        render_time_s=round(time.perf_counter() - started_at_s, 3),
    )


def render(
    recipe: Recipe,
    engines: Mapping[str, Engine],
    output: Output,
    report: Report = lambda _progress: True,
    kept_stems: stems.StemCache | None = None,
) -> Soundscape:
    """Render a recipe in the calling thread.

    Args:
        recipe: what to make.
        engines: by name; loaded if need be.
        output: where and how to write.
        report: told the newest progress; answers False to cancel.
        kept_stems: where the layers of a mix are looked for, and kept for the next one.

    Raises:
        GenerationCancelled, EngineError, EncodingError: see `ambientgen.errors`.
    """
    started_at_s = time.perf_counter()
    specs = {name: engine.spec for name, engine in engines.items()}
    book = TakeBook("render", recipe, specs, kept_stems)
    waiting = deque(book.first_takes())
    while waiting:
        take = waiting.popleft()
        engine = engines[take.layer.engine]
        engine.load(report)
        waiting.extend(book.accept(take.id, run_one(engine, take, _scaled(book, take, report), output.directory)))
    used, sounds = book.chosen()
    return finish(
        used, sounds, specs, output, report, notes=book.notes, started_at_s=started_at_s, kept_stems=kept_stems
    )


def _length(duration_s: float) -> str:
    return f"{duration_s:.1f} s" if duration_s < 60 else f"{int(duration_s) // 60}:{int(duration_s) % 60:02d}"


def _scaled(book: TakeBook, take: Take, report: Report) -> Report:
    return lambda progress: report(book.scale(take.id, progress))


class _Watched:
    """A sound that asks before each piece it reads whether the work is still wanted.

    Args:
        sound: what is read.
        check: raises what ends the work.
    """

    def __init__(self, sound: Sound, check: Callable[[], None]) -> None:
        self.sample_rate_hz, self.num_channels = sound.sample_rate_hz, sound.num_channels
        self.num_samples, self.duration_s = sound.num_samples, sound.duration_s
        self._sound, self._check = sound, check

    def read(self, start: int, stop: int) -> Samples:
        """The samples from `start` up to `stop`."""
        self._check()
        return self._sound.read(start, stop)


def _recorded(blocks: Iterator[Samples], like: Sound, directory: Path) -> Sound:
    return record(
        blocks,
        like.num_samples,
        num_channels=like.num_channels,
        sample_rate_hz=like.sample_rate_hz,
        directory=directory,
    )


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
