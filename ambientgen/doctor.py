"""What `python -m ambientgen doctor` looks at: each line says ok, or what is wrong and what to do.

The checks run in the order of their lines, and a line is there as soon as its check is done. Which model runs on which
device only the program that runs it can say. So a program built on AmbientGen takes part through an entry point in the
group `ambientgen.checks` (docs/adr/0004): a `Program` makes the engine's checks with its own settings, and whatever
checks it has besides. Without one the engine is looked at as this package's command line would run it.
"""

from __future__ import annotations

import importlib.metadata
import platform
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np

from ambientgen import models
from ambientgen.audio.clip import Clip
from ambientgen.audio.encode import FORMATS, decode, encode
from ambientgen.diffusion.devices import choose_device, choose_dtype, import_torch
from ambientgen.engines.audioldm2 import DEFAULT_MODEL, AudioLDM2Engine
from ambientgen.engines.base import Engine
from ambientgen.engines.procedural import ProceduralEngine
from ambientgen.engines.stable_audio import StableAudioEngine
from ambientgen.errors import AmbientError, EngineError, ModelMissingError
from ambientgen.planning import resolve
from ambientgen.recipe import MIN_STEPS, SceneRequest
from ambientgen.render import Output, render
from ambientgen.stems import SAMPLE_RATE_HZ

T = TypeVar("T")
Mark = Literal["ok", "--", "!!"]

ENTRY_POINT_GROUP = "ambientgen.checks"
_DISTRIBUTION = "ambientgen"
_SCENE = "gentle rain"
_NO_LIMIT_BYTES = 2**40
_MEMINFO = Path("/proc/meminfo")
_OTHER_DEVICE = (
    "Install torch's build for it (https://pytorch.org/get-started/locally/), or choose another device, "
    "such as AMBIENT_DEVICE=cpu."
)

#: Weights are published with four bytes to a parameter.
_PUBLISHED_ITEMSIZE = 4
#: What a take needs beside the weights on a GPU: for one alone, and for several together.
_GPU_LEAST_BYTES, _GPU_COMFORT_BYTES = 750_000_000, 2_250_000_000
#: On a CPU, besides the weights at their published size: the packages themselves, and one take.
_CPU_WORKING_BYTES = 1_500_000_000


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found.

    Attributes:
        mark: "ok"; "--" where nothing is wrong but something is off or missing; "!!" where something must be done.
        name: what was looked at.
        words: what was found; with "!!" also what to do.
    """

    mark: Mark
    name: str
    words: str

    def __str__(self) -> str:
        """One line, whatever the words hold."""
        words = "".join(character if character.isprintable() else " " for character in self.words)
        return f"{self.mark}  {self.name:<14}  {' '.join(words.split())}"


#: What a check is: it yields findings and may return something to the checks after it.
Findings = Generator[Finding, None, T]
#: Takes the model asked for, or None for the program's own.
Program = Callable[[str | None], Findings[None]]


def examine(model: str | None = None) -> Findings[None]:
    """Look at everything, one finding at a time.

    Args:
        model: hub id or local folder; None: the one that is in use here.
    """
    yield from guarded("python", _python())
    yield from guarded("packages", _packages())
    yield from guarded("encoder", _encoder())
    yield from guarded("procedural", _sound(ProceduralEngine()))
    programs: list[tuple[str, Program]] = []
    for entry in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP):
        program = yield from guarded(entry.name, _loaded(entry))
        if program is not None:
            programs.append((entry.name, program))
    if not programs:
        yield from engine_checks(model or DEFAULT_MODEL)
    for name, program in programs:
        yield from guarded(name, program(model))


def engine_checks(model: str, device: str | None = None, dtype: str | None = None) -> Findings[None]:
    """Look at a model's engine as it would run with these settings; they mean what they mean to the engine.

    What is not installed at all is no fault: the procedural engine does without it.
    """
    kind = StableAudioEngine if models.describe(model).engine == "stable-audio" else AudioLDM2Engine
    engine = kind(model, device, dtype)
    installed = yield from guarded("model packages", _model_packages(engine.spec.name))
    chosen = (yield from guarded("device", _device(device, dtype))) if installed else None
    enough = (yield from guarded("memory", _memory(model, *chosen))) if chosen else False
    complete = yield from guarded("model", _model(model, wanted=bool(installed)))
    if enough and complete:
        yield from guarded(engine.spec.name, _sound(engine))


def guarded(name: str, check: Findings[T]) -> Findings[T | None]:
    """A check's findings, and what it returns; an error becomes a finding, so that the checks after it still run."""
    try:
        return (yield from check)
    except Exception as error:
        yield Finding("!!", name, _words(error))
    return None


