"""Model weights on this machine: what they are, whether they are all here, and how to fetch them.

Only `download` touches the network. Everything else looks at files, imports nothing heavy, and works without the
model's packages.
"""

from __future__ import annotations

import errno
import importlib.util
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ambientgen.errors import AmbientError, ModelMissingError, StorageError

#: What the AudioLDM2 engine imports when it loads.
PACKAGES = ("torch", "diffusers", "transformers", "huggingface_hub", "safetensors", "tokenizers", "sentencepiece")

_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
_NON_COMMERCIAL = "CC BY-NC-SA 4.0 (non-commercial)"
_OWN_LICENSE = "see the model's own license"
#: Bytes to fetch: four for each parameter (1,118 M in the base model; the others by their authors' figures).
_DOWNLOAD_BYTES = {
    "cvssp/audioldm2": 4_475_000_000,
    "cvssp/audioldm2-music": 4_475_000_000,
    "cvssp/audioldm2-large": 6_000_000_000,
}
#: Parts of a pipeline that have settings but no weights, by the end of their class name.
_WITHOUT_WEIGHTS = ("Tokenizer", "TokenizerFast", "FeatureExtractor", "Scheduler")
_TEXT_SUFFIXES = (".json", ".txt", ".model")
_NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS)
_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """What an operator should know before fetching a model.

    Attributes:
        model: hub id, or the folder's name.
        download_bytes: approximate size of the download; 0 for a local folder, None if only the hub knows.
        license: of the weights, in one line.
        place: the folder that holds it, or will.
    """

    model: str
    download_bytes: int | None
    license: str
    place: Path


def describe(model: str) -> ModelFacts:
    """The facts of a model, without asking the network.

    Args:
        model: hub id or local folder.
    """
    local = _is_local(model)
    return ModelFacts(
        model=public_name(model),
        download_bytes=0 if local else _DOWNLOAD_BYTES.get(model),
        license=license_of(model),
        place=Path(model).expanduser() if local else _cache_folder() / f"models--{model.replace('/', '--')}",
    )


def public_name(model: str) -> str:
    """The model's name for recipes and messages: its hub id, or the name of its folder; never a path."""
    return Path(model).expanduser().resolve().name if _is_local(model) else model


def license_of(model: str) -> str:
    """The license of the weights, in one line."""
    return _NON_COMMERCIAL if model.startswith("cvssp/") and not _is_local(model) else _OWN_LICENSE


def missing_packages() -> tuple[str, ...]:
    """The packages of `PACKAGES` that are not installed. Imports none of them."""
    return tuple(name for name in PACKAGES if importlib.util.find_spec(name) is None)


def find(model: str) -> Path | None:
    """The folder with the model's files, or None if there is none; it may be incomplete (`faults`).

    Args:
        model: hub id (looked up in the hub's cache on this machine) or local folder.
    """
    place = describe(model).place
    if not _is_local(model):
        try:
            place = place / "snapshots" / (place / "refs" / "main").read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            return None
    return place if place.is_dir() else None


def is_complete(model: str) -> bool:
    """True if every file the pipeline needs is on this machine and whole. Never asks the network."""
    folder = find(model)
    return folder is not None and not faults(folder)


def faults(folder: Path) -> tuple[str, ...]:
    """What is missing or damaged in a pipeline's folder, as names inside it; empty if it can be loaded.

    Reads the lists of contents, not the weights themselves: a file cut short is found, a flipped bit is not.
    """
    try:
        index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
        components = {name: kind[1] for name, kind in index.items() if isinstance(kind, list) and kind[1] is not None}
    except (OSError, ValueError, AttributeError, IndexError):
        return ("model_index.json",)
    found = [fault for name, kind in components.items() for fault in _component_faults(folder, name, str(kind))]
    return tuple(found) if components else ("model_index.json",)


def download(
    model: str,
    *,
    say: Callable[[str], None],
    endpoint: str | None = None,
) -> Path:
    """Fetch a model from the Hugging Face hub; size, license and place are told first.

    What arrived is kept when it breaks off, and a second call goes on from there. A model that is here and whole is
    not fetched again.

    Args:
        model: hub id; a local folder is only checked.
        say: takes one line for the operator.
        endpoint: another address of the hub; None: the usual one.

    Returns:
        The folder with the model's files.

    Raises:
        ModelMissingError: if it could not be fetched or is incomplete, with the reason in words.
        StorageError: if the disk is full or not writable.
    """
    facts = describe(model)
    say_facts(facts, say)
    folder = find(model)
    if folder is not None and not faults(folder):
        say("All of it is here already.")
        return folder
    if _is_local(model):
        raise ModelMissingError(f"The folder of `{facts.model}` is missing or incomplete; put the model's files there.")
    if importlib.util.find_spec("huggingface_hub") is None:
        raise ModelMissingError("The model's packages are not installed: install AmbientGen's `audioldm2` extra first.")
    try:
        _fetch(model, facts, say, endpoint)
    except AmbientError:
        raise
    except Exception as error:
        raise _in_words(error, facts.model) from error
    folder = find(model)
    if folder is None or faults(folder):
        raise ModelMissingError(f"The hub's files of `{facts.model}` are not a whole pipeline this bot can load.")
    say("The model is complete.")
    return folder


def say_facts(facts: ModelFacts, say: Callable[[str], None]) -> None:
    """Tell model, size, license and place, a line each."""
    size = "unknown until the hub is asked" if facts.download_bytes is None else f"about {_gb(facts.download_bytes)}"
    say(f"Model:    {facts.model}")
    say(f"Download: {size if facts.download_bytes != 0 else 'none, a local folder'}")
    say(f"License:  {facts.license}")
    say(f"Place:    {facts.place}")


