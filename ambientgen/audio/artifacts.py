"""What processing leaves in a sound and nature does not: dropouts, clicks, mains hum, a stuck repetition.

Each function answers for one of them; `ambientgen.audio.health` puts them together, and `docs/health.md` tells how each
works and how well.

Sources: S. V. Vaseghi and P. J. W. Rayner, "Detection and suppression of impulsive noise in speech communication
systems" (1990), and S. J. Godsill and P. J. W. Rayner, *Digital Audio Restoration* (1998): clicks against a linear
predictor; C. H. Knapp and G. C. Carter, "The generalized correlation method for estimation of time delay" (1976):
whitening before correlating.
"""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from ambientgen.audio.clip import Clip, Samples

Array = npt.NDArray[np.float64]

#: OpenBLAS takes one core for so many multiplications.
_MAX_PRODUCT = 1 << 18

# Dropouts: how long, how far below the sound, and how much of its level the sound keeps up to the edge.
_GAP_S = 0.002
_GAP_BELOW_SOUND = 1e-3
_EDGE_S = 0.001
_BESIDE_S = 0.01
_MIN_EDGE_LEVEL = 0.1
_MIN_STEP = 30.0
_RHYTHM_GAPS = 8

# Clicks. The F ratio of white noise alone reaches 15; the sharpest events of recordings reach 60.
_BLOCK_SAMPLES = 1 << 18
_LPC_ORDER = 16
_LPC_FRAME = 1024
_CELL = 32
_CLICK_SAMPLES = 2
_EVENT_SAMPLES = 256
_NUM_SUSPECTS = 48
_MIN_CLICK_F = 60.0
_SIDE_SAMPLES = 8
_OWN_RANK = 12
_CLICK_ABOVE_OWN = 3.5
_MIN_CLICK_HEIGHT = 6.0
_MIN_OVER_ONSET = 0.7
_MAX_REST = 4.0

# Hum. By chance no line of noise stands out by more than 9 dB in four of five frames.
_MAINS_HZ = (50.0, 60.0)
_NUM_HARMONICS = 8
_HUM_FRAME_S = 1.0
_MIN_LINE_DB = 9.0
_MIN_HUM_DB = 24.0

# Stuck repetition. What does not repeat is alike by 0.4 at most.
_REPEAT_RATE_HZ = 8000
_REPEAT_CHUNK = 1 << 16
_REPEAT_CELL = 32
_SHORTEST_REPEAT_S = 0.05
_LONGEST_REPEAT_S = 2.0
_MIN_REPEATED_S = 0.5
_MIN_REPEATED_LAGS = 2.5
_MIN_LIKENESS = 0.5
_WHITE_WIDTH_HZ = 80.0
_MAX_LINE = 10.0
_RAMP_S = 0.2
_LOUDEST_OF_MEDIAN = 6.0
_NUM_LAGS = 24
_PEAK_LAGS = 17
_PEAK_MEAN = np.full(_PEAK_LAGS, 1.0 / _PEAK_LAGS, np.float32)
_PEAK_OF_MEDIAN = 8.0


# Dropouts --------------------------------------------------------------------------------------------------------


def has_dropout(channel: Samples, sample_rate_hz: int) -> bool:
    """True if next to nothing lasts for 2 ms or more, with sound right up to both of its edges.

    A sound that dies away and comes again has one soft edge. One that is cut into pieces at an even pace (a synthetic
    chirp) has that as its rhythm.
    """
    edge, beside = (max(4, round(seconds * sample_rate_hz)) for seconds in (_EDGE_S, _BESIDE_S))
    starts, stops = _gaps(channel, max(16, round(_GAP_S * sample_rate_hz)))
    inside = (starts >= beside) & (stops <= channel.size - beside)
    cuts = [
        start
        for start, stop in zip(starts[inside].tolist(), stops[inside].tolist(), strict=True)
        if min(
            _edge_level(channel[start - beside : start], channel[start - edge : start]),
            _edge_level(channel[stop : stop + beside], channel[stop : stop + edge]),
        )
        > _MIN_STEP * float(np.abs(channel[start:stop]).max())
    ]
    if len(cuts) < _RHYTHM_GAPS:
        return bool(cuts)
    steps = np.diff(cuts)
    return bool(np.mean(np.abs(steps - np.median(steps)) < 0.05 * np.median(steps)) < 0.5)


