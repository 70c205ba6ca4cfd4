"""What fires, insects, frogs, birds, rooms full of people, chimes and bells are known by, measured on the sound."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import signal, stats

from ambientgen.audio.clip import Samples
from ambientgen.synth import FAMILIES, TextureParams, render_texture

RATE_HZ = 48_000
SEEDS = range(410, 412)
LIVING = [
    (family, variant)
    for family in ("fire", "insects", "frogs", "birds", "cafe", "chimes")
    for variant in FAMILIES[family].variants
]
#: How far the loudest 100 ms may stand above the median ones. Between the songs of a few birds a wood is quiet: in a
#: recorded one they stand 22 dB above it.
STARTLES_DB = 16.0
SONG_STARTLES_DB = 20.0
Floats = npt.NDArray[np.float64]


@functools.lru_cache(maxsize=80)
def render(
    family: str, variant: str, *, density: float = 0.5, intensity: float = 0.5, seed: int = 0, seconds: int = 5
) -> Samples:
    """A texture in mono, made once per test run."""
    params = TextureParams(family=family, variant=variant, intensity=intensity, density=density)
    samples = render_texture(params, seconds * RATE_HZ, RATE_HZ, seed, lambda _: True).mean(axis=0)
    samples.setflags(write=False)
    return samples


def band(mono: Samples, low_hz: float, high_hz: float) -> Floats:
    """What lies between two frequencies."""
    return np.asarray(signal.sosfilt(signal.butter(4, (low_hz, high_hz), "band", fs=RATE_HZ, output="sos"), mono))


def levels(samples: npt.NDArray[np.floating], frame_s: float) -> Floats:
    """RMS of frames."""
    frame = round(frame_s * RATE_HZ)
    return np.asarray(np.sqrt(np.mean(samples[: samples.size // frame * frame].reshape(-1, frame) ** 2, axis=1)))


def mean(measure: Callable[[Samples], float], family: str, variant: str, **settings: Any) -> float:
    """A measure's mean over the seeds."""
    return float(np.mean([measure(render(family, variant, seed=seed, **settings)) for seed in SEEDS]))


def pitch_hz(mono: Samples, low_hz: float, high_hz: float) -> float:
    """The strongest frequency in a band."""
    hz, power = signal.welch(mono, RATE_HZ, nperseg=1 << 15)
    inside = (hz > low_hz) & (hz < high_hz)
    return float(hz[inside][np.argmax(power[inside])])


def crackle_rate_hz(mono: Samples) -> float:
    """How often a second the level above 3 kHz rises through three times its median, in frames of 2 ms."""
    frames = levels(band(mono, 3000.0, 20_000.0), 0.002)
    above = frames > 3.0 * np.median(frames)
    return float(np.sum(above[1:] & ~above[:-1]) / (mono.size / RATE_HZ))


def voices_db(mono: Samples) -> float:
    """Level between 1 and 8 kHz, where animals sing, against the level below 300 Hz, where the place hums."""
    return float(20.0 * np.log10(np.std(band(mono, 1000.0, 8000.0)) / np.std(band(mono, 30.0, 300.0))))


def pulse_share(mono: Samples, low_hz: float, high_hz: float, slow_hz: float, fast_hz: float) -> float:
    """Share of a band's envelope between 2 and 100 Hz that beats between two rates."""
    envelope = levels(band(mono, low_hz, high_hz), 0.004)
    hz, power = signal.welch(envelope / envelope.mean(), 250.0, nperseg=500)
    return float(power[(hz >= slow_hz) & (hz <= fast_hz)].sum() / power[(hz >= 2.0) & (hz <= 100.0)].sum())


# Every one of them -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("family", "variant"), LIVING)
def test_nothing_startles(family: str, variant: str) -> None:
    """No tenth of a second stands far above the median one, over the seeds."""
    for seed in SEEDS:
        frames = levels(render(family, variant, seed=seed), 0.1)
        allowed = SONG_STARTLES_DB if variant == "songbirds" else STARTLES_DB
        assert 20.0 * np.log10(frames.max() / np.median(frames)) < allowed


@pytest.mark.parametrize(("family", "variant"), LIVING)
def test_it_is_never_static(family: str, variant: str) -> None:
    """Half seconds differ in level as no steady noise does: that stays within 0.2 dB."""
    frames = levels(render(family, variant, seed=SEEDS[0]), 0.5)
    assert np.std(20.0 * np.log10(frames)) > 0.4


