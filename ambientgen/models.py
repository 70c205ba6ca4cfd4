"""Model weights on this machine: what they are, whether they are all here, and whether they are right.

Nothing here touches the network (`ambientgen/download.py` does), imports anything heavy, or needs the model's packages.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

#: What the AudioLDM2 engine imports when it loads.
PACKAGES = ("torch", "diffusers", "transformers", "huggingface_hub", "safetensors", "tokenizers", "sentencepiece")

#: Takes what is being done ("checking" or "downloading"), bytes done and bytes in all.
ByteReport = Callable[[str, int, int], None]

_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
_CHECKSUM = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_NON_COMMERCIAL = "CC BY-NC-SA 4.0 (non-commercial)"
_OWN_LICENSE = "see the model's own license"
#: Which of our engines loads which of diffusers' pipelines.
_ENGINES = {"AudioLDM2Pipeline": "audioldm2", "StableAudioPipeline": "stable-audio"}
#: Parts of a pipeline that have settings but no weights, by the end of their class name.
_WITHOUT_WEIGHTS = ("Tokenizer", "TokenizerFast", "FeatureExtractor", "Scheduler")
_PIECE_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class _Published:
    engine: str | None
    download_bytes: int | None
    license: str
    gated: bool = False


#: Bytes to fetch: four for each parameter. AudioLDM2's base model has 1,118 M, the others by their authors' figures;
#: Stable Audio's transformer has 1,057 M, its text encoder 110 M, its autoencoder 156 M.
_PUBLISHED = {
    "cvssp/audioldm2": _Published("audioldm2", 4_475_000_000, _NON_COMMERCIAL),
    "cvssp/audioldm2-large": _Published("audioldm2", 6_000_000_000, _NON_COMMERCIAL),
    "cvssp/audioldm2-music": _Published("audioldm2", 4_475_000_000, _NON_COMMERCIAL),
    "stabilityai/stable-audio-open-1.0": _Published(
        "stable-audio",
        5_290_000_000,
        "Stability AI Community License (free below 1 M USD of revenue a year)",
        gated=True,
    ),
}
#: The models that AmbientGen knows by name.
KNOWN = tuple(_PUBLISHED)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """What an operator should know before fetching a model.

    Attributes:
        model: hub id, or the folder's name.
        engine: the engine that loads it; None if nothing here tells.
        download_bytes: approximate size of the download; 0 for a local folder, None if only the hub knows.
        license: of the weights, in one line.
        gated: the hub hands it only to those who accepted its license there.
        place: the folder that holds it, or will.
    """

    model: str
    engine: str | None
    download_bytes: int | None
    license: str
    gated: bool
    place: Path


def describe(model: str) -> ModelFacts:
    """The facts of a model, without asking the network.

    Args:
        model: hub id or local folder.
    """
    published = _published(model)
    return ModelFacts(
        model=public_name(model),
        engine=published.engine or _engine(find(model)),
        download_bytes=published.download_bytes,
        license=published.license,
        gated=published.gated,
        place=_place(model),
    )


def public_name(model: str) -> str:
    """The model's name for recipes and messages: its hub id, or the name of its folder; never a path."""
    return Path(model).expanduser().resolve().name if _is_local(model) else model


def license_of(model: str) -> str:
    """The license of the weights, in one line."""
    return _published(model).license


def missing_packages(extra: str = "audioldm2") -> tuple[str, ...]:
    """The packages of an engine that are not installed. Imports none of them.

    Args:
        extra: the engine's extra of AmbientGen, "audioldm2" or "stable-audio".
    """
    packages = {"audioldm2": PACKAGES, "stable-audio": (*PACKAGES, "torchsde")}[extra]
    return tuple(name for name in packages if importlib.util.find_spec(name) is None)


def download_command(model: str) -> str:
    """The command that fetches a hub model, and mends one that is incomplete or damaged."""
    return f"python -m ambientgen models download --model {model}"


def say_facts(facts: ModelFacts, say: Callable[[str], None]) -> None:
    """Tell model, size, license, place, and how to get at a gated model, a line each."""
    size = (
        "unknown until the hub is asked" if facts.download_bytes is None else f"about {in_bytes(facts.download_bytes)}"
    )
    say(f"Model:    {facts.model}")
    say(f"Download: {size if facts.download_bytes != 0 else 'none, a local folder'}")
    say(f"License:  {facts.license}")
    if facts.gated:
        say(f"Gated:    accept the license at https://huggingface.co/{facts.model}, then log in with `hf auth login`")
    say(f"Place:    {facts.place}")


def in_bytes(num_bytes: int) -> str:
    """A size in words: "4.5 GB", "312 MB", "7 kB"."""
    if num_bytes >= 1e9:
        return f"{num_bytes / 1e9:.1f} GB"
    return f"{num_bytes / 1e6:.0f} MB" if num_bytes >= 1e6 else f"{num_bytes / 1e3:.0f} kB"


