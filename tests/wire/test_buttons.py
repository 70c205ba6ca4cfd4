"""Every button, for everyone who may press it, also after the bot was away."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from ambientgen.recipe import Recipe
from wire.world import (
    RESULT_LABELS,
    Message,
    Place,
    Record,
    World,
    description,
    fields,
    job_id,
    labels,
    names,
    refusal,
    seed,
    words,
)

pytestmark = pytest.mark.wire


def test_again_makes_another_one_for_who_pressed(world: World, place: Place) -> None:
    """Again keeps scene and options, takes a new seed, and is the presser's own."""
    first = world.make(place.ann, place.channel, scene="ocean waves", duration=3, format="flac", seed=5)
    again = world.sound(world.press(first, "Again", place.bob))
    assert again["id"] != first["id"]
    assert seed(again) != 5
    assert description(again) == "> ocean waves"
    assert names(again)[0].endswith(".flac")
    assert fields(again)["Sound"].startswith("3.0 s")
    assert f"<@{place.bob}>" in fields(again)["Sound"]
    assert names(_now(world, place, first["id"])) == names(first)
    assert "Only" in refusal(world.press(again, "Delete", place.ann))


def test_edit_starts_from_the_scene(world: World, place: Place) -> None:
    """The form shows the raw scene and options; what is sent becomes a new sound."""
    first = world.make(place.ann, place.channel, scene="*gentle* rain", duration=3, seed=5)
    opened = world.press(first, "Edit", place.bob)
    assert _prefilled(opened) == {"scene": "*gentle* rain", "duration": "3", "seed": "5", "negative_prompt": ""}

    edited = world.sound(world.submit(opened, scene="a deep drone", duration="2,5", seed=""))
    assert description(edited) == "> a deep drone"
    assert seed(edited) != 5
    assert fields(edited)["Sound"].startswith("2.5 s")
    assert f"<@{place.bob}>" in fields(edited)["Sound"]


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"duration": "long"}, "`duration` must be a number of seconds."),
        ({"duration": "999"}, "`duration` goes from 2 to 600 seconds here."),
        ({"duration": "nan"}, "`duration`"),
        ({"seed": "-1"}, "`seed` goes from 0 to"),
        ({"seed": "1.5"}, "`seed` must be a whole number"),
        ({"scene": "🔥🔥🔥"}, "no words"),
        ({"scene": "a purple elephant"}, "cannot place this scene"),
    ],
)
def test_a_bad_edit_is_refused(world: World, place: Place, values: dict[str, str], reason: str) -> None:
    """What cannot be made is refused privately, with what is allowed."""
    first = world.make(place.ann, place.channel)
    assert reason in refusal(world.submit(world.press(first, "Edit", place.ann), **values))
    assert len(world.public(place.channel)) == 1


def test_mix_changes_the_gains_of_the_same_layers(world: World, place: Place) -> None:
    """The form shows each layer's gain; another mix has the same seeds, is quick, and is the presser's own."""
    first = world.make(place.ann, place.channel, scene="rain with a campfire", duration=3, seed=5)
    opened = world.press(first, "Mix", place.bob)
    before = _prefilled(opened)
    assert list(before) == ["gain0", "gain1"]
    mixed = world.sound(world.submit(opened, gain0="-20", gain1="6,5"))
    assert f"<@{place.bob}>" in fields(mixed)["Sound"]
    assert _prefilled(world.press(mixed, "Mix", place.ann)) == {"gain0": "-20", "gain1": "6.5"}
    old, new = (_recipe(world, world.press(message, "Info", place.ann)) for message in (first, mixed))
    assert [layer.gain_db for layer in new.layers] == [-20.0, 6.5]
    assert [(layer.prompt, layer.seed) for layer in new.layers] == [(layer.prompt, layer.seed) for layer in old.layers]
    assert not new.unmask


@pytest.mark.parametrize("gain", ["loud", "nan", "-61", "30.5", "inf"])
def test_a_bad_mix_is_refused(world: World, place: Place, gain: str) -> None:
    """What is no gain is refused privately, and nothing is made."""
    first = world.make(place.ann, place.channel, scene="rain with a campfire")
    assert "gain" in refusal(world.submit(world.press(first, "Mix", place.ann), gain0=gain, gain1="0"))
    assert len(world.public(place.channel)) == 1


def test_a_single_layer_has_nothing_to_mix(world: World, place: Place) -> None:
    """The button is there only where there is something to do."""
    assert "Mix" not in labels(world.make(place.ann, place.channel, scene="ocean waves"))
    assert "Mix" in labels(world.make(place.ann, place.channel, scene="rain with a campfire"))


