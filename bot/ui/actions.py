"""What the buttons on a job's card do.

Again, Edit, Mix, Save preset and Info are anyone's and act as the one who presses; Cancel and Delete are the asker's or
a moderator's. What is pressed on a private message stays private.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import discord

from ambientgen.errors import RequestError
from ambientgen.recipe import Quality, SceneRequest
from bot.errors import DISCORD_ERRORS
from bot.services import PresetRef, Services
from bot.store import Job
from bot.ui import cards
from bot.ui.modals import EditModal, MixModal, SaveModal

Interaction = discord.Interaction[Any]
_MAX_CODE_BLOCK_CHARS = 1800


async def find_job(services: Services, job_id: str) -> Job:
    """The job of that id.

    Raises:
        RequestError: if there is none, or its sound was deleted.
    """
    job = await services.store.jobs.get(job_id)
    if job is None:
        raise RequestError("There is no sound of that id here.")
    if job.delivery_state == "deleted":
        raise RequestError("That sound was deleted.")
    return job


async def run(services: Services, interaction: Interaction, action: str, job_id: str) -> None:
    """Do what a button says.

    Raises:
        RequestError: with words for the one who pressed.
    """
    await _ACTIONS[action](services, interaction, await find_job(services, job_id))


async def _again(services: Services, interaction: Interaction, job: Job) -> None:
    await services.ask(
        interaction,
        replace(job.request, seed=None),
        file_format=job.file_format,
        private=_is_private(interaction),
        preset_use=_preset_use(job),
        parent=job,
    )


async def _edit(services: Services, interaction: Interaction, job: Job) -> None:
    async def submit(interaction: Interaction, request: SceneRequest) -> None:
        await services.ask(
            interaction,
            replace(request, preset=None),
            file_format=job.file_format,
            private=_is_private(interaction),
            parent=job,
        )

    await interaction.response.send_modal(EditModal(job.request, submit))


async def _mix(services: Services, interaction: Interaction, job: Job) -> None:
    layers = job.recipe.layers
    lifts_db = (job.facts or {}).get("lifts_db", [0.0] * len(layers))
    now_db = [round(layer.gain_db + lift_db, 1) for layer, lift_db in zip(layers, lifts_db, strict=True)]
    num_fields = min(len(layers), MixModal.MAX_FIELDS)

    async def submit(interaction: Interaction, gains_db: list[float]) -> None:
        await services.ask(
            interaction,
            job.request,
            recipe=job.recipe.remixed([*gains_db, *now_db[num_fields:]]),
            file_format=job.file_format,
            private=_is_private(interaction),
            parent=job,
        )

    names = [layer.label or layer.prompt for layer in layers[:num_fields]]
    await interaction.response.send_modal(MixModal(names, now_db[:num_fields], submit))


async def _save(services: Services, interaction: Interaction, job: Job) -> None:
    async def submit(interaction: Interaction, name: str) -> None:
        await save_preset(services, interaction, name, job)

    await interaction.response.send_modal(SaveModal(job.request.description, submit))


async def save_preset(services: Services, interaction: Interaction, name: str, job: Job) -> None:
    """Save a job's request under a name. A private sound's preset is seen by its owner alone.

    Raises:
        RequestError: if the name or the number of presets is not allowed.
    """
    # The seed that was really used makes the preset sound like the clip; the best of three is made by itself.
    quality: Quality = "standard" if job.request.quality == "high" else job.request.quality
    request = replace(job.request, seed=job.recipe.seed, duration_s=job.recipe.duration_s, quality=quality)
    guild_id = None if job.private else interaction.guild_id
    preset, created = await services.store.presets.save(interaction.user.id, guild_id, name, request)
    what = "Saved" if created else f"Saved as version {preset.version} of"
    await interaction.response.send_message(
        f"{what} **{cards.quoted(preset.name)}**. Use it with `/ambient generate preset:`.", ephemeral=True
    )


async def _info(_services: Services, interaction: Interaction, job: Job) -> None:
    await send_info(interaction, job)


async def send_info(interaction: Interaction, job: Job) -> None:
    """Answer privately with what was understood, and the whole recipe, to copy."""
    recipe, words = cards.recipe_json(job), cards.understood(job)
    if "```" not in recipe and len(recipe) + len(words) <= _MAX_CODE_BLOCK_CHARS:
        await interaction.response.send_message(f"{words}\n```json\n{recipe}\n```", ephemeral=True)
        return
    file = discord.File(io.BytesIO(recipe.encode()), f"recipe-{job.id}.json")
    await interaction.response.send_message(words, file=file, ephemeral=True)


async def _delete(services: Services, interaction: Interaction, job: Job) -> None:
    _only_asker_or_moderator(interaction, job, "delete it")
    await interaction.response.defer()
    await services.delete(job, by=interaction.user.id)
    with contextlib.suppress(*DISCORD_ERRORS):  # gone already, or out of reach: the sound itself is deleted
        await interaction.delete_original_response()
    pressed_id = interaction.message.id if interaction.message else None
    if job.message_id is not None and not job.private and job.message_id != pressed_id:
        channel = interaction.client.get_partial_messageable(job.channel_id, guild_id=job.guild_id)
        with contextlib.suppress(*DISCORD_ERRORS):
            await channel.get_partial_message(job.message_id).delete()


async def _cancel(services: Services, interaction: Interaction, job: Job) -> None:
    _only_asker_or_moderator(interaction, job, "cancel it")
    await services.cancel(job, by=interaction.user.id)
    await interaction.response.defer()


def _only_asker_or_moderator(interaction: Interaction, job: Job, what: str) -> None:
    permissions = interaction.permissions
    is_here = interaction.guild_id is not None and interaction.guild_id == job.guild_id
    is_moderator = is_here and (permissions.manage_messages or permissions.manage_guild)
    if interaction.user.id != job.user_id and not is_moderator:
        raise RequestError(f"Only <@{job.user_id}>, who asked for this sound, or a moderator can {what}.")


def _is_private(interaction: Interaction) -> bool:
    return interaction.message is not None and interaction.message.flags.ephemeral


def _preset_use(job: Job) -> PresetRef | None:
    if job.preset_id is None or job.preset_version is None:
        return None
    return PresetRef(job.preset_id, job.preset_version)


_ACTIONS: dict[str, Callable[[Services, Interaction, Job], Awaitable[None]]] = {
    "again": _again,
    "edit": _edit,
    "mix": _mix,
    "save": _save,
    "info": _info,
    "delete": _delete,
    "cancel": _cancel,
}
