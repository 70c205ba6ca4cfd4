"""The tools every texture is made with. All of them are circular: the last sample joins the first without a seam.

The trick is the same throughout: nothing ever starts or stops. Filters read their input modulo the length, slow
controls are sums of whole harmonics, events that run over the end go on at the beginning, and oscillators make whole
numbers of cycles. Filters work in blocks of a power of two, so an awkward length (a prime, say) costs nothing extra.

Sources: Andy Farnell, *Designing Sound* (MIT Press, 2010); A. V. Oppenheim and R. W. Schafer, *Discrete-Time Signal
Processing*, overlap-save; ITU-R BS.1770-4 (loudness); M. R. Schroeder, "Natural sounding artificial reverberation"
(1962), and J. A. Moorer, "About this reverberation business" (1979): decaying noise as a room.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from ambientgen.audio.clip import Samples
from ambientgen.engines.base import Progress, Report
from ambientgen.errors import GenerationCancelled
from ambientgen.synth.params import TextureParams

Ints = npt.NDArray[np.intp]
Points = Sequence[tuple[float, float]]
"""A response as (frequency in Hz, level in dB) pairs, at least two, rising; straight lines over log frequency."""

CONTROL_RATE_HZ = 100.0
_MIN_BLOCK = 1 << 16
_SAMPLES_A_TICK = 1 << 19
_EVENTS_A_TICK = 4096


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
    """Circular convolution by overlap-save: exact for every length, in blocks of a power of two.

    Args:
        canvas: to report to.
        signal: shape (num_samples,) or (channels, num_samples).
        kernel: shape (taps,), or (channels, taps) for a kernel per channel. It may be longer than the circle.
        centered: True if the kernel's middle is its time zero.

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
    since_tick = 0
    for start in range(0, num_samples, hop):
        piece = _around(signal, start - num_taps + 1 + shift, block)
        result = np.fft.irfft(np.fft.rfft(piece) * spectrum, block)
        stop = min(start + hop, num_samples)
        out[..., start:stop] = result[..., num_taps - 1 : num_taps - 1 + stop - start]
        since_tick += block * out[..., 0].size
        if since_tick >= _SAMPLES_A_TICK:
            canvas.tick()
            since_tick = 0
    canvas.tick()
    return out


def _around(signal: Samples, start: int, length: int) -> Samples:
    """`length` samples from `start` on, modulo the circle."""
    num_samples = signal.shape[-1]
    if start >= 0 and start + length <= num_samples:
        return signal[..., start : start + length]
    return np.take(signal, np.arange(start, start + length), axis=-1, mode="wrap")


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


# Events ----------------------------------------------------------------------------------------------------------


def event_count(canvas: Canvas, rate_hz: float, at_least: int = 0) -> int:
    """How many events of that mean rate the circle holds (a Poisson draw)."""
    return max(at_least, int(canvas.rng.poisson(rate_hz * canvas.duration_s)))


def random_starts(canvas: Canvas, count: int, density: npt.NDArray[np.float64] | None = None) -> Ints:
    """Sorted random positions, evenly spread or following a control curve of densities (not negative)."""
    if density is None:
        return np.sort(canvas.rng.integers(0, canvas.num_samples, count)).astype(np.intp)
    total = np.concatenate(([0.0], np.cumsum(np.maximum(density, 1e-6))))
    where = np.interp(canvas.rng.random(count) * total[-1], total, np.arange(total.size))
    starts = (where * (canvas.num_samples / density.size)).astype(np.intp)
    return np.sort(starts) % canvas.num_samples


def spread_times(canvas: Canvas, count: int, jitter: float) -> npt.NDArray[np.float64]:
    """`count` times in seconds around the circle, even but for `jitter` (0 to 1) of their spacing."""
    spacing = canvas.duration_s / count
    offset = canvas.rng.random() * canvas.duration_s
    times = offset + spacing * (np.arange(count) + jitter * (canvas.rng.random(count) - 0.5))
    return np.asarray(np.mod(times, canvas.duration_s))


def impulses(canvas: Canvas, starts: Ints, gains: npt.NDArray[np.floating], spread: float = 0.7) -> Samples:
    """A stereo train of single samples at `starts` with those gains, each panned at random by up to `spread`."""
    train = np.zeros((2, canvas.num_samples), dtype=np.float32)
    left, right = pan(spread * (2.0 * canvas.rng.random(starts.size) - 1.0))
    np.add.at(train[0], starts, (gains * left).astype(np.float32))
    np.add.at(train[1], starts, (gains * right).astype(np.float32))
    canvas.tick()
    return train


