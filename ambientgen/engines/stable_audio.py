"""The Stable Audio engine: any description, through diffusers' `StableAudioPipeline`, one take at a time.

The pipeline's parts (encode, denoise, decode) are called one by one. On a CPU in float32 that gives the very sound of
one call of it; besides, a take can be dropped inside any part, its noise is the same on every device, half precision
stays inside the transformer, and only the wanted part of the window is decoded, in pieces of bounded memory.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ambientgen import models
from ambientgen.audio.clip import Clip, Samples
from ambientgen.audio.resample import resample
from ambientgen.diffusion.devices import (
    choose_device,
    choose_dtype,
    free_memory,
    import_torch,
)
from ambientgen.diffusion.interrupts import interruptible
from ambientgen.engines.base import Feed, Progress, Report, Stage, Take
from ambientgen.engines.weights import DroppedError, Weights, checked_layer, failure, loading_steps
from ambientgen.errors import EngineError, ModelMissingError
from ambientgen.recipe import Layer
from ambientgen.spec import ENGINE_OPTIONS, EngineSpec

DEFAULT_MODEL = "stabilityai/stable-audio-open-1.0"
EXTRA = "stable-audio"
SAMPLE_RATE_HZ = 48_000
#: What the model makes: always one window of 47.6 s of stereo, of which a take is the beginning.
_MODEL_RATE_HZ = 44_100
_LATENT_SAMPLES = 2048
_WINDOW_LATENTS = 1024
_WINDOW_S = _WINDOW_LATENTS * _LATENT_SAMPLES / _MODEL_RATE_HZ

#: The model ends a sound where it is told that its file ends, so it is told of a longer one.
_SPARE_S = 1.0
#: Samples made behind the take's end, so that resampling finds the end as clean as the middle.
_TAIL_SAMPLES = 256
#: How many latents are decoded at once, and how many more at either side: farther than the decoder's convolutions see.
_PIECE_LATENTS = 256
_MARGIN_LATENTS = 16

#: The longest piece nobody can interrupt, rough: a layer on a CPU; elsewhere a step, which is 4.5 TFLOP.
_LONGEST_STEP_S = {"cpu": 2.5, "mps": 3.0, "cuda": 0.5}
#: What a recipe's `scheduler` may be. The words are AudioLDM2's; this model has one sampler, and uses it for both.
_SCHEDULERS = ("ddim", "dpmpp_2m")
#: torchsde knows places on a path by six digits; 200 steps are nowhere nearer to each other than 0.01.
_SHORTEST_PATH = 1e-5
_NUM_LOADING_STEPS = 3


@dataclass(frozen=True, slots=True)
class _Settings:
    """A layer's checked settings. `negative_prompt` is None where there is none."""

    prompt: str
    negative_prompt: str | None
    seed: int
    num_steps: int
    guidance_scale: float

    @classmethod
    def of(cls, layer: Layer, model: str) -> _Settings:
        """Read a layer.

        Raises:
            EngineError: if it asks for what this engine does not have.
        """
        num_steps, guidance_scale = checked_layer(layer, "stable-audio", model)
        if num_steps < 2:
            raise EngineError("A layer for stable-audio needs at least two steps.")  # one has only the last noise level
        if layer.params.get("scheduler", _SCHEDULERS[0]) not in _SCHEDULERS:
            raise EngineError(f"The stable-audio engine takes the schedulers {', '.join(_SCHEDULERS)}.")
        return cls(
            prompt=layer.prompt,
            # Without one the model is guided away from nothing at all, as it was trained; "" would be some text.
            negative_prompt=layer.negative_prompt or None,
            seed=layer.seed,
            num_steps=num_steps,
            guidance_scale=guidance_scale,
        )


