"""`/ambient help|about`."""

from __future__ import annotations

from typing import Any

import discord
from discord import app_commands

from ambientgen import __version__, scenes
from bot.services import Services
from bot.ui import cards

Interaction = discord.Interaction[Any]

#: Every command with what it does, for the help card; a test holds it against the real commands and the README.
COMMANDS = {
    "/ambient generate": "turn a scene into a soundscape; with no options, a panel of ideas",
    "/ambient ideas": "what to ask for, by category; press one to hear it",
    "/ambient preset save": "save a sound's scene and options under a name",
    "/ambient preset list": "the presets you can use here",
    "/ambient preset show": "what a preset holds, and where it was used",
    "/ambient preset delete": "delete one of your presets",
    "/ambient history": "your sounds: hear one again, save it, or fetch one that waits for you",
    "/ambient queue": "what is being made now, and what comes next",
    "/ambient show": "show a sound again by its id",
    "/ambient help": "this card",
    "/ambient about": "version, engines, device and model license",
}


def add_commands(group: app_commands.Group, services: Services) -> None:
    """Add the commands to `/ambient`."""

    @group.command(name="help", description="How to ask for a sound, and every command")
    async def help_(interaction: Interaction) -> None:
        textures = frozenset().union(*(spec.textures for spec in services.executor.specs().values()))
        embed = discord.Embed(
            color=cards.COLOR,
            title="Ambient sound from words",
            description=(
                "Type `/ambient generate` and describe what you want to hear. Name the sounds, how strong they are and "
                "how far away: **gentle** rain on a **window** with **distant** thunder.\n\n"
                f"Without a model, these can be made: {scenes.what_it_makes(textures)}."
            ),
        )
        commands = "\n".join(f"`{name}` {words}" for name, words in COMMANDS.items())
        embed.add_field(name="Commands", value=commands, inline=False)
        buttons = (
            "**Again** the same scene, another seed · **Edit** change the scene · "
            "**Save preset** keep it under a name · **Info** the whole recipe · **Delete** the asker's or a moderator's"
        )
        embed.add_field(name="Buttons", value=buttons, inline=False)
        await interaction.response.send_message(embed=embed, ephemeral=True)

    @group.command(name="about", description="Version, engines, device and model license")
    async def about(interaction: Interaction) -> None:
        usage = await services.store.jobs.usage()
        embed = discord.Embed(color=cards.COLOR, title=f"AmbientGen {__version__}")
        status = services.executor.status()
        for name, spec in services.executor.specs().items():
            device = services.executor.device(name)
            model = f"model {spec.model}\n" if spec.model else ""
            state = "not installed: run `make model`" if status[name] == "not installed" else status[name]
            words = f"{state}{f' on {device}' if device else ''}\n{model}license: {spec.license}"
            embed.add_field(name=f"{name} {spec.version}", value=words, inline=True)
        made = f"sounds: {usage.num_done} · minutes: {usage.seconds_of_sound / 60:.1f} · people: {usage.num_users}"
        embed.add_field(name="Made so far", value=made, inline=False)
        await interaction.response.send_message(embed=embed, ephemeral=True)
