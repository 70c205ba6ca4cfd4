"""AudioLDM2 in full size with random weights: diffusers' plain pipeline call against this project's engine.

Both run in this process, in turn, on the same weights; ratios come first. It says how fast and how much the same, and
nothing of how it sounds. Held to, on a CPU: draft (20 steps, the device's best precision) at least 14 times the plain
200-step float32 call; at equal steps and precision never slower, and at 20 steps with a repeated prompt 1.03 times;
cancelled within a step and 50 ms; event loop lag p99 15 ms while it runs and 50 ms while it loads. On a GPU: see
docs/audioldm2.md.

    python benchmarks/audioldm2.py [--device cuda] [--model FOLDER] [--plain-steps 200]

The result is also kept as JSON in benchmarks/results/. Takes about half an hour on two CPU cores.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import gc
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

# diffusers' DPM++ scheduler calls numpy in a way that torch's tensors do not know yet.
warnings.filterwarnings("ignore", category=DeprecationWarning)

from ambientgen.audio.clip import Clip  # noqa: E402 - after the filter
from ambientgen.engines.audioldm2 import SAMPLE_RATE_HZ, AudioLDM2Engine  # noqa: E402
from ambientgen.engines.base import Progress, Take  # noqa: E402
from ambientgen.errors import EngineError  # noqa: E402
from ambientgen.recipe import Layer  # noqa: E402

PROMPT = "gentle rain on a window with distant thunder, high quality recording, ambient soundscape"
OTHER_PROMPTS = [
    f"{scene}, high quality recording, ambient soundscape"
    for scene in ("crackling fire in a stone hearth", "waves roll onto a sandy beach at dusk", "crickets and frogs")
]
NEGATIVE_PROMPT = "music, voices, low quality, distorted"
CLIP_S = 10.24


class ListFeed:
    """A feed of given takes.

    Args:
        takes: what to serve.
        keep: asked at every progress; False drops that take.
    """

    def __init__(self, takes: Sequence[Take], keep: Callable[[Progress], bool] = lambda _progress: True) -> None:
        self._waiting = list(takes)
        self._keep = keep
        self.done_at_s: dict[str, float] = {}
        self.clips: dict[str, Clip] = {}

    def admit(self, _key: object, num_free: int) -> list[Take]:
        """The next ones."""
        admitted, self._waiting = self._waiting[:num_free], self._waiting[num_free:]
        return admitted

    def progress(self, _take_id: str, progress: Progress) -> bool:
        """Ask."""
        return self._keep(progress)

    def finish(
        self, take_id: str, result: Clip | EngineError, _match: float | None = None, _leaks: tuple[str, ...] = ()
    ) -> None:
        """Note when."""
        if isinstance(result, EngineError):
            raise result
        self.done_at_s[take_id] = time.perf_counter()
        self.clips[take_id] = result


def main() -> None:
    """Run everything and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--model", type=Path, help="a folder with the random model; built for this run if left out")
    parser.add_argument("--plain-steps", type=int, default=200, help="steps of the plain call that draft is held to")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = options.model
        if model is None:
            import _full_size

            model = Path(folder) / "audioldm2-random"
            print("building the random model (4.5 GB) ...", flush=True)
            _full_size.build(model)
        results = Run(model, options.device, Path(folder) / "compiled").all(options.plain_steps)
    options.out.mkdir(parents=True, exist_ok=True)
    name = f"audioldm2-{datetime.datetime.now(datetime.UTC):%Y-%m-%d}-{results['hardware']['name']}.json"
    (options.out / name).write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


