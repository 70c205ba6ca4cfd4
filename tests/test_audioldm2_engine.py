"""The AudioLDM2 engine, whole and offline, on a tiny model with random weights."""

from __future__ import annotations

import dataclasses
import math
import shutil
import subprocess
import sys
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diffusion_world import counted_calls

from ambientgen.audio.clip import Clip
from ambientgen.audio.resample import resample
from ambientgen.diffusion.ranking import CONCEPTS
from ambientgen.engines.audioldm2 import AudioLDM2Engine
from ambientgen.engines.base import Progress, Take
from ambientgen.errors import EngineError, GenerationCancelled, ModelMissingError, OutOfMemoryError
from ambientgen.recipe import Layer
from ambientgen.spec import ENGINE_OPTIONS

# diffusers' DPM++ scheduler calls numpy in a way that torch's tensors do not know yet; nothing here can mend that.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

NUM_STEPS = 3


class ListFeed:
    """A feed of given takes that keeps what it is told.

    Args:
        takes: what to serve, in order.
        drop_when: takes a progress and says whether to drop the take.
    """

    def __init__(self, *takes: Take, drop_when: Callable[[Progress], bool] = lambda _progress: False) -> None:
        self._waiting = list(takes)
        self._drop_when = drop_when
        self.progress_of: dict[str, list[Progress]] = {}
        self.results: dict[str, Clip | EngineError] = {}
        self.matches: dict[str, float | None] = {}
        self.leaks: dict[str, tuple[str, ...]] = {}

    def admit(self, _key: Hashable | None, num_free: int) -> list[Take]:
        """The next takes."""
        admitted, self._waiting = self._waiting[:num_free], self._waiting[num_free:]
        return admitted

    def progress(self, take_id: str, progress: Progress) -> bool:
        """Keep it; False where the take is to be dropped."""
        told = self.progress_of.setdefault(take_id, [])
        if told[-1:] != [progress]:  # long pieces of work ask many times
            told.append(progress)
        return not self._drop_when(progress)

    def finish(
        self, take_id: str, result: Clip | EngineError, match: float | None = None, leaks: tuple[str, ...] = ()
    ) -> None:
        """Keep it."""
        assert take_id not in self.results
        self.results[take_id] = result
        self.matches[take_id] = match
        self.leaks[take_id] = leaks


def make_take(take_id: str = "a", num_samples: int = 24_000, **changes: Any) -> Take:
    """A take of half a second, with some of the layer changed."""
    layer = Layer(
        engine="audioldm2",
        prompt="rain on a tin roof",
        negative_prompt="music",
        seed=7,
        num_inference_steps=NUM_STEPS,
        guidance_scale=6.0,
        params={"scheduler": "ddim", "num_candidates": 1},
    )
    return Take(id=take_id, layer=dataclasses.replace(layer, **changes), num_samples=num_samples, loop=False)


def pipeline_of(engine: AudioLDM2Engine) -> Any:
    """The loaded pipeline, for tests that break a part of it."""
    assert engine._loaded is not None
    return engine._loaded.checkpoint.pipeline


def run(engine: AudioLDM2Engine, take: Take) -> Clip:
    """The take's clip."""
    feed = ListFeed(take)
    engine.run(feed)
    result = feed.results[take.id]
    if isinstance(result, EngineError):
        raise result
    return result


def fail(engine: AudioLDM2Engine, take: Take) -> EngineError:
    """The take's error."""
    feed = ListFeed(take)
    engine.run(feed)
    result = feed.results[take.id]
    assert isinstance(result, EngineError)
    return result


@pytest.fixture(scope="module")
def engine(tiny_model_path: Path) -> Iterator[AudioLDM2Engine]:
    """An engine with the tiny model, loaded."""
    engine = AudioLDM2Engine(str(tiny_model_path), device="cpu", dtype="float32")
    engine.load(lambda _progress: True)
    yield engine
    engine.unload()


@pytest.fixture(scope="module")
def plain_engine(tiny_model_path: Path) -> Iterator[AudioLDM2Engine]:
    """An engine that calls diffusers' pipeline."""
    engine = AudioLDM2Engine(str(tiny_model_path), device="cpu", dtype="float32", plain=True)
    engine.load(lambda _progress: True)
    yield engine
    engine.unload()


