"""Interaction tokens that end while a sound is made, and what is private."""

from __future__ import annotations

from typing import Any

import pytest

from wire.world import DEAD_S, DIES_SOON_S, SLOW, Place, World, description, job_id, names, refusal

pytestmark = pytest.mark.wire
#: Long enough that a token with two seconds left dies while it renders.
_OUTLIVES_ITS_TOKEN: dict[str, Any] = {**SLOW, "duration": 40}


def test_a_live_token_brings_the_sound(world: World, place: Place) -> None:
    """While the token lives, nothing is sent through the channel, and at the end the token is erased."""
    message = world.make(place.ann, place.channel)
    world.wait_until_delivered(job_id(message))
    assert not world.control.requests(match="* /channels/*")
    assert world.bot.row(job_id(message))["interaction_token"] is None


def test_a_public_card_outlives_its_token(world: World, place: Place) -> None:
    """After the token's end the same card is edited through the channel, with the clip."""
    record = world.ask(place.ann, place.channel, backdate=DIES_SOON_S, **_OUTLIVES_ITS_TOKEN)
    message = world.sound(record)
    assert message["id"] == record["message"]["id"]
    assert len(names(message)) == 2
    assert len(world.messages(place.channel)) == 1
    (edit,) = world.control.requests(match=f"PATCH /channels/{place.channel}/messages/*")
    assert [name for _, name, _ in edit["files"]] == names(message)
    world.wait_until_delivered(job_id(message))


def test_a_failure_reaches_the_card_after_the_token(world: World, place: Place) -> None:
    """A cancelled sound says so on its card also when the token is gone."""
    record = world.ask(place.ann, place.channel, backdate=DEAD_S, **SLOW)
    world.press(record["message"], "Cancel", place.ann)
    world.until(lambda: "Cancelled." in description(world.messages(place.channel)[0]))
    assert len(world.messages(place.channel)) == 1


def test_a_private_sound_stays_private(world: World, place: Place) -> None:
    """A private sound is shown to its asker alone, who alone can see it by its id."""
    message = world.make(place.ann, place.channel, private=True)
    found = job_id(message)
    world.wait_until_delivered(found)
    assert message["ephemeral"]
    _assert_nothing_in_channels(world, place)

    reason = "There is no sound of that id here."
    for user in (place.bob, place.moderator):
        assert reason in refusal(world.command("show", user, place.channel, id=found))
        assert reason in refusal(world.command("preset save", user, place.channel, name="Mine", id=found))
    shown = world.sound(world.command("show", place.ann, place.other_channel, id=names(message)[0]))
    assert shown["ephemeral"]
    assert names(shown) == names(message)


@pytest.mark.parametrize("backdate", [DEAD_S, DIES_SOON_S], ids=["at once", "while it renders"])
def test_a_private_sound_waits_under_history(world: World, place: Place, backdate: float) -> None:
    """After the token's end a private sound never reaches the channel; the history brings it."""
    options = _OUTLIVES_ITS_TOKEN if backdate == DIES_SOON_S else {}
    record = world.ask(place.ann, place.channel, private=True, backdate=backdate, **options)
    found = job_id(record["message"])
    world.wait_until_delivered(found, "kept")
    _assert_nothing_in_channels(world, place)
    assert not [message for message in world.messages(place.channel) if message["attachments"]]

    history = world.command("history", place.ann, place.other_channel)["message"]
    assert history["ephemeral"]
    assert "waits for you" in description(history)
    reply = world.choose_in_history(place.ann, place.other_channel, found)
    assert reply["ephemeral"]
    assert len(names(reply)) == 2
    assert job_id(reply) == found
    world.wait_until_delivered(found)
    assert "waits for you" not in description(world.command("history", place.ann, place.channel)["message"])
    _assert_nothing_in_channels(world, place)


def test_a_private_sound_is_hidden_in_the_queue(world: World, place: Place) -> None:
    """The queue card names no private scene to others."""
    running = world.ask(place.ann, place.channel, private=True, **SLOW)
    world.until(lambda: "🎧" in description(world.command("queue", place.bob, place.channel)["message"]))
    theirs = description(world.command("queue", place.bob, place.channel)["message"])
    assert "birdsong" not in theirs
    assert place.ann not in theirs
    assert "a sound for someone" in theirs
    assert "birdsong" in description(world.command("queue", place.ann, place.channel)["message"])
    world.press(running["message"], "Cancel", place.ann)
    world.wait_until_delivered(job_id(running["message"]))


def _assert_nothing_in_channels(world: World, place: Place) -> None:
    assert not world.public(place.channel, place.other_channel)
    for method in ("POST", "PATCH", "PUT"):
        assert not world.control.requests(match=f"{method} /channels/*")
