"""The parts of the denoising loop around a tiny model, put together by hand, and an engine's feed by script."""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ambientgen.audio.clip import Clip
from ambientgen.diffusion.checkpoint import load_checkpoint
from ambientgen.diffusion.compiled import plain_unet
from ambientgen.diffusion.conditioning import Conditioner
from ambientgen.diffusion.decoding import Decoder
from ambientgen.diffusion.sampling import Denoiser, Rows, Sampling
from ambientgen.diffusion.windows import WindowPlan
from ambientgen.engines.audioldm2 import AudioLDM2Engine
from ambientgen.engines.base import Progress, Take
from ambientgen.errors import EngineError
from ambientgen.recipe import Layer

TEXT_MODELS = ("text_encoder", "text_encoder_2", "projection_model", "language_model")
MODELS = (*TEXT_MODELS, "unet", "vae", "vocoder")
PROMPT = "rain on a tin roof"


def difference(made: Any, expected: Any) -> float:
    """The largest difference of two tensors or arrays, relative to the largest value."""
    made, expected = np.asarray(made, np.float64), np.asarray(expected, np.float64)
    assert made.shape == expected.shape
    return float(np.abs(made - expected).max() / np.abs(expected).max())


# ---------------------------------------------------------------------- the parts


@dataclasses.dataclass(frozen=True)
class Parts:
    """A model as `load_checkpoint` loads it, with what the loop has around it."""

    pipeline: Any
    conditioner: Conditioner
    decoder: Decoder
    unet: Callable[[Rows], Any]

    def begin(
        self,
        plan: WindowPlan,
        *,
        prompt: str = PROMPT,
        negative_prompt: str = "music",
        scheduler: str = "DDIMScheduler",
        num_steps: int = 3,
        guidance_scale: float = 6.0,
        seed: int = 7,
    ) -> Sampling:
        """A take at its first step."""
        import diffusers

        return Sampling(
            plan=plan,
            conditioning=self.conditioner.encode(prompt, negative_prompt if guidance_scale > 1.0 else None),
            scheduler=getattr(diffusers, scheduler).from_config(self.pipeline.scheduler.config),
            num_steps=num_steps,
            guidance_scale=guidance_scale,
            seed=seed,
            channels=4,
            width=4,
        )

    def latents(self, plan: WindowPlan, **settings: Any) -> Any:
        """The finished latent of a take that is alone."""
        return finish(self.unet, self.begin(plan, **settings)).latents


def load_parts(path: Path) -> Parts:
    """The tiny model, in float32 on the CPU, without gradients."""
    import torch

    pipeline = load_checkpoint(path, torch.device("cpu"), torch.float32, lambda _step: None).pipeline
    _freeze(pipeline)
    return Parts(pipeline, Conditioner(pipeline, "cpu"), Decoder(pipeline), plain_unet(pipeline.unet))


def load_reference(path: Path) -> Any:
    """The tiny model as a pipeline that nothing of ours touches."""
    from diffusers import AudioLDM2Pipeline
    from transformers import GPT2LMHeadModel

    language_model = GPT2LMHeadModel.from_pretrained(path, subfolder="language_model")
    pipeline = AudioLDM2Pipeline.from_pretrained(path, language_model=language_model)
    pipeline.set_progress_bar_config(disable=True)
    _freeze(pipeline)
    return pipeline


def advance(denoiser: Denoiser, takes: Sequence[Sampling], between: Callable[[], None] = lambda: None) -> None:
    """One pass of the takes, as the engine makes it."""
    for take, answer in zip(takes, denoiser.predict(takes, between), strict=True):
        take.advance(answer)


def finish(unet: Callable[[Rows], Any], take: Sampling, max_rows: int = 64) -> Sampling:
    """The take after its last pass."""
    denoiser = Denoiser(unet, max_rows)
    while not take.done:
        advance(denoiser, [take])
    return take


def _freeze(pipeline: Any) -> None:
    for name in MODELS:
        getattr(pipeline, name).requires_grad_(False)


class CountingUNet:
    """A UNet that notes the size of each call, and runs out of memory above a number of rows.

    Attributes:
        max_rows: what it bears.
        batches: rows of each call that it answered.
        refused: rows of each call that was too large.
    """

    def __init__(self, unet: Callable[[Rows], Any], max_rows: int = 1_000) -> None:
        self._unet = unet
        self.max_rows = max_rows
        self.batches: list[int] = []
        self.refused: list[int] = []

    def __call__(self, rows: Rows) -> Any:
        """The UNet's answer."""
        import torch

        if len(rows) > self.max_rows:
            self.refused.append(len(rows))
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        self.batches.append(len(rows))
        return self._unet(rows)


