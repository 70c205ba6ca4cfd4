"""Circular filtering: the last sample joins the first without a seam, before and after."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

import numpy as np

from ambientgen.audio.clip import Samples
from ambientgen.audio.sound import Sound, blocks_of, read_around

_MIN_BLOCK = 1 << 16

#: Opus and MP3 keep nothing above this, and hardly anybody hears it.
_BAND_LIMIT_HZ = 20_000.0
_BAND_LIMIT_TAPS = 511
#: Kaiser's window for 80 dB of attenuation (A. V. Oppenheim and R. W. Schafer, *Discrete-Time Signal Processing*).
_KAISER_BETA = 7.86


def convolve(
    signal: Samples, kernel: Samples, *, centered: bool = False, tick: Callable[[int], None] = lambda _num: None
) -> Samples:
    """Circular convolution by overlap-save: exact for every length, in blocks of a power of two.

    Args:
        signal: shape (num_samples,) or (channels, num_samples).
        kernel: shape (taps,), or (channels, taps) for a kernel per channel. It may be longer than the circle.
        centered: True if the kernel's middle is its time zero.
        tick: told after each block how many samples it had; what it raises ends the work.

    Returns:
        The shape that `signal` and `kernel` broadcast to.
    """
    num_samples, num_taps = signal.shape[-1], kernel.shape[-1]
    wanted = max(_MIN_BLOCK, 4 * num_taps)
    block = 1 << (min(wanted, num_samples + num_taps) - 1).bit_length()
    hop = block - num_taps + 1
    shift = num_taps // 2 if centered else 0
    spectrum = np.fft.rfft(kernel, block)
    shape = np.broadcast_shapes(signal.shape[:-1], kernel.shape[:-1])
    out = np.empty((*shape, num_samples), dtype=np.float32)
    for start in range(0, num_samples, hop):
        piece = _around(signal, start - num_taps + 1 + shift, block)
        result = np.fft.irfft(np.fft.rfft(piece) * spectrum, block)
        stop = min(start + hop, num_samples)
        out[..., start:stop] = result[..., num_taps - 1 : num_taps - 1 + stop - start]
        tick(block * out[..., 0].size)
    return out


def band_limited(sound: Sound) -> Iterator[Samples]:
    """Without what lossy formats would not keep, so that every format of a sound has the loudness it was given.

    A steady rain has 0.3 LU of its loudness above 20 kHz, a crackling fire 0.5, white noise 0.8. Zero phase; the sound
    is taken as a circle, which for one that is not a loop touches 5 ms at its ends.

    Returns:
        The filtered sound in order, in blocks.
    """
    if sound.sample_rate_hz <= 2 * _BAND_LIMIT_HZ:
        yield from blocks_of(sound)
        return
    half = _BAND_LIMIT_TAPS // 2
    hop = _MIN_BLOCK - _BAND_LIMIT_TAPS + 1
    spectrum = np.fft.rfft(_low_pass(sound.sample_rate_hz), _MIN_BLOCK)
    for start in range(0, sound.num_samples, hop):
        length = min(hop, sound.num_samples - start)
        around = read_around(sound, start - half, length + 2 * half)
        result = np.fft.irfft(np.fft.rfft(around, _MIN_BLOCK) * spectrum, _MIN_BLOCK)
        yield result[:, 2 * half : 2 * half + length].astype(np.float32)


@functools.lru_cache(maxsize=4)
def _low_pass(sample_rate_hz: int) -> Samples:
    cutoff = 2.0 * _BAND_LIMIT_HZ / sample_rate_hz
    taps = cutoff * np.sinc(cutoff * (np.arange(_BAND_LIMIT_TAPS) - _BAND_LIMIT_TAPS // 2))
    taps *= np.kaiser(_BAND_LIMIT_TAPS, _KAISER_BETA)
    return np.asarray(taps / taps.sum(), np.float32)


def _around(signal: Samples, start: int, length: int) -> Samples:
    """`length` samples from `start` on, modulo the circle."""
    num_samples = signal.shape[-1]
    if start >= 0 and start + length <= num_samples:
        return signal[..., start : start + length]
    return np.take(signal, np.arange(start, start + length), axis=-1, mode="wrap")
