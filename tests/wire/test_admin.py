"""What a server's moderators decide, over the wire: limits, pause, queue, cancel and block, each answered privately."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from typing import Any

import pytest

from wire.world import (
    MANAGE_MESSAGES,
    SLOW,
    SLOWER,
    Place,
    Record,
    World,
    description,
    embed,
    fields,
    footer,
    job_id,
    labels,
    names,
    refusal,
)

pytestmark = pytest.mark.wire

_MANAGE_GUILD = 1 << 5
#: Long enough to be under way until it is cancelled.
_LONG = {**SLOW, "duration": 300}


@pytest.fixture
def place(world: World) -> Place:
    """A server of this test's own, whose moderator may manage it."""
    place = world.new_place()
    world.control.set_perms(channel=place.channel, id=place.moderator, allow=_MANAGE_GUILD | MANAGE_MESSAGES)
    return place


def _admin(world: World, place: Place, path: str, **options: Any) -> Record:
    """`/ambient-admin PATH` by the moderator; its answer is private."""
    record = world.control.invoke(
        command=f"ambient-admin {path}", user=place.moderator, channel=place.channel, options=options, wait="message"
    )
    assert not record.get("timed_out"), record
    assert record["ephemeral"]
    return dict(record)


def _acts(world: World, place: Place) -> list[tuple[str, str | None]]:
    """What was recorded in a server, the oldest first: act and target."""
    address = f"file:{world.bot.folder}/data/ambient.db?mode=ro"
    with contextlib.closing(sqlite3.connect(address, uri=True)) as connection:
        return connection.execute(
            "SELECT act, target FROM moderator_acts WHERE guild_id = ? ORDER BY id", (int(place.guild),)
        ).fetchall()


def test_who_has_the_commands(world: World, place: Place) -> None:
    """Discord was told that they are for who may manage the server, and in servers only."""
    with pytest.raises(world.refused, match="default_member_permissions"):
        world.control.invoke(command="ambient-admin queue", user=place.ann, channel=place.channel)
    direct = world.control.dm(user=place.moderator)["id"]
    with pytest.raises(world.refused, match="not offered"):
        world.control.invoke(command="ambient-admin queue", user=place.moderator, channel=direct)


def test_limits_hold_at_once(world: World, place: Place) -> None:
    """What is set is shown and holds for the next request; a reset lifts it; the server next door never notices."""
    shown = description(_admin(world, place, "limits", duration=3, pending=1, seconds_per_day=5)["message"])
    assert "longest sound: **3 s**" in shown
    assert "from 2 to 3 seconds" in refusal(world.ask(place.ann, place.channel, duration=4))
    elsewhere = world.new_place()
    assert names(world.make(elsewhere.ann, elsewhere.channel, duration=4))

    message = world.make(place.ann, place.channel, duration=3)
    said = refusal(world.press(message, "Again", place.ann))
    assert "Of your 5 s of sound in 24 hours, 3 s are used" in said
    assert "up to 2 s fits now" in said
    assert names(world.make(place.ann, place.channel, duration=2))
    assert names(world.make(place.bob, place.channel, duration=3))

    _admin(world, place, "limits", reset=True)
    assert names(world.make(place.ann, place.channel, duration=4))
    assert _acts(world, place) == [("limits", None), ("limits", None)]


def test_a_cancelled_wait_is_given_back(world: World, place: Place) -> None:
    """A sound that was cancelled before its start costs nothing of the day."""
    _admin(world, place, "limits", server_seconds_per_day=640)
    running = [world.ask(place.ann, place.channel, **_LONG) for _ in range(2)]
    waiting = job_id(world.ask(place.bob, place.channel, duration=20)["message"])
    assert "Of this server's 640 s" in refusal(world.ask(place.bob, place.channel, duration=30))
    _admin(world, place, "cancel", job=waiting)
    world.until(lambda: world.bot.row(waiting)["status"] == "cancelled")
    assert world.bot.row(waiting)["started_at"] is None
    again = world.ask(place.bob, place.channel, duration=30)
    for record in running:
        world.press(record["message"], "Cancel", place.ann)
    assert names(world.sound(again))


def test_limits_survive_a_restart(own_world: World) -> None:
    """Limits, pause and what was used today are there after the bot was stopped and started again."""
    world = own_world
    world.start()
    place = world.new_place()
    world.control.set_perms(channel=place.channel, id=place.moderator, allow=_MANAGE_GUILD | MANAGE_MESSAGES)
    _admin(world, place, "limits", seconds_per_day=3)
    world.make(place.ann, place.channel, duration=2)
    _admin(world, place, "block", user=place.bob)
    world.restart()
    assert "2 s are used" in refusal(world.ask(place.ann, place.channel, duration=2))
    assert "blocked you" in refusal(world.ask(place.bob, place.channel))
    _admin(world, place, "pause", reason="Back at nine")
    world.restart()
    assert "Back at nine" in refusal(world.ask(place.ann, place.channel))
    _admin(world, place, "resume")
    _admin(world, place, "limits", reset=True)
    assert names(world.make(place.ann, place.channel))


def test_a_paused_server(world: World, place: Place) -> None:
    """New sounds are refused privately without a ping, what runs goes on, and other servers do not notice."""
    running = world.ask(place.ann, place.channel, **SLOW)
    _admin(world, place, "pause", reason=f"@everyone <@{place.bob}>")
    record = world.ask(place.bob, place.channel)
    assert "paused new sounds <t:" in refusal(record)
    assert not record["message"]["mention_everyone"]
    assert not record["message"]["mentions"]
    elsewhere = world.new_place()
    assert names(world.make(elsewhere.ann, elsewhere.channel))
    direct = world.control.dm(user=place.bob)["id"]
    assert names(world.make(place.bob, direct))
    assert names(world.sound(running))
    _admin(world, place, "resume")
    assert names(world.make(place.bob, place.channel))


