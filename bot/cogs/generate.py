"""`/ambient generate`."""

# No `from __future__ import annotations`: discord.py reads the options' ranges from the annotations, and one of them
# is a setting, which only exists in the function that adds the command.
from typing import Any, get_args

import discord
from discord import app_commands

from ambientgen import scenes
from ambientgen.audio.encode import FORMATS
from ambientgen.errors import OptionError
from ambientgen.ideas import BuiltInPreset
from ambientgen.recipe import (
    MAX_GUIDANCE_SCALE,
    MAX_NEGATIVE_PROMPT_CHARS,
    MAX_SEED,
    MAX_STEPS,
    MIN_GUIDANCE_SCALE,
    MIN_STEPS,
    Quality,
    SceneRequest,
)
from bot.cogs.ideas import find_scene, show_ideas, suggest_scenes
from bot.cogs.preset import find_preset, suggest_presets
from bot.services import MIN_DURATION_S, PresetRef, Services
from bot.store import Preset

Interaction = discord.Interaction[Any]


def add_commands(group: app_commands.Group, services: Services) -> None:
    """Add the command to `/ambient`."""
    max_duration_s = int(services.settings.max_duration_s)
    engines = [app_commands.Choice(name=name, value=name) for name in services.executor.specs()]
    qualities = [app_commands.Choice(name=name, value=name) for name in get_args(Quality)]
    formats = [app_commands.Choice(name=name, value=name) for name in FORMATS]

    async def suggest(interaction: Interaction, current: str) -> list[app_commands.Choice[str]]:
        return await suggest_presets(services, interaction, current)

    async def suggest_scene(interaction: Interaction, current: str) -> list[app_commands.Choice[str]]:
        return await suggest_scenes(services, interaction, current)

    @group.command(name="generate", description="Turn a scene into an ambient soundscape")
    @app_commands.describe(
        scene="What you want to hear, like: gentle rain on a window with distant thunder",
        duration="Length in seconds",
        engine="Which engine makes it (default: the best one that is ready)",
        quality="draft is quick, high takes the best of three",
        loop="Make the end join the beginning",
        preset="Start from a saved preset; other options change it",
        seed="The same seed makes the same sound again",
        negative_prompt="What the model should avoid",
        guidance_scale="How closely the model follows the words (5 to 7.5 is best)",
        steps="How many steps the model takes (default: 50)",
        full_band="Fill the band above 8 kHz that AudioLDM2 leaves empty",
        format="File format (default: opus)",
        private="Only you see the result",
    )
    @app_commands.choices(engine=engines, quality=qualities, format=formats)
    @app_commands.autocomplete(scene=suggest_scene, preset=suggest)
    async def generate(
        interaction: Interaction,
        scene: app_commands.Range[str, scenes.MIN_DESCRIPTION_CHARS, scenes.MAX_DESCRIPTION_CHARS] | None = None,
        duration: app_commands.Range[int, MIN_DURATION_S, max_duration_s] | None = None,
        engine: str | None = None,
        quality: str | None = None,
        loop: bool | None = None,
        preset: app_commands.Range[str, 1, 100] | None = None,
        seed: app_commands.Range[int, 0, MAX_SEED] | None = None,
        negative_prompt: app_commands.Range[str, 1, MAX_NEGATIVE_PROMPT_CHARS] | None = None,
        guidance_scale: app_commands.Range[float, MIN_GUIDANCE_SCALE, MAX_GUIDANCE_SCALE] | None = None,
        steps: app_commands.Range[int, MIN_STEPS, MAX_STEPS] | None = None,
        full_band: bool | None = None,
        format: str | None = None,  # noqa: A002 - the option's name in Discord
        private: bool = False,
    ) -> None:
        if format is not None and format not in FORMATS:
            raise OptionError("format", f"`format` is one of {', '.join(FORMATS)}.")
        given = {
            "description": None if scene is None else await find_scene(services, interaction, scene),
            "duration_s": None if duration is None else float(duration),
            "engine": engine,
            "quality": quality,
            "loop": loop,
            "seed": seed,
            "negative_prompt": negative_prompt,
            "guidance_scale": guidance_scale,
            "num_inference_steps": steps,
            "full_band": full_band,
        }
        given = {name: value for name, value in given.items() if value is not None}
        if scene is None and preset is None:
            words = "Describe what you want to hear with `scene:`, or press one of these:"
            if given or format:
                words = (
                    f"The options you set need a `scene:` to go with them. {words}\n(These do not use your options.)"
                )
            await show_ideas(services, interaction, words, category=None, private=private)
            return
        saved = None if preset is None else await find_preset(services, interaction, preset)
        use = PresetRef(saved.id, saved.version) if isinstance(saved, Preset) else None
        await services.ask(
            interaction, merge(saved, given), file_format=format or "opus", private=private, preset_use=use
        )


def merge(preset: Preset | BuiltInPreset | None, given: dict[str, Any]) -> SceneRequest:
    """A preset's request with the options that were given explicitly in its place."""
    if preset is None:
        return SceneRequest(**given)
    base = {name: getattr(preset.request, name) for name in SceneRequest.__dataclass_fields__}
    return SceneRequest(**{**base, **given, "preset": preset.name})
