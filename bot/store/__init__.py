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
from bot.store.models import (
    ActName,
    Block,
    DeliveryState,
    Job,
    JobCost,
    JobStatus,
    ModeratorAct,
    Pause,
    Preset,
    PresetUse,
    Server,
    ServerLimits,
    Usage,
)
from bot.store.people import People
from bot.store.presets import PresetLimitError, PresetNameError, Presets
from bot.store.servers import Servers

__all__ = [
    "ActName",
    "Block",
    "DatabaseBusyError",
    "DatabaseCorruptError",
    "DatabaseNotWritableError",
    "DatabaseTooNewError",
    "DeliveryState",
    "Job",
    "JobCost",
    "JobStatus",
    "Jobs",
    "ModeratorAct",
    "Pause",
    "People",
    "Preset",
    "PresetLimitError",
    "PresetNameError",
    "PresetUse",
    "Presets",
    "Server",
    "ServerLimits",
    "Servers",
    "Store",
    "StoreError",
    "Usage",
]


class Store:
    """The open database; use it as `async with Store.open(path) as store:`.

    Attributes:
        jobs: every request and its fate.
        presets: named requests.
        servers: what each server's admins decided and did.
        people: what each person prefers.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self.jobs = Jobs(database)
        self.presets = Presets(database)
        self.servers = Servers(database)
        self.people = People(database)

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
        """Keep one small value, such as the hash of the synced commands, or JSON."""
        await self._database.run(
            "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            (key, value),
        )
