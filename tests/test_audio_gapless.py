from __future__ import annotations

import io
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import soundfile

from ambientgen.audio.clip import Clip, Samples
from ambientgen.audio.encode import decode, encode, read_tags
from ambientgen.audio.gapless import LEADS, around, trim, trim_mp3, trim_opus
from ambientgen.audio.loop import measure_seam
from ambientgen.audio.sound import blocks_of
from ambientgen.errors import EncodingError

RATE_HZ = 48_000
OPTIONS = {
    "opus": {"format": "OGG", "subtype": "OPUS"},
    "mp3": {
        "format": "MP3",
        "subtype": "MPEG_LAYER_III",
        "compression_level": 0.3,
        "bitrate_mode": "VARIABLE",
    },
    "flac": {"format": "FLAC", "subtype": "PCM_16"},
}


def circle(seed: int, num_samples: int, exponent: float = 1.0, highest_hz: float = 20_000.0) -> Clip:
    """Circular noise of a color."""
    rng = np.random.default_rng(seed)
    hz = np.fft.rfftfreq(num_samples, 1.0 / RATE_HZ)
    shape = np.where((hz > 30.0) & (hz < highest_hz), np.maximum(hz, 1.0) ** -exponent, 0.0)
    spectrum = shape * (rng.standard_normal((2, len(hz))) + 1j * rng.standard_normal((2, len(hz))))
    samples = np.fft.irfft(spectrum, num_samples, axis=1)
    return Clip((samples / samples.std() * 0.1).astype(np.float32), RATE_HZ)


def encoded(clip: Clip, file_format: str, *, gapless: bool, comment: str = "") -> io.BytesIO:
    """A file in memory."""
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", RATE_HZ, clip.num_channels, **OPTIONS[file_format]) as sound:
        if comment:
            sound.comment = comment
        for block in around(clip, file_format) if gapless else blocks_of(clip):
            sound.write(block.T)
    if gapless:
        trim(file, file_format, clip.num_samples)
    return file


def decoded(file: io.BytesIO) -> Samples:
    """What it sounds like."""
    file.seek(0)
    return np.ascontiguousarray(soundfile.read(file, dtype="float32")[0].T)


def lag(first: Samples, second: Samples) -> int:
    """By how many samples the second circle comes later."""
    spectra = np.conj(np.fft.rfft(first)) * np.fft.rfft(second)
    likeness = np.fft.irfft(spectra.sum(axis=0), first.shape[1])
    place = int(np.argmax(likeness))
    return place if place <= first.shape[1] // 2 else place - first.shape[1]


class Page(NamedTuple):
    """An Ogg page as RFC 3533 has it."""

    flags: int
    granule: int
    number: int
    crc: int
    packets: list[bytes]
    whole: bytes


def pages(file: io.BytesIO) -> Iterator[Page]:
    """All pages of a file."""
    data = file.getvalue()
    while data:
        assert data[:4] == b"OggS"
        lacing = data[27 : 27 + data[26]]
        length = 27 + len(lacing) + sum(lacing)
        packets, place = [b""], 27 + len(lacing)
        for value in lacing:
            packets[-1] += data[place : place + value]
            place += value
            if value < 255:
                packets.append(b"")
        granule = int.from_bytes(data[6:14], "little", signed=True)
        number, crc = (int.from_bytes(data[at : at + 4], "little") for at in (18, 22))
        yield Page(data[5], granule, number, crc, packets[:-1], data[:22] + bytes(4) + data[26:length])
        data = data[length:]


def ogg_crc(data: bytes) -> int:
    """As the specification words it, bit by bit."""
    crc = 0
    for byte in data:
        crc ^= byte << 24
        for _ in range(8):
            crc = crc << 1 ^ (0x104C11DB7 if crc & 0x80000000 else 0)
    return crc


