"""Presets: named requests. One saved in a server is for that server; one saved elsewhere is for its owner alone."""

from __future__ import annotations

import re
import sqlite3
import unicodedata
from datetime import UTC, datetime

from ambientgen.errors import RequestError
from ambientgen.recipe import SceneRequest
from bot.store.database import Database, Execute, StoreError
from bot.store.models import Preset, PresetUse, from_ms, to_ms

MAX_NAME_CHARS = 50
MAX_PRESETS_PER_USER = 100

# Aliases, because inside the class `list` is the method.
PresetList = list[Preset]
PresetUseList = list[PresetUse]


class PresetNameError(RequestError):
    """The name is empty, too long, or holds characters that cannot be shown."""


class PresetLimitError(RequestError):
    """The person has as many presets as one may have."""


class Presets:
    """The table of presets, with every version that was ever saved.

    In the queries, `guild_id = NULL` is never true: outside a server a person sees their own presets only.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def save(self, owner_id: int, guild_id: int | None, name: str, request: SceneRequest) -> tuple[Preset, bool]:
        """Save a request under a name; the same name again, in any case, makes a new version.

        Args:
            owner_id: the person whose preset it is.
            guild_id: the server that may see it from now on; None: only the owner may.
            name: 1 to `MAX_NAME_CHARS` characters after trimming.
            request: what to ask for when it is used.

        Returns:
            The preset, and True if it is new.

        Raises:
            PresetNameError: if the name cannot be used.
            PresetLimitError: if the owner has `MAX_PRESETS_PER_USER` already.
        """
        shown = _clean(name)
        now = to_ms(datetime.now(UTC))
        async with self._database.transaction() as execute:
            found = await execute(
                "UPDATE presets SET name = ?, guild_id = ?, version = version + 1, updated_at = ? "
                "WHERE owner_id = ? AND folded_name = ? RETURNING id, version",
                (shown, guild_id, now, owner_id, _fold(shown)),
            )
            created = not found
            if created:
                await _check_limit(execute, owner_id)
                found = await execute(
                    "INSERT INTO presets (owner_id, guild_id, name, folded_name, version, created_at, updated_at) "
                    "VALUES (?, ?, ?, ?, 1, ?, ?) RETURNING id, version",
                    (owner_id, guild_id, shown, _fold(shown), now, now),
                )
            preset_id, version = found[0]
            await execute(
                "INSERT INTO preset_versions (preset_id, version, request, created_at) VALUES (?, ?, ?, ?)",
                (preset_id, version, request.to_json(), now),
            )
            rows = await execute("SELECT * FROM current_presets WHERE id = ?", (preset_id,))
        return _from_row(rows[0]), created

    async def get_by_name(self, user_id: int, guild_id: int | None, name: str) -> Preset | None:
        """The preset of that name that this person can see here: their own first, then the server's."""
        row = await self._database.first(
            "SELECT * FROM current_presets WHERE (owner_id = :user OR guild_id = :guild) AND folded_name = :name "
            "ORDER BY owner_id = :user DESC, id LIMIT 1",
            {"user": user_id, "guild": guild_id, "name": _fold(name)},
        )
        return None if row is None else _from_row(row)

    async def get(self, preset_id: int) -> Preset | None:
        """The preset of that id unless it was deleted; ask its `visible_to` before showing it to anyone."""
        row = await self._database.first("SELECT * FROM current_presets WHERE id = ?", (preset_id,))
        return None if row is None else _from_row(row)

    async def list(self, user_id: int, guild_id: int | None, *, limit: int, offset: int = 0) -> PresetList:
        """What this person can see here, by name: their own first, then the server's."""
        rows = await self._database.run(
            "SELECT * FROM current_presets WHERE owner_id = :user OR guild_id = :guild "
            "ORDER BY owner_id = :user DESC, folded_name, id LIMIT :limit OFFSET :offset",
            {"user": user_id, "guild": guild_id, "limit": limit, "offset": offset},
        )
        return [_from_row(row) for row in rows]

    async def count(self, user_id: int, guild_id: int | None) -> int:
        """How many presets `list` has in all."""
        return await self._database.number(
            "SELECT count(*) FROM presets WHERE (owner_id = ? OR guild_id = ?) AND deleted_at IS NULL",
            (user_id, guild_id),
        )

    async def suggest(self, user_id: int, guild_id: int | None, text: str, limit: int = 25) -> PresetList:
        """Like `list`, only those with `text` somewhere in the name, in any case."""
        rows = await self._database.run(
            # instr and not LIKE: no character of the text has a meaning.
            "SELECT * FROM current_presets WHERE (owner_id = :user OR guild_id = :guild) "
            "AND instr(folded_name, :text) > 0 ORDER BY owner_id = :user DESC, folded_name, id LIMIT :limit",
            {"user": user_id, "guild": guild_id, "text": _fold(text), "limit": limit},
        )
        return [_from_row(row) for row in rows]

    async def delete(self, preset_id: int) -> bool:
        """Take a preset out of use and free its name; jobs made with it still refer to it."""
        rows = await self._database.run(
            "UPDATE presets SET deleted_at = ?, folded_name = NULL WHERE id = ? AND deleted_at IS NULL RETURNING id",
            (to_ms(datetime.now(UTC)), preset_id),
        )
        return bool(rows)

    async def uses(self, preset_id: int, limit: int, *, viewer_id: int | None = None) -> PresetUseList:
        """The jobs made with a preset, the newest first.

        What others did in private or in another server than the preset's is left out, as are deleted jobs.

        Args:
            preset_id: the preset.
            limit: at most so many.
            viewer_id: the person who looks; their own uses are all shown.
        """
        rows = await self._database.run(
            "SELECT jobs.id AS job_id, user_id, preset_version AS version, jobs.created_at "
            "FROM jobs JOIN presets ON presets.id = preset_id "
            "WHERE preset_id = :preset AND delivery_state <> 'deleted' "
            "AND (user_id = :viewer OR (NOT private AND jobs.guild_id IS presets.guild_id)) "
            "ORDER BY jobs.created_at DESC, jobs.rowid DESC LIMIT :limit",
            {"preset": preset_id, "viewer": viewer_id, "limit": limit},
        )
        return [PresetUse(**{**dict(row), "created_at": from_ms(row["created_at"])}) for row in rows]

    async def count_uses(self, preset_id: int) -> int:
        """How many jobs were made with a preset, also those that `uses` leaves out."""
        return await self._database.number("SELECT count(*) FROM jobs WHERE preset_id = ?", (preset_id,))


