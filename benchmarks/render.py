"""From a description to a checked Opus file on one core: how many times faster than real time, and how much memory.

Held to: at least 20 times real time with one layer and 10 with three; ten minutes of three layers in 70 s; 300 MiB
whatever the length; another mix of the same layers (30 s) in 0.5 s without the Opus file. Each case runs in a process
of its own, pinned to one core where the system can. The last column is the ratio to the plain way: writing the finished
samples as Opus and reading them back, with nothing synthesized, mixed, mastered, measured or drawn; for the mix, to
rendering its layers anew.

    python benchmarks/render.py [--hour]

With --hour also a whole hour, which takes five minutes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CASES = [
    ("1 layer, 60 s", "steady rain", 60.0),
    ("3 layers, 60 s", "rain on leaves with a crackling fire and crickets", 60.0),
    ("1 layer, 120 s", "steady rain", 120.0),
    ("3 layers, 120 s", "rain on leaves with a crackling fire and crickets", 120.0),
    ("3 layers, 600 s", "rain on leaves with a crackling fire and crickets", 600.0),
    ("1 layer, 3600 s", "steady rain", 3600.0),
]
_MIX_S = 30.0


def main() -> None:
    """Print the table, or one case as JSON for the table's own child process."""
    hour = "--hour" in sys.argv
    if len(sys.argv) > 1 and not hour:
        print(json.dumps(_run(*CASES[int(sys.argv[1])][1:])))
        return
    print(f"{'case':<18}{'seconds':>9}{'x real time':>13}{'peak MiB':>10}{'LUFS':>8}{'dBTP':>7}{'/ Opus alone':>14}")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    for index, (name, _, duration_s) in enumerate(CASES if hour else CASES[:-1]):
        command = [sys.executable, __file__, str(index)]
        child = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        took_s, plain_s, peak_mib, lufs, dbtp = json.loads(child.stdout)
        print(
            f"{name:<18}{took_s:>9.2f}{duration_s / took_s:>13.1f}{peak_mib:>10.0f}{lufs:>8.1f}{dbtp:>7.1f}"
            f"{took_s / plain_s:>14.2f}",
            flush=True,
        )
    _mix_again()


def _mix_again() -> None:
    """Another mix of three kept layers against rendering them anew, in wav, whose writing costs next to nothing."""
    from ambientgen import Output, SceneRequest, render, resolve
    from ambientgen.engines.procedural import ProceduralEngine
    from ambientgen.stems import StemCache

    engine = ProceduralEngine()
    recipe = resolve(SceneRequest(description=CASES[1][1], duration_s=_MIX_S, seed=11), [engine.spec])
    with tempfile.TemporaryDirectory() as folder:
        cache = StemCache(Path(folder) / "stems", 2**30)

        def took_s(file_format: str, *gains_db: float) -> float:
            output = Output(
                directory=Path(folder), name="clip", title="mix", file_format=file_format, max_bytes=100 * 2**20
            )
            started_s = time.perf_counter()
            render(recipe.remixed(gains_db), {engine.spec.name: engine}, output, kept_stems=cache)
            return time.perf_counter() - started_s

        anew_s = took_s("wav", 0.0, -3.0, -6.0)
        again_s = min(took_s("wav", 0.0, -6.0, gain_db) for gain_db in (-3.0, 0.0, 3.0))
        opus_s = min(took_s("opus", 0.0, -6.0, gain_db) for gain_db in (-3.0, 0.0, 3.0))
    print(f"another mix of 3 layers, {_MIX_S:g} s: {again_s:.2f} s as wav, {opus_s:.2f} s as Opus; anew / again "
          f"{anew_s / again_s:.1f}")  # fmt: skip


def _run(description: str, duration_s: float) -> list[float]:
    import resource

    from ambientgen import Output, SceneRequest, render, resolve
    from ambientgen.engines.procedural import ProceduralEngine

    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    engine = ProceduralEngine()
    engines = {engine.spec.name: engine}

    def make(duration_s: float) -> tuple[float, float, float, float]:
        recipe = resolve(SceneRequest(description=description, duration_s=duration_s, seed=11), [engine.spec])
        with tempfile.TemporaryDirectory() as folder:
            output = Output(
                directory=Path(folder), name="clip", title=description, file_format="opus", max_bytes=100 * 2**20
            )
            started_s = time.perf_counter()
            sound = render(recipe, engines, output)
            took_s = time.perf_counter() - started_s
            return took_s, _opus_alone_s(sound.path), sound.integrated_lufs, sound.peak_dbtp

    make(2.0)  # imports and tables, paid once in a bot's life
    took_s, plain_s, lufs, dbtp = make(duration_s)
    return [took_s, plain_s, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, lufs, dbtp]


def _opus_alone_s(path: Path) -> float:
    """What writing these samples and reading them back takes by itself."""
    import soundfile

    samples, rate_hz = soundfile.read(path, dtype="float32")
    plain_path = path.with_name("plain.ogg")
    started_s = time.perf_counter()
    with soundfile.SoundFile(plain_path, "w", rate_hz, 2, format="OGG", subtype="OPUS") as file:
        for start in range(0, len(samples), 65_536):
            file.write(samples[start : start + 65_536])
    with soundfile.SoundFile(plain_path) as file:
        while len(file.read(65_536, dtype="float32")):
            pass
    return time.perf_counter() - started_s


if __name__ == "__main__":
    main()