class Run:
    """One run of the benchmark; `results` fills up as it goes."""

    def __init__(self, model: Path, device: str, cache_dir: Path) -> None:
        import torch

        self._torch = torch
        self._model = model
        self._device = device
        self._cuda = device.startswith("cuda")
        self._cache_dir = cache_dir
        self.results: dict[str, Any] = {"hardware": self._hardware()}

    def all(self, plain_steps: int) -> dict[str, Any]:
        """Every section in turn."""
        print(json.dumps(self.results["hardware"]), flush=True)
        self._loading()
        plain = self._plain_pipeline()
        engine = self._engine("float32", compiled=False)
        self._equal_steps(plain, engine)
        engine.unload()
        slow_s = self._timed(partial(self._call_plain, plain, plain_steps, "ddim"))
        del plain
        gc.collect()
        engine = self._engine(None)
        self._say("serving precision", str(engine._loaded.checkpoint.pipeline.unet.dtype))  # type: ignore[union-attr]
        self._draft(engine, slow_s, plain_steps)
        self._stages(engine)
        self._batches(engine)
        self._long_clip(engine)
        self._cancel(engine)
        if self._cuda:
            self._gpu_only(engine)
        engine.unload()
        self._event_loop()
        self._memory()
        return self.results

    # ------------------------------------------------------------------ sections

    def _equal_steps(self, plain: Any, engine: AudioLDM2Engine) -> None:
        """The same 20 steps in float32, in turn, twice; a repeated prompt, as in serving, and a new one."""
        self._serve(engine, [_take("warm", steps=1)])
        plain_s, cached_s, new_s = [], [], []
        for round_number in range(2):
            plain_s.append(self._timed(lambda: self._call_plain(plain, 20, "dpmpp_2m")))
            cached_s.append(self._timed(lambda: self._serve(engine, [_take("a")])))
            prompt = f"{PROMPT} {round_number}"
            new_s.append(self._timed(lambda prompt=prompt: self._serve(engine, [_take("a", prompt=prompt)])))  # type: ignore[misc]
        self._say("plain / ours, 20 steps, float32, repeated prompt", min(plain_s) / min(cached_s))
        self._say("plain / ours, 20 steps, float32, new prompt", min(plain_s) / min(new_s))
        self._say("seconds: plain, ours repeated, ours new", [min(plain_s), min(cached_s), min(new_s)])
        reference = self._call_plain(plain, 2, "dpmpp_2m")[0]
        ours = self._serve(engine, [_take("a", steps=2)]).clips["a"]
        from ambientgen.audio.resample import resample

        expected = resample(Clip(reference[None], 16_000), SAMPLE_RATE_HZ).samples[0]
        difference = np.abs(ours.samples[0] - expected).max() / np.abs(expected).max()
        self._say("largest difference from the plain call, 2 steps, relative", float(difference))

    def _draft(self, engine: AudioLDM2Engine, slow_s: float, plain_steps: int) -> None:
        self._serve(engine, [_take("warm", steps=1)])
        cached_s = [self._timed(lambda: self._serve(engine, [_take("a")])) for _ in range(50 if self._cuda else 2)]
        new_s = [
            self._timed(lambda prompt=prompt: self._serve(engine, [_take("a", prompt=prompt)]))  # type: ignore[misc]
            for prompt in OTHER_PROMPTS[: 3 if self._cuda else 1]
        ]
        best_s = float(np.median(cached_s)) if self._cuda else min(cached_s)
        self._say(f"plain {plain_steps} steps float32 / draft, repeated prompt", slow_s / best_s)
        self._say("of which fewer steps", plain_steps / 20)
        self._say(f"plain {plain_steps} steps float32 / draft, new prompt", slow_s / min(new_s))
        self._say(f"seconds: plain {plain_steps} steps, draft repeated, draft new", [slow_s, best_s, min(new_s)])

    def _stages(self, engine: AudioLDM2Engine) -> None:
        for timing in engine.timings():
            if timing.batch_size == 1 and timing.num_windows <= 1:
                self._say(f"seconds of {timing.stage}", timing.duration_s)

    def _batches(self, engine: AudioLDM2Engine) -> None:
        """One pass shared by more and more takes: seconds for each of them."""
        sizes = (1, 2, 4, 8, 16, 32) if self._cuda else (1, 2)
        loaded = engine._loaded
        assert loaded is not None
        before, loaded.max_windows = loaded.max_windows, max(sizes)
        rows_before, loaded._denoiser.max_rows = loaded._denoiser.max_rows, 2 * max(sizes)
        steps = 20 if self._cuda else 2
        curve = {}
        for size in sizes:
            takes = [_take(str(number), steps=steps) for number in range(size)]
            if self._cuda:
                self._serve(engine, takes)  # records this shape
            curve[size] = self._timed(lambda takes=takes: self._serve(engine, takes)) / size  # type: ignore[misc]
        loaded.max_windows, loaded._denoiser.max_rows = before, rows_before
        self._say(f"seconds a clip at batch sizes {list(sizes)}, {steps} steps", list(curve.values()))

    def _long_clip(self, engine: AudioLDM2Engine) -> None:
        """One pass of 60 s against one of 10.24 s: counted operations, then seconds."""
        from torch.utils.flop_counter import FlopCounterMode

        from ambientgen.diffusion.compiled import plain_unet
        from ambientgen.diffusion.sampling import Denoiser
        from ambientgen.diffusion.windows import WindowPlan

        loaded = engine._loaded
        assert loaded is not None
        denoiser = Denoiser(plain_unet(loaded.checkpoint.pipeline.unet), max_rows=2)
        flops, seconds = [], []
        for num_frames in (256, 1500):
            with self._torch.no_grad():
                take = loaded.begin(_settings(), WindowPlan.line(num_frames), lambda: None)
                with FlopCounterMode(display=False) as counter:
                    seconds.append(self._timed(lambda take=take: denoiser.predict([take])))  # type: ignore[misc]
            flops.append(counter.get_total_flops())
        self._say("UNet operations of 60 s over those of 10.24 s", flops[1] / flops[0])
        self._say("UNet seconds of 60 s over those of 10.24 s", seconds[1] / seconds[0])
        self._say("TFLOP of one step at 10.24 s", flops[0] / 1e12)

    def _cancel(self, engine: AudioLDM2Engine) -> None:
        """From the wish to cancel to the engine being free, at the stages of a take, less one step."""
        step_s = next(
            timing.duration_s for timing in engine.timings() if timing.stage == "denoising" and timing.batch_size == 1
        )
        waits_s = {}
        for stage in ("conditioning", "denoising", "decoding"):
            wanted = threading.Event()
            asked_at_s = 0.0

            def keep(progress: Progress, stage: str = stage, wanted: threading.Event = wanted) -> bool:
                nonlocal asked_at_s
                if wanted.is_set():
                    return False
                if progress.stage == stage:
                    asked_at_s = time.perf_counter()
                    wanted.set()
                return True

            engine.run(ListFeed([_take("a", steps=2, prompt=f"{PROMPT} {stage}")], keep))
            waits_s[stage] = time.perf_counter() - asked_at_s
        self._say("seconds from cancel to free, less one step, worst stage", max(waits_s.values()) - step_s)
        self._say("seconds from cancel to free", waits_s)

    def _loading(self) -> None:
        """In a process of its own: from nothing to the first step."""
        script = (
            "import time, sys; t = time.perf_counter()\n"
            "from ambientgen.engines.audioldm2 import AudioLDM2Engine\n"
            f"e = AudioLDM2Engine({str(self._model)!r}, device={self._device!r}); e.import_packages()\n"
            "i = time.perf_counter(); e.load(lambda p: True); print(i - t, time.perf_counter() - i)"
        )
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, check=True
        )
        imports_s, load_s = map(float, done.stdout.split())
        self._say("seconds to import the packages, to load the model", [imports_s, load_s])

    def _event_loop(self) -> None:
        """How late a timer of 5 ms fires while the model loads, and while it makes a clip."""
        lags = asyncio.run(self._lags())
        for what, values_ms in lags.items():
            self._say(
                f"event loop lag ms while {what}: p50, p99, max",
                [float(np.percentile(values_ms, q)) for q in (50, 99, 100)],
            )

    async def _lags(self) -> dict[str, list[float]]:
        from ambientgen import Output, SceneRequest, resolve
        from ambientgen.executor import Executor

        engine = AudioLDM2Engine(str(self._model), self._device)
        engine.import_packages()
        executor = Executor([engine])
        ready = asyncio.Event()
        lags: dict[str, list[float]] = {"loading": [], "generating": []}
        executor.start(ready.set)

        async def listen(into: list[float], until: asyncio.Event | asyncio.Task[Any]) -> None:
            while not (until.is_set() if isinstance(until, asyncio.Event) else until.done()):
                before_s = time.perf_counter()
                await asyncio.sleep(0.005)
                into.append((time.perf_counter() - before_s - 0.005) * 1000)

        await listen(lags["loading"], ready)
        request = SceneRequest(description="gentle rain on a window", quality="draft", duration_s=10.0)
        recipe = resolve(request, executor.available())
        with tempfile.TemporaryDirectory() as folder:
            output = Output(directory=Path(folder), name="a", title="a", file_format="opus", max_bytes=2**24)
            making = asyncio.create_task(_outcome(executor.submit("a", recipe, output).result()))
            await listen(lags["generating"], making)
        await executor.close(60.0)
        return lags

    def _gpu_only(self, engine: AudioLDM2Engine) -> None:
        """Compilation, throughput and the share of the card's own matmul rate."""
        loaded = engine._loaded
        assert loaded is not None
        started_at_s = time.perf_counter()
        loaded.unet.wait(600.0)
        self._say("seconds until all windows were compiled", time.perf_counter() - started_at_s)
        compilations = loaded.unet.num_compilations
        rng = np.random.default_rng(1)
        durations_s = rng.choice([2.5, 4.0, 7.5, 10.0, 10.24, 16.0, 30.0], 200)
        prompts = [f"{OTHER_PROMPTS[number % 3]} {number}" for number in range(200)]
        mixed = [
            _take(str(n), prompt=p, duration_s=float(d))
            for n, (p, d) in enumerate(zip(prompts, durations_s, strict=True))
        ]
        self._serve(engine, mixed)
        self._say("compilations during 200 mixed requests", loaded.unet.num_compilations - compilations)
        for quality, steps in (("draft", 20), ("standard", 50)):
            takes = [_take(str(number), steps=steps) for number in range(64)]
            seconds = self._timed(lambda takes=takes: self._serve(engine, takes))  # type: ignore[misc]
            self._say(f"times real time, closed loop, {quality}", 64 * CLIP_S / seconds)
        rate = self._matmul_flops_per_s(loaded.checkpoint.pipeline.unet.dtype)
        self._say("TFLOP/s of this card's matmul", rate / 1e12)
        step_flops = self.results["TFLOP of one step at 10.24 s"] * 1e12
        for timing in loaded.timings.all():
            if timing.stage == "denoising" and timing.window_frames == 256:
                share = timing.num_windows * step_flops / timing.duration_s / rate
                self._say(f"share of it at {timing.num_windows} windows", share)

    def _matmul_flops_per_s(self, dtype: Any) -> float:
        torch, size = self._torch, 8192
        a = torch.randn(size, size, device=self._device, dtype=dtype)
        seconds = min(self._timed(lambda: [a @ a for _ in range(20)]) for _ in range(3))
        return 20 * 2 * size**3 / seconds

    def _memory(self) -> None:
        if self._cuda:
            self._say("GiB of GPU memory at most", self._torch.cuda.max_memory_allocated() / 2**30)
        import psutil

        self._say("GiB of memory now", psutil.Process().memory_info().rss / 2**30)

    # ------------------------------------------------------------------ tools

    def _engine(self, dtype: str | None, *, compiled: bool = True) -> AudioLDM2Engine:
        engine = AudioLDM2Engine(str(self._model), self._device, dtype, cache_dir=self._cache_dir)
        engine.load(lambda _progress: True)
        if compiled and self._cuda:
            assert engine._loaded is not None
            engine._loaded.unet.wait(600.0)
        return engine

    def _plain_pipeline(self) -> Any:
        """As people load it, with the one cure it needs, and nothing of ours."""
        import diffusers
        import transformers

        transformers.utils.logging.disable_progress_bar()
        diffusers.utils.logging.disable_progress_bar()
        language_model = transformers.GPT2LMHeadModel.from_pretrained(self._model, subfolder="language_model")
        pipeline = diffusers.AudioLDM2Pipeline.from_pretrained(self._model, language_model=language_model)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline.to(self._device)

    def _call_plain(self, pipeline: Any, steps: int, scheduler: str) -> Any:
        import diffusers

        name = {"ddim": "DDIMScheduler", "dpmpp_2m": "DPMSolverMultistepScheduler"}[scheduler]
        pipeline.scheduler = getattr(diffusers, name).from_config(pipeline.scheduler.config)
        return pipeline(
            PROMPT,
            negative_prompt=NEGATIVE_PROMPT,
            audio_length_in_s=CLIP_S,
            num_inference_steps=steps,
            guidance_scale=6.0,
            generator=self._torch.Generator("cpu").manual_seed(3),
        ).audios

    def _serve(self, engine: AudioLDM2Engine, takes: Sequence[Take]) -> ListFeed:
        feed = ListFeed(takes)
        engine.run(feed)
        return feed

    def _timed(self, action: Callable[[], object]) -> float:
        if self._cuda:
            self._torch.cuda.synchronize()
        started_at_s = time.perf_counter()
        action()
        if self._cuda:
            self._torch.cuda.synchronize()
        return time.perf_counter() - started_at_s

    def _say(self, what: str, value: Any) -> None:
        self.results[what] = value
        print(f"{_shown(value):<28}{what}", flush=True)

    def _hardware(self) -> dict[str, Any]:
        torch = self._torch
        name = torch.cuda.get_device_name() if self._cuda else platform.machine()
        return {
            "name": "".join(letter if letter.isalnum() else "-" for letter in name.lower()),
            "device": name,
            "num_cores": os.cpu_count(),
            "num_threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "python": platform.python_version(),
        }


async def _outcome(result: Any) -> None:
    try:
        await result
    except EngineError as error:  # random weights may make what the health check refuses; the work was the same
        print(f"(the clip was refused: {error})")


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(_shown(entry) for entry in value)
    if isinstance(value, dict):
        return ", ".join(f"{key} {_shown(entry)}" for key, entry in value.items())
    return str(value)


def _settings() -> Any:
    from ambientgen.diffusion.loaded import Settings

    return Settings(
        prompt=PROMPT,
        negative_prompt=NEGATIVE_PROMPT,
        num_inference_steps=20,
        guidance_scale=6.0,
        scheduler="dpmpp_2m",
        seed=3,
    )


def _take(take_id: str, *, prompt: str = PROMPT, steps: int = 20, duration_s: float = CLIP_S) -> Take:
    layer = Layer(
        engine="audioldm2",
        prompt=prompt,
        negative_prompt=NEGATIVE_PROMPT,
        seed=3,
        num_inference_steps=steps,
        guidance_scale=6.0,
        params={"scheduler": "dpmpp_2m", "num_candidates": 1},
    )
    return Take(id=take_id, layer=layer, num_samples=round(duration_s * SAMPLE_RATE_HZ), loop=False)


if __name__ == "__main__":
    main()
