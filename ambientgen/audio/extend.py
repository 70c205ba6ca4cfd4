"""Longer than its takes: grains of them for a bed, their phrases on a new schedule for events."""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from ambientgen.audio.clip import Clip, Samples
from ambientgen.audio.loop import crossfade, make_loop
from ambientgen.audio.resample import resample
from ambientgen.audio.sound import BLOCK_SAMPLES, blocks_of, read_around

Array = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]
#: Of pieces: which source, from where in it, and how long.
_Pieces = tuple[Places | int, Places | int, Places | int]

#: More takes than this no longer lower what is measured (`benchmarks/repetition.py`), and each costs an engine's time.
MAX_TAKES = 4
_MIN_OVERLAP_S = 0.5
#: Fewer samples are no sound to make grains of.
_MIN_TAKE_SAMPLES = 64

_HOP_S = 0.025
_LEVEL_RANGE_DB = 60.0
_SILENCE_POWER = 1e-12

#: The longest grain; the shortest is half of it. One of waves holds a wave.
_GRAIN_S = 3.0
_SWELLING_GRAIN_S = 6.0
#: How far the level of a second rises and falls in what is made of waves.
_SWELL_DB = 8.0
_FADE_S = 0.6
_MAX_LEVELING_DB = 6.0
#: How far a grain may be moved for its waveform to continue that of the one before: a period of 40 Hz.
_REACH_S = 0.025
_NUM_CANDIDATES = 96
_NUM_REMEMBERED = 96
_TENTHS_REMEMBERED = 3000
#: What counts how much when a grain is chosen, in dB of difference in level where it is joined: ending loud, per dB;
#: a part in common with a neighbor; being the grain before that; and a lag at which all of the sound comes again.
_LOUD_END_COST = 0.3
_NEIGHBOR_COST_DB = 100.0
_AGAIN_COST_DB = 20.0
_ECHO_COST_DB = 160.0

#: From the quietest tenth of a take to its loudest moment; with less there are no events in it.
_MIN_EVENT_DB = 10.0
_LONGEST_PHRASE_S = 4.0
_SHORT_PAUSE_S = 0.4
_PHRASE_EDGE_S = 0.25
_SHORTEST_FADE_S = 0.03
_SHORTEST_QUIET_S = 0.15
_MAX_GAIN_DB = 2.0
_MAX_RATE_CHANGE = 0.03


def num_takes(duration_s: float, take_s: float) -> int:
    """How many takes a layer should be made of, at most `MAX_TAKES`.

    Args:
        duration_s: of the scene.
        take_s: of one take.
    """
    return min(MAX_TAKES, max(1, math.ceil(duration_s / take_s)))


def extend(
    takes: Sequence[Clip], num_samples: int, *, seed: int, loop: bool, role: Literal["bed", "events"]
) -> Iterator[Samples]:
    """Make a sound of exactly `num_samples` from shorter (or longer) takes, in memory that does not grow with it.

    A bed becomes grains of 1.5 to 3 s, or of 3 to 6 s where its level rises and falls as that of waves, of at most 70 %
    of a take (of a single one, 45 %). Each is the best of 96 drawn from all takes evenly: joined
    where both sides are alike in level, far from where the same place was heard last, and not at a lag at which others
    come again. They are leveled by at most 6 dB and joined by equal-power fades of up to 0.6 s in phase.

    Events are cut at the takes' quiet places into phrases, and each is heard as a whole, in shuffled order, never twice
    in a row if there are two, up to 2 dB louder or softer, 3 % faster or slower, sometimes with left and right
    swapped. The pauses vary around the takes' own and are made of their quiet places, as a bed is. Takes without quiet
    places, or without anything that stands out, become a bed.

    Args:
        takes: what to draw from, all of one rate and number of channels.
        num_samples: wanted length.
        seed: same takes, length and seed: same result.
        loop: True if the end must join the beginning.
        role: which of the two ways.

    Returns:
        Blocks of shape (num_channels, n) in order, `num_samples` in all; not to be written to. If one of the takes is
        long enough already it is cut, or, for a loop, joined by a crossfade if half a second is left over for it.

    Raises:
        ValueError: if there is no take, an empty one or ones of different kinds, or `num_samples` is not positive.
    """
    if num_samples <= 0 or not takes or not all(take.num_samples for take in takes):
        raise ValueError(f"{[take.num_samples for take in takes]} samples cannot become {num_samples}")
    if len({(take.sample_rate_hz, take.num_channels) for take in takes}) > 1:
        raise ValueError("takes of different rates or channels cannot become one sound")
    longest = max(takes, key=lambda take: take.num_samples)
    rate_hz, spare = longest.sample_rate_hz, longest.num_samples - num_samples
    if spare >= 0 and not loop:
        return blocks_of(Clip(longest.samples[:, :num_samples], rate_hz))
    if spare >= _MIN_OVERLAP_S * rate_hz:
        overlap = min(spare, rate_hz, num_samples)
        return blocks_of(make_loop(Clip(longest.samples[:, : num_samples + overlap], rate_hz), num_samples))
    if longest.num_samples < _MIN_TAKE_SAMPLES or num_samples < _MIN_TAKE_SAMPLES:
        return _repeated(longest, num_samples)
    rng = np.random.default_rng(seed)
    if role == "events":
        phrases, quiet, pause = _listen(takes, num_samples)
        if phrases and quiet:
            background = _resynthesize(_Pool(quiet, rate_hz, num_samples), num_samples, loop=loop, rng=rng)
            return _scheduled(phrases, pause, _Stream(background), num_samples, rate_hz, loop=loop, rng=rng)
    return _resynthesize(_Pool([take.samples for take in takes], rate_hz, num_samples), num_samples, loop=loop, rng=rng)


