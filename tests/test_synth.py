"""The procedural textures: every family through `render_texture`, judged by measures of the sound."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pyloudnorm
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import signal, stats

from ambientgen.audio.clip import Samples
from ambientgen.engines.base import Progress
from ambientgen.errors import GenerationCancelled, RequestError
from ambientgen.synth import FAMILIES, TextureParams, render_texture
from ambientgen.synth.params import PLACES

RATE_HZ = 48_000
SEEDS = range(200, 206)
ALL = [(family, variant) for family, entry in FAMILIES.items() for variant in entry.variants]
#: The colors of noise differ in one number only; one of them stands for all where the measure does not look at it.
DISTINCT = [(family, variant) for family, variant in ALL if family != "noise" or variant == "pink"]
Measure = Callable[[Samples], float]


def go_on(_: Progress) -> bool:
    """Never cancel."""
    return True


@functools.lru_cache(maxsize=64)
def render(
    family: str, variant: str = "", intensity: float = 0.5, distance: float = 0.0, seed: int = 0, seconds: float = 3.0
) -> Samples:
    """A texture, made once per test run."""
    params = TextureParams(family=family, variant=variant, intensity=intensity, distance=distance)
    samples = render_texture(params, round(seconds * RATE_HZ), RATE_HZ, seed, go_on)
    samples.setflags(write=False)
    return samples


# Measures: none of them changes with a mere gain -----------------------------------------------------------------


def brightness_db(samples: Samples, edge_hz: float = 1000.0) -> float:
    """Level above an edge against the level below it."""
    hz, power = signal.welch(samples, RATE_HZ, nperseg=4096)
    mean_power = power.mean(axis=0)
    return float(10.0 * np.log10(mean_power[hz >= edge_hz].sum() / mean_power[(hz > 20.0) & (hz < edge_hz)].sum()))


def rest_to_bass_db(samples: Samples) -> float:
    """Brightness with its edge at 250 Hz, for drones."""
    return brightness_db(samples, 250.0)


def body_db(samples: Samples) -> float:
    """Brightness with its edge at 500 Hz, for voices."""
    return brightness_db(samples, 500.0)


def air_db(samples: Samples) -> float:
    """Brightness with its edge at 4 kHz: what air takes first."""
    return brightness_db(samples, 4000.0)


def high_part(samples: Samples) -> npt.NDArray[np.float64]:
    """Mono, above 800 Hz."""
    high = signal.butter(2, 800.0, "high", fs=RATE_HZ, output="sos")
    return np.asarray(signal.sosfilt(high, samples.mean(axis=0)))


def spikiness(samples: Samples) -> float:
    """Kurtosis above 800 Hz: what single drops and crackles add, and what reverberation takes away."""
    return float(stats.kurtosis(high_part(samples)))


def frame_levels(samples: Samples) -> npt.NDArray[np.float64]:
    """RMS of 10 ms frames above 800 Hz."""
    high = high_part(samples)
    return np.asarray(np.sqrt(np.mean(high[: high.size // 480 * 480].reshape(-1, 480) ** 2, axis=1)))


def onset_rate(samples: Samples) -> float:
    """How often a second the envelope rises through twice its median."""
    levels = frame_levels(samples)
    above = levels > 2.0 * np.median(levels)
    return float(np.sum(above[1:] & ~above[:-1]) * 100.0 / levels.size)


def tone_share(samples: Samples) -> float:
    """Share of the 2 to 8 kHz frames (20 ms) in which somebody sings: well above the bed's level."""
    sos = signal.butter(4, (1500.0, 8000.0), "band", fs=RATE_HZ, output="sos")
    band = signal.sosfilt(sos, samples.mean(axis=0))
    levels = np.sqrt(np.mean(band[: band.size // 960 * 960].reshape(-1, 960) ** 2, axis=1))
    return float(np.mean(levels > 3.0 * np.percentile(levels, 5)))


def over_seeds(
    measure: Measure, family: str, variant: str, intensity: float, distance: float, seconds: float = 3.0
) -> list[float]:
    """A measure of each seed's texture."""
    return [measure(render(family, variant, intensity, distance, seed, seconds)) for seed in SEEDS]


def assert_moves(before: list[float], after: list[float], direction: int) -> None:
    """Seed by seed, the measure moves that way on average by more than three standard errors."""
    changes = (np.array(after) - np.array(before)) * direction
    assert np.mean(changes) > 3.0 * np.std(changes, ddof=1) / np.sqrt(len(changes)), (before, after)


# What a person can ask for ---------------------------------------------------------------------------------------


def test_a_mapping_with_only_a_family_is_plain_near_and_the_default_variant() -> None:
    """A recipe may leave out everything but the family."""
    params = TextureParams.from_mapping({"family": "rain"})
    assert (params.intensity, params.distance, params.kind) == (0.5, 0.0, "open")


@pytest.mark.parametrize(
    ("mapping", "words"),
    [
        ({}, "family"),
        ({"family": "lava"}, "no texture 'lava'"),
        ({"family": "rain", "variant": "metal"}, "no variant 'metal'"),
        ({"family": "rain", "wetness": 1}, "'wetness'"),
        ({"family": "rain", "intensity": 1.5}, "from 0 to 1"),
        ({"family": "rain", "distance": float("nan")}, "from 0 to 1"),
        ({"family": "rain", "intensity": True}, "number"),
        ({"family": "rain", "intensity": 10**400}, "number"),
        ({"family": ["rain"]}, "one word"),
        ({"family": "rain", "place": "attic"}, "no place 'attic'"),
        ({"family": "rain", "place": None}, "place is one word"),
        ({"family": "rain", "brightness": -0.1}, "brightness is a number from 0 to 1"),
        ({"family": "rain", "density": "many"}, "density is a number"),
    ],
)
def test_a_bad_mapping_is_refused_with_words_that_name_the_fault(mapping: dict[str, object], words: str) -> None:
    """Whoever wrote the recipe learns what to change."""
    with pytest.raises(RequestError, match=words):
        TextureParams.from_mapping(mapping)


_anything = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.lists(st.integers())
)


@settings(deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["family", "intensity", "distance", "variant", "brightness", "density", "place", "x"]),
        _anything,
    )
)
def test_any_mapping_becomes_params_or_a_request_error(mapping: dict[str, object]) -> None:
    """Nothing a recipe may hold raises anything else."""
    try:
        params = TextureParams.from_mapping({"family": "wind", **mapping})
    except RequestError:
        return
    assert all(0.0 <= getattr(params, name) <= 1.0 for name in ("intensity", "distance", "brightness", "density"))
    assert params.place in PLACES
    assert params.kind in FAMILIES[params.family].variants


