"""Drops in a cave: each falls from its own place at its own pace, rings in its pool, and the rock answers for seconds.

A drop's impact is hardly audible; what is heard is the bubble that it drags under, a damped sine (H. C. Pumphrey and
P. A. Elmore, "The entrainment of bubbles by drop impacts", J. Fluid Mech., 1990; S. Phillips, A. Agarwal and P. Jordan,
"The sound produced by a dripping tap is driven by resonant oscillations of an entrapped air bubble", Scientific
Reports, 2018). Drops from one stalactite come at nearly even intervals, as water seeps evenly. The cave itself breathes
(T. M. L. Wigley and M. C. Brown, "The physics of caves", in *The Science of Speleology*, 1976): its air has a very low
tone.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from ambientgen.audio.clip import Samples
from ambientgen.synth.events import bubbles, bursts, event_count, fold, heavy_tail, pan, random_starts, scatter, stereo
from ambientgen.synth.shaping import Canvas, at_audio_rate, convolve, curve, db, fir, modulate, shaped_noise, tone
from ambientgen.synth.turning import add_panned

_AIR: Final = ((22, -6), (40, 0), (70, -3), (120, -8), (250, -15), (600, -24), (1500, -34), (4000, -46))
_SEEP: Final = ((300, -14), (900, -2), (1800, 0), (3500, -3), (7000, -10), (14000, -24))
_SPLASH: Final = ((900, -20), (2500, -5), (5000, 0), (9000, -4), (16000, -14))
_STONE: Final = ((400, -12), (1100, 0), (2400, -3), (6000, -12), (12000, -26))
#: The time in s in which a cave falls by 60 dB, for low, middle and high bands: wet limestone, and air.
_DECAYS: Final = (
    (((40, -1), (300, 0), (700, -14), (1500, -40)), 3.4),
    (((250, -28), (700, -3), (1400, 0), (2600, -4), (5000, -24)), 2.5),
    (((1500, -28), (3500, -3), (6000, 0), (10000, -5), (16000, -16)), 1.1),
)


def render(canvas: Canvas) -> Samples:
    """A cave. More intensity: wetter, with more water and more air. Density: how many places it drips from."""
    sound = _drips(canvas) + _seeping(canvas)
    # A place that was asked for answers by itself; two caves one in the other would be mud.
    if canvas.params.place != "cave":
        sound += convolve(canvas, sound, _answer(canvas))
    return sound + _air(canvas)


def _drips(canvas: Canvas) -> Samples:
    """Every place it drips from: a pool that rings, or stone that only clicks."""
    rate = canvas.sample_rate_hz
    buffer = np.zeros((2, canvas.num_samples + rate), dtype=np.float32)
    for number in range(round(canvas.swing(0.75, 1.35) * canvas.crowd(2.0, 18.0))):
        rng = canvas.character
        pitch_hz = 500.0 * 5.0 ** rng.random()
        pace_s, steadiness = rng.uniform(2.8, 9.5), rng.uniform(0.02, 0.12)
        nearness, side, pool = rng.uniform(0.2, 1.0) if number else 1.0, rng.uniform(-0.85, 0.85), rng.random() < 0.75
        templates = _pool(canvas, pitch_hz) if pool else _stone(canvas)
        gains = np.concatenate(pan(np.array([side])))[:, None] * nearness
        count = max(1, round(canvas.duration_s / pace_s))
        times = canvas.rng.random() * canvas.duration_s + canvas.duration_s / count * (
            np.arange(count) + steadiness * canvas.rng.standard_normal(count)
        )
        for start in ((times * rate).astype(np.intp) % canvas.num_samples).tolist():
            drop = templates[canvas.rng.integers(0, len(templates))] * canvas.rng.uniform(0.55, 1.0)
            piece = drop[: buffer.shape[1] - start]
            buffer[:, start : start + piece.size] += (gains * piece).astype(np.float32)
        canvas.tick()
    return fold(buffer, canvas.num_samples)


def _pool(canvas: Canvas, pitch_hz: float) -> Samples:
    """Six drops into one pool, shape (6, length): a small splash, and some milliseconds later the bubble's ring.

    One in three makes a second, higher bubble.
    """
    size = int(0.35 * canvas.sample_rate_hz)
    out = np.zeros((6, size), dtype=np.float32)
    decay_s = canvas.rng.uniform(0.001, 0.004, 6)
    splash = bursts(canvas, 6, _SPLASH, 0.03, decay_s) * np.float32(0.09)
    out[:, : splash.shape[1]] += splash
    # Bubbles under a surface that closes over them rise in pitch, and ring longer than the law for free ones says.
    pitches = pitch_hz * np.exp(0.03 * canvas.rng.standard_normal(6))
    for share, ratio, delay_s in ((1.0, 1.0, 0.012), (0.4, 1.0 + canvas.character.uniform(0.3, 0.9), 0.05)):
        ring = bubbles(canvas, pitches * ratio, 0.25, 0.12)
        sounding = np.ones(6) if share == 1.0 else canvas.rng.random(6) < 0.34
        delay = int(delay_s * canvas.sample_rate_hz)
        out[:, delay : delay + ring.shape[1]] += ring * (share * sounding)[:, None].astype(np.float32)
    return out


def _stone(canvas: Canvas) -> Samples:
    """Six drops on wet stone: a soft tock."""
    return bursts(canvas, 6, _STONE, 0.08, canvas.rng.uniform(0.003, 0.009, 6)) * np.float32(0.3)


def _seeping(canvas: Canvas) -> Samples:
    """Water that runs down the walls: very small bubbles, far and soft, the more the wetter the cave is."""
    pitch = 700.0 * 5.0 ** canvas.rng.random(96)
    templates = stereo(canvas, bubbles(canvas, pitch, 0.05, 0.1), 0.95)
    flow = np.exp(0.7 * curve(canvas, 0.05, 0.8)[0])
    starts = random_starts(canvas, event_count(canvas, canvas.swing(2.5, 90.0)), flow)
    trickle = scatter(canvas, templates, starts, heavy_tail(canvas, starts.size, 5.0, 8.0) * db(-24.0))
    film = modulate(canvas, shaped_noise(canvas, _SEEP, correlation=0.1), np.exp(0.3 * curve(canvas, 0.05, 1.0, 2)))
    return trickle + film * np.float32(db(canvas.slide(-58.0, -44.0)))


def _air(canvas: Canvas) -> Samples:
    """The cave's breath: low noise that comes and goes, and the tones of its chambers, so low that they are felt."""
    breath = np.exp(0.4 * curve(canvas, 0.02, 0.12)[0] + 0.15 * curve(canvas, 0.1, 1.0, 2))
    out = modulate(canvas, shaped_noise(canvas, _AIR, correlation=0.4, num_taps=16384), breath)
    out *= np.float32(db(canvas.slide(-32.0, -28.0)))
    lowest_hz = canvas.character.uniform(34.0, 46.0)
    for ratio, level_db in ((1.0, 0.0), (1.47, -5.0), (2.09, -9.0), (2.71, -14.0)):
        for side in (-0.5, 0.5):
            hz = lowest_hz * ratio + canvas.rng.uniform(-0.15, 0.15)
            swell = at_audio_rate(canvas, np.exp(0.6 * curve(canvas, 0.015, 0.1)[0]))
            chamber = tone(canvas, hz, canvas.rng.uniform(0.0, 2.0 * np.pi)) * swell
            add_panned(out, chamber * np.float32(db(level_db - 37.0)), side)
    return out


def _answer(canvas: Canvas) -> Samples:
    """The rock's reverberation, shape (2, taps): noise that dies away, the highs first, after a short silence.

    It is the same through a long take, as the cave is.
    """
    rate = canvas.sample_rate_hz
    rng = np.random.default_rng(canvas.character.integers(0, 1 << 32))
    size = int(2.8 * rate)
    seconds = np.arange(size) / rate
    rise = np.clip((seconds - 0.012) / 0.05, 0.0, 1.0)
    total = np.zeros((2, size), dtype=np.float32)
    for points, decay_s in _DECAYS:
        noise = rng.standard_normal((2, size), dtype=np.float32)
        noise *= (rise * 10.0 ** (-3.0 * seconds / decay_s)).astype(np.float32)
        total += convolve(canvas, noise, fir(points, rate, 1024), centered=True)
    total *= np.linspace(1.0, 0.0, size, dtype=np.float32)
    return np.asarray(total * np.float32(1.4 / np.sqrt(np.sum(total[0] ** 2))))
