"""The murmur of a cafe: many talkers at once, none of whom says a word, and a cup now and then.

Speech is a buzzing source (the voice) in a tube with resonances (the formants): G. Fant, *Acoustic Theory of Speech
Production* (1960). Here random vowels glide into each other at a speaking rhythm, so that the ear hears people but
there is nothing to understand. A handful of talkers already merges into babble (S. A. Simpson and M. Cooke,
"Consonant identification in N-talker babble is a nonmonotonic function of N", J. Acoust. Soc. Am., 2005).
"""

from __future__ import annotations

from typing import Final

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
from ambientgen.synth.shaping import Canvas, curve, db, modulate, shaped_noise

_ROOM = ((30, -8), (63, -4), (125, 0), (250, 0), (500, -4), (1000, -10), (2000, -16), (4000, -20), (12000, -28))
_BREATH = ((500, -30), (2000, -12), (4000, 0), (8000, -6), (14000, -20))
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
_SYLLABLES_A_TALKER: Final = 10


def render(canvas: Canvas) -> Samples:
    """Babble in a room. A busier cafe has more talkers, closer, who speak up, and more cups."""
    num_talkers = round(canvas.swing(3.5, 17.0))
    out = shaped_noise(canvas, _ROOM, correlation=0.6)
    out = modulate(canvas, out, np.exp(0.15 * curve(canvas, 0.05, 1.0, 2)))
    out *= np.float32(db(canvas.slide(-22.0, -15.0)))
    for index, side in enumerate(canvas.rng.permutation(np.linspace(-0.55, 0.55, num_talkers))):
        out += _talker(canvas, float(side), low=index % 2 == 0) * np.float32(
            db(-4.0) * canvas.rng.uniform(0.35, 1.0) ** 2
        )
    out += _consonants(canvas, num_talkers)
    out += _cups(canvas)
    return out


def _talker(canvas: Canvas, side: float, *, low: bool) -> Samples:
    """One talker: syllables at three to five a second in phrases, with pauses to listen."""
    rng = canvas.rng
    pitch = rng.uniform(95.0, 135.0) if low else rng.uniform(170.0, 230.0)
    left, right = pan(np.array([side]))
    syllables = _syllables(canvas, pitch)[:, None, :] * np.array([left, right], dtype=np.float32)
    times = spread_times(canvas, max(1, round(canvas.duration_s * rng.uniform(3.2, 4.8))), 0.7)
    turn = curve(canvas, 0.08, 0.5)[0]
    speaking = turn[(times / canvas.duration_s * turn.size).astype(int) % turn.size]
    times, speaking = times[speaking > 0.0], speaking[speaking > 0.0]
    gains = rng.uniform(0.5, 1.0, times.size) * (0.7 + 0.2 * np.clip(speaking, 0.0, 2.0))
    starts = (times * canvas.sample_rate_hz).astype(np.intp) % canvas.num_samples
    return scatter(canvas, syllables, starts, gains)


def _syllables(canvas: Canvas, pitch_hz: float) -> Samples:
    """Voiced syllables of one talker, shape (count, length), each gliding from one vowel to another."""
    rng, rate = canvas.rng, canvas.sample_rate_hz
    size = int(0.34 * rate)
    place = np.arange(size) / size
    # A falling or rising melody around the talker's own pitch.
    start = pitch_hz * np.exp(rng.normal(0.0, 0.11, (_SYLLABLES_A_TALKER, 1)))
    hz = start * np.exp(rng.normal(-0.06, 0.1, (_SYLLABLES_A_TALKER, 1)) * place)
    cycles = np.cumsum(hz, axis=-1) / rate
    # The glottis: flow that opens slowly and shuts quickly, once a cycle.
    opening = np.mod(cycles, 1.0).astype(np.float32)
    source = opening**2 * (1.0 - opening) * np.float32(6.75) - np.float32(0.5625)
    length = rng.uniform(0.35, 1.0, (_SYLLABLES_A_TALKER, 1))
    inside = np.clip(place / length, 0.0, 1.0)
    envelope = (np.sin(np.pi * inside**0.6) ** 1.3).astype(np.float32)
    spectrum = np.fft.rfft(source * envelope, 1 << size.bit_length())
    hz_axis = np.fft.rfftfreq(1 << size.bit_length(), 1.0 / rate).astype(np.float32)
    scale = 1.0 + 0.15 * (pitch_hz > 150.0)
    glide = place.astype(np.float32)
    out = np.zeros((_SYLLABLES_A_TALKER, size), dtype=np.float32)
    for share in (1.0 - glide, glide):
        out += np.fft.irfft(spectrum * _tracts(canvas, hz_axis, scale))[:, :size] * share
    out /= np.sqrt(np.mean(out**2, axis=-1, keepdims=True)) * np.float32(1.5)
    # The tract rings a little on; close it before the template ends.
    out *= np.minimum(1.0, (1.0 - place) * 12.0).astype(np.float32)
    return out


def _tracts(canvas: Canvas, hz: Samples, scale: float) -> npt.NDArray[np.complex64]:
    """The vocal tracts of random vowels, shape (count, bins): three resonances in a row, and the lips."""
    vowels = np.array(_VOWELS)[canvas.rng.integers(0, len(_VOWELS), _SYLLABLES_A_TALKER)]
    formants = (vowels * scale * canvas.rng.normal(1.0, 0.04, vowels.shape)).astype(np.float32)
    # A raised voice is a brighter one.
    effort = (1.0 + (hz / 450.0) ** 2) ** canvas.slide(-0.45, 0.45) / (1.0 + (hz / canvas.swing(1700.0, 3900.0)) ** 4)
    total = np.tile((effort * hz / (hz + 220.0)).astype(np.complex64), (_SYLLABLES_A_TALKER, 1))
    for formant, width in zip(formants.T[:, :, None], (80.0, 110.0, 170.0), strict=True):
        total *= formant**2 / (formant**2 - hz**2 + np.complex64(1j) * hz * np.float32(width))
    return total


def _consonants(canvas: Canvas, num_talkers: int) -> Samples:
    """Soft breaths of noise: the s, t and f of the crowd."""
    decay = canvas.rng.uniform(0.015, 0.05, 48)
    templates = stereo(canvas, bursts(canvas, 48, _BREATH, 0.16, decay), 0.9)
    starts = random_starts(canvas, event_count(canvas, 1.3 * num_talkers))
    return scatter(canvas, templates, starts, heavy_tail(canvas, starts.size, 4.0, 6.0) * db(-21.0))


def _cups(canvas: Canvas) -> Samples:
    """Cups, spoons and plates: soft high modes, never close by."""
    base = canvas.rng.uniform(1500.0, 3600.0, (32, 1))
    modes = base * (1.0 + canvas.rng.uniform(0.5, 0.9, (32, 4)) * np.arange(4))
    decay = canvas.rng.uniform(0.02, 0.12, (32, 4)) / (1.0 + 0.4 * np.arange(4))
    templates = stereo(canvas, rings(canvas, modes, decay, 0.35), 0.8)
    starts = random_starts(canvas, event_count(canvas, canvas.swing(0.25, 1.3)))
    return scatter(canvas, templates, starts, heavy_tail(canvas, starts.size, 4.0, 6.0) * db(-17.0))
