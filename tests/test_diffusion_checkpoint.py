"""Where a checkpoint's parts live when the device is too small for all of them."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from diffusion_world import MODELS, TEXT_MODELS, load_parts

from ambientgen.diffusion.checkpoint import Checkpoint


class Part:
    """A part that is asked to move."""

    def __init__(self, name: str, device: Device) -> None:
        self.name = name
        self.place: Any = None
        self._device = device

    def to(self, place: Any) -> None:
        """Go there."""
        self._device.taken.discard(self.name)
        if place is self._device:
            if len(self._device.taken) == self._device.num_fitting:
                raise RuntimeError("MPS backend out of memory")
            self._device.taken.add(self.name)
        self.place = place


class Device:
    """A device that has room for some parts."""

    type = "mps"

    def __init__(self, num_fitting: int) -> None:
        self.num_fitting = num_fitting
        self.taken: set[str] = set()


def place(num_fitting: int) -> tuple[Checkpoint, dict[str, Part]]:
    """A checkpoint on a device of that size."""
    device = Device(num_fitting)
    parts = {name: Part(name, device) for name in MODELS}
    return Checkpoint(SimpleNamespace(**parts), device), parts


def on_cpu(parts: dict[str, Part]) -> set[str]:
    """The names of the parts that are there."""
    return {name for name, part in parts.items() if part.place == "cpu"}


@pytest.fixture(autouse=True)
def _torch() -> None:
    pytest.importorskip("torch")


@pytest.mark.parametrize(
    ("num_fitting", "moved"), [(7, set()), (6, set(TEXT_MODELS)), (3, set(TEXT_MODELS)), (1, {*MODELS} - {"unet"})]
)
def test_what_does_not_fit_goes_to_the_cpu(num_fitting: int, moved: set[str], caplog: pytest.LogCaptureFixture) -> None:
    """The text models first, then the decoders, the UNet never; the log says which."""
    with caplog.at_level(logging.WARNING, logger="ambientgen"):
        _, parts = place(num_fitting)
    assert on_cpu(parts) == moved
    assert all(part.place is not None for part in parts.values())
    assert {name for name in moved if name in caplog.text} == moved


def test_where_not_even_the_unet_fits_loading_fails() -> None:
    """With the device's own error, which the engine has words for."""
    with pytest.raises(RuntimeError, match="out of memory"):
        place(0)


def test_room_is_made_group_by_group() -> None:
    """While serving too: text models, decoders, then there is nothing left to move."""
    checkpoint, parts = place(7)
    assert checkpoint.make_room()
    assert on_cpu(parts) == set(TEXT_MODELS)
    assert checkpoint.make_room()
    assert on_cpu(parts) == {*MODELS} - {"unet"}
    assert not checkpoint.make_room()


def test_another_error_while_placing_is_not_mistaken_for_memory() -> None:
    """It is raised as it is, and nothing moves."""
    device = Device(7)
    parts = {name: Part(name, device) for name in MODELS}

    def broken(_place: Any) -> None:
        raise RuntimeError("no kernel image is available for execution on the device")

    parts["unet"].to = broken  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="kernel image"):
        Checkpoint(SimpleNamespace(**parts), device)
    assert on_cpu(parts) == set()


def test_full_precision_of_the_text_models_ends(tiny_model_path: Path) -> None:
    """Inside they are float32, afterwards what they were, also after an error; the other parts stay as they are."""
    import torch

    pipeline = load_parts(tiny_model_path).pipeline
    pipeline.unet.to(torch.bfloat16)
    for name in TEXT_MODELS:
        getattr(pipeline, name).to(torch.bfloat16)
    checkpoint = Checkpoint(pipeline, torch.device("cpu"))

    def fail_inside() -> None:
        with checkpoint.text_models_in_full_precision():
            assert {model.dtype for model in checkpoint.text_models} == {torch.float32}
            assert pipeline.unet.dtype == torch.bfloat16
            raise KeyError

    with pytest.raises(KeyError):
        fail_inside()
    assert {model.dtype for model in checkpoint.text_models} == {torch.bfloat16}
    assert not checkpoint.make_room()  # on a CPU there is nowhere to go
