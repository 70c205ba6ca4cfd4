"""Decoding: diffusers' own where it is one window, one piece where it is long, a circle where it is a loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diffusion_world import Parts, counted_calls, difference, load_parts, load_reference, traces_left

from ambientgen.audio.clip import Clip
from ambientgen.audio.resample import resample
from ambientgen.diffusion.decoding import SAMPLES_PER_LATENT, vocoder_reach_frames
from ambientgen.diffusion.windows import WindowPlan, blend, gather


@pytest.fixture(scope="module")
def parts(tiny_model_path: Path) -> Parts:
    """The model as the engine loads it."""
    return load_parts(tiny_model_path)


@pytest.fixture(scope="module")
def reference(tiny_model_path: Path) -> Any:
    """The pipeline of diffusers."""
    return load_reference(tiny_model_path)


def noise(num_frames: int, seed: int = 0) -> Any:
    """A latent."""
    import torch

    return torch.randn((1, 4, num_frames, 4), generator=torch.Generator().manual_seed(seed))


def mel_of(pipeline: Any, latents: Any) -> Any:
    """The pipeline's mel spectrogram of a latent, as its `__call__` makes it."""
    return pipeline.vae.decode(1 / pipeline.vae.config.scaling_factor * latents).sample


def decode(parts: Parts, latents: Any, plan: WindowPlan, num_frames: int) -> Any:
    """Samples, shape (num_frames * 640,)."""
    samples = parts.decoder.decode(latents, plan, num_frames)
    assert samples.shape == (1, num_frames * 640)
    assert SAMPLES_PER_LATENT == 640
    return samples[0].numpy()


# ---------------------------------------------------------------------- lines


@pytest.mark.parametrize("num_frames", [1, 50, 64, 100, 200, 256])
def test_a_line_of_one_window_is_decoded_as_diffusers_does(parts: Parts, reference: Any, num_frames: int) -> None:
    """The first frames of what the pipeline's VAE and vocoder make of the whole window."""
    plan = WindowPlan.line(num_frames)
    latents = noise(plan.num_frames)
    expected = reference.mel_spectrogram_to_waveform(mel_of(reference, latents))[0, : num_frames * 640]
    assert difference(decode(parts, latents, plan, num_frames), expected) <= 1e-6


@pytest.mark.parametrize("num_frames", [300, 480])
def test_a_long_line_is_one_sweep_of_the_vocoder(parts: Parts, reference: Any, num_frames: int) -> None:
    """The VAE's windows faded over, and the vocoder in pieces as if it were called once for all of it."""
    import torch

    plan = WindowPlan.line(num_frames)
    latents = noise(plan.num_frames)
    pieces = torch.cat([mel_of(reference, window[None]) for window in gather(latents, plan)])
    mel = blend(pieces, plan.scaled(4))
    expected = reference.mel_spectrogram_to_waveform(mel)[0, : num_frames * 640]
    assert difference(decode(parts, latents, plan, num_frames), expected) <= 1e-5


@pytest.mark.parametrize("plan", [WindowPlan.line(600), WindowPlan.circle(500)], ids=str)
def test_a_steady_sound_stays_steady_where_windows_meet(parts: Parts, plan: WindowPlan) -> None:
    """A latent that does not change repeats its frame's samples; of what a window's end does, most is faded away."""
    import torch

    def unsteady(plan: WindowPlan, num_frames: int) -> Any:
        """How much each frame differs from the one before it."""
        steady = torch.randn((1, 4, 1, 4), generator=torch.Generator().manual_seed(1)).expand(
            -1, -1, plan.num_frames, -1
        )
        frames = decode(parts, steady.contiguous(), plan, num_frames).reshape(num_frames, 640)
        return np.abs(np.diff(frames, axis=0)).max(axis=1)

    at_the_end_of_a_window = unsteady(WindowPlan.line(256), 256)[-30:].max()
    assert at_the_end_of_a_window > 0.1
    made = unsteady(plan, 500)
    inside = made if plan.circular else made[30:]
    assert inside.max() < 0.3 * at_the_end_of_a_window


@pytest.mark.parametrize("published", [False, True], ids=["tiny", "published kernels"])
def test_the_vocoders_reach_is_what_its_kernels_say(parts: Parts, published: bool) -> None:
    """By its gradient, a frame's sound depends on no mel frame beyond the reach, and on ones just within it."""
    import torch
    from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

    vocoder = parts.pipeline.vocoder
    if published:
        vocoder = SpeechT5HifiGan(
            SpeechT5HifiGanConfig(
                model_in_dim=4,
                sampling_rate=16000,
                upsample_initial_channel=64,
                upsample_rates=[5, 4, 2, 2, 2],
                upsample_kernel_sizes=[16, 16, 8, 4, 4],
                resblock_kernel_sizes=[3, 7, 11],
                resblock_dilation_sizes=[[1, 3, 5]] * 3,
                normalize_before=False,
                initializer_range=0.1,
            )
        ).requires_grad_(False)
    reach = vocoder_reach_frames(vocoder.config)
    middle = reach + 5
    mel = torch.randn((2 * middle + 1, vocoder.config.model_in_dim), generator=torch.Generator().manual_seed(0))
    mel.requires_grad_()
    vocoder(mel)[160 * middle : 160 * (middle + 1)].square().sum().backward()
    assert mel.grad is not None
    heard = np.flatnonzero(mel.grad.abs().sum(dim=1).numpy())
    assert middle - reach <= heard[0] < heard[-1] <= middle + reach
    assert heard[-1] - heard[0] >= 2 * (reach - 5)