def pan(position: npt.NDArray[np.floating]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Equal-power gains (left, right) of positions from -1 (left) to 1 (right)."""
    angle = (position + 1.0) * (np.pi / 4.0)
    return np.sqrt(2.0) * np.cos(angle), np.sqrt(2.0) * np.sin(angle)


def stereo(canvas: Canvas, templates: Samples, spread: float = 0.7) -> Samples:
    """Give each of (count, length) templates a place of its own: shape (count, 2, length)."""
    left, right = pan(spread * (2.0 * canvas.rng.random(len(templates)) - 1.0))
    return templates[:, None, :] * np.stack([left, right], axis=1)[:, :, None].astype(np.float32)


def scatter(canvas: Canvas, templates: Samples, starts: Ints, gains: npt.NDArray[np.floating]) -> Samples:
    """Add random templates at `starts` around the circle.

    One slice addition an event: for events longer than some hundred samples this is faster than any gather, and a
    few hundred templates are too many for an ear to tell apart.

    Args:
        canvas: where to.
        templates: shape (count, 2, length).
        starts: positions in samples.
        gains: one for each position.

    Returns:
        Shape (2, num_samples).
    """
    length = templates.shape[-1]
    buffer = np.zeros((2, canvas.num_samples + length), dtype=np.float32)
    which = canvas.rng.integers(0, len(templates), starts.size).tolist()
    for count, (start, template, gain) in enumerate(zip(starts.tolist(), which, gains.tolist(), strict=True), 1):
        buffer[:, start : start + length] += templates[template] * np.float32(gain)
        if count % _EVENTS_A_TICK == 0:
            canvas.tick()
    canvas.tick()
    return fold(buffer, canvas.num_samples)


def fold(buffer: Samples, num_samples: int) -> Samples:
    """Wrap what runs over the end back to the beginning, as often as it takes; the result may share memory."""
    for start in range(num_samples, buffer.shape[-1], num_samples):
        tail = buffer[..., start : start + num_samples]
        buffer[..., : tail.shape[-1]] += tail
    return buffer[..., :num_samples]


def heavy_tail(canvas: Canvas, count: int, spread_db: float, limit_db: float = 14.0) -> npt.NDArray[np.float64]:
    """Gains whose levels are normal around 0 dB with that deviation, cut at `limit_db` so that none startles."""
    levels = np.minimum(canvas.rng.standard_normal(count) * spread_db, limit_db)
    return np.asarray(10.0 ** (levels / 20.0))


def bubbles(canvas: Canvas, frequencies_hz: npt.NDArray[np.float64], length_s: float, rise: float) -> Samples:
    """The sound of air bubbles in water, shape (count, length): a damped sine whose pitch may rise.

    Minnaert (1933): frequency = 3 / radius. Damping and rise after K. van den Doel, "Physically based models for
    liquid sounds" (ACM Trans. Applied Perception, 2005): d = 0.13 / r + 0.0072 * r**-1.5, f(t) = f0 (1 + rise d t).

    Args:
        canvas: for the rate and the phases.
        frequencies_hz: the bubbles' pitches, shape (count,).
        length_s: how long each template is.
        rise: how fast the pitch rises; 0 for bubbles far below the surface.
    """
    radius = 3.0 / frequencies_hz
    damping = (0.13 / radius + 0.0072 * radius**-1.5)[:, None]
    seconds = np.arange(int(length_s * canvas.sample_rate_hz)) / canvas.sample_rate_hz
    # The pitch stops rising when the bubble has died down; beyond, the sweep would alias.
    sweep = seconds + 0.5 * rise * damping * np.minimum(seconds, 4.0 / damping) ** 2
    phase = 2.0 * np.pi * frequencies_hz[:, None] * sweep
    attack = -np.expm1(-seconds * 4000.0)
    sound = np.sin(phase) * np.exp(-damping * seconds) * attack * _faded(seconds.size)
    return np.asarray(sound, dtype=np.float32)


def bursts(canvas: Canvas, count: int, points: Points, length_s: float, decay_s: npt.NDArray[np.float64]) -> Samples:
    """Decaying bursts of shaped noise, shape (count, length), each of unit peak, with its own decay time."""
    size = int(length_s * canvas.sample_rate_hz)
    noise = canvas.rng.standard_normal((count, size)).astype(np.float32)
    gain = response(points, np.fft.rfftfreq(size, 1.0 / canvas.sample_rate_hz)).astype(np.float32)
    seconds = np.arange(size) / canvas.sample_rate_hz
    envelope = np.exp(-seconds / decay_s[:, None]) * -np.expm1(-seconds * 6000.0) * _faded(size)
    out = (np.fft.irfft(np.fft.rfft(noise) * gain, size) * envelope).astype(np.float32)
    out /= np.max(np.abs(out), axis=-1, keepdims=True) + np.float32(1e-9)
    return out


def rings(
    canvas: Canvas, modes_hz: npt.NDArray[np.float64], decay_s: npt.NDArray[np.float64], length_s: float
) -> Samples:
    """Struck bodies: damped modes, shape (count, length), from modes and decay times of shape (count, num_modes)."""
    size = int(length_s * canvas.sample_rate_hz)
    seconds = np.arange(size, dtype=np.float32) / np.float32(canvas.sample_rate_hz)
    turns = (2.0 * np.pi * modes_hz).astype(np.float32)[:, :, None]
    falls = (-1.0 / decay_s).astype(np.float32)[:, :, None]
    out = np.zeros((len(modes_hz), size), dtype=np.float32)
    for mode in range(modes_hz.shape[1]):
        out += np.sin(turns[:, mode] * seconds) * np.exp(falls[:, mode] * seconds) / np.float32(1.0 + mode)
    out *= (-np.expm1(-seconds * 3000.0) * _faded(size)).astype(np.float32)
    return out


def _faded(size: int) -> npt.NDArray[np.float64]:
    """One, with a cosine fade over the last eighth, so that a cut-off tail does not click."""
    fade = np.ones(size)
    tail = max(1, size // 8)
    fade[-tail:] = 0.5 + 0.5 * np.cos(np.pi * np.arange(1, tail + 1) / tail)
    return fade


# Space and level -------------------------------------------------------------------------------------------------


def place(canvas: Canvas, sound: Samples, room: float) -> Samples:
    """Put a sound at its distance, in a room or a landscape that answers.

    Distance takes away the highs (air, ground and foliage) and lets the reverberation win over the direct sound.
    Both are one kernel per channel, so it costs one convolution.

    Args:
        canvas: where the distance comes from.
        sound: shape (2, num_samples).
        room: reverberant share of a near sound, 0 (none) to 1.
    """
    distance = canvas.params.distance
    share = min(0.97, room + (1.0 - room) * 1.1 * distance)
    if share <= 0.0:
        return sound
    rate = canvas.sample_rate_hz
    air: Points = ((200, 0), (1000, -5 * distance), (4000, -15 * distance), (12000, -36 * distance))
    direct = fir(air, rate, 1024)
    tail = _tail(canvas, 0.5 + 1.1 * distance, air)
    tail /= np.sqrt(np.sum(tail**2, axis=-1, keepdims=True) / np.sum(direct**2))
    kernel = tail * np.float32(np.sqrt(share))
    kernel[:, : direct.size] += direct * np.float32(np.sqrt(1.0 - share))
    return convolve(canvas, sound, kernel)


_SURFACES: Points = ((60, -1), (300, 0), (1500, -3), (5000, -14), (14000, -30))


def _tail(canvas: Canvas, decay_s: float, air: Points) -> Samples:
    """Decaying noise, independent left and right: what is left of a sound after many reflections. Shape (2, taps).

    It has gone through the air like the direct sound, and lost more at every surface.
    """
    rate = canvas.sample_rate_hz
    size = int(decay_s * rate)
    noise = canvas.rng.standard_normal((2, size)).astype(np.float32)
    # 60 dB over the length; the first reflections need some 15 ms to arrive and thicken.
    seconds = np.arange(size) / rate
    noise *= (10.0 ** (-3.0 * seconds / decay_s) * -np.expm1(-seconds / 0.015)).astype(np.float32)
    spectrum = np.fft.rfft(noise, 1 << (2 * size - 1).bit_length())
    hz = np.fft.rfftfreq(2 * (spectrum.shape[-1] - 1), 1.0 / rate)
    gain = (response(air, hz) * response(_SURFACES, hz)).astype(np.float32)
    return np.asarray(np.fft.irfft(spectrum * gain)[:, :size], dtype=np.float32)


def soften_peaks(sound: Samples, knee: float = 0.5, ceiling: float = 0.95) -> None:
    """Bend, in place, what reaches above `knee` so that it stays under `ceiling`.

    Only the rare loudest crackles and drops reach it. Turning the whole texture down for them instead would make its
    loudness a matter of luck. Without memory, so it is as circular as its input.
    """
    channels, samples = np.nonzero(np.abs(sound) > knee)
    high = sound[channels, samples]
    room = np.float32(ceiling - knee)
    sound[channels, samples] = np.sign(high) * (knee + room * np.tanh((np.abs(high) - knee) / room))


def loudness_lufs(sound: Samples, sample_rate_hz: int) -> float:
    """Integrated loudness after ITU-R BS.1770-4, within about a decibel: its weighting and its gates on plain blocks.

    Good enough to set a level by; the mixer measures properly.
    """
    size = min(sound.shape[-1], 1 << 14)
    num_blocks = sound.shape[-1] // size
    power = np.zeros(num_blocks)
    weight = _k_weight(np.fft.rfftfreq(size, 1.0 / sample_rate_hz)) * (2.0 / size**2)
    for index in range(num_blocks):
        spectrum = np.fft.rfft(sound[:, index * size : (index + 1) * size])
        power[index] = np.sum((spectrum.real**2 + spectrum.imag**2) * weight)
    levels = -0.691 + 10.0 * np.log10(power + 1e-12)
    heard = power[levels > -70.0]
    if heard.size == 0:
        return -70.0
    gate = 10.0 * np.log10(np.mean(heard)) - 10.691
    return float(-0.691 + 10.0 * np.log10(np.mean(heard[-0.691 + 10.0 * np.log10(heard) >= gate])))


def _k_weight(frequencies_hz: npt.NDArray[np.floating]) -> Samples:
    """The power response of the K weighting: a 38 Hz high-pass and a shelf of 4 dB from 1.5 kHz on."""
    ratio = (frequencies_hz / 1500.0) ** 2
    shelf = (1.0 + 10.0**0.4 * ratio**2) / (1.0 + ratio**2)
    low = (frequencies_hz / 38.0) ** 4
    return np.asarray(shelf * low / (1.0 + low), dtype=np.float32)
