"""Every setting of the bot, described once, in `SETTINGS`; read when asked and never at import."""

from __future__ import annotations

import difflib
import io
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dotenv import dotenv_values
from dotenv.parser import parse_stream

#: read by tests and benchmarks, not by the bot
_OTHER_READERS = frozenset({"AMBIENT_DISCORD_STANDIN", "AMBIENT_REFERENCES"})
_MAX_SHOWN_CHARS = 60
_PLAIN_NAME = re.compile(r"[A-Za-z_]{1,32}")
_QUOTES = "\"'`\u2018\u2019\u201c\u201d\u00ab\u00bb"
_SECRET_TEXT = "Secret(set)"  # noqa: S105 - what is shown in a secret's place


class SettingsError(Exception):
    """A setting cannot be used; the message is one sentence for the operator and never holds the token."""


class Secret:
    """A text that shows itself only through `reveal`."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself."""
        return self._text

    def __repr__(self) -> str:
        return _SECRET_TEXT

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting.

    Attributes:
        key: its name in the environment and in the .env file.
        default: what counts when it is missing or empty, written as in the .env file.
        parse: from text to value; a ValueError means that the text is not allowed.
        allowed: the end of "KEY must be ...".
        help: one line for the operator.
    """

    key: str
    default: str
    parse: Callable[[str], Any]
    allowed: str
    help: str

    @property
    def field(self) -> str:
        """The name of its attribute in `Settings`."""
        return self.key.lower().removeprefix("ambient_")


@dataclass(frozen=True, slots=True)
class Settings:
    """What the operator decided; the meaning of each is in `SETTINGS`."""

    discord_token: Secret | None
    data_dir: Path
    model: str | None
    stable_audio_model: str | None
    device: str | None
    dtype: str | None
    diffusion_loop: str
    target_lufs: float
    max_duration_s: float
    max_pending_per_user: int
    max_pending: int
    max_clips_mib: int
    max_stems_mib: int
    log_level: str

    @classmethod
    def load(cls, environ: Mapping[str, str], env_file: Path | None) -> Settings:
        """Read all settings; the process environment wins over the file.

        Args:
            environ: the process environment.
            env_file: a .env file; one that does not exist counts as empty.

        Raises:
            SettingsError: for the first thing that cannot be used.
        """
        in_file = {} if env_file is None else _read_env_file(env_file)
        # Other programs have variables too: here only the exact prefix is ours.
        ours = [key for key in environ if key.startswith("AMBIENT_") and key not in _OTHER_READERS]
        _refuse_unknown(in_file, "The .env file")
        _refuse_unknown(ours, "The environment")
        given = {**in_file, **environ}
        return cls(**{setting.field: _value(setting, given.get(setting.key, "")) for setting in SETTINGS})


def _value(setting: Setting, text: str) -> Any:
    stripped = text.strip()
    try:
        return setting.parse(stripped or setting.default)
    except ValueError:
        # Without the cause, which would quote the value in a traceback.
        raise SettingsError(f"{setting.key} must be {setting.allowed}; it is {_shorten(stripped)!r}.") from None


def _shorten(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN_CHARS else f"{text[:_MAX_SHOWN_CHARS]}..."


def _read_env_file(path: Path) -> dict[str, str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return {}
    except UnicodeDecodeError:
        raise SettingsError("The .env file is not UTF-8 text; save it again with the encoding UTF-8.") from None
    except OSError as error:
        raise SettingsError(
            "The .env file cannot be read; make sure that it is a file and that this user may read it."
        ) from error
    _refuse_unreadable_lines(text)
    values = dotenv_values(stream=io.StringIO(text), interpolate=False)
    return {key: value for key, value in values.items() if value is not None}


def _refuse_unreadable_lines(text: str) -> None:
    for binding in parse_stream(io.StringIO(text)):
        if binding.error or (binding.key is not None and binding.value is None):
            statement = binding.original.string
            blank_lines = statement[: len(statement) - len(statement.lstrip())].count("\n")
            # The line itself is not shown: it may hold the token.
            raise SettingsError(
                f"Line {binding.original.line + blank_lines} of the .env file cannot be read; write each setting as "
                "KEY=value, and close each quote."
            )


def _refuse_unknown(keys: Iterable[str], where: str) -> None:
    known = [setting.key for setting in SETTINGS]
    for key in keys:
        if not key.upper().startswith(("AMBIENT_", "DISCORD_")) or key in known:
            continue
        nearest = difflib.get_close_matches(key.upper(), known, n=1, cutoff=0.0)[0]
        # A token glued to its key must not be shown as part of a name.
        name = f"{key}, which is no setting" if _PLAIN_NAME.fullmatch(key) else "a misspelt setting"
        raise SettingsError(f"{where} has {name}; the nearest one is {nearest}.")


def _token(text: str) -> Secret | None:
    """Raises `SettingsError` with its own words and never a ValueError, so that the token is not quoted."""
    if text.lower().startswith("bot "):
        raise SettingsError('DISCORD_TOKEN begins with "Bot "; give the token alone.')
    if any(character in _QUOTES for character in text):
        raise SettingsError("DISCORD_TOKEN has a quotation mark in it; give the token without quotes.")
    if any(character.isspace() for character in text):
        raise SettingsError("DISCORD_TOKEN has white space inside; copy the token again, in one piece.")
    if not (text.isascii() and text.isprintable()):
        raise SettingsError("DISCORD_TOKEN has a character that no token has; copy the token again.")
    return Secret(text) if text else None


def _text(text: str) -> str:
    if not text.isprintable():
        raise ValueError
    return text


def _folder(text: str) -> Path:
    try:
        return Path(_text(text)).expanduser()
    except RuntimeError:  # "~" of someone without a home
        raise ValueError from None


def _model(text: str) -> str | None:
    return None if text.lower() == "none" else _text(text)


def _device(text: str) -> str | None:
    lowered = text.lower()
    if not re.fullmatch(r"auto|cuda(:[0-9]{1,2})?|mps|cpu", lowered):
        raise ValueError
    return None if lowered == "auto" else lowered


def _dtype(text: str) -> str | None:
    lowered = text.lower()
    if lowered not in ("auto", "float32", "float16", "bfloat16"):
        raise ValueError
    return None if lowered == "auto" else lowered


def _diffusion_loop(text: str) -> str:
    lowered = text.lower()
    if lowered not in ("own", "diffusers"):
        raise ValueError
    return lowered


def _log_level(text: str) -> str:
    if text.upper() not in ("DEBUG", "INFO", "WARNING", "ERROR"):
        raise ValueError
    return text.upper()


def _number(low: float, high: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        # A pattern, because float() also takes "nan", "1_0" and the digits of other scripts.
        if not re.fullmatch(r"[+-]?[0-9]{1,12}(\.[0-9]{1,12})?", text) or not low <= float(text) <= high:
            raise ValueError
        return float(text)

    return parse


def _whole_number(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch(r"\+?[0-9]{1,12}", text) or not low <= int(text) <= high:
            raise ValueError
        return int(text)

    return parse


SETTINGS = (
    Setting(
        "DISCORD_TOKEN",
        "",
        _token,
        "a bot token",
        "The bot's token, from the Bot page of your application in Discord's developer portal.",
    ),
    Setting(
        "AMBIENT_DATA_DIR",
        "data",
        _folder,
        "a folder",
        "The folder for the database and the finished clips; created if missing.",
    ),
    Setting(
        "AMBIENT_MODEL",
        "cvssp/audioldm2",
        _model,
        "a model's hub id, a local folder, or none",
        "The AudioLDM2 weights: a Hugging Face id or a local folder; none switches the model off.",
    ),
    Setting(
        "AMBIENT_STABLE_AUDIO_MODEL",
        "none",
        _model,
        "a model's hub id, a local folder, or none",
        "The Stable Audio Open weights, a second engine: stabilityai/stable-audio-open-1.0, a local folder, or none.",
    ),
    Setting(
        "AMBIENT_DEVICE",
        "auto",
        _device,
        "auto, cuda, cuda:N, mps or cpu",
        "Where the model runs: auto, cuda, cuda:N (the Nth GPU, from 0), mps or cpu.",
    ),
    Setting(
        "AMBIENT_DTYPE",
        "auto",
        _dtype,
        "auto, float32, float16 or bfloat16",
        "The model's number format: auto, float32, float16 or bfloat16.",
    ),
    Setting(
        "AMBIENT_DIFFUSION_LOOP",
        "own",
        _diffusion_loop,
        "own or diffusers",
        "How AudioLDM2 runs: own (batches, loops, long clips) or diffusers (its plain call, slower; to compare).",
    ),
    Setting(
        "AMBIENT_TARGET_LUFS",
        "-20",
        _number(-40, -10),
        "a number from -40 to -10",
        "How loud finished clips are, in LUFS: -40 (quiet) to -10 (loud).",
    ),
    Setting(
        "AMBIENT_MAX_DURATION_S",
        "600",
        _number(2, 600),
        "a number from 2 to 600",
        "The longest clip a person may ask for, in seconds: 2 to 600.",
    ),
    Setting(
        "AMBIENT_MAX_PENDING_PER_USER",
        "3",
        _whole_number(1, 50),
        "a whole number from 1 to 50",
        "How many unfinished requests one person may have: 1 to 50.",
    ),
    Setting(
        "AMBIENT_MAX_PENDING",
        "50",
        _whole_number(1, 1000),
        "a whole number from 1 to 1000",
        "How many unfinished requests there may be in all: 1 to 1000.",
    ),
    Setting(
        "AMBIENT_MAX_CLIPS_MIB",
        "2048",
        _whole_number(50, 1_000_000),
        "a whole number from 50 to 1000000",
        "Disk space for finished clips, in MiB: 50 to 1000000; beyond it the oldest go.",
    ),
    Setting(
        "AMBIENT_MAX_STEMS_MIB",
        "1024",
        _whole_number(0, 1_000_000),
        "a whole number from 0 to 1000000",
        "Disk space for layers kept so that a mix can be changed at once, in MiB: 0 to 1000000; the least used go.",
    ),
    Setting(
        "AMBIENT_LOG_LEVEL",
        "INFO",
        _log_level,
        "DEBUG, INFO, WARNING or ERROR",
        "What the log tells: DEBUG (also descriptions), INFO, WARNING or ERROR.",
    ),
)
