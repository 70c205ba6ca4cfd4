"""What the commands and buttons work with, built once in `bot/__main__.py` and handed down."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import discord

from ambientgen.errors import OptionError
from ambientgen.executor import Executor
from ambientgen.planning import resolve
from ambientgen.recipe import SceneRequest
from ambientgen.scenes import clean_description
from bot.clips import Clips
from bot.delivery import DEFAULT_UPLOAD_LIMIT_BYTES, Delivery
from bot.errors import DISCORD_ERRORS
from bot.jobs import JobQueue
from bot.settings import Settings
from bot.store import Job, Jobs, Store
from bot.ui import cards
from bot.ui.buttons import waiting_view

_TOKEN_LIFETIME = timedelta(minutes=15)
MIN_DURATION_S = 2


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

    async def ask(
        self,
        interaction: discord.Interaction[discord.Client],
        request: SceneRequest,
        *,
        file_format: str = "opus",
        private: bool = False,
        preset_use: PresetRef | None = None,
        parent: Job | None = None,
    ) -> None:
        """Turn a request into a job: decide, write it down, show its card, put it in line.

        Answers the interaction. Nothing is left in the queue if it raises.

        Raises:
            RequestError: if the request cannot be met, or a limit is reached.
            StoreError: if the job cannot be written.
        """
        self._check_place(interaction, request)
        request = dataclasses.replace(request, description=clean_description(request.description))
        recipe = resolve(
            request,
            self.executor.available(),
            unavailable=self.executor.unavailable(),
            target_lufs=self.settings.target_lufs,
            longest_s=self.settings.max_duration_s,
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
            user_id=interaction.user.id,
            guild_id=interaction.guild_id,
            channel_id=interaction.channel_id,
            private=private,
            locale=str(interaction.locale),
            interaction_token=interaction.token,
            token_expires_at=interaction.created_at.astimezone(UTC) + _TOKEN_LIFETIME,
            upload_limit_bytes=interaction.filesize_limit or DEFAULT_UPLOAD_LIMIT_BYTES,
            created_at=datetime.now(UTC),
        )
        await self.queue.admit(job)
        try:
            message_id = await self._show_card(interaction, job)
        except BaseException:
            await self.queue.withdraw(job)
            raise
        await self.queue.enqueue(dataclasses.replace(job, message_id=message_id))

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

    def _check_place(self, interaction: discord.Interaction[discord.Client], request: SceneRequest) -> None:
        longest_s = self.settings.max_duration_s
        if request.duration_s is not None and not MIN_DURATION_S <= request.duration_s <= longest_s:
            raise OptionError("duration", f"`duration` goes from {MIN_DURATION_S} to {longest_s:g} seconds here.")
        permissions = interaction.app_permissions
        if interaction.guild_id is not None and not (permissions.attach_files and permissions.embed_links):
            raise OptionError(
                "channel",
                "I am not allowed to attach files and embed links in this channel, so I could not bring you the sound. "
                "A server admin can give me those two permissions; another channel may work now.",
            )
