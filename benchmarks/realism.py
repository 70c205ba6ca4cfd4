"""How close the procedural textures come to field recordings, in figures.

    AMBIENT_REFERENCES=folder python benchmarks/realism.py [first seed [number of seeds [name ...]]]

Every recording in that folder is a class, and what is made for a class should be nearer to it than to any other, and
about as near as pieces of the recording are to each other. How near is measured by the statistics an ear is thought to
keep of a texture (J. H. McDermott and E. P. Simoncelli, "Sound texture perception via statistics of the auditory
periphery", Neuron, 2011): envelopes of bands as the cochlea has them, compressed as it compresses them, their levels
and distributions, how fast they move, and which of them move together. White and pink noise show what no likeness looks
like; thunder with rain over it shows how far rain takes it from a recording of thunder.

The statistics come in two groups. Tune by the first alone, on some seeds; report both, on other seeds: a table like
this is easily over-fitted. And it is no judge of beauty: match what makes a sound recognizable and leave a recording's
own rumble and hiss alone.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import soundfile
from scipy import fft, signal, stats
from scipy.spatial.distance import cdist

from ambientgen.audio.clip import Samples
from ambientgen.synth import TextureParams, render_texture

Floats = npt.NDArray[np.float64]
Layers = tuple[tuple[str, str, float, float], ...]

RATE_HZ = 48_000
DURATION_S = 40
#: No more of a recording is read.
LONGEST_S = 120
#: How long the pieces are that are compared; half of a recording that is too short for two of them.
PIECE_S = 10.0
#: Recording -> the layers that stand for it: (family, variant, intensity, level in dB).
PAIRS: dict[str, Layers] = {
    "rain": (("rain", "open", 0.5, 0.0),),
    # The recording holds thunder; between its claps no rain is heard.
    "storm": (("thunder", "rolling", 0.5, 0.0),),
    "wind": (("wind", "open", 0.5, 0.0),),
    "waves": (("ocean", "waves", 0.5, 0.0),),
    "fireplace": (("fire", "hearth", 0.5, 0.0),),
    "summer-night": (("insects", "crickets", 0.5, 0.0),),
    "birds": (("birds", "songbirds", 0.5, 0.0),),
    "coffee-shop": (("cafe", "murmur", 0.5, 0.0),),
    "train": (("train", "train", 0.5, 0.0),),
    "city": (("city", "traffic", 0.5, 0.0),),
    "boat": (("ship", "ship", 0.5, 0.0),),
}
CONTROLS: dict[str, Layers] = {
    "white noise": (("noise", "white", 0.5, 0.0),),
    "pink noise": (("noise", "pink", 0.5, 0.0),),
    "thunder+rain": (("thunder", "rolling", 0.5, 0.0), ("rain", "open", 0.5, -12.0)),
}
#: Classes that may be taken for each other: rain and storm, and a strong wind that roars like the sea.
TWINS = {"rain": "storm", "storm": "rain", "wind": "waves", "waves": "wind"}


# What an ear keeps of a texture ----------------------------------------------------------------------------------

_NUM_BANDS = 30
#: What every recording holds; the train's ends at 12 kHz.
_RANGE_HZ = (50.0, 10_500.0)
#: What lies so far below the whole is not heard, whatever a codec has made of it: pink noise covers it in every piece.
_HEARING_DB = -50.0
_COMPRESSION = 0.3
_MODULATION_HZ = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 200.0)
#: Bands so far apart are held against each other.
_APART = (1, 2, 3, 5, 8, 12)
#: Rates at which bands may move together, and how far apart those bands are.
_TOGETHER_HZ = ((1.0, 4.0), (8.0, 16.0), (32.0, 64.0))
_TOGETHER_APART = (1, 3)

GROUPS = {
    "tuning": ("level", "variation", "modulation"),
    "held out": ("skewness", "kurtosis", "correlation", "modulation correlation"),
}


def statistics(mono: npt.NDArray[np.floating], rate_hz: int) -> dict[str, Floats]:
    """The statistics of one piece, each of shape (values,)."""
    duration_s = mono.size / rate_hz
    spectrum = fft.rfft(mono.astype(np.float64))
    hz = np.arange(spectrum.size) / duration_s
    heard = (hz > _RANGE_HZ[0]) & (hz < _RANGE_HZ[1])
    spectrum, hz = spectrum[heard], hz[heard]
    spectrum /= np.sqrt(np.sum(np.abs(spectrum) ** 2)) + 1e-30
    chance = np.random.default_rng(0).standard_normal((2, hz.size))
    spectrum += (chance[0] + 1j * chance[1]) * np.sqrt(10.0 ** (_HEARING_DB / 10.0) / 2.0 / hz / np.sum(1.0 / hz))

    num_rates = int(_MODULATION_HZ[-1] * duration_s)
    scale = 21.4 * np.log10(1.0 + 0.00437 * hz)  # B. R. Glasberg and B. C. J. Moore, 1990
    step = (scale[-1] - scale[0]) / (_NUM_BANDS + 1)
    levels, widths_hz, movements = np.zeros(_NUM_BANDS), np.zeros(_NUM_BANDS), []
    for band in range(_NUM_BANDS):
        inside = np.abs(scale - scale[0] - (band + 1) * step) < step
        part = spectrum[inside] * np.cos(0.5 * np.pi * (scale[inside] - scale[0] - (band + 1) * step) / step)
        levels[band], widths_hz[band] = 10.0 * np.log10(np.sum(np.abs(part) ** 2)), np.ptp(hz[inside])
        # Only the band's own part of the spectrum is turned back: its envelope at a rate of its own.
        size = fft.next_fast_len(max(4 * part.size, 8 * num_rates))
        envelope = (np.abs(fft.ifft(part, size)) * size) ** _COMPRESSION
        movements.append(fft.rfft(envelope)[: num_rates + 1] / size)
    movement = np.stack(movements)
    envelopes = fft.irfft(movement, 2 * num_rates) * 2 * num_rates

    rates_hz = np.arange(num_rates + 1) / duration_s
    powers = np.abs(movement) ** 2
    whole = np.sum(powers[:, 1:], axis=1)
    modulation = []
    for low, high in itertools.pairwise(_MODULATION_HZ):
        wide = widths_hz >= high  # a band moves no faster than it is wide
        part = powers[wide][:, (rates_hz >= low) & (rates_hz < high)].sum(axis=1)
        modulation.append(10.0 * np.log10(part / whole[wide] + 1e-9))
    together = [
        _correlations(movement[:, (rates_hz >= low) & (rates_hz < high)], _TOGETHER_APART) for low, high in _TOGETHER_HZ
    ]
    return {
        "level": levels,
        "variation": np.log(np.std(envelopes, axis=1) / np.mean(envelopes, axis=1)),
        "modulation": np.concatenate(modulation),
        "skewness": stats.skew(envelopes, axis=1),
        "kurtosis": np.log(stats.kurtosis(envelopes, axis=1, fisher=False)),
        "correlation": _correlations(movement[:, 1:], _APART),
        "modulation correlation": np.concatenate(together),
    }


def _correlations(movement: npt.NDArray[np.complex128], apart: Sequence[int]) -> Floats:
    """How alike bands so far apart move."""
    movement = movement / (np.sqrt(np.sum(np.abs(movement) ** 2, axis=1, keepdims=True)) + 1e-30)
    return np.concatenate([np.sum(movement[:-gap] * movement[gap:].conj(), axis=1).real for gap in apart])


class Pieces(NamedTuple):
    """A sound's pieces: their statistics by name, each of shape (pieces, values), and the hop in pieces' lengths."""

    values: dict[str, Floats]
    hop: float


def cut(sound: Samples, rate_hz: int, piece_s: float, hop: float) -> Pieces:
    """The statistics of all pieces of a sound's middle channel."""
    mono, size = sound.mean(axis=0), int(piece_s * rate_hz)
    starts = range(0, mono.size - size + 1, max(1, int(hop * size)))
    found = [statistics(mono[start : start + size], rate_hz) for start in starts]
    return Pieces({name: np.stack([one[name] for one in found]) for name in found[0]}, hop)


