"""Can every layer of a mix be heard? How far each must be raised so that the others do not cover it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ambientgen.audio.clip import Clip

_FRAME = 4096
#: Octave bands from 88 Hz to 11.3 kHz; what lies beyond carries little of any ambience.
_EDGES_HZ = 62.5 * 2.0 ** np.arange(0.5, 8.0)
#: A noise in a band of the masker's noise is just heard 4 to 6 dB below it (H. Fastl and E. Zwicker, *Psychoacoustics*,
#: 2007, ch. 4); events need to stand out a little more to be told from the bed.
_HEARD_FROM_DB = -4.0
#: A frame counts as the layer sounding if it lies within this of the layer's loudest, and a band as carrying its sound
#: if within this of the frame's loudest.
_ACTIVE_WITHIN_DB = 20.0
_MAX_LIFT_DB = 9.0
_FAINTEST = 1e-12


def lifts_db(stems: Sequence[Clip]) -> list[float]:
    """How much each stem must be raised to be heard in half of the time in which it sounds.

    Args:
        stems: at the levels they have in the mix, all of one rate and length.

    Returns:
        0 for each that is heard already; at most 9 dB, as a layer is not to become another's master.
    """
    powers = [_band_powers(stem) for stem in stems]
    total = np.sum(powers, axis=0)
    return [_lift_db(power, total - power) for power in powers]


def _lift_db(power: npt.NDArray[np.float64], others: npt.NDArray[np.float64]) -> float:
    level = power.sum(axis=1)
    if level.max() <= _FAINTEST:
        return 0.0  # silence is nobody's fault here
    active = level >= level.max() * 10.0 ** (-_ACTIVE_WITHIN_DB / 10.0)
    ratio_db = 10.0 * np.log10((power[active] + _FAINTEST) / (np.maximum(others[active], 0.0) + _FAINTEST))
    carries = power[active] >= power[active].max(axis=1, keepdims=True) * 10.0 ** (-_ACTIVE_WITHIN_DB / 10.0)
    best_db = float(np.median(np.where(carries, ratio_db, -np.inf).max(axis=1)))
    return round(float(np.clip(_HEARD_FROM_DB - best_db, 0.0, _MAX_LIFT_DB)), 1)


def _band_powers(clip: Clip) -> npt.NDArray[np.float64]:
    """Power of each frame in each band, shape (num_frames, num_bands)."""
    mono = clip.samples.mean(axis=0)
    frames = np.pad(mono, (0, -mono.size % _FRAME)).reshape(-1, _FRAME)
    edges = np.searchsorted(np.fft.rfftfreq(_FRAME, 1.0 / clip.sample_rate_hz), _EDGES_HZ)
    window = np.hanning(_FRAME).astype(np.float32)
    powers = np.empty((len(frames), len(edges) - 1))
    for start in range(0, len(frames), 256):  # a long scene's spectra would fill the memory
        spectra = np.abs(np.fft.rfft(frames[start : start + 256] * window)) ** 2
        powers[start : start + 256] = np.add.reduceat(spectra[:, : edges[-1]], edges[:-1], axis=1)
    return powers / _FRAME**2
