"""The AudioLDM2 engine: any description, through our own batched loop (`ambientgen.diffusion`)."""

from __future__ import annotations

import dataclasses
import logging
import math
import os
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ambientgen import models
from ambientgen.audio.clip import Clip
from ambientgen.audio.resample import resample
from ambientgen.diffusion import plain, ranking
from ambientgen.diffusion.checkpoint import MODEL_RATE_HZ, NUM_LOADING_STEPS, load_checkpoint
from ambientgen.diffusion.decoding import SAMPLES_PER_LATENT
from ambientgen.diffusion.devices import (
    choose_device,
    choose_dtype,
    free_memory,
    import_torch,
    let_go,
)
from ambientgen.diffusion.loaded import SCHEDULERS, LoadedModel, Settings
from ambientgen.diffusion.sampling import Sampling
from ambientgen.diffusion.windows import WindowPlan
from ambientgen.engines.base import Feed, Progress, Report, Stage, Take
from ambientgen.engines.weights import DroppedError, Weights, checked_layer, failure, loading_steps
from ambientgen.errors import EngineError
from ambientgen.spec import ENGINE_OPTIONS, EngineSpec
from ambientgen.timings import Timing

log = logging.getLogger(__name__)
T = TypeVar("T")

DEFAULT_MODEL = "cvssp/audioldm2"
SAMPLE_RATE_HZ = 48_000
#: A latent frame: a loop is a whole number of them.
LOOP_STEP_S = SAMPLES_PER_LATENT / MODEL_RATE_HZ
_SAMPLES_PER_LATENT = round(LOOP_STEP_S * SAMPLE_RATE_HZ)
#: One window is as long as the clips the model learned from; overlapping windows make up to a minute of one piece.
_ONE_WINDOW_S, _LONGEST_S = 10.24, 60.0
#: The longest piece nobody can interrupt, rough: a step of one window.
_LONGEST_STEP_S = {"cpu": 4.5, "mps": 1.0, "cuda": 0.2}


@dataclass(slots=True, eq=False)
class _Active:
    """A take that is being made."""

    take: Take
    settings: Settings
    sampling: Sampling
    num_frames: int
    tell: Callable[..., None]

    @property
    def window_frames(self) -> int:
        return self.sampling.plan.window_frames


