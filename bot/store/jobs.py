"""Jobs: every request and its fate. Each step is one guarded statement, so a repeated or late step changes nothing."""

from __future__ import annotations

import json
import logging
import secrets
import sqlite3
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from ambientgen.errors import RequestError
from ambientgen.recipe import Recipe, SceneRequest
from bot.store.database import Database, StoreError
from bot.store.models import DeliveryState, Job, JobCost, Usage, from_ms, to_ms

_ID_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # base32 without i, l, o and u
_ID_LENGTH = 10
_INSTANTS = ("token_expires_at", "created_at", "started_at", "finished_at")
_DELIVERY_ENDED = frozenset({"delivered", "kept", "deleted"})
#: What counts against a day's sound; the partial indexes say the same.
_COUNTED = "status <> 'failed' AND (status <> 'cancelled' OR started_at IS NOT NULL)"
#: Sums of floats differ by their order.
_ROUNDING_S = 1e-6

_log = logging.getLogger(__name__)


class Jobs:
    """The table of jobs. Methods that step a job on return False if it was not in a state to take that step."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @staticmethod
    def new_id() -> str:
        """A fresh id: ten characters that survive being read aloud and typed."""
        return "".join(secrets.choice(_ID_ALPHABET) for _ in range(_ID_LENGTH))

    async def add(self, job: Job) -> None:
        """Write a new job; after this a crash loses nothing."""
        row = _to_row(job)
        columns, marks = ", ".join(row), ", ".join("?" * len(row))
        await self._database.run(
            f"INSERT INTO jobs ({columns}) VALUES ({marks})",  # noqa: S608 - the column names are this module's own
            tuple(row.values()),
        )

    async def get(self, job_id: str) -> Job | None:
        """The job of that id, in any state.

        Raises:
            StoreError: if this version cannot read what is stored.
        """
        row = await self._database.first("SELECT * FROM jobs WHERE id = ?", (job_id,))
        return None if row is None else _from_row(row)

    async def set_message(self, job_id: str, message_id: int) -> bool:
        """Remember the card in the channel."""
        return await self._changed(
            "UPDATE jobs SET message_id = ? WHERE id = ? RETURNING id",
            message_id,
            job_id,
        )

    async def start(self, job_id: str, at: datetime) -> bool:
        """Queued -> running, one attempt more."""
        return await self._changed(
            "UPDATE jobs SET status = 'running', attempts = attempts + 1, started_at = ? "
            "WHERE id = ? AND status = 'queued' RETURNING id",
            to_ms(at),
            job_id,
        )

    async def requeue(self, job_id: str) -> bool:
        """Running -> queued again, at its old place; its attempts stay counted."""
        return await self._changed(
            "UPDATE jobs SET status = 'queued', started_at = NULL WHERE id = ? AND status = 'running' RETURNING id",
            job_id,
        )

    async def put_back(self, job_id: str) -> bool:
        """Running -> queued again after a stop in order, which is no failed attempt."""
        return await self._changed(
            "UPDATE jobs SET status = 'queued', started_at = NULL, attempts = max(0, attempts - 1) "
            "WHERE id = ? AND status = 'running' RETURNING id",
            job_id,
        )

    async def finish(
        self, job_id: str, at: datetime, *, recipe: Recipe, clip_name: str | None, facts: Mapping[str, Any]
    ) -> bool:
        """Running -> done, to be delivered.

        Args:
            job_id: the job.
            at: when it ended.
            recipe: with the seeds really used.
            clip_name: file name in the clips folder.
            facts: what was measured; anything JSON can carry.
        """
        return await self._changed(
            "UPDATE jobs SET status = 'done', finished_at = ?, recipe = ?, duration_s = ?, clip_name = ?, facts = ?, "
            "delivery_state = iif(delivery_state IN ('deleted', 'delivered', 'kept'), delivery_state, 'pending') "
            "WHERE id = ? AND status = 'running' RETURNING id",
            to_ms(at),
            recipe.to_json(),
            recipe.duration_s,
            clip_name,
            json.dumps(dict(facts), ensure_ascii=False),
            job_id,
        )

    async def fail(self, job_id: str, at: datetime, error: str) -> bool:
        """Queued or running -> failed; the words are to be delivered."""
        return await self._end(job_id, "failed", at, error)

    async def cancel(self, job_id: str, at: datetime) -> bool:
        """Queued or running -> cancelled; the news is to be delivered."""
        return await self._end(job_id, "cancelled", at, None)

    async def set_delivery(self, job_id: str, state: DeliveryState) -> bool:
        """Record how the delivery stands; what the person deleted stays deleted.

        A state that ends the delivery erases the interaction token in the same statement.
        """
        return await self._changed(
            "UPDATE jobs SET delivery_state = ?, "
            "interaction_token = iif(?, NULL, interaction_token) "
            "WHERE id = ? AND delivery_state <> 'deleted' RETURNING id",
            state,
            state in _DELIVERY_ENDED,
            job_id,
        )

    async def erase_expired_tokens(self, now: datetime) -> int:
        """Erase each interaction token that Discord no longer takes; return how many."""
        rows = await self._database.run(
            "UPDATE jobs SET interaction_token = NULL "
            "WHERE interaction_token IS NOT NULL AND token_expires_at <= ? RETURNING id",
            (to_ms(now),),
        )
        return len(rows)

    async def unfinished(self) -> list[Job]:
        """Queued and running jobs, the oldest first."""
        return _readable(
            await self._database.run(
                "SELECT * FROM jobs WHERE status IN ('queued', 'running') ORDER BY created_at, rowid"
            )
        )

    async def undelivered(self) -> list[Job]:
        """Ended jobs whose outcome the person has not seen, the oldest first."""
        return _readable(
            await self._database.run("SELECT * FROM jobs WHERE delivery_state = 'pending' ORDER BY created_at, rowid")
        )

    async def num_pending(self, user_id: int | None = None) -> int:
        """How many jobs are queued or running, of one person or of all."""
        if user_id is None:
            return await self._database.number(
                # Left to itself, SQLite walks over the larger index of all jobs.
                "SELECT count(*) FROM jobs INDEXED BY jobs_unfinished WHERE status IN ('queued', 'running')"
            )
        return await self._database.number(
            "SELECT count(*) FROM jobs WHERE status IN ('queued', 'running') AND user_id = ?", (user_id,)
        )

    async def history(self, user_id: int, *, limit: int, offset: int = 0) -> list[Job]:
        """A person's jobs, the newest first, without the deleted ones."""
        return _readable(
            await self._database.run(
                "SELECT * FROM jobs WHERE user_id = ? AND delivery_state <> 'deleted' "
                "ORDER BY created_at DESC, rowid DESC LIMIT ? OFFSET ?",
                (user_id, limit, offset),
            )
        )

    async def recent_scenes(self, user_id: int, limit: int) -> list[tuple[str, str]]:
        """The newest jobs of a person as (id, description), each description once, the deleted left out."""
        rows = await self._database.run(
            "SELECT id, json_extract(request, '$.description') AS scene FROM jobs "
            "WHERE user_id = ? AND delivery_state <> 'deleted' ORDER BY created_at DESC, rowid DESC LIMIT ?",
            (user_id, limit),
        )
        newest: dict[str, str] = {}
        for row in rows:
            newest.setdefault(row["scene"], row["id"])
        return [(job_id, scene) for scene, job_id in newest.items()]

    async def count_history(self, user_id: int) -> int:
        """How many jobs `history` has for this person."""
        return await self._database.number(
            "SELECT count(*) FROM jobs WHERE user_id = ? AND delivery_state <> 'deleted'", (user_id,)
        )

    async def clip_names(self) -> set[str]:
        """The clips that some job still refers to."""
        rows = await self._database.run("SELECT clip_name FROM jobs WHERE clip_name IS NOT NULL")
        return {row["clip_name"] for row in rows}

    async def forget_clip(self, clip_name: str) -> bool:
        """Note that this file is gone."""
        return await self._changed("UPDATE jobs SET clip_name = NULL WHERE clip_name = ? RETURNING id", clip_name)

    async def delete(self, job_id: str) -> str | None:
        """Mark a job as deleted by its person; return the clip's name if there is a file to remove."""
        async with self._database.transaction() as execute:
            rows = await execute("SELECT clip_name FROM jobs WHERE id = ?", (job_id,))
            await execute(
                "UPDATE jobs SET delivery_state = 'deleted', interaction_token = NULL, clip_name = NULL WHERE id = ?",
                (job_id,),
            )
        return rows[0]["clip_name"] if rows else None

    async def usage(self) -> Usage:
        """Totals over all time, deleted jobs included."""
        (row,) = await self._database.run(
            "SELECT count(*) AS num_jobs, count(*) FILTER (WHERE status = 'done') AS num_done, "
            "total(duration_s) FILTER (WHERE status = 'done') AS seconds_of_sound, "
            "count(DISTINCT user_id) AS num_users FROM jobs"
        )
        return Usage(**dict(row))

    async def seconds_since(self, guild_id: int, since: datetime, *, user_id: int | None = None) -> float:
        """How much sound was asked for in a server after an instant, by one person or by all.

        Failed jobs, and those cancelled before they were started, do not count; deleted ones do.
        """
        row = await self._database.first(
            f"SELECT total(duration_s) AS seconds FROM jobs WHERE {_counted(user_id)}",  # noqa: S608 - our own words
            {"guild": guild_id, "user": user_id, "since": to_ms(since)},
        )
        assert row is not None
        return float(row["seconds"])

    async def passed_at(
        self, guild_id: int, since: datetime, seconds: float, *, user_id: int | None = None
    ) -> datetime | None:
        """When the jobs that `seconds_since` counts had asked for so many seconds, the oldest first.

        Returns:
            The instant, or None if they are fewer seconds in all.
        """
        row = await self._database.first(
            "SELECT created_at FROM (SELECT created_at, sum(duration_s) OVER (ORDER BY created_at) AS seconds "  # noqa: S608
            f"FROM jobs WHERE {_counted(user_id)}) WHERE seconds >= :seconds LIMIT 1",  # our own words
            {"guild": guild_id, "user": user_id, "since": to_ms(since), "seconds": seconds - _ROUNDING_S},
        )
        return None if row is None else from_ms(row["created_at"])

    async def recent_costs(self, since: datetime) -> list[JobCost]:
        """What the jobs that were finished since an instant took, the oldest first, also of deleted ones."""
        rows = await self._database.run(
            "SELECT user_id, guild_id, finished_at, json_extract(facts, '$.render_time_s') AS render_time_s FROM jobs "
            "WHERE status = 'done' AND finished_at >= ? ORDER BY finished_at",
            (to_ms(since),),
        )
        return [
            JobCost(**{**dict(row), "finished_at": from_ms(row["finished_at"])})
            for row in rows
            if row["render_time_s"] is not None
        ]

    async def _end(self, job_id: str, status: str, at: datetime, error: str | None) -> bool:
        return await self._changed(
            "UPDATE jobs SET status = ?, finished_at = ?, error = ?, "
            "delivery_state = iif(delivery_state IN ('deleted', 'delivered', 'kept'), delivery_state, 'pending') "
            "WHERE id = ? AND status IN ('queued', 'running') RETURNING id",
            status,
            to_ms(at),
            error,
            job_id,
        )

    async def _changed(self, sql: str, *parameters: Any) -> bool:
        return bool(await self._database.run(sql, parameters))


