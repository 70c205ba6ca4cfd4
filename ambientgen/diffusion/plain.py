"""diffusers' own pipeline call: what our loop is tested against, and the fallback an operator can choose."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ambientgen.diffusion.decoding import FRAMES_PER_LATENT, SAMPLES_PER_FRAME
from ambientgen.diffusion.loaded import Settings


def generate(
    pipeline: Any,
    *,
    settings: Settings,
    scheduler: Any,
    num_frames: int,
    on_step: Callable[[int], None] = lambda _step: None,
) -> Any:
    """One call of an `AudioLDM2Pipeline`.

    Args:
        pipeline: loaded.
        settings: what to sample.
        scheduler: for this call alone; the pipeline's own is put back.
        num_frames: latent frames to make.
        on_step: told the number of finished steps; may raise to give up.

    Returns:
        float32 array, shape (1, num_frames * 640), at 16 kHz.
    """
    import torch

    mel_frames = num_frames * FRAMES_PER_LATENT
    own_scheduler, pipeline.scheduler = pipeline.scheduler, scheduler
    try:
        latents = pipeline(
            settings.prompt,
            # Half a frame more than meant: the pipeline rounds down, and a float may lie just below its frame.
            audio_length_in_s=(mel_frames + 0.5) * SAMPLES_PER_FRAME / pipeline.vocoder.config.sampling_rate,
            num_inference_steps=settings.num_inference_steps,
            guidance_scale=settings.guidance_scale,
            negative_prompt=settings.negative_prompt,
            generator=torch.Generator("cpu").manual_seed(settings.seed),
            callback=lambda index, _timestep, _latents: on_step(index + 1),
            callback_steps=1,
            output_type="latent",
        ).audios
    finally:
        pipeline.scheduler = own_scheduler
    # The pipeline would decode in the latents' precision, which may be half; the VAE and the vocoder have their own.
    mel = pipeline.vae.decode(1 / pipeline.vae.config.scaling_factor * latents.to(pipeline.vae.dtype)).sample
    waveform = pipeline.mel_spectrogram_to_waveform(mel.to(pipeline.vocoder.dtype))
    return waveform[:, : mel_frames * SAMPLES_PER_FRAME].numpy()
