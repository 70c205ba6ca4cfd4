"""Songbirds in a wood, gulls over a harbor, an owl at night, crows over a field.

A songbird's syllable is a nearly pure tone whose pitch sweeps (Farnell, *Designing Sound*, "Birds"; the syrinx has
little overtones), and as the syrinx has two sides there may be two of them at once (R. A. Suthers, "Contributions to
birdsong from the left and right sides of the intact syrinx", Nature, 1990). What makes a song is its phrase: a motif,
repeated with small changes, then a pause. Each bird here has a style, draws its own motif in it, keeps to its own pitch
and perch, and varies it every time. The cries of gulls and crows are rich in harmonics, with the resonance of a beak
that opens and shuts, and rough. A tawny owl hoots one long note, rests, and ends in a trembling one (H. Mikkola, *Owls
of Europe*, 1983).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from ambientgen.audio.clip import Samples
from ambientgen.synth.events import event_count, fold, pan, random_starts, scatter, spread_times, stereo
from ambientgen.synth.shaping import Canvas, Points, curve, db, modulate, shaped_noise

_WOOD: Final = ((30, -12), (63, 1), (125, 0), (250, -9), (500, -16), (1000, -22), (3000, -31), (8000, -35))
_HARBOR: Final = ((30, -8), (80, -2), (200, 0), (500, -4), (1500, -9), (4000, -15), (12000, -26))
_NIGHT: Final = ((30, -12), (80, -4), (180, 0), (400, -3), (800, -9), (2000, -17), (6000, -29))
_FIELD: Final = ((30, -8), (80, 0), (200, 0), (500, -5), (1500, -11), (4000, -18), (12000, -30))
#: How many versions of its phrase a bird has: it repeats itself, but never at once.
_NUM_VERSIONS: Final = 6

Curve = npt.NDArray[np.float64]


class _Style(NamedTuple):
    """How birds of one kind sing.

    Attributes:
        pitch_hz: lowest and highest middle of their songs.
        reach: how far their syllables stray from it, in nepers.
        length_s: shortest and longest syllable.
        gap_s: shortest and longest gap.
        kinds: fewest and most kinds of syllables in a motif.
        repeats: fewest and most repeats of each.
        wavers: share of syllables that tremble.
        waver_hz: slowest and fastest tremble.
        waver: how deep it goes.
        two_voiced: share of syllables with a second voice.
        falls: how far a phrase sinks until its end, in nepers.
    """

    pitch_hz: tuple[float, float]
    reach: float
    length_s: tuple[float, float]
    gap_s: tuple[float, float]
    kinds: tuple[int, int]
    repeats: tuple[int, int]
    wavers: float
    waver_hz: tuple[float, float]
    waver: float
    two_voiced: float
    falls: float


_STYLES: Final = (
    # Fluting: slow whistles, each another, some of them with two voices.
    _Style((1900.0, 2700.0), 0.22, (0.12, 0.34), (0.04, 0.16), (3, 5), (1, 2), 0.35, (14.0, 30.0), 0.05, 0.3, 0.0),
    # Bells: two notes in turn, again and again.
    _Style((3300.0, 4700.0), 0.16, (0.08, 0.16), (0.03, 0.08), (2, 2), (1, 1), 0.1, (40.0, 60.0), 0.03, 0.0, 0.0),
    # Cascades: series that quicken and sink.
    _Style((3200.0, 4300.0), 0.2, (0.05, 0.1), (0.02, 0.05), (3, 5), (3, 6), 0.1, (30.0, 60.0), 0.05, 0.1, 0.3),
    # Trills: one syllable very fast.
    _Style((3600.0, 5600.0), 0.16, (0.03, 0.06), (0.012, 0.03), (2, 3), (8, 16), 0.0, (30.0, 40.0), 0.0, 0.0, 0.08),
    # Threads: thin, high and quick.
    _Style((5600.0, 7200.0), 0.12, (0.06, 0.16), (0.04, 0.1), (2, 4), (2, 4), 0.4, (50.0, 90.0), 0.04, 0.0, 0.05),
    # Chatter: short sweeps of every kind, some of them harsh.
    _Style((2600.0, 4200.0), 0.4, (0.04, 0.14), (0.03, 0.12), (5, 8), (1, 3), 0.4, (70.0, 160.0), 0.07, 0.25, 0.0),
)


class _Syllable(NamedTuple):
    """A sweep: pitches in Hz at its start, middle and end, its length, how it trembles, and its second voice."""

    start_hz: float
    middle_hz: float
    end_hz: float
    length_s: float
    gap_s: float
    repeats: int
    waver_hz: float = 0.0
    waver: float = 0.0
    second: float = 0.0
    level: float = 1.0


class _Kind(NamedTuple):
    """One variant.

    Attributes:
        voice: draws a bird, and returns `_NUM_VERSIONS` of its phrases.
        birds: how many at intensity 0 and 1.
        pause_s: between a bird's phrases, at intensity 0 and 1.
        bed: spectrum of the place.
        bed_db: its level.
    """

    voice: Callable[[Canvas], list[Samples]]
    birds: tuple[float, float]
    pause_s: tuple[float, float]
    bed: Points
    bed_db: float


def render(canvas: Canvas) -> Samples:
    """Birds. More intensity: more of them, who sing more often. So does density alone: at 1 it is a dawn chorus."""
    kind = _KINDS[canvas.params.kind]
    out = shaped_noise(canvas, kind.bed, correlation=0.4)
    modulate(canvas, out, np.exp(0.2 * curve(canvas, 0.04, 0.3, 2)))
    out *= np.float32(db(kind.bed_db))
    num_birds = max(1, round(canvas.swing(*kind.birds) * canvas.crowd(0.4, 2.5)))
    nearness = np.sort(canvas.character.uniform(0.25, 0.85, num_birds) ** 2)[::-1]
    nearness[0] = 1.0
    sides = canvas.character.permutation(np.linspace(-0.85, 0.85, num_birds))
    buffer = np.zeros((2, canvas.num_samples + 8 * canvas.sample_rate_hz), dtype=np.float32)
    for near, side in zip(nearness, sides, strict=True):
        phrases = kind.voice(canvas)
        pause_s = canvas.swing(*kind.pause_s) * canvas.crowd(1.3, 1.0 / 1.3) * canvas.rng.uniform(0.8, 1.5)
        _sing(canvas, buffer, phrases, pause_s, float(near), float(side))
    out += fold(buffer, canvas.num_samples)
    if canvas.params.kind == "songbirds":
        out += _chorus(canvas)
    return out


def _sing(canvas: Canvas, buffer: Samples, phrases: list[Samples], pause_s: float, near: float, side: float) -> None:
    """One bird's phrases all around the circle, with pauses of its own, never the same twice in a row."""
    gains = np.concatenate(pan(np.array([side]))) * near
    before = 0
    for time_s in spread_times(canvas, max(1, round(canvas.duration_s / pause_s)), 0.8):
        before = (before + int(canvas.rng.integers(1, len(phrases)))) % len(phrases)
        start = int(time_s * canvas.sample_rate_hz) % canvas.num_samples
        phrase = phrases[before][: buffer.shape[1] - start]
        level = canvas.rng.uniform(0.5, 1.0)
        buffer[:, start : start + phrase.size] += phrase * (gains[:, None] * level).astype(np.float32)
    canvas.tick()


