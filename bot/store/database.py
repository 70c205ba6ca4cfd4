"""The database file: opening, checking, migrating, one statement or one transaction at a time.

StoreError
├── DatabaseTooNewError         written by a newer AmbientGen
├── DatabaseCorruptError        damaged, or not a database
├── DatabaseBusyError           another program holds it
└── DatabaseNotWritableError    the disk is full, read-only or failing

Messages are for the operator; they hold neither a path nor anything a person typed.
"""

from __future__ import annotations

import asyncio
import importlib.resources
import logging
import os
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiosqlite

Parameters = Sequence[Any] | Mapping[str, Any]
Execute = Callable[[str, Parameters], Awaitable[list[sqlite3.Row]]]

BUSY_TIMEOUT_MS = 1500  # an interaction must be answered within 3 s, also with bad news
_OLDEST_SQLITE = (3, 37)  # STRICT tables
_ITER_CHUNK_SIZE = 64  # aiosqlite asks for one; nothing here iterates over a cursor

_log = logging.getLogger(__name__)


class StoreError(Exception):
    """The store could not do what was asked."""


class DatabaseTooNewError(StoreError):
    """The database was written by a newer version of AmbientGen."""


class DatabaseCorruptError(StoreError):
    """The file is damaged, or is not a database."""


class DatabaseBusyError(StoreError):
    """Another program holds the database."""


class DatabaseNotWritableError(StoreError):
    """The disk is full, read-only or failing."""


_CORRUPT = (
    DatabaseCorruptError,
    ("The database is damaged or is not a database. Put back a backup, or move the file away to start empty."),
)
_BUSY = DatabaseBusyError, "Another program holds the database. Close it and try again."
_FULL = DatabaseNotWritableError, "The database cannot be written: the disk is full. Free some space and try again."
_READ_ONLY = (
    DatabaseNotWritableError,
    ("The database cannot be written: the file, its folder or the disk is read-only for this user."),
)
_CANNOT_OPEN = (
    DatabaseNotWritableError,
    ("The database cannot be opened: its folder is missing or not writable, or something else has its name."),
)
_DISK_ERROR = DatabaseNotWritableError, "The database cannot be read or written: the disk reports an error."

_BY_CODE: dict[int, tuple[type[StoreError], str]] = {
    sqlite3.SQLITE_CORRUPT: _CORRUPT,
    sqlite3.SQLITE_NOTADB: _CORRUPT,
    sqlite3.SQLITE_BUSY: _BUSY,
    sqlite3.SQLITE_LOCKED: _BUSY,
    sqlite3.SQLITE_FULL: _FULL,
    sqlite3.SQLITE_READONLY: _READ_ONLY,
    sqlite3.SQLITE_PERM: _READ_ONLY,
    sqlite3.SQLITE_CANTOPEN: _CANNOT_OPEN,
    sqlite3.SQLITE_IOERR: _DISK_ERROR,
}


