"""Presets: saved, offered, used, shown and deleted."""

from __future__ import annotations

from typing import Any

import pytest

from wire.world import Place, World, description, fields, footer, job_id, names, refusal, seed

pytestmark = pytest.mark.wire


def _save(world: World, user: str, channel: str, name: str, **options: Any) -> str:
    """Make a sound and save it; the sound's id."""
    message = world.make(user, channel, **options)
    saved = world.command("preset save", user, channel, name=name)
    assert saved["ephemeral"]
    assert f"**{name}**" in saved["message"]["content"]
    return job_id(message)


def _choices(world: World, user: str, channel: str, text: str = "", command: str = "generate") -> dict[str, str]:
    """What people's presets are suggested: from what is shown to what is sent."""
    option = "preset" if command == "generate" else "name"
    answer = world.control.autocomplete(
        command=f"ambient {command}", option=option, value=text, user=user, channel=channel
    )
    assert len(answer["choices"]) <= 25
    return {c["name"]: c["value"] for c in answer["choices"] if not c["name"].endswith("(built in)")}


def _suggested(world: World, user: str, channel: str, text: str = "", command: str = "generate") -> list[str]:
    return list(_choices(world, user, channel, text, command))


def test_nothing_to_suggest(world: World, place: Place) -> None:
    """Without presets the list is empty, and the commands say so privately."""
    assert _suggested(world, place.ann, place.channel) == []
    assert _suggested(world, place.ann, place.channel, "x", "preset show") == []
    assert "no preset of your own here yet" in refusal(world.command("preset list", place.ann, place.channel))
    assert "no finished sound to save" in refusal(world.command("preset save", place.ann, place.channel, name="x"))


def test_many_presets(world: World, place: Place) -> None:
    """At most 25 are suggested, those that hold what was typed; the list has pages."""
    message = world.make(place.ann, place.channel)
    for number in range(30):
        world.command("preset save", place.ann, place.channel, name=f"Shore {number:02}", id=job_id(message))
    assert len(_suggested(world, place.ann, place.channel)) == 25
    assert _suggested(world, place.ann, place.channel, "SHORE 2") == [f"Shore {number}" for number in range(20, 30)]
    assert _suggested(world, place.ann, place.channel, "% _") == []
    pages = [world.command("preset list", place.ann, place.channel, page=page)["message"] for page in (1, 2, 3)]
    shown = "".join(description(page) for page in pages)
    assert [number for number in range(30) if f"**Shore {number:02}**" in shown] == list(range(30))
    assert footer(pages[2]).startswith("page 3 of 3 ·")
    assert "no preset on that page" in refusal(world.command("preset list", place.ann, place.channel, page=4))


def test_who_sees_which_preset(world: World, place: Place) -> None:
    """A server's presets stay in that server; those of private sounds stay with their owner."""
    elsewhere = world.new_place()
    _save(world, place.ann, place.channel, "Shared")
    _save(world, place.ann, place.channel, "Hidden", private=True)
    _save(world, elsewhere.ann, elsewhere.channel, "Foreign")

    assert _suggested(world, place.ann, place.channel) == ["Hidden", "Shared"]
    assert _suggested(world, place.bob, place.channel) == ["Shared (server)"]
    assert _suggested(world, elsewhere.bob, elsewhere.channel) == ["Foreign (server)"]
    assert "Hidden" not in description(world.command("preset list", place.bob, place.channel)["message"])
    for name in ("Hidden", "Foreign"):
        for command in ("preset show", "preset delete"):
            assert "no preset" in refusal(world.command(command, place.bob, place.channel, name=name))
        assert "no preset" in refusal(world.ask(place.bob, place.channel, scene=None, preset=name))


