"""People: what each prefers, wherever they are."""

from __future__ import annotations

from bot.store.database import Database


class People:
    """The table of people's settings. Who set nothing has no row."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def wants_ping(self, user_id: int) -> bool:
        """True if this person asked for a ping when a sound is done after a long wait."""
        row = await self._database.first("SELECT ping_when_done FROM user_settings WHERE user_id = ?", (user_id,))
        return row is not None and bool(row["ping_when_done"])

    async def set_ping(self, user_id: int, wanted: bool) -> None:
        """Switch that ping on or off."""
        await self._database.run(
            "INSERT INTO user_settings (user_id, ping_when_done) VALUES (?, ?) "
            "ON CONFLICT (user_id) DO UPDATE SET ping_when_done = excluded.ping_when_done",
            (user_id, wanted),
        )
