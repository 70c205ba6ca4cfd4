"""`python -m bot backup`: what it writes can be put back, also when it was copied while somebody wrote."""
# ruff: noqa: ASYNC240 - between two steps a test looks at the file, and nothing else runs

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest
from test_store import ALICE, GUILD, LIMITS, NEWEST, NOW, TOKEN, read, user_version, with_token

from bot import __main__, backup
from bot.store import Store

LIVE_NAME = "ambient.db"


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data folder that the settings name, in a place without other settings."""
    folder = tmp_path / "data"
    folder.mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AMBIENT_DATA_DIR", str(folder))
    return folder


async def test_a_backup_is_put_back(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Made while the bot has the database open, it holds all but interaction tokens, and opens in its place."""
    async with Store.open(data / LIVE_NAME) as store:
        await store.jobs.add(with_token())
        await store.servers.set_limits(GUILD, LIMITS, by=ALICE, at=NOW)
        assert backup.run([str(tmp_path / "copy.db")]) == 0
        assert await read(store) == with_token()  # the bot itself keeps its token
    assert f"format {NEWEST}, " in capsys.readouterr().out
    assert TOKEN.encode() not in (tmp_path / "copy.db").read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["copy.db", "data"]

    (data / LIVE_NAME).unlink()
    (tmp_path / "copy.db").rename(data / LIVE_NAME)
    async with Store.open(data / LIVE_NAME) as store:
        job = await read(store)
        assert (job.id, job.recipe, job.interaction_token) == ("a", with_token().recipe, None)
        assert [waiting.id for waiting in await store.jobs.unfinished()] == ["a"]
        assert (await store.servers.get(GUILD)).limits == LIMITS


async def test_the_command_line_leads_to_it(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`python -m bot backup PATH` backs up, and starts no bot."""
    async with Store.open(data / LIVE_NAME):
        monkeypatch.setattr("sys.argv", ["bot", "backup", str(tmp_path / "copy.db")])
        assert __main__.main() == 0
    assert user_version(tmp_path / "copy.db") == NEWEST


async def test_each_copy_is_of_one_moment(data: Path, tmp_path: Path) -> None:
    """While another connection writes pairs without a pause, no copy holds half a pair."""
    async with Store.open(data / LIVE_NAME):
        pass
    first_written, stop = threading.Event(), threading.Event()
    num_pairs = 0

    def write() -> None:
        nonlocal num_pairs
        with closing(sqlite3.connect(data / LIVE_NAME, isolation_level=None)) as other:
            while not stop.is_set():
                other.execute("BEGIN IMMEDIATE")
                for side in ("left", "right"):
                    other.execute("INSERT INTO meta VALUES (?, ?)", (f"{side} {num_pairs}", "x" * 2000))
                other.execute("COMMIT")
                num_pairs += 1
                first_written.set()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert first_written.wait(20)
        copies = [tmp_path / f"{number}.db" for number in range(3)]
        assert [backup.run([str(copy)]) for copy in copies] == [0, 0, 0]
    finally:
        stop.set()
        writer.join()
    for copy in copies:
        with closing(sqlite3.connect(copy)) as opened:
            sql = (
                "SELECT count(*) FILTER (WHERE key LIKE 'left %'), count(*) FILTER (WHERE key LIKE 'right %') FROM meta"
            )
            num_left, num_right = opened.execute(sql).fetchone()
            assert 1 <= num_left == num_right <= num_pairs
            assert opened.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


async def test_what_a_crashed_bot_left_is_in_it(data: Path, tmp_path: Path) -> None:
    """What was committed but is only in the log beside the file belongs to the copy."""
    async with Store.open(data / LIVE_NAME) as store:
        await store.jobs.add(with_token())
        crashed = tmp_path / "crashed"
        crashed.mkdir()
        for file in data.iterdir():
            (crashed / file.name).write_bytes(file.read_bytes())
    assert (crashed / f"{LIVE_NAME}-wal").stat().st_size
    for file in data.iterdir():
        file.unlink()
    for file in crashed.iterdir():
        file.rename(data / file.name)
    assert backup.run([str(tmp_path / "copy.db")]) == 0
    async with Store.open(tmp_path / "copy.db") as store:
        assert (await read(store)).id == "a"


async def test_in_a_folder_it_is_named_after_the_time(data: Path, tmp_path: Path) -> None:
    """A folder can be given every night; what is there already stays."""
    async with Store.open(data / LIVE_NAME):
        pass
    folder = tmp_path / "backups"
    folder.mkdir()
    (folder / "ambient-2026-01-01T00-00-00Z.db").write_text("an older one")
    assert backup.run([str(folder)]) == 0
    older, newer = sorted(folder.iterdir())
    assert older.read_text() == "an older one"
    assert newer.name.startswith("ambient-2")
    assert newer.name.endswith("Z.db")
    assert user_version(newer) == NEWEST


def refusal(path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What is said where no backup is made."""
    assert backup.run([str(path)]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("No backup was made: ")
    assert not list(path.parent.glob("*.part"))
    return said.err


async def test_the_database_itself_is_never_replaced(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nor is any other file that is there."""
    async with Store.open(data / LIVE_NAME) as store:
        await store.jobs.add(with_token())
        assert "is there already" in refusal(data / LIVE_NAME, capsys)
        assert await read(store) == with_token()


async def test_refusals_have_words(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing to copy, nowhere to put it, a newer or a damaged database, and settings that are wrong."""
    target = tmp_path / "copy.db"
    assert "no database in the data folder yet" in refusal(target, capsys)
    async with Store.open(data / LIVE_NAME):
        pass
    assert "The backup could not be written" in refusal(tmp_path / "nowhere" / "copy.db", capsys)
    with closing(sqlite3.connect(data / LIVE_NAME)) as other:
        other.execute(f"PRAGMA user_version = {NEWEST + 1}")
    assert "newer AmbientGen" in refusal(target, capsys)
    (data / LIVE_NAME).write_bytes(b"not a database at all" * 100)
    assert "damaged" in refusal(target, capsys)
    (tmp_path / ".env").write_text("AMBIENT_DATA_DRI=/srv\n")
    assert "AMBIENT_DATA_DRI" in refusal(target, capsys)
    assert not target.exists()


async def test_a_damage_that_a_quick_look_misses_is_found(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An index that lacks a row makes no backup: what is erased by way of it could be missed."""
    async with Store.open(data / LIVE_NAME) as store:
        await store.jobs.add(with_token())
    with closing(sqlite3.connect(data / LIVE_NAME, isolation_level=None)) as other:
        other.execute("PRAGMA writable_schema = ON")
        other.execute(
            "UPDATE sqlite_master SET sql = replace(sql, 'clip_name IS NOT NULL', 'clip_name IS NULL') "
            "WHERE name = 'jobs_with_clip'"
        )
    with closing(sqlite3.connect(data / LIVE_NAME)) as other:
        assert other.execute("PRAGMA quick_check").fetchall() == [("ok",)]
    assert "damaged" in refusal(tmp_path / "copy.db", capsys)