# ---------------------------------------------------------------------- what the models do


@contextmanager
def counted_calls(*models: Any) -> Iterator[list[Any]]:
    """A list that grows with each forward call of one of the modules; without any, of every module there is."""
    from torch.nn.modules.module import register_module_forward_pre_hook

    calls: list[Any] = []

    def note(module: Any, *_inputs: Any) -> None:
        if not models or any(module is model for model in models):
            calls.append(module)

    hook = register_module_forward_pre_hook(note)
    try:
        yield calls
    finally:
        hook.remove()


def traces_left(pipeline: Any) -> list[str]:
    """Modules that still carry a hook or a forward method of their own."""
    return [
        f"{name}.{path}"
        for name in MODELS
        for path, module in getattr(pipeline, name).named_modules()
        if module._forward_pre_hooks or module._forward_hooks or "forward" in vars(module)
    ]


@contextmanager
def quick_collections() -> Iterator[None]:
    """Let garbage collections, of which each shortage of memory makes one, look only at what is made in here."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


# ---------------------------------------------------------------------- the engine


def load_engine(path: Path, dtype: str = "float32") -> AudioLDM2Engine:
    """An engine with the tiny model, loaded on the CPU."""
    engine = AudioLDM2Engine(str(path), device="cpu", dtype=dtype)
    engine.load(lambda _progress: True)
    return engine


def make_take(take_id: str = "a", *, duration_s: float = 1.0, loop: bool = False, **changes: Any) -> Take:
    """A take of three steps, with some of the layer changed."""
    layer = Layer(
        engine="audioldm2",
        prompt=PROMPT,
        negative_prompt="music",
        seed=7,
        num_inference_steps=3,
        guidance_scale=6.0,
        params={"scheduler": "ddim", "num_candidates": 1},
    )
    num_samples = round(duration_s * 48_000)
    return Take(id=take_id, layer=dataclasses.replace(layer, **changes), num_samples=num_samples, loop=loop)


class ScriptedFeed:
    """A feed that admits late, drops, and keeps what it is told.

    Args:
        engine: asked for batch keys.
        waiting: takes that can be admitted at once.
        script: told each take's id and progress, answers False to drop it; may append to `waiting`.
        naive: True to ignore batch keys.
    """

    def __init__(
        self,
        engine: AudioLDM2Engine,
        waiting: Iterable[Take],
        script: Callable[[str, Progress], bool] = lambda _take_id, _progress: True,
        *,
        naive: bool = False,
    ) -> None:
        self._engine = engine
        self._script = script
        self._naive = naive
        self.waiting = list(waiting)
        self.order: list[str] = []
        self.results: dict[str, Clip | EngineError] = {}
        self.matches: dict[str, float | None] = {}

    def admit(self, key: Hashable | None, num_free: int) -> list[Take]:
        """The next takes with the key of those under way, or of the first that waits."""
        if key is None and self.waiting:
            key = self._engine.batch_key(self.waiting[0])
        fitting = [take for take in self.waiting if self._naive or self._engine.batch_key(take) == key]
        admitted = fitting[:num_free]
        self.waiting = [take for take in self.waiting if take not in admitted]
        return admitted

    def progress(self, take_id: str, progress: Progress) -> bool:
        """What the script says."""
        assert take_id not in self.results
        return self._script(take_id, progress)

    def finish(
        self, take_id: str, result: Clip | EngineError, match: float | None = None, leaks: tuple[str, ...] = ()
    ) -> None:
        """Keep it."""
        assert take_id not in self.results
        self.order.append(take_id)
        self.results[take_id] = result
        self.matches[take_id] = match

    def samples(self, take_id: str) -> Any:
        """A take's samples, shape (1, num_samples); raises the take's error."""
        result = self.results[take_id]
        if isinstance(result, EngineError):
            raise result
        return result.samples


def serve(engine: AudioLDM2Engine, *takes: Take, **options: Any) -> ScriptedFeed:
    """The feed after the engine has served it."""
    feed = ScriptedFeed(engine, takes, **options)
    engine.run(feed)
    return feed


def solo(engine: AudioLDM2Engine, take: Take) -> Any:
    """The samples of a take that is alone."""
    return serve(engine, take).samples(take.id)