# ---------------------------------------------------------------------- circles


@pytest.mark.parametrize("num_frames", [1, 3, 50, 100, 200, 250, 256])
def test_a_circle_has_no_beginning(parts: Parts, num_frames: int) -> None:
    """Turning the latent turns the sound, sample by sample: so the seam is a place like any other."""
    import torch

    plan, latents = WindowPlan.circle(num_frames), noise(num_frames)
    straight = decode(parts, latents, plan, num_frames)
    for shift in {1, num_frames // 3, num_frames - 1}:
        turned = decode(parts, torch.roll(latents, shift, dims=2), plan, num_frames)
        assert difference(turned, np.roll(straight, shift * 640)) <= 1e-4
    if num_frames >= 50:
        line = WindowPlan.line(num_frames)
        padded = torch.cat([latents, noise(line.num_frames - num_frames, seed=1)], dim=2)
        assert difference(decode(parts, padded, line, num_frames), straight) > 1e-2


@pytest.mark.parametrize("num_frames", [300, 400, 624])
def test_a_circle_of_several_windows_may_begin_at_any_of_them(parts: Parts, num_frames: int) -> None:
    """The window across the seam is a window like any other."""
    import torch

    plan, latents = WindowPlan.circle(num_frames), noise(num_frames)
    assert plan.num_windows > 1
    shift = plan.starts[1]
    straight = decode(parts, latents, plan, num_frames)
    turned = decode(parts, torch.roll(latents, shift, dims=2), plan, num_frames)
    assert difference(turned, np.roll(straight, shift * 640)) <= 1e-4


def test_a_circle_survives_the_way_to_48_khz(parts: Parts) -> None:
    """Turned before the resampler is turned after it, at exactly 1,920 samples a frame."""
    plan, latents = WindowPlan.circle(50), noise(50)
    straight = decode(parts, latents, plan, 50)

    def at_48_khz(samples: Any) -> Any:
        return resample(Clip(samples[None], 16_000), 48_000, loop=True).samples[0]

    wide = at_48_khz(straight)
    assert wide.shape == (50 * 1_920,)
    for shift in (1, 17, 49):
        assert difference(at_48_khz(np.roll(straight, shift * 640)), np.roll(wide, shift * 1_920)) <= 1e-4


# ---------------------------------------------------------------------- giving up


@pytest.mark.parametrize("plan", [WindowPlan.line(100), WindowPlan.circle(100), WindowPlan.line(300)], ids=str)
@pytest.mark.parametrize("stage", [0, 1])
@pytest.mark.parametrize("num_before", [0, 15])
def test_giving_up_stops_at_once_and_leaves_no_trace(
    parts: Parts, plan: WindowPlan, stage: int, num_before: int
) -> None:
    """In the VAE or the vocoder: no layer runs afterwards, padding and hooks are as before, the next sound is equal."""
    latents = noise(plan.num_frames)
    undisturbed = decode(parts, latents, plan, 100)
    allowed = num_before

    class GivenUpError(Exception):
        pass

    stages: list[int] = []

    def check(now: int) -> None:
        nonlocal allowed
        stages.append(now)
        if now == stage:
            allowed -= 1
            if allowed < 0:
                raise GivenUpError

    with counted_calls() as calls, pytest.raises(GivenUpError):
        parts.decoder.decode(latents, plan, 100, check)
    assert stages == [0] * stages.count(0) + [1] * stages.count(1)
    assert stages[-1] == stage
    assert sum(not any(module.children()) for module in calls) == len(stages)
    assert traces_left(parts.pipeline) == []
    assert np.array_equal(decode(parts, latents, plan, 100), undisturbed)
    assert traces_left(parts.pipeline) == []


@pytest.mark.parametrize("plan", [WindowPlan.line(64), WindowPlan.circle(100)], ids=str)
def test_decoders_that_moved_to_the_cpu_decode_what_a_gpu_made(parts: Parts, plan: WindowPlan) -> None:
    """Latents of another device come to where the decoders are; by fake tensors of torch."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode(allow_non_fake_inputs=True):
        latents = torch.empty((1, 4, plan.num_frames, 4), device="cuda")
        samples = parts.decoder.decode(latents, plan, plan.num_frames)
    assert samples.shape == (1, plan.num_frames * 640)
    assert samples.device.type == "cpu"
