"""Where a texture is: its place, distance, brightness and width, by measures of the sound or of an impulse in it."""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt
import pytest
from scipy import signal

from ambientgen.audio.clip import Clip, Samples
from ambientgen.audio.loudness import integrated_lufs
from ambientgen.engines.base import Progress
from ambientgen.synth import FAMILIES, TextureParams, render_texture
from ambientgen.synth.params import PLACES
from ambientgen.synth.shaping import Canvas
from ambientgen.synth.space import air_db_per_m, place

RATE_HZ = 48_000
#: A steady one, a spiky one, one of pitches, one of low lines.
FEW = [("noise", "pink"), ("fire", "hearth"), ("insects", "crickets"), ("machine", "hum")]


def go_on(_: Progress) -> bool:
    """Never cancel."""
    return True


@functools.lru_cache(maxsize=64)
def texture(
    family: str, variant: str, where: str = "", distance: float = 0.0, brightness: float = 0.5, seed: int = 7
) -> Samples:
    """A second of a texture, made once per test run."""
    params = TextureParams(family=family, variant=variant, place=where, distance=distance, brightness=brightness)
    samples = render_texture(params, RATE_HZ, RATE_HZ, seed, go_on)
    samples.setflags(write=False)
    return samples


@functools.lru_cache(maxsize=16)
def impulse_in(where: str, distance: float = 0.0, seed: int = 7, rate_hz: int = RATE_HZ) -> Samples:
    """What a place makes of one sample on each side, around a circle of four seconds."""
    params = TextureParams(family="noise", place=where, distance=distance)
    impulse = np.zeros((2, 4 * rate_hz), np.float32)
    impulse[:, 0] = 1.0
    return place(Canvas(params, impulse.shape[1], rate_hz, seed, go_on), impulse, 0.0)


def decay_s(answer: Samples, low_hz: float, high_hz: float, rate_hz: int = RATE_HZ) -> float:
    """Reverberation time in a band, from the fall between -5 and -25 dB (Schroeder 1965: backward integration)."""
    band = signal.butter(3, (low_hz, high_hz), "band", fs=rate_hz, output="sos")
    left = np.cumsum(signal.sosfilt(band, answer).sum(axis=0)[::-1] ** 2)[::-1]
    level_db = 10.0 * np.log10(left / left[0] + 1e-12)
    return float(3.0 * (np.argmax(level_db < -25.0) - np.argmax(level_db < -5.0)) / rate_hz)


def balance_db(samples: Samples, edge_hz: float) -> float:
    """Level above an edge against the whole."""
    hz, power = signal.welch(samples, RATE_HZ, nperseg=4096)
    power = power.sum(axis=0)
    return float(10.0 * np.log10(power[hz >= edge_hz].sum() / power[hz > 20.0].sum()))


def correlation(samples: Samples) -> float:
    """Of left and right."""
    return float(np.corrcoef(samples)[0, 1])


# Places ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "low_s", "high_s"), [("room", 0.33, 0.52), ("outside", 0.3, 0.52), ("hall", 1.6, 2.1), ("cave", 2.4, 3.1)]
)
@pytest.mark.parametrize("seed", [7, 8])
def test_each_place_has_its_own_decay(where: str, low_s: float, high_s: float, seed: int) -> None:
    """In the octave above 500 Hz a room dies away in about 0.4 s, a hall in 1.8 s, a cave in 2.8 s."""
    assert low_s < decay_s(impulse_in(where, seed=seed), 500.0, 1000.0) < high_s


@pytest.mark.parametrize("where", ["hall", "cave"])
def test_a_tail_grows_darker_as_it_dies_away(where: str) -> None:
    """High frequencies decay at least a third faster than low ones."""
    answer = impulse_in(where)
    assert decay_s(answer, 4000.0, 8000.0) < 0.66 * decay_s(answer, 125.0, 250.0)