class AudioLDM2Engine:
    """AudioLDM2 in 48 kHz mono (the model makes 16 kHz).

    Args:
        model: hub id or local folder of a diffusers AudioLDM2 pipeline.
        device: a torch device such as "cuda:1"; None: CUDA, else Apple's MPS, else the CPU.
        dtype: "float32", "bfloat16" or "float16"; None: what suits the device.
        plain: True: diffusers' own pipeline call in place of our loop: slower, one take at a time, no loops.
        compile_backend: of `torch.compile`; None: "inductor" on CUDA, elsewhere none.
        cache_dir: where compiled code is kept over restarts; None: where torch puts it.
    """

    def __init__(
        self,
        model: str = DEFAULT_MODEL,
        device: str | None = None,
        dtype: str | None = None,
        *,
        plain: bool = False,
        compile_backend: str | None = None,
        cache_dir: Path | None = None,
    ) -> None:
        self._weights = Weights(model, "audioldm2", "run `make model`", "run `make model`")
        self._device = device
        self._dtype = dtype
        self._plain = plain
        self._compile_backend = compile_backend
        self._cache_dir = cache_dir
        self._loaded: LoadedModel | None = None

    @property
    def device(self) -> str | None:
        """Where the model is, once it is loaded."""
        loaded = self._loaded  # read once: another thread may unload meanwhile
        return None if loaded is None else str(loaded.checkpoint.device)

    @property
    def spec(self) -> EngineSpec:
        """What it can do. `longest_step_s` is the CPU's until a device is known."""
        device = self.device or self._device or "cpu"
        return EngineSpec(
            name="audioldm2",
            version="3" if self._plain else "4",
            model=self._weights.name,
            sample_rate_hz=SAMPLE_RATE_HZ,
            num_channels=1,
            default_duration_s=10.0,
            longest_good_s=_ONE_WINDOW_S if self._plain else _LONGEST_S,
            longest_step_s=_LONGEST_STEP_S.get(device.partition(":")[0], _LONGEST_STEP_S["cpu"]),
            supports=frozenset(ENGINE_OPTIONS if self._plain else (*ENGINE_OPTIONS, "loop")),
            loop_step_s=0.0 if self._plain else LOOP_STEP_S,
            needs_gpu=True,
            license=models.license_of(self._weights.model),
        )

    def installed(self) -> bool:
        """True if the packages and the complete weights are on this machine. Looks only: no import, no network."""
        return self._weights.installed()

    def import_packages(self) -> None:
        """Import what `load` needs. Done in a thread beside a running event loop, it would stop that for too long.

        Raises:
            ModelMissingError: if a package is missing or broken.
        """
        if self._cache_dir is not None:  # torch decides where compiled code is kept when it is imported
            os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(self._cache_dir))
        import_torch()
        with self._weights.importing():
            import diffusers
            import transformers

            # Both import lazily; these names bring in all the rest.
            _ = (diffusers.AudioLDM2Pipeline, diffusers.DPMSolverMultistepScheduler, transformers.GPT2LMHeadModel)

    def load(self, report: Report) -> None:
        """Import the packages and load the weights. Never downloads; a second call does nothing.

        Args:
            report: told "loading" before each piece; False gives up.

        Raises:
            ModelMissingError: if packages or weights are missing or damaged.
            OutOfMemoryError: if the model does not fit the device.
            EngineError: if the device or dtype cannot be used.
            GenerationCancelled: if `report` answered False.
        """
        if self._loaded is not None:
            return

        step = loading_steps(report, NUM_LOADING_STEPS)
        step(0)
        folder = self._weights.folder()
        self.import_packages()
        device = choose_device(self._device)
        dtype = choose_dtype(device, self._dtype)
        with self._weights.loading(device):
            checkpoint = load_checkpoint(folder, device, dtype, step, movable=not self._plain)
            self._loaded = LoadedModel(checkpoint, self._backend_for(device))

    def warm_up(self) -> None:
        """Compile in the background, where that makes it faster; until then it serves uncompiled."""
        if self._loaded is not None and self._backend_for(self._loaded.checkpoint.device) is not None:
            self._loaded.warm_up()

    def unload(self) -> None:
        """Give back memory, once a compilation that is under way has ended. A later `load` works again."""
        if self._loaded is None:
            return
        self._loaded.close()
        self._loaded = None
        free_memory()

    def timings(self) -> tuple[Timing, ...]:
        """How long the stages took so far, per shape and batch size; empty before the first take."""
        loaded = self._loaded
        return () if loaded is None else loaded.timings.all()

    def batch_key(self, take: Take) -> Hashable:
        """The length of the take's windows: equal ones share passes through the UNet."""
        return _plan(take).window_frames

    def max_batch(self, key: Hashable) -> int:
        """As many as memory bears, one on a CPU, where a batch gains nothing."""
        return 1 if self._plain or self._loaded is None else self._loaded.max_windows

    def run(self, feed: Feed) -> None:
        """Serve the feed: takes of equal windows together, joining and leaving between steps.

        A take's clip is 48 kHz, mono, exactly `num_samples` long. A take that fails is finished as an
        `EngineError`, and the engine lives on.

        Raises:
            EngineError: if the engine is not loaded.
        """
        if self._loaded is None:
            raise EngineError("The audioldm2 engine is not loaded.")
        with import_torch().no_grad():
            if self._plain:
                self._run_plain(feed, self._loaded)
            else:
                self._run_batched(feed, self._loaded)

    # ------------------------------------------------------------------ our own loop

    def _run_batched(self, feed: Feed, loaded: LoadedModel) -> None:
        active: list[_Active] = []
        while self._admit(active, feed, loaded):
            for window_frames in sorted({work.window_frames for work in active}):
                self._step([work for work in active if work.window_frames == window_frames], active, feed, loaded)

    def _admit(self, active: list[_Active], feed: Feed, loaded: LoadedModel) -> bool:
        """Take in what there is room for, one by one, as they differ in windows; False if there is nothing to do."""
        while not active or sum(work.sampling.plan.num_windows for work in active) < loaded.max_windows:
            takes = feed.admit(active[0].window_frames if active else None, 1)
            if not takes:
                break
            started = (self._guarded(take, feed, partial(self._start, take, feed, loaded)) for take in takes)
            active += [work for work in started if work is not None]
        if not active:
            loaded.rest()
        return bool(active)

    def _start(self, take: Take, feed: Feed, loaded: LoadedModel) -> _Active:
        settings, plan, tell = self._settings(take), _plan(take), _teller(take, feed)
        tell("conditioning")
        sampling = loaded.begin(settings, plan, lambda: tell("conditioning"))
        tell("denoising", 0, settings.num_inference_steps)
        return _Active(take, settings, sampling, _num_frames(take), tell)

    def _step(self, group: list[_Active], active: list[_Active], feed: Feed, loaded: LoadedModel) -> None:
        """One pass for the group; who is done, dropped or broken leaves `active`."""
        alone = group[0] if len(group) == 1 else None

        def between() -> None:
            # A pass in several parts may take long; where others share it, they go on whatever one of them wants.
            if alone is not None:
                alone.tell("denoising", alone.sampling.step, alone.settings.num_inference_steps)

        try:
            answers = loaded.predict([work.sampling for work in group], between)
        except Exception as error:
            if alone is None:
                # One of them may have spoiled it for the others.
                let_go(error)
                for work in group:
                    self._step([work], active, feed, loaded)
                return
            active.remove(alone)
            if not isinstance(error, DroppedError):
                feed.finish(alone.take.id, self._failure(error))
            return
        for work, answer in zip(group, answers, strict=True):
            try:
                work.sampling.advance(answer)
            except Exception as error:  # its scheduler may have taken half a step, so this take cannot be saved
                active.remove(work)
                feed.finish(work.take.id, self._failure(error))
                continue
            if work.sampling.done:
                active.remove(work)
                self._guarded(work.take, feed, partial(self._finish, work, feed, loaded))
            elif not self._is_wanted(work):
                active.remove(work)

    def _is_wanted(self, work: _Active) -> bool:
        try:
            work.tell("denoising", work.sampling.step, work.settings.num_inference_steps)
        except DroppedError:
            return False
        return True

    def _finish(self, work: _Active, feed: Feed, loaded: LoadedModel) -> None:
        torch, num_steps = import_torch(), work.settings.num_inference_steps
        unet, tell = loaded.checkpoint.pipeline.unet, work.tell
        tell("denoising", num_steps, num_steps)
        sampling = work.sampling
        if not torch.isfinite(sampling.latents).all() and unet.dtype != torch.float32:
            log.warning("take %s went out of range in half precision; it is made again in float32", work.take.id)
            # The steps that people were told do not go back, so they stand until it is done.
            sampling = loaded.begin_again_in_full_precision(
                work.settings, sampling.plan, lambda: tell("denoising", num_steps, num_steps)
            )
        tell("decoding", 0, 2)
        clip = _checked(loaded.decode(sampling, work.num_frames, lambda stage: tell("decoding", stage, 2)))
        prompt, negative_prompt = work.settings.prompt, work.settings.negative_prompt

        def similarity_to(text: str) -> float:
            return loaded.match(clip, text, lambda: tell("decoding", 1, 2))

        match = similarity_to(prompt) if work.take.layer.params.get("num_candidates", 1) > 1 else None
        leaks = ranking.leaks(prompt, negative_prompt, similarity_to)
        feed.finish(work.take.id, _finished(clip, work.take), match, leaks)

    # ------------------------------------------------------------------ diffusers' own call

    def _run_plain(self, feed: Feed, loaded: LoadedModel) -> None:
        while takes := feed.admit(None, 1):
            for take in takes:
                self._guarded(take, feed, partial(self._call_pipeline, take, feed, loaded))

    def _call_pipeline(self, take: Take, feed: Feed, loaded: LoadedModel) -> None:
        settings, tell = self._settings(take), _teller(take, feed)
        tell("conditioning")
        samples = plain.generate(
            loaded.checkpoint.pipeline,
            settings=settings,
            scheduler=loaded.new_scheduler(settings.scheduler),
            num_frames=_num_frames(take),
            on_step=lambda step: tell("denoising", step, settings.num_inference_steps),
        )
        feed.finish(take.id, _finished(_checked(samples), dataclasses.replace(take, loop=False)))

    # ------------------------------------------------------------------ what both need

    def _guarded(self, take: Take, feed: Feed, action: Callable[[], T]) -> T | None:
        """The action's answer; None if the take was dropped or failed, which ends it."""
        try:
            return action()
        except DroppedError:
            return None
        except EngineError as error:
            feed.finish(take.id, error)
        except Exception as error:
            feed.finish(take.id, self._failure(error))
        return None

    def _settings(self, take: Take) -> Settings:
        """The take's layer, checked.

        Raises:
            EngineError: if it asks for what this engine does not have.
        """
        layer = take.layer
        if take.num_samples < 1:
            raise EngineError("A take needs at least one sample.")
        if take.loop and take.num_samples % _SAMPLES_PER_LATENT:
            raise EngineError(f"A loop of audioldm2 is a whole number of {LOOP_STEP_S:g} s long.")
        num_steps, guidance_scale = checked_layer(layer, "audioldm2", self._weights.name)
        if num_steps < 1:
            raise EngineError("A layer for audioldm2 needs at least one step.")
        scheduler = layer.params.get("scheduler", "ddim")
        if not isinstance(scheduler, str) or scheduler not in SCHEDULERS:
            raise EngineError(f"The audioldm2 engine's schedulers are {', '.join(SCHEDULERS)}.")
        return Settings(
            prompt=layer.prompt,
            negative_prompt=layer.negative_prompt or "",
            num_inference_steps=num_steps,
            guidance_scale=guidance_scale,
            scheduler=scheduler,
            seed=layer.seed,
        )

    def _failure(self, error: Exception) -> EngineError:
        advice = "A shorter clip may work; if it goes on, close other programs that use the device."
        return failure(error, "audioldm2", advice)

    def _backend_for(self, device: Any) -> str | None:
        if self._plain:
            return None
        return "inductor" if self._compile_backend is None and device.type == "cuda" else self._compile_backend