def _counted(user_id: int | None) -> str:
    of_whom = "guild_id = :guild" if user_id is None else "guild_id = :guild AND user_id = :user"
    return f"{of_whom} AND created_at > :since AND {_COUNTED}"


def _to_row(job: Job) -> dict[str, Any]:
    row: dict[str, Any] = {name: getattr(job, name) for name in Job.__slots__}
    for name in _INSTANTS:
        row[name] = None if row[name] is None else to_ms(row[name])
    return row | {
        "recipe": job.recipe.to_json(),
        "request": job.request.to_json(),
        "duration_s": job.recipe.duration_s,
        "facts": None if job.facts is None else json.dumps(dict(job.facts), ensure_ascii=False),
    }


def _from_row(row: sqlite3.Row) -> Job:
    values = dict(row)
    del values["duration_s"]
    for name in _INSTANTS:
        values[name] = None if values[name] is None else from_ms(values[name])
    try:
        values["recipe"] = Recipe.from_json(values["recipe"])
        values["request"] = SceneRequest.from_json(values["request"])
    except RequestError as error:
        raise StoreError(f"The job {row['id']} cannot be read by this version of AmbientGen.") from error
    values["private"] = bool(values["private"])
    values["facts"] = None if values["facts"] is None else json.loads(values["facts"])
    return Job(**values)


def _readable(rows: Iterable[sqlite3.Row]) -> list[Job]:
    """One row that this version cannot read must not hide a person's history or stop a restart."""
    jobs = []
    for row in rows:
        try:
            jobs.append(_from_row(row))
        except StoreError:
            _log.exception("a stored job was left out of a list")
    return jobs
