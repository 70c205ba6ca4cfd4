"""Limits: what a server's admins allow, decided from plain values, and read from a real store."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from scripted import ScriptedEngine

from ambientgen.engines.procedural import ProceduralEngine
from ambientgen.planning import resolve
from ambientgen.recipe import SceneRequest
from bot import limits
from bot.jobs import JobQueue
from bot.limits import DayUsage, LimitError, Usage, refuse_recipe, refuse_request, refuse_usage
from bot.settings import Settings
from bot.store import Job, Pause, Server, ServerLimits, Store

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SPECS = [ScriptedEngine().spec, ProceduralEngine().spec]
ANN, BOB, GUILD, OTHER_GUILD = 1, 2, 30, 31


def request_words(server: Server | ServerLimits, *, is_blocked: bool = False, **options: Any) -> str | None:
    """What a person reads who asks for rain with these options."""
    server = server if isinstance(server, Server) else Server(limits=server)
    request = SceneRequest(description="gentle rain", **options)
    refusal = refuse_request(request, server, is_blocked=is_blocked, specs=SPECS)
    return None if refusal is None else str(refusal)


def usage_words(usage: Usage, *, duration_s: float = 10.0, **some: Any) -> str | None:
    """What a person reads who asks for one sound more under some limits."""
    refusal = refuse_usage(ServerLimits(**some), usage, duration_s=duration_s, now=NOW)
    return None if refusal is None else str(refusal)


def timestamp(at: datetime) -> str:
    """An instant as Discord shows it to each person in their own time."""
    return f"<t:{int(at.timestamp())}:R>"


# ---------------------------------------------------------------------- the request


def test_without_limits_nothing_is_refused() -> None:
    """A server whose admins decided nothing takes whatever the operator allows."""
    used = Usage(num_pending=99, user_day=DayUsage(seconds=1e6), server_day=DayUsage(seconds=1e6), wait_s=1e6)
    for options in ({}, {"engine": "audioldm2"}, {"quality": "high"}, {"num_inference_steps": 200}):
        assert request_words(Server(), **options) is None
    assert usage_words(used) is None


def test_a_blocked_person_is_refused_before_anything_else() -> None:
    """Also where the server is paused, and without the moderators' reason."""
    server = Server(pause=Pause(at=NOW, by=BOB, reason="night"))
    words = request_words(server, is_blocked=True)
    assert "moderators of this server have blocked you" in words
    assert "night" not in words


def test_a_pause_says_since_when_and_why() -> None:
    """The reason is quoted as it was typed: it pings nobody."""
    assert timestamp(NOW) in request_words(Server(pause=Pause(at=NOW, by=BOB, reason=None)))
    words = request_words(Server(pause=Pause(at=NOW, by=BOB, reason="@everyone **sleep**")))
    assert "@everyone" not in words
    assert r"\*\*sleep\*\*" in words


def test_engines_that_are_not_allowed() -> None:
    """Asked for by name they are refused with those that may be used; left open, the others serve."""
    only = ServerLimits(engines=("procedural",))
    assert "`engine` can be `procedural`" in request_words(only, engine="audioldm2")
    assert request_words(only, engine="procedural") is None
    assert request_words(only) is None
    assert request_words(only, engine="nope") is None  # planning has words for that
    assert [spec.name for spec in limits.allowed(SPECS, only)] == ["procedural"]
    assert limits.allowed(SPECS, ServerLimits()) == SPECS
    assert "none of the engines" in request_words(ServerLimits(engines=("gone",)))


@pytest.mark.parametrize(
    ("most", "quality", "steps", "words"),
    [
        ("draft", "high", None, "`quality` goes up to `draft`"),
        ("draft", "draft", 20, None),
        ("draft", "draft", 21, "`steps` goes up to 20"),
        ("draft", "standard", 50, "`steps` goes up to 20"),
        ("standard", "high", None, "`quality` goes up to `standard`"),
        ("standard", "standard", 50, None),
        ("standard", "draft", 51, "`steps` goes up to 50"),
        ("draft", "ultra", None, None),  # planning has words for that
    ],
)
def test_quality_is_limited_with_its_steps(most: Any, quality: Any, steps: int | None, words: str | None) -> None:
    """Neither a higher quality nor more steps than the highest allowed one takes."""
    said = request_words(ServerLimits(max_quality=most), quality=quality, num_inference_steps=steps)
    assert said is None if words is None else words in said


