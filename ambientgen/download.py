"""Fetching a model from the Hugging Face hub, so that a broken-off download goes on where it stopped.

The hub library's own `snapshot_download` deletes a half-fetched file when it stops, and compares no checksums. So only
the listing, the addresses and the login are left to it. The files are kept as it keeps them, so that it finds them too:
bytes in `blobs`, under their checksum; names in `snapshots`, as links.
"""

from __future__ import annotations

import errno
import importlib.util
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from filelock import FileLock, Timeout

from ambientgen import models
from ambientgen.errors import AmbientError, ModelMissingError, StorageError
from ambientgen.models import ByteReport, ModelFacts, in_bytes

#: A file of a part. Names become places on this disk, so nothing else is taken: no way up, no root, no drive.
_PART = re.compile(r"\w[\w.-]*/\w[\w.-]*")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_TEXT_SUFFIXES = (".json", ".txt", ".model")
_NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS)
_FULL = (errno.ENOSPC, errno.EDQUOT)
#: Answers that may be another one in a moment: too many requests, and a server in trouble.
_PASSING = (408, 429, 500, 502, 503, 504)
#: A connection that brings nothing this many times in a row is given up; the waits in between double.
_TRIES = 5
_WAIT_S = 1.0


@dataclass(frozen=True, slots=True)
class _File:
    name: str
    num_bytes: int
    checksum: str


def download(
    model: str,
    *,
    say: Callable[[str], None],
    report: ByteReport = lambda _stage, _done_bytes, _all_bytes: None,
    endpoint: str | None = None,
) -> Path:
    """Fetch a model from the Hugging Face hub; size, license and place are told first.

    Every file is compared with the hub's checksum as it arrives. What arrived is kept when the download breaks off,
    in the middle of a file too, and a second call goes on from there. A model that is here and right is not fetched
    again; what is damaged of it is.

    Args:
        model: hub id; a local folder is only checked.
        say: takes one line for the operator.
        report: takes the progress in bytes.
        endpoint: another address of the hub; None: the usual one, or that of HF_ENDPOINT.

    Returns:
        The folder with the model's files.

    Raises:
        ModelMissingError: if it could not be fetched or is incomplete, with the reason in words.
        StorageError: if the disk is full or not writable.
    """
    facts = models.describe(model)
    models.say_facts(facts, say)
    folder = models.find(model)
    faults = () if folder is None else models.all_faults(folder, report)
    named = f" ({models.in_short(faults)})" if faults else ""
    if folder is not None and not faults:
        say("All of it is here already.")
        return folder
    if facts.download_bytes == 0:
        raise ModelMissingError(
            f"The folder of `{facts.model}` is missing or incomplete{named}; put the model's files there."
        )
    if _is_offline():
        raise ModelMissingError(
            f"`{facts.model}` is not complete on this machine{named}, and HF_HUB_OFFLINE forbids asking the "
            f"hub. Unset it and run `{models.download_command(model)}`."
        )
    if importlib.util.find_spec("huggingface_hub") is None:
        extra = facts.engine or "audioldm2"
        raise ModelMissingError(f"The model's packages are not installed: install AmbientGen's `{extra}` extra first.")
    try:
        with _alone(facts):
            _fetch(facts, faults, say, report, endpoint)
    except AmbientError:
        raise
    except Exception as error:
        raise _in_words(error, facts.model) from error
    folder = models.find(model)
    if folder is None or models.faults(folder):
        raise ModelMissingError(
            f"The hub's files of `{facts.model}` are not a whole pipeline that AmbientGen can load."
        )
    say("The model is complete.")
    return folder


def _is_offline() -> bool:
    """As the hub library decides it."""
    value = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return value.upper() in {"1", "ON", "YES", "TRUE"}


@contextmanager
def _alone(facts: ModelFacts) -> Iterator[None]:
    """Keep a second download of the same model from writing into the same files."""
    path = facts.place.parent / ".locks" / facts.place.name / "download.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, blocking=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise ModelMissingError(f"Another download of `{facts.model}` is running. Wait until it is done.") from error
    try:
        yield
    finally:
        lock.release()