def _is_local(model: str) -> bool:
    return _HUB_ID.fullmatch(model) is None or Path(model).is_dir()


def _cache_folder() -> Path:
    """The hub library's cache, by the environment variables that library documents."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    home = Path(os.environ.get("HF_HOME") or base)
    return Path(os.path.expandvars(os.environ.get("HF_HUB_CACHE") or home / "hub")).expanduser()


def _component_faults(folder: Path, name: str, kind: str) -> Iterator[str]:
    if not (folder / name).is_dir():
        yield f"{name}/"
        return
    files = {file.name: file for file in (folder / name).iterdir()}
    settings = [file for file in files.values() if file.suffix == ".json"]
    yield from (f"{name}/{file.name}" for file in settings if not _is_json(file))
    if not settings:
        yield f"{name}/*.json"
    if kind.endswith(_WITHOUT_WEIGHTS):
        return
    weights = {file.name for file in files.values() if file.suffix == ".safetensors"} or {
        file.name for file in files.values() if file.suffix == ".bin"
    }
    for index in settings:
        if index.name.endswith(".safetensors.index.json") and _is_json(index):
            weights |= set(json.loads(index.read_text(encoding="utf-8")).get("weight_map", {}).values())
    yield from (f"{name}/{file}" for file in sorted(weights) if not _is_whole(folder / name / file))
    if not weights:
        yield f"{name}/*.safetensors"


def _is_json(file: Path) -> bool:
    try:
        return isinstance(json.loads(file.read_text(encoding="utf-8")), dict)
    except (OSError, ValueError):
        return False


def _is_whole(file: Path) -> bool:
    """True if a weights file is as long as its own list of contents says (or, in the old format, not empty)."""
    try:
        num_bytes = file.stat().st_size
        if file.suffix != ".safetensors":
            return num_bytes > 0
        with file.open("rb") as stream:
            header_bytes = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(min(header_bytes, num_bytes)))
        ends = [int(entry["data_offsets"][1]) for name, entry in header.items() if name != "__metadata__"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError):
        return False
    return num_bytes == 8 + header_bytes + max(ends, default=0)


def _fetch(model: str, facts: ModelFacts, say: Callable[[str], None], endpoint: str | None) -> None:
    # Imported here because the base install has no hub library.
    from huggingface_hub import HfApi, snapshot_download

    # This request is not repeated when it fails, so that a machine without network learns it at once.
    files: Iterable[Any] = HfApi(endpoint=endpoint).model_info(model, files_metadata=True).siblings or ()
    sizes = {file.rfilename: int(file.size or 0) for file in files}
    wanted = _needed(sizes)
    if "model_index.json" not in wanted:
        raise ModelMissingError(f"`{facts.model}` on the hub is not a diffusers pipeline, which this bot needs.")
    _remove_damaged(model)
    folder = find(model)
    missing_bytes = sum(sizes[name] for name in wanted if folder is None or not (folder / name).exists())
    facts.place.mkdir(parents=True, exist_ok=True)
    free_bytes = shutil.disk_usage(facts.place).free
    if missing_bytes > free_bytes:
        raise StorageError(f"The model needs {_gb(missing_bytes)} of disk, but only {_gb(free_bytes)} are free.")
    say(f"Fetching {len(wanted)} files, {_gb(missing_bytes)} ...")
    snapshot_download(model, cache_dir=facts.place.parent, allow_patterns=wanted, endpoint=endpoint)


def _needed(names: Iterable[str]) -> list[str]:
    """The files the pipeline reads: each part's settings, and its weights once (safetensors before the old format)."""
    paths = [PurePosixPath(name) for name in names]
    parts = [path for path in paths if len(path.parts) == 2 and ".fp16." not in path.name]
    in_safetensors = {path.parent for path in parts if path.suffix == ".safetensors"}
    needed = [
        path
        for path in parts
        if path.suffix in (*_TEXT_SUFFIXES, ".safetensors")
        or (path.suffix == ".bin" and path.parent not in in_safetensors)
    ]
    return sorted(str(path) for path in [*needed, *(path for path in paths if str(path) == "model_index.json")])


def _remove_damaged(model: str) -> None:
    """Delete damaged files, in the cache's store too: the hub library would take them for finished."""
    folder = find(model)
    if folder is None:
        return
    for name in faults(folder):
        file = folder / name
        if file.is_file():
            file.resolve().unlink(missing_ok=True)
            file.unlink(missing_ok=True)


def _in_words(error: BaseException, model: str) -> AmbientError:
    """What stopped a download, in one sentence."""
    chain = list(_causes(error))
    numbers = {cause.errno for cause in chain if isinstance(cause, OSError)}
    if numbers & set(_FULL):
        return StorageError("The disk is full. Make room and run `make model` again: it goes on where it stopped.")
    if numbers & set(_NOT_WRITABLE):
        return StorageError("The folder for models is not writable by this user.")
    if any(type(cause).__name__ == "OfflineModeIsEnabled" for cause in chain):
        return ModelMissingError("The hub library is set to offline: unset HF_HUB_OFFLINE and run `make model` again.")
    # A gated or hidden model answers 401 or 403; a name that does not exist, 404 (or 401 without an account).
    status = next((s for c in chain if (s := getattr(getattr(c, "response", None), "status_code", None))), None)
    if status in (401, 403):
        return ModelMissingError(
            f"The hub does not hand out `{model}`: check the name, accept the license on its page, log in with "
            "`hf auth login`, and run `make model` again."
        )
    if status == 404:
        return ModelMissingError(f"There is no model `{model}` on the hub: check the name.")
    return ModelMissingError(
        "The hub could not be reached or broke off: check this machine's connection and run `make model` again; "
        "it goes on where it stopped."
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _gb(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.1f} GB"
