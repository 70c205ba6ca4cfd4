"""A picture of a sound: waveform over mel spectrogram, for a card in Discord.

Everything is drawn as indices into one small palette (a PNG of a byte a pixel), which keeps files small and quick. The
sound is read piece by piece, so that the picture of an hour needs no more memory than that of a second.
"""

from __future__ import annotations

import contextlib
import functools
import io
import math
import unicodedata
import zlib
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from ambientgen.audio.clip import Samples
from ambientgen.audio.sound import Sound, blocks_of, read_around

if TYPE_CHECKING:
    from PIL import ImageFont

Canvas = npt.NDArray[np.uint8]

MAX_BYTES = 120_000

_WIDTH, _HEIGHT = 960, 480
_LEFT, _RIGHT = 64, 940
_TITLE_TOP, _WAVE_TOP, _WAVE_HEIGHT = 12, 60, 84
_SPECTRUM_TOP, _SPECTRUM_HEIGHT = 156, 240
_AXIS_TOP, _CAPTION_TOP = 402, 436
#: Discord shows the picture at little more than half its size.
_TITLE_SIZE, _CAPTION_SIZE, _AXIS_SIZE = 30, 22, 18

#: Nothing above is kept in a finished sound.
_HIGHEST_HZ = 20_000.0
_TICKS = ((0.0, "0 Hz"), (500.0, "500"), (1e3, "1k"), (2e3, "2k"), (5e3, "5k"), (1e4, "10k"), (2e4, "20k"))
_FFT_SIZE = 2048
_MAX_FRAMES_PER_COLUMN = 4
#: Few enough that frames and spectra stay in the processor's cache.
_COLUMNS_AT_A_TIME = 16
_RANGE_DB = 70.0
#: Where white lies at the lowest, re a sine of full scale: silence must not be drawn as noise.
_LOWEST_TOP_DB, _FLOOR_DB = -110.0, -200.0
#: Beyond any sound; its square fits in float32.
_LARGEST = 100.0

_SYSTEM_FONTS = ("NotoSans-Regular.ttf", "DejaVuSans.ttf", "Arial.ttf", "arial.ttf", "NotoSansCJK-Regular.ttc")
_PROBE_SIZE = 24
_MAX_CHARS = 400  # more never fit in a line
#: A private-use character: cannot come from the text, since that category is dropped.
_REPLACEMENT = "\ue000"

# Palette: spectrogram colors, then ramps from the background to each ink (for smooth text and lines).
_NUM_COLORS = 64
_RAMP = 16
_BACKGROUND = (23, 25, 35)
_INKS = {"title": (240, 242, 248), "label": (160, 166, 184), "left": (94, 196, 214), "right": (236, 171, 108)}
_RAMP_START = {name: _NUM_COLORS + index * _RAMP for index, name in enumerate(_INKS)}
#: Night blue over teal and leaf green to warm white: lightness rises evenly, so that louder always reads as brighter.
_ANCHORS = ((18, 20, 30), (28, 44, 84), (24, 84, 120), (34, 128, 128), (96, 170, 112), (190, 204, 108), (255, 244, 206))


def draw(sound: Sound, title: str, caption: str) -> bytes:
    """Draw a sound's card.

    Args:
        sound: one or two channels, any length above 0.
        title: any text; what the font cannot draw is left out or replaced, what does not fit is cut.
        caption: a second, smaller line, treated likewise.

    Returns:
        A PNG of 960 x 480 pixels and at most `MAX_BYTES`, on its own dark background.

    Raises:
        ValueError: if the sound is empty.
    """
    if sound.num_samples == 0:
        raise ValueError("an empty sound cannot be drawn")
    canvas = np.full((_HEIGHT, _WIDTH), _RAMP_START["label"], np.uint8)
    _draw_waveform(canvas, *_envelope(sound))
    levels = _spectrogram(sound)
    _draw_axes(canvas, sound)
    _draw_text(canvas, title, "title", _LEFT, _TITLE_TOP, _TITLE_SIZE, _RIGHT - _LEFT)
    _draw_text(canvas, caption, "label", _LEFT, _CAPTION_TOP, _CAPTION_SIZE, _RIGHT - _LEFT)
    # Noise is what PNG packs worst: fewer colors, then fewer columns, until it fits.
    png = b""
    for num_colors, step in ((_NUM_COLORS, 1), (48, 1), (32, 1), (20, 1), (20, 2), (10, 4)):
        _place_spectrogram(canvas, levels, num_colors, step)
        png = _png(canvas)
        if len(png) <= MAX_BYTES:
            break
    return png