def _fetch(
    facts: ModelFacts, faults: Iterable[str], say: Callable[[str], None], report: ByteReport, endpoint: str | None
) -> None:
    # Imported here because the base install has no hub library.
    from huggingface_hub import HfApi, hf_hub_url

    # This request is not repeated when it fails, so that a machine without network learns it at once.
    listing = HfApi(endpoint=endpoint).model_info(facts.model, files_metadata=True, timeout=_timeout_s())
    files = _wanted(listing, facts)
    for name in faults:
        _remove(facts, name)

    blobs, snapshot = facts.place / "blobs", facts.place / "snapshots" / listing.sha
    for folder in (blobs, snapshot, facts.place / "refs"):
        folder.mkdir(parents=True, exist_ok=True)
    (facts.place / "refs" / "main").write_text(listing.sha, encoding="ascii")
    missing = [file for file in files if not (snapshot / file.name).exists()]
    all_bytes = sum(file.num_bytes for file in missing)
    here_bytes = sum(_arrived_bytes(blobs, file) for file in missing)
    free_bytes = shutil.disk_usage(facts.place).free
    if all_bytes - here_bytes > free_bytes:
        raise StorageError(
            f"The model needs {in_bytes(all_bytes - here_bytes)} of disk, but only {in_bytes(free_bytes)} are free. "
            "Make room, or set HF_HOME to a folder on another disk."
        )

    here = f", of which {in_bytes(here_bytes)} are here already" if here_bytes else ""
    say(f"Fetching {len(missing)} files, {in_bytes(all_bytes)}{here} ...")
    done_bytes = 0

    def advance(num_bytes: int) -> None:
        nonlocal done_bytes
        done_bytes += num_bytes
        report("downloading", done_bytes, all_bytes)

    for file in missing:
        blob, partial = blobs / file.checksum, _partial(blobs, file)
        if blob.exists():
            blob.replace(partial)  # nobody vouches for it, so it is compared again
        url = hf_hub_url(facts.model, file.name, revision=listing.sha, endpoint=endpoint)
        if _arrive(url, partial, file, advance) != file.checksum:
            partial.unlink()
            raise ModelMissingError(
                f"`{file.name}` is damaged: its checksum is wrong, so it was deleted. "
                f"Run `{models.download_command(facts.model)}` again; if that does not help, try another network."
            )
        partial.replace(blob)
        _link(blob, snapshot / file.name)


def _wanted(listing: Any, facts: ModelFacts) -> list[_File]:
    """The files of the hub's listing that the pipeline needs, in the order to fetch them.

    Weights come last: whatever breaks off in between leaves a part without its weights, and `models.faults` sees that.
    """
    names = _needed(sibling.rfilename for sibling in listing.siblings or ())
    if "model_index.json" not in names:
        raise ModelMissingError(f"`{facts.model}` on the hub is not a diffusers pipeline, which AmbientGen needs.")
    siblings = {sibling.rfilename: sibling for sibling in listing.siblings}
    files = [
        _File(name, int(siblings[name].size or 0), str(getattr(siblings[name].lfs, "sha256", siblings[name].blob_id)))
        for name in sorted(names, key=lambda name: (not name.endswith(_TEXT_SUFFIXES), name))
    ]
    # Both become names of files here.
    if not _COMMIT.fullmatch(str(listing.sha)) or not all(models.is_checksum(file.checksum) for file in files):
        raise ModelMissingError("This hub does not name its files' checksums, so nothing is fetched from it.")
    return files


def _needed(names: Iterable[str]) -> list[str]:
    """The files the pipeline reads: each part's settings, and its weights once (safetensors before the old format)."""
    paths = [PurePosixPath(name) for name in names]
    parts = [path for path in paths if _PART.fullmatch(str(path)) and ".fp16." not in path.name]
    in_safetensors = {path.parent for path in parts if path.suffix == ".safetensors"}
    needed = [
        path
        for path in parts
        if path.suffix in (*_TEXT_SUFFIXES, ".safetensors")
        or (path.suffix == ".bin" and path.parent not in in_safetensors)
    ]
    return [str(path) for path in [*needed, *(path for path in paths if str(path) == "model_index.json")]]


def _remove(facts: ModelFacts, name: str) -> None:
    """Delete a damaged file in all its places; nothing happens for one that is missing."""
    folder = models.find(facts.model)
    if folder is None or not os.path.lexists(file := folder / name) or file.is_dir():
        return
    checksum = models.known_checksums(folder).get(file)
    for place in (file.resolve(), file, *([] if checksum is None else [facts.place / "blobs" / checksum])):
        place.unlink(missing_ok=True)


