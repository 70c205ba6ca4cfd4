"""Discord and the network fail for a while; every sound is delivered exactly once."""

from __future__ import annotations

from typing import Any

import pytest

from wire.world import DEAD_S, SLOWER, Place, Record, World, job_id, names, refusal

pytestmark = pytest.mark.wire

_FAULTS: dict[str, dict[str, Any]] = {
    "rate limit": {"kind": "429", "retry_after": 0.3, "times": 3},
    "500": {"kind": "status", "status": 500, "times": 2},
    "502": {"kind": "status", "status": 502, "times": 1},
    "503": {"kind": "status", "status": 503, "times": 1},
    "drop": {"kind": "drop", "times": 1},
    "lost reply": {"kind": "lost_reply", "times": 1},
    "html": {"kind": "html", "status": 502, "times": 1},
    "cloudflare": {"kind": "cloudflare", "times": 1},
    "slow": {"kind": "slow", "delay": 2.0, "times": 1},
}


@pytest.mark.parametrize("fault", _FAULTS)
def test_the_final_edit_fails(world: World, place: Place, fault: str) -> None:
    """A failing final edit is made again, and there is one card with the clip."""
    world.control.fault(match="PATCH /webhooks/*", **_FAULTS[fault])
    message = world.make(place.ann, place.channel)
    _assert_delivered_once(world, place, job_id(message))


@pytest.mark.parametrize("fault", ["rate limit", "502", "lost reply", "html"])
def test_the_first_answer_fails(world: World, place: Place, fault: str) -> None:
    """A failing first answer costs no more than that: the sound comes, and comes once."""
    world.control.fault(match="POST /interactions/*", **{**_FAULTS[fault], "times": 1})
    message = world.sound(_ask_without_waiting(world, place))
    _assert_delivered_once(world, place, job_id(message))


@pytest.mark.parametrize("fault", ["drop", "cloudflare"])
def test_the_first_answer_is_lost(world: World, place: Place, fault: str) -> None:
    """Where Discord never got the first answer, the person gets the sound or is asked to try again."""
    # The bot cannot know that its answer never arrived, so it asks.
    world.expected_complaints = ["webhook_before_ack"]
    world.control.fault(match="POST /interactions/*", **_FAULTS[fault])
    record = world.control.interaction(id=_ask_without_waiting(world, place)["id"], wait="message")
    assert not record.get("timed_out")
    if record["ephemeral"]:
        assert "Please try again" in refusal(record)
        assert not world.public(place.channel)
    else:
        world.sound(record)


@pytest.mark.parametrize("fault", ["502", "drop", "lost reply", "html", "cloudflare"])
def test_the_edit_through_the_channel_fails(world: World, place: Place, fault: str) -> None:
    """Without a token, the edit through the channel is made again too."""
    world.control.fault(match="PATCH /channels/*", **_FAULTS[fault])
    message = world.make(place.ann, place.channel, backdate=DEAD_S)
    _assert_delivered_once(world, place, job_id(message))


@pytest.mark.parametrize("fault", ["502", "drop", "lost reply", "html", "cloudflare"])
def test_a_new_message_is_sent_once(world: World, place: Place, fault: str) -> None:
    """Where only a new message is left, a lost answer does not make it two."""
    world.control.fault(match="POST /channels/*", **_FAULTS[fault])
    record = world.ask(place.ann, place.channel, backdate=DEAD_S, scene="ocean waves", duration=10)
    world.delete(record["message"])
    found = job_id(record["message"])
    world.wait_until_delivered(found)
    _assert_delivered_once(world, place, found)


def test_failing_progress_edits_do_no_harm(world: World, place: Place) -> None:
    """Progress edits that fail in every way are forgotten, and the clip comes."""
    kinds: list[dict[str, Any]] = [{"kind": "drop"}, {"kind": "lost_reply"}, {"kind": "status", "status": 500}]
    record = world.ask(place.ann, place.channel, **SLOWER)
    for kind in kinds:
        world.control.fault(match="PATCH /webhooks/*", times=1, **kind)
    message = world.sound(record)
    _assert_delivered_once(world, place, job_id(message))


@pytest.mark.parametrize("fault", ["502", "drop"])
def test_delete_and_other_buttons_survive_a_fault(world: World, place: Place, fault: str) -> None:
    """A button whose answer fails for a moment still answers."""
    message = world.make(place.ann, place.channel)
    world.control.fault(match="POST /interactions/*", **{**_FAULTS[fault], "times": 1})
    record = world.control.press(message=message["id"], custom_id="label:Info", user=place.bob, wait="message")
    assert not record.get("timed_out")
    assert record["ephemeral"]


def _ask_without_waiting(world: World, place: Place) -> Record:
    return dict(
        world.control.invoke(
            command="ambient generate",
            user=place.ann,
            channel=place.channel,
            options={"scene": "white noise", "duration": 2},
            wait="none",
        )
    )


def _assert_delivered_once(world: World, place: Place, found: str) -> None:
    world.wait_until_delivered(found)
    (card,) = world.of_job(found, place.channel, place.other_channel)
    assert len(names(card)) == 2
    assert len(world.public(place.channel, place.other_channel)) == 1
