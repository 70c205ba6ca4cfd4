"""From a finished latent to samples: VAE (latent to mel spectrogram), then vocoder (mel to waveform).

A line of up to one window is decoded exactly as diffusers does it. A longer one is decoded window by window, because
the VAE's attention costs the square of the length, and faded over in the mel domain. A circle is decoded with its own
ends wrapped around it, so that its last sample leads to its first as any sample leads to the next.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any

from ambientgen.diffusion.interrupts import interruptible
from ambientgen.diffusion.short_convolution import shorten_convolutions
from ambientgen.diffusion.windows import WINDOW_FRAMES, WindowPlan, blend, gather

#: Mel frames in a latent frame.
FRAMES_PER_LATENT = 4
#: Samples in a mel frame, at 16 kHz.
SAMPLES_PER_FRAME = 160
SAMPLES_PER_LATENT = FRAMES_PER_LATENT * SAMPLES_PER_FRAME
#: Mel frames the vocoder takes at once: bounds its memory, whatever the length.
_VOCODER_FRAMES = WINDOW_FRAMES[-1] * FRAMES_PER_LATENT


class Decoder:
    """Decodes latents with a pipeline's VAE and vocoder, in those models' own precision.

    Args:
        pipeline: a loaded `AudioLDM2Pipeline`.
    """

    def __init__(self, pipeline: Any) -> None:
        self._pipeline = pipeline
        self._reach = vocoder_reach_frames(pipeline.vocoder.config)

    def decode(
        self, latents: Any, plan: WindowPlan, num_frames: int, check: Callable[[int], None] = lambda _stage: None
    ) -> Any:
        """The sound of a latent.

        Args:
            latents: shape (1, channels, plan.num_frames, width).
            plan: as it was sampled with.
            num_frames: latent frames wanted: the first ones of a line, all of a circle.
            check: told 0 while the VAE works and 1 while the vocoder does, many times; may raise to give up.

        Returns:
            float32 tensor on the CPU, shape (1, num_frames * `SAMPLES_PER_LATENT`).
        """
        pipeline = self._pipeline
        with interruptible((pipeline.vae.decoder, pipeline.vae.post_quant_conv), lambda: check(0)):
            mel = self._mel(latents, plan)
        wanted = num_frames * FRAMES_PER_LATENT
        with interruptible((pipeline.vocoder,), lambda: check(1)):
            return self._waveform(mel, wanted, circular=plan.circular)

    def _mel(self, latents: Any, plan: WindowPlan) -> Any:
        """Shape (1, 1, mel frames of the whole plan, mel bins)."""
        if plan.num_windows > 1:
            pieces = [self._vae(piece[None]) for piece in gather(latents, plan)]
            import torch

            return blend(torch.cat(pieces), plan.scaled(FRAMES_PER_LATENT))
        if not plan.circular:
            return self._vae(latents)
        # Attention and normalization do not care where a circle begins; with this, nor do the convolutions.
        with _circular_in_time(self._pipeline.vae.decoder):
            return self._vae(latents)

    def _vae(self, latents: Any) -> Any:
        vae = self._pipeline.vae
        return vae.decode(1 / vae.config.scaling_factor * latents.to(vae.device, vae.dtype)).sample.float()

    def _waveform(self, mel: Any, num_frames: int, *, circular: bool) -> Any:
        """The vocoder in pieces that each see as much on either side as it reaches: the same as in one go."""
        import torch

        vocoder = self._pipeline.vocoder
        shorten_convolutions(vocoder)
        num_before = self._reach if circular else 0
        mel = _wrap(mel, num_before) if circular else mel
        mel = mel.to(vocoder.device, vocoder.dtype)
        pieces = []
        for start in range(num_before, num_before + num_frames, _VOCODER_FRAMES):
            end = min(start + _VOCODER_FRAMES, num_before + num_frames)
            seen = max(start - self._reach, 0)
            sound = self._pipeline.mel_spectrogram_to_waveform(mel[:, :, seen : end + self._reach])
            pieces.append(sound[:, (start - seen) * SAMPLES_PER_FRAME : (end - seen) * SAMPLES_PER_FRAME])
        return torch.cat(pieces, dim=1)


def vocoder_reach_frames(config: Any) -> int:
    """How many mel frames to either side a HiFi-GAN's sample depends on, from its kernels (rounded up).

    Args:
        config: a `SpeechT5HifiGanConfig`.
    """
    reach, rate = 3.0, 1.0  # the first convolution has 7 taps
    for stride, kernel in zip(config.upsample_rates, config.upsample_kernel_sizes, strict=True):
        reach += math.ceil(kernel / stride) / rate
        rate *= stride
        blocks = zip(config.resblock_kernel_sizes, config.resblock_dilation_sizes, strict=True)
        # A residual block is pairs of convolutions, the first of each pair dilated.
        reach += (
            max(sum((size - 1) / 2 * (dilation + 1) for dilation in dilations) for size, dilations in blocks) / rate
        )
    return math.ceil(reach + 3 / rate) + 1


@contextmanager
def _circular_in_time(model: Any) -> Iterator[None]:
    """Pad a model's 2-D convolutions with the other end of dimension 2 instead of zeros, while this is open."""
    import torch
    from torch.nn.functional import conv2d, pad

    def forward(conv: Any, values: Any) -> Any:
        in_time, in_pitch = conv.padding
        values = pad(values, (0, 0, in_time, in_time), mode="circular")
        return conv2d(values, conv.weight, conv.bias, conv.stride, (0, in_pitch), conv.dilation, conv.groups)

    convs = [m for m in model.modules() if isinstance(m, torch.nn.Conv2d) and m.padding[0]]
    for conv in convs:
        conv.forward = MethodType(forward, conv)
    try:
        yield
    finally:
        for conv in convs:
            del conv.forward


def _wrap(tensor: Any, num_frames: int) -> Any:
    """A circle along dimension 2 with that much of its other end on either side, however short it is."""
    import torch

    lap = tensor.shape[2]
    return tensor.index_select(2, torch.arange(-num_frames, lap + num_frames, device=tensor.device) % lap)
