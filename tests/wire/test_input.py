"""What people type, as far as a Discord client lets it through."""

from __future__ import annotations

import pytest

from wire.world import Place, World, description, job_id, names, refusal

pytestmark = pytest.mark.wire


@pytest.mark.parametrize(
    ("scene", "reason"),
    [
        ("   ", "is empty"),
        ("\u200b\u200b\u200b\u200b", "is empty"),
        ("\x00\x01\x02\x03", "is empty"),
        ("🔥🔥🔥", "no words"),
        ("...---...", "no words"),
        ("1234567", "no words"),
        ("a\u200b\u200b\u200b", "too short"),
        ("a purple elephant", "try `"),
        ("без слов понятных", "try `"),
    ],
)
def test_a_scene_that_cannot_be_made_is_refused(world: World, place: Place, scene: str, reason: str) -> None:
    """The person reads privately what is wrong, and nothing is queued."""
    assert reason in refusal(world.ask(place.ann, place.channel, scene=scene))
    assert not world.public(place.channel)


def test_a_suggestion_works(world: World, place: Place) -> None:
    """What an unknown scene's answer suggests can be made."""
    words = refusal(world.ask(place.ann, place.channel, scene="a thondr"))
    suggestion = words.split("try `")[1].split("`")[0]
    assert "thunder" in suggestion
    assert names(world.make(place.ann, place.channel, scene=suggestion))


@pytest.mark.parametrize(
    "scene",
    [
        "rain " * 100,
        "*" * 490 + " rain",
        "@" * 490 + " rain",
        "gentle\x00 rain\u202e on\n\n a roof",
        "🔥 rain 🔥 " + "e\u0301" * 200,
        "rain ``` and `wind` ~~waves~~ ||stream|| # [x](http://example.com) > birds",
    ],
    ids=["longest", "markdown", "at signs", "control characters", "emoji and accents", "every markup"],
)
def test_an_odd_scene_is_made(world: World, place: Place, scene: str) -> None:
    """Long, marked-up and odd scenes are made, shown as they were typed, and every button answers."""
    message = world.make(place.ann, place.channel, scene=scene[:500])
    assert len(names(message)) == 2
    for command in ("history", "queue"):
        assert world.command(command, place.ann, place.channel)["ephemeral"]
    assert world.press(message, "Info", place.ann)["ephemeral"]
    for label in ("Edit", "Save preset"):
        assert world.press(message, label, place.ann)["modal"]
    assert names(world.choose_in_history(place.ann, place.channel, job_id(message))) == names(message)


def test_mentions_ping_nobody(world: World, place: Place) -> None:
    """A scene full of mentions pings nobody, neither while it waits nor when it is done."""
    scene = f"rain @everyone @here <@{place.bob}> <@&{place.guild}> and wind"
    record = world.ask(place.ann, place.channel, scene=scene)
    for message in (record["message"], world.sound(record)):
        assert not message["mentions"]
        assert not message["mention_everyone"]
        assert "@everyone" not in description(message)
    for body in [request["body"] for request in world.control.requests(match="P* /*")]:
        data = body.get("data", body)
        if "embeds" in data:
            assert data["allowed_mentions"]["parse"] == []


@pytest.mark.parametrize("name", ["nothing like it", "**@everyone**", "x" * 100])
def test_an_unknown_preset_is_refused(world: World, place: Place, name: str) -> None:
    """A preset that is not here is refused privately, by its name."""
    assert "There is no preset “" in refusal(world.ask(place.ann, place.channel, preset=name))
    assert not world.public(place.channel)


@pytest.mark.parametrize(
    "given", ["nope", "0000000000", "'; drop table jobs; --", "ambient-0000000000-1.ogg", "💥💥💥💥"]
)
def test_an_unknown_id_is_refused(world: World, place: Place, given: str) -> None:
    """An id that is none is refused privately."""
    assert "no sound of that id" in refusal(world.command("show", place.ann, place.channel, id=given))
    assert "no sound of that id" in refusal(world.command("preset save", place.ann, place.channel, name="x", id=given))


def test_the_client_is_told_the_limits(world: World, place: Place) -> None:
    """Values outside their range and unknown choices cannot be sent at all."""
    refused: list[dict[str, object]] = [
        {"scene": "x" * 501},
        {"scene": "xx"},
        {"duration": 1},
        {"duration": 601},
        {"steps": 9},
        {"steps": 201},
        {"seed": -1},
        {"seed": 2**32},
        {"guidance_scale": 0.5},
        {"guidance_scale": 15.5},
        {"format": "aiff"},
        {"quality": "ultra"},
        {"engine": "magic"},
        {"negative_prompt": "x" * 301},
        {"preset": "x" * 101},
    ]
    for options in refused:
        with pytest.raises(world.refused, match=r"outside|choices"):
            world.ask(place.ann, place.channel, **options)