class Scale:
    """Turns statistics into distances: each is divided by its deviation over all recordings, each of them as weighty.

    Every kind of statistics has the same weight, however many values it has.
    """

    def __init__(self, recordings: Sequence[Pieces]) -> None:
        self._deviations = {}
        for name in recordings[0].values:
            middle = np.mean([one.values[name].mean(axis=0) for one in recordings], axis=0)
            spread = np.mean([np.mean((one.values[name] - middle) ** 2, axis=0) for one in recordings], axis=0)
            self._deviations[name] = np.sqrt(spread) + 1e-9

    def distances(self, one: Pieces, other: Pieces, names: Sequence[str]) -> Floats:
        """Root mean square of the differences of each piece of one to each of the other, in deviations."""
        scaled = [
            np.concatenate(
                [
                    pieces.values[name] / self._deviations[name] / np.sqrt(len(names) * pieces.values[name].shape[1])
                    for name in names
                ],
                axis=1,
            )
            for pieces in (one, other)
        ]
        return np.asarray(cdist(*scaled))

    def within(self, pieces: Pieces, names: Sequence[str]) -> float:
        """Mean distance of pieces of one sound that have nothing in common."""
        count = len(next(iter(pieces.values.values())))
        disjoint = np.subtract.outer(np.arange(count), np.arange(count)) * pieces.hop >= 1.0
        return float(self.distances(pieces, pieces, names)[disjoint].mean())


