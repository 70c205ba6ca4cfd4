"""From 16 kHz mono to a real scene: a stereo image, and the band that a model of 16 kHz cannot make.

Both steps are filters or memoryless: nothing depends on where a sample lies, so a circle stays a circle and its seam a
place like any other. Why it is done so: `docs/from-mono.md`.
"""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt

from ambientgen.audio.clip import Clip, Samples
from ambientgen.audio.filters import convolve

Array = npt.NDArray[np.float64]
Spectrum = npt.NDArray[np.complexfloating]

#: The side is made of what a room's first reflections are: it comes after the sound itself, and soon dies away.
_SIDE_FROM_S, _SIDE_UNTIL_S = 0.001, 0.021
_SIDE_DECAY_DB = 30.0
_SPACING_S = 0.001
#: Left and right are one below, and as wide as asked above.
_NARROW_BELOW_HZ, _WIDE_ABOVE_HZ = 120.0, 3_000.0
_NUM_DRAWS, _NUM_ROUNDS = 8, 30
#: No frequency of the side reaches the mid's level, so no sound can come out of phase.
_MAX_SIDE = 0.95

_OVERLAP_HZ = 300.0
_EDGE_HZ = 600.0
_FADES_FROM_HZ, _ENDS_HZ = 19_000.0, 20_000.0
_BAND_HZ = 500.0
#: A tone has next to nothing between its harmonics, and rounding noise is not to be raised to fill that.
_MAX_GAIN = 4.0
_MAX_SLOPE_DB, _MIN_SLOPE_DB = -1.0, -30.0
_PAD_S = 0.02
_FAINTEST = 1e-30


def widen(clip: Clip, *, seed: int, loop: bool, width: float = 0.55) -> Clip:
    """Give a mono clip a stereo image that falls back to the very same clip in mono.

    Left is mid + side and right mid - side. The mid is the clip as it is; the side is the clip through a short burst
    of velvet noise of the first 20 ms after it, evened out so that it colors little and is weak in the low octaves.
    Nothing comes before its time, and what is sudden stays so in the mid.

    Sources: B. Alary, A. Politis and V. Välimäki, "Velvet-noise decorrelator", DAFx 2017; the evening out after
    S. J. Schlecht, B. Alary, V. Välimäki and E. A. P. Habets, "Optimized velvet-noise decorrelator", DAFx 2018, here by
    alternating projections; mid and side of opposite signs after H. Lauridsen, 1954, and M. R. Schroeder, JAES 6(2),
    1958.

    Args:
        clip: one channel.
        seed: where in the image each frequency lies.
        loop: True if the clip is circular.
        width: 0 (mono) to 1: one minus the correlation of left and right above 3 kHz. Below, it falls to 0 at 120 Hz.

    Returns:
        Two channels. Their sum is twice the clip within float32's rounding. What the side adds makes the clip up to
        1.5 LU louder than the same clip on both channels at a width of 0.55.

    Raises:
        ValueError: if the clip is not mono or the width lies outside 0 to 1.
    """
    if clip.num_channels != 1:
        raise ValueError(f"only a mono clip can be widened, not one of {clip.num_channels} channels")
    if not 0.0 <= width <= 1.0:
        raise ValueError(f"width goes from 0 to 1, not {width}")
    mid = clip.samples[0]
    taps = _decorrelator(width, clip.sample_rate_hz, np.random.default_rng(seed))
    heard = mid if loop else np.pad(mid, (0, len(taps)))
    left = mid + convolve(heard, taps)[: clip.num_samples]
    return Clip(np.stack([left, 2.0 * mid - left]), clip.sample_rate_hz)


def _decorrelator(width: float, sample_rate_hz: int, rng: np.random.Generator) -> Samples:
    """The filter from mid to side: of a few draws, the one that leaves left and right the most alike in level."""
    num_taps = round(_SIDE_UNTIL_S * sample_rate_hz)
    size = 1 << (4 * num_taps - 1).bit_length()
    hz = _bins_hz(size, sample_rate_hz)
    octave = np.log2(np.maximum(hz, 1.0) / _NARROW_BELOW_HZ) / np.log2(_WIDE_ABOVE_HZ / _NARROW_BELOW_HZ)
    apart = width * np.clip(octave, 0.0, 1.0)  # one minus the correlation
    wanted = np.sqrt(apart / (2.0 - apart))
    draws = [_evened(_velvet(num_taps, sample_rate_hz, rng), wanted, sample_rate_hz) for _ in range(_NUM_DRAWS)]
    return min(draws, key=lambda taps: _imbalance(taps, hz)).astype(np.float32)