def _words(error: BaseException) -> str:
    """An error for the operator: our own by its words, with the cause that others would find in a log."""
    if not isinstance(error, AmbientError):
        return f"{type(error).__name__}: {error}"
    return f"{error} ({_words(error.__cause__)})" if error.__cause__ else str(error)


def _loaded(entry: importlib.metadata.EntryPoint) -> Findings[Program]:
    yield from ()
    program: Program = entry.load()
    return program


# ---------------------------------------------------------------------- what is installed


def _python() -> Findings[None]:
    facts = importlib.metadata.metadata(_DISTRIBUTION)
    needed = re.search(r">=\s*(\d+)\.(\d+)", facts["Requires-Python"] or "")
    words = f"AmbientGen {facts['Version']}, Python {platform.python_version()}, {platform.platform()}"
    if needed and sys.version_info < (int(needed[1]), int(needed[2])):
        yield Finding("!!", "python", f"{words}: install Python {needed[1]}.{needed[2]} or newer.")
    else:
        yield Finding("ok", "python", words)


def _packages() -> Findings[None]:
    versions = _versions(None)
    missing = [name for name, version in versions.items() if version is None]
    if missing:
        yield Finding("!!", "packages", f"{', '.join(missing)} missing: {_install('-e .')}")
        return
    import soundfile

    versions["soundfile"] = f"{versions['soundfile']} (libsndfile {soundfile.__libsndfile_version__})"
    yield Finding("ok", "packages", ", ".join(f"{name} {version}" for name, version in versions.items()))


def _model_packages(extra: str) -> Findings[bool]:
    """Returns True if all of an engine's extra are installed."""
    versions = _versions(extra)
    missing = [name for name, version in versions.items() if version is None]
    by_pip = _install(f'-e ".[{extra}]"')
    how = "`make model` installs them." if extra == "audioldm2" else by_pip
    if len(missing) == len(versions):
        yield Finding("--", "model packages", f"not installed. If you want {extra}: {how}")
    elif missing:
        # By pip: for make the packages are installed once and for all.
        there = sorted(set(versions) - set(missing))
        yield Finding("!!", "model packages", f"{', '.join(missing)} missing beside {', '.join(there)}: {by_pip}")
    else:
        words = ", ".join(f"{name} {version}" for name, version in versions.items())
        yield Finding("ok", "model packages", words)
    return not missing


def _versions(extra: str | None) -> dict[str, str | None]:
    """The requirements of the base install (None) or of an extra, with the version of each that is installed."""
    versions: dict[str, str | None] = {}
    for requirement in importlib.metadata.requires(_DISTRIBUTION) or ():
        name = re.split(r"[^\w.-]", requirement, maxsplit=1)[0]
        marker = re.search(r"extra == [\"']([^\"']+)", requirement)
        if (marker[1] if marker else None) != extra:
            continue
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return versions


def _install(what: str) -> str:
    """What to do about missing packages."""
    return f"in AmbientGen's folder run `{sys.executable} -m pip install -c constraints.txt {what}`."


# ---------------------------------------------------------------------- what works


def _encoder() -> Findings[None]:
    faults = [f"{name} ({fault})" for name in FORMATS if (fault := _encoding_fault(name))]
    if faults:
        cure = _install("--force-reinstall --no-deps soundfile")
        yield Finding("!!", "encoder", f"{', '.join(faults)}. If it is not the disk: {cure}")
    else:
        yield Finding("ok", "encoder", f"{', '.join(FORMATS)}: written and read back")


