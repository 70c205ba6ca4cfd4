"""How well AudioLDM2's own loops join: the three seam measures, on a tiny model's output and on a known signal.

Rows: the same takes with and without `loop`, 24 seeds each, from a tiny model with random weights (it makes a kind of
noise, at whose seams any jump shows; it says nothing of the real model's sound); and a circular signal passed through
all of the loop's arithmetic (windows, turns, blending, VAE and vocoder left out, circular resampling), which must come
out as it went in. A perfect seam is a draw from the clip's own distribution: a median flux percentile of 50, and one in
ten above 90. The last column is how many times more often the plain way, the take simply cut, is above 90.

    python benchmarks/seams.py
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np

warnings.filterwarnings("ignore", category=DeprecationWarning)

from ambientgen.audio.clip import Clip  # noqa: E402 - after the filter
from ambientgen.audio.loop import Seam, measure_seam  # noqa: E402
from ambientgen.audio.resample import resample  # noqa: E402
from ambientgen.engines.audioldm2 import AudioLDM2Engine  # noqa: E402
from ambientgen.engines.base import Take  # noqa: E402
from ambientgen.recipe import Layer  # noqa: E402
from ambientgen.takes import run_one  # noqa: E402

SEEDS = range(24)
SECONDS = (4.0, 10.0, 16.0)


def main() -> None:
    """Print the table."""
    print(f"{'medians':<34}{'flux pct':>9}{'above 90':>9}{'jump/p99.9':>11}{'sag dB':>8}{'clean':>7}{'ratio':>7}")
    with tempfile.TemporaryDirectory() as folder:
        engine = _engine(Path(folder) / "tiny")
    for seconds in SECONDS:
        cut = _row(f"{seconds:g} s, cut", _made(engine, seconds, loop=False), None)
        _row(f"{seconds:g} s, loop", _made(engine, seconds, loop=True), cut)
        _row(f"{seconds:g} s, known signal through it", _passed(seconds), cut)


def _row(name: str, clips: Iterable[Clip], plain_share: float | None) -> float:
    seams: list[Seam] = [measure_seam(clip) for clip in clips]
    values = [
        np.median([getattr(seam, field) for seam in seams])
        for field in ("flux_percentile", "jump_ratio_p999", "level_sag_db")
    ]
    clean = float(np.mean([seam.clean for seam in seams]))
    above = float(np.mean([seam.flux_percentile > 90.0 for seam in seams]))
    ratio = "" if plain_share is None else f"{plain_share / above:.1f}" if above else "none"
    flux, jump, sag = values
    print(f"{name:<34}{flux:>9.1f}{above:>9.0%}{jump:>11.2f}{sag:>8.2f}{clean:>7.0%}{ratio:>7}", flush=True)
    return above


def _made(engine: AudioLDM2Engine, seconds: float, *, loop: bool) -> list[Clip]:
    """Takes of the tiny model, at 48 kHz."""
    clips = []
    for seed in SEEDS:
        layer = Layer(
            engine="audioldm2",
            prompt="rain",
            negative_prompt="music",
            seed=seed,
            num_inference_steps=4,
            guidance_scale=6.0,
        )
        take = Take(id=str(seed), layer=layer, num_samples=round(seconds * 48_000), loop=loop)
        clips.append(run_one(engine, take, lambda _progress: True, Path(tempfile.gettempdir())).sound)
    return clips


def _passed(seconds: float) -> list[Clip]:
    """Circular noise through gather, turn and blend as a latent would go, then through circular resampling."""
    import torch

    from ambientgen.diffusion.windows import WindowPlan, blend, gather

    plan = WindowPlan.circle(round(seconds * 25))
    clips = []
    for seed in SEEDS:
        noise = np.random.default_rng(seed).standard_normal((plan.num_frames, 640)).astype(np.float32)
        latents = torch.from_numpy(noise)[None, None]
        for step in range(4):
            turned = torch.roll(latents, -plan.turn(step), dims=2)
            latents = torch.roll(blend(gather(turned, plan), plan), plan.turn(step), dims=2)
        assert np.allclose(latents[0, 0].numpy(), noise, atol=1e-5)
        clip = Clip(0.1 * latents[0, 0].numpy().reshape(1, -1), 16_000)
        clips.append(resample(clip, 48_000, loop=True))
    return clips


def _engine(folder: Path) -> AudioLDM2Engine:
    """The engine with the tests' tiny model."""
    sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
    import tiny_model

    tiny_model.build(folder)
    engine = AudioLDM2Engine(str(folder), device="cpu", dtype="float32")
    engine.load(lambda _progress: True)
    return engine


if __name__ == "__main__":
    main()
