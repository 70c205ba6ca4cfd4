"""A run: every clip made once, measured, and kept, so that an interrupted run goes on where it stopped.

The folder holds `run.json` (written whole after every clip), `clips/`, and the page. A clip is kept under a key made of
the scene's words, its recipe, which names the engine's version, and the weights' fingerprint.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
import logging
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ambientgen import __version__
from ambientgen.audio import encode
from ambientgen.engines.base import Engine, Progress
from ambientgen.errors import EngineError, GenerationCancelled, ModelMissingError, RequestError, StorageError
from ambientgen.lab import measures
from ambientgen.lab.experiments import Row
from ambientgen.lab.judge import Judge
from ambientgen.lab.provenance import Provenance
from ambientgen.planning import resolve
from ambientgen.recipe import Recipe
from ambientgen.render import Output, render

log = logging.getLogger(__name__)

#: Takes the number of clips that are done, of all, the row at work, and the engine's progress (None: just begun).
RunReport = Callable[[int, int, Row, Progress | None], bool]

_FORMAT, _FORMAT_VERSION = "ambientgen-run", 1
_MAX_CLIP_BYTES = 2**26
_PACKAGES = ("numpy", "soundfile", "soxr", "torch", "diffusers", "transformers")


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """Who makes clips.

    Attributes:
        label: for people; unique in a run.
        engine: not loaded until it is its turn.
        provenance: of its weights.
    """

    label: str
    engine: Engine
    provenance: Provenance


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeClip:
    """A clip in the run's folder, with its figures.

    Attributes:
        key: its name in the folder.
        recipe: as JSON, with the seed really used.
        figures: by the names in `measures.FIGURES`; None where there is none.
        faults: in plain words; empty for a sound clip.
        notes: about the making.
        device: where it was made.
        packages: name and version of what it was made with.
        made_at: ISO 8601, UTC.
        render_time_s: how long it took.
        measured_by: version of the measures, and fingerprint of the judge.
    """

    key: str
    recipe: Mapping[str, Any]
    figures: Mapping[str, float | None]
    faults: Sequence[str]
    notes: Sequence[str]
    device: str
    packages: Mapping[str, str]
    made_at: str
    render_time_s: float
    measured_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of a row: a clip, or the words for why there is none."""

    row: Row
    clip: MadeClip | None
    failure: str | None = None


@dataclass(slots=True)
class RunFolder:
    """The folder of a run.

    Attributes:
        path: the folder.
        clips: by key.
        failures: why a clip is not there, by the name of its row.
    """

    path: Path
    clips: dict[str, MadeClip] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Make the folder, or read what an earlier run left in it.

        Raises:
            RequestError: if its `run.json` is not one of a run this version can read.
            StorageError: if the folder cannot be made.
        """
        try:
            (path / "clips").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError("The folder of --out cannot be made or written.") from error
        manifest = path / "run.json"
        if not manifest.exists():
            return cls(path)
        try:
            data = json.loads(manifest.read_text(encoding="utf-8"))
            if (data["format"], data["version"]) != (_FORMAT, _FORMAT_VERSION):
                raise ValueError("another format")
            clips = {key: MadeClip(key=key, **clip) for key, clip in data["clips"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise RequestError(
                "The run.json in the folder of --out is not one this version can read. Choose another folder."
            ) from error
        return cls(path, clips)

    def sound(self, key: str) -> Path:
        """A clip's sound file."""
        return self.path / "clips" / f"{key}{encode.FORMATS['opus'].suffix}"

    def picture(self, key: str) -> Path:
        """A clip's picture."""
        return self.path / "clips" / f"{key}.png"

    def has(self, key: str) -> bool:
        """True if a clip is there, with both its files."""
        return key in self.clips and self.sound(key).is_file() and self.picture(key).is_file()

    def write(self) -> None:
        """Write the manifest, whole or not at all.

        Raises:
            StorageError: if the disk does not take it.
        """
        clips = {key: _without_key(clip) for key, clip in self.clips.items()}
        data = {"format": _FORMAT, "version": _FORMAT_VERSION, "clips": clips, "failures": self.failures}
        write_whole(self.path / "run.json", json.dumps(data, ensure_ascii=False, indent=1) + "\n")


def write_whole(path: Path, text: str) -> None:
    """Write a file so that it appears under its name only when it is complete.

    Raises:
        StorageError: if the disk does not take it.
    """
    partial = path.with_suffix(".part")
    try:
        with partial.open("w", encoding="utf-8", newline="\n") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise StorageError("The folder of --out cannot be written: is the disk full?") from error


