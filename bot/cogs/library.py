"""`/ambient history|queue|show`: what was made, and what is being made."""

from __future__ import annotations

from typing import Any

import discord
from discord import app_commands

from ambientgen.errors import RequestError
from bot.delivery import DEFAULT_UPLOAD_LIMIT_BYTES
from bot.services import Services
from bot.store import Job
from bot.ui import cards
from bot.ui.actions import find_job
from bot.ui.buttons import history_view
from bot.visibility import may_see

Interaction = discord.Interaction[Any]
_PAGE_SIZE = 8
_NUM_QUEUE_LINES = 15


def add_commands(group: app_commands.Group, services: Services) -> None:
    """Add the commands to `/ambient`."""

    @group.command(name="history", description="Your sounds: hear one again, save it, or fetch one that waits for you")
    async def history(interaction: Interaction) -> None:
        await show_history(services, interaction, 0)

    @group.command(name="queue", description="What is being made now, and what comes next")
    async def queue(interaction: Interaction) -> None:
        await interaction.response.send_message(embed=_queue_card(services, interaction), ephemeral=True)

    @group.command(name="show", description="Show a sound again by its id")
    @app_commands.describe(id="The id at the bottom of its card, and in its file name")
    async def show(interaction: Interaction, id: app_commands.Range[str, 4, 100]) -> None:  # noqa: A002 - its name
        await replay(services, interaction, _job_id_in(id))


async def show_history(services: Services, interaction: Interaction, page: int) -> None:
    """Show a page of the person's own jobs; turns the page in place when a button asked for it."""
    jobs = services.store.jobs
    num_pages = max(1, -(-await jobs.count_history(interaction.user.id) // _PAGE_SIZE))
    page = min(page, num_pages - 1)
    found = await jobs.history(interaction.user.id, limit=_PAGE_SIZE, offset=page * _PAGE_SIZE)
    if not found:
        raise RequestError("You have made no sounds yet. Start with `/ambient generate`.")
    lines = [cards.one_line(job) + _waiting_for_you(job) for job in found]
    embed = discord.Embed(color=cards.COLOR, title="Your sounds", description="\n".join(lines))
    embed.set_footer(text=f"page {page + 1} of {num_pages}")
    options = [
        discord.SelectOption(
            label=job.request.description[:100], value=job.id, description=f"seed {job.recipe.seed} · {job.id}"
        )
        for job in found
        if job.status == "done"
    ]
    view = history_view(page, num_pages, options)
    if interaction.type is discord.InteractionType.component:
        await interaction.response.edit_message(embed=embed, view=view)
    else:
        await interaction.response.send_message(embed=embed, view=view, ephemeral=True)


async def replay(services: Services, interaction: Interaction, job_id: str) -> None:
    """Answer privately with a finished job's card and clip."""
    job = await find_job(services, job_id)
    if not may_see(interaction, job):
        raise RequestError("There is no sound of that id here.")
    if job.status == "failed":
        await interaction.response.send_message(embed=cards.failed(job, job.error or ""), ephemeral=True)
        return
    if job.status != "done":
        raise RequestError(
            "That sound was cancelled." if job.status == "cancelled" else "That sound is still being made."
        )
    await interaction.response.defer(ephemeral=True, thinking=True)
    limit_bytes = interaction.filesize_limit or DEFAULT_UPLOAD_LIMIT_BYTES
    message = await services.delivery.result_message(job, limit_bytes)
    await interaction.edit_original_response(**message)
    if job.user_id == interaction.user.id and job.delivery_state in ("kept", "pending"):
        await services.store.jobs.set_delivery(job.id, "delivered")


def _job_id_in(text: str) -> str:
    """The id itself, also out of a file name like ambient-ID-SEED.ogg."""
    text = text.strip().lower()
    parts = text.split("-")
    return parts[1] if len(parts) >= 3 and parts[0] == "ambient" else text


def _waiting_for_you(job: Job) -> str:
    is_waiting = job.status == "done" and job.delivery_state in ("kept", "pending")
    return " · **waits for you**" if is_waiting else ""


def _queue_card(services: Services, interaction: Interaction) -> discord.Embed:
    running, waiting = services.queue.running(), services.queue.order()
    lines = [f"🎧 {_queue_line(job, interaction)}" for job in running]
    lines += [f"**{number}.** {_queue_line(job, interaction)}" for number, job in enumerate(waiting, start=1)]
    hidden = len(lines) - _NUM_QUEUE_LINES
    lines = lines[:_NUM_QUEUE_LINES] + ([f"… and {hidden} more"] if hidden > 0 else [])
    embed = discord.Embed(color=cards.COLOR, title="Queue", description="\n".join(lines) or "Nothing is waiting.")
    engines = [f"`{name}` {status}" for name, status in services.executor.status().items()]
    embed.add_field(name="Engines", value="\n".join(engines), inline=False)
    return embed


def _queue_line(job: Job, interaction: Interaction) -> str:
    """Another's scene is shown only where the person could see its card anyway."""
    who = "you" if job.user_id == interaction.user.id else "someone"
    if not may_see(interaction, job):
        return f"a sound for {who}, {job.recipe.duration_s:.0f} s"
    who = "you" if who == "you" else f"<@{job.user_id}>"
    return f"{cards.quoted(job.request.description, 80)} · {job.recipe.duration_s:.0f} s · for {who}"
