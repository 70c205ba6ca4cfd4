"""`/ambient-admin`: what a server's moderators decide for it. Every answer is private, and every act is recorded.

Discord shows the commands to whoever may manage the server; its admins can give them to others under Integrations.
"""

# No `from __future__ import annotations`: discord.py reads the options' ranges from the annotations, and some of them
# are settings, which only exist in the function that adds the commands.
import dataclasses
import itertools
import logging
import re
import unicodedata
from datetime import UTC, datetime
from typing import Any, Self

import discord
from discord import app_commands

from ambientgen.errors import OptionError, RequestError
from ambientgen.vocabulary import fold
from bot.limits import DAY, MIN_DURATION_S, QUALITIES, longest_s, span
from bot.services import Services
from bot.store import Job, Server, ServerLimits
from bot.ui import cards
from bot.visibility import may_see

log = logging.getLogger(__name__)

Interaction = discord.Interaction[Any]

MAX_REASON_CHARS = 200
_MAX_SECONDS_PER_DAY = 1_000_000
_MAX_WAIT_S = 86_400
#: What an option says when it lifts a limit: 0, and every engine or quality.
_LIFTED: tuple[Any, ...] = (0, "all")
_PAGE_SIZE = 10
_NUM_BLOCKED_SHOWN = 20
_MAX_CHOICES, _MAX_CHOICE_CHARS = 25, 100
_NO_SUCH_JOB = "No sound of that id waits or runs in this server. `/ambient-admin queue` shows those that do."


def commands(services: Services) -> app_commands.Group:
    """The whole group `/ambient-admin`."""
    group = app_commands.Group(
        name="ambient-admin",
        description="What this server's moderators decide about ambient sounds",
        allowed_contexts=app_commands.AppCommandContext(guild=True),
        allowed_installs=app_commands.AppInstallationType(guild=True),
        default_permissions=discord.Permissions(manage_guild=True),
    )
    _add_limits(group, services)
    _add_pause(group, services)
    _add_queue(group, services)
    _add_blocking(group, services)
    return group


# ---------------------------------------------------------------------- limits


def _add_limits(group: app_commands.Group, services: Services) -> None:
    max_pending = services.settings.max_pending_per_user
    max_duration_s = int(services.settings.max_duration_s)
    names = list(services.executor.specs())

    async def suggest_engines(_interaction: Interaction, current: str) -> list[app_commands.Choice[str]]:
        sets = [", ".join(some) for num in range(1, len(names)) for some in itertools.combinations(names, num)]
        fitting = [text for text in ["all", *sets] if fold(current.strip()) in text]
        return [app_commands.Choice(name=text, value=text) for text in fitting[:_MAX_CHOICES]]

    @group.command(name="limits", description="Show this server's limits, or set some of them; 0 lifts one")
    @app_commands.describe(
        pending="Unfinished sounds of one person (0: no limit of this server's own)",
        duration="Longest sound, in seconds (0: no limit of this server's own)",
        seconds_per_day="Seconds of sound in 24 hours for one person (0: no limit)",
        server_seconds_per_day="Seconds of sound in 24 hours for everybody together (0: no limit)",
        engines="Engines that may be used, with commas between them (all: every one)",
        quality="Highest quality that may be asked for (high: every one)",
        wait="Refuse requests that would wait longer than so many seconds (0: no limit)",
        reset="Lift all limits of this server before the others given here are set",
    )
    @app_commands.choices(quality=[app_commands.Choice(name=name, value=name) for name in QUALITIES])
    @app_commands.autocomplete(engines=suggest_engines)
    async def limits(
        interaction: Interaction,
        pending: app_commands.Range[int, 0, max_pending] | None = None,
        duration: app_commands.Range[int, 0, max_duration_s] | None = None,
        seconds_per_day: app_commands.Range[int, 0, _MAX_SECONDS_PER_DAY] | None = None,
        server_seconds_per_day: app_commands.Range[int, 0, _MAX_SECONDS_PER_DAY] | None = None,
        engines: app_commands.Range[str, 1, 100] | None = None,
        quality: str | None = None,
        wait: app_commands.Range[int, 0, _MAX_WAIT_S] | None = None,
        reset: bool = False,
    ) -> None:
        guild_id = _guild_id(interaction)
        day = (MIN_DURATION_S, _MAX_SECONDS_PER_DAY)
        given = {
            "max_pending_per_user": _limit("pending", pending, 1, max_pending),
            "max_duration_s": _limit("duration", duration, MIN_DURATION_S, max_duration_s),
            "user_seconds_per_day": _limit("seconds_per_day", seconds_per_day, *day),
            "server_seconds_per_day": _limit("server_seconds_per_day", server_seconds_per_day, *day),
            "engines": _engines(engines, names),
            "max_quality": _max_quality(quality),
            "max_wait_s": _limit("wait", wait, 1, _MAX_WAIT_S),
        }
        given = {name: None if value in _LIFTED else value for name, value in given.items() if value is not None}
        servers = services.store.servers
        if given or reset:
            before = ServerLimits() if reset else (await servers.get(guild_id)).limits
            limits = dataclasses.replace(before, **given)
            await servers.set_limits(guild_id, limits, by=interaction.user.id, at=datetime.now(UTC))
            log.info("the limits of server %d were set by %d", guild_id, interaction.user.id)
        embed = await _limits_card(services, guild_id, await servers.get(guild_id))
        await interaction.response.send_message("Set." if given or reset else None, embed=embed, ephemeral=True)


