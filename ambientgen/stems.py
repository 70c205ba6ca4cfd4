"""Stems: a layer's takes at the scene's rate, channels and exact length; and a cache of them.

A mix whose stems are kept can be changed (another gain for a layer) without rendering a layer again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import logging
import os
import secrets
import threading
from collections.abc import Sequence
from pathlib import Path

from ambientgen.audio import extend, loop, resample, spatial
from ambientgen.audio.clip import Clip
from ambientgen.audio.mix import Stem
from ambientgen.audio.sound import Sound, Tape, as_bytes, blocks_of, in_memory, record
from ambientgen.recipe import Layer, Recipe

log = logging.getLogger(__name__)

SAMPLE_RATE_HZ = 48_000
#: Changes whenever the same takes would become another stem.
_STEM_VERSION = 2
_HEADER_BYTES = 512
_SUFFIX = ".stem"


def fit(takes: Sequence[Sound], layer: Layer, recipe: Recipe, *, native_loop: bool, directory: Path) -> Sound:
    """A layer's takes as one sound at the scene's rate, in stereo, of its exact length.

    A mono take is widened; the layer's `full_band` has the band filled first that a model of 16 kHz leaves empty.

    Args:
        takes: all that the layer is made of; one that is as it should be is returned as it is.
        layer: whose they are.
        recipe: of the scene.
        native_loop: True if the takes join their own end to their beginning.
        directory: where a sound too long for memory is kept.
    """
    num_samples = round(recipe.duration_s * SAMPLE_RATE_HZ)
    if len(takes) == 1 and _fits(takes[0], num_samples) and (native_loop or not recipe.loop):
        return takes[0]
    clips = [_in_stereo(in_memory(take), layer, native_loop=native_loop) for take in takes]
    if len(clips) == 1 and _fits(clips[0], num_samples) and (native_loop or not recipe.loop):
        return clips[0]
    if len(clips) == 1 and recipe.loop and clips[0].num_samples > num_samples:
        return loop.best_loop(clips[0], num_samples)
    return record(
        extend.extend(clips, num_samples, seed=layer.seed, loop=recipe.loop, role=layer.role),
        num_samples,
        num_channels=2,
        sample_rate_hz=SAMPLE_RATE_HZ,
        directory=directory,
    )


def _in_stereo(take: Clip, layer: Layer, *, native_loop: bool) -> Clip:
    clip = resample.resample(take, SAMPLE_RATE_HZ, loop=native_loop)
    if clip.num_channels != 1:
        return resample.to_stereo(clip)
    if layer.params.get("full_band", False):
        clip = spatial.extend_band(clip, loop=native_loop)
    # The same seed for each take of a layer: where they overlap, the image stays.
    return spatial.widen(clip, seed=layer.seed, loop=native_loop)


def _fits(sound: Sound, num_samples: int) -> bool:
    return (sound.sample_rate_hz, sound.num_channels, sound.num_samples) == (SAMPLE_RATE_HZ, 2, num_samples)


class StemCache:
    """Stems on disk, the least recently used ones forgotten first. Any number of threads may use it.

    Args:
        folder: made if need be; nothing else may lie in it.
        max_bytes: what all stems together may take.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._lock = threading.Lock()

    def prepare(self) -> None:
        """Drop what an earlier crash left half-written."""
        for partial in self._folder.glob("*.part"):
            self._drop(partial)

    def find(self, recipe: Recipe, layer: Layer) -> Stem | None:
        """The stem of one of a recipe's layers, if it is kept."""
        path = self._path(recipe, layer)
        try:
            file = path.open("rb", buffering=0)
        except OSError:
            return None
        try:
            header = json.loads(file.read(_HEADER_BYTES))
            sound = Tape.opened(file, header["num_channels"], header["sample_rate_hz"], offset_bytes=_HEADER_BYTES)
            if sound.num_samples != header["num_samples"]:
                raise ValueError("the file has another length than it says")
            stem = Stem(sound, header["integrated_lufs"])
            os.utime(path)
        except (OSError, ValueError, KeyError, TypeError):
            log.warning("a damaged stem was dropped", exc_info=True)
            file.close()
            self._drop(path)
            return None
        return stem

    def keep(self, recipe: Recipe, layer: Layer, stem: Stem) -> None:
        """Keep a stem, if there is room for it. Whatever goes wrong costs time later, and nothing else."""
        sound = stem.sound
        num_bytes = _HEADER_BYTES + 4 * sound.num_channels * sound.num_samples
        path = self._path(recipe, layer)
        if num_bytes > self._max_bytes // 4 or path.exists():
            return
        header = json.dumps(
            {
                "num_channels": sound.num_channels,
                "sample_rate_hz": sound.sample_rate_hz,
                "num_samples": sound.num_samples,
                "integrated_lufs": stem.integrated_lufs,
            }
        ).encode()
        partial = path.with_suffix(f".{secrets.token_hex(4)}.part")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                file.write(header.ljust(_HEADER_BYTES))
                for block in blocks_of(sound):
                    file.write(as_bytes(block))
            os.replace(partial, path)
            self._make_room()
        except OSError:
            log.warning("a stem could not be kept", exc_info=True)
            self._drop(partial)

    def _path(self, recipe: Recipe, layer: Layer) -> Path:
        # What changes with the mix alone is no part of a stem's identity.
        identity = dataclasses.asdict(dataclasses.replace(layer, gain_db=0.0, label=""))
        version = recipe.engine_versions.get(layer.engine)
        text = json.dumps([_STEM_VERSION, version, recipe.duration_s, recipe.loop, identity], sort_keys=True)
        return self._folder / f"{hashlib.sha256(text.encode()).hexdigest()[:40]}{_SUFFIX}"

    def _make_room(self) -> None:
        with self._lock:
            stats = {path: path.stat() for path in self._folder.glob(f"*{_SUFFIX}")}
            total = sum(stat.st_size for stat in stats.values())
            for path in sorted(stats, key=lambda path: stats[path].st_mtime_ns):
                if total <= self._max_bytes:
                    break
                total -= stats[path].st_size
                self._drop(path)

    @staticmethod
    def _drop(path: Path) -> None:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