@pytest.mark.parametrize("file_format", ["opus", "mp3"])
@pytest.mark.parametrize("num_samples", [9_600, 48_000, 50_001, 4 * 48_000])
def test_a_loop_has_its_length_and_its_place(file_format: str, num_samples: int) -> None:
    """Decoding gives exactly the circle's samples, none earlier or later, whatever the length."""
    clip = circle(1, num_samples, highest_hz=5_000.0)
    samples = decoded(encoded(clip, file_format, gapless=True))
    assert samples.shape == clip.samples.shape
    assert lag(clip.samples, samples) == 0
    assert np.abs(samples - clip.samples).max() < 0.1


def test_the_coding_error_goes_on_over_the_seam() -> None:
    """The error's step from the end to the start is like any other of its steps; in a plain file it stands out."""
    steps: dict[bool, list[float]] = {False: [], True: []}
    for seed in range(3):
        clip = circle(seed, RATE_HZ, highest_hz=5_000.0)
        for gapless, found in steps.items():
            error = decoded(encoded(clip, "opus", gapless=gapless)) - clip.samples
            found.append(float(np.abs(error[:, 0] - error[:, -1]).max() / np.diff(error, axis=1).std()))
    assert max(steps[True]) < 5.0
    assert max(steps[False]) > 10.0


def test_dark_sounds_do_not_click() -> None:
    """Where the sound's own steps are small, two ends with coding noise of their own would click."""
    for seed in range(4):
        clip = circle(seed, RATE_HZ, exponent=2.0, highest_hz=2_000.0)
        seam = measure_seam(Clip(decoded(encoded(clip, "opus", gapless=True)), RATE_HZ), is_circle=True)
        assert seam.jump_ratio_p999 <= 1.0


@pytest.mark.parametrize(("file_format", "max_bytes"), [("opus", 2**20), ("opus", 12_000), ("flac", 25_000)])
def test_encoded_loops_are_circles(file_format: str, max_bytes: int, tmp_path: Path) -> None:
    """Also where the file is written again: at a lower quality, as another format, or for its peaks."""
    clip = circle(9, RATE_HZ, exponent=2.0, highest_hz=2_000.0)
    loud = Clip(clip.samples / np.abs(clip.samples).max(), RATE_HZ)
    encoded_loop = encode(loud, tmp_path, "loop", file_format, max_bytes=max_bytes, tags={"title": "Rain"}, loop=True)
    samples = decode(encoded_loop.path).samples
    assert encoded_loop.file_format == "opus"
    assert encoded_loop.shrunk == (max_bytes < 2**20)
    assert encoded_loop.num_bytes == encoded_loop.path.stat().st_size <= max_bytes
    assert encoded_loop.peak_dbtp < -0.5
    assert samples.shape == loud.samples.shape
    assert measure_seam(Clip(samples, RATE_HZ), is_circle=True).jump_ratio_p999 <= 1.0
    assert read_tags(encoded_loop.path)["title"] == "Rain"


def test_the_end_is_the_lead_in() -> None:
    """A decoder comes to the end over the very packets over which it came to the start."""
    file = encoded(circle(2, 2 * RATE_HZ), "opus", gapless=True)
    head, _, *audio = pages(file)
    pre_skip = int.from_bytes(head.packets[0][10:12], "little")
    packets = [packet for page in audio for packet in page.packets]
    num_before, extra = divmod(pre_skip, 960)
    assert extra == 0
    assert len(packets) == num_before + 100
    assert packets[-4:] == packets[num_before - 4 : num_before]
    assert audio[-1].granule == pre_skip + 2 * RATE_HZ


