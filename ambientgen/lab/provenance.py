"""Where a contestant's weights come from: published and checked, unknown, or none at all."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ambientgen import models
from ambientgen.errors import ModelMissingError

Kind = Literal["published", "unknown", "none"]

#: What of a model's folder decides how it sounds.
_SUFFIXES = (".json", ".txt", ".model", ".safetensors", ".bin")


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """What is known of a model's weights.

    Attributes:
        kind: "published" if every file is one that the hub published under a name AmbientGen knows; "none" for an
            engine without weights.
        model: public name, or None for an engine without weights.
        license: in one line.
        words: one or two sentences for the page.
        fingerprint: of all files; "" for an engine without weights. Equal fingerprints, equal weights.
    """

    kind: Kind
    model: str | None
    license: str
    words: str
    fingerprint: str


WITHOUT_WEIGHTS = Provenance(
    kind="none",
    model=None,
    license="MIT (no weights)",
    words="Made by rule, without weights.",
    fingerprint="",
)


def of_model(model: str, report: models.ByteReport) -> Provenance:
    """Read every byte of a model's files and say what they are.

    Args:
        model: hub id or local folder, complete.
        report: told of every megabyte read.

    Raises:
        ModelMissingError: if it is not on this machine, or damaged.
    """
    facts, folder = models.describe(model), models.find(model)
    if folder is None:
        raise ModelMissingError(f"The model `{facts.model}` is not on this machine: run `make model`.")
    files = sorted(file for file in folder.rglob("*") if file.suffix in _SUFFIXES and file.is_file())
    known = models.known_checksums(folder)
    checked = bool(files) and set(files) <= set(known)
    if checked:
        wrong = models.all_faults(folder, report)
        if wrong:
            raise ModelMissingError(
                f"The files of the model `{facts.model}` are incomplete or damaged ({models.in_short(wrong)}): "
                f"`{models.download_command(facts.model)}` mends them."
            )
    digests = {file: known[file] for file in files} if checked else _digests(files, report)
    published = checked and facts.model in models.KNOWN
    return Provenance(
        kind="published" if published else "unknown",
        model=facts.model,
        license=facts.license,
        words=_words(facts.model, len(files), checked=checked, published=published),
        fingerprint=_fingerprint(folder, digests),
    )


def _words(name: str, num_files: int, *, checked: bool, published: bool) -> str:
    if published:
        return f"The published weights of {name}: all {num_files} files have the checksums of the hub."
    source = (
        f"{name} has the checksums of the hub, but is not a model that AmbientGen knows"
        if checked
        else f"{name} is not known to be published weights"
    )
    return f"{source}. Its clips say nothing about sound quality."


def _digests(files: list[Path], report: models.ByteReport) -> dict[Path, str]:
    done_bytes, all_bytes = 0, sum(file.stat().st_size for file in files)
    digests = {}
    for file in files:
        digest = hashlib.sha256()
        with file.open("rb") as stream:
            for piece in models.pieces(stream):
                digest.update(piece)
                done_bytes += len(piece)
                report("checking", done_bytes, all_bytes)
        digests[file] = digest.hexdigest()
    return digests


def _fingerprint(folder: Path, digests: dict[Path, str]) -> str:
    lines = (f"{file.relative_to(folder).as_posix()} {digest}\n" for file, digest in digests.items())
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()
