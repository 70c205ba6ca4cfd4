"""The words a person in Discord reads for every error: one table from type to words.

An error without an entry is a bug: it goes to the log with an id, and the person is shown that id and nothing else.
Messages of our own errors hold no path and no secret (see `ambientgen/errors.py`), so they may be shown.
"""

from __future__ import annotations

from collections.abc import Callable

import aiohttp
import discord

from ambientgen import errors
from bot.store import StoreError

#: What a call to Discord may raise: a refusal, or a connection that was closed or never came about.
DISCORD_ERRORS = (discord.HTTPException, aiohttp.ClientError, ConnectionError, TimeoutError)

_RETRY = "Please try again in a little while."


def _with_suggestions(error: BaseException) -> str:
    suggestions = error.suggestions if isinstance(error, errors.UnknownSceneError) else ()
    return "\n".join([str(error), *(f"• try `{suggestion}`" for suggestion in suggestions)])


WORDS: dict[type[BaseException], Callable[[BaseException], str]] = {
    errors.UnknownSceneError: _with_suggestions,
    errors.RequestError: str,
    errors.GenerationCancelled: lambda _error: "Cancelled.",
    errors.ModelMissingError: lambda _error: (
        "The model is missing or damaged on the bot's machine. Its admin can mend it with `make model`."
    ),
    errors.OutOfMemoryError: lambda _error: (
        "The bot's machine ran out of memory for this clip. A shorter `duration`, or `engine: procedural`, needs less."
    ),
    errors.UnhealthyTakeError: str,
    errors.EngineError: str,
    errors.ClipTooLargeError: str,
    errors.UnreadableClipError: str,
    errors.StorageError: lambda _error: (
        "The bot cannot store the clip: its disk is full or not writable. Its admin needs to free some space."
    ),
    errors.EncodingError: lambda _error: "The sound was made but could not be written as a file. Try another `format`.",
    StoreError: lambda _error: f"The bot's database cannot be used right now. {_RETRY}",
    discord.Forbidden: lambda _error: "Discord does not let me do that here: I lack a permission in this channel.",
    discord.NotFound: lambda _error: "That message or channel is not there any more.",
    discord.HTTPException: lambda _error: f"Discord did not take that. {_RETRY}",
    **dict.fromkeys(
        (aiohttp.ClientError, ConnectionError, TimeoutError),
        lambda _error: f"The connection to Discord broke off. {_RETRY}",
    ),
}


def words_for(error: BaseException) -> str | None:
    """What a person reads, or None where the error is a bug of ours."""
    for cls in type(error).__mro__:
        if cls in WORDS:
            return WORDS[cls](error)
    return None


def words_for_bug(reference: str) -> str:
    """What a person reads when something broke that should not."""
    return f"Something went wrong on my side, and it is in the log as `{reference}`. {_RETRY}"