@pytest.fixture
def damaged_model(tiny_model_path: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model that a test may damage."""
    return Path(shutil.copytree(tiny_model_path, tmp_path / "damaged-model"))


def test_importing_the_engine_imports_no_torch() -> None:
    """The base install has no torch, so neither the module nor the spec nor `installed()` may import it."""
    code = (
        "import sys; from ambientgen.engines.audioldm2 import AudioLDM2Engine as E; e = E(); e.spec; e.installed(); "
        "print([m for m in ('torch', 'diffusers', 'transformers', 'huggingface_hub') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_spec_says_what_the_engine_does(tiny_model_path: Path) -> None:
    """The published model is named by its hub id and license, a folder by its name and never by its path."""
    spec = AudioLDM2Engine().spec
    assert (spec.name, spec.version, spec.model) == ("audioldm2", "4", "cvssp/audioldm2")
    assert (spec.sample_rate_hz, spec.num_channels) == (48_000, 1)
    assert spec.needs_gpu
    assert spec.reads_any_text
    assert spec.supports == {*ENGINE_OPTIONS, "loop"}
    assert spec.loop_step_s == 0.04
    assert "non-commercial" in spec.license
    assert AudioLDM2Engine(device="cuda:1").spec.longest_step_s < spec.longest_step_s
    local = AudioLDM2Engine(str(tiny_model_path)).spec
    assert local.model == "tiny-audioldm2"
    assert local.license == "see the model's own license"


def test_a_complete_model_counts_as_installed(tiny_model_path: Path, tmp_path: Path) -> None:
    """The executor warms an engine only if everything is there."""
    assert AudioLDM2Engine(str(tiny_model_path)).installed()
    assert not AudioLDM2Engine(str(tmp_path / "nowhere")).installed()


@pytest.mark.parametrize("num_samples", [1, 1_919, 48_000, 48_001, 99_839, 100_000, 480_000])
def test_clips_are_exact_48_khz_mono(engine: AudioLDM2Engine, num_samples: int) -> None:
    """Whatever length is asked, that many finite float32 samples come back, also where the pipeline alone is short."""
    clip = run(engine, make_take(num_samples=num_samples, num_inference_steps=1))
    assert clip.samples.shape == (1, num_samples)
    assert clip.samples.dtype == np.float32
    assert clip.sample_rate_hz == 48_000
    assert np.isfinite(clip.samples).all()
    assert np.abs(clip.samples).max() > 0


@pytest.mark.parametrize("scheduler", ["ddim", "dpmpp_2m"])
def test_a_seed_is_a_sound(engine: AudioLDM2Engine, scheduler: str) -> None:
    """The same take is bit-equal, another seed or prompt is not."""
    params = {"scheduler": scheduler}
    first = run(engine, make_take(params=params)).samples
    other_seed = run(engine, make_take(params=params, seed=8)).samples
    again = run(engine, make_take(params=params)).samples
    assert np.array_equal(first, again)
    assert not np.allclose(first, other_seed, atol=1e-4)
    assert not np.array_equal(first, run(engine, make_take(params=params, prompt="a fire")).samples)


def test_every_setting_reaches_the_model(engine: AudioLDM2Engine) -> None:
    """Negative prompt, guidance, steps and scheduler each change the sound; an empty negative prompt works."""
    base = make_take(negative_prompt="")
    variants = [
        make_take(negative_prompt="music, voices"),
        make_take(negative_prompt="", guidance_scale=2.0),
        make_take(negative_prompt="", guidance_scale=1.0),
        make_take(negative_prompt="", num_inference_steps=NUM_STEPS + 1),
        make_take(negative_prompt="", params={"scheduler": "dpmpp_2m"}),
    ]
    sounds = [run(engine, take).samples for take in (base, *variants)]
    assert np.array_equal(sounds[0], run(engine, make_take(negative_prompt=None)).samples)
    for index, sound in enumerate(sounds):
        assert not any(np.array_equal(sound, other) for other in sounds[index + 1 :])


def test_the_full_band_is_not_the_engines_business(engine: AudioLDM2Engine) -> None:
    """It is added to what the model made, so the take is the same with and without it."""
    assert np.array_equal(run(engine, make_take(params={"full_band": True})).samples, run(engine, make_take()).samples)


@pytest.mark.parametrize("guidance_scale", [1.0, 6.0])
@pytest.mark.parametrize("plain", [False, True], ids=["own loop", "plain"])
def test_the_sound_is_the_pipelines(
    engine: AudioLDM2Engine, plain_engine: AudioLDM2Engine, tiny_model_path: Path, plain: bool, guidance_scale: float
) -> None:
    """Our loop, and diffusers' own through the engine, make what one call of the untouched pipeline makes."""
    import torch
    from diffusers import AudioLDM2Pipeline
    from transformers import GPT2LMHeadModel

    language_model = GPT2LMHeadModel.from_pretrained(tiny_model_path, subfolder="language_model")
    pipeline = AudioLDM2Pipeline.from_pretrained(tiny_model_path, language_model=language_model)
    pipeline.set_progress_bar_config(disable=True)
    audio = pipeline(
        "rain on a tin roof",
        negative_prompt="music",
        audio_length_in_s=2.56,  # our shortest window
        num_inference_steps=NUM_STEPS,
        guidance_scale=guidance_scale,
        generator=torch.Generator().manual_seed(7),
    ).audios
    expected = resample(Clip(audio, 16_000), 48_000).samples
    take = make_take(num_samples=round(2.56 * 48_000), guidance_scale=guidance_scale)
    made = run(plain_engine if plain else engine, take).samples
    assert np.abs(made - expected).max() <= 1e-5 * np.abs(expected).max()


def test_the_plain_engine_promises_less(plain_engine: AudioLDM2Engine) -> None:
    """Diffusers' own call makes neither loops nor long clips, and one take at a time; its recipes say so."""
    spec = plain_engine.spec
    assert (spec.version, spec.longest_good_s, spec.loop_step_s) == ("3", 10.24, 0.0)
    assert "loop" not in spec.supports
    assert plain_engine.max_batch(plain_engine.batch_key(make_take())) == 1
    feed = ListFeed(make_take("a"), make_take("b"), drop_when=lambda progress: progress.step == 2)
    plain_engine.run(feed)
    assert feed.results == {}
    assert feed.progress_of["b"][-1] == Progress("denoising", 2, NUM_STEPS)


def test_the_published_checkpoint_fails_without_the_engines_cure(tiny_model_path: Path) -> None:
    """The tiny model names `GPT2Model` as the published one does; should diffusers cope one day, the cure can go."""
    from diffusers import AudioLDM2Pipeline

    pipeline = AudioLDM2Pipeline.from_pretrained(tiny_model_path)
    with pytest.raises(AttributeError, match="GPT2Model"):
        pipeline("rain", audio_length_in_s=0.1, num_inference_steps=1)


def test_progress_counts_every_step(engine: AudioLDM2Engine) -> None:
    """The person sees each step once, in order, and the parts before and after."""
    feed = ListFeed(make_take())
    engine.run(feed)
    assert feed.progress_of["a"] == [
        Progress("conditioning"),
        *(Progress("denoising", step, NUM_STEPS) for step in range(NUM_STEPS + 1)),
        Progress("decoding", 0, 2),
        Progress("decoding", 1, 2),
    ]


@pytest.mark.parametrize(
    "last", [Progress("conditioning"), Progress("denoising", 2, NUM_STEPS), Progress("decoding", 1, 2)], ids=str
)
def test_a_dropped_take_stops_at_once_and_leaves_no_trace(engine: AudioLDM2Engine, last: Progress) -> None:
    """Nothing is reported after the drop, `finish` is not called, the next take is bit-equal to an undisturbed one."""
    undisturbed = run(engine, make_take("b")).samples
    feed = ListFeed(make_take("a"), drop_when=lambda progress: progress == last)
    engine.run(feed)
    assert feed.progress_of["a"][-1] == last
    assert feed.results == {}
    assert np.array_equal(run(engine, make_take("b")).samples, undisturbed)


def test_one_dropped_take_does_not_touch_the_next(engine: AudioLDM2Engine) -> None:
    """Takes are served one after the other until the feed is empty."""
    feed = ListFeed(make_take("a"), make_take("b", seed=9), make_take("c", num_samples=0), make_take("d"))
    dropped: list[str] = []
    whole_progress = feed.progress

    def drop_a(take_id: str, progress: Progress) -> bool:
        if take_id == "a" and progress.stage == "denoising":
            dropped.append(take_id)
            return False
        return whole_progress(take_id, progress)

    feed.progress = drop_a  # type: ignore[method-assign]
    engine.run(feed)
    assert dropped == ["a"]
    assert set(feed.results) == {"b", "c", "d"}
    assert isinstance(feed.results["c"], EngineError)
    assert isinstance(feed.results["d"], Clip)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"params": {"scheduler": "euler"}}, "schedulers are ddim, dpmpp_2m"),
        ({"params": {"scheduler": ["ddim"]}}, "schedulers are"),
        ({"params": {"intensity": 1}}, "no parameter `intensity`"),
        ({"params": {"num_candidates": 0}}, "num_candidates goes from 1 to 8"),
        ({"params": {"num_candidates": True}}, "num_candidates"),
        ({"params": {"full_band": 1}}, "full_band is true or false"),
        ({"num_inference_steps": None}, "needs num_inference_steps"),
        ({"num_inference_steps": 0}, "at least one step"),
        ({"guidance_scale": None}, "guidance_scale"),
        ({"model": "cvssp/audioldm2-large"}, "made with the model `cvssp/audioldm2-large`"),
    ],
)
def test_what_the_engine_does_not_have_is_refused(engine: AudioLDM2Engine, changes: dict[str, Any], words: str) -> None:
    """A layer that asks for something unknown ends as an error with words, before any work."""
    assert words in str(fail(engine, make_take(**changes)))


