"""What the UNet reads of a prompt: computed by the checkpoint's text models, and kept.

The same computation as `AudioLDM2Pipeline.encode_prompt` in diffusers 0.42, with three savings that change nothing:
prompt and negative prompt go through the text models side by side; CLAP, which diffusers pads to 512 tokens, is padded
to the next multiple of 16; and GPT-2 runs without its vocabulary.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ambientgen.diffusion.interrupts import interruptible

#: CLAP's result is bit-equal from here on up to full padding; without padding it is a little off.
_CLAP_TOKENS = 16
#: About 600 pairs of prompts of usual length in half precision.
CACHE_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Conditioning:
    """A prompt as the UNet reads it. Rows: negative prompt, then prompt; the prompt alone where there is no guidance.

    Attributes:
        generated: GPT-2's sequence, shape (num_rows, 8, 768 in the base model).
        text: Flan-T5's sequence, shape (num_rows, num_tokens, 1024).
        mask: 1 for each of its tokens that counts, shape (num_rows, num_tokens).
    """

    generated: Any
    text: Any
    mask: Any

    @property
    def guided(self) -> bool:
        """True if there is a negative row."""
        return len(self.generated) == 2

    @property
    def num_bytes(self) -> int:
        """Memory of the three tensors."""
        return sum(tensor.element_size() * tensor.nelement() for tensor in (self.generated, self.text, self.mask))

    def to(self, device: Any) -> Conditioning:
        """The same on another device."""
        return Conditioning(self.generated.to(device), self.text.to(device), self.mask.to(device))


class Conditioner:
    """Turns prompts into conditioning and remembers the latest ones.

    Args:
        pipeline: a loaded `AudioLDM2Pipeline`; its text models may be on another device than its UNet.
        device: where the UNet is.
        cache_bytes: how much to remember; the least recently used goes first.
    """

    def __init__(self, pipeline: Any, device: Any, cache_bytes: int = CACHE_BYTES) -> None:
        self._pipeline = pipeline
        self._device = device
        self._cache_bytes = cache_bytes
        self._cache: OrderedDict[tuple[str, str | None], Conditioning] = OrderedDict()
        self._num_bytes = 0

    @property
    def num_bytes(self) -> int:
        """Memory of what is remembered."""
        return self._num_bytes

    def knows(self, prompt: str, negative_prompt: str | None) -> bool:
        """True if `encode` has the answer already."""
        return (prompt, negative_prompt) in self._cache

    def encode(
        self, prompt: str, negative_prompt: str | None, check: Callable[[], None] = lambda: None
    ) -> Conditioning:
        """The conditioning of a prompt; a remembered one needs no model at all.

        Args:
            prompt: what to make.
            negative_prompt: what to avoid; None: no guidance, so no negative row.
            check: called between the models' layers; may raise to give up.
        """
        key = (prompt, negative_prompt)
        known = self._cache.get(key)
        if known is not None:
            self._cache.move_to_end(key)
            return known
        conditioning = self._compute(prompt, negative_prompt, check).to(self._device)
        self._remember(key, conditioning)
        return conditioning

    def _remember(self, key: tuple[str, str | None], conditioning: Conditioning) -> None:
        if conditioning.num_bytes > self._cache_bytes:
            return
        self._cache[key] = conditioning
        self._num_bytes += conditioning.num_bytes
        while self._num_bytes > self._cache_bytes:
            _, oldest = self._cache.popitem(last=False)
            self._num_bytes -= oldest.num_bytes

    def _compute(self, prompt: str, negative_prompt: str | None, check: Callable[[], None]) -> Conditioning:
        pipeline = self._pipeline
        texts = [prompt] if negative_prompt is None else [negative_prompt, prompt]
        models = (pipeline.text_encoder, pipeline.text_encoder_2, pipeline.projection_model, pipeline.language_model)
        with interruptible(models, check):
            clap = self._clap(texts)
            text, mask = self._t5(texts)
            projected = pipeline.projection_model(
                hidden_states=clap,
                hidden_states_1=text,
                attention_mask=mask.new_ones(clap.shape[:2]),
                attention_mask_1=mask,
            )
            generated = self._gpt2(projected.hidden_states, projected.attention_mask)
        return Conditioning(generated, text, mask)

    def _clap(self, texts: list[str]) -> Any:
        """One vector per text, shape (num_texts, 1, projection size)."""
        tokens = clap_tokens(self._pipeline, texts)
        features = self._pipeline.text_encoder.get_text_features(tokens.input_ids, attention_mask=tokens.attention_mask)
        # transformers 5 wraps the vector.
        return getattr(features, "pooler_output", features)[:, None, :]

    def _t5(self, texts: list[str]) -> tuple[Any, Any]:
        """Sequence and mask; the negative prompt is cut or padded to the prompt's length, as diffusers does."""
        tokenizer, model = self._pipeline.tokenizer_2, self._pipeline.text_encoder_2
        limit = tokenizer.model_max_length
        num_tokens = len(tokenizer(texts[-1], max_length=limit, truncation=True).input_ids)
        tokens = tokenizer(texts, padding="max_length", max_length=num_tokens, truncation=True, return_tensors="pt").to(
            model.device
        )
        return model(tokens.input_ids, attention_mask=tokens.attention_mask)[0], tokens.attention_mask

    def _gpt2(self, inputs: Any, mask: Any) -> Any:
        """The states GPT-2 generates after the projected text, each from all before it."""
        import torch

        model = self._pipeline.language_model
        num_new = model.config.max_new_tokens
        states, past = [], None
        for _ in range(num_new):
            answer = model.transformer(
                inputs_embeds=inputs, attention_mask=mask, past_key_values=past, use_cache=True, return_dict=True
            )
            past = answer.past_key_values
            inputs = answer.last_hidden_state[:, -1:]
            mask = torch.cat([mask, mask.new_ones((len(mask), 1))], dim=1)
            states.append(inputs)
        return torch.cat(states, dim=1)


def clap_tokens(pipeline: Any, texts: list[str]) -> Any:
    """The texts as CLAP's tokens, on CLAP's device."""
    return pipeline.tokenizer(
        texts,
        padding=True,
        pad_to_multiple_of=_CLAP_TOKENS,
        max_length=pipeline.tokenizer.model_max_length,
        truncation=True,
        return_tensors="pt",
    ).to(pipeline.text_encoder.device)
