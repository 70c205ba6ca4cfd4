"""Can every layer of a mix be heard? How far each must be raised so that the others do not cover it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ambientgen.audio.sound import Sound, blocks_of

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


def lifts_db(stems: Sequence[Sound], factors: Sequence[float]) -> list[float]:
    """How much each stem must be raised to be heard in half of the time in which it sounds.

    Args:
        stems: all of one rate and length.
        factors: what each is multiplied by in the mix.

    Returns:
        0 for each that is heard already; at most 9 dB, as a layer is not to become another's master.
    """
    powers = [_band_powers(stem) * factor**2 for stem, factor in zip(stems, factors, strict=True)]
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


def _band_powers(sound: Sound) -> npt.NDArray[np.float64]:
    """Power of each frame in each band, shape (num_frames, num_bands)."""
    edges = np.searchsorted(np.fft.rfftfreq(_FRAME, 1.0 / sound.sample_rate_hz), _EDGES_HZ)
    window = np.hanning(_FRAME).astype(np.float32)
    powers = []
    for block in blocks_of(sound, 256 * _FRAME):  # a long scene's spectra would fill the memory
        mono = block.mean(axis=0)
        frames = np.pad(mono, (0, -mono.size % _FRAME)).reshape(-1, _FRAME)
        spectra = np.abs(np.fft.rfft(frames * window)) ** 2
        powers.append(np.add.reduceat(spectra[:, : edges[-1]], edges[:-1], axis=1))
    return np.asarray(np.concatenate(powers), np.float64) / _FRAME**2