def test_two_people_may_use_one_name(world: World, place: Place) -> None:
    """A suggestion stands for the very preset it shows, and only where one may see it."""
    _save(world, place.ann, place.channel, "Shore", scene="ocean waves")
    _save(world, place.bob, place.channel, "Shore", scene="a deep drone")
    choices = _choices(world, place.bob, place.channel, "shore")
    assert list(choices) == ["Shore", "Shore (server)"]
    for name, scene in (("Shore", "a deep drone"), ("Shore (server)", "ocean waves")):
        made = world.make(place.bob, place.channel, scene=None, preset=choices[name])
        assert description(made) == f"> {scene}"
        shown = world.command("preset show", place.bob, place.channel, name=choices[name])
        assert description(shown["message"]) == f"> {scene}"
    elsewhere = world.new_place()
    assert "no preset" in refusal(world.ask(elsewhere.ann, elsewhere.channel, preset=choices["Shore (server)"]))


def test_options_go_before_the_preset(world: World, place: Place) -> None:
    """What is typed beside a preset takes the place of what it holds."""
    _save(world, place.ann, place.channel, "Waves", scene="ocean waves", duration=3, seed=5, loop=True)
    message = world.make(place.bob, place.channel, scene=None, preset="waves", duration=2, seed=6)
    assert description(message) == "> ocean waves"
    assert seed(message) == 6
    assert "2.0 s · loop" in fields(message)["Sound"]
    other = world.make(place.bob, place.channel, scene="a deep drone", preset="waves", duration=None)
    assert description(other) == "> a deep drone"
    assert seed(other) == 5


def test_show_tells_what_it_holds_and_where_it_was_used(world: World, place: Place) -> None:
    """The card of a preset has its options, its version and its uses; private uses of others are only counted."""
    _save(world, place.ann, place.channel, "Waves", scene="ocean waves", duration=3, seed=5)
    used = world.make(place.bob, place.channel, scene=None, preset="Waves", duration=None)
    hidden = world.make(place.bob, place.channel, scene=None, preset="Waves", duration=None, private=True)
    _save(world, place.ann, place.channel, "waves", scene="a stream", duration=2, seed=6)

    card = world.command("preset show", place.ann, place.channel, name="WAVES")["message"]
    assert description(card) == "> a stream"
    assert "seed: 6" in fields(card)["Options"]
    assert "version 2" in fields(card)["Saved"]
    assert job_id(used) in fields(card)["Used 2 times"]
    assert job_id(hidden) not in fields(card)["Used 2 times"]
    theirs = world.command("preset show", place.bob, place.channel, name="waves")["message"]
    assert job_id(hidden) in fields(theirs)["Used 2 times"]


@pytest.mark.parametrize("who", ["ann", "moderator"])
def test_delete_a_preset(world: World, place: Place, who: str) -> None:
    """Its owner and a moderator can delete a preset, another member cannot; its sounds remain."""
    found = _save(world, place.ann, place.channel, "Waves")
    assert "Only" in refusal(world.command("preset delete", place.bob, place.channel, name="Waves"))
    deleted = world.command("preset delete", getattr(place, who), place.channel, name="waves")
    assert deleted["message"]["content"] == "Deleted **Waves**."
    assert _suggested(world, place.ann, place.channel) == []
    assert names(world.sound(world.command("show", place.ann, place.channel, id=found)))


def test_names_ping_nobody(world: World, place: Place) -> None:
    """A preset named like a mention is shown as it was typed."""
    name = f"@everyone <@{place.bob}>"
    world.make(place.ann, place.channel)
    saved = world.command("preset save", place.ann, place.channel, name=name)["message"]
    assert not saved["mention_everyone"]
    assert not saved["mentions"]
    assert _suggested(world, place.ann, place.channel) == [name]


def test_a_name_that_cannot_be_seen_is_refused(world: World, place: Place) -> None:
    """Names of control or invisible characters are refused privately."""
    world.make(place.ann, place.channel)
    for name in ("\u200b\u200b", "bad\u0007name"):
        assert "name" in refusal(world.command("preset save", place.ann, place.channel, name=name))
    assert _suggested(world, place.ann, place.channel) == []