# Songbirds -------------------------------------------------------------------------------------------------------


def _songbird(canvas: Canvas, num_versions: int = _NUM_VERSIONS) -> list[Samples]:
    style = _STYLES[int(canvas.character.integers(0, len(_STYLES)))]
    motif = _motif(canvas, style)
    return [_phrase(canvas, style, motif) for _ in range(num_versions)]


def _motif(canvas: Canvas, style: _Style) -> list[_Syllable]:
    """What one songbird sings: a few kinds of syllables around its own pitch."""
    rng = canvas.character
    low, high = style.pitch_hz
    center = low * (high / low) ** rng.random()
    motif = []
    for _ in range(int(rng.integers(style.kinds[0], style.kinds[1] + 1))):
        middle = center * np.exp(style.reach * rng.uniform(-1.0, 1.0))
        start, end = (middle * np.exp(style.reach * rng.uniform(-0.7, 0.7, 2))).tolist()
        wavers, two = rng.random() < style.wavers, rng.random() < style.two_voiced
        motif.append(
            _Syllable(
                start_hz=start,
                middle_hz=middle,
                end_hz=end,
                length_s=rng.uniform(*style.length_s),
                gap_s=rng.uniform(*style.gap_s),
                repeats=int(rng.integers(style.repeats[0], style.repeats[1] + 1)),
                waver_hz=rng.uniform(*style.waver_hz),
                waver=style.waver * rng.uniform(0.4, 1.0) * wavers,
                second=rng.uniform(1.18, 1.55) * two,
                level=rng.uniform(0.5, 1.0),
            )
        )
    return motif


