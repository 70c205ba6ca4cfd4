"""Longer than a take: grains of it on a circle."""

from __future__ import annotations

import numpy as np

from ambientgen.audio.clip import Clip, Samples
from ambientgen.audio.loop import crossfade, make_loop

_GRAIN_S = 2.5
_FADE_S = 0.6
_MAX_LEVELING_DB = 4.0
_MIN_OVERLAP_S = 0.5


def extend(clip: Clip, num_samples: int, *, seed: int, loop: bool) -> Clip:
    """Make a clip of exactly `num_samples` from a shorter (or longer) one.

    Random grains of 2.5 s follow each other with 0.6 s equal-power fades on a circle, each brought towards the
    clip's mean level (by at most 4 dB, so that silence between events stays). The clip is drawn from evenly: every
    part is used before one comes again. A clip shorter than 5 s gives grains of half its length.

    Args:
        clip: what to draw from.
        num_samples: wanted length.
        seed: same clip, length and seed: same result.
        loop: True if the end must join the beginning.

    Returns:
        A clip of the same rate and channels. If the clip is long enough already it is cut, or, for a loop, joined by
        a crossfade if at least half a second is left over for it.

    Raises:
        ValueError: if the clip is empty or `num_samples` is not positive.
    """
    if clip.num_samples == 0 or num_samples <= 0:
        raise ValueError(f"{clip.num_samples} samples cannot become {num_samples}")
    spare = clip.num_samples - num_samples
    if spare >= 0 and not loop:
        return Clip(clip.samples[:, :num_samples].copy(), clip.sample_rate_hz)
    if spare >= _MIN_OVERLAP_S * clip.sample_rate_hz:
        overlap = min(spare, clip.sample_rate_hz, num_samples)
        return make_loop(Clip(clip.samples[:, : num_samples + overlap], clip.sample_rate_hz), num_samples)
    if clip.num_samples < 16 or num_samples < 16:
        return Clip(np.resize(clip.samples.T, (num_samples, clip.num_channels)).T.copy(), clip.sample_rate_hz)
    return Clip(_grains_on_a_circle(clip, num_samples, np.random.default_rng(seed)), clip.sample_rate_hz)


def _grains_on_a_circle(clip: Clip, num_samples: int, rng: np.random.Generator) -> Samples:
    """Grain after grain; the last one's end fades into the first one's beginning."""
    grain = min(round(_GRAIN_S * clip.sample_rate_hz), clip.num_samples // 2, num_samples)
    fade = max(1, round(grain * _FADE_S / _GRAIN_S))
    num_grains = max(1, round(num_samples / (grain - fade)))
    # Equal shares of the circle; each grain reaches its fade into the next one's share.
    edges = np.linspace(0, num_samples, num_grains + 1).astype(np.int64)
    longest = int(np.diff(edges).max()) + fade
    if longest > clip.num_samples:
        num_grains += 1
        edges = np.linspace(0, num_samples, num_grains + 1).astype(np.int64)
        longest = int(np.diff(edges).max()) + fade
    starts = _draw_starts(clip.num_samples - longest, num_grains, rng)
    mean_power = float(np.mean(np.square(clip.samples, dtype=np.float64)))
    pieces = [
        _leveled(clip.samples[:, start : start + length + fade], mean_power)
        for start, length in zip(starts, np.diff(edges), strict=True)
    ]
    circle = np.empty((clip.num_channels, num_samples), np.float32)
    for index, (piece, begin, end) in enumerate(zip(pieces, edges[:-1], edges[1:], strict=True)):
        previous = pieces[index - 1]
        joined = min(fade, int(end - begin))
        circle[:, begin:end] = piece[:, : end - begin]
        tail = previous[:, previous.shape[1] - fade :][:, :joined]
        circle[:, begin : begin + joined] = crossfade(tail, piece[:, :joined])
    return circle


def _draw_starts(highest: int, num_grains: int, rng: np.random.Generator) -> list[int]:
    """Where the grains begin in the clip: shuffled strata, so that near grains come from far places."""
    starts: list[int] = []
    num_strata = 8
    while len(starts) < num_grains:
        strata = rng.permutation(num_strata)
        if starts and strata[0] == min(num_strata - 1, starts[-1] * num_strata // (highest + 1)):
            strata = np.roll(strata, -1)
        starts.extend(int((stratum + rng.random()) * (highest + 1) / num_strata) for stratum in strata)
    return [min(start, highest) for start in starts[:num_grains]]


def _leveled(grain: Samples, mean_power: float) -> Samples:
    """A grain brought towards the clip's mean level."""
    power = float(np.mean(np.square(grain, dtype=np.float64)))
    if power <= 0.0 or mean_power <= 0.0:
        return grain
    gain_db = 10.0 * np.log10(mean_power / power)
    return grain * np.float32(10.0 ** (np.clip(gain_db, -_MAX_LEVELING_DB, _MAX_LEVELING_DB) / 20.0))
