"""A look at a database that changes nothing: no migration, no file beside it, no lock that a running bot would feel."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from bot.store.database import BUSY_TIMEOUT_MS, _check_health, _in_words, _migrations, _refuse_newer, _version


def inspect_database(path: Path) -> tuple[int, int]:
    """Check a database file's health and format.

    Args:
        path: an existing file.

    Returns:
        Its format's number, and the newest one that this version knows (never the smaller one).

    Raises:
        StoreError: if it cannot be used, with words for the operator.
    """
    # Without its log of changes nobody uses the file, and SQLite would make one, even only to read; what a crashed or
    # a running bot left there belongs to the database.
    in_use = path.with_name(f"{path.name}-wal").exists()
    address = f"{path.absolute().as_uri()}?{'mode=ro' if in_use else 'immutable=1'}"
    with _in_words(), closing(sqlite3.connect(address, uri=True, timeout=BUSY_TIMEOUT_MS / 1000)) as connection:
        _check_health(connection)
        _refuse_newer(connection)
        return _version(connection), _migrations()[-1].number
