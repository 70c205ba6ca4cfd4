"""How well the health check finds faults: each is put into clean clips of every family, and counted if it is named.

    AMBIENT_REFERENCES=folder python benchmarks/health.py [first seed [number of seeds [seconds]]]

Every second clip is 48 kHz stereo as the procedural engine makes it, every other one 16 kHz mono as AudioLDM2 makes it.
The clean column is the share of clean clips that were called faulty, whatever the fault. The recordings of the folder,
where one is given, are cut into pieces of the same length; they show more false alarms or none. Hum is looked for only
where no steady tone belongs to the sound, as the asker knows. A second table has harder clicks: a single one, wherever
it falls, in the middle of a drop or a crackle as well.
"""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import soundfile

from ambientgen.audio.clip import Clip, Samples
from ambientgen.audio.health import check
from ambientgen.audio.resample import resample
from ambientgen.synth import FAMILIES, TextureParams, render_texture

RATE_HZ = 48_000
#: Families to which steady tones belong.
TONAL = {"chimes", "drone", "machine", "vehicle", "train", "ship", "city"}
Fault = Callable[[Samples, int, np.random.Generator], None]
#: Ranges of a lone click's height, as times the clip's level, from the limit of the check on.
CLICK_HEIGHTS = ((6, 8), (8, 10), (10, 14), (14, 20))


def level(samples: Samples) -> float:
    """RMS."""
    return float(np.sqrt(np.mean(samples**2, dtype=np.float64)))


def somewhere(samples: Samples, num_samples: int, rng: np.random.Generator) -> slice:
    """A stretch of that length, 50 ms or more from the ends, where the sound is not at rest."""
    loud = level(samples)
    for _ in range(200):
        start = int(rng.integers(2400, samples.shape[1] - num_samples - 2400))
        beside = (samples[:, start - 400 : start], samples[:, start + num_samples : start + num_samples + 400])
        if min(level(part) for part in beside) > 0.3 * loud:
            break
    return slice(start, start + num_samples)


def nan(samples: Samples, rate_hz: int, rng: np.random.Generator) -> None:
    """One sample is no number."""
    samples[0, rng.integers(samples.shape[1])] = rng.choice([np.nan, np.inf, -np.inf])


def silence(samples: Samples, rate_hz: int, rng: np.random.Generator) -> None:
    """Nothing but noise 96 dB down."""
    samples[:] = 1.5e-5 * rng.standard_normal(samples.shape)


def collapse(samples: Samples, rate_hz: int, rng: np.random.Generator) -> None:
    """After a quarter to a third the level falls by 80 dB within half a second and stays there."""
    start = int(samples.shape[1] * rng.uniform(0.25, 0.33))
    seconds = np.maximum(np.arange(samples.shape[1]) - start, 0) / rate_hz
    samples *= (10.0 ** (-4.0 * np.minimum(seconds / 0.5, 1.0))).astype(np.float32)


def clipping(samples: Samples, rate_hz: int, rng: np.random.Generator) -> None:
    """Driven so that the loudest 0.5 to 3 % of the samples are cut off at full scale."""
    samples /= np.quantile(np.abs(samples), 1.0 - rng.uniform(0.005, 0.03))
    np.clip(samples, -1.0, 1.0, out=samples)


def offset(samples: Samples, rate_hz: int, rng: np.random.Generator) -> None:
    """A constant of one to three times the sound's level."""
    samples += np.float32(rng.choice([-1.0, 1.0]) * rng.uniform(1.0, 3.0) * level(samples))


def dropout(samples: Samples, rate_hz: int, rng: np.random.Generator) -> None:
    """One to three gaps of 4 to 200 ms."""
    for _ in range(rng.integers(1, 4)):
        samples[:, somewhere(samples, round(10.0 ** rng.uniform(-2.4, -0.7) * rate_hz), rng)] = 0.0


