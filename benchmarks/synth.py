"""How fast the procedural textures are: 60 s of 48 kHz stereo on one thread, and the memory that takes.

    python benchmarks/synth.py [seconds]

Each texture is made in a process of its own, so that the peak memory is its own: that process's peak resident size,
less what it was after importing. The longest wait is the longest time between two progress reports.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import resource
import sys
import time

#: Peak resident size comes in KiB on Linux and in bytes on macOS.
_RSS_UNIT = 1 if sys.platform == "darwin" else 1024


def measure(family: str, variant: str, seconds: float) -> tuple[float, float, float]:
    """Real-time factor (CPU time), peak memory in MB, and the longest wait in s of one texture."""
    from ambientgen.engines.base import Progress
    from ambientgen.synth import TextureParams, render_texture

    waits: list[float] = [time.monotonic()]

    def note(_: Progress) -> bool:
        waits.append(time.monotonic())
        return True

    params = TextureParams(family=family, variant=variant)
    render_texture(params, 4800, 48_000, 0, note)  # first-use costs are not the texture's
    before_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT
    waits[:] = [time.monotonic()]
    started = time.process_time()
    render_texture(params, round(seconds * 48_000), 48_000, 1, note)
    spent = time.process_time() - started
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT - before_bytes
    longest = max(later - earlier for earlier, later in itertools.pairwise(waits))
    return seconds / spent, peak_bytes / 1e6, longest


def main() -> None:
    """Print the table."""
    from ambientgen.synth import FAMILIES

    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
    print(f"{seconds:g} s of 48 kHz stereo, one thread")
    print(f"{'texture':22} {'x real time':>11} {'peak MB':>8} {'longest wait s':>15}")
    context = multiprocessing.get_context("spawn")
    for family, entry in FAMILIES.items():
        for variant in entry.variants:
            with context.Pool(1) as pool:
                factor, peak_mb, longest = pool.apply(measure, (family, variant, seconds))
            print(f"{family + ' ' + variant:22} {factor:11.0f} {peak_mb:8.0f} {longest:15.2f}", flush=True)


if __name__ == "__main__":
    main()
