"""One AmbientGen to a data folder: two would answer each request twice and spoil each other's queue."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType

from filelock import FileLock, Timeout

_LOCK_NAME = "ambient.lock"
_PID_NAME = "ambient.pid"


class DataFolderError(Exception):
    """The data folder cannot be used."""


class AlreadyRunningError(Exception):
    """Another AmbientGen uses the data folder."""


class DataFolderLock:
    """Holds a data folder while the block runs; creates the folder if there is none.

    The operating system's lock decides, so nothing stays locked after a crash. The number in the file beside it
    only tells the next process whom to name.

    Args:
        folder: the data folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = FileLock(folder / _LOCK_NAME, blocking=False)

    def __enter__(self) -> DataFolderLock:
        """Take the lock.

        Raises:
            AlreadyRunningError: if another process holds it.
            DataFolderError: if the folder cannot be created or written.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
        except Timeout as error:
            raise AlreadyRunningError(
                f"another AmbientGen{self._other_process()} uses this data folder. Stop that one first, "
                "or give this one a folder of its own with AMBIENT_DATA_DIR."
            ) from error
        except (OSError, NotImplementedError) as error:
            raise _unusable() from error
        try:
            self._pid_file.write_text(f"{os.getpid()}\n", encoding="ascii")
        except OSError as error:
            self._lock.release()
            raise _unusable() from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._pid_file.unlink(missing_ok=True)
        self._lock.release()

    @property
    def _pid_file(self) -> Path:
        return self._folder / _PID_NAME

    def _other_process(self) -> str:
        try:
            return f" (process {int(self._pid_file.read_text(encoding='ascii'))})"
        except (OSError, ValueError):
            return ""


def _unusable() -> DataFolderError:
    return DataFolderError(
        "The data folder cannot be created or written. Give this user the right to write there, make sure that the "
        "disk has space and that no file has the folder's name, or choose another folder with AMBIENT_DATA_DIR."
    )
