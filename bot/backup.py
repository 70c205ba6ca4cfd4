"""`python -m bot backup PATH`: a checked copy of the database, also while the bot runs."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from bot.settings import Settings, SettingsError
from bot.store import StoreError
from bot.store.database import back_up_database


def run(argv: Sequence[str]) -> int:
    """Back up the database of the data folder that the settings name. The answer is the exit code.

    Args:
        argv: what comes after `backup` on the command line.

    Raises:
        SystemExit: if the command line is wrong or asks for help.
    """
    parser = argparse.ArgumentParser(
        prog="python -m bot backup",
        description="Copy the bot's database, also while the bot runs, and check the copy. Clips are not in it.",
    )
    parser.add_argument(
        "path", type=Path, help="a folder, in which the copy is named after the time in UTC, or a file not there yet"
    )
    path: Path = parser.parse_args(argv).path
    try:
        source = Settings.load(os.environ, Path(".env")).data_dir / "ambient.db"
        if not source.exists():
            return _refuse("there is no database in the data folder yet; AMBIENT_DATA_DIR says where that is.")
        target = path / f"ambient-{datetime.now(UTC):%Y-%m-%dT%H-%M-%SZ}.db" if path.is_dir() else path
        if target.exists():  # by a slip of the hand it could be the database itself
            return _refuse(f"{target} is there already. Name a folder, or a file that is not there yet.")
        version = back_up_database(source, target)
    except (SettingsError, StoreError) as error:
        return _refuse(str(error))
    print(f"Backed up and checked: {target} (format {version}, {target.stat().st_size / 2**20:.1f} MiB)")
    return 0


def _refuse(reason: str) -> int:
    print(f"No backup was made: {reason}", file=sys.stderr)
    return 1
