"""Everything that must survive a restart. Every SQL statement of the project lives in this package."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from bot.store.database import (
    Database,
    DatabaseBusyError,
    DatabaseCorruptError,
    DatabaseNotWritableError,
    DatabaseTooNewError,
    StoreError,
    open_database,
)
from bot.store.jobs import Jobs
from bot.store.models import DeliveryState, Job, JobStatus, Preset, PresetUse, Usage
from bot.store.presets import PresetLimitError, PresetNameError, Presets

__all__ = [
    "DatabaseBusyError",
    "DatabaseCorruptError",
    "DatabaseNotWritableError",
    "DatabaseTooNewError",
    "DeliveryState",
    "Job",
    "JobStatus",
    "Jobs",
    "Preset",
    "PresetLimitError",
    "PresetNameError",
    "PresetUse",
    "Presets",
    "Store",
    "StoreError",
    "Usage",
]


class Store:
    """The open database; use it as `async with Store.open(path) as store:`.

    Attributes:
        jobs: every request and its fate.
        presets: named requests.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self.jobs = Jobs(database)
        self.presets = Presets(database)

    @classmethod
    @asynccontextmanager
    async def open(cls, path: Path) -> AsyncIterator[Store]:
        """Open the database at `path`, creating or updating it as needed.

        Raises:
            StoreError: if it cannot be used, with words for the operator.
        """
        async with open_database(path) as database:
            yield cls(database)

    async def get_meta(self, key: str) -> str | None:
        """A value kept with `set_meta`, or None."""
        row = await self._database.first("SELECT value FROM meta WHERE key = ?", (key,))
        return None if row is None else str(row["value"])

    async def set_meta(self, key: str, value: str) -> None:
        """Keep one small value, such as the hash of the synced commands."""
        await self._database.run(
            "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            (key, value),
        )