def _limit(option: str, value: int | None, low: int, high: int) -> int | None:
    """The value as it was given; discord.py does not check ranges again."""
    if value is not None and value != 0 and not low <= value <= high:
        raise OptionError(option, f"`{option}` goes from {low} to {high}, or is 0 for no limit of this server's own.")
    return value


def _engines(text: str | None, names: list[str]) -> Any:
    if text is None or fold(text.strip()) == "all":
        return None if text is None else "all"
    wanted = set(fold(text).replace(",", " ").split())
    if not wanted or wanted - set(names):
        raise OptionError("engines", f"`engines` is `all`, or some of {', '.join(names)} with commas between them.")
    return tuple(name for name in names if name in wanted)


def _max_quality(text: str | None) -> Any:
    if text is not None and text not in QUALITIES:
        raise OptionError("quality", f"`quality` is one of {', '.join(QUALITIES)}.")
    return "all" if text == QUALITIES[-1] else text


async def _limits_card(services: Services, guild_id: int, server: Server) -> discord.Embed:
    """What holds in a server, beside what the bot's operator allows at most, and how much is used."""
    limits, settings = server.limits, services.settings
    used_s = await services.store.jobs.seconds_since(guild_id, datetime.now(UTC) - DAY)
    max_pending = min(settings.max_pending_per_user, limits.max_pending_per_user or settings.max_pending_per_user)
    lines = [
        f"unfinished sounds of one person: **{max_pending}** (this bot's most: {settings.max_pending_per_user})",
        f"longest sound: **{longest_s(settings, limits):g} s** (this bot's most: {settings.max_duration_s:g} s)",
        f"sound in 24 hours: **{_seconds(limits.user_seconds_per_day)}** a person, "
        f"**{_seconds(limits.server_seconds_per_day)}** the server ({used_s:.0f} s used)",
        f"engines: **{', '.join(limits.engines or ['all'])}**",
        f"highest quality: **{limits.max_quality or QUALITIES[-1]}**",
        f"longest predicted wait: **{'no limit' if limits.max_wait_s is None else span(limits.max_wait_s)}**",
    ]
    embed = discord.Embed(color=cards.COLOR, title="Limits of this server", description="\n".join(lines))
    if server.pause is not None:
        reason = "" if server.pause.reason is None else f": {cards.quoted(server.pause.reason)}"
        since = discord.utils.format_dt(server.pause.at, "R")
        embed.add_field(name="Paused", value=f"{since} by <@{server.pause.by}>{reason}", inline=False)
    if blocked := await services.store.servers.blocked(guild_id, limit=_NUM_BLOCKED_SHOWN):
        num_more = await services.store.servers.count_blocked(guild_id) - len(blocked)
        who = " ".join(f"<@{block.user_id}>" for block in blocked) + (f" and {num_more} more" if num_more > 0 else "")
        embed.add_field(name="Blocked", value=who, inline=False)
    return embed


def _seconds(limit: float | None) -> str:
    return "no limit" if limit is None else f"{limit:.0f} s"


# ---------------------------------------------------------------------- pause


