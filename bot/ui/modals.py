"""The forms: edit a scene, mix its layers, name a preset."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

import discord

from ambientgen.errors import OptionError
from ambientgen.recipe import MAX_NEGATIVE_PROMPT_CHARS, MAX_SEED, SceneRequest
from ambientgen.scenes import MAX_DESCRIPTION_CHARS, MIN_DESCRIPTION_CHARS

Interaction = discord.Interaction[Any]
MAX_PRESET_NAME_CHARS = 50
_MAX_LABEL_CHARS = 45
#: What an option that is a number is a number of.
_UNITS = {"duration": "seconds", "gain": "dB"}
#: A form that was dismissed is not told of; it is forgotten when its interaction's token dies.
_OPEN_FOR_S = 900.0


class EditModal(discord.ui.Modal, title="Edit the scene"):
    """A form filled with a request; submitting it asks for the changed one.

    Args:
        request: what the form starts from.
        submit: called with the changed request.
    """

    def __init__(self, request: SceneRequest, submit: Callable[[Interaction, SceneRequest], Awaitable[None]]) -> None:
        super().__init__(timeout=_OPEN_FOR_S)
        self._request = request
        self._submit = submit
        self.scene = discord.ui.TextInput[Any](
            style=discord.TextStyle.paragraph,
            default=request.description,
            min_length=MIN_DESCRIPTION_CHARS,
            max_length=MAX_DESCRIPTION_CHARS,
            custom_id="scene",
        )
        self.duration = _short("duration", "" if request.duration_s is None else f"{request.duration_s:g}", 6)
        self.seed = _short("seed", "" if request.seed is None else str(request.seed), 10)
        self.negative = _short("negative_prompt", request.negative_prompt or "", MAX_NEGATIVE_PROMPT_CHARS)
        self.add_item(discord.ui.Label(text="Scene", component=self.scene))
        self.add_item(
            discord.ui.Label(
                text="Duration in seconds", description="Empty: as the engine likes", component=self.duration
            )
        )
        self.add_item(
            discord.ui.Label(
                text="Seed", description="Empty: a new one; the same seed repeats a sound", component=self.seed
            )
        )
        self.add_item(
            discord.ui.Label(
                text="Negative prompt", description="What to avoid; empty: the usual words", component=self.negative
            )
        )

    async def on_submit(self, interaction: Interaction) -> None:
        """Ask for the changed request."""
        try:
            changed = replace(
                self._request,
                description=self.scene.value,
                duration_s=_number("duration", self.duration.value, float),
                seed=_number("seed", self.seed.value, int),
                negative_prompt=self.negative.value.strip() or None,
            )
            await self._submit(interaction, changed)
        except Exception as error:
            await interaction.client.answer_error(interaction, error)


class MixModal(discord.ui.Modal, title="Mix the layers"):
    """A form with the gain of each layer; submitting it asks for the other mix.

    Args:
        names: of the layers, at most `MAX_FIELDS`.
        gains_db: what the form starts from.
        submit: called with the changed gains.
    """

    MAX_FIELDS = 5

    def __init__(
        self,
        names: Sequence[str],
        gains_db: Sequence[float],
        submit: Callable[[Interaction, list[float]], Awaitable[None]],
    ) -> None:
        super().__init__(timeout=_OPEN_FOR_S)
        self._submit = submit
        self._fields = [
            _short(f"gain{number}", f"{gain_db:.1f}".removesuffix(".0"), 6, required=True)
            for number, gain_db in enumerate(gains_db)
        ]
        for name, gain in zip(names, self._fields, strict=True):
            label = name if len(name) <= _MAX_LABEL_CHARS else name[: _MAX_LABEL_CHARS - 1] + "…"
            self.add_item(
                discord.ui.Label(
                    text=label, description="Gain in dB: 6 more is twice as strong, -60 is silent", component=gain
                )
            )

    async def on_submit(self, interaction: Interaction) -> None:
        """Ask for the other mix."""
        try:
            gains_db = [_number("gain", gain.value, float) for gain in self._fields]
            if not all(gain_db is not None and math.isfinite(gain_db) for gain_db in gains_db):
                raise OptionError("gain", "`gain` must be a number of dB.")
            await self._submit(interaction, gains_db)
        except Exception as error:
            await interaction.client.answer_error(interaction, error)


class SaveModal(discord.ui.Modal, title="Save as a preset"):
    """Ask for a preset's name.

    Args:
        suggestion: the name it starts with.
        submit: called with the name.
    """

    def __init__(self, suggestion: str, submit: Callable[[Interaction, str], Awaitable[None]]) -> None:
        super().__init__(timeout=_OPEN_FOR_S)
        self._submit = submit
        self.name = _short("name", suggestion[:MAX_PRESET_NAME_CHARS], MAX_PRESET_NAME_CHARS, required=True)
        self.add_item(
            discord.ui.Label(text="Name", description="A name you used before gets a new version", component=self.name)
        )

    async def on_submit(self, interaction: Interaction) -> None:
        """Save under that name."""
        try:
            await self._submit(interaction, self.name.value)
        except Exception as error:
            await interaction.client.answer_error(interaction, error)


def _short(custom_id: str, default: str, max_length: int, *, required: bool = False) -> discord.ui.TextInput[Any]:
    return discord.ui.TextInput(default=default, max_length=max_length, required=required, custom_id=custom_id)


def _number(option: str, text: str, kind: type[float] | type[int]) -> Any:
    text = text.strip().replace(",", ".")
    if not text:
        return None
    try:
        return kind(text)
    except ValueError as error:
        allowed = f"a whole number from 0 to {MAX_SEED}" if kind is int else f"a number of {_UNITS[option]}"
        raise OptionError(option, f"`{option}` must be {allowed}.") from error
