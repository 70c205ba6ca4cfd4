"""Loading an AudioLDM2 checkpoint, and where its parts live."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ambientgen.diffusion.decoding import FRAMES_PER_LATENT, SAMPLES_PER_FRAME
from ambientgen.diffusion.devices import import_torch, is_out_of_memory, let_go
from ambientgen.errors import ModelMissingError

log = logging.getLogger(__name__)

MODEL_RATE_HZ = 16_000
NUM_LOADING_STEPS = 3
#: The parts that can do their work on the CPU where the device is too small, the least painful first.
_MOVABLE = (("text_encoder", "text_encoder_2", "projection_model", "language_model"), ("vae", "vocoder"))


class Checkpoint:
    """A loaded pipeline, of which some parts may have had to move to the CPU.

    Attributes:
        pipeline: diffusers' `AudioLDM2Pipeline`.
        device: where the UNet is.
    """

    def __init__(self, pipeline: Any, device: Any) -> None:
        self.pipeline = pipeline
        self.device = device
        self._movable = [] if device.type == "cpu" else list(_MOVABLE)
        while not self._try_to_place():
            pass

    @property
    def text_models(self) -> tuple[Any, ...]:
        """CLAP, Flan-T5, the projection and GPT-2."""
        return tuple(getattr(self.pipeline, name) for name in _MOVABLE[0])

    def make_room(self) -> bool:
        """Move the next group of parts to the CPU, where they go on working, slower. False if none is left."""
        if not self._movable:
            return False
        names = self._movable.pop(0)
        log.warning("the device is too small for the whole model: %s now run on the CPU", ", ".join(names))
        for name in names:
            getattr(self.pipeline, name).to("cpu")
        return True

    @contextmanager
    def text_models_in_full_precision(self) -> Iterator[None]:
        """The text models in float32 for as long as this is open."""
        torch = import_torch()
        own = [model.dtype for model in self.text_models]
        try:
            for model in self.text_models:
                model.to(torch.float32)
            yield
        finally:
            for model, dtype in zip(self.text_models, own, strict=True):
                model.to(dtype)

    def _try_to_place(self) -> bool:
        """Put all parts that have not moved away on the device; False if more must move away first."""
        on_cpu = {name for group in _MOVABLE if group not in self._movable for name in group}
        try:
            for name in ("unet", *(name for group in _MOVABLE for name in group)):
                getattr(self.pipeline, name).to("cpu" if name in on_cpu else self.device)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            let_go(error)
            if not self.make_room():
                raise
            return False
        return True


def load_checkpoint(folder: Path, device: Any, dtype: Any, step: Callable[[int], None]) -> Checkpoint:
    """Load an AudioLDM2 pipeline from a local folder. Never asks the network.

    Args:
        folder: of the pipeline.
        device: a torch device.
        dtype: of the UNet and the text models; VAE and vocoder are always float32.
        step: told 1 and 2 between the `NUM_LOADING_STEPS` pieces; may raise to give up.

    Raises:
        ModelMissingError: if it is not a model of AudioLDM2's frame length and sample rate.
        Exception: what the libraries raise for damaged files or a device without memory.
    """
    import diffusers
    import transformers

    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()
    # The published checkpoint names `GPT2Model`, which diffusers cannot generate with in today's transformers.
    language_model = transformers.GPT2LMHeadModel.from_pretrained(
        folder, subfolder="language_model", dtype=dtype, local_files_only=True
    )
    step(1)
    # Half precision has too few digits for a waveform (8 bits are 50 dB), and the decoders are a small part of the
    # work.
    full = import_torch().float32
    pipeline = diffusers.AudioLDM2Pipeline.from_pretrained(
        folder,
        language_model=language_model,
        dtype={"default": dtype, "vae": full, "vocoder": full},
        local_files_only=True,
    )
    step(2)
    pipeline.set_progress_bar_config(disable=True)
    vocoder = pipeline.vocoder.config
    shape = (vocoder.sampling_rate, math.prod(vocoder.upsample_rates), pipeline.vae_scale_factor)
    if shape != (MODEL_RATE_HZ, SAMPLES_PER_FRAME, FRAMES_PER_LATENT):
        raise ModelMissingError("This model's sample rate or frame length is not AudioLDM2's; choose another one.")
    return Checkpoint(pipeline, device)
