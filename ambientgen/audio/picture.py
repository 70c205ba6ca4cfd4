"""A picture of a clip: waveform over spectrogram, for a card in Discord.

Everything is drawn as indices into one small palette (a PNG of a byte a pixel), which keeps files small and quick.
"""

from __future__ import annotations

import contextlib
import functools
import io
import math
import unicodedata
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ambientgen.audio.clip import Clip, Samples

if TYPE_CHECKING:
    from PIL import ImageFont

Canvas = npt.NDArray[np.uint8]

MAX_BYTES = 120_000

_WIDTH, _HEIGHT = 960, 480
_LEFT, _RIGHT = 64, 940
_TITLE_TOP, _WAVE_TOP, _WAVE_HEIGHT = 16, 62, 84
_SPECTRUM_TOP, _SPECTRUM_HEIGHT = 158, 248
_AXIS_TOP, _CAPTION_TOP = 410, 444

_LOWEST_HZ, _HIGHEST_HZ = 40.0, 20_000.0
_FFT_SIZE = 4096
_RANGE_DB = 70.0
_FRAMES_PER_COLUMN = 2

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


def draw(clip: Clip, title: str, caption: str) -> bytes:
    """Draw a clip's card.

    Args:
        clip: one or two channels, any length above 0.
        title: any text; what the font cannot draw is left out or replaced, what does not fit is cut.
        caption: a second, smaller line, treated likewise.

    Returns:
        A PNG of 960 x 480 pixels and at most `MAX_BYTES`, on its own dark background.

    Raises:
        ValueError: if the clip is empty.
    """
    if clip.num_samples == 0:
        raise ValueError("an empty clip cannot be drawn")
    samples = np.nan_to_num(clip.samples, nan=0.0, posinf=1.0, neginf=-1.0)
    canvas = np.full((_HEIGHT, _WIDTH), _RAMP_START["label"], np.uint8)
    _draw_waveform(canvas, samples)
    levels = _spectrogram(samples, clip.sample_rate_hz)
    _draw_axes(canvas, clip)
    _draw_text(canvas, title, "title", _LEFT, _TITLE_TOP, 24, _RIGHT - _LEFT)
    _draw_text(canvas, caption, "label", _LEFT, _CAPTION_TOP, 16, _RIGHT - _LEFT)
    # Noise is what PNG packs worst: fewer colors, then fewer columns, until it fits.
    png = b""
    for num_colors, step in ((40, 1), (20, 1), (20, 2), (10, 4)):
        _place_spectrogram(canvas, levels, num_colors, step)
        png = _png(canvas)
        if len(png) <= MAX_BYTES:
            break
    return png


