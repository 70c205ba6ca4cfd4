"""Getting a soundscape to the person, whatever Discord does.

An outcome goes out as an edit of the job's own card with its complete attachments, which may be repeated without
harm: through the interaction's token while it lives, then, for a public card, through the channel. Failing that it is
a new message with a nonce made from the job's id; before one is sent again, the bot looks for it. A private outcome
never goes to the channel: after its token's death it waits under `/ambient history`.
"""

from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum, auto
from typing import Any

import discord

from ambientgen.errors import EncodingError
from ambientgen.spec import EngineSpec
from bot.clips import Clips, StoredClip
from bot.errors import DISCORD_ERRORS, words_for
from bot.jobs import MAX_REQUEST_BYTES, JobView
from bot.store import DeliveryState, Job, Store, StoreError
from bot.ui import cards
from bot.ui.buttons import result_view, waiting_view

log = logging.getLogger(__name__)

#: Progress edits spend the same rate limit as the result, so they are few.
_EDIT_EVERY_S = 2.5
#: How long the result waits for a progress edit that is under way.
_LAST_EDIT_S = 5.0
#: Waits before each attempt at a delivery that Discord or the network refused for a passing reason: some six hours.
_ATTEMPTS_AFTER_S = (0.0, 3.0, 10.0, 30.0, 90.0, *[300.0] * 72)
#: A token this close to its end is not used for an upload any more.
_TOKEN_MARGIN = timedelta(seconds=5)
#: Upload limit of a server without boosts, and of a direct message.
DEFAULT_UPLOAD_LIMIT_BYTES = 10 * 2**20
_HISTORY_LOOKED_AT = 50
#: How far this machine's clock and Discord's may differ.
_CLOCKS_DIFFER = timedelta(minutes=1)

_TOO_LARGE = 40005
_INVALID_TOKEN_CODES = {50027, 10015, 10062}


class _Outcome(Enum):
    DONE = auto()
    WORDS_ALONE = auto()  # the card says why the sound is not there
    TRY_NEXT = auto()  # this way is closed for good: token dead, message or channel gone, no permission
    MAY_NOT_ATTACH = auto()
    TOO_LARGE = auto()


@dataclass(slots=True)
class _Edits:
    """How the progress edits of a card stand."""

    under_way: bool = False
    are_over: bool = False