def _encoding_fault(file_format: str) -> str | None:
    """What is wrong with a format; None if a second of a tone comes back from a file of it."""
    tone = 0.1 * np.sin(2 * np.pi * 440 * np.arange(SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ)
    clip = Clip(np.stack([tone, tone]).astype(np.float32), SAMPLE_RATE_HZ)
    try:
        with tempfile.TemporaryDirectory() as folder:
            encoded = encode(clip, Path(folder), "check", file_format, max_bytes=_NO_LIMIT_BYTES, tags={})
            back = decode(encoded.path)
    except Exception as error:
        return _words(error)
    same_shape = back.num_channels == clip.num_channels and abs(back.duration_s - clip.duration_s) < 0.1
    same_level = 0.9 < np.std(back.samples) / np.std(clip.samples) < 1.1
    return None if same_shape and same_level else "what is read back is not what was written"


def _sound(engine: Engine) -> Findings[None]:
    """A second of sound, by the shortest recipe that can be asked for."""
    request = SceneRequest(description=_SCENE, duration_s=1.0, quality="draft", num_inference_steps=MIN_STEPS, seed=7)
    name = engine.spec.name
    recipe = resolve(request, [engine.spec])
    with tempfile.TemporaryDirectory() as folder:
        out = Output(directory=Path(folder), name="check", title=_SCENE, file_format="opus", max_bytes=_NO_LIMIT_BYTES)
        try:
            sound = render(recipe, {name: engine}, out)
            device = engine.device
        finally:
            engine.unload()
    loading = ", loading the model included" if engine.spec.model else ""
    words = f"{sound.duration_s:.1f} s of sound made in {sound.render_time_s:.1f} s on {device}{loading}"
    yield Finding("ok", name, "; ".join([words, *sound.notes]))


# ---------------------------------------------------------------------- the model


def _device(wanted: str | None, dtype: str | None) -> Findings[tuple[Any, Any] | None]:
    """Returns torch's device and number format."""
    try:
        torch = import_torch()
    except (ModelMissingError, OSError) as error:
        cure = _install("--force-reinstall --no-deps torch")
        yield Finding("!!", "device", f"torch cannot be imported ({error.__cause__ or error}): {cure}")
        return None
    try:
        device = choose_device(wanted)
    except EngineError as error:
        yield Finding("!!", "device", f"{error} {_OTHER_DEVICE}")
        return None
    number_format = choose_dtype(device, dtype)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    words = f"{device} ({name}), {str(number_format).removeprefix('torch.')}"
    if device.type == "cpu" and wanted is None and shutil.which("nvidia-smi"):
        yield Finding("!!", "device", f"{words}: torch cannot use this machine's NVIDIA GPU. {_OTHER_DEVICE}")
    else:
        yield Finding("ok", "device", f"{words}: a clip takes minutes" if device.type == "cpu" else words)
    return device, number_format


def _memory(model: str, device: Any, number_format: Any) -> Findings[bool]:
    """Returns False if there is too little to try."""
    free_bytes, weights_bytes = _free_bytes(device), _weights_bytes(model)
    if free_bytes is None or weights_bytes is None:
        unknown = "how much is free" if free_bytes is None else "how much the model needs"
        yield Finding("--", "memory", f"{unknown} cannot be told here")
        return True
    if device.type == "cpu":
        least_bytes = comfort_bytes = weights_bytes + _CPU_WORKING_BYTES
    else:
        in_memory_bytes = weights_bytes * number_format.itemsize // _PUBLISHED_ITEMSIZE
        least_bytes, comfort_bytes = in_memory_bytes + _GPU_LEAST_BYTES, in_memory_bytes + _GPU_COMFORT_BYTES
    words = f"{_gb(free_bytes)} free on {device}, {_gb(least_bytes)} needed"
    if free_bytes < least_bytes:
        other = "" if device.type == "cpu" else ", or take another device (AMBIENT_DEVICE=cpu)"
        yield Finding("!!", "memory", f"{words}: close other programs that use it (a running bot, for one){other}.")
        return False
    few = f"; with {_gb(comfort_bytes)} several clips are made together" if free_bytes < comfort_bytes else ""
    yield Finding("ok", "memory", words + few)
    return True


def _free_bytes(device: Any) -> int | None:
    """What is free on a torch device; None where the system does not say."""
    torch = import_torch()
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    try:
        found = re.search(r"^MemAvailable:\s*(\d+) kB", _MEMINFO.read_text(encoding="ascii"), re.MULTILINE)
    except OSError:  # only Linux has this file
        return None
    return None if found is None else int(found[1]) * 1024


def _weights_bytes(model: str) -> int | None:
    """The weights' size: as published, or else as they lie here; None if neither is known."""
    published_bytes, folder = models.describe(model).download_bytes, models.find(model)
    if published_bytes or folder is None:
        return published_bytes or None
    # An old-format copy beside the safetensors is not loaded.
    by_kind = (sum(file.stat().st_size for file in folder.glob(f"*/*{kind}")) for kind in (".safetensors", ".bin"))
    return next((num_bytes for num_bytes in by_kind if num_bytes), None)


def _model(model: str, *, wanted: bool) -> Findings[bool]:
    """Returns True if it is here and whole."""
    facts, folder = models.describe(model), models.find(model)
    faults = () if folder is None else models.faults(folder)
    cure = (
        f"put the model's files into {facts.place.absolute()}"
        if facts.download_bytes == 0
        else f"`{sys.executable} -m ambientgen models download --model {shlex.quote(model)}` fetches what is missing"
    )
    if folder is None:
        yield Finding("!!" if wanted else "--", "model", f"{facts.model} is not on this machine: {cure}.")
    elif faults:
        others = f" and {len(faults) - 1} more" if len(faults) > 1 else ""
        words = f"{facts.model} is incomplete or damaged ({faults[0]}{others})"
        yield Finding("!!", "model", f"{words}: {cure}.")
    else:
        yield Finding("ok", "model", f"{facts.model} is complete, in {folder}; license: {facts.license}")
    return folder is not None and not faults


def _gb(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.1f} GB"
