"""A Discord on loopback, the bot as its own process, and what a test does and sees there."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import soundfile

REPOSITORY = Path(__file__).parents[2]
ATTACH_FILES, SEND_MESSAGES, VIEW_CHANNEL, MANAGE_MESSAGES = 1 << 15, 1 << 11, 1 << 10, 1 << 13
#: Rendering takes a second or two.
SLOW = {"scene": "rain, wind, waves, a stream and birdsong", "duration": 20}
#: Past 60 s of sound a procedural take also reports how far it is.
SLOWER = {**SLOW, "duration": 65}
RESULT_LABELS = ["Again", "Edit", "Save preset", "Info", "Delete"]
#: Backdated by this much, a token has about 2 s left before the bot stops using it.
DIES_SOON_S = 893
#: Backdated by this much, the bot no longer uses the token at all.
DEAD_S = 896
_TOKEN_IN_PATH = re.compile(r"^/(?:interactions|webhooks)/\d+/([^/]+)")
_TIMEOUT_S = 25.0

Message = dict[str, Any]
Record = dict[str, Any]


class Bot:
    """The bot's process and its data folder.

    Args:
        folder: its working folder; the data folder lies in it.
        environ: what it finds in its environment besides the machine's own.
    """

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        self.folder = folder
        self.log_path = folder / "bot.log"
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("AMBIENT_", "DISCORD_"))}
        self.environ = {**kept, "PYTHONWARNINGS": "error::ResourceWarning", "AMBIENT_MODEL": "none", **environ}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, **environ: str) -> None:
        """Start the process; the log goes on in the same file."""
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "bot"],
                cwd=self.folder,
                env={**self.environ, **environ},
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def run(self, **environ: str) -> tuple[int, str]:
        """Start a process that is expected to end by itself: its exit code and what it said."""
        done = subprocess.run(
            [sys.executable, "-m", "bot"],
            cwd=self.folder,
            env={**self.environ, **environ},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        return done.returncode, done.stderr + done.stdout

    def stop(self) -> int:
        """SIGTERM; the exit code, which must come within 10 s."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(10)

    def kill(self) -> None:
        """SIGKILL, as a power cut would."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    @property
    def log(self) -> str:
        """Everything it said so far."""
        return self.log_path.read_text("utf-8") if self.log_path.exists() else ""

    def rows(self) -> list[dict[str, Any]]:
        """The table of jobs, the oldest first."""
        with contextlib.closing(sqlite3.connect(f"file:{self.folder}/data/ambient.db?mode=ro", uri=True)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute("SELECT * FROM jobs ORDER BY created_at, rowid")]

    def row(self, job_id: str) -> dict[str, Any]:
        """A job's row."""
        return next(row for row in self.rows() if row["id"] == job_id)


@dataclass(frozen=True)
class Place:
    """A server of one test alone: two members and a moderator, two channels, and one that Bob cannot read."""

    guild: str
    channel: str
    other_channel: str
    hidden_channel: str
    ann: str
    bob: str
    moderator: str


