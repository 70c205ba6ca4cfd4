"""The AudioLDM2 engine under load: shared passes, memory, half precision, long takes, loops, ranking, drops."""

from __future__ import annotations

import dataclasses
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diffusion_world import (
    MODELS,
    TEXT_MODELS,
    ScriptedFeed,
    counted_calls,
    difference,
    load_engine,
    make_take,
    quick_collections,
    serve,
    solo,
    traces_left,
)

from ambientgen.audio.clip import Clip
from ambientgen.audio.loop import measure_seam
from ambientgen.diffusion.checkpoint import _MOVABLE
from ambientgen.diffusion.compiled import CompiledUNet
from ambientgen.diffusion.loaded import LoadedModel
from ambientgen.diffusion.ranking import similarity
from ambientgen.diffusion.sampling import Denoiser
from ambientgen.engines.audioldm2 import AudioLDM2Engine
from ambientgen.engines.base import Progress, Take
from ambientgen.errors import EngineError, OutOfMemoryError

# diffusers' DPM++ scheduler calls numpy in a way that torch's tensors do not know yet; nothing here can mend that.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


@pytest.fixture(scope="module")
def engine(tiny_model_path: Path) -> Iterator[AudioLDM2Engine]:
    """An engine with the tiny model, as it is on a CPU: one window at a time."""
    engine = load_engine(tiny_model_path)
    with quick_collections():
        yield engine
    engine.unload()


@pytest.fixture
def batching(engine: AudioLDM2Engine, monkeypatch: pytest.MonkeyPatch) -> AudioLDM2Engine:
    """The same engine, as it is on a GPU that has room for four windows."""
    make_room_for(4, engine, monkeypatch)
    return engine


