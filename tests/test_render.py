"""From a recipe to a finished file, with the real procedural engine: length, loudness, seams, formats, failures."""

from __future__ import annotations

import dataclasses
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scripted import ScriptedEngine, noise, silence

from ambientgen.audio import encode, loudness
from ambientgen.audio.clip import Clip
from ambientgen.audio.loop import measure_seam
from ambientgen.engines.base import Progress, Take
from ambientgen.engines.procedural import ProceduralEngine
from ambientgen.errors import (
    ClipTooLargeError,
    EngineError,
    GenerationCancelled,
    StorageError,
    UnhealthyTakeError,
)
from ambientgen.planning import resolve
from ambientgen.recipe import Layer, Recipe, SceneRequest
from ambientgen.render import Output, Soundscape, render

NO_LIMIT_BYTES = 2**40
PROCEDURAL = ProceduralEngine()
SCENES = (
    "gentle rain on a window",
    "thunderstorm",
    "waves on a quiet beach",
    "a crackling campfire",
    "crickets at night",
    "birds at dawn",
    "brown noise",
)
THREE_LAYERS = "gentle rain with distant thunder and a crackling campfire"


def a_recipe(scene: str = "gentle rain", **options: Any) -> Recipe:
    """What the procedural engine decides for a scene; three seconds unless told otherwise."""
    request = SceneRequest(description=scene, **{"duration_s": 3.0, "seed": 7, **options})
    return resolve(request, [PROCEDURAL.spec])


def an_output(folder: Path, **changes: Any) -> Output:
    """A FLAC file without a limit, unless told otherwise."""
    plain = Output(directory=folder, name="clip", title="A scene", file_format="flac", max_bytes=NO_LIMIT_BYTES)
    return dataclasses.replace(plain, **changes)


def made(
    folder: Path, recipe: Recipe, report: Callable[[Progress], bool] = lambda _progress: True, **changes: Any
) -> Soundscape:
    """Render a recipe of the procedural engine's."""
    return render(recipe, {"procedural": PROCEDURAL}, an_output(folder, **changes), report)


def names_in(folder: Path) -> set[str]:
    """What lies in a folder."""
    return {path.name for path in folder.iterdir()}


def measured(path: Path) -> loudness.Measured:
    """The decoded file's loudness and true peak."""
    clip = encode.decode(path)
    return loudness.measure([clip.samples], clip.sample_rate_hz, clip.num_channels)


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_clip_is_as_loud_as_asked(tmp_path: Path, scene: str, seed: int) -> None:
    """Within half a loudness unit of the target, with the true peak at most -1 dBTP, on the decoded file."""
    soundscape = made(tmp_path, a_recipe(scene, seed=seed, duration_s=5.0), file_format="opus")
    decoded = measured(soundscape.path)
    assert decoded.peak_dbtp <= -1.0
    assert decoded.integrated_lufs == pytest.approx(-20.0, abs=0.5)
    assert soundscape.integrated_lufs == pytest.approx(decoded.integrated_lufs, abs=0.01)
    assert soundscape.peak_dbtp == pytest.approx(decoded.peak_dbtp, abs=0.01)


@pytest.mark.parametrize("target_lufs", [-40.0, -30.0, -16.0])
def test_another_target_is_met(tmp_path: Path, target_lufs: float) -> None:
    """The recipe's target, quiet or loud, with the same ceiling for peaks."""
    recipe = dataclasses.replace(a_recipe("gentle rain"), target_lufs=target_lufs)
    decoded = measured(made(tmp_path, recipe).path)
    assert decoded.integrated_lufs == pytest.approx(target_lufs, abs=0.5)
    assert decoded.peak_dbtp <= -1.0


@pytest.mark.parametrize("duration_s", [1.0, 1.234, 2.00001, 3.3333, 7.0])
@pytest.mark.parametrize("loop", [False, True])
def test_the_length_is_exact(tmp_path: Path, duration_s: float, loop: bool) -> None:
    """To the sample, also as a loop, and the facts say so."""
    soundscape = made(tmp_path, a_recipe(duration_s=duration_s, loop=loop))
    clip = encode.decode(soundscape.path)
    assert clip.num_samples == round(duration_s * 48_000)
    assert (clip.sample_rate_hz, clip.num_channels) == (48_000, 2)
    assert soundscape.duration_s == clip.num_samples / 48_000