def _partial(blobs: Path, file: _File) -> Path:
    return blobs / f"{file.checksum}.incomplete"


def _arrived_bytes(blobs: Path, file: _File) -> int:
    if (blobs / file.checksum).exists():
        return file.num_bytes
    partial = _partial(blobs, file)
    return min(partial.stat().st_size, file.num_bytes) if partial.exists() else 0


def _arrive(url: str, partial: Path, file: _File, advance: Callable[[int], None]) -> str:
    """Bring a file to its full length, going on behind what is there of it; returns its checksum."""
    digest = models.start_digest(file.checksum, file.num_bytes)
    with partial.open("a+b") as stream:
        stream.seek(0)
        for piece in models.pieces(stream):
            digest.update(piece)
            advance(len(piece))
        num_failures = 0
        while (start := stream.tell()) < file.num_bytes:
            failure: Exception | None = None
            try:
                for piece in _pieces(url, start):
                    stream.write(piece)
                    digest.update(piece)
                    advance(len(piece))
            except Exception as error:
                # The disk's errors and the hub's refusals would only come again; a broken connection need not.
                if isinstance(error, OSError) and _status(error) not in _PASSING:
                    raise
                failure = error
            num_failures = 0 if stream.tell() > start else num_failures + 1
            if num_failures == _TRIES:
                raise ConnectionError("nothing arrives any more") from failure
            if num_failures:
                time.sleep(_WAIT_S * 2 ** (num_failures - 1))
    return str(digest.hexdigest())


def _pieces(url: str, start: int) -> Iterator[bytes]:
    """A file's bytes from one position on, as they arrive."""
    from huggingface_hub import get_session, hf_raise_for_status
    from huggingface_hub.utils import build_hf_headers

    # Compressed, the bytes would be counted wrongly.
    headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    with get_session().stream("GET", url, headers=headers, timeout=_timeout_s()) as response:
        hf_raise_for_status(response)
        skip = 0 if response.status_code == 206 else start  # a server that knows no ranges sends all of it again
        for piece in response.iter_bytes():
            yield piece[skip:]
            skip = max(0, skip - len(piece))


def _timeout_s() -> float:
    """How long a silent connection is waited for."""
    from huggingface_hub.constants import HF_HUB_DOWNLOAD_TIMEOUT

    return float(HF_HUB_DOWNLOAD_TIMEOUT)


def _link(blob: Path, file: Path) -> None:
    """Give a blob its name in the snapshot, by the first way that the file system and the user's rights allow."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.unlink(missing_ok=True)  # a link into nothing
    try:
        file.symlink_to(os.path.relpath(blob, file.parent))
    except OSError:  # Windows, without its developer mode
        try:
            file.hardlink_to(blob)
        except OSError:
            blob.replace(file)


def _in_words(error: BaseException, model: str) -> AmbientError:
    """What stopped a download, in one sentence."""
    chain = list(_causes(error))
    numbers = {cause.errno for cause in chain if isinstance(cause, OSError)}
    again = f"run `{models.download_command(model)}` again"
    if numbers & set(_FULL):
        return StorageError(f"The disk is full. Make room and {again}: it goes on where it stopped.")
    if numbers & set(_NOT_WRITABLE):
        return StorageError(
            "The folder for models is not writable by this user. Give this user the right to write there, or set "
            f"HF_HOME to a folder where it may, and {again}."
        )
    # A gated or hidden model answers 401 or 403; a name that does not exist, 404 (or 401 without an account).
    status = next((status for cause in chain if (status := _status(cause))), None)
    if status in (401, 403):
        return ModelMissingError(
            f"The hub does not hand out `{model}`: check the name, accept the license on its page "
            f"(https://huggingface.co/{model}), log in with `hf auth login`, and {again}."
        )
    if status == 404:
        return ModelMissingError(f"There is no model `{model}` on the hub: check the name.")
    return ModelMissingError(
        f"The hub could not be reached or broke off: check this machine's connection and {again}; "
        "it goes on where it stopped."
    )


def _status(error: BaseException) -> int | None:
    """The hub's answer, if it was one that stopped the download."""
    return getattr(getattr(error, "response", None), "status_code", None)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
