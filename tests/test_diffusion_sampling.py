"""The loop: diffusers' own arithmetic, in passes that any takes share, over windows that make one piece."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diffusion_world import (
    PROMPT,
    CountingUNet,
    Parts,
    advance,
    difference,
    finish,
    load_parts,
    load_reference,
    quick_collections,
)

from ambientgen.audio.clip import Clip
from ambientgen.audio.loop import measure_seam
from ambientgen.diffusion import sampling
from ambientgen.diffusion.sampling import Denoiser, Rows, Sampling
from ambientgen.diffusion.windows import WindowPlan, blend

# diffusers' DPM++ and DEIS call numpy in ways that torch's tensors do not know yet; nothing here can mend that.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept context:DeprecationWarning"),
]

SCHEDULERS = [
    "DDIMScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "DEISMultistepScheduler",
    "UniPCMultistepScheduler",
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "LMSDiscreteScheduler",
    "PNDMScheduler",
    "HeunDiscreteScheduler",
]
LONG_PROMPT = "heavy rain, wind in the trees, a river, birds"


@pytest.fixture(scope="module")
def parts(tiny_model_path: Path) -> Iterator[Parts]:
    """The model as the engine loads it."""
    parts = load_parts(tiny_model_path)
    with quick_collections():
        yield parts


@pytest.fixture(scope="module")
def reference(tiny_model_path: Path) -> Any:
    """The pipeline of diffusers."""
    return load_reference(tiny_model_path)


def call_pipeline(
    pipeline: Any,
    num_frames: int,
    *,
    prompt: str = PROMPT,
    negative_prompt: str | None = "music",
    scheduler: str = "DDIMScheduler",
    num_steps: int = 3,
    guidance_scale: float = 6.0,
    seed: int = 7,
) -> Any:
    """The pipeline's samples, shape (1, num_frames * 640)."""
    import diffusers
    import torch

    own = pipeline.scheduler
    pipeline.scheduler = getattr(diffusers, scheduler).from_config(own.config)
    try:
        samples = pipeline(
            prompt,
            negative_prompt=negative_prompt,
            audio_length_in_s=(4 * num_frames + 0.5) / 100,  # it rounds down to frames of 0.01 s
            num_inference_steps=num_steps,
            guidance_scale=guidance_scale,
            generator=torch.Generator().manual_seed(seed),
        ).audios
    finally:
        pipeline.scheduler = own
    return samples[:, : num_frames * 640]


# ---------------------------------------------------------------------- the same as diffusers


@pytest.mark.parametrize("guidance_scale", [1.0, 6.0])
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_every_scheduler_makes_what_the_pipeline_makes(
    parts: Parts, reference: Any, scheduler: str, guidance_scale: float
) -> None:
    """With seed, scheduler, steps and guidance alike, the samples are the pipeline's."""
    settings: dict[str, Any] = {"scheduler": scheduler, "guidance_scale": guidance_scale, "num_steps": 4, "seed": 11}
    plan = WindowPlan.line(64)
    made = parts.decoder.decode(parts.latents(plan, **settings), plan, 64)
    assert difference(made, call_pipeline(reference, 64, **settings)) <= 1e-5


@pytest.mark.parametrize(
    ("num_frames", "prompt", "negative_prompt", "guidance_scale"),
    [
        (64, "fire", "music, voices, low quality, average quality", 6.0),
        (128, LONG_PROMPT, None, 3.5),
        (192, "", "music", 1.5),
        (256, LONG_PROMPT, "", 6.0),
        (256, "fire", None, 1.0),
    ],
)
@pytest.mark.parametrize("scheduler", ["DDIMScheduler", "EulerAncestralDiscreteScheduler"])
def test_every_window_length_makes_what_the_pipeline_makes(
    parts: Parts,
    reference: Any,
    scheduler: str,
    num_frames: int,
    prompt: str,
    negative_prompt: str | None,
    guidance_scale: float,
) -> None:
    """Likewise for each window length, prompts of many lengths, a negative prompt that is empty or not there."""
    plan = WindowPlan.line(num_frames)
    settings: dict[str, Any] = {"prompt": prompt, "scheduler": scheduler, "guidance_scale": guidance_scale}
    latents = parts.latents(plan, negative_prompt=negative_prompt or "", **settings)
    expected = call_pipeline(reference, num_frames, negative_prompt=negative_prompt, **settings)
    assert difference(parts.decoder.decode(latents, plan, num_frames), expected) <= 1e-5


