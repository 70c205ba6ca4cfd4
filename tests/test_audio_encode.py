from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ambientgen.audio.clip import Clip
from ambientgen.audio.encode import FORMATS, decode, encode, read_tags
from ambientgen.audio.loudness import integrated_lufs, true_peak_dbtp
from ambientgen.errors import ClipTooLargeError, GenerationCancelled, StorageError, UnreadableClipError

RATE_HZ = 48_000
PLENTY_BYTES = 10**8


def noise(seed: int, num_samples: int, level: float = 0.05) -> Clip:
    """Random noise of a color."""
    rng = np.random.default_rng(seed)
    smooth = np.cumsum(rng.standard_normal((2, num_samples)), axis=1)
    smooth -= np.cumsum(np.pad(smooth, ((0, 0), (50, 0)))[:, :-50], axis=1) / np.arange(1, num_samples + 1)
    samples = np.diff(smooth, axis=1, prepend=0.0)
    return Clip((samples / samples.std() * level).astype(np.float32), RATE_HZ)


@pytest.mark.parametrize("file_format", list(FORMATS))
def test_facts_are_those_of_the_file(file_format: str, tmp_path: Path) -> None:
    """Size, length, loudness and peak are what reading the file again gives; nothing else is left in the folder."""
    clip = noise(1, RATE_HZ * 3 + 77)
    encoded = encode(clip, tmp_path, "rain", file_format, max_bytes=PLENTY_BYTES, tags={})
    assert encoded.path == tmp_path / f"rain{FORMATS[file_format].suffix}"
    assert os.listdir(tmp_path) == [encoded.path.name]
    decoded = decode(encoded.path)
    assert (encoded.sample_rate_hz, encoded.num_channels) == (decoded.sample_rate_hz, decoded.num_channels)
    assert decoded.num_samples == clip.num_samples
    assert encoded.num_bytes == encoded.path.stat().st_size
    assert encoded.duration_s == pytest.approx(clip.duration_s)
    assert encoded.integrated_lufs == pytest.approx(integrated_lufs(decoded), abs=0.01)
    assert encoded.peak_dbtp == pytest.approx(true_peak_dbtp(decoded), abs=0.01)
    assert not encoded.shrunk
    tolerance = 0.05 if FORMATS[file_format].lossy else 1 / 32_000
    assert np.abs(decoded.samples - clip.samples).max() < tolerance * (4 if FORMATS[file_format].lossy else 1)


@settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(num_samples=st.integers(1, 5000), file_format=st.sampled_from(list(FORMATS)))
def test_every_length_is_exact(num_samples: int, file_format: str, tmp_path: Path) -> None:
    """Each format, MP3 included, gives back exactly as many samples as went in."""
    clip = Clip(noise(2, 5000).samples[:, :num_samples].copy(), RATE_HZ)
    encoded = encode(clip, tmp_path, "short", file_format, max_bytes=PLENTY_BYTES, tags={})
    assert decode(encoded.path).num_samples == num_samples


@pytest.mark.parametrize("file_format", list(FORMATS))
def test_decoded_peaks_stay_under_the_ceiling(file_format: str, tmp_path: Path) -> None:
    """A clip at full scale comes out lower, so that no player clips it."""
    clip = noise(3, RATE_HZ * 2, level=0.6)
    clip = Clip(np.clip(clip.samples, -1, 1), RATE_HZ)
    encoded = encode(clip, tmp_path, "loud", file_format, max_bytes=PLENTY_BYTES, tags={}, ceiling_dbtp=-1.0)
    assert encoded.peak_dbtp <= -0.9
    assert true_peak_dbtp(clip) > 0
    assert not encoded.shrunk


@pytest.mark.parametrize(
    ("file_format", "max_bytes", "expected"),
    [("wav", 500_000, "opus"), ("flac", 150_000, "opus"), ("mp3", 50_000, "mp3"), ("opus", 30_000, "opus")],
)
def test_large_clips_shrink(file_format: str, max_bytes: int, expected: str, tmp_path: Path) -> None:
    """What does not fit is made again smaller, lossless as Opus, and says so."""
    encoded = encode(noise(4, RATE_HZ * 3), tmp_path, "big", file_format, max_bytes=max_bytes, tags={})
    assert encoded.num_bytes <= max_bytes
    assert encoded.file_format == expected
    assert encoded.shrunk
    assert os.listdir(tmp_path) == [encoded.path.name]


