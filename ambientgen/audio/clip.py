"""A clip: samples and their rate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """Sound in memory.

    Attributes:
        samples: float32, shape (num_channels, num_samples), nominally in [-1, 1].
        sample_rate_hz: samples a second.

    Raises:
        ValueError: if `samples` has another shape or type, or the rate is not positive.
    """

    samples: Samples
    sample_rate_hz: int

    def __post_init__(self) -> None:
        if self.samples.ndim != 2 or self.samples.dtype != np.float32:
            raise ValueError(
                f"samples must be float32 (channels, samples), not {self.samples.dtype} {self.samples.shape}"
            )
        if self.sample_rate_hz <= 0:
            raise ValueError(f"sample_rate_hz must be positive, not {self.sample_rate_hz}")

    @property
    def num_channels(self) -> int:
        """How many channels."""
        return int(self.samples.shape[0])

    @property
    def num_samples(self) -> int:
        """How many samples each channel has."""
        return int(self.samples.shape[1])

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.num_samples / self.sample_rate_hz

    def read(self, start: int, stop: int) -> Samples:
        """The samples from `start` up to `stop`; a view, not to be written to."""
        return self.samples[:, start:stop]