def test_save_makes_a_preset(world: World, place: Place) -> None:
    """A saved sound comes back under its name: the same scene, length and seed."""
    first = world.make(place.ann, place.channel, scene="ocean waves", duration=3, seed=5)
    opened = world.press(first, "Save preset", place.bob)
    assert _prefilled(opened) == {"name": "ocean waves"}
    saved = world.submit(opened, name="  Night   shore ")
    assert saved["ephemeral"]
    assert "**Night shore**" in saved["message"]["content"]

    message = world.make(place.ann, place.channel, scene=None, duration=None, preset="night SHORE")
    assert description(message) == "> ocean waves"
    assert seed(message) == 5
    assert fields(message)["Sound"].startswith("3.0 s")


def test_info_is_the_whole_recipe(world: World, place: Place) -> None:
    """Info answers privately with JSON that is the recipe."""
    message = world.make(place.ann, place.channel, scene="rain and wind", seed=5)
    recipe = _recipe(world, world.press(message, "Info", place.bob))
    assert recipe.seed == 5
    assert [layer.engine for layer in recipe.layers] == ["procedural", "procedural"]


def test_a_long_recipe_comes_as_a_file(world: World, place: Place) -> None:
    """A recipe too long for a message is attached, and is the recipe too."""
    message = world.make(place.ann, place.channel, scene="rain, wind, waves, a stream and birdsong", seed=5)
    recipe = _recipe(world, world.press(message, "Info", place.bob))
    assert len(recipe.layers) == 5


@pytest.mark.parametrize("who", ["ann", "moderator"])
def test_delete(world: World, place: Place, who: str) -> None:
    """The asker and a moderator can delete a sound, another member cannot; then nothing of it is left."""
    message = world.make(place.ann, place.channel)
    found = job_id(message)
    assert f"<@{place.ann}>" in refusal(world.press(message, "Delete", place.bob))
    assert world.of_job(found, place.channel)

    world.press(message, "Delete", getattr(place, who))
    world.until(lambda: not world.public(place.channel))
    assert not list((world.bot.folder / "data/clips").glob(f"*{found}*"))
    assert "was deleted" in refusal(world.command("show", place.ann, place.channel, id=found))


def test_delete_out_of_the_history_removes_the_card(world: World, place: Place) -> None:
    """Delete on a private copy removes the public card as well."""
    message = world.make(place.ann, place.channel)
    copy = world.choose_in_history(place.ann, place.other_channel, job_id(message))
    world.press(copy, "Delete", place.ann)
    world.until(lambda: not world.of_job(job_id(message), place.channel, place.other_channel))


def test_what_is_pressed_on_a_private_card_stays_private(world: World, place: Place) -> None:
    """Again and Edit on a private sound make private sounds."""
    first = world.make(place.ann, place.channel, private=True)
    world.sound(world.press(first, "Again", place.ann))
    world.sound(world.submit(world.press(first, "Edit", place.ann), scene="ocean waves"))
    assert not world.public(place.channel)
    assert len([message for message in world.messages(place.channel) if names(message)]) == 3


@pytest.mark.parametrize("end", [World.restart, lambda world: (world.bot.kill(), world.start())], ids=["stop", "kill"])
def test_buttons_outlive_the_bot(own_world: World, end: Callable[[World], object]) -> None:
    """All buttons of a card work after the bot was stopped or killed."""
    world, place = own_world, own_world.new_place()
    world.start()
    first = world.make(place.ann, place.channel, scene="ocean waves", seed=5)
    world.wait_until_delivered(job_id(first))
    end(world)

    assert labels(_now(world, place, first["id"])) == RESULT_LABELS
    assert seed(world.sound(world.press(first, "Again", place.bob))) != 5
    edited = world.submit(world.press(first, "Edit", place.bob), scene="a deep drone")
    assert description(world.sound(edited)) == "> a deep drone"
    assert "**Shore**" in words(world.submit(world.press(first, "Save preset", place.bob), name="Shore")["message"])
    assert _recipe(world, world.press(first, "Info", place.bob)).seed == 5
    assert "Only" in refusal(world.press(first, "Delete", place.bob))
    world.press(first, "Delete", place.ann)
    world.until(lambda: not world.of_job(job_id(first), place.channel))


def _now(world: World, place: Place, message_id: str) -> Message:
    return next(message for message in world.messages(place.channel) if message["id"] == message_id)


def _prefilled(record: Record) -> dict[str, str]:
    """What a form starts with."""
    inputs = [label["component"] for label in record["modal"]["components"]]
    return {item["custom_id"]: item.get("value") or "" for item in inputs}


def _recipe(world: World, record: Record) -> Recipe:
    message = record["message"]
    assert message["ephemeral"]
    if message["attachments"]:
        text = world.control.file(message["attachments"][0]["id"]).decode()
    else:
        text = message["content"].split("```json\n")[1].removesuffix("\n```")
    return Recipe.from_json(json.dumps(json.loads(text)))
