"""`/ambient preset save|list|show|delete`."""

from __future__ import annotations

import re
from typing import Any

import discord
from discord import app_commands

from ambientgen.errors import RequestError
from ambientgen.ideas import BuiltInPreset, built_in_presets
from ambientgen.vocabulary import fold
from bot.services import Services
from bot.store import Preset
from bot.ui import cards
from bot.ui.actions import find_job, save_preset
from bot.ui.modals import MAX_PRESET_NAME_CHARS
from bot.visibility import may_see

Interaction = discord.Interaction[Any]
_LIST_SIZE = 10  # with names and scenes full of markdown, more would not fit an embed
_NUM_USES_SHOWN = 5
_NUMBER = re.compile(r"#[0-9]{1,15}")
_MAX_CHOICES, _MAX_CHOICE_CHARS = 25, 100


async def suggest_presets(services: Services, interaction: Interaction, current: str) -> list[app_commands.Choice[str]]:
    """The presets a person can use here whose name holds what they typed."""
    presets = await services.store.presets.suggest(interaction.user.id, interaction.guild_id, current)
    choices = []
    for preset in presets:
        mine = preset.owner_id == interaction.user.id
        # Two people may use one name, so another's preset travels by its number.
        name, value = (preset.name, preset.name) if mine else (f"{preset.name} (server)", f"#{preset.id}")
        choices.append(app_commands.Choice(name=name[:_MAX_CHOICE_CHARS], value=value[:_MAX_CHOICE_CHARS]))
    typed, taken = fold(current.strip()), {fold(preset.name) for preset in presets}
    built_in = [p.name for p in built_in_presets() if typed in fold(p.name) and fold(p.name) not in taken]
    choices += [app_commands.Choice(name=f"{name} (built in)", value=name) for name in built_in]
    return choices[:_MAX_CHOICES]


def add_commands(group: app_commands.Group, services: Services) -> None:
    """Add the group to `/ambient`."""
    preset = app_commands.Group(name="preset", description="Saved scenes with their options", parent=group)

    async def suggest(interaction: Interaction, current: str) -> list[app_commands.Choice[str]]:
        return await suggest_presets(services, interaction, current)

    @preset.command(name="save", description="Save a sound's scene and options under a name")
    @app_commands.describe(name="What to call it", id="The sound's id, on its card (default: your newest one)")
    async def save(
        interaction: Interaction,
        name: app_commands.Range[str, 1, MAX_PRESET_NAME_CHARS],
        id: str | None = None,  # noqa: A002 - the option's name in Discord
    ) -> None:
        if id is None:
            newest = [
                job for job in await services.store.jobs.history(interaction.user.id, limit=10) if job.status == "done"
            ]
            if not newest:
                raise RequestError("You have no finished sound to save yet. Make one with `/ambient generate`.")
            job = newest[0]
        else:
            job = await find_job(services, id.strip().lower())
            if not may_see(interaction, job):
                raise RequestError("There is no sound of that id here.")
        await save_preset(services, interaction, name, job)

    @preset.command(name="list", description="The presets you can use here")
    @app_commands.describe(page="Which page, if there are many")
    async def list_(interaction: Interaction, page: app_commands.Range[int, 1, 100] = 1) -> None:
        presets = services.store.presets
        total = await presets.count(interaction.user.id, interaction.guild_id)
        found = await presets.list(
            interaction.user.id, interaction.guild_id, limit=_LIST_SIZE, offset=(page - 1) * _LIST_SIZE
        )
        if not found:
            built_in = ", ".join(preset.name for preset in built_in_presets())
            raise RequestError(
                "There is no preset on that page."
                if total
                else f"There is no preset of your own here yet. Save one from a card. Built in are: {built_in}."
            )
        lines = [_line(preset, interaction.user.id) for preset in found]
        embed = discord.Embed(color=cards.COLOR, title="Presets", description="\n".join(lines))
        embed.set_footer(text=f"page {page} of {-(-total // _LIST_SIZE)} · and {len(built_in_presets())} built in")
        await interaction.response.send_message(embed=embed, ephemeral=True)

    @preset.command(name="show", description="What a preset holds, and where it was used")
    @app_commands.describe(name="The preset")
    @app_commands.autocomplete(name=suggest)
    async def show(interaction: Interaction, name: app_commands.Range[str, 1, 100]) -> None:
        found = await find_preset(services, interaction, name)
        if isinstance(found, BuiltInPreset):
            await interaction.response.send_message(embed=_base_card(found), ephemeral=True)
            return
        uses = await services.store.presets.uses(found.id, _NUM_USES_SHOWN, viewer_id=interaction.user.id)
        num_uses = await services.store.presets.count_uses(found.id)
        await interaction.response.send_message(embed=_card(found, uses, num_uses), ephemeral=True)

    @preset.command(name="delete", description="Delete one of your presets")
    @app_commands.describe(name="The preset")
    @app_commands.autocomplete(name=suggest)
    async def delete(interaction: Interaction, name: app_commands.Range[str, 1, 100]) -> None:
        found = await find_preset(services, interaction, name)
        if isinstance(found, BuiltInPreset):
            raise RequestError(f"“{found.name}” comes with AmbientGen and cannot be deleted.")
        is_moderator = interaction.guild_id is not None and interaction.permissions.manage_messages
        if found.owner_id != interaction.user.id and not is_moderator:
            raise RequestError(f"Only <@{found.owner_id}>, who saved this preset, or a moderator can delete it.")
        await services.store.presets.delete(found.id)
        await interaction.response.send_message(f"Deleted **{cards.quoted(found.name)}**.", ephemeral=True)