class StableAudioEngine:
    """Stable Audio Open in 48 kHz stereo (the model makes 44.1 kHz stereo).

    Args:
        model: hub id or local folder of a diffusers Stable Audio pipeline.
        device: a torch device such as "cuda:1"; None: CUDA, else Apple's MPS, else the CPU.
        dtype: of the transformer: "float32", "bfloat16" or "float16"; None: what suits the device.
    """

    def __init__(self, model: str = DEFAULT_MODEL, device: str | None = None, dtype: str | None = None) -> None:
        self._weights = Weights(model, EXTRA, f"install AmbientGen's `{EXTRA}` extra", _files_cure(model))
        self._device = device
        self._dtype = dtype
        self._facts = models.describe(model)
        self._pipeline: Any = None

    @property
    def device(self) -> str | None:
        """Where the model is, once it is loaded."""
        pipeline = self._pipeline  # read once: another thread may unload meanwhile
        return None if pipeline is None else str(pipeline.device)

    @property
    def spec(self) -> EngineSpec:
        """What it can do. `longest_step_s` is the CPU's until a device is known."""
        device = self.device or self._device or "cpu"
        return EngineSpec(
            name="stable-audio",
            version="1",
            model=self._facts.model,
            sample_rate_hz=SAMPLE_RATE_HZ,
            num_channels=2,
            # Whatever the length, the whole window is denoised: half a minute costs hardly more than ten seconds.
            default_duration_s=30.0,
            longest_good_s=math.floor(_WINDOW_S) - _SPARE_S,
            longest_step_s=_LONGEST_STEP_S.get(device.partition(":")[0], _LONGEST_STEP_S["cpu"]),
            supports=frozenset(ENGINE_OPTIONS) - {"full_band"},
            needs_gpu=True,
            max_prompt_tokens=128,
            license=self._facts.license + ("; gated: to be accepted on the model's page" if self._facts.gated else ""),
        )

    def installed(self) -> bool:
        """True if the packages and the complete weights are on this machine. Looks only: no import, no network."""
        return self._weights.installed()

    def import_packages(self) -> None:
        """Import what `load` needs. Done in a thread beside a running event loop, it would stop that for too long.

        Raises:
            ModelMissingError: if a package is missing or broken.
        """
        import_torch()
        with self._weights.importing():
            import diffusers
            import transformers

            # Both import lazily; these names bring in all the rest.
            _ = (
                diffusers.StableAudioPipeline,
                diffusers.CosineDPMSolverMultistepScheduler,
                transformers.T5EncoderModel,
            )

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
        if self._pipeline is not None:
            return

        step = loading_steps(report, _NUM_LOADING_STEPS)
        step(0)
        folder = self._weights.folder()
        self.import_packages()
        device = choose_device(self._device)
        dtype = choose_dtype(device, self._dtype)
        with self._weights.loading(device):
            self._pipeline = _load_pipeline(folder, device, dtype, step)

    def warm_up(self) -> None:
        """Do nothing: it is not compiled."""

    def unload(self) -> None:
        """Give back memory. A later `load` works again."""
        if self._pipeline is None:
            return
        self._pipeline = None
        free_memory()

    def batch_key(self, take: Take) -> Hashable:
        """A key of its own: one pipeline call has one number of steps and one length."""
        return take.id

    def max_batch(self, key: Hashable) -> int:
        """One."""
        return 1

    def run(self, feed: Feed) -> None:
        """Serve the feed, one take at a time.

        A take's clip is 48 kHz, 2 channels, exactly `num_samples` long. A take that fails is finished as an
        `EngineError`, and the engine lives on. `Take.loop` changes nothing: loops are made afterwards.

        Raises:
            EngineError: if the engine is not loaded.
        """
        if self._pipeline is None:
            raise EngineError("The stable-audio engine is not loaded.")
        while takes := feed.admit(None, 1):
            for take in takes:
                result = self._serve(take, feed)
                if result is not None:
                    feed.finish(take.id, result)

    def _serve(self, take: Take, feed: Feed) -> Clip | EngineError | None:
        """The take's result; None if the feed dropped it."""
        newest = Progress("conditioning")

        def ask() -> None:
            if not feed.progress(take.id, newest):
                raise DroppedError

        def tell(stage: Stage, step: int, num_steps: int) -> None:
            nonlocal newest
            newest = Progress(stage, step, num_steps)
            ask()

        pipeline = self._pipeline
        try:
            ask()
            # On a CPU a step takes half a minute: nobody who has cancelled should have to wait for its end.
            models_at_work = (pipeline.text_encoder, pipeline.transformer, pipeline.vae.decoder)
            with import_torch().no_grad(), interruptible(models_at_work, ask):
                return self._make(take, tell)
        except DroppedError:
            return None
        except EngineError as error:
            return error
        except Exception as error:
            return failure(
                error, "stable-audio", "Close other programs that use the device; a shorter clip would need as much."
            )

    def _make(self, take: Take, tell: Callable[[Stage, int, int], None]) -> Clip:
        if take.num_samples < 1:
            raise EngineError("A take needs at least one sample.")
        settings = _Settings.of(take.layer, self._facts.model)
        duration_s = take.num_samples / SAMPLE_RATE_HZ
        if duration_s > _WINDOW_S:
            raise EngineError(f"The stable-audio engine makes at most {math.floor(_WINDOW_S)} s in one piece.")
        conditioning = self._encode(settings)
        tell("denoising", 0, settings.num_steps)
        latents = self._denoise(settings, conditioning, duration_s, tell)
        num_latents = math.ceil((duration_s * _MODEL_RATE_HZ + _TAIL_SAMPLES) / _LATENT_SAMPLES)
        samples = self._decode(latents, min(num_latents, _WINDOW_LATENTS), tell)
        if not np.isfinite(samples).all():
            raise EngineError(self._not_a_sound())
        wide = resample(Clip(samples, _MODEL_RATE_HZ), SAMPLE_RATE_HZ)
        return Clip(np.ascontiguousarray(wide.samples[:, : take.num_samples]), SAMPLE_RATE_HZ)

    def _encode(self, settings: _Settings) -> dict[str, Any]:
        """The text encoder's answers as the pipeline's keyword arguments; the pipeline itself projects them."""
        pipeline = self._pipeline
        texts = {"": settings.prompt}
        if settings.guidance_scale > 1.0 and settings.negative_prompt is not None:
            texts["negative_"] = settings.negative_prompt
        conditioning: dict[str, Any] = {}
        for prefix, text in texts.items():
            tokens = pipeline.tokenizer(
                text,
                padding="max_length",
                max_length=pipeline.tokenizer.model_max_length,
                truncation=True,
                return_tensors="pt",
            ).to(pipeline.device)
            embeds = pipeline.text_encoder(tokens.input_ids, attention_mask=tokens.attention_mask)[0]
            conditioning |= {f"{prefix}prompt_embeds": embeds, f"{prefix}attention_mask": tokens.attention_mask}
        return conditioning

    def _denoise(
        self,
        settings: _Settings,
        conditioning: dict[str, Any],
        duration_s: float,
        tell: Callable[[Stage, int, int], None],
    ) -> Any:
        """The finished latents of the whole window, float32, shape (1, channels, 1024)."""
        pipeline, own_scheduler = self._pipeline, self._pipeline.scheduler
        # A scheduler keeps state from step to step, so every take gets a new one.
        pipeline.scheduler = _new_scheduler(
            own_scheduler.config, settings.seed, pipeline.transformer.config.in_channels
        )
        try:
            return pipeline(
                **conditioning,
                # Whole seconds, as in the model's training.
                audio_end_in_s=min(math.ceil(duration_s) + _SPARE_S, _WINDOW_S),
                num_inference_steps=settings.num_steps,
                guidance_scale=settings.guidance_scale,
                # The CPU's noise on every device: a seed means the same sound wherever it is made.
                generator=import_torch().Generator("cpu").manual_seed(settings.seed),
                callback=lambda index, _timestep, _latents: tell("denoising", index + 1, settings.num_steps),
                callback_steps=1,
                output_type="latent",
            ).audios
        finally:
            pipeline.scheduler = own_scheduler

    def _decode(self, latents: Any, num_latents: int, tell: Callable[[Stage, int, int], None]) -> Samples:
        """The first latents as float32 samples of shape (2, num_latents * 2048), at the model's rate."""
        num_pieces = math.ceil(num_latents / _PIECE_LATENTS)
        samples = np.empty((2, num_latents * _LATENT_SAMPLES), np.float32)
        for piece in range(num_pieces):
            tell("decoding", piece, num_pieces)
            start, end = piece * _PIECE_LATENTS, min((piece + 1) * _PIECE_LATENTS, num_latents)
            first = max(start - _MARGIN_LATENTS, 0)
            decoded = self._pipeline.vae.decode(latents[:, :, first : end + _MARGIN_LATENTS]).sample[0]
            wanted = slice((start - first) * _LATENT_SAMPLES, (end - first) * _LATENT_SAMPLES)
            samples[:, start * _LATENT_SAMPLES : end * _LATENT_SAMPLES] = decoded[:, wanted].cpu().numpy()
        return samples

    def _not_a_sound(self) -> str:
        dtype = str(self._pipeline.transformer.proj_in.weight.dtype).removeprefix("torch.")
        cure = (
            f"the weights may be damaged: {self._weights.files_cure}" if dtype == "float32" else "use the dtype float32"
        )
        return f"The model's numbers went out of range in {dtype}, so there is no sound; {cure}."


