"""The folder of finished clips: names, reading, shrinking, the cap, and what a crash or a bad disk leaves."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from ambientgen.audio import encode
from ambientgen.audio.clip import Clip
from ambientgen.engines.procedural import ProceduralEngine
from ambientgen.errors import ClipTooLargeError, StorageError, UnreadableClipError
from ambientgen.planning import resolve
from ambientgen.recipe import Recipe, SceneRequest
from bot.clips import Clips

NO_LIMIT_BYTES = 2**40


def a_recipe(seed: int = 7) -> Recipe:
    """Of a short rain."""
    return resolve(SceneRequest(description="gentle rain", seed=seed), [ProceduralEngine().spec])


def clips_in(folder: Path, max_bytes: int = NO_LIMIT_BYTES) -> Clips:
    """A prepared folder."""
    clips = Clips(folder / "clips", max_bytes)
    clips.prepare()
    return clips


def write_sound(clips: Clips, name: str = "ambient-abcdefghij-7", file_format: str = "opus") -> encode.Encoded:
    """Three seconds of quiet noise with a recipe in its tags."""
    samples = 0.1 * np.random.default_rng(0).standard_normal((2, 3 * 48_000), dtype=np.float32)
    tags = {"title": "gentle rain", "comment": a_recipe().to_json()}
    return encode.encode(
        Clip(samples, 48_000), clips.folder, name, file_format, max_bytes=NO_LIMIT_BYTES, tags=tags
    )  # fmt: skip


def write_bytes(clips: Clips, name: str, num_bytes: int, age_s: float) -> None:
    """A file of that size and age."""
    path = clips.folder / name
    path.write_bytes(b"x" * num_bytes)
    os.utime(path, (1e9 - age_s, 1e9 - age_s))


def names_in(clips: Clips) -> set[str]:
    """What lies in the folder."""
    return {path.name for path in clips.folder.iterdir()}


def test_a_name_holds_the_job_and_the_seed() -> None:
    """So that a downloaded file finds its job and its sound again."""
    assert Clips.name_for("abcdefghij", a_recipe(seed=42)) == "ambient-abcdefghij-42"


async def test_a_clip_is_loaded_as_it_is(tmp_path: Path) -> None:
    """Sound and picture come back byte by byte; without a picture there is none."""
    clips = clips_in(tmp_path)
    sound = write_sound(clips)
    loaded = await clips.load(sound.path.name, sound.num_bytes)
    assert loaded is not None
    assert (loaded.name, loaded.picture, loaded.shrunk) == ("ambient-abcdefghij-7.ogg", None, False)
    assert loaded.sound == sound.path.read_bytes()
    sound.path.with_suffix(".png").write_bytes(b"png")
    loaded = await clips.load(sound.path.name, sound.num_bytes)
    assert loaded is not None
    assert loaded.picture == b"png"


@pytest.mark.parametrize(("file_format", "suffix"), [("opus", ".ogg"), ("wav", ".wav"), ("mp3", ".mp3")])
async def test_a_clip_is_made_smaller_where_less_is_allowed(tmp_path: Path, file_format: str, suffix: str) -> None:
    """It fits the limit, says that it was shrunk, keeps length and recipe, and the stored one stays as it was."""
    clips = clips_in(tmp_path)
    sound = write_sound(clips, file_format=file_format)
    assert sound.path.suffix == suffix
    loaded = await clips.load(sound.path.name, 30_000)
    assert loaded is not None
    assert loaded.shrunk
    assert len(loaded.sound) <= 30_000
    assert loaded.name == "ambient-abcdefghij-7.ogg"
    smaller = tmp_path / loaded.name
    smaller.write_bytes(loaded.sound)
    assert encode.decode(smaller).duration_s == pytest.approx(3.0, abs=0.05)
    assert Recipe.from_json(encode.read_tags(smaller)["comment"]) == a_recipe()
    assert names_in(clips) == {sound.path.name}
    assert sound.path.stat().st_size == sound.num_bytes


async def test_what_cannot_be_made_small_enough_is_refused(tmp_path: Path) -> None:
    """An absurd limit raises with words, and leaves no scratch files."""
    clips = clips_in(tmp_path)
    sound = write_sound(clips)
    with pytest.raises(ClipTooLargeError, match="shorter"):
        await clips.load(sound.path.name, 1000)
    assert names_in(clips) == {sound.path.name}


async def test_a_missing_clip_is_none(tmp_path: Path) -> None:
    """A clip that made room for others is simply no longer there, also when its picture is."""
    clips = clips_in(tmp_path)
    assert await clips.load("ambient-gone-1.ogg", NO_LIMIT_BYTES) is None
    (clips.folder / "ambient-gone-1.png").write_bytes(b"png")
    assert await clips.load("ambient-gone-1.ogg", NO_LIMIT_BYTES) is None


async def test_a_damaged_clip_is_told_with_words(tmp_path: Path) -> None:
    """A file that is no sound, or a folder in its place, is told with words."""
    clips = clips_in(tmp_path)
    (clips.folder / "damaged.ogg").write_bytes(b"OggS" * 1000)
    (clips.folder / "folder.ogg").mkdir()
    for name, limit in (("damaged.ogg", 100), ("folder.ogg", NO_LIMIT_BYTES)):
        with pytest.raises(UnreadableClipError) as caught:
            await clips.load(name, limit)
        assert str(tmp_path) not in str(caught.value)


async def test_a_removed_clip_takes_its_picture_along(tmp_path: Path) -> None:
    """And removing it twice is no error."""
    clips = clips_in(tmp_path)
    sound = write_sound(clips)
    sound.path.with_suffix(".png").write_bytes(b"png")
    write_bytes(clips, "other.ogg", 10, 0)
    for _ in range(2):
        await clips.remove(sound.path.name)
    assert names_in(clips) == {"other.ogg"}


async def test_the_oldest_make_room(tmp_path: Path) -> None:
    """Beyond the cap the oldest sounds go, with their pictures, and their names are answered."""
    clips = clips_in(tmp_path, max_bytes=250)
    for number, age_s in enumerate((40, 10, 30, 20)):
        write_bytes(clips, f"{number}.ogg", 90, age_s)
        write_bytes(clips, f"{number}.png", 10, age_s)
    assert await clips.make_room() == ["0.ogg", "2.ogg"]
    assert names_in(clips) == {"1.ogg", "1.png", "3.ogg", "3.png"}
    assert await clips.make_room() == []


async def test_pictures_count_towards_the_cap(tmp_path: Path) -> None:
    """When room is made, what a removed clip's picture took is room as well."""
    clips = clips_in(tmp_path, max_bytes=200)
    for number in range(3):
        write_bytes(clips, f"{number}.ogg", 10, 100 - number)
        write_bytes(clips, f"{number}.png", 90, 100 - number)
    assert await clips.make_room() == ["0.ogg"]
    assert names_in(clips) == {"1.ogg", "1.png", "2.ogg", "2.png"}


