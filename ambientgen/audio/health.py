"""Is a take broken? Plain faults, and a score to rank candidates by. How each is found: `docs/health.md`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ambientgen.audio import artifacts
from ambientgen.audio.clip import Clip, Samples

_WINDOW_S = 0.05
_SILENT_DBFS = -70.0
_DEAD_BELOW_LOUDEST_DB = 60.0
_DEAD_DBFS = -85.0
_MAX_DEAD_STRETCH = 0.6
_MAX_DEAD_SHARE = 0.85
_MAX_CLIPPED_SHARE = 0.001
_MIN_OFFSET = 0.004
_NUM_SPECTRUM_SAMPLES = 8192


@dataclass(frozen=True, slots=True)
class Health:
    """What `check` found.

    Attributes:
        faults: in plain words; empty if the clip is sound.
        score: higher is better. 1 is a clip without blemish; taken off are 1 for each fault, up to 0.3 for clipping
            below the fault's limit, up to 0.3 for the share of dead time, up to 0.2 for a spectrum that has fallen
            together to a few lines, and up to 0.2 for a level that stands still (a stuck hum).
    """

    faults: tuple[str, ...]
    score: float

    @property
    def ok(self) -> bool:
        """True if there is no fault."""
        return not self.faults


def check(clip: Clip, *, tonal: bool = True) -> Health:
    """Look for what no ambience has.

    Broken numbers, silence, clipping, an offset, a level that dies away, dropouts, clicks, a stuck repetition, and,
    where no steady tone belongs to the sound, mains hum.

    Dead time is what lies 60 dB under the loudest 50 ms. Pauses are normal (crickets, distant thunder), so only a
    clip that is dead for 60 % of its time at a stretch, or for 85 % in all, is at fault. Clipping is flat tops: equal
    neighbors at the clip's own peak, which the sharpest crackle does not have.

    Args:
        clip: any rate and number of channels.
        tonal: False if no steady tone belongs to the sound. Only then is mains hum a fault: a fan, a refrigerator or a
            drone on 50 Hz cannot be told from it by ear or by measure, so the asker must know.
    """
    samples = clip.samples
    if not samples.size:
        return Health(("silent",), -1.0)
    if not np.isfinite(samples).all():
        return Health(("not a number",), -2.0)
    levels_db = _levels_db(clip)
    if float(levels_db.max()) < _SILENT_DBFS:
        return Health(("silent",), -1.0)
    faults: list[str] = []
    clipped = _clipped_share(samples)
    if clipped > _MAX_CLIPPED_SHARE:
        faults.append("clipped")
    if _has_offset(samples):
        faults.append("offset (DC)")
    dead = levels_db < max(float(levels_db.max()) - _DEAD_BELOW_LOUDEST_DB, _DEAD_DBFS)
    if _longest_run(dead) > _MAX_DEAD_STRETCH * len(dead) or float(dead.mean()) > _MAX_DEAD_SHARE:
        faults.append("mostly silent / level collapse")
    if any(artifacts.has_dropout(channel, clip.sample_rate_hz) for channel in samples):
        faults.append("dropout")
    if any(artifacts.has_click(channel) for channel in samples):
        faults.append("click")
    if not tonal and artifacts.has_hum(clip):
        faults.append("mains hum")
    if artifacts.is_stuck(clip):
        faults.append("stuck repetition")
    score = 1.0 - len(faults)
    score -= 0.3 * min(1.0, clipped / _MAX_CLIPPED_SHARE)
    score -= 0.3 * float(dead.mean())
    score -= 0.2 * _spectral_collapse(samples)
    score -= 0.2 * _stillness(levels_db)
    return Health(tuple(faults), round(score, 4))


def _levels_db(clip: Clip) -> npt.NDArray[np.float64]:
    """Level of each 50 ms around that window's own mean, in dBFS: a constant offset is no sound."""
    window = max(1, round(_WINDOW_S * clip.sample_rate_hz))
    edges = np.arange(0, clip.num_samples, window)
    lengths = np.diff(np.append(edges, clip.num_samples))
    power = np.zeros(len(edges))
    for channel in clip.samples:
        sums = np.add.reduceat(channel, edges, dtype=np.float64)
        squares = np.add.reduceat(np.square(channel, dtype=np.float64), edges)
        power += np.maximum(squares - sums * sums / lengths, 0.0)
    return np.asarray(10.0 * np.log10(np.maximum(power / (lengths * clip.num_channels), 1e-20)))


def _clipped_share(samples: Samples) -> float:
    """Share of samples at the channel's very peak, or in flat tops: near it, and equal to their left neighbor."""
    flat = 0
    for channel in samples:
        size = np.abs(channel)
        peak = float(size.max())
        if peak > 0.0:
            steps = np.abs(np.diff(channel))
            tops = int(np.count_nonzero((size[1:] >= 0.985 * peak) & (steps <= 2e-6 * peak)))
            flat += max(tops, _num_piled_up(size, peak))
    return flat / samples.size


def _num_piled_up(size: Samples, peak: float) -> int:
    """How many samples have the peak's very size, if no other size is nearly as frequent (as in an exact tone)."""
    at_peak = int(np.count_nonzero(size >= (1.0 - 2e-7) * peak))
    if at_peak <= _MAX_CLIPPED_SHARE * size.size:
        return 0
    _, counts = np.unique(size[(size > 0.5 * peak) & (size < 0.99 * peak)], return_counts=True)
    return at_peak if at_peak > 10 * int(counts.max(initial=0)) else 0


def _has_offset(samples: Samples) -> bool:
    """Large in itself and against the sound: slow rumble has some mean over a short take."""
    means = np.abs(samples.mean(axis=1, dtype=np.float64))
    spreads = samples.std(axis=1, dtype=np.float64)
    return bool(np.any((means > _MIN_OFFSET) & (means > 0.6 * spreads)))


def _longest_run(flags: npt.NDArray[np.bool_]) -> int:
    ends = np.flatnonzero(~np.concatenate([[False], flags, [False]]))
    return int(np.diff(ends).max() - 1) if len(ends) > 1 else len(flags)


def _spectral_collapse(samples: Samples) -> float:
    """0 for sound spread over the spectrum, 1 for all of it in a few lines (mean spectrum, 99 % of the energy)."""
    mono = samples.mean(axis=0)
    size = min(_NUM_SPECTRUM_SAMPLES, len(mono))
    frames = mono[: len(mono) // size * size].reshape(-1, size)
    frames = frames[:: max(1, len(frames) // 64)]
    energy = np.sort(np.square(np.abs(np.fft.rfft(frames * np.hanning(size), axis=1))).mean(axis=0))[::-1]
    total = float(energy.sum())
    if total <= 0.0:
        return 1.0
    num_lines = int(np.searchsorted(np.cumsum(energy), 0.99 * total)) + 1
    few = 0.01 * len(energy)
    return float(np.clip(1.0 - num_lines / few, 0.0, 1.0))


def _stillness(levels_db: npt.NDArray[np.float64]) -> float:
    """0 for levels that move as noise does or more, 1 for levels that do not move at all (less than 0.05 dB)."""
    spread_db = float(np.std(levels_db))
    return float(np.clip(1.0 - spread_db / 0.05, 0.0, 1.0))
