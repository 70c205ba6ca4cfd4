"""The store: what is written is read back, each step is guarded, and a bad file is refused in words."""
# ruff: noqa: ASYNC240 - between two steps a test looks at the file, and nothing else runs

from __future__ import annotations

import asyncio
import dataclasses
import importlib.resources
import logging
import shutil
import sqlite3
import subprocess
import sys
import unicodedata
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ambientgen.errors import RequestError
from ambientgen.recipe import Layer, Recipe, SceneRequest
from bot.store import (
    Block,
    DatabaseBusyError,
    DatabaseCorruptError,
    DatabaseNotWritableError,
    DatabaseTooNewError,
    Job,
    JobCost,
    Pause,
    PresetLimitError,
    PresetNameError,
    Server,
    ServerLimits,
    Store,
    StoreError,
    Usage,
    database,
)
from bot.store.models import to_ms

NOW = datetime(2026, 3, 1, 12, 0, 0, 123000, tzinfo=UTC)
TOKEN = "aW50ZXJhY3Rpb246MTIzNDU2Nzg5MDEyMzQ1Njc4"  # noqa: S105 - made up
ALICE, BOB, GUILD, OTHER_GUILD = 1 << 60, 2, 30, 31
#: The format of the newest migration.
NEWEST = 2
REQUEST = SceneRequest(description="rain on a tin roof", seed=7)


def recipe(seed: int = 7, duration_s: float = 10.0) -> Recipe:
    """A recipe of one layer."""
    layer = Layer(engine="procedural", prompt="rain", seed=seed, params={"intensity": 0.5})
    return Recipe(
        layers=(layer,), duration_s=duration_s, loop=False, target_lufs=-20.0, engine_versions={"procedural": "1"}
    )


def make_job(job_id: str = "a", *, minutes: int = 0, user_id: int = ALICE, **changes: Any) -> Job:
    """A queued job, created so many minutes after `NOW`."""
    job = Job(
        id=job_id,
        recipe=recipe(),
        request=REQUEST,
        file_format="ogg",
        user_id=user_id,
        guild_id=GUILD,
        channel_id=40,
        upload_limit_bytes=10 << 20,
        created_at=NOW + timedelta(minutes=minutes),
    )
    return dataclasses.replace(job, **changes)


def with_token(**changes: Any) -> Job:
    """A job with an interaction token that lives a quarter of an hour."""
    return make_job(interaction_token=TOKEN, token_expires_at=NOW + timedelta(minutes=15), **changes)


async def read(store: Store, job_id: str = "a") -> Job:
    """The job, which must be there."""
    job = await store.jobs.get(job_id)
    assert job is not None
    return job


async def add_done(store: Store, job_id: str = "a", **changes: Any) -> None:
    """A job that went all the way to its clip."""
    await store.jobs.add(make_job(job_id, **changes))
    await store.jobs.start(job_id, NOW)
    await store.jobs.finish(job_id, NOW, recipe=recipe(), clip_name=f"{job_id}.ogg", facts={})


def ids(jobs: list[Job]) -> list[str]:
    """The ids of some jobs, in order."""
    return [job.id for job in jobs]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the database will be."""
    return tmp_path / "ambient.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[Store]:
    """An open, empty store."""
    async with Store.open(path) as opened:
        yield opened


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for a lock for an instant only."""
    monkeypatch.setattr(database, "BUSY_TIMEOUT_MS", 50)


# Jobs


async def test_everything_comes_back(path: Path) -> None:
    """Each field of a job survives closing and opening."""
    async with Store.open(path) as store:
        preset, _ = await store.presets.save(ALICE, GUILD, "Rain", REQUEST)
        await store.jobs.add(make_job("parent"))
        job = with_token(
            preset_id=preset.id,
            preset_version=1,
            parent_job_id="parent",
            guild_id=None,
            message_id=50,
            private=True,
            locale="de",
            status="done",
            attempts=2,
            delivery_state="kept",
            started_at=NOW,
            finished_at=NOW + timedelta(milliseconds=1),
            error="Wörter\n",
            clip_name="a.ogg",
            facts={"integrated_lufs": -20.1, "seam": None, "names": ["é"]},
        )
        await store.jobs.add(job)
    async with Store.open(path) as store:
        assert await read(store) == job
        assert await read(store, "parent") == make_job("parent")
        assert await store.jobs.get("nobody") is None


def test_token_not_in_repr() -> None:
    """A job can be logged without its interaction token."""
    assert TOKEN not in f"{with_token()}{with_token()!r}"


