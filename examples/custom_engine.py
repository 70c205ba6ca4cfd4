"""A whole engine in about forty lines: a sine that swells, rendered and written like any other sound.

Run it with `python examples/custom_engine.py [FOLDER]`.
"""

import sys
from collections.abc import Hashable
from pathlib import Path

import numpy as np

from ambientgen import EngineSpec, Output, SceneRequest, render, resolve
from ambientgen.audio.clip import Clip
from ambientgen.engines.base import Feed, Progress, Report, Take

RATE_HZ = 48_000


class SwellEngine:
    """Any description becomes one swelling tone; its pitch is the seed's."""

    device = "cpu"
    spec = EngineSpec(
        name="swell", version="1", model=None, sample_rate_hz=RATE_HZ, num_channels=1, default_duration_s=5.0,
        longest_good_s=60.0, longest_step_s=0.1, supports=frozenset(), needs_gpu=False,
        license="MIT",
    )  # fmt: skip

    def load(self, report: Report) -> None: ...
    def unload(self) -> None: ...
    def batch_key(self, take: Take) -> Hashable:
        return self.spec.name

    def max_batch(self, key: Hashable) -> int:
        return 1

    def run(self, feed: Feed) -> None:
        while takes := feed.admit(None, 1):
            for take in takes:
                if feed.progress(take.id, Progress("rendering", 0, 1)):
                    time_s = np.arange(take.num_samples) / RATE_HZ
                    tone = np.sin(2 * np.pi * (110 + take.layer.seed % 110) * time_s)
                    tone *= np.sin(np.pi * time_s / 2.5) ** 2
                    feed.finish(take.id, Clip((0.3 * tone[np.newaxis]).astype(np.float32), RATE_HZ))


if __name__ == "__main__":
    engine = SwellEngine()
    recipe = resolve(SceneRequest(description="a calm swell", seed=55), [engine.spec])
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    output = Output(directory=folder, name="swell", title="a calm swell", file_format="flac", max_bytes=2**24)
    print(render(recipe, {"swell": engine}, output).path)
