"""Sounds become files of a size that can be sent, and files become sounds."""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import os
import secrets
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from ambientgen.audio import gapless, loudness
from ambientgen.audio.clip import Clip, Samples
from ambientgen.audio.sound import BLOCK_SAMPLES, Sound, blocks_of, record
from ambientgen.errors import ClipTooLargeError, EncodingError, GenerationCancelled, StorageError, UnreadableClipError

_WAV_HEADER_BYTES = 44
_MAX_PEAK_TRIES = 5
_PEAK_MARGIN_DB = 0.1

#: libsndfile drops longer WAV texts together with all that follow, and writes Ogg files it cannot read again.
_MAX_WAV_TAG_BYTES = 2000
_MAX_TAG_BYTES = 30_000

_FULL_DISK = "The disk is full, so the clip could not be kept. Free some space and try again."
_NO_WRITE = "The clip folder cannot be written. Check that it exists and belongs to this program's user."
_NO_READ = "The clip cannot be read: its file is gone or damaged."


@dataclass(frozen=True, slots=True)
class Format:
    """A file format.

    Attributes:
        suffix: the ending of its files. Ogg Opus is `.ogg`: Discord shows no player for `.opus`.
        lossy: False if decoding gives the samples back.
    """

    suffix: str
    lossy: bool


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "opus": Format(".ogg", lossy=True),
        "mp3": Format(".mp3", lossy=True),
        "flac": Format(".flac", lossy=False),
        "wav": Format(".wav", lossy=False),
    }
)


@dataclass(frozen=True, slots=True)
class Encoded:
    """A written file and its facts, all measured on what decoding the file gives.

    Attributes:
        path: where it lies.
        file_format: a name in `FORMATS`; not always the one asked for, see `shrunk`.
        num_bytes: its size.
        sample_rate_hz: decoded rate.
        num_channels: decoded channels.
        duration_s: decoded length.
        integrated_lufs: decoded loudness, -inf for silence.
        peak_dbtp: decoded true peak, -inf for silence.
        shrunk: True if it had to be smaller, or of another format, than asked for.
    """

    path: Path
    file_format: str
    num_bytes: int
    sample_rate_hz: int
    num_channels: int
    duration_s: float
    integrated_lufs: float
    peak_dbtp: float
    shrunk: bool


@dataclass(frozen=True, slots=True)
class _Rung:
    """One quality of one format; `compression_level` 0 is best, 1 smallest, None the library's default."""

    file_format: str
    container: str
    subtype: str
    compression_level: float | None = None
    bitrate_mode: str | None = None


# Opus at about 122, 63 and 31 kb/s; below that ambience is no longer recognized. MP3 as VBR: the constant low rates of
# LAME change the sample rate, and with it the decoded length.
_OPUS = tuple(_Rung("opus", "OGG", "OPUS", level) for level in (None, 0.9, 0.95))
_MP3 = tuple(_Rung("mp3", "MP3", "MPEG_LAYER_III", level, "VARIABLE") for level in (0.3, 0.5, 0.7, 0.9))
_LADDERS: Mapping[str, tuple[_Rung, ...]] = {
    "opus": _OPUS,
    "mp3": (*_MP3, *_OPUS[1:]),
    "flac": (_Rung("flac", "FLAC", "PCM_16"), *_OPUS),
    "wav": (_Rung("wav", "WAV", "PCM_16"), *_OPUS),
}

_TAG_NAMES = (
    "title",
    "copyright",
    "software",
    "artist",
    "comment",
    "date",
    "album",
    "license",
    "tracknumber",
    "genre",
)


