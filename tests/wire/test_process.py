"""The process: how it starts, refuses to start, stops, and what it takes up again."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from wire.world import DEAD_S, SLOW, Bot, World, description, job_id, names

pytestmark = pytest.mark.wire
_WRONG_TOKEN = "another.fake.token"  # noqa: S105 - it opens nothing


def test_a_wrong_token(new_bot: Bot) -> None:
    """A token that Discord does not take ends the start with one sentence."""
    assert "Discord does not accept DISCORD_TOKEN" in _refusal(new_bot, DISCORD_TOKEN=_WRONG_TOKEN)


def test_a_misspelt_setting(new_bot: Bot) -> None:
    """A setting that does not exist is named, with the nearest one."""
    words = _refusal(new_bot, AMBIENT_DATADIR="elsewhere")
    assert "AMBIENT_DATADIR" in words
    assert "AMBIENT_DATA_DIR" in words


def test_a_bad_setting(new_bot: Bot) -> None:
    """A value that is not allowed is named, with what is."""
    assert "AMBIENT_MAX_DURATION_S must be a number from 2 to 600" in _refusal(new_bot, AMBIENT_MAX_DURATION_S="900")


def test_a_newer_database(new_bot: Bot) -> None:
    """A database of a newer version is refused and left as it is."""
    path = _database(new_bot)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
        connection.execute("CREATE TABLE things (id)")
    before = path.read_bytes()
    assert "newer" in _refusal(new_bot)
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"this is no database" * 500, b"SQLite format 3\x00" + b"\xff" * 9000])
def test_a_corrupt_database(new_bot: Bot, content: bytes) -> None:
    """A file that is no database is refused and left as it is."""
    path = _database(new_bot)
    path.write_bytes(content)
    assert "database" in _refusal(new_bot)
    assert path.read_bytes() == content


def test_a_data_folder_that_is_a_file(new_bot: Bot) -> None:
    """A file where the data folder should be is told."""
    (new_bot.folder / "data").write_text("a file", "utf-8")
    assert "data folder" in _refusal(new_bot)


def test_one_process_to_a_data_folder(own_world: World) -> None:
    """A second process is refused with the number of the first; a killed or stopped one leaves the folder free."""
    world, place = own_world, own_world.new_place()
    world.start()
    assert world.bot.process is not None
    assert f"(process {world.bot.process.pid})" in _refusal(world.bot)
    assert names(world.make(place.ann, place.channel))
    world.bot.kill()
    world.start()
    assert names(world.make(place.ann, place.channel))
    started = time.monotonic()
    assert world.bot.stop() == 0
    assert time.monotonic() - started < 3
    assert not (world.bot.folder / "data/ambient.pid").exists()


def test_without_discord(new_bot: Bot) -> None:
    """Where Discord cannot be reached, that is said in one sentence."""
    words = _refusal(new_bot, DISCORD_API_BASE="http://127.0.0.1:9/api/v10")
    assert "cannot reach Discord" in words


def test_the_first_run_needs_no_token(new_bot: Bot) -> None:
    """Without a token the bot makes a first sound and tells the three steps to Discord."""
    code, words = new_bot.run(DISCORD_TOKEN="")
    assert code == 0
    assert "Your first sound is ready" in words
    assert (new_bot.folder / "data/first-sound.ogg").stat().st_size > 0
    assert "Traceback" not in words


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_unfinished_sounds_outlive_the_process(own_world: World, end: str) -> None:
    """What ran and what waited when the process ended is made after the next start, on the same cards."""
    world, place = own_world, own_world.new_place()
    world.start()
    running = world.ask(place.ann, place.channel, **SLOW)
    records = [running, world.ask(place.ann, place.channel, private=True), world.ask(place.bob, place.channel)]
    found = [job_id(record["message"]) for record in records]
    world.until(lambda: world.bot.row(found[0])["status"] == "running")
    if end == "stop":
        started = time.monotonic()
        assert world.bot.stop() == 0
        assert time.monotonic() - started < 10
    else:
        world.bot.kill()
    assert {world.bot.row(job)["status"] for job in found} <= {"queued", "running"}
    world.start()
    for record in records:
        message = world.sound(record)
        assert message["id"] == record["message"]["id"]
        assert message["ephemeral"] is record["ephemeral"]
    for job in found:
        world.wait_until_delivered(job)
    assert len(world.messages(place.channel)) == 3
    assert not list((world.bot.folder / "data/clips").glob("*.part*"))


def test_an_outcome_nobody_got_is_brought_after_a_restart(own_world: World) -> None:
    """A finished sound that could not be delivered comes at the next start, once."""
    world, place = own_world, own_world.new_place()
    world.start()
    world.control.fault(match="PATCH /channels/*", kind="html", status=503)
    record = world.ask(place.ann, place.channel, backdate=DEAD_S)
    found = job_id(record["message"])
    world.until(lambda: world.control.requests(match="PATCH /channels/*"))
    world.bot.kill()
    assert world.bot.row(found)["delivery_state"] == "pending"
    world.control.clear_faults()
    world.start()
    assert len(names(world.sound(record))) == 2
    world.wait_until_delivered(found)
    assert len(world.messages(place.channel)) == 1


def test_a_sound_that_ends_the_process_twice_is_given_up(own_world: World) -> None:
    """A sound during which the process died twice is not tried a third time, and its card says so."""
    world, place = own_world, own_world.new_place()
    world.start()
    record = world.ask(place.ann, place.channel, **{**SLOW, "duration": 120})
    found = job_id(record["message"])
    for _ in range(2):
        world.until(lambda: world.bot.row(found)["status"] == "running")
        world.bot.kill()
        world.start()
    world.wait_until_delivered(found)
    assert "stopped twice" in description(world.messages(place.channel)[0])
    assert names(world.make(place.bob, place.channel))


def _refusal(bot: Bot, **environ: str) -> str:
    """The one sentence with which a start is refused."""
    code, words = bot.run(**environ)
    assert code == 1
    assert "Traceback" not in words
    (line,) = [line for line in words.splitlines() if not _is_log(line)]
    assert line.startswith("AmbientGen cannot ")
    assert line.lower().count("cannot start") <= 1
    return line


def _is_log(line: str) -> bool:
    return line[2:3] == ":" and any(f" {level} " in line for level in ("INFO", "WARNING"))


def _database(bot: Bot) -> Path:
    path = bot.folder / "data/ambient.db"
    path.parent.mkdir()
    return path
