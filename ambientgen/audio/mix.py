"""Stems become one sound."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ambientgen.audio.clip import Samples
from ambientgen.audio.loudness import integrated_lufs
from ambientgen.audio.masking import lifts_db
from ambientgen.audio.sound import Sound

#: What every stem is brought to before its gain. Low enough that a few layers stay within [-1, 1]; the final level is
#: the business of `ambientgen.audio.loudness.master`.
REFERENCE_LUFS = -23.0


@dataclass(frozen=True, slots=True)
class Stem:
    """A layer's finished sound before the mix.

    Attributes:
        sound: at the scene's rate, channels and length.
        integrated_lufs: its loudness; -inf for silence.
    """

    sound: Sound
    integrated_lufs: float

    @classmethod
    def of(cls, sound: Sound) -> Stem:
        """Measure a sound."""
        return cls(sound, integrated_lufs(sound))


class Mix:
    """Stems, each brought to the same loudness and then to its gain; a `Sound`.

    The sum is worked out as it is read, and may exceed [-1, 1]. A silent stem adds nothing.

    Args:
        stems: all of one rate, length and channel count.
        gains_db: over or under `REFERENCE_LUFS`, one for each.
        unmask: True if a stem that others cover is raised until it is heard.

    Attributes:
        lifts_db: by how many dB each stem was raised for that.

    Raises:
        ValueError: if there is no stem or they differ in rate, length or channels.
    """

    def __init__(self, stems: Sequence[Stem], gains_db: Sequence[float], *, unmask: bool = True) -> None:
        if not stems:
            raise ValueError("there is nothing to mix")
        shapes = {(s.sound.num_channels, s.sound.num_samples, s.sound.sample_rate_hz) for s in stems}
        if len(shapes) > 1:
            raise ValueError(f"stems differ in channels, samples or rate: {sorted(shapes)}")
        ((self.num_channels, self.num_samples, self.sample_rate_hz),) = shapes
        factors = [
            10.0 ** ((REFERENCE_LUFS - stem.integrated_lufs + gain_db) / 20.0)
            if math.isfinite(stem.integrated_lufs)
            else 0.0
            for stem, gain_db in zip(stems, gains_db, strict=True)
        ]
        self._sounds = [stem.sound for stem in stems]
        self.lifts_db = lifts_db(self._sounds, factors) if unmask and len(stems) > 1 else [0.0] * len(stems)
        self._factors = [
            np.float32(factor * 10.0 ** (lift_db / 20.0))
            for factor, lift_db in zip(factors, self.lifts_db, strict=True)
        ]

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.num_samples / self.sample_rate_hz

    def read(self, start: int, stop: int) -> Samples:
        """The sum from `start` up to `stop`."""
        total = np.zeros((self.num_channels, stop - start), np.float32)
        for sound, factor in zip(self._sounds, self._factors, strict=True):
            if factor:
                total += sound.read(start, stop) * factor
        return total