class World:
    """The stand-in and its bot.

    Args:
        standin: the stand-in's module `control`.
        folder: the bot's working folder.
        num_places: servers the bot finds when it connects.
        environ: settings for the bot.
    """

    def __init__(self, standin: ModuleType, folder: Path, *, num_places: int = 2, **environ: str) -> None:
        shim = Path(standin.__file__ or "").parent
        self.server = standin.Server("--openapi", str(shim / "openapi.json"))
        self.control = self.server.control
        self.refused: type[Exception] = standin.Refused
        self.bot_id: str = self.server.info["app_id"]
        path = os.pathsep.join([self.server.bot_env()["PYTHONPATH"], str(REPOSITORY)])
        self.bot = Bot(folder, {**self.server.bot_env(), "PYTHONPATH": path, **environ})
        self._places = [self._make_place(number) for number in range(num_places)]
        self._known_complaints: list[str] = []
        self._tokens: set[str] = set()
        self._log_checked = 0
        self.expected_errors: list[str] = []
        self.expected_complaints: list[str] = []

    def __enter__(self) -> World:
        return self

    def __exit__(self, *_: object) -> None:
        if self.bot.process is not None and self.bot.process.poll() is None:
            self.bot.kill()
        self.server.stop()
        self.server.p.stdout.close()

    def start(self, **environ: str) -> None:
        """Start the bot and wait until it can be used."""
        already = self.bot.log.count("connected as")
        self.bot.start(**environ)
        self.until(lambda: self.bot.log.count("connected as") > already or self._has_ended())
        assert not self._has_ended(), self.bot.log

    def restart(self) -> None:
        """Stop in order, and start again in the same data folder."""
        assert self.bot.stop() == 0
        self.start()

    def new_place(self) -> Place:
        """A server that no test has used yet."""
        return self._places.pop()

    def until(self, look: Callable[[], Any], timeout_s: float = _TIMEOUT_S) -> Any:
        """Wait until `look` finds something."""
        return self.control.until(look, timeout_s)

    # ------------------------------------------------------------------ what people do

    def command(self, path: str, user: str, channel: str, **options: Any) -> Record:
        """`/ambient PATH`, answered."""
        record = self.control.invoke(
            command=f"ambient {path}", user=user, channel=channel, options=options, wait="message"
        )
        assert not record.get("timed_out"), record
        return dict(record)

    def ask(
        self, user: str, channel: str, *, backdate: float = 0.0, limit: int | None = None, **options: Any
    ) -> Record:
        """`/ambient generate`, with its first answer; without options two seconds of white noise."""
        given = {"scene": "white noise", "duration": 2} | options
        record = self.control.invoke(
            command="ambient generate",
            user=user,
            channel=channel,
            options={name: value for name, value in given.items() if value is not None},
            backdate=backdate,
            attachment_size_limit=limit,
            wait="message",
        )
        assert not record.get("timed_out"), record
        return dict(record)

    def sound(self, record: Record) -> Message:
        """The card with the clip that a request's card becomes."""
        done = self.control.interaction(id=record["id"], wait="message", wait_attachment=True, timeout=_TIMEOUT_S)
        assert not done.get("timed_out"), done["message"]
        return dict(done["message"])

    def make(self, user: str, channel: str, **options: Any) -> Message:
        """`ask`, and the card with the clip."""
        return self.sound(self.ask(user, channel, **options))

    def press(self, message: Message, label: str, user: str) -> Record:
        """Press a button, answered."""
        record = self.control.press(message=message["id"], custom_id=f"label:{label}", user=user)
        assert not record.get("timed_out"), record
        return dict(record)

    def submit(self, record: Record, **values: str) -> Record:
        """Send the form that a button opened, answered."""
        answer = self.control.modal(interaction=record["id"], values=values, wait="message")
        assert not answer.get("timed_out"), answer
        return dict(answer)

    def choose_in_history(self, user: str, channel: str, job_id: str) -> Message:
        """`/ambient history` and a choice in its menu: the private answer."""
        shown = self.command("history", user, channel)["message"]
        record = self.control.press(
            message=shown["id"],
            custom_id="ambient:replay:*",
            user=user,
            values=[job_id],
            wait="message",
            timeout=_TIMEOUT_S,
        )
        assert not record.get("timed_out"), record
        return dict(record["message"])

    def allow(self, channel: str, *, deny: int = 0) -> None:
        """Take permissions away from the bot in a channel; without `deny`, give all of them back."""
        self.control.set_perms(channel=channel, id=self.bot_id, deny=deny)

    def delete(self, message: Message) -> None:
        """Delete a message of the bot's, as a moderator would."""
        request = urllib.request.Request(  # noqa: S310 - the stand-in's own address
            f"{self.server.info['api']}/channels/{message['channel_id']}/messages/{message['id']}",
            method="DELETE",
            headers={"Authorization": f"Bot {self.server.info['token']}", "User-Agent": "DiscordBot (test)"},
        )
        with urllib.request.urlopen(request, timeout=10):  # noqa: S310 - likewise
            pass

    # ------------------------------------------------------------------ what is there

    def messages(self, *channels: str) -> list[Message]:
        """All messages of these channels, private ones included."""
        return [message for channel in channels for message in self.control.messages(channel=channel)]

    def public(self, *channels: str) -> list[Message]:
        """What everybody in these channels sees."""
        return [message for message in self.messages(*channels) if not message["ephemeral"]]

    def of_job(self, job_id: str, *channels: str) -> list[Message]:
        """The cards of one job."""
        return [card for card in self.messages(*channels) if footer(card).endswith(f" · {job_id}")]

    def shown(self, message: Message) -> list[str]:
        """What a card's description said after each edit through its token."""
        edits = self.control.requests(match=f"PATCH /webhooks/*/messages/{message['id']}")
        edits += self.control.requests(match="PATCH /webhooks/*/messages/@original")
        bodies = [edit["body"] or {} for edit in edits]
        return [body["embeds"][0].get("description", "") for body in bodies if body.get("embeds")]

    def wait_until_running(self, message: Message) -> None:
        """Wait until a card shows that its sound is being made."""
        self.until(lambda: any("🎧" in text for text in self.shown(message)))

    def wait_until_delivered(self, job_id: str, state: str = "delivered") -> None:
        """Wait until the bot has recorded the delivery."""
        self.until(lambda: self.bot.row(job_id)["delivery_state"] == state)

    # ------------------------------------------------------------------ after each test

    def check(self) -> None:
        """What must hold after every test: no complaint of Discord's, a clean log, no secret left anywhere."""
        self.control.clear_faults()
        requests = self.control.requests()
        found = [_TOKEN_IN_PATH.match(request["path"]) for request in requests]
        self._tokens |= {match[1] for match in found if match}
        complaints = self.control.judge()
        new = [complaint for complaint in complaints if complaint not in self._known_complaints]
        allowed, self.expected_complaints = self.expected_complaints, []
        new = [complaint for complaint in new if not any(text in complaint for text in allowed)]
        self._known_complaints = complaints
        self.control.forget()
        log = self.bot.log
        part, self._log_checked = log[self._log_checked :], len(log)
        expected, self.expected_errors = self.expected_errors, []
        errors = [line for line in part.splitlines() if re.search(r" ERROR |Traceback|ResourceWarning", line)]
        errors = [line for line in errors if not any(text in line for text in expected)]
        assert not new
        assert not errors, part
        assert self.server.info["token"] not in log
        assert not any(token in log for token in self._tokens)
        if "connected as" not in log:
            return
        ended = [row for row in self.bot.rows() if row["delivery_state"] in ("delivered", "kept", "deleted")]
        assert not [row["id"] for row in ended if row["interaction_token"] is not None]

    def _has_ended(self) -> bool:
        return self.bot.process is not None and self.bot.process.poll() is not None

    def _make_place(self, number: int) -> Place:
        ann, bob, moderator = (self.control.add_user(name=f"{name}{number}")["id"] for name in ("ann", "bob", "mo"))
        guild = self.control.add_guild(name=f"Lab {number}", members=[ann, bob, moderator])["id"]
        overwrites = [{"id": moderator, "type": 1, "allow": str(MANAGE_MESSAGES), "deny": "0"}]
        channel, other = (
            self.control.add_channel(guild=guild, name=name, overwrites=overwrites)["id"]
            for name in ("general", "other")
        )
        hide = {"id": bob, "type": 1, "allow": "0", "deny": str(VIEW_CHANNEL)}
        hidden = self.control.add_channel(guild=guild, name="hidden", overwrites=[*overwrites, hide])["id"]
        return Place(guild, channel, other, hidden, ann, bob, moderator)