# Every texture ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("family", "variant"), ALL)
@pytest.mark.parametrize("intensity", [0.0, 1.0])
def test_every_texture_is_sound_at_a_sane_level(family: str, variant: str, intensity: float) -> None:
    """Finite float32 stereo, neither silent nor clipped nor offset, at about the level the mixer expects."""
    samples = render(family, variant, intensity, seed=1)
    assert samples.shape == (2, 3 * RATE_HZ)
    assert samples.dtype == np.float32
    assert np.isfinite(samples).all()
    assert np.abs(samples).max() < 1.0
    assert np.abs(samples.mean(axis=1)).max() < 1e-4
    loudness = pyloudnorm.Meter(RATE_HZ).integrated_loudness(samples.T)
    assert abs(loudness + 23.0 - 6.0 * (intensity - 0.5)) < 3.0


@pytest.mark.parametrize(("family", "variant"), DISTINCT)
def test_every_texture_is_wide_but_survives_mono(family: str, variant: str) -> None:
    """The sides differ, and their sum loses no more than uncorrelated sides would."""
    samples = render(family, variant, seed=2)
    correlation = np.corrcoef(samples)[0, 1]
    assert -0.1 < correlation < 0.98


@pytest.mark.parametrize(("family", "variant"), ALL)
def test_the_same_seed_gives_the_same_samples_and_another_seed_others(family: str, variant: str) -> None:
    """A recipe is the identity of a sound."""
    params = TextureParams(family=family, variant=variant, distance=0.3)
    first, again, other = (render_texture(params, RATE_HZ, RATE_HZ, seed, go_on) for seed in (5, 5, 6))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(ALL),
    st.integers(1, 60_000),
    st.fixed_dictionaries({name: st.floats(0, 1) for name in ("intensity", "distance", "brightness", "density")}),
    st.sampled_from(PLACES),
    st.sampled_from([24_000, 44_100, 48_000]),
)
def test_any_length_and_any_setting_give_exactly_that_many_finite_samples(
    which: tuple[str, str], num_samples: int, numbers: dict[str, float], where: str, rate_hz: int
) -> None:
    """Odd, prime and absurdly short lengths are no special case."""
    params = TextureParams(family=which[0], variant=which[1], place=where, **numbers)
    samples = render_texture(params, num_samples, rate_hz, 3, go_on)
    assert samples.shape == (2, num_samples)
    assert np.isfinite(samples).all()
    assert np.abs(samples).max() < 1.0


