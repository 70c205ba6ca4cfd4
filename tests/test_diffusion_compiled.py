"""The compiled UNet: nothing new is compiled while serving, and whatever fails, the plain call serves."""

from __future__ import annotations

import itertools
import logging
import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from diffusion_world import counted_calls, difference, load_parts

from ambientgen.diffusion import compiled
from ambientgen.diffusion.compiled import CompiledUNet, plain_unet
from ambientgen.diffusion.sampling import Rows

_numbers = itertools.count()


@pytest.fixture(autouse=True)
def _no_gradients(tiny_model_path: Path) -> Iterator[None]:
    """As the engine runs it: compiled code is for one or the other. Where there is no torch, nothing runs."""
    import torch

    assert tiny_model_path.exists()
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def unet(tiny_model_path: Path) -> Any:
    """The tiny UNet with cross-attention in its middle only: it compiles in half the time."""
    from diffusers import AudioLDM2UNet2DConditionModel

    config = load_parts(tiny_model_path).pipeline.unet.config
    blocks = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}
    return AudioLDM2UNet2DConditionModel.from_config(config, **blocks).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def ready(unet: Any) -> CompiledUNet:
    """The UNet compiled for two of the window lengths."""
    ready = CompiledUNet(unet, backend="aot_eager", graphs=False)
    ready.warm_up([random_rows(2, 12, window) for window in (128, 64)])
    assert ready.wait(300.0)
    return ready


@pytest.fixture(scope="module")
def small() -> Any:
    """A module that is called as the UNet is and compiles at once."""
    import torch

    class Small(torch.nn.Module):
        dtype = torch.float32

        def forward(
            self,
            sample: Any,
            timestep: Any,
            encoder_hidden_states: Any,
            encoder_hidden_states_1: Any,
            encoder_attention_mask_1: Any,
            return_dict: bool,
        ) -> Any:
            assert not return_dict
            texts = (encoder_hidden_states_1 * encoder_attention_mask_1[:, :, None]).sum(dim=(1, 2))
            shift = timestep + texts + encoder_hidden_states.sum(dim=(1, 2))
            return (2.0 * sample + shift[:, None, None, None],)

    return Small()


def random_rows(num_rows: int, num_tokens: int, window: int, seed: int = 0) -> Rows:
    """Rows of that shape; texts of different length are masked."""
    import torch

    random_numbers = torch.Generator().manual_seed(seed)
    mask = torch.ones(num_rows, num_tokens, dtype=torch.int64)
    for row in range(1, num_rows):
        mask[row, 1 + (7 * row + seed) % num_tokens :] = 0
    return Rows(
        torch.randn(num_rows, 4, window, 4, generator=random_numbers),
        torch.randint(0, 1_000, (num_rows,), generator=random_numbers).float(),
        torch.randn(num_rows, 8, 16, generator=random_numbers),
        torch.randn(num_rows, num_tokens, 24, generator=random_numbers),
        mask,
    )


def registered(backend: Callable[[Any, Any], Any]) -> str:
    """The name under which torch now knows the backend."""
    import torch

    name = f"test_backend_{next(_numbers)}"
    torch._dynamo.register_backend(name=name)(backend)
    return name


# ---------------------------------------------------------------------- compiling


def test_a_mixture_of_requests_compiles_nothing_new(unet: Any, ready: CompiledUNet) -> None:
    """One compilation a window length; 200 calls of any rows and tokens make no other, and the answers are the same."""
    assert ready.ready_windows == {64, 128}
    assert ready.num_compilations == 2
    plain, chance = plain_unet(unet), random.Random(0)
    for number in range(200):
        rows = random_rows(chance.randint(2, 10), chance.randint(5, 40), chance.choice([64, 128]), seed=number)
        with counted_calls(unet) as plain_calls:
            answer = ready(rows)
        assert plain_calls == []
        assert ready.num_compilations == 2
        if number % 4 == 0:
            assert difference(answer, plain(rows)) <= 1e-5


@pytest.mark.parametrize(("num_rows", "window"), [(4, 192), (4, 256), (1, 64)])
def test_what_was_not_warmed_up_is_served_plainly(unet: Any, ready: CompiledUNet, num_rows: int, window: int) -> None:
    """Another window, and a single row, for which the compiled code is not made: no compilation, the plain answer."""
    rows = random_rows(num_rows, 12, window)
    with counted_calls(unet) as plain_calls:
        answer = ready(rows)
    assert plain_calls == [unet]
    assert ready.num_compilations == 2
    assert difference(answer, plain_unet(unet)(rows)) == 0