def encode(
    sound: Sound,
    directory: Path,
    stem_name: str,
    file_format: str,
    *,
    max_bytes: int,
    tags: Mapping[str, str],
    ceiling_dbtp: float = -1.0,
    loop: bool = False,
    lower_peaks: Callable[[float], Sound] | None = None,
    report: Callable[[], bool] | None = None,
) -> Encoded:
    """Write a sound as a file of at most `max_bytes`.

    A file that would be too large is written again at a lower quality of the same codec; FLAC and WAV become Opus;
    the last resort is the lowest Opus. A codec moves peaks: where the decoded file passes the ceiling, they are
    lowered by the excess and the file written again (five tries at most). The file appears under its name only when
    it is complete.

    Args:
        sound: 48 kHz stereo.
        directory: must exist.
        stem_name: file name without its ending.
        file_format: a name in `FORMATS`.
        max_bytes: the limit.
        tags: title, comment, software, date, artist, album, copyright, license, tracknumber or genre. MP3 tags are
            ASCII, with other characters as JSON escapes, and MP3's software tag is the codec's own. A text over
            30,000 bytes (WAV: 2,000) is left out.
        ceiling_dbtp: highest true peak of the decoded file.
        loop: True if the last sample joins the first; the decoded file is then a circle as well (see `gapless`).
        lower_peaks: the same sound with its peaks that many dB lower; None: all of it is turned down.
        report: asked between blocks; False cancels.

    Raises:
        ValueError: if the format or a tag's name is unknown, or the sound empty.
        ClipTooLargeError: if it does not fit in any format.
        StorageError: if the disk is full or the folder cannot be written.
        EncodingError: if the codec failed for another reason.
        GenerationCancelled: if `report` answered False.
    """
    _validate(sound, file_format, tags)
    smallest: int | None = None
    ladder = _LADDERS[file_format]
    for number, rung in enumerate(ladder):
        if rung.file_format == "wav" and _wav_bytes(sound) > max_bytes:
            continue
        path = directory / f"{stem_name}{FORMATS[rung.file_format].suffix}"
        # The `.part` in its name is what a cleaning after a crash looks for.
        partial = directory / f"{stem_name}.{secrets.token_hex(4)}.part{path.suffix}"
        try:
            # The last rung is written to its end, to say how small the clip can be.
            stop_bytes = max_bytes if number < len(ladder) - 1 else None
            facts = _write_under_ceiling(
                sound,
                lower_peaks or functools.partial(loudness.quieter, sound),
                partial,
                rung,
                tags,
                stop_bytes,
                ceiling_dbtp,
                loop,
                report,
            )
            if facts is None:
                continue
            smallest = facts.num_bytes
            if smallest > max_bytes:
                continue
            with _storage_errors():
                os.replace(partial, path)
        finally:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
        return Encoded(
            path=path,
            file_format=rung.file_format,
            num_bytes=facts.num_bytes,
            sample_rate_hz=facts.sample_rate_hz,
            num_channels=facts.num_channels,
            duration_s=facts.measured.num_samples / facts.sample_rate_hz,
            integrated_lufs=facts.measured.integrated_lufs,
            peak_dbtp=facts.measured.peak_dbtp,
            shrunk=number > 0,
        )
    raise ClipTooLargeError(
        f"The clip of {sound.duration_s:.0f} s does not fit into {_megabytes(max_bytes)}: "
        f"the smallest file it can be has {_megabytes(smallest or 0)}. Ask for a shorter one."
    )


def decode(path: Path) -> Clip:
    """Read a sound file into memory.

    Raises:
        UnreadableClipError: if it is gone, damaged, or not a sound file.
    """
    with _opened(path) as file:
        blocks = list(_read_blocks(file))
        empty = np.zeros((file.channels, 0), np.float32)
        return Clip(np.concatenate(blocks, axis=1) if blocks else empty, int(file.samplerate))


def decode_long(path: Path, directory: Path) -> Sound:
    """Read a sound file of any length: into memory if it is short, else onto a tape.

    Args:
        path: of the file.
        directory: where a long sound is kept.

    Raises:
        UnreadableClipError: if it is gone, damaged, or not a sound file.
        StorageError: if the disk is full.
    """
    with _opened(path) as file:
        try:
            return record(
                _read_blocks(file),
                file.frames,
                num_channels=file.channels,
                sample_rate_hz=int(file.samplerate),
                directory=directory,
            )
        except ValueError as error:  # it ends before the length it names
            raise UnreadableClipError(_NO_READ) from error


def read_tags(path: Path) -> dict[str, str]:
    """The tags of a sound file, those that are there; `encode` takes them back.

    Raises:
        UnreadableClipError: if it is gone, damaged, or not a sound file.
    """
    with _opened(path) as file:
        tags = {name: str(getattr(file, name)) for name in _TAG_NAMES}
    # libsndfile adds its own name to the software's.
    tags["software"] = tags["software"].partition(" (libsndfile")[0]
    return {name: text for name, text in tags.items() if text}


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """An open sound file; whatever goes wrong while it is open is told without its path."""
    import soundfile

    try:
        with soundfile.SoundFile(os.fspath(path)) as file:
            yield file
    except (OSError, soundfile.LibsndfileError) as error:
        raise UnreadableClipError(_NO_READ) from error


def _validate(sound: Sound, file_format: str, tags: Mapping[str, str]) -> None:
    if file_format not in FORMATS:
        raise ValueError(f"unknown format {file_format!r}: there are {', '.join(FORMATS)}")
    unknown = sorted(set(tags) - set(_TAG_NAMES))
    if unknown:
        raise ValueError(f"unknown tags {unknown}: there are {', '.join(_TAG_NAMES)}")
    if sound.num_samples == 0:
        raise ValueError("an empty sound cannot be encoded")


class _Facts(NamedTuple):
    """A written file, as decoded."""

    num_bytes: int
    sample_rate_hz: int
    num_channels: int
    measured: loudness.Measured


def _write_under_ceiling(
    sound: Sound,
    lower_peaks: Callable[[float], Sound],
    partial: Path,
    rung: _Rung,
    tags: Mapping[str, str],
    stop_bytes: int | None,
    ceiling_dbtp: float,
    loop: bool,
    report: Callable[[], bool] | None,
) -> _Facts | None:
    """Write, measure, and write lower while the peak is too high; None if the file grew past `stop_bytes`."""
    lowered_db = 0.0
    with _storage_errors():
        for number in range(1, _MAX_PEAK_TRIES + 1):
            num_bytes = _write(sound, partial, rung, tags, stop_bytes, loop, report)
            if num_bytes is None:
                return None
            facts = _measure(partial, num_bytes, report)
            excess_db = facts.measured.peak_dbtp - ceiling_dbtp
            if excess_db <= 0.0:
                break
            # A codec decides anew at each level, so what is over does not simply go down: a wider margin every time.
            lowered_db += excess_db + number * _PEAK_MARGIN_DB
            sound = lower_peaks(lowered_db)
    return facts


