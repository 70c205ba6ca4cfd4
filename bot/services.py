"""What the commands and buttons work with, built once in `bot/__main__.py` and handed down."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import discord

from ambientgen.errors import OptionError, RequestError
from ambientgen.executor import Executor
from ambientgen.planning import resolve
from ambientgen.recipe import Recipe, SceneRequest
from ambientgen.scenes import clean_description
from bot import limits
from bot.clips import Clips
from bot.delivery import DEFAULT_UPLOAD_LIMIT_BYTES, Delivery
from bot.errors import DISCORD_ERRORS
from bot.jobs import JobQueue
from bot.settings import Settings
from bot.store import ActName, Job, Jobs, Server, ServerLimits, Store, StoreError
from bot.ui import cards
from bot.ui.buttons import waiting_view

log = logging.getLogger(__name__)

_TOKEN_LIFETIME = timedelta(minutes=15)
MIN_DURATION_S = limits.MIN_DURATION_S


@dataclass(frozen=True, slots=True)
class PresetRef:
    """The version of a preset that a job is made with."""

    preset_id: int
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Everything the Discord side needs."""

    settings: Settings
    store: Store
    executor: Executor
    clips: Clips
    queue: JobQueue
    delivery: Delivery
    # Between looking at what was used and the row that adds to it, nobody else comes in.
    _admission: asyncio.Lock = field(default_factory=asyncio.Lock, init=False, repr=False)

    async def ask(
        self,
        interaction: discord.Interaction[discord.Client],
        request: SceneRequest,
        *,
        recipe: Recipe | None = None,
        file_format: str = "opus",
        private: bool = False,
        preset_use: PresetRef | None = None,
        parent: Job | None = None,
    ) -> None:
        """Turn a request into a job: decide (unless its recipe is given), write it down, show its card, put it in line.

        Answers the interaction. Nothing is left in the queue if it raises.

        Raises:
            RequestError: if the request cannot be met, or a limit is reached.
            StoreError: if the job cannot be written.
        """
        guild_id, user_id = interaction.guild_id, interaction.user.id
        # In direct messages a server without limits of its own.
        server = Server() if guild_id is None else await self.store.servers.get(guild_id)
        is_blocked = guild_id is not None and await self.store.servers.is_blocked(guild_id, user_id)
        refusal = limits.refuse_request(request, server, is_blocked=is_blocked, specs=self.executor.specs().values())
        if refusal is not None:
            raise refusal
        longest_s = limits.longest_s(self.settings, server.limits)
        self._check_place(interaction, request, longest_s)
        request = dataclasses.replace(request, description=clean_description(request.description))
        if recipe is not None and (refusal := limits.refuse_recipe(recipe, server.limits, longest_s=longest_s)):
            raise refusal
        recipe = recipe or resolve(
            limits.fitted(request, server.limits),
            limits.allowed(self.executor.available(), server.limits),
            unavailable=self.executor.unavailable(),
            target_lufs=self.settings.target_lufs,
            longest_s=longest_s,
        )
        assert interaction.channel_id is not None
        job = Job(
            id=Jobs.new_id(),
            recipe=recipe,
            request=request,
            file_format=file_format,
            preset_id=preset_use.preset_id if preset_use else None,
            preset_version=preset_use.version if preset_use else None,
            parent_job_id=parent.id if parent else None,
            user_id=user_id,
            guild_id=guild_id,
            channel_id=interaction.channel_id,
            private=private,
            locale=str(interaction.locale),
            interaction_token=interaction.token,
            token_expires_at=interaction.created_at.astimezone(UTC) + _TOKEN_LIFETIME,
            upload_limit_bytes=interaction.filesize_limit or DEFAULT_UPLOAD_LIMIT_BYTES,
            created_at=datetime.now(UTC),
        )
        await self._admit(job, server.limits)
        try:
            message_id = await self._show_card(interaction, job)
        except BaseException:
            await self.queue.withdraw(job)
            raise
        await self.queue.enqueue(dataclasses.replace(job, message_id=message_id))

    async def cancel(self, job: Job, *, by: int) -> None:
        """Cancel an unfinished job; when it is another's, that is a moderator's act and recorded as one.

        Raises:
            RequestError: if the job has its outcome already.
        """
        if not self.queue.cancel(job.id):
            raise RequestError("That sound is finished already.")
        await self._record(job, "cancel", by=by)

    async def delete(self, job: Job, *, by: int) -> None:
        """Delete a job's sound; when it is another's, that is a moderator's act and recorded as one.

        Raises:
            StoreError: if it cannot be deleted.
        """
        clip_name = await self.store.jobs.delete(job.id)
        if clip_name is not None:
            await self.clips.remove(clip_name)
        await self._record(job, "delete", by=by)

    async def _record(self, job: Job, act: ActName, *, by: int) -> None:
        """Record what was done to another's job in a server."""
        if job.user_id == by or job.guild_id is None:
            return
        try:
            await self.store.servers.record(job.guild_id, act, by=by, at=datetime.now(UTC), target=job.id)
        except StoreError:  # it is done all the same
            log.exception("%s of job %s by %d could not be recorded", act, job.id, by)

    async def _admit(self, job: Job, server_limits: ServerLimits) -> None:
        """Write the job's row, if its server has room for it."""
        async with self._admission:
            if server_limits != ServerLimits():
                now = job.created_at
                usage = await limits.look(self.store, self.queue, server_limits, job, now)
                refusal = limits.refuse_usage(server_limits, usage, duration_s=job.recipe.duration_s, now=now)
                if refusal is not None:
                    raise refusal
            await self.queue.admit(job)

    async def _show_card(self, interaction: discord.Interaction[discord.Client], job: Job) -> int | None:
        view = self.queue.view(job.id)
        assert view is not None
        try:
            answer = await interaction.response.send_message(
                embed=cards.waiting(job, view), view=waiting_view(job.id), ephemeral=job.private
            )
        except DISCORD_ERRORS as error:
            # Discord may have shown the card although its answer was lost: ask before giving up.
            try:
                return (await interaction.original_response()).id
            except DISCORD_ERRORS:
                raise error from None
        return answer.message_id

    def _check_place(
        self, interaction: discord.Interaction[discord.Client], request: SceneRequest, longest_s: float
    ) -> None:
        if request.duration_s is not None and not MIN_DURATION_S <= request.duration_s <= longest_s:
            raise OptionError("duration", f"`duration` goes from {MIN_DURATION_S} to {longest_s:g} seconds here.")
        permissions = interaction.app_permissions
        if interaction.guild_id is not None and not (permissions.attach_files and permissions.embed_links):
            raise OptionError(
                "channel",
                "I am not allowed to attach files and embed links in this channel, so I could not bring you the sound. "
                "A server admin can give me those two permissions; another channel may work now.",
            )