# Fire ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", FAMILIES["fire"].variants)
def test_a_denser_fire_crackles_more_often(variant: str) -> None:
    """The rate of single crackles rises all the way from density 0 to 1, and plain fires have several a second."""
    sparse, plain, dense = (mean(crackle_rate_hz, "fire", variant, density=density) for density in (0.0, 0.5, 1.0))
    assert sparse < 0.7 * plain < 0.7 * dense
    assert 2.0 < plain < 40.0


def test_a_bigger_fire_roars_and_embers_hardly_do() -> None:
    """The lows gain with intensity; those of embers stay below those of a hearth."""
    faint, big = (mean(voices_db, "fire", "hearth", intensity=intensity) for intensity in (0.1, 0.9))
    assert big < faint - 4.0
    assert mean(voices_db, "fire", "embers") > mean(voices_db, "fire", "hearth") + 3.0


# Insects and frogs -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "variant"),
    [("insects", "crickets"), ("insects", "cicadas"), ("insects", "katydids"), ("frogs", "frogs")],
)
def test_denser_means_more_singers(family: str, variant: str) -> None:
    """The songs gain on the hum of the place, from density 0 over plain to 1, and from intensity 0 to 1."""
    sparse, plain, dense = (mean(voices_db, family, variant, density=density) for density in (0.0, 0.5, 1.0))
    assert sparse < plain < dense
    assert mean(voices_db, family, variant, intensity=0.0) < mean(voices_db, family, variant, intensity=1.0) - 1.0


def test_katydids_rasp_and_crickets_are_pure() -> None:
    """A rasp fills its band; a chirp is nearly one tone."""

    def width(mono: Samples) -> float:
        _, power = signal.welch(band(mono, 2500.0, 9000.0), RATE_HZ, nperseg=4096)
        return float(np.exp(stats.entropy(power / power.sum())))

    assert mean(width, "insects", "katydids") > 2.0 * mean(width, "insects", "crickets")


def test_frogs_call_in_pulses() -> None:
    """The envelope between 1 and 3 kHz beats at 12 to 50 pulses a second, far more than that of plain noise."""

    def pulsed(mono: Samples) -> float:
        return pulse_share(mono, 1000.0, 3000.0, 12.0, 50.0)

    assert mean(pulsed, "frogs", "frogs") > 0.45
    frames = levels(band(render("frogs", "frogs", seed=SEEDS[0]), 1000.0, 3000.0), 0.01)
    assert np.std(frames) / np.mean(frames) > 0.7


# Birds -----------------------------------------------------------------------------------------------------------


def song_share(mono: Samples) -> float:
    """Share of 20 ms frames in which the 1.5 to 8 kHz band is louder than the wood's hum."""
    return float(
        np.mean(levels(band(mono, 1500.0, 8000.0), 0.02) > 2.5 * np.median(levels(band(mono, 60.0, 250.0), 0.02)))
    )


def test_a_dense_wood_is_a_dawn_chorus() -> None:
    """Song fills most of the time at density 1, little of it at density 0."""
    sparse, plain, dense = (mean(song_share, "birds", "songbirds", density=density) for density in (0.0, 0.5, 1.0))
    assert sparse < plain < dense
    assert dense > 0.7
    assert sparse < 0.4


def test_an_owl_is_low_and_seldom() -> None:
    """Its hoots lie at 550 to 950 Hz, stand out there, and fill less than a third of the time."""
    for seed in SEEDS:
        mono = render("birds", "owl", seed=seed, seconds=24)
        hoots = levels(band(mono, 550.0, 950.0), 0.1)
        loud = hoots > 4.0 * np.median(hoots)
        assert 0.02 < np.mean(loud) < 0.33
        frames = mono[: hoots.size * 4800].reshape(-1, 4800)[loud]
        assert 550.0 < pitch_hz(frames.reshape(-1), 300.0, 4000.0) < 950.0


def test_crows_are_hoarse_and_lower_than_gulls() -> None:
    """A gull's harmonics stand clear of each other and higher; a caw is rough and low."""

    def middle_hz(mono: Samples) -> float:
        frames = levels(band(mono, 600.0, 6000.0), 0.05)
        loud = mono[: frames.size * 2400].reshape(-1, 2400)[frames > np.percentile(frames, 95)]
        spectrum = np.mean(np.abs(np.fft.rfft(loud * np.hanning(2400))) ** 2, axis=0)[30:300]
        return float(20.0 * np.sum(np.arange(30, 300) * spectrum) / spectrum.sum())

    assert mean(middle_hz, "birds", "crows") < mean(middle_hz, "birds", "gulls") - 300.0