def test_running_out_of_memory_ends_one_take_only(engine: AudioLDM2Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The person gets advice, the engine lives on, and no tensor stays alive in the error."""
    import torch

    before = run(engine, make_take()).samples
    with monkeypatch.context() as patch:

        def exhausted(*_args: object, **_kwargs: object) -> None:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

        patch.setattr(pipeline_of(engine).unet, "forward", exhausted)
        error = fail(engine, make_take())
    assert isinstance(error, OutOfMemoryError)
    assert "shorter clip" in str(error)
    assert isinstance(error.__cause__, torch.OutOfMemoryError)
    assert np.array_equal(run(engine, make_take()).samples, before)


@pytest.mark.parametrize("words", ["MPS backend out of memory", "DefaultCPUAllocator: can't allocate memory: ..."])
def test_other_devices_run_out_of_memory_too(
    engine: AudioLDM2Engine, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    """MPS and the CPU raise a plain RuntimeError for it."""

    def exhausted(*_args: object, **_kwargs: object) -> None:
        raise RuntimeError(words)

    monkeypatch.setattr(pipeline_of(engine).vae, "decode", exhausted)
    assert isinstance(fail(engine, make_take()), OutOfMemoryError)


def test_any_other_failure_is_an_engine_error_with_its_cause(
    engine: AudioLDM2Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The words are for Discord; the details stay in the cause for the log."""

    def broken(*_args: object, **_kwargs: object) -> None:
        raise ValueError("/secret/place is broken")

    monkeypatch.setattr(pipeline_of(engine).unet, "forward", broken)
    error = fail(engine, make_take())
    assert type(error) is EngineError
    assert "secret" not in str(error)
    assert isinstance(error.__cause__, ValueError)


def test_numbers_out_of_range_are_an_error_not_a_clip(engine: AudioLDM2Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """NaN must not reach the mixer."""
    import torch

    monkeypatch.setattr(
        pipeline_of(engine), "mel_spectrogram_to_waveform", lambda _mel: torch.full((1, 16_000), math.nan)
    )
    assert "out of range" in str(fail(engine, make_take()))


def test_half_precision_runs_and_decodes_in_full(tiny_model_path: Path, engine: AudioLDM2Engine) -> None:
    """With bfloat16 the sound stays near the full-precision one, from the same noise."""
    import torch

    half = AudioLDM2Engine(str(tiny_model_path), device="cpu", dtype="bfloat16")
    half.load(lambda _progress: True)
    pipeline = pipeline_of(half)
    assert pipeline.unet.dtype == torch.bfloat16
    assert pipeline.vae.dtype == torch.bfloat16
    assert pipeline.vocoder.dtype == torch.float32
    full_sound, half_sound = run(engine, make_take()).samples, run(half, make_take()).samples
    assert np.std(half_sound - full_sound) < 0.2 * np.std(full_sound)


@contextmanager
def music_heard_in_everything(engine: AudioLDM2Engine) -> Iterator[None]:
    """A CLAP to which every clip sounds just like its word for music, and like the opposite of all other words."""
    pipeline = pipeline_of(engine)
    clap, heard = pipeline.text_encoder, []
    hear, read = clap.get_audio_features, clap.get_text_features

    def get_audio_features(*args: Any, **options: Any) -> Any:
        heard.append(hear(*args, **options).pooler_output)
        return heard[-1]

    def get_text_features(input_ids: Any, **options: Any) -> Any:
        if len(input_ids) > 1:  # prompt and negative prompt, to be made
            return read(input_ids, **options)
        text = pipeline.tokenizer.decode(input_ids[0], skip_special_tokens=True)
        return heard[-1] if text == CONCEPTS["music"] else -heard[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clap, "get_audio_features", get_audio_features)
        patch.setattr(clap, "get_text_features", get_text_features)
        yield


def test_a_leak_is_told_with_the_take(tiny_model_path: Path) -> None:
    """Where the model's CLAP hears what the negative prompt names and the prompt does not; not where nobody minds."""
    engine = AudioLDM2Engine(str(tiny_model_path), device="cpu", dtype="float32")
    engine.load(lambda _progress: True)
    with music_heard_in_everything(engine):
        takes = [
            make_take("unwanted", negative_prompt="music, voices"),
            make_take("nobody minds", negative_prompt="low quality"),
            make_take("wanted", prompt="a soft piano", negative_prompt="music"),
        ]
        feed = ListFeed(*takes)
        engine.run(feed)
    assert feed.leaks == {"unwanted": ("music",), "nobody minds": (), "wanted": ()}
    assert feed.matches == dict.fromkeys(feed.leaks)
    assert all(isinstance(result, Clip) for result in feed.results.values())


def test_the_plain_engine_judges_no_leaks(plain_engine: AudioLDM2Engine) -> None:
    """Diffusers' own call stays what it is."""
    clap = pipeline_of(plain_engine).text_encoder
    feed = ListFeed(make_take())
    with counted_calls(clap.audio_model) as calls:
        plain_engine.run(feed)
    assert feed.leaks == {"a": ()}
    assert calls == []


def test_judging_costs_one_pass_over_the_sound_and_none_over_known_words(engine: AudioLDM2Engine) -> None:
    """Ranking and leaks share what the CLAP heard; a take whose words are known needs no text model at all."""
    clap = pipeline_of(engine).text_encoder
    words = {"prompt": "water that drips in a cave", "negative_prompt": "music, voices"}
    run(engine, make_take(**words))
    for seed, num_candidates in ((1, 1), (2, 2)):
        params = {"scheduler": "ddim", "num_candidates": num_candidates}
        with counted_calls(clap.audio_model, clap.text_model) as calls:
            run(engine, make_take(seed=seed, params=params, **words))
        assert calls == [clap.audio_model]


def test_loading_reports_and_is_done_once(tiny_model_path: Path) -> None:
    """Each piece is reported before it starts; a second load does nothing; after unload it works again."""
    engine = AudioLDM2Engine(str(tiny_model_path), device="cpu")
    told: list[Progress] = []

    def report(progress: Progress) -> bool:
        told.append(progress)
        return True

    engine.load(report)
    assert told == [Progress("loading", step, 3) for step in range(3)]
    engine.load(report)
    assert len(told) == 3
    engine.unload()
    engine.unload()
    with pytest.raises(EngineError, match="not loaded"):
        engine.run(ListFeed(make_take()))
    engine.load(report)
    assert len(told) == 6


def test_the_engine_prints_nothing(tiny_model_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Progress bars and advice of the libraries have no place in the bot's log, not even for a far too long prompt."""
    engine = AudioLDM2Engine(str(tiny_model_path), device="cpu")
    engine.load(lambda _progress: True)
    run(engine, make_take(prompt="rain " * 100))
    assert capfd.readouterr() == ("", "")


def test_loading_can_be_given_up(tiny_model_path: Path) -> None:
    """A bot that shuts down does not wait for the weights; a later load works."""
    engine = AudioLDM2Engine(str(tiny_model_path), device="cpu")
    with pytest.raises(GenerationCancelled):
        engine.load(lambda progress: progress.step < 1)
    engine.load(lambda _progress: True)
    assert run(engine, make_take()).num_samples == 24_000


def test_a_missing_model_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a folder that is not there nor an uncached hub id downloads anything or shows a path."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    for model in (str(tmp_path / "nowhere"), "cvssp/audioldm2"):
        with pytest.raises(ModelMissingError, match="run `make model`") as caught:
            AudioLDM2Engine(model, device="cpu").load(lambda _progress: True)
        assert str(tmp_path) not in str(caught.value)


def test_missing_packages_say_what_to_do(tiny_model_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The base install has none of the model's packages."""
    monkeypatch.setattr("ambientgen.models.PACKAGES", ("torch", "no_such_package_here"))
    engine = AudioLDM2Engine(str(tiny_model_path))
    assert not engine.installed()
    with pytest.raises(ModelMissingError, match=r"no_such_package_here.*run `make model`"):
        engine.load(lambda _progress: True)


@pytest.mark.parametrize("part", ["unet/diffusion_pytorch_model.safetensors", "vae/config.json", "tokenizer"])
def test_damaged_files_are_found_before_loading(damaged_model: Path, part: str) -> None:
    """A download that broke off is named, not passed to torch."""
    broken = damaged_model / part
    if broken.is_dir():
        shutil.rmtree(broken)
    else:
        broken.write_bytes(broken.read_bytes()[:-40])
    engine = AudioLDM2Engine(str(damaged_model), device="cpu")
    assert not engine.installed()
    with pytest.raises(ModelMissingError, match=r"damaged-model.*run `make model`"):
        engine.load(lambda _progress: True)


def test_damage_only_the_library_sees_has_the_same_words(damaged_model: Path) -> None:
    """Weights of another shape than the settings say fail while loading."""
    config = damaged_model / "vocoder" / "config.json"
    config.write_text(config.read_text().replace('"model_in_dim": 16', '"model_in_dim": 32'))
    engine = AudioLDM2Engine(str(damaged_model), device="cpu")
    with pytest.raises(ModelMissingError, match="run `make model`") as caught:
        engine.load(lambda _progress: True)
    assert str(damaged_model.parent) not in str(caught.value)


def test_a_model_with_other_frames_is_refused(damaged_model: Path) -> None:
    """The exact lengths rest on 16 kHz and 160 samples a frame."""
    config = damaged_model / "vocoder" / "config.json"
    config.write_text(config.read_text().replace('"sampling_rate": 16000', '"sampling_rate": 24000'))
    with pytest.raises(ModelMissingError, match="sample rate or frame length"):
        AudioLDM2Engine(str(damaged_model), device="cpu").load(lambda _progress: True)


def test_a_model_too_large_for_the_device_says_so(
    tiny_model_path: Path, engine: AudioLDM2Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Out of memory while loading is told apart from damage."""
    import torch

    def exhausted(*_args: object, **_kwargs: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(type(pipeline_of(engine).unet), "to", exhausted)
    with pytest.raises(OutOfMemoryError, match="free memory of the device `cpu`"):
        AudioLDM2Engine(str(tiny_model_path), device="cpu").load(lambda _progress: True)


@pytest.mark.parametrize(
    ("device", "dtype", "words"), [("teapot", None, "device `teapot`"), ("cpu", "int8", "float32, bfloat16, float16")]
)
def test_wrong_settings_have_words(tiny_model_path: Path, device: str, dtype: str | None, words: str) -> None:
    """A device or dtype from the settings may be anything."""
    with pytest.raises(EngineError, match=words):
        AudioLDM2Engine(str(tiny_model_path), device=device, dtype=dtype).load(lambda _progress: True)
