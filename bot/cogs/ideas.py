"""`/ambient ideas`, and what `scene:` offers while a person types."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from typing import Any

import discord
from discord import app_commands

from ambientgen import ideas
from ambientgen.vocabulary import fold, words_of
from bot.services import Services
from bot.ui import cards
from bot.ui.buttons import ideas_view

Interaction = discord.Interaction[Any]

_NUM_IDEAS = 8
_NUM_RECENT = 200
_NUM_RECENT_FIRST = 5
_MAX_CHOICES, _MAX_CHOICE_CHARS = 25, 100
#: A scene too long for a choice travels as the id of the sound or preset that holds it.
_SCENE_ID = re.compile(r"scene:(job|preset):([a-z0-9]{1,20})")


def add_commands(group: app_commands.Group, services: Services) -> None:
    """Add the command to `/ambient`."""
    titles = ideas.categories()

    async def suggest_categories(_interaction: Interaction, current: str) -> list[app_commands.Choice[str]]:
        typed = fold(current.strip())
        fitting = [(key, title) for key, title in titles.items() if typed in key or typed in fold(title)]
        return [app_commands.Choice(name=title, value=key) for key, title in fitting[:_MAX_CHOICES]]

    @group.command(name="ideas", description="What to ask for: press one to hear it")
    @app_commands.describe(category="Only of this kind", private="Only you see the result")
    @app_commands.autocomplete(category=suggest_categories)
    async def ideas_(
        interaction: Interaction, category: app_commands.Range[str, 1, 40] | None = None, private: bool = False
    ) -> None:
        await show_ideas(services, interaction, "Press one to hear it:", category=category, private=private)


async def show_ideas(
    services: Services, interaction: Interaction, words: str, *, category: str | None, private: bool
) -> None:
    """Answer privately with a panel of ideas; a press on "More ideas" changes it in place.

    Raises:
        RequestError: if there is no such category, or nothing of it can be made here.
    """
    found = ideas.ideas(category, _NUM_IDEAS, secrets.randbits(32), services.executor.available())
    view = ideas_view(list(found), category=category, private=private)
    if interaction.type is discord.InteractionType.component:
        await interaction.response.edit_message(view=view)
        return
    embed = discord.Embed(color=cards.COLOR, description=words)
    await interaction.response.send_message(embed=embed, view=view, ephemeral=True)


async def suggest_scenes(services: Services, interaction: Interaction, current: str) -> list[app_commands.Choice[str]]:
    """Scenes that begin with or hold what was typed: one's own newest, saved presets, then ideas."""
    recent = await services.store.jobs.recent_scenes(interaction.user.id, _NUM_RECENT)
    presets = await services.store.presets.list(interaction.user.id, interaction.guild_id, limit=_NUM_RECENT)
    offered = [(scene, f"scene:job:{job_id}") for job_id, scene in recent]
    offered += [(preset.request.description, f"scene:preset:{preset.id}") for preset in presets]
    offered += [(scene, scene) for scene in ideas.all_ideas(services.executor.available())]
    if not current.strip():  # some of one's own, then others
        offered = offered[:_NUM_RECENT_FIRST] + offered[len(recent) :]
    fitting = _fitting(dict(reversed(offered)), [scene for scene, _ in offered], current)
    return [
        app_commands.Choice(
            name=scene if len(scene) <= _MAX_CHOICE_CHARS else scene[: _MAX_CHOICE_CHARS - 1] + "…",
            value=scene if len(scene) <= _MAX_CHOICE_CHARS else scene_id,
        )
        for scene, scene_id in fitting
    ]


async def find_scene(services: Services, interaction: Interaction, text: str) -> str:
    """The scene a person means: what they typed, or what a suggestion's id stands for."""
    match = _SCENE_ID.fullmatch(text)
    if match is None:
        return text
    kind, number = match.groups()
    if kind == "job":
        job = await services.store.jobs.get(number)
        return job.request.description if job is not None and job.user_id == interaction.user.id else text
    preset = await services.store.presets.get(int(number)) if number.isdecimal() else None
    visible = preset is not None and preset.visible_to(interaction.user.id, interaction.guild_id)
    return preset.request.description if preset is not None and visible else text


def _fitting(ids: dict[str, str], scenes: Iterable[str], current: str) -> list[tuple[str, str]]:
    """At most 25 scenes with their ids: those that begin as typed come first, then those that hold every word."""
    typed, words = fold(" ".join(current.split())), words_of(current)
    beginning, holding = [], []
    for scene in dict.fromkeys(scenes):
        folded = fold(scene)
        if folded.startswith(typed):
            beginning.append(scene)
        elif all(word in folded for word in words):
            holding.append(scene)
    return [(scene, ids[scene]) for scene in [*beginning, *holding][:_MAX_CHOICES]]
