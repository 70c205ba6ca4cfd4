"""Short convolution algorithms: the plain vocoder's sound within rounding, on a CPU, in our own loop."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from diffusion_world import difference, load_engine, load_parts, make_take, solo

from ambientgen.diffusion.short_convolution import shorten_convolutions
from ambientgen.diffusion.windows import WindowPlan
from ambientgen.engines.audioldm2 import AudioLDM2Engine


@pytest.fixture(scope="module")
def vocoder() -> Any:
    """The published kernels and dilations; 128 channels in the first stage, fewer in the others."""
    torch = pytest.importorskip("torch")
    from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

    config = SpeechT5HifiGanConfig(
        model_in_dim=8,
        sampling_rate=16000,
        upsample_initial_channel=256,
        upsample_rates=[5, 4, 2, 2, 2],
        upsample_kernel_sizes=[16, 16, 8, 4, 4],
        resblock_kernel_sizes=[3, 7, 11],
        resblock_dilation_sizes=[[1, 3, 5]] * 3,
        normalize_before=False,
    )
    vocoder = SpeechT5HifiGan(config).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for conv in vocoder.modules():
        if isinstance(conv, (torch.nn.Conv1d, torch.nn.ConvTranspose1d)):
            fan_in = conv.in_channels * conv.kernel_size[0] / conv.stride[0]
            torch.nn.init.normal_(conv.weight, std=fan_in**-0.5, generator=generator)
            torch.nn.init.normal_(conv.bias, std=0.1, generator=generator)
    vocoder.conv_post.weight *= 0.1  # ordinary loudness
    return vocoder


def convolutions(vocoder: Any) -> list[Any]:
    """Those of the residual blocks."""
    return [conv for block in vocoder.resblocks for conv in (*block.convs1, *block.convs2)]


def shortened(vocoder: Any) -> list[Any]:
    """The convolutions that are no longer the library's."""
    return [conv for conv in convolutions(vocoder) if "forward" in vars(conv)]


@pytest.fixture(scope="module")
def short(vocoder: Any) -> Any:
    """The same vocoder with short convolutions."""
    short = copy.deepcopy(vocoder)
    shorten_convolutions(short)
    return short


@pytest.mark.parametrize("num_frames", [1, 6])
def test_the_sound_is_the_plain_vocoders(vocoder: Any, short: Any, num_frames: int) -> None:
    """The wide convolutions are replaced, the others not, and the waveform is as near to the exact one as it was."""
    import torch

    assert shortened(short) == [conv for conv in convolutions(short) if conv.in_channels == 128]
    assert len(shortened(short)) == 18
    mel = torch.randn((num_frames, 8), generator=torch.Generator().manual_seed(num_frames))
    plain, made = vocoder(mel), short(mel)
    exact = copy.deepcopy(vocoder).double()(mel.double())
    assert 0.01 < exact.abs().max() < 0.99
    assert difference(made, plain) <= 3e-6
    assert difference(made, exact) <= 3e-6


@pytest.mark.parametrize("index", range(18))
def test_each_convolution_is_the_plain_one_at_every_length(vocoder: Any, short: Any, index: int) -> None:
    """All kernels and dilations, on less than a tile and on more than is computed at once, in both orders of memory."""
    import torch

    conv, exact_conv = convolutions(short)[index], copy.deepcopy(convolutions(vocoder)[index]).double()
    for num_samples in (1, 2, 11, 12, 13, 61, 3200):
        values = torch.randn((1, 128, num_samples), generator=torch.Generator().manual_seed(num_samples))
        given = values.clone()
        exact = exact_conv(values.double())
        assert difference(conv(given), exact) <= 5e-6
        assert difference(conv(values.mT.contiguous().mT), exact) <= 5e-6
        assert torch.equal(given, values)


@pytest.mark.parametrize("place", ["meta", "double", "half"])
def test_elsewhere_it_stays_the_librarys(vocoder: Any, place: str) -> None:
    """On another device or in another precision nothing is replaced."""
    import torch

    moved = copy.deepcopy(vocoder).to({"meta": "meta", "double": torch.float64, "half": torch.bfloat16}[place])
    shorten_convolutions(moved)
    assert shortened(moved) == []


def test_a_second_time_changes_nothing(short: Any) -> None:
    """The transformed weights are not transformed again, and a copy has its own."""
    weights = [conv.weight for conv in shortened(short)]
    shorten_convolutions(short)
    assert all(conv.weight is weight for conv, weight in zip(shortened(short), weights, strict=True))
    for conv, other in zip(shortened(short), shortened(copy.deepcopy(short)), strict=True):
        assert other.forward.__self__ is other is not conv


@pytest.mark.parametrize("plan", [WindowPlan.line(64), WindowPlan.line(300), WindowPlan.circle(50)], ids=str)
def test_the_decoder_decodes_with_it(tiny_model_path: Path, monkeypatch: pytest.MonkeyPatch, plan: WindowPlan) -> None:
    """With every width counted as wide: the same sound of lines and circles, twice; the model as loaded is plain."""
    import torch

    latents = torch.randn((1, 4, plan.num_frames, 4), generator=torch.Generator().manual_seed(0))
    expected = load_parts(tiny_model_path).decoder.decode(latents, plan, 50)
    monkeypatch.setattr("ambientgen.diffusion.short_convolution._MIN_CHANNELS", 1)
    parts = load_parts(tiny_model_path)
    assert shortened(parts.pipeline.vocoder) == []
    for _ in range(2):
        assert difference(parts.decoder.decode(latents, plan, 50), expected) <= 1e-5
        assert shortened(parts.pipeline.vocoder) == convolutions(parts.pipeline.vocoder)


def test_diffusers_own_call_stays_its_own(tiny_model_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fallback loads and sounds without it."""
    monkeypatch.setattr("ambientgen.diffusion.short_convolution._MIN_CHANNELS", 1)
    engine = AudioLDM2Engine(str(tiny_model_path), device="cpu", dtype="float32", plain=True)
    engine.load(lambda _progress: True)
    solo(engine, make_take())
    assert engine._loaded is not None
    assert shortened(engine._loaded.checkpoint.pipeline.vocoder) == []
    own = load_engine(tiny_model_path)
    solo(own, make_take())
    assert own._loaded is not None
    assert shortened(own._loaded.checkpoint.pipeline.vocoder) != []