class Delivery:
    """Shows jobs in Discord.

    Args:
        client: the bot; logged in before anything is shown.
        store: where the state of each delivery is kept.
        clips: where the sounds are.
        specs: every engine by name, for the words on the cards.
    """

    def __init__(
        self, *, client: discord.Client, store: Store, clips: Clips, specs: Callable[[], dict[str, EngineSpec]]
    ) -> None:
        self._client = client
        self._store = store
        self._clips = clips
        self._specs = specs
        self._started_at = datetime.now(UTC)
        self._following: dict[str, asyncio.Task[None]] = {}
        self._edits: dict[str, _Edits] = {}

    # ------------------------------------------------------------------ while it waits and runs

    def follow(self, job: Job, look: Callable[[], JobView | None]) -> None:
        """Keep the card up to date until `look` has nothing to say. Only while the token lives."""
        self._edits[job.id] = _Edits()
        task = asyncio.get_running_loop().create_task(self._follow(job, look))
        self._following[job.id] = task
        task.add_done_callback(lambda _task: self._forget(job.id))

    def _forget(self, job_id: str) -> None:
        self._following.pop(job_id, None)
        self._edits.pop(job_id, None)

    async def _follow(self, job: Job, look: Callable[[], JobView | None]) -> None:
        shown: str | None = None
        edits = self._edits[job.id]
        # The wait comes first: a new card says it all, and a quick job needs no edit but the last.
        await asyncio.sleep(_EDIT_EVERY_S)
        while (view := look()) is not None and _token_lives(job) and not edits.are_over:
            embed = cards.waiting(job, view)
            if embed.description != shown:
                edits.under_way = True
                try:
                    await self._edit_by_token(job, embed=embed, view=waiting_view(job.id))
                    shown = embed.description
                except DISCORD_ERRORS as error:
                    log.debug("a progress edit of job %s failed: %s", job.id, type(error).__name__)
                edits.under_way = False
            if not edits.are_over:
                await asyncio.sleep(_EDIT_EVERY_S)

    async def _stop_following(self, job: Job) -> None:
        """Let an edit that is under way end: Discord may take one that was cut off after the result, and show it."""
        task, edits = self._following.get(job.id), self._edits.get(job.id)
        if task is None or edits is None:
            return
        edits.are_over = True
        if edits.under_way:
            await asyncio.wait({task}, timeout=_LAST_EDIT_S)
        task.cancel()

    # ------------------------------------------------------------------ the outcome

    async def deliver(self, job: Job) -> None:
        """Bring the outcome to the person, and record that. What cannot be delivered for hours waits for a restart."""
        await self._stop_following(job)
        await self._client.wait_until_ready()
        for attempt, wait_s in enumerate(_ATTEMPTS_AFTER_S):
            await asyncio.sleep(wait_s)
            if attempt > 0 and await self._was_deleted(job):
                return
            try:
                # The outcome of a job from before this process may have been sent by an earlier one.
                state = await self._deliver_once(job, again=attempt > 0 or job.created_at < self._started_at)
            except DISCORD_ERRORS as error:
                log.warning("delivery of job %s failed, attempt %d: %s", job.id, attempt + 1, type(error).__name__)
                continue
            try:
                await self._store.jobs.set_delivery(job.id, state)
            except StoreError:
                log.exception("the delivery of job %s could not be recorded", job.id)
            return
        log.error("job %s could not be delivered; it will be tried again at the next start", job.id)

    async def _was_deleted(self, job: Job) -> bool:
        """True if the person deleted it while its delivery was being tried again."""
        try:
            newest = await self._store.jobs.get(job.id)
        except StoreError:
            return False
        return newest is not None and newest.delivery_state == "deleted"

    async def _deliver_once(self, job: Job, *, again: bool) -> DeliveryState:
        if _token_lives(job):
            outcome = await self._send(job, job.upload_limit_bytes, lambda message: self._edit_by_token(job, **message))
            if outcome is not _Outcome.TRY_NEXT:
                return _state(outcome)
        if job.private:
            return "kept"
        channel = self._client.get_partial_messageable(job.channel_id, guild_id=job.guild_id)
        limit_bytes = self._channel_limit_bytes(job)
        message_id = job.message_id
        if message_id is None:
            message_id = await self._find_card(channel, job)
        if message_id is not None:
            card = channel.get_partial_message(message_id)
            outcome = await self._send(job, limit_bytes, lambda message: card.edit(**message))
            if outcome is not _Outcome.TRY_NEXT:
                return _state(outcome)
        if job.status == "cancelled":
            return "kept"  # nobody needs a new message for that
        if again and await self._already_sent(channel, job):
            return "delivered"
        outcome = await self._send(job, limit_bytes, lambda message: self._send_new(channel, job, message))
        return _state(outcome)

    async def _send(self, job: Job, limit_bytes: int, way: Callable[[dict[str, Any]], Awaitable[object]]) -> _Outcome:
        """One way of delivering: as it is, then smaller, then words alone where files are not allowed."""
        outcome = await _attempt(way, await self._message(job, limit_bytes))
        if outcome is _Outcome.TOO_LARGE:
            smaller_bytes = min(limit_bytes, DEFAULT_UPLOAD_LIMIT_BYTES) // 2
            outcome = await _attempt(way, await self._message(job, smaller_bytes))
        if outcome in (_Outcome.MAY_NOT_ATTACH, _Outcome.TOO_LARGE) and job.status == "done":
            words = (
                "The sound is ready, but I am not allowed to attach files in this channel."
                if outcome is _Outcome.MAY_NOT_ATTACH
                else "The sound is ready, but too large for this channel."
            )
            embed = cards.failed(job, f"{words} It waits for its author under `/ambient history`.")
            words_alone = await _attempt(way, {"embed": embed, "attachments": [], "view": None})
            return _Outcome.WORDS_ALONE if words_alone is _Outcome.DONE else _Outcome.TRY_NEXT
        return outcome

    async def _message(self, job: Job, limit_bytes: int) -> dict[str, Any]:
        """The outcome as keyword arguments of an edit."""
        if job.status == "cancelled":
            return {"embed": cards.cancelled(job), "attachments": [], "view": None}
        if job.status == "failed":
            return {"embed": cards.failed(job, job.error or ""), "attachments": [], "view": None}
        return await self.result_message(job, limit_bytes)

    async def result_message(self, job: Job, limit_bytes: int) -> dict[str, Any]:
        """The finished card with its files, as keyword arguments of an edit; also for a replay under history."""
        clip: StoredClip | None = None
        problem = "The sound is not kept any more. “Again” makes a new one."
        if job.clip_name is not None:
            try:
                clip = await self._clips.load(job.clip_name, min(limit_bytes, MAX_REQUEST_BYTES))
            except EncodingError as error:
                problem = words_for(error) or problem
        embed = cards.result(job, self._specs(), clip, problem if clip is None else None)
        view = result_view(job.id, num_layers=len(job.recipe.layers))
        return {"embed": embed, "attachments": _files(job, clip), "view": view}

    # ------------------------------------------------------------------ the ways

    async def _edit_by_token(self, job: Job, **message: Any) -> None:
        assert self._client.application_id is not None
        assert job.interaction_token is not None
        webhook = discord.Webhook.partial(self._client.application_id, job.interaction_token, client=self._client)
        # A card whose id was lost with a dropped reply is still the interaction's original response.
        target: Any = "@original" if job.message_id is None else job.message_id
        await webhook.edit_message(target, allowed_mentions=discord.AllowedMentions.none(), **message)

    async def _send_new(self, channel: discord.PartialMessageable, job: Job, message: dict[str, Any]) -> None:
        view = {"view": message["view"]} if message["view"] is not None else {}
        sent = await channel.send(embed=message["embed"], files=message["attachments"], nonce=_nonce(job), **view)
        await self._remember_message(job, sent.id)

    async def _find_card(self, channel: discord.PartialMessageable, job: Job) -> int | None:
        """The card of a job whose process ended before it had written down which message that is."""
        try:
            async for message in channel.history(limit=_HISTORY_LOOKED_AT, after=job.created_at - _CLOCKS_DIFFER):
                if self._is_card_of(job, message):
                    await self._remember_message(job, message.id)
                    return message.id
        except (discord.Forbidden, discord.NotFound):
            return None
        return None

    def _is_card_of(self, job: Job, message: discord.Message) -> bool:
        mine = self._client.user is not None and message.author.id == self._client.user.id
        return mine and any((embed.footer.text or "").endswith(job.id) for embed in message.embeds)

    async def _already_sent(self, channel: discord.PartialMessageable, job: Job) -> bool:
        """True if an earlier attempt got through although its answer was lost."""
        try:
            async for message in channel.history(limit=_HISTORY_LOOKED_AT):
                # The waiting card names the job too, but it has no files, and a button.
                is_outcome = bool(message.attachments) if job.status == "done" else not message.components
                if is_outcome and self._is_card_of(job, message):
                    await self._remember_message(job, message.id)
                    return True
        except (discord.Forbidden, discord.NotFound):
            return False
        return False

    async def _remember_message(self, job: Job, message_id: int) -> None:
        """Write down where the sound is, so that Delete finds it."""
        try:
            await self._store.jobs.set_message(job.id, message_id)
        except StoreError:
            log.exception("the message of job %s could not be written down", job.id)

    def _channel_limit_bytes(self, job: Job) -> int:
        guild = self._client.get_guild(job.guild_id) if job.guild_id else None
        return guild.filesize_limit if guild is not None else DEFAULT_UPLOAD_LIMIT_BYTES


