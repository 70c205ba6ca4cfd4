"""Ranking and leaks: what the model's own CLAP thinks of a clip, each clip judged alone."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diffusion_world import PROMPT, Parts, counted_calls, load_parts, load_reference, traces_left

from ambientgen.audio.clip import Clip
from ambientgen.audio.resample import resample
from ambientgen.diffusion import ranking
from ambientgen.diffusion.ranking import CONCEPTS, LEAK_MARGIN, leaks, similarity

RATE_HZ = 16_000


@pytest.fixture(scope="module")
def parts(tiny_model_path: Path) -> Parts:
    """The model as the engine loads it."""
    return load_parts(tiny_model_path)


@pytest.fixture(scope="module")
def reference(tiny_model_path: Path) -> Any:
    """The pipeline of diffusers."""
    return load_reference(tiny_model_path)


def noise(seed: int, exponent: float, duration_s: float = 2.0) -> Clip:
    """Noise of a color."""
    num_samples = round(duration_s * RATE_HZ)
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal((1, num_samples)), axis=1)
    spectrum[:, 1:] /= np.arange(1, spectrum.shape[1]) ** exponent
    samples = np.fft.irfft(spectrum, num_samples, axis=1)
    return Clip(np.asarray(samples / np.abs(samples).max(), np.float32), RATE_HZ)


@pytest.fixture(scope="module")
def clips() -> list[Clip]:
    """Candidates of one job: the same length, different sounds."""
    return [noise(seed, exponent) for seed, exponent in enumerate([0.0, 0.5, 1.0, 1.5, 2.0, 3.0])]


@pytest.mark.parametrize("prompt", [PROMPT, "rain " * 40])
def test_it_is_claps_own_judgment(parts: Parts, reference: Any, clips: list[Clip], prompt: str) -> None:
    """The order is that of `logits_per_text` with all candidates in one call, and the values are its cosines."""
    made = [similarity(parts.pipeline, clip, prompt) for clip in clips]
    clap, extractor = reference.text_encoder, reference.feature_extractor
    tokens = reference.tokenizer([prompt], padding="max_length", truncation=True, return_tensors="pt")
    features = extractor(
        [resample(clip, 48_000).samples[0] for clip in clips], return_tensors="pt", sampling_rate=48_000
    )
    logits = clap(**tokens, **features).logits_per_text[0].numpy()
    assert np.array_equal(np.argsort(made), np.argsort(logits))
    cosines = logits / clap.logit_scale_t.exp().item()
    np.testing.assert_allclose(made, cosines, rtol=0, atol=1e-5)
    assert np.ptp(made) > 1e-3  # they are told apart at all


def test_a_judgment_is_for_good(parts: Parts, clips: list[Clip]) -> None:
    """The same number whatever was judged before, in any order, whatever the state of the random numbers."""
    import torch

    some = clips[:4]
    first = [similarity(parts.pipeline, clip, PROMPT) for clip in some]
    np.random.seed(5)  # the library's extractor draws from it
    torch.manual_seed(5)
    similarity(parts.pipeline, clips[0], "something else")
    again = [similarity(parts.pipeline, clip, PROMPT) for clip in reversed(some)]
    assert again[::-1] == first
    assert all(-1 <= value <= 1 for value in first)
    assert len({similarity(parts.pipeline, clips[0], prompt) for prompt in (PROMPT, "fire", "wind")}) == 3


def test_of_a_long_clip_the_first_ten_seconds_are_heard(parts: Parts) -> None:
    """The library would cut out ten seconds at random, so that the same clip would get another number each time."""
    clip = noise(1, 1.0, duration_s=14.0)
    # The cut at 48 kHz; the resampler hears a little beyond it.
    beginning = Clip(np.ascontiguousarray(resample(clip, 48_000).samples[:, :480_000]), 48_000)
    made = {similarity(parts.pipeline, clip, PROMPT) for _ in range(3)}
    assert made == {similarity(parts.pipeline, beginning, PROMPT)}


@pytest.mark.parametrize("num_before", [0, 30])
def test_giving_up_stops_at_once_and_leaves_no_trace(parts: Parts, clips: list[Clip], num_before: int) -> None:
    """No layer runs after `check` raised, no hook stays, and the next judgment is equal."""
    undisturbed = similarity(parts.pipeline, clips[0], PROMPT)
    again = Clip(clips[0].samples.copy(), RATE_HZ)  # not the clip that is remembered
    allowed = num_before

    def check() -> None:
        nonlocal allowed
        allowed -= 1
        if allowed < 0:
            raise KeyboardInterrupt

    with counted_calls() as calls, pytest.raises(KeyboardInterrupt):
        similarity(parts.pipeline, again, PROMPT, check)
    assert sum(not any(module.children()) for module in calls) == num_before + 1
    assert traces_left(parts.pipeline) == []
    assert similarity(parts.pipeline, again, PROMPT) == undisturbed


def test_a_clip_is_heard_once_and_a_text_is_read_once(parts: Parts, clips: list[Clip]) -> None:
    """However many texts a clip is compared with; and the next clip costs no pass over texts that are known."""
    clap = parts.pipeline.text_encoder
    texts = ("hail on a greenhouse", *CONCEPTS.values())
    fresh = [Clip(clip.samples.copy(), RATE_HZ) for clip in clips[:2]]
    for text in CONCEPTS.values():
        similarity(parts.pipeline, clips[2], text)
    with counted_calls(clap.audio_model, clap.text_model) as calls:
        first = [similarity(parts.pipeline, fresh[0], text) for text in texts]
    assert [module is clap.audio_model for module in calls] == [True, False]
    with counted_calls(clap.audio_model, clap.text_model) as calls:
        second = [similarity(parts.pipeline, fresh[1], text) for text in texts]
    assert calls == [clap.audio_model]
    assert first != second
    assert first == [similarity(parts.pipeline, clips[0], text) for text in texts]


def test_what_is_remembered_has_bounds(parts: Parts, clips: list[Clip], monkeypatch: pytest.MonkeyPatch) -> None:
    """The text that was not used for longest goes; a clip that nobody else holds is not held here either."""
    monkeypatch.setattr(ranking, "_MAX_TEXTS", 2)
    model = parts.pipeline.text_encoder.text_model
    for text in ("one", "two", "one", "three"):
        similarity(parts.pipeline, clips[0], text)
    with counted_calls(model) as calls:
        similarity(parts.pipeline, clips[0], "one")
    assert calls == []
    with counted_calls(model) as calls:
        similarity(parts.pipeline, clips[0], "two")
    assert calls == [model]
    clip = Clip(clips[0].samples.copy(), RATE_HZ)
    similarity(parts.pipeline, clip, "one")
    samples = weakref.ref(clip.samples)
    del clip
    assert samples() is None


def test_a_leak_is_nearer_than_the_prompt_by_a_clear_margin() -> None:
    """Just above the margin it is one, just below none, whatever the prompt's own likeness is."""
    for own in (-0.1, 0.2, 0.5):
        near = {"rain": own, CONCEPTS["music"]: own + LEAK_MARGIN + 0.01, CONCEPTS["voices"]: own + LEAK_MARGIN - 0.01}
        assert leaks("rain", "music, voices", near.__getitem__) == ("music",)


@pytest.mark.parametrize(
    ("prompt", "negative_prompt", "looked_for"),
    [
        ("rain on leaves", "music, voices, low quality", ("music", "voices")),
        ("rain on leaves", "Voices", ("voices",)),
        ("rain on leaves", "people talking, drums", ("music", "voices")),
        ("rain on leaves", "low quality, distorted", ()),
        ("rain on leaves", "", ()),
        ("a lute by the fire", "music, voices", ("voices",)),
        ("murmur of people, soft piano", "music, voices", ()),
    ],
)
def test_only_what_was_named_and_not_asked_for_is_looked_for(
    prompt: str, negative_prompt: str, looked_for: tuple[str, ...]
) -> None:
    """The negative prompt says what is unwanted, the prompt what is wanted; where nothing is left CLAP is not asked."""
    asked: list[str] = []

    def similarity_to(text: str) -> float:
        asked.append(text)
        return 0.0 if text == prompt else 1.0

    assert leaks(prompt, negative_prompt, similarity_to) == looked_for
    assert asked == ([prompt, *(CONCEPTS[name] for name in looked_for)] if looked_for else [])