def _draw_waveform(canvas: Canvas, samples: Samples) -> None:
    """Both channels' envelopes, one over the other, each around its own line."""
    width = _RIGHT - _LEFT
    num_samples = samples.shape[1]
    edges = np.minimum(np.arange(width) * num_samples // width, num_samples - 1)
    peak = max(float(np.abs(samples).max()), 1e-4)
    channels = samples[:2]
    strip = _WAVE_HEIGHT // len(channels)
    rows = np.arange(strip)[:, np.newaxis]
    for index, (channel, ink) in enumerate(zip(channels, ("left", "right"), strict=False)):
        middle, half = (strip - 1) / 2.0, strip / 2.0 - 1.0
        highest = middle - np.maximum.reduceat(channel, edges) / peak * half
        lowest = middle - np.minimum.reduceat(channel, edges) / peak * half
        # How much of each pixel lies within the envelope, at least a line of one pixel: soft edges for free.
        inside = np.minimum(rows + 0.5, lowest + 0.5) - np.maximum(rows - 0.5, highest - 0.5)
        shade = np.rint(np.clip(inside, 0.0, 1.0) * (_RAMP - 1)).astype(np.uint8)
        top = _WAVE_TOP + index * strip
        canvas[top : top + strip, _LEFT:_RIGHT] = _RAMP_START[ink] + shade


def _spectrogram(samples: Samples, sample_rate_hz: int) -> npt.NDArray[np.float32]:
    """Levels 0 to 1 over log frequency, shape (_SPECTRUM_HEIGHT, columns), highest frequency first."""
    width = _RIGHT - _LEFT
    mono = samples.mean(axis=0)
    size = _FFT_SIZE
    padded = np.pad(mono, (size // 2, size // 2))
    num_frames = width * _FRAMES_PER_COLUMN
    starts = np.linspace(0, len(padded) - size, num_frames).astype(np.int64)
    window = np.hanning(size).astype(np.float32)
    lower, upper = _band_edges(sample_rate_hz)
    power = np.empty((width, _SPECTRUM_HEIGHT))
    step = 64
    for begin in range(0, width, step):
        chosen = starts[begin * _FRAMES_PER_COLUMN : (begin + step) * _FRAMES_PER_COLUMN]
        frames = np.lib.stride_tricks.sliding_window_view(padded, size)[chosen] * window
        spectra = np.fft.rfft(frames, axis=1)
        bins = np.square(spectra.real) + np.square(spectra.imag)
        columns = bins.reshape(-1, _FRAMES_PER_COLUMN, bins.shape[1]).mean(axis=1)
        power[begin : begin + step] = _band_power(columns, lower, upper)
    levels_db = 10.0 * np.log10(power.T + 1e-12)
    # 99.5 %, not the maximum: one crackle must not darken everything else. The median stays well below white.
    usual_db, high_db = np.quantile(levels_db, (0.5, 0.995))
    top_db = max(float(high_db) + 3.0, float(usual_db) + 0.35 * _RANGE_DB, -50.0)
    return np.asarray(np.clip((levels_db - (top_db - _RANGE_DB)) / _RANGE_DB, 0.0, 1.0)[::-1], np.float32)


def _highest_hz(sample_rate_hz: int) -> float:
    return min(_HIGHEST_HZ, sample_rate_hz / 2.0)


@functools.lru_cache(maxsize=4)
def _band_edges(sample_rate_hz: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Each picture row's band, lowest row first, in FFT bins counted from the lower edge of bin 0.

    Rows are constant fractions of an octave, so pink noise looks even; below the FFT's resolution a band is one bin
    wide and lies between two bins.
    """
    bin_hz = sample_rate_hz / _FFT_SIZE
    highest_hz = _highest_hz(sample_rate_hz)
    centers = np.geomspace(min(_LOWEST_HZ, highest_hz / 2.0), highest_hz, _SPECTRUM_HEIGHT) / bin_hz
    widths = np.maximum(centers * (centers[1] / centers[0] - 1.0), 1.0)
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


def _draw_axes(canvas: Canvas, clip: Clip) -> None:
    """Ticks and labels: seconds under the spectrogram, hertz left of it, channels left of the waveform."""
    tick = _RAMP_START["label"] + _RAMP // 2
    bottom = _SPECTRUM_TOP + _SPECTRUM_HEIGHT
    highest_hz = _highest_hz(clip.sample_rate_hz)
    lowest_hz = min(_LOWEST_HZ, highest_hz / 2.0)
    for frequency_hz, label in ((100.0, "100"), (300.0, "300"), (1e3, "1k"), (3e3, "3k"), (1e4, "10k")):
        share = math.log(frequency_hz / lowest_hz) / math.log(highest_hz / lowest_hz)
        if 0.0 <= share <= 1.0:
            row = bottom - 1 - round(share * (_SPECTRUM_HEIGHT - 1))
            canvas[row, _LEFT - 6 : _LEFT - 1] = tick
            _draw_text(canvas, label, "label", _LEFT - 10, row - 9, 14, _LEFT, align_right=True)
    _draw_text(canvas, "Hz", "label", _LEFT - 10, _SPECTRUM_TOP - 4, 14, _LEFT, align_right=True)
    strip = _WAVE_HEIGHT // min(clip.num_channels, 2)
    for index, label in enumerate("LR"[: clip.num_channels] if clip.num_channels > 1 else ""):
        _draw_text(
            canvas, label, "label", _LEFT - 10, _WAVE_TOP + index * strip + strip // 2 - 9, 14, _LEFT, align_right=True
        )
    step_s = _time_step_s(clip.duration_s)
    for number in range(int(clip.duration_s / step_s + 1e-6) + 1):
        share = number * step_s / clip.duration_s
        column = min(_LEFT + round(share * (_RIGHT - _LEFT)), _RIGHT - 1)
        canvas[bottom + 1 : bottom + 6, column] = tick
        _draw_text(canvas, _time_label(number * step_s, step_s), "label", column, _AXIS_TOP, 14, 80, center=True)


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
    *,
    align_right: bool = False,
    center: bool = False,
) -> None:
    """Draw one line, cut with an ellipsis if it is wider than `max_width`."""
    from PIL import Image, ImageDraw

    number = _best_font(text)
    font = _fonts(size)[number]
    text = _cut(_drawable(text, number), font, max_width)
    if not text:
        return
    width, height = math.ceil(font.getlength(text)) + 4, size + 10
    image = Image.new("L", (width, height))
    ImageDraw.Draw(image).text((2, 0), text, fill=255, font=font)
    if align_right:
        x -= width - 2
    elif center:
        x = min(max(x - width // 2, 0), _WIDTH - width)
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
    image.save(buffer, "PNG", compress_level=6)
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
