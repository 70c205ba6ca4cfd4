"""Windows: they cover every frame, their answers add up, and their number grows with the length and no faster."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ambientgen.diffusion.windows import WINDOW_FRAMES, WindowPlan, blend, gather

LONGEST, OVERLAP, STRIDE = 256, 48, 208

lines = st.builds(WindowPlan.line, st.integers(1, 1_600))
circles = st.builds(WindowPlan.circle, st.integers(1, 1_600))
# Their matrices of weights are smaller.
short_plans = st.one_of(
    st.builds(WindowPlan.line, st.integers(1, 700)), st.builds(WindowPlan.circle, st.integers(1, 700))
)


@given(st.one_of(lines, circles))
def test_windows_cover_every_frame(plan: WindowPlan) -> None:
    """Each frame lies in a window, no window reaches beyond the latent, and all have one of the four lengths."""
    frames = plan.frames()
    assert frames.shape == (plan.num_windows, plan.window_frames)
    assert np.array_equal(np.unique(frames), np.arange(plan.num_frames))
    assert plan.window_frames in WINDOW_FRAMES
    # Within a window time runs on frame by frame, on a circle across its end.
    steps = np.diff(frames, axis=1)
    assert np.isin(steps, [1, 1 - plan.num_frames] if plan.circular else [1]).all()


@given(st.integers(1, 1_600), st.booleans())
def test_a_plan_is_no_larger_than_it_must_be(num_frames: int, circular: bool) -> None:
    """What fits into one window gets the smallest; a line is at most a window longer, a circle is exact."""
    plan = WindowPlan.circle(num_frames) if circular else WindowPlan.line(num_frames)
    if num_frames <= LONGEST:
        assert plan.starts == (0,)
        assert plan.window_frames == min(window for window in WINDOW_FRAMES if window >= num_frames)
    else:
        assert plan.window_frames == LONGEST
        assert plan.num_windows <= 1 + num_frames / STRIDE
    if circular:
        assert plan.num_frames == num_frames
    else:
        assert num_frames <= plan.num_frames < num_frames + LONGEST
        assert plan.whole == (plan.num_windows == 1)


@given(st.integers(LONGEST + 1, 3_000))
def test_neighbors_share_enough(num_frames: int) -> None:
    """Windows of a line share 1.92 s, windows of a circle at least that, across the seam too."""
    line, circle = WindowPlan.line(num_frames), WindowPlan.circle(num_frames)
    assert {late - early for early, late in itertools.pairwise(line.starts)} == {STRIDE}
    gaps = [late - early for early, late in itertools.pairwise((*circle.starts, num_frames))]
    assert max(gaps) <= LONGEST - OVERLAP
    assert max(gaps) - min(gaps) <= 1


def test_a_minute_is_seven_windows() -> None:
    """60 s are 1,500 latent frames: seven windows of 256 that share 48 where they meet."""
    plan = WindowPlan.line(1_500)
    assert (plan.num_windows, plan.window_frames) == (7, 256)
    assert plan.starts == (0, 208, 416, 624, 832, 1_040, 1_248)
    assert WindowPlan.circle(1_500).num_windows == 8


@settings(max_examples=40, deadline=None)
@given(short_plans)
def test_weights_add_up_to_one(plan: WindowPlan) -> None:
    """Where all windows say one, so does the whole; no weight is negative."""
    torch = pytest.importorskip("torch")
    ones = torch.ones(plan.num_windows, 1, plan.window_frames, 1)
    assert torch.allclose(blend(ones, plan), torch.ones(1, 1, plan.num_frames, 1), rtol=0, atol=1e-6)
    some = torch.rand(ones.shape, generator=torch.Generator().manual_seed(plan.num_frames))
    blended = blend(some, plan)
    assert blended.min() >= -1e-6
    assert blended.max() <= 1 + 1e-6


@settings(max_examples=40, deadline=None)
@given(short_plans)
def test_blending_undoes_gathering(plan: WindowPlan) -> None:
    """A signal that passes through the windows unchanged comes out unchanged, wherever it is cut."""
    torch = pytest.importorskip("torch")
    signal = torch.randn((1, 3, plan.num_frames, 2), generator=torch.Generator().manual_seed(plan.num_frames))
    windows = gather(signal, plan)
    assert windows.shape == (plan.num_windows, 3, plan.window_frames, 2)
    for window, frames in zip(windows, plan.frames(), strict=True):
        assert torch.equal(window, signal[0][:, torch.from_numpy(frames)])
    assert torch.allclose(blend(windows, plan), signal, rtol=0, atol=1e-5)


@pytest.mark.parametrize("plan", [WindowPlan.line(700), WindowPlan.circle(300), WindowPlan.circle(700)], ids=str)
def test_no_window_sets_in_at_once(plan: WindowPlan) -> None:
    """Each window's share rises and falls in small steps, and in its middle there is no other."""
    torch = pytest.importorskip("torch")
    for index in range(plan.num_windows):
        alone = torch.zeros(plan.num_windows, 1, plan.window_frames, 1)
        alone[index] = 1
        share = blend(alone, plan).flatten()
        steps = torch.diff(share, append=share[:1] if plan.circular else share[-1:])
        assert steps.abs().max() <= 1.001 / OVERLAP
        assert share.max() > 0.99


@given(st.one_of(lines, circles), st.sampled_from([2, 4]))
def test_a_plan_can_be_scaled(plan: WindowPlan, factor: int) -> None:
    """The mel spectrogram has four frames for each of the latent's: the same windows, finer."""
    finer = plan.scaled(factor)
    expected = plan.frames()[:, :, None] * factor + np.arange(factor)
    assert np.array_equal(finer.frames(), expected.reshape(plan.num_windows, -1))
    assert (finer.num_frames, finer.circular) == (plan.num_frames * factor, plan.circular)


@pytest.mark.parametrize("num_frames", [50, 100, 256, 400])
@pytest.mark.parametrize("num_steps", [5, 20, 50])
def test_the_seam_of_a_circle_moves_everywhere(num_frames: int, num_steps: int) -> None:
    """Over a take's steps the seams lie spread out: no stretch longer than 2.7 even shares is left without one."""
    plan = WindowPlan.circle(num_frames)
    seams = sorted({plan.turn(step) for step in range(num_steps)})
    assert seams[0] == 0
    assert seams[-1] < num_frames
    gaps = np.diff([*seams, num_frames])
    assert gaps.max() <= 2.7 * num_frames / num_steps + 1
    assert {WindowPlan.line(num_frames).turn(step) for step in range(num_steps)} == {0}
