"""What the store holds, as frozen values; nothing here touches a database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from ambientgen.recipe import Quality, Recipe, SceneRequest

JobStatus = Literal["queued", "running", "done", "failed", "cancelled"]
DeliveryState = Literal["none", "pending", "delivered", "kept", "deleted"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def to_ms(instant: datetime) -> int:
    """Whole milliseconds since the epoch; a naive datetime is refused with a TypeError."""
    return (instant - _EPOCH) // _MILLISECOND


def from_ms(milliseconds: int) -> datetime:
    """The aware UTC datetime of `to_ms`."""
    return _EPOCH + milliseconds * _MILLISECOND


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A request in the queue, and its fate. Instants are aware UTC and kept to the millisecond.

    Attributes:
        id: ten characters, from `Jobs.new_id`.
        recipe: what is made; after `Jobs.finish` with the seeds really used.
        request: what was asked.
        file_format: the audio format to encode to.
        preset_id: the preset it came from, with `preset_version`; both None without one.
        parent_job_id: the job this one repeats or varies.
        message_id: the card in the channel, once it is known.
        private: True if the result may never be sent to the channel.
        interaction_token: good until `token_expires_at`, then erased; never in a repr.
        upload_limit_bytes: the largest file Discord takes for this request.
        attempts: how often it was started.
        delivery_state: `none` (nothing to deliver yet), `pending`, `delivered`, `kept` (waits under the history) or
            `deleted` (by the person).
        error: words for the person, if it failed.
        clip_name: file name in the clips folder while the file exists.
        facts: what was measured of the finished soundscape.
    """

    id: str
    recipe: Recipe
    request: SceneRequest
    file_format: str
    preset_id: int | None = None
    preset_version: int | None = None
    parent_job_id: str | None = None
    user_id: int
    guild_id: int | None = None
    channel_id: int
    message_id: int | None = None
    private: bool = False
    locale: str = "en-US"
    interaction_token: str | None = field(default=None, repr=False)
    token_expires_at: datetime | None = None
    upload_limit_bytes: int
    status: JobStatus = "queued"
    attempts: int = 0
    delivery_state: DeliveryState = "none"
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    error: str | None = None
    clip_name: str | None = None
    facts: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """A named, reusable request, in its newest version.

    Attributes:
        guild_id: the server that may see it; None: only its owner may.
        version: 1 at first, one more each time it is saved again.
    """

    id: int
    owner_id: int
    guild_id: int | None
    name: str
    version: int
    request: SceneRequest
    created_at: datetime
    updated_at: datetime

    def visible_to(self, user_id: int, guild_id: int | None) -> bool:
        """True if this person may see it in this place."""
        return self.owner_id == user_id or (self.guild_id is not None and self.guild_id == guild_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class PresetUse:
    """One job that was made with a preset."""

    job_id: str
    user_id: int
    version: int
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """How much this bot has made so far."""

    num_jobs: int
    num_done: int
    seconds_of_sound: float
    num_users: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JobCost:
    """What one finished job took."""

    user_id: int
    guild_id: int | None
    finished_at: datetime
    render_time_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLimits:
    """What a server's admins allow there. None: no limit of the server's own.

    Attributes:
        max_pending_per_user: unfinished requests of one person in this server.
        user_seconds_per_day: sound that one person may ask for in 24 hours, in this server.
        server_seconds_per_day: sound that everybody together may ask for in 24 hours.
        max_duration_s: the longest clip.
        engines: the names of the engines that may be used.
        max_quality: the highest quality.
        max_wait_s: the longest predicted wait with which a request is still taken.
    """

    max_pending_per_user: int | None = None
    user_seconds_per_day: float | None = None
    server_seconds_per_day: float | None = None
    max_duration_s: float | None = None
    engines: tuple[str, ...] | None = None
    max_quality: Quality | None = None
    max_wait_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """Why and since when a server takes no requests."""

    at: datetime
    by: int
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """How a server is run; without arguments one whose admins decided nothing, and what holds in direct messages."""

    limits: ServerLimits = ServerLimits()
    pause: Pause | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A person who may not ask for sounds in a server."""

    user_id: int
    by: int
    at: datetime
    reason: str | None


ActName = Literal["limits", "pause", "resume", "cancel", "delete", "block", "unblock"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModeratorAct:
    """Something that a moderator did.

    Attributes:
        target: a job's or a person's id, where the act has one.
        details: a reason, or what was set, as JSON.
    """

    id: int
    moderator_id: int
    act: ActName
    target: str | None
    at: datetime
    details: str | None
