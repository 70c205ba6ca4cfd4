"""A clip arrives, and it is what was asked for."""

from __future__ import annotations

import numpy as np
import pyloudnorm
import pytest

from wire.world import (
    RESULT_LABELS,
    Place,
    World,
    decode,
    description,
    embed,
    fields,
    footer,
    job_id,
    labels,
    names,
    seed,
)

pytestmark = pytest.mark.wire


def test_a_clip_arrives_as_asked(world: World, place: Place) -> None:
    """Length, loudness, names, picture and every line of the card are those of the request."""
    record = world.ask(place.ann, place.channel, scene="gentle rain on a window", duration=3, seed=7)
    message = world.sound(record)

    assert record["ack_latency"] < 1.0
    assert record["callback_type"] == 4
    found = job_id(message)
    assert names(message) == [f"ambient-{found}-7.ogg", f"ambient-{found}-7.png"]
    samples, rate = decode(world, message)
    assert rate == 48000
    assert samples.shape[1] == 2
    assert abs(len(samples) - 3 * rate) <= 1
    assert pyloudnorm.Meter(rate).integrated_loudness(samples) == pytest.approx(-20, abs=0.5)
    picture = message["attachments"][1]
    assert world.control.file(picture["id"]).startswith(b"\x89PNG\r\n\x1a\n")
    assert picture["filename"] in embed(message)["image"]["url"]
    assert all("gentle rain on a window" in attachment["description"] for attachment in message["attachments"])
    assert description(message) == "> gentle rain on a window"
    assert fields(message)["Made of"] == "• light rain on a window · bed by procedural"
    for part in ("3.0 s", "-20.", "LUFS", "dBTP", "opus", "KiB", "engine procedural", f"<@{place.ann}>"):
        assert part in fields(message)["Sound"]
    assert footer(message) == f"seed 7 · {found}"
    assert labels(message) == RESULT_LABELS
    assert len(world.messages(place.channel)) == 1


def test_the_same_seed_gives_the_same_sound(world: World, place: Place) -> None:
    """A seed repeats a sound to the sample, and another one does not."""
    first, again, other = (
        decode(world, world.make(place.ann, place.channel, scene="ocean waves", seed=number))[0]
        for number in (4242, 4242, 4243)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_seed_is_chosen_if_none_is_given(world: World, place: Place) -> None:
    """Without a seed each request gets one of its own, and the card shows it."""
    assert seed(world.make(place.ann, place.channel)) != seed(world.make(place.ann, place.channel))


@pytest.mark.parametrize(
    ("file_format", "ending", "magic"),
    [("opus", "ogg", b"OggS"), ("mp3", "mp3", b""), ("flac", "flac", b"fLaC"), ("wav", "wav", b"RIFF")],
)
def test_each_format_arrives(world: World, place: Place, file_format: str, ending: str, magic: bytes) -> None:
    """Every format is a file of that kind, of exactly the asked length."""
    message = world.make(place.ann, place.channel, format=file_format, duration=5)
    sound = message["attachments"][0]
    assert sound["filename"] == f"ambient-{job_id(message)}-{seed(message)}.{ending}"
    assert world.control.file(sound["id"]).startswith(magic)
    samples, rate = decode(world, message)
    assert abs(len(samples) - 5 * rate) <= 1
    assert file_format in fields(message)["Sound"]


def test_a_loop_says_so(world: World, place: Place) -> None:
    """A loop's card tells that the end joins the beginning, and how to repeat it."""
    message = world.make(place.ann, place.channel, scene="ocean waves", duration=4, loop=True, seed=3)
    assert "4.0 s · loop" in fields(message)["Sound"]
    assert "the end joins the beginning; download it" in fields(message)["Good to know"]
    samples, rate = decode(world, message)
    assert abs(len(samples) - 4 * rate) <= 1


def test_options_an_engine_cannot_use_are_named(world: World, place: Place) -> None:
    """An option that this engine ignores is told on the card, not hidden."""
    message = world.make(place.ann, place.channel, steps=30, guidance_scale=5, negative_prompt="birds", quality="draft")
    note = fields(message)["Good to know"]
    assert "not used by procedural" in note
    for option in ("`steps`", "`guidance_scale`", "`negative_prompt`", "`quality`"):
        assert option in note
