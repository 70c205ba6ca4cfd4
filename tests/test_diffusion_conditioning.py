"""Conditioning: what diffusers computes of a prompt, without the text models where it is remembered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from diffusion_world import MODELS, PROMPT, Parts, counted_calls, difference, load_parts, load_reference, traces_left

from ambientgen.diffusion.conditioning import Conditioner, Conditioning, clap_tokens

LONG = "a long walk through the woods in the rain, with thunder far away and a brook close by, " * 4


@pytest.fixture(scope="module")
def parts(tiny_model_path: Path) -> Parts:
    """The model as the engine loads it."""
    return load_parts(tiny_model_path)


@pytest.fixture(scope="module")
def reference(tiny_model_path: Path) -> Any:
    """The pipeline of diffusers."""
    return load_reference(tiny_model_path)


@pytest.fixture
def conditioner(parts: Parts) -> Conditioner:
    """One that remembers nothing yet."""
    return Conditioner(parts.pipeline, "cpu")


def tensors(conditioning: Conditioning) -> tuple[Any, Any, Any]:
    """In the order of `encode_prompt`."""
    return conditioning.text, conditioning.mask, conditioning.generated


def equal(first: Conditioning, second: Conditioning) -> bool:
    """Bit by bit."""
    import torch

    return all(torch.equal(a, b) for a, b in zip(tensors(first), tensors(second), strict=True))


@pytest.mark.parametrize("negative_prompt", [None, "", "music", "low quality, average quality, distorted"])
@pytest.mark.parametrize("prompt", ["", "fire", PROMPT, "rain on a roof, sixteen tokens and more", LONG])
def test_it_is_what_diffusers_encodes(
    conditioner: Conditioner, reference: Any, prompt: str, negative_prompt: str | None
) -> None:
    """All three tensors equal `encode_prompt`'s, with and without guidance, also where the prompt is far too long."""
    made = conditioner.encode(prompt, negative_prompt)
    expected = reference.encode_prompt(prompt, "cpu", 1, negative_prompt is not None, negative_prompt=negative_prompt)
    assert made.guided == (negative_prompt is not None)
    for tensor, theirs in zip(tensors(made), expected, strict=True):
        assert tensor.dtype == theirs.dtype
        assert difference(tensor, theirs) <= 1e-6