def find(model: str) -> Path | None:
    """The folder with the model's files, or None if there is none; it may be incomplete (`faults`).

    Args:
        model: hub id (looked up in the hub's cache on this machine) or local folder.
    """
    place = _place(model)
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
    """What is missing or cut short in a pipeline's folder, as names inside it; empty if it can be loaded.

    Reads the lists of contents, not the weights themselves: a file cut short is found, a flipped bit is not.
    """
    try:
        index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
        components = {name: kind[1] for name, kind in index.items() if isinstance(kind, list) and kind[1] is not None}
    except (OSError, ValueError, AttributeError, IndexError):
        return ("model_index.json",)
    found = [fault for name, kind in components.items() for fault in _component_faults(folder, name, str(kind))]
    return tuple(found) if components else ("model_index.json",)


def in_short(faults: tuple[str, ...]) -> str:
    """Faults in a few words: "unet/config.json and 3 more"."""
    return faults[0] + (f" and {len(faults) - 1} more" if len(faults) > 1 else "")


def all_faults(folder: Path, report: ByteReport) -> tuple[str, ...]:
    """Like `faults`, but reads every byte: a flipped bit is found too, wherever the right checksum is known.

    The hub's cache keeps each file under its checksum. Of a local folder's files no checksum is known.

    Args:
        folder: a pipeline's folder, as `find` gives it.
        report: told of every megabyte read.
    """
    checksums = known_checksums(folder)
    done_bytes, all_bytes = 0, sum(file.stat().st_size for file in checksums)
    # The hub's cache links to its files; a link into nothing is a file that went missing.
    wrong = [file for file in folder.rglob("*") if file.is_symlink() and not file.exists()]
    for file, checksum in checksums.items():
        digest = start_digest(checksum, file.stat().st_size)
        try:
            with file.open("rb") as stream:
                for piece in pieces(stream):
                    digest.update(piece)
                    done_bytes += len(piece)
                    report("checking", done_bytes, all_bytes)
        except OSError:  # the disk cannot read it any more
            wrong.append(file)
            continue
        if digest.hexdigest() != checksum:
            wrong.append(file)
    names = (file.relative_to(folder).as_posix() for file in sorted(wrong))
    return tuple(dict.fromkeys((*faults(folder), *names)))


def known_checksums(folder: Path) -> dict[Path, str]:
    """The files of a model's folder in the hub's cache that the cache keeps under their checksum, and that checksum.

    Found by identity, not by following links: where a user may not make symbolic links, they are hard links.
    """
    blobs = folder.parent.parent / "blobs"
    names = {_identity(blob): blob.name for blob in blobs.glob("*") if is_checksum(blob.name) and blob.is_file()}
    files = (file for file in sorted(folder.rglob("*")) if file.is_file())
    return {file: names[identity] for file in files if (identity := _identity(file)) in names}


def is_checksum(name: str) -> bool:
    """True for what `start_digest` takes, in hexadecimal."""
    return _CHECKSUM.fullmatch(name) is not None


def start_digest(checksum: str, num_bytes: int) -> Any:
    """A digest, as of `hashlib`, whose result must be `checksum` when it has been given all of a file.

    Args:
        checksum: as the hub names it: SHA-256 of a large file, git's own object name of a small one.
        num_bytes: the file's size, which is part of git's name.
    """
    if len(checksum) == 64:
        return hashlib.sha256()
    return hashlib.sha1(b"blob %d\0" % num_bytes, usedforsecurity=False)


def pieces(stream: BinaryIO) -> Iterator[bytes]:
    """What is left of a file, a megabyte at a time."""
    while piece := stream.read(_PIECE_BYTES):
        yield piece


def _is_local(model: str) -> bool:
    return _HUB_ID.fullmatch(model) is None or Path(model).is_dir()


def _published(model: str) -> _Published:
    if _is_local(model):
        return _Published(None, 0, _OWN_LICENSE)
    unknown = _Published(None, None, _NON_COMMERCIAL if model.startswith("cvssp/") else _OWN_LICENSE)
    return _PUBLISHED.get(model, unknown)


def _place(model: str) -> Path:
    return Path(model).expanduser() if _is_local(model) else _cache_folder() / f"models--{model.replace('/', '--')}"


def _cache_folder() -> Path:
    """The hub library's cache, by the environment variables that library documents."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    home = Path(os.environ.get("HF_HOME") or base)
    return Path(os.path.expandvars(os.environ.get("HF_HUB_CACHE") or home / "hub")).expanduser()


def _engine(folder: Path | None) -> str | None:
    if folder is None:
        return None
    try:
        return _ENGINES.get(json.loads((folder / "model_index.json").read_text(encoding="utf-8"))["_class_name"])
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _identity(file: Path) -> tuple[int, int]:
    status = file.stat()
    return status.st_dev, status.st_ino


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
