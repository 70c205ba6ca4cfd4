"""The AudioLDM2 engine: any description, through the `diffusers` pipeline, one take at a time.

The pipeline is called in its three parts (encode, denoise, decode), which gives the very same sound as one call of
it, but lets a take be dropped between any two of them and decodes in full precision.
"""

from __future__ import annotations

import gc
import math
import traceback
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ambientgen import models
from ambientgen.audio.clip import Clip
from ambientgen.audio.resample import resample, to_stereo
from ambientgen.engines.base import Feed, Progress, Report, Stage, Take
from ambientgen.errors import EngineError, GenerationCancelled, ModelMissingError, OutOfMemoryError
from ambientgen.recipe import Layer
from ambientgen.spec import ENGINE_OPTIONS, EngineSpec

DEFAULT_MODEL = "cvssp/audioldm2"
SAMPLE_RATE_HZ = 48_000
#: What the model makes; a mel frame is 0.01 s, and the latents take frames by four.
_MODEL_RATE_HZ = 16_000
_FRAME_SAMPLES = 160
_FRAMES_PER_LATENT = 4

_DTYPES = ("float32", "bfloat16", "float16")
#: The longest piece nobody can interrupt, for 10.24 s of sound: the vocoder on one CPU core, rough elsewhere.
_LONGEST_STEP_S = {"cpu": 10.0, "mps": 3.0, "cuda": 1.0}
#: Scheduler names of `Layer.params` and their classes in diffusers.
_SCHEDULERS = {"ddim": "DDIMScheduler", "dpmpp_2m": "DPMSolverMultistepScheduler"}
_MAX_CANDIDATES = 8
_NUM_LOADING_STEPS = 3


class _DroppedError(Exception):
    """The feed no longer wants this take. Raised in the pipeline's callback: it has no other way to stop."""


@dataclass(frozen=True, slots=True)
class _Settings:
    """A layer's checked settings."""

    prompt: str
    negative_prompt: str
    seed: int
    num_steps: int
    guidance_scale: float
    scheduler: str

    @classmethod
    def of(cls, layer: Layer, model: str) -> _Settings:
        """Read a layer.

        Raises:
            EngineError: if it asks for what this engine does not have.
        """
        if layer.model not in (None, model):
            raise EngineError(f"This recipe was made with the model `{layer.model}`; this bot runs `{model}`.")
        if layer.num_inference_steps is None or layer.guidance_scale is None:
            raise EngineError("A layer for audioldm2 needs num_inference_steps and guidance_scale.")
        if layer.num_inference_steps < 1:
            raise EngineError("A layer for audioldm2 needs at least one step.")
        return cls(
            prompt=layer.prompt,
            negative_prompt=layer.negative_prompt or "",
            seed=layer.seed,
            num_steps=layer.num_inference_steps,
            guidance_scale=float(layer.guidance_scale),
            scheduler=_scheduler_of(layer.params),
        )