def _measure(path: Path, num_bytes: int, report: Callable[[], bool] | None) -> _Facts:
    import soundfile

    with soundfile.SoundFile(os.fspath(path)) as file:
        rate_hz, num_channels = int(file.samplerate), int(file.channels)
        measured = loudness.measure(_reported(_read_blocks(file), report), rate_hz, num_channels)
    return _Facts(num_bytes, rate_hz, num_channels, measured)


def _write(
    sound: Sound,
    partial: Path,
    rung: _Rung,
    tags: Mapping[str, str],
    stop_bytes: int | None,
    loop: bool,
    report: Callable[[], bool] | None,
) -> int | None:
    """Write the whole file and answer its size; None as soon as it has grown past `stop_bytes`."""
    import soundfile

    options: dict[str, Any] = {}
    if rung.compression_level is not None:
        options["compression_level"] = rung.compression_level
    if rung.bitrate_mode is not None:
        options["bitrate_mode"] = rung.bitrate_mode
    blocks = gapless.around(sound, rung.file_format) if loop else blocks_of(sound)
    # Opened here and not by libsndfile: its errors carry no errno.
    with partial.open("wb+") as raw:
        with soundfile.SoundFile(
            raw.fileno(),
            "w",
            sound.sample_rate_hz,
            sound.num_channels,
            format=rung.container,
            subtype=rung.subtype,
            closefd=False,
            **options,
        ) as file:
            for name, text in _storable_tags(tags, rung.file_format):
                setattr(file, name, text)
            # In blocks: one long write of an Ogg codec overflows libsndfile's stack (its issue 1095).
            for block in _reported(blocks, report):
                file.write(np.ascontiguousarray(block.T))
                if stop_bytes is not None and os.fstat(raw.fileno()).st_size > stop_bytes:
                    return None
        if loop:
            gapless.trim(raw, rung.file_format, sound.num_samples)
        os.fsync(raw.fileno())  # a clip that was announced survives a power cut
        num_bytes = os.fstat(raw.fileno()).st_size
    return None if stop_bytes is not None and num_bytes > stop_bytes else num_bytes


def _read_blocks(file: Any) -> Iterator[Samples]:
    """The rest of an open sound file, in blocks of shape (num_channels, n)."""
    while (frames := file.read(BLOCK_SAMPLES, dtype="float32", always_2d=True)).shape[0]:
        yield np.ascontiguousarray(frames.T)


def _reported(blocks: Iterator[Samples], report: Callable[[], bool] | None) -> Iterator[Samples]:
    """The same blocks, asking before each whether the work is still wanted."""
    for block in blocks:
        if report is not None and not report():
            raise GenerationCancelled
        yield block


@contextlib.contextmanager
def _storage_errors() -> Iterator[None]:
    """Turn what the disk refuses into words, without the path."""
    import soundfile

    try:
        yield
    except OSError as error:
        full = error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
        raise StorageError(_FULL_DISK if full else _NO_WRITE) from error
    except AssertionError as error:
        # soundfile asserts that every frame was taken; a full disk is what makes a write short.
        raise StorageError(_FULL_DISK) from error
    except soundfile.LibsndfileError as error:
        # Code 2 is "system error": the folder and file were opened before, so it is a write that failed.
        if error.code == 2:
            raise StorageError(_FULL_DISK) from error
        raise EncodingError("The clip could not be encoded.") from error


def _wav_bytes(sound: Sound) -> int:
    """Least size of 16-bit WAV; tags come on top."""
    return _WAV_HEADER_BYTES + 2 * sound.num_channels * sound.num_samples


def _storable_tags(tags: Mapping[str, str], file_format: str) -> Iterator[tuple[str, str]]:
    """What the format can hold: no control characters or half surrogates, ASCII for MP3, nothing overlong.

    An overlong text is left out: half a recipe helps nobody, and in WAV it would take the tags behind it along.
    """
    max_bytes = _MAX_WAV_TAG_BYTES if file_format == "wav" else _MAX_TAG_BYTES
    for name, text in tags.items():
        plain = "".join(" " if unicodedata.category(char) in {"Cc", "Cs"} else char for char in text)
        if file_format == "mp3":
            # As JSON escapes them, so that JSON in a tag stays JSON.
            plain = "".join(char if char.isascii() else json.dumps(char)[1:-1] for char in plain)
        if plain and len(plain.encode()) <= max_bytes:
            yield name, plain


def _megabytes(num_bytes: int) -> str:
    mebibytes = num_bytes / 2**20
    return f"{mebibytes:.1f} MiB" if mebibytes >= 0.1 else f"{num_bytes / 2**10:.1f} KiB"