async def test_a_folder_that_is_gone_makes_no_room(tmp_path: Path) -> None:
    """Losing the folder does not cost the person the outcome."""
    clips = clips_in(tmp_path)
    clips.folder.rmdir()
    assert await clips.make_room() == []
    await clips.remove("x.ogg")


def test_what_a_crash_left_is_dropped(tmp_path: Path) -> None:
    """Half-written sounds, pictures and scratch folders go at the start; finished clips stay."""
    clips = clips_in(tmp_path)
    for name in ("a.1f.part.ogg", "a.part", "a.2e.part.flac", "done.ogg", "done.png"):
        write_bytes(clips, name, 1, 0)
    scratch = clips.folder / "tmpabc.part"
    scratch.mkdir()
    (scratch / "x.ogg").write_bytes(b"x")
    clips.prepare()
    assert names_in(clips) == {"done.ogg", "done.png"}


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    """A file in the folder's place, or in its parent's, is a storage error that names the setting and no path."""
    (tmp_path / "clips").write_bytes(b"in the way")
    for folder in (tmp_path / "clips", tmp_path / "clips" / "below"):
        with pytest.raises(StorageError, match="AMBIENT_DATA_DIR") as caught:
            Clips(folder, 1).prepare()
        assert str(tmp_path) not in str(caught.value)


async def test_a_disk_that_takes_nothing_is_told_when_a_clip_must_shrink(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No room for the scratch file is a storage error; the stored clip stays."""
    clips = clips_in(tmp_path)
    sound = write_sound(clips)

    def full(*_arguments: object, **_options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.mkdtemp", full)
    with pytest.raises(StorageError):
        await clips.load(sound.path.name, 30_000)
    assert names_in(clips) == {sound.path.name}
