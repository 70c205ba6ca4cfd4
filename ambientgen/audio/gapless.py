"""Lossy files of circular sounds that are circles again after decoding.

A codec has no history at the start of a file and nothing to come at its end, so that a circle comes back with a seam.
So more than the circle is encoded, its own end before it and its own beginning behind it (`around`), and the file is
told to play only what lies between (`trim`): Ogg Opus by pre-skip and end trimming (RFC 7845, sections 4.2 to 4.6), MP3
by the encoder delay and padding of LAME's info tag.

Both ends of such a file have their history, but still coding noise of their own, and the step from one noise to another
can be larger than any step of a dark sound. So the last packets of an Ogg Opus file are replaced by those of the
lead-in, which hold the same sound: a decoder comes to the end in the state in which it came to the start, and the first
packet continues the last one as it does any other.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import BinaryIO, Final, NamedTuple

from ambientgen.audio.clip import Samples
from ambientgen.audio.sound import BLOCK_SAMPLES, Sound, blocks_of, read_around
from ambientgen.errors import EncodingError

#: libsndfile codes Opus in packets of 20 ms; granule positions and pre-skip count samples at 48 kHz whatever the input.
_PACKET_SAMPLES: Final = 960
#: 0.4 s before the start, of which the latter half is heard again at the end. A decoder has settled after 80 ms.
_LEAD_IN_PACKETS: Final = 20
_SHARED_PACKETS: Final = 10
#: The encoder's own delay at 48 kHz. Only with it do packets begin where the circle begins.
_OPUS_DELAY_SAMPLES: Final = 312

_PAGE = struct.Struct("<4sBBqIIIB")
_LAST_PAGE: Final = 4
_MAX_SEGMENTS: Final = 255
_PRE_SKIP_PLACE: Final = 10
_MAX_PRE_SKIP: Final = 65_535
_BITS_REVERSED: Final = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))

_MP3_FRAME_SAMPLES: Final = 1152
#: Delay and padding have 12 bits each, of which LAME uses 576 and up to 1727 itself.
_MAX_MP3_EDGE: Final = 4095
_LAME_DELAY_SAMPLES: Final = 576
#: Where things lie in an info tag, from its "Xing" or "Info" on.
_NUM_FRAMES_PLACE: Final = 8
_EDGES_PLACE: Final = 141
_CRC_PLACE: Final = 154

_NOT_OURS = "The clip could not be made into a loop of this format: its file is not as expected. Try FLAC."


class Lead(NamedTuple):
    """How much of a circle is encoded around it.

    Attributes:
        in_samples: of its end, before it.
        out_samples: of its beginning, behind it.
    """

    in_samples: int
    out_samples: int


#: For 48 kHz. A format that is not here is lossless: its files are circular as they are.
LEADS: Final = {
    "opus": Lead(_LEAD_IN_PACKETS * _PACKET_SAMPLES - _OPUS_DELAY_SAMPLES, 2 * _PACKET_SAMPLES),
    "mp3": Lead(_MAX_MP3_EDGE - _LAME_DELAY_SAMPLES, 2 * _MP3_FRAME_SAMPLES),
}


def around(circle: Sound, file_format: str) -> Iterator[Samples]:
    """What has to be encoded so that `trim` can make a circle of the file.

    Args:
        circle: 48 kHz; its last sample joins its first.
        file_format: a name in `encode.FORMATS`.

    Yields:
        Blocks of shape (num_channels, n); for a lossless format the circle alone.
    """
    lead = LEADS.get(file_format)
    if lead is None:
        yield from blocks_of(circle)
        return
    stop = circle.num_samples + lead.out_samples
    for start in range(-lead.in_samples, stop, BLOCK_SAMPLES):
        yield read_around(circle, start, min(BLOCK_SAMPLES, stop - start))


def trim(file: BinaryIO, file_format: str, num_samples: int) -> None:
    """Make a complete file of what `around` gave play the circle alone. Lossless files are left as they are.

    Args:
        file: open for reading and writing.
        file_format: a name in `encode.FORMATS`.
        num_samples: of the circle.

    Raises:
        EncodingError: if it is not such a file as libsndfile writes.
    """
    if file_format == "opus":
        trim_opus(file, LEADS["opus"].in_samples, num_samples)
    elif file_format == "mp3":
        trim_mp3(file, LEADS["mp3"].in_samples, num_samples)


def trim_opus(file: BinaryIO, lead_in_samples: int, num_samples: int) -> None:
    """Let an Ogg Opus file play `num_samples` from `lead_in_samples` on, and end as it began.

    The last packets are exchanged for those before the start if both ends lie between packets: the start does with the
    lead-in of `LEADS`, the end where the circle is a multiple of 20 ms long. Any other length is only trimmed.

    Args:
        file: open for reading and writing; only its first page and its end are changed.
        lead_in_samples: what lies before the circle, at 48 kHz.
        num_samples: length of the circle, at 48 kHz.

    Raises:
        EncodingError: if it is not such a file as libsndfile writes, or too short.
    """
    pages = list(_pages(file))
    head, audio = pages[0], [page for page in pages if page.granule > 0]
    file.seek(head.place)
    first_page = bytearray(file.read(head.end - head.place))
    pre_skip_place = head.body_place - head.place + _PRE_SKIP_PLACE
    start = int.from_bytes(first_page[pre_skip_place : pre_skip_place + 2], "little") + lead_in_samples
    end = start + num_samples
    if first_page[pre_skip_place - _PRE_SKIP_PLACE :][:8] != b"OpusHead" or start > _MAX_PRE_SKIP:
        raise EncodingError(_NOT_OURS)

    num_packets = -(-end // _PACKET_SAMPLES)
    num_shared = 0
    if start % _PACKET_SAMPLES == end % _PACKET_SAMPLES == 0:
        num_shared = min(_SHARED_PACKETS, num_samples // _PACKET_SAMPLES, start // _PACKET_SAMPLES)
    num_kept = num_packets - num_shared
    before_start = start // _PACKET_SAMPLES

    num_before, last = _page_of(audio, num_kept - 1)
    packets = [
        *_packets(file, audio, num_before, num_kept),
        *_packets(file, audio, before_start - num_shared, before_start),
    ]
    file.seek(last.place)
    file.writelines(_paged(packets, last, num_before, end))
    file.truncate()

    first_page[pre_skip_place : pre_skip_place + 2] = start.to_bytes(2, "little")
    file.seek(head.place)
    file.write(_with_crc(first_page))
    file.flush()


def trim_mp3(file: BinaryIO, lead_in_samples: int, num_samples: int) -> None:
    """Let an MP3 file play `num_samples` from `lead_in_samples` on, for decoders that heed LAME's info tag.

    Args:
        file: open for reading and writing; only its info tag is changed.
        lead_in_samples: what lies before the circle.
        num_samples: length of the circle.

    Raises:
        EncodingError: if it is not such a file as libsndfile writes, or the edges are longer than a tag can say.
    """
    file.seek(0)
    header = file.read(10)
    place = 0
    if header[:3] == b"ID3":
        place = len(header) + sum(value << (7 * (3 - number)) for number, value in enumerate(header[6:10]))
    file.seek(place)
    frame = bytearray(file.read(_MP3_FRAME_SAMPLES))
    tag = max(frame.find(b"Xing"), frame.find(b"Info"))
    if tag < 0 or len(frame) < tag + _CRC_PLACE + 2:
        raise EncodingError(_NOT_OURS)
    num_frames = int.from_bytes(frame[tag + _NUM_FRAMES_PLACE :][:4], "big")
    edges = slice(tag + _EDGES_PLACE, tag + _EDGES_PLACE + 3)
    delay = (int.from_bytes(frame[edges], "big") >> 12) + lead_in_samples
    padding = num_frames * _MP3_FRAME_SAMPLES - delay - num_samples
    if delay > _MAX_MP3_EDGE or not 0 <= padding <= _MAX_MP3_EDGE:
        raise EncodingError(_NOT_OURS)
    frame[edges] = (delay << 12 | padding).to_bytes(3, "big")
    crc = slice(tag + _CRC_PLACE, tag + _CRC_PLACE + 2)
    frame[crc] = _crc16(frame[: crc.start]).to_bytes(2, "big")
    file.seek(place)
    file.write(frame)
    file.flush()


class _Page(NamedTuple):
    """An Ogg page (RFC 3533), without what it holds."""

    place: int
    granule: int
    serial: int
    number: int
    lacing: bytes

    @property
    def body_place(self) -> int:
        return self.place + _PAGE.size + len(self.lacing)

    @property
    def end(self) -> int:
        return self.body_place + sum(self.lacing)

    @property
    def packet_sizes(self) -> list[int]:
        """Of those that end here. libsndfile lets no packet of sound go on over a page's end."""
        sizes = [0]
        for value in self.lacing:
            sizes[-1] += value
            if value < 255:
                sizes.append(0)
        return sizes[:-1]


