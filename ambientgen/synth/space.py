"""Where a sound is: its distance, its brightness, and the room or landscape that answers.

All of it is one kernel per channel, so that a place costs one circular convolution and a loop stays one. The kernel
is the direct sound, the first reflections as single taps, and decaying noise for all the later ones.

Sources: M. R. Schroeder, "Natural sounding artificial reverberation" (1962), and J. A. Moorer, "About this
reverberation business" (1979): decaying noise as a room; J. B. Allen and D. A. Berkley, "Image method for efficiently
simulating small-room acoustics" (1979): the first reflections; C. F. Eyring, "Reverberation time in 'dead' rooms"
(1930): from decay to absorption; R. K. Cook et al., "Measurement of correlation coefficients in reverberant sound
fields" (1955); ISO 9613-1 (air) and 9613-2, annex A (foliage).
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from ambientgen.audio.clip import Samples
from ambientgen.synth.shaping import Canvas, convolve, curve, modulate, widen

Array = npt.NDArray[np.float64]

_SPEED_M_S = 343.0
#: How far off a sound at distance 1 is, and how much of that way leads through leaves.
_FAR_M = 300.0
_FAR_FOLIAGE_M = 60.0
_BRIGHTNESS_DB_PER_OCTAVE = 6.0

#: The middles of the bands that decay at their own pace.
_BANDS_HZ: Final = (125.0, 500.0, 2000.0, 8000.0)
#: A tail is cut, with a fade, where its middle band has fallen this far: no ambience lets one hear more.
_TAIL_DB = 55.0
#: Filters have zero phase, so they need some room before the direct sound.
_LEAD_TAPS = 512
_MAX_EARLY_S = 0.08
#: Two ears, or two microphones, in a diffuse field.
_EARS_M = 0.2


class _Place(NamedTuple):
    """What answers a sound.

    Attributes:
        size_m: length, width and height of the box it is taken for.
        decay_s: time to fall by 60 dB, for each of `_BANDS_HZ`.
        share: reverberant share of the energy of a near sound, 0 to 1.
        least_correlation: of left and right, for a near sound.
    """

    size_m: tuple[float, float, float]
    decay_s: tuple[float, float, float, float]
    share: float
    least_correlation: float = 0.0


_PLACES: Final = {
    "room": _Place((4.6, 5.8, 2.6), (0.48, 0.43, 0.40, 0.33), 0.4),
    "hall": _Place((18.0, 30.0, 11.0), (2.1, 1.85, 1.5, 0.9), 0.5),
    "cave": _Place((11.0, 19.0, 7.0), (3.2, 2.9, 1.7, 0.8), 0.6),
    "outside": _Place((4.0, 5.2, 2.5), (0.50, 0.42, 0.38, 0.30), 0.55, 0.2),
    # Sound is so fast in water that the ears hardly differ (H. Hollien, "Underwater sound localization in humans",
    # 1973); and for the same reason a small box stands for a large pool.
    "underwater": _Place((3.0, 6.0, 1.5), (0.9, 0.7, 0.4, 0.2), 0.4, 0.6),
}


def place(canvas: Canvas, sound: Samples, room: float) -> Samples:
    """Put a sound at its distance, in its brightness, and in a room or a landscape that answers.

    Distance takes away the highs (air and foliage), lets the reverberation win over the direct sound, and makes the
    whole narrower. The room is chosen by the canvas's character, so that it stays the same through a long take. A
    near, plain sound in the open without a share of reverberation is returned as it is.

    Args:
        canvas: where distance, brightness and place come from.
        sound: shape (2, num_samples).
        room: reverberant share of a near sound in the open, 0 (none) to 1.

    Returns:
        Shape (2, num_samples), at any level; left and right correlate by at least 0, and by at least 0.7 at distance 1.
    """
    params = canvas.params
    where = _PLACES.get(params.place) or _landscape(params.distance)
    share = min(0.97, 1.0 - (1.0 - room) * (1.0 - where.share) * max(0.0, 1.0 - 1.2 * params.distance))
    if share <= 0.0 and params.brightness == 0.5:
        return sound
    sound = convolve(canvas, sound, _kernel(canvas, where, share))
    if params.place == "underwater":
        # Water never rests: each side swells and fades by itself within seconds.
        modulate(canvas, sound, 10.0 ** (curve(canvas, 0.1, 0.7, 2) * 2.0 / 20.0))
    return _narrow(sound, max(where.least_correlation, 0.7 * params.distance))


def _landscape(distance: float) -> _Place:
    """The open: the edges of a glade, or houses around a square. Far sounds take longer to die away."""
    decay_s = 0.5 + 1.1 * distance
    return _Place((24.0, 32.0, 10.0), (decay_s, decay_s, 0.9 * decay_s, 0.25 * decay_s), 0.0)


def _kernel(canvas: Canvas, where: _Place, share: float) -> Samples:
    """Direct sound and reverberation in one, shape (2, taps).

    Their shares are those of energy in pink noise, to which ambiences are nearer than to white.
    """
    rate = canvas.sample_rate_hz
    num_taps = 2 * _LEAD_TAPS
    if share > 0.0:
        num_taps += int(where.decay_s[1] * _TAIL_DB / 60.0 * rate)
    size = 1 << (num_taps + _LEAD_TAPS - 1).bit_length()
    hz = np.asarray(np.fft.rfftfreq(size, 1.0 / rate), dtype=np.float64)
    spectrum = np.ones((2, hz.size), dtype=np.complex64)
    if share > 0.0:
        answer = _answer(canvas, where, num_taps, hz)
        heard = hz > 100.0
        energy = np.sum(np.abs(answer[:, heard]) ** 2 / hz[heard], axis=1) / np.sum(1.0 / hz[heard])
        spectrum *= np.float32(np.sqrt(1.0 - share))
        spectrum += answer * np.sqrt(share / energy)[:, None].astype(np.float32)
    spectrum *= _color(canvas, hz).astype(np.float32)
    kernel = np.roll(np.fft.irfft(spectrum, size), _LEAD_TAPS, axis=-1)[:, :num_taps]
    edge = num_taps // 8
    kernel[:, -edge:] *= np.linspace(1.0, 0.0, edge, dtype=np.float32)
    canvas.tick()
    return np.asarray(kernel, dtype=np.float32)


# What the way takes ----------------------------------------------------------------------------------------------


def air_db_per_m(hz: Array) -> Array:
    """Absorption by air of 10 °C and 70 % relative humidity at sea level (ISO 9613-1, equations 3 to 5)."""
    kelvin, humidity = 283.15, 70.0
    warmth = kelvin / 293.15
    vapor = humidity * 10.0 ** (4.6151 - 6.8346 * (273.16 / kelvin) ** 1.261)
    oxygen_hz = 24.0 + 4.04e4 * vapor * (0.02 + vapor) / (0.391 + vapor)
    nitrogen_hz = warmth**-0.5 * (9.0 + 280.0 * vapor * np.exp(-4.170 * (warmth ** (-1.0 / 3.0) - 1.0)))
    oxygen = 0.01275 * np.exp(-2239.1 / kelvin) / (oxygen_hz + hz**2 / oxygen_hz)
    nitrogen = 0.1068 * np.exp(-3352.0 / kelvin) / (nitrogen_hz + hz**2 / nitrogen_hz)
    return np.asarray(8.686 * hz**2 * (1.84e-11 * warmth**0.5 + warmth**-2.5 * (oxygen + nitrogen)))


def _color(canvas: Canvas, hz: Array) -> Array:
    """The amplitude response of all that stands between source and listener, and of the brightness asked for."""
    params = canvas.params
    octave = np.log2(np.maximum(hz, 1.0))
    foliage = np.interp(octave, np.log2(_FOLIAGE_HZ), _FOLIAGE_DB_PER_M)
    level_db = -params.distance * (_FAR_M * air_db_per_m(hz) + _FAR_FOLIAGE_M * foliage)
    level_db += (params.brightness - 0.5) * _BRIGHTNESS_DB_PER_OCTAVE * np.clip(octave - np.log2(1000.0), -4.0, 4.0)
    if params.place == "outside":
        level_db += _through_window_db(hz)
    elif params.place == "underwater":
        level_db -= 10.0 * np.log10(1.0 + (hz / 400.0) ** 4)
    return np.asarray(10.0 ** (np.maximum(level_db, -90.0) / 20.0))


_FOLIAGE_HZ: Final = (63.0, 125.0, 250.0, 500.0, 1000.0, 2000.0, 4000.0, 8000.0)
_FOLIAGE_DB_PER_M: Final = (0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.09, 0.12)


def _through_window_db(hz: Array) -> Array:
    """A pane by the mass law (H. Kuttruff, *Room Acoustics*): 10 kg/m², the weight of 4 mm of glass, 6 dB an octave.

    Below 100 Hz its stiffness holds it as well as its mass does there, and through slits a little of everything comes.
    """
    mass_kg_m2, air_kg_m2_s, slits_db = 10.0, 413.0, -45.0
    ratio = np.pi * np.hypot(hz, 100.0) * mass_kg_m2 / air_kg_m2_s
    return np.asarray(10.0 * np.log10(1.0 / (1.0 + ratio**2) + 10.0 ** (slits_db / 10.0)))


# What the place answers ------------------------------------------------------------------------------------------


def _answer(canvas: Canvas, where: _Place, num_taps: int, hz: Array) -> npt.NDArray[np.complex64]:
    """The reverberation's spectrum, shape (2, hz.size): image sources, then noise as dense as they would be.

    The power of the images of a unit source falls on a listener evenly, 4 pi c / V a second, but for what the walls
    take. So the noise that goes on for them needs no level of its own.
    """
    rate = canvas.sample_rate_hz
    rng = canvas.character.spawn(1)[0]
    length, width, height = where.size_m
    volume = length * width * height
    surface = 2.0 * (length * width + length * height + width * height)
    # Twice the mixing time by J. D. Polack (1992), the root of the volume in milliseconds.
    early_s = min(_MAX_EARLY_S, 0.002 * volume**0.5)
    delays_m, distances_m, num_walls = _images(canvas, where, rng, early_s * _SPEED_M_S)
    taps = np.round(delays_m / _SPEED_M_S * rate).astype(np.intp)

    seconds = (np.arange(num_taps) / rate).astype(np.float32)
    noise = rng.standard_normal((2, num_taps), dtype=np.float32)
    noise *= np.float32(np.sqrt(4.0 * np.pi * _SPEED_M_S / volume / rate))
    noise *= np.minimum(seconds / np.float32(early_s), 1.0)  # all that is rough scatters a little from the start

    octave, middles = np.log2(np.maximum(hz, 1.0)), np.log2(_BANDS_HZ)
    spectrum = np.zeros((2, hz.size), dtype=np.complex64)
    for band, decay_s in enumerate(where.decay_s):
        coherence = max(0.0, float(np.sinc(2.0 * _BANDS_HZ[band] * _EARS_M / _SPEED_M_S)))
        answer = widen(noise * np.exp(seconds * np.float32(-3.0 * np.log(10.0) / decay_s)), coherence)
        kept_amplitude = np.exp(-0.5 * 0.161 * volume / (surface * decay_s))
        for channel in range(2):
            gains = kept_amplitude ** num_walls[channel] / distances_m[channel]
            near = delays_m[channel] < early_s * _SPEED_M_S
            np.add.at(answer[channel], taps[channel][near], gains[near].astype(np.float32))
        mask = np.interp(octave, middles, np.eye(len(_BANDS_HZ))[band])
        spectrum += np.fft.rfft(answer, 2 * (hz.size - 1)) * mask.astype(np.float32)
        canvas.tick()
    return spectrum


def _images(canvas: Canvas, where: _Place, rng: np.random.Generator, reach_m: float) -> tuple[Array, Array, Array]:
    """The images of a source on the left and of one on the right in the walls of a box; each result (2, num_images).

    Returns:
        How much farther than the source each is, how far it is, and how many walls the sound met. The walls are a
        little crooked, for those of a perfect box would flutter.
    """
    size = np.array(where.size_m)
    listener = size * rng.uniform(0.38, 0.62, 3)
    listener[2] = min(1.6, 0.6 * size[2])
    number = np.arange(-4, 5)
    cells = np.stack(np.meshgrid(number, number, number, indexing="ij"), axis=-1).reshape(-1, 3)
    if not canvas.params.place:
        cells = cells[cells[:, 2] == 0]  # soft ground and the sky do not answer
    cells = cells[np.any(cells != 0, axis=1)]
    results = []
    for side in (-1.0, 1.0):
        way = np.array([0.24 * side, 0.2, 0.0]) * min(10.0, size[0])
        source = listener + way
        images = cells * size + np.where(cells % 2 == 0, source, size - source)
        distances_m = np.linalg.norm(images - listener, axis=1) * rng.uniform(0.97, 1.03, len(cells))
        delays_m = np.maximum(distances_m - np.linalg.norm(way), 0.0)
        results.append((delays_m, distances_m, np.abs(cells).sum(axis=1)))
    delays, distances, walls = (np.array(one, dtype=np.float64) for one in zip(*results, strict=True))
    return delays, distances, walls


# Width and peaks -------------------------------------------------------------------------------------------------


def _narrow(sound: Samples, least_correlation: float) -> Samples:
    """Lower the difference of left and right, in place, until they correlate by at least that (0 to 1).

    With m and s the powers of half the sum and half the difference, the correlation is at least (m - s) / (m + s). From
    0 up, playing both sides together takes no more than 3 dB. Far sounds are narrow: they subtend a small angle.
    """
    left, right = sound
    powers = np.zeros(3)
    for start in range(0, sound.shape[1], _NARROW_BLOCK):
        one, other = (side[start : start + _NARROW_BLOCK].astype(np.float64) for side in (left, right))
        powers += one @ one, other @ other, one @ other
    middle, difference = powers[0] + powers[1] + 2.0 * powers[2], powers[0] + powers[1] - 2.0 * powers[2]
    if difference * (1.0 + least_correlation) <= middle * (1.0 - least_correlation):
        return sound
    gain = np.sqrt(max(middle, 0.0) * (1.0 - least_correlation) / (difference * (1.0 + least_correlation)))
    # left' = (l + r) / 2 + gain (l - r) / 2, and the other way round
    shift = np.float32(0.5 * (1.0 - gain))
    for start in range(0, sound.shape[1], _NARROW_BLOCK):
        both = sound[:, start : start + _NARROW_BLOCK]
        moved = (both[0] - both[1]) * shift
        both[0] -= moved
        both[1] += moved
    return sound


_NARROW_BLOCK = 1 << 18


def soften_peaks(sound: Samples, knee: float = 0.5, ceiling: float = 0.95) -> None:
    """Bend, in place, what reaches above `knee` so that it stays under `ceiling`.

    Only the rare loudest crackles and drops reach it. Turning the whole texture down for them instead would make its
    loudness a matter of luck. Without memory, so it is as circular as its input.
    """
    channels, samples = np.nonzero(np.abs(sound) > knee)
    high = sound[channels, samples]
    room = np.float32(ceiling - knee)
    sound[channels, samples] = np.sign(high) * (knee + room * np.tanh((np.abs(high) - knee) / room))
