"""Channels that take less than what is to be brought."""

from __future__ import annotations

import pytest

from wire.world import (
    ATTACH_FILES,
    DEAD_S,
    RESULT_LABELS,
    SEND_MESSAGES,
    SLOW,
    VIEW_CHANNEL,
    Message,
    Place,
    World,
    decode,
    description,
    fields,
    job_id,
    labels,
    names,
    refusal,
)

pytestmark = pytest.mark.wire
_TEN_MIB = 10 * 2**20


def test_a_channel_without_files_is_refused_at_once(world: World, place: Place) -> None:
    """Where the bot may not attach files it says so privately before anything is made; elsewhere it works."""
    world.allow(place.channel, deny=ATTACH_FILES)
    assert "attach files" in refusal(world.ask(place.ann, place.channel))
    assert not world.public(place.channel)
    assert names(world.make(place.ann, place.other_channel))
    world.allow(place.channel)
    assert names(world.make(place.ann, place.channel))


def test_files_forbidden_while_it_renders(world: World, place: Place) -> None:
    """If only a message without files is left, it says that the sound waits under the history."""
    record = world.ask(place.ann, place.channel, backdate=DEAD_S, **SLOW)
    world.delete(record["message"])
    world.allow(place.channel, deny=ATTACH_FILES)
    found = job_id(record["message"])
    (message,) = world.until(lambda: world.of_job(found, place.channel))
    assert "not allowed to attach files" in description(message)
    assert "/ambient history" in description(message)
    assert not message["attachments"]
    assert len(names(world.choose_in_history(place.ann, place.other_channel, found))) == 2


@pytest.mark.parametrize("denied", [SEND_MESSAGES, VIEW_CHANNEL], ids=["send", "view"])
def test_a_closed_channel_keeps_it_under_history(world: World, place: Place, denied: int) -> None:
    """Where nothing can be sent any more, the sound waits under the history."""
    record = world.ask(place.ann, place.channel, backdate=DEAD_S, **SLOW)
    world.delete(record["message"])
    world.allow(place.channel, deny=denied)
    found = job_id(record["message"])
    world.wait_until_delivered(found, "kept")
    assert not world.public(place.channel)
    history = world.command("history", place.ann, place.other_channel)["message"]
    assert "waits for you" in description(history)
    assert len(names(world.choose_in_history(place.ann, place.other_channel, found))) == 2


@pytest.mark.parametrize("backdate", [0, DEAD_S], ids=["token lives", "token dead"])
def test_a_deleted_card_is_replaced(world: World, place: Place, backdate: float) -> None:
    """If somebody deleted the waiting card, one new message brings the clip, and its buttons work."""
    record = world.ask(place.ann, place.channel, backdate=backdate, **SLOW)
    world.delete(record["message"])
    found = job_id(record["message"])
    (message,) = world.until(lambda: world.of_job(found, place.channel))
    assert len(names(message)) == 2
    assert [label for label in labels(message) if label != "Mix"] == RESULT_LABELS  # SLOW has several layers
    world.wait_until_delivered(found)
    assert len(world.messages(place.channel)) == 1
    world.press(message, "Delete", place.ann)
    world.until(lambda: not world.messages(place.channel))


def test_a_card_deleted_while_it_waits(world: World, place: Place) -> None:
    """A waiting sound whose card was deleted is made and brought all the same."""
    running = world.ask(place.ann, place.channel, scene="rain and wind", duration=20)
    record = world.ask(place.bob, place.channel)
    world.delete(record["message"])
    (message,) = world.until(lambda: world.of_job(job_id(record["message"]), place.channel))
    assert len(names(message)) == 2
    assert names(world.sound(running))


def test_a_file_too_large_is_made_smaller(world: World, place: Place) -> None:
    """A file that does not fit the upload limit arrives smaller, and the card says so."""
    message = world.make(place.ann, place.channel, duration=60, format="wav")
    _assert_shrunk(world, message, "wav", 60)


def test_a_file_too_large_for_the_channel_alone(world: World, place: Place) -> None:
    """What the asker's own limit allows but the channel's does not arrives smaller after the token's end."""
    record = world.ask(place.ann, place.channel, duration=120, format="flac", limit=50 * 2**20, backdate=DEAD_S)
    _assert_shrunk(world, world.sound(record), "flac", 120)


def test_a_larger_limit_is_used(world: World, place: Place) -> None:
    """Who may upload more gets the file as asked."""
    record = world.ask(place.ann, place.channel, duration=60, format="wav", limit=50 * 2**20)
    message = world.sound(record)
    assert names(message)[0].endswith(".wav")
    assert message["attachments"][0]["size"] > _TEN_MIB


def _assert_shrunk(world: World, message: Message, asked: str, duration_s: int) -> None:
    sound = message["attachments"][0]
    assert sound["size"] <= _TEN_MIB
    assert sound["filename"].endswith(".ogg")
    assert f"made smaller than asked ({asked})" in fields(message)["Good to know"]
    assert "opus" in fields(message)["Sound"]
    samples, rate = decode(world, message)
    assert abs(len(samples) - duration_s * rate) <= 1