def test_the_usual_quality_is_lowered() -> None:
    """Where only drafts are allowed, a request that leaves the quality open is a draft and not refused."""
    request = SceneRequest(description="gentle rain")
    assert limits.fitted(request, ServerLimits(max_quality="draft")).quality == "draft"
    assert limits.fitted(request, ServerLimits(max_quality="standard")) == request
    assert limits.fitted(request, ServerLimits()) == request


@pytest.mark.parametrize(
    ("longest_s", "some", "words"),
    [
        (20.0, {}, None),
        (19.0, {}, "This sound has 20 s, and 19 s is the most"),
        (20.0, {"engines": ("audioldm2",), "max_quality": "standard"}, None),
        (20.0, {"engines": ("procedural",)}, "made with `audioldm2`"),
        (20.0, {"max_quality": "draft"}, "more steps than `draft`"),
    ],
)
def test_a_recipe_of_other_days(longest_s: float, some: dict[str, Any], words: str | None) -> None:
    """What was decided before a limit was set, and is only mixed anew, keeps to it as well."""
    request = SceneRequest(description="gentle rain", engine="audioldm2", duration_s=20.0)
    refusal = refuse_recipe(resolve(request, SPECS), ServerLimits(**some), longest_s=longest_s)
    assert refusal is None if words is None else words in str(refusal)


def test_a_server_is_never_less_strict_than_the_operator() -> None:
    """The longest sound is the shorter of the two limits."""
    settings = Settings.load({"AMBIENT_MAX_DURATION_S": "60"}, None)
    longest = [limits.longest_s(settings, ServerLimits(max_duration_s=some)) for some in (None, 30.0, 90.0)]
    assert longest == [60.0, 30.0, 60.0]


# ---------------------------------------------------------------------- what was used


def test_pending_sounds_are_counted() -> None:
    """The request that would be one too many is refused."""
    assert usage_words(Usage(num_pending=1), max_pending_per_user=2) is None
    assert "You already have 2 sounds in this server's queue" in usage_words(
        Usage(num_pending=2), max_pending_per_user=2
    )


@pytest.mark.parametrize(("whose", "name"), [("your", "user"), ("this server's", "server")])
def test_a_day_has_so_many_seconds(whose: str, name: str) -> None:
    """The words say the limit, what is used, what still fits, and when there is room."""
    limit = {f"{name}_seconds_per_day": 100.0}

    def words(seconds: float) -> str | None:
        day = DayUsage(seconds=seconds, room_at=NOW + timedelta(hours=3))
        return usage_words(Usage(**{f"{name}_day": day}), **limit)

    assert words(90.0) is None  # to the last second
    said = words(95.0)
    assert f"Of {whose} 100 s of sound in 24 hours, 95 s are used" in said
    assert "up to 5 s fits now" in said
    assert timestamp(NOW + timedelta(hours=3)) in said
    assert "fits now" not in words(99.0)


def test_a_sound_longer_than_a_whole_day_never_has_room() -> None:
    """Then no time to come back is promised."""
    said = usage_words(Usage(), user_seconds_per_day=5.0)
    assert "up to 5 s fits now" in said
    assert "<t:" not in said


def test_a_long_queue_pushes_back() -> None:
    """A wait beyond the limit is refused with the wait and the time to come back; an unknown one is not."""
    assert usage_words(Usage(wait_s=300.0), max_wait_s=300.0) is None
    assert usage_words(Usage(wait_s=None), max_wait_s=1.0) is None
    said = usage_words(Usage(wait_s=720.0), max_wait_s=300.0)
    assert "wait about 12 min" in said
    assert "5 min is the most" in said
    assert timestamp(NOW + timedelta(seconds=420)) in said


# ---------------------------------------------------------------------- from the store


class _Queue:
    """A queue that holds what a test says."""

    def __init__(self, *jobs: Job, wait_s: float | None = None) -> None:
        self._jobs = list(jobs)
        self._wait_s = wait_s

    def running(self) -> list[Job]:
        return self._jobs[:1]

    def order(self) -> list[Job]:
        return self._jobs[1:]

    def predicted_wait_s(self, *_of: Any) -> float | None:
        return self._wait_s


def job(job_id: str, *, hours_ago: float = 0.0, duration_s: float = 10.0, **changes: Any) -> Job:
    """A queued job of Ann's."""
    request = SceneRequest(description="gentle rain", duration_s=duration_s, seed=1)
    fresh = Job(
        id=job_id,
        recipe=resolve(request, [ProceduralEngine().spec]),
        request=request,
        file_format="opus",
        user_id=ANN,
        guild_id=GUILD,
        channel_id=40,
        upload_limit_bytes=10 << 20,
        created_at=NOW - timedelta(hours=hours_ago),
    )
    return dataclasses.replace(fresh, **changes)