@contextmanager
def _in_words() -> Iterator[None]:
    """Turn SQLite's errors into this module's."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
        primary_code = code & 0xFF  # the upper bits say more than the words need
        kind, words = _BY_CODE.get(primary_code, (StoreError, "The database refused a statement; the log says which."))
        raise kind(words) from error


class Database:
    """One connection, used by one task at a time.

    Args:
        connection: in autocommit mode, so that a single statement is its own transaction.
    """

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection
        # Readers take it too: on one connection they would see the middle of another task's transaction.
        self._lock = asyncio.Lock()
        self._closed = False

    async def run(self, sql: str, parameters: Parameters = ()) -> list[sqlite3.Row]:
        """Run one statement; what it returns (also with RETURNING) is read to its end."""
        async with self._lock:
            return await self._execute(sql, parameters)

    async def first(self, sql: str, parameters: Parameters = ()) -> sqlite3.Row | None:
        """The first row of `run`, or None."""
        rows = await self.run(sql, parameters)
        return rows[0] if rows else None

    async def number(self, sql: str, parameters: Parameters = ()) -> int:
        """What a statement that counts has counted."""
        rows = await self.run(sql, parameters)
        return int(rows[0][0])

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Execute]:
        """Several statements that happen together or not at all."""
        async with self._lock:
            self._refuse_if_closed()
            try:
                await self._execute("BEGIN IMMEDIATE")
                yield self._execute
                await self._execute("COMMIT")
            except BaseException:
                # The worker thread keeps the order, so this comes after a statement whose task was cancelled.
                await self._connection.rollback()
                raise

    async def close(self) -> None:
        """Let a running statement end, then close."""
        async with self._lock:
            self._closed = True
            with _in_words():
                await self._connection.close()

    async def _execute(self, sql: str, parameters: Parameters = ()) -> list[sqlite3.Row]:
        self._refuse_if_closed()
        with _in_words():
            return list(await self._connection.execute_fetchall(sql, parameters))

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise StoreError("The database is closed.")


@asynccontextmanager
async def open_database(path: Path) -> AsyncIterator[Database]:
    """Open the file, check it, bring it up to date, and close it at the end.

    Raises:
        StoreError: if it cannot be used, with words for the operator.
    """
    # At DEBUG aiosqlite logs each statement with its values; interaction tokens never enter a log.
    logging.getLogger("aiosqlite").setLevel(logging.WARNING)
    # Opened outside aiosqlite, in one synchronous piece; handed over whole, so one thread at a time uses it.
    opened = await asyncio.to_thread(_open, path)
    database = Database(await aiosqlite.Connection(lambda: opened, _ITER_CHUNK_SIZE))
    try:
        yield database
    finally:
        await database.close()


def _open(path: Path) -> sqlite3.Connection:
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        raise StoreError(f"This Python has SQLite {sqlite3.sqlite_version}; AmbientGen needs 3.37 or newer.")
    with _in_words():
        connection = sqlite3.connect(
            path, timeout=BUSY_TIMEOUT_MS / 1000, isolation_level=None, check_same_thread=False
        )
        try:
            connection.row_factory = sqlite3.Row
            _check_health(connection)
            _refuse_newer(connection)
            _set_pragmas(connection)
            _migrate(connection, path)
            # Only now: a migration may have to rebuild a table that others refer to.
            connection.execute("PRAGMA foreign_keys = ON")
        except BaseException:
            connection.close()
            raise
    return connection


def _check_health(connection: sqlite3.Connection, check: str = "quick_check") -> None:
    findings = [row[0] for row in connection.execute(f"PRAGMA {check}")]
    if findings != ["ok"]:
        _log.error("%s found: %s", check, "; ".join(findings[:5]))
        raise _CORRUPT[0](_CORRUPT[1])


def _set_pragmas(connection: sqlite3.Connection) -> None:
    connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    connection.execute("PRAGMA journal_mode = WAL")
    # FULL: a job that was announced survives a power cut.
    connection.execute("PRAGMA synchronous = FULL")
    # An erased token is overwritten in the file, not merely unlinked.
    connection.execute("PRAGMA secure_delete = ON")
    # A read-only or locked file shows itself here, not at the first job.
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("ROLLBACK")


@dataclass(frozen=True, slots=True)
class _Migration:
    number: int
    sql: str


def _migrations() -> list[_Migration]:
    folder = importlib.resources.files("bot.store") / "migrations"
    scripts = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".sql")), key=lambda entry: entry.name)
    return [_Migration(int(script.name[:4]), script.read_text(encoding="utf-8")) for script in scripts]


def _version(connection: sqlite3.Connection) -> int:
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version


def _refuse_newer(connection: sqlite3.Connection) -> None:
    version, newest = _version(connection), _migrations()[-1].number
    if version > newest:
        raise DatabaseTooNewError(
            f"The database was written by a newer AmbientGen (format {version}; this one reads up to {newest}). "
            "Update AmbientGen, or put back the backup made before that update."
        )


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    version = _version(connection)
    pending = [migration for migration in _migrations() if migration.number > version]
    if not pending:
        return
    if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        _back_up(connection, path.with_name(f"{path.name}.before-{pending[0].number:04d}"))
    for migration in pending:
        _apply(connection, migration)


def _apply(connection: sqlite3.Connection, migration: _Migration) -> None:
    try:
        connection.executescript(
            f"BEGIN IMMEDIATE;\n{migration.sql}\nPRAGMA user_version = {migration.number};\nCOMMIT;"
        )
    except sqlite3.Error:
        connection.rollback()
        raise
    _log.info("database migrated to format %d", migration.number)


def back_up_database(source: Path, target: Path) -> int:
    """Copy a database file without its interaction tokens, also while a bot writes to it.

    The copy is one moment's, checked before it gets its name, and a single file. Writers are not held up.

    Args:
        source: an existing database.
        target: the copy; a file of that name is replaced.

    Returns:
        The format's number.

    Raises:
        StoreError: if the database cannot be read, is damaged or of a newer version, or the copy cannot be written.
    """
    # Not read-only: a crashed bot's changes may still have to be taken from the log beside the file.
    address = f"{source.absolute().as_uri()}?mode=rw"
    with _in_words(), closing(sqlite3.connect(address, uri=True, timeout=BUSY_TIMEOUT_MS / 1000)) as connection:
        _refuse_newer(connection)
        return _back_up(connection, target)


def _back_up(connection: sqlite3.Connection, target: Path) -> int:
    """Copy the database without its interaction tokens; an unfinished copy never has the backup's name."""
    unfinished = target.with_name(f"{target.name}.part")
    try:
        unfinished.write_bytes(
            b""
        )  # what an earlier try left is gone, and a folder that cannot be written shows itself
        with closing(sqlite3.connect(unfinished, isolation_level=None)) as copy:
            connection.backup(copy)
            _check_health(copy, "integrity_check")  # before tokens are looked for by way of an index
            copy.execute("PRAGMA journal_mode = DELETE")  # one file, with nothing beside it
            if copy.execute("SELECT 1 FROM pragma_table_info('jobs') WHERE name = 'interaction_token'").fetchone():
                copy.execute("UPDATE jobs SET interaction_token = NULL WHERE interaction_token IS NOT NULL")
                copy.execute("VACUUM")  # the old values would stay readable in unused space
                _check_health(copy, "integrity_check")
            version = _version(copy)
        os.replace(unfinished, target)
    except OSError as error:
        raise DatabaseNotWritableError(
            "The backup could not be written: its folder is missing, full or read-only for this user, or something "
            "else has its name."
        ) from error
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
    return version
