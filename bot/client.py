"""The Discord client: commands, buttons, and the one place where errors become answers."""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
from collections.abc import Awaitable
from typing import Any

import discord
from discord import app_commands

from ambientgen.errors import RequestError
from ambientgen.recipe import SceneRequest
from bot.cogs import about, admin, generate, ideas, library, preset
from bot.errors import DISCORD_ERRORS, words_for, words_for_bug
from bot.services import Services
from bot.ui import actions
from bot.ui.buttons import DYNAMIC_ITEMS

log = logging.getLogger(__name__)

Interaction = discord.Interaction[Any]

#: What the bot needs in a channel, and no more.
PERMISSIONS = discord.Permissions(
    view_channel=True,
    send_messages=True,
    send_messages_in_threads=True,
    embed_links=True,
    attach_files=True,
    read_message_history=True,
)
_SYNCED_KEY = "synced_commands"


def invite_url(application_id: int | str) -> str:
    """The link by which a server's admin adds the bot."""
    return discord.utils.oauth_url(
        str(application_id), permissions=PERMISSIONS, scopes=("bot", "applications.commands")
    )


class AmbientClient(discord.Client):
    """The bot. `services` is set before it logs in."""

    services: Services

    def __init__(self) -> None:
        super().__init__(
            intents=discord.Intents(guilds=True),
            allowed_mentions=discord.AllowedMentions.none(),
            member_cache_flags=discord.MemberCacheFlags.none(),
            max_messages=None,
            chunk_guilds_at_startup=False,
        )
        self.tree = _Tree(self)

    async def setup_hook(self) -> None:
        """Runs once after login, before the gateway connects."""
        group = app_commands.Group(
            name="ambient",
            description="Ambient sound from words",
            allowed_contexts=app_commands.AppCommandContext(guild=True, dm_channel=True),
            allowed_installs=app_commands.AppInstallationType(guild=True),
        )
        for cog in (generate, ideas, preset, library, about):
            cog.add_commands(group, self.services)
        self.tree.add_command(group)
        self.tree.add_command(admin.commands(self.services))
        self.add_dynamic_items(*DYNAMIC_ITEMS, *admin.DYNAMIC_ITEMS)
        await self._sync_if_changed()

    async def on_ready(self) -> None:
        """Every (re)connect with a new session."""
        log.info("connected as %s, in %d servers", self.user, len(self.guilds))

    async def _sync_if_changed(self) -> None:
        """Tell Discord the commands, only if they are not the ones it was told last."""
        commands = [command.to_dict(self.tree) for command in self.tree.get_commands()]
        text = json.dumps([self.application_id, commands], sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()
        if await self.services.store.get_meta(_SYNCED_KEY) == digest:
            return
        await self.tree.sync()
        await self.services.store.set_meta(_SYNCED_KEY, digest)
        log.info("told Discord the commands")

    # ------------------------------------------------------------------ what buttons and menus do

    async def run_action(self, interaction: Interaction, action: str, job_id: str) -> None:
        """A button on a job's card."""
        await self._guarded(interaction, actions.run(self.services, interaction, action, job_id))

    async def run_idea(self, interaction: Interaction, scene: str, *, private: bool) -> None:
        """A button on the panel of ideas."""
        request = SceneRequest(description=scene)
        await self._guarded(interaction, self.services.ask(interaction, request, private=private))

    async def more_ideas(self, interaction: Interaction, category: str | None, *, private: bool) -> None:
        """Other ideas on the panel."""
        await self._guarded(
            interaction, ideas.show_ideas(self.services, interaction, "", category=category, private=private)
        )

    async def show_history(self, interaction: Interaction, page: int) -> None:
        """A page button under the history."""
        await self._guarded(interaction, library.show_history(self.services, interaction, page))

    async def replay(self, interaction: Interaction, job_id: str) -> None:
        """A choice in the history's menu."""
        await self._guarded(interaction, library.replay(self.services, interaction, job_id))

    # ------------------------------------------------------------------ errors

    async def _guarded(self, interaction: Interaction, work: Awaitable[None]) -> None:
        try:
            await work
        except Exception as error:
            await self.answer_error(interaction, error)

    async def answer_error(self, interaction: Interaction, error: BaseException) -> None:
        """Tell the person privately what went wrong; a bug goes to the log with a reference."""
        words = words_for(error)
        if words is None:
            reference = secrets.token_hex(4)
            log.error("bug %s", reference, exc_info=error)
            words = words_for_bug(reference)
        elif isinstance(error, DISCORD_ERRORS):
            log.warning("an answer did not reach Discord: %s", type(error).__name__)
        elif not isinstance(error, RequestError):  # the operator can mend it
            log.error("a command failed: %s", error, exc_info=error.__cause__)
        try:
            if interaction.response.is_done():
                await interaction.followup.send(words, ephemeral=True)
            else:
                await interaction.response.send_message(words, ephemeral=True)
        except DISCORD_ERRORS as failure:
            log.warning("an answer could not be sent: %s", type(failure).__name__)


class _Tree(app_commands.CommandTree[AmbientClient]):
    async def on_error(self, interaction: Interaction, error: app_commands.AppCommandError, /) -> None:
        """Answer a failed command."""
        cause = error.original if isinstance(error, app_commands.CommandInvokeError) else error
        if isinstance(error, (app_commands.CommandSignatureMismatch, app_commands.CommandNotFound)):
            cause = RequestError("This command changed. Reload Discord (Ctrl+R) and try again.")
        await self.client.answer_error(interaction, cause)