@pytest.mark.parametrize("num_words", [1, 2, 5, 40])
def test_clap_needs_no_full_padding(parts: Parts, reference: Any, num_words: int) -> None:
    """Padded to a multiple of 16 tokens in place of all there are, CLAP's vectors are the same."""
    texts = ["rain " * num_words, "no music"]
    short = clap_tokens(parts.pipeline, texts)
    full = reference.tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt")
    most = reference.tokenizer.model_max_length
    assert full.input_ids.shape[1] == most
    assert short.input_ids.shape[1] == min(-(-(5 * num_words + 2) // 16) * 16, most)
    vectors = [
        getattr(features, "pooler_output", features)
        for features in (
            parts.pipeline.text_encoder.get_text_features(short.input_ids, attention_mask=short.attention_mask),
            reference.text_encoder.get_text_features(full.input_ids, attention_mask=full.attention_mask),
        )
    ]
    assert difference(*vectors) <= 1e-6


def test_a_repeated_prompt_calls_no_text_model(parts: Parts, conditioner: Conditioner) -> None:
    """The first time each text model is called as often as it must be, the second time none is, and check neither."""
    pipeline = parts.pipeline
    texts = (pipeline.text_encoder.text_model, pipeline.text_encoder_2, pipeline.language_model.transformer)
    assert not conditioner.knows(PROMPT, "music")
    with counted_calls(*texts) as calls:
        first = conditioner.encode(PROMPT, "music")
    num_calls = [sum(call is model for call in calls) for model in texts]
    assert num_calls == [1, 1, pipeline.language_model.config.max_new_tokens]
    assert conditioner.knows(PROMPT, "music")

    with counted_calls() as calls:
        again = conditioner.encode(PROMPT, "music", lambda: pytest.fail("no work, nothing to give up"))
    assert calls == []
    assert equal(again, first)


def test_what_is_remembered_belongs_to_the_pair(conditioner: Conditioner) -> None:
    """Another negative prompt, and none, are other entries; each equals what a fresh conditioner computes."""
    pairs = [(PROMPT, "music"), (PROMPT, ""), (PROMPT, None), ("music", PROMPT)]
    first = {}
    for pair in pairs:
        assert not conditioner.knows(*pair)
        first[pair] = conditioner.encode(*pair)
    assert conditioner.num_bytes == sum(conditioning.num_bytes for conditioning in first.values())
    for pair in pairs:
        assert equal(conditioner.encode(*pair), first[pair])
        assert not any(equal(first[pair], first[other]) for other in pairs if other != pair)


def test_memory_is_bounded_in_bytes_and_the_least_recently_used_goes_first(parts: Parts) -> None:
    """A long walk through prompts of different length, against a model of what should be known after each."""
    import random

    pairs = [("rain " * number, "music") for number in range(1, 8)] + [("rain", None), (LONG, "")]
    size_of = {pair: parts.conditioner.encode(*pair).num_bytes for pair in pairs}
    bound = 3 * max(size_of.values()) + 8
    conditioner = Conditioner(parts.pipeline, "cpu", cache_bytes=bound)
    recent: list[tuple[str, str | None]] = []
    walk = random.Random(3)
    num_forgotten = 0
    for _ in range(60):
        pair = walk.choice(pairs)
        conditioner.encode(*pair)
        recent = [*(other for other in recent if other != pair), pair]
        while sum(size_of[other] for other in recent) > bound:
            num_forgotten += 1
            recent.pop(0)
        assert {other for other in pairs if conditioner.knows(*other)} == set(recent)
        assert conditioner.num_bytes == sum(size_of[other] for other in recent) <= bound
    assert num_forgotten > 5


def test_what_is_larger_than_all_the_memory_is_served_and_not_kept(parts: Parts, conditioner: Conditioner) -> None:
    """It does not drive out the rest; a bound of nothing works too."""
    small, large = conditioner.encode("fire", None), conditioner.encode(LONG, "music")
    tight = Conditioner(parts.pipeline, "cpu", cache_bytes=large.num_bytes - 1)
    tight.encode("fire", None)
    assert equal(tight.encode(LONG, "music"), large)
    assert not tight.knows(LONG, "music")
    assert tight.knows("fire", None)
    assert tight.num_bytes == small.num_bytes
    none = Conditioner(parts.pipeline, "cpu", cache_bytes=0)
    assert equal(none.encode("fire", None), small)
    assert none.num_bytes == 0


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.6, 0.99])
def test_giving_up_in_the_middle_stops_at_once_and_leaves_no_trace(
    parts: Parts, conditioner: Conditioner, share: float
) -> None:
    """No layer runs after `check` raised, nothing half done is remembered, no hook stays, the next answer is equal."""
    undisturbed = parts.conditioner.encode(PROMPT, "music")
    asked = 0

    def count() -> None:
        nonlocal asked
        asked += 1

    Conditioner(parts.pipeline, "cpu").encode(PROMPT, "music", count)
    assert asked > 100
    allowed = int(asked * share)

    class GivenUpError(Exception):
        pass

    def give_up() -> None:
        nonlocal allowed
        if not allowed:
            raise GivenUpError
        allowed -= 1

    with counted_calls() as before, pytest.raises(GivenUpError):
        conditioner.encode(PROMPT, "music", give_up)
    layers = [module for module in before if not any(module.children())]
    assert len(layers) == int(asked * share) + 1  # the last one was called and did not run
    assert not conditioner.knows(PROMPT, "music")
    assert conditioner.num_bytes == 0
    assert traces_left(parts.pipeline) == []
    assert equal(conditioner.encode(PROMPT, "music"), undisturbed)
    assert traces_left(parts.pipeline) == []


def test_every_text_model_can_be_given_up(parts: Parts, conditioner: Conditioner) -> None:
    """`check` is asked before each layer of all four models, and of no other."""
    layers: set[Any] = set()
    with counted_calls() as calls:
        conditioner.encode(PROMPT, "music", lambda: layers.add(calls[-1]))
    used = {name for name in MODELS if layers & set(getattr(parts.pipeline, name).modules())}
    assert used == {"text_encoder", "text_encoder_2", "projection_model", "language_model"}
    assert layers == {module for module in calls if not any(module.children())}