def test_a_backend_that_fails_leaves_it_serving_plainly(small: Any, caplog: pytest.LogCaptureFixture) -> None:
    """It is tried once, the log says so, and calls go on."""
    tried: list[int] = []

    def refuse(_graph: Any, _inputs: Any) -> Any:
        tried.append(1)
        raise ValueError("no compiler found")

    unet = CompiledUNet(small, backend=registered(refuse), graphs=False)
    with caplog.at_level(logging.WARNING, logger="ambientgen"):
        unet.warm_up([random_rows(2, 12, 128), random_rows(2, 12, 64)])
        assert unet.wait(60.0)
    assert tried == [1]
    assert unet.ready_windows == frozenset()
    (record,) = caplog.records
    assert "cannot be compiled here" in record.getMessage()
    rows = random_rows(3, 12, 128)
    with counted_calls(small) as plain_calls:
        assert difference(unet(rows), plain_unet(small)(rows)) == 0
    assert len(plain_calls) == 2


def test_calls_go_on_while_it_compiles(small: Any) -> None:
    """The compilation waits in its own thread; calls are served plainly until it is done, compiled from then on."""
    compiling, may_go_on = threading.Event(), threading.Event()

    def slow(graph: Any, _inputs: Any) -> Any:
        compiling.set()
        assert may_go_on.wait(60.0)
        return graph.forward

    unet, rows = CompiledUNet(small, backend=registered(slow), graphs=False), random_rows(3, 12, 64)
    expected = plain_unet(small)(rows)
    unet.warm_up([random_rows(2, 9, 64)])
    try:
        assert compiling.wait(60.0)
        assert not unet.wait(0.0)
        assert unet.ready_windows == frozenset()
        with counted_calls(small) as plain_calls:
            assert difference(unet(rows), expected) == 0
        assert plain_calls == [small]
    finally:
        may_go_on.set()
    assert unet.wait(60.0)
    assert unet.ready_windows == {64}
    with counted_calls(small) as plain_calls:
        assert difference(unet(rows), expected) <= 1e-6
    assert plain_calls == []


def test_closing_stops_the_warm_up_after_the_shape_at_hand(small: Any) -> None:
    """A bot that shuts down or unloads does not wait for the others."""
    compiling, may_go_on = threading.Event(), threading.Event()

    def slow(graph: Any, _inputs: Any) -> Any:
        compiling.set()
        assert may_go_on.wait(60.0)
        return graph.forward

    unet = CompiledUNet(small, backend=registered(slow), graphs=False)
    unet.warm_up([random_rows(2, 12, window) for window in (256, 192, 128, 64)])
    assert compiling.wait(60.0)
    unet.close()
    may_go_on.set()
    assert unet.wait(60.0)
    assert unet.num_compilations == 1
    assert unet.ready_windows == {256}


def test_without_a_backend_nothing_is_compiled(small: Any) -> None:
    """Warming up is nothing to wait for, and every call is plain."""
    unet = CompiledUNet(small, backend=None, graphs=False)
    unet.warm_up([random_rows(2, 12, 64)])
    assert unet.wait(0.0)
    assert (unet.num_compilations, unet.ready_windows) == (0, frozenset())
    rows = random_rows(2, 12, 64)
    assert difference(unet(rows), plain_unet(small)(rows)) == 0


# ---------------------------------------------------------------------- recorded graphs


class Recording:
    """In place of a CUDA graph, which needs a GPU: like one, it takes its own shape and no other."""

    made: list[tuple[int, ...]]

    def __init__(self, function: Callable[[Rows], Any], rows: Rows, *_memory: Any) -> None:
        self._function = function
        self._shapes = self._shapes_of(rows)
        self.made.append((len(rows), rows.sample.shape[2], rows.text.shape[1]))

    def __call__(self, rows: Rows) -> Any:
        """The function's answer."""
        assert self._shapes_of(rows) == self._shapes
        return self._function(rows)

    @staticmethod
    def _shapes_of(rows: Rows) -> list[Any]:
        return [tensor.shape for tensor in (rows.sample, rows.timesteps, rows.generated, rows.text, rows.mask)]


