"""Change of sample rate and of channel count."""

from __future__ import annotations

import numpy as np

from ambientgen.audio.clip import Clip, Samples

#: How much of a loop's other end is put before and behind it: longer than the resampler's filter at any usual ratio.
_WRAP_SAMPLES = 4096


def resample(clip: Clip, sample_rate_hz: int, *, loop: bool = False) -> Clip:
    """Bring a clip to another sample rate (soxr, high quality).

    Args:
        clip: any number of channels.
        sample_rate_hz: the wanted rate; a clip that has it already is returned as it is.
        loop: True if the clip is circular, so that its end still joins its beginning afterwards.

    Returns:
        A clip of exactly `round(num_samples * sample_rate_hz / old rate)` samples.

    Raises:
        ValueError: if the rate is not positive.
    """
    if sample_rate_hz <= 0:
        raise ValueError(f"sample_rate_hz must be positive, not {sample_rate_hz}")
    if sample_rate_hz == clip.sample_rate_hz:
        return clip
    num_samples = round(clip.num_samples * sample_rate_hz / clip.sample_rate_hz)
    if num_samples == 0:
        return Clip(np.zeros((clip.num_channels, 0), np.float32), sample_rate_hz)
    if loop:
        return Clip(_circular(clip, num_samples), sample_rate_hz)
    resampled = _soxr(clip.samples, clip.sample_rate_hz, sample_rate_hz)[:, :num_samples]
    missing = num_samples - resampled.shape[1]
    return Clip(np.ascontiguousarray(np.pad(resampled, ((0, 0), (0, missing)))), sample_rate_hz)


def to_stereo(clip: Clip) -> Clip:
    """A two-channel clip: mono is duplicated, stereo returned as it is.

    Raises:
        ValueError: if the clip has neither one nor two channels.
    """
    if clip.num_channels == 2:
        return clip
    if clip.num_channels != 1:
        raise ValueError(f"a clip of {clip.num_channels} channels cannot become stereo")
    return Clip(np.repeat(clip.samples, 2, axis=0), clip.sample_rate_hz)


def _circular(clip: Clip, num_samples: int) -> Samples:
    """One lap of a circular clip in `num_samples` samples.

    The ratio is `num_samples` to the old count, not the ratio of the rates: only so is a lap a whole number of new
    samples, whatever its length. It differs by less than one sample in a lap.
    """
    ratio = num_samples / clip.num_samples
    wrapped = np.pad(clip.samples, ((0, 0), (_WRAP_SAMPLES, _WRAP_SAMPLES)), mode="wrap")
    start = round(_WRAP_SAMPLES * ratio)
    resampled = _soxr(wrapped, clip.num_samples, num_samples)[:, start : start + num_samples]
    return np.ascontiguousarray(resampled)


def _soxr(samples: Samples, old_rate: float, new_rate: float) -> Samples:
    import soxr

    resampled = soxr.resample(np.ascontiguousarray(samples.T), old_rate, new_rate, quality="HQ")
    return np.asarray(resampled, np.float32).T
