"""Stems are kept, so that a mix is changed without rendering a layer again."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from scripted import ScriptedEngine

from ambientgen.audio import encode
from ambientgen.audio.clip import Clip
from ambientgen.audio.loudness import integrated_lufs
from ambientgen.audio.mix import Stem
from ambientgen.audio.sound import in_memory
from ambientgen.engines.procedural import ProceduralEngine
from ambientgen.planning import resolve
from ambientgen.recipe import Recipe, SceneRequest
from ambientgen.render import Output, Soundscape, render
from ambientgen.stems import StemCache, fit

SCENE = "rain with a dog barking"


def a_cache(folder: Path, max_bytes: int = 2**30) -> StemCache:
    """A cache in its own folder."""
    return StemCache(folder / "stems", max_bytes)


def a_recipe(*engines: ScriptedEngine | ProceduralEngine, seed: int = 4) -> Recipe:
    """A texture under events."""
    return resolve(SceneRequest(description=SCENE, seed=seed, duration_s=2.0), [engine.spec for engine in engines])


def made(folder: Path, recipe: Recipe, engine: ScriptedEngine, cache: StemCache, name: str = "clip") -> Soundscape:
    """Render with a scripted model and the procedural engine."""
    output = Output(directory=folder, name=name, title=SCENE, file_format="wav", max_bytes=2**40)
    return render(recipe, {"audioldm2": engine, "procedural": ProceduralEngine()}, output, kept_stems=cache)


def with_gain(recipe: Recipe, index: int, gain_db: float) -> Recipe:
    """The recipe with another gain for one layer."""
    layers = list(recipe.layers)
    layers[index] = dataclasses.replace(layers[index], gain_db=gain_db)
    return dataclasses.replace(recipe, layers=tuple(layers))


def test_another_mix_renders_no_layer_again(tmp_path: Path) -> None:
    """The engine is not called, and the sound is the one that rendering anew would give."""
    engine, cache = ScriptedEngine(), a_cache(tmp_path)
    first = made(tmp_path, a_recipe(engine, ProceduralEngine()), engine, cache)
    assert len(engine.seeds) == 1
    louder = with_gain(first.recipe, 1, 6.0)
    again = made(tmp_path, louder, engine, cache, "again")
    assert len(engine.seeds) == 1
    anew = made(tmp_path, louder, engine, a_cache(tmp_path / "other"), "anew")
    assert len(engine.seeds) == 2
    samples = [encode.decode(soundscape.path).samples for soundscape in (first, again, anew)]
    np.testing.assert_array_equal(samples[1], samples[2])
    assert not np.array_equal(samples[0], samples[1])
    assert again.recipe == louder


def test_another_seed_length_or_loop_is_another_stem(tmp_path: Path) -> None:
    """Only what a layer sounds like counts: neither its gain nor its label, but everything else."""
    engine, cache = ScriptedEngine(), a_cache(tmp_path)
    recipe = a_recipe(engine, ProceduralEngine())
    layer = recipe.layers[0]
    stem = Stem(Clip(np.ones((2, 96_000), np.float32), 48_000), -20.0)
    cache.keep(recipe, layer, stem)
    assert cache.find(recipe, dataclasses.replace(layer, gain_db=3.0, label="x")) is not None
    assert cache.find(recipe, dataclasses.replace(layer, seed=layer.seed + 1)) is None
    assert cache.find(dataclasses.replace(recipe, duration_s=3.0), layer) is None
    assert cache.find(dataclasses.replace(recipe, loop=True), layer) is None
    assert cache.find(dataclasses.replace(recipe, engine_versions={}), layer) is None


@pytest.mark.parametrize("lufs", [-20.5, -np.inf])
def test_a_stem_comes_back_as_it_was(tmp_path: Path, lufs: float) -> None:
    """Samples, rate and loudness, to the bit, also of silence."""
    cache, recipe = a_cache(tmp_path), a_recipe(ProceduralEngine())
    sound = Clip(np.random.default_rng(0).standard_normal((2, 1000)).astype(np.float32), 48_000)
    cache.keep(recipe, recipe.layers[0], Stem(sound, lufs))
    found = cache.find(recipe, recipe.layers[0])
    assert found is not None
    assert found.integrated_lufs == lufs
    np.testing.assert_array_equal(in_memory(found.sound).samples, sound.samples)


def test_the_least_used_go_first_and_the_cap_holds(tmp_path: Path) -> None:
    """Room is made for new stems by dropping those that nobody asked for lately; what is too large is not kept."""
    cache = a_cache(tmp_path, max_bytes=5 * 8000)
    sound = Stem(Clip(np.zeros((1, 1800), np.float32), 48_000), -20.0)
    recipes = [a_recipe(ProceduralEngine(), seed=seed) for seed in range(8)]
    for recipe in recipes:
        cache.keep(recipe, recipe.layers[0], sound)
        cache.find(recipes[0], recipes[0].layers[0])
    kept = [cache.find(recipe, recipe.layers[0]) is not None for recipe in recipes]
    assert kept[0]
    assert kept[-1]
    assert sum(kept) == 5
    assert sum(path.stat().st_size for path in (tmp_path / "stems").iterdir()) <= 5 * 8000
    large = Stem(Clip(np.zeros((1, 20_000), np.float32), 48_000), -20.0)
    other = a_recipe(ProceduralEngine(), seed=99)
    cache.keep(other, other.layers[0], large)
    assert cache.find(other, other.layers[0]) is None


@pytest.mark.parametrize("damage", [b"", b"{}", b"\0" * 600, b'{"num_channels": 0}'.ljust(512)])
def test_a_damaged_stem_is_dropped(tmp_path: Path, damage: bytes) -> None:
    """It counts as not there, and its file goes."""
    cache, recipe = a_cache(tmp_path), a_recipe(ProceduralEngine())
    cache.keep(recipe, recipe.layers[0], Stem(Clip(np.zeros((2, 10), np.float32), 48_000), -20.0))
    (path,) = (tmp_path / "stems").iterdir()
    path.write_bytes(damage)
    assert cache.find(recipe, recipe.layers[0]) is None
    assert list((tmp_path / "stems").iterdir()) == []


def test_a_crash_leaves_nothing_for_good(tmp_path: Path) -> None:
    """What was half-written is dropped at the next start."""
    folder = tmp_path / "stems"
    folder.mkdir()
    (folder / "x.1234.part").write_bytes(b"half")
    a_cache(tmp_path).prepare()
    assert list(folder.iterdir()) == []


def test_a_cache_that_cannot_be_written_costs_nothing(tmp_path: Path) -> None:
    """The sound is made all the same."""
    (tmp_path / "stems").write_text("a file where the folder should be")
    engine = ScriptedEngine()
    soundscape = made(tmp_path, a_recipe(engine, ProceduralEngine()), engine, a_cache(tmp_path))
    assert np.isfinite(integrated_lufs(encode.decode(soundscape.path)))


@pytest.mark.parametrize("loop", [False, True])
@pytest.mark.parametrize("full_band", [False, True])
def test_a_mono_take_gets_an_image_and_where_asked_the_band_above(
    tmp_path: Path, *, loop: bool, full_band: bool
) -> None:
    """Left and right part, their mean is what the model made, and 8 to 16 kHz is filled only where it was asked for."""
    request = SceneRequest(
        description="a dog barking", engine="audioldm2", duration_s=2.0, loop=loop, full_band=full_band
    )
    recipe = resolve(request, [ScriptedEngine().spec])
    spectrum = np.fft.rfft(np.random.default_rng(0).standard_normal(96_000))
    spectrum[15_500:] = 0.0  # 7750 Hz
    take = Clip(0.1 * np.fft.irfft(spectrum)[np.newaxis].astype(np.float32), 48_000)
    stem = in_memory(fit([take], recipe.layers[0], recipe, native_loop=loop, directory=tmp_path))
    assert (stem.num_channels, stem.sample_rate_hz) == (2, 48_000)
    left, right = stem.samples
    assert 0.2 < np.corrcoef(left, right)[0, 1] < 0.8
    mean = np.fft.rfft(stem.samples.mean(axis=0, dtype=np.float64))
    off = np.abs(mean - np.fft.rfft(take.samples[0].astype(np.float64)))
    # Up to 7450 Hz; the band added to what is no loop is cut off at its ends.
    assert off[:14_900].max() < (1e-5 if loop else 1e-2) * np.abs(mean).max()
    assert (np.abs(mean[17_000:30_000]).mean() > 0.1 * np.abs(mean[:15_000]).mean()) == full_band


def test_a_stereo_take_is_left_as_it_is(tmp_path: Path) -> None:
    """What has an image already keeps it."""
    recipe = resolve(
        SceneRequest(description="a dog barking", engine="audioldm2", duration_s=2.0), [ScriptedEngine().spec]
    )
    take = Clip(np.random.default_rng(0).standard_normal((2, 96_000)).astype(np.float32), 48_000)
    assert fit([take], recipe.layers[0], recipe, native_loop=False, directory=tmp_path) is take