@pytest.fixture
def recordings(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Rows, window and tokens of what was recorded."""
    import torch

    monkeypatch.setattr(Recording, "made", [], raising=False)
    monkeypatch.setattr(compiled, "_Graph", Recording)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 0))
    return Recording.made


def test_padding_for_a_graph_changes_no_answer(tiny_model_path: Path, recordings: list[tuple[int, ...]]) -> None:
    """Any rows and tokens come down to a few recorded shapes, and each row's answer is what it is without padding."""
    unet = load_parts(tiny_model_path).pipeline.unet
    graphed, plain = CompiledUNet(unet, backend=None, graphs=True), plain_unet(unet)
    for num_rows, num_tokens in itertools.product([1, 2, 3, 5, 9], [1, 32, 33]):
        rows = random_rows(num_rows, num_tokens, 64, seed=num_rows * num_tokens)
        answer = graphed(rows)
        assert answer.shape == rows.sample.shape
        assert difference(answer, plain(rows)) <= 1e-5
    assert sorted(recordings) == [(rows, 64, tokens) for rows in (2, 4, 6, 10) for tokens in (32, 64)]
    pads = [len(compiled._pad_for_graph(random_rows(rows, 5, 64))) for rows in (2, 6, 14, 17, 33, 64, 70)]
    assert pads == [2, 6, 14, 20, 40, 64, 70]  # a take, three candidates and a minute cost nothing more


def test_each_window_has_its_own_recording_and_closing_lets_go(small: Any, recordings: list[tuple[int, ...]]) -> None:
    """A shape is recorded at its first call; after `close`, which gives the memory back, at the first call again."""
    unet = CompiledUNet(small, backend=None, graphs=True)
    for window in (64, 128, 64, 128):
        unet(random_rows(2, 12, window))
    assert recordings == [(2, 64, 32), (2, 128, 32)]
    unet.close()
    unet(random_rows(2, 12, 64))
    assert len(recordings) == 3


def test_recordings_are_bounded(small: Any, recordings: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are too many the oldest is let go, and recorded anew when it is needed."""
    monkeypatch.setattr(compiled, "_MAX_GRAPHS", 2)
    unet = CompiledUNet(small, backend=None, graphs=True)
    for num_rows in (2, 4, 6, 6, 4, 2):
        unet(random_rows(num_rows, 12, 64))
    assert [rows for rows, *_ in recordings] == [2, 4, 6, 2]
    assert unet.forget_recordings()
    assert not unet.forget_recordings()


def test_nothing_is_recorded_while_the_warm_up_compiles(small: Any, recordings: list[tuple[int, ...]]) -> None:
    """Another thread's work on the GPU would spoil a recording; once it is done, the compiled code is recorded."""
    may_go_on = threading.Event()

    def slow(graph: Any, _inputs: Any) -> Any:
        may_go_on.wait(20.0)
        return graph.forward

    unet, rows = CompiledUNet(small, backend=registered(slow), graphs=True), random_rows(4, 32, 64)
    unet.warm_up([random_rows(2, 9, 64)])
    plain = plain_unet(small)(rows)
    assert difference(unet(rows), plain) == 0
    assert recordings == []
    may_go_on.set()
    assert unet.wait(20.0)
    assert difference(unet(rows), plain) <= 1e-6
    assert recordings == [(4, 64, 32)]


def test_compiled_code_that_fails_gives_way_to_the_plain_call(small: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever the compiled code raises at a later shape, the take is served, and so is every one after it."""

    def brittle(graph: Any, _inputs: Any) -> Any:
        def run(*inputs: Any) -> Any:
            if any(getattr(tensor, "shape", (0,))[:1] == (3,) for tensor in inputs):
                raise ValueError("three is too many")
            return graph.forward(*inputs)

        return run

    unet = CompiledUNet(small, backend=registered(brittle), graphs=False)
    unet.warm_up([random_rows(2, 12, 64)])
    assert unet.wait(20.0)
    assert unet.ready_windows == {64}
    with caplog.at_level(logging.WARNING, logger="ambientgen"):
        for num_rows in (2, 3, 3, 2):
            rows = random_rows(num_rows, 12, 64)
            assert difference(unet(rows), plain_unet(small)(rows)) <= 1e-6
    assert unet.ready_windows == frozenset()
    told = [record.getMessage() for record in caplog.records]
    assert [message for message in told if "runs uncompiled" in message] == told[-1:]


def test_where_graphs_do_not_work_the_call_is_plain(small: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Here there is no GPU to record on: that is said once, and the answer is the same."""
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU to record on")
    unet, rows = CompiledUNet(small, backend=None, graphs=True), random_rows(3, 12, 64)
    with caplog.at_level(logging.WARNING, logger="ambientgen"):
        for _ in range(3):
            assert difference(unet(rows), plain_unet(small)(rows)) == 0
    (record,) = caplog.records
    assert "CUDA graphs do not work here" in record.getMessage()


def test_running_out_of_memory_is_no_fault_of_the_graphs(
    small: Any, recordings: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is raised, so that the batch is halved, and graphs go on."""
    import torch

    unet = CompiledUNet(small, backend=None, graphs=True)

    def exhausted(*_args: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with monkeypatch.context() as patch:
        patch.setattr(compiled, "_Graph", exhausted)
        with pytest.raises(torch.OutOfMemoryError):
            unet(random_rows(4, 12, 64))
    unet(random_rows(2, 12, 64))
    assert recordings == [(2, 64, 32)]