# Recordings and textures -----------------------------------------------------------------------------------------


class Recording(NamedTuple):
    """One recording: its samples, their rate, how long its pieces are, and their statistics."""

    samples: Samples
    rate_hz: int
    piece_s: float
    pieces: Pieces


def load(folder: Path) -> dict[str, Recording]:
    """The recordings that are there, by name."""
    recordings = {}
    for name in PAIRS:
        path = folder / f"{name}.ogg"
        if not path.is_file():
            print(f"{name}: not in the folder, skipped")
            continue
        read, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
        samples = read.T[:, : LONGEST_S * rate_hz]
        piece_s = min(PIECE_S, samples.shape[1] // 2 / rate_hz)
        recordings[name] = Recording(samples, rate_hz, piece_s, cut(samples, rate_hz, piece_s, 0.5))
    return recordings


def texture(layers: Layers, seed: int) -> Samples:
    """The layers mixed."""
    mix = np.zeros((2, DURATION_S * RATE_HZ), dtype=np.float32)
    for family, variant, intensity, level_db in layers:
        params = TextureParams(family=family, variant=variant, intensity=intensity)
        mix += render_texture(params, mix.shape[1], RATE_HZ, seed, lambda _: True) * np.float32(10 ** (level_db / 20))
    return mix


# The table of likeness -------------------------------------------------------------------------------------------


class Made(NamedTuple):
    """What was made for one class, seed by seed: its samples, and its pieces by how long those are."""

    samples: list[Samples]
    pieces: list[dict[float, Pieces]]


def make(layers: Layers, seeds: range, lengths_s: set[float]) -> Made:
    """All seeds of one class."""
    samples = [texture(layers, seed) for seed in seeds]
    return Made(samples, [{length_s: cut(one, RATE_HZ, length_s, 1.0) for length_s in lengths_s} for one in samples])


def likeness(group: str, scale: Scale, recordings: dict[str, Recording], made: dict[str, Made]) -> None:
    """Print the distances of everything to every recording, by one group of statistics."""
    names = GROUPS[group]
    own = {name: scale.within(one.pieces, names) for name, one in recordings.items()}
    print(f"\nDistances by the {group} measures ({', '.join(names)}); columns are recordings")
    print(f"{'':20}", *(f"{name[:8]:>8}" for name in recordings), f"{'ratio':>7} {'first':>8}")
    for name, one in recordings.items():
        row = [
            own[name] if other is one else float(scale.distances(one.pieces, other.pieces, names).mean())
            for other in recordings.values()
        ]
        print(f"{name[:11] + ' (rec.)':20}", *(f"{value:8.2f}" for value in row))
    rows = {
        name: np.array(
            [
                [float(scale.distances(seed[one.piece_s], one.pieces, names).mean()) for one in recordings.values()]
                for seed in each.pieces
            ]
        )
        for name, each in made.items()
    }
    columns = list(recordings)
    for name, distances in rows.items():
        middle = distances.mean(axis=0)
        if name in recordings:
            at = columns.index(name)
            ratio = middle[at] / own[name]
            nearest = [columns[place] for place in np.argmin(distances, axis=1)]
            first = nearest.count(name)
            or_twin = f"+{nearest.count(TWINS[name])}" if name in TWINS else ""
            verdict = f"{ratio:7.2f} {f'{first}{or_twin}/{len(nearest)}':>8}"
        else:
            # How near a control comes to any class, and in how many it beats everything that was made for one.
            ratio = min(value / own[column] for value, column in zip(middle, columns, strict=True))
            others = np.min([each.mean(axis=0) for other, each in rows.items() if other in recordings], axis=0)
            verdict = f"{ratio:7.2f} {f'in {int(np.sum(middle < others))}':>8}"
        print(
            f"{f'{name[:11]} (made)' if name in recordings else name:20}",
            *(f"{value:8.2f}" for value in middle),
            verdict,
        )


# What each is known by -------------------------------------------------------------------------------------------


def frames(mono: npt.NDArray[np.floating], rate_hz: int, frame_s: float, above_hz: float) -> Floats:
    """RMS of frames above a frequency."""
    high = signal.sosfilt(signal.butter(4, above_hz, "high", fs=rate_hz, output="sos"), mono)
    frame = round(frame_s * rate_hz)
    return np.asarray(np.sqrt(np.mean(high[: high.size // frame * frame].reshape(-1, frame) ** 2, axis=1)))


def onsets_hz(sound: Samples, rate_hz: int, frame_s: float, times: float) -> float:
    """How often a second the level above 3 kHz rises through so many times its median."""
    levels = frames(sound.mean(axis=0), rate_hz, frame_s, 3000.0)
    above = levels > times * np.median(levels)
    return float(np.sum(above[1:] & ~above[:-1]) / (levels.size * frame_s))


def drops_hz(sound: Samples, rate_hz: int) -> tuple[float, ...]:
    """Single drops a second: 3.5 dB above the bed within 5 ms."""
    return (onsets_hz(sound, rate_hz, 0.005, 1.5),)


def crackles_hz(sound: Samples, rate_hz: int) -> tuple[float, ...]:
    """Single crackles a second: 9.5 dB above the bed within 2 ms."""
    return (onsets_hz(sound, rate_hz, 0.002, 3.0),)


def waves(sound: Samples, rate_hz: int) -> tuple[float, ...]:
    """Seconds from crest to crest, and how deep the envelope is: its CV, and crests over lulls in dB."""
    levels = frames(sound.mean(axis=0), rate_hz, 0.2, 100.0)
    smooth = np.convolve(levels, np.hanning(13)[1:-1] / np.hanning(13).sum(), "same")
    crests, _ = signal.find_peaks(smooth, prominence=0.25 * smooth.max(), distance=15)
    period_s = float(np.mean(np.diff(crests))) * 0.2 if len(crests) > 1 else np.inf
    high, low = np.percentile(levels, (95.0, 5.0))
    return period_s, float(np.std(levels) / np.mean(levels)), float(20.0 * np.log10(high / low))


KNOWN_BY: dict[str, tuple[str, Callable[[Samples, int], tuple[float, ...]]]] = {
    "rain": ("single drops a second", drops_hz),
    "fireplace": ("single crackles a second", crackles_hz),
    "waves": ("period in s, envelope CV, depth in dB", waves),
}


def known_by(recordings: dict[str, Recording], made: dict[str, Made]) -> None:
    """Print what a class is recognized by: recorded, made (mean, lowest and highest seed), and in pink noise."""
    print("\nWhat each is known by: recorded; made (lowest to highest seed); pink noise")
    for name, (words, measure) in KNOWN_BY.items():
        if name not in made:
            continue
        real = measure(recordings[name].samples, recordings[name].rate_hz)
        seeds = np.array([measure(one, RATE_HZ) for one in made[name].samples])
        noise = measure(made["pink noise"].samples[0], RATE_HZ)
        cells = [
            f"{one:.2f}; {column.mean():.2f} ({column.min():.2f} to {column.max():.2f}); {none:.2f}"
            for one, column, none in zip(real, seeds.T, noise, strict=True)
        ]
        print(f"{name:14} {words}:", " | ".join(cells))


# Octaves ---------------------------------------------------------------------------------------------------------

_OCTAVES_HZ = (31.5, 63, 125, 250, 500, 1000, 2000, 4000, 8000, 16000)


def measure(samples: Samples, rate_hz: int) -> Floats:
    """Octave-band levels in dB of the whole, envelope CVs, kurtosis, correlation: shape (len(_OCTAVES_HZ) + 5,)."""
    hz, power = signal.welch(samples, rate_hz, nperseg=16384, axis=-1)
    mean_power = power.mean(axis=0)
    bands = [mean_power[(hz >= band / 2**0.5) & (hz < band * 2**0.5)].sum() for band in _OCTAVES_HZ]
    levels = 10.0 * np.log10(np.array(bands) / np.sum(bands) + 1e-12)

    audible = signal.sosfilt(signal.butter(2, 100.0, "high", fs=rate_hz, output="sos"), samples, axis=-1)
    mono = audible.mean(axis=0)
    high = signal.sosfilt(signal.butter(2, 1000.0, "high", fs=rate_hz, output="sos"), mono)
    correlation = np.corrcoef(audible[0], audible[-1])[0, 1]
    variation = [envelope_variation(mono, round(frame_s * rate_hz)) for frame_s in (0.02, 0.2)]
    return np.array([*levels, *variation, stats.kurtosis(mono), stats.kurtosis(high), correlation])


def envelope_variation(mono: npt.NDArray[np.floating], frame: int) -> float:
    """Deviation over mean of the RMS of frames."""
    envelope = np.sqrt(np.mean(mono[: mono.size // frame * frame].reshape(-1, frame) ** 2, axis=1))
    return float(np.std(envelope) / np.mean(envelope))


def octaves(recordings: dict[str, Recording], made: dict[str, Made]) -> None:
    """Print levels by octaves and what the envelope and the samples are like."""
    print(
        "\nOctave-band levels (dB of the whole), envelope CV at 20 and 200 ms, kurtosis, that above 1 kHz, correlation"
    )
    print(f"{'':20}", *(f"{band:6g}" for band in _OCTAVES_HZ), "cv20ms  cv.2s   kurt  kurt>1k  corr")
    for name, one in made.items():
        figures = np.stack([measure(samples, RATE_HZ) for samples in one.samples])
        if name in recordings:
            line(f"{name[:11]} (rec.)", measure(recordings[name].samples, recordings[name].rate_hz))
            line(f"{name[:11]} (made)", figures.mean(axis=0))
            line("  deviation", figures.std(axis=0))
        else:
            line(name, figures.mean(axis=0))


def line(name: str, figures: Floats) -> None:
    """Print one row of octaves."""
    cells = [f"{value:6.1f}" for value in figures[: len(_OCTAVES_HZ)]]
    print(f"{name:20}", *cells, *(f"{value:6.2f}" for value in figures[len(_OCTAVES_HZ) :]))


def main() -> None:
    """Print the tables."""
    folder = os.environ.get("AMBIENT_REFERENCES", "")
    if not folder:
        print("Set AMBIENT_REFERENCES to a folder of recordings; without it there is nothing to compare with.")
        return
    first, count = (int(text) for text in (sys.argv[1:3] + ["100", "8"][len(sys.argv[1:3]) :]))
    seeds = range(first, first + count)
    recordings = load(Path(folder))
    if not recordings:
        return
    wanted = [name for name in recordings if name in sys.argv[3:] or not sys.argv[3:]]
    lengths_s = {one.piece_s for one in recordings.values()}
    made = {name: make(PAIRS[name], seeds, lengths_s) for name in wanted}
    made |= {name: make(layers, seeds, lengths_s) for name, layers in CONTROLS.items()}
    scale = Scale([one.pieces for one in recordings.values()])
    for group in GROUPS:
        likeness(group, scale, recordings, made)
    known_by(recordings, made)
    octaves(recordings, made)


if __name__ == "__main__":
    main()