def test_a_blocked_person(world: World, place: Place) -> None:
    """A blocked person is refused here, not elsewhere, until the block is taken back."""
    message = world.make(place.bob, place.channel)
    answer = _admin(world, place, "block", user=place.bob, reason="spam")["message"]
    assert f"<@{place.bob}>" in answer["content"]
    assert not answer["mentions"]
    for refused in (world.ask(place.bob, place.channel), world.press(message, "Again", place.bob)):
        assert "have blocked you" in refusal(refused)
    assert fields(_admin(world, place, "limits")["message"])["Blocked"] == f"<@{place.bob}>"
    direct = world.control.dm(user=place.bob)["id"]
    assert names(world.make(place.bob, direct))
    _admin(world, place, "unblock", user=place.bob)
    assert names(world.make(place.bob, place.channel))
    assert _acts(world, place) == [("block", place.bob), ("unblock", place.bob)]


def test_the_queue_and_cancel(world: World, place: Place) -> None:
    """The panel names this server's sounds in pages of ten, and any of them can be cancelled by its id."""
    elsewhere = world.new_place()
    people = (elsewhere.ann, elsewhere.ann, elsewhere.bob)
    foreign = [world.ask(user, elsewhere.channel, **_LONG) for user in people[:2]]
    foreign.append(world.ask(people[2], elsewhere.channel, scene="a secret wind", private=True))
    # Nothing of this server comes before the two long ones end, which they do not.
    mine = [world.ask(user, place.channel, **SLOW) for _ in range(3) for user in (place.ann, place.bob)]
    mine += [world.ask(place.moderator, place.channel, private=True, scene="night wind") for _ in range(3)]
    panel = _admin(world, place, "queue")["message"]
    assert embed(panel)["title"] == "Queue of this server"
    shown = [line.split("`")[1] for line in description(panel).splitlines()]
    assert sorted(shown) == sorted(job_id(record["message"]) for record in mine)
    assert "secret" not in json.dumps(panel)
    assert labels(panel) == []

    choices = world.control.autocomplete(
        command="ambient-admin cancel", option="job", value="RAIN, wind", user=place.moderator, channel=place.channel
    )["choices"]
    assert {choice["value"] for choice in choices} == {job_id(record["message"]) for record in mine[:6]}
    for record in foreign:
        assert "No sound of that id" in refusal(_admin(world, place, "cancel", job=job_id(record["message"])))
    for number, record in enumerate(mine):
        said = _admin(world, place, "cancel", job=job_id(record["message"]))["message"]["content"]
        assert said.startswith("Cancelled “night wind”" if number >= 6 else "Cancelled “rain, wind")
    card = mine[1]["message"]
    world.until(lambda: world.bot.row(job_id(card))["delivery_state"] == "delivered")
    message = next(message for message in world.messages(place.channel) if message["id"] == card["id"])
    assert "Cancelled." in description(message)
    assert labels(message) == []
    # One's own cancelling is no moderator's act.
    assert _acts(world, place) == [("cancel", job_id(record["message"])) for record in mine[:6]]
    for user, record in zip(people, foreign, strict=True):
        world.press(record["message"], "Cancel", user)


def test_the_queue_has_pages(own_world: World) -> None:
    """The buttons turn the panel in place, also after a restart."""
    world = own_world
    environ = {"AMBIENT_MAX_PENDING_PER_USER": "20"}
    world.start(**environ)
    place = world.new_place()
    world.control.set_perms(channel=place.channel, id=place.moderator, allow=_MANAGE_GUILD | MANAGE_MESSAGES)
    found = {job_id(world.ask(place.ann, place.channel, **_LONG)["message"]) for _ in range(12)}
    panel = _admin(world, place, "queue")["message"]
    assert labels(panel) == ["◀ Back", "Next ▶"]
    with pytest.raises(world.refused, match="disabled"):
        world.press(panel, "◀ Back", place.moderator)
    first = {line.split("`")[1] for line in description(panel).splitlines()}
    turned = world.press(panel, "Next ▶", place.moderator)["message"]
    assert turned["id"] == panel["id"]
    rest = {line.split("`")[1] for line in description(turned).splitlines()}
    assert (len(first), len(rest), first | rest) == (10, 2, found)
    assert footer(turned).startswith("page 2 of 2 ·")
    assert world.bot.stop() == 0
    world.start(**environ)
    back = world.press(turned, "◀ Back", place.moderator)["message"]
    assert {line.split("`")[1] for line in description(back).splitlines()} < found
    assert footer(back).startswith("page 1 of 2 ·")


def test_manage_server_is_enough_to_press_cancel(world: World, place: Place) -> None:
    """Who may manage the server, but not its messages, cancels another's sound; a member does not."""
    world.control.set_perms(channel=place.channel, id=place.moderator, allow=_MANAGE_GUILD)
    running = world.ask(place.ann, place.channel, **SLOWER)
    assert f"<@{place.ann}>" in refusal(world.press(running["message"], "Cancel", place.bob))
    world.press(running["message"], "Cancel", place.moderator)
    world.until(lambda: world.bot.row(job_id(running["message"]))["status"] == "cancelled")
    assert _acts(world, place) == [("cancel", job_id(running["message"]))]