@pytest.mark.parametrize("file_format", list(encode.FORMATS))
def test_every_format_holds_the_sound(tmp_path: Path, file_format: str) -> None:
    """Each decodes to the exact length; sound, picture and size are as the facts say, and nothing else is left."""
    soundscape = made(tmp_path, a_recipe(), file_format=file_format)
    assert soundscape.file_format == file_format
    assert soundscape.path.name == f"clip{encode.FORMATS[file_format].suffix}"
    assert soundscape.num_bytes == soundscape.path.stat().st_size
    assert encode.decode(soundscape.path).num_samples == 3 * 48_000
    assert soundscape.picture_path.read_bytes().startswith(b"\x89PNG")
    assert names_in(tmp_path) == {soundscape.path.name, "clip.png"}
    assert not soundscape.shrunk


@pytest.mark.parametrize("file_format", list(encode.FORMATS))
def test_the_recipe_is_in_the_files_tags(tmp_path: Path, file_format: str) -> None:
    """The comment gives the whole recipe back, and title and software are there where the format keeps them."""
    recipe = a_recipe(THREE_LAYERS)
    soundscape = made(tmp_path, recipe, file_format=file_format, title="Regen über dem See")
    tags = encode.read_tags(soundscape.path)
    assert Recipe.from_json(tags["comment"]) == soundscape.recipe == recipe
    if file_format != "mp3":  # its tags are ASCII, and the software's is the codec's own
        assert tags["title"] == "Regen über dem See"
        assert tags["software"].startswith("AmbientGen ")


def test_the_same_recipe_gives_the_same_sound_and_another_seed_another(tmp_path: Path) -> None:
    """Bit by bit."""
    recipe = a_recipe(THREE_LAYERS)
    first, second = (encode.decode(made(tmp_path, recipe, name=name).path).samples for name in ("first", "second"))
    other = encode.decode(made(tmp_path, a_recipe(THREE_LAYERS, seed=8), name="other").path).samples
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)


def test_loops_join_cleanly(tmp_path: Path) -> None:
    """Most seams of many scenes and seeds do not stand out, on decoded Opus files; one in many may by chance."""
    verdicts = [
        measure_seam(
            encode.decode(made(tmp_path, a_recipe(scene, seed=seed, loop=True), file_format="opus").path)
        ).clean
        for scene in ("gentle rain", "wind", "a stream", "brown noise")
        for seed in (11, 12, 13, 14)
    ]
    assert sum(verdicts) >= 14, verdicts


def test_a_loop_has_no_fades_and_another_clip_has(tmp_path: Path) -> None:
    """A clip starts and ends in silence, so that it does not click; a loop is as loud at its ends as inside."""
    plain = encode.decode(made(tmp_path, a_recipe("brown noise")).path).samples
    looped = encode.decode(made(tmp_path, a_recipe("brown noise", loop=True), name="loop").path).samples
    assert np.abs(plain[:, [0, -1]]).max() < 1e-3
    edges = np.concatenate([looped[:, :480], looped[:, -480:]], axis=1)
    assert np.sqrt(np.mean(edges**2)) > 0.25 * np.sqrt(np.mean(looped**2))


def test_a_scene_of_three_layers_has_all_three(tmp_path: Path) -> None:
    """Three sounds are rendered and mixed: taking one away changes the clip, and all are rendered before the finish."""
    recipe = a_recipe(THREE_LAYERS)
    assert [layer.params["family"] for layer in recipe.layers] == ["rain", "thunder", "fire"]
    seen: list[Progress] = []

    def report(progress: Progress) -> bool:
        seen.append(progress)
        return True

    whole = made(tmp_path, recipe, report)
    assert whole.recipe == recipe
    assert seen[-1].stage == "finishing"
    stages = [progress.stage for progress in seen]
    assert stages.index("finishing") == stages.count("rendering") > 3
    finishing = [progress.step for progress in seen if progress.stage == "finishing"]
    assert finishing == sorted(finishing)
    for index in range(3):
        fewer = tuple(layer for number, layer in enumerate(recipe.layers) if number != index)
        part = made(tmp_path, dataclasses.replace(recipe, layers=fewer), name="part")
        assert not np.array_equal(encode.decode(part.path).samples, encode.decode(whole.path).samples)