@pytest.mark.parametrize(("num_samples", "rate_hz"), [(0, 48_000), (48_000, 8_000)])
def test_an_impossible_size_is_refused(num_samples: int, rate_hz: int) -> None:
    """There is no texture without samples, or at a rate too low for it."""
    with pytest.raises(ValueError, match="cannot make"):
        render_texture(TextureParams(family="noise"), num_samples, rate_hz, 0, go_on)


# The seam --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("family", "variant"), DISTINCT)
def test_the_last_sample_joins_the_first_without_a_seam(family: str, variant: str) -> None:
    """Jump and spectral flux at the wrap are draws from the clip's own distribution, over many seeds together."""
    jump_ranks, flux_ranks = [], []
    for seed in range(8):
        params = TextureParams(family=family, variant=variant)
        samples = render_texture(params, RATE_HZ + 1, RATE_HZ, seed, go_on)
        jumps = np.abs(np.diff(samples, axis=1, append=samples[:, :1])).max(axis=0)
        jump_ranks.append(np.mean(jumps[:-1] < jumps[-1]))
        # Frames of an odd-length circle, rolled so that the wrap lies in the middle of one pair of frames.
        rolled = np.roll(samples.mean(axis=0), samples.shape[1] // 2)
        middle = samples.shape[1] // 2
        frames = np.stack([rolled[middle + k * 1024 : middle + (k + 1) * 1024] for k in range(-20, 20)])
        spectra = np.log(np.abs(np.fft.rfft(frames * np.hanning(1024))) + 1e-4)
        flux = np.mean(np.abs(np.diff(spectra, axis=0)), axis=1)
        flux_ranks.append(np.mean(flux < flux[19]))
    # The mean of 8 even draws exceeds 0.85 about once in 5,000.
    assert np.mean(jump_ranks) < 0.85, jump_ranks
    assert np.mean(flux_ranks) < 0.85, flux_ranks


def test_the_seam_measures_would_notice_a_cut() -> None:
    """The same figures on a clip that was cut, not closed, stand out, so that the test above can fail."""
    ranks = []
    for seed in range(12):
        samples = render("noise", "brown", seed=seed, seconds=3.0)[:, : 2 * RATE_HZ]
        jumps = np.abs(np.diff(samples, axis=1, append=samples[:, :1])).max(axis=0)
        ranks.append(np.mean(jumps[:-1] < jumps[-1]))
    assert np.mean(ranks) > 0.9


# Intensity and distance ------------------------------------------------------------------------------------------

INTENSITY: list[tuple[str, str, Measure, int]] = [
    ("rain", "open", brightness_db, -1),
    ("rain", "open", spikiness, -1),
    ("rain", "window", brightness_db, -1),
    ("rain", "roof", spikiness, -1),
    ("rain", "leaves", spikiness, -1),
    ("thunder", "thunder", brightness_db, 1),
    ("wind", "open", brightness_db, 1),
    ("wind", "trees", brightness_db, 1),
    ("ocean", "waves", brightness_db, -1),
    ("stream", "brook", spikiness, -1),
    ("stream", "waterfall", brightness_db, -1),
    ("fire", "hearth", brightness_db, -1),
    ("fire", "hearth", spikiness, 1),
    ("insects", "crickets", brightness_db, 1),
    ("insects", "cicadas", brightness_db, 1),
    ("birds", "songbirds", tone_share, 1),
    ("birds", "gulls", tone_share, 1),
    ("cafe", "murmur", body_db, 1),
    ("drone", "drone", rest_to_bass_db, 1),
    ("machine", "hum", brightness_db, 1),
    ("noise", "pink", brightness_db, 1),
]


@pytest.mark.parametrize(("family", "variant", "measure", "direction"), INTENSITY)
def test_intensity_changes_the_sound_itself(family: str, variant: str, measure: Measure, direction: int) -> None:
    """Faint against extreme differs by more than a gain, over six seeds."""
    seconds = {"birds": 10.0, "cafe": 12.0, "wind": 5.0}.get(family, 2.5)  # birds, talkers and gusts pause
    faint = over_seeds(measure, family, variant, 0.1, 0.0, seconds)
    extreme = over_seeds(measure, family, variant, 0.9, 0.0, seconds)
    assert_moves(faint, extreme, direction)


def test_heavier_rain_has_more_drops() -> None:
    """On a window, where drops stand out, plain rain strikes more often than light rain."""
    light = over_seeds(onset_rate, "rain", "window", 0.1, 0.0)
    plain = over_seeds(onset_rate, "rain", "window", 0.5, 0.0)
    assert_moves(light, plain, 1)


@pytest.mark.parametrize(("family", "variant"), [(family, "") for family in FAMILIES])
def test_distance_takes_level_and_highs_away(family: str, variant: str) -> None:
    """A far sound is softer, and darker in its own balance."""
    seconds = 6.0 if family == "thunder" else 1.5
    near, far = (render(family, variant, 0.5, distance, SEEDS[0], seconds) for distance in (0.0, 0.8))
    assert np.sqrt(np.mean(far**2)) < 0.8 * np.sqrt(np.mean(near**2))
    before, after = (over_seeds(air_db, family, variant, 0.5, distance, seconds) for distance in (0.0, 0.8))
    assert_moves(before, after, -1)


@pytest.mark.parametrize(
    ("family", "variant"),
    [
        ("rain", "open"),
        ("rain", "window"),
        ("fire", "hearth"),
        ("stream", "brook"),
        ("insects", "crickets"),
    ],
)
def test_distance_lets_the_reverberation_win(family: str, variant: str) -> None:
    """Single events melt into the tail, which leaves far fewer spikes."""
    near = over_seeds(spikiness, family, variant, 0.5, 0.0)
    far = over_seeds(spikiness, family, variant, 0.5, 0.8)
    assert_moves(near, far, -1)


# What each family is known by ------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_ten_seconds_always_hold_a_roll_of_thunder(seed: int) -> None:
    """Occasional never means absent: the loudest second stands far above the quietest, and holds low rumble."""
    samples = render("thunder", seed=seed, seconds=10.0)
    seconds = np.sqrt(np.mean(samples.mean(axis=0).reshape(10, -1) ** 2, axis=1))
    assert seconds.max() > 4.0 * seconds.min()
    assert brightness_db(samples, 250.0) < 0.0


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_startles(seed: int) -> None:
    """Thunder swells: between two neighboring 20 ms frames it never gains half of its loudest frame."""
    mono = render("thunder", intensity=0.8, seed=seed, seconds=10.0).mean(axis=0)
    levels = np.sqrt(np.mean(mono.reshape(-1, 960) ** 2, axis=1))
    assert np.diff(levels).max() < 0.5 * levels.max()


def test_waves_come_every_six_to_fourteen_seconds_and_are_deep() -> None:
    """A minute of sea holds 4 to 10 waves, whose crests stand well above the sea between them."""
    for seed in SEEDS[:2]:
        mono = render("ocean", seed=seed, seconds=60.0).mean(axis=0)
        level = np.sqrt(np.mean(mono.reshape(600, -1) ** 2, axis=1))
        smooth = np.convolve(np.concatenate([level, level[:20]]), np.ones(15) / 15, "valid")[:600]
        crests, _ = signal.find_peaks(smooth, prominence=0.25 * smooth.max(), distance=30)
        assert 4 <= len(crests) <= 10
        assert np.std(level) / np.mean(level) > 0.4


def test_crickets_chirp_in_a_rhythm() -> None:
    """The envelope around the song's pitch holds a strong component at the pulse rate of some 45 Hz."""
    for seed in SEEDS:
        band = signal.butter(2, (3500.0, 5500.0), "band", fs=RATE_HZ, output="sos")
        song = np.abs(signal.sosfilt(band, render("insects", seed=seed).mean(axis=0)))
        envelope = song[: song.size // 240 * 240].reshape(-1, 240).mean(axis=1)
        hz, power = signal.welch(envelope - envelope.mean(), 200.0, nperseg=400)
        pulses = power[(hz > 38.0) & (hz < 58.0)].max()
        assert pulses > 3.0 * np.median(power[((hz > 20.0) & (hz < 34.0)) | ((hz > 62.0) & (hz < 78.0))])


@pytest.mark.parametrize(
    ("color", "slope_db"), [("white", 0.0), ("pink", -3.0), ("brown", -6.0), ("blue", 3.0), ("violet", 6.0)]
)
def test_plain_noise_has_its_color_exactly(color: str, slope_db: float) -> None:
    """Its spectrum falls or rises by so many dB an octave, from 60 Hz to 16 kHz."""
    hz, power = signal.welch(render("noise", color, seconds=20.0), RATE_HZ, nperseg=16384)
    inside = (hz > 60.0) & (hz < 16_000.0)
    slope = np.polyfit(np.log2(hz[inside]), 10.0 * np.log10(power.mean(axis=0)[inside]), 1)[0]
    assert slope == pytest.approx(slope_db, abs=0.2)


@pytest.mark.parametrize("family", ["drone", "birds"])
def test_seeds_that_agree_in_their_low_bits_share_their_character(family: str) -> None:
    """So that a long take made of several textures keeps its root and its birds: their spectra agree more."""

    def spectrum(seed: int) -> npt.NDArray[np.float64]:
        params = TextureParams(family=family)
        _, power = signal.welch(
            render_texture(params, 6 * RATE_HZ, RATE_HZ, seed, go_on).mean(axis=0), RATE_HZ, nperseg=16384
        )
        return np.asarray(np.log(power[20:3000] + 1e-12))

    kin, strangers = [], []
    for seed in range(6):
        base = spectrum(seed)
        kin.append(np.mean(np.abs(base - spectrum(seed + (1 << 32)))))
        strangers.append(np.mean(np.abs(base - spectrum(seed + 100))))
    assert np.mean(kin) < np.mean(strangers)


# Progress --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", list(FAMILIES))
def test_rendering_reports_and_stops_when_told_to(family: str) -> None:
    """Steps count up, and the first False ends it."""
    steps: list[Progress] = []

    def stop_at_the_third(progress: Progress) -> bool:
        steps.append(progress)
        return len(steps) < 3

    with pytest.raises(GenerationCancelled):
        render_texture(TextureParams(family=family), 4 * RATE_HZ, RATE_HZ, 0, stop_at_the_third)
    assert [progress.step for progress in steps] == [1, 2, 3]
    assert {progress.stage for progress in steps} == {"rendering"}