def _edge_level(beside: Samples, edge: Samples) -> float:
    """The level of the sound beside a gap, or 0 if it does not hold up to its edge."""
    level = _level(beside)
    return level if _level(edge) > _MIN_EDGE_LEVEL * level else 0.0


def _level(part: Samples) -> float:
    """RMS."""
    return float(np.sqrt(np.square(part).sum(dtype=np.float64) / max(1, part.size)))


def _gaps(channel: Samples, num_samples: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Where next to nothing lasts for at least so many samples: starts and stops."""
    floor = _GAP_BELOW_SOUND * _level(channel)
    some = np.abs(channel[:: num_samples // 4]) < floor
    if not np.any(some[:-2] & some[1:-1] & some[2:]):  # every gap would hold three of these in a row
        return np.zeros(0, np.intp), np.zeros(0, np.intp)
    quiet = np.abs(channel) < floor
    bounds = np.flatnonzero(np.diff(np.concatenate([[False], quiet, [False]])))
    starts, stops = bounds[::2], bounds[1::2]
    long = stops - starts >= num_samples
    return starts[long], stops[long]


# Clicks ----------------------------------------------------------------------------------------------------------


def has_click(channel: Samples) -> bool:
    """True if somewhere one or two wrong samples explain what a linear predictor did not foresee.

    A wrong sample leaves the predictor's own impulse response in its error, and nothing else. A drop or a crackle,
    however sharp, rings on in its own way, and where there is one so sharp there are more: so a click has to be a
    better explanation by far than it is of the sound's own sharpest events. And it has to be loud.
    """
    level = _level(channel)
    num_blocks = -(-channel.size // _BLOCK_SAMPLES)
    bounds = [channel.size * number // num_blocks for number in range(num_blocks + 1)]
    for start, stop in itertools.pairwise(bounds):
        ratios, heights = _spikes(channel[max(0, start - 8 * _CELL) : stop])
        if ratios.size > _OWN_RANK:
            own = np.sort(ratios)[-_OWN_RANK]
            if np.any((ratios > max(_MIN_CLICK_F, _CLICK_ABOVE_OWN * own)) & (heights > _MIN_CLICK_HEIGHT * level)):
                return True
    return False


def _spikes(block: Samples) -> tuple[Array, Array]:
    """A block's most suspicious spots: how well one or two wrong samples explain each (an F ratio), and how wrong."""
    if block.size < _LPC_FRAME + 16 * _CELL:
        return np.zeros(0), np.zeros(0)
    predictor = _predictor(block)
    errors = _errors(block, predictor)
    power = np.sum(np.square(errors), axis=0)
    peak = np.square(np.abs(errors).max(axis=0))
    pairs = power[:-1] + power[1:]
    around = np.minimum(pairs[1:-4], pairs[4:-1])  # the quieter side, so that the start of anything is a suspect
    stands_out = peak[3:-3] / (around + 1e-20)
    num_suspects = min(_NUM_SUSPECTS, stands_out.size)
    order = np.argpartition(stands_out, -num_suspects)[-num_suspects:]
    suspects = (order + 3) * _CELL + np.argmax(np.abs(errors[:, order + 3]), axis=0)

    side = _SIDE_SAMPLES
    length = side + _CLICK_SAMPLES + _LPC_ORDER + side
    shapes = np.zeros((length, _CLICK_SAMPLES))
    for late in range(_CLICK_SAMPLES):
        shapes[side + late : side + late + predictor.size, late] = predictor
    basis, triangle = np.linalg.qr(shapes)
    # The largest error may be that of a later tap, so the click may begin somewhat before it.
    num_begins = 1 + _LPC_ORDER
    near = suspects[:, None] - _LPC_ORDER + 1 - side + np.arange(length + num_begins - 1 + _LPC_ORDER)
    sound = block[near].astype(np.float64)
    exact = sliding_window_view(sound, predictor.size, axis=1) @ predictor[::-1]
    pieces = sliding_window_view(exact, length, axis=1)[:, ::-1]
    whole = np.sum(pieces**2, axis=-1)
    parts = pieces @ basis
    explained = np.sum(parts**2, axis=-1)
    rest = np.maximum(whole - explained, 1e-9 * whole) + 1e-20
    ratios = explained / rest
    # A hard onset is as sudden, but then it is the sound that goes on from there: one surprise, no wrong samples.
    onset = np.sum(pieces[..., side : side + _CLICK_SAMPLES] ** 2, axis=-1)
    onsets = (onset / (np.maximum(whole - onset, 1e-9 * whole) + 1e-20)).max(axis=1)
    best = np.argmax(ratios, axis=1)
    rows = np.arange(best.size)
    ratios[ratios < _MIN_OVER_ONSET * onsets[:, None]] = 0.0
    heights = np.abs(np.linalg.solve(triangle, parts[rows, best].T)).max(axis=0)
    # What the wrong samples leave over is nothing but the noise around them.
    noise = around[order] * length / (2.0 * _CELL) + 1e-5 * explained[rows, best]
    heights[rest[rows, best] > _MAX_REST * noise] = 0.0
    found = ratios[rows, best] * (length - _CLICK_SAMPLES) / _CLICK_SAMPLES
    # One event may have been suspected twice: of neighbors the first in order of likelihood stays.
    likely = np.argsort(-found)
    _, first = np.unique(suspects[likely] // _EVENT_SAMPLES, return_index=True)
    return found[likely][first], heights[likely][first]


def _errors(block: Samples, predictor: Array) -> Samples:
    """The predictor's error, shape (_CELL, num_cells): one cell after the other, as two products of matrices."""
    cells = block[: block.size // _CELL * _CELL].reshape(-1, _CELL)
    shifted = np.zeros((_CELL, _CELL + _LPC_ORDER), np.float32)
    for row in range(_CELL):
        shifted[row, row : row + predictor.size] = predictor[::-1]
    early = _product(shifted[:, :_CELL], cells[:-1].T)
    late = _product(shifted[:, _CELL:], cells[1:, :_LPC_ORDER].T)
    return np.asarray(np.add(early, late, out=early))


def _product(matrix: Samples, columns: Samples) -> Samples:
    """`matrix @ columns`, some at a time: BLAS shares a large product among all cores and waits for the slowest."""
    product = np.empty((len(matrix), columns.shape[1]), np.float32)
    width = _MAX_PRODUCT // matrix.size
    for start in range(0, columns.shape[1], width):
        product[:, start : start + width] = matrix @ columns[:, start : start + width]
    return product


def _predictor(block: Samples) -> Array:
    """The error filter of the best linear predictor, by the autocorrelation method: 1, then minus its weights."""
    frames = block[: block.size // _LPC_FRAME * _LPC_FRAME].reshape(-1, _LPC_FRAME)
    spectra = np.fft.rfft(frames * np.hanning(_LPC_FRAME).astype(np.float32))
    power = (np.square(spectra.real) + np.square(spectra.imag)).mean(axis=0)
    likeness = np.fft.irfft(power.astype(np.float64))[: _LPC_ORDER + 1]
    likeness[0] = likeness[0] * (1.0 + 1e-9) + 1e-20
    order = np.arange(_LPC_ORDER)
    weights = np.linalg.solve(likeness[np.abs(order[:, None] - order)], likeness[1:])
    return np.concatenate([[1.0], -weights])


# Hum -------------------------------------------------------------------------------------------------------------


def has_hum(clip: Clip) -> bool:
    """True if lines of 50 or 60 Hz and their harmonics together stand out far from what is around them.

    A line counts where it stands out in four of five frames: a voice or a bird that passes by does not stay.
    """
    frame = round(_HUM_FRAME_S * clip.sample_rate_hz)
    if clip.num_samples < 3 * frame:
        return False
    starts = np.arange(0, clip.num_samples - frame + 1, frame // 2)
    window = np.hanning(frame).astype(np.float32)
    num_bins = round((_MAINS_HZ[-1] * _NUM_HARMONICS + 20.0) * _HUM_FRAME_S)
    power = np.zeros((len(starts), num_bins))
    for index, start in enumerate(starts.tolist()):
        for channel in clip.samples:
            lines = np.fft.rfft(channel[start : start + frame] * window)[:num_bins]
            power[index] += np.square(lines.real) + np.square(lines.imag)
    for mains_hz in _MAINS_HZ:
        total = 0.0
        for harmonic in range(1, _NUM_HARMONICS + 1):
            middle = round(mains_hz * harmonic * _HUM_FRAME_S)
            line = np.quantile(power[:, middle - 1 : middle + 2].max(axis=1), 0.2)
            beside = np.concatenate([power[:, middle - 12 : middle - 3], power[:, middle + 4 : middle + 13]], axis=1)
            line_db = 10.0 * np.log10((line + 1e-20) / (np.median(beside) + 1e-20))
            total += line_db if line_db > _MIN_LINE_DB else 0.0
        if total > _MIN_HUM_DB:
            return True
    return False


# Stuck repetition ------------------------------------------------------------------------------------------------


def is_stuck(clip: Clip) -> bool:
    """True if some stretch comes again and again at once, sample by sample or nearly, for half a second or more.

    Looked for below some 2.5 kHz, with level and spectrum evened out: then the likeness of two pieces of any natural
    sound is near 0, but for pitches and fast rhythms. Those repeat within 50 ms too, by which they are told apart.
    """
    slow, rate_hz = _slowed(clip)
    step = _REPEAT_CHUNK // 2
    return any(
        _is_chunk_stuck(_leveled(slow[start : start + _REPEAT_CHUNK], rate_hz), rate_hz)
        for start in range(0, max(1, slow.size - step), step)
    )


def _slowed(clip: Clip) -> tuple[Samples, float]:
    """The sum of all channels, low-passed, at some 8 kHz."""
    factor = max(1, round(clip.sample_rate_hz / _REPEAT_RATE_HZ))
    mono = clip.samples.sum(axis=0)
    if factor == 1:
        return mono, float(clip.sample_rate_hz)
    num_rows = mono.size // factor
    taps = np.hanning(4 * factor + 1)[1:].astype(np.float32).reshape(4, factor)
    rows = _product(taps, mono[: num_rows * factor].reshape(num_rows, factor).T)
    slow = sum(rows[late, late : num_rows - 3 + late] for late in range(4))
    return np.asarray(slow, dtype=np.float32), clip.sample_rate_hz / factor


def _leveled(sound: Samples, rate_hz: float) -> Samples:
    """Divided by its own level over half a second, so that quiet stretches count as much as loud ones."""
    width = max(1, round(0.5 * rate_hz))
    total = np.concatenate([[0.0], np.cumsum(np.square(sound), dtype=np.float64)])
    at = np.arange(sound.size)
    low, high = np.maximum(at - width // 2, 0), np.minimum(at + width // 2 + 1, sound.size)
    level = np.sqrt(np.maximum(total[high] - total[low], 0.0) / (high - low)).astype(np.float32)
    return np.asarray(sound / (level + 1e-4 * level.max(initial=0.0) + np.float32(1e-12)))


def _is_chunk_stuck(chunk: Samples, rate_hz: float) -> bool:
    shortest, longest = round(_SHORTEST_REPEAT_S * rate_hz), round(_LONGEST_REPEAT_S * rate_hz)
    longest = min(longest, chunk.size // 3)
    if longest < shortest + _PEAK_LAGS:
        return False
    size = 1 << (2 * chunk.size - 1).bit_length()
    ramp = np.minimum(np.arange(1, chunk.size + 1, dtype=np.float32) / np.float32(_RAMP_S * rate_hz), 1.0)
    taper = np.sin(0.5 * np.pi * np.minimum(ramp, ramp[::-1])) ** 2
    spectrum = np.fft.rfft(chunk * taper, size)
    power = np.square(spectrum.real) + np.square(spectrum.imag)
    power += 1e-12 * power.max() + 1e-30
    # The geometric mean is the level between steady lines, and what stands above it is cut down to it.
    width = max(1, round(_WHITE_WIDTH_HZ * size / rate_hz))
    padded = np.pad(np.log(power), (width // 2 + 1, width - width // 2 - 1), mode="edge")
    total = np.cumsum(padded, dtype=np.float64)
    smooth = np.exp(((total[width:] - total[:-width]) / width).astype(np.float32))
    smooth = np.maximum(smooth, power / _MAX_LINE)
    white = np.asarray(np.fft.irfft(spectrum / np.sqrt(smooth), size)[: chunk.size], np.float32)
    likeness = np.asarray(np.fft.irfft(power / smooth, size)[: longest + 1], np.float32)
    # Two single bangs are no repetition, however alike: none may outweigh all the rest.
    loudest = _LOUDEST_OF_MEDIAN * np.median(np.abs(white))
    np.clip(white, -loudest, loudest, out=white)
    energy = np.concatenate([[0.0], np.cumsum(np.square(white), dtype=np.float64)])
    return any(_repeats(white, energy, lag, shortest, rate_hz) for lag in _peaks(likeness, shortest))


def _peaks(likeness: Samples, shortest: int) -> list[int]:
    """The lags that stand out most from their neighbors: what low notes leave is broad."""
    part = likeness[shortest:] - np.convolve(likeness, _PEAK_MEAN, "same")[shortest:]
    spread = float(np.median(np.abs(part))) + 1e-30
    inner = part[1:-1]
    peaks = 1 + np.flatnonzero((inner > part[:-2]) & (inner >= part[2:]) & (inner > _PEAK_OF_MEDIAN * spread))
    return [shortest + int(peak) for peak in peaks[np.argsort(part[peaks])[-_NUM_LAGS:]]]


def _repeats(white: Samples, energy: Array, lag: int, shortest: int, rate_hz: float) -> bool:
    """True if the better part of a stretch of two and a half lags is like what comes one lag later, and is no pitch.

    Args:
        white: the whitened sound.
        energy: of its beginnings, one more than it has samples.
        lag: in samples.
        shortest: lag that is no pitch.
        rate_hz: of the sound.
    """
    num_cells = (white.size - lag - 2) // _REPEAT_CELL
    width = -(-max(round(_MIN_REPEATED_LAGS * lag), round(_MIN_REPEATED_S * rate_hz)) // _REPEAT_CELL)
    if num_cells < width:
        return False
    size = num_cells * _REPEAT_CELL

    def energies(start: int) -> Array:
        total = energy[start : start + size + 1 : _REPEAT_CELL]
        return np.asarray(total[width:] - total[:-width])

    def products(one: Samples, other: Samples) -> Array:
        cells = (num_cells, _REPEAT_CELL)
        total = np.zeros(num_cells + 1)
        np.cumsum(np.einsum("ij,ij->i", one.reshape(cells), other.reshape(cells)), out=total[1:])
        return np.asarray(total[width:] - total[:-width])

    early = white[1 : size + 1]
    before, late, after = (white[lag + shift : lag + shift + size] for shift in range(3))
    early_energy, late_energy = energies(1), energies(lag + 1)
    silence = 0.01 * width * _REPEAT_CELL * float(energy[-1]) / white.size + 1e-30
    # The true lag may lie between two samples.
    for other in (late, 0.5 * (before + late), 0.5 * (late + after)):
        other_energy = late_energy if other is late else products(other, other)
        likeness = products(early, other) / (np.sqrt(early_energy * other_energy) + silence)
        best = int(np.argmax(likeness))
        if likeness[best] < 0.5 * _MIN_LIKENESS:
            return False
        if likeness[best] > _MIN_LIKENESS:
            piece = early[best * _REPEAT_CELL : (best + width) * _REPEAT_CELL]
            spectrum = np.fft.rfft(piece, 1 << (2 * piece.size - 1).bit_length())
            own = np.fft.irfft(np.square(spectrum.real) + np.square(spectrum.imag))
            return bool(np.max(own[round(0.002 * rate_hz) : shortest]) < 0.5 * likeness[best] * own[0])
    return False
