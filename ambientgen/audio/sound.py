"""Sound that may be too long for memory: what every step after the engines reads piece by piece.

A `Clip` is a sound in memory, a `Tape` one on disk. `record` takes whichever is right for a length, so that a scene of
an hour needs no more memory than one of a minute.
"""

from __future__ import annotations

import errno
import os
import tempfile
import threading
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Protocol

import numpy as np

from ambientgen.audio.clip import Clip, Samples
from ambientgen.errors import StorageError

#: How many samples are read, metered and written at a time.
BLOCK_SAMPLES = 65_536
#: What is longer goes to disk: a minute of stereo is 23 MB, and a scene holds several sounds at a time.
LONGEST_IN_MEMORY_S = 60.0
_BYTES_PER_VALUE = 4

_FULL_DISK = "The disk is full, so the sound could not be made. Free some space and try again."
_NO_WRITE = "The clip folder cannot be written. Check that it exists and belongs to this program's user."


class Sound(Protocol):
    """Samples that can be read from any place; `Clip` and `Tape` are sounds."""

    @property
    def sample_rate_hz(self) -> int:
        """Samples a second."""

    @property
    def num_channels(self) -> int:
        """How many channels."""

    @property
    def num_samples(self) -> int:
        """How many samples each channel has."""

    @property
    def duration_s(self) -> float:
        """Length in seconds."""

    def read(self, start: int, stop: int) -> Samples:
        """The samples from `start` up to `stop`, 0 <= start <= stop <= num_samples; not to be written to.

        Returns:
            float32, shape (num_channels, stop - start).
        """


class Tape:
    """A sound on disk: float32, all channels of a sample side by side. Its file has no name and goes with it.

    Any number of threads may read it; one appends.

    Args:
        directory: where the file lies.
        num_channels: of the sound.
        sample_rate_hz: of the sound.

    Raises:
        StorageError: if the folder cannot be written.
    """

    def __init__(self, directory: Path, num_channels: int, sample_rate_hz: int) -> None:
        try:
            file = tempfile.TemporaryFile(dir=directory, suffix=".part", buffering=0)  # noqa: SIM115 - lives as long as self
        except OSError as error:
            raise _storage_error(error) from error
        self._open(file, num_channels, sample_rate_hz, offset_bytes=0, num_samples=0)

    @classmethod
    def opened(cls, file: IO[bytes], num_channels: int, sample_rate_hz: int, *, offset_bytes: int) -> Tape:
        """A tape over an open, unbuffered file that holds samples from `offset_bytes` on; closes it when it goes."""
        tape = cls.__new__(cls)
        num_bytes = os.fstat(file.fileno()).st_size - offset_bytes
        num_samples = num_bytes // (_BYTES_PER_VALUE * num_channels)
        tape._open(file, num_channels, sample_rate_hz, offset_bytes=offset_bytes, num_samples=num_samples)
        return tape

    def _open(
        self, file: IO[bytes], num_channels: int, sample_rate_hz: int, *, offset_bytes: int, num_samples: int
    ) -> None:
        self._file = file
        self._offset_bytes = offset_bytes
        self._lock = threading.Lock()
        self._closing = weakref.finalize(self, file.close)
        self.num_channels = num_channels
        self.sample_rate_hz = sample_rate_hz
        self.num_samples = num_samples

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.num_samples / self.sample_rate_hz

    def append(self, block: Samples) -> None:
        """Add a block of shape (num_channels, n) at the end.

        Raises:
            StorageError: if the disk is full.
        """
        frames = as_bytes(block)
        with self._lock:
            try:
                self._file.seek(self._place_of(self.num_samples))
                while frames:
                    frames = frames[self._file.write(frames) :]
            except OSError as error:
                raise _storage_error(error) from error
            self.num_samples += block.shape[1]

    def read(self, start: int, stop: int) -> Samples:
        """The samples from `start` up to `stop`.

        Raises:
            ValueError: if the tape is not that long.
            StorageError: if the disk fails.
        """
        if not 0 <= start <= stop <= self.num_samples:
            raise ValueError(f"a tape of {self.num_samples} samples has none from {start} to {stop}")
        frames = np.empty((stop - start, self.num_channels), np.float32)
        left = frames.data.cast("B") if frames.size else memoryview(b"")
        with self._lock:
            try:
                self._file.seek(self._place_of(start))
                while left:
                    num_read = self._file.readinto(left)  # type: ignore[attr-defined]
                    if not num_read:
                        raise StorageError("A sound on disk has become shorter than it was.")
                    left = left[num_read:]
            except OSError as error:
                raise _storage_error(error) from error
        return np.ascontiguousarray(frames.T)

    def close(self) -> None:
        """Give back the disk space now; a tape that is forgotten does so by itself."""
        self._closing()

    def _place_of(self, sample: int) -> int:
        return self._offset_bytes + sample * self.num_channels * _BYTES_PER_VALUE


def as_bytes(block: Samples) -> memoryview:
    """A block as a tape holds it: all channels of a sample side by side."""
    return np.ascontiguousarray(block.T, np.float32).data.cast("B") if block.size else memoryview(b"")


def record(
    blocks: Iterable[Samples], num_samples: int, *, num_channels: int, sample_rate_hz: int, directory: Path
) -> Sound:
    """Keep what comes in blocks: in memory if it is short, else on disk.

    Args:
        blocks: shape (num_channels, n), `num_samples` samples in all.
        num_samples: how many will come.
        num_channels: of each block.
        sample_rate_hz: of the sound.
        directory: where a long one is kept.

    Raises:
        StorageError: if the disk is full.
        ValueError: if another number of samples came.
    """
    if num_samples > LONGEST_IN_MEMORY_S * sample_rate_hz:
        tape = Tape(directory, num_channels, sample_rate_hz)
        for block in blocks:
            tape.append(block)
        if tape.num_samples != num_samples:
            raise ValueError(f"{tape.num_samples} samples came, and not {num_samples}")
        return tape
    samples = np.empty((num_channels, num_samples), np.float32)
    filled = 0
    for block in blocks:
        samples[:, filled : filled + block.shape[1]] = block
        filled += block.shape[1]
    if filled != num_samples:
        raise ValueError(f"{filled} samples came, and not {num_samples}")
    return Clip(samples, sample_rate_hz)


def blocks_of(sound: Sound, block_samples: int = BLOCK_SAMPLES) -> Iterator[Samples]:
    """The whole sound in order, in blocks of that many samples; the last one may be shorter."""
    for start in range(0, sound.num_samples, block_samples):
        yield sound.read(start, min(start + block_samples, sound.num_samples))


def read_around(sound: Sound, start: int, length: int) -> Samples:
    """`length` samples from `start` on, taking the sound as a circle; both may lie anywhere."""
    num_samples = sound.num_samples
    place = start % num_samples
    if place + length <= num_samples:
        return sound.read(place, place + length)
    if length >= num_samples:
        return np.take(sound.read(0, num_samples), np.arange(place, place + length), axis=1, mode="wrap")
    first = sound.read(place, num_samples)
    return np.concatenate([first, sound.read(0, length - first.shape[1])], axis=1)


def in_memory(sound: Sound) -> Clip:
    """The whole sound as a clip; for sounds known to be short."""
    return sound if isinstance(sound, Clip) else Clip(sound.read(0, sound.num_samples), sound.sample_rate_hz)


def _storage_error(error: OSError) -> StorageError:
    return StorageError(_FULL_DISK if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG} else _NO_WRITE)