def _files_cure(model: str) -> str:
    if models.describe(model).download_bytes == 0:
        return "put all of the model's files into its folder again"
    return f"run `{models.download_command(model)}`"


def _load_pipeline(folder: Path, device: Any, dtype: Any, step: Callable[[int], None]) -> Any:
    import diffusers
    import transformers

    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()
    # All but the transformer in float32 whatever is asked: the text is little work, and half precision has too few
    # digits for a waveform.
    options = {"dtype": import_torch().float32, "local_files_only": True}
    transformer = diffusers.StableAudioDiTModel.from_pretrained(folder, subfolder="transformer", **options)
    step(1)
    with warnings.catch_warnings():
        # diffusers' autoencoder uses what torch deprecates.
        warnings.filterwarnings("ignore", "`torch.nn.utils.weight_norm` is deprecated", FutureWarning)
        pipeline = diffusers.StableAudioPipeline.from_pretrained(folder, transformer=transformer, **options)
    step(2)
    pipeline.set_progress_bar_config(disable=True)
    vae = pipeline.vae.config
    kind = type(pipeline.scheduler).__name__, vae.sampling_rate, vae.audio_channels, pipeline.vae.hop_length
    if (*kind, transformer.config.sample_size) != (
        "CosineDPMSolverMultistepScheduler",
        _MODEL_RATE_HZ,
        2,
        _LATENT_SAMPLES,
        _WINDOW_LATENTS,
    ):
        raise ModelMissingError("This model's sampler, rate or window is not Stable Audio Open's; choose another one.")
    _cast(transformer, dtype)
    return pipeline.to(device)