def click(samples: Samples, rate_hz: int, rng: np.random.Generator) -> None:
    """One to three spikes of one or two samples, at 10 to 20 times the level, where nothing near reaches half of it."""
    loud = level(samples)
    for _ in range(rng.integers(1, 4)):
        height = rng.uniform(10.0, 20.0) * loud
        for _ in range(50):
            where = somewhere(samples, int(rng.integers(1, 3)), rng)
            if np.abs(samples[:, where.start - rate_hz // 200 : where.start + rate_hz // 200]).max() < 0.5 * height:
                break
        samples[:, where] += np.float32(rng.choice([-1.0, 1.0]) * height)


def lone_click(samples: Samples, low: float, high: float, rng: np.random.Generator) -> None:
    """A single spike of one or two samples, at so many times the level, wherever it falls."""
    height = rng.uniform(low, high) * level(samples)
    samples[:, somewhere(samples, int(rng.integers(1, 3)), rng)] += np.float32(rng.choice([-1.0, 1.0]) * height)


def hum(samples: Samples, rate_hz: int, rng: np.random.Generator) -> None:
    """50 or 60 Hz and its harmonics, together 6 dB under the sound."""
    seconds = np.arange(samples.shape[1]) / rate_hz
    mains_hz = rng.choice([50.0, 60.0]) * rng.uniform(0.999, 1.001)
    lines = sum(
        rng.uniform(0.3, 1.0) / k**0.5 * np.sin(2 * np.pi * (k * mains_hz * seconds + rng.random()))
        for k in range(1, 9)
    )
    samples += (0.5 * level(samples) / np.std(lines) * lines).astype(np.float32)


def stuck(samples: Samples, rate_hz: int, rng: np.random.Generator) -> None:
    """60 to 600 ms come again and again, at least four times and for a second: nearly, by 1 % in gain and 16 bits."""
    length = round(10.0 ** rng.uniform(-1.2, -0.22) * rate_hz)
    times = max(4, -(-rate_hz // length))
    where = somewhere(samples, length * times, rng)
    gains = np.repeat(rng.uniform(0.99, 1.01, times), length)
    again = np.tile(samples[:, where.start : where.start + length], times) * gains
    samples[:, where] = np.round(again * 32768.0) / 32768.0


#: Fault -> its name in the check's words.
FAULTS: dict[Fault, str] = {
    nan: "not a number",
    silence: "silent",
    collapse: "mostly silent / level collapse",
    clipping: "clipped",
    offset: "offset (DC)",
    dropout: "dropout",
    click: "click",
    hum: "mains hum",
    stuck: "stuck repetition",
}


def clean_clips(family: str, first_seed: int, num_seeds: int, seconds: float) -> Iterator[Clip]:
    """Fresh clips of a family, over its variants, in turns as the two engines make them."""
    variants = FAMILIES[family].variants
    for seed in range(first_seed, first_seed + num_seeds):
        params = TextureParams(family=family, variant=variants[seed % len(variants)])
        clip = Clip(render_texture(params, round(seconds * RATE_HZ), RATE_HZ, seed, lambda _: True), RATE_HZ)
        if seed // len(variants) % 2:
            clip = resample(Clip(clip.samples.mean(axis=0, keepdims=True), RATE_HZ), 16_000)
        yield clip


def recordings(folder: Path, seconds: float) -> Iterator[tuple[str, Clip]]:
    """Pieces of all recordings there, at most twelve of each."""
    for path in sorted(folder.glob("*.ogg")):
        samples, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
        length = round(seconds * rate_hz)
        for start in range(0, min(len(samples), 12 * length) - length + 1, length):
            yield path.stem, Clip(np.ascontiguousarray(samples[start : start + length].T), rate_hz)


def row(name: str, clips: list[Clip], *, tonal: bool, seed: int) -> Counter[str]:
    """Print one line of the table; the answer counts what was found."""
    counts: Counter[str] = Counter(clips=len(clips))
    cells = []
    for fault, words in FAULTS.items():
        if fault is hum and tonal:
            cells.append("-")
            continue
        found = 0
        for number, clip in enumerate(clips):
            samples = clip.samples.copy()
            fault(samples, clip.sample_rate_hz, np.random.default_rng((seed, number)))
            found += words in check(Clip(samples, clip.sample_rate_hz), tonal=tonal).faults
        counts[f"{words} found"] += found
        counts[f"{words} tried"] += len(clips)
        cells.append(f"{found / len(clips):.0%}")
    for low, high in CLICK_HEIGHTS:
        for number, clip in enumerate(clips):
            samples = clip.samples.copy()
            lone_click(samples, low, high, np.random.default_rng((seed, number, low)))
            counts[f"lone click {low}"] += "click" in check(Clip(samples, clip.sample_rate_hz)).faults
    alarms = [faults for clip in clips if (faults := check(clip, tonal=tonal).faults)]
    counts["alarms"] = len(alarms)
    share = f"{len(alarms) / len(clips):.0%} {', '.join(sorted({fault for faults in alarms for fault in faults}))}"
    print(f"| {name} | {len(clips)} | {' | '.join(cells)} | {share.strip()} |", flush=True)
    return counts


def main() -> None:
    """Print the table."""
    warnings.simplefilter("ignore", RuntimeWarning)
    first_seed, num_seeds, seconds = (
        float(argument) if argument else default
        for argument, default in zip([*sys.argv[1:], "", "", ""], (7000, 24, 8.0), strict=False)
    )
    print(f"| clips of {seconds:g} s | number |", " | ".join(fault.__name__ for fault in FAULTS), "| false alarms |")
    print("|---" * (len(FAULTS) + 3) + "|")
    rows: dict[str, Counter[str]] = {}
    for family in FAMILIES:
        clips = list(clean_clips(family, int(first_seed), int(num_seeds), seconds))
        rows[family] = row(family, clips, tonal=family in TONAL, seed=int(first_seed))
    if folder := os.environ.get("AMBIENT_REFERENCES"):
        by_name: dict[str, list[Clip]] = {}
        for name, clip in recordings(Path(folder), seconds):
            by_name.setdefault(name, []).append(clip)
        for name, clips in by_name.items():
            rows[f"recorded {name}"] = row(f"recorded {name}", clips, tonal=name in TONAL, seed=1)
    total = rows["**all**"] = sum(rows.values(), Counter())
    cells = [f"{total[f'{words} found'] / max(1, total[f'{words} tried']):.1%}" for words in FAULTS.values()]
    print(f"| **all** | {total['clips']} | {' | '.join(cells)} | {total['alarms'] / total['clips']:.1%} |")

    print("\n| a lone click, times the level |", " | ".join(f"{low} to {high}" for low, high in CLICK_HEIGHTS), "|")
    print("|---" * (len(CLICK_HEIGHTS) + 1) + "|")
    for name, counts in rows.items():
        shares = (f"{counts[f'lone click {low}'] / counts['clips']:.0%}" for low, _ in CLICK_HEIGHTS)
        print(f"| {name} | {' | '.join(shares)} |")

    noise = np.random.default_rng(0).standard_normal((2, 30 * RATE_HZ)).astype(np.float32) * np.float32(0.05)
    started = time.process_time()
    check(Clip(noise, RATE_HZ), tonal=False)
    print(f"\n30 s of 48 kHz stereo are checked in {time.process_time() - started:.2f} s of CPU time")


if __name__ == "__main__":
    main()