@pytest.mark.parametrize("scheduler", ["DDIMScheduler", "PNDMScheduler", "HeunDiscreteScheduler"])
def test_steps_count_up_to_what_was_asked(parts: Parts, scheduler: str) -> None:
    """Schedulers of higher order take more passes; the steps told still begin at 0, never fall, and end whole."""
    take = parts.begin(WindowPlan.line(64), scheduler=scheduler, num_steps=4)
    denoiser, steps = Denoiser(parts.unet, 64), [take.step]
    while not take.done:
        advance(denoiser, [take])
        steps.append(take.step)
    assert steps == sorted(steps)
    assert set(steps) == {0, 1, 2, 3, 4}
    assert (len(steps) > 5) == (scheduler != "DDIMScheduler")


# ---------------------------------------------------------------------- shared passes

TOGETHER: dict[str, dict[str, Any]] = {
    "a": {"plan": WindowPlan.line(128), "num_steps": 4},
    "b": {"plan": WindowPlan.line(100), "prompt": "fire", "seed": 8, "guidance_scale": 1.0},
    "c": {
        "plan": WindowPlan.line(65),
        "prompt": LONG_PROMPT,
        "negative_prompt": "",
        "seed": 9,
        "guidance_scale": 3.0,
        "scheduler": "DPMSolverMultistepScheduler",
    },
    "d": {"plan": WindowPlan.circle(100), "seed": 10, "scheduler": "EulerAncestralDiscreteScheduler"},
    "e": {"plan": WindowPlan.line(110), "prompt": "wind", "seed": 11, "scheduler": "HeunDiscreteScheduler"},
}


@pytest.fixture(scope="module")
def alone(parts: Parts) -> dict[str, Any]:
    """The latents of those takes, each made alone."""
    return {name: parts.latents(**settings) for name, settings in TOGETHER.items()}


def share(
    parts: Parts,
    unet: Callable[[Rows], Any],
    *,
    joins_at: dict[str, int] | None = None,
    leaves_at: dict[str, int] | None = None,
    max_rows: int = 64,
) -> dict[str, Any]:
    """The latents of the takes that stay to their end, all in the same passes while they are there."""
    joins_at, leaves_at = joins_at or {}, leaves_at or {}
    takes = {name: parts.begin(**settings) for name, settings in TOGETHER.items()}
    denoiser, number = Denoiser(unet, max_rows), 0
    while not all(take.done or leaves_at.get(name, 99) <= number for name, take in takes.items()):
        present = [
            take
            for name, take in takes.items()
            if joins_at.get(name, 0) <= number < leaves_at.get(name, 99) and not take.done
        ]
        if present:
            advance(denoiser, present)
        number += 1
    return {name: take.latents for name, take in takes.items() if name not in leaves_at}


def test_takes_of_every_kind_share_every_pass(parts: Parts, alone: dict[str, Any]) -> None:
    """Prompts, seeds, guidance, schedulers, steps and length differ: one UNet call a pass, and each is as if alone."""
    counting = CountingUNet(parts.unet)
    for settings in TOGETHER.values():
        finish(counting, parts.begin(**settings))
    num_alone = len(counting.batches)
    shared = CountingUNet(parts.unet)
    made = share(parts, shared)
    # Heun's three steps are five passes, the longest; b has one row, having no guidance.
    assert shared.batches == [9, 9, 9, 4, 2]
    assert num_alone == 4 + 3 + 3 + 3 + 5
    for name, latents in alone.items():
        assert difference(made[name], latents) <= 1e-5, name


@pytest.mark.parametrize("seed", range(4))
def test_joining_and_leaving_disturbs_nobody(parts: Parts, alone: dict[str, Any], seed: int) -> None:
    """Takes join at a step of the others and are canceled at another, and what remains is as if alone."""
    chance = random.Random(seed)
    joins_at = {name: chance.randint(0, 3) for name in TOGETHER}
    leaves_at = {name: joins_at[name] + chance.randint(1, 2) for name in chance.sample(sorted(TOGETHER), 2)}
    counting = CountingUNet(parts.unet)
    made = share(parts, counting, joins_at=joins_at, leaves_at=leaves_at)
    assert set(made) == set(TOGETHER) - set(leaves_at)
    assert len(set(counting.batches)) > 1
    for name, latents in made.items():
        assert difference(latents, alone[name]) <= 1e-5, name