def test_a_report_that_says_no_cancels_and_leaves_nothing(tmp_path: Path) -> None:
    """At whichever report it happens, no file is left."""
    recipe = a_recipe(THREE_LAYERS, duration_s=1.0)
    calls = 0

    def count(_progress: Progress) -> bool:
        nonlocal calls
        calls += 1
        return True

    made(tmp_path, recipe, count)
    for path in tmp_path.iterdir():
        path.unlink()
    for last in sorted({1, 2, calls // 3, calls // 2, calls - 5, calls - 2, calls - 1, calls}):
        left = last

        def stop(_progress: Progress) -> bool:
            nonlocal left
            left -= 1
            return left > 0

        with pytest.raises(GenerationCancelled):
            made(tmp_path, recipe, stop)
        assert names_in(tmp_path) == set(), last


def test_a_clip_over_the_limit_becomes_smaller_and_says_so(tmp_path: Path) -> None:
    """A WAV that does not fit becomes an Opus of the same length."""
    soundscape = made(tmp_path, a_recipe(), file_format="wav", max_bytes=60_000)
    assert soundscape.shrunk
    assert (soundscape.file_format, soundscape.path.name) == ("opus", "clip.ogg")
    assert soundscape.num_bytes <= 60_000
    assert encode.decode(soundscape.path).num_samples == 3 * 48_000
    assert names_in(tmp_path) == {"clip.ogg", "clip.png"}


def test_an_absurd_limit_is_refused_with_words(tmp_path: Path) -> None:
    """What fits in no format raises, says how small it can be and what to do, and leaves nothing."""
    with pytest.raises(ClipTooLargeError, match=r"3 s does not fit into 0\.1 KiB.*KiB. Ask for a shorter one"):
        made(tmp_path, a_recipe(), max_bytes=100)
    assert names_in(tmp_path) == set()


@pytest.mark.parametrize("where", ["sound", "picture"])
def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """When the last move of sound or picture finds the disk full: words without a path, and no leftovers."""
    ending = ".png" if where == "picture" else ".flac"
    replace = os.replace

    def full(source: Any, target: Any) -> None:
        if str(target).endswith(ending):
            raise OSError(errno.ENOSPC, "No space left on device", str(target))
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(StorageError) as caught:
        made(tmp_path, a_recipe(duration_s=1.0))
    assert str(tmp_path) not in str(caught.value)
    assert names_in(tmp_path) == set()


def test_a_folder_that_is_gone_is_a_storage_error(tmp_path: Path) -> None:
    """Words, and no path in them."""
    with pytest.raises(StorageError) as caught:
        made(tmp_path / "gone", a_recipe(duration_s=1.0))
    assert str(tmp_path) not in str(caught.value)


def test_an_engine_that_is_not_here_is_an_engine_error(tmp_path: Path) -> None:
    """A recipe of another machine's engine is refused before anything is made."""
    layer = Layer(engine="elsewhere", prompt="rain", seed=1)
    recipe = dataclasses.replace(a_recipe(), layers=(*a_recipe().layers, layer))
    with pytest.raises(EngineError, match="`elsewhere`"):
        made(tmp_path, recipe)
    assert names_in(tmp_path) == set()


def test_a_broken_take_is_made_again_with_another_seed(tmp_path: Path) -> None:
    """The note says so, and the recipe carries the seed that was really used."""
    engine = ScriptedEngine()
    engine.results = [silence]
    recipe = resolve(SceneRequest(description="rain", seed=1), [engine.spec])
    soundscape = render(recipe, {"audioldm2": engine}, an_output(tmp_path))
    assert soundscape.recipe.seed == engine.seeds[1] != recipe.seed
    (note,) = soundscape.notes
    assert "made again with another seed" in note
    engine.results = [silence, silence]
    with pytest.raises(UnhealthyTakeError):
        render(recipe, {"audioldm2": engine}, an_output(tmp_path, name="broken"))


def test_the_healthiest_of_three_is_kept(tmp_path: Path) -> None:
    """High quality makes three takes; a broken one loses, and its seed with it."""

    def bad(_take: Take) -> Clip:
        return Clip(np.zeros((2, 96_000), np.float32), 48_000)

    engine = ScriptedEngine()
    engine.results = [bad, noise, bad]
    recipe = resolve(SceneRequest(description="rain", seed=1, quality="high"), [engine.spec])
    soundscape = render(recipe, {"audioldm2": engine}, an_output(tmp_path))
    assert len(engine.seeds) == 3
    assert soundscape.recipe.seed == engine.seeds[1]
    assert soundscape.notes == ()


def test_of_healthy_takes_the_best_match_is_kept(tmp_path: Path) -> None:
    """Where the engine says how well a take fits its prompt, that decides among the healthy ones."""
    engine = ScriptedEngine()
    engine.results = [noise, noise, silence]
    engine.matches = [0.1, 0.3, 0.9]
    recipe = resolve(SceneRequest(description="rain", seed=1, quality="high"), [engine.spec])
    soundscape = render(recipe, {"audioldm2": engine}, an_output(tmp_path))
    assert soundscape.recipe.seed == engine.seeds[1]


@pytest.mark.parametrize(("duration_s", "native"), [(2.0, True), (2.01, False), (3.96, True)])
def test_an_engine_loops_itself_where_the_length_is_whole_frames(
    tmp_path: Path, duration_s: float, native: bool
) -> None:
    """A recipe of another length, say an old one, still becomes a loop: by a crossfade, from a longer take."""
    takes: list[Take] = []

    def kept(take: Take) -> Clip:
        takes.append(take)
        return noise(take)

    engine = ScriptedEngine()
    engine.spec = dataclasses.replace(engine.spec, supports=engine.spec.supports | {"loop"}, loop_step_s=0.04)
    engine.results = [kept]
    recipe = resolve(SceneRequest(description="rain", seed=1, duration_s=2.0, loop=True), [engine.spec])
    recipe = dataclasses.replace(recipe, duration_s=duration_s)
    soundscape = render(recipe, {"audioldm2": engine}, an_output(tmp_path))
    assert takes[0].loop == native
    assert (takes[0].num_samples == round(duration_s * 48_000)) == native
    assert soundscape.duration_s == pytest.approx(duration_s, abs=1e-4)


@pytest.mark.parametrize("loop", [False, True])
def test_a_scene_longer_than_the_engine_is_good_at_is_extended(tmp_path: Path, loop: bool) -> None:
    """A few takes of its best length become the exact length asked; a loop joins; the recipe makes the same again."""
    engine = ScriptedEngine()
    recipe = resolve(SceneRequest(description="rain", seed=1, duration_s=11.5, loop=loop), [engine.spec])
    soundscape = render(recipe, {"audioldm2": engine}, an_output(tmp_path))
    assert soundscape.duration_s == 11.5
    (layer,) = soundscape.recipe.layers
    assert layer.params["take_seeds"] == engine.seeds
    assert len(set(engine.seeds)) == 3
    again = render(soundscape.recipe, {"audioldm2": engine}, an_output(tmp_path, name="again"))
    assert again.recipe == soundscape.recipe
    np.testing.assert_array_equal(encode.decode(again.path).samples, encode.decode(soundscape.path).samples)
    assert (soundscape.seam is not None) == loop
    if soundscape.seam is not None:
        assert soundscape.seam.clean


def test_a_fault_that_stays_is_told_and_the_clip_is_delivered(tmp_path: Path) -> None:
    """A take with a hole in it, twice, is better than nothing: the person is told what is wrong."""

    def with_a_hole(take: Take) -> Clip:
        clip = noise(take)
        clip.samples[:, 40_000:44_000] = 0.0
        return clip

    engine = ScriptedEngine()
    engine.results = [with_a_hole, with_a_hole]
    recipe = resolve(SceneRequest(description="rain", seed=1), [engine.spec])
    soundscape = render(recipe, {"audioldm2": engine}, an_output(tmp_path))
    first, second = soundscape.notes
    assert "(dropout), so it was made again" in first
    assert second == "it may still have a fault (dropout): another seed may be better"
    assert len(engine.seeds) == 2


def test_what_leaked_in_is_made_again_once_and_then_told(tmp_path: Path) -> None:
    """Music in a take, by the model's own judgment, is a fault like others."""
    engine = ScriptedEngine()
    engine.leaks = [("music",), ()]
    recipe = resolve(SceneRequest(description="rain", seed=1), [engine.spec])
    soundscape = render(recipe, {"audioldm2": engine}, an_output(tmp_path))
    assert soundscape.recipe.seed == engine.seeds[1]
    assert soundscape.notes == ("the first take was broken (music), so it was made again with another seed",)
    engine.leaks = [("music",), ("music", "voices")]
    soundscape = render(recipe, {"audioldm2": engine}, an_output(tmp_path, name="again"))
    assert "it may still have a fault (music" in soundscape.notes[1]


@pytest.mark.parametrize("loop", [False, True])
def test_a_long_scene_goes_over_the_disk_and_leaves_nothing_there(tmp_path: Path, loop: bool) -> None:
    """Sixty-six seconds, longer than is held in memory: exact, as loud as asked, and only its two files are left."""
    recipe = a_recipe("gentle rain with wind", duration_s=66.0, loop=loop)
    soundscape = made(tmp_path, recipe, file_format="opus")
    decoded = encode.decode(soundscape.path)
    assert decoded.num_samples == 66 * 48_000
    assert measured(soundscape.path).integrated_lufs == pytest.approx(-20.0, abs=0.3)
    assert names_in(tmp_path) == {"clip.ogg", "clip.png"}
    assert (soundscape.seam is not None and soundscape.seam.clean) == loop


def test_a_long_scene_can_be_cancelled_at_any_moment(tmp_path: Path) -> None:
    """Whichever report says no, nothing is left."""
    recipe = a_recipe("brown noise", duration_s=61.0)
    for stop_at in (1, 3, 6, 30, 60):
        reports = iter(range(stop_at))
        with pytest.raises(GenerationCancelled):
            made(tmp_path, recipe, lambda _progress, reports=reports: next(reports, None) is not None)
        assert names_in(tmp_path) == set()
