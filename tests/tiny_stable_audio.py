"""A complete Stable Audio checkpoint with tiny random weights, built in code.

It has every part of the published one (T5, projection, transformer, autoencoder, sampler, tokenizer), the same window
(1024 latent frames of 2048 samples at 44.1 kHz, stereo) and the same names in its `model_index.json`. It proves that
the code is right; what it makes is noise.
"""

from __future__ import annotations

import string
import warnings
from pathlib import Path
from typing import Any

_LATENT_CHANNELS = 8
_TEXT_DIM = 16
_MAX_TOKENS = 48


def build(path: Path) -> None:
    """Write the checkpoint, always with the same weights.

    Args:
        path: the folder to write, made if it does not exist.
    """
    import torch
    from diffusers import CosineDPMSolverMultistepScheduler, StableAudioPipeline

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(20240605)
        pipeline = StableAudioPipeline(
            vae=_vae(),
            text_encoder=_t5(),
            projection_model=_projection(),
            tokenizer=_tokenizer(),
            transformer=_transformer(),
            scheduler=CosineDPMSolverMultistepScheduler(sigma_min=0.3, sigma_max=500, solver_order=2),
        )
    pipeline.save_pretrained(path)
    # As the published checkpoint names it.
    index = path / "model_index.json"
    index.write_text(index.read_text(encoding="utf-8").replace('"T5Tokenizer"', '"T5TokenizerFast"'), encoding="utf-8")


def _transformer() -> Any:
    from diffusers import StableAudioDiTModel

    return StableAudioDiTModel(
        sample_size=1024,
        in_channels=_LATENT_CHANNELS,
        out_channels=_LATENT_CHANNELS,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        num_key_value_attention_heads=1,  # fewer than heads, as in the published one
        cross_attention_dim=_TEXT_DIM,
        cross_attention_input_dim=_TEXT_DIM,
        global_states_input_dim=2 * _TEXT_DIM,
        time_proj_dim=16,
    ).eval()


def _vae() -> Any:
    from diffusers import AutoencoderOobleck

    with warnings.catch_warnings():
        # diffusers' autoencoder uses what torch deprecates.
        warnings.filterwarnings("ignore", "`torch.nn.utils.weight_norm` is deprecated", FutureWarning)
        vae = AutoencoderOobleck(
            encoder_hidden_size=2 * _LATENT_CHANNELS,
            downsampling_ratios=[2, 4, 4, 8, 8],
            channel_multiples=[1, 1, 1, 1, 1],
            decoder_channels=2,
            decoder_input_channels=_LATENT_CHANNELS,
            audio_channels=2,
            sampling_rate=44_100,
        ).eval()
    _make_audible(vae.decoder)
    return vae


def _make_audible(decoder: Any) -> None:
    """Give the decoder weights that carry the latents to a noise of ordinary loudness; torch's own would lose them."""
    import torch

    with torch.no_grad():
        for name, module in decoder.named_modules():
            if isinstance(module, torch.nn.Conv1d | torch.nn.ConvTranspose1d):
                # Norms that keep the level from layer to layer; what is added to what is there already is less.
                transposed = isinstance(module, torch.nn.ConvTranspose1d)
                added = "res_unit" in name and name.endswith("conv2")
                module.weight_g.fill_((module.kernel_size[0] / 2) ** 0.5 if transposed else 0.3 if added else 1.0)
                if module.bias is not None:
                    module.bias.zero_()
        last = decoder.conv2
        last.weight_v -= last.weight_v.mean(dim=2, keepdim=True)  # no direct current
        last.weight_g.fill_(0.1)


def _t5() -> Any:
    from transformers import T5Config, T5EncoderModel

    return T5EncoderModel(
        T5Config(vocab_size=128, d_model=_TEXT_DIM, d_ff=32, d_kv=8, num_heads=2, num_layers=1)
    ).eval()


def _projection() -> Any:
    from diffusers.pipelines.stable_audio import StableAudioProjectionModel

    return StableAudioProjectionModel(
        text_encoder_dim=_TEXT_DIM, conditioning_dim=_TEXT_DIM, min_value=0, max_value=512
    ).eval()


def _tokenizer() -> Any:
    from transformers import T5Tokenizer

    letters = [(letter, -3.0) for letter in string.ascii_letters + string.digits + string.punctuation]
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -2.0)]
    return T5Tokenizer(vocab=special + letters, extra_ids=0, model_max_length=_MAX_TOKENS)
