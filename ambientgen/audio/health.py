"""Is a take broken? Plain faults, and a score to rank candidates by. How each is found: `docs/health.md`."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ambientgen.audio import artifacts
from ambientgen.audio.clip import Clip, Samples
from ambientgen.audio.sound import LONGEST_IN_MEMORY_S, Sound

Array = npt.NDArray[np.float64]

_NOT_A_NUMBER, _SILENT, _COLLAPSED = "not a number", "silent", "mostly silent / level collapse"
_CLIPPED, _OFFSET, _DROPOUT, _CLICK = "clipped", "offset (DC)", "dropout", "click"
_HUM, _STUCK = "mains hum", "stuck repetition"
#: In the order in which they are told; the first two are told alone.
_FAULTS = (_CLIPPED, _OFFSET, _COLLAPSED, _DROPOUT, _CLICK, _HUM, _STUCK)

#: Far beyond any sound, and its square still fits float32.
_LOUDEST = 1e9
_WINDOW_S = 0.05
_SILENT_DBFS = -70.0
_DEAD_BELOW_LOUDEST_DB = 60.0
_DEAD_DBFS = -85.0
_MAX_DEAD_STRETCH = 0.6
_MAX_DEAD_SHARE = 0.85
_MAX_CLIPPED_SHARE = 0.001
_MIN_OFFSET = 0.004
_NUM_SPECTRUM_SAMPLES = 8192
_MAX_SPECTRA = 24


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


def check(sound: Sound, *, tonal: bool = True) -> Health:
    """Look for what no ambience has.

    Broken numbers, silence, clipping, an offset, a level that dies away, dropouts, clicks, a stuck repetition, and,
    where no steady tone belongs to the sound, mains hum.

    Dead time is what lies 60 dB under the loudest 50 ms. Pauses are normal (crickets, distant thunder), so only a
    sound that is dead for 60 % of its time at a stretch, or for 85 % in all, is at fault. Clipping is flat tops: equal
    neighbors at the sound's own peak, which the sharpest crackle does not have.

    Args:
        sound: any rate and number of channels. A long one is read a minute at a time, and each minute is judged.
        tonal: False if no steady tone belongs to the sound. Only then is mains hum a fault: a fan, a refrigerator or a
            drone on 50 Hz cannot be told from it by ear or by measure, so the asker must know.
    """
    num_pieces = max(1, math.ceil(sound.duration_s / LONGEST_IN_MEMORY_S))
    bounds = [sound.num_samples * number // num_pieces for number in range(num_pieces + 1)]
    found: set[str] = set()
    pieces: list[_Piece] = []
    for start, stop in itertools.pairwise(bounds):
        clip = Clip(sound.read(start, stop), sound.sample_rate_hz)
        piece = _measure(clip)
        if piece is None:
            return Health((_NOT_A_NUMBER,), -2.0)
        pieces.append(piece)
        if piece.audible:
            found |= _artifacts(clip, piece, tonal=tonal)
    if not any(piece.audible for piece in pieces):
        return Health((_SILENT,), -1.0)
    levels_db = np.concatenate([piece.levels_db for piece in pieces])
    dead = levels_db < max(float(levels_db.max()) - _DEAD_BELOW_LOUDEST_DB, _DEAD_DBFS)
    if _longest_run(dead) > _MAX_DEAD_STRETCH * len(dead) or float(dead.mean()) > _MAX_DEAD_SHARE:
        found.add(_COLLAPSED)
    score = 1.0 - len(found)
    score -= 0.3 * min(1.0, max(piece.clipped_share for piece in pieces) / _MAX_CLIPPED_SHARE)
    score -= 0.3 * float(dead.mean())
    score -= 0.2 * min(piece.spectral_collapse for piece in pieces)
    score -= 0.2 * _stillness(levels_db)
    return Health(tuple(fault for fault in _FAULTS if fault in found), round(score, 4))


@dataclass(frozen=True, slots=True)
class _Piece:
    """What is measured of up to a minute.

    Attributes:
        levels_db: of each 50 ms around that window's own mean, in dBFS: a constant offset is no sound.
        offset: True if the mean is large in itself and against the sound: slow rumble has some mean over a short take.
        clipped_share: of the samples in flat tops.
        spectral_collapse: 0 for sound spread over the spectrum, 1 for all of it in a few lines.
    """

    levels_db: Array
    offset: bool
    clipped_share: float
    spectral_collapse: float

    @property
    def audible(self) -> bool:
        return float(self.levels_db.max(initial=-math.inf)) >= _SILENT_DBFS


def _measure(clip: Clip) -> _Piece | None:
    """The figures of a piece; None if it is not made of numbers that can be."""
    window = max(1, round(_WINDOW_S * clip.sample_rate_hz))
    num_windows = -(-clip.num_samples // window)
    power = np.zeros(num_windows)
    offset, num_clipped = False, 0
    for channel in clip.samples if clip.num_samples else ():
        low, high = float(channel.min()), float(channel.max())
        if not max(-low, high) < _LOUDEST:  # true for NaN
            return None
        sums, squares = _window_sums(channel, window)
        mean = float(sums.sum()) / channel.size
        spread = math.sqrt(max(0.0, float(squares.sum()) / channel.size - mean * mean))
        if abs(mean) > 0.5 * spread:  # too large beside the sound for the digits of float32
            sums, squares = _window_sums(channel - np.float32(mean), window)
            spread = math.sqrt(float(squares.sum()) / channel.size)
        offset |= abs(mean) > max(_MIN_OFFSET, 0.6 * spread)
        lengths = np.full(num_windows, window)
        lengths[-1] = channel.size - (num_windows - 1) * window
        power += np.maximum(squares - sums * sums / lengths, 0.0) / lengths
        num_clipped += _num_clipped(channel, max(-low, high))
    return _Piece(
        levels_db=10.0 * np.log10(np.maximum(power / max(1, clip.num_channels), 1e-20)),
        offset=offset,
        clipped_share=num_clipped / max(1, clip.samples.size),
        spectral_collapse=_spectral_collapse(clip.samples),
    )


def _window_sums(channel: Samples, window: int) -> tuple[Array, Array]:
    """The sum of each window, and that of its squares; the last one may be shorter."""
    whole = channel[: channel.size // window * window].reshape(-1, window)
    rest = channel[whole.size :]
    sums, squares = whole.sum(axis=1), np.einsum("ij,ij->i", whole, whole)
    if rest.size:
        sums, squares = np.append(sums, rest.sum()), np.append(squares, np.dot(rest, rest))
    return sums.astype(np.float64), squares.astype(np.float64)


def _artifacts(clip: Clip, piece: _Piece, *, tonal: bool) -> set[str]:
    """The faults of a piece that can be heard."""
    found = {
        _CLIPPED: piece.clipped_share > _MAX_CLIPPED_SHARE,
        _OFFSET: piece.offset,
        _DROPOUT: any(artifacts.has_dropout(channel, clip.sample_rate_hz) for channel in clip.samples),
        _CLICK: any(artifacts.has_click(channel) for channel in clip.samples),
        _HUM: not tonal and artifacts.has_hum(clip),
        _STUCK: artifacts.is_stuck(clip),
    }
    return {fault for fault, is_found in found.items() if is_found}


def _num_clipped(channel: Samples, peak: float) -> int:
    """How many samples are at the very peak, or in flat tops: near it, and equal to their left neighbor."""
    if peak <= 0.0:
        return 0
    near = np.flatnonzero(np.abs(channel) >= np.float32(0.985 * peak))
    inner = near[near > 0]
    num_tops = int(np.count_nonzero(np.abs(channel[inner] - channel[inner - 1]) <= 2e-6 * peak))
    num_at_peak = int(np.count_nonzero(np.abs(channel[near]) >= (1.0 - 2e-7) * peak))
    if num_at_peak <= max(num_tops, _MAX_CLIPPED_SHARE * channel.size):
        return num_tops
    # No other size may be nearly as frequent, as it is in an exact tone.
    size = np.abs(channel)
    _, counts = np.unique(size[(size > 0.5 * peak) & (size < 0.99 * peak)], return_counts=True)
    return num_at_peak if num_at_peak > 10 * int(counts.max(initial=0)) else num_tops


def _longest_run(flags: npt.NDArray[np.bool_]) -> int:
    """The most flags in a row."""
    ends = np.flatnonzero(~np.concatenate([[False], flags, [False]]))
    return int(np.diff(ends).max() - 1) if len(ends) > 1 else len(flags)


def _spectral_collapse(samples: Samples) -> float:
    """0 for sound spread over the spectrum, 1 for all of it in a few lines (mean spectrum, 99 % of the energy)."""
    size = min(_NUM_SPECTRUM_SAMPLES, samples.shape[1])
    if size == 0:
        return 1.0
    frames = samples[:, : samples.shape[1] // size * size].reshape(len(samples), -1, size)
    frames = frames[:, :: -(-frames.shape[1] // _MAX_SPECTRA)].mean(axis=0)
    spectra = np.fft.rfft(frames * np.hanning(size).astype(np.float32), axis=1)
    energy = np.sort((np.square(spectra.real) + np.square(spectra.imag)).mean(axis=0, dtype=np.float64))[::-1]
    total = float(energy.sum())
    if total <= 0.0:
        return 1.0
    num_lines = int(np.searchsorted(np.cumsum(energy), 0.99 * total)) + 1
    few = 0.01 * len(energy)
    return float(np.clip(1.0 - num_lines / few, 0.0, 1.0))


def _stillness(levels_db: Array) -> float:
    """0 for levels that move as noise does or more, 1 for levels that do not move at all (less than 0.05 dB)."""
    spread_db = float(np.std(levels_db))
    return float(np.clip(1.0 - spread_db / 0.05, 0.0, 1.0))
