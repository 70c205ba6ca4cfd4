"""A CLAP that judges clips of every engine, taken out of an AudioLDM2 checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from ambientgen.audio.clip import Clip
from ambientgen.diffusion.devices import import_torch
from ambientgen.diffusion.ranking import similarity
from ambientgen.errors import ModelMissingError


class Judge:
    """The CLAP of a checkpoint, on the CPU and in float32: the same clip gets the same score on every machine.

    Args:
        folder: of an AudioLDM2 pipeline.
        name: the model's public name.
        fingerprint: of its weights.

    Attributes:
        name: as given.
        fingerprint: as given.
    """

    def __init__(self, folder: Path, name: str, fingerprint: str) -> None:
        self.name = name
        self.fingerprint = fingerprint
        self._folder = folder
        self._parts: Any = None

    def score(self, clip: Clip, words: str) -> float:
        """How well a clip fits the words, -1 to 1.

        Args:
            clip: any channels and rate; its first 10 s count.
            words: the scene.

        Raises:
            ModelMissingError: if the CLAP cannot be loaded.
        """
        if self._parts is None:
            self._parts = _load(self._folder)
        mono = Clip(clip.samples.mean(axis=0, keepdims=True, dtype=np.float32), clip.sample_rate_hz)
        with import_torch().no_grad():
            return round(similarity(self._parts, mono, words), 5)


def has_clap(folder: Path) -> bool:
    """True if a pipeline's folder holds a CLAP."""
    try:
        index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
        return bool(index["text_encoder"][1] == "ClapModel")
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return False


def _load(folder: Path) -> Any:
    torch = import_torch()
    try:
        from transformers import AutoTokenizer, ClapFeatureExtractor, ClapModel

        return SimpleNamespace(
            text_encoder=ClapModel.from_pretrained(
                folder, subfolder="text_encoder", dtype=torch.float32, local_files_only=True
            ).eval(),
            tokenizer=AutoTokenizer.from_pretrained(folder, subfolder="tokenizer", local_files_only=True),
            feature_extractor=ClapFeatureExtractor.from_pretrained(
                folder, subfolder="feature_extractor", local_files_only=True
            ),
        )
    except Exception as error:
        raise ModelMissingError("The model's CLAP cannot be loaded, so there is no CLAP score.") from error