def _pages(file: BinaryIO) -> Iterator[_Page]:
    """All pages from the start; at least one."""
    place = 0
    while True:
        file.seek(place)
        header = file.read(_PAGE.size)
        if place and not header:
            return
        if len(header) < _PAGE.size or header[:4] != b"OggS":
            raise EncodingError(_NOT_OURS)
        _, _, _, granule, serial, number, _, num_segments = _PAGE.unpack(header)
        page = _Page(place, granule, serial, number, file.read(num_segments))
        yield page
        place = page.end


def _page_of(audio: Sequence[_Page], packet: int) -> tuple[int, _Page]:
    """The page that holds a packet, and how many packets lie before that page."""
    num_before = 0
    for page in audio:
        num_behind = num_before + len(page.packet_sizes)
        is_last = page is audio[-1]
        if page.granule != num_behind * _PACKET_SAMPLES and not is_last:
            break
        if packet < num_behind:
            return num_before, page
        num_before = num_behind
    raise EncodingError(_NOT_OURS)


def _packets(file: BinaryIO, audio: Sequence[_Page], start: int, stop: int) -> Iterator[bytes]:
    """The packets of sound from `start` up to `stop`."""
    number = 0
    for page in audio:
        if number >= stop:
            return
        file.seek(page.body_place)
        sizes = page.packet_sizes
        if number + len(sizes) > start:
            for size in sizes:
                packet = file.read(size)
                if start <= number < stop:
                    yield packet
                number += 1
        else:
            number += len(sizes)


