"""The denoising loop: any number of takes, each at its own step, share every pass through the UNet.

A take's arithmetic is `AudioLDM2Pipeline.__call__`'s in diffusers 0.42: classifier-free guidance, then a step of a
diffusers scheduler that belongs to this take alone. What is shared is only the UNet's call, whose rows do not know of
each other. Latents and guidance are float32 whatever the UNet's precision, so that rounding does not add up.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ambientgen.diffusion.conditioning import Conditioning
from ambientgen.diffusion.devices import is_out_of_memory, let_go
from ambientgen.diffusion.windows import WindowPlan, blend, gather

log = logging.getLogger(__name__)

#: After running out of memory: passes until a larger call is tried again. Others may have used the memory.
_RETRY_PASSES = 200


@dataclass(frozen=True, slots=True)
class Rows:
    """What goes through the UNet in one call, a row for each window of each prompt.

    Attributes:
        sample: shape (num_rows, channels, window_frames, width).
        timesteps: float32, shape (num_rows,).
        generated, text, mask: as in `Conditioning`, a row for each.
    """

    sample: Any
    timesteps: Any
    generated: Any
    text: Any
    mask: Any

    def __len__(self) -> int:
        return len(self.timesteps)

    def part(self, start: int, end: int) -> Rows:
        """Some of the rows."""
        return Rows(*(tensor[start:end] for tensor in self._all()))

    def _all(self) -> tuple[Any, ...]:
        return self.sample, self.timesteps, self.generated, self.text, self.mask


class Sampling:
    """One take on its way from noise to a finished latent.

    Args:
        plan: how the latent is covered by windows.
        conditioning: of its prompts, on the UNet's device.
        scheduler: a diffusers scheduler of this take alone.
        num_steps: `num_inference_steps`.
        guidance_scale: ignored where the conditioning has no negative row.
        seed: of the noise, drawn on the CPU: the same on every device.
        channels, width: of the latent.
    """

    def __init__(
        self,
        *,
        plan: WindowPlan,
        conditioning: Conditioning,
        scheduler: Any,
        num_steps: int,
        guidance_scale: float,
        seed: int,
        channels: int,
        width: int,
    ) -> None:
        import torch

        self.plan = plan
        self.conditioning = conditioning
        self._scheduler = scheduler
        self._num_steps = num_steps
        self._guidance_scale = guidance_scale
        self._generator = torch.Generator("cpu").manual_seed(seed)
        # Timesteps and coefficients stay on the CPU: read from a GPU, each would wait for all the work before it.
        scheduler.set_timesteps(num_steps, device="cpu")
        self._timesteps = scheduler.timesteps
        # The UNet's own copy goes to its device once, and not with every pass.
        self._unet_timesteps = scheduler.timesteps.float().to(conditioning.generated.device)
        accepted = inspect.signature(scheduler.step).parameters
        self._step_options = {"generator": self._generator} if "generator" in accepted else {}
        noise = torch.randn((1, channels, plan.num_frames, width), generator=self._generator)
        self.latents = noise.to(conditioning.generated.device) * scheduler.init_noise_sigma
        self._num_passes = 0

    @property
    def step(self) -> int:
        """Finished steps; a scheduler of higher order takes several passes for one."""
        return self._num_passes * self._num_steps // len(self._timesteps)

    @property
    def done(self) -> bool:
        """True once the latent is finished."""
        return self._num_passes == len(self._timesteps)

    @property
    def num_rows(self) -> int:
        """Rows of each pass."""
        return self.plan.num_windows * len(self.conditioning.generated)

    def sample(self) -> Any:
        """What the UNet sees next, shape (num_rows, channels, window_frames, width): each prompt's windows in turn."""
        import torch

        turned = torch.roll(self.latents, -self.plan.turn(self._num_passes), dims=2)  # a copy: some schedulers scale it
        scaled = self._scheduler.scale_model_input(turned, self._timesteps[self._num_passes])
        return gather(scaled, self.plan).repeat(len(self.conditioning.generated), 1, 1, 1)

    def row_timesteps(self) -> Any:
        """The timestep of each row of `sample()`, float32, on the UNet's device."""
        return self._unet_timesteps[self._num_passes].expand(self.num_rows)

    def advance(self, predictions: Any) -> None:
        """Take the UNet's answer to `sample()`, float32, and go one pass on."""
        import torch

        if self.conditioning.guided:
            negative, positive = (blend(half, self.plan) for half in predictions.chunk(2))
            prediction = negative + self._guidance_scale * (positive - negative)
        else:
            prediction = blend(predictions, self.plan)
        prediction = torch.roll(prediction, self.plan.turn(self._num_passes), dims=2)
        answer = self._scheduler.step(prediction, self._timesteps[self._num_passes], self.latents, **self._step_options)
        self.latents = answer.prev_sample
        self._num_passes += 1