def _cast(transformer: Any, dtype: Any) -> None:
    """Bring the transformer to another precision, but leave float32 what goes in and comes out.

    So rounding does not add up from step to step. The time stays float32 inside too: with bfloat16's 8 bits, 50 steps
    would have only 37 different times.
    """

    def on_its_way_in(_module: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        sample, *others = arguments
        states = {name: options[name].to(dtype) for name in ("encoder_hidden_states", "global_hidden_states")}
        return (sample.to(dtype), *others), {**options, **states}

    transformer.to(dtype)
    transformer.time_proj.float()
    transformer.timestep_proj.float()
    transformer.timestep_proj.register_forward_hook(lambda _module, _arguments, times: times.to(dtype))
    transformer.register_forward_pre_hook(on_its_way_in, with_kwargs=True)
    transformer.register_forward_hook(lambda _module, _arguments, outputs: tuple(output.float() for output in outputs))


def _new_scheduler(config: Any, seed: int, num_channels: int) -> Any:
    """The model's own sampler for one take, with the noise that this seed means on every device.

    diffusers would draw the noise on the transformer's device, and ask torchsde for times a rounding error outside of
    the path: at best a warning, on some processors an endless search (its issue 13274).
    """
    import diffusers
    from diffusers.schedulers.scheduling_dpmsolver_sde import BrownianTreeNoiseSampler

    torch = import_torch()
    silence = torch.zeros((1, num_channels, _WINDOW_LATENTS))
    low, high = float(config.sigma_min), float(config.sigma_max)
    path = BrownianTreeNoiseSampler(silence, low, high, seed)

    def noise(sigma: Any, next_sigma: Any) -> Any:
        start, end = (torch.tensor(min(max(float(s), low), high), dtype=torch.float64) for s in (sigma, next_sigma))
        return path(start, end) if start - end > _SHORTEST_PATH else silence  # the last step adds none

    class Scheduler(diffusers.CosineDPMSolverMultistepScheduler):  # type: ignore[misc]
        def set_timesteps(self, num_inference_steps: int | None = None, device: Any = None) -> None:
            super().set_timesteps(num_inference_steps, device)
            self.noise_sampler = noise

    return Scheduler.from_config(config)