async def look(store: Store, some: ServerLimits, queue: Any = None) -> Usage:
    """What counts when Ann asks for ten seconds more."""
    fake: JobQueue = _Queue() if queue is None else queue
    return await limits.look(store, fake, some, job("new"), NOW)


async def test_a_day_is_24_hours_and_survives_a_restart(tmp_path: Path) -> None:
    """Room comes back when the oldest sounds leave the day, also when the bot was restarted in between."""
    some = ServerLimits(user_seconds_per_day=40.0)
    async with Store.open(tmp_path / "a.db") as store:
        for job_id, hours_ago in (("old", 25), ("a", 23), ("b", 22), ("c", 1)):
            await store.jobs.add(job(job_id, hours_ago=hours_ago))
        assert (await look(store, some)).user_day == DayUsage(seconds=30.0)
        await store.jobs.add(job("d", duration_s=9.0))
    async with Store.open(tmp_path / "a.db") as store:
        # 39 s are used: for ten more, "a" must leave.
        assert (await look(store, some)).user_day == DayUsage(seconds=39.0, room_at=NOW + timedelta(hours=1))
        twice = dataclasses.replace(some, user_seconds_per_day=30.0)
        assert (await look(store, twice)).user_day.room_at == NOW + timedelta(hours=2)
        assert (await look(store, dataclasses.replace(some, user_seconds_per_day=9.0))).user_day.room_at is None


async def test_a_failed_sound_gives_back_its_seconds(tmp_path: Path) -> None:
    """So does one that was cancelled before it was started; one that was under way, deleted or done counts."""
    async with Store.open(tmp_path / "a.db") as store:
        for job_id in ("queued", "running", "done", "deleted", "failed", "dropped", "stopped"):
            await store.jobs.add(job(job_id))
        for job_id in ("running", "done", "deleted", "failed", "stopped"):
            await store.jobs.start(job_id, NOW)
        for job_id in ("done", "deleted"):
            await store.jobs.finish(job_id, NOW, recipe=job("x").recipe, clip_name=None, facts={})
        await store.jobs.delete("deleted")
        await store.jobs.fail("failed", NOW, "No memory.")
        for job_id in ("dropped", "stopped"):
            await store.jobs.cancel(job_id, NOW)
        usage = await look(store, ServerLimits(user_seconds_per_day=1000.0))
        assert usage.user_day.seconds == 50.0


async def test_each_server_has_its_own_day(tmp_path: Path) -> None:
    """What a person asks for elsewhere does not count here, and the server's day holds everybody's."""
    async with Store.open(tmp_path / "a.db") as store:
        await store.jobs.add(job("mine"))
        await store.jobs.add(job("yours", user_id=BOB))
        await store.jobs.add(job("elsewhere", guild_id=OTHER_GUILD))
        await store.jobs.add(job("direct", guild_id=None))
        usage = await look(store, ServerLimits(user_seconds_per_day=100.0, server_seconds_per_day=25.0))
        assert usage.user_day == DayUsage(seconds=10.0)
        assert usage.server_day == DayUsage(seconds=20.0, room_at=NOW + limits.DAY)


async def test_the_queue_is_looked_at(tmp_path: Path) -> None:
    """A person's unfinished sounds in this server count, running or waiting, and the wait is the queue's word."""
    queue = _Queue(
        job("a"), job("b"), job("c", user_id=BOB), job("d", guild_id=OTHER_GUILD), job("e", guild_id=None), wait_s=33.0
    )
    async with Store.open(tmp_path / "a.db") as store:
        usage = await look(store, ServerLimits(max_pending_per_user=5, max_wait_s=10.0), queue)
        assert (usage.num_pending, usage.wait_s) == (2, 33.0)
        assert (await look(store, ServerLimits(max_pending_per_user=5), queue)).wait_s is None


def test_a_refusal_is_the_persons_to_mend() -> None:
    """So it has words, and no line in the log."""
    assert isinstance(
        refuse_usage(ServerLimits(max_wait_s=1.0), Usage(wait_s=9.0), duration_s=1.0, now=NOW), LimitError
    )


@pytest.mark.parametrize(
    ("seconds", "words"), [(1.0, "1 s"), (89.0, "89 s"), (90.0, "2 min"), (5399.0, "90 min"), (5400.0, "1.5 h")]
)
def test_lengths_of_time(seconds: float, words: str) -> None:
    """Seconds, then minutes, then hours."""
    assert limits.span(seconds) == words