def _velvet(num_taps: int, sample_rate_hz: int, rng: np.random.Generator) -> Array:
    """One pulse of either sign somewhere in each millisecond, dying away."""
    spacing = max(1, round(_SPACING_S * sample_rate_hz))
    starts = np.arange(round(_SIDE_FROM_S * sample_rate_hz), num_taps - spacing, spacing)
    taps = np.zeros(num_taps)
    places = starts + rng.integers(0, spacing, len(starts))
    taps[places] = rng.choice([-1.0, 1.0], len(starts)) * 10.0 ** (-_SIDE_DECAY_DB / 20.0 * places / num_taps)
    return taps


def _evened(taps: Array, wanted: Array, sample_rate_hz: int) -> Array:
    """The nearest filter of that length with about the wanted gain at every frequency."""
    num_taps, size = len(taps), 2 * (len(wanted) - 1)
    first = round(_SIDE_FROM_S * sample_rate_hz)
    edge = np.sin(np.linspace(0.0, np.pi / 2.0, max(2, first))) ** 2
    window = np.ones(num_taps)
    window[:first] = 0.0
    window[first : first + len(edge)] = edge[: num_taps - first]
    window[-2 * len(edge) :] *= np.repeat(edge, 2)[::-1][-num_taps:]
    for _ in range(_NUM_ROUNDS):
        spectrum = np.fft.rfft(taps, size)
        spectrum *= wanted / np.maximum(np.abs(spectrum), _FAINTEST)
        taps = np.fft.irfft(spectrum, size)[:num_taps] * window
    highest = float(np.abs(np.fft.rfft(taps, size)).max())
    return taps * min(1.0, _MAX_SIDE / max(highest, _FAINTEST))


def _imbalance(taps: Array, hz: Array) -> float:
    """How far left and right would differ in level, in the worst octave of a pink noise."""
    common = np.fft.rfft(taps, 2 * (len(hz) - 1)).real
    edges = np.searchsorted(hz, 88.0 * 2.0 ** np.arange(8))
    return max(abs(float(common[low:high].mean())) for low, high in itertools.pairwise(edges) if high > low)


def extend_band(clip: Clip, cutoff_hz: float = 7_500.0, *, loop: bool) -> Clip:
    """Fill the band above `cutoff_hz`, up to 20 kHz, with what the sound's own top octave suggests.

    The band below the cutoff is made analytic, z, and its phase multiplied: |z| (z / |z|)^2 is an octave higher,
    |z| (z / |z|)^3 an octave and a fifth. So a crackle stays as short and comes at the same instant, noise stays noise,
    and a tone gets its own harmonics. The new band's level follows the sound's own slope, which may fall but not rise,
    and only what is missing is added: a sound that goes on above the cutoff is left as it is.

    Sources: an envelope laid on a transposed band: M. Dietz, L. Liljeryd, K. Kjörling and O. Kunz, "Spectral band
    replication", AES 112th Convention, 2002; transposing by multiplied phases: F. Nagel and S. Disch, "A harmonic
    bandwidth extension method for audio codecs", ICASSP 2009; from the low band alone: E. Larsen and R. M. Aarts,
    *Audio Bandwidth Extension*, Wiley 2004.

    Args:
        clip: any number of channels.
        cutoff_hz: up to where the clip is to be trusted. What is below is not touched.
        loop: True if the clip is circular.

    Returns:
        A clip of the same shape. What was silent below the cutoff stays silent above it.

    Raises:
        ValueError: if the clip's rate has no room for an octave above the cutoff.
    """
    if not 0.0 < 4.0 * cutoff_hz <= clip.sample_rate_hz:
        raise ValueError(f"there is no octave above {cutoff_hz:g} Hz at {clip.sample_rate_hz} Hz")
    if clip.num_samples == 0:
        return clip
    pad = 0 if loop else round(_PAD_S * clip.sample_rate_hz)
    heard = np.pad(clip.samples, ((0, 0), (0, pad)))
    added = np.stack([_band_above(channel, clip.sample_rate_hz, cutoff_hz) for channel in heard])
    return Clip(clip.samples + added[:, : clip.num_samples], clip.sample_rate_hz)


