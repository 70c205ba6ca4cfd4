"""The bot's part of `python -m ambientgen doctor`: settings, data folder, database and Discord.

Nothing is changed, and of Discord only REST is asked: no gateway, no commands told, nothing a server would see.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import discord

from ambientgen.doctor import Finding, Findings, engine_checks, guarded
from ambientgen.engines.audioldm2 import DEFAULT_MODEL
from bot.client import PERMISSIONS, invite_url
from bot.errors import DISCORD_ERRORS
from bot.lock import AlreadyRunningError, DataFolderError, DataFolderLock
from bot.settings import Secret, Settings, SettingsError
from bot.store import StoreError
from bot.store.inspect import inspect_database

if TYPE_CHECKING:
    from discord.types.guild import Guild

_DATABASE_NAME = "ambient.db"
_TIMEOUT_S = 30.0
#: The most servers Discord lists at once.
_PAGE_LENGTH = 200


def checks(model: str | None) -> Findings[None]:
    """Everything the bot needs; the engine is looked at as the settings set it up.

    Args:
        model: the model to look at in place of those of the settings.
    """
    settings = yield from guarded("settings", _settings())
    if settings is None:
        yield from engine_checks(model or DEFAULT_MODEL)
        return
    if model is None and settings.model is None:
        yield Finding("--", "model", "switched off by AMBIENT_MODEL=none")
    for wanted in (model,) if model else (settings.model, settings.stable_audio_model):
        if wanted is not None:
            yield from engine_checks(wanted, settings.device, settings.dtype)
    yield from guarded("data folder", _data_folder(settings.data_dir.absolute(), settings.max_clips_mib * 2**20))
    yield from guarded("bot", _running(settings.data_dir))
    yield from guarded("database", _database(settings.data_dir / _DATABASE_NAME))
    if settings.discord_token is None:
        yield Finding(
            "--", "discord", "DISCORD_TOKEN is not set: the bot only makes a first sound and says how to go on"
        )
    else:
        yield from guarded("discord", _discord(settings.discord_token))


def _settings() -> Findings[Settings | None]:
    env_file = Path(".env")
    try:
        settings = Settings.load(os.environ, env_file)
    except SettingsError as error:
        yield Finding("!!", "settings", str(error))
        return None
    place = env_file.absolute()
    beside = f"{place} and the environment" if place.exists() else f"the environment alone; there is no {place}"
    yield Finding("ok", "settings", f"read from {beside}")
    return settings


# ---------------------------------------------------------------------- the data folder


def _data_folder(folder: Path, max_clips_bytes: int) -> Findings[None]:
    try:
        # What is not there yet is made by the first start, in the nearest folder that is.
        existing = next(place for place in (folder, *folder.parents) if place.exists())
        with tempfile.TemporaryFile(dir=existing):
            free_bytes = shutil.disk_usage(existing).free
        clips = [file.stat().st_size for file in (folder / "clips").glob("*") if file.is_file()]
    except OSError as error:
        yield Finding(
            "!!",
            "data folder",
            f"{folder} cannot be written ({error.strerror}): give this user the right to write there, make sure that "
            "the disk has space and that no file has the folder's name, or choose another one with AMBIENT_DATA_DIR.",
        )
        return
    words = f"{folder}, {_gib(free_bytes)} free" + ("" if existing == folder else "; the first start makes it")
    to_come_bytes = max(0, max_clips_bytes - sum(clips))
    if free_bytes < to_come_bytes:
        yield Finding(
            "!!",
            "data folder",
            f"{words}, but the clips may grow by {_gib(to_come_bytes)}: free some space, or lower "
            "AMBIENT_MAX_CLIPS_MIB.",
        )
    else:
        yield Finding("ok", "data folder", words)


def _running(folder: Path) -> Findings[None]:
    try:
        # Where the bot never ran there is no lock, and none must be left: it would belong to whoever runs this.
        if (folder / _DATABASE_NAME).exists():
            with DataFolderLock(folder):
                pass
    except AlreadyRunningError as error:
        # The rest of its words is for someone who would start a second one.
        yield Finding("ok", "bot", f"running: {str(error).partition('.')[0]}")
    except DataFolderError as error:
        yield Finding("!!", "bot", str(error))
    else:
        yield Finding("--", "bot", "not running on this data folder")


def _database(path: Path) -> Findings[None]:
    if not path.exists():
        yield Finding("ok", "database", "none yet; the first start makes it")
        return
    try:
        number, newest = inspect_database(path)
    except StoreError as error:
        yield Finding("!!", "database", str(error))
    else:
        update = "" if number == newest else f"; the next start brings it to format {newest}, after a backup"
        yield Finding("ok", "database", f"healthy, format {number}{update}")


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / 2**30:.1f} GiB"


# ---------------------------------------------------------------------- Discord


def _discord(token: Secret) -> Findings[None]:
    # The bot joins no voice channels, so the packages for that need not be missed.
    discord.VoiceClient.warn_nacl = False
    discord.VoiceClient.warn_dave = False
    try:
        application, guilds = asyncio.run(_ask(token))
    except discord.LoginFailure:
        yield Finding(
            "!!",
            "discord",
            "reachable, but does not accept DISCORD_TOKEN: copy it again from your application's “Bot” page "
            "(https://discord.com/developers/applications); resetting it there makes a new one.",
        )
        return
    except DISCORD_ERRORS as error:
        words = f"cannot be reached ({type(error).__name__}): check the network, and whether discord.com is up."
        yield Finding("!!", "discord", words)
        return
    yield Finding("ok", "discord", f"reachable, and takes the token of “{application.name}” ({application.id})")
    yield _intents(application.flags)
    yield Finding("ok", "invite link", invite_url(application.id))
    yield from _servers(guilds)


async def _ask(token: Secret) -> tuple[discord.AppInfo, list[Guild]]:
    """The application, and the servers it is in."""
    async with asyncio.timeout(_TIMEOUT_S), discord.Client(intents=discord.Intents.none()) as client:
        await client.login(token.reveal())
        assert client.application is not None  # login() fetches it
        guilds: list[Guild] = []
        last_id: int | None = None
        while True:
            # Not `fetch_guilds`: its guilds do not hold the permissions that Discord tells here.
            page = await client.http.get_guilds(_PAGE_LENGTH, after=last_id, with_counts=False)
            guilds += page
            if len(page) < _PAGE_LENGTH:
                return client.application, guilds
            last_id = int(page[-1]["id"])


def _intents(flags: discord.ApplicationFlags) -> Finding:
    on = [name.removesuffix("_limited") for name, is_on in flags if is_on and name.startswith("gateway_")]
    if not on:
        return Finding("ok", "intents", "no privileged ones are needed, and none is switched on")
    names = ", ".join(name.removeprefix("gateway_").replace("_", " ") for name in on)
    return Finding("--", "intents", f"no privileged ones are needed; you can switch off: {names}")


def _servers(guilds: Sequence[Guild]) -> Findings[None]:
    if not guilds:
        yield Finding("--", "servers", "none yet: open the invite link and choose one")
        return
    lacking = [(guild["name"], missing) for guild in guilds if (missing := _missing_permissions(guild))]
    for name, missing in lacking:
        yield Finding(
            "!!",
            "server",
            f"“{name}” does not give the bot {', '.join(missing)}: allow it to the bot's role in the server's "
            "settings, or let an admin open the invite link again.",
        )
    if not lacking:
        yield Finding("ok", "servers", f"{len(guilds)}, and no permission is missing in any")


def _missing_permissions(guild: Guild) -> list[str]:
    """What the server as a whole does not give the bot; single channels may take away more."""
    given = discord.Permissions(int(guild["permissions"]))
    if given.administrator:
        return []
    missing = discord.Permissions(PERMISSIONS.value & ~given.value)
    # discord.py has kept the old name of this one.
    names = [name.replace("read_messages", "view_channel") for name, is_missing in missing if is_missing]
    return [name.replace("_", " ").title() for name in names]
