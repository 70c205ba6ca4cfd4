"""How well a clip fits its prompt, and what leaked into it, by the checkpoint's own CLAP (Wu et al. 2023, LAION-CLAP).

diffusers ranks only within one call, and given several prompts it mixes their clips. Here every take is judged alone,
against its own prompt: no clip can be taken for another, and takes made at different times can be compared.
"""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from ambientgen.audio.clip import Clip, Samples
from ambientgen.audio.resample import resample
from ambientgen.diffusion.conditioning import clap_tokens
from ambientgen.diffusion.interrupts import interruptible
from ambientgen.vocabulary import stem, vocabulary, words_of

#: What a negative prompt keeps out and CLAP can hear: by its name there, and in the words of the captions CLAP knows.
CONCEPTS = {"music": "music", "voices": "a person speaking"}
#: A clip that is nearer to a concept than to its own prompt by more than this has the concept in it.
LEAK_MARGIN = 0.15
#: A text's vector has 512 numbers.
_MAX_TEXTS = 256


class _Memory:
    """What a CLAP made of the latest clip and the latest texts: vectors in float32 on the CPU, wherever it is."""

    def __init__(self) -> None:
        self.samples: Callable[[], Samples | None] = lambda: None
        self.heard: Any = None
        self.read: OrderedDict[str, Any] = OrderedDict()


_memories: weakref.WeakKeyDictionary[Any, _Memory] = weakref.WeakKeyDictionary()


def similarity(pipeline: Any, clip: Clip, text: str, check: Callable[[], None] = lambda: None) -> float:
    """Cosine similarity of a clip and a text in CLAP's space, -1 to 1; higher is better.

    The latest clip and texts are remembered: another text for the same clip costs no pass over the sound, and a text
    that was asked for before none over the words.

    Args:
        pipeline: a loaded `AudioLDM2Pipeline`.
        clip: one channel; CLAP hears its first 10 s.
        text: what it should sound like.
        check: called between the model's layers; may raise to give up.
    """
    import torch

    memory = _memories.setdefault(pipeline.text_encoder, _Memory())
    if memory.samples() is not clip.samples:
        memory.heard = _hear(pipeline, clip, check)
        memory.samples = weakref.ref(clip.samples)
    if text not in memory.read:
        memory.read[text] = _read(pipeline, text, check)
        while len(memory.read) > _MAX_TEXTS:
            memory.read.popitem(last=False)
    memory.read.move_to_end(text)
    return float(torch.nn.functional.cosine_similarity(memory.read[text], memory.heard, dim=0))


def leaks(prompt: str, negative_prompt: str, similarity_to: Callable[[str], float]) -> tuple[str, ...]:
    """What a clip has in it although its negative prompt names it: names in `CONCEPTS`.

    A concept that the prompt asks for is no leak, and one that the negative prompt does not name is not looked for.

    Args:
        prompt: of the clip.
        negative_prompt: of the clip.
        similarity_to: of the clip to a text, as `similarity` has it.
    """
    unwanted = [name for name in CONCEPTS if _names(negative_prompt, name) and not _names(prompt, name)]
    if not unwanted:
        return ()
    limit = similarity_to(prompt) + LEAK_MARGIN
    return tuple(name for name in unwanted if similarity_to(CONCEPTS[name]) > limit)


def _names(text: str, concept: str) -> bool:
    """True if a text asks for a concept, by any of the words the vocabulary has for it."""
    words = f" {' '.join(map(stem, words_of(text)))} "
    return any(
        f" {' '.join(map(stem, phrase.split()))} " in words for phrase in vocabulary().wording.asked_for[concept]
    )


def _hear(pipeline: Any, clip: Clip, check: Callable[[], None]) -> Any:
    model, extractor = pipeline.text_encoder, pipeline.feature_extractor
    heard = resample(clip, extractor.sampling_rate).samples[0]
    # A longer clip would be cut at a random place.
    heard = heard[: extractor.nb_max_samples]
    features = extractor([heard], return_tensors="pt", sampling_rate=extractor.sampling_rate)
    inputs = features.input_features.to(model.device, model.dtype)
    with interruptible((model,), check):
        return _vector(model.get_audio_features(inputs, is_longer=features.get("is_longer")))


def _read(pipeline: Any, text: str, check: Callable[[], None]) -> Any:
    model = pipeline.text_encoder
    tokens = clap_tokens(pipeline, [text])
    with interruptible((model,), check):
        return _vector(model.get_text_features(tokens.input_ids, attention_mask=tokens.attention_mask))


def _vector(features: Any) -> Any:
    # transformers 5 wraps the vector.
    return getattr(features, "pooler_output", features)[0].detach().float().cpu()
