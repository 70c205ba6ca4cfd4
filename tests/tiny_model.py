"""A complete AudioLDM2 checkpoint with tiny random weights, built in code.

It has every part of the published one (CLAP, Flan-T5, GPT-2, projection, UNet, VAE, vocoder, both tokenizers), the
same frame length (a mel frame is 0.01 s, 160 samples at 16 kHz) and the same `GPT2Model` in its `model_index.json`.
It proves that the code is right; what it makes is noise.
"""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

_NUM_MEL_BINS = 16
_LATENT_CHANNELS = 4
_TEXT_DIM = 16
_T5_DIM = 24
_MAX_TOKENS = 48


def build(path: Path) -> None:
    """Write the checkpoint, always with the same weights.

    Args:
        path: the folder to write, made if it does not exist.
    """
    import torch
    from diffusers import AudioLDM2Pipeline, DDIMScheduler

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(20240229)
        pipeline = AudioLDM2Pipeline(
            vae=_vae(),
            text_encoder=_clap(),
            text_encoder_2=_t5(),
            projection_model=_projection(),
            language_model=_gpt2(),
            tokenizer=_clap_tokenizer(),
            tokenizer_2=_t5_tokenizer(),
            feature_extractor=_feature_extractor(),
            unet=_unet(),
            scheduler=DDIMScheduler(
                beta_start=0.0015,
                beta_end=0.0195,
                beta_schedule="scaled_linear",
                clip_sample=False,
                set_alpha_to_one=False,
                steps_offset=1,
            ),
            vocoder=_vocoder(),
        )
    pipeline.save_pretrained(path)


def _unet() -> Any:
    from diffusers import AudioLDM2UNet2DConditionModel

    return AudioLDM2UNet2DConditionModel(
        sample_size=256,
        in_channels=_LATENT_CHANNELS,
        out_channels=_LATENT_CHANNELS,
        block_out_channels=(8, 16),
        norm_num_groups=4,
        layers_per_block=1,
        attention_head_dim=2,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=([None, _TEXT_DIM, _T5_DIM], [None, _TEXT_DIM, _T5_DIM]),
    ).eval()


def _vae() -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        in_channels=1,
        out_channels=1,
        block_out_channels=(4, 8, 8),  # three blocks: a latent frame is four mel frames
        norm_num_groups=4,
        layers_per_block=1,
        latent_channels=_LATENT_CHANNELS,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        scaling_factor=0.4110932946205139,
    ).eval()


def _clap() -> Any:
    from transformers import ClapAudioConfig, ClapConfig, ClapModel, ClapTextConfig

    text = ClapTextConfig(
        vocab_size=300,
        hidden_size=_TEXT_DIM,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=_MAX_TOKENS + 2,
        projection_dim=_TEXT_DIM,
    )
    audio = ClapAudioConfig(
        # The published geometry: 10 s of mel frames just fit into the folded picture.
        spec_size=256,
        window_size=8,
        num_mel_bins=64,
        patch_size=4,
        patch_stride=[4, 4],
        patch_embeds_hidden_size=8,
        hidden_size=16,
        depths=[1, 1],
        num_attention_heads=[2, 2],
        num_hidden_layers=2,
        projection_dim=_TEXT_DIM,
    )
    return ClapModel(ClapConfig(text_config=text, audio_config=audio, projection_dim=_TEXT_DIM)).eval()


def _t5() -> Any:
    from transformers import T5Config, T5EncoderModel

    return T5EncoderModel(T5Config(vocab_size=128, d_model=_T5_DIM, d_ff=32, d_kv=8, num_heads=2, num_layers=1)).eval()


def _gpt2() -> Any:
    from transformers import GPT2Config, GPT2Model

    config = GPT2Config(
        n_embd=_TEXT_DIM,
        n_head=2,
        n_layer=1,
        vocab_size=50,
        n_positions=128,
        bos_token_id=0,
        eos_token_id=0,
        max_new_tokens=8,
    )
    # Without the language-model head, as the published checkpoint names it.
    return GPT2Model(config).eval()


def _projection() -> Any:
    from diffusers import AudioLDM2ProjectionModel

    # The misspelled name is the library's.
    return AudioLDM2ProjectionModel(
        text_encoder_dim=_TEXT_DIM, text_encoder_1_dim=_T5_DIM, langauge_model_dim=_TEXT_DIM
    ).eval()


def _vocoder() -> Any:
    from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

    vocoder = SpeechT5HifiGan(
        SpeechT5HifiGanConfig(
            model_in_dim=_NUM_MEL_BINS,
            sampling_rate=16000,
            upsample_initial_channel=64,
            upsample_rates=[5, 4, 2, 2, 2],  # 160 samples a mel frame
            upsample_kernel_sizes=[16, 16, 8, 4, 4],  # like the published one: 32 samples too many at the end
            resblock_kernel_sizes=[3],
            resblock_dilation_sizes=[[1, 3]],
            normalize_before=False,
        )
    ).eval()
    _make_audible(vocoder)
    return vocoder


def _make_audible(vocoder: Any) -> None:
    """Give the vocoder weights that make a noise of ordinary loudness; the library's own would make silence."""
    import torch

    with torch.no_grad():
        for module in vocoder.modules():
            if isinstance(module, torch.nn.Conv1d):
                fan_in = module.in_channels * module.kernel_size[0]
                torch.nn.init.normal_(module.weight, std=fan_in**-0.5)
            elif isinstance(module, torch.nn.ConvTranspose1d):
                fan_in = module.in_channels * module.kernel_size[0] / module.stride[0]
                torch.nn.init.normal_(module.weight, std=fan_in**-0.5)
        last = vocoder.conv_post.weight
        last -= last.mean(dim=2, keepdim=True)  # no direct current
        last *= 2.0


def _clap_tokenizer() -> Any:
    from tokenizers import pre_tokenizers
    from transformers import RobertaTokenizer

    symbols = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    vocabulary = {symbol: index for index, symbol in enumerate(symbols)}
    return RobertaTokenizer(vocab=vocabulary, merges=[], model_max_length=_MAX_TOKENS)


def _t5_tokenizer() -> Any:
    from transformers import T5Tokenizer

    letters = [(letter, -3.0) for letter in string.ascii_letters + string.digits + string.punctuation]
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -2.0)]
    return T5Tokenizer(vocab=special + letters, extra_ids=0, model_max_length=_MAX_TOKENS)


def _feature_extractor() -> Any:
    from transformers import ClapFeatureExtractor

    return ClapFeatureExtractor(feature_size=64, sampling_rate=48000, truncation="rand_trunc")
