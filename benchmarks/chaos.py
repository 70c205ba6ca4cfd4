"""Is anything lost, or brought twice, when the bot is killed again and again? The bot's own process, SIGKILL, loopback.

People ask, cancel, press “Again” and have cards deleted while the process is killed at random moments: anywhere, while
an outcome is on its way to Discord, or at the instant at which a card is shown. After the last start it may finish.

Held to: every request whose card was shown was brought exactly once, cancelled, failed with words, or kept for its
author where no way to them is left; the database passes its integrity check; the stand-in has nothing to complain of;
the log is clean. Some complaints are nobody's fault and left out: a killed process cannot acknowledge the interactions
that it had been sent less than the deadline ago (`no_ack`), the next one cannot know that these have no card
(`webhook_before_ack`), where the reply to an acknowledgement is lost on purpose a second one is tried (`double_ack`),
and a request is cut off in the middle (`ConnectionResetError`). The deadline is 15 s here instead of 3: what is tested
is not the pace.

Needs the Discord stand-in in the folder that AMBIENT_DISCORD_STANDIN names. The seed decides what people do and when
the kills come; where they meet the process is the machine's.

    python benchmarks/chaos.py [--kills 100] [--seed 1]
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import random
import re
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from wire.world import DEAD_S, Message, Place, World, description, footer, job_id, labels, names

_ACK_DEADLINE_S = 15.0
#: So long people go on at most before a kill, and so long a kill waits for the moment it is meant for.
_LONGEST_LIFE_S, _MOMENT_WITHIN_S = 2.0, 4.0
_PAUSE_S = (0.02, 0.3)
_MAX_UNFINISHED = 8
_FINISH_WITHIN_S = 300.0
_SCENES = ({"scene": "white noise", "duration": 2}, {"scene": "rain and wind", "duration": 4})
_LONG = {"scene": "rain, wind, waves, a stream and birdsong", "duration": 15}
#: What a kill waits for: the requests that carry an outcome, and the one that shows a card.
_MOMENTS = {
    "delivery": ("PATCH /webhooks/*", "PATCH /channels/*/messages/*", "POST /channels/*/messages"),
    "card": ("POST /interactions/*/callback",),
}


@dataclass(frozen=True)
class _Life:
    """One process: which interactions it was sent, and when it was killed."""

    interactions: list[str]
    killed_at: float


class Chaos:
    """People who do not know that the bot is being killed.

    Args:
        world: the stand-in and the bot, not started yet.
        seed: what decides what they do.
    """

    def __init__(self, world: World, seed: int) -> None:
        self._world = world
        self._random = random.Random(seed)
        self._places = [world.new_place() for _ in range(3)]
        self._lives: list[_Life] = []
        self._sent: list[str] = []  # interactions of this life
        self._asked: list[str] = []  # interactions that ask for a sound
        self._accepted: set[str] = set()  # jobs whose card was shown
        self._too_late: set[str] = set()  # jobs whose card may have had its outcome when it was deleted
        self._exit_code: int | None = None
        self.counts: Counter[str] = Counter()
        world.control.config(ack_deadline=_ACK_DEADLINE_S)

    def live_and_die(self) -> None:
        """Start the process, let people act, and kill it."""
        control = self._world.control
        self._world.start()
        self._sent = []
        moment = self._random.choice(("any", "delivery", "card"))
        ends_at = time.time() + self._random.uniform(0.0, _LONGEST_LIFE_S)
        while time.time() < ends_at:
            self._act()
        if moment != "any":
            for match in _MOMENTS[moment]:
                control.fault(match=match, kind=self._random.choice(("slow", "lost_reply")), delay=0.5)
            gives_up_at = time.time() + _MOMENT_WITHIN_S
            while time.time() < gives_up_at and not self._is_moment(moment, since=ends_at):
                self._act()
            time.sleep(self._random.uniform(0.0, 0.05))
        self._world.bot.kill()
        killed_at = time.time()
        control.clear_faults()
        rows = self._world.bot.rows()
        self.counts[f"kills: {moment}"] += 1
        self.counts["kills while a sound was made"] += any(row["status"] == "running" for row in rows)
        self.counts["kills before a delivery was recorded"] += any(row["delivery_state"] == "pending" for row in rows)
        self._lives.append(_Life(self._sent, killed_at))

    def finish(self) -> None:
        """Start the process a last time, wait until nothing is left to do, and stop it in order."""
        self._world.start()
        with contextlib.suppress(TimeoutError):  # what is missing is told by `faults`
            self._world.until(self._has_settled, _FINISH_WITHIN_S)
        self._exit_code = self._world.bot.stop()

    def faults(self) -> list[str]:
        """What was not held, in words."""
        world = self._world
        self._look_at_cards()
        messages = world.messages(*(channel for place in self._places for channel in _channels(place)))
        cards: dict[str, list[Message]] = {}
        for message in messages:
            if " · " in footer(message):
                cards.setdefault(job_id(message), []).append(message)
        rows = {row["id"]: row for row in world.bot.rows()}
        found = [f"job {job}: its card was shown and it has no row" for job in self._accepted - rows.keys()]
        found += [f"job {job}: a card of a job that has no row" for job in cards.keys() - rows.keys()]
        for job, row in rows.items():
            found += [
                f"job {job}: {words}"
                for words in _faults_of(row, cards.get(job, []), may_be_gone=job in self._too_late)
            ]
            self.counts[f"jobs: {row['status']}, {row['delivery_state']}"] += 1
        self.counts["jobs"] = len(rows)
        self.counts["jobs whose card was never shown"] = len(rows.keys() - self._accepted)
        found += [] if self._exit_code == 0 else [f"the last stop had the exit code {self._exit_code}"]
        found += self._complaints()
        with contextlib.closing(sqlite3.connect(world.bot.folder / "data/ambient.db")) as connection:
            findings = [row[0] for row in connection.execute("PRAGMA integrity_check")]
        found += [f"integrity_check: {finding}" for finding in findings if finding != "ok"]
        found += [f"log: {line}" for line in world.bot.log.splitlines() if re.search(r" ERROR |Traceback", line)]
        found += [f"left over: {path.name}" for path in (world.bot.folder / "data/clips").glob("*.part*")]
        return found

    # ------------------------------------------------------------------ what people do

    def _act(self) -> None:
        time.sleep(self._random.uniform(*_PAUSE_S))
        place = self._random.choice(self._places)
        what = self._random.choices(("ask", "cancel", "again", "delete"), (6, 2, 1, 1))[0]
        if what == "ask":
            self._ask(place)
        else:
            self._press(place, what)

    def _ask(self, place: Place) -> None:
        if self._num_unfinished() >= _MAX_UNFINISHED:
            return
        options: dict[str, Any] = dict(self._random.choice((*_SCENES, *_SCENES, _LONG)))
        if self._random.random() < 0.2:
            options["private"] = True
        record = self._world.control.invoke(
            command="ambient generate",
            user=self._random.choice((place.ann, place.bob)),
            channel=self._random.choice((place.channel, place.other_channel)),
            options=options,
            # One in three is so old that its token cannot be used any more.
            backdate=self._random.choice((0.0, 0.0, DEAD_S)),
            wait="none",
        )
        self._sent.append(record["id"])
        self._asked.append(record["id"])

    def _press(self, place: Place, what: str) -> None:
        label = "Again" if what == "again" else "Cancel"
        shown = self._world.public(place.channel, place.other_channel)
        shown = [message for message in shown if message["components"] and label in labels(message)]
        if not shown or (what == "again" and self._num_unfinished() >= _MAX_UNFINISHED):
            return
        card = self._random.choice(shown)
        self.counts[f"acts: {what}"] += 1
        if what == "delete":  # by a moderator, as a message: the sound is still wanted
            self._accepted.add(job_id(card))
            self._world.delete(card)
            if self._world.bot.row(job_id(card))["status"] not in ("queued", "running"):
                self._too_late.add(job_id(card))
            return
        with contextlib.suppress(self._world.refused):  # the card changed under the finger
            record = self._world.control.press(
                message=card["id"], custom_id=f"label:{label}", user=place.moderator, wait="none"
            )
            self._sent.append(record["id"])
            if what == "again":
                self._asked.append(record["id"])

    # ------------------------------------------------------------------ looking

    def _num_unfinished(self) -> int:
        return sum(1 for row in self._world.bot.rows() if row["status"] in ("queued", "running"))

    def _is_moment(self, moment: str, *, since: float) -> bool:
        requests = [request for match in _MOMENTS[moment] for request in self._world.control.requests(match=match)]
        hit = [request for request in requests if request.get("fault") and request["t"] >= since]
        if moment == "delivery":  # a progress edit has no word of attachments
            hit = [request for request in hit if request["files"] or "attachments" in (request["body"] or {})]
        return bool(hit)

    def _has_settled(self) -> bool:
        return all(row["delivery_state"] in ("delivered", "kept", "deleted") for row in self._world.bot.rows())

    def _look_at_cards(self) -> None:
        for interaction in self._asked:
            message = self._world.control.interaction(id=interaction)["message"]
            if message is not None and " · " in footer(message):
                self._accepted.add(job_id(message))

    def _complaints(self) -> list[str]:
        """What the stand-in complains of, without what a killed process cannot help."""
        excused = set()
        for life in self._lives:
            for interaction in life.interactions:
                record = self._world.control.interaction(id=interaction)
                if not record["acked"] and life.killed_at - record["dispatched"] < _ACK_DEADLINE_S:
                    excused.add(interaction)
        self.counts["interactions"] = sum(len(life.interactions) for life in self._lives)
        self.counts["interactions open at a kill"] = len(excused)
        callbacks = self._world.control.requests(match="POST /interactions/*/callback")
        lost = {request["path"].split("/")[2] for request in callbacks if request.get("fault") == "lost_reply"}
        helpless = {"no_ack": excused, "webhook_before_ack": excused, "double_ack": lost}
        found = []
        for complaint in self._world.control.judge():
            match = re.match(r"(\w+): interaction (\d+)", complaint)
            is_cut_off = complaint.startswith("server_bug") and "ConnectionResetError" in complaint
            if not is_cut_off and not (match and match[2] in helpless.get(match[1], ())):
                found.append(f"judge: {complaint}")
        return found


def run(standin: ModuleType, *, num_kills: int, seed: int) -> tuple[Counter[str], list[str]]:
    """Kill the bot so many times: what was counted, and what was not held."""
    with tempfile.TemporaryDirectory() as folder:
        settings = {"AMBIENT_MAX_PENDING_PER_USER": "50", "AMBIENT_MAX_PENDING": "500"}
        with World(standin, Path(folder), num_places=3, **settings) as world:
            chaos = Chaos(world, seed)
            for _ in range(num_kills):
                chaos.live_and_die()
            chaos.finish()
            faults = chaos.faults()
            if faults:
                print(world.bot.log, file=sys.stderr)
            return chaos.counts, faults


def main() -> int:
    """Print the counts; 1 if something is not held."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    folder = os.environ.get("AMBIENT_DISCORD_STANDIN")
    if folder is None:
        print("AMBIENT_DISCORD_STANDIN names no folder with a stand-in for Discord", file=sys.stderr)
        return 2
    started = time.monotonic()
    counts, faults = run(_standin(Path(folder)), num_kills=arguments.kills, seed=arguments.seed)
    for name, number in sorted(counts.items()):
        print(f"{name:<44}{number:>8}")
    print(f"{'seconds':<44}{time.monotonic() - started:>8.0f}")
    print(*faults, sep="\n")
    print(f"{len(faults)} faults")
    return 1 if faults else 0


