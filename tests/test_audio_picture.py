from __future__ import annotations

import io
import tracemalloc
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ambientgen.audio.clip import Clip, Samples
from ambientgen.audio.picture import MAX_BYTES, draw
from ambientgen.audio.sound import Tape, blocks_of

RATE_HZ = 48_000
Pixels = npt.NDArray[np.uint8]
#: Rows and columns of the parts of a picture.
TITLE, WAVE, SPECTRUM = np.s_[12:56, 64:940], np.s_[60:144, 64:940], np.s_[156:396, 64:940]
TIMES, HERTZ, CAPTION = np.s_[402:430], np.s_[150:400, :56], np.s_[436:470, 64:940]


def pixels(png: bytes) -> Pixels:
    """The picture as RGB."""
    with Image.open(io.BytesIO(png)) as image:
        assert image.format == "PNG"
        assert image.size == (960, 480)
        return np.asarray(image.convert("RGB"))


def noise(duration_s: float, rate_hz: int = RATE_HZ) -> Clip:
    """White noise."""
    samples = np.random.default_rng(0).standard_normal((2, round(duration_s * rate_hz))) * 0.1
    return Clip(samples.astype(np.float32), rate_hz)


def tone(frequency_hz: float, num_samples: int, rate_hz: int = RATE_HZ) -> Samples:
    """A sine, shape (num_samples,)."""
    return np.sin(2 * np.pi * frequency_hz * np.arange(num_samples) / rate_hz).astype(np.float32)


def tick_rows(image: Pixels) -> list[int]:
    """The rows of the marks left of the spectrogram, from the top."""
    beside = image[150:400, 60].astype(int)
    return [150 + int(row) for row in np.flatnonzero((beside != image[0, 0]).any(axis=1))]