def _band_above(channel: Samples, sample_rate_hz: int, cutoff_hz: float) -> Samples:
    """What to add to a circular channel."""
    spectrum = np.fft.rfft(channel)
    hz = _bins_hz(len(channel), sample_rate_hz)
    power = np.square(np.abs(spectrum), dtype=np.float64)
    octave, fifth = (_harmonic(spectrum, hz, len(channel), order, cutoff_hz) for order in (2, 3))
    created = np.fft.rfft(np.add(octave, fifth))
    gain = _gain(power, np.square(np.abs(created), dtype=np.float64), hz, cutoff_hz)
    return np.asarray(np.fft.irfft(created * gain, len(channel)), np.float32)


def _harmonic(spectrum: Spectrum, hz: Array, num_samples: int, order: int, cutoff_hz: float) -> Samples:
    """The part of a channel whose `order`-fold frequencies lie above the cutoff, moved there."""
    # The second harmonic covers the first octave above the cutoff, the third what is left up to the end.
    low_hz, high_hz = (cutoff_hz / 2.0, cutoff_hz) if order == 2 else (cutoff_hz * 2.0 / 3.0, _ENDS_HZ / 3.0)
    high_hz = max(low_hz, min(high_hz, cutoff_hz))
    first, last = np.searchsorted(hz, (low_hz - _EDGE_HZ, high_hz))
    # A sharp edge would ring before and after what is sudden.
    edges = _ramp(hz[first:last], low_hz - _EDGE_HZ, low_hz) * _ramp(hz[first:last], high_hz, high_hz - _EDGE_HZ)
    positive = np.zeros(num_samples, spectrum.dtype)
    positive[first:last] = spectrum[first:last] * (2.0 * edges).astype(np.float32)
    analytic = np.fft.ifft(positive)
    unit = analytic / np.maximum(np.abs(analytic), np.float32(_FAINTEST))
    return np.ascontiguousarray((analytic * unit ** (order - 1)).real)


def _gain(power: Array, created: Array, hz: Array, cutoff_hz: float) -> Samples:
    """What brings the created band to the level that the sound's own slope asks for, for each frequency."""
    # Quarter octaves from a third of the cutoff to just below it; the two highest are what the slope starts from.
    edges_hz = cutoff_hz / 3.0 * 2.0 ** (np.arange(7) / 4.0)
    density = _density(power, hz, edges_hz)
    start_hz, start = float(np.sqrt(edges_hz[-3] * edges_hz[-1])), float(density[-2:].mean())
    level_db = 10.0 * np.log10(np.maximum(density, 1e-12 * density.max() + _FAINTEST))
    slope_db = float(np.polyfit(np.arange(6) / 4.0, level_db, 1)[0])
    slope_db = min(max(slope_db, _MIN_SLOPE_DB), _MAX_SLOPE_DB)

    bands_hz = np.arange(cutoff_hz, _ENDS_HZ, _BAND_HZ)
    centers_hz = bands_hz[:-1] + _BAND_HZ / 2.0
    wanted = start * 10.0 ** (slope_db * np.log2(centers_hz / start_hz) / 10.0)
    missing = np.maximum(wanted - _density(power, hz, bands_hz), 0.0)
    gains = np.sqrt(missing / np.maximum(_density(created, hz, bands_hz), _FAINTEST))
    gain = np.interp(hz, centers_hz, np.minimum(gains, _MAX_GAIN))
    gain *= _ramp(hz, cutoff_hz, cutoff_hz + _OVERLAP_HZ) * _ramp(hz, _ENDS_HZ, _FADES_FROM_HZ)
    return gain.astype(np.float32)


def _bins_hz(num_samples: int, sample_rate_hz: int) -> Array:
    """The frequency of each bin of a real spectrum."""
    return np.asarray(np.fft.rfftfreq(num_samples, 1.0 / sample_rate_hz), np.float64)


def _density(power: Array, hz: Array, edges_hz: Array) -> Array:
    """Mean power of the bins of each band; 0 for a band without any."""
    sums = np.concatenate([[0.0], np.cumsum(power)])
    edges = np.searchsorted(hz, edges_hz)
    return np.asarray(np.diff(sums[edges]) / np.maximum(np.diff(edges), 1))


def _ramp(hz: Array, zero_hz: float, one_hz: float) -> Array:
    """From 0 to 1 without a corner."""
    return np.asarray(np.sin(np.pi / 2.0 * np.clip((hz - zero_hz) / (one_hz - zero_hz), 0.0, 1.0)) ** 2)
