"""How well loops join once their files are decoded: every family, several seeds, every format, and controls that fail.

    python benchmarks/loops.py [number of seeds [seconds [family ...]]]

A seam should be like any other place of its clip. So it is judged by its place among the same measures elsewhere, over
all files together:

- flux: the change of spectrum, as a percentile of the clip's own. Median 35 to 65, at most 2 % of the files above 99.
- jump: the step from the last sample to the first, over the 99.9th percentile of the clip's own steps. At most 1 % of
  the files above 1.
- sag: how far the level falls around the seam. Its mean over all files lies between the 1st and the 99th percentile of
  the means at 200 other places, each of which is one place drawn in every file.

The first row is the limit of what can be reached: the circle itself, never encoded, at five places. Three
controls, in the best kind of file, must fail: a cut, a linear crossfade, and a fade to silence and back.
"""

from __future__ import annotations

import io
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import soundfile

from ambientgen.audio.clip import Clip, Samples
from ambientgen.audio.gapless import around, trim
from ambientgen.audio.loop import Seam, fade_edges, measure_seam
from ambientgen.audio.sound import blocks_of
from ambientgen.synth import FAMILIES, TextureParams, render_texture

Array = npt.NDArray[np.float64]

RATE_HZ = 48_000
WINDOW_S = 0.125
OVERLAP_S = 1.0
NUM_PLACES = 200
NUM_TURNS = 5
#: As `ambientgen.audio.encode` writes them: the best rung of each format, and the lowest of Opus.
FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
    "FLAC": ("flac", {"format": "FLAC", "subtype": "PCM_16"}),
    "Opus": ("opus", {"format": "OGG", "subtype": "OPUS"}),
    "Opus 31 kb/s": ("opus", {"format": "OGG", "subtype": "OPUS", "compression_level": 0.95}),
    "MP3": (
        "mp3",
        {"format": "MP3", "subtype": "MPEG_LAYER_III", "compression_level": 0.3, "bitrate_mode": "VARIABLE"},
    ),
}


class Judged(NamedTuple):
    """A decoded file's seam, its sag in dB, and the sag at the other places."""

    seam: Seam
    sag_db: float
    sags_elsewhere_db: Array

    @property
    def sag_percentile(self) -> float:
        """Where the sag lies among the file's own."""
        return 100.0 * float(np.mean(self.sags_elsewhere_db < self.sag_db))


def coded(clip: Clip, name: str, *, gapless: bool) -> Clip:
    """The clip as it comes back from a file."""
    file_format, options = FORMATS[name]
    file = io.BytesIO()
    blocks = around(clip, file_format) if gapless else blocks_of(clip)
    with soundfile.SoundFile(file, "w", clip.sample_rate_hz, clip.num_channels, **options) as sound:
        for block in blocks:
            sound.write(np.ascontiguousarray(block.T))
    if gapless:
        trim(file, file_format, clip.num_samples)
    file.seek(0)
    decoded = Clip(np.ascontiguousarray(soundfile.read(file, dtype="float32")[0].T), clip.sample_rate_hz)
    assert decoded.num_samples == clip.num_samples
    return decoded


