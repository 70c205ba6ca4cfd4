"""Which stretches of a latent the UNet sees, and how its answers become one.

The UNet is good at 10.24 s and no more, and every new shape costs a compilation. So it only ever sees windows of four
lengths. A short take is one window, padded. A long one is covered by overlapping windows whose predictions are averaged
at every step (MultiDiffusion, Bar-Tal et al. 2023), with weights that fade at the edges (Mixture of Diffusers, Jimenez
2023): its cost is linear in its length, and what the windows share makes it one piece of sound. A loop is a circle:
its windows run on across the seam, and the seam moves at every step (rotating the latent: PanoDiffusion, Wu et al.
2024), so that no place of it is an edge more often than another.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

#: Window lengths in latent frames of 0.04 s: 2.56, 5.12, 7.68 and 10.24 s.
WINDOW_FRAMES = (64, 128, 192, 256)
_LONGEST = WINDOW_FRAMES[-1]
#: Two neighbors share at least 1.92 s.
_OVERLAP = 48
_STRIDE = _LONGEST - _OVERLAP
#: Turning a circle by this share of it at every step spreads the seams most evenly (the golden ratio).
_GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True, slots=True)
class WindowPlan:
    """How a latent is covered.

    Attributes:
        num_frames: length of the latent along time; for a line this is at least what was asked.
        window_frames: length of every window.
        starts: the first frame of each window.
        circular: True if the latent's end joins its beginning.
    """

    num_frames: int
    window_frames: int
    starts: tuple[int, ...]
    circular: bool

    @classmethod
    def line(cls, num_frames: int) -> WindowPlan:
        """Cover at least `num_frames`."""
        if num_frames <= _LONGEST:
            window = _smallest_window(num_frames)
            return cls(window, window, (0,), circular=False)
        num_windows = 1 + math.ceil((num_frames - _LONGEST) / _STRIDE)
        starts = tuple(index * _STRIDE for index in range(num_windows))
        return cls(starts[-1] + _LONGEST, _LONGEST, starts, circular=False)

    @classmethod
    def circle(cls, num_frames: int) -> WindowPlan:
        """Cover a circle of exactly `num_frames`; what a window has too much, it sees twice."""
        if num_frames <= _LONGEST:
            return cls(num_frames, _smallest_window(num_frames), (0,), circular=True)
        num_windows = math.ceil(num_frames / _STRIDE)
        starts = tuple(round(index * num_frames / num_windows) for index in range(num_windows))
        return cls(num_frames, _LONGEST, starts, circular=True)

    @property
    def num_windows(self) -> int:
        """How many windows a step costs."""
        return len(self.starts)

    @property
    def whole(self) -> bool:
        """True if the one window is the latent itself."""
        return self.starts == (0,) and self.window_frames == self.num_frames

    def scaled(self, factor: int) -> WindowPlan:
        """The same plan for something with `factor` frames for each of the latent's."""
        return replace(
            self,
            num_frames=self.num_frames * factor,
            window_frames=self.window_frames * factor,
            starts=tuple(start * factor for start in self.starts),
        )

    def frames(self) -> Any:
        """The frame that each window's place holds: int64 array of shape (num_windows, window_frames)."""
        places = np.asarray(self.starts)[:, None] + np.arange(self.window_frames)[None, :]
        return places % self.num_frames if self.circular else places

    def turn(self, step: int) -> int:
        """By how many frames to rotate the latent before a step; 0 for a line."""
        return math.floor(math.modf(step * _GOLDEN)[0] * self.num_frames) if self.circular else 0


def gather(latents: Any, plan: WindowPlan) -> Any:
    """A latent of shape (1, channels, num_frames, width) as (num_windows, channels, window_frames, width)."""
    if plan.whole:
        return latents
    taken = latents[0].index_select(1, _frames_on(plan, latents.device))
    channels, _, width = taken.shape
    return taken.view(channels, plan.num_windows, plan.window_frames, width).transpose(0, 1)


def blend(windows: Any, plan: WindowPlan) -> Any:
    """The windows' answers as one latent again: the reverse of `gather`, weighted where several answer.

    Added up slice by slice, in order: unlike adding by index, that gives the same bits on every run.

    Args:
        windows: float32, shape (num_windows, channels, window_frames, width).
        plan: how they lie.

    Returns:
        Shape (1, channels, num_frames, width).
    """
    if plan.whole:
        return windows
    _, channels, _, width = windows.shape
    whole = windows.new_zeros((1, channels, plan.num_frames, width))
    for start, weighted in zip(plan.starts, windows * _weights_on(plan, windows.device), strict=True):
        place = 0
        while place < plan.window_frames:
            frame = (start + place) % plan.num_frames  # only a circle gets past its end
            count = min(plan.window_frames - place, plan.num_frames - frame)
            whole[0, :, frame : frame + count] += weighted[:, place : place + count]
            place += count
    return whole


@lru_cache(maxsize=64)
def _frames_on(plan: WindowPlan, device: Any) -> Any:
    import torch

    return torch.from_numpy(plan.frames().ravel()).to(device)


@lru_cache(maxsize=64)
def _weights_on(plan: WindowPlan, device: Any) -> Any:
    """float32 of shape (num_windows, 1, window_frames, 1); over all places of one frame they add up to 1."""
    import torch

    weights = np.stack([_fade(plan, before, after) for before, after in _overlaps(plan)])
    frames = plan.frames()
    sums = np.bincount(frames.ravel(), weights.ravel(), plan.num_frames)
    return torch.from_numpy((weights / sums[frames]).astype(np.float32))[:, None, :, None].to(device)


def _overlaps(plan: WindowPlan) -> Sequence[tuple[int, int]]:
    """How many frames each window shares with the one before it and the one after it."""
    if plan.circular:
        ends = (*plan.starts, plan.starts[0] + plan.num_frames)
        gaps = np.diff(ends)
        shared = [int(plan.window_frames - gap) for gap in gaps]
        return [(shared[index - 1], shared[index]) for index in range(len(shared))]
    shared = [plan.window_frames - (late - early) for early, late in zip(plan.starts, plan.starts[1:], strict=False)]
    return list(zip([0, *shared], [*shared, 0], strict=True))


def _fade(plan: WindowPlan, before: int, after: int) -> Any:
    """A window's weights: up over what it shares with the one before, down over what it shares with the one after."""
    places = np.arange(plan.window_frames)
    rising = (places + 0.5) / before if before else np.ones(plan.window_frames)
    falling = (plan.window_frames - places - 0.5) / after if after else np.ones(plan.window_frames)
    return np.minimum(np.minimum(rising, falling), 1.0)


def _smallest_window(num_frames: int) -> int:
    return next(window for window in WINDOW_FRAMES if window >= num_frames)
