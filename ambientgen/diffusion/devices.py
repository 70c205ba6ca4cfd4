"""Which device and number format to use, and what to do about memory. Shared by the engines with weights."""

from __future__ import annotations

import gc
import traceback
from typing import Any

from ambientgen.errors import EngineError, ModelMissingError

#: What CUDA's libraries, MPS, and the CPU on Linux and Windows say.
_OUT_OF_MEMORY = ("out of memory", "alloc_failed", "can't allocate memory", "not enough memory")
DTYPES = ("float32", "bfloat16", "float16")


def import_torch() -> Any:
    """The torch module. Heavy, and absent from the base install: nothing imports it before an engine loads.

    Raises:
        ModelMissingError: if it is not installed.
    """
    try:
        import torch
    except ImportError as error:
        raise ModelMissingError("torch cannot be imported: run `make model`.") from error
    return torch


def choose_device(wanted: str | None) -> Any:
    """The torch device of that name, from now on the calling thread's; None: CUDA, else Apple's MPS, else the CPU.

    Raises:
        EngineError: if torch cannot use it here.
    """
    torch = import_torch()
    name = wanted
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        use_device(device)
        torch.zeros(1, device=device)
    except Exception as error:
        raise EngineError(f"The device `{name}` cannot be used by torch on this machine.") from error
    return device


def use_device(device: Any) -> None:
    """Make it the calling thread's own: streams, events and graphs go there, whatever device the tensors are on."""
    if device.type == "cuda" and device.index is not None:
        import_torch().cuda.set_device(device)


def choose_dtype(device: Any, wanted: str | None) -> Any:
    """The torch dtype of that name; None: what suits the device.

    Raises:
        EngineError: if there is no such dtype.
    """
    torch = import_torch()
    if wanted is not None:
        if wanted not in DTYPES:
            raise EngineError(f"The dtype is one of {', '.join(DTYPES)}.")
        return getattr(torch, wanted)
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if device.type == "cpu" and _cpu_multiplies_bfloat16(torch):
        return torch.bfloat16
    # MPS too: half precision there has gaps that differ from one release of torch to the next.
    return torch.float32


def _cpu_multiplies_bfloat16(torch: Any) -> bool:
    """True if the processor has instructions for bfloat16; without them it is slower than float32, not faster."""
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def is_out_of_memory(error: BaseException) -> bool:
    """True for CUDA's own error, and for what MPS and the CPU raise in its place."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    words = str(error).lower()
    return isinstance(error, RuntimeError) and any(sign in words for sign in _OUT_OF_MEMORY)


def let_go(error: BaseException) -> None:
    """Free what a failed call holds: its frames, kept alive by the traceback, own the tensors."""
    traceback.clear_frames(error.__traceback__)
    free_memory()


def free_memory() -> None:
    """Give unused memory back to the device."""
    torch = import_torch()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()
