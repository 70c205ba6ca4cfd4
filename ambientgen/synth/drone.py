"""A warm drone: notes in just intonation over one root, of slowly beating partials, that come and go by themselves.

Two tones a fraction of a hertz apart beat, and a chord in whole-number ratios has no other roughness than that
(H. von Helmholtz, *On the Sensations of Tone*, 1863). So what moves here is only what was meant to: each partial
breathes, a slow light wanders up and down the overtones, and now and then a high one swells and is gone.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ambientgen.audio.clip import Samples
from ambientgen.synth.events import event_count
from ambientgen.synth.shaping import Canvas, at_audio_rate, control_events, curve, db, modulate, shaped_noise, tone
from ambientgen.synth.turning import add_panned

_AIR = ((40, -14), (120, -3), (300, 0), (800, -7), (2000, -16), (6000, -30))


def render(canvas: Canvas) -> Samples:
    """A drone. More intensity: more overtones, faster beating. Density: how many notes, and how often one glimmers."""
    root_hz = 55.0 * 2.0 ** (canvas.character.integers(0, 8) / 12.0)
    third = (1.2, 1.25, 4.0 / 3.0)[int(canvas.character.integers(0, 3))]
    out = modulate(canvas, shaped_noise(canvas, _AIR, correlation=0.2), np.exp(0.4 * curve(canvas, 0.02, 0.15, 2)))
    out *= np.float32(db(-26.0))
    light = curve(canvas, 0.01, 0.06)[0]
    notes = ((1.0, 0.0), (1.5, -4.0), (2.0, -4.0), (2.0 * third, -9.0), (3.0, -8.0), (4.0, -12.0), (4.5, -14.0))
    for ratio, level_db in notes[: round(canvas.crowd(3.0, 8.4))]:
        # The root stays; the others take turns.
        presence = np.exp((0.15 if ratio == 1.0 else 0.5) * curve(canvas, 0.01, 0.06)[0])
        for partial in (1, 2, 3):
            _add_partial(
                canvas, out, root_hz * ratio * partial, float(np.log2(partial * ratio)), level_db, presence, light
            )
    _add_glimmers(canvas, out, root_hz)
    return out


def _add_partial(
    canvas: Canvas,
    out: Samples,
    hz: float,
    octaves: float,
    level_db: float,
    presence: npt.NDArray[np.float64],
    light: npt.NDArray[np.float64],
) -> None:
    """Add one partial: a tone in the middle, and a slightly detuned one that differs in sign between the sides.

    The sides beat slowly against each other, and in mono the second tone is gone instead of canceling the first.

    Args:
        canvas: where chance comes from.
        out: what to add it to, shape (2, num_samples).
        hz: its frequency.
        octaves: how far it lies above the root.
        level_db: the note's level.
        presence: the note's amplitude around 1, a control curve.
        light: how bright it is around 0, a control curve: 2.5 dB an octave for each unit.
    """
    # Partials fall by 11 dB an octave in a soft drone and by 4 in a strong one.
    level = db(level_db + canvas.slide(-11.0, -4.0) * octaves) * presence * 10.0 ** (2.5 / 20.0 * octaves * light)
    breath = np.exp(0.45 * curve(canvas, 0.02, canvas.slide(0.08, 0.3), 2))
    detune = canvas.rng.uniform(-0.5, 0.5) * canvas.slide(0.5, 2.0)
    middle, side = (
        tone(canvas, hz + offset, canvas.rng.uniform(0.0, 2.0 * np.pi))
        * at_audio_rate(canvas, db(extra_db) * level * one_breath)
        for offset, extra_db, one_breath in zip((0.0, detune), (-6.0, -11.0), breath, strict=True)
    )
    out[0] += middle + side
    out[1] += middle - side


def _add_glimmers(canvas: Canvas, out: Samples, root_hz: float) -> None:
    """Add high overtones that swell for some seconds, each in a place of its own."""
    count = event_count(canvas, canvas.crowd(0.03, 0.3))
    which = canvas.rng.integers(0, 5, count)
    times = canvas.rng.uniform(0.0, canvas.duration_s, count)
    lengths = np.minimum(canvas.rng.uniform(5.0, 11.0, count), canvas.duration_s)
    for number, ratio in enumerate((6.0, 8.0, 9.0, 12.0, 16.0)):
        chosen = np.flatnonzero(which == number)

        def swell(
            since: npt.NDArray[np.float64], index: int, chosen: npt.NDArray[np.intp] = chosen
        ) -> npt.NDArray[np.float64]:
            inside = np.clip(since / lengths[chosen[index]], 0.0, 1.0)
            return np.asarray(np.sin(np.pi * inside**0.7) ** 2)

        if chosen.size:
            envelope = control_events(canvas, swell, times[chosen].tolist())
            level = db(canvas.slide(-32.0, -22.0) - 1.5 * number)
            glimmer = tone(canvas, root_hz * ratio) * at_audio_rate(canvas, level * envelope)
            add_panned(out, glimmer, canvas.rng.uniform(-0.7, 0.7))
