from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ambientgen.audio.clip import Clip
from ambientgen.audio.picture import MAX_BYTES, draw

RATE_HZ = 48_000


def pixels(png: bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """The picture as RGB."""
    with Image.open(io.BytesIO(png)) as image:
        assert image.format == "PNG"
        assert image.size == (960, 480)
        return np.asarray(image.convert("RGB"))


def noise(duration_s: float, rate_hz: int = RATE_HZ) -> Clip:
    """Random noise of a color."""
    samples = np.random.default_rng(0).standard_normal((2, round(duration_s * rate_hz))) * 0.1
    return Clip(samples.astype(np.float32), rate_hz)


@pytest.mark.parametrize("duration_s", [0.05, 3.0, 20.0])
def test_pictures_fit_the_limit(duration_s: float) -> None:
    """White noise, which packs worst, stays under the limit at every length."""
    png = draw(noise(duration_s), "Rain", "20 s")
    assert len(png) <= MAX_BYTES
    assert pixels(png).std() > 10


def test_a_tone_stands_at_its_frequency() -> None:
    """A 1 kHz tone is one bright line, lower in the picture than a 4 kHz one, and time runs to the right."""
    rows = []
    for frequency_hz in (1000, 4000):
        tone = np.sin(2 * np.pi * frequency_hz * np.arange(RATE_HZ * 2) / RATE_HZ) * (np.arange(RATE_HZ * 2) < RATE_HZ)
        light = pixels(draw(Clip(tone.astype(np.float32)[np.newaxis], RATE_HZ), "", "")).sum(axis=2)[160:400]
        rows.append(int(light[:, 100:450].mean(axis=1).argmax()))
        assert light[rows[-1], 100:480].mean() > 2 * light[rows[-1], 560:900].mean()
    assert rows[1] < rows[0] - 30


def test_silence_has_a_picture() -> None:
    """Silence is dark but has its axes; one sample at a low rate works as well."""
    assert pixels(draw(Clip(np.zeros((2, RATE_HZ), np.float32), RATE_HZ), "Silence", "1 s")).max() > 200
    assert pixels(draw(Clip(np.ones((1, 1), np.float32), 100), "", "")).shape == (480, 960, 3)


def test_broken_numbers_have_a_picture() -> None:
    """NaN and infinity are drawn around, not warned about."""
    samples = noise(1).samples.copy()
    samples[:, ::100] = np.nan
    samples[:, 1::100] = np.inf
    pixels(draw(Clip(samples, RATE_HZ), "broken", ""))


def test_the_background_is_its_own() -> None:
    """All corners are the same solid dark color, for light and dark themes alike."""
    image = pixels(draw(noise(1), "Rain", "1 s"))
    corners = {tuple(image[y, x]) for y in (0, -1) for x in (0, -1)}
    assert len(corners) == 1
    assert max(corners.pop()) < 60


@settings(deadline=None, max_examples=40)
@given(title=st.text(max_size=600), caption=st.text(max_size=80))
def test_any_title_can_be_drawn(title: str, caption: str) -> None:
    """Any text whatever, in any script and length, gives a picture with free margins."""
    image = pixels(draw(Clip(np.zeros((1, 800), np.float32), 8000), title, caption))
    assert np.ptp(image[:60, 944:].reshape(-1, 3), axis=0).max() == 0


def test_text_is_drawn_and_cut() -> None:
    """A title shows, accents or not, and a long one ends within the picture."""
    clip = Clip(np.zeros((1, 800), np.float32), 8000)
    empty = pixels(draw(clip, "", ""))[:60]
    for title in ("Rain", "señor Ångström", "雨の音", "long " * 300):
        image = pixels(draw(clip, title, ""))[:60]
        assert (image != empty).any()
        assert (image[:, :60] == empty[:, :60]).all()


def test_an_empty_clip_has_no_picture() -> None:
    """No samples, no picture."""
    with pytest.raises(ValueError, match="empty"):
        draw(Clip(np.zeros((2, 0), np.float32), RATE_HZ), "", "")
