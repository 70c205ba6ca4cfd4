"""A loaded model with everything around it that serving needs, and what happens when memory or precision runs out."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ambientgen.audio.clip import Clip
from ambientgen.diffusion import ranking
from ambientgen.diffusion.checkpoint import Checkpoint
from ambientgen.diffusion.compiled import CompiledUNet, plain_unet
from ambientgen.diffusion.conditioning import Conditioner, Conditioning
from ambientgen.diffusion.decoding import Decoder
from ambientgen.diffusion.devices import import_torch, is_out_of_memory, let_go
from ambientgen.diffusion.sampling import Denoiser, Sampling
from ambientgen.diffusion.windows import WINDOW_FRAMES, WindowPlan
from ambientgen.timings import Timings

log = logging.getLogger(__name__)

#: Names of schedulers and their classes in diffusers.
SCHEDULERS = {"ddim": "DDIMScheduler", "dpmpp_2m": "DPMSolverMultistepScheduler"}
#: Where a batch gains something: the memory a guided window of 10.24 s is counted with, and the most windows at once.
_WINDOW_BYTES = 400 * 2**20
_MAX_WINDOWS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What to sample, as `AudioLDM2Pipeline` calls it.

    Attributes:
        scheduler: a name in `SCHEDULERS`.
        seed: of the noise, drawn on the CPU: the same on every device.
    """

    prompt: str
    negative_prompt: str
    num_inference_steps: int
    guidance_scale: float
    scheduler: str
    seed: int

    @property
    def guided_by(self) -> str | None:
        """The negative prompt, or None where there is no guidance."""
        return self.negative_prompt if self.guidance_scale > 1.0 else None


