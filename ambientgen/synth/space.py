"""Where a sound is: its distance, and the room or landscape that answers.

Sources: M. R. Schroeder, "Natural sounding artificial reverberation" (1962), and J. A. Moorer, "About this
reverberation business" (1979): decaying noise as a room.
"""

from __future__ import annotations

import numpy as np

from ambientgen.audio.clip import Samples
from ambientgen.synth.shaping import Canvas, Points, convolve, fir, response


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