def test_the_decay_does_not_depend_on_the_sample_rate() -> None:
    """A hall is a hall at 24 kHz too."""
    assert decay_s(impulse_in("hall", rate_hz=24_000), 500.0, 1000.0, 24_000) == pytest.approx(1.85, rel=0.15)


def test_the_same_character_meets_the_same_room() -> None:
    """Pieces of one long take share the low 32 bits of their seed, and so their room; another seed has another one."""
    assert np.array_equal(impulse_in("cave", seed=7), impulse_in("cave", seed=7 + (1 << 32)))
    assert not np.array_equal(impulse_in("cave", seed=7), impulse_in("cave", seed=8))


@pytest.mark.parametrize(("family", "variant"), FEW)
def test_walls_take_the_highs_and_water_takes_more(family: str, variant: str) -> None:
    """From a room one hears what is outside muffled; under water it is darker still."""
    plain, outside, underwater = (
        balance_db(texture(family, variant, where), 2000.0) for where in ("", "outside", "underwater")
    )
    assert outside < plain - 10.0
    assert underwater < outside - 5.0


def test_water_moves() -> None:
    """A steady tone swells and fades under water, within seconds, and stays steady everywhere else."""
    tone = np.tile(np.sin(2.0 * np.pi * 300.0 * np.arange(2 * RATE_HZ) / RATE_HZ).astype(np.float32), (2, 1))

    def unrest(where: str) -> float:
        canvas = Canvas(TextureParams(family="noise", place=where), tone.shape[1], RATE_HZ, 5, go_on)
        levels = np.sqrt(np.mean(place(canvas, tone.copy(), 0.0)[0].reshape(20, -1) ** 2, axis=1))
        return float(np.std(levels) / np.mean(levels))

    assert unrest("underwater") > 0.1
    assert max(unrest("room"), unrest("cave"), unrest("outside")) < 0.01


# Distance and brightness -----------------------------------------------------------------------------------------


def test_air_absorbs_as_the_standard_says() -> None:
    """At 10 °C and 70 % humidity, ISO 9613-2, table 2: dB per km at the exact middles of the octave bands."""
    middles_hz = 1000.0 * 10.0 ** (0.3 * np.arange(-4, 4))
    expected = [0.1, 0.4, 1.0, 1.9, 3.7, 9.7, 32.8, 117.0]
    assert 1000.0 * air_db_per_m(middles_hz) == pytest.approx(expected, rel=0.02, abs=0.06)


@pytest.mark.parametrize(("family", "variant"), FEW)
def test_the_farther_the_darker(family: str, variant: str) -> None:
    """Each step away takes highs."""
    balances = [balance_db(texture(family, variant, distance=distance), 4000.0) for distance in (0.0, 0.35, 0.7, 1.0)]
    # Against what lies below: crickets hold hardly anything but highs while they are near.
    shares = 10.0 ** (np.array(balances) / 10.0)
    levels = 10.0 * np.log10(shares / (1.0 - shares))
    assert np.all(np.diff(levels) < -2.0)


