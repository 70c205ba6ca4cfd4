"""What finished files are like: loudness, true peak, clipping, offset, edges and seams, by our meter and another one.

    python benchmarks/mastering.py

Thirty clips from thirty descriptions, through all of rendering with the procedural engine, over lengths, loudness
targets and formats, and half of them loops. Everything is measured on the decoded file. Held to: within 0.3 LU of the
target from 3 s on, a true peak of at most -1.0 dBTP, no sample at full scale, an offset under -60 dBFS; edges that
start and stop in silence (a codec's frames smear the fades of 10 ms), or a clean seam; and an outside meter (ffmpeg's
`ebur128`, where ffmpeg is installed) within 0.2 LU.
"""

from __future__ import annotations

import math
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ambientgen import Output, SceneRequest, Soundscape, render, resolve
from ambientgen.audio import encode
from ambientgen.audio.clip import Clip
from ambientgen.audio.loudness import integrated_lufs, true_peak_dbtp
from ambientgen.engines.procedural import ProceduralEngine

SCENES = (
    "steady rain",
    "rain on a window",
    "rain on a tin roof",
    "rain on leaves with a crackling fire and crickets",
    "thunderstorm",
    "wind in the trees",
    "howling wind",
    "waves on a beach",
    "a babbling brook",
    "a waterfall",
    "a campfire",
    "crackling fireplace",
    "crickets at night",
    "cicadas",
    "frogs in a pond",
    "songbirds at dawn",
    "an owl at night",
    "a busy café",
    "a tavern with a fireplace",
    "wind chimes",
    "church bells",
    "singing bowls",
    "city traffic",
    "a night train in the rain",
    "airplane cabin",
    "a creaking ship on the sea",
    "water dripping in a cave",
    "the engine room of a spaceship",
    "a deep drone",
    "white noise",
)
DURATIONS_S = (1.0, 3.0, 10.0, 30.0)
TARGETS_LUFS = (-14.0, -20.0, -30.0)
#: How much of each end is looked at where nothing may start or stop abruptly: the fades take 10 ms.
EDGE_S = 0.0005


@dataclass(frozen=True, slots=True)
class Row:
    """What was found of one file.

    Attributes:
        duration_s: asked for.
        target_lufs: asked for.
        lossy: True if the format's codec is.
        lufs: by our meter.
        dbtp: by our meter.
        outside_lufs: by ffmpeg's, or None.
        outside_dbtp: by ffmpeg's, to one digit, or None.
        full_scale: how many samples are at or beyond full scale.
        offset_dbfs: the larger mean of a channel.
        edge_db: the largest sample at either end, re the sound's peak; None for a loop.
        clean_seam: of a loop, else None.
    """

    duration_s: float
    target_lufs: float
    lossy: bool
    lufs: float
    dbtp: float
    outside_lufs: float | None
    outside_dbtp: float | None
    full_scale: int
    offset_dbfs: float
    edge_db: float | None
    clean_seam: bool | None