class AudioLDM2Engine:
    """AudioLDM2 in 48 kHz stereo (the model makes 16 kHz mono).

    Args:
        model: hub id or local folder of a diffusers AudioLDM2 pipeline.
        device: a torch device such as "cuda:1"; None: CUDA, else Apple's MPS, else the CPU.
        dtype: "float32", "bfloat16" or "float16"; None: what suits the device.
    """

    def __init__(self, model: str = DEFAULT_MODEL, device: str | None = None, dtype: str | None = None) -> None:
        self._model = model
        self._device = device
        self._dtype = dtype
        self._name = models.public_name(model)
        self._pipeline: Any = None

    @property
    def device(self) -> str | None:
        """Where the model is, once it is loaded."""
        pipeline = self._pipeline  # read once: another thread may unload meanwhile
        return None if pipeline is None else str(pipeline.device)

    @property
    def spec(self) -> EngineSpec:
        """What it can do. `longest_step_s` is the CPU's until a device is known."""
        pipeline = self._pipeline  # read once: another thread may unload meanwhile
        device = self._device if pipeline is None else pipeline.device.type
        return EngineSpec(
            name="audioldm2",
            version="1",
            model=self._name,
            sample_rate_hz=SAMPLE_RATE_HZ,
            num_channels=2,
            default_duration_s=10.0,
            longest_good_s=10.24,
            longest_step_s=_LONGEST_STEP_S.get((device or "cpu").partition(":")[0], _LONGEST_STEP_S["cpu"]),
            supports=frozenset(ENGINE_OPTIONS),
            needs_gpu=True,
            reads_any_text=True,
            license=models.license_of(self._model),
        )

    def installed(self) -> bool:
        """True if the packages and the complete weights are on this machine. Looks only: no import, no network."""
        return not models.missing_packages() and models.is_complete(self._model)

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

        def step(number: int) -> None:
            if not report(Progress("loading", number, _NUM_LOADING_STEPS)):
                raise GenerationCancelled

        step(0)
        folder = self._weights_folder()
        torch = _torch()
        device = _choose_device(torch, self._device)
        dtype = getattr(torch, _choose_dtype(torch, device, self._dtype))
        try:
            self._pipeline = _load_pipeline(folder, device, dtype, step)
        except (EngineError, GenerationCancelled):
            raise
        except Exception as error:
            _let_go(error, torch)
            if _is_out_of_memory(error):
                raise OutOfMemoryError(
                    f"The model does not fit into the free memory of the device `{device.type}`. Close other programs "
                    "that use it, or run the engine on another device."
                ) from error
            raise ModelMissingError(
                f"The files of the model `{self._name}` are damaged or do not fit the installed packages: run "
                "`make model`."
            ) from error

    def unload(self) -> None:
        """Give back memory. A later `load` works again."""
        if self._pipeline is None:
            return
        self._pipeline = None
        _free_memory(_torch())

    def batch_key(self, take: Take) -> Hashable:
        """A key of its own: prompts of different length change each other's sound inside one pipeline call."""
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
            raise EngineError("The audioldm2 engine is not loaded.")
        while takes := feed.admit(None, 1):
            for take in takes:
                result = self._serve(take, feed)
                if result is not None:
                    feed.finish(take.id, result)

    def _serve(self, take: Take, feed: Feed) -> Clip | EngineError | None:
        """The take's result; None if the feed dropped it."""

        def tell(stage: Stage, step: int = 0, num_steps: int = 0) -> None:
            if not feed.progress(take.id, Progress(stage, step, num_steps)):
                raise _DroppedError

        try:
            return self._make(take, tell)
        except _DroppedError:
            return None
        except EngineError as error:
            return error
        except Exception as error:
            return self._failure(error)

    def _make(self, take: Take, tell: Callable[..., None]) -> Clip:
        if take.num_samples < 1:
            raise EngineError("A take needs at least one sample.")
        settings = _Settings.of(take.layer, self._name)
        num_model_samples = math.ceil(take.num_samples * _MODEL_RATE_HZ / SAMPLE_RATE_HZ)
        num_frames = math.ceil(num_model_samples / (_FRAME_SAMPLES * _FRAMES_PER_LATENT)) * _FRAMES_PER_LATENT
        tell("conditioning")
        with _torch().no_grad():
            conditioning = self._encode(settings)
            tell("denoising", 0, settings.num_steps)
            latents = self._denoise(settings, conditioning, num_frames, tell)
            tell("decoding", 0, 2)
            samples = self._decode(latents, lambda: tell("decoding", 1, 2))[:, : num_frames * _FRAME_SAMPLES]
        if not np.isfinite(samples).all():
            raise EngineError(self._not_a_sound())
        # Resampled whole and cut afterwards: so the end is as clean as the middle.
        wide = to_stereo(resample(Clip(samples, _MODEL_RATE_HZ), SAMPLE_RATE_HZ))
        return Clip(np.ascontiguousarray(wide.samples[:, : take.num_samples]), SAMPLE_RATE_HZ)

    def _encode(self, settings: _Settings) -> dict[str, Any]:
        """Prompt and negative prompt as the pipeline's keyword arguments."""
        guided = settings.guidance_scale > 1.0
        names = ("prompt_embeds", "attention_mask", "generated_prompt_embeds")
        tensors = self._pipeline.encode_prompt(
            settings.prompt, self._pipeline.device, 1, guided, negative_prompt=settings.negative_prompt
        )
        if not guided:
            return dict(zip(names, tensors, strict=True))
        # The answer is [negative; positive]; handed back whole it would silently become two clips.
        halves = {name: tensor.chunk(2) for name, tensor in zip(names, tensors, strict=True)}
        positive = {name: half for name, (_, half) in halves.items()}
        return positive | {f"negative_{name}": half for name, (half, _) in halves.items()}

    def _denoise(
        self, settings: _Settings, conditioning: Mapping[str, Any], num_frames: int, tell: Callable[..., None]
    ) -> Any:
        """The finished latents, shape (1, channels, num_frames / 4, mel bins / 4)."""
        pipeline, own_scheduler = self._pipeline, self._pipeline.scheduler
        # A scheduler keeps state from step to step, so every take gets a new one.
        pipeline.scheduler = _new_scheduler(settings.scheduler, own_scheduler.config)
        try:
            return pipeline(
                **conditioning,
                # Half a frame more than meant: the pipeline rounds down, and a float may lie just below its frame.
                audio_length_in_s=(num_frames + 0.5) * _FRAME_SAMPLES / _MODEL_RATE_HZ,
                num_inference_steps=settings.num_steps,
                guidance_scale=settings.guidance_scale,
                # The CPU's noise on every device: a seed means the same sound wherever it is made.
                generator=_torch().Generator("cpu").manual_seed(settings.seed),
                callback=lambda index, _timestep, _latents: tell("denoising", index + 1, settings.num_steps),
                callback_steps=1,
                output_type="latent",
            ).audios
        finally:
            pipeline.scheduler = own_scheduler

    def _decode(self, latents: Any, between: Callable[[], None]) -> Any:
        """Latents to float32 samples of shape (1, num_samples), at the model's rate."""
        pipeline = self._pipeline
        mel = pipeline.vae.decode(1 / pipeline.vae.config.scaling_factor * latents.float()).sample
        between()
        return pipeline.mel_spectrogram_to_waveform(mel).numpy()

    def _failure(self, error: Exception) -> EngineError:
        _let_go(error, _torch())
        failure: EngineError
        if _is_out_of_memory(error):
            failure = OutOfMemoryError(
                "The device ran out of memory while making this clip. A shorter clip may work; if it goes on, close "
                "other programs that use the device."
            )
        else:
            failure = EngineError("The audioldm2 engine could not make this clip. The bot's log says why.")
        failure.__cause__ = error
        return failure

    def _not_a_sound(self) -> str:
        dtype = str(self._pipeline.unet.dtype).removeprefix("torch.")
        cure = "run `make model`, the weights may be damaged" if dtype == "float32" else "use the dtype float32"
        return f"The model's numbers went out of range in {dtype}, so there is no sound: {cure}."

    def _weights_folder(self) -> Path:
        missing = models.missing_packages()
        if missing:
            raise ModelMissingError(f"The model's packages are not installed ({', '.join(missing)}): run `make model`.")
        folder = models.find(self._model)
        if folder is None:
            raise ModelMissingError(f"The model `{self._name}` is not on this machine: run `make model`.")
        faults = models.faults(folder)
        if faults:
            raise ModelMissingError(
                f"The files of the model `{self._name}` are incomplete or damaged ({faults[0]}): run `make model`."
            )
        return folder


