"""AudioLDM2's base checkpoint in full size with random weights, built in code.

Its parts have the published shapes (1,118 M parameters), so it costs what the real one costs. It says nothing of sound.
"""

from __future__ import annotations

import re
import string
from pathlib import Path
from typing import Any

from transformers import (
    ClapAudioConfig,
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    ClapTextConfig,
    GPT2Config,
    GPT2Model,
    RobertaTokenizer,
    SpeechT5HifiGan,
    SpeechT5HifiGanConfig,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

#: Words that the real tokenizers know too; here the rest is spelt letter by letter.
_WORDS = re.findall(
    r"\w+",
    "gentle rain on a window with distant thunder crackling fire in stone hearth waves roll onto sandy beach at dusk "
    "crickets and frogs by pond wind through pines high quality recording ambient soundscape music voices low "
    "distorted",
)


def build(folder: Path) -> None:
    """Write the checkpoint (4.5 GB), always with the same weights."""
    import torch
    from diffusers import (
        AudioLDM2Pipeline,
        AudioLDM2ProjectionModel,
        AudioLDM2UNet2DConditionModel,
        AutoencoderKL,
        DDIMScheduler,
    )

    torch.manual_seed(20240229)
    attention = (None, 768, 1024)
    pipeline = AudioLDM2Pipeline(
        vae=AutoencoderKL(
            in_channels=1,
            out_channels=1,
            block_out_channels=(128, 256, 512),
            layers_per_block=2,
            latent_channels=8,
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
            scaling_factor=0.4110932946205139,
        ),
        text_encoder=_clap(),
        text_encoder_2=T5EncoderModel(
            T5Config(
                vocab_size=32128,
                d_model=1024,
                d_ff=2816,
                d_kv=64,
                num_layers=24,
                num_heads=16,
                feed_forward_proj="gated-gelu",
            )
        ),
        projection_model=AudioLDM2ProjectionModel(
            text_encoder_dim=512, text_encoder_1_dim=1024, langauge_model_dim=768
        ),
        language_model=GPT2Model(GPT2Config(max_new_tokens=8)),
        tokenizer=_clap_tokenizer(),
        tokenizer_2=_t5_tokenizer(),
        feature_extractor=ClapFeatureExtractor(feature_size=64, sampling_rate=48_000, truncation="rand_trunc"),
        unet=AudioLDM2UNet2DConditionModel(
            sample_size=256,
            in_channels=8,
            out_channels=8,
            block_out_channels=(128, 256, 384, 640),
            layers_per_block=2,
            attention_head_dim=8,
            down_block_types=("DownBlock2D", *("CrossAttnDownBlock2D",) * 3),
            up_block_types=(*("CrossAttnUpBlock2D",) * 3, "UpBlock2D"),
            cross_attention_dim=[list(attention)] * 4,
        ),
        scheduler=DDIMScheduler(
            beta_start=0.0015,
            beta_end=0.0195,
            beta_schedule="scaled_linear",
            clip_sample=False,
            set_alpha_to_one=False,
            steps_offset=1,
        ),
        vocoder=SpeechT5HifiGan(
            SpeechT5HifiGanConfig(
                model_in_dim=64,
                sampling_rate=16_000,
                upsample_initial_channel=1024,
                upsample_rates=[5, 4, 2, 2, 2],
                upsample_kernel_sizes=[16, 16, 8, 4, 4],
                normalize_before=False,
            )
        ),
    )
    pipeline.save_pretrained(folder)


def _clap() -> Any:
    text = ClapTextConfig(projection_dim=512)  # the library's defaults are the published RoBERTa base
    audio = ClapAudioConfig(
        patch_embeds_hidden_size=128,
        depths=[2, 2, 12, 2],
        num_attention_heads=[4, 8, 16, 32],
        hidden_size=1024,
        num_hidden_layers=4,
        projection_dim=512,
    )
    return ClapModel(ClapConfig(text_config=text, audio_config=audio, projection_dim=512))


def _clap_tokenizer() -> Any:
    from tokenizers import pre_tokenizers

    symbols = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = RobertaTokenizer(vocab={s: i for i, s in enumerate(symbols)}, merges=[], model_max_length=512)
    tokenizer.add_tokens([f" {word}" for word in _WORDS] + _WORDS)
    return tokenizer


def _t5_tokenizer() -> Any:
    pieces = [
        ("<pad>", 0.0),
        ("</s>", 0.0),
        ("<unk>", 0.0),
        *((f"\u2581{word}", -1.0) for word in dict.fromkeys(_WORDS)),
    ]
    pieces += [
        ("\u2581", -2.0),
        *((letter, -3.0) for letter in string.ascii_letters + string.digits + string.punctuation),
    ]
    known = dict(reversed(pieces))
    return T5Tokenizer(vocab=list(reversed(known.items())), extra_ids=0, model_max_length=512)
