"""What the engines with weights share: finding and loading a model, and words for what goes wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ambientgen import models
from ambientgen.diffusion.devices import is_out_of_memory, let_go
from ambientgen.engines.base import Progress, Report
from ambientgen.errors import EngineError, GenerationCancelled, ModelMissingError, OutOfMemoryError
from ambientgen.recipe import Layer

_MAX_CANDIDATES = 8


class DroppedError(Exception):
    """The feed no longer wants a take. Raised inside the model's calls: they have no other way to stop."""


@dataclass(frozen=True, slots=True)
class Weights:
    """A model on this machine.

    Attributes:
        model: hub id or local folder.
        extra: the extra of AmbientGen that holds its packages.
        packages_cure, files_cure: what to do where packages or files are missing, as the end of "...: CURE."
    """

    model: str
    extra: str
    packages_cure: str
    files_cure: str

    @property
    def name(self) -> str:
        """For recipes and messages; never a path."""
        return models.public_name(self.model)

    def installed(self) -> bool:
        """True if the packages and the complete weights are here. Looks only: no import, no network."""
        return not models.missing_packages(self.extra) and models.is_complete(self.model)

    def folder(self) -> Path:
        """Where the files are.

        Raises:
            ModelMissingError: if packages or files are missing, or a file is not whole.
        """
        missing = models.missing_packages(self.extra)
        if missing:
            raise ModelMissingError(
                f"The model's packages are not installed ({', '.join(missing)}): {self.packages_cure}."
            )
        folder = models.find(self.model)
        if folder is None:
            raise ModelMissingError(f"The model `{self.name}` is not on this machine: {self.files_cure}.")
        faults = models.faults(folder)
        if faults:
            raise ModelMissingError(
                f"The files of the model `{self.name}` are incomplete or damaged ({faults[0]}): {self.files_cure}."
            )
        return folder

    @contextmanager
    def importing(self) -> Iterator[None]:
        """Whatever an import raises inside is a `ModelMissingError`."""
        try:
            yield
        except ModelMissingError:
            raise
        except Exception as error:
            raise ModelMissingError(f"The model's packages cannot be imported: {self.packages_cure}.") from error

    @contextmanager
    def loading(self, device: Any) -> Iterator[None]:
        """Whatever loading raises inside is an `EngineError` with words.

        Args:
            device: the torch device that it goes to.
        """
        try:
            yield
        except (EngineError, GenerationCancelled):
            raise
        except Exception as error:
            let_go(error)
            if is_out_of_memory(error):
                raise OutOfMemoryError(
                    f"The model does not fit into the free memory of the device `{device.type}`. Close other programs "
                    "that use it, or run the engine on another device."
                ) from error
            raise ModelMissingError(
                f"The files of the model `{self.name}` are damaged or do not fit the installed packages: "
                f"{self.files_cure}."
            ) from error


def loading_steps(report: Report, num_steps: int) -> Callable[[int], None]:
    """Tells a report how many pieces are loaded; raises `GenerationCancelled` where that answers False."""

    def step(number: int) -> None:
        if not report(Progress("loading", number, num_steps)):
            raise GenerationCancelled

    return step


def failure(error: Exception, engine: str, memory_advice: str) -> EngineError:
    """What to finish a take with that failed: words for the person, and the error as their cause.

    Args:
        error: what was raised; the tensors it holds are freed.
        engine: its name.
        memory_advice: a sentence for the case that it was memory.
    """
    let_go(error)
    failed: EngineError
    if is_out_of_memory(error):
        failed = OutOfMemoryError(f"The device ran out of memory while making this clip. {memory_advice}")
    else:
        failed = EngineError(f"The {engine} engine could not make this clip. The bot's log says why.")
    failed.__cause__ = error
    return failed


def checked_layer(layer: Layer, engine: str, model: str) -> tuple[int, float]:
    """The steps and guidance scale of a layer for a diffusion engine; its scheduler is the engine's to check.

    Raises:
        EngineError: if the layer was made for another model, lacks a number or has an unknown parameter.
    """
    if layer.model not in (None, model):
        raise EngineError(f"This recipe was made with the model `{layer.model}`; this bot runs `{model}`.")
    if layer.num_inference_steps is None or layer.guidance_scale is None:
        raise EngineError(f"A layer for {engine} needs num_inference_steps and guidance_scale.")
    unknown = sorted(set(layer.params) - {"scheduler", "num_candidates", "full_band"})
    if unknown:
        raise EngineError(f"The {engine} engine has no parameter `{unknown[0]}`.")
    # How many takes compete, and what is added to them, is the renderer's business; here it only has to be sensible.
    num_candidates = layer.params.get("num_candidates", 1)
    if type(num_candidates) is not int or not 1 <= num_candidates <= _MAX_CANDIDATES:
        raise EngineError(f"num_candidates goes from 1 to {_MAX_CANDIDATES}.")
    if not isinstance(layer.params.get("full_band", False), bool):
        raise EngineError("full_band is true or false.")
    return layer.num_inference_steps, float(layer.guidance_scale)
