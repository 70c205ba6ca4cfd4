"""The other commands, the panel of ideas, direct messages, and what Discord is told of all this."""

from __future__ import annotations

import pytest

from wire.world import RESULT_LABELS, Place, World, description, embed, fields, job_id, labels, names, refusal

pytestmark = pytest.mark.wire


def test_commands_are_told_once(own_world: World) -> None:
    """The first start tells Discord the commands; the next one with the same commands does not."""
    world = own_world
    world.start()
    (request,) = world.control.requests(match="PUT /applications/*")
    assert [command["name"] for command in request["body"]] == ["ambient", "ambient-admin"]
    world.restart()
    assert len(world.control.requests(match="PUT /applications/*")) == 1


def test_help_names_every_command(world: World, place: Place) -> None:
    """The help card lists exactly the commands that Discord was told."""
    record = world.command("help", place.ann, place.channel)
    assert record["ephemeral"]
    told = world.control.commands()[0]["options"]
    paths = [f"/ambient {option['name']}" for option in told if option["type"] == 1]
    paths += [
        f"/ambient {group['name']} {sub['name']}" for group in told if group["type"] == 2 for sub in group["options"]
    ]
    shown = [line.split("`")[1] for line in fields(record["message"])["Commands"].splitlines()]
    assert sorted(shown) == sorted(paths)


def test_about_tells_engines_and_license(world: World, place: Place) -> None:
    """The about card has the version, each engine's state and license, and counts what was made."""
    world.make(place.ann, place.channel)
    message = world.command("about", place.ann, place.channel)["message"]
    assert message["ephemeral"]
    assert embed(message)["title"].startswith("AmbientGen ")
    (engine,) = [value for name, value in fields(message).items() if name.startswith("procedural")]
    assert "ready" in engine
    assert "license: MIT" in engine
    assert "sounds" in fields(message)["Made so far"]


def test_queue_shows_what_is_made(world: World, place: Place) -> None:
    """The queue card names what runs and what waits, in order, and is empty when nothing does."""
    world.until(lambda: "Nothing" in description(world.command("queue", place.ann, place.channel)["message"]))
    records = [
        world.ask(place.ann, place.channel, scene=scene, duration=30)
        for scene in ("rain, wind and a stream", "a deep drone", "white noise")
    ]

    def lines() -> list[str]:
        return description(world.command("queue", place.bob, place.channel)["message"]).splitlines()

    found = world.until(lambda: lines() if len(lines()) == 3 else None)
    assert [line.split(" · ")[0] for line in found] == [
        "🎧 rain, wind and a stream",
        "🎧 a deep drone",
        "**1.** white noise",
    ]
    assert all(f"for <@{place.ann}>" in line for line in found)
    for record in records:
        world.press(record["message"], "Cancel", place.ann)


def test_history_has_pages(world: World, place: Place) -> None:
    """The history shows eight at a time, the newest first, and its buttons turn the page in place."""
    assert "no sounds yet" in refusal(world.command("history", place.ann, place.channel))
    found = [job_id(world.make(place.ann, place.channel)) for _ in range(9)]
    message = world.command("history", place.ann, place.channel)["message"]
    assert message["ephemeral"]
    assert [line.split("`")[1] for line in description(message).splitlines()] == found[:0:-1]
    with pytest.raises(world.refused, match="disabled"):
        world.press(message, "◀ Newer", place.ann)

    older = world.press(message, "Older ▶", place.ann)["message"]
    assert older["id"] == message["id"]
    assert [line.split("`")[1] for line in description(older).splitlines()] == found[:1]
    assert embed(older)["footer"]["text"] == "page 2 of 2"
    newer = world.press(older, "◀ Newer", place.ann)["message"]
    assert description(newer) == description(message)
    assert "no sounds yet" in refusal(world.command("history", place.bob, place.channel))


def test_show_brings_a_sound_again(world: World, place: Place) -> None:
    """Anyone in the server can see a public sound again by its id or its file's name; other servers cannot."""
    message = world.make(place.ann, place.channel)
    for given in (job_id(message), job_id(message).upper(), names(message)[0]):
        shown = world.sound(world.command("show", place.bob, place.other_channel, id=given))
        assert shown["ephemeral"]
        assert names(shown) == names(message)
        assert labels(shown) == RESULT_LABELS
    elsewhere = world.new_place()
    assert "no sound of that id" in refusal(world.command("show", elsewhere.ann, elsewhere.channel, id=job_id(message)))


def test_a_hidden_channel_stays_hidden(world: World, place: Place) -> None:
    """Nobody sees a sound of a channel that they cannot read."""
    message = world.make(place.ann, place.hidden_channel)
    assert "no sound of that id" in refusal(world.command("show", place.bob, place.channel, id=job_id(message)))
    shown = world.sound(world.command("show", place.ann, place.channel, id=job_id(message)))
    assert names(shown) == names(message)


def test_an_idea_is_one_press_away(world: World, place: Place) -> None:
    """Without options the command shows ideas; pressing one makes it."""
    record = world.ask(place.ann, place.channel, scene=None, duration=None)
    panel = record["message"]
    assert panel["ephemeral"]
    assert 5 <= len(labels(panel)) <= 25
    assert labels(panel)[-1] == "More ideas"
    label = labels(panel)[0]
    message = world.sound(world.press(panel, label, place.ann))
    assert description(message) == f"> {label}"
    assert len(names(message)) == 2


def test_direct_messages(world: World, place: Place) -> None:
    """In a direct message everything works, and what is made or saved there is one's own."""
    direct = world.control.dm(user=place.ann)["id"]
    message = world.make(place.ann, direct, scene="ocean waves", seed=5)
    assert len(names(message)) == 2
    assert world.make(place.ann, direct, private=True)["ephemeral"]
    assert names(world.sound(world.press(message, "Again", place.ann)))
    assert (
        description(world.sound(world.submit(world.press(message, "Edit", place.ann), scene="a deep drone")))
        == "> a deep drone"
    )
    assert "**Mine**" in world.submit(world.press(message, "Save preset", place.ann), name="Mine")["message"]["content"]
    assert world.press(message, "Info", place.ann)["ephemeral"]
    assert names(world.make(place.ann, direct, scene=None, preset="Mine"))
    assert job_id(message) in description(world.command("history", place.ann, direct)["message"])
    assert "no sound of that id" in refusal(world.command("show", place.bob, place.channel, id=job_id(message)))
    assert "no preset" in refusal(world.command("preset show", place.bob, place.channel, name="Mine"))
    world.press(message, "Delete", place.ann)
    world.until(lambda: not world.of_job(job_id(message), direct))
