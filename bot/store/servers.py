"""Servers: what their admins decided, and what their moderators did. An act and its record are written together."""

from __future__ import annotations

import dataclasses
import json
import sqlite3
from datetime import datetime
from typing import Any

from bot.store.database import Database, Execute
from bot.store.models import ActName, Block, ModeratorAct, Pause, Server, ServerLimits, from_ms, to_ms

_LIMITS = tuple(field.name for field in dataclasses.fields(ServerLimits))
_SET_LIMITS = (
    f"INSERT INTO server_limits (guild_id, {', '.join(_LIMITS)}) "  # noqa: S608 - the column names are this module's own
    f"VALUES (:guild_id, {', '.join(f':{name}' for name in _LIMITS)}) "
    f"ON CONFLICT (guild_id) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in _LIMITS)}"
)


class Servers:
    """The tables of servers: limits, pauses, blocked people, and moderators' acts.

    Every method that changes something takes who did it (`by`) and when (`at`), and records that.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, guild_id: int) -> Server:
        """How a server is run."""
        row = await self._database.first("SELECT * FROM server_limits WHERE guild_id = ?", (guild_id,))
        return Server() if row is None else _server_from_row(row)

    async def set_limits(self, guild_id: int, limits: ServerLimits, *, by: int, at: datetime) -> None:
        """Put these limits in place of those before; a pause stays."""
        values = dataclasses.asdict(limits)
        stored = values | {"engines": None if limits.engines is None else json.dumps(limits.engines)}
        details = json.dumps({name: value for name, value in values.items() if value is not None})
        async with self._database.transaction() as execute:
            await execute(_SET_LIMITS, {"guild_id": guild_id, **stored})
            await _record(execute, guild_id, "limits", by=by, at=at, details=details)

    async def pause(self, guild_id: int, *, by: int, at: datetime, reason: str | None) -> None:
        """Take no new requests in this server; one that is paused already gets the new reason."""
        async with self._database.transaction() as execute:
            await execute(
                "INSERT INTO server_limits (guild_id, paused_at, paused_by, pause_reason) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (guild_id) DO UPDATE SET paused_at = excluded.paused_at, paused_by = excluded.paused_by, "
                "pause_reason = excluded.pause_reason",
                (guild_id, to_ms(at), by, reason),
            )
            await _record(execute, guild_id, "pause", by=by, at=at, details=reason)

    async def resume(self, guild_id: int, *, by: int, at: datetime) -> bool:
        """Take requests again; False if the server was not paused."""
        return await self._change(
            guild_id,
            "resume",
            "UPDATE server_limits SET paused_at = NULL, paused_by = NULL, pause_reason = NULL "
            "WHERE guild_id = ? AND paused_at IS NOT NULL RETURNING guild_id",
            (guild_id,),
            by=by,
            at=at,
        )

    async def block(self, guild_id: int, user_id: int, *, by: int, at: datetime, reason: str | None) -> bool:
        """Take no requests of this person in this server; False, and nothing changes, if they are blocked already."""
        return await self._change(
            guild_id,
            "block",
            "INSERT INTO blocked_users (guild_id, user_id, blocked_by, blocked_at, reason) VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT DO NOTHING RETURNING user_id",
            (guild_id, user_id, by, to_ms(at), reason),
            by=by,
            at=at,
            target=str(user_id),
            details=reason,
        )

    async def unblock(self, guild_id: int, user_id: int, *, by: int, at: datetime) -> bool:
        """Take requests of this person again; False if they are not blocked."""
        return await self._change(
            guild_id,
            "unblock",
            "DELETE FROM blocked_users WHERE guild_id = ? AND user_id = ? RETURNING user_id",
            (guild_id, user_id),
            by=by,
            at=at,
            target=str(user_id),
        )

    async def is_blocked(self, guild_id: int, user_id: int) -> bool:
        """True if this person may not ask for sounds in this server."""
        sql = "SELECT 1 FROM blocked_users WHERE guild_id = ? AND user_id = ?"
        return await self._database.first(sql, (guild_id, user_id)) is not None

    async def blocked(self, guild_id: int, *, limit: int) -> list[Block]:
        """The people who are blocked in this server."""
        rows = await self._database.run(
            "SELECT user_id, blocked_by AS by, blocked_at AS at, reason FROM blocked_users WHERE guild_id = ? "
            "ORDER BY user_id LIMIT ?",
            (guild_id, limit),
        )
        return [Block(**{**dict(row), "at": from_ms(row["at"])}) for row in rows]

    async def count_blocked(self, guild_id: int) -> int:
        """How many people `blocked` has in all."""
        return await self._database.number("SELECT count(*) FROM blocked_users WHERE guild_id = ?", (guild_id,))

    async def record(
        self, guild_id: int, act: ActName, *, by: int, at: datetime, target: str | None, details: str | None = None
    ) -> None:
        """Record an act that changes nothing in these tables, such as to cancel another's job."""
        async with self._database.transaction() as execute:
            await _record(execute, guild_id, act, by=by, at=at, target=target, details=details)

    async def acts(self, guild_id: int, *, limit: int, offset: int = 0) -> list[ModeratorAct]:
        """What a server's moderators did, the newest first."""
        rows = await self._database.run(
            "SELECT id, moderator_id, act, target, at, details FROM moderator_acts WHERE guild_id = ? "
            "ORDER BY id DESC LIMIT ? OFFSET ?",
            (guild_id, limit, offset),
        )
        return [ModeratorAct(**{**dict(row), "at": from_ms(row["at"])}) for row in rows]

    async def _change(
        self,
        guild_id: int,
        act: ActName,
        sql: str,
        parameters: tuple[Any, ...],
        *,
        by: int,
        at: datetime,
        target: str | None = None,
        details: str | None = None,
    ) -> bool:
        """Run a statement that returns what it changed, and record the act if there was anything to change."""
        async with self._database.transaction() as execute:
            changed = bool(await execute(sql, parameters))
            if changed:
                await _record(execute, guild_id, act, by=by, at=at, target=target, details=details)
        return changed


async def _record(
    execute: Execute,
    guild_id: int,
    act: ActName,
    *,
    by: int,
    at: datetime,
    target: str | None = None,
    details: str | None = None,
) -> None:
    await execute(
        "INSERT INTO moderator_acts (guild_id, moderator_id, act, target, at, details) VALUES (?, ?, ?, ?, ?, ?)",
        (guild_id, by, act, target, to_ms(at), details),
    )


def _server_from_row(row: sqlite3.Row) -> Server:
    values = {name: row[name] for name in _LIMITS}
    engines = None if row["engines"] is None else tuple(json.loads(row["engines"]))
    pause = None
    if row["paused_at"] is not None:
        pause = Pause(at=from_ms(row["paused_at"]), by=row["paused_by"], reason=row["pause_reason"])
    return Server(limits=ServerLimits(**{**values, "engines": engines}), pause=pause)
