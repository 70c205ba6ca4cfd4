"""The folder of finished clips: names, reading, shrinking, and a cap on its size."""

from __future__ import annotations

import asyncio
import logging
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ambientgen.audio import encode
from ambientgen.errors import StorageError, UnreadableClipError
from ambientgen.recipe import Recipe

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StoredClip:
    """A clip's bytes, ready to send.

    Attributes:
        name: file name, with the job's id and the seed.
        sound: the encoded sound.
        picture: its picture (PNG), or None if it is gone.
        shrunk: True if the sound was made smaller than the stored one.
    """

    name: str
    sound: bytes
    picture: bytes | None
    shrunk: bool = False


class Clips:
    """The clips under the data folder.

    Args:
        folder: made if need be.
        max_bytes: what all clips together may take; the oldest go first.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder = folder
        self._max_bytes = max_bytes
        self._one_at_a_time = asyncio.Semaphore(1)

    @staticmethod
    def name_for(job_id: str, recipe: Recipe) -> str:
        """File name without its ending: the id finds the job again, the seed the sound."""
        return f"ambient-{job_id}-{recipe.seed}"

    def prepare(self) -> None:
        """Make the folder and drop what an earlier crash left half-written.

        Raises:
            StorageError: if the folder cannot be made.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for partial in self.folder.glob("*.part*"):
                if partial.is_dir():
                    shutil.rmtree(partial)
                else:
                    partial.unlink()
        except OSError as error:
            raise StorageError("The clip folder cannot be made or written. Check AMBIENT_DATA_DIR.") from error

    async def load(self, name: str, max_bytes: int) -> StoredClip | None:
        """A clip of at most `max_bytes`, made smaller if need be; None if it is no longer kept.

        Raises:
            ClipTooLargeError: if it cannot be made small enough.
            UnreadableClipError: if it is damaged.
            StorageError: if it cannot be made smaller for want of space.
        """
        async with self._one_at_a_time:  # making a clip smaller costs a core for seconds
            return await asyncio.to_thread(self._load, name, max_bytes)

    async def remove(self, name: str) -> None:
        """Forget a clip and its picture."""
        await asyncio.to_thread(self._remove, name)

    async def make_room(self) -> list[str]:
        """Remove the oldest clips beyond the cap; answers their names."""
        return await asyncio.to_thread(self._make_room)

    def _load(self, name: str, max_bytes: int) -> StoredClip | None:
        path = self.folder / name
        picture_path = path.with_suffix(".png")
        try:
            picture = picture_path.read_bytes() if picture_path.exists() else None
            if path.stat().st_size <= max_bytes:
                return StoredClip(name, path.read_bytes(), picture)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise UnreadableClipError("The clip cannot be read.") from error
        return self._shrink(path, picture, max_bytes)

    def _shrink(self, path: Path, picture: bytes | None, max_bytes: int) -> StoredClip:
        try:
            with tempfile.TemporaryDirectory(dir=self.folder, suffix=".part") as scratch:
                smaller = encode.encode(
                    encode.decode_long(path, Path(scratch)),
                    Path(scratch),
                    path.stem,
                    "opus",
                    max_bytes=max_bytes,
                    tags=encode.read_tags(path),
                )
                return StoredClip(smaller.path.name, smaller.path.read_bytes(), picture, shrunk=True)
        except OSError as error:
            raise StorageError("A clip cannot be made smaller: is the disk full?") from error

    def _remove(self, name: str) -> None:
        for path in (self.folder / name, (self.folder / name).with_suffix(".png")):
            self._unlink(path)

    @staticmethod
    def _unlink(path: Path) -> None:
        try:
            path.unlink(missing_ok=True)
        except OSError:  # it will be tried again when room is made
            log.warning("a clip could not be removed", exc_info=True)

    def _make_room(self) -> list[str]:
        try:
            sizes = {path: path.stat() for path in self.folder.iterdir() if path.is_file()}
        except OSError:
            log.warning("the clip folder could not be listed", exc_info=True)
            return []
        total = sum(stat.st_size for stat in sizes.values())
        # A sound and its picture go together; a picture may be left alone by a crash.
        by_stem: dict[str, list[Path]] = {}
        for path in sorted(sizes, key=lambda path: sizes[path].st_mtime):
            by_stem.setdefault(path.stem, []).append(path)
        removed = []
        for paths in by_stem.values():
            if total <= self._max_bytes:
                break
            for path in paths:
                total -= sizes[path].st_size
                self._unlink(path)
                if path.suffix != ".png":
                    removed.append(path.name)
        return removed
