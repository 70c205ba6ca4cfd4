"""Limits: who may ask for what, and how much, in a server. One place decides, before a job is queued.

The operator's settings are the outer bound everywhere; a server's admins can only be stricter there. In direct messages
the operator's bounds hold alone. What counts against a day is a query on the jobs, so nothing is forgotten by a restart
and a failed job gives back what it took.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import get_args

from discord.utils import format_dt

from ambientgen.errors import RequestError
from ambientgen.recipe import Quality, Recipe, SceneRequest
from ambientgen.spec import EngineSpec
from bot.jobs import JobQueue
from bot.settings import Settings
from bot.store import Job, Server, ServerLimits, Store
from bot.ui.cards import quoted

#: The shortest clip that can be asked for.
MIN_DURATION_S = 2
#: The lowest first.
QUALITIES: tuple[Quality, ...] = get_args(Quality)
DAY = timedelta(hours=24)
#: What a quality takes by itself: where it is limited, `steps` is no way around that.
_MAX_STEPS: dict[Quality, int] = {"draft": 20, "standard": 50}


class LimitError(RequestError):
    """A server's limit is reached, or its moderators refuse the request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DayUsage:
    """Sound of the last 24 hours.

    Attributes:
        seconds: asked for, without what failed or was cancelled before its start.
        room_at: when there is room for the new sound, if there is none now.
    """

    seconds: float = 0.0
    room_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What counts against a server's limits, as far as it has some.

    Attributes:
        num_pending: unfinished requests of the person in this server.
        user_day: the person's sound.
        server_day: everybody's.
        wait_s: the predicted wait of the new sound, or None where nothing was measured yet.
    """

    num_pending: int = 0
    user_day: DayUsage = DayUsage()
    server_day: DayUsage = DayUsage()
    wait_s: float | None = None


def longest_s(settings: Settings, limits: ServerLimits) -> float:
    """The longest clip that may be asked for."""
    return min(settings.max_duration_s, limits.max_duration_s or settings.max_duration_s)


def allowed(specs: Iterable[EngineSpec], limits: ServerLimits) -> list[EngineSpec]:
    """The engines that may be used, of some."""
    return [spec for spec in specs if limits.engines is None or spec.name in limits.engines]


def fitted(request: SceneRequest, limits: ServerLimits) -> SceneRequest:
    """The request to plan: with the usual quality lowered to what is allowed, as the usual length is."""
    if limits.max_quality == "draft" and request.quality == "standard":
        return dataclasses.replace(request, quality="draft")
    return request


def refuse_request(
    request: SceneRequest, server: Server, *, is_blocked: bool, specs: Iterable[EngineSpec]
) -> LimitError | None:
    """Why a request is not taken in a server, whatever was used, or None.

    Args:
        request: as it was asked.
        server: the server.
        is_blocked: True if the person is blocked there.
        specs: every engine there is, ready or not.
    """
    if is_blocked:
        return LimitError("The moderators of this server have blocked you from asking for sounds here.")
    if server.pause is not None:
        reason = "" if server.pause.reason is None else f" They say: “{quoted(server.pause.reason)}”"
        return LimitError(
            f"The admins of this server paused new sounds {format_dt(server.pause.at, 'R')}.{reason} "
            "Please try again later."
        )
    limits, specs = server.limits, list(specs)
    names = ", ".join(f"`{spec.name}`" for spec in allowed(specs, limits))
    if not names:
        return LimitError(
            "This bot has none of the engines that this server allows. An admin of the server can change that with "
            "`/ambient-admin limits engines:`."
        )
    if limits.engines is not None and request.engine in {spec.name for spec in specs} - set(limits.engines):
        return LimitError(f"`engine` can be {names} in this server, or leave it open.")
    quality = fitted(request, limits).quality
    if limits.max_quality is None or quality not in QUALITIES:  # planning has words for the latter
        return None
    if QUALITIES.index(quality) > QUALITIES.index(limits.max_quality):
        return LimitError(f"`quality` goes up to `{limits.max_quality}` in this server.")
    max_steps = _MAX_STEPS.get(limits.max_quality)
    if max_steps is not None and (request.num_inference_steps or 0) > max_steps:
        return LimitError(
            f"`steps` goes up to {max_steps} here: in this server `quality` goes up to {limits.max_quality}."
        )
    return None


def refuse_recipe(recipe: Recipe, limits: ServerLimits, *, longest_s: float) -> LimitError | None:
    """Why a recipe that was decided earlier, perhaps under other limits, is not made again in a server, or None.

    Args:
        recipe: as it would be made.
        limits: of the server.
        longest_s: the longest clip that may be asked for there.
    """
    if recipe.duration_s > longest_s:
        return LimitError(f"This sound has {recipe.duration_s:g} s, and {longest_s:g} s is the most here now.")
    engines = {layer.engine for layer in recipe.layers}
    if limits.engines is not None and not engines <= set(limits.engines):
        names = ", ".join(f"`{name}`" for name in sorted(engines - set(limits.engines)))
        return LimitError(f"This sound was made with {names}, which this server does not allow now.")
    max_steps = _MAX_STEPS.get(limits.max_quality) if limits.max_quality else None
    if max_steps is not None and any((layer.num_inference_steps or 0) > max_steps for layer in recipe.layers):
        return LimitError(f"This sound takes more steps than `{limits.max_quality}`, the most in this server now.")
    return None


def refuse_usage(limits: ServerLimits, usage: Usage, *, duration_s: float, now: datetime) -> LimitError | None:
    """Why there is no room for one sound more in a server, and when there is, or None.

    Args:
        limits: of the server.
        usage: what counts against them.
        duration_s: length of the new sound.
        now: the present.
    """
    if limits.max_pending_per_user is not None and usage.num_pending >= limits.max_pending_per_user:
        return LimitError(
            f"You already have {_sounds(usage.num_pending)} in this server's queue, and {limits.max_pending_per_user} "
            "is the most here. Wait for one of them, or cancel one with the button on its card."
        )
    for most_s, day, whose in (
        (limits.user_seconds_per_day, usage.user_day, "your"),
        (limits.server_seconds_per_day, usage.server_day, "this server's"),
    ):
        if most_s is not None and day.seconds + duration_s > most_s:
            return LimitError(_no_room(most_s, day, whose, duration_s))
    if limits.max_wait_s is not None and usage.wait_s is not None and usage.wait_s > limits.max_wait_s:
        back_at = now + timedelta(seconds=usage.wait_s - limits.max_wait_s)
        return LimitError(
            f"The queue is long: your sound would wait about {span(usage.wait_s)}, and {span(limits.max_wait_s)} is "
            f"the most in this server. Please try again {format_dt(back_at, 'R')}."
        )
    return None


async def look(store: Store, queue: JobQueue, limits: ServerLimits, job: Job, now: datetime) -> Usage:
    """What counts against a server's limits when a new job comes; only what is limited is looked at.

    Raises:
        StoreError: if the database cannot be used.
    """
    here = [other for other in (*queue.running(), *queue.order()) if other.guild_id == job.guild_id]
    is_wait_limited = limits.max_wait_s is not None
    return Usage(
        num_pending=sum(1 for other in here if other.user_id == job.user_id),
        user_day=await _day(store, job, limits.user_seconds_per_day, now, user_id=job.user_id),
        server_day=await _day(store, job, limits.server_seconds_per_day, now),
        wait_s=queue.predicted_wait_s(job.recipe, job.user_id, job.guild_id) if is_wait_limited else None,
    )


def span(seconds: float) -> str:
    """A length of time in words."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