def _envelope(sound: Sound) -> tuple[Samples, Samples]:
    """The lowest and the highest sample of each column, shapes (one or two channels, columns)."""
    num_columns, num_samples = _RIGHT - _LEFT, sound.num_samples
    starts = np.arange(num_columns) * num_samples // num_columns
    # In a sound of fewer samples than columns, a sample fills several.
    stops = np.maximum(np.arange(1, num_columns + 1) * num_samples // num_columns, starts + 1)
    shape = (min(sound.num_channels, 2), num_columns)
    lowest, highest = np.full(shape, np.inf, np.float32), np.full(shape, -np.inf, np.float32)
    begin = 0
    for whole_block in blocks_of(sound):
        block = _finite(whole_block[:2])
        end = begin + block.shape[1]
        columns = slice(int(np.searchsorted(stops, begin, side="right")), int(np.searchsorted(starts, end)))
        cuts = np.maximum(starts[columns] - begin, 0)
        np.minimum(lowest[:, columns], np.minimum.reduceat(block, cuts, axis=1), out=lowest[:, columns])
        np.maximum(highest[:, columns], np.maximum.reduceat(block, cuts, axis=1), out=highest[:, columns])
        begin = end
    return lowest, highest


def _finite(samples: Samples) -> Samples:
    """The samples without what is no number or beyond any sound."""
    if samples.max() <= _LARGEST and samples.min() >= -_LARGEST:
        return samples
    return np.clip(np.nan_to_num(samples, nan=0.0), -_LARGEST, _LARGEST)


def _draw_waveform(canvas: Canvas, lowest: Samples, highest: Samples) -> None:
    """Both channels' envelopes, one over the other, each around its own line."""
    peak = max(-float(lowest.min()), float(highest.max()), 1e-4)
    strip = _WAVE_HEIGHT // len(lowest)
    middle, half = (strip - 1) / 2.0, strip / 2.0 - 1.0
    rows = np.arange(strip)[:, np.newaxis]
    for index, (low, high, ink) in enumerate(zip(lowest, highest, ("left", "right"), strict=False)):
        upper, lower = middle - high / peak * half, middle - low / peak * half
        # How much of each pixel lies within the envelope, at least a line of one pixel: soft edges for free.
        inside = np.minimum(rows + 0.5, lower + 0.5) - np.maximum(rows - 0.5, upper - 0.5)
        shade = np.rint(np.clip(inside, 0.0, 1.0) * (_RAMP - 1)).astype(np.uint8)
        top = _WAVE_TOP + index * strip
        canvas[top : top + strip, _LEFT:_RIGHT] = _RAMP_START[ink] + shade


def _spectrogram(sound: Sound) -> npt.NDArray[np.float32]:
    """Levels 0 to 1 over mel, shape (_SPECTRUM_HEIGHT, columns), highest frequency first.

    The channels' powers are added, so that nothing cancels out. A column is as many frames as overlap by half; in a
    long sound it is a few, spread over its time.
    """
    num_columns = _RIGHT - _LEFT
    starts, per_column = _frame_starts(sound.num_samples, num_columns)
    window = np.hanning(_FFT_SIZE).astype(np.float32) * np.float32(4.0 / _FFT_SIZE)  # a full-scale sine: 0 dB
    lower, upper = _band_edges(sound.sample_rate_hz)
    num_bins = _FFT_SIZE // 2 + 1
    power = np.empty((num_columns, _SPECTRUM_HEIGHT))
    for begin in range(0, num_columns, _COLUMNS_AT_A_TIME):
        columns = slice(begin, min(begin + _COLUMNS_AT_A_TIME, num_columns))
        frames = _frames(sound, starts[columns.start * per_column : columns.stop * per_column])
        frames *= window
        parts = np.fft.rfft(frames).view(np.float32).reshape(columns.stop - columns.start, -1, 2 * num_bins)
        squares = np.einsum("cfp,cfp->cp", parts, parts) / per_column  # of real and imaginary parts in turn
        power[columns] = _band_power(squares.reshape(-1, num_bins, 2).sum(axis=2), lower, upper)
    levels_db = 10.0 * np.log10(power.T + 10.0 ** (_FLOOR_DB / 10.0))
    # 99.5 %, not the maximum: one crackle must not darken everything else. The median stays well below white.
    usual_db, high_db = np.quantile(levels_db, (0.5, 0.995))
    top_db = max(float(high_db) + 3.0, float(usual_db) + 0.35 * _RANGE_DB, _LOWEST_TOP_DB)
    return np.asarray(np.clip((levels_db - (top_db - _RANGE_DB)) / _RANGE_DB, 0.0, 1.0)[::-1], np.float32)


def _frame_starts(num_samples: int, num_columns: int) -> tuple[npt.NDArray[np.int64], int]:
    """Where each frame begins, before the sound's beginning too, and how many frames a column has."""
    per_column = math.ceil(min(max(num_samples / num_columns / (_FFT_SIZE / 2), 1), _MAX_FRAMES_PER_COLUMN))
    num_frames = num_columns * per_column
    room = num_samples / num_frames - _FFT_SIZE
    # Somewhere in their share of time, if that is longer: evenly spaced ones would beat with a regular sound.
    places = np.random.default_rng(0).random(num_frames) if room > 0.0 else np.full(num_frames, 0.5)
    starts = np.arange(num_frames) * (num_samples / num_frames) + room * places
    return np.floor(starts).astype(np.int64), per_column


def _frames(sound: Sound, starts: npt.NDArray[np.int64]) -> Samples:
    """A frame from each start, shape (num_frames, num_channels, _FFT_SIZE).

    The sound is taken as a circle: a loop has no edge to be drawn, and what is no loop fades out.
    """
    frames = np.empty((len(starts), sound.num_channels, _FFT_SIZE), np.float32)
    for frame, start in zip(frames, starts.tolist(), strict=True):
        frame[:] = read_around(sound, start, _FFT_SIZE)
    return _finite(frames)


def _highest_hz(sample_rate_hz: int) -> float:
    return min(_HIGHEST_HZ, sample_rate_hz / 2.0)


def _mel(frequency_hz: float) -> float:
    """The mel scale of O'Shaughnessy (1987), which HTK uses."""
    return 2595.0 * math.log10(1.0 + frequency_hz / 700.0)


@functools.lru_cache(maxsize=4)
def _band_edges(sample_rate_hz: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Each picture row's band, lowest row first, in FFT bins counted from the lower edge of bin 0.

    Rows are equally wide in mel; below the FFT's resolution a band is one bin wide and lies between two bins.
    """
    mels = np.linspace(0.0, _mel(_highest_hz(sample_rate_hz)), _SPECTRUM_HEIGHT + 1)
    edges = 700.0 * (10.0 ** (mels / 2595.0) - 1.0) / (sample_rate_hz / _FFT_SIZE)
    centers, widths = (edges[1:] + edges[:-1]) / 2.0, np.maximum(edges[1:] - edges[:-1], 1.0)
    num_bins = _FFT_SIZE // 2 + 1
    lower, upper = (np.clip(centers + 0.5 + side * widths, 0.0, num_bins) for side in (-0.5, 0.5))
    return lower, upper


def _band_power(
    bins: npt.NDArray[np.floating[Any]], lower: npt.NDArray[np.float64], upper: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Power between band edges: differences of the running sum, which is straight inside a bin."""
    running = np.zeros((len(bins), bins.shape[1] + 1))
    np.cumsum(bins, axis=1, out=running[:, 1:])

    def up_to(edges: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        whole = np.minimum(edges.astype(np.int64), bins.shape[1] - 1)
        share = edges - whole
        return np.asarray(running[:, whole] * (1.0 - share) + running[:, whole + 1] * share)

    return np.maximum(up_to(upper) - up_to(lower), 0.0)


def _place_spectrogram(canvas: Canvas, levels: npt.NDArray[np.float32], num_colors: int, step: int) -> None:
    """Put the spectrogram on the canvas with so many colors, each column repeated `step` times."""
    columns = np.repeat(levels[:, ::step], step, axis=1)[:, : levels.shape[1]]
    shades = np.rint(columns * (num_colors - 1)) * ((_NUM_COLORS - 1) / (num_colors - 1))
    canvas[_SPECTRUM_TOP : _SPECTRUM_TOP + _SPECTRUM_HEIGHT, _LEFT:_RIGHT] = np.rint(shades).astype(np.uint8)


def _draw_axes(canvas: Canvas, sound: Sound) -> None:
    """Ticks and labels: seconds under the spectrogram, hertz left of it, channels left of the waveform."""
    tick = _RAMP_START["label"] + _RAMP // 2
    bottom = _SPECTRUM_TOP + _SPECTRUM_HEIGHT
    half = _AXIS_SIZE // 2 + 2
    highest_hz = _highest_hz(sound.sample_rate_hz)
    for frequency_hz, label in _TICKS:
        if frequency_hz <= highest_hz:
            row = bottom - 1 - round(_mel(frequency_hz) / _mel(highest_hz) * (_SPECTRUM_HEIGHT - 1))
            canvas[row, _LEFT - 6 : _LEFT - 1] = tick
            _draw_text(canvas, label, "label", _LEFT - 10, min(row, bottom - half) - half, _AXIS_SIZE, _LEFT, "right")
    strip = _WAVE_HEIGHT // min(sound.num_channels, 2)
    for index, label in enumerate("LR" if sound.num_channels > 1 else ""):
        middle = _WAVE_TOP + index * strip + strip // 2
        _draw_text(canvas, label, "label", _LEFT - 10, middle - half, _AXIS_SIZE, _LEFT, "right")
    step_s = _time_step_s(sound.duration_s)
    for number in range(int(sound.duration_s / step_s + 1e-6) + 1):
        share = number * step_s / sound.duration_s
        column = min(_LEFT + round(share * (_RIGHT - _LEFT)), _RIGHT - 1)
        canvas[bottom + 1 : bottom + 6, column] = tick
        label = _time_label(number * step_s, step_s)
        _draw_text(canvas, label, "label", column, _AXIS_TOP, _AXIS_SIZE, 90, "center")


def _time_step_s(duration_s: float) -> float:
    """A round step that gives at most ten labels."""
    for step_s in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0):
        if duration_s / step_s <= 10.0:
            return step_s
    return 600.0 * math.ceil(duration_s / 6000.0)


def _time_label(seconds: float, step_s: float) -> str:
    if step_s >= 15.0:
        return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
    return f"{seconds:.{0 if step_s >= 1.0 else 1 if step_s >= 0.1 else 2}f} s"


def _draw_text(
    canvas: Canvas,
    text: str,
    ink: str,
    x: int,
    y: int,
    size: int,
    max_width: int,
    align: Literal["left", "center", "right"] = "left",
) -> None:
    """Draw one line at, around or up to `x`, cut with an ellipsis if it is wider than `max_width`."""
    from PIL import Image, ImageDraw

    number = _best_font(text)
    font = _fonts(size)[number]
    text = _cut(_drawable(text, number), font, max_width)
    if not text:
        return
    width, height = math.ceil(font.getlength(text)) + 4, size + 10
    image = Image.new("L", (width, height))
    ImageDraw.Draw(image).text((2, 0), text, fill=255, font=font)
    if align == "right":
        x -= width - 2
    elif align == "center":
        x = min(max(x - width // 2, 0), _WIDTH - 4 - width)
    shade = np.rint(np.asarray(image, np.float32) * ((_RAMP - 1) / 255.0)).astype(np.uint8)
    area = canvas[y : y + height, x : x + width]
    shade = shade[: area.shape[0], : area.shape[1]]
    area[shade > 0] = (_RAMP_START[ink] + shade)[shade > 0]


@functools.lru_cache(maxsize=8)
def _fonts(size: int) -> tuple[ImageFont.FreeTypeFont, ...]:
    """Pillow's own font (little more than ASCII), then those of this machine that know more scripts, if any."""
    from PIL import ImageFont

    fonts: list[Any] = [ImageFont.load_default(size)]
    for name in _SYSTEM_FONTS:
        with contextlib.suppress(OSError):
            fonts.append(ImageFont.truetype(name, size))
    return tuple(fonts)


@functools.lru_cache(maxsize=256)
def _best_font(text: str) -> int:
    """The number of the font that can draw most of the text; the first one of equals."""
    signs = set(unicodedata.normalize("NFC", text[: 4 * _MAX_CHARS]))
    known = [sum(_has_glyph(char, number) for char in signs) for number in range(len(_fonts(_PROBE_SIZE)))]
    return known.index(max(known))


def _drawable(text: str, number: int) -> str:
    """The text with what the font lacks taken apart (accents), or each run of it replaced by an ellipsis."""
    pieces: list[str] = []
    for char in unicodedata.normalize("NFC", text[: 4 * _MAX_CHARS]):
        if char.isspace():
            pieces.append(" ")
        elif unicodedata.category(char)[0] == "C" or unicodedata.category(char) == "Mn":
            continue
        elif _has_glyph(char, number):
            pieces.append(char)
        else:
            simple = "".join(part for part in unicodedata.normalize("NFKD", char) if _has_glyph(part, number))
            pieces.append(simple or _REPLACEMENT)
    plain = " ".join("".join(pieces).split())
    for run in (_REPLACEMENT, f"{_REPLACEMENT} "):
        while run + _REPLACEMENT in plain:
            plain = plain.replace(run + _REPLACEMENT, _REPLACEMENT)
    return plain.replace(_REPLACEMENT, "…")


@functools.lru_cache(maxsize=4096)
def _has_glyph(char: str, number: int) -> bool:
    """True if a font can draw a character: it differs from the sign for a missing one."""
    if unicodedata.category(char)[0] in "CZ":
        return False  # controls, surrogates and spaces have no picture, and some of them stop the text layout
    font = _fonts(_PROBE_SIZE)[number]
    missing, drawn = font.getmask("\uffff"), font.getmask(char)
    return bool(drawn.size != missing.size or bytes(drawn) != bytes(missing))


def _cut(text: str, font: ImageFont.FreeTypeFont, max_width: int) -> str:
    """The text, or as much of its beginning as fits together with an ellipsis."""
    if len(text) <= _MAX_CHARS and font.getlength(text) <= max_width:
        return text
    low, high = 0, min(len(text), _MAX_CHARS)
    while low < high:
        middle = (low + high + 1) // 2
        if font.getlength(text[:middle].rstrip() + "…") <= max_width:
            low = middle
        else:
            high = middle - 1
    return text[:low].rstrip() + "…"


def _png(canvas: Canvas) -> bytes:
    from PIL import Image

    image = Image.fromarray(canvas)
    image.putpalette(_palette())
    buffer = io.BytesIO()
    # Runs of one color are all that repeats in such a picture: about as small as by a longer search, in an eighth of
    # the time.
    image.save(buffer, "PNG", compress_type=zlib.Z_RLE)
    return buffer.getvalue()


@functools.lru_cache(maxsize=1)
def _palette() -> bytes:
    """RGB of every index: the spectrogram's colors, then each ink's ramp."""
    places = np.linspace(0, len(_ANCHORS) - 1, _NUM_COLORS)
    anchors = np.array(_ANCHORS, np.float64)
    colors = [np.stack([np.interp(places, np.arange(len(anchors)), anchors[:, i]) for i in range(3)], axis=1)]
    for ink in _INKS.values():
        share = np.linspace(0.0, 1.0, _RAMP)[:, np.newaxis]
        colors.append(np.array(_BACKGROUND) * (1.0 - share) + np.array(ink) * share)
    return np.rint(np.concatenate(colors)).astype(np.uint8).tobytes()
