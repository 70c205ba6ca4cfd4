"""The Stable Audio engine, whole and offline, on a tiny model with random weights."""

from __future__ import annotations

import math
import operator
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_contract import CASES, run

from ambientgen.audio.clip import Clip
from ambientgen.audio.resample import resample
from ambientgen.engines.base import Progress, Take
from ambientgen.engines.stable_audio import DEFAULT_MODEL, StableAudioEngine
from ambientgen.errors import EngineError, GenerationCancelled, ModelMissingError, OutOfMemoryError
from ambientgen.planning import resolve
from ambientgen.recipe import SceneRequest
from ambientgen.render import Output, render
from ambientgen.spec import ENGINE_OPTIONS

(CASE,) = (case for case in CASES if case.name == "stable-audio")
NUM_STEPS = 3
DOWNLOAD = f"python -m ambientgen models download --model {DEFAULT_MODEL}"


@pytest.fixture(scope="module")
def engine(tiny_stable_audio_path: Path) -> Iterator[StableAudioEngine]:
    """An engine with the tiny model, loaded."""
    engine = loaded(tiny_stable_audio_path)
    yield engine
    engine.unload()


@pytest.fixture
def damaged_model(tiny_stable_audio_path: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model that a test may damage."""
    return Path(shutil.copytree(tiny_stable_audio_path, tmp_path / "damaged-model"))


def loaded(path: Path, dtype: str = "float32") -> StableAudioEngine:
    """An engine with that model."""
    engine = StableAudioEngine(str(path), device="cpu", dtype=dtype)
    engine.load(lambda _progress: True)
    return engine


def make_take(engine: StableAudioEngine, num_samples: int = 12_000, **changes: Any) -> Take:
    """A take of a quarter of a second, with some of the layer changed."""
    return CASE.take(engine, num_samples=num_samples, **{"num_inference_steps": NUM_STEPS, **changes})


def sound(engine: StableAudioEngine, **changes: Any) -> Any:
    """A take's samples."""
    return run(engine, make_take(engine, **changes)).clip().samples


def test_the_spec_says_what_the_engine_does(tiny_stable_audio_path: Path) -> None:
    """The published model is named by its hub id, its gated license is said; a folder by its name and not its path."""
    spec = StableAudioEngine().spec
    assert (spec.name, spec.version, spec.model) == ("stable-audio", "1", "stabilityai/stable-audio-open-1.0")
    assert (spec.sample_rate_hz, spec.num_channels) == (48_000, 2)
    assert (spec.default_duration_s, spec.longest_good_s) == (30.0, 46.0)
    assert spec.needs_gpu
    assert spec.reads_any_text
    assert spec.supports == set(ENGINE_OPTIONS) - {"full_band"}
    assert spec.license.startswith("Stability AI Community License")
    assert "gated" in spec.license
    assert StableAudioEngine(device="cuda:1").spec.longest_step_s < spec.longest_step_s
    local = StableAudioEngine(str(tiny_stable_audio_path)).spec
    assert local.model == "tiny-stable-audio"
    assert "gated" not in local.license


def test_a_complete_model_counts_as_installed(tiny_stable_audio_path: Path, tmp_path: Path) -> None:
    """The executor warms an engine only if everything is there."""
    assert StableAudioEngine(str(tiny_stable_audio_path)).installed()
    assert not StableAudioEngine(str(tmp_path / "nowhere")).installed()


def test_a_description_becomes_a_soundscape(engine: StableAudioEngine, tmp_path: Path) -> None:
    """What `resolve` decides for this engine is what it understands, up to the finished file."""
    request = SceneRequest(
        description="rain on a tin roof", engine="stable-audio", duration_s=1.234, num_inference_steps=10, seed=7
    )
    recipe = resolve(request, [engine.spec])
    output = Output(directory=tmp_path, name="rain", title="rain", file_format="flac", max_bytes=2**24)
    soundscape = render(recipe, {"stable-audio": engine}, output)
    assert (soundscape.sample_rate_hz, soundscape.num_channels) == (48_000, 2)
    assert soundscape.duration_s == 1.234


@pytest.mark.filterwarnings("ignore:Should have t:UserWarning")  # the plain sampler's, which the engine avoids
@pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated:FutureWarning")
@pytest.mark.parametrize(
    ("guidance_scale", "negative_prompt"),
    [(6.0, "music"), (6.0, None), (1.0, "music")],
    ids=["both", "one", "unguided"],
)
def test_the_sound_is_the_plain_pipelines(
    engine: StableAudioEngine, tiny_stable_audio_path: Path, guidance_scale: float, negative_prompt: str | None
) -> None:
    """Parts called one by one, our noise and decoding in pieces make what one call of the untouched pipeline makes."""
    import torch
    from diffusers import StableAudioPipeline

    pipeline = StableAudioPipeline.from_pretrained(tiny_stable_audio_path)
    latents = pipeline(
        "rain on a tin roof",
        negative_prompt=negative_prompt,
        audio_end_in_s=2.0,
        num_inference_steps=NUM_STEPS,
        guidance_scale=guidance_scale,
        generator=torch.Generator().manual_seed(7),
        output_type="latent",
    ).audios
    with torch.no_grad():
        plain = pipeline.vae.decode(latents[:, :, :64]).sample[0, :, :45_000].numpy()
    expected = resample(Clip(plain, 44_100), 48_000).samples[:, :48_000]
    made = sound(engine, num_samples=48_000, guidance_scale=guidance_scale, negative_prompt=negative_prompt)
    assert np.abs(made - expected).max() <= 1e-4


def test_pieces_join_without_a_trace(engine: StableAudioEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A piece is decoded with as many latents around it as the decoder sees, so nothing shows where two meet."""
    whole = sound(engine, num_samples=96_000)
    monkeypatch.setattr("ambientgen.engines.stable_audio._PIECE_LATENTS", 7)
    feed = run(engine, make_take(engine, num_samples=96_000))
    assert np.abs(feed.clip().samples - whole).max() <= 1e-6
    assert feed.progress_of["a"][-1] == Progress("decoding", 6, 7)


@pytest.mark.parametrize("num_samples", [2_229, 47_999, 2_282_614])
def test_clips_are_exact_up_to_the_whole_window(
    engine: StableAudioEngine, monkeypatch: pytest.MonkeyPatch, num_samples: int
) -> None:
    """Whatever length the window holds comes back in full, up to its last sample."""

    class Decoded:
        def __init__(self, latents: Any) -> None:
            self.sample = latents[:, :2].repeat_interleave(2048, dim=2)

    monkeypatch.setattr(engine._pipeline.vae, "decode", Decoded)
    samples = sound(engine, num_samples=num_samples)
    assert samples.shape == (2, num_samples)
    assert np.abs(samples[:, -64:]).max() > 0


def test_what_is_longer_than_the_window_is_refused(engine: StableAudioEngine) -> None:
    """The model has one window; longer scenes are extended by the renderer, which knows `longest_good_s`."""
    error = run(engine, make_take(engine, num_samples=2_282_615)).error()
    assert "at most 47 s" in str(error)


def test_the_model_is_told_of_a_longer_file(engine: StableAudioEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends its sound where the file ends: a spare second keeps the end out of the clip, as far as there is room."""
    told = []
    encode_duration = engine._pipeline.encode_duration

    def listen(start_s: float, end_s: float, *arguments: Any) -> Any:
        told.append((start_s, end_s))
        return encode_duration(start_s, end_s, *arguments)

    monkeypatch.setattr(engine._pipeline, "encode_duration", listen)
    for duration_s in (0.25, 30.0, 46.0, 47.5):
        take = make_take(engine, num_samples=round(48_000 * duration_s))
        run(engine, take, drop=lambda _take_id, num_reports: num_reports == 50)  # in its first step
    assert told == [(0.0, 2.0), (0.0, 31.0), (0.0, 47.0), (0.0, 1024 * 2048 / 44_100)]


def test_every_setting_reaches_the_model(engine: StableAudioEngine) -> None:
    """Prompt, negative prompt, guidance, steps and seed each change the sound; an empty negative prompt is none."""
    variants: list[dict[str, Any]] = [
        {},
        {"prompt": "a fire"},
        {"negative_prompt": "music, voices"},
        {"negative_prompt": None},
        {"guidance_scale": 2.0},
        {"guidance_scale": 1.0},
        {"num_inference_steps": NUM_STEPS + 1},
        {"seed": 8},
    ]
    sounds = [sound(engine, **variant) for variant in variants]
    for index, first in enumerate(sounds):
        assert not any(np.allclose(first, other, atol=1e-4) for other in sounds[index + 1 :])
    assert np.array_equal(sounds[3], sound(engine, negative_prompt=""))


def test_a_recipes_scheduler_is_accepted_and_changes_nothing(engine: StableAudioEngine) -> None:
    """Its words are AudioLDM2's; this model has one sampler, and a recipe that names another still plays."""
    sounds = [sound(engine, params=params) for params in ({}, {"scheduler": "ddim"}, {"scheduler": "dpmpp_2m"})]
    assert np.array_equal(sounds[0], sounds[1])
    assert np.array_equal(sounds[0], sounds[2])


def test_progress_counts_every_step(engine: StableAudioEngine) -> None:
    """The person sees each step once, in order; in between the newest is told again, so that nobody waits to cancel."""
    reports = run(engine, make_take(engine)).progress_of["a"]
    assert list(dict.fromkeys(reports)) == [
        Progress("conditioning"),
        *(Progress("denoising", step, NUM_STEPS) for step in range(NUM_STEPS + 1)),
        Progress("decoding", 0, 1),
    ]
    assert len(reports) > 100


@pytest.mark.parametrize("place", [1, 5, 60, 150, -1])
def test_a_dropped_take_stops_at_once_and_leaves_no_trace(engine: StableAudioEngine, place: int) -> None:
    """Also in the middle of a step or of decoding; the next take is bit-equal to an undisturbed one."""
    undisturbed = run(engine, make_take(engine))
    place %= len(undisturbed.progress_of["a"]) + 1
    feed = run(engine, make_take(engine), drop=lambda _take_id, num_reports: num_reports == place)
    assert feed.served() == {}
    assert len(feed.progress_of["a"]) == place
    assert np.array_equal(sound(engine), undisturbed.clip().samples)


def test_the_pipelines_sampler_is_put_back(engine: StableAudioEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pipeline's sampler is shared state: after a take, a drop or a failure it is the one that was loaded."""
    own = engine._pipeline.scheduler
    run(engine, make_take(engine))
    assert engine._pipeline.scheduler is own
    run(engine, make_take(engine), drop=lambda _take_id, num_reports: num_reports == 100)
    assert engine._pipeline.scheduler is own
    monkeypatch.setattr(engine._pipeline.transformer, "forward", lambda *_args, **_kwargs: 1 / 0)
    run(engine, make_take(engine)).error()
    assert engine._pipeline.scheduler is own


@pytest.mark.filterwarnings("ignore:Should have t:UserWarning")
def test_the_noise_has_no_end_to_search_for(engine: StableAudioEngine) -> None:
    """Where a rounding error lies on the wrong side, diffusers' own noise is an endless search; ours is none.

    Should diffusers cope one day, the engine's cure can go.
    """
    import torch
    from diffusers.schedulers.scheduling_dpmsolver_sde import BrownianTreeNoiseSampler

    from ambientgen.engines.stable_audio import _new_scheduler

    last = torch.tensor(0.3) + 2e-7, torch.tensor(0.0)
    with pytest.raises(RecursionError):
        BrownianTreeNoiseSampler(torch.zeros(1, 8, 1024), 0.3, 500.0, seed=7)(*last)
    scheduler = _new_scheduler(engine._pipeline.scheduler.config, 7, 8)
    scheduler.set_timesteps(NUM_STEPS)
    assert not scheduler.noise_sampler(*last).any()
    first = scheduler.noise_sampler(torch.tensor(500.00006), torch.tensor(20.0))
    assert first.dtype == torch.float32
    assert float(first.std()) == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_samples": 0}, "at least one sample"),
        ({"params": {"scheduler": "euler"}}, "schedulers ddim, dpmpp_2m"),
        ({"params": {"scheduler": ["ddim"]}}, "schedulers"),
        ({"params": {"intensity": 1}}, "no parameter `intensity`"),
        ({"params": {"num_candidates": 0}}, "num_candidates goes from 1 to 8"),
        ({"params": {"num_candidates": True}}, "num_candidates"),
        ({"num_inference_steps": None}, "needs num_inference_steps"),
        ({"num_inference_steps": 1}, "at least two steps"),
        ({"guidance_scale": None}, "guidance_scale"),
        ({"model": "cvssp/audioldm2"}, "made with the model `cvssp/audioldm2`"),
    ],
)
def test_what_the_engine_does_not_have_is_refused(
    engine: StableAudioEngine, changes: dict[str, Any], words: str
) -> None:
    """A layer that asks for something unknown ends as an error with words, before any work."""
    assert words in str(run(engine, make_take(engine, **changes)).error())


@pytest.mark.parametrize("part", ["text_encoder", "transformer", "vae.decoder"])
def test_running_out_of_memory_ends_one_take_only(
    engine: StableAudioEngine, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    """The person gets advice, and the engine lives on."""
    import torch

    before = sound(engine)
    with monkeypatch.context() as patch:

        def exhausted(*_args: object, **_kwargs: object) -> None:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

        patch.setattr(operator.attrgetter(part)(engine._pipeline), "forward", exhausted)
        error = run(engine, make_take(engine)).error()
    assert isinstance(error, OutOfMemoryError)
    assert "ran out of memory" in str(error)
    assert isinstance(error.__cause__, torch.OutOfMemoryError)
    assert np.array_equal(sound(engine), before)


def test_any_other_failure_is_an_engine_error_with_its_cause(
    engine: StableAudioEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The words are for Discord; the details stay in the cause for the log."""

    def broken(*_args: object, **_kwargs: object) -> None:
        raise ValueError("/secret/place is broken")

    monkeypatch.setattr(engine._pipeline.transformer, "forward", broken)
    error = run(engine, make_take(engine)).error()
    assert type(error) is EngineError
    assert "secret" not in str(error)
    assert isinstance(error.__cause__, ValueError)


def test_numbers_out_of_range_are_an_error_not_a_clip(
    engine: StableAudioEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NaN must not reach the mixer."""
    transformer = engine._pipeline.transformer
    forward = transformer.forward
    monkeypatch.setattr(transformer, "forward", lambda *args, **kwargs: (forward(*args, **kwargs)[0] * math.nan,))
    assert "out of range in float32" in str(run(engine, make_take(engine)).error())


@pytest.mark.parametrize(("dtype", "num_steps", "limit"), [("bfloat16", 20, 0.2), ("float16", NUM_STEPS, 0.05)])
def test_half_precision_stays_inside_the_transformer(
    tiny_stable_audio_path: Path, engine: StableAudioEngine, dtype: str, num_steps: int, limit: float
) -> None:
    """Sampling, time, text and decoding keep float32, so the sound stays near the full-precision one."""
    import torch

    half = loaded(tiny_stable_audio_path, dtype)
    transformer = half._pipeline.transformer
    dtypes = {str(block.dtype) for block in transformer.transformer_blocks.parameters()}
    assert dtypes == {f"torch.{dtype}"}
    assert half._pipeline.vae.dtype == half._pipeline.text_encoder.dtype == torch.float32
    times: list[Any] = []
    transformer.time_proj.register_forward_pre_hook(lambda _module, arguments: times.append(float(arguments[0])))
    full_sound, half_sound = (sound(e, num_inference_steps=num_steps) for e in (engine, half))
    assert np.std(half_sound - full_sound) < limit * np.std(full_sound)
    assert len(set(times)) == num_steps  # 20 times in bfloat16 would be only 17 different ones


def test_the_engine_prints_nothing(tiny_stable_audio_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Progress bars and advice of the libraries have no place in the bot's log, not even for a far too long prompt."""
    engine = loaded(tiny_stable_audio_path)
    sound(engine, prompt="rain " * 100)
    assert capfd.readouterr() == ("", "")


def test_loading_can_be_given_up(tiny_stable_audio_path: Path) -> None:
    """A bot that shuts down does not wait for the weights; a later load works."""
    engine = StableAudioEngine(str(tiny_stable_audio_path), device="cpu")
    told: list[Progress] = []

    def give_up(progress: Progress) -> bool:
        told.append(progress)
        return progress.step < 2

    with pytest.raises(GenerationCancelled):
        engine.load(give_up)
    assert told == [Progress("loading", step, 3) for step in range(3)]
    assert engine.device is None
    engine.load(lambda _progress: True)
    assert engine.device == "cpu"


def test_a_missing_model_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a folder that is not there nor an uncached hub id downloads anything or shows a path."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    for model, cure in ((str(tmp_path / "nowhere"), "put all of the model's files"), (DEFAULT_MODEL, DOWNLOAD)):
        with pytest.raises(ModelMissingError, match=cure) as caught:
            StableAudioEngine(model, device="cpu").load(lambda _progress: True)
        assert str(tmp_path) not in str(caught.value)


def test_missing_packages_say_what_to_do(tiny_stable_audio_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """AudioLDM2's packages alone are not enough."""
    monkeypatch.setattr("ambientgen.models.missing_packages", lambda extra: ("torchsde",) * (extra == "stable-audio"))
    engine = StableAudioEngine(str(tiny_stable_audio_path))
    assert not engine.installed()
    with pytest.raises(ModelMissingError, match=r"torchsde.*`stable-audio` extra"):
        engine.load(lambda _progress: True)


@pytest.mark.parametrize("part", ["transformer/diffusion_pytorch_model.safetensors", "vae/config.json", "tokenizer"])
def test_damaged_files_are_found_before_loading(damaged_model: Path, part: str) -> None:
    """A download that broke off is named, not passed to torch."""
    broken = damaged_model / part
    if broken.is_dir():
        shutil.rmtree(broken)
    else:
        broken.write_bytes(broken.read_bytes()[:-40])
    engine = StableAudioEngine(str(damaged_model), device="cpu")
    assert not engine.installed()
    with pytest.raises(ModelMissingError, match=r"damaged-model.*put all of the model's files"):
        engine.load(lambda _progress: True)


def test_damage_only_the_library_sees_has_the_same_words(damaged_model: Path) -> None:
    """Weights of another shape than the settings say fail while loading."""
    edit(damaged_model / "transformer" / "config.json", '"num_attention_heads": 2', '"num_attention_heads": 3')
    with pytest.raises(ModelMissingError, match="put all of the model's files") as caught:
        StableAudioEngine(str(damaged_model), device="cpu").load(lambda _progress: True)
    assert str(damaged_model.parent) not in str(caught.value)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("vae/config.json", '"sampling_rate": 44100', '"sampling_rate": 48000'),
        ("transformer/config.json", '"sample_size": 1024', '"sample_size": 256'),
        ("model_index.json", "CosineDPMSolverMultistepScheduler", "EDMDPMSolverMultistepScheduler"),
    ],
)
def test_a_model_of_another_kind_is_refused(damaged_model: Path, file: str, old: str, new: str) -> None:
    """Exact lengths rest on the rate and the window, a seed's sound on the sampler."""
    edit(damaged_model / file, old, new)
    with pytest.raises(ModelMissingError, match="sampler, rate or window"):
        StableAudioEngine(str(damaged_model), device="cpu").load(lambda _progress: True)


def test_a_model_too_large_for_the_device_says_so(
    tiny_stable_audio_path: Path, engine: StableAudioEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Out of memory while loading is told apart from damage."""
    import torch

    def exhausted(*_args: object, **_kwargs: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(type(engine._pipeline), "to", exhausted)
    with pytest.raises(OutOfMemoryError, match="free memory of the device `cpu`"):
        StableAudioEngine(str(tiny_stable_audio_path), device="cpu").load(lambda _progress: True)


@pytest.mark.parametrize(
    ("device", "dtype", "words"), [("teapot", None, "device `teapot`"), ("cpu", "int8", "float32, bfloat16, float16")]
)
def test_wrong_settings_have_words(tiny_stable_audio_path: Path, device: str, dtype: str | None, words: str) -> None:
    """A device or dtype from the settings may be anything."""
    with pytest.raises(EngineError, match=words):
        StableAudioEngine(str(tiny_stable_audio_path), device=device, dtype=dtype).load(lambda _progress: True)


def edit(file: Path, old: str, new: str) -> None:
    """Replace text that is there."""
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")