def luminance(color: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Relative luminance of sRGB values 0 to 255 (WCAG 2.2)."""
    share = np.asarray(color, np.float64) / 255.0
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    return np.asarray(linear @ (0.2126, 0.7152, 0.0722))


def contrast(image: Pixels) -> float:
    """Contrast ratio of the brightest part of an area to its darkest (WCAG 2.2)."""
    light = luminance(image)
    return float((light.max() + 0.05) / (light.min() + 0.05))


@pytest.mark.parametrize("duration_s", [0.05, 3.0, 20.0])
def test_pictures_fit_the_limit(duration_s: float) -> None:
    """White noise, which packs worst, stays under the limit at every length."""
    png = draw(noise(duration_s), "Rain", "20 s")
    assert len(png) <= MAX_BYTES
    assert pixels(png).std() > 10


def test_pictures_of_clicks_fit_the_limit() -> None:
    """Thousands of clicks at random places and levels stay under the limit."""
    rng = np.random.default_rng(1)
    samples = np.zeros((2, 10 * RATE_HZ), np.float32)
    samples[:, rng.integers(0, samples.shape[1], 4000)] = rng.uniform(-1, 1, 4000) ** 3
    assert len(draw(Clip(samples, RATE_HZ), "Clicks", "10 s")) <= MAX_BYTES


def test_a_tone_stands_at_its_tick() -> None:
    """Tones of 1, 5 and 10 kHz are bright lines beside the mark of their frequency, and time runs to the right."""
    heard = np.arange(RATE_HZ * 2) < RATE_HZ
    for frequency_hz, tick in ((10_000, 1), (5_000, 2), (1_000, 4)):
        image = pixels(draw(Clip((tone(frequency_hz, RATE_HZ * 2) * heard)[np.newaxis], RATE_HZ), "", ""))
        ticks = tick_rows(image)
        assert len(ticks) == 7
        light = image[SPECTRUM].sum(axis=2)
        row = int(light[:, 40:390].mean(axis=1).argmax())
        assert abs(156 + row - ticks[tick]) <= 2
        assert light[row, 40:400].mean() > 2 * light[row, 480:800].mean()


def test_the_axis_is_mel() -> None:
    """1 kHz is 1000 mel and 20 kHz is 3817, counted from 0 Hz; a rate of 16 kHz ends the axis at 8 kHz, 2840 mel."""
    twenty, ten, five, two, one, _half, zero = tick_rows(pixels(draw(noise(0.2), "", "")))
    assert (zero - one) / (zero - twenty) == pytest.approx(1000 / 3817, abs=0.01)
    assert (zero - ten) / (zero - twenty) == pytest.approx(3073 / 3817, abs=0.01)
    assert five > ten
    assert two > five
    half_rate = tick_rows(pixels(draw(noise(0.2, 16_000), "", "")))
    assert len(half_rate) == 5
    assert (half_rate[-1] - half_rate[0]) / 239 == pytest.approx(2363 / 2840, abs=0.01)


def test_opposite_channels_do_not_cancel() -> None:
    """A tone that is inverted in one channel is drawn as bright as one that is not."""
    left = tone(1000, RATE_HZ)
    same, opposite = (
        pixels(draw(Clip(np.stack([left, sign * left]).astype(np.float32), RATE_HZ), "", "")) for sign in (1, -1)
    )
    assert (same[SPECTRUM] == opposite[SPECTRUM]).all()
    assert same[SPECTRUM].max() > 200


def test_silence_has_a_picture() -> None:
    """Silence is dark but has its axes; one sample at a low rate works as well."""
    silent = pixels(draw(Clip(np.zeros((2, RATE_HZ), np.float32), RATE_HZ), "Silence", "1 s"))
    assert silent.max() > 200
    assert silent[SPECTRUM].max() < 60
    assert pixels(draw(Clip(np.ones((1, 1), np.float32), 100), "", "")).shape == (480, 960, 3)


def test_broken_numbers_have_a_picture() -> None:
    """NaN, infinity and what is far too large are drawn around, not warned about."""
    samples = noise(1).samples.copy()
    samples[:, ::100] = np.nan
    samples[:, 1::100] = np.inf
    samples[:, 2::100] = 3e38
    pixels(draw(Clip(samples, RATE_HZ), "broken", ""))


def test_a_tape_has_the_picture_of_its_clip(tmp_path: Path) -> None:
    """Read from disk, a sound gives the very same picture."""
    clip = noise(4.0)
    tape = Tape(tmp_path, 2, RATE_HZ)
    for block in blocks_of(clip, 10_000):
        tape.append(block)
    assert draw(tape, "Rain", "4 s") == draw(clip, "Rain", "4 s")


@dataclass
class Hour:
    """An hour of stereo silence with one loud sample, which no memory need hold."""

    loud_sample: int
    sample_rate_hz: int = RATE_HZ
    num_channels: int = 2
    num_samples: int = 3600 * RATE_HZ
    duration_s: float = 3600.0

    def __post_init__(self) -> None:
        self._silence = np.zeros((2, 1 << 20), np.float32)

    def read(self, start: int, stop: int) -> Samples:
        """At most a few megabytes at a time."""
        block = self._silence[:, : stop - start]
        if start <= self.loud_sample < stop:
            block = block.copy()
            block[1, self.loud_sample - start] = 1.0
        assert block.shape == (2, stop - start)
        return block


def test_an_hour_is_drawn_in_bounded_memory() -> None:
    """An hour of stereo takes under 40 MB, and its one loud sample still shows in the waveform, at its time."""
    draw(noise(0.1), "An hour", "60:00")  # fonts and tables, which stay
    sound = Hour(loud_sample=3600 * RATE_HZ * 2 // 3)
    tracemalloc.start()
    try:
        image = pixels(draw(sound, "An hour", "60:00"))
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < 40e6
    right_channel = image[WAVE][42:60].astype(int).sum(axis=(0, 2))
    assert abs(int(right_channel.argmax()) - 876 * 2 // 3) <= 1
    assert np.sum(right_channel > right_channel.min()) <= 2


def test_the_background_is_its_own() -> None:
    """Nothing is see-through, and all corners are the same solid dark color, for light and dark themes alike."""
    png = draw(noise(1), "Rain", "1 s")
    with Image.open(io.BytesIO(png)) as image:
        assert "transparency" not in image.info
        assert "A" not in image.mode
    corners = {tuple(pixels(png)[y, x]) for y in (0, -1) for x in (0, -1)}
    assert len(corners) == 1
    assert max(corners.pop()) < 60


def test_text_stands_out() -> None:
    """Title, caption and both axes have a contrast of 4.5 to their background, and the waveform one of 3 (WCAG 2.2)."""
    image = pixels(draw(noise(2), "Rain on a tin roof", "2.0 s · -20.0 LUFS · -3.1 dBTP"))
    for part in (TITLE, CAPTION, TIMES, HERTZ):
        assert contrast(image[part]) >= 4.5
    for first_row in (60, 102):
        assert contrast(image[first_row : first_row + 42, 64:940]) >= 3.0


@settings(deadline=None, max_examples=40)
@given(title=st.text(max_size=600), caption=st.text(max_size=80))
def test_any_title_can_be_drawn(title: str, caption: str) -> None:
    """Any text whatever, in any script and length, gives a picture with free margins."""
    image = pixels(draw(Clip(np.zeros((1, 800), np.float32), 8000), title, caption))
    assert np.ptp(image[:58, 944:].reshape(-1, 3), axis=0).max() == 0


def test_text_is_drawn_and_cut() -> None:
    """Title and caption show, accents or not, and a long one ends within the picture."""
    clip = Clip(np.zeros((1, 800), np.float32), 8000)
    empty = pixels(draw(clip, "", ""))
    for text in ("Rain", "señor Ångström", "雨の音", "long " * 300):
        image = pixels(draw(clip, text, text))
        assert (image[TITLE] != empty[TITLE]).any()
        assert (image[CAPTION] != empty[CAPTION]).any()
        assert (image[:58, :60] == empty[:58, :60]).all()
        assert (image[:58, 944:] == empty[:58, 944:]).all()


def test_an_empty_clip_has_no_picture() -> None:
    """No samples, no picture."""
    with pytest.raises(ValueError, match="empty"):
        draw(Clip(np.zeros((2, 0), np.float32), RATE_HZ), "", "")
