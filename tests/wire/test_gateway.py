"""The gateway breaks off in the middle of a render."""

from __future__ import annotations

import pytest

from wire.world import Place, World, job_id, names

pytestmark = pytest.mark.wire


@pytest.mark.parametrize(
    ("action", "is_resumed"),
    [("reconnect", True), ("invalid_session_resumable", True), ("invalid_session", False), ("drop", True)],
)
def test_a_sound_survives_a_lost_connection(world: World, place: Place, action: str, is_resumed: bool) -> None:
    """However the connection ends, it comes back, and the sound arrives once."""
    before = world.control.state()
    record = world.ask(place.ann, place.channel, scene="rain, wind, waves, a stream and birdsong", duration=20)
    world.control.gateway(action=action)

    def connected_again() -> bool:
        now = world.control.state()
        return now["connected"] and now["resumes"] + now["identifies"] > before["resumes"] + before["identifies"]

    world.until(connected_again)
    assert (world.control.state()["resumes"] > before["resumes"]) is is_resumed
    message = world.sound(record)
    assert len(names(message)) == 2
    assert len(world.of_job(job_id(message), place.channel)) == 1
    assert world.command("queue", place.ann, place.channel)["ephemeral"]
    assert names(world.make(place.bob, place.channel))


def test_a_refused_resume_starts_anew(world: World, place: Place) -> None:
    """Where Discord forgot the session, the bot logs in again and its buttons work."""
    message = world.make(place.ann, place.channel)
    before = world.control.state()["identifies"]
    world.control.gateway(action="refuse_resume")
    world.control.gateway(action="drop")
    world.until(lambda: world.control.state()["identifies"] > before and world.control.state()["connected"])
    assert names(world.sound(world.press(message, "Again", place.bob)))
    assert len(world.control.requests(match="PUT /applications/*")) == 0
