"""Times of metering, mastering, encoding and drawing on one minute of stereo, and our meter against pyloudnorm.

Run: python benchmarks/audio.py [--duration-s 60] [--repeats 3]
"""

from __future__ import annotations

import argparse
import functools
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyloudnorm  # type: ignore[import-untyped]

from ambientgen.audio import encode, loop, loudness, picture
from ambientgen.audio.clip import Clip

RATE_HZ = 48_000


def textured(duration_s: float, exponent: float, seed: int) -> Clip:
    """Stereo noise with a spectrum of 1 / frequency ** exponent (amplitude) and a slow swell."""
    num_samples = round(duration_s * RATE_HZ)
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal((2, num_samples)), axis=1)
    spectrum[:, 1:] /= np.arange(1, spectrum.shape[1]) ** exponent
    spectrum[:, 0] = 0
    samples = np.fft.irfft(spectrum, num_samples, axis=1)
    samples *= 0.05 / samples.std() * (1 + 0.6 * np.sin(np.arange(num_samples) / RATE_HZ))
    return Clip(samples.astype(np.float32), RATE_HZ)


def best_s(work: Callable[[], object], repeats: int) -> float:
    """The shortest of a few runs, after one that warms caches up."""
    work()
    times_s = []
    for _ in range(repeats):
        started_s = time.perf_counter()
        work()
        times_s.append(time.perf_counter() - started_s)
    return min(times_s)


def main() -> None:
    """Print the two tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--duration-s", type=float, default=60.0)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    clip = textured(options.duration_s, 0.4, 1)
    frames = clip.samples.T.astype(np.float64)
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)

        def write(file_format: str) -> object:
            return encode.encode(clip, directory, "clip", file_format, max_bytes=10**9, tags={})

        works: dict[str, Callable[[], object]] = {
            "integrated loudness": lambda: loudness.integrated_lufs(clip),
            "  the same by pyloudnorm": lambda: pyloudnorm.Meter(RATE_HZ).integrated_loudness(frames),
            "true peak": lambda: loudness.true_peak_dbtp(clip),
            "master, peaks free": lambda: loudness.master(clip, -30.0),
            "master, limiting": lambda: loudness.master(clip, -12.0),
            "seam": lambda: loop.measure_seam(clip),
            **{f"{name}, written and measured": functools.partial(write, name) for name in encode.FORMATS},
            "picture": lambda: picture.draw(clip, "A title", "A caption"),
        }
        print(f"{clip.duration_s:.0f} s of stereo at {RATE_HZ} Hz, best of {options.repeats}")
        found_s = {name: best_s(work, options.repeats) for name, work in works.items()}
    for name, seconds in found_s.items():
        print(f"{name:32s} {seconds * 1000:8.1f} ms   {clip.duration_s / seconds:8.0f} x real time")
    ours_s, theirs_s = found_s["integrated loudness"], found_s["  the same by pyloudnorm"]
    print(f"\nour meter takes {ours_s / theirs_s:.2f} of pyloudnorm's time")
    print("largest difference over 12 clips, colors 0 to 1.1:")
    clips = [textured(10.0, 0.1 * number, number) for number in range(12)]
    for filter_class, words in (("DeMan", "the standard's coefficients"), ("K-weighting", "its default filters")):
        meter = pyloudnorm.Meter(RATE_HZ, filter_class=filter_class)
        largest_lu = max(
            abs(loudness.integrated_lufs(each) - meter.integrated_loudness(each.samples.T.astype(np.float64)))
            for each in clips
        )
        print(f"  pyloudnorm with {words:28s} {largest_lu:.4f} LU")


if __name__ == "__main__":
    main()