async def _check_limit(execute: Execute, owner_id: int) -> None:
    rows = await execute("SELECT count(*) FROM presets WHERE owner_id = ? AND deleted_at IS NULL", (owner_id,))
    if rows[0][0] >= MAX_PRESETS_PER_USER:
        raise PresetLimitError(
            f"You have {MAX_PRESETS_PER_USER} presets, and that is the most one person can have. "
            "Delete one you no longer need."
        )


def _clean(name: str) -> str:
    """The name as it is shown: trimmed, each run of white space one space."""
    cleaned = " ".join(name.split())
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in cleaned):
        raise PresetNameError("A preset's name cannot hold control characters.")
    if not _fold(cleaned):
        raise PresetNameError("A preset needs a name that can be seen.")
    if re.fullmatch(r"#[0-9]+", _fold(cleaned)):
        raise PresetNameError("A preset's name cannot be a number sign and a number: that stands for another preset.")
    if len(cleaned) > MAX_NAME_CHARS:
        raise PresetNameError(
            f"A preset's name can have at most {MAX_NAME_CHARS} characters; this one has {len(cleaned)}."
        )
    return cleaned


def _fold(name: str) -> str:
    """The name as it is compared: Unicode's NFKC_Casefold, without invisible characters and needless spaces.

    Two rounds, because a casefold can make new characters that NFKC changes, and the other way round.
    """
    visible = "".join(character for character in name if unicodedata.category(character) not in ("Cf", "Cs"))
    once = unicodedata.normalize("NFKC", unicodedata.normalize("NFD", visible).casefold())
    return " ".join(unicodedata.normalize("NFKC", once.casefold()).split())


def _from_row(row: sqlite3.Row) -> Preset:
    values = dict(row)
    del values["folded_name"]
    try:
        values["request"] = SceneRequest.from_json(values["request"])
    except RequestError as error:
        raise StoreError(f"The preset {row['id']} cannot be read by this version of AmbientGen.") from error
    return Preset(
        **{**values, "created_at": from_ms(values["created_at"]), "updated_at": from_ms(values["updated_at"])}
    )