# People ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", FAMILIES["cafe"].variants)
def test_more_talkers_even_each_other_out(variant: str) -> None:
    """The voices' level varies less from fifth to fifth of a second, the denser the house is."""

    def unevenness(mono: Samples) -> float:
        frames = levels(band(mono, 250.0, 3000.0), 0.2)
        return float(np.std(frames) / np.mean(frames))

    sparse, dense = (mean(unevenness, "cafe", variant, density=density) for density in (0.0, 1.0))
    assert sparse > 1.15 * dense


def test_a_tavern_is_lower_than_a_cafe() -> None:
    """Lower voices and mugs instead of cups: less above 2 kHz for what there is below 1 kHz."""

    def hiss_db(mono: Samples) -> float:
        return float(20.0 * np.log10(np.std(band(mono, 2000.0, 8000.0)) / np.std(band(mono, 200.0, 1000.0))))

    assert mean(hiss_db, "cafe", "tavern") < mean(hiss_db, "cafe", "murmur") - 1.5


def test_talk_has_the_rhythm_of_syllables() -> None:
    """Its envelope moves slowly, as speech does: most of it below 10 Hz, which is not so with noise."""
    for variant in FAMILIES["cafe"].variants:
        share = mean(lambda mono: pulse_share(mono, 400.0, 3000.0, 2.0, 10.0), "cafe", variant)
        assert share > 1.8 * pulse_share(render("noise", "pink"), 400.0, 3000.0, 2.0, 10.0)


# Chimes, bells, bowls --------------------------------------------------------------------------------------------


def peaks_hz(mono: Samples) -> Floats:
    """The frequencies of clear tones between 100 Hz and 9 kHz: 10 dB above the middle of what lies around them."""
    hz, power = signal.welch(mono, RATE_HZ, nperseg=1 << 16)
    level = 10.0 * np.log10(power + 1e-18)
    found, _ = signal.find_peaks(level - signal.medfilt(level, 151), height=10.0, distance=8)
    inside = (hz[found] > 100.0) & (hz[found] < 9000.0)
    return np.asarray(hz[found][inside])


def share_with_partner(found: Floats, ratio: float) -> float:
    """Share of the tones below 1.1 kHz that have another one at that ratio, within half a percent."""
    lows = found[(found > 380.0) & (found < 1100.0)]
    return float(np.mean([np.min(np.abs(found / low / ratio - 1.0)) < 0.005 for low in lows]))


def test_chimes_have_the_partials_of_a_free_bar() -> None:
    """Tones come with one 2.756 times as high (Fletcher and Rossing), not with one twice or three times as high."""
    found = [peaks_hz(render("chimes", "chimes", seed=seed, density=1.0, intensity=0.8, seconds=12)) for seed in SEEDS]
    bar = np.mean([share_with_partner(one, (5.0 / 3.0112) ** 2) for one in found])
    strangers = np.mean([share_with_partner(one, ratio) for one in found for ratio in (2.9, 3.07, 2.62)])
    assert bar > 0.6
    assert bar > 2.0 * strangers


@pytest.mark.parametrize("variant", FAMILIES["chimes"].variants)
def test_more_strikes_ring_clearer(variant: str) -> None:
    """Tones stand clear of the air around them, the more the denser: by the flatness of the spectrum in dB."""

    def clearness_db(mono: Samples) -> float:
        _, power = signal.welch(mono, RATE_HZ, nperseg=1 << 15)
        middle = power[270:2050]  # 400 Hz to 3 kHz
        return float(10.0 * np.log10(middle.mean() / np.exp(np.mean(np.log(middle)))))

    sparse, dense = (mean(clearness_db, "chimes", variant, density=density, seconds=12) for density in (0.0, 1.0))
    assert 3.0 < sparse < dense


def test_a_bell_is_tuned_in_octaves_and_a_minor_third() -> None:
    """Hum, prime, tierce and nominal stand at 0.5, 1, 1.2 and 2."""
    for seed in SEEDS:
        found = peaks_hz(render("chimes", "bells", seed=seed, density=0.0, seconds=12))
        fits = [
            np.mean([np.min(np.abs(found / prime / ratio - 1.0)) < 0.008 for ratio in (0.5, 1.2, 2.0)])
            for prime in found
        ]
        assert max(fits) == 1.0
