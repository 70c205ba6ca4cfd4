"""What an engine can do, readable without loading it."""

from __future__ import annotations

from dataclasses import dataclass

#: Options of a `SceneRequest` that only some engines can use. Every other option is used by all of them.
ENGINE_OPTIONS = ("quality", "negative_prompt", "guidance_scale", "num_inference_steps", "full_band")
#: What people know these options as, where it is another name.
OPTION_WORDS = {"num_inference_steps": "steps"}


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSpec:
    """An engine's abilities and limits.

    Attributes:
        name: what people type after `engine:`.
        version: changes whenever the same recipe would give another sound.
        model: the weights' name, or None for an engine without weights.
        sample_rate_hz: of the clips it finishes.
        num_channels: of the clips it finishes.
        default_duration_s: the length when nobody asked for one.
        longest_good_s: the longest take that still sounds good; longer scenes are extended from it.
        longest_step_s: the longest piece of work that cannot be interrupted, on this machine.
        supports: the names in `ENGINE_OPTIONS` that change its sound, and "loop" if its takes can join their own end
            to their beginning.
        needs_gpu: True if it runs on the one GPU thread (also when that thread uses the CPU), False for the CPU pool.
        license: the license of the weights, in one line.
        loop_step_s: a loop it makes itself is a whole number of these; 0: of any length.
        textures: the texture families it makes by rule; empty for an engine that reads a prompt.
        max_prompt_tokens: what its text encoder can take.
    """

    name: str
    version: str
    model: str | None
    sample_rate_hz: int
    num_channels: int
    default_duration_s: float
    longest_good_s: float
    longest_step_s: float
    supports: frozenset[str]
    needs_gpu: bool
    license: str
    loop_step_s: float = 0.0
    textures: frozenset[str] = frozenset()
    max_prompt_tokens: int = 512

    @property
    def reads_any_text(self) -> bool:
        """True if any description works; False if it only makes what it knows."""
        return not self.textures
