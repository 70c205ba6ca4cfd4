"""What the picture of a sound costs: processor time on one core, bytes, and memory beside the sound.

    python benchmarks/picture.py [repeats]

Held to: 80 ms for 30 s of 48 kHz stereo, 120,000 bytes, 40 MB. Each texture is a circle of half a minute, heard for
2 s, 30 s and (from disk) 600 s, under a slow swell. The ratio is to the plain way in the same run: the whole
spectrogram (2048 samples every 512), scaled to the picture's size and saved in true color, without text, axes or
waveform.
"""

from __future__ import annotations

import io
import os
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from ambientgen.audio.clip import Clip, Samples
from ambientgen.audio.picture import MAX_BYTES, draw
from ambientgen.audio.sound import BLOCK_SAMPLES, Sound, read_around, record
from ambientgen.synth import TextureParams, render_texture

RATE_HZ = 48_000
CIRCLE_S = 30.0
DURATIONS_S = (2.0, 30.0, 600.0)
TEXTURES = ("rain", "ocean", "fire", "birds", "drone", "noise")


def main() -> None:
    """Print the table."""
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    print(
        f"{'sound':<12}{'seconds':>8}{'ms':>8}{'bytes':>9}{'peak MB':>9}{'plain ms':>10}{'plain bytes':>13}{'ratio':>7}"
    )
    slowest_s, largest = 0.0, 0
    for name, circle in _circles():
        for duration_s in DURATIONS_S:
            with tempfile.TemporaryDirectory() as folder:
                sound = _sound(circle, duration_s, Path(folder))
                took_s, png = _best(lambda sound=sound: draw(sound, "A title of usual length", "A caption"), repeats)  # type: ignore[misc]
                plain_s, plain_png = _best(lambda sound=sound: _plain(sound), 1 if duration_s > 60.0 else repeats)  # type: ignore[misc]
                peak_mb = _peak_mb(sound)
            print(
                f"{name:<12}{duration_s:>8g}{took_s * 1e3:>8.1f}{len(png):>9,}{peak_mb:>9.1f}"
                f"{plain_s * 1e3:>10.1f}{len(plain_png):>13,}{plain_s / took_s:>7.1f}",
                flush=True,
            )
            largest = max(largest, len(png))
            slowest_s = max(slowest_s, took_s if duration_s == CIRCLE_S else 0.0)
    print(f"\nslowest of {CIRCLE_S:g} s: {slowest_s * 1e3:.1f} ms; largest: {largest:,} of {MAX_BYTES:,} bytes")


def _circles() -> Iterator[tuple[str, Clip]]:
    """Each texture as a loop, and clicks at random places and levels."""
    num_samples = round(CIRCLE_S * RATE_HZ)
    for family in TEXTURES:
        params = TextureParams(family=family)
        samples = render_texture(params, num_samples, RATE_HZ, 3, lambda _progress: True)
        yield f"{family} {params.kind}"[:11], Clip(samples, RATE_HZ)
    rng = np.random.default_rng(3)
    clicks = np.zeros((2, num_samples), np.float32)
    clicks[:, rng.integers(0, num_samples, 12_000)] = rng.uniform(-1.0, 1.0, 12_000) ** 3
    yield "clicks", Clip(clicks, RATE_HZ)


def _sound(circle: Clip, duration_s: float, directory: Path) -> Sound:
    """The circle for so long, in memory or on disk as a scene of that length would be."""
    num_samples = round(duration_s * RATE_HZ)

    def blocks() -> Iterator[Samples]:
        for start in range(0, num_samples, BLOCK_SAMPLES):
            length = min(BLOCK_SAMPLES, num_samples - start)
            swell = 1.0 + 0.6 * np.sin(2.0 * np.pi * 1.5 * np.arange(start, start + length) / num_samples)
            yield read_around(circle, start, length) * swell.astype(np.float32)

    return record(blocks(), num_samples, num_channels=2, sample_rate_hz=RATE_HZ, directory=directory)


def _best(work: Callable[[], bytes], repeats: int) -> tuple[float, bytes]:
    """The shortest of a few runs, after one that warms caches up, and what it made."""
    made = work()
    times_s = []
    for _ in range(repeats):
        started_s = time.process_time()
        made = work()
        times_s.append(time.process_time() - started_s)
    return min(times_s), made


def _peak_mb(sound: Sound) -> float:
    tracemalloc.start()
    draw(sound, "A title of usual length", "A caption")
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak_bytes / 1e6


def _plain(sound: Sound) -> bytes:
    """A spectrogram as one would write it down first; in parts only so that ten minutes fit in memory."""
    size, hop, part = 2048, 512, 1000
    mono = sound.read(0, sound.num_samples).mean(axis=0)
    frames = np.lib.stride_tricks.sliding_window_view(mono, size)[::hop]
    window = np.hanning(size).astype(np.float32)
    levels_db = np.empty((len(frames), size // 2 + 1), np.float32)
    for start in range(0, len(frames), part):
        spectra = np.fft.rfft(frames[start : start + part] * window)
        levels_db[start : start + part] = 20.0 * np.log10(np.abs(spectra) + 1e-9)
    share = np.clip((levels_db.T[::-1] - levels_db.max()) / 80.0 + 1.0, 0.0, 1.0)
    image = Image.fromarray((share * 255.0).astype(np.uint8)).resize((876, 240))
    ramp = np.stack([np.linspace(0, 255, 256), np.linspace(0, 230, 256), np.linspace(60, 160, 256)], axis=1)
    buffer = io.BytesIO()
    Image.fromarray(ramp.astype(np.uint8)[np.asarray(image)]).save(buffer, "PNG")
    return buffer.getvalue()


if __name__ == "__main__":
    main()
