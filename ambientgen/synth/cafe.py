"""The murmur of a cafe and of a tavern: many talkers at once, none of whom says a word, and cups or mugs.

Speech is a buzzing source (the voice) in a tube with resonances (the formants): G. Fant, *Acoustic Theory of Speech
Production* (1960). Here random vowels glide into each other at a speaking rhythm, with breaths of noise between them,
so that the ear hears people but there is nothing to understand. A handful of talkers already merges into babble (S. A.
Simpson and M. Cooke, "Consonant identification in N-talker babble is a nonmonotonic function of N", J. Acoust. Soc.
Am., 2005). In a tavern somebody laughs: a row of short, breathy vowels, some five a second, well above the speaking
pitch (J.-A. Bachorowski, M. J. Smoski and M. J. Owren, "The acoustic features of human laughter", J. Acoust. Soc. Am.,
2001).
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from ambientgen.audio.clip import Samples
from ambientgen.synth.events import (
    bursts,
    event_count,
    heavy_tail,
    pan,
    random_starts,
    rings,
    scatter,
    spread_times,
    stereo,
)
from ambientgen.synth.shaping import Canvas, Ints, Points, convolve, curve, db, modulate, shaped_noise

#: Consonants: s, sh, f, and the soft breath of an h or of a stop.
_BREATHS: Final = (
    ((1500, -38), (4000, -9), (6000, 0), (8500, 0), (14000, -12)),
    ((900, -34), (2000, -7), (3300, 0), (5500, -4), (12000, -22)),
    ((500, -24), (1500, -8), (5000, -3), (9000, 0), (14000, -8)),
    ((300, -12), (800, 0), (1800, -3), (3500, -8), (9000, -18)),
)
_CLATTER: Final = ((600, -24), (1800, -8), (4000, 0), (7000, -2), (13000, -10))
_THUD: Final = ((50, -12), (110, 0), (220, -2), (450, -12), (1500, -26), (5000, -44))
#: First, second and third formants of vowels, Hz (G. E. Peterson and H. L. Barney, 1952).
_VOWELS: Final = (
    (270, 2290, 3010),
    (390, 1990, 2550),
    (530, 1840, 2480),
    (660, 1720, 2410),
    (730, 1090, 2440),
    (570, 840, 2410),
    (440, 1020, 2240),
    (300, 870, 2240),
    (640, 1190, 2390),
    (490, 1350, 1690),
)
#: Those of a laugh: open, and in the middle of the mouth.
_OPEN_VOWELS: Final = ((660, 1720, 2410), (730, 1090, 2440), (640, 1190, 2390))
_SYLLABLES_A_TALKER: Final = 12


class _House(NamedTuple):
    """Where people talk.

    Attributes:
        air: spectrum of the house itself: doors, machines, everybody too far to be told apart.
        air_db: its level at intensity 0 and 1.
        talkers: how many at intensity 0 and 1.
        low_share: share of low voices.
        low_hz: lowest and highest pitch of those.
        high_hz: lowest and highest pitch of the others.
        pace_hz: slowest and fastest syllables a second.
        melody: how far a voice strays from its pitch, in nepers.
        effort: how much voices are raised beyond what intensity does, 0 is plain.
        breaths_db: level of consonants against vowels.
    """

    air: Points
    air_db: tuple[float, float]
    talkers: tuple[float, float]
    low_share: float
    low_hz: tuple[float, float]
    high_hz: tuple[float, float]
    pace_hz: tuple[float, float]
    melody: float
    effort: float
    breaths_db: float


_HOUSES: Final = {
    "murmur": _House(
        air=(
            (25, -3),
            (50, -3),
            (90, -1),
            (150, 0),
            (250, -1),
            (500, -6),
            (1000, -17),
            (2000, -27),
            (4000, -37),
            (12000, -47),
        ),
        air_db=(-20.0, -13.0),
        talkers=(4.5, 18.0),
        low_share=0.5,
        low_hz=(95.0, 135.0),
        high_hz=(170.0, 230.0),
        pace_hz=(3.2, 4.8),
        melody=0.11,
        effort=0.0,
        breaths_db=1.5,
    ),
    "tavern": _House(
        air=((30, -8), (60, -2), (110, 0), (250, 0), (500, -3), (1000, -11), (2000, -22), (4000, -34), (12000, -50)),
        air_db=(-19.0, -12.0),
        talkers=(7.0, 22.0),
        low_share=0.78,
        low_hz=(82.0, 125.0),
        high_hz=(160.0, 220.0),
        pace_hz=(2.8, 4.4),
        melody=0.17,
        effort=0.12,
        breaths_db=-8.0,
    ),
}


def render(canvas: Canvas) -> Samples:
    """Babble in a house. A busier one has more talkers, who speak up, and more cups. Density alone: more of both."""
    house = _HOUSES[canvas.params.kind]
    tavern = canvas.params.kind == "tavern"
    num_talkers = max(2, round(canvas.swing(*house.talkers) * canvas.crowd(0.45, 1.0 / 0.45)))
    # Now and then the whole house grows livelier, then quieter.
    spirits = curve(canvas, 0.02, 0.12)[0]
    consonants = _consonants(canvas)
    out = np.zeros((2, canvas.num_samples), dtype=np.float32)
    for index, side in enumerate(canvas.character.permutation(np.linspace(-0.6, 0.6, num_talkers))):
        low = (index + 0.5) / num_talkers < house.low_share
        loud = db(-4.0) * canvas.character.uniform(0.35, 1.0) ** 2
        out += _talker(canvas, house, consonants, spirits, float(side), low=low) * np.float32(loud)
    if tavern:
        out += _laughs(canvas, house, spirits)
        out += _mugs(canvas)
        out += convolve(canvas, out, _boards(canvas))
    else:
        out += _cups(canvas)
    air = shaped_noise(canvas, house.air, correlation=0.6)
    modulate(canvas, air, np.exp(0.12 * spirits + 0.15 * curve(canvas, 0.05, 1.0, 2)))
    air *= np.float32(db(canvas.slide(*house.air_db)))
    return out + air


# Voices ----------------------------------------------------------------------------------------------------------


def _talker(
    canvas: Canvas, house: _House, consonants: Samples, spirits: npt.NDArray[np.float64], side: float, *, low: bool
) -> Samples:
    """One talker: syllables at a few a second in phrases, consonants before some, and pauses to listen."""
    rng = canvas.rng
    pitch = canvas.character.uniform(*(house.low_hz if low else house.high_hz))
    place = np.concatenate(pan(np.array([side])))[:, None].astype(np.float32)
    syllables = _syllables(canvas, house, pitch)[:, None, :] * place
    times = spread_times(canvas, max(1, round(canvas.duration_s * rng.uniform(*house.pace_hz))), 0.7)
    turn = 0.35 * spirits + 0.94 * curve(canvas, 0.08, 0.5)[0]
    speaking = turn[(times / canvas.duration_s * turn.size).astype(int) % turn.size]
    times, speaking = times[speaking > 0.0], speaking[speaking > 0.0]
    gains = rng.uniform(0.5, 1.0, times.size) * (0.7 + 0.2 * np.clip(speaking, 0.0, 2.0))
    starts = (times * canvas.sample_rate_hz).astype(np.intp) % canvas.num_samples
    out = scatter(canvas, syllables, starts, gains)
    with_breath = rng.random(times.size) < 0.65
    early = (rng.uniform(0.03, 0.11, times.size) * canvas.sample_rate_hz).astype(np.intp)
    loud = gains * heavy_tail(canvas, times.size, 4.0, 5.0) * db(house.breaths_db + canvas.slide(-2.0, 2.0))
    out += scatter(
        canvas, consonants[:, None, :] * place, (starts - early)[with_breath] % canvas.num_samples, loud[with_breath]
    )
    return out


def _syllables(canvas: Canvas, house: _House, pitch_hz: float) -> Samples:
    """Voiced syllables of one talker, shape (count, length), each gliding from one vowel to another."""
    rng, rate = canvas.rng, canvas.sample_rate_hz
    size = int(0.34 * rate)
    place = np.arange(size) / size
    # A falling or rising melody around the talker's own pitch.
    start = pitch_hz * np.exp(rng.normal(0.0, house.melody, (_SYLLABLES_A_TALKER, 1)))
    hz = start * np.exp(rng.normal(-0.06, 0.1, (_SYLLABLES_A_TALKER, 1)) * place)
    length = rng.uniform(0.35, 1.0, (_SYLLABLES_A_TALKER, 1))
    inside = np.clip(place / length, 0.0, 1.0)
    voiced = _voice(canvas, hz) * (np.sin(np.pi * inside**0.6) ** 1.3).astype(np.float32)
    scale = 1.0 + 0.15 * (pitch_hz > 150.0)
    glide = place.astype(np.float32)
    out = np.zeros_like(voiced)
    spectrum, hz_axis = _spectrum(voiced, rate)
    for share in (1.0 - glide, glide):
        tracts = _tracts(canvas, house, _VOWELS, _SYLLABLES_A_TALKER, hz_axis, scale)
        out += np.fft.irfft(spectrum * tracts)[:, :size] * share
    out /= np.sqrt(np.mean(out**2, axis=-1, keepdims=True)) * np.float32(1.5)
    # The tract rings a little on; close it before the template ends.
    out *= np.minimum(1.0, (1.0 - place) * 12.0).astype(np.float32)
    return out


def _voice(canvas: Canvas, hz: npt.NDArray[np.float64]) -> Samples:
    """The glottis, for pitches of shape (count, length): flow that opens slowly and shuts quickly, and its breath."""
    opening = np.mod(np.cumsum(hz, axis=-1) / canvas.sample_rate_hz, 1.0).astype(np.float32)
    flow = opening**2 * (1.0 - opening) * np.float32(6.75)
    breath = canvas.rng.standard_normal(hz.shape, dtype=np.float32)
    return np.asarray(flow - np.float32(0.5625) + np.float32(0.015) * flow * breath)


def _spectrum(sound: Samples, rate_hz: int) -> tuple[npt.NDArray[np.complexfloating], Samples]:
    """The spectrum of (count, length) sounds with room for what rings on, and its frequencies in Hz."""
    size = 1 << sound.shape[-1].bit_length()
    return np.fft.rfft(sound, size), np.fft.rfftfreq(size, 1.0 / rate_hz).astype(np.float32)


def _tracts(
    canvas: Canvas, house: _House, vowels: tuple[tuple[int, int, int], ...], count: int, hz: Samples, scale: float
) -> npt.NDArray[np.complex64]:
    """The vocal tracts of random vowels, shape (count, bins): four resonances in a row, and the lips."""
    chosen = np.array(vowels)[canvas.rng.integers(0, len(vowels), count)]
    chosen = np.concatenate([chosen, np.full((count, 1), 3500)], axis=1)
    formants = (chosen * scale * canvas.rng.normal(1.0, 0.04, chosen.shape)).astype(np.float32)
    # A raised voice is a brighter one.
    raised = canvas.slide(-0.4, 0.5) + house.effort
    effort = (1.0 + (hz / 450.0) ** 2) ** raised / (1.0 + (hz / canvas.swing(4200.0, 7500.0)) ** 4)
    total = np.tile((effort * hz / (hz + 1400.0)).astype(np.complex64), (count, 1))
    for formant, width in zip(formants.T[:, :, None], (80.0, 110.0, 170.0, 250.0), strict=True):
        total *= formant**2 / (formant**2 - hz**2 + np.complex64(1j) * hz * np.float32(width))
    return total


def _consonants(canvas: Canvas) -> Samples:
    """Soft breaths of noise, shape (count, length): s, sh, f and h, in which voices hardly differ."""
    parts = []
    for points in _BREATHS:
        breath = bursts(canvas, 8, points, 0.16, np.full(8, 0.5))
        place = np.arange(breath.shape[1]) / breath.shape[1] / canvas.rng.uniform(0.12, 0.9, (8, 1))
        parts.append(breath * (np.sin(np.pi * np.minimum(place, 1.0) ** 0.5) ** 1.3).astype(np.float32))
    return np.concatenate(parts)


def _laughs(canvas: Canvas, house: _House, spirits: npt.NDArray[np.float64]) -> Samples:
    """Somebody laughs, somewhere in the room: when spirits are high, and never close by."""
    rng, rate = canvas.rng, canvas.sample_rate_hz
    size, count = int(1.9 * rate), 8
    seconds = np.arange(size) / rate
    templates = np.zeros((count, size), dtype=np.float32)
    for number in range(count):
        low = number / count < house.low_share
        pitch = rng.uniform(1.45, 2.0) * rng.uniform(*(house.low_hz if low else house.high_hz))
        pulses_hz = rng.uniform(4.2, 5.6)
        turn = seconds * pulses_hz
        num_pulses = int(rng.integers(4, min(9, int(1.7 * pulses_hz))))
        inside = np.mod(turn, 1.0)
        # Each is a puff that falls in pitch, the row sinks and dies away, and its first is not the loudest.
        hz = pitch * np.exp(0.1 * (0.5 - inside) - 0.055 * turn)
        puffs = np.sin(np.pi * np.clip(inside / rng.uniform(0.45, 0.62), 0.0, 1.0) ** 0.7) ** 1.2
        puffs *= (turn < num_pulses) * np.minimum(1.0, 0.55 + 0.3 * np.floor(turn)) * np.exp(-0.16 * turn)
        voiced = (_voice(canvas, hz[None, :]) + 0.05 * rng.standard_normal((1, size))) * puffs
        spectrum, hz_axis = _spectrum(np.asarray(voiced, dtype=np.float32), rate)
        tract = _tracts(canvas, house, _OPEN_VOWELS, 1, hz_axis, 1.0 if low else 1.15)
        templates[number] = np.fft.irfft(spectrum * tract)[0, :size]
    templates /= np.max(np.abs(templates), axis=-1, keepdims=True) + np.float32(1e-9)
    templates *= np.minimum(1.0, (1.9 - seconds) * 12.0).astype(np.float32)
    rate_hz = canvas.swing(0.06, 0.24) * canvas.crowd(0.45, 1.0 / 0.45)
    starts = random_starts(canvas, event_count(canvas, rate_hz), np.exp(1.2 * spirits))
    return scatter(canvas, stereo(canvas, templates, 0.8), starts, rng.uniform(0.4, 1.0, starts.size) * db(-1.0))


# Things ----------------------------------------------------------------------------------------------------------


def _cups(canvas: Canvas) -> Samples:
    """Cups, spoons and plates: one to four soft, bright knocks in a row, never close by."""
    rng = canvas.rng
    base = rng.uniform(1900.0, 4600.0, (48, 1))
    modes = base * (1.0 + rng.uniform(0.35, 0.75, (48, 5)) * np.arange(5))
    decay = 10.0 ** rng.uniform(-2.1, -1.25, (48, 5)) / (1.0 + 0.3 * np.arange(5))
    knocks = rings(canvas, modes, decay, 0.25)
    clatter = bursts(canvas, 48, _CLATTER, 0.25, rng.uniform(0.003, 0.012, 48))
    templates = stereo(canvas, knocks * np.float32(0.5) + clatter, 0.8)
    starts, gains = _knocks(canvas, canvas.swing(0.3, 1.5) * canvas.crowd(0.4, 2.5), 4)
    return scatter(canvas, templates, starts, gains * db(-17.0))


def _mugs(canvas: Canvas) -> Samples:
    """Mugs on boards, and against each other: a dull thud with a clunk in it."""
    rng = canvas.rng
    base = rng.uniform(420.0, 1300.0, (32, 1))
    modes = base * (1.0 + rng.uniform(0.5, 1.1, (32, 4)) * np.arange(4))
    decay = rng.uniform(0.008, 0.03, (32, 4)) / (1.0 + 0.4 * np.arange(4))
    clunks = rings(canvas, modes, decay, 0.2)
    thuds = bursts(canvas, 32, _THUD, 0.2, rng.uniform(0.015, 0.045, 32))
    templates = stereo(canvas, clunks * rng.uniform(0.2, 0.7, (32, 1)).astype(np.float32) + thuds, 0.8)
    starts, gains = _knocks(canvas, canvas.swing(0.35, 1.3) * canvas.crowd(0.4, 2.5), 2)
    return scatter(canvas, templates, starts, gains * db(-7.0))


def _knocks(canvas: Canvas, rate_hz: float, most: int) -> tuple[Ints, npt.NDArray[np.float64]]:
    """When things knock, and how loud: a first one, and up to `most` - 1 softer ones close after."""
    first = random_starts(canvas, event_count(canvas, rate_hz))
    loud = heavy_tail(canvas, first.size, 4.0, 5.0)
    owner = np.repeat(np.arange(first.size), canvas.rng.integers(0, most, first.size))
    after = (canvas.rng.uniform(0.04, 0.35, owner.size) * canvas.sample_rate_hz).astype(np.intp)
    starts = np.concatenate([first, (first[owner] + after) % canvas.num_samples])
    return starts, np.concatenate([loud, loud[owner] * canvas.rng.uniform(0.25, 0.8, owner.size)])


def _boards(canvas: Canvas) -> Samples:
    """A low room of bare wood, shape (2, taps): a dozen rough, single echoes within a twentieth of a second."""
    rate = canvas.sample_rate_hz
    kernel = np.zeros((2, int(0.06 * rate)), dtype=np.float32)
    for channel in kernel:
        delays_s = canvas.character.uniform(0.004, 0.055, 12)
        signs = canvas.character.choice([-1.0, 1.0], 12)
        np.add.at(channel, (delays_s * rate).astype(np.intp), (0.34 * signs * np.exp(-delays_s * 26.0)).astype("f4"))
    return kernel
