"""Loudness and true peak (ITU-R BS.1770-4), and bringing a clip to a loudness target.

The K-weighting is a recursive filter, and numpy has none. Run sample by sample in Python it would take minutes, so it
is written in state-space form and run over blocks: inside a block the output is a product with the (triangular)
matrix of the impulse response, between blocks four state variables are handed on, and those follow from a scan by
doubling. The result equals the sample-by-sample recursion within rounding (double precision).
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ambientgen.audio.clip import Samples
from ambientgen.audio.sound import Sound, blocks_of, read_around

Array = npt.NDArray[np.float64]

_ROW_SAMPLES = 64  # divides the blocks that sounds are read in
_ABSOLUTE_GATE_LUFS = -70.0
_RELATIVE_GATE_LU = -10.0
_HOPS_PER_GATING_BLOCK = 4  # 400 ms blocks every 100 ms: 75 % overlap
_OVERSAMPLING = 4
_PEAK_PAD_S = 0.01

_MAX_GAIN_DB = 50.0
_MAX_EXTRA_DRIVE_DB = 6.0
_NUM_MASTER_ROUNDS = 4
_LIMITER_MARGIN_DB = 0.1
_LOOK_AHEAD_S = 0.005
_RELEASE_DB_PER_S = 120.0
_GROUP_SAMPLES = 16
_GROUPS_AT_A_TIME = 1 << 17


def integrated_lufs(sound: Sound) -> float:
    """Integrated loudness by ITU-R BS.1770-4.

    Every channel counts with weight 1 (mono, or left and right). Only whole 400 ms gating blocks are read. A sound
    shorter than 400 ms has none: its loudness is that of the whole without gating.

    Returns:
        LUFS; -inf for silence, which is everything below the absolute gate of -70 LUFS (under 400 ms: nothing
        but zeros).
    """
    meter = LoudnessMeter(sound.sample_rate_hz, sound.num_channels)
    for block in blocks_of(sound):
        meter.add(block)
    return meter.lufs()


def true_peak_dbtp(sound: Sound) -> float:
    """True peak by four times oversampling (ITU-R BS.1770-4, annex 2), over all channels.

    The sound is taken to lie in silence, so that what rings beyond its ends counts.

    Returns:
        dBTP; -inf for nothing but zeros.
    """
    meter = PeakMeter(sound.sample_rate_hz, sound.num_channels)
    for block in blocks_of(sound):
        meter.add(block)
    return meter.dbtp()


class Measured(NamedTuple):
    """What `measure` found."""

    integrated_lufs: float
    peak_dbtp: float
    num_samples: int


def measure(blocks: Iterable[Samples], sample_rate_hz: int, num_channels: int) -> Measured:
    """Loudness and true peak of a clip that is read piece by piece, in bounded memory.

    Args:
        blocks: shape (num_channels, n), every one but the last a multiple of 64 samples long.
        sample_rate_hz: their rate.
        num_channels: of each block.
    """
    loudness, peak = LoudnessMeter(sample_rate_hz, num_channels), PeakMeter(sample_rate_hz, num_channels)
    num_samples = 0
    for block in blocks:
        loudness.add(block)
        peak.add(block)
        num_samples += block.shape[1]
    return Measured(loudness.lufs(), peak.dbtp(), num_samples)


def master(sound: Sound, target_lufs: float, *, ceiling_dbtp: float = -1.5, loop: bool = False) -> Sound:
    """Bring a sound to a loudness target under a true-peak ceiling.

    A constant offset is removed, then the gain set, then a look-ahead limiter turns down what would pass the ceiling
    (5 ms ahead, 120 dB/s release). What the limiter costs in loudness is given back as drive, up to 6 dB: beyond
    that a sparse sound (a fire's crackle) would be crushed, so it stays below the target instead. The ceiling always
    holds; the target holds within 0.3 LU where both can.

    Args:
        sound: what to master.
        target_lufs: integrated loudness wanted.
        ceiling_dbtp: highest true peak allowed.
        loop: True if the sound is circular; then the limiter runs across the seam.

    Returns:
        A sound of the same length that reads `sound` and changes its level as it is read. Silence stays silence, and
        nothing is raised by more than 50 dB.
    """
    centered = _Leveled(sound, _means(sound))
    lufs = integrated_lufs(centered)
    if not math.isfinite(lufs):
        return centered
    gain_db = min(target_lufs - lufs, _MAX_GAIN_DB)
    group_peaks_db = _group_peaks_db(centered, loop=loop)
    limit_db = ceiling_dbtp - _LIMITER_MARGIN_DB
    if float(group_peaks_db.max()) + gain_db <= limit_db:
        limited = centered.at(gain_db)
    else:
        limited = _limit_to(centered, group_peaks_db, gain_db, target_lufs, limit_db, loop=loop)
        # Low waves with their peaks on one side are turned down on that side alone.
        limited = _Leveled(limited, _means(limited))
    # Also what rings beyond the ends of the file counts, and what the moving gain itself has added.
    excess_db = _loop_peak_dbtp(limited, loop=loop) - ceiling_dbtp
    return limited if excess_db <= 0.0 else limited.at(limited.gain_db - excess_db - 0.01)


def quieter(sound: Sound, by_db: float) -> Sound:
    """The same sound, turned down by so many dB as it is read."""
    return _Leveled(sound, np.zeros((sound.num_channels, 1), np.float32), -by_db)


class _Leveled:
    """A sound without its offset and with a gain, which may move; worked out as it is read.

    Args:
        sound: what is read.
        means: of each channel, taken away.
        gain_db: for all of it.
        attenuation_db: taken from that: one value for each group's first sample and one for the end, with straight
            lines (in amplitude) between; None is nowhere.
    """

    def __init__(self, sound: Sound, means: Samples, gain_db: float = 0.0, attenuation_db: Samples | None = None):
        self.sample_rate_hz, self.num_channels = sound.sample_rate_hz, sound.num_channels
        self.num_samples, self.duration_s = sound.num_samples, sound.duration_s
        self.gain_db = gain_db
        self._sound, self._means, self._attenuation_db = sound, means, attenuation_db

    def at(self, gain_db: float) -> _Leveled:
        """The same with another gain."""
        return _Leveled(self._sound, self._means, gain_db, self._attenuation_db)

    def limited(self, gain_db: float, attenuation_db: Samples) -> _Leveled:
        """The same with another gain, and turned down."""
        return _Leveled(self._sound, self._means, gain_db, attenuation_db)

    def read(self, start: int, stop: int) -> Samples:
        """The samples from `start` up to `stop`, at their level."""
        centered: Samples = self._sound.read(start, stop) - self._means
        if self._attenuation_db is None:
            return centered * np.float32(10.0 ** (self.gain_db / 20.0))
        first, last = start // _GROUP_SAMPLES, -(-stop // _GROUP_SAMPLES)
        gain_db = self.gain_db - self._attenuation_db[first : last + 1].astype(np.float64)
        points = np.minimum(np.arange(first, last + 1) * _GROUP_SAMPLES, self.num_samples)
        factors = np.interp(np.arange(start, stop), points, 10.0 ** (gain_db / 20.0))
        return centered * factors.astype(np.float32)


def _means(sound: Sound) -> Samples:
    sums = np.zeros(sound.num_channels)
    for block in blocks_of(sound):
        sums += block.sum(axis=1, dtype=np.float64)
    return np.asarray(sums[:, np.newaxis] / max(sound.num_samples, 1), np.float32)


def _limit_to(
    centered: _Leveled, group_peaks_db: Samples, gain_db: float, target_lufs: float, limit_db: float, *, loop: bool
) -> _Leveled:
    """Limit, and drive harder by what is missing in loudness, a few times."""
    highest_gain_db = gain_db + _MAX_EXTRA_DRIVE_DB
    for _ in range(_NUM_MASTER_ROUNDS):
        attenuation_db = _attenuation_db(
            group_peaks_db + np.float32(gain_db - limit_db), centered.sample_rate_hz, loop=loop
        )
        limited = centered.limited(gain_db, attenuation_db)
        missing_lu = target_lufs - integrated_lufs(limited)
        drive_db = min(gain_db + missing_lu, highest_gain_db)
        if abs(missing_lu) < 0.1 or drive_db - gain_db < 0.05:
            break
        gain_db = drive_db
    return limited


class LoudnessMeter:
    """Integrated loudness of blocks in order; see `integrated_lufs`.

    Args:
        sample_rate_hz: of the blocks.
        num_channels: of the blocks.
    """

    def __init__(self, sample_rate_hz: int, num_channels: int) -> None:
        self._sample_rate_hz = sample_rate_hz
        self._rows = _row_filter(sample_rate_hz)
        self._state: Array = np.zeros((num_channels, 4))
        self._num_samples = 0
        self._hop_energies: Array = np.zeros(0)

    def add(self, block: Samples) -> None:
        """Meter the next block: shape (num_channels, n), n a multiple of 64 except for the last block."""
        num_samples = block.shape[1]
        if num_samples == 0:
            return
        weighted = self._weigh(block)
        power = np.einsum("cn,cn->n", weighted, weighted)
        self._add_to_hops(power)
        self._num_samples += num_samples

    def lufs(self) -> float:
        """Integrated loudness of everything added so far."""
        starts = _hop_starts(self._num_samples, self._sample_rate_hz)
        num_hops = len(starts) - 1
        energies = self._hop_energies
        if num_hops < _HOPS_PER_GATING_BLOCK:
            return _lufs_of(float(energies.sum()) / max(self._num_samples, 1))
        sums = np.concatenate([[0.0], np.cumsum(energies[:num_hops])])
        lengths = starts[_HOPS_PER_GATING_BLOCK:] - starts[:-_HOPS_PER_GATING_BLOCK]
        powers = (sums[_HOPS_PER_GATING_BLOCK:] - sums[:-_HOPS_PER_GATING_BLOCK]) / lengths
        powers = powers[powers > _power_of(_ABSOLUTE_GATE_LUFS)]
        if not powers.size:
            return -math.inf
        relative_gate = float(powers.mean()) * 10.0 ** (_RELATIVE_GATE_LU / 10.0)
        return _lufs_of(float(powers[powers > relative_gate].mean()))

    def _weigh(self, block: Samples) -> Array:
        """The block K-weighted; moves the filter's state on."""
        rows = self._rows
        num_channels, num_samples = block.shape
        num_tiles = -(-num_samples // (_ROW_SAMPLES * _ROW_SAMPLES))
        num_rows = num_tiles * _ROW_SAMPLES
        padded = np.zeros((num_channels, num_rows * _ROW_SAMPLES))
        padded[:, :num_samples] = block
        inputs = padded.reshape(num_channels, num_rows, _ROW_SAMPLES)
        states = np.empty((num_channels, num_rows + 1, 4))
        states[:, 0] = self._state
        states[:, 1:] = inputs @ rows.to_state
        # s[k] = u[k] + T s[k-1] for all k at once: pass j adds what lies 2^j rows back, until T^(2^j) has died away.
        transition, distance = rows.transition, 1
        while distance <= num_rows and float(np.abs(transition).max()) > 1e-20:
            states[:, distance:] += states[:, :-distance] @ transition
            transition, distance = transition @ transition, distance * 2
        self._state = states[:, num_samples // _ROW_SAMPLES].copy()
        # In square tiles: larger products wake the threads of the linear algebra library, which then wait for each
        # other on a busy machine (measured: up to ten times slower).
        tiles = padded.reshape(num_channels, num_tiles, _ROW_SAMPLES, _ROW_SAMPLES) @ rows.response
        outputs = tiles.reshape(inputs.shape)
        outputs += states[:, :-1] @ rows.from_state
        return outputs.reshape(num_channels, -1)[:, :num_samples]

    def _add_to_hops(self, power: Array) -> None:
        """Add each sample's power to its hop of 100 ms (whose length need not be a whole number of samples)."""
        begin, end = self._num_samples, self._num_samples + len(power)
        starts = _hop_starts(end, self._sample_rate_hz)
        first = int(np.searchsorted(starts, begin, side="right")) - 1
        inside = starts[first + 1 :]
        inside = inside[inside < end]
        sums = np.add.reduceat(power, np.concatenate([[0], inside - begin]))
        missing = first + len(sums) - len(self._hop_energies)
        if missing > 0:
            self._hop_energies = np.concatenate([self._hop_energies, np.zeros(missing)])
        self._hop_energies[first : first + len(sums)] += sums


class PeakMeter:
    """True peak of blocks in order; see `true_peak_dbtp`.

    Args:
        sample_rate_hz: of the blocks.
        num_channels: of the blocks.
    """

    def __init__(self, sample_rate_hz: int, num_channels: int) -> None:
        import soxr

        self._stream = soxr.ResampleStream(
            sample_rate_hz, sample_rate_hz * _OVERSAMPLING, num_channels, "float32", "HQ"
        )
        self._silence = np.zeros((math.ceil(_PEAK_PAD_S * sample_rate_hz), num_channels), np.float32)
        self._peak = 0.0
        self._feed(self._silence)

    def add(self, block: Samples) -> None:
        """Meter the next block, shape (num_channels, n)."""
        if block.shape[1]:
            self._peak = max(self._peak, float(np.abs(block).max()))
            self._feed(np.ascontiguousarray(block.T))

    def dbtp(self) -> float:
        """True peak of everything added; nothing can be added afterwards."""
        self._feed(self._silence, last=True)
        return _db(self._peak)

    def _feed(self, frames: Samples, *, last: bool = False) -> None:
        oversampled = self._stream.resample_chunk(frames, last=last)
        if oversampled.size:
            self._peak = max(self._peak, float(oversampled.max()), -float(oversampled.min()))


class _RowFilter(NamedTuple):
    """The K-weighting over rows of `_ROW_SAMPLES` samples, as right-hand factors of row vectors."""

    response: Array  # (row, row): input to output
    from_state: Array  # (4, row): state before the row to output
    to_state: Array  # (row, 4): input to the state after the row
    transition: Array  # (4, 4): state before to state after


@functools.lru_cache(maxsize=8)
def _row_filter(sample_rate_hz: int) -> _RowFilter:
    """The two biquads of BS.1770 for any rate.

    Analog parameters and the bilinear form with a free middle gain: those by which the standard's 48 kHz
    coefficients come out to their last digit (Mansbridge, Finn and Reiss, AES 132, 2012; as in libebur128).
    """
    shelf = _shelf(1681.974450955533, 3.999843853973347, 0.7071752369554196, sample_rate_hz)
    high_pass = _high_pass(38.13547087602444, 0.5003270373238773, sample_rate_hz)
    a, b, c, d = _cascade(_state_space(*shelf), _state_space(*high_pass))
    powers = [np.eye(4)]
    for _ in range(_ROW_SAMPLES):
        powers.append(a @ powers[-1])
    impulse = [d] + [float(c @ powers[lag] @ b) for lag in range(_ROW_SAMPLES - 1)]
    response = np.zeros((_ROW_SAMPLES, _ROW_SAMPLES))
    for start in range(_ROW_SAMPLES):
        response[start, start:] = impulse[: _ROW_SAMPLES - start]
    from_state = np.stack([c @ powers[i] for i in range(_ROW_SAMPLES)], axis=1)
    to_state = np.stack([powers[_ROW_SAMPLES - 1 - i] @ b for i in range(_ROW_SAMPLES)])
    return _RowFilter(response, from_state, to_state, powers[_ROW_SAMPLES].T.copy())


def _shelf(frequency_hz: float, gain_db: float, q: float, sample_rate_hz: int) -> tuple[Array, Array]:
    k = math.tan(math.pi * frequency_hz / sample_rate_hz)
    high = 10.0 ** (gain_db / 20.0)
    middle = high**0.4996667741545416
    a0 = 1.0 + k / q + k * k
    b = np.array([high + middle * k / q + k * k, 2.0 * (k * k - high), high - middle * k / q + k * k])
    return b / a0, np.array([2.0 * (k * k - 1.0), 1.0 - k / q + k * k]) / a0


def _high_pass(frequency_hz: float, q: float, sample_rate_hz: int) -> tuple[Array, Array]:
    k, k_at_48khz = (math.tan(math.pi * frequency_hz / rate_hz) for rate_hz in (sample_rate_hz, 48_000))
    a0, a0_at_48khz = 1.0 + k / q + k * k, 1.0 + k_at_48khz / q + k_at_48khz**2
    # The standard's numerator at 48 kHz is 1, -2, 1, not divided by a0, and its -0.691 counts on that gain. "The same
    # frequency response" at other rates therefore takes the 48 kHz gain along.
    return np.array([1.0, -2.0, 1.0]) * (a0_at_48khz / a0), np.array([2.0 * (k * k - 1.0), 1.0 - k / q + k * k]) / a0


_StateSpace = tuple[Array, Array, Array, float]


def _state_space(b: Array, a: Array) -> _StateSpace:
    """A biquad (a without its leading 1) in transposed direct form II."""
    return (
        np.array([[-a[0], 1.0], [-a[1], 0.0]]),
        np.array([b[1] - a[0] * b[0], b[2] - a[1] * b[0]]),
        np.array([1.0, 0.0]),
        float(b[0]),
    )


def _cascade(first: _StateSpace, second: _StateSpace) -> _StateSpace:
    a1, b1, c1, d1 = first
    a2, b2, c2, d2 = second
    a = np.block([[a1, np.zeros((2, 2))], [np.outer(b2, c1), a2]])
    return a, np.concatenate([b1, b2 * d1]), np.concatenate([d2 * c1, c2]), d1 * d2


def _hop_starts(num_samples: int, sample_rate_hz: int) -> npt.NDArray[np.int64]:
    """Where each whole 100 ms hop begins, and where the last one ends."""
    num_hops = num_samples * 10 // sample_rate_hz
    return np.round(np.arange(num_hops + 1) * (sample_rate_hz / 10)).astype(np.int64)


def _lufs_of(power: float) -> float:
    return -0.691 + 10.0 * math.log10(power) if power > 0.0 else -math.inf


def _power_of(lufs: float) -> float:
    return float(10.0 ** ((lufs + 0.691) / 10.0))


def _db(amplitude: float) -> float:
    return 20.0 * math.log10(amplitude) if amplitude > 0.0 else -math.inf


def _group_peaks_db(sound: Sound, *, loop: bool) -> Samples:
    """True peak in dB of each group of `_GROUP_SAMPLES` samples, over all channels; shape (num_groups,)."""
    import soxr

    rate_hz, num_channels, num_samples = sound.sample_rate_hz, sound.num_channels, sound.num_samples
    pad = _GROUP_SAMPLES * math.ceil(_PEAK_PAD_S * rate_hz / _GROUP_SAMPLES)
    num_groups = -(-num_samples // _GROUP_SAMPLES)
    stream = soxr.ResampleStream(rate_hz, rate_hz * _OVERSAMPLING, num_channels, "float32", "HQ")
    before, behind = _surroundings(sound, pad, loop=loop)
    per_group = _GROUP_SAMPLES * _OVERSAMPLING
    groups = np.zeros(num_groups, np.float32)
    place = -(pad // _GROUP_SAMPLES)  # the group that the next oversampled value belongs to
    rest = np.zeros(0, np.float32)
    for block in itertools.chain([before], blocks_of(sound), [behind]):
        size = np.abs(stream.resample_chunk(np.ascontiguousarray(block.T), last=block is behind))
        over_channels = functools.reduce(np.maximum, (size[:, channel] for channel in range(num_channels)))
        envelope = np.concatenate([rest, over_channels])
        whole = len(envelope) // per_group
        peaks = envelope[: whole * per_group].reshape(-1, per_group).max(axis=1, initial=0.0)
        inside = slice(max(place, 0), min(max(place + whole, 0), num_groups))
        groups[inside] = peaks[inside.start - place : inside.stop - place]
        place += whole
        rest = envelope[whole * per_group :]
    # Samples themselves count too: the resampler takes away a little near half the rate.
    first = 0
    for block in blocks_of(sound):
        edges = np.arange(0, block.shape[1], _GROUP_SAMPLES)
        sample_peaks = np.maximum.reduceat(np.abs(block).max(axis=0), edges)
        groups[first : first + len(edges)] = np.maximum(groups[first : first + len(edges)], sample_peaks)
        first += len(edges)
    return np.asarray(20.0 * np.log10(np.maximum(groups, 1e-12)), np.float32)


def _surroundings(sound: Sound, pad: int, *, loop: bool) -> tuple[Samples, Samples]:
    """What lies before and behind a sound: silence, or its own other end."""
    if not loop:
        silence = np.zeros((sound.num_channels, pad), np.float32)
        return silence, silence.copy()
    return read_around(sound, -pad, pad), read_around(sound, 0, pad)


def _attenuation_db(over_db: Samples, sample_rate_hz: int, *, loop: bool) -> Samples:
    """How much to turn down at each group's first sample (and at the end), never less than the groups beside it need.

    A straight release in dB, then the largest need within the look-ahead, then a mean over that same look-ahead: the
    mean of values that all contain a peak's need cannot fall short of it. Piece by piece, each with as much of what
    lies before it as can still be felt in it.
    """
    num_groups = len(over_db)
    reach = max(2, round(_LOOK_AHEAD_S * sample_rate_hz / _GROUP_SAMPLES))
    release_db = _RELEASE_DB_PER_S * _GROUP_SAMPLES / sample_rate_hz  # from one group to the next
    before = math.ceil(max(float(over_db.max()), 0.0) / release_db) + reach
    window = np.hanning(reach + 3)[1:-1]
    window /= window.sum()
    attenuation_db = np.empty(num_groups + 1, np.float32)
    for start in range(0, num_groups + 1, _GROUPS_AT_A_TIME):
        stop = min(start + _GROUPS_AT_A_TIME, num_groups + 1)
        place = np.arange(start - before - 1, stop + reach)
        over = over_db[place % num_groups].astype(np.float64)
        if not loop:
            over[(place < 0) | (place >= num_groups)] = 0.0
        need = np.maximum(np.maximum(over[:-1], over[1:]), 0.0)  # a point lies between two groups
        slope = np.arange(len(need)) * release_db
        released = np.maximum.accumulate(need + slope) - slope
        ahead = np.lib.stride_tricks.sliding_window_view(released, reach + 1).max(axis=1)
        smooth = np.convolve(ahead, window, mode="valid")
        attenuation_db[start:stop] = smooth[before - reach : before - reach + stop - start]
    return attenuation_db


def _loop_peak_dbtp(sound: Sound, *, loop: bool) -> float:
    """True peak, for a loop with its own ends around it and also as the file that starts and stops."""
    alone = true_peak_dbtp(sound)
    return max(alone, float(_group_peaks_db(sound, loop=True).max())) if loop else alone