def _plan(take: Take) -> WindowPlan:
    num_frames = _num_frames(take)
    return WindowPlan.circle(num_frames) if take.loop else WindowPlan.line(num_frames)


def _num_frames(take: Take) -> int:
    """Latent frames that hold all of the take."""
    return max(1, math.ceil(take.num_samples / _SAMPLES_PER_LATENT))


def _checked(samples: Any) -> Clip:
    """A clip at the model's rate.

    Raises:
        EngineError: if it is not made of numbers.
    """
    if not np.isfinite(samples).all():
        raise EngineError(
            "The model's numbers went out of range, so there is no sound. If it goes on, the weights may be damaged: "
            "run `make model`."
        )
    return Clip(samples, MODEL_RATE_HZ)


def _finished(clip: Clip, take: Take) -> Clip:
    """The engine's rate, at the take's exact length."""
    # What is no loop is resampled whole and cut afterwards: so the end is as clean as the middle.
    whole = resample(clip, SAMPLE_RATE_HZ, loop=take.loop)
    return Clip(np.ascontiguousarray(whole.samples[:, : take.num_samples]), SAMPLE_RATE_HZ)


def _teller(take: Take, feed: Feed) -> Callable[..., None]:
    def tell(stage: Stage, step: int = 0, num_steps: int = 0) -> None:
        if not feed.progress(take.id, Progress(stage, step, num_steps)):
            raise DroppedError

    return tell