@pytest.mark.parametrize("num_samples", [4_800, 48_000, 52_801, 3 * 48_000])
def test_ogg_pages_are_whole(num_samples: int) -> None:
    """Checksums, page numbers, granule positions and the end mark are those of a proper stream; tags stay."""
    file = encoded(circle(3, num_samples), "opus", gapless=True, comment="x" * 20_000)
    found = list(pages(file))
    assert [page.number for page in found] == list(range(len(found)))
    assert [page.flags & 4 for page in found] == [0] * (len(found) - 1) + [4]
    assert all(page.crc == ogg_crc(page.whole) for page in [found[0], *found[-2:]])
    num_packets = 0
    for page in found[2:-1]:
        num_packets += len(page.packets)
        assert page.granule == num_packets * 960
    # What is not heard is not kept.
    assert 0 <= (num_packets + len(found[-1].packets)) * 960 - found[-1].granule < 960
    file.seek(0)
    with soundfile.SoundFile(file) as sound:
        assert sound.comment == "x" * 20_000
        assert sound.frames == num_samples


def test_the_info_tag_is_whole() -> None:
    """Delay and padding leave the circle, and the tag's checksum is right, with and without tags of the other kind."""
    for comment in ("", "rain"):
        file = encoded(circle(4, RATE_HZ), "mp3", gapless=True, comment=comment)
        data = file.getvalue()
        tag = data.find(b"Info") if b"Xing" not in data[:8000] else data.find(b"Xing")
        frame = data[tag - 36 :]
        num_frames = int.from_bytes(data[tag + 8 : tag + 12], "big")
        edges = int.from_bytes(data[tag + 141 : tag + 144], "big")
        assert edges >> 12 == 576 + LEADS["mp3"].in_samples
        assert num_frames * 1152 - (edges >> 12) - (edges & 0xFFF) == RATE_HZ
        crc = 0
        for byte in frame[:190]:
            crc ^= byte
            for _ in range(8):
                crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
        assert crc == int.from_bytes(frame[190:192], "big")


def test_lossless_files_are_left_alone() -> None:
    """FLAC holds the circle and nothing around it."""
    clip = circle(5, RATE_HZ)
    plain, gapless = (encoded(clip, "flac", gapless=gapless).getvalue() for gapless in (False, True))
    assert plain == gapless


def test_around_is_the_circle_unrolled() -> None:
    """Before the circle comes its end, behind it its beginning, even if it is shorter than that."""
    for num_samples in (1000, 100_000):
        clip = circle(6, num_samples)
        lead = LEADS["opus"]
        unrolled = np.concatenate(list(around(clip, "opus")), axis=1)
        places = np.arange(-lead.in_samples, num_samples + lead.out_samples) % num_samples
        np.testing.assert_array_equal(unrolled, clip.samples[:, places])


def test_other_files_are_refused() -> None:
    """What is no such file, or ends before the circle does, is an error and is not changed."""
    opus, mp3 = (encoded(circle(7, RATE_HZ), name, gapless=False) for name in ("opus", "mp3"))
    cases = [
        (trim_opus, mp3, 0, RATE_HZ),
        (trim_opus, io.BytesIO(), 0, 1),
        (trim_opus, opus, 0, 10 * RATE_HZ),
        (trim_opus, opus, 2 * RATE_HZ, 1),
        (trim_mp3, opus, 0, RATE_HZ),
        (trim_mp3, mp3, 4000, RATE_HZ - 4000),
        (trim_mp3, mp3, 0, RATE_HZ - 8000),
    ]
    for trimmed, file, lead_in_samples, num_samples in cases:
        before = file.getvalue()
        with pytest.raises(EncodingError, match="loop"):
            trimmed(file, lead_in_samples, num_samples)
        assert file.getvalue() == before


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg")
@pytest.mark.parametrize("file_format", ["opus", "mp3"])
def test_ffmpeg_hears_the_same(file_format: str, tmp_path: Path) -> None:
    """A second decoder finds the same samples at the same places."""
    file = encoded(circle(8, 2 * RATE_HZ), file_format, gapless=True)
    path = tmp_path / "loop"
    path.write_bytes(file.getvalue())
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-f", "f32le", "-"]
    raw = subprocess.run(command, capture_output=True, check=True, timeout=60).stdout
    samples = np.frombuffer(raw, np.float32).reshape(-1, 2).T
    expected = decoded(file)
    assert samples.shape == expected.shape
    assert np.abs(samples - expected).max() < 1e-3