class LoadedModel:
    """The parts of the loop around a checkpoint.

    Args:
        checkpoint: in its place.
        compile_backend: of `torch.compile`, once `warm_up` is called; None: not compiled.

    Attributes:
        checkpoint: as given.
        timings: of every stage.
        max_windows: how many windows may be under way at once.
        unet: what is called for each pass.
    """

    def __init__(self, checkpoint: Checkpoint, compile_backend: str | None) -> None:
        pipeline, device = checkpoint.pipeline, checkpoint.device
        self.checkpoint = checkpoint
        self.timings = Timings()
        self.max_windows = _max_windows(device)
        self.unet = CompiledUNet(pipeline.unet, backend=compile_backend, graphs=device.type == "cuda")
        self._conditioner = Conditioner(pipeline, device)
        self._denoiser = Denoiser(self.unet, max_rows=2 * self.max_windows)
        self._decoder = Decoder(pipeline)
        self._newest_pass: Any = None

    def warm_up(self) -> None:
        """Compile in the background, if that was wanted."""
        settings = Settings(
            prompt="ambient soundscape",
            negative_prompt="music",
            num_inference_steps=2,
            guidance_scale=2.0,
            scheduler="ddim",
            seed=0,
        )
        plans = [WindowPlan.line(window) for window in sorted(WINDOW_FRAMES, reverse=True)]
        with import_torch().no_grad():
            takes = [self.begin(settings, plan, lambda: None) for plan in plans]
            self.unet.warm_up([self._denoiser.rows([take]) for take in takes])

    def new_scheduler(self, name: str) -> Any:
        """A scheduler keeps state from step to step, so every take gets a new one."""
        import diffusers

        return getattr(diffusers, SCHEDULERS[name]).from_config(self.checkpoint.pipeline.scheduler.config)

    def begin(self, settings: Settings, plan: WindowPlan, check: Callable[[], None]) -> Sampling:
        """A take at its first step.

        Args:
            settings: what to sample.
            plan: how it is covered.
            check: called often; may raise to give up.
        """
        return self._new_sampling(settings, plan, self._encode(settings, check))

    def predict(self, takes: Sequence[Sampling], between: Callable[[], None]) -> tuple[Any, ...]:
        """The UNet's answers for takes whose windows are equally long; see `Denoiser.predict`."""
        num_windows, window_frames = sum(take.plan.num_windows for take in takes), takes[0].plan.window_frames
        with self.timings.measure(
            "denoising", num_windows=num_windows, window_frames=window_frames, batch_size=len(takes)
        ):
            answers: tuple[Any, ...] = self._with_room(lambda: self._denoiser.predict(takes, between))
            self._wait_for_previous_pass()
        return answers

    def begin_again_in_full_precision(
        self, settings: Settings, plan: WindowPlan, check: Callable[[], None]
    ) -> Sampling:
        """A take whose numbers went out of range in half precision, made whole in float32, text and all.

        Args:
            settings: what to sample.
            plan: how it is covered.
            check: called often; may raise to give up.
        """

        def sample() -> Sampling:
            with self.checkpoint.text_models_in_full_precision():
                conditioner = Conditioner(self.checkpoint.pipeline, self.checkpoint.device, cache_bytes=0)
                conditioning = conditioner.encode(settings.prompt, settings.guided_by, check)
            sampling = self._new_sampling(settings, plan, conditioning)
            # A copy: recorded graphs point at the weights where they are.
            unet = copy.deepcopy(self.checkpoint.pipeline.unet).to(import_torch().float32)
            denoiser = Denoiser(plain_unet(unet), max_rows=self._denoiser.max_rows)
            while not sampling.done:
                check()
                (answer,) = denoiser.predict([sampling], check)
                sampling.advance(answer)
            return sampling

        sampling: Sampling = self._with_room(sample)
        return sampling

    def decode(self, sampling: Sampling, num_frames: int, check: Callable[[int], None]) -> Any:
        """A finished take's sound; see `Decoder.decode`."""
        plan = sampling.plan
        with self.timings.measure("decoding", num_windows=plan.num_windows, window_frames=plan.window_frames):
            return self._with_room(lambda: self._decoder.decode(sampling.latents, plan, num_frames, check)).numpy()

    def match(self, clip: Clip, prompt: str, check: Callable[[], None]) -> float:
        """How well a clip fits a prompt; see `ranking.similarity`."""
        pipeline = self.checkpoint.pipeline
        match: float = self._with_room(lambda: ranking.similarity(pipeline, clip, prompt, check))
        return match

    def rest(self) -> None:
        """Let go of the latest takes; there are no more for now."""
        self._denoiser.forget()

    def close(self) -> None:
        """Stop what goes on in the background."""
        self.unet.close()

    def _encode(self, settings: Settings, check: Callable[[], None]) -> Conditioning:
        def encode() -> Conditioning:
            return self._conditioner.encode(settings.prompt, settings.guided_by, check)

        if self._conditioner.knows(settings.prompt, settings.guided_by):
            return encode()
        with self.timings.measure("conditioning"):
            conditioning: Conditioning = self._with_room(encode)
        return conditioning

    def _new_sampling(self, settings: Settings, plan: WindowPlan, conditioning: Conditioning) -> Sampling:
        pipeline = self.checkpoint.pipeline
        return Sampling(
            plan=plan,
            conditioning=conditioning,
            scheduler=self.new_scheduler(settings.scheduler),
            num_steps=settings.num_inference_steps,
            guidance_scale=settings.guidance_scale,
            seed=settings.seed,
            channels=pipeline.unet.config.in_channels,
            width=pipeline.vocoder.config.model_in_dim // pipeline.vae_scale_factor,
        )

    def _with_room(self, action: Callable[[], Any]) -> Any:
        """The action's answer; while memory runs out, recordings go, and then parts of the model to the CPU."""
        while True:
            try:
                return action()
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                let_go(error)
                if not self.unet.forget_recordings() and not self.checkpoint.make_room():
                    raise

    def _wait_for_previous_pass(self) -> None:
        """Let the GPU be one pass behind and no more: it never waits for Python, and steps stay true steps."""
        kind = self.checkpoint.device.type
        if kind == "mps":
            import_torch().mps.synchronize()
        if kind != "cuda":
            return
        this_pass = import_torch().cuda.Event()
        this_pass.record()
        if self._newest_pass is not None:
            self._newest_pass.synchronize()
        self._newest_pass = this_pass


def _max_windows(device: Any) -> int:
    if device.type != "cuda":
        return 1
    free_bytes, _ = import_torch().cuda.mem_get_info(device)
    return max(1, min(_MAX_WINDOWS, int(free_bytes) // _WINDOW_BYTES))