def _phrase(canvas: Canvas, style: _Style, motif: list[_Syllable]) -> Samples:
    """The motif, once or as often as it takes: a little higher or lower, faster or slower than last time."""
    rng = canvas.rng
    higher, slower = rng.normal(1.0, 0.02), rng.uniform(0.92, 1.1)
    longest_s = canvas.slide(1.2, 2.6) * rng.uniform(0.7, 1.2)
    notes = [one for one in motif for _ in range(max(1, one.repeats + int(rng.integers(-1, 2)) * (one.repeats > 1)))]
    notes *= max(1, round(longest_s / sum((one.length_s + one.gap_s) * slower for one in notes)))
    ends_s = np.cumsum([(one.length_s + one.gap_s) * slower for one in notes])
    notes = notes[: max(2, int(np.searchsorted(ends_s, longest_s)))]
    parts = []
    for number, one in enumerate(notes):
        sunk = style.falls * number / len(notes)
        higher_now = higher * np.exp(-sunk) * rng.normal(1.0, 0.008)
        parts.append(_syllable(canvas, one, float(higher_now), slower * (1.0 - 0.5 * sunk)))
    return np.concatenate(parts)


def _syllable(canvas: Canvas, one: _Syllable, higher: float, slower: float) -> Samples:
    """One syllable and the gap after it, shape (length,)."""
    rate = canvas.sample_rate_hz
    size = max(64, int(one.length_s * slower * rate))
    place = np.linspace(0.0, 1.0, size)
    hz = higher * _through(one.start_hz, one.middle_hz, one.end_hz, place)
    if one.waver:
        hz *= 1.0 + one.waver * np.sin(2.0 * np.pi * one.waver_hz / rate * np.arange(size))
    phase = 2.0 * np.pi * np.cumsum(hz) / rate
    envelope = np.sin(np.pi * place**0.7) ** 1.2 * one.level
    out = np.zeros(size + int(one.gap_s * slower * rate), dtype=np.float32)
    out[:size] = envelope * (np.sin(phase) + 0.16 * envelope * np.sin(2.0 * phase) + 0.05 * np.sin(3.0 * phase))
    if one.second:
        out[:size] += 0.6 * np.roll(envelope, size // 6) * np.sin(one.second * phase)
    return out


def _through(start: float, middle: float, end: float, place: Curve) -> Curve:
    """A parabola through three values, at places from 0 to 1."""
    return np.asarray(
        start + place * (4.0 * middle - 3.0 * start - end) + place**2 * (2.0 * start + 2.0 * end - 4.0 * middle)
    )


def _chorus(canvas: Canvas) -> Samples:
    """All the birds too far to be told apart, whose songs run into each other."""
    phrases = [_songbird(canvas, 1)[0] for _ in range(18)]
    size = int(1.6 * canvas.sample_rate_hz)
    templates = np.stack([np.pad(one[:size], (0, max(0, size - one.size))) for one in phrases])
    templates[:, -2000:] *= np.linspace(1.0, 0.0, 2000, dtype=np.float32)
    starts = random_starts(canvas, event_count(canvas, canvas.swing(0.9, 2.0) * canvas.crowd(0.25, 4.0)))
    gains = 10.0 ** (canvas.rng.normal(-28.0, 4.0, starts.size) / 20.0)
    return scatter(canvas, stereo(canvas, templates, 0.95), starts, gains)


# Harsh voices ----------------------------------------------------------------------------------------------------


def _cry(
    canvas: Canvas, hz: Curve, levels: Curve, beak_hz: Curve, *, width_hz: float, rough: float, breath: float
) -> Samples:
    """A cry rich in harmonics through the resonance of a beak, shape (length,), of about unit peak.

    Args:
        canvas: for the rate and for chance.
        hz: pitch, sample by sample.
        levels: envelope, sample by sample.
        beak_hz: where the resonance is, sample by sample.
        width_hz: how wide it is.
        rough: how unsteady the pitch is from one moment to the next, in nepers.
        breath: share of noise.
    """
    rate = canvas.sample_rate_hz
    size = hz.size
    points = max(4, size * 150 // rate)
    shake = np.interp(np.linspace(0.0, points - 1.0, size), np.arange(points), canvas.rng.standard_normal(points))
    pitch = hz * np.exp(rough * shake)
    phase = 2.0 * np.pi * np.cumsum(pitch) / rate
    out = np.zeros(size)
    # sin(n x) from the two before it: far cheaper than so many sines.
    last, this, twice = np.zeros(size), np.sin(phase), 2.0 * np.cos(phase)
    for number in range(1, int(min(8000.0, 0.4 * rate) / np.max(pitch)) + 1):
        away = (number * pitch - beak_hz) / width_hz
        out += this * (1.0 / (1.0 + away**2) + 0.05 / number)
        last, this = this, twice * this - last
    if breath:
        soft = np.hanning(rate // 500)
        puff = np.convolve(canvas.rng.standard_normal(size), soft, "same")[:size] * np.sin(
            2.0 * np.pi * np.cumsum(beak_hz) / rate
        )
        out += breath * np.std(out) / (np.std(puff) + 1e-9) * puff
    out *= levels * (1.0 + 4.0 * rough * np.roll(shake, size // 7))
    return np.asarray(out / (np.max(np.abs(out)) + 1e-9), dtype=np.float32)


def _gull(canvas: Canvas) -> list[Samples]:
    """A gull: a long cry, then a series that slows down and sinks; and at times a low, quick cackle."""
    rng, rate = canvas.character, canvas.sample_rate_hz
    low = rng.uniform(620.0, 820.0)
    top = low * rng.uniform(1.45, 1.75)
    own_s, gap_s, beak = rng.uniform(0.3, 0.5), rng.uniform(0.1, 0.2), rng.uniform(2300.0, 3000.0)
    phrases = []
    for version in range(_NUM_VERSIONS):
        cackles = version == _NUM_VERSIONS - 1
        count = 4 if cackles else int(canvas.rng.integers(1, round(canvas.slide(3.0, 6.0)) + 2))
        slower = canvas.rng.uniform(0.85, 1.2) * (0.3 if cackles else 1.0)
        parts = []
        for index in range(count):
            length_s = own_s * slower * (1.3 if index == 0 else 0.8 + 0.05 * index)
            place = np.linspace(0.0, 1.0, int(length_s * rate))
            pitch = canvas.rng.normal(1.0, 0.02) * (1.0 - 0.02 * index) * (0.75 if cackles else 1.0)
            hz = pitch * _through(low, top, low * 1.1, place**0.8)
            levels = np.sin(np.pi * place**0.6) ** 1.1
            beaks = beak * (0.75 + 0.35 * np.sin(np.pi * place))
            parts.append(_cry(canvas, hz, levels, beaks, width_hz=900.0, rough=0.012, breath=0.12))
            parts.append(np.zeros(int(gap_s * (1.0 + 0.12 * index) * slower * rate), dtype=np.float32))
        phrases.append(np.concatenate(parts))
        canvas.tick()
    return phrases


def _crow(canvas: Canvas) -> list[Samples]:
    """A crow: two to five hoarse caws."""
    rng, rate = canvas.character, canvas.sample_rate_hz
    low = rng.uniform(380.0, 560.0)
    own_s, gap_s, beak = rng.uniform(0.2, 0.36), rng.uniform(0.14, 0.32), rng.uniform(1250.0, 1750.0)
    rough, breath = rng.uniform(0.02, 0.05), rng.uniform(0.3, 0.7)
    phrases = []
    for _ in range(_NUM_VERSIONS):
        parts = []
        for index in range(int(canvas.rng.integers(2, round(canvas.slide(3.0, 5.0)) + 1))):
            place = np.linspace(0.0, 1.0, int(own_s * canvas.rng.uniform(0.85, 1.2) * rate))
            hz = canvas.rng.normal(1.0, 0.03) * low * _through(0.85, 1.12, 0.72, place)
            levels = np.sin(np.pi * place**0.5) ** 0.9 * (1.0 - 0.06 * index)
            beaks = beak * (0.7 + 0.4 * np.sin(np.pi * place**0.8))
            parts.append(_cry(canvas, hz, levels, beaks, width_hz=420.0, rough=rough, breath=breath))
            parts.append(np.zeros(int(gap_s * canvas.rng.uniform(0.8, 1.3) * rate), dtype=np.float32))
        phrases.append(np.concatenate(parts))
        canvas.tick()
    return phrases


def _owl(canvas: Canvas) -> list[Samples]:
    """A tawny owl: one long hoot, a rest of some seconds, a short note, and a long one that trembles and sinks."""
    rng, rate = canvas.character, canvas.sample_rate_hz
    pitch, trembles_hz, rest_s = rng.uniform(640.0, 860.0), rng.uniform(11.0, 15.0), rng.uniform(2.2, 3.4)

    def hoot(length_s: float, rise: float, fall: float, tremble: float, level: float) -> Samples:
        place = np.linspace(0.0, 1.0, int(length_s * canvas.rng.uniform(0.93, 1.07) * rate))
        hz = pitch * canvas.rng.normal(1.0, 0.008) * _through(1.0 - rise, 1.0, 1.0 - fall, place)
        swell = np.sin(np.pi * place**0.75) ** 0.8
        if tremble:
            beat = np.sin(2.0 * np.pi * trembles_hz * place * length_s)
            depth = tremble * np.clip(2.2 - 2.6 * place, 0.0, 1.0)
            hz, swell = hz * (1.0 + 0.025 * depth * beat), swell * (1.0 - 0.5 * depth * (1.0 + beat))
        phase = 2.0 * np.pi * np.cumsum(hz) / rate
        return np.asarray(level * swell * (np.sin(phase) + 0.09 * np.sin(2.0 * phase) + 0.03 * np.sin(3.0 * phase)))

    def rest(seconds: float) -> Samples:
        return np.zeros(int(seconds * canvas.rng.uniform(0.9, 1.1) * rate), dtype=np.float32)

    phrases = []
    for _ in range(_NUM_VERSIONS):
        parts = [hoot(0.75, 0.04, 0.05, 0.0, 0.9), rest(rest_s), hoot(0.16, 0.02, 0.03, 0.0, 0.4), rest(0.3)]
        parts.append(hoot(1.6, 0.03, 0.1, 0.8, 1.0))
        phrases.append(np.concatenate(parts).astype(np.float32))
    canvas.tick()
    return phrases


_KINDS: Final = {
    "songbirds": _Kind(_songbird, (3.0, 9.0), (9.5, 4.0), _WOOD, -27.0),
    "gulls": _Kind(_gull, (2.0, 6.0), (13.0, 6.0), _HARBOR, -23.0),
    "owl": _Kind(_owl, (1.0, 2.6), (34.0, 14.0), _NIGHT, -18.0),
    "crows": _Kind(_crow, (2.0, 6.5), (14.0, 6.5), _FIELD, -23.0),
}
