"""Every error that is raised on purpose has words for the person; a bug shows a reference and nothing else."""

from __future__ import annotations

import logging
import secrets
import sqlite3
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import discord
import pytest

from ambientgen import errors
from ambientgen.audio import encode
from ambientgen.errors import AmbientError, OptionError, UnknownSceneError
from bot import store
from bot.client import AmbientClient
from bot.errors import words_for, words_for_bug
from bot.jobs import QueueFullError
from bot.store import StoreError


def tree(root: type[BaseException]) -> Iterator[type[BaseException]]:
    """A class and everything below it."""
    yield root
    for below in root.__subclasses__():
        yield from tree(below)


def a(cls: type[BaseException], message: str = "What happened.") -> BaseException:
    """An instance with a message."""
    return cls("option", message) if issubclass(cls, OptionError) else cls(message)


#: All but the root, which nobody raises.
OURS = sorted({*tree(AmbientError), *tree(StoreError)} - {AmbientError}, key=lambda cls: cls.__name__)


def test_the_tree_is_the_whole_one() -> None:
    """What the docstring draws is what exists, and the store's and queue's errors are looked at too."""
    drawn = set(errors.__doc__.replace("│", " ").replace("├──", " ").replace("└──", " ").split())
    defined = {cls for cls in OURS if cls.__module__ == errors.__name__}
    assert {cls.__name__ for cls in defined} <= drawn
    exported = {getattr(store, name) for name in store.__all__}
    assert {cls for cls in exported if isinstance(cls, type) and issubclass(cls, Exception)} <= set(OURS)
    assert QueueFullError in OURS


@pytest.mark.parametrize("cls", OURS, ids=lambda cls: cls.__name__)
def test_every_error_has_words(cls: type[BaseException]) -> None:
    """Each error of ours has a sentence, short enough for one message and without a trace of Python."""
    words = words_for(a(cls))
    assert words is not None
    assert 3 <= len(words) <= 2000
    assert words.endswith((".", "!", "?", "`"))
    assert "Traceback" not in words
    assert cls.__name__ not in words


@pytest.mark.parametrize(
    "cls", [cls for cls in OURS if not issubclass(cls, errors.RequestError)], ids=lambda cls: cls.__name__
)
def test_the_cause_of_an_error_is_not_shown(cls: type[BaseException], tmp_path: Path) -> None:
    """Paths and secrets of what lies behind an error stay in the log."""
    with pytest.raises(cls) as caught:
        _raise_from_a_missing_file(cls, tmp_path / "missing")
    assert str(tmp_path) in "".join(traceback.format_exception(caught.value))
    words = words_for(caught.value)
    assert words is not None
    assert str(tmp_path) not in words
    assert "Errno" not in words


def _raise_from_a_missing_file(cls: type[BaseException], path: Path) -> None:
    try:
        path.read_text(encoding="utf-8")
    except OSError as cause:
        raise a(cls) from cause


async def test_errors_of_the_store_hold_no_path(tmp_path: Path) -> None:
    """A damaged, a newer and an unreachable database are told without saying where they are."""
    damaged, newer = tmp_path / "damaged.db", tmp_path / "newer.db"
    damaged.write_bytes(b"not a database " * 1000)
    with sqlite3.connect(newer) as connection:
        connection.execute("PRAGMA user_version = 9999")
    connection.close()
    for path in (damaged, newer, tmp_path / "missing" / "ambient.db"):
        with pytest.raises(StoreError) as caught:
            async with store.Store.open(path):
                pass
        for text in (str(caught.value), words_for(caught.value) or ""):
            assert str(tmp_path) not in text
            assert path.name not in text
            assert "/" not in text