def test_too_large_in_any_format(tmp_path: Path) -> None:
    """Where nothing fits, the words name the size asked for and the size possible, and nothing is left behind."""
    with pytest.raises(ClipTooLargeError, match=r"1\.0 KiB.*smallest.* KiB"):
        encode(noise(5, RATE_HZ * 2), tmp_path, "big", "mp3", max_bytes=1024, tags={})
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("file_format", list(FORMATS))
def test_tags_come_back(file_format: str, tmp_path: Path) -> None:
    """Tags survive (MP3 in ASCII, with JSON's escapes), control characters do not, and they can be written again."""
    tags = {"title": "Дождь «roof»\n\x00 \ud800", "comment": '{"a": "ü"}', "date": "2026-01-02"}
    clip = noise(6, RATE_HZ)
    found = read_tags(encode(clip, tmp_path, "a", file_format, max_bytes=PLENTY_BYTES, tags=tags).path)
    ascii_only = file_format == "mp3"
    assert found["comment"] == ('{"a": "\\u00fc"}' if ascii_only else '{"a": "ü"}')
    assert found["date"].startswith("2026")
    assert "roof" in found["title"]
    assert found["title"].isascii() == ascii_only
    again = encode(clip, tmp_path, "b", file_format, max_bytes=PLENTY_BYTES, tags=found)
    assert read_tags(again.path) == found


@pytest.mark.parametrize("file_format", list(FORMATS))
def test_overlong_tags_are_left_out(file_format: str, tmp_path: Path) -> None:
    """A text no format can hold is dropped without harming the file or the other tags."""
    tags = {"comment": "x" * 200_000, "title": "kept", "software": "AmbientGen 1"}
    encoded = encode(noise(7, 4800), tmp_path, "a", file_format, max_bytes=PLENTY_BYTES, tags=tags)
    found = read_tags(encoded.path)
    assert "comment" not in found
    assert found["title"] == "kept"
    assert file_format == "mp3" or found["software"] == "AmbientGen 1"


def test_unknown_words_are_refused(tmp_path: Path) -> None:
    """An unknown format, an unknown tag and an empty clip are the caller's mistakes."""
    clip = noise(8, 100)
    with pytest.raises(ValueError, match="unknown format"):
        encode(clip, tmp_path, "a", "aac", max_bytes=PLENTY_BYTES, tags={})
    with pytest.raises(ValueError, match="unknown tags"):
        encode(clip, tmp_path, "a", "wav", max_bytes=PLENTY_BYTES, tags={"mood": "x"})
    with pytest.raises(ValueError, match="empty"):
        encode(Clip(clip.samples[:, :0], RATE_HZ), tmp_path, "a", "wav", max_bytes=PLENTY_BYTES, tags={})


def test_cancelling_leaves_nothing(tmp_path: Path) -> None:
    """A False from `report` stops between blocks, and the folder is as before."""
    answers = iter([True, True, False])
    with pytest.raises(GenerationCancelled):
        encode(
            noise(9, RATE_HZ * 5),
            tmp_path,
            "a",
            "wav",
            max_bytes=PLENTY_BYTES,
            tags={},
            report=lambda: next(answers),
        )
    assert os.listdir(tmp_path) == []


def test_a_missing_folder_is_told_without_its_path(tmp_path: Path) -> None:
    """Words for Discord hold no path; the cause is kept for the log."""
    with pytest.raises(StorageError, match="cannot be written") as caught:
        encode(noise(10, 100), tmp_path / "gone", "a", "wav", max_bytes=PLENTY_BYTES, tags={})
    assert str(tmp_path) not in str(caught.value)
    assert isinstance(caught.value.__cause__, OSError)
    with pytest.raises(UnreadableClipError, match="cannot be read"):
        decode(tmp_path / "gone.ogg")
    (tmp_path / "text.ogg").write_text("no sound")
    with pytest.raises(UnreadableClipError, match="cannot be read"):
        read_tags(tmp_path / "text.ogg")


def test_a_failing_rename_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the finished file cannot take its name, the temporary one goes too."""

    def full(*_: object) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(StorageError, match="disk is full"):
        encode(noise(11, 4800), tmp_path, "a", "opus", max_bytes=PLENTY_BYTES, tags={})
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on file sizes")
def test_a_disk_that_fills_up(tmp_path: Path) -> None:
    """Where the system refuses to let a file grow, each format says so in words and leaves nothing behind."""
    program = """
import resource, sys, pathlib, numpy as np
from ambientgen.audio.clip import Clip
from ambientgen.audio.encode import FORMATS, encode
from ambientgen.errors import StorageError
resource.setrlimit(resource.RLIMIT_FSIZE, (8000, 8000))
clip = Clip((np.random.default_rng(0).standard_normal((2, 96000)) * 0.05).astype(np.float32), 48000)
for file_format in FORMATS:
    try:
        encode(clip, pathlib.Path(sys.argv[1]), "a", file_format, max_bytes=10**8, tags={})
    except StorageError as error:
        print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.count("The disk is full") == len(FORMATS)
    assert os.listdir(tmp_path) == []
