"""Stems become one clip."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ambientgen.audio.clip import Clip
from ambientgen.audio.loudness import integrated_lufs
from ambientgen.audio.masking import lifts_db

#: What every stem is brought to before its gain. Low enough that a few layers stay within [-1, 1]; the final level is
#: the business of `ambientgen.audio.loudness.master`.
REFERENCE_LUFS = -23.0


def mix(stems: Sequence[tuple[Clip, float]]) -> tuple[Clip, list[float]]:
    """Sum stems after bringing each to the same loudness and then to its gain, and higher if it would be covered.

    Args:
        stems: clips with their `gain_db` over or under `REFERENCE_LUFS`, all of one rate, length and channel count.

    Returns:
        The sum, which may exceed [-1, 1], and by how many dB each stem was raised to be heard among the others.
        A silent stem adds nothing.

    Raises:
        ValueError: if there is no stem or they differ in rate, length or channels.
    """
    if not stems:
        raise ValueError("there is nothing to mix")
    first = stems[0][0]
    leveled = []
    for clip, gain_db in stems:
        if clip.samples.shape != first.samples.shape or clip.sample_rate_hz != first.sample_rate_hz:
            raise ValueError(
                f"stems differ: {clip.samples.shape} at {clip.sample_rate_hz} Hz, "
                f"{first.samples.shape} at {first.sample_rate_hz} Hz"
            )
        lufs = integrated_lufs(clip)
        gain = 10.0 ** ((REFERENCE_LUFS - lufs + gain_db) / 20.0) if math.isfinite(lufs) else 0.0
        leveled.append(Clip(clip.samples * np.float32(gain), clip.sample_rate_hz))
    lifts = lifts_db(leveled) if len(leveled) > 1 else [0.0]
    total = np.zeros_like(first.samples)
    for clip, lift in zip(leveled, lifts, strict=True):
        total += clip.samples * np.float32(10.0 ** (lift / 20.0)) if lift else clip.samples
    return Clip(total, first.sample_rate_hz), lifts