@pytest.mark.parametrize("max_rows", [1, 2, 5])
def test_a_pass_may_take_several_calls(parts: Parts, alone: dict[str, Any], max_rows: int) -> None:
    """No call has more rows than allowed, also where that cuts a take's pair in two, and the answer is the same."""
    counting = CountingUNet(parts.unet)
    made = share(parts, counting, max_rows=max_rows)
    assert max(counting.batches) == max_rows
    assert sum(counting.batches) == 9 + 9 + 9 + 4 + 2
    for name, latents in alone.items():
        assert difference(made[name], latents) <= 1e-5, name


@pytest.mark.parametrize("scheduler", ["DDIMScheduler", "DPMSolverMultistepScheduler", "EulerDiscreteScheduler"])
def test_giving_up_between_calls_changes_nothing(parts: Parts, scheduler: str) -> None:
    """`between` is asked between the calls of a pass; if it raises, the pass has not been, and can be made again."""
    plan = WindowPlan.line(600)
    undisturbed = finish(parts.unet, parts.begin(plan, scheduler=scheduler), max_rows=2).latents
    counting = CountingUNet(parts.unet)
    denoiser = Denoiser(counting, max_rows=2)
    take = parts.begin(plan, scheduler=scheduler)
    asked: list[int] = []
    advance(denoiser, [take], lambda: asked.append(len(counting.batches)))
    assert asked == [1, 2]
    assert len(counting.batches) == 3

    def give_up() -> None:
        if len(counting.batches) == 5:
            raise KeyboardInterrupt

    before = take.latents.clone()
    with pytest.raises(KeyboardInterrupt):
        advance(denoiser, [take], give_up)
    assert len(counting.batches) == 5
    assert take.step == 1
    assert np.array_equal(take.latents, before)
    while not take.done:
        advance(denoiser, [take])
    assert np.array_equal(take.latents, undisturbed)


# ---------------------------------------------------------------------- out of memory


@pytest.mark.parametrize(("bears", "batches"), [(8, [4, 4, 1]), (3, [2, 2, 2, 2, 1]), (1, [1] * 9)])
def test_a_batch_too_large_is_halved_until_it_fits(
    parts: Parts, alone: dict[str, Any], caplog: pytest.LogCaptureFixture, bears: int, batches: list[int]
) -> None:
    """The rest of the passes are no larger, the log says so, and no take is harmed."""
    counting = CountingUNet(parts.unet, max_rows=bears)
    with caplog.at_level(logging.WARNING, logger="ambientgen"):
        made = share(parts, counting)
    assert counting.batches[: len(batches)] == batches
    assert sum(counting.batches) == 9 + 9 + 9 + 4 + 2
    told = [record.getMessage() for record in caplog.records if "out of memory" in record.getMessage()]
    assert told[-1].endswith(f"at most {batches[0]}")
    assert len(told) == {8: 1, 3: 2, 1: 3}[bears]
    for name, latents in alone.items():
        assert difference(made[name], latents) <= 1e-5, name


def test_where_not_even_one_row_fits_the_error_is_the_devices(parts: Parts) -> None:
    """The takes have not changed, and can go on where there is memory again."""
    import torch

    take = parts.begin(WindowPlan.line(64))
    denoiser = Denoiser(CountingUNet(parts.unet, max_rows=0), max_rows=8)
    with pytest.raises(torch.OutOfMemoryError):
        advance(denoiser, [take])
    assert take.step == 0
    assert np.array_equal(finish(parts.unet, take).latents, parts.latents(WindowPlan.line(64)))


