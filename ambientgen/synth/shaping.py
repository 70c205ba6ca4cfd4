"""The tools every texture is made with. All of them are circular: the last sample joins the first without a seam.

The trick is the same throughout: nothing ever starts or stops. Filters read their input modulo the length, slow
controls are sums of whole harmonics, events that run over the end go on at the beginning, and oscillators make whole
numbers of cycles.

Source: Andy Farnell, *Designing Sound* (MIT Press, 2010).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from ambientgen.audio import filters
from ambientgen.audio.clip import Samples
from ambientgen.engines.base import Progress, Report
from ambientgen.errors import GenerationCancelled
from ambientgen.synth.params import TextureParams

Ints = npt.NDArray[np.intp]
Points = Sequence[tuple[float, float]]
"""A response as (frequency in Hz, level in dB) pairs, at least two, rising; straight lines over log frequency."""

CONTROL_RATE_HZ = 100.0
_SAMPLES_A_TICK = 1 << 19


class Canvas:
    """One texture in the making: its length, its random numbers, and the way to be stopped.

    Attributes:
        params: what was asked.
        num_samples: length of the circle.
        sample_rate_hz: samples a second.
        rng: chance; everything follows from its seed.
        character: chance for what must stay the same through a long take made of several textures (a drone's root).
    """

    def __init__(self, params: TextureParams, num_samples: int, sample_rate_hz: int, seed: int, report: Report) -> None:
        self.params = params
        self.num_samples = num_samples
        self.sample_rate_hz = sample_rate_hz
        self.rng = np.random.default_rng(seed)
        self.character = np.random.default_rng((seed & 0xFFFFFFFF, 1))
        self._report = report
        self._num_ticks = 0

    @property
    def duration_s(self) -> float:
        """Length of the circle in seconds."""
        return self.num_samples / self.sample_rate_hz

    @property
    def num_control(self) -> int:
        """Length of a control curve, at about `CONTROL_RATE_HZ`."""
        return max(8, round(self.duration_s * CONTROL_RATE_HZ))

    def tick(self) -> None:
        """Report between two pieces of work.

        Raises:
            GenerationCancelled: if the answer is to stop.
        """
        self._num_ticks += 1
        if not self._report(Progress("rendering", self._num_ticks)):
            raise GenerationCancelled("The texture was cancelled.")

    def swing(self, low: float, high: float) -> float:
        """From `low` at intensity 0 to `high` at intensity 1, in even ratios (both must be positive)."""
        return float(low * (high / low) ** self.params.intensity)

    def crowd(self, few: float, many: float) -> float:
        """From `few` at density 0 to `many` at density 1, in even ratios (both must be positive)."""
        return float(few * (many / few) ** self.params.density)

    def slide(self, low: float, high: float) -> float:
        """From `low` at intensity 0 to `high` at intensity 1, in even steps."""
        return low + (high - low) * self.params.intensity


def db(level_db: float) -> float:
    """The amplitude of a level in dB."""
    return float(10.0 ** (level_db / 20.0))


# Filters ---------------------------------------------------------------------------------------------------------


def response(points: Points, frequencies_hz: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """The amplitude response through `points`; it falls on beyond its ends, and closes below 20 Hz against drift."""
    hz, level = np.array(points, dtype=np.float64).T
    octave = np.log2(hz)
    safe = np.maximum(frequencies_hz, 1.0)
    below = np.maximum(octave[0] - np.log2(safe), 0.0) * max((level[1] - level[0]) / (octave[1] - octave[0]), 0.0)
    above = np.maximum(np.log2(safe) - octave[-1], 0.0) * min((level[-1] - level[-2]) / (octave[-1] - octave[-2]), 0.0)
    gain = 10.0 ** ((np.interp(np.log2(safe), octave, level) - below + above) / 20.0)
    closed: npt.NDArray[np.float64] = gain * (safe / 20.0) ** 2 / np.sqrt(1.0 + (safe / 20.0) ** 4)
    closed[frequencies_hz <= 0.0] = 0.0
    return closed


def fir(points: Points, sample_rate_hz: int, num_taps: int = 4096) -> Samples:
    """A zero-phase filter with that response, as `num_taps` centered taps (use with `convolve(centered=True)`)."""
    gain = response(points, np.fft.rfftfreq(num_taps, 1.0 / sample_rate_hz))
    taps = np.fft.fftshift(np.fft.irfft(gain, num_taps))
    return (taps * np.hanning(num_taps)).astype(np.float32)


def convolve(canvas: Canvas, signal: Samples, kernel: Samples, *, centered: bool = False) -> Samples:
    """Circular convolution as `ambientgen.audio.filters.convolve`, with reports in between."""
    since_tick = 0

    def tick(num_samples: int) -> None:
        nonlocal since_tick
        since_tick += num_samples
        if since_tick >= _SAMPLES_A_TICK:
            canvas.tick()
            since_tick = 0

    convolved = filters.convolve(signal, kernel, centered=centered, tick=tick)
    canvas.tick()
    return convolved


# Noise -----------------------------------------------------------------------------------------------------------


def white(canvas: Canvas, num_channels: int = 2) -> Samples:
    """Independent white noise of unit variance, shape (num_channels, num_samples).

    Uniform rather than Gaussian: three times faster, and any filter makes it Gaussian.
    """
    noise = canvas.rng.random((num_channels, canvas.num_samples), dtype=np.float32)
    noise -= np.float32(0.5)
    noise *= np.float32(np.sqrt(12.0))
    canvas.tick()
    return noise


def shaped_noise(canvas: Canvas, points: Points, *, correlation: float = 0.3, num_taps: int = 4096) -> Samples:
    """Stereo noise of unit variance with that response and that correlation between left and right."""
    return widen(shaped_mono(canvas, points, num_channels=2, num_taps=num_taps), correlation)


def shaped_mono(canvas: Canvas, points: Points, *, num_channels: int = 1, num_taps: int = 4096) -> Samples:
    """Independent channels of noise of unit variance with that response, shape (num_channels, num_samples)."""
    taps = fir(points, canvas.sample_rate_hz, num_taps)
    taps /= np.sqrt(np.sum(taps**2))
    return convolve(canvas, white(canvas, num_channels), taps, centered=True)


def widen(pair: Samples, correlation: float) -> Samples:
    """Turn two independent channels, in place, into left and right with that correlation: never out of phase."""
    middle = pair[0] * np.float32(np.sqrt((1.0 + correlation) / 2.0))
    side = pair[1] * np.float32(np.sqrt((1.0 - correlation) / 2.0))
    np.add(middle, side, out=pair[0])
    np.subtract(middle, side, out=pair[1])
    return pair


# Slow controls ---------------------------------------------------------------------------------------------------


def curve(canvas: Canvas, low_hz: float, high_hz: float, count: int = 1) -> npt.NDArray[np.float64]:
    """Random slow curves of whole harmonics between two rates, shape (count, num_control), zero mean, unit variance."""
    size = canvas.num_control
    first = max(1, round(low_hz * canvas.duration_s))
    last = min(max(first + 1, round(high_hz * canvas.duration_s)), size // 2 - 1)
    harmonics = np.arange(min(first, last), last + 1)
    bins = np.zeros((count, size // 2 + 1), dtype=np.complex128)
    chance = canvas.rng.standard_normal((2, count, harmonics.size))
    bins[:, harmonics] = (chance[0] + 1j * chance[1]) / np.sqrt(harmonics)
    curves = np.fft.irfft(bins, size)
    curves /= np.std(curves, axis=-1, keepdims=True) + 1e-12
    return curves


def at_audio_rate(canvas: Canvas, control: npt.NDArray[np.floating]) -> Samples:
    """A control curve (num_control,) drawn out to (num_samples,) by straight lines, around the circle."""
    size, num_samples = control.size, canvas.num_samples
    closed = np.append(control, control[0])
    out = np.empty(num_samples, dtype=np.float32)
    for start in range(0, num_samples, _SAMPLES_A_TICK):
        stop = min(start + _SAMPLES_A_TICK, num_samples)
        out[start:stop] = np.interp(np.arange(start, stop) * (size / num_samples), np.arange(size + 1), closed)
    canvas.tick()
    return out


def modulate(canvas: Canvas, sound: Samples, control: npt.NDArray[np.floating]) -> Samples:
    """Multiply a sound, in place, by a control curve (num_control,), or by one per channel (channels, num_control)."""
    if control.ndim == 1:
        sound *= at_audio_rate(canvas, control)
        return sound
    for channel, one in enumerate(control):
        sound[channel] *= at_audio_rate(canvas, one)
    return sound


def later(control: npt.NDArray[np.float64], canvas: Canvas, delay_s: float) -> npt.NDArray[np.float64]:
    """The curve, delayed around the circle."""
    return np.roll(control, round(delay_s * canvas.num_control / canvas.duration_s), axis=-1)


def control_events(
    canvas: Canvas, shape: Callable[[npt.NDArray[np.float64], int], npt.NDArray[np.float64]], times_s: Sequence[float]
) -> npt.NDArray[np.float64]:
    """A control curve that sums `shape(seconds since the event, event number)` over events around the circle.

    Times since an event run from 0 to the circle's length; a shape should have died down by then.
    """
    clock = np.arange(canvas.num_control) * (canvas.duration_s / canvas.num_control)
    total = np.zeros(canvas.num_control)
    for index, time_s in enumerate(times_s):
        total += shape(np.mod(clock - time_s, canvas.duration_s), index)
    return total


def tone(canvas: Canvas, frequency_hz: float, phase: float = 0.0) -> Samples:
    """A sine of unit amplitude and a whole number of cycles, the nearest to `frequency_hz`; shape (num_samples,).

    Computed as an outer product by the angle-addition rule: exact at any length, and several times faster than `sin`.
    """
    num_samples = canvas.num_samples
    cycles = max(1, round(frequency_hz * canvas.duration_s))
    step = 2.0 * np.pi * cycles / num_samples
    width = 1 << 12
    fine = step * np.arange(width)
    coarse = step * width * np.arange(-(-num_samples // width)) + phase
    sine, cosine = np.sin(fine).astype(np.float32), np.cos(fine).astype(np.float32)
    out = np.outer(np.sin(coarse).astype(np.float32), cosine)
    out += np.outer(np.cos(coarse).astype(np.float32), sine)
    canvas.tick()
    return out.reshape(-1)[:num_samples]