def _paged(packets: Sequence[bytes], first: _Page, num_before: int, end: int) -> Iterator[bytes]:
    """Pages that take the place of `first` and all behind it; the stream ends at granule position `end`."""
    lacing, body, page_number = b"", b"", first.number
    for number, packet in enumerate(packets, start=num_before):
        segments = b"\xff" * (len(packet) // 255) + bytes([len(packet) % 255])
        if len(lacing) + len(segments) > _MAX_SEGMENTS:
            yield _page(0, number * _PACKET_SAMPLES, first.serial, page_number, lacing, body)
            lacing, body, page_number = b"", b"", page_number + 1
        lacing += segments
        body += packet
    yield _page(_LAST_PAGE, end, first.serial, page_number, lacing, body)


def _page(flags: int, granule: int, serial: int, number: int, lacing: bytes, body: bytes) -> bytes:
    header = _PAGE.pack(b"OggS", 0, flags, granule, serial, number, 0, len(lacing))
    return _with_crc(bytearray(header + lacing + body))


def _with_crc(page: bytearray) -> bytes:
    """The page with its checksum: polynomial 0x04c11db7 from 0 on, most significant bit first, nothing inverted.

    `zlib` has the same polynomial with every byte's least significant bit first, and inverts before and after; so the
    bits of the bytes go in reversed, and those of the result come out reversed.
    """
    page[22:26] = bytes(4)
    reversed_crc = zlib.crc32(page.translate(_BITS_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    page[22:26] = reversed_crc.to_bytes(4, "big").translate(_BITS_REVERSED)
    return bytes(page)


def _crc16(data: bytearray) -> int:
    """LAME's checksum of its tag: polynomial 0x8005 from 0 on, least significant bit first."""
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
    return crc