def test_larger_calls_come_back_when_there_is_memory_again(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    """Now and then twice as many rows are tried; while others use the memory that costs a failed call and no take."""
    monkeypatch.setattr(sampling, "_RETRY_PASSES", 10)
    counting = CountingUNet(lambda rows: rows.sample, max_rows=2)
    denoiser = Denoiser(counting, max_rows=8)
    takes = [parts.begin(WindowPlan.line(64), num_steps=60, seed=seed) for seed in range(4)]
    for _ in range(25):
        advance(denoiser, takes)
    assert counting.refused == [8, 4, 4, 4]
    assert counting.batches == [2] * (25 * 4)
    counting.max_rows = 8
    for _ in range(25):
        advance(denoiser, takes)
    assert counting.batches[-1] == 8


def test_another_error_is_not_mistaken_for_memory(parts: Parts) -> None:
    """It is raised at the first call, with the batch as large as it was."""
    counting = CountingUNet(parts.unet)

    def broken(rows: Rows) -> Any:
        counting(rows)
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    denoiser = Denoiser(broken, max_rows=8)
    with pytest.raises(RuntimeError, match="mat1"):
        advance(denoiser, [parts.begin(WindowPlan.line(64))])
    assert counting.batches == [2]
    assert denoiser.max_rows == 8


# ---------------------------------------------------------------------- long takes and loops


@pytest.mark.parametrize("guidance_scale", [1.0, 6.0])
@pytest.mark.parametrize("plan", [WindowPlan.line(300), WindowPlan.circle(300), WindowPlan.circle(100)], ids=str)
def test_windows_are_averaged_at_every_step(parts: Parts, plan: WindowPlan, guidance_scale: float) -> None:
    """The loop written out for one window at a time: denoise each, fade them over, step; a circle turned before."""
    import diffusers
    import torch

    scheduler = diffusers.DDIMScheduler.from_config(parts.pipeline.scheduler.config)
    scheduler.set_timesteps(3)
    conditioning = parts.conditioner.encode(PROMPT, "music" if guidance_scale > 1 else None)
    latents = torch.randn((1, 4, plan.num_frames, 4), generator=torch.Generator().manual_seed(7))
    # Both plans' neighbors share the same stretch on either side; in 100 frames a window of 128 meets itself.
    shared = 48 if not plan.circular else plan.window_frames - plan.num_frames // plan.num_windows
    for number, timestep in enumerate(scheduler.timesteps):
        turn = int((number * 0.6180339887498949) % 1 * plan.num_frames) if plan.circular else 0
        turned = torch.roll(latents, -turn, dims=2)
        total, weights = torch.zeros_like(latents), torch.zeros(plan.num_frames)
        for start in plan.starts:
            frames = torch.arange(start, start + plan.window_frames) % plan.num_frames
            answers = [
                parts.pipeline.unet(
                    turned[:, :, frames],
                    timestep,
                    encoder_hidden_states=conditioning.generated[row : row + 1],
                    encoder_hidden_states_1=conditioning.text[row : row + 1],
                    encoder_attention_mask_1=conditioning.mask[row : row + 1],
                ).sample
                for row in range(len(conditioning.generated))
            ]
            answer = answers[0] + guidance_scale * (answers[-1] - answers[0]) if len(answers) == 2 else answers[0]
            for place, frame in enumerate(frames.tolist()):
                weight = min(1.0, (place + 0.5) / shared, (plan.window_frames - place - 0.5) / shared)
                first, last = start == 0, start == plan.starts[-1]
                if not plan.circular and ((first and place < 48) or (last and place >= 208)):
                    weight = 1.0  # the ends of a line have no neighbor
                total[:, :, frame] += weight * answer[:, :, place]
                weights[frame] += weight
        prediction = torch.roll(total / weights[:, None], turn, dims=2)
        latents = scheduler.step(prediction, timestep, latents).prev_sample
    made = parts.latents(plan, guidance_scale=guidance_scale)
    assert difference(made, latents) <= 1e-5


@pytest.mark.parametrize("scheduler", ["DDIMScheduler", "EulerDiscreteScheduler", "DPMSolverMultistepScheduler"])
@pytest.mark.parametrize(
    "plan",
    [WindowPlan.line(100), WindowPlan.line(600), WindowPlan.circle(50), WindowPlan.circle(100), WindowPlan.circle(500)],
    ids=str,
)
def test_what_passes_through_stays_what_it_is(parts: Parts, plan: WindowPlan, scheduler: str) -> None:
    """A UNet that answers with what it sees: windows, blending and turning leave no frame different from another."""
    import torch

    take = parts.begin(plan, scheduler=scheduler)
    tone = torch.sin(2 * torch.pi * 3 * torch.arange(plan.num_frames) / plan.num_frames)  # it joins its beginning
    take.latents = (tone[:, None] + torch.tensor([2.0, 3.0, 5.0, 7.0])).expand(1, 4, -1, -1)
    before = take.latents.clone()
    after = finish(lambda rows: rows.sample, take).latents
    ratio = after / before
    assert abs(ratio.mean() - 1) > 0.01  # something was done
    assert difference(ratio, ratio.mean().expand_as(ratio)) <= 1e-5


@pytest.mark.parametrize("plan", [WindowPlan.line(64), WindowPlan.line(600), WindowPlan.circle(300)], ids=str)
def test_a_pass_has_a_row_for_each_window_of_each_prompt(parts: Parts, plan: WindowPlan) -> None:
    """Negative prompt's windows first, in order; the rows' text, mask and timestep go with them."""
    take = parts.begin(plan)
    rows = Denoiser(parts.unet, 64).rows([take])
    assert take.num_rows == len(rows) == 2 * plan.num_windows
    assert np.array_equal(rows.sample[: plan.num_windows], rows.sample[plan.num_windows :])
    for number in range(len(rows)):
        row = number // plan.num_windows
        assert np.array_equal(rows.text[number], take.conditioning.text[row])
        assert np.array_equal(rows.mask[number], take.conditioning.mask[row])
        assert np.array_equal(rows.generated[number], take.conditioning.generated[row])
        assert rows.timesteps[number] == take.row_timesteps()[number] == 667
    for window, start in enumerate(plan.starts):
        frames = np.arange(start, start + plan.window_frames) % plan.num_frames
        assert np.array_equal(rows.sample[window], take.latents[0][:, frames])


def test_the_unets_cost_is_linear_in_the_length(parts: Parts) -> None:
    """A step of a minute costs at most 7.1 times one of 10.24 s, counted in its operations; in one shot it is more."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    num_flops = 0

    def counting(rows: Rows) -> Any:
        nonlocal num_flops
        # Attention written out: the counter does not know the CPU's own kernel.
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            answer = parts.unet(rows)
        num_flops += counter.get_total_flops()
        return answer

    costs = []
    for num_frames in (256, 1_500):
        num_flops = 0
        advance(Denoiser(counting, 64), [parts.begin(WindowPlan.line(num_frames))])
        costs.append(num_flops)
    assert 0 < costs[1] <= 7.1 * costs[0]
    rows = Denoiser(parts.unet, 64).rows([parts.begin(WindowPlan.line(256))])
    num_flops = 0
    counting(Rows(torch.randn(2, 4, 1_504, 4), rows.timesteps, rows.generated, rows.text, rows.mask))
    assert num_flops > 7.1 * costs[0]


def test_a_long_take_is_one_piece(parts: Parts) -> None:
    """Where windows meet the latent is as strong as elsewhere, and the sound's seams are drawn from its own changes."""
    import torch

    plan, borders = WindowPlan.line(600), (208, 256, 416, 464)
    strengths, seams = [], []
    for seed in range(4):
        latents = parts.latents(plan, seed=seed)
        samples = parts.decoder.decode(latents, plan, 600).numpy()
        meeting = torch.cat([latents[:, :, 208:256], latents[:, :, 416:464]])
        strengths.append(float(meeting.std() / latents.std()))
        seams += [measure_seam(Clip(np.roll(samples, -border * 640, axis=1), 16_000)) for border in borders]
    assert sum(seam.clean for seam in seams) >= 0.95 * len(seams)
    assert 30 < np.mean([seam.flux_percentile for seam in seams]) < 70
    assert 0.95 < np.mean(strengths) < 1.05

    # Windows made each on its own and faded over afterwards: they would sag where they meet.
    pieces = torch.cat([parts.latents(WindowPlan.line(256), seed=seed) for seed in range(3)])
    faded = blend(pieces, plan)
    assert torch.cat([faded[:, :, 208:256], faded[:, :, 416:464]]).std() < 0.9 * faded.std()


def test_takes_begin_with_the_noise_of_their_seed(parts: Parts) -> None:
    """The same seed is the same noise, whatever else is asked; another seed is another."""

    def noise(**settings: Any) -> Any:
        take: Sampling = parts.begin(WindowPlan.line(128), **settings)
        return take.latents

    first = noise(seed=1)
    assert np.array_equal(first, noise(seed=1, prompt="fire", guidance_scale=1.0, num_steps=9))
    assert not np.array_equal(first, noise(seed=2))
