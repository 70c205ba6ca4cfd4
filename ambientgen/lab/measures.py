"""Figures of a finished clip, all measured on what decoding its file gives. They describe; they do not judge."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ambientgen.audio import health, loudness
from ambientgen.audio.clip import Clip

Array = npt.NDArray[np.float64]

#: Changes whenever the same file would give another figure; kept figures of another version are measured again.
VERSION = 1
SHORTEST_FOR_REPETITION_S = 2.0

_FRAME_S, _HOP_S = 2048 / 48_000, 0.02
#: What every engine has: a model of 16 kHz ends near 8 kHz, and what is above would only tell its sample rate.
_LOWEST_HZ, _HIGHEST_HZ = 50.0, 7_000.0
_SILENT_POWER = 1e-12
_NUM_BANDS, _LOWEST_BAND_HZ = 20, 200.0
_DETAIL_HOP_S, _DETAIL_S, _SHORTEST_PERIOD_S = 0.01, 1.0, 0.5
#: A mean of exponentially distributed values lies this much above their geometric mean; so is the power of noise.
_NOISE_DB = 10.0 * math.log10(math.exp(np.euler_gamma))
_ARTIFACTS_FROM_HZ, _ARTIFACTS_TO_HZ = 4_000.0, 20_000.0


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure, explained.

    Attributes:
        name: its key in what `measure` answers.
        title: for people, short.
        unit: or "" for a plain number.
        num_digits: behind the point.
        least_span: of a plot's axis, so that what nobody hears does not look large.
        meaning: in a sentence or two.
        source: where it comes from.
    """

    name: str
    title: str
    unit: str
    num_digits: int
    least_span: float
    meaning: str
    source: str


FIGURES = (
    Figure(
        "integrated_lufs",
        "Loudness",
        "LUFS",
        1,
        3.0,
        "Integrated loudness of the whole clip. Every clip is brought to −20 LUFS where its peaks let it, so that none "
        "gains by being louder.",
        "ITU-R BS.1770-4",
    ),
    Figure(
        "peak_dbtp",
        "True peak",
        "dBTP",
        1,
        3.0,
        "The highest level, also between the samples (four times oversampled).",
        "ITU-R BS.1770-4, annex 2",
    ),
    Figure(
        "crest_db",
        "Crest factor",
        "dB",
        1,
        3.0,
        "The highest sample over the root mean square: about 12 for noise, more for single drops and crackles, less "
        "for squashed sound.",
        "A. Lerch, An Introduction to Audio Content Analysis, 2012",
    ),
    Figure(
        "spectral_flatness",
        "Spectral flatness",
        "",
        3,
        0.05,
        "Wiener entropy from 50 Hz to 7 kHz: geometric over arithmetic mean of the power spectrum in frames of 43 ms, "
        "then the mean of all frames. 0.56 for white noise, near 0 for a tone or a steep spectrum.",
        "A. H. Gray and J. D. Markel, IEEE Trans. ASSP 22(3), 1974",
    ),
    Figure(
        "spectral_flux",
        "Spectral flux",
        "",
        3,
        0.05,
        "How much the spectrum changes in 20 ms: the squared distance of successive magnitude spectra, each of length "
        "1, from 50 Hz to 7 kHz, as a mean of all frames. 0 for a steady tone, at most 2.",
        "G. Tzanetakis and P. Cook, IEEE Trans. Speech and Audio Processing 10(5), 2002",
    ),
    Figure(
        "hf_artifacts_db",
        "High-frequency artifacts",
        "dB",
        2,
        1.0,
        "“Digital crunch”: how far the fine texture above 4 kHz departs from noise, by steady lines and chirps or by "
        "clicks and steps, whichever is more. 0 for any smooth noise. Birds, crickets and crackles raise it too, so "
        "compare it only between clips of one scene.",
        "Arithmetic over geometric mean (Gray and Markel, 1974) in small patches of time and frequency; the artifacts "
        "meant are those of J. Pons et al., ICASSP 2021, and of coarse quantization",
    ),
    Figure(
        "repetition",
        "Repetition",
        "",
        2,
        0.1,
        "The highest correlation of the clip's details with themselves at 0.5 s or more, up to half the clip: 1 where "
        "it repeats, about 0.05 to 0.1 for noise of 10 s. Swells do not count. Not measured under 2 s.",
        "Autocorrelation of band levels every 10 ms, as in the beat spectrum of J. Foote and S. Uchihashi, ICME 2001",
    ),
    Figure(
        "clap_score",
        "CLAP score",
        "",
        3,
        0.1,
        "Cosine similarity of the clip's first 10 s and the scene's words, by the CLAP of the model named above; −1 "
        "to 1.",
        "Y. Wu et al., ICASSP 2023 (LAION-CLAP)",
    ),
)


