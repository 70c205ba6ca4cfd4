"""The buttons. Each carries its job's id, so it works after a restart and for ever.

A button on a card belongs to the job, not to the process: pressing it looks the job up in the store.
"""

from __future__ import annotations

import re
from typing import Any, Self

import discord

Interaction = discord.Interaction[Any]


class JobButton(
    discord.ui.DynamicItem[discord.ui.Button[Any]],
    template=r"ambient:(?P<action>again|edit|mix|save|info|delete|cancel):(?P<job>[a-z0-9]{4,20})",
):
    """A button on a job's card; what it does is in `bot/ui/actions.py`."""

    def __init__(self, action: str, job_id: str) -> None:
        label, emoji, style = _LOOKS[action]
        custom_id = f"ambient:{action}:{job_id}"
        super().__init__(discord.ui.Button(label=label, emoji=emoji, style=style, custom_id=custom_id))
        self.action = action
        self.job_id = job_id

    @classmethod
    async def from_custom_id(
        cls, _interaction: discord.Interaction[Any], _item: discord.ui.Item[Any], match: re.Match[str], /
    ) -> Self:
        """Make the button again from its id."""
        return cls(match["action"], match["job"])

    async def callback(self, interaction: discord.Interaction[Any]) -> None:
        """Do what the button says."""
        await interaction.client.run_action(interaction, self.action, self.job_id)


class IdeaButton(
    discord.ui.DynamicItem[discord.ui.Button[Any]],
    template=r"ambient:idea:(?P<number>[0-9]{1,2})(?P<private>:private)?",
):
    """A scene to try, on the panel of ideas; it remembers if the result was to be private."""

    def __init__(self, number: int, scene: str, *, private: bool) -> None:
        custom_id = f"ambient:idea:{number}{':private' if private else ''}"
        super().__init__(discord.ui.Button(label=scene[:80], custom_id=custom_id))
        self.scene = scene
        self.private = private

    @classmethod
    async def from_custom_id(
        cls, _interaction: discord.Interaction[Any], item: discord.ui.Item[Any], match: re.Match[str], /
    ) -> Self:
        """Make the button again; the scene is its label, so a changed list of ideas cannot change what it does."""
        return cls(int(match["number"]), getattr(item, "label", None) or "", private=match["private"] is not None)

    async def callback(self, interaction: discord.Interaction[Any]) -> None:
        """Make the scene."""
        await interaction.client.run_idea(interaction, self.scene, private=self.private)


class MoreIdeasButton(
    discord.ui.DynamicItem[discord.ui.Button[Any]],
    template=r"ambient:ideas:(?P<category>[a-z]{0,20})(?P<private>:private)?",
):
    """Other ideas in place of those on the panel."""

    def __init__(self, category: str | None, *, private: bool) -> None:
        custom_id = f"ambient:ideas:{category or ''}{':private' if private else ''}"
        button = discord.ui.Button[Any](label="More ideas", emoji="💡", custom_id=custom_id)
        button.style = discord.ButtonStyle.primary
        super().__init__(button)
        self.category = category
        self.private = private

    @classmethod
    async def from_custom_id(
        cls, _interaction: discord.Interaction[Any], _item: discord.ui.Item[Any], match: re.Match[str], /
    ) -> Self:
        """Make the button again from its id."""
        return cls(match["category"] or None, private=match["private"] is not None)

    async def callback(self, interaction: discord.Interaction[Any]) -> None:
        """Show others."""
        await interaction.client.more_ideas(interaction, self.category, private=self.private)


class HistoryButton(discord.ui.DynamicItem[discord.ui.Button[Any]], template=r"ambient:history:(?P<page>[0-9]{1,5})"):
    """To another page of one's own history."""

    def __init__(self, page: int, *, label: str = "…", disabled: bool = False) -> None:
        super().__init__(discord.ui.Button(label=label, custom_id=f"ambient:history:{page}", disabled=disabled))
        self.page = page

    @classmethod
    async def from_custom_id(
        cls, _interaction: discord.Interaction[Any], _item: discord.ui.Item[Any], match: re.Match[str], /
    ) -> Self:
        """Make the button again from its page."""
        return cls(int(match["page"]))

    async def callback(self, interaction: discord.Interaction[Any]) -> None:
        """Show that page."""
        await interaction.client.show_history(interaction, self.page)


class HistorySelect(discord.ui.DynamicItem[discord.ui.Select[Any]], template=r"ambient:replay:(?P<page>[0-9]{1,5})"):
    """Choose a sound of one's history to hear again."""

    def __init__(self, page: int, options: list[discord.SelectOption]) -> None:
        super().__init__(
            discord.ui.Select(placeholder="Hear one again…", options=options, custom_id=f"ambient:replay:{page}")
        )

    @classmethod
    async def from_custom_id(
        cls, _interaction: discord.Interaction[Any], item: discord.ui.Item[Any], match: re.Match[str], /
    ) -> Self:
        """Make the select again with the options it showed."""
        return cls(int(match["page"]), getattr(item, "options", []))

    async def callback(self, interaction: discord.Interaction[Any]) -> None:
        """Bring the chosen sound."""
        await interaction.client.replay(interaction, self.item.values[0])


DYNAMIC_ITEMS: tuple[type[discord.ui.DynamicItem[Any]], ...] = (
    JobButton,
    IdeaButton,
    MoreIdeasButton,
    HistoryButton,
    HistorySelect,
)

_LOOKS = {
    "again": ("Again", "🎲", discord.ButtonStyle.primary),
    "edit": ("Edit", "✏️", discord.ButtonStyle.secondary),
    "mix": ("Mix", "🎚️", discord.ButtonStyle.secondary),
    "save": ("Save preset", "⭐", discord.ButtonStyle.secondary),
    "info": ("Info", "📋", discord.ButtonStyle.secondary),
    "delete": ("Delete", "🗑️", discord.ButtonStyle.secondary),
    "cancel": ("Cancel", "✖️", discord.ButtonStyle.danger),
}


def waiting_view(job_id: str) -> discord.ui.View:
    """The button of a job that waits or runs."""
    return _view(JobButton("cancel", job_id))


def result_view(job_id: str, *, num_layers: int) -> discord.ui.View:
    """The buttons of a finished job."""
    mix = ("mix",) if num_layers > 1 else ()
    return _view(*(JobButton(action, job_id) for action in ("again", "edit", *mix, "save", "info", "delete")))


def ideas_view(scenes: list[str], *, category: str | None, private: bool) -> discord.ui.View:
    """The panel of ideas, at most 24 of them, and the way to others."""
    ideas = [IdeaButton(number, scene, private=private) for number, scene in enumerate(scenes[:24])]
    return _view(*ideas, MoreIdeasButton(category, private=private))


def history_view(page: int, num_pages: int, options: list[discord.SelectOption]) -> discord.ui.View:
    """The buttons under a page of one's history."""
    items: list[discord.ui.Item[Any]] = [HistorySelect(page, options)] if options else []
    if num_pages > 1:
        items.append(HistoryButton(max(0, page - 1), label="◀ Newer", disabled=page == 0))
        items.append(HistoryButton(page + 1, label="Older ▶", disabled=page + 1 >= num_pages))
    return _view(*items)


def _view(*items: discord.ui.Item[Any]) -> discord.ui.View:
    # Only dynamic items: a plain button with a custom_id in a sent view would shadow the persistent one.
    view = discord.ui.View(timeout=None)
    for item in items:
        view.add_item(item)
    return view