def test_errors_of_files_hold_no_path(tmp_path: Path) -> None:
    """A clip that is gone, damaged, or a folder is told without saying where it is."""
    (tmp_path / "damaged.ogg").write_bytes(b"OggS nothing")
    (tmp_path / "folder.ogg").mkdir()
    for name in ("gone.ogg", "damaged.ogg", "folder.ogg"):
        with pytest.raises(errors.UnreadableClipError) as caught:
            encode.decode(tmp_path / name)
        assert str(tmp_path) not in str(caught.value)


def test_suggestions_are_part_of_the_words() -> None:
    """A scene that no engine can place comes with scenes that work."""
    words = words_for(UnknownSceneError("Cannot place this.", ("gentle rain", "a campfire")))
    assert words == "Cannot place this.\n• try `gentle rain`\n• try `a campfire`"


@pytest.mark.parametrize(
    "error",
    [RuntimeError("secret /home/x token"), KeyError("secret"), AssertionError(), OSError("/home/x"), ValueError("x")],
    ids=lambda error: type(error).__name__,
)
def test_a_bug_has_no_words(error: BaseException) -> None:
    """What nobody raised on purpose has no entry, so that its text can never be shown."""
    assert words_for(error) is None


def test_the_words_for_a_bug_hold_its_reference_alone() -> None:
    """The person can name the log's entry."""
    words = words_for_bug("a1b2c3d4")
    assert "`a1b2c3d4`" in words
    assert words_for_bug("x").replace("x", "a1b2c3d4", 1) == words


def response(status: int) -> Any:
    """As much of an HTTP response as discord.py's errors look at."""
    return SimpleNamespace(status=status, reason="No")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (discord.Forbidden(response(403), {"code": 50013, "message": "secret"}), "permission"),
        (discord.NotFound(response(404), {"code": 10008, "message": "secret"}), "not there any more"),
        (discord.HTTPException(response(400), {"code": 50035, "message": "secret"}), "did not take that"),
        (discord.DiscordServerError(response(500), {"message": "secret"}), "did not take that"),
        (aiohttp.ServerDisconnectedError("secret"), "broke off"),
    ],
)
def test_discords_errors_have_words(error: BaseException, words: str) -> None:
    """What Discord refuses is told in our words, not in its own."""
    said = words_for(error)
    assert said is not None
    assert words in said
    assert "secret" not in said


class _Interaction:
    """Takes an answer, or refuses it."""

    def __init__(self, *, is_done: bool = False, refusal: Exception | None = None) -> None:
        self.said: list[tuple[str, str, bool]] = []
        self._refusal = refusal
        self.response = SimpleNamespace(is_done=lambda: is_done, send_message=self._sender("response"))
        self.followup = SimpleNamespace(send=self._sender("followup"))

    def _sender(self, way: str) -> Any:
        async def send(words: str, *, ephemeral: bool) -> None:
            if self._refusal is not None:
                raise self._refusal
            self.said.append((way, words, ephemeral))

        return send


@pytest.mark.parametrize(("is_done", "way"), [(False, "response"), (True, "followup")])
async def test_a_bug_is_answered_privately_and_logged(
    is_done: bool, way: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The person reads the reference under which the log has the whole story, whether or not an answer was sent."""
    monkeypatch.setattr(secrets, "token_hex", lambda _num_bytes: "a1b2c3d4")
    interaction: Any = _Interaction(is_done=is_done)
    await AmbientClient().answer_error(interaction, RuntimeError("secret /home/x token"))
    assert interaction.said == [(way, words_for_bug("a1b2c3d4"), True)]
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.getMessage() == "bug a1b2c3d4"
    assert record.exc_info is not None
    assert "secret" in str(record.exc_info[1])


@pytest.mark.parametrize("refusal", [discord.NotFound(response(404), "gone"), ConnectionResetError()])
async def test_an_answer_that_cannot_be_sent_is_let_go(refusal: Exception) -> None:
    """A dead interaction or network does not raise another error."""
    interaction: Any = _Interaction(refusal=refusal)
    await AmbientClient().answer_error(interaction, errors.RequestError("No."))
    assert interaction.said == []
