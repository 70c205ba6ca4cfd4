"""How close the procedural textures come to field recordings, in figures.

    AMBIENT_REFERENCES=folder python benchmarks/realism.py [first seed [number of seeds [name ...]]]

For each texture with a counterpart in that folder it prints octave-band levels (dB of the whole), the variation of the
envelope (its deviation over its mean, in frames of 20 and 200 ms), the excess kurtosis of the samples and of the part
above 1 kHz, and the correlation of left and right: the recording, the mean and deviation over fresh seeds, and pink and
white noise to compare with. Tune on some seeds and report on others; a table like this is easily over-fitted. And it
is no judge of beauty: match what makes a sound recognizable and leave a recording's own rumble and hiss alone.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
from scipy import signal, stats

from ambientgen.audio.clip import Samples
from ambientgen.synth import TextureParams, render_texture

RATE_HZ = 48_000
DURATION_S = 30
BANDS_HZ = (31.5, 63, 125, 250, 500, 1000, 2000, 4000, 8000, 16000)
#: Recording -> the layers that stand for it: (family, variant, intensity, level in dB).
PAIRS: dict[str, tuple[tuple[str, str, float, float], ...]] = {
    "rain.ogg": (("rain", "open", 0.5, 0.0),),
    "storm.ogg": (("thunder", "rolling", 0.5, 0.0),),
    "wind.ogg": (("wind", "open", 0.5, 0.0),),
    "waves.ogg": (("ocean", "waves", 0.5, 0.0),),
    "fireplace.ogg": (("fire", "hearth", 0.5, 0.0),),
    "summer-night.ogg": (("insects", "crickets", 0.5, 0.0),),
    "birds.ogg": (("birds", "songbirds", 0.5, 0.0),),
    "coffee-shop.ogg": (("cafe", "murmur", 0.5, 0.0),),
    "train.ogg": (("train", "train", 0.5, 0.0),),
    "city.ogg": (("city", "traffic", 0.5, 0.0),),
    "boat.ogg": (("ship", "ship", 0.5, 0.0),),
}


def measure(samples: Samples, rate_hz: int) -> npt.NDArray[np.float64]:
    """All figures of one clip, shape (len(BANDS_HZ) + 5,)."""
    hz, power = signal.welch(samples, rate_hz, nperseg=16384, axis=-1)
    mean_power = power.mean(axis=0)
    bands = [mean_power[(hz >= band / 2**0.5) & (hz < band * 2**0.5)].sum() for band in BANDS_HZ]
    levels = 10.0 * np.log10(np.array(bands) / np.sum(bands) + 1e-12)

    audible = signal.sosfilt(signal.butter(2, 100.0, "high", fs=rate_hz, output="sos"), samples, axis=-1)
    mono = audible.mean(axis=0)
    high = signal.sosfilt(signal.butter(2, 1000.0, "high", fs=rate_hz, output="sos"), mono)
    correlation = np.corrcoef(audible[0], audible[-1])[0, 1]
    variation = [envelope_variation(mono, round(frame_s * rate_hz)) for frame_s in (0.02, 0.2)]
    return np.array([*levels, *variation, stats.kurtosis(mono), stats.kurtosis(high), correlation])


def envelope_variation(mono: npt.NDArray[np.floating], frame: int) -> float:
    """Deviation over mean of the RMS of frames."""
    frames = mono[: mono.size // frame * frame].reshape(-1, frame)
    envelope = np.sqrt(np.mean(frames**2, axis=1))
    return float(np.std(envelope) / np.mean(envelope))


def texture(layers: tuple[tuple[str, str, float, float], ...], seed: int) -> Samples:
    """The layers mixed."""
    mix = np.zeros((2, DURATION_S * RATE_HZ), dtype=np.float32)
    for family, variant, intensity, level_db in layers:
        params = TextureParams(family=family, variant=variant, intensity=intensity)
        mix += render_texture(params, mix.shape[1], RATE_HZ, seed, lambda _: True) * np.float32(10 ** (level_db / 20))
    return mix


def line(name: str, figures: npt.NDArray[np.float64], *, digits: int = 1) -> None:
    """Print one row."""
    cells = [f"{value:6.{digits}f}" for value in figures[: len(BANDS_HZ)]]
    cells += [f"{value:6.2f}" for value in figures[len(BANDS_HZ) :]]
    print(f"{name:24}", *cells)


def over_seeds(make: Callable[[int], Samples], seeds: range) -> npt.NDArray[np.float64]:
    """Figures of each seed's clip, shape (seeds, figures)."""
    return np.stack([measure(make(seed), RATE_HZ) for seed in seeds])


def main() -> None:
    """Print the table."""
    folder = os.environ.get("AMBIENT_REFERENCES", "")
    if not folder:
        print("Set AMBIENT_REFERENCES to a folder of recordings; without it there is nothing to compare with.")
        return
    first, count = (int(text) for text in (sys.argv[1:3] + ["100", "6"][len(sys.argv[1:3]) :]))
    seeds = range(first, first + count)
    wanted = sys.argv[3:]
    print(f"{'':24}", *(f"{band:6g}" for band in BANDS_HZ), "cv20ms cv.2s   kurt kurt>1k corr", sep=" ")
    for file_name, layers in PAIRS.items():
        path = Path(folder) / file_name
        if wanted and path.stem not in wanted:
            continue
        if not path.is_file():
            print(f"{file_name}: not in the folder, skipped")
            continue
        recording, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
        figures = over_seeds(lambda seed, layers=layers: texture(layers, seed), seeds)  # type: ignore[misc]
        line(f"{path.stem} (recorded)", measure(recording.T[:, : 60 * rate_hz], rate_hz))
        line(f"{path.stem} (made)", figures.mean(axis=0))
        line("  deviation", figures.std(axis=0))
    for color in ("pink", "white"):
        line(
            f"{color} noise",
            over_seeds(lambda seed, color=color: texture((("noise", color, 0.5, 0.0),), seed), seeds).mean(axis=0),
        )  # type: ignore[misc]


if __name__ == "__main__":
    main()