def measure(clip: Clip) -> dict[str, float | None]:
    """Every figure but the CLAP score, which takes a model.

    Args:
        clip: any channels and rate, not empty.

    Returns:
        A value for each name in `FIGURES` but "clap_score"; None where a clip has no such thing (silence has no
        loudness).
    """
    values = {
        "integrated_lufs": loudness.integrated_lufs(clip),
        "peak_dbtp": loudness.true_peak_dbtp(clip),
        "crest_db": crest_db(clip),
        "spectral_flatness": spectral_flatness(clip),
        "spectral_flux": spectral_flux(clip),
        "hf_artifacts_db": hf_artifacts_db(clip),
        "repetition": repetition(clip),
    }
    return {name: round(value, 5) if math.isfinite(value) else None for name, value in values.items()}


def faults(clip: Clip) -> tuple[str, ...]:
    """What is broken, in plain words; empty for a sound clip. See `ambientgen.audio.health`."""
    return health.check(clip).faults


def crest_db(clip: Clip) -> float:
    """Highest sample over root mean square, over all channels, in dB; nan for silence."""
    peak = float(np.abs(clip.samples).max(initial=0.0))
    power = float(np.mean(np.square(clip.samples, dtype=np.float64)))
    return 20.0 * math.log10(peak) - 10.0 * math.log10(power) if power > 0.0 else math.nan


def spectral_flatness(clip: Clip) -> float:
    """Mean Wiener entropy of the frames that are not silent, 0 to 1; nan if all are."""
    power = _heard_power(clip)
    if not power.size:
        return math.nan
    geometric = np.exp(np.log(power + 1e-20).mean(axis=1))
    return float(np.mean(geometric / power.mean(axis=1)))


def spectral_flux(clip: Clip) -> float:
    """Mean squared distance of successive normalized magnitude spectra, 0 to 2; nan if fewer than two are heard."""
    magnitude = np.sqrt(_heard_power(clip))
    if len(magnitude) < 2:
        return math.nan
    magnitude /= np.linalg.norm(magnitude, axis=1, keepdims=True)
    return float(np.mean(np.sum(np.square(np.diff(magnitude, axis=0)), axis=1)))


def hf_artifacts_db(clip: Clip) -> float:
    """How far the texture above 4 kHz departs from noise, in dB; nan if there is nothing up there.

    The power of noise, of whatever color and slow movement, is exponentially distributed from cell to cell of a
    spectrogram, so that inside a small patch its arithmetic mean lies a known 2.51 dB above its geometric mean. A line,
    a chirp, a click or a step puts the patch's power into few cells and raises that distance. Lines show in long
    frames, clicks in short ones, so both are looked at, and the greater counts. Louder patches count more.
    """
    mono = clip.samples.mean(axis=0, dtype=np.float64)
    lines_db = _patchiness_db(mono, clip.sample_rate_hz, frame_s=2048 / 48_000, num_frames=4, num_bins=32)
    clicks_db = _patchiness_db(mono, clip.sample_rate_hz, frame_s=0.002, num_frames=64, num_bins=4)
    return max(lines_db, clicks_db)