def main() -> None:
    """Print the table and how much of it lies within each limit."""
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        print("ffmpeg is not installed: measured by our own meter alone\n")
    print(
        f"{'scene':<28}{'s':>4} {'format':<7}{'target':>7}{'LUFS':>8}{'ffmpeg':>8}{'dBTP':>7}{'ffmpeg':>8}"
        f"{'offset':>8}{'edge dB / seam':>16}"
    )
    rows = []
    for number, scene in enumerate(SCENES):
        duration_s, target_lufs = DURATIONS_S[number % 4], TARGETS_LUFS[number % 3]
        file_format = tuple(encode.FORMATS)[(number + number // 4) % 4]
        row = _measured(scene, duration_s, target_lufs, file_format, loop=number // 4 % 2 == 1, ffmpeg=ffmpeg)
        rows.append(row)
        ends = ("clean" if row.clean_seam else "NOT CLEAN") if row.edge_db is None else f"{row.edge_db:.0f}"
        print(
            f"{scene[:27]:<28}{duration_s:>4g} {file_format:<7}{target_lufs:>7.0f}{row.lufs:>8.2f}"
            f"{_or_dash(row.outside_lufs, 2):>8}{row.dbtp:>7.2f}{_or_dash(row.outside_dbtp, 1):>8}"
            f"{row.offset_dbfs:>8.0f}{ends:>16}",
            flush=True,
        )
    _print_summary(rows)


def _measured(
    scene: str, duration_s: float, target_lufs: float, file_format: str, *, loop: bool, ffmpeg: str | None
) -> Row:
    engine = ProceduralEngine()
    request = SceneRequest(description=scene, duration_s=duration_s, loop=loop, seed=11)
    recipe = resolve(request, [engine.spec], target_lufs=target_lufs)
    with tempfile.TemporaryDirectory() as folder:
        output = Output(
            directory=Path(folder), name="clip", title=scene, file_format=file_format, max_bytes=100 * 2**20
        )
        soundscape: Soundscape = render(recipe, {engine.spec.name: engine}, output)
        clip = encode.decode(soundscape.path)
        outside_lufs, outside_dbtp = (None, None) if ffmpeg is None else _outside(ffmpeg, soundscape.path)
    offset = float(np.abs(clip.samples.mean(axis=1, dtype=np.float64)).max())
    return Row(
        duration_s=duration_s,
        target_lufs=target_lufs,
        lossy=encode.FORMATS[soundscape.file_format].lossy,
        lufs=integrated_lufs(clip),
        dbtp=true_peak_dbtp(clip),
        outside_lufs=outside_lufs,
        outside_dbtp=outside_dbtp,
        full_scale=int(np.sum(np.abs(clip.samples) >= 32767 / 32768)),
        offset_dbfs=20.0 * math.log10(max(offset, 1e-10)),
        edge_db=None if loop else _edge_db(clip),
        clean_seam=None if soundscape.seam is None else soundscape.seam.clean,
    )


def _edge_db(clip: Clip) -> float:
    size, num_samples = np.abs(clip.samples), round(EDGE_S * clip.sample_rate_hz)
    edge = max(float(size[:, :num_samples].max()), float(size[:, -num_samples:].max()), 1e-10)
    return 20.0 * math.log10(edge / float(size.max()))


def _outside(ffmpeg: str, path: Path) -> tuple[float, float]:
    """Integrated loudness and true peak by ffmpeg's meter.

    10 ms of silence follow the sound, since ffmpeg 5.1 does not flush its oversampling. The summary rounds loudness to
    a tenth; its running value does not.
    """
    chain = "apad=pad_dur=0.01,ebur128=peak=true:metadata=1,ametadata=print:key=lavfi.r128.I:file=-"
    command = [ffmpeg, "-hide_banner", "-nostats", "-i", str(path), "-af", chain, "-f", "null", "-"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    running = re.findall(r"lavfi\.r128\.I=(\S+)", done.stdout)
    peaks = re.findall(r"Peak:\s+(\S+) dBFS", done.stderr)
    return float(running[-1]), float(peaks[-1])


def _or_dash(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _print_summary(rows: list[Row]) -> None:
    long_rows = [row for row in rows if row.duration_s >= 3.0]
    off_lu = [abs(row.lufs - row.target_lufs) for row in long_rows]
    print()
    _print_limit("from 3 s on within 0.3 LU of the target", off_lu, 0.3, "LU")
    _print_limit("true peak at most -1.0 dBTP", [row.dbtp for row in rows], -1.0, "dBTP")
    _print_limit("samples at full scale: none", [float(row.full_scale) for row in rows], 0.0, "samples")
    _print_limit("offset under -60 dBFS", [row.offset_dbfs for row in rows], -60.0, "dBFS")
    for lossy, words in ((False, "WAV and FLAC"), (True, "Opus and MP3")):
        edges = [row.edge_db for row in rows if row.edge_db is not None and row.lossy == lossy]
        _print_limit(f"edges 40 dB under the peak, {words}", edges, -40.0, "dB")
    seams = [row.clean_seam for row in rows if row.clean_seam is not None]
    print(f"{'clean seams':<42}{sum(seams):>3} of {len(seams)}")
    both = [(row.lufs, row.outside_lufs) for row in rows if row.outside_lufs is not None]
    if both:
        _print_limit("meters within 0.2 LU", [abs(ours - theirs) for ours, theirs in both], 0.2, "LU")
        theirs_dbtp = [row.outside_dbtp for row in rows if row.outside_dbtp is not None]
        _print_limit("true peak by ffmpeg at most -1.0 dBTP", theirs_dbtp, -1.0, "dBTP")


def _print_limit(name: str, values: list[float], limit: float, unit: str) -> None:
    within = sum(value <= limit for value in values)
    print(f"{name:<42}{within:>3} of {len(values)}; worst {max(values):.2f} {unit}")


if __name__ == "__main__":
    main()