def _torch() -> Any:
    """The torch module. Heavy, and absent from the base install: nothing imports it before `load`."""
    try:
        import torch
    except ImportError as error:
        raise ModelMissingError("torch cannot be imported: run `make model`.") from error
    return torch


def _load_pipeline(folder: Path, device: Any, dtype: Any, step: Callable[[int], None]) -> Any:
    import diffusers
    import transformers

    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()
    # The published checkpoint names `GPT2Model`, which today's transformers cannot generate with.
    language_model = transformers.GPT2LMHeadModel.from_pretrained(
        folder, subfolder="language_model", dtype=dtype, local_files_only=True
    )
    step(1)
    pipeline = diffusers.AudioLDM2Pipeline.from_pretrained(
        folder, language_model=language_model, dtype=dtype, local_files_only=True
    )
    step(2)
    pipeline.set_progress_bar_config(disable=True)
    # Half precision has too few digits for a waveform (8 bits are 50 dB), and the decoders are a small part of the
    # work.
    pipeline.vae.to(dtype=_torch().float32)
    pipeline.vocoder.to(dtype=_torch().float32)
    vocoder = pipeline.vocoder.config
    shape = (vocoder.sampling_rate, math.prod(vocoder.upsample_rates), pipeline.vae_scale_factor)
    if shape != (_MODEL_RATE_HZ, _FRAME_SAMPLES, _FRAMES_PER_LATENT):
        raise ModelMissingError("This model's sample rate or frame length is not AudioLDM2's; choose another one.")
    return pipeline.to(device)


def _choose_device(torch: Any, wanted: str | None) -> Any:
    name = wanted
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except Exception as error:
        raise EngineError(f"The device `{name}` cannot be used by torch on this machine.") from error
    return device


def _choose_dtype(torch: Any, device: Any, wanted: str | None) -> str:
    if wanted is not None:
        if wanted not in _DTYPES:
            raise EngineError(f"The dtype is one of {', '.join(_DTYPES)}.")
        return wanted
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
    # MPS too: half precision there has gaps that differ from one release of torch to the next.
    return "float32"


def _new_scheduler(name: str, config: Any) -> Any:
    import diffusers

    return getattr(diffusers, _SCHEDULERS[name]).from_config(config)


def _scheduler_of(params: Mapping[str, Any]) -> str:
    unknown = sorted(set(params) - {"scheduler", "num_candidates"})
    if unknown:
        raise EngineError(f"The audioldm2 engine has no parameter `{unknown[0]}`.")
    scheduler, num_candidates = params.get("scheduler", "ddim"), params.get("num_candidates", 1)
    if not isinstance(scheduler, str) or scheduler not in _SCHEDULERS:
        raise EngineError(f"The audioldm2 engine's schedulers are {', '.join(_SCHEDULERS)}.")
    # How many takes compete is the renderer's business; here it only has to be a sensible number.
    if type(num_candidates) is not int or not 1 <= num_candidates <= _MAX_CANDIDATES:
        raise EngineError(f"num_candidates goes from 1 to {_MAX_CANDIDATES}.")
    return scheduler


def _is_out_of_memory(error: BaseException) -> bool:
    """True for CUDA's own error, and for what MPS and the CPU raise in its place."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    words = str(error).lower()
    return isinstance(error, RuntimeError) and ("out of memory" in words or "can't allocate memory" in words)


def _let_go(error: BaseException, torch: Any) -> None:
    """Free what a failed call holds: its frames, kept alive by the traceback, own the tensors."""
    traceback.clear_frames(error.__traceback__)
    _free_memory(torch)


def _free_memory(torch: Any) -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()
