"""The bot is killed while people use it: at one moment, and again and again."""

from __future__ import annotations

import subprocess
import sys

import pytest

from wire.world import DEAD_S, REPOSITORY, World, job_id, names

pytestmark = pytest.mark.wire


def test_a_card_that_was_not_written_down_is_found_again(own_world: World) -> None:
    """Killed between showing a card and writing down which it is, the bot brings the sound on that same card."""
    world, place = own_world, own_world.new_place()
    world.start()
    world.control.fault(match="POST /interactions/*/callback", kind="lost_reply", times=1)
    world.control.fault(match="GET /webhooks/*", kind="slow", delay=3)
    record = world.ask(place.ann, place.channel, backdate=DEAD_S)
    world.until(lambda: world.control.requests(match="GET /webhooks/*"))
    world.bot.kill()
    assert world.bot.row(job_id(record["message"]))["message_id"] is None
    world.control.clear_faults()
    world.start()
    message = world.sound(record)
    assert message["id"] == record["message"]["id"]
    assert len(names(message)) == 2
    world.wait_until_delivered(job_id(message))
    assert len(world.messages(place.channel)) == 1


@pytest.mark.usefixtures("standin")
def test_ten_kills_lose_and_double_nothing() -> None:
    """After ten kills at random moments every request whose card was shown has had its one outcome."""
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "benchmarks/chaos.py"), "--kills", "10"],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