def repetition(clip: Clip) -> float:
    """The highest autocorrelation of band levels at lags from 0.5 s to half the clip, at most 1.

    nan for a clip under `SHORTEST_FOR_REPETITION_S`, or where nothing moves.
    """
    if clip.duration_s < SHORTEST_FOR_REPETITION_S:
        return math.nan
    details = _details(clip)
    num_frames = len(details)
    # Zero-padded, so that nothing wraps around.
    spectra = np.fft.rfft(details, 2 * num_frames, axis=0)
    products = np.fft.irfft(np.square(np.abs(spectra)).sum(axis=1), 2 * num_frames)[:num_frames]
    energy = np.concatenate([[0.0], np.cumsum(np.square(details).sum(axis=1))])
    lags = np.arange(math.ceil(_SHORTEST_PERIOD_S / _DETAIL_HOP_S), num_frames // 2 + 1)
    # Of the two stretches that a lag lays over each other, each has an energy of its own.
    overlap = np.sqrt(energy[num_frames - lags] * (energy[num_frames] - energy[lags]))
    usable = overlap > 1e-9
    return float(np.max(products[lags][usable] / overlap[usable])) if usable.any() else math.nan


def _power(mono: Array, sample_rate_hz: int, frame_s: float, hop_s: float) -> tuple[Array, Array]:
    """Power spectra, shape (num_frames, num_bins), and the frequency of each bin."""
    size, hop = max(16, round(frame_s * sample_rate_hz)), max(1, round(hop_s * sample_rate_hz))
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(mono, (0, max(0, size - len(mono)))), size)[::hop]
    spectra = np.fft.rfft(frames * np.hanning(size), axis=1)
    return np.asarray(np.square(np.abs(spectra))), np.asarray(np.fft.rfftfreq(size, 1.0 / sample_rate_hz))


def _heard_power(clip: Clip) -> Array:
    """The power spectra of the frames that are not silent, from 50 Hz to 7 kHz."""
    power, hz = _power(clip.samples.mean(axis=0, dtype=np.float64), clip.sample_rate_hz, _FRAME_S, _HOP_S)
    power = power[:, (hz >= _LOWEST_HZ) & (hz <= _HIGHEST_HZ)]
    return np.asarray(power[power.mean(axis=1) > _SILENT_POWER])


def _patchiness_db(mono: Array, sample_rate_hz: int, *, frame_s: float, num_frames: int, num_bins: int) -> float:
    """Arithmetic over geometric mean of the power in patches, less what noise has, weighted by power."""
    power, hz = _power(mono, sample_rate_hz, frame_s, frame_s / 2.0)
    power = power[:, (hz >= _ARTIFACTS_FROM_HZ) & (hz <= _ARTIFACTS_TO_HZ)]
    rows, columns = power.shape[0] // num_frames, power.shape[1] // num_bins
    if rows == 0 or columns == 0:
        return math.nan
    patches = power[: rows * num_frames, : columns * num_bins].reshape(rows, num_frames, columns, num_bins)
    mean: Array = patches.mean(axis=(1, 3))
    if float(mean.sum()) <= _SILENT_POWER:
        return math.nan
    distance_db = 10.0 * (np.log10(mean + 1e-20) - np.log10(patches + 1e-20).mean(axis=(1, 3))) - _NOISE_DB
    return float(np.average(distance_db, weights=mean))


def _details(clip: Clip) -> Array:
    """Level in dB of 20 bands every 10 ms, each against all bands and its own second: (num_frames, num_bands).

    So neither the overall level nor slow movement counts, and each band has the same weight.
    """
    power, hz = _power(clip.samples.mean(axis=0, dtype=np.float64), clip.sample_rate_hz, _FRAME_S, _DETAIL_HOP_S)
    edges = np.searchsorted(hz, np.geomspace(_LOWEST_BAND_HZ, _HIGHEST_HZ, _NUM_BANDS + 1))
    levels_db = 10.0 * np.log10(np.add.reduceat(power, edges, axis=1)[:, :_NUM_BANDS] + _SILENT_POWER)
    levels_db -= levels_db.mean(axis=1, keepdims=True)
    width = min(round(_DETAIL_S / _DETAIL_HOP_S), len(levels_db)) | 1
    padded = np.pad(levels_db, ((width // 2, width // 2), (0, 0)), mode="edge")
    slow = np.lib.stride_tricks.sliding_window_view(padded, width, axis=0).mean(axis=2)
    details = levels_db - slow
    spread = details.std(axis=0)
    return np.asarray(details / np.where(spread > 1e-6, spread, np.inf))