def run(
    rows: Sequence[Row], contestants: Sequence[Contestant], folder: RunFolder, judge: Judge | None, report: RunReport
) -> list[Result]:
    """Make what is not there yet, contestant by contestant, so that one model at a time is in memory.

    Args:
        rows: of the contestants, in any order.
        contestants: whoever the rows name.
        folder: where clips are kept; written after every clip.
        judge: gives the CLAP score; None: there is none.
        report: told of every clip and step; False stops the run.

    Returns:
        A result for each row, in their order.

    Raises:
        GenerationCancelled: if `report` answered False. All finished clips are kept.
        ModelMissingError: if a model cannot be loaded, so that none of its clips could be made.
        StorageError: if the disk is full.
    """
    results: dict[Row, Result] = {}
    for contestant in contestants:
        own = [row for row in rows if row.contestant == contestant.label]
        try:
            for row in own:
                if not report(len(results), len(rows), row, None):
                    raise GenerationCancelled
                told = _for_engine(report, len(results), len(rows), row)
                results[row] = _result(row, contestant, folder, judge, told)
        finally:
            contestant.engine.unload()
    return [results[row] for row in rows]


def _for_engine(report: RunReport, num_done: int, num_rows: int, row: Row) -> Callable[[Progress], bool]:
    return lambda progress: report(num_done, num_rows, row, progress)


def _result(
    row: Row, contestant: Contestant, folder: RunFolder, judge: Judge | None, report: Callable[[Progress], bool]
) -> Result:
    try:
        recipe = resolve(row.request, [contestant.engine.spec])
    except RequestError as error:  # an engine that only makes what it knows does not know this scene
        return _failed(row, folder, error)
    words = row.request.description
    key = clip_key(words, recipe, contestant.provenance)
    if folder.has(key):
        clip = folder.clips[key]
        if clip.measured_by == _measured_by(judge):
            return Result(row=row, clip=clip)
        clip = _measured_again(clip, folder, judge, words)
    else:
        try:
            clip = _made(key, recipe, contestant, folder, judge, words, report)
        except ModelMissingError:  # none of its clips could be made
            raise
        except EngineError as error:
            log.warning("a clip of %s failed: %s", contestant.label, error, exc_info=error.__cause__)
            return _failed(row, folder, error)
    folder.clips[key] = clip
    folder.failures.pop(_name(row), None)
    folder.write()
    return Result(row=row, clip=clip)


def _failed(row: Row, folder: RunFolder, error: Exception) -> Result:
    """The run goes on without this clip, and the next run tries again."""
    folder.failures[_name(row)] = str(error)
    folder.write()
    return Result(row=row, clip=None, failure=str(error))


def _name(row: Row) -> str:
    parts = (row.experiment, row.category, row.variant, row.contestant, f"seed {row.seed}")
    return ", ".join(part for part in parts if part)


def clip_key(words: str, recipe: Recipe, provenance: Provenance) -> str:
    """The name of the clip that a recipe and weights make, judged by a scene's words: 16 hexadecimal digits."""
    text = f"{words}\n{recipe.to_json()}\n{provenance.fingerprint}"
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _made(
    key: str,
    recipe: Recipe,
    contestant: Contestant,
    folder: RunFolder,
    judge: Judge | None,
    words: str,
    report: Callable[[Progress], bool],
) -> MadeClip:
    output = Output(
        directory=folder.path / "clips", name=key, title=words, file_format="opus", max_bytes=_MAX_CLIP_BYTES
    )
    soundscape = render(recipe, {contestant.engine.spec.name: contestant.engine}, output, report)
    figures, faults = _figures(soundscape.path, judge, words)
    return MadeClip(
        key=key,
        recipe=json.loads(soundscape.recipe.to_json()),
        figures=figures,
        faults=faults,
        notes=soundscape.notes,
        device=contestant.engine.device or "",
        packages=_packages(),
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
        render_time_s=soundscape.render_time_s,
        measured_by=_measured_by(judge),
    )


def _measured_again(clip: MadeClip, folder: RunFolder, judge: Judge | None, words: str) -> MadeClip:
    figures, faults = _figures(folder.sound(clip.key), judge, words)
    return dataclasses.replace(clip, figures=figures, faults=faults, measured_by=_measured_by(judge))


def _figures(path: Path, judge: Judge | None, words: str) -> tuple[dict[str, float | None], tuple[str, ...]]:
    clip = encode.decode(path)
    score = None if judge is None else judge.score(clip, words)
    return {**measures.measure(clip), "clap_score": score}, measures.faults(clip)


def _measured_by(judge: Judge | None) -> str:
    return f"{measures.VERSION} {judge.fingerprint if judge else ''}".strip()


def _packages() -> dict[str, str]:
    """What decides how a clip comes out, as far as it is installed."""
    versions = {"AmbientGen": __version__, "Python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _without_key(clip: MadeClip) -> dict[str, Any]:
    data = dataclasses.asdict(clip)
    del data["key"]
    return data