def _repeated(clip: Clip, num_samples: int) -> Iterator[Samples]:
    for start in range(0, num_samples, BLOCK_SAMPLES):
        yield read_around(clip, start, min(BLOCK_SAMPLES, num_samples - start))


# Grains


class _Pool:
    """What grains are drawn from: sources side by side, and how loud they are along their length, every 25 ms.

    Args:
        sources: each of shape (num_channels, n).
        rate_hz: of all of them.
        num_samples: how much is to be made of them.
    """

    def __init__(self, sources: Sequence[Samples], rate_hz: int, num_samples: int) -> None:
        self.sources = sources
        self.rate_hz = rate_hz
        self.sizes = np.array([source.shape[1] for source in sources])
        self._hop = _hop(rate_hz)
        levels = [_levels_db(source, self._hop) for source in sources]
        self._num_levels = np.array([len(level) for level in levels])
        self._firsts = np.cumsum(self._num_levels) - self._num_levels
        loudest_db = max(float(level.max()) for level in levels)
        self._levels_db = np.maximum(np.concatenate(levels), loudest_db - _LEVEL_RANGE_DB)
        self._sums_db = np.concatenate([[0.0], np.cumsum(self._levels_db)])
        self.mean_db = float(self._levels_db.mean())
        self._swells = self._swell_db() > _SWELL_DB

        # Half of all that is there lies in sources at least this long.
        by_size = np.sort(self.sizes)[::-1]
        usual_size = int(by_size[np.searchsorted(np.cumsum(by_size), by_size.sum() / 2)])
        share = 0.45 if len(sources) == 1 else 0.7
        longest_s = _SWELLING_GRAIN_S if self._swells else _GRAIN_S
        self.longest = max(2, min(round(longest_s * rate_hz), int(share * usual_size), num_samples))
        self.fade = max(1, min(round(_FADE_S * rate_hz), self.longest // 4))
        self.reach = min(round(_REACH_S * rate_hz), self.longest // 32)

    def draw_length(self, missing: int, rng: np.random.Generator) -> int:
        """Of the next grain, so that what is missing can be made of grains neither too short nor too long."""
        if missing <= self.longest:
            return missing
        if missing <= 2 * self.longest:
            return missing // 2
        return int(rng.integers(self.longest // 2, self.longest + 1))

    def draw(self, length: int, rng: np.random.Generator) -> tuple[Places, Places]:
        """Candidates for a grain and its fade: of which source, and from where in it, all places being as likely."""
        rooms = np.maximum(self.sizes - (length + self.fade + 2 * self.reach) + 1, 0)
        ends = np.cumsum(rooms)
        places = rng.integers(0, ends[-1], _NUM_CANDIDATES)
        sources = np.searchsorted(ends, places, side="right")
        return sources, places - (ends - rooms)[sources] + self.reach

    def fade_levels_db(self, sources: Places, starts: Places) -> Array:
        """How the level runs over a fade from each place on, shape (places, 5)."""
        offsets = np.linspace(0, self.fade - 1, 5).astype(np.int64)
        return self._levels_db[self._at(sources[:, np.newaxis], starts[:, np.newaxis] + offsets)]

    def gains_db(self, sources: Places, starts: Places, length: int) -> Array:
        """What brings each grain towards the mean level; of waves, its source, so that they still rise and fall."""
        if self._swells:
            first, last = self._firsts[sources], self._firsts[sources] + self._num_levels[sources]
        else:
            first, last = self._at(sources, starts), self._at(sources, starts + length) + 1
        levels_db = (self._sums_db[last] - self._sums_db[first]) / (last - first)
        gains_db: Array = np.clip(self.mean_db - levels_db, -_MAX_LEVELING_DB, _MAX_LEVELING_DB)
        return gains_db

    def _at(self, sources: Places, places: Places) -> Places:
        where: Places = self._firsts[sources] + np.minimum(places // self._hop, self._num_levels[sources] - 1)
        return where

    def _swell_db(self) -> float:
        """How far the level of a second moves within a source, from its lowest tenth to its highest."""
        second = round(1.0 / _HOP_S)
        parts = [
            np.convolve(self._levels_db[first : first + num], np.ones(second) / second, "valid")
            for first, num in zip(self._firsts, self._num_levels, strict=True)
            if num > 2 * second
        ]
        if not parts:
            return 0.0
        low_db, high_db = np.quantile(np.concatenate([part - part.mean() for part in parts]), (0.1, 0.9))
        return float(high_db - low_db)


class _Grain(NamedTuple):
    """A piece of a source and where it lies in the result. Of a bed it reaches a fade farther than its length."""

    source: int
    start: int
    length: int
    place: int
    gain_db: float = 0.0


class _Past:
    """What was heard so far, so that nothing is heard again soon, and not much at the same lag.

    Args:
        num_samples: how much is to be made.
        rate_hz: of it.
    """

    def __init__(self, num_samples: int, rate_hz: int) -> None:
        self._num_samples = num_samples
        self._tenth = max(1, rate_hz // 10)
        self._grains: deque[_Grain] = deque(maxlen=_NUM_REMEMBERED)
        self._echoes = np.zeros(_TENTHS_REMEMBERED + 2)  # samples that came again, by lag

    def costs_db(self, sources: Places, starts: Places, lengths: Places, places: Places) -> Array:
        """For each candidate: whether the last grain is heard again, how lately others were, and the worst echo.

        Args:
            sources: of the candidates.
            starts: where they begin in their sources.
            lengths: of the candidates.
            places: where they lie in the result.
        """
        if not self._grains:
            return np.zeros(len(sources))
        shared, lags = self._compared(sources, starts, lengths, places)
        ages = np.maximum(np.arange(len(self._grains) - 1, -1, -1), 1)
        again = shared @ (1.0 / ages**1.5) / lengths
        left = np.maximum(self._num_samples - lags * self._tenth, lengths[:, np.newaxis])
        echo = np.max((self._echoes[lags] + shared) / left * (shared > 0), axis=1)
        costs_db: Array = _NEIGHBOR_COST_DB * (shared[:, -1] > 0) + _AGAIN_COST_DB * again + _ECHO_COST_DB * echo
        return costs_db

    def add(self, grain: _Grain) -> None:
        """Remember what was chosen."""
        if self._grains:
            shared, lags = self._compared(*(np.array([value]) for value in grain[:4]))
            for near in (-1, 0, 1):
                np.add.at(self._echoes, np.clip(lags[0] + near, 0, _TENTHS_REMEMBERED + 1), shared[0])
            self._echoes[-1] = 0.0  # whatever is longer ago
        self._grains.append(grain)

    def _compared(self, sources: Places, starts: Places, lengths: Places, places: Places) -> tuple[Places, Places]:
        """What candidates share with each grain so far, and how much later they are heard, in tenths of a second."""
        old_sources, old_starts, old_lengths, old_places = np.array([grain[:4] for grain in self._grains]).T
        shared = _shared(
            (sources[:, np.newaxis], starts[:, np.newaxis], lengths[:, np.newaxis]),
            (old_sources, old_starts, old_lengths),
        )
        lags = ((places - starts)[:, np.newaxis] - (old_places - old_starts)) // self._tenth
        return shared, np.clip(lags, 0, _TENTHS_REMEMBERED + 1)


def _shared(some: _Pieces, others: _Pieces) -> Places:
    """How many samples of their sources pieces have in common with other ones."""
    (sources, starts, lengths), (other_sources, other_starts, other_lengths) = some, others
    stops = np.minimum(starts + lengths, other_starts + other_lengths)
    shared: Places = np.maximum(stops - np.maximum(starts, other_starts), 0) * (sources == other_sources)
    return shared


def _resynthesize(pool: _Pool, num_samples: int, *, loop: bool, rng: np.random.Generator) -> Iterator[Samples]:
    """Grain after grain.

    A loop is cut just after the first grain has faded in, so that only that head must be kept for the end, where the
    last grain joins it.
    """
    past = _Past(num_samples, pool.rate_hz)
    first = grain = _Grain(0, 0, 0, 0)
    head = tail = np.empty((pool.sources[0].shape[0], 0), np.float32)
    place = 0
    while place < num_samples:
        length = pool.draw_length(num_samples - place, rng)
        closes = loop and place > 0 and place + length == num_samples
        grain = _choose(pool, past, length, place, grain if place else None, first if closes else None, rng)
        if place:
            grain = _aligned(pool, grain, tail, head if closes else None)
        past.add(grain)
        source = pool.sources[grain.source]
        piece = source[:, grain.start : grain.start + length + pool.fade] * np.float32(10.0 ** (grain.gain_db / 20.0))
        if place:
            yield crossfade(tail, piece[:, : pool.fade])
        else:
            first, head = grain, piece[:, : pool.fade].copy()
            if not loop:
                yield head
        yield piece[:, pool.fade : length]
        tail = piece[:, length:].copy()
        place += length
    if loop:
        yield crossfade(tail, head)


def _choose(
    pool: _Pool,
    past: _Past,
    length: int,
    place: int,
    before: _Grain | None,
    after: _Grain | None,
    rng: np.random.Generator,
) -> _Grain:
    """The best of some candidates to follow one grain and, where a loop closes, to lead to another."""
    sources, starts = pool.draw(length, rng)
    gains_db = pool.gains_db(sources, starts, length)
    begins_db = pool.fade_levels_db(sources, starts) + gains_db[:, np.newaxis]
    ends_db = pool.fade_levels_db(sources, starts + length) + gains_db[:, np.newaxis]
    lengths = np.full(len(starts), length)
    costs_db = past.costs_db(sources, starts, lengths, np.full(len(starts), place))
    if before is not None:
        left_db = pool.fade_levels_db(np.array([before.source]), np.array([before.start + before.length]))
        costs_db = costs_db + np.abs(begins_db - (left_db + before.gain_db)).mean(axis=1)
    if after is None:
        costs_db = costs_db + _LOUD_END_COST * (ends_db.mean(axis=1) - pool.mean_db)
    else:
        reached_db = pool.fade_levels_db(np.array([after.source]), np.array([after.start])) + after.gain_db
        costs_db = costs_db + np.abs(ends_db - reached_db).mean(axis=1)
        costs_db = costs_db + _NEIGHBOR_COST_DB * (_shared((sources, starts, lengths), after[:3]) > 0)
    best = int(np.argmin(costs_db))
    return _Grain(int(sources[best]), int(starts[best]), length, place, float(gains_db[best]))


def _aligned(pool: _Pool, grain: _Grain, tail: Samples, head: Samples | None) -> _Grain:
    """The grain moved by up to 25 ms to where its waveform continues the one before, and the one behind it, if given.

    A hum would sink and beat at each join otherwise; noise is nowhere alike, and any place is as good.
    """
    likeness = _likeness(pool, grain, 0, tail)
    if head is not None:
        likeness = likeness + _likeness(pool, grain, grain.length, head)
    return grain._replace(start=grain.start - pool.reach + int(np.argmax(likeness)))


def _likeness(pool: _Pool, grain: _Grain, offset: int, other: Samples) -> Array:
    """Correlation of a fade's length of the grain with another sound, for each shift from -reach to reach."""
    begin = grain.start + offset - pool.reach
    mono = pool.sources[grain.source][:, begin : begin + pool.fade + 2 * pool.reach].sum(axis=0, dtype=np.float64)
    size = 1 << (len(mono) + pool.fade).bit_length()
    spectrum = np.fft.rfft(mono, size) * np.conj(np.fft.rfft(other.sum(axis=0, dtype=np.float64), size))
    energy = float(np.vdot(mono, mono)) * float(np.vdot(other, other))
    likeness: Array = np.fft.irfft(spectrum, size)[: 2 * pool.reach + 1]
    return likeness / math.sqrt(energy) if energy > 0.0 else likeness


# Events


class _Phrase(NamedTuple):
    """What is heard as a whole: one event, or a few that belong together.

    Attributes:
        samples: with some of the quiet before and behind it.
        fades: how many samples of quiet there are on either side.
    """

    samples: Samples
    fades: tuple[int, int]


def _listen(takes: Sequence[Clip], num_samples: int) -> tuple[list[_Phrase], list[Samples], int]:
    """The phrases that fit in the result, the quiet stretches, and how long a pause usually is, in samples.

    A phrase that a take cuts off at its own start or end is left out, if there are others.
    """
    whole: list[_Phrase] = []
    cut_off: list[_Phrase] = []
    quiet: list[Samples] = []
    num_quiet = num_phrases = 0
    for take in takes:
        hop = _hop(take.sample_rate_hz)
        levels_db = _levels_db(take.samples, hop)
        spans, stretches = _spans(levels_db)
        quiet += [take.samples[:, start * hop : stop * hop] for start, stop in stretches]
        num_quiet += take.num_samples
        num_phrases += len(spans)
        for (_, earlier), (start, stop), (later, _) in zip(
            [(0, 0), *spans], spans, [*spans[1:], (len(levels_db), 0)], strict=False
        ):
            phrase = _phrase(take, hop, start, stop, start - earlier, later - stop)
            num_quiet -= phrase.samples.shape[1]
            if phrase.samples.shape[1] * (1.0 + 2 * _MAX_RATE_CHANGE) < num_samples:
                (whole if start > 0 and stop < len(levels_db) else cut_off).append(phrase)
    return whole or cut_off, quiet, max(0, num_quiet) // max(num_phrases, 1)


def _phrase(take: Clip, hop: int, start: int, stop: int, before: int, behind: int) -> _Phrase:
    """A span of a take and up to a quarter of a second, or half of the pause, on either side; counted in hops."""
    edge = round(_PHRASE_EDGE_S / _HOP_S)
    begin, end = (start - min(edge, before // 2)) * hop, min((stop + min(edge, behind // 2)) * hop, take.num_samples)
    shortest = min(round(_SHORTEST_FADE_S * take.sample_rate_hz), (end - begin) // 2)
    return _Phrase(
        take.samples[:, begin:end],
        (max(start * hop - begin, shortest), max(end - stop * hop, shortest)),
    )


def _spans(levels_db: Array) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Where a take's phrases and its quiet stretches lie, in hops."""
    floor_db, top_db = float(np.quantile(levels_db, 0.1)), float(levels_db.max())
    floor_db = max(floor_db, top_db - _LEVEL_RANGE_DB)
    if top_db - floor_db < _MIN_EVENT_DB:
        return [], [(0, len(levels_db))]
    low_db = floor_db + max(3.0, 0.15 * (top_db - floor_db))
    high_db = floor_db + max(8.0, 0.4 * (top_db - floor_db))
    longest, pause = round(_LONGEST_PHRASE_S / _HOP_S), round(_SHORT_PAUSE_S / _HOP_S)
    phrases: list[tuple[int, int]] = []
    for start, stop in _events(levels_db, low_db, high_db, longest):
        if phrases and start - phrases[-1][1] < pause and stop - phrases[-1][0] <= longest:
            phrases[-1] = (phrases[-1][0], stop)
        else:
            phrases.append((start, stop))
    is_quiet = levels_db <= low_db
    for start, stop in phrases:
        is_quiet[max(start - 1, 0) : stop + 1] = False
    shortest = round(_SHORTEST_QUIET_S / _HOP_S)
    return phrases, [(start, stop) for start, stop in _runs(is_quiet) if stop - start >= shortest]


def _events(levels_db: Array, low_db: float, high_db: float, longest: int) -> list[tuple[int, int]]:
    """Runs above the low level that reach the high one; a long one is parted at dips, as deep ones as there are."""
    events: list[tuple[int, int]] = []
    for start, stop in _runs(levels_db > low_db):
        run_db = levels_db[start:stop]
        if run_db.max() < high_db:
            continue
        inside = _events(run_db, low_db + 3.0, high_db, longest) if stop - start > longest and low_db < high_db else []
        dips = [
            start + earlier + int(np.argmin(run_db[earlier : later + 1]))
            for (_, earlier), (later, _) in itertools.pairwise(inside)
        ]
        events += zip([start, *dips], [*dips, stop], strict=True)
    return events


def _scheduled(
    phrases: Sequence[_Phrase],
    pause: int,
    background: _Stream,
    num_samples: int,
    rate_hz: int,
    *,
    loop: bool,
    rng: np.random.Generator,
) -> Iterator[Samples]:
    """Phrases over their background, which alone goes over a loop's seam."""
    past = _Past(num_samples, rate_hz)
    sizes = np.array([phrase.samples.shape[1] for phrase in phrases])
    longest = np.ceil(sizes * (1.0 + _MAX_RATE_CHANGE)).astype(np.int64) + 1
    first = -1
    missing = num_samples
    while True:
        which = rng.integers(0, len(phrases), _NUM_CANDIDATES)
        gaps = np.rint(pause * rng.uniform(0.4, 1.6, _NUM_CANDIDATES)).astype(np.int64)
        left = missing - gaps - longest[which]
        costs_db = past.costs_db(which, np.zeros_like(which), sizes[which], num_samples - missing + gaps)
        if loop:  # what is perhaps the last one should not be the first one again
            costs_db = costs_db + _NEIGHBOR_COST_DB * ((which == first) & (left < longest.min() + 1.6 * pause))
        best = int(np.argmin(np.where(left >= 0, costs_db, np.inf)))
        if left[best] < 0:
            break
        chosen, gap = int(which[best]), int(gaps[best])
        first = chosen if first < 0 else first
        yield background.read(gap)
        past.add(_Grain(chosen, 0, int(sizes[chosen]), num_samples - missing + gap))
        samples, (fade_in, fade_out) = _varied(phrases[chosen], rate_hz, rng)
        under = background.read(samples.shape[1])
        samples[:, :fade_in] = crossfade(under[:, :fade_in], samples[:, :fade_in])
        samples[:, -fade_out:] = crossfade(samples[:, -fade_out:], under[:, -fade_out:])
        yield samples
        missing -= gap + samples.shape[1]
    while missing > 0:
        yield background.read(min(missing, BLOCK_SAMPLES))
        missing -= BLOCK_SAMPLES


def _varied(phrase: _Phrase, rate_hz: int, rng: np.random.Generator) -> _Phrase:
    """The same once more, but never quite the same."""
    slower = 1.0 + rng.uniform(-_MAX_RATE_CHANGE, _MAX_RATE_CHANGE)
    gain_db = rng.uniform(-_MAX_GAIN_DB, _MAX_GAIN_DB)
    samples = phrase.samples[::-1] if phrase.samples.shape[0] == 2 and rng.random() < 0.5 else phrase.samples
    # As if it had been recorded at another rate.
    samples = resample(Clip(samples, rate_hz), round(rate_hz * slower)).samples * np.float32(10.0 ** (gain_db / 20.0))
    half = max(1, samples.shape[1] // 2)
    fade_in, fade_out = (min(max(1, round(fade * slower)), half) for fade in phrase.fades)
    return _Phrase(samples, (fade_in, fade_out))


class _Stream:
    """Blocks read by any number of samples."""

    def __init__(self, blocks: Iterator[Samples]) -> None:
        self._blocks = blocks
        self._left = next(blocks)

    def read(self, num_samples: int) -> Samples:
        """The next samples, of which there must be that many."""
        parts: list[Samples] = []
        while num_samples > self._left.shape[1]:
            parts.append(self._left)
            num_samples -= self._left.shape[1]
            self._left = next(self._blocks)
        parts.append(self._left[:, :num_samples])
        self._left = self._left[:, num_samples:]
        return np.concatenate(parts, axis=1)


# Levels


def _hop(rate_hz: int) -> int:
    return max(1, round(_HOP_S * rate_hz))


def _levels_db(samples: Samples, hop: int) -> Array:
    """How loud a sound is along its length, every hop, over three hops."""
    starts = np.arange(0, samples.shape[1], hop)
    power = np.einsum("cn,cn->n", samples, samples, dtype=np.float64)
    means = np.add.reduceat(power, starts) / np.diff(np.append(starts, len(power))) / samples.shape[0]
    smooth = np.convolve(np.pad(means, 1, mode="edge"), np.ones(3) / 3.0, "valid")
    levels_db: Array = 10.0 * np.log10(np.maximum(smooth, _SILENCE_POWER))
    return levels_db


def _runs(mask: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Where a mask is true: from, up to."""
    edges = np.flatnonzero(np.diff(mask.astype(np.int8), prepend=0, append=0)).tolist()
    return list(zip(edges[::2], edges[1::2], strict=True))