def _standin(folder: Path) -> ModuleType:
    """The stand-in's client."""
    spec = importlib.util.spec_from_file_location("discord_standin_control", folder / "control.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _channels(place: Place) -> tuple[str, str]:
    return place.channel, place.other_channel


def _is_outcome(card: Message) -> bool:
    return bool(names(card)) or "⚠️" in description(card)


def _faults_of(row: dict[str, Any], cards: list[Message], *, may_be_gone: bool) -> list[str]:
    """What is wrong with the end of one job, whose outcome may have been deleted with its card."""
    status, delivery = row["status"], row["delivery_state"]
    if status not in ("done", "failed", "cancelled") or delivery not in ("delivered", "kept"):
        return [f"lost: {status}, {delivery}"]
    found = []
    num_sounds = sum(1 for card in cards if names(card))
    was_brought = delivery == "delivered" and (any(map(_is_outcome, cards)) or not may_be_gone)
    if num_sounds != (status == "done" and was_brought):
        found.append(f"{status}, {delivery}, and {num_sounds} messages with its sound")
    if status == "failed":
        num_words = sum(1 for card in cards if "⚠️" in description(card))
        if not row["error"] or num_words != was_brought:
            found.append(f"failed, {delivery}, and {num_words} messages that say so: {row['error']}")
    # Where a card is private, a dead token leaves no way to it.
    if not row["private"]:
        found += [f"{status}, {delivery}, and a card still waits" for card in cards if "Cancel" in labels(card)]
        if status != "cancelled" and delivery == "kept":
            found.append(f"{status}, and kept although it is public")
    return found


if __name__ == "__main__":
    sys.exit(main())
