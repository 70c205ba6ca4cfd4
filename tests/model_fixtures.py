"""Fixtures for tests that need a model."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny_model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny random AudioLDM2 checkpoint, built once; skips where the model's packages are missing.

    Tests may read it, not change it.
    """
    for package in ("torch", "diffusers", "transformers"):
        pytest.importorskip(package)
    import tiny_model
    import torch

    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("models") / "tiny-audioldm2"
    tiny_model.build(path)
    return path


@pytest.fixture(scope="session")
def tiny_stable_audio_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny random Stable Audio checkpoint, built once; skips where the model's packages are missing.

    Tests may read it, not change it.
    """
    for package in ("torch", "diffusers", "transformers", "torchsde"):
        pytest.importorskip(package)
    import tiny_stable_audio
    import torch

    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("models") / "tiny-stable-audio"
    tiny_stable_audio.build(path)
    return path
