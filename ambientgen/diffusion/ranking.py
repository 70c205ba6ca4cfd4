"""How well a clip fits its prompt, by the checkpoint's own CLAP (Wu et al. 2023, "LAION-CLAP").

diffusers ranks only within one call, and given several prompts it mixes their clips. Here every take is judged alone,
against its own prompt: nothing can leak, and takes made at different times can be compared.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ambientgen.audio.clip import Clip
from ambientgen.audio.resample import resample
from ambientgen.diffusion.conditioning import clap_tokens
from ambientgen.diffusion.interrupts import interruptible


def similarity(pipeline: Any, clip: Clip, prompt: str, check: Callable[[], None] = lambda: None) -> float:
    """Cosine similarity of a clip and a prompt in CLAP's space, -1 to 1; higher is better.

    Args:
        pipeline: a loaded `AudioLDM2Pipeline`.
        clip: one channel; CLAP hears its first 10 s.
        prompt: what it should sound like.
        check: called between the model's layers; may raise to give up.
    """
    import torch

    model, extractor = pipeline.text_encoder, pipeline.feature_extractor
    heard = resample(clip, extractor.sampling_rate).samples[0]
    # A longer clip would be cut at a random place.
    heard = heard[: extractor.nb_max_samples]
    features = extractor([heard], return_tensors="pt", sampling_rate=extractor.sampling_rate)
    inputs = features.input_features.to(model.device, model.dtype)
    with interruptible((model,), check):
        tokens = clap_tokens(pipeline, [prompt])
        answer = model(
            input_ids=tokens.input_ids,
            attention_mask=tokens.attention_mask,
            input_features=inputs,
            is_longer=features.get("is_longer"),
        )
    return float(torch.nn.functional.cosine_similarity(answer.text_embeds.float(), answer.audio_embeds.float())[0])
