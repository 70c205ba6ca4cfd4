"""Sounds in memory and on disk read alike, wherever one reads, and a tape leaves nothing behind."""

from __future__ import annotations

import errno
import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ambientgen.audio import sound as sound_module
from ambientgen.audio.clip import Clip, Samples
from ambientgen.audio.filters import band_limited
from ambientgen.audio.loop import measure_seam
from ambientgen.audio.loudness import integrated_lufs, master, true_peak_dbtp
from ambientgen.audio.mix import Mix, Stem
from ambientgen.audio.sound import Tape, blocks_of, in_memory, read_around, record
from ambientgen.errors import StorageError

RATE_HZ = 48_000


def noise(num_samples: int, num_channels: int = 2, seed: int = 0) -> Clip:
    """White noise with a few peaks, so that a limiter has something to do."""
    rng = np.random.default_rng(seed)
    samples = (0.1 * rng.standard_normal((num_channels, num_samples))).astype(np.float32)
    samples[:, rng.integers(0, num_samples, 1 + num_samples // 5000)] *= 8.0
    return Clip(samples, RATE_HZ)


def on_tape(clip: Clip, folder: Path) -> Tape:
    """The same sound on disk."""
    tape = Tape(folder, clip.num_channels, clip.sample_rate_hz)
    for block in blocks_of(clip, 10_007):
        tape.append(block)
    return tape


@settings(deadline=None, max_examples=60)
@given(data=st.data(), num_samples=st.integers(1, 400), num_channels=st.integers(1, 3))
def test_a_tape_reads_as_the_clip_it_was_made_of(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, num_samples: int, num_channels: int
) -> None:
    """Any piece, and any piece of the circle, of a tape is that of the clip."""
    clip = noise(num_samples, num_channels)
    tape = on_tape(clip, tmp_path_factory.getbasetemp())
    assert (tape.num_samples, tape.num_channels, tape.duration_s) == (num_samples, num_channels, clip.duration_s)
    start = data.draw(st.integers(0, num_samples))
    stop = data.draw(st.integers(start, num_samples))
    np.testing.assert_array_equal(tape.read(start, stop), clip.read(start, stop))
    place, length = data.draw(st.integers(-1000, 1000)), data.draw(st.integers(0, 1000))
    expected = np.take(clip.samples, np.arange(place, place + length), axis=1, mode="wrap")
    np.testing.assert_array_equal(read_around(tape, place, length), expected)


def test_what_is_long_goes_to_disk(tmp_path: Path) -> None:
    """A short sound becomes a clip, a long one a tape, and a wrong length is refused."""

    def blocks(num_samples: int) -> Iterator[Samples]:
        yield from blocks_of(Clip(np.ones((1, num_samples), np.float32), 100))

    for num_samples, kind in ((6000, Clip), (6001, Tape)):
        sound = record(blocks(num_samples), num_samples, num_channels=1, sample_rate_hz=100, directory=tmp_path)
        assert isinstance(sound, kind)
        assert in_memory(sound).samples.shape == (1, num_samples)
        with pytest.raises(ValueError, match="samples came"):
            record(blocks(num_samples - 1), num_samples, num_channels=1, sample_rate_hz=100, directory=tmp_path)


def test_a_tape_that_is_forgotten_leaves_nothing(tmp_path: Path) -> None:
    """Its file is closed with it, and no name of it is ever left in the folder."""
    tape = on_tape(noise(1000), tmp_path)
    file = tape._file
    del tape
    gc.collect()
    assert file.closed
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_and_a_missing_folder_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In words, without the path."""
    with pytest.raises(StorageError, match="folder") as caught:
        Tape(tmp_path / "gone", 1, RATE_HZ)
    assert str(tmp_path) not in str(caught.value)

    class FullFile:
        def seek(self, _place: int) -> None: ...

        def write(self, _frames: Any) -> int:
            raise OSError(errno.ENOSPC, "full")

        def close(self) -> None: ...

    monkeypatch.setattr(sound_module.tempfile, "TemporaryFile", lambda **_: FullFile())
    with pytest.raises(StorageError, match="disk is full"):
        Tape(tmp_path, 1, RATE_HZ).append(np.zeros((1, 8), np.float32))


@pytest.mark.parametrize("loop", [False, True])
def test_every_step_does_the_same_on_disk_as_in_memory(tmp_path: Path, loop: bool) -> None:
    """Mix, band limit, master, loudness, peak and seam of two layers, bit by bit."""
    layers = [noise(3 * RATE_HZ + 137, seed=seed) for seed in (1, 2)]

    def made(kind: Any) -> tuple[Samples, float, float, Any]:
        mix = Mix([Stem.of(kind(layer)) for layer in layers], [0.0, -15.0])
        limited = kind(Clip(np.concatenate(list(band_limited(mix)), axis=1), RATE_HZ))
        mastered = master(limited, -14.0, loop=loop)
        return in_memory(mastered).samples, integrated_lufs(mastered), true_peak_dbtp(mastered), measure_seam(mastered)

    in_one, on_disk = made(lambda clip: clip), made(lambda clip: on_tape(clip, tmp_path))
    np.testing.assert_array_equal(in_one[0], on_disk[0])
    assert in_one[1:] == on_disk[1:]
    assert in_one[2] <= -1.5


@pytest.mark.parametrize("loop", [False, True])
def test_a_limiter_that_works_in_pieces_does_as_one_that_does_not(loop: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a piece ends cannot be heard: the same samples as in one go."""
    clip = noise(2 * RATE_HZ + 5, seed=3)
    whole = in_memory(master(clip, -10.0, loop=loop)).samples
    monkeypatch.setattr("ambientgen.audio.loudness._GROUPS_AT_A_TIME", 97)
    np.testing.assert_allclose(in_memory(master(clip, -10.0, loop=loop)).samples, whole, atol=1e-6)


def test_a_band_limit_is_circular_and_the_same_for_every_start() -> None:
    """Turning the circle turns the filtered circle, and a tone within the band is left as it is."""
    clip = noise(150_001)
    straight = np.concatenate(list(band_limited(clip)), axis=1)
    turned = np.concatenate(list(band_limited(Clip(np.roll(clip.samples, 777, axis=1), RATE_HZ))), axis=1)
    np.testing.assert_allclose(np.roll(straight, 777, axis=1), turned, atol=1e-6)
    tone = np.sin(2 * np.pi * 1000 * np.arange(96_000) / RATE_HZ).astype(np.float32)[np.newaxis]
    np.testing.assert_allclose(np.concatenate(list(band_limited(Clip(tone, RATE_HZ))), axis=1), tone, atol=2e-4)
