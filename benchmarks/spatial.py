"""How near a sound of 16 kHz mono, widened and with its band filled, comes to the full sound it was made from.

    [AMBIENT_REFERENCES=folder] python benchmarks/spatial.py [first seed [number of seeds]]

Procedural textures, and field recordings if a folder of them is named, are mixed down to 16 kHz mono, the form in which
AudioLDM2 makes its sound, and brought back to 48 kHz stereo. Printed are, against the full sound:

- the levels of 8 to 11.3 and 11.3 to 20 kHz: what was there (dB of the whole), and the error in dB with the band filled
  and with nothing there;
- how well the filled band follows the true one in time: correlation of their levels in frames of 5 and of 50 ms;
- the correlation of left and right in octave bands, in the original and as made, and how far left and right differ in
  level in the worst octave that carries sound;
- what widening does to loudness, and how far the mono sum is from what went in (dB of its level);
- the speed on 30 s, as a multiple of real time.

What the figures do not show: AudioLDM2's own top octave, which may be duller, or buzz, unlike that of a sound that was
mixed down; how it sounds; and whether the image is the right one, as where things are was lost with the second channel.
Tune on some seeds and report on others.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from ambientgen.audio.clip import Clip, Samples
from ambientgen.audio.loudness import integrated_lufs
from ambientgen.audio.resample import resample, to_stereo
from ambientgen.audio.spatial import extend_band, widen
from ambientgen.synth import TextureParams, render_texture

Array = npt.NDArray[np.float64]

RATE_HZ = 48_000
MODEL_RATE_HZ = 16_000
DURATION_S = 10
TEXTURES = (
    ("rain", "open"),
    ("rain", "leaves"),
    ("thunder", "rolling"),
    ("wind", "trees"),
    ("ocean", "waves"),
    ("stream", "brook"),
    ("fire", "hearth"),
    ("insects", "crickets"),
    ("birds", "songbirds"),
    ("cafe", "murmur"),
    ("chimes", "chimes"),
    ("city", "traffic"),
    ("train", "train"),
    ("machine", "fan"),
    ("drone", "drone"),
    ("noise", "pink"),
)
OCTAVES_HZ = (125, 250, 500, 1000, 2000, 4000, 8000, 16_000)
HIGH_BANDS_HZ = ((8000.0, 11_314.0), (11_314.0, 20_000.0))
#: A band this far below the whole carries no sound.
CARRIES_DB = -50.0


def originals(seeds: range) -> Iterator[tuple[str, Clip, bool]]:
    """Name, full sound, and whether it is a circle."""
    for family, variant in TEXTURES:
        params = TextureParams(family=family, variant=variant)
        for seed in seeds:
            samples = render_texture(params, DURATION_S * RATE_HZ, RATE_HZ, seed, lambda _: True)
            yield f"{family}, {variant}", Clip(samples, RATE_HZ), True
    folder = os.environ.get("AMBIENT_REFERENCES", "")
    for path in sorted(Path(folder).glob("*.ogg")) if folder else ():
        with soundfile.SoundFile(path) as file:
            start = file.frames // 4
            file.seek(start)
            samples = file.read(DURATION_S * file.samplerate, dtype="float32", always_2d=True).T
            clip = resample(Clip(np.ascontiguousarray(samples), file.samplerate), RATE_HZ)
            yield f"recorded: {path.stem}", clip, False


def bands(samples: Samples, edges_hz: list[tuple[float, float]]) -> list[Samples]:
    """Each band of a sound, cut out sharply."""
    spectrum = np.fft.rfft(samples)
    hz = np.fft.rfftfreq(samples.shape[-1], 1.0 / RATE_HZ)
    return [np.fft.irfft(spectrum * ((hz >= low) & (hz < high)), samples.shape[-1]) for low, high in edges_hz]


def power(samples: Samples) -> float:
    """Mean square."""
    return float(np.mean(np.square(samples, dtype=np.float64)))


def db(ratio: float) -> float:
    """A ratio of powers in dB, not below -99."""
    return 10.0 * float(np.log10(max(ratio, 10.0**-9.9)))


def correlation(pair: Samples) -> float:
    """Of left and right, at the same instant."""
    left, right = pair.astype(np.float64)
    return float(left @ right / max(np.sqrt((left @ left) * (right @ right)), 1e-30))


def envelope_correlation(first: Samples, second: Samples, frame_s: float) -> float:
    """Correlation of two sounds' levels (RMS of frames)."""
    frame = round(frame_s * RATE_HZ)
    levels = [
        np.sqrt(np.mean(np.square(s[: s.size // frame * frame].reshape(-1, frame)), axis=1)) for s in (first, second)
    ]
    return float(np.corrcoef(*levels)[0, 1])


def figures(original: Clip, *, loop: bool) -> dict[str, Array]:
    """All figures of one sound; NaN where a band carries nothing."""
    mono = Clip(original.samples.mean(axis=0, keepdims=True), RATE_HZ)
    low = resample(resample(mono, MODEL_RATE_HZ, loop=loop), RATE_HZ, loop=loop)
    filled = extend_band(low, loop=loop)
    wide = widen(filled, seed=1, loop=loop)

    whole = power(mono.samples)
    true_high, plain_high, filled_high = (bands(clip.samples[0], list(HIGH_BANDS_HZ)) for clip in (mono, low, filled))
    high = [
        [db(power(true) / whole), db(power(made) / power(true)), db(power(plain) / power(true))]
        if db(power(true) / whole) > CARRIES_DB
        else [db(power(true) / whole), db(power(made) / whole), np.nan]
        for true, plain, made in zip(true_high, plain_high, filled_high, strict=True)
    ]
    follows = [envelope_correlation(sum(true_high), sum(filled_high), frame_s) for frame_s in (0.005, 0.05)]
    if max(line[0] for line in high) <= CARRIES_DB:
        follows = [np.nan, np.nan]

    octaves = [(hz / 2**0.5, hz * 2**0.5) for hz in OCTAVES_HZ]
    made_bands = bands(wide.samples, octaves)
    carries = np.array([db(power(band) / power(wide.samples)) > CARRIES_DB for band in made_bands])
    true_correlation = np.full(len(octaves), np.nan)
    if original.num_channels == 2:
        true_correlation = np.array([correlation(band) for band in bands(original.samples, octaves)])
    balance = [abs(db(power(band[0]) / power(band[1]))) if good else 0.0 for band, good in zip(made_bands, carries)]  # noqa: B905
    error = wide.samples.mean(axis=0, dtype=np.float64) - filled.samples[0]
    return {
        "high": np.array(high).ravel(),
        "follows": np.array(follows),
        "true correlation": np.where(carries, true_correlation, np.nan),
        "made correlation": np.where(carries, [correlation(band) for band in made_bands], np.nan),
        "image": np.array(
            [
                max(balance),
                integrated_lufs(wide) - integrated_lufs(to_stereo(filled)),
                db(float(np.mean(error**2)) / power(filled.samples)) if error.any() else -np.inf,
            ]
        ),
    }


def row(name: str, values: Array, digits: int) -> str:
    """One line of a Markdown table."""
    return f"| {name} | " + " | ".join("-" if np.isnan(v) else f"{v:.{digits}f}" for v in values) + " |"


def header(*titles: str) -> str:
    """The head of a Markdown table."""
    return "\n| " + " | ".join(titles) + " |\n" + "|---" * len(titles) + "|"


def best_s(clip: Clip) -> tuple[float, float]:
    """Seconds for the band and for the image, the best of three."""
    times_s = []
    for _ in range(3):
        started_s = time.perf_counter()
        filled = extend_band(clip, loop=True)
        between_s = time.perf_counter()
        widen(filled, seed=1, loop=True)
        times_s.append((between_s - started_s, time.perf_counter() - between_s))
    filling_s, widening_s = np.min(times_s, axis=0)
    return float(filling_s), float(widening_s)


def main() -> None:
    """Print the tables."""
    first, count = (int(text) for text in (sys.argv[1:3] + ["100", "2"][len(sys.argv[1:3]) :]))
    found: dict[str, list[dict[str, Array]]] = {}
    for name, clip, loop in originals(range(first, first + count)):
        found.setdefault(name, []).append(figures(clip, loop=loop))
    means = {
        name: {key: np.mean([each[key] for each in all_], axis=0) for key in all_[0]} for name, all_ in found.items()
    }
    below = "8 to 11.3 kHz"
    above = "11.3 to 20 kHz"
    print(
        header("band", f"{below}, dB of the whole", "filled", "empty", f"{above}", "filled", "empty", "5 ms", "50 ms")
    )
    for name, mean in means.items():
        print(row(name, np.concatenate([mean["high"], mean["follows"]]), 2))
    print(header("left and right", *(f"{hz:g}" for hz in OCTAVES_HZ), "balance dB", "louder LU", "mono sum dB"))
    for name, mean in means.items():
        print(row(f"{name}, original", mean["true correlation"], 2))
        print(row("made", np.concatenate([mean["made correlation"], mean["image"]]), 2))
    clip = Clip(np.random.default_rng(0).standard_normal((1, 30 * RATE_HZ), dtype=np.float32), RATE_HZ)
    filling_s, widening_s = best_s(clip)
    speeds = (f"{30 / seconds:.0f} x" for seconds in (filling_s, widening_s, filling_s + widening_s))
    print("\n30 s, times real time: band {}, image {}, both {}".format(*speeds))


if __name__ == "__main__":
    main()