def _add_pause(group: app_commands.Group, services: Services) -> None:
    servers = services.store.servers

    @group.command(name="pause", description="Take no new sounds in this server; those that wait or run go on")
    @app_commands.describe(reason="Shown to everyone who asks for a sound")
    async def pause(
        interaction: Interaction, reason: app_commands.Range[str, 1, MAX_REASON_CHARS] | None = None
    ) -> None:
        guild_id = _guild_id(interaction)
        await servers.pause(guild_id, by=interaction.user.id, at=datetime.now(UTC), reason=_reason(reason))
        log.info("server %d was paused by %d", guild_id, interaction.user.id)
        await _say(interaction, "Paused: new sounds are refused until `/ambient-admin resume`.")

    @group.command(name="resume", description="Take new sounds in this server again")
    async def resume(interaction: Interaction) -> None:
        guild_id = _guild_id(interaction)
        if not await servers.resume(guild_id, by=interaction.user.id, at=datetime.now(UTC)):
            raise RequestError("This server is not paused.")
        log.info("server %d was resumed by %d", guild_id, interaction.user.id)
        await _say(interaction, "Resumed: new sounds are taken again.")


# ---------------------------------------------------------------------- queue and cancel


def _add_queue(group: app_commands.Group, services: Services) -> None:
    @group.command(name="queue", description="The sounds of this server that are being made or wait")
    async def queue(interaction: Interaction) -> None:
        await show_queue(services, interaction, 0)

    async def suggest_jobs(interaction: Interaction, current: str) -> list[app_commands.Choice[str]]:
        typed = fold(current.strip())
        lines = [(_choice(job, interaction), job.id) for job in _jobs_of(services, _guild_id(interaction))]
        fitting = [app_commands.Choice(name=line, value=job_id) for line, job_id in lines if typed in fold(line)]
        return fitting[:_MAX_CHOICES]

    @group.command(name="cancel", description="Cancel a sound of this server that is being made or waits")
    @app_commands.describe(job="The sound: choose one, or type the id at the bottom of its card")
    @app_commands.autocomplete(job=suggest_jobs)
    async def cancel(interaction: Interaction, job: app_commands.Range[str, 1, 100]) -> None:
        job_id = job.strip().lower()
        found = next((one for one in _jobs_of(services, _guild_id(interaction)) if one.id == job_id), None)
        if found is None:
            raise RequestError(_NO_SUCH_JOB)
        await services.cancel(found, by=interaction.user.id)
        log.info("job %s was cancelled by %d", found.id, interaction.user.id)
        await _say(interaction, f"Cancelled {_scene(found, interaction)}, a sound of <@{found.user_id}>.")