@pytest.mark.parametrize("where", ["", "hall"])
def test_the_farther_the_more_reverberant(where: str) -> None:
    """Less and less of an impulse arrives at once."""

    def early_share(distance: float) -> float:
        power = np.sum(impulse_in(where, distance) ** 2, axis=0)
        return float(power[: RATE_HZ // 50].sum() / power.sum())

    shares = [early_share(distance) for distance in (0.0, 0.3, 0.6, 0.9)]
    assert np.all(np.diff(shares) < -0.05)


@pytest.mark.parametrize("family", FAMILIES)
def test_brightness_tilts_every_texture(family: str) -> None:
    """From dull to bright the balance around 1 kHz rises by more than 5 dB, in order."""

    def balance(brightness: float) -> float:
        canvas = Canvas(TextureParams(family=family, brightness=brightness), RATE_HZ, RATE_HZ, 7, go_on)
        share = 10.0 ** (balance_db(place(canvas, texture(family, ""), 0.0), 1000.0) / 10.0)
        return float(10.0 * np.log10(share / (1.0 - share)))

    dull, plain, bright = (balance(brightness) for brightness in (0.0, 0.5, 1.0))
    assert dull + 2.0 < plain < bright - 2.0
    assert bright - dull > 5.0


@pytest.mark.parametrize(("family", "variant"), FEW)
def test_brightness_changes_the_balance_and_not_the_level(family: str, variant: str) -> None:
    """A texture asked for dull or bright is so, and as loud as a plain one."""
    dull, bright = (texture(family, variant, brightness=brightness) for brightness in (0.0, 1.0))
    assert balance_db(dull, 1000.0) < balance_db(bright, 1000.0)
    for samples in (dull, bright):
        assert integrated_lufs(Clip(samples, RATE_HZ)) == pytest.approx(-23.0, abs=0.5)


# What every place keeps ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize(("family", "variant"), FEW)
def test_every_place_keeps_level_and_width(family: str, variant: str, where: str) -> None:
    """About -23 LUFS, no clipping, and left and right neither the same nor against each other: mono loses < 3.1 dB."""
    samples = texture(family, variant, where)
    assert integrated_lufs(Clip(samples, RATE_HZ)) == pytest.approx(-23.0, abs=0.5)
    assert np.abs(samples).max() < 1.0
    assert -0.02 < correlation(samples) < 0.99
    both_db = 10.0 * np.log10(np.mean(samples.mean(axis=0) ** 2) / np.mean(samples**2))
    assert -3.1 < both_db <= 0.0


@pytest.mark.parametrize(("family", "variant"), FEW)
def test_far_sounds_are_narrow(family: str, variant: str) -> None:
    """They subtend a small angle, so left and right agree more."""
    assert correlation(texture(family, variant, distance=1.0)) > 0.69
    assert correlation(texture(family, variant, distance=0.5)) > 0.34


def test_sides_against_each_other_are_brought_together() -> None:
    """Even a source out of phase comes out of a place without canceling in mono."""
    noise = np.random.default_rng(1).standard_normal(RATE_HZ).astype(np.float32)
    canvas = Canvas(TextureParams(family="noise", place="room"), RATE_HZ, RATE_HZ, 1, go_on)
    assert correlation(place(canvas, np.stack([noise, -0.9 * noise]), 0.0)) > -0.01


@pytest.mark.parametrize("where", PLACES[1:])
def test_a_place_is_as_circular_as_the_sound_in_it(where: str) -> None:
    """A turned circle gives the turned result: there is no seam that could be heard, longer tail than circle or not."""
    sound = np.random.default_rng(2).standard_normal((2, RATE_HZ)).astype(np.float32)

    def answer(turned: int) -> npt.NDArray[np.float32]:
        params = TextureParams(family="noise", place=where, distance=0.3, brightness=0.8)
        canvas = Canvas(params, RATE_HZ, RATE_HZ, 3, go_on)
        return np.roll(place(canvas, np.roll(sound, turned, axis=1), 0.2), -turned, axis=1)

    if where == "underwater":  # its movement belongs to the circle, not to the sound: only the wrap can be compared
        jumps = np.abs(np.diff(answer(0), axis=1, append=answer(0)[:, :1]))
        assert jumps[:, -1].max() < np.percentile(jumps, 99.9)
    else:
        assert np.allclose(answer(0), answer(12_345), atol=1e-4 * np.abs(answer(0)).max())


def test_a_plain_near_sound_in_the_open_is_free() -> None:
    """It is the very same array, and no chance is spent."""
    canvas = Canvas(TextureParams(family="noise"), 100, RATE_HZ, 1, go_on)
    sound = np.ones((2, 100), np.float32)
    assert place(canvas, sound, 0.0) is sound
    assert canvas.rng.random() == np.random.default_rng(1).random()
