"""Loops: joining a clip's end to its beginning, judging the seam, and fading what does not loop."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ambientgen.audio.clip import Clip, Samples
from ambientgen.audio.sound import Sound, in_memory

Array = npt.NDArray[np.float64]

#: How much before and behind the seam of a long sound it is compared with.
_AROUND_SEAM_S = 30.0
_FRAME_S = 0.02
_LEVEL_WINDOW_S = 0.125
_MIN_ENERGY = 1e-12
_SHORTEST_JUDGED_S = 0.2
_MAX_FLUX_PERCENTILE, _MAX_JUMP_RATIO, _MAX_SAG_DB = 99.5, 2.0, 3.0


@dataclass(frozen=True, slots=True)
class Seam:
    """How well a clip's end joins its beginning, three ways; any one alone misses something.

    Attributes:
        flux_percentile: where the change of spectrum at the seam lies among the clip's own, 0 to 100.
        jump_ratio_p999: the step from the last sample to the first over the 99.9th percentile of the clip's own.
        level_sag_db: how much deeper the level sags across the seam than it does at 99 % of the clip's other places;
            at least 0.
    """

    flux_percentile: float
    jump_ratio_p999: float
    level_sag_db: float

    @property
    def clean(self) -> bool:
        """True if nothing stands out.

        The limits are lenient: flux up to 99.5, a jump up to 2, a sag up to 3 dB. The seam of a perfect loop is a draw
        from the clip's own distribution, so about one perfect loop in 200 passes the flux limit by chance.
        """
        return self.excess <= 1.0

    @property
    def excess(self) -> float:
        """What stands out most, as a multiple of its limit."""
        return max(
            self.flux_percentile / _MAX_FLUX_PERCENTILE,
            self.jump_ratio_p999 / _MAX_JUMP_RATIO,
            self.level_sag_db / _MAX_SAG_DB,
        )


def make_loop(clip: Clip, num_samples: int) -> Clip:
    """Join a clip's end to its beginning by an equal-power crossfade of its tail into its head.

    The result begins with the tail's first sample, which follows the result's last one in the clip: sample by
    sample, the seam is a place where the clip was whole. Where tail and head are alike (a steady tone), the fade is
    corrected for their correlation, so that the level stays even.

    Args:
        clip: `num_samples` plus the overlap long; the overlap is typically 1 s.
        num_samples: wanted length.

    Raises:
        ValueError: if the clip has no overlap, or one longer than the loop.
    """
    overlap = clip.num_samples - num_samples
    if not 0 < overlap <= num_samples:
        raise ValueError(f"{clip.num_samples} samples cannot become a loop of {num_samples}")
    looped = clip.samples[:, :num_samples].copy()
    looped[:, :overlap] = crossfade(clip.samples[:, num_samples:], clip.samples[:, :overlap])
    return Clip(looped, clip.sample_rate_hz)


def best_loop(clip: Clip, num_samples: int) -> Clip:
    """Join a clip's end to its beginning where and as long as the join is clean; else, of several, the least audible.

    Args:
        clip: longer than the loop, typically by 1 s.
        num_samples: wanted length.

    Raises:
        ValueError: if the clip is not longer than the loop, or more than twice as long.
    """
    spare = clip.num_samples - num_samples
    tries = dict.fromkeys([(0, spare), (spare // 2, spare - spare // 2), (0, spare // 2), (spare // 4, spare // 2)])
    best: tuple[float, Clip] | None = None
    for start, overlap in tries:
        if overlap == 0:
            continue
        piece = clip.samples[:, start : start + num_samples + overlap]
        looped = make_loop(Clip(piece, clip.sample_rate_hz), num_samples)
        if looped.duration_s < _SHORTEST_JUDGED_S:
            return looped
        seam = measure_seam(looped)
        if seam.clean:
            return looped
        if best is None or seam.excess < best[0]:
            best = seam.excess, looped
    if best is None:
        raise ValueError(f"{clip.num_samples} samples cannot become a loop of {num_samples}")
    return best[1]


def crossfade(old: Samples, new: Samples) -> Samples:
    """From `old` to `new` over their whole length, at equal power whatever their correlation.

    Args:
        old: shape (num_channels, n); alone at the first sample.
        new: same shape; all but alone at the last one.
    """
    phase = np.arange(old.shape[1]) / max(old.shape[1], 1) * (np.pi / 2)
    fade_out, fade_in = np.cos(phase), np.sin(phase)
    # Power of the sum is 1 + 2 r sin cos: +3 dB in the middle for equal signals, and nothing left for opposite ones.
    correlation = max(_correlation(old, new), -0.9)
    fade_gain = 1.0 / np.sqrt(1.0 + 2.0 * correlation * fade_out * fade_in)
    mixed: Samples = (old * (fade_out * fade_gain) + new * (fade_in * fade_gain)).astype(np.float32)
    return mixed


def measure_seam(sound: Sound, *, is_circle: bool = False) -> Seam:
    """Judge how a sound's end joins its beginning. Works on decoded files as well.

    The seam is compared with the rest of the sound, or, of a long one, with the half minute on each side of it.

    Args:
        sound: a loop.
        is_circle: True if it was made as a circle, nothing faded or joined. Its level then moves across the seam as it
            does anywhere, and is not judged: a few seconds of deep waves have one trough, and it may lie there.

    Raises:
        ValueError: if it is shorter than 0.2 s.
    """
    if sound.duration_s < _SHORTEST_JUDGED_S:
        raise ValueError(f"a loop of {sound.duration_s:.3f} s is too short to judge")
    clip = _around_seam(sound)
    return Seam(
        flux_percentile=round(_flux_percentile(clip), 2),
        jump_ratio_p999=round(_jump_ratio(clip.samples), 3),
        level_sag_db=0.0 if is_circle else round(_level_sag_db(clip), 2),
    )


def fade_edges(
    blocks: Iterable[Samples], num_samples: int, sample_rate_hz: int, fade_s: float = 0.01
) -> Iterator[Samples]:
    """Fade a sound in and out (raised cosine), so that it neither starts nor stops with a click.

    Args:
        blocks: a sound that is no loop, in order.
        num_samples: how long it is.
        sample_rate_hz: of the sound.
        fade_s: length of each fade; none is longer than half of the sound.

    Returns:
        New blocks.
    """
    rise = _rise(min(round(fade_s * sample_rate_hz), num_samples // 2))
    place = 0
    for block in blocks:
        stop = place + block.shape[1]
        faded = block.copy()
        if place < len(rise):
            faded[:, : len(rise) - place] *= rise[place:stop]
        first = num_samples - len(rise)  # of the samples that are faded out
        if stop > first:
            begin = max(first, place)
            faded[:, begin - place :] *= rise[::-1][begin - first : stop - first]
        yield faded
        place = stop


def _around_seam(sound: Sound) -> Clip:
    """A sound as a clip whose end and beginning are its own; of a long one, only what lies near them."""
    reach = round(_AROUND_SEAM_S * sound.sample_rate_hz)
    if sound.num_samples <= 2 * reach:
        return in_memory(sound)
    ends = [sound.read(0, reach), sound.read(sound.num_samples - reach, sound.num_samples)]
    return Clip(np.concatenate(ends, axis=1), sound.sample_rate_hz)


def _rise(num_samples: int) -> Samples:
    return (0.5 - 0.5 * np.cos(np.pi * np.arange(num_samples) / max(num_samples, 1))).astype(np.float32)


def _correlation(first: Samples, second: Samples) -> float:
    """Of two pieces, over all channels, -1 to 1; 0 if one of them is silent."""
    both = float(np.vdot(first, first)) * float(np.vdot(second, second))
    return float(np.vdot(first, second)) / both**0.5 if both > 0.0 else 0.0


def _flux_percentile(clip: Clip) -> float:
    """Where the change of spectrum around the seam lies among the same measure at all other places, in percent."""
    frame = max(16, 2 * round(_FRAME_S * clip.sample_rate_hz / 2))
    hop = frame // 2
    num_hops = clip.num_samples // hop
    # Frames run from the seam on, and the first two are repeated behind the end: frame k spans [k hop, k hop + frame).
    # The last frames before the end are aligned to it instead, so that the seam lies at a frame's edge from both sides.
    mono = clip.samples.mean(axis=0, dtype=np.float64)
    around = np.concatenate([mono[-2 * hop :], mono[: num_hops * hop], mono[:hop]])
    frames = np.lib.stride_tricks.sliding_window_view(around, frame)[::hop]
    window = np.hanning(frame)
    flux = np.empty(len(frames) - 1)
    last: Array | None = None
    for start in range(0, len(frames), 512):
        spectra = np.sqrt(np.abs(np.fft.rfft(frames[start : start + 512] * window, axis=1)))
        with_last = spectra if last is None else np.concatenate([last[np.newaxis], spectra])
        flux[max(start - 1, 0) : start + len(spectra) - 1] = np.linalg.norm(np.diff(with_last, axis=0), axis=1)
        last = spectra[-1]
    # The steps into, across and out of the frame that holds the seam: the same three at every other place.
    places = np.lib.stride_tricks.sliding_window_view(flux, 2).max(axis=1)
    return 100.0 * float(np.mean(places[1:] < places[0]))


def _jump_ratio(samples: Samples) -> float:
    jumps = np.abs(np.diff(samples, axis=1))
    usual = float(np.quantile(jumps, 0.999))
    seam = float(np.abs(samples[:, 0] - samples[:, -1]).max())
    if seam == 0.0:
        return 0.0
    return seam / max(usual, 1e-9)


def _level_sag_db(clip: Clip) -> float:
    """Sag across the seam beyond the 99th percentile of the clip's own sags, in dB."""
    num_windows = max(16, round(clip.duration_s / _LEVEL_WINDOW_S))
    edges = np.linspace(0, clip.num_samples, num_windows, endpoint=False).astype(np.int64)
    power = np.einsum("cn,cn->n", clip.samples, clip.samples, dtype=np.float64)
    windows = np.add.reduceat(power, edges)
    pairs = windows + np.roll(windows, -1)
    # A place's sag: the lowest quarter of a second within 1 s of it, against the mean of the second farther out.
    reach = min(8, num_windows // 8)
    inner = np.min([np.roll(pairs, shift) for shift in range(-reach + 2, reach + 1)], axis=0) / 2.0
    outside = [*range(-2 * reach + 1, -reach + 1), *range(reach + 1, 2 * reach + 1)]
    outer = np.mean([np.roll(windows, shift) for shift in outside], axis=0)
    sags_db = 10.0 * np.log10((outer + _MIN_ENERGY) / (inner + _MIN_ENERGY))
    elsewhere = sags_db[2 * reach : num_windows - 2 * reach + 1]  # a sag at the seam must not count as usual
    return max(0.0, float(sags_db[0] - np.quantile(elsewhere, 0.99)))