async def find_preset(services: Services, interaction: Interaction, text: str) -> Preset | BuiltInPreset:
    """The preset a person means: by its name, or by the number that a suggestion stands for; last the built-in ones.

    Raises:
        RequestError: if there is none that they can see here.
    """
    presets = services.store.presets
    found = await presets.get_by_name(interaction.user.id, interaction.guild_id, text)
    if found is None and _NUMBER.fullmatch(text):
        numbered = await presets.get(int(text[1:]))
        found = numbered if numbered and numbered.visible_to(interaction.user.id, interaction.guild_id) else None
    wanted = fold(text.strip())
    built_in = next((preset for preset in built_in_presets() if fold(preset.name) == wanted), None)
    if found is None and built_in is not None:
        return built_in
    if found is None:
        raise RequestError(
            f"There is no preset “{cards.quoted(text, 60)}” here. `/ambient preset list` shows the ones you can use."
        )
    return found


def _line(preset: Preset, viewer_id: int) -> str:
    owner = "yours" if preset.owner_id == viewer_id else f"by <@{preset.owner_id}>"
    return f"**{cards.quoted(preset.name)}** ({owner}) · {cards.quoted(preset.request.description, 80)}"


def _base_card(preset: Preset | BuiltInPreset) -> discord.Embed:
    """What a preset holds."""
    request = preset.request
    embed = discord.Embed(
        color=cards.COLOR, title=cards.quoted(preset.name, 80), description=f"> {cards.quoted(request.description)}"
    )
    options = {
        "duration": None if request.duration_s is None else f"{request.duration_s:g} s",
        "engine": request.engine,
        "quality": request.quality,
        "loop": "yes" if request.loop else None,
        "seed": request.seed,
        "negative_prompt": None if request.negative_prompt is None else cards.quoted(request.negative_prompt, 300),
        "guidance_scale": request.guidance_scale,
        "steps": request.num_inference_steps,
        "full_band": "yes" if request.full_band else None,
    }
    shown = [f"{name}: {value}" for name, value in options.items() if value is not None]
    embed.add_field(name="Options", value="\n".join(shown), inline=False)
    return embed


def _card(preset: Preset, uses: Any, num_uses: int) -> discord.Embed:
    embed = _base_card(preset)
    times = f"{num_uses} time{'' if num_uses == 1 else 's'}"
    lines = [
        f"{discord.utils.format_dt(use.created_at, 'R')} by <@{use.user_id}> · version {use.version} · `{use.job_id}`"
        for use in uses
    ]
    embed.add_field(name=f"Used {times}", value="\n".join(lines) or "Not yet.", inline=False)
    saved = discord.utils.format_dt(preset.updated_at, "D")
    embed.add_field(name="Saved", value=f"version {preset.version}, {saved}, by <@{preset.owner_id}>", inline=False)
    return embed
