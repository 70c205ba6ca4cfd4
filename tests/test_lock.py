"""The data folder's lock: one AmbientGen to a folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bot.lock import AlreadyRunningError, DataFolderError, DataFolderLock

ROOT = Path(__file__).parent.parent
HOLD = (
    "import sys; from pathlib import Path; from bot.lock import DataFolderLock\n"
    "with DataFolderLock(Path(sys.argv[1])):\n"
    "    print('held', flush=True); sys.stdin.read()\n"
)


def start_holder(folder: Path) -> subprocess.Popen[str]:
    """Another process that holds the folder until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_creates_the_folder(tmp_path: Path) -> None:
    """A folder that is missing is created with its parents, and only a lock file stays behind."""
    folder = tmp_path / "deep" / "data"
    with DataFolderLock(folder):
        assert (folder / "ambient.pid").read_text() == f"{os.getpid()}\n"
    assert {entry.name for entry in folder.iterdir()} <= {"ambient.lock"}


def test_second_process_is_refused(tmp_path: Path) -> None:
    """While one process holds the folder, another is told its number; afterwards it may have the folder."""
    with start_holder(tmp_path) as holder:
        with (
            pytest.raises(
                AlreadyRunningError, match=rf"another AmbientGen \(process {holder.pid}\) uses this"
            ) as caught,
            DataFolderLock(tmp_path),
        ):
            pass
        assert str(tmp_path) not in str(caught.value)
        assert (tmp_path / "ambient.pid").read_text() == f"{holder.pid}\n"
        holder.communicate()
    with DataFolderLock(tmp_path):
        pass


def test_killed_process_leaves_no_lock(tmp_path: Path) -> None:
    """After a crash the number of the dead process is still there and does not matter."""
    with start_holder(tmp_path) as holder:
        holder.kill()
        holder.communicate()
    assert (tmp_path / "ambient.pid").exists()
    with DataFolderLock(tmp_path):
        assert (tmp_path / "ambient.pid").read_text() == f"{os.getpid()}\n"


def test_unreadable_number(tmp_path: Path) -> None:
    """Where the number cannot be read, the refusal has none."""
    with DataFolderLock(tmp_path):
        (tmp_path / "ambient.pid").write_bytes(b"\xff?")
        with pytest.raises(AlreadyRunningError, match="another AmbientGen uses this data folder"):
            DataFolderLock(tmp_path).__enter__()


def test_released_after_an_error(tmp_path: Path) -> None:
    """An error inside the block passes through and frees the folder."""
    with pytest.raises(KeyError), DataFolderLock(tmp_path):
        raise KeyError
    with DataFolderLock(tmp_path):
        pass


@pytest.mark.parametrize("blocked", [".", "ambient.lock", "ambient.pid"])
def test_unusable_folder(tmp_path: Path, blocked: str) -> None:
    """Where the folder or a file in it cannot be written, the words say what to do and hold no path."""
    folder = tmp_path / "data"
    if blocked == ".":
        folder.write_text("a file of this name")
    else:
        (folder / blocked).mkdir(parents=True)
    with pytest.raises(DataFolderError, match="cannot be created or written") as caught, DataFolderLock(folder):
        pass
    assert str(tmp_path) not in str(caught.value)
    if blocked == "ambient.pid":
        (folder / blocked).rmdir()
        with DataFolderLock(folder):
            pass