def sags_db(samples: Samples, places: npt.NDArray[np.int64]) -> Array:
    """At each place of a circle: the lowest quarter of a second within 1 s, below the mean of the second farther out.

    `measure_seam` judges the same at the seam alone and on a grid, and only what is beyond the usual.
    """
    num_samples = samples.shape[1]
    energy = np.concatenate([[0.0], np.cumsum(np.einsum("cn,cn->n", samples, samples, dtype=np.float64))])
    edges = places[:, np.newaxis] + np.arange(-16, 17) * round(WINDOW_S * RATE_HZ)
    windows = np.diff(energy[edges % num_samples] + edges // num_samples * energy[-1], axis=1)
    inner = (windows[:, 8:23] + windows[:, 9:24]).min(axis=1) / 2.0
    outer = windows[:, [*range(8), *range(24, 32)]].mean(axis=1)
    return np.asarray(10.0 * np.log10((outer + 1e-12) / (np.maximum(inner, 0.0) + 1e-12)))


def judged(clip: Clip, seed: int) -> Judged:
    """The seam of a clip, against places all over it: those far from the seam would differ from it by that alone."""
    places = np.random.default_rng(seed).integers(0, clip.num_samples, NUM_PLACES)
    sags = sags_db(clip.samples, np.concatenate([[0], places]))
    return Judged(measure_seam(clip, is_circle=True), float(sags[0]), sags[1:])


def turned(clip: Clip, seed: int) -> Iterator[Clip]:
    """The circle cut open at other places: the first drawn, the others spread evenly, since neighbors sound alike."""
    first = int(np.random.default_rng((seed, 1)).integers(clip.num_samples))
    for number in range(NUM_TURNS):
        place = first + number * clip.num_samples // NUM_TURNS
        yield Clip(np.roll(clip.samples, -place, axis=1), clip.sample_rate_hz)


def controls(longer: Clip, num_samples: int) -> Iterator[tuple[str, Clip]]:
    """What a loop is often made by."""
    cut = longer.samples[:, :num_samples]
    faded = cut.copy()
    overlap = longer.num_samples - num_samples
    rise = np.linspace(0.0, 1.0, overlap, dtype=np.float32)
    faded[:, :overlap] = cut[:, :overlap] * rise + longer.samples[:, num_samples:] * (1.0 - rise)
    yield "control: cut", Clip(cut.copy(), RATE_HZ)
    yield "control: linear crossfade", Clip(faded, RATE_HZ)
    blocks = fade_edges([cut], num_samples, RATE_HZ, OVERLAP_S)
    yield "control: fade out, fade in", Clip(np.concatenate(list(blocks), axis=1), RATE_HZ)


def measured(family: str, seed: int, num_samples: int) -> Iterator[tuple[str, Judged]]:
    """All rows' figures for one clip."""
    variants = FAMILIES[family].variants
    params = TextureParams(family=family, variant=variants[seed % len(variants)])

    def rendered(length: int) -> Clip:
        return Clip(render_texture(params, length, RATE_HZ, seed, lambda _: True), RATE_HZ)

    circle = rendered(num_samples)
    for other in turned(circle, seed):
        yield "circle, not encoded", judged(other, seed)
    yield "FLAC", judged(coded(circle, "FLAC", gapless=False), seed)
    for name in ("Opus", "Opus 31 kb/s", "MP3"):
        yield f"{name}, plain", judged(coded(circle, name, gapless=False), seed)
        yield f"{name}, gapless", judged(coded(circle, name, gapless=True), seed)
    for name, clip in controls(rendered(num_samples + round(OVERLAP_S * RATE_HZ)), num_samples):
        yield name, judged(coded(clip, "Opus", gapless=True), seed)


def row(name: str, files: list[Judged]) -> str:
    """One line of the table."""
    flux = np.array([file.seam.flux_percentile for file in files])
    jumps = np.array([file.seam.jump_ratio_p999 for file in files])
    elsewhere = np.mean([file.sags_elsewhere_db for file in files], axis=0)
    sag = 100.0 * float(np.mean(elsewhere < np.mean([file.sag_db for file in files])))
    own = np.array([file.sag_percentile for file in files])
    passes = (
        35.0 <= np.median(flux) <= 65.0
        and np.mean(flux > 99.0) <= 0.02
        and np.mean(jumps > 1.0) <= 0.01
        and 1.0 <= sag <= 99.0
    )
    cells = [
        f"{len(files)}",
        f"{np.median(flux):.0f}",
        f"{np.mean(flux > 99.0):.1%}",
        f"{np.mean(jumps > 1.0):.1%}",
        f"{np.mean(jumps > 2.0):.1%}",
        f"{jumps.max():.1f}",
        f"{sag:.0f}",
        f"{np.mean((own < 1.0) | (own > 99.0)):.0%}",
        "yes" if passes else "no",
    ]
    return f"| {name} | {' | '.join(cells)} |"


def by_family(rows: Iterable[tuple[str, str, Judged]]) -> str:
    """Whose seams stand out, for each row of the table."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for name, family, file in rows:
        if file.seam.jump_ratio_p999 > 1.0 or file.seam.flux_percentile > 99.0:
            counts[name][family] += 1
    return "\n".join(
        f"- {name}: " + ", ".join(f"{family} {number}" for family, number in counter.most_common())
        for name, counter in counts.items()
        if not name.startswith("control")
    )


def main() -> None:
    """Print the table."""
    num_seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 8
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 8.0
    families = sys.argv[3:] or list(FAMILIES)
    started = time.monotonic()
    rows: list[tuple[str, str, Judged]] = []
    for family in families:
        for seed in range(num_seeds):
            rows += [(name, family, file) for name, file in measured(family, seed, round(seconds * RATE_HZ))]
        print(f"{family} ({time.monotonic() - started:.0f} s)", file=sys.stderr, flush=True)
    columns = (
        f"loops of {seconds:g} s, {len(families)} families, {num_seeds} seeds",
        "places",
        "flux: median",
        "above 99",
        "jump above p99.9",
        "above twice that",
        "largest",
        "sag: percentile of the mean",
        "outside its own 1st to 99th",
        "passes",
    )
    print(f"| {' | '.join(columns)} |")
    print("|---" * len(columns) + "|")
    for name in dict.fromkeys(name for name, _, _ in rows):
        print(row(name, [file for other, _, file in rows if other == name]))
    print("\nFlux above 99 or jump above p99.9, by family:\n")
    print(by_family(rows))


if __name__ == "__main__":
    main()