# ---------------------------------------------------------------------- reading messages


def embed(message: Message) -> dict[str, Any]:
    """A card's embed."""
    return dict(message["embeds"][0])


def description(message: Message) -> str:
    """A card's description."""
    return str(embed(message).get("description", ""))


def fields(message: Message) -> dict[str, str]:
    """A card's fields by name."""
    return {field["name"]: field["value"] for field in embed(message).get("fields", [])}


def words(message: Message) -> str:
    """Everything there is to read in a message."""
    return message["content"] + json.dumps(message["embeds"], ensure_ascii=False)


def footer(message: Message) -> str:
    """The line at the bottom of a card; empty if there is none."""
    embeds = message["embeds"]
    return str(embeds[0].get("footer", {}).get("text", "")) if embeds else ""


def job_id(message: Message) -> str:
    """The id at the bottom of a card."""
    return footer(message).rsplit(" ", 1)[-1]


def seed(message: Message) -> int:
    """The seed at the bottom of a card."""
    return int(footer(message).split(" ")[1])


def labels(message: Message) -> list[str]:
    """The buttons under a message."""
    return [item["label"] for row in message["components"] for item in row["components"] if item["type"] == 2]


def names(message: Message) -> list[str]:
    """The names of the attached files."""
    return [attachment["filename"] for attachment in message["attachments"]]


def refusal(record: Record) -> str:
    """The words of a private refusal."""
    message = record["message"]
    assert message["ephemeral"]
    assert not message["attachments"]
    return str(message["content"])


def decode(world: World, message: Message) -> tuple[np.ndarray, int]:
    """A card's sound as anyone would hear it: samples and their rate."""
    sound = next(a for a in message["attachments"] if not a["filename"].endswith(".png"))
    samples, rate = soundfile.read(io.BytesIO(world.control.file(sound["id"])), dtype="float64", always_2d=True)
    return samples, rate