async def show_queue(services: Services, interaction: Interaction, page: int) -> None:
    """Show a page of this server's queue; turns the page in place when a button asked for it."""
    jobs = _jobs_of(services, _guild_id(interaction))
    num_pages = max(1, -(-len(jobs) // _PAGE_SIZE))
    page = min(page, num_pages - 1)
    num_running = sum(1 for job in services.queue.running() if job.guild_id == _guild_id(interaction))
    lines = []
    first = page * _PAGE_SIZE
    for number, job in enumerate(jobs[first : first + _PAGE_SIZE], start=first + 1 - num_running):
        place = f"**{number}.**" if number > 0 else "🎧"  # what runs comes first
        asked = discord.utils.format_dt(job.created_at, "R")
        what = f"{_scene(job, interaction)} · {job.recipe.duration_s:.0f} s · <@{job.user_id}>"
        lines.append(f"{place} {what} · asked {asked} · `{job.id}`")
    description = "\n".join(lines) or "Nothing of this server waits or runs."
    embed = discord.Embed(color=cards.COLOR, title="Queue of this server", description=description)
    embed.set_footer(text=f"page {page + 1} of {num_pages} · cancel one with /ambient-admin cancel")
    view = discord.ui.View(timeout=None)
    if num_pages > 1:
        view.add_item(AdminQueueButton("back", max(0, page - 1), disabled=page == 0))
        view.add_item(AdminQueueButton("next", page + 1, disabled=page + 1 >= num_pages))
    if interaction.type is discord.InteractionType.component:
        await interaction.response.edit_message(embed=embed, view=view)
    else:
        await interaction.response.send_message(embed=embed, view=view, ephemeral=True)


class AdminQueueButton(
    discord.ui.DynamicItem[discord.ui.Button[Any]],
    template=r"ambient-admin:queue:(?P<way>back|next):(?P<page>[0-9]{1,4})",
):
    """To another page of the server's queue."""

    def __init__(self, way: str, page: int, *, disabled: bool = False) -> None:
        label = "◀ Back" if way == "back" else "Next ▶"
        custom_id = f"ambient-admin:queue:{way}:{page}"
        super().__init__(discord.ui.Button(label=label, custom_id=custom_id, disabled=disabled))
        self.page = page

    @classmethod
    async def from_custom_id(
        cls, _interaction: discord.Interaction[Any], _item: discord.ui.Item[Any], match: re.Match[str], /
    ) -> Self:
        """Make the button again from its id."""
        return cls(match["way"], int(match["page"]))

    async def callback(self, interaction: discord.Interaction[Any]) -> None:
        """Show that page."""
        try:
            await show_queue(interaction.client.services, interaction, self.page)
        except Exception as error:
            await interaction.client.answer_error(interaction, error)


#: The buttons of this group, to be known again after a restart.
DYNAMIC_ITEMS = (AdminQueueButton,)


def _jobs_of(services: Services, guild_id: int) -> list[Job]:
    """The unfinished jobs of one server: what runs, then what waits, in its order."""
    queue = services.queue
    return [job for job in (*queue.running(), *queue.order()) if job.guild_id == guild_id]


def _scene(job: Job, interaction: Interaction) -> str:
    """A job's scene where the moderator could see its card anyway."""
    return f"“{cards.quoted(job.request.description, 60)}”" if may_see(interaction, job) else "a private sound"


def _choice(job: Job, interaction: Interaction) -> str:
    """A job as a choice: its id comes first, so that a long scene cannot hide it."""
    scene = " ".join(job.request.description.split()) if may_see(interaction, job) else "a private sound"
    line = f"{job.id} · {job.recipe.duration_s:.0f} s · {scene}"
    return line if len(line) <= _MAX_CHOICE_CHARS else line[: _MAX_CHOICE_CHARS - 1] + "…"


# ---------------------------------------------------------------------- block


def _add_blocking(group: app_commands.Group, services: Services) -> None:
    servers = services.store.servers

    @group.command(name="block", description="Take no sounds of a person in this server")
    @app_commands.describe(user="The person", reason="For the other moderators; the person does not see it")
    async def block(
        interaction: Interaction,
        user: discord.User,
        reason: app_commands.Range[str, 1, MAX_REASON_CHARS] | None = None,
    ) -> None:
        guild_id, by = _guild_id(interaction), interaction.user.id
        if not await servers.block(guild_id, user.id, by=by, at=datetime.now(UTC), reason=_reason(reason)):
            raise RequestError(f"<@{user.id}> is blocked already.")
        log.info("%d was blocked in server %d by %d", user.id, guild_id, by)
        num_left = sum(1 for job in _jobs_of(services, guild_id) if job.user_id == user.id)
        left = f" They still have {num_left} unfinished; `/ambient-admin cancel` ends one." if num_left else ""
        await _say(interaction, f"Blocked <@{user.id}>: their requests are refused in this server.{left}")

    @group.command(name="unblock", description="Take the sounds of a blocked person again")
    @app_commands.describe(user="The person")
    async def unblock(interaction: Interaction, user: discord.User) -> None:
        guild_id, by = _guild_id(interaction), interaction.user.id
        if not await servers.unblock(guild_id, user.id, by=by, at=datetime.now(UTC)):
            raise RequestError(f"<@{user.id}> is not blocked.")
        log.info("%d was unblocked in server %d by %d", user.id, guild_id, by)
        await _say(interaction, f"Unblocked <@{user.id}>: their requests are taken again.")


# ---------------------------------------------------------------------- all of them


def _guild_id(interaction: Interaction) -> int:
    if interaction.guild_id is None:
        raise RequestError("This works in a server only.")
    return interaction.guild_id


def _reason(text: str | None) -> str | None:
    """A reason on one line, without characters that cannot be shown or stored; None if nothing is left."""
    if text is None:
        return None
    line = " ".join("".join(" " if unicodedata.category(c) in ("Cc", "Cs") else c for c in text).split())
    if len(line) > MAX_REASON_CHARS:
        raise OptionError("reason", f"`reason` can have at most {MAX_REASON_CHARS} characters.")
    return line or None


async def _say(interaction: Interaction, words: str) -> None:
    await interaction.response.send_message(words, ephemeral=True)