async def _day(store: Store, job: Job, most_s: float | None, now: datetime, *, user_id: int | None = None) -> DayUsage:
    if most_s is None:
        return DayUsage()
    assert job.guild_id is not None
    seconds = await store.jobs.seconds_since(job.guild_id, now - DAY, user_id=user_id)
    too_many_s = seconds + job.recipe.duration_s - most_s
    if too_many_s <= 0:
        return DayUsage(seconds=seconds)
    passed_at = await store.jobs.passed_at(job.guild_id, now - DAY, too_many_s, user_id=user_id)
    return DayUsage(seconds=seconds, room_at=None if passed_at is None else passed_at + DAY)


def _sounds(number: int) -> str:
    return f"{number} sound" if number == 1 else f"{number} sounds"


def _no_room(most_s: float, day: DayUsage, whose: str, duration_s: float) -> str:
    used = f"{day.seconds:.0f} s are used"
    words = f"Of {whose} {most_s:.0f} s of sound in 24 hours, {used}, and this one has {duration_s:g} s."
    if most_s - day.seconds >= MIN_DURATION_S:
        words += f" A `duration` of up to {int(most_s - day.seconds)} s fits now."
    if day.room_at is not None:
        words += f" There is room for this one {format_dt(day.room_at, 'R')}."
    return words
