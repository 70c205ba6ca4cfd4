"""How much a sound made longer than its takes repeats itself.

    AMBIENT_REFERENCES=folder python benchmarks/repetition.py [name ...]
    python benchmarks/repetition.py engine [family ...]

The measure is the highest autocorrelation of what is heard: levels in 20 bands ten times a second, less their mean over
0.7 s around (a slow swell is like itself a second later and repeats nothing), over lags from 1 s to half the length.
A take that is simply repeated has 1.0; a recording has what chance and its own rhythm give it; 0.15 is the limit here.

First table: takes of 10 s at 16 kHz, cut from recordings (where the folder is given) and from procedural textures, made
into 60 and 600 s: by plain repetition, and by `extend` from one to four takes, the worst of three seeds. Beside them
stands what the recording or the texture has of its own, in its first 60 s and in all of it: crickets and trains have a
rhythm, which is no fault, and what counts is what is added to it. Second table: 600 s from the procedural engine.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from ambientgen.audio.clip import Clip, Samples
from ambientgen.audio.extend import MAX_TAKES, extend
from ambientgen.audio.resample import resample
from ambientgen.audio.sound import Sound, record
from ambientgen.engines.base import Take
from ambientgen.engines.procedural import ProceduralEngine
from ambientgen.recipe import Layer, Role
from ambientgen.synth import FAMILIES, TextureParams, render_texture

Array = npt.NDArray[np.float64]

LIMIT = 0.15
RATE_HZ = 16_000
TAKE_S = 10
LENGTHS_S = (60, 600)
SEEDS = range(3)
FRAMES_HZ = 10
NUM_BANDS = 20
BANDS_HZ = (80.0, 7_600.0)
_SHORTEST_LAG_S = 1.0
_WINDOW_S = 0.25
_SLOW_S = 0.6
_RANGE = 1e-8
#: What the first table is made of: recordings, and families and variants of textures, by the role they have.
RECORDINGS: dict[Role, tuple[str, ...]] = {
    "bed": ("rain", "wind", "waves", "fireplace", "summer-night", "coffee-shop", "train", "city", "boat"),
    "events": ("birds", "storm"),
}
TEXTURES: dict[Role, tuple[tuple[str, str], ...]] = {
    "bed": (("rain", "open"), ("ocean", "waves"), ("wind", "trees"), ("machine", "hum"), ("cafe", "murmur")),
    "events": (("thunder", "thunder"), ("birds", "owl"), ("birds", "crows"), ("frogs", "frogs"), ("chimes", "bells")),
}


def repetition(sound: Sound) -> float:
    """The highest autocorrelation of a sound's band levels, over lags from 1 s to half its length.

    Args:
        sound: at least 4 s long.
    """
    levels_db = band_levels_db(sound)
    half = len(levels_db) // 2
    slow = np.ones(round(_SLOW_S * FRAMES_HZ) + 1)
    num_near = np.convolve(np.ones(len(levels_db)), slow, "same")
    moves = levels_db - np.stack([np.convolve(band, slow, "same") for band in levels_db.T], axis=1) / num_near[:, None]
    moves -= moves.mean(axis=0)
    deviations = moves.std(axis=0)
    moves = moves[:, deviations > 1e-9] / deviations[deviations > 1e-9]

    size = 1 << (2 * len(moves)).bit_length()
    products = np.fft.irfft((np.abs(np.fft.rfft(moves, size, axis=0)) ** 2).sum(axis=1), size)[: half + 1]
    energy = np.concatenate([[0.0], np.cumsum((moves**2).sum(axis=1))])
    lags = np.arange(half + 1)
    overlaps = np.sqrt(energy[len(moves) - lags] * (energy[-1] - energy[lags]))
    likeness = products / np.maximum(overlaps, 1e-9)
    return float(likeness[round(_SHORTEST_LAG_S * FRAMES_HZ) :].max())


def band_levels_db(sound: Sound) -> Array:
    """Level of each band, shape (frames, bands), read piece by piece."""
    rate_hz = sound.sample_rate_hz
    window = np.hanning(round(_WINDOW_S * rate_hz))
    hop = rate_hz // FRAMES_HZ
    hz = np.fft.rfftfreq(len(window), 1.0 / rate_hz)
    edges = np.searchsorted(hz, np.geomspace(*BANDS_HZ, NUM_BANDS + 1))
    starts = range(0, sound.num_samples - len(window) + 1, hop)
    power = np.empty((len(starts), NUM_BANDS))
    for first in range(0, len(starts), 256):
        some = starts[first : first + 256]
        mono = sound.read(some[0], some[-1] + len(window)).mean(axis=0)
        frames = np.lib.stride_tricks.sliding_window_view(mono, len(window))[::hop]
        spectra = np.abs(np.fft.rfft(frames * window, axis=1)) ** 2
        power[first : first + len(some)] = np.add.reduceat(spectra, edges[:-1], axis=1)
    return np.asarray(10.0 * np.log10(np.maximum(power, max(float(power.max()), 1e-30) * _RANGE)))


def recorded(name: str) -> Clip | None:
    """A recording at 16 kHz in mono, if there is one."""
    path = Path(os.environ.get("AMBIENT_REFERENCES", "")) / f"{name}.ogg"
    if "AMBIENT_REFERENCES" not in os.environ or not path.is_file():
        return None
    samples, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    return _mono(samples.T, rate_hz)


def texture(family: str, variant: str, duration_s: int, seed: int) -> Clip:
    """A procedural texture at 16 kHz in mono."""
    params = TextureParams(family=family, variant=variant)
    return _mono(render_texture(params, duration_s * 48_000, 48_000, seed, lambda _: True), 48_000)


def main() -> None:
    """Print a table."""
    wanted = sys.argv[1:]
    if wanted[:1] == ["engine"]:
        _print_engine(wanted[1:])
        return
    heads = "".join(f"{num:5}" for num in range(1, MAX_TAKES + 1))
    print(f"{'':36}{'own':>13}" + "".join(f"{f'{length} s: plain':>15}{heads}" for length in LENGTHS_S))
    for role, name, whole, takes in _sources(wanted):
        own = f"{repetition(_start(whole, LENGTHS_S[0])):.2f} {repetition(whole):.2f}"
        print(f"{f'{role} {name}':36}{own:>13}", end="")
        for length_s in LENGTHS_S:
            plain = np.tile(takes[0].samples, round(length_s / takes[0].duration_s))
            made = [_worst(takes[:num], length_s, role) for num in range(1, len(takes) + 1)]
            cells = "".join(f"{value:5.2f}" for value in made).ljust(5 * MAX_TAKES)
            print(f"{repetition(Clip(plain, RATE_HZ)):15.2f}{cells}", end="", flush=True)
        print()


def _sources(wanted: Sequence[str]) -> Iterator[tuple[Role, str, Clip, list[Clip]]]:
    """Role, name, something that was not extended, and takes."""
    for role, names in RECORDINGS.items():
        for name in names:
            whole = recorded(name) if not wanted or name in wanted else None
            if whole is not None:
                yield role, f"{name} (recorded {whole.duration_s:.0f} s)", whole, _cut(whole)
    for role, kinds in TEXTURES.items():
        for family, variant in kinds:
            if not wanted or family in wanted or variant in wanted:
                takes = [texture(family, variant, TAKE_S, seed) for seed in range(MAX_TAKES)]
                yield role, f"{family} {variant}", texture(family, variant, LENGTHS_S[0], MAX_TAKES), takes


def _cut(whole: Clip) -> list[Clip]:
    """Takes from places as far from each other as there are; none has a part in common with another."""
    length = min(TAKE_S * RATE_HZ, whole.num_samples)
    num = min(MAX_TAKES, whole.num_samples // length)
    starts = np.linspace(0, whole.num_samples - length, num).astype(int)
    return [Clip(whole.samples[:, start : start + length], RATE_HZ) for start in starts]


def _worst(takes: Sequence[Clip], length_s: int, role: Role) -> float:
    longer = [list(extend(takes, length_s * RATE_HZ, seed=seed, loop=True, role=role)) for seed in SEEDS]
    return max(repetition(Clip(np.concatenate(blocks, axis=1), RATE_HZ)) for blocks in longer)


def _print_engine(wanted: Sequence[str]) -> None:
    engine, length_s = ProceduralEngine(), LENGTHS_S[-1]
    rate_hz, num_channels = engine.spec.sample_rate_hz, engine.spec.num_channels
    num_samples = length_s * rate_hz
    print(f"{f'{length_s} s from the engine':36}")
    for family, entry in FAMILIES.items():
        if wanted and family not in wanted:
            continue
        for variant in entry.variants:
            layer = Layer(engine=engine.spec.name, prompt="", seed=1, params={"family": family, "variant": variant})
            take = Take(id="1", layer=layer, num_samples=num_samples, loop=True)
            with tempfile.TemporaryDirectory() as folder:
                sound = record(
                    engine.blocks(take, lambda _: True),
                    num_samples,
                    num_channels=num_channels,
                    sample_rate_hz=rate_hz,
                    directory=Path(folder),
                )
                value = repetition(sound)
            print(f"{f'{family} {variant}':36}{value:5.2f}{' above the limit' * (value > LIMIT)}", flush=True)


def _start(clip: Clip, duration_s: int) -> Clip:
    return Clip(clip.samples[:, : duration_s * clip.sample_rate_hz], clip.sample_rate_hz)


def _mono(samples: Samples, rate_hz: int) -> Clip:
    return resample(Clip(samples.mean(axis=0, keepdims=True), rate_hz), RATE_HZ)


if __name__ == "__main__":
    main()
