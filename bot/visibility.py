"""Who may see a job by its id."""

from __future__ import annotations

from typing import Any

import discord

from bot.store import Job


def may_see(interaction: discord.Interaction[Any], job: Job) -> bool:
    """True for one's own jobs, and for public ones of this server in a channel the person can read."""
    if job.user_id == interaction.user.id:
        return True
    if job.private or job.guild_id is None or job.guild_id != interaction.guild_id:
        return False
    if job.channel_id == interaction.channel_id:
        return True
    channel = interaction.guild.get_channel_or_thread(job.channel_id) if interaction.guild else None
    if channel is None or not isinstance(interaction.user, discord.Member):
        return False
    if isinstance(channel, discord.Thread) and channel.is_private():
        return False  # its permissions are its parent's; who is in it is not known here
    return channel.permissions_for(interaction.user).view_channel