def make_room_for(max_windows: int, engine: AudioLDM2Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let an engine serve that many windows at once."""
    loaded = loaded_of(engine)
    monkeypatch.setattr(loaded, "max_windows", max_windows)
    monkeypatch.setattr(loaded, "_denoiser", Denoiser(loaded.unet, max_rows=2 * max_windows))


def loaded_of(engine: AudioLDM2Engine) -> LoadedModel:
    """What the engine has loaded."""
    assert engine._loaded is not None
    return engine._loaded


def pipeline_of(engine: AudioLDM2Engine) -> Any:
    """The loaded pipeline."""
    return loaded_of(engine).checkpoint.pipeline


class Batches:
    """The number of rows of each call of an engine's UNet, while it is open."""

    def __init__(self, engine: AudioLDM2Engine) -> None:
        self._unet = pipeline_of(engine).unet
        self.sizes: list[int] = []

    def __enter__(self) -> list[int]:
        self._hook = self._unet.register_forward_pre_hook(lambda _unet, inputs: self.sizes.append(len(inputs[0])))
        return self.sizes

    def __exit__(self, *_error: object) -> None:
        self._hook.remove()


MIXED = {
    "a": make_take("a", duration_s=1.0),
    "b": make_take("b", duration_s=2.5, prompt="fire", seed=8, guidance_scale=1.0),
    "c": make_take("c", duration_s=1.7, prompt="heavy rain, wind in the trees, a river", negative_prompt="", seed=9),
    "d": make_take("d", duration_s=2.0, loop=True, seed=10, params={"scheduler": "dpmpp_2m"}),
    "e": make_take("e", duration_s=2.0, prompt="wind", seed=11, guidance_scale=3.0, num_inference_steps=4),
}


@pytest.fixture(scope="module")
def alone(engine: AudioLDM2Engine) -> dict[str, Any]:
    """The samples of those takes, each made alone."""
    return {name: solo(engine, take) for name, take in MIXED.items()}


# ---------------------------------------------------------------------- shared passes


def test_takes_of_every_kind_share_every_pass(batching: AudioLDM2Engine, alone: dict[str, Any]) -> None:
    """Four begin at once, the fifth when there is room; each clip is the one it makes alone, in far fewer calls."""
    with Batches(batching) as sizes:
        feed = serve(batching, *MIXED.values())
    # b has no guidance, so one row; e joins when the four are done after their three steps, and takes four.
    assert sizes == [7, 7, 7, 2, 2, 2, 2]
    assert feed.order == ["a", "b", "c", "d", "e"]
    for name, samples in alone.items():
        assert difference(feed.samples(name), samples) <= 1e-5, name


def test_joining_late_and_being_dropped_disturbs_nobody(batching: AudioLDM2Engine, alone: dict[str, Any]) -> None:
    """One joins after another's first step, one is dropped, one takes its place: what remains is as if alone."""
    told: list[tuple[str, Progress]] = []

    def script(take_id: str, progress: Progress) -> bool:
        told.append((take_id, progress))
        if (take_id, progress) == ("a", Progress("denoising", 1, 3)):
            feed.waiting.append(MIXED["c"])
        if (take_id, progress) == ("c", Progress("denoising", 1, 3)):
            feed.waiting.append(MIXED["e"])
        return (take_id, progress) != ("b", Progress("denoising", 1, 3))

    feed = ScriptedFeed(batching, [MIXED["a"], MIXED["b"], MIXED["d"]], script)
    with Batches(batching) as sizes:
        batching.run(feed)
    assert sizes == [5, 6, 8, 4, 2, 2]
    assert set(feed.results) == {"a", "c", "d", "e"}
    for name in feed.results:
        assert difference(feed.samples(name), alone[name]) <= 1e-5, name
    assert [progress.step for name, progress in told if name == "b" and progress.stage == "denoising"] == [0, 1]
    assert [progress.step for name, progress in told if name == "c" and progress.stage == "denoising"] == [0, 1, 2, 3]


def test_a_drop_while_the_newcomer_is_read_disturbs_nobody(batching: AudioLDM2Engine, alone: dict[str, Any]) -> None:
    """A take that is dropped in its conditioning leaves those under way as they are."""
    newcomer = make_take("new", prompt="never seen before")

    def script(take_id: str, progress: Progress) -> bool:
        if (take_id, progress) == ("a", Progress("denoising", 1, 3)):
            feed.waiting.append(newcomer)
        return take_id != "new"

    feed = ScriptedFeed(batching, [MIXED["a"], MIXED["d"]], script)
    batching.run(feed)
    assert set(feed.results) == {"a", "d"}
    for name in feed.results:
        assert difference(feed.samples(name), alone[name]) <= 1e-5, name


def test_a_naive_feed_may_mix_window_lengths(batching: AudioLDM2Engine, alone: dict[str, Any]) -> None:
    """Takes that cannot share a pass are served side by side, long ones and loops too, each as if alone."""
    others = [
        make_take("long", duration_s=12.0, seed=3),
        make_take("middle", duration_s=4.0, seed=4),
        make_take("long loop", duration_s=12.0, seed=5, loop=True),
    ]
    keys = {batching.batch_key(take) for take in (*others, *MIXED.values())}
    assert keys == {64, 128, 256}
    feed = serve(batching, others[0], MIXED["a"], others[1], MIXED["d"], others[2], naive=True)
    expected = {"a": alone["a"], "d": alone["d"]} | {take.id: solo(batching, take) for take in others}
    assert set(feed.results) == set(expected)
    for name, samples in expected.items():
        assert difference(feed.samples(name), samples) <= 1e-5, name


def test_an_engine_says_how_many_it_serves_at_once(engine: AudioLDM2Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """One on a CPU; where there is memory, more, and never more windows are admitted than there is room for."""
    assert engine.max_batch(64) == 1
    make_room_for(4, engine, monkeypatch)
    assert engine.max_batch(64) == 4
    asked: list[tuple[Any, int]] = []
    feed = ScriptedFeed(engine, [make_take("a", duration_s=12.0)])
    admit = feed.admit

    def noting(key: Any, num_free: int) -> list[Take]:
        asked.append((key, num_free))
        return admit(key, num_free)

    feed.admit = noting  # type: ignore[method-assign]
    engine.run(feed)
    # The take has two windows: two more fit beside it, and are asked for at each of its three steps, one by one.
    assert asked == [(None, 1), (256, 1), (256, 1), (256, 1), (None, 1)]


def test_one_broken_take_does_not_spoil_the_others(
    batching: AudioLDM2Engine, alone: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pass that fails is made again for each take alone, so that only the guilty one ends with an error."""
    unet = pipeline_of(batching).unet
    forward = type(unet).forward

    def picky(self: Any, sample: Any, *inputs: Any, **options: Any) -> Any:
        if not sample.isfinite().all():
            raise ValueError("cannot do that")
        return forward(self, sample, *inputs, **options)

    monkeypatch.setattr(type(unet), "forward", picky)
    feed = serve(batching, MIXED["a"], make_take("broken", guidance_scale=float("inf")), MIXED["d"])
    assert isinstance(feed.results["broken"], EngineError)
    for name in ("a", "d"):
        assert difference(feed.samples(name), alone[name]) <= 1e-5, name


# ---------------------------------------------------------------------- memory


def short_of_memory(
    engine: AudioLDM2Engine, monkeypatch: pytest.MonkeyPatch, name: str, fails: Callable[[Any], bool]
) -> None:
    """Let a model run out of memory where `fails` says so of its first input."""
    import torch

    model = getattr(pipeline_of(engine), name)
    forward = model.forward

    def exhausted(*inputs: Any, **options: Any) -> Any:
        if fails(inputs[0]):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return forward(*inputs, **options)

    monkeypatch.setattr(model, "forward", exhausted)


@pytest.mark.parametrize("max_rows", [5, 2, 1])
def test_a_batch_too_large_is_halved_until_it_fits(
    batching: AudioLDM2Engine, alone: dict[str, Any], monkeypatch: pytest.MonkeyPatch, max_rows: int
) -> None:
    """No take is lost or changed, and batches stay small from then on."""
    short_of_memory(batching, monkeypatch, "unet", lambda sample: len(sample) > max_rows)
    with Batches(batching) as sizes:
        feed = serve(batching, *(MIXED[name] for name in "abcd"))
    halved = {5: [7, 3, 3, 1], 2: [7, 3, 1], 1: [7, 3, 1, 1]}[max_rows]
    assert sizes[: len(halved)] == halved
    assert max(sizes[len(halved) :]) <= max_rows
    for name in "abcd":
        assert difference(feed.samples(name), alone[name]) <= 1e-5, name


def test_what_never_fits_ends_as_words_and_the_engine_lives_on(
    batching: AudioLDM2Engine, alone: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each take of the batch gets the advice; afterwards the engine serves as before."""
    with monkeypatch.context() as patch:
        short_of_memory(batching, patch, "unet", lambda _sample: True)
        feed = serve(batching, MIXED["a"], MIXED["b"])
    assert all(isinstance(feed.results[name], OutOfMemoryError) for name in "ab")
    again = serve(batching, MIXED["a"], MIXED["b"])
    for name in "ab":
        assert difference(again.samples(name), alone[name]) <= 1e-5, name


class Moves:
    """Where a model's parts were sent."""

    def __init__(self, engine: AudioLDM2Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names: list[str] = []
        for name in MODELS:
            model = getattr(pipeline_of(engine), name)
            monkeypatch.setattr(model, "to", self._noting(name, model.to))
        # As on a GPU: on a CPU there is nothing to move.
        monkeypatch.setattr(loaded_of(engine).checkpoint, "_movable", list(_MOVABLE))

    def _noting(self, name: str, move: Callable[..., Any]) -> Callable[..., Any]:
        def to(place: Any) -> Any:
            assert place == "cpu"
            self.names.append(name)
            return move(place)

        return to


def test_a_step_that_fails_costs_its_own_take_alone(
    batching: AudioLDM2Engine, alone: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scheduler that breaks off in the middle of its step spoiled its take; the others go on."""
    import torch

    loaded = batching._loaded
    assert loaded is not None
    new_scheduler, num_made = loaded.new_scheduler, 0

    def scheduler_of(name: str) -> Any:
        nonlocal num_made
        num_made += 1
        scheduler = new_scheduler(name)
        if num_made == 2:

            def step(*_arguments: Any, **_options: Any) -> Any:
                raise torch.OutOfMemoryError("CUDA out of memory.")

            scheduler.step = step
        return scheduler

    monkeypatch.setattr(loaded, "new_scheduler", scheduler_of)
    feed = serve(batching, MIXED["a"], MIXED["b"], MIXED["c"])
    assert isinstance(feed.results["b"], OutOfMemoryError)
    for name in "ac":
        assert difference(feed.samples(name), alone[name]) <= 1e-5


@pytest.mark.parametrize("part", ["text_encoder_2", "unet", "vocoder"])
def test_parts_move_away_until_what_failed_fits(
    engine: AudioLDM2Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, part: str
) -> None:
    """The text models first, then the decoders, then it is tried again, and the clip is the same; then none is left."""
    # A prompt that is not remembered, so that the text models run.
    take = make_take("a", prompt=f"a prompt for {part}")
    moves, num_attempts = Moves(engine, monkeypatch), 0

    def fails(_input: Any) -> bool:
        nonlocal num_attempts
        num_attempts += 1
        return len(moves.names) < len(TEXT_MODELS) + 2

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING, logger="ambientgen"):
        short_of_memory(engine, patch, part, fails)
        made = solo(engine, take)
    assert moves.names == [*TEXT_MODELS, "vae", "vocoder"]
    assert num_attempts >= 3
    told = [message for message in caplog.messages if "run on the CPU" in message]
    assert [[name in message for name in ("text_encoder_2", "vocoder")] for message in told] == [
        [True, False],
        [False, True],
    ]
    assert np.array_equal(made, solo(engine, take))
    with monkeypatch.context() as patch:
        short_of_memory(engine, patch, "vocoder", lambda _input: True)
        assert isinstance(serve(engine, take).results["a"], OutOfMemoryError)
    assert np.array_equal(made, solo(engine, take))


# ---------------------------------------------------------------------- half precision


def test_numbers_out_of_range_in_half_precision_are_made_again_in_full(
    tiny_model_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The take comes back as a float32 engine with those weights makes it, text and all; the log says so."""
    import torch

    half, full = load_engine(tiny_model_path, "bfloat16"), load_engine(tiny_model_path)
    for name in MODELS:
        getattr(pipeline_of(full), name).load_state_dict(getattr(pipeline_of(half), name).state_dict())
    pipeline_of(half).vae.float()  # so that only what is sampled is compared
    expected = solo(full, make_take("again", duration_s=12.0))
    undisturbed = solo(half, make_take("next", prompt="fire"))

    unet_class = type(pipeline_of(half).unet)
    forward = unet_class.forward

    def overflowing(self: Any, *inputs: Any, **options: Any) -> Any:
        answer = forward(self, *inputs, **options)
        return (torch.full_like(answer[0], torch.nan),) if self.dtype == torch.bfloat16 else answer

    told: list[Progress] = []

    def script(_take_id: str, progress: Progress) -> bool:
        if told[-1:] != [progress]:
            told.append(progress)
        return True

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING, logger="ambientgen"):
        patch.setattr(unet_class, "forward", overflowing)
        feed = serve(half, make_take("again", duration_s=12.0), script=script)
    assert difference(feed.samples("again"), expected) <= 1e-4
    (record,) = caplog.records
    assert record.getMessage() == "take again went out of range in half precision; it is made again in float32"
    steps = [progress.step for progress in told if progress.stage == "denoising"]
    assert steps == [0, 1, 2, 3]  # they never go back
    assert {getattr(pipeline_of(half), name).dtype for name in (*TEXT_MODELS, "unet")} == {torch.bfloat16}
    assert np.array_equal(solo(half, make_take("next", prompt="fire")), undisturbed)


def test_a_drop_is_heard_between_the_calls_of_a_take_made_again(
    tiny_model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In float32 too a pass of several windows is given up between two calls of the UNet."""
    import torch

    half = load_engine(tiny_model_path, "bfloat16")
    unet_class = type(pipeline_of(half).unet)
    forward, full_calls = unet_class.forward, []

    def out_of_range(self: Any, *arguments: Any, **options: Any) -> Any:
        (answer,) = forward(self, *arguments, **options)
        if self.dtype == torch.bfloat16:
            return (torch.full_like(answer, torch.nan),)
        full_calls.append(1)
        return (answer,)

    monkeypatch.setattr(unet_class, "forward", out_of_range)
    feed = serve(half, make_take(duration_s=20.0), script=lambda _id, _progress: not full_calls)
    assert feed.results == {}
    assert len(full_calls) == 1


@pytest.mark.parametrize(("dtype", "whole"), [("bfloat16", ["vocoder"]), ("float16", ["vae", "vocoder"])])
def test_half_precision_leaves_decoders_alone(tiny_model_path: Path, dtype: str, whole: list[str]) -> None:
    """The vocoder, and the VAE too beside float16, are loaded in float32, not rounded and widened again."""
    import torch

    half, full = pipeline_of(load_engine(tiny_model_path, dtype)), pipeline_of(load_engine(tiny_model_path))
    for name in ("vae", "vocoder"):
        rounded = getattr(half, name).state_dict()
        same = [torch.equal(value, rounded[key]) for key, value in getattr(full, name).state_dict().items()]
        assert all(same) == (name in whole)


def test_half_precision_shares_passes_too(tiny_model_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In bfloat16 a shared pass makes nearly what each makes alone: latents and guidance stay float32."""
    import torch

    half = load_engine(tiny_model_path, "bfloat16")
    alone = {name: solo(half, MIXED[name]) for name in "abcd"}
    make_room_for(4, half, monkeypatch)
    dtypes: set[Any] = set()
    unet = pipeline_of(half).unet
    hook = unet.register_forward_hook(lambda _unet, inputs, answer: dtypes.update((inputs[0].dtype, answer[0].dtype)))
    feed = serve(half, *(MIXED[name] for name in "abcd"))
    hook.remove()
    assert dtypes == {torch.bfloat16}
    for name, samples in alone.items():
        assert np.std(feed.samples(name) - samples) < 0.1 * np.std(samples), name


# ---------------------------------------------------------------------- giving up


def drop_when(engine: AudioLDM2Engine, take: Take, dropped: Callable[[Progress], bool]) -> tuple[Progress, list[Any]]:
    """Serve a take that is dropped where asked, after which nothing may run.

    Returns:
        The progress at which it was dropped, and the modules that were called until then.
    """
    last: list[Progress] = []
    num_calls: list[int] = []

    def script(_take_id: str, progress: Progress) -> bool:
        assert num_calls == []
        last[:] = [progress]
        if dropped(progress):
            num_calls.append(len(calls))
            return False
        return True

    with counted_calls() as calls:
        feed = serve(engine, take, script=script)
    assert num_calls == [len(calls)]
    assert feed.results == {}
    assert traces_left(pipeline_of(engine)) == []
    return last[0], calls


def nth_time(stage: str, step: int, number: int) -> Callable[[Progress], bool]:
    """True the nth time that this is told."""
    times = 0

    def is_it(progress: Progress) -> bool:
        nonlocal times
        times += (progress.stage, progress.step) == (stage, step)
        return times == number

    return is_it


@pytest.mark.parametrize(
    ("stage", "step", "number"),
    [
        ("conditioning", 0, 1),
        ("conditioning", 0, 2),
        ("conditioning", 0, 60),
        ("denoising", 0, 1),
        ("denoising", 1, 1),
        ("denoising", 3, 1),
        ("decoding", 0, 1),
        ("decoding", 0, 2),
        ("decoding", 0, 30),
        ("decoding", 1, 1),
        ("decoding", 1, 15),
        ("decoding", 1, 60),
    ],
)
def test_a_drop_ends_the_take_at_once(
    engine: AudioLDM2Engine, alone: dict[str, Any], stage: str, step: int, number: int
) -> None:
    """In the text models, between steps, in the VAE, in the vocoder, in CLAP's judgment: no layer runs after it."""
    for loop in (False, True):
        # A prompt that is not remembered, so that the text models run.
        prompt = f"a prompt for {stage} {step} {number} {loop}"
        take = make_take("dropped", duration_s=2.0, loop=loop, prompt=prompt, params={"num_candidates": 2})
        last, _ = drop_when(engine, take, nth_time(stage, step, number))
        assert (last.stage, last.step) == (stage, step)
    assert np.array_equal(solo(engine, MIXED["a"]), alone["a"])
    assert np.array_equal(solo(engine, MIXED["d"]), alone["d"])


def test_between_the_calls_of_one_pass_a_drop_is_heard(engine: AudioLDM2Engine) -> None:
    """On a CPU a pass of 20 s is three calls of the UNet, which may take seconds each: the second is the last."""
    unet, take = pipeline_of(engine).unet, make_take(duration_s=20.0)
    undisturbed = solo(engine, take)
    for number, num_calls in ((1, 0), (2, 1), (3, 2)):
        _, calls = drop_when(engine, take, nth_time("denoising", 0, number))
        assert sum(module is unet for module in calls) == num_calls
    _, calls = drop_when(engine, take, nth_time("denoising", 1, 3))
    assert sum(module is unet for module in calls) == 5
    assert np.array_equal(solo(engine, take), undisturbed)


# ---------------------------------------------------------------------- loops


def click_ratio(clip: Clip) -> float:
    """What is above 8.5 kHz, where the model has nothing, at the seam over 99.9 % of all other places."""
    spectrum = np.fft.rfft(clip.samples[0])
    spectrum[np.fft.rfftfreq(clip.num_samples, 1 / clip.sample_rate_hz) < 8_500] = 0
    above = np.abs(np.fft.irfft(spectrum, clip.num_samples))
    return float(max(above[:48].max(), above[-48:].max()) / np.quantile(above, 0.999))


def test_loops_have_no_seam(engine: AudioLDM2Engine) -> None:
    """Of 22 loops, judged together, the seam is a draw from each loop's own changes; without `loop` it is far worse."""
    lengths = [(seed, 4.0) for seed in range(20)] + [(seed, 16.0) for seed in range(2)]

    def clips(loop: bool) -> list[Clip]:
        takes = [
            make_take(duration_s=duration_s, loop=loop, seed=seed, num_inference_steps=2)
            for seed, duration_s in lengths
        ]
        return [Clip(solo(engine, take), 48_000) for take in takes]

    loops, lines = clips(True), clips(False)
    seams = [measure_seam(clip) for clip in loops]
    assert sum(seam.clean for seam in seams) >= len(seams) - 1
    assert 35 < np.mean([seam.flux_percentile for seam in seams]) < 65
    assert sum(seam.flux_percentile > 95 for seam in seams) <= 4
    assert max(click_ratio(clip) for clip in loops) < 3

    torn = [measure_seam(clip) for clip in lines]
    assert np.mean([seam.flux_percentile for seam in torn]) > 70
    assert sum(seam.flux_percentile > 95 for seam in torn) >= 6
    assert min(click_ratio(clip) for clip in lines) > 10


@pytest.mark.parametrize("num_frames", [1, 25, 100, 257])
def test_a_loop_is_exactly_one_lap(engine: AudioLDM2Engine, num_frames: int) -> None:
    """Any number of latent frames, 1,920 samples each, and nothing of it is cut off or added."""
    take = dataclasses.replace(make_take(loop=True), num_samples=num_frames * 1_920)
    samples = solo(engine, take)
    assert samples.shape == (1, num_frames * 1_920)
    assert np.isfinite(samples).all()
    assert np.abs(samples).max() > 0


@pytest.mark.parametrize("num_samples", [1, 1_919, 1_921, 48_001])
def test_a_loop_of_a_broken_frame_is_refused(engine: AudioLDM2Engine, num_samples: int) -> None:
    """It could not join its beginning; the same length without `loop` works."""
    take = dataclasses.replace(make_take(loop=True), num_samples=num_samples)
    with counted_calls() as calls, pytest.raises(EngineError, match=r"whole number of 0\.04 s"):
        solo(engine, take)
    assert calls == []
    assert solo(engine, dataclasses.replace(take, loop=False)).shape == (1, num_samples)


# ---------------------------------------------------------------------- ranking


def test_only_candidates_are_judged(batching: AudioLDM2Engine) -> None:
    """One of several takes of a job comes with CLAP's judgment of its own clip, whoever shares its passes."""
    import torch

    prompt, candidates = "rain", {"num_candidates": 3}
    judged = [make_take(f"judged {seed}", prompt=prompt, seed=seed, params=candidates) for seed in range(2)]
    other = make_take("alone", prompt="fire", seed=5)
    feed = serve(batching, judged[0], other, judged[1])
    assert feed.matches["alone"] is None
    for take in judged:
        match = feed.matches[take.id]
        clip = Clip(feed.samples(take.id)[:1].copy(), 48_000)
        with torch.no_grad():
            assert match == pytest.approx(similarity(pipeline_of(batching), clip, prompt), abs=1e-4)
        assert match == pytest.approx(serve(batching, take).matches[take.id], abs=1e-5)
    assert feed.matches["judged 0"] != pytest.approx(feed.matches["judged 1"], abs=1e-5)


# ---------------------------------------------------------------------- timings and compiling


def test_the_engine_measures_every_stage(tiny_model_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Conditioning once a prompt, each shape and batch size of a step, decoding a take; nothing of a dropped one."""
    engine = load_engine(tiny_model_path)
    assert engine.timings() == ()

    def measured() -> dict[tuple[str, int, int, int], int]:
        return {(t.stage, t.num_windows, t.window_frames, t.batch_size): t.num_measured for t in engine.timings()}

    serve(engine, make_take("a"), make_take("b", seed=8))
    one_by_one = {("conditioning", 0, 0, 1): 1, ("denoising", 1, 64, 1): 6, ("decoding", 1, 64, 1): 2}
    assert measured() == one_by_one
    assert all(0 < timing.duration_s < 60 for timing in engine.timings())
    serve(engine, make_take(prompt="fire"), script=lambda _take_id, progress: progress.stage != "conditioning")
    assert measured() == one_by_one
    serve(engine, make_take(), script=lambda _take_id, progress: progress.stage != "decoding")
    assert measured() == one_by_one | {("denoising", 1, 64, 1): 9}

    make_room_for(4, engine, monkeypatch)
    serve(engine, make_take("a", duration_s=12.0), make_take("b", duration_s=10.0), make_take("c", duration_s=9.0))
    assert measured() == one_by_one | {
        ("denoising", 1, 64, 1): 9,
        ("denoising", 4, 256, 3): 3,
        ("decoding", 2, 256, 1): 1,
        ("decoding", 1, 256, 1): 2,
    }
    engine.unload()
    assert engine.timings() == ()


def test_the_engine_warms_up_every_window_length(tiny_model_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The longest first, in rows as they will be; unloading stops it, and without a backend there is nothing to do."""
    warmed_up: list[tuple[int, int]] = []
    closed: list[CompiledUNet] = []
    monkeypatch.setattr(
        CompiledUNet,
        "warm_up",
        lambda _self, examples: warmed_up.extend((len(rows), rows.sample.shape[2]) for rows in examples),
    )

    def close(unet: CompiledUNet) -> None:
        closed.append(unet)

    monkeypatch.setattr(CompiledUNet, "close", close)
    engine = AudioLDM2Engine(str(tiny_model_path), device="cpu", dtype="float32", compile_backend="aot_eager")
    engine.load(lambda _progress: True)
    assert warmed_up == []  # a command that makes one clip has no use for it
    engine.warm_up()
    assert warmed_up == [(2, 256), (2, 192), (2, 128), (2, 64)]
    assert np.isfinite(solo(engine, make_take())).all()
    unet = loaded_of(engine).unet
    engine.unload()
    assert closed == [unet]
    engine.warm_up()
    load_engine(tiny_model_path).warm_up()
    assert len(warmed_up) == 4


def test_compiled_code_is_kept_where_the_engine_is_told(tmp_path: Path) -> None:
    """Torch reads the folder when it is imported, so the engine sets it before that."""
    code = (
        "import sys; from pathlib import Path; from ambientgen.engines.audioldm2 import AudioLDM2Engine;"
        "AudioLDM2Engine(cache_dir=Path(sys.argv[1])).import_packages();"
        "from torch._inductor.runtime.cache_dir_utils import cache_dir; print(cache_dir())"
    )
    environment = {name: value for name, value in os.environ.items() if name != "TORCHINDUCTOR_CACHE_DIR"}
    command = [sys.executable, "-W", "ignore", "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == str(tmp_path)
