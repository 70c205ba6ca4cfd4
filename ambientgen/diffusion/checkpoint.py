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

    Args:
        pipeline: diffusers' `AudioLDM2Pipeline`, loaded.
        device: where all of it goes, or as much as fits.
        movable: False: all of it or nothing.

    Attributes:
        pipeline: as given.
        device: where the UNet is.
    """

    def __init__(self, pipeline: Any, device: Any, *, movable: bool = True) -> None:
        self.pipeline = pipeline
        self.device = device
        self._movable = list(_MOVABLE) if movable and device.type != "cpu" else []
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
        log.warning("the device has too little memory: until the next start %s run on the CPU", ", ".join(names))
        for name in names:
            getattr(self.pipeline, name).to("cpu")
        return True

    @contextmanager
    def text_models_in_full_precision(self) -> Iterator[None]:
        """The text models in float32 for as long as this is open."""
        torch = import_torch()
        # Each tensor by itself: transformers keeps some of Flan-T5 in float32 where the rest is float16.
        own = [tensor.dtype for tensor in self._text_tensors()]
        try:
            for model in self.text_models:
                model.to(torch.float32)
            yield
        finally:
            # Asked for anew: a model that changes its type keeps its parameters, but not its buffers.
            for tensor, dtype in zip(self._text_tensors(), own, strict=True):
                tensor.data = tensor.data.to(dtype)

    def _text_tensors(self) -> list[Any]:
        return [tensor for model in self.text_models for tensor in (*model.parameters(), *model.buffers())]

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


def load_checkpoint(
    folder: Path, device: Any, dtype: Any, step: Callable[[int], None], *, movable: bool = True
) -> Checkpoint:
    """Load an AudioLDM2 pipeline from a local folder. Never asks the network.

    Args:
        folder: of the pipeline.
        device: a torch device.
        dtype: of the UNet and the text models, and of the VAE if it is not float16; the vocoder is always float32.
        step: told 1 and 2 between the `NUM_LOADING_STEPS` pieces; may raise to give up.
        movable: False: all of it on the device, or nothing.

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
    # A waveform needs more digits than half precision has (8 bits are 50 dB). A mel spectrogram does not: its rounding
    # is below what the UNet's own has left in it. But float16 has too small a range for a decoder.
    torch = import_torch()
    full = torch.float32
    vae_dtype = full if dtype == torch.float16 else dtype
    pipeline = diffusers.AudioLDM2Pipeline.from_pretrained(
        folder,
        language_model=language_model,
        dtype={"default": dtype, "vae": vae_dtype, "vocoder": full},
        local_files_only=True,
    )
    step(2)
    pipeline.set_progress_bar_config(disable=True)
    if device.type == "cpu" and vae_dtype == torch.bfloat16:
        pipeline.vae.to(memory_format=torch.channels_last)  # the order of numbers that a CPU likes best
    vocoder = pipeline.vocoder.config
    shape = (vocoder.sampling_rate, math.prod(vocoder.upsample_rates), pipeline.vae_scale_factor)
    if shape != (MODEL_RATE_HZ, SAMPLES_PER_FRAME, FRAMES_PER_LATENT):
        raise ModelMissingError("This model's sample rate or frame length is not AudioLDM2's; choose another one.")
    return Checkpoint(pipeline, device, movable=movable)