class Denoiser:
    """Drives takes through a UNet.

    Args:
        unet: called with `Rows`, answers with the predictions, shape of `sample`.
        max_rows: the most rows of one call; it falls for a while where the device runs out of memory.
    """

    def __init__(self, unet: Any, max_rows: int) -> None:
        self._unet = unet
        self._batch: tuple[list[Sampling], tuple[Any, Any, Any]] | None = None
        self._most_rows = self.max_rows = max_rows
        self._num_until_retry = 0

    def predict(self, takes: Sequence[Sampling], between: Callable[[], None] = lambda: None) -> tuple[Any, ...]:
        """The UNet's answer for each of the takes. Changes none of them, so it may be asked again.

        Args:
            takes: with windows of the same length.
            between: called between the UNet's calls, where a pass takes several; may raise to give up.

        Raises:
            Exception: the device's out-of-memory error, if not even one row fits.
        """
        answers = self._predict(self.rows(takes), between)
        return tuple(answers.split([take.num_rows for take in takes]))

    def rows(self, takes: Sequence[Sampling]) -> Rows:
        """What the next pass of the takes puts into the UNet."""
        import torch

        if self._batch is None or not _same(self._batch[0], takes):
            self._batch = list(takes), _prompts(takes)
        return Rows(
            torch.cat([take.sample() for take in takes]),
            torch.cat([take.row_timesteps() for take in takes]),
            *self._batch[1],
        )

    def forget(self) -> None:
        """Let go of the latest takes."""
        self._batch = None

    def _predict(self, rows: Rows, between: Callable[[], None]) -> Any:
        import torch

        if self.max_rows < self._most_rows:
            self._num_until_retry -= 1
            if self._num_until_retry <= 0:
                self.max_rows, self._num_until_retry = min(2 * self.max_rows, self._most_rows), _RETRY_PASSES
        answers: list[Any] = []
        num_done = 0
        while num_done < len(rows):
            if num_done:
                between()
            part = rows.part(num_done, num_done + self.max_rows)
            try:
                answers.append(self._unet(part).float())
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                if len(part) == 1:
                    self.max_rows = self._most_rows  # it was not the number of rows
                    raise
                let_go(error)
                self.max_rows, self._num_until_retry = len(part) // 2, _RETRY_PASSES
                log.warning("out of memory with %d rows in one call: for a while at most %d", len(part), self.max_rows)
                continue
            num_done += len(part)
        return answers[0] if len(answers) == 1 else torch.cat(answers)


def _same(old: Sequence[Sampling], new: Sequence[Sampling]) -> bool:
    return len(old) == len(new) and all(a is b for a, b in zip(old, new, strict=True))


def _prompts(takes: Sequence[Sampling]) -> tuple[Any, Any, Any]:
    """The last three fields of the takes' `Rows`, which change only when a take joins or leaves.

    Texts of different length are padded with zeros and masked; the mask keeps attention off them, so each row is what
    it would be alone.
    """
    import torch
    from torch.nn.functional import pad

    num_tokens = max(take.conditioning.text.shape[1] for take in takes)
    generated, text, mask = [], [], []
    for take in takes:
        conditioning, num_windows = take.conditioning, take.plan.num_windows
        missing = num_tokens - conditioning.text.shape[1]
        generated.append(conditioning.generated.repeat_interleave(num_windows, dim=0))
        text.append(pad(conditioning.text, (0, 0, 0, missing)).repeat_interleave(num_windows, dim=0))
        mask.append(pad(conditioning.mask, (0, missing)).repeat_interleave(num_windows, dim=0))
    return torch.cat(generated), torch.cat(text), torch.cat(mask)
