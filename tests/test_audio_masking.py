"""Every layer of a mix is heard, and none is changed without need."""

from __future__ import annotations

import numpy as np
import pytest

from ambientgen.audio.clip import Clip, Samples
from ambientgen.audio.masking import lifts_db
from ambientgen.audio.mix import Mix, Stem
from ambientgen.audio.sound import in_memory

RATE_HZ = 48_000


def noise(low_hz: float, high_hz: float, seed: int = 0, seconds: float = 4.0) -> Samples:
    """Stereo noise of one band, RMS 0.1."""
    size = round(seconds * RATE_HZ)
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal((2, size)))
    hz = np.fft.rfftfreq(size, 1.0 / RATE_HZ)
    samples = np.fft.irfft(spectrum * ((hz >= low_hz) & (hz < high_hz)), size)
    return (0.1 * samples / samples.std()).astype(np.float32)


def clip(samples: Samples) -> Clip:
    """At the tests' rate."""
    return Clip(samples, RATE_HZ)


def test_layers_in_bands_of_their_own_are_left_alone() -> None:
    """A quiet sound is heard where the louder one leaves room."""
    low, high = noise(100, 400), noise(4000, 8000, 1) * 10 ** (-20 / 20)
    assert lifts_db([clip(low), clip(high)], [1.0, 1.0]) == [0.0, 0.0]


@pytest.mark.parametrize("below_db", [8.0, 12.0])
def test_a_covered_layer_is_raised_to_be_just_heard(below_db: float) -> None:
    """In the same band it is raised to 4 dB below the one that covers it, whatever it was."""
    bed, covered = noise(500, 4000), noise(500, 4000, 1) * 10 ** (-below_db / 20)
    first, second = lifts_db([clip(bed), clip(covered)], [1.0, 1.0])
    assert first == 0.0
    # The best of several bands counts, and each band's level wavers from frame to frame.
    assert second == pytest.approx(below_db - 4.0, abs=1.5)


def test_a_lift_has_an_end() -> None:
    """What would need more than 9 dB gets 9: the intended order of the layers stays."""
    assert lifts_db([clip(noise(500, 4000)), clip(noise(500, 4000, 1))], [1.0, 0.01]) == [0.0, 9.0]


def test_only_the_time_in_which_a_layer_sounds_counts() -> None:
    """Rare events above the bed are heard, though most of the time there is nothing of them."""
    events = noise(500, 4000, 1) * 1.5
    events[:, RATE_HZ:] = 0.0
    assert lifts_db([clip(noise(500, 4000)), clip(events)], [1.0, 1.0]) == [0.0, 0.0]


def test_silence_is_not_raised() -> None:
    """A silent layer stays silent, and covers nothing."""
    assert lifts_db([clip(noise(500, 4000)), clip(np.zeros((2, RATE_HZ * 4), np.float32))], [1.0, 1.0]) == [0.0, 0.0]


def test_the_mix_has_the_lift_in_it() -> None:
    """What the mix says it raised is that much louder in the sum."""
    bed, covered = clip(noise(500, 4000)), clip(noise(500, 4000, 1))
    together = Mix([Stem.of(bed), Stem.of(covered)], [0.0, -12.0])
    alone = in_memory(Mix([Stem.of(bed)], [0.0])).samples
    rest = in_memory(together).samples - alone
    level_db = 20 * np.log10(rest.std() / alone.std())
    assert together.lifts_db[1] > 5.0
    assert level_db == pytest.approx(-12.0 + together.lifts_db[1], abs=0.2)


def test_gains_set_by_hand_are_kept() -> None:
    """Nothing is raised in a mix that somebody made."""
    stems = [Stem.of(clip(noise(500, 4000))), Stem.of(clip(noise(500, 4000, 1)))]
    assert Mix(stems, [0.0, -12.0], unmask=False).lifts_db == [0.0, 0.0]
    assert Mix(stems, [0.0, -12.0]).lifts_db[1] > 0.0