async def test_token_not_in_log(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """At no log level does a statement show an interaction token."""
    caplog.set_level(logging.DEBUG)
    async with Store.open(path) as store:
        await store.jobs.add(with_token())
        await read(store)
        await store.jobs.set_delivery("a", "delivered")
    assert TOKEN not in caplog.text


async def test_ids_are_fresh_and_readable(store: Store) -> None:
    """Ids have ten characters, none easily taken for another, and do not repeat."""
    fresh = {store.jobs.new_id() for _ in range(2000)}
    assert len(fresh) == 2000
    assert all(len(job_id) == 10 and not set(job_id) - set("0123456789abcdefghjkmnpqrstvwxyz") for job_id in fresh)


async def test_same_id_twice(store: Store) -> None:
    """An id that is taken is refused and the first job stays."""
    await store.jobs.add(make_job())
    with pytest.raises(StoreError):
        await store.jobs.add(make_job(user_id=BOB))
    assert (await read(store)).user_id == ALICE


async def test_naive_instants_are_refused(store: Store) -> None:
    """A datetime without a zone is a bug of the caller, not a time."""
    with pytest.raises(TypeError):
        await store.jobs.add(make_job(created_at=datetime(2026, 1, 1)))  # noqa: DTZ001 - that is the point


async def test_token_needs_an_end(store: Store) -> None:
    """A token that would never be erased is refused."""
    with pytest.raises(StoreError):
        await store.jobs.add(make_job(interaction_token=TOKEN))


async def test_way_to_done(store: Store) -> None:
    """Queued, running, done; the recipe with the seeds really used and the facts are kept."""
    await store.jobs.add(with_token())
    assert await store.jobs.set_message("a", 50)
    assert await store.jobs.start("a", NOW + timedelta(seconds=1))
    running = await read(store)
    assert (running.status, running.attempts, running.delivery_state) == ("running", 1, "none")
    end = NOW + timedelta(seconds=9)
    used = recipe(seed=8, duration_s=20.0)
    assert await store.jobs.finish("a", end, recipe=used, clip_name="a.ogg", facts={"peak_dbtp": -1.0})
    assert await read(store) == dataclasses.replace(
        running,
        status="done",
        delivery_state="pending",
        recipe=used,
        clip_name="a.ogg",
        facts={"peak_dbtp": -1.0},
        finished_at=end,
    )


async def test_way_to_failed_and_cancelled(store: Store) -> None:
    """An unfinished job can fail or be cancelled, and the person is to hear of it."""
    for job_id in "abcd":
        await store.jobs.add(make_job(job_id))
    await store.jobs.start("b", NOW)
    await store.jobs.start("d", NOW)
    assert await store.jobs.fail("a", NOW, "No engine.")
    assert await store.jobs.fail("b", NOW, "Out of memory.")
    assert await store.jobs.cancel("c", NOW)
    assert await store.jobs.cancel("d", NOW)
    outcomes = [await read(store, job_id) for job_id in "abcd"]
    assert [(job.status, job.error) for job in outcomes] == [
        ("failed", "No engine."),
        ("failed", "Out of memory."),
        ("cancelled", None),
        ("cancelled", None),
    ]
    assert {(job.delivery_state, job.finished_at) for job in outcomes} == {("pending", NOW)}


async def test_steps_are_guarded(store: Store) -> None:
    """A step that does not fit the job's state returns False and changes nothing."""

    async def finish() -> bool:
        return await store.jobs.finish("a", NOW, recipe=recipe(), clip_name="x.ogg", facts={})

    await store.jobs.add(make_job())
    queued = await read(store)
    assert not await store.jobs.requeue("a")
    assert not await finish()
    assert await read(store) == queued
    await store.jobs.start("a", NOW)
    assert not await store.jobs.start("a", NOW)
    assert (await read(store)).attempts == 1
    assert await store.jobs.cancel("a", NOW)
    cancelled = await read(store)
    for step in (
        store.jobs.start("a", NOW),
        store.jobs.requeue("a"),
        finish(),
        store.jobs.fail("a", NOW, "too late"),
        store.jobs.cancel("a", NOW),
    ):
        assert not await step
    assert await read(store) == cancelled
    assert not await store.jobs.start("nobody", NOW)
    assert not await store.jobs.set_message("nobody", 1)
    assert not await store.jobs.set_delivery("nobody", "delivered")


async def test_requeue_keeps_place_and_attempts(store: Store) -> None:
    """A job put back is again the oldest, and remembers how often it was started."""
    await store.jobs.add(make_job("late", minutes=1))
    await store.jobs.add(make_job("early"))
    await store.jobs.start("early", NOW)
    assert await store.jobs.requeue("early")
    again = await read(store, "early")
    assert (again.status, again.attempts, again.started_at) == ("queued", 1, None)
    assert ids(await store.jobs.unfinished()) == ["early", "late"]


async def test_a_stop_in_order_is_no_attempt(store: Store) -> None:
    """A job put back by a stop starts again as if it had not been started."""
    await store.jobs.add(make_job())
    assert not await store.jobs.put_back("a")
    for num_attempts in (1, 1):
        await store.jobs.start("a", NOW)
        assert (await read(store)).attempts == num_attempts
        assert await store.jobs.put_back("a")
    again = await read(store)
    assert (again.status, again.attempts, again.started_at) == ("queued", 0, None)


@pytest.mark.parametrize("state", ["delivered", "kept", "deleted"])
async def test_end_of_delivery_erases_the_token(store: Store, path: Path, state: Any) -> None:
    """When the delivery has ended, the token is nowhere in the database any more."""
    await store.jobs.add(with_token())
    assert (await read(store)).interaction_token == TOKEN
    assert await store.jobs.set_delivery("a", state)
    after = await read(store)
    assert (after.interaction_token, after.delivery_state) == (None, state)
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert TOKEN.encode() not in path.read_bytes()


async def test_pending_keeps_the_token(store: Store) -> None:
    """A result that is still to be delivered needs its token."""
    await store.jobs.add(with_token())
    assert await store.jobs.set_delivery("a", "pending")
    assert (await read(store)).interaction_token == TOKEN


async def test_expired_tokens(store: Store) -> None:
    """Tokens are erased once their time is over, not before."""
    await store.jobs.add(with_token())
    await store.jobs.add(dataclasses.replace(with_token(), id="b", token_expires_at=NOW + timedelta(minutes=16)))
    assert await store.jobs.erase_expired_tokens(NOW + timedelta(minutes=14)) == 0
    assert await store.jobs.erase_expired_tokens(NOW + timedelta(minutes=15)) == 1
    assert [(await read(store, job_id)).interaction_token for job_id in "ab"] == [None, TOKEN]


async def test_after_a_restart(store: Store) -> None:
    """What has to go on is found in the order it was asked for."""
    for index, job_id in enumerate("dcba"):
        await store.jobs.add(make_job(job_id, minutes=index))
    await store.jobs.start("d", NOW)
    await store.jobs.fail("c", NOW, "words")
    await store.jobs.cancel("a", NOW)
    assert ids(await store.jobs.unfinished()) == ["d", "b"]
    assert ids(await store.jobs.undelivered()) == ["c", "a"]
    await store.jobs.set_delivery("c", "delivered")
    assert ids(await store.jobs.undelivered()) == ["a"]


async def test_number_of_pending(store: Store) -> None:
    """Queued and running jobs count against the limits, of one person and of all."""
    for job_id, user_id in (("a", ALICE), ("b", ALICE), ("c", BOB), ("d", ALICE)):
        await store.jobs.add(make_job(job_id, user_id=user_id))
    await store.jobs.start("a", NOW)
    await store.jobs.cancel("d", NOW)
    assert await store.jobs.num_pending() == 3
    assert [await store.jobs.num_pending(user) for user in (ALICE, BOB, 99)] == [2, 1, 0]


async def test_history(store: Store) -> None:
    """A person's own jobs, the newest first, page by page, without the deleted."""
    for index in range(5):
        await store.jobs.add(make_job(f"j{index}", minutes=index // 2))
    await store.jobs.add(make_job("bobs", user_id=BOB))
    await store.jobs.set_delivery("j3", "deleted")
    assert ids(await store.jobs.history(ALICE, limit=3)) == ["j4", "j2", "j1"]
    assert ids(await store.jobs.history(ALICE, limit=3, offset=3)) == ["j0"]
    assert [await store.jobs.count_history(user) for user in (ALICE, BOB, 99)] == [4, 1, 0]


async def test_clips(store: Store) -> None:
    """The store knows which clips are still referred to."""
    await add_done(store, "a")
    await add_done(store, "b")
    await store.jobs.add(make_job("c"))
    assert await store.jobs.clip_names() == {"a.ogg", "b.ogg"}
    assert await store.jobs.forget_clip("a.ogg")
    assert not await store.jobs.forget_clip("a.ogg")
    assert await store.jobs.clip_names() == {"b.ogg"}
    assert (await read(store)).clip_name is None


async def test_delete(store: Store) -> None:
    """A deleted job leaves the history, gives its clip's name once, and stays deleted."""
    await add_done(store)
    assert await store.jobs.delete("a") == "a.ogg"
    assert await store.jobs.delete("a") is None
    assert await store.jobs.delete("nobody") is None
    assert not await store.jobs.set_delivery("a", "delivered")
    deleted = await read(store)
    assert (deleted.delivery_state, deleted.clip_name, deleted.status) == ("deleted", None, "done")
    assert await store.jobs.count_history(ALICE) == 0


async def test_deleted_while_running(store: Store) -> None:
    """A job deleted before its end is not delivered, but its clip is known, so that it can be removed."""
    await store.jobs.add(make_job())
    await store.jobs.start("a", NOW)
    assert await store.jobs.delete("a") is None
    await store.jobs.finish("a", NOW, recipe=recipe(), clip_name="a.ogg", facts={})
    assert await store.jobs.undelivered() == []
    assert await store.jobs.delete("a") == "a.ogg"


async def test_usage(store: Store) -> None:
    """Totals count every job; the seconds are those of finished sound."""
    assert await store.jobs.usage() == Usage(num_jobs=0, num_done=0, seconds_of_sound=0.0, num_users=0)
    await add_done(store, "a")
    await add_done(store, "b")
    await store.jobs.delete("b")
    await store.jobs.add(make_job("c", user_id=BOB))
    assert await store.jobs.usage() == Usage(num_jobs=3, num_done=2, seconds_of_sound=20.0, num_users=2)


async def test_seconds_of_a_day(store: Store) -> None:
    """Sound that was asked for in a server after an instant, by one or by all, and when it had come to so much."""
    for minutes, job_id in enumerate("abc"):
        await store.jobs.add(make_job(job_id, minutes=minutes))
    await store.jobs.add(make_job("bobs", minutes=3, user_id=BOB))
    await store.jobs.add(make_job("elsewhere", minutes=3, guild_id=OTHER_GUILD))
    jobs = store.jobs
    assert await jobs.seconds_since(GUILD, NOW) == 30.0  # the one of that very instant is past
    assert await jobs.seconds_since(GUILD, NOW, user_id=ALICE) == 20.0
    assert await jobs.seconds_since(GUILD, NOW, user_id=99) == 0.0
    before = NOW - timedelta(minutes=1)
    passed = [await jobs.passed_at(GUILD, before, seconds) for seconds in (1.0, 10.0, 10.1, 40.0, 40.1)]
    assert passed == [NOW, NOW, NOW + timedelta(minutes=1), NOW + timedelta(minutes=3), None]
    assert await jobs.passed_at(GUILD, before, 30.0, user_id=ALICE) == NOW + timedelta(minutes=2)
    assert await jobs.passed_at(GUILD, before, 31.0, user_id=ALICE) is None


async def test_what_does_not_count(store: Store) -> None:
    """A failed job and one cancelled before its start give their seconds back; what was started keeps them."""
    before = NOW - timedelta(minutes=1)
    for job_id in "abcd":
        await store.jobs.add(make_job(job_id))
    await store.jobs.cancel("a", NOW)
    for job_id in "bcd":
        await store.jobs.start(job_id, NOW)
    assert await store.jobs.seconds_since(GUILD, before) == 30.0
    await store.jobs.fail("b", NOW, "words")
    await store.jobs.cancel("c", NOW)
    await store.jobs.requeue("d")
    assert await store.jobs.seconds_since(GUILD, before) == 20.0
    assert await store.jobs.seconds_since(GUILD, before, user_id=ALICE) == 20.0


async def test_recent_costs(store: Store) -> None:
    """What finished jobs took, the oldest first, since an instant; jobs without a sound took nothing to speak of."""
    for minutes, (job_id, guild_id) in enumerate((("a", GUILD), ("b", None), ("c", GUILD), ("d", GUILD))):
        await store.jobs.add(make_job(job_id, guild_id=guild_id, user_id=BOB))
        await store.jobs.start(job_id, NOW)
        facts = {} if job_id == "d" else {"render_time_s": 1.5 * minutes}
        at = NOW + timedelta(minutes=minutes)
        await store.jobs.finish(job_id, at, recipe=recipe(), clip_name=None, facts=facts)
    await store.jobs.add(make_job("failed"))
    await store.jobs.fail("failed", NOW + timedelta(minutes=9), "words")
    await store.jobs.delete("c")
    assert await store.jobs.recent_costs(NOW + timedelta(minutes=1)) == [
        JobCost(user_id=BOB, guild_id=None, finished_at=NOW + timedelta(minutes=1), render_time_s=1.5),
        JobCost(user_id=BOB, guild_id=GUILD, finished_at=NOW + timedelta(minutes=2), render_time_s=3.0),
    ]


async def test_unreadable_job(store: Store, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One job that this version cannot read hides no other; asking for it by id is refused in words."""
    await store.jobs.add(make_job("a"))
    await store.jobs.add(make_job("b"))
    with closing(sqlite3.connect(path)) as other:
        other.execute("UPDATE jobs SET recipe = '{}' WHERE id = 'a'")
        other.commit()
    assert ids(await store.jobs.history(ALICE, limit=5)) == ["b"]
    assert "The job a cannot be read" in caplog.text
    with pytest.raises(StoreError, match="The job a cannot be read"):
        await store.jobs.get("a")


async def test_cancelled_tasks_leave_no_open_transaction(store: Store) -> None:
    """Tasks cancelled in the middle of a write leave a store that works, with each preset whole or absent."""
    for delay in range(30):
        task = asyncio.create_task(store.presets.save(ALICE, GUILD, f"preset {delay}", REQUEST))
        for _ in range(delay % 10):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    preset, created = await store.presets.save(ALICE, GUILD, "last", REQUEST)
    assert created
    assert preset in await store.presets.list(ALICE, GUILD, limit=100)
    assert await store.presets.count(ALICE, GUILD) == len(await store.presets.list(ALICE, GUILD, limit=100))


async def test_many_tasks_at_once(store: Store) -> None:
    """Writes and reads of many tasks do not mix."""
    await asyncio.gather(*(store.jobs.add(make_job(f"j{index}")) for index in range(50)))
    await asyncio.gather(*(store.presets.save(ALICE, GUILD, "one", REQUEST) for _ in range(20)))
    started = await asyncio.gather(*(store.jobs.start("j0", NOW) for _ in range(20)))
    assert sum(started) == 1
    preset = await store.presets.get_by_name(ALICE, GUILD, "one")
    assert preset is not None
    assert preset.version == 20
    assert await store.jobs.num_pending() == 50


# Presets


async def test_save_and_find(store: Store) -> None:
    """A preset comes back by id and by name, however the name is written."""
    saved, created = await store.presets.save(ALICE, GUILD, "  Heavy\tRAIN ", REQUEST)
    assert created
    assert (saved.name, saved.version, saved.owner_id, saved.guild_id) == ("Heavy RAIN", 1, ALICE, GUILD)
    assert saved.request == REQUEST
    assert await store.presets.get(saved.id) == saved
    for name in ("heavy rain", "HEAVY  RAIN", "\uff48\uff45avy rain", "heavy\u200b rain"):
        assert await store.presets.get_by_name(ALICE, None, name) == saved


async def test_save_again(store: Store) -> None:
    """Saving under the same name makes a new version, and the place it was saved in decides who sees it."""
    first, _ = await store.presets.save(ALICE, GUILD, "Rain", REQUEST)
    calm = SceneRequest(description="light rain")
    second, created = await store.presets.save(ALICE, None, "RAIN", calm)
    assert not created
    assert (second.id, second.version, second.name, second.request) == (first.id, 2, "RAIN", calm)
    assert second.created_at == first.created_at
    assert second.updated_at >= first.updated_at
    assert await store.presets.get_by_name(BOB, GUILD, "rain") is None


async def test_who_sees_what(store: Store) -> None:
    """A server's preset is for that server, a private one for its owner; one's own comes first."""
    shared, _ = await store.presets.save(BOB, GUILD, "a rain", REQUEST)
    private, _ = await store.presets.save(BOB, None, "b rain", REQUEST)
    elsewhere, _ = await store.presets.save(BOB, OTHER_GUILD, "c rain", REQUEST)
    own, _ = await store.presets.save(ALICE, None, "z rain", REQUEST)
    expected = {
        (ALICE, GUILD): [own, shared],
        (ALICE, OTHER_GUILD): [own, elsewhere],
        (ALICE, None): [own],
        (BOB, GUILD): [shared, private, elsewhere],
        (BOB, None): [shared, private, elsewhere],
        (99, None): [],
    }
    for (user, guild), presets in expected.items():
        assert await store.presets.list(user, guild, limit=10) == presets
        assert await store.presets.suggest(user, guild, "RAIN") == presets
        assert await store.presets.count(user, guild) == len(presets)
        for preset in (shared, private, elsewhere, own):
            assert preset.visible_to(user, guild) == (preset in presets)
            found = await store.presets.get_by_name(user, guild, preset.name)
            assert found == (preset if preset in presets else None)
    assert await store.presets.list(BOB, GUILD, limit=1, offset=1) == [private]
    assert await store.presets.suggest(BOB, GUILD, "rain", limit=2) == [shared, private]


async def test_own_name_first(store: Store) -> None:
    """Where the server has a preset of the same name, a person's own wins."""
    await store.presets.save(BOB, GUILD, "rain", REQUEST)
    own, _ = await store.presets.save(ALICE, None, "Rain", REQUEST)
    assert await store.presets.get_by_name(ALICE, GUILD, "rain") == own


async def test_suggestions_take_text_literally(store: Store) -> None:
    """Signs that mean something in a pattern mean themselves."""
    percent, _ = await store.presets.save(ALICE, GUILD, "100% rain_", REQUEST)
    await store.presets.save(ALICE, GUILD, "100 rains", REQUEST)
    for text in ("%", "_", "0% R"):
        assert await store.presets.suggest(ALICE, GUILD, text) == [percent]
    assert await store.presets.suggest(ALICE, GUILD, "\\") == []
    assert len(await store.presets.suggest(ALICE, GUILD, "")) == 2


async def test_delete_preset(store: Store) -> None:
    """A deleted preset is found nowhere, its name is free, and the jobs made with it still open."""
    preset, _ = await store.presets.save(ALICE, GUILD, "rain", REQUEST)
    await store.jobs.add(make_job(preset_id=preset.id, preset_version=1))
    assert await store.presets.delete(preset.id)
    assert not await store.presets.delete(preset.id)
    assert await store.presets.get(preset.id) is None
    assert await store.presets.get_by_name(ALICE, GUILD, "rain") is None
    assert await store.presets.list(ALICE, GUILD, limit=5) == await store.presets.suggest(ALICE, GUILD, "") == []
    again, created = await store.presets.save(ALICE, GUILD, "rain", REQUEST)
    assert created
    assert again.id != preset.id
    assert (await read(store)).preset_id == preset.id


async def test_uses(store: Store) -> None:
    """The newest uses first; what others did in private, elsewhere or deleted is only counted."""
    preset, _ = await store.presets.save(ALICE, GUILD, "rain", REQUEST)
    with_preset = {"preset_id": preset.id, "preset_version": 1}
    await store.jobs.add(make_job("own", private=True, **with_preset))
    await store.jobs.add(make_job("open", minutes=1, user_id=BOB, **with_preset))
    await store.jobs.add(make_job("secret", minutes=2, user_id=BOB, private=True, **with_preset))
    await store.jobs.add(make_job("elsewhere", minutes=3, user_id=BOB, guild_id=OTHER_GUILD, **with_preset))
    await store.jobs.add(make_job("deleted", minutes=4, user_id=BOB, **with_preset))
    await store.jobs.delete("deleted")
    await store.jobs.add(make_job("unrelated", minutes=5))

    async def seen_by(viewer_id: int | None, limit: int = 9) -> list[str]:
        return [use.job_id for use in await store.presets.uses(preset.id, limit, viewer_id=viewer_id)]

    assert await seen_by(None) == ["open"]
    assert await seen_by(ALICE) == ["open", "own"]
    assert await seen_by(BOB) == ["elsewhere", "secret", "open"]
    assert await seen_by(BOB, limit=1) == ["elsewhere"]
    assert await store.presets.count_uses(preset.id) == 5
    (use,) = await store.presets.uses(preset.id, 9)
    assert (use.user_id, use.version, use.created_at) == (BOB, 1, NOW + timedelta(minutes=1))


async def test_unknown_preset_version(store: Store) -> None:
    """A job cannot name a preset version that was never saved."""
    with pytest.raises(StoreError):
        await store.jobs.add(make_job(preset_id=1, preset_version=1))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "can be seen"),
        (" \n\t ", "can be seen"),
        ("\u200b\u2060", "can be seen"),
        ("x" * 51, "at most 50 characters; this one has 51"),
        ("bell\a", "control characters"),
        ("\ud800", "control characters"),
    ],
)
async def test_bad_names(store: Store, name: str, words: str) -> None:
    """A name that cannot be used is refused as the person's to mend."""
    with pytest.raises(PresetNameError, match=words) as caught:
        await store.presets.save(ALICE, GUILD, name, REQUEST)
    assert isinstance(caught.value, RequestError)
    assert await store.presets.count(ALICE, GUILD) == 0


async def test_preset_limit(store: Store) -> None:
    """A hundred presets a person; saving an old one again still works, and deleting makes room."""
    for index in range(100):
        preset, _ = await store.presets.save(ALICE, GUILD, f"preset {index}", REQUEST)
    with pytest.raises(PresetLimitError, match="100 presets") as caught:
        await store.presets.save(ALICE, GUILD, "one more", REQUEST)
    assert isinstance(caught.value, RequestError)
    assert (await store.presets.save(ALICE, GUILD, "Preset 99", REQUEST))[0].version == 2
    await store.presets.save(BOB, GUILD, "one more", REQUEST)
    await store.presets.delete(preset.id)
    assert (await store.presets.save(ALICE, GUILD, "one more", REQUEST))[1]


FORMS: tuple[Literal["NFC", "NFD", "NFKC", "NFKD"], ...] = ("NFC", "NFD", "NFKC", "NFKD")


@given(name=st.text(max_size=60))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_name(tmp_path: Path, name: str) -> None:
    """Any text is refused in words, or is found again in each way of writing it."""

    async def check() -> None:
        async with Store.open(tmp_path / "names.db") as store:
            try:
                preset, _ = await store.presets.save(ALICE, GUILD, name, REQUEST)
            except PresetNameError:
                return
            same = [name, f" {name}\n", name.casefold(), *(unicodedata.normalize(form, name) for form in FORMS)]
            assert [await store.presets.get_by_name(ALICE, GUILD, text) for text in same] == [preset] * len(same)
            assert preset in await store.presets.suggest(ALICE, GUILD, name, limit=100)
            assert 1 <= len(preset.name) <= 50
            await store.presets.delete(preset.id)

    asyncio.run(check())


# Servers and people


LIMITS = ServerLimits(
    max_pending_per_user=2,
    user_seconds_per_day=300.0,
    server_seconds_per_day=3600.0,
    max_duration_s=30.0,
    engines=("procedural", "audioldm2"),
    max_quality="standard",
    max_wait_s=600.0,
)


async def test_limits(path: Path) -> None:
    """Each limit survives a restart, can be changed and lifted, and is one server's alone."""
    async with Store.open(path) as store:
        assert await store.servers.get(GUILD) == Server()
        await store.servers.set_limits(GUILD, LIMITS, by=ALICE, at=NOW)
    async with Store.open(path) as store:
        assert await store.servers.get(GUILD) == Server(limits=LIMITS)
        assert await store.servers.get(OTHER_GUILD) == Server()
        fewer = ServerLimits(max_wait_s=60.0)
        await store.servers.set_limits(GUILD, fewer, by=ALICE, at=NOW)
        assert await store.servers.get(GUILD) == Server(limits=fewer)


@pytest.mark.parametrize(
    "bad",
    [
        {"max_pending_per_user": 0},
        {"user_seconds_per_day": 0.0},
        {"max_duration_s": -1.0},
        {"max_quality": "ultra"},
        {"max_wait_s": 0.0},
    ],
)
async def test_limits_that_nobody_could_keep(store: Store, bad: dict[str, Any]) -> None:
    """A limit that would refuse everything, or means nothing, is not stored, and neither is the act."""
    with pytest.raises(StoreError):
        await store.servers.set_limits(GUILD, ServerLimits(**bad), by=ALICE, at=NOW)
    assert await store.servers.get(GUILD) == Server()
    assert await store.servers.acts(GUILD, limit=5) == []


async def test_pause_and_resume(path: Path) -> None:
    """A pause survives a restart and a change of limits, and the newest reason counts."""
    async with Store.open(path) as store:
        assert not await store.servers.resume(GUILD, by=ALICE, at=NOW)
        await store.servers.pause(GUILD, by=ALICE, at=NOW, reason=None)
        await store.servers.pause(GUILD, by=BOB, at=NOW + timedelta(minutes=1), reason="Müde")
    async with Store.open(path) as store:
        await store.servers.set_limits(GUILD, LIMITS, by=ALICE, at=NOW)
        pause = Pause(at=NOW + timedelta(minutes=1), by=BOB, reason="Müde")
        assert await store.servers.get(GUILD) == Server(limits=LIMITS, pause=pause)
        assert (await store.servers.get(OTHER_GUILD)).pause is None
        assert await store.servers.resume(GUILD, by=ALICE, at=NOW)
        assert await store.servers.get(GUILD) == Server(limits=LIMITS)


async def test_blocked_people(path: Path) -> None:
    """A block survives a restart, holds in one server, and is told from one that was there already."""
    async with Store.open(path) as store:
        assert await store.servers.block(GUILD, BOB, by=ALICE, at=NOW, reason="spam")
        assert await store.servers.block(GUILD, 99, by=ALICE, at=NOW, reason=None)
        assert not await store.servers.block(GUILD, BOB, by=99, at=NOW, reason="other")
    async with Store.open(path) as store:
        assert await store.servers.is_blocked(GUILD, BOB)
        assert not await store.servers.is_blocked(OTHER_GUILD, BOB)
        assert not await store.servers.is_blocked(GUILD, ALICE)
        bob = Block(user_id=BOB, by=ALICE, at=NOW, reason="spam")
        assert await store.servers.blocked(GUILD, limit=5) == [bob, dataclasses.replace(bob, user_id=99, reason=None)]
        assert await store.servers.blocked(GUILD, limit=1) == [bob]
        assert [await store.servers.count_blocked(guild) for guild in (GUILD, OTHER_GUILD)] == [2, 0]
        assert await store.servers.unblock(GUILD, BOB, by=ALICE, at=NOW)
        assert not await store.servers.unblock(GUILD, BOB, by=ALICE, at=NOW)
        assert not await store.servers.is_blocked(GUILD, BOB)


async def test_every_act_is_recorded(store: Store) -> None:
    """Who did what, when, to whom, the newest first; what changed nothing is no act."""
    servers = store.servers
    await servers.set_limits(GUILD, ServerLimits(max_wait_s=60.0, engines=("procedural",)), by=ALICE, at=NOW)
    await servers.pause(GUILD, by=ALICE, at=NOW, reason="night")
    for _ in range(2):
        await servers.resume(GUILD, by=BOB, at=NOW)
        await servers.block(GUILD, 99, by=BOB, at=NOW, reason="spam")
    for _ in range(2):
        await servers.unblock(GUILD, 99, by=BOB, at=NOW)
    await servers.record(GUILD, "cancel", by=ALICE, at=NOW + timedelta(minutes=1), target="a")
    await servers.pause(OTHER_GUILD, by=BOB, at=NOW, reason=None)
    acts = await servers.acts(GUILD, limit=20)
    assert [(act.act, act.moderator_id, act.target, act.details) for act in acts] == [
        ("cancel", ALICE, "a", None),
        ("unblock", BOB, "99", None),
        ("block", BOB, "99", "spam"),
        ("resume", BOB, None, None),
        ("pause", ALICE, None, "night"),
        ("limits", ALICE, None, '{"engines": ["procedural"], "max_wait_s": 60.0}'),
    ]
    assert [act.at for act in acts[:2]] == [NOW + timedelta(minutes=1), NOW]
    assert await servers.acts(GUILD, limit=2, offset=1) == acts[1:3]


async def test_the_ping_is_off_until_someone_wants_it(path: Path) -> None:
    """A person's setting survives a restart and can be taken back."""
    async with Store.open(path) as store:
        assert not await store.people.wants_ping(ALICE)
        await store.people.set_ping(ALICE, True)
    async with Store.open(path) as store:
        assert [await store.people.wants_ping(user) for user in (ALICE, BOB)] == [True, False]
        await store.people.set_ping(ALICE, False)
        assert not await store.people.wants_ping(ALICE)


# The file


async def test_meta(path: Path) -> None:
    """Small values survive a restart and can be replaced."""
    async with Store.open(path) as store:
        assert await store.get_meta("commands") is None
        await store.set_meta("commands", "1")
        await store.set_meta("commands", "2")
    async with Store.open(path) as store:
        assert await store.get_meta("commands") == "2"


async def test_closed_store(path: Path) -> None:
    """A late task gets words, not a crash of the driver."""
    async with Store.open(path) as store:
        pass
    with pytest.raises(StoreError, match="closed"):
        await store.jobs.unfinished()
    with pytest.raises(StoreError, match="closed"):
        await store.presets.save(ALICE, GUILD, "rain", REQUEST)


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Each statement that runs from now on, with its values."""
    seen: list[str] = []
    connect = sqlite3.connect

    def traced(*args: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*args, **options)
        connection.set_trace_callback(seen.append)
        return connection

    monkeypatch.setattr(sqlite3, "connect", traced)
    return seen


async def test_durable_settings(statements: list[str], store: Store) -> None:
    """The connection is opened for safety: WAL, full sync, foreign keys, a patient lock, a health check."""
    await store.get_meta("x")
    for pragma in (
        "PRAGMA quick_check",
        f"PRAGMA busy_timeout = {database.BUSY_TIMEOUT_MS}",
        "PRAGMA journal_mode = WAL",
        "PRAGMA synchronous = FULL",
        "PRAGMA foreign_keys = ON",
    ):
        assert pragma in statements


async def test_no_query_scans_jobs(statements: list[str], store: Store, path: Path) -> None:
    """Every statement finds its jobs through an index; only the totals walk over one that holds all jobs."""
    preset, _ = await store.presets.save(ALICE, GUILD, "rain", REQUEST)
    statements.clear()
    jobs, presets = store.jobs, store.presets
    await jobs.add(with_token())
    await jobs.get("a")
    await jobs.set_message("a", 1)
    await jobs.start("a", NOW)
    await jobs.requeue("a")
    await jobs.finish("a", NOW, recipe=recipe(), clip_name="a.ogg", facts={})
    await jobs.fail("a", NOW, "words")
    await jobs.set_delivery("a", "pending")
    await jobs.erase_expired_tokens(NOW)
    await jobs.unfinished()
    await jobs.undelivered()
    await jobs.num_pending()
    await jobs.num_pending(ALICE)
    await jobs.history(ALICE, limit=5)
    await jobs.count_history(ALICE)
    await jobs.clip_names()
    await jobs.forget_clip("a.ogg")
    await jobs.delete("a")
    await jobs.usage()
    await presets.uses(preset.id, 5, viewer_id=ALICE)
    await presets.count_uses(preset.id)
    await presets.get_by_name(ALICE, GUILD, "rain")
    await presets.list(ALICE, GUILD, limit=5)
    await presets.suggest(ALICE, GUILD, "r")
    await presets.count(ALICE, GUILD)
    await jobs.seconds_since(GUILD, NOW)
    await jobs.seconds_since(GUILD, NOW, user_id=ALICE)
    await jobs.passed_at(GUILD, NOW, 9.0)
    await jobs.passed_at(GUILD, NOW, 9.0, user_id=ALICE)
    await jobs.recent_costs(NOW)
    await store.servers.get(GUILD)
    await store.servers.set_limits(GUILD, LIMITS, by=ALICE, at=NOW)
    await store.servers.pause(GUILD, by=ALICE, at=NOW, reason=None)
    await store.servers.resume(GUILD, by=ALICE, at=NOW)
    await store.servers.block(GUILD, BOB, by=ALICE, at=NOW, reason=None)
    await store.servers.is_blocked(GUILD, BOB)
    await store.servers.blocked(GUILD, limit=5)
    await store.servers.count_blocked(GUILD)
    await store.servers.unblock(GUILD, BOB, by=ALICE, at=NOW)
    await store.servers.acts(GUILD, limit=5)
    await store.people.set_ping(ALICE, True)
    await store.people.wants_ping(ALICE)
    with closing(sqlite3.connect(path)) as other:
        plans = {
            (sql, step)
            for sql in list(statements)
            if sql not in ("BEGIN IMMEDIATE", "COMMIT")
            for *_, step in other.execute(f"EXPLAIN QUERY PLAN {sql}")
        }
    # Partial indexes, which hold only the few jobs that are looked for.
    small = ("jobs_unfinished", "jobs_undelivered", "jobs_with_token", "jobs_with_clip")
    # A subquery's rows were found through an index: its own plan has a line for that.
    scans = [
        step
        for _, step in plans
        if step.startswith("SCAN") and not step.endswith(small) and not step.startswith("SCAN (subquery")
    ]
    assert scans == ["SCAN jobs USING COVERING INDEX jobs_usage"]
    sorts = [sql for sql, step in plans if "TEMP B-TREE" in step and "jobs" in sql]
    assert [sql for sql in sorts if "DISTINCT" not in sql] == []
    # The sums of a day read nothing but their index.
    for index in ("jobs_counted_of_user", "jobs_counted_of_guild"):
        assert [step for _, step in plans if f"USING COVERING INDEX {index} " in step]
    assert [step for sql, step in plans if "duration_s" in sql and "jobs_usage (" in step] == []


def version_0(path: Path) -> None:
    """A database that was there before the first migration, with something in it."""
    with closing(sqlite3.connect(path)) as old:
        old.execute("CREATE TABLE notes (text TEXT)")
        old.execute("INSERT INTO notes VALUES ('keep me')")
        old.commit()


def user_version(path: Path) -> int:
    """The format that the file says it has."""
    with closing(sqlite3.connect(path)) as other:
        version: int = other.execute("PRAGMA user_version").fetchone()[0]
        return version


async def test_migration_of_an_older_file(path: Path) -> None:
    """An older database is copied, then brought up to date with what it held."""
    version_0(path)
    async with Store.open(path) as store:
        await store.jobs.add(make_job())
    assert user_version(path) == NEWEST
    backup = path.with_name("ambient.db.before-0001")
    assert user_version(backup) == 0
    for file in (path, backup):
        with closing(sqlite3.connect(file)) as other:
            assert other.execute("SELECT text FROM notes").fetchall() == [("keep me",)]
    async with Store.open(path) as store:
        assert await store.jobs.num_pending() == 1
    assert {file.name for file in path.parent.iterdir()} == {path.name, backup.name}


def version_1(path: Path) -> None:
    """A database as the first release left it, with a job that waits and its token."""
    first = importlib.resources.files("bot.store") / "migrations" / "0001_jobs_and_presets.sql"
    columns = (
        "id, recipe, request, duration_s, file_format, user_id, guild_id, channel_id, private, locale, "
        "interaction_token, token_expires_at, upload_limit_bytes, status, attempts, delivery_state, created_at"
    )
    job = with_token()
    values = (
        job.id, job.recipe.to_json(), job.request.to_json(), 10.0, "ogg", ALICE, GUILD, 40, 0, "en-US",
        TOKEN, to_ms(NOW + timedelta(minutes=15)), 10 << 20, "queued", 0, "none", to_ms(NOW),
    )  # fmt: skip
    with closing(sqlite3.connect(path)) as old:
        old.executescript(first.read_text(encoding="utf-8"))
        old.execute("PRAGMA user_version = 1")
        marks = ", ".join("?" * len(values))
        old.execute(f"INSERT INTO jobs ({columns}) VALUES ({marks})", values)  # noqa: S608 - our own words
        old.execute("INSERT INTO meta VALUES ('commands', '1')")
        old.commit()


async def test_migration_of_the_first_release(path: Path) -> None:
    """What the first release wrote is all there, counts against a day, and the copy holds no interaction token."""
    version_1(path)
    async with Store.open(path) as store:
        assert await read(store) == with_token()
        assert await store.get_meta("commands") == "1"
        assert await store.jobs.seconds_since(GUILD, NOW - timedelta(hours=1)) == 10.0
        await store.servers.set_limits(GUILD, LIMITS, by=ALICE, at=NOW)
    assert user_version(path) == NEWEST
    backup = path.with_name("ambient.db.before-0002")
    assert user_version(backup) == 1
    assert TOKEN.encode() not in backup.read_bytes()


async def test_a_second_migration_that_fails(path: Path) -> None:
    """A migration that meets an obstacle in its middle leaves the first release's database as it was."""
    version_1(path)
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE user_settings (in_the_way TEXT)")
    with pytest.raises(StoreError):
        async with Store.open(path):
            pass
    assert user_version(path) == 1
    with closing(sqlite3.connect(path)) as other:
        assert other.execute("SELECT name FROM sqlite_master WHERE name = 'server_limits'").fetchall() == []
        assert other.execute("SELECT id FROM jobs").fetchall() == [("a",)]


async def test_no_backup_of_a_new_file(path: Path) -> None:
    """Where there was nothing, there is nothing to copy."""
    async with Store.open(path):
        pass
    assert [file.name for file in path.parent.iterdir()] == [path.name]


async def test_failed_migration(path: Path) -> None:
    """A migration that fails leaves the database as it was, and the copy holds no interaction token."""
    async with Store.open(path) as store:
        await store.jobs.add(with_token())
    with closing(sqlite3.connect(path)) as other:
        other.execute("DROP TABLE meta")  # so that the migration gets some way before it meets a table of its own
        other.execute("PRAGMA user_version = 0")
    with pytest.raises(StoreError):
        async with Store.open(path):
            pass
    assert user_version(path) == 0
    backup = path.with_name("ambient.db.before-0001")
    for file in (path, backup):
        with closing(sqlite3.connect(file)) as other:
            assert other.execute("SELECT name FROM sqlite_master WHERE name = 'meta'").fetchall() == []
            assert other.execute("SELECT id FROM jobs").fetchall() == [("a",)]
    assert TOKEN.encode() in path.read_bytes()
    assert TOKEN.encode() not in backup.read_bytes()


async def test_backup_cannot_be_written(path: Path) -> None:
    """Without room for the copy there is no migration."""
    version_0(path)
    path.with_name("ambient.db.before-0001").mkdir()
    await refused(path, DatabaseNotWritableError, "backup")
    assert user_version(path) == 0


async def refused(path: Path, kind: type[StoreError], words: str) -> None:
    """Opening the file is refused with this error, these words and no path."""
    with pytest.raises(kind, match=words) as caught:
        async with Store.open(path):
            pass
    assert str(path.parent) not in str(caught.value)


async def test_too_new(path: Path) -> None:
    """A database of a newer program is refused and left as it is."""
    version_0(path)
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA user_version = 9999")
    before = path.read_bytes()
    await refused(
        path, DatabaseTooNewError, rf"newer AmbientGen \(format 9999; this one reads up to {NEWEST}\). Update"
    )
    assert path.read_bytes() == before


async def test_not_a_database(path: Path) -> None:
    """Some other file in the database's place is refused and left as it is."""
    path.write_bytes(b"These are not the bytes you are looking for. " * 100)
    before = path.read_bytes()
    await refused(path, DatabaseCorruptError, "damaged or is not a database")
    assert path.read_bytes() == before


async def test_damaged(path: Path) -> None:
    """A database with overwritten pages is refused when it is opened, not at some later query."""
    async with Store.open(path) as store:
        for index in range(200):
            await store.jobs.add(make_job(f"job {index}"))
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2 : len(damaged) // 2 + 20_000] = b"\xa5" * 20_000
    path.write_bytes(damaged)
    await refused(path, DatabaseCorruptError, "damaged")


async def test_cut_short(path: Path) -> None:
    """So is one whose end is missing."""
    async with Store.open(path) as store:
        for index in range(200):
            await store.jobs.add(make_job(f"job {index}"))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    await refused(path, DatabaseCorruptError, "damaged")


@pytest.mark.usefixtures("impatient")
async def test_locked_at_the_start(path: Path) -> None:
    """A database that another program holds is refused after a wait."""
    version_0(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        await refused(path, DatabaseBusyError, "Another program holds")


@pytest.mark.usefixtures("impatient")
async def test_locked_later(path: Path) -> None:
    """A write that meets another program's lock is refused, and works once the lock is gone."""
    async with Store.open(path) as store:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(DatabaseBusyError):
                await store.jobs.add(make_job())
            with pytest.raises(DatabaseBusyError):
                await store.presets.save(ALICE, GUILD, "rain", REQUEST)
        await store.jobs.add(make_job())
        assert (await store.presets.save(ALICE, GUILD, "rain", REQUEST))[1]


async def test_no_place(path: Path) -> None:
    """A folder in the database's place, or no folder around it, is refused with what to do."""
    await refused(path.parent / "missing" / "ambient.db", DatabaseNotWritableError, "folder is missing")
    path.mkdir()
    await refused(path, DatabaseNotWritableError, "something else has its name")


@pytest.fixture
def limited(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Statements to run on each connection right after it is opened."""
    extra: list[str] = []
    connect = sqlite3.connect

    def limited_connect(*args: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*args, **options)
        for sql in extra:
            connection.execute(sql)
        return connection

    monkeypatch.setattr(sqlite3, "connect", limited_connect)
    return extra


async def test_read_only(path: Path, limited: list[str]) -> None:
    """A database that cannot be written is refused at the start, whoever runs the program."""
    async with Store.open(path):
        pass
    limited.append("PRAGMA query_only = ON")
    version_before = path.read_bytes()
    with pytest.raises(DatabaseNotWritableError, match="read-only"):
        async with Store.open(path) as store:
            await store.jobs.add(make_job())
    assert path.read_bytes() == version_before


async def test_disk_full(path: Path, limited: list[str]) -> None:
    """When the disk is full, the write is refused in words, and what was written before is intact."""
    async with Store.open(path):
        pass
    limited.append("PRAGMA max_page_count = 60")
    async with Store.open(path) as store:
        long_request = SceneRequest(description="x" * 500_000)
        await store.jobs.add(make_job())
        with pytest.raises(DatabaseNotWritableError, match="disk is full"):
            await store.jobs.add(make_job("b", request=long_request))
        with pytest.raises(DatabaseNotWritableError, match="disk is full"):
            await store.presets.save(ALICE, GUILD, "rain", long_request)
    limited.clear()
    async with Store.open(path) as store:
        assert ids(await store.jobs.unfinished()) == ["a"]
        assert await store.presets.count(ALICE, GUILD) == 0
        await store.jobs.add(make_job("b", request=long_request))


async def test_survives_a_kill(path: Path) -> None:
    """What was written is there after the process died without closing."""
    async with Store.open(path) as store:
        await store.jobs.add(make_job())
        copy = path.with_name("copy.db")
        for file in path.parent.glob("ambient.db*"):
            shutil.copy(file, path.with_name(file.name.replace("ambient", "copy")))
    async with Store.open(copy) as store:
        assert await read(store) == make_job()


def test_store_does_not_import_discord() -> None:
    """The store, the settings and the lock stand without Discord and without torch."""
    code = (
        "import sys, bot.store, bot.settings, bot.lock\n"
        "assert not {'discord', 'torch'} & set(sys.modules), 'imported'\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent.parent, check=True)