async def _attempt(way: Callable[[dict[str, Any]], Awaitable[object]], message: dict[str, Any]) -> _Outcome:
    """Try one way once.

    Raises:
        DISCORD_ERRORS: for a passing reason; the caller tries again later.
    """
    try:
        await way(message)
    except discord.HTTPException as error:
        if error.status == 413 or error.code == _TOO_LARGE:
            return _Outcome.TOO_LARGE
        if error.code == 50013 and message["attachments"]:
            return _Outcome.MAY_NOT_ATTACH
        if isinstance(error, (discord.Forbidden, discord.NotFound)) or error.code in _INVALID_TOKEN_CODES:
            return _Outcome.TRY_NEXT
        if error.status == 429 or error.status >= 500:
            raise
        log.exception("Discord refused a delivery")
        return _Outcome.TRY_NEXT
    return _Outcome.DONE


def _state(outcome: _Outcome) -> DeliveryState:
    return "delivered" if outcome is _Outcome.DONE else "kept"


def _token_lives(job: Job) -> bool:
    if job.interaction_token is None or job.token_expires_at is None:
        return False
    return datetime.now(UTC) < job.token_expires_at - _TOKEN_MARGIN


def _nonce(job: Job) -> str:
    return f"ambient-{job.id}"[:25]


def _files(job: Job, clip: StoredClip | None) -> list[discord.File]:
    if clip is None:
        return []
    files = [discord.File(io.BytesIO(clip.sound), clip.name, description=cards.alt_text(job))]
    if clip.picture is not None:
        picture_name = f"{clip.name.rsplit('.', 1)[0]}.png"
        files.append(discord.File(io.BytesIO(clip.picture), picture_name, description=cards.picture_alt_text(job)))
    return files
