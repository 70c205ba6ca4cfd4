"""Waiting, progress, cancelling, and whose turn it is."""

from __future__ import annotations

import pytest

from wire.world import SLOW, SLOWER, Place, World, description, fields, footer, job_id, labels, names, refusal

pytestmark = pytest.mark.wire


def test_a_card_shows_place_progress_and_clip(world: World, place: Place) -> None:
    """One and the same message shows the place in the queue, then a progress bar, then the clip."""
    ahead = world.ask(place.ann, place.channel, **{**SLOW, "duration": 10})
    record = world.ask(place.bob, place.channel, **SLOWER)
    card = record["message"]
    assert "**2nd** in the queue" in description(card)
    assert labels(card) == ["Cancel"]

    message = world.sound(record)
    shown = world.shown(card)
    running = [number for number, text in enumerate(shown) if "🎧" in text]
    assert running
    assert running == list(range(running[0], len(shown) - 1))
    assert any("░" in text or "█" in text for text in shown)
    assert "🎧" not in shown[-1]
    assert message["id"] == card["id"]
    assert len(names(message)) == 2
    assert world.sound(ahead)["id"] == ahead["message"]["id"]
    assert len(world.messages(place.channel)) == 2


def test_a_waiting_sound_is_cancelled(world: World, place: Place) -> None:
    """A waiting sound goes when its asker or a moderator says so, and nobody else."""
    running = world.ask(place.ann, place.channel, **SLOW)
    waiting = [world.ask(place.bob, place.channel) for _ in range(2)]

    assert f"<@{place.bob}>" in refusal(world.press(waiting[0]["message"], "Cancel", place.ann))
    for record, user in zip(waiting, (place.bob, place.moderator), strict=True):
        card = record["message"]
        assert world.press(card, "Cancel", user)["callback_type"] == 6
        world.until(lambda card=card: "Cancelled." in description(_now(world, place, card["id"])))
        message = _now(world, place, card["id"])
        assert labels(message) == []
        assert message["attachments"] == []
        assert world.bot.row(job_id(message))["status"] == "cancelled"
    assert len(names(world.sound(running))) == 2


def test_a_running_sound_is_cancelled(world: World, place: Place) -> None:
    """A sound that is being made stops at once, and the next one starts."""
    running = world.ask(place.ann, place.channel, scene=SLOW["scene"], duration=120)
    waiting = world.ask(place.bob, place.channel)
    world.wait_until_running(running["message"])

    assert f"<@{place.ann}>" in refusal(world.press(running["message"], "Cancel", place.bob))
    world.press(running["message"], "Cancel", place.ann)
    world.until(lambda: "Cancelled." in description(_now(world, place, running["message"]["id"])), 5)
    assert len(names(world.sound(waiting))) == 2
    assert not _now(world, place, running["message"]["id"])["attachments"]
    assert not list((world.bot.folder / "data/clips").glob(f"*{job_id(running['message'])}*"))


def test_two_at_once(world: World, place: Place) -> None:
    """Two people who ask at the same moment each get their own clip."""
    records = [world.ask(user, place.channel, seed=number) for number, user in enumerate((place.ann, place.bob), 1)]
    for number, (record, user) in enumerate(zip(records, (place.ann, place.bob), strict=True), 1):
        message = world.sound(record)
        assert f"<@{user}>" in fields(message)["Sound"]
        assert footer(message).startswith(f"seed {number} · ")
        assert job_id(message) in names(message)[0]


def test_people_take_turns(world: World, place: Place) -> None:
    """Another person's first sound comes before the third of somebody who asked earlier."""
    mine = [world.ask(place.ann, place.channel, scene=SLOW["scene"], duration=10) for _ in range(3)]
    yours = world.ask(place.bob, place.channel)
    finished = [job_id(world.sound(record)) for record in (yours, mine[2])]
    order = sorted(world.bot.rows(), key=lambda row: row["finished_at"] or 0)
    assert [row["id"] for row in order if row["id"] in finished] == finished


def test_one_person_has_three_sounds_at_most(world: World, place: Place) -> None:
    """A fourth waiting sound of one person is refused privately, and another person is not."""
    mine = [world.ask(place.ann, place.channel, **SLOW) for _ in range(3)]
    refused = world.ask(place.ann, place.channel)
    assert "3 sounds in the queue" in refusal(refused)
    yours = world.ask(place.bob, place.channel)
    assert len(world.public(place.channel)) == 4
    for record in mine:
        world.press(record["message"], "Cancel", place.ann)
    assert names(world.sound(yours))
    assert names(world.make(place.ann, place.channel))


def _now(world: World, place: Place, message_id: str) -> dict[str, object]:
    return next(message for message in world.messages(place.channel) if message["id"] == message_id)
